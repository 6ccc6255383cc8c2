//! `.fsnap` on several bricks: DHT's link files never get in the way, nor stay behind for good.
#![allow(missing_docs)]

mod common;

use std::fs;
use std::os::unix::fs::MetadataExt;

use common::{distribute, fsnap, ls, names};
use fsnap_testbed::{Volume, checksum, fill};

/// How many link files lie in `.fsnap` of `dir` on all bricks.
fn link_files(volume: &Volume, dir: &str) -> usize {
    let count = |n| {
        let snap_dir = volume.brick_path(n).join(dir).join(".fsnap");
        let Ok(entries) = fs::read_dir(snap_dir) else { return 0 };
        entries.filter(|entry| entry.as_ref().unwrap().metadata().unwrap().mode() & 0o7777 == 0o1000).count()
    };
    (0..volume.bricks().len()).map(count).sum()
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
        let mut links = 0;
        for round in 0..4u64 {
            for (n, file) in files.iter().enumerate() {
                fill(file, 10_000 + round, 100 * round + n as u64);
                fsnap(file, "create", "again").unwrap();
            }
            // Looked up by name first: a listing would tell the client all about them.
            for (n, file) in files.iter().enumerate() {
                let snapshot = dir.join(format!(".fsnap/file{n}@again"));
                assert_eq!(fs::metadata(&snapshot).unwrap().len(), 10_000 + round);
                assert_eq!(checksum(&snapshot), checksum(file), "round {round}, file {n}");
            }
            let expected: Vec<_> = (0..10).map(|n| format!("file{n}@again")).collect();
            assert_eq!(ls(dir.join(".fsnap")), expected, "round {round}");
            links = links.max(link_files(&setup.volume, "d"));
            for (n, file) in files.iter().enumerate() {
                fsnap(file, "delete", "again").unwrap();
                let snapshot = dir.join(format!(".fsnap/file{n}@again"));
                fsnap_testbed::wait_until("it is gone", std::time::Duration::from_secs(20), || {
                    !snapshot.exists()
                });
            }
            assert!(ls(dir.join(".fsnap")).is_empty(), "round {round}");
        }
        assert!(links > 0, "DHT made no link files: this test tested nothing");
        assert_eq!(link_files(&setup.volume, "d"), 0, "each went when its snapshot was looked for in vain");
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
