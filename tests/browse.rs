//! `.fsnap` on several bricks: DHT finds snapshots wherever they are, and its link files never get in the way.
#![allow(missing_docs)]

mod common;

use std::fs;
use std::os::unix::fs::MetadataExt;

use common::{MIB, distribute, fsnap, ls, names, sees, volume};
use fsnap_testbed::{Errno, Volume, VolumeType, checksum, fill};

/// How many link files lie in `.fsnap` of `dir` on all bricks.
fn link_files(volume: &Volume, dir: &str) -> usize {
    let count = |n| {
        let snap_dir = volume.brick_path(n).join(dir).join(".fsnap");
        let Ok(entries) = fs::read_dir(snap_dir) else { return 0 };
        entries.filter(|entry| entry.as_ref().unwrap().metadata().unwrap().mode() & 0o7777 == 0o1000).count()
    };
    (0..volume.bricks().len()).map(count).sum()
}

/// Whether both bricks have files: then names of snapshots, which hash differently, belong to other bricks than they are on.
fn spread(volume: &Volume, dir: &str) -> bool {
    (0..2).all(|n| ls(volume.brick_path(n).join(dir)).len() > 1)
}

#[test]
fn look_delete_and_create_again() {
    for bricks in [2, 3] {
        let setup = distribute(bricks);
        let dir = setup.mount.path().join("d");
        fs::create_dir(&dir).unwrap();
        let files: Vec<_> = (0..10).map(|n| dir.join(format!("file{n}"))).collect();
        for (n, file) in files.iter().enumerate() {
            fill(file, 10_000, n as u64);
        }
        for round in 0..4u64 {
            for (n, file) in files.iter().enumerate() {
                fill(file, 10_000 + round, 100 * round + n as u64);
                fsnap(file, "create", "again").unwrap();
            }
            // Looked up by name first: a listing would tell the client all about them.
            for (n, file) in files.iter().enumerate() {
                sees(dir.join(format!(".fsnap/file{n}@again")), checksum(file));
            }
            let expected: Vec<_> = (0..10).map(|n| format!("file{n}@again")).collect();
            assert_eq!(ls(dir.join(".fsnap")), expected, "round {round}");
            // Gone and back at once, as other files to the client: what it and DHT remember of the last must not last.
            for file in &files {
                fsnap(file, "delete", "again").unwrap();
            }
            assert!(ls(dir.join(".fsnap")).is_empty(), "round {round}");
        }
        assert!(
            spread(&setup.volume, "d"),
            "names of snapshots hash to other bricks than their files are on"
        );
        assert_eq!(link_files(&setup.volume, "d"), 0);
    }
}

#[test]
fn a_thousand_entries() {
    for bricks in [2, 3] {
        let setup = distribute(bricks);
        let dir = setup.mount.path().join("d");
        fs::create_dir(&dir).unwrap();
        let mut expected = Vec::new();
        for n in 0..100 {
            let file = dir.join(format!("f{n:02}"));
            fill(&file, 1000, n);
            for s in 0..10 {
                fsnap(&file, "create", format!("s{s}")).unwrap();
                expected.push(format!("f{n:02}@s{s}"));
            }
        }
        assert_eq!(ls(dir.join(".fsnap")), expected);
        let second = setup.volume.mount("/run/scene/m2");
        let there = second.path().join("d/.fsnap");
        assert_eq!(ls(&there), expected);
        let out = fsnap_testbed::run(setup.scene.command("ls").args(["-l", "/run/scene/m2/d/.fsnap"])).stdout;
        assert_eq!(
            String::from_utf8_lossy(&out).lines().filter(|l| l.starts_with("-r--r--r--")).count(),
            1000
        );
        for name in &expected {
            assert_eq!(fs::read(there.join(name)).unwrap().len(), 1000);
        }
        assert_eq!(ls(&there), expected, "reading leaves no second entries");
        for n in 0..100 {
            let file = dir.join(format!("f{n:02}"));
            for name in names(&file) {
                fsnap(&file, "delete", name).unwrap();
            }
        }
        assert!(ls(&there).is_empty());
        drop(second);
        fsnap_testbed::run(setup.scene.command("rm").args(["-rf", "/run/scene/m/d"]));
        assert!(!dir.exists());
        assert!((0..bricks).all(|n| !setup.volume.brick_path(n).join("d").exists()));
    }
}

const KINDS: [(VolumeType, usize); 4] = [
    (VolumeType::Distribute, 1),
    (VolumeType::Distribute, 3),
    (VolumeType::Replicate(3), 6),
    (VolumeType::Disperse { data: 2, redundancy: 1 }, 6),
];

/// Whoever looks where nothing has snapshots is told so, and leaves no trace.
#[test]
fn looking_makes_nothing() {
    for (kind, bricks) in KINDS {
        let setup = volume(kind, bricks, 1024 * MIB, |volume| volume);
        let root = setup.mount.path();
        // A brick that nobody has snapshots on has nothing to look at.
        fs::write(root.join("f"), "x").unwrap();
        fsnap(root.join("f"), "create", "s").unwrap();
        for n in 0..20 {
            let dir = root.join(format!("d{n}"));
            fs::create_dir(&dir).unwrap();
            for _ in 0..3 {
                let looked = [fs::metadata(dir.join(".fsnap")), fs::metadata(dir.join(".fsnap/f@s"))];
                for result in looked {
                    let errno = result.map(|_| ()).map_err(|error| error.raw_os_error());
                    assert_eq!(errno, Err(Some(Errno::ENOENT as i32)), "{kind:?}, {n}");
                }
            }
            for brick in 0..bricks {
                assert_eq!(ls(setup.volume.brick_path(brick).join(format!("d{n}"))), Vec::<String>::new());
            }
        }
    }
}

/// Wherever the file lies, and the name `.fsnap` belongs: its snapshots are found from every client.
#[test]
fn the_first_snapshot_is_found_from_everywhere() {
    for (kind, bricks) in KINDS {
        let setup = volume(kind, bricks, 1024 * MIB, |volume| volume);
        let dirs: Vec<_> = (0..12).map(|n| format!("d{n}")).collect();
        for dir in &dirs {
            let dir = setup.mount.path().join(dir);
            fs::create_dir(&dir).unwrap();
            fill(dir.join("f"), 5000, 1);
            fsnap(dir.join("f"), "create", "s").unwrap();
        }
        let sum = checksum(setup.mount.path().join("d0/f"));
        let fresh = setup.volume.mount("/run/scene/fresh");
        for dir in &dirs {
            sees(fresh.path().join(dir).join(".fsnap/f@s"), sum);
            assert_eq!(ls(fresh.path().join(dir).join(".fsnap")), ["f@s"], "{kind:?}, {dir}");
        }
        drop(fresh);
        // Once it was looked at it is found where DHT could not make it any more.
        setup.volume.set("features.read-only", "on");
        let fresh = setup.volume.mount("/run/scene/read-only");
        for dir in &dirs {
            sees(fresh.path().join(dir).join(".fsnap/f@s"), sum);
        }
    }
}

/// A client of disperse wants to stamp what has no times, and notes on the other bricks that it is about to.
#[test]
fn a_first_look_while_a_brick_is_away() {
    const DIRS: usize = 100;
    let setup = volume(VolumeType::Disperse { data: 2, redundancy: 1 }, 3, 1024 * MIB, |volume| volume);
    let dirs: Vec<_> = (0..DIRS).map(|n| setup.mount.path().join(format!("d{n}"))).collect();
    for dir in &dirs {
        fs::create_dir(dir).unwrap();
        fill(dir.join("f"), 100, 1);
        fsnap(dir.join("f"), "create", "s").unwrap();
    }
    setup.volume.kill_brick(2);
    setup.mount.wait_connected(2);
    for dir in &dirs {
        assert_eq!(ls(dir.join(".fsnap")), ["f@s"]);
    }
}
