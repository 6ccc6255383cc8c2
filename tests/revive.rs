//! Deleted files that come back by the command, where they were and elsewhere, on every kind of volume.
#![allow(missing_docs)]

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::time::Duration;

use common::agree::{HEALED_WITHIN, converges};
use common::stage::Stage;
use common::{MIB, fsnap, ls, names, of_deleted, of_deleted_below, sees, sound, volume};
use fsnap_testbed::{VolumeType, checksum, fill, getx, setx, wait_until};

const REPLICA: VolumeType = VolumeType::Replicate(3);
const DISPERSE: VolumeType = VolumeType::Disperse { data: 2, redundancy: 1 };
const ALL: [(VolumeType, usize); 6] = [
    (VolumeType::Distribute, 1),
    (VolumeType::Distribute, 3),
    (REPLICA, 3),
    (VolumeType::Arbiter, 3),
    (DISPERSE, 3),
    (DISPERSE, 6),
];

/// A file of two snapshots, the sum of the first.
fn snapped(file: &Path, seed: u64) -> u64 {
    fill(file, MIB + seed, seed);
    fsnap(file, "create", "a").unwrap();
    let sum = checksum(file);
    fill(file, MIB / 2, seed + 100);
    fsnap(file, "create", "b").unwrap();
    sum
}

fn shown(stage: &Stage, path: &Path) -> String {
    path.strip_prefix(stage.0.mount.path()).unwrap().to_str().unwrap().to_owned()
}

#[test]
fn to_where_it_was_and_elsewhere() {
    for (layout, bricks) in ALL {
        println!("{layout:?} on {bricks}");
        let stage = Stage::new(volume(layout, bricks, 1024 * MIB, |volume| volume));
        let root = stage.0.mount.path();
        for dir in ["d", "e", "gone", "gone/sub"] {
            fs::create_dir(root.join(dir)).unwrap();
        }
        // So many that names belong to all sets.
        for n in 0..4 {
            let file = stage.file(format!("d/f{n}"));
            let sum = snapped(&file, n);
            fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
            setx(&file, "user.x", b"y").unwrap();
            let (inode, gfid) =
                (fs::metadata(&file).unwrap().ino(), getx(&file, "glusterfs.gfid.string").unwrap());
            for (round, to) in [None, Some(format!("e/new{n}")), Some("e".into())].into_iter().enumerate() {
                let was = if round == 2 { stage.file(format!("e/new{n}")) } else { file.clone() };
                fs::remove_file(&was).unwrap();
                let dir = was.parent().unwrap();
                let snapshot = of_deleted(dir, &format!("{}@a", was.file_name().unwrap().to_str().unwrap()));
                let snapshot = shown(&stage, &snapshot);
                let mut args = vec!["restore", "--yes", &snapshot];
                args.extend(to.iter().flat_map(|to| ["--to", to]));
                let there = match round {
                    0 => format!("d/f{n}"),
                    _ => format!("e/new{n}"),
                };
                assert_eq!(stage.ok(&args[..]), format!("{there} is back, as of snapshot a\n"));
                let back = stage.file(&there);
                sees(&back, sum);
                assert_eq!(names(&back), ["a", "b"]);
                let meta = fs::metadata(&back).unwrap();
                assert_eq!((meta.ino(), meta.permissions().mode() & 0o7777), (inode, 0o640));
                assert_eq!(getx(&back, "user.x").unwrap(), b"y");
                assert_eq!(getx(&back, "glusterfs.gfid.string").unwrap(), gfid);
                // It is a file as any other.
                fill(&back, MIB / 4, 7);
                stage.ok(["create", &there, "--name", "c"]);
                stage.restore(&there, "b");
                fsnap(&back, "delete", "c").unwrap();
                if round == 0 {
                    let leaf = back.file_name().unwrap().to_str().unwrap().to_owned();
                    wait_until("its snapshots have its name", Duration::from_secs(10), || {
                        let all = ls(root.join("d/.fsnap"));
                        ["a", "b"].iter().all(|name| all.contains(&format!("{leaf}@{name}")))
                    });
                }
            }
        }
        // By another mount as well, found by its name.
        let second = stage.0.volume.mount("/run/scene/m2");
        for n in 0..4 {
            assert_eq!(names(second.path().join(format!("e/new{n}"))), ["a", "b"]);
        }
        assert_eq!(ls(root.join("d/.fsnap")), Vec::<String>::new());

        // Where the directory has gone as well.
        let sum = snapped(&stage.file("gone/sub/f"), 50);
        fs::remove_dir_all(root.join("gone")).unwrap();
        let snapshot = shown(&stage, &of_deleted_below(&root, "gone/sub/f", "a"));
        stage.refused(["restore", "--yes", &snapshot], "no such directory");
        stage.refused(["restore", "--yes", &snapshot, "--to", "e/new0"], "rename that one");
        let listed = stage.ok(["list", "."]);
        assert!(listed.contains("gone%2Fsub%2Ff@a@~"), "{listed}");
        // Where others may have put one the command does not go by itself.
        symlink("/run/scene/m/e", root.join("gone")).unwrap();
        stage.refused(["restore", "--yes", &snapshot], "symbolic link");
        fs::remove_file(root.join("gone")).unwrap();
        fs::create_dir_all(root.join("gone/sub")).unwrap();
        stage.ok(["restore", "--yes", &snapshot]);
        sees(stage.file("gone/sub/f"), sum);
        assert_eq!(ls(root.join("gone/sub/.fsnap")), ["f@a", "f@b"]);
        assert_eq!(ls(root.join(".fsnap")), Vec::<String>::new());
        stage.refused(["restore", "--yes", "gone/sub/f@a", "--to", "e/copy"], "not deleted");
        if layout != VolumeType::Distribute {
            converges(&stage.0.volume, layout);
        }
        sound(&stage.0.volume);
    }
}

/// Only who owned it brings it back, and only where he may make files.
#[test]
fn by_whom() {
    const OWNER: u32 = 4001;
    const OTHER: u32 = 4002;
    for (layout, bricks) in [(VolumeType::Distribute, 2), (REPLICA, 3), (DISPERSE, 3)] {
        println!("{layout:?}");
        let stage = Stage::new(volume(layout, bricks, 1024 * MIB, |volume| volume));
        let root = stage.0.mount.path();
        for (dir, who) in [("d", OWNER), ("mine", OWNER), ("others", OTHER)] {
            fs::create_dir(root.join(dir)).unwrap();
            chown(root.join(dir), Some(who), Some(who)).unwrap();
        }
        let sum = snapped(&stage.file("d/f"), 1);
        chown(stage.file("d/f"), Some(OWNER), Some(OWNER)).unwrap();
        fs::remove_file(stage.file("d/f")).unwrap();
        std::thread::sleep(Duration::from_secs(2));
        let snapshot = shown(&stage, &of_deleted(&root.join("d"), "f@a"));
        let refused = |who, to: &str| {
            let said = stage.fsnap_as(who, who, "/run/scene/m", ["restore", "--yes", &snapshot, "--to", to]);
            said.refused("brought back by its owner, or root");
            assert!(!root.join(to).exists());
        };
        refused(OTHER, "others/f");
        refused(OWNER, "others/f");
        let said =
            stage.fsnap_as(OWNER, OWNER, "/run/scene/m", ["restore", "--yes", &snapshot, "--to", "mine/f"]);
        assert_eq!((said.code, &said.err[..]), (0, ""));
        sees(stage.file("mine/f"), sum);
        sound(&stage.0.volume);
    }
}

/// What a brick has missed of it is healed.
#[test]
fn while_a_brick_is_away() {
    for (layout, bricks) in [(REPLICA, 3), (DISPERSE, 3)] {
        println!("{layout:?}");
        let stage = Stage::new(volume(layout, bricks, 1024 * MIB, |volume| volume));
        let (root, volume) = (stage.0.mount.path(), &stage.0.volume);
        for dir in ["d", "e"] {
            fs::create_dir(root.join(dir)).unwrap();
        }
        let sums: Vec<_> = (0..2).map(|n| snapped(&stage.file(format!("d/f{n}")), n)).collect();
        fs::remove_file(stage.file("d/f0")).unwrap();
        volume.kill_brick(2);
        stage.0.mount.wait_connected(2);
        fs::remove_file(stage.file("d/f1")).unwrap();
        for (n, to) in [(0, "d/f0"), (1, "e/new")] {
            let snapshot = shown(&stage, &of_deleted(&root.join("d"), &format!("f{n}@a")));
            stage.ok(["restore", "--yes", &snapshot, "--to", to]);
            sees(stage.file(to), sums[n]);
        }
        volume.restart_brick(2);
        stage.0.mount.wait_connected(3);
        volume.await_healed(HEALED_WITHIN);
        converges(volume, layout);
        for (n, to) in [(0, "d/f0"), (1, "e/new")] {
            sees(stage.file(to), sums[n]);
            assert_eq!(names(stage.file(to)), ["a", "b"]);
        }
    }
}
