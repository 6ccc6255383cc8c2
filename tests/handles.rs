//! What storage/posix does to the handles of directories and files, and what others do with places of their own, is as harmless with
//! fsnap as without.
#![allow(missing_docs)]

mod common;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::{MIB, Setup, ask, distribute, fsnap, ls, names, sound, volume};
use fsnap_testbed::{Errno, VolumeType, checksum, fill, getx, wait_until};

const WITHIN: Duration = Duration::from_secs(20);

/// The handle of what is at `path` on the brick.
fn handle(brick: &Path, path: &str) -> PathBuf {
    let gfid = getx(brick.join(path), "trusted.gfid").unwrap();
    let hex: String = gfid.iter().map(|byte| format!("{byte:02x}")).collect();
    let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
    brick.join(".glusterfs").join(&hex[..2]).join(&hex[2..4]).join(parts.join("-"))
}

fn errno<T>(result: io::Result<T>) -> Option<Errno> {
    result.err().and_then(|error| error.raw_os_error()).map(Errno::from_raw)
}

/// With a snapshot on the brick, and without: everything happens in a directory of its own.
fn both(setup: &Setup, test: impl Fn(&Path)) {
    for used in [false, true] {
        let dir = setup.mount.path().join(if used { "used" } else { "unused" });
        fs::create_dir(&dir).unwrap();
        if used {
            fill(dir.join("w"), 10, 1);
            fsnap(dir.join("w"), "create", "s").unwrap();
        }
        test(&dir);
    }
}

#[test]
fn a_directory_whose_rename_fails() {
    let setup = distribute(1);
    let brick = setup.volume.brick_path(0);
    both(&setup, |dir| {
        let name = dir.file_name().unwrap().to_str().unwrap();
        let [a, b] = ["a", "b"].map(|name| dir.join(name));
        let again = || {
            fs::create_dir(&a).unwrap();
            fill(a.join("1"), MIB, 1);
            fill(a.join("2"), MIB, 2);
        };
        again();
        fs::create_dir(&b).unwrap();
        fs::write(b.join("x"), "x").unwrap();
        let fails = || assert_eq!(errno(fs::rename(&a, &b)), Some(Errno::EEXIST));

        fails();
        assert!(handle(&brick, &format!("{name}/a")).is_symlink(), "{name}: the handle is back");
        fs::rename(a.join("1"), a.join("3")).unwrap();
        fs::remove_file(a.join("2")).unwrap();
        fs::hard_link(a.join("3"), a.join("4")).unwrap();
        fsnap(a.join("3"), "create", "t").unwrap();
        fails();
        assert_eq!(ls(a.join(".fsnap")), ["3@t"]);
        fsnap(a.join("3"), "delete", "t").unwrap();
        fails();
        fs::rename(&a, dir.join("c")).unwrap();
        fs::remove_dir_all(dir.join("c")).unwrap();

        again();
        fails();
        fs::remove_dir_all(&a).unwrap();
        fs::remove_dir_all(&b).unwrap();
    });
    sound(&setup.volume);
}

/// As it may have been lost before there was fsnap, or without it.
#[test]
fn a_directory_without_its_handle() {
    let setup = distribute(1);
    let brick = setup.volume.brick_path(0);
    both(&setup, |dir| {
        let name = dir.file_name().unwrap().to_str().unwrap();
        let a = dir.join("a");
        fs::create_dir_all(a.join("b")).unwrap();
        for n in 0..6 {
            fill(a.join(format!("b/{n}")), MIB, n);
        }
        let lose = || {
            for path in ["a", "a/b"] {
                fs::remove_file(handle(&brick, &format!("{name}/{path}"))).unwrap();
            }
        };
        lose();
        fs::remove_file(a.join("b/0")).unwrap();
        lose_again(&brick, name);
        fs::rename(a.join("b/1"), a.join("b/0")).unwrap();
        lose_again(&brick, name);
        fs::rename(a.join("b/2"), dir.join("2")).unwrap();
        lose_again(&brick, name);
        fs::hard_link(a.join("b/3"), a.join("b/link")).unwrap();
        lose_again(&brick, name);
        fsnap(a.join("b/3"), "create", "s").unwrap();
        assert_eq!(names(a.join("b/3")), ["s"]);
        lose_again(&brick, name);
        // The snapshot goes with it.
        fs::rename(a.join("b/3"), dir.join("3")).unwrap();
        fs::remove_file(a.join("b/link")).unwrap();
        assert_eq!(checksum(dir.join(".fsnap/3@s")), checksum(dir.join("3")));
        fs::remove_file(a.join("b/4")).unwrap();
        lose_again(&brick, name);
        fs::rename(&a, dir.join("c")).unwrap();
        lose_again(&brick, name);
        fs::remove_dir_all(dir.join("c")).unwrap();
        fsnap(dir.join("3"), "delete", "s").unwrap();
    });
    sound(&setup.volume);
}

/// Whatever directories there are below `dir` lose their handles.
fn lose_again(brick: &Path, dir: &str) {
    for path in ["a", "a/b", "c", "c/b"] {
        let path = format!("{dir}/{path}");
        if brick.join(&path).is_dir() {
            let _ = fs::remove_file(handle(brick, &path));
        }
    }
}

#[test]
fn a_file_without_its_handle() {
    let setup = distribute(1);
    let brick = setup.volume.brick_path(0);
    both(&setup, |dir| {
        let name = dir.file_name().unwrap().to_str().unwrap();
        let (f, g) = (dir.join("f"), dir.join("g"));
        let lose = |file: &str| fs::remove_file(handle(&brick, &format!("{name}/{file}"))).unwrap();
        let lost = || {
            fill(&f, MIB, 1);
            lose("f");
        };
        lost();
        fs::remove_file(&f).unwrap();
        lost();
        fs::rename(&f, &g).unwrap();
        lost();
        fs::rename(&f, &g).unwrap();
        fs::remove_file(&g).unwrap();
        assert!(!brick.join(name).join("f").exists());
        // What has snapshots keeps them.
        fill(&f, MIB, 1);
        let sum = checksum(&f);
        fsnap(&f, "create", "s").unwrap();
        lose("f");
        fs::rename(&f, &g).unwrap();
        assert_eq!(checksum(dir.join(".fsnap/g@s")), sum);
        lose("g");
        fs::remove_file(&g).unwrap();
        let kept: Vec<_> =
            ls(dir.join(".fsnap")).into_iter().filter(|name| name.starts_with("g@s@")).collect();
        assert_eq!(kept.len(), 1);
        assert_eq!(checksum(dir.join(".fsnap").join(&kept[0])), sum);
    });
    sound(&setup.volume);
}

/// features/trash makes a place of its own: the rename that it makes of an unlink has it in the path alone.
#[test]
fn trash() {
    for (layout, bricks) in [(VolumeType::Distribute, 2), (VolumeType::Replicate(3), 3)] {
        let setup = volume(layout, bricks, 512 * MIB, |volume| volume.option("features.trash", "on"));
        let mount = setup.mount.path();
        let bin = mount.join(".trashcan");
        wait_until("there is a bin", WITHIN, || bin.is_dir());
        both(&setup, |dir| {
            let sub = bin.join(dir.file_name().unwrap());
            let trashed = |name: &str| -> Vec<String> {
                // A directory without a gfid is not shown in its first second (`posix_gfid_heal`), and trash makes such ones.
                wait_until("the bin has the directory", WITHIN, || sub.is_dir());
                ls(&sub).into_iter().filter(|found| found.starts_with(&format!("{name}_"))).collect()
            };
            let file = dir.join("f");
            fill(&file, MIB, 5);
            let sum = checksum(&file);
            fs::remove_file(&file).unwrap();
            assert_eq!(errno(File::open(&file)), Some(Errno::ENOENT));
            let [found] = &trashed("f")[..] else { panic!("{:?}", ls(&sub)) };
            assert_eq!(checksum(sub.join(found)), sum);

            // Its snapshots go with it.
            let file = dir.join("g");
            fill(&file, MIB, 6);
            let sum = checksum(&file);
            fsnap(&file, "create", "s").unwrap();
            fill(&file, MIB, 7);
            assert_eq!(fsnap(&file, "restore", "s"), Err(Errno::EOPNOTSUPP));
            for old in trashed("g") {
                fs::remove_file(sub.join(old)).unwrap();
            }
            fs::remove_file(&file).unwrap();
            let [found] = &trashed("g")[..] else { panic!("{:?}", ls(&sub)) };
            assert_eq!(names(sub.join(found)), ["s"]);
            assert_eq!(checksum(sub.join(".fsnap").join(format!("{found}@s"))), sum);
            assert!(!dir.join(".fsnap/g@s").exists());
            // A new file of that name has nothing to do with it.
            fill(&file, MIB, 8);
            assert_eq!(ask(&file, "list").unwrap()["snapshots"].as_array().unwrap().len(), 0);
            fsnap(&file, "create", "s").unwrap();
            fsnap(sub.join(found), "delete", "s").unwrap();
            assert_eq!(names(&file), ["s"]);

            // Where trash has just made the directory, it has no gfid yet: they go there later, and are in nobody's way.
            let (deep, there) = (dir.join("deep"), sub.join("deep"));
            fs::create_dir(&deep).unwrap();
            let file = deep.join("h");
            fill(&file, MIB, 9);
            let sum = checksum(&file);
            fsnap(&file, "create", "s").unwrap();
            fs::remove_file(&file).unwrap();
            fill(&file, MIB, 10);
            fsnap(&file, "create", "s").unwrap();
            assert_eq!(names(&file), ["s"]);
            wait_until("the bin has the directory", WITHIN, || there.is_dir());
            wait_until("they are there", WITHIN, || {
                let found = ls(there.join(".fsnap"));
                found.len() == 1 && checksum(there.join(".fsnap").join(&found[0])) == sum
            });
            assert_eq!(ls(deep.join(".fsnap")), ["h@s"]);
        });
        sound(&setup.volume);
    }
}
