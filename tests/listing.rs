//! `.fsnap` is never listed, and found by name.
#![allow(missing_docs)]

mod common;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use common::{MIB, distribute, fsnap, ls, single};
use fsnap_testbed::{Fs, fill, run};

#[test]
fn hidden_but_open() {
    let setup = distribute(2);
    let dir = setup.mount.path().join("dir");
    fs::create_dir(&dir).unwrap();
    let mut all = Vec::new();
    for n in 0..300 {
        let name = format!("file-{n:04}");
        fill(dir.join(&name), 100, n);
        all.push(name);
    }
    for name in &all[..20] {
        fsnap(dir.join(name), "create", "s").unwrap();
    }
    assert_eq!(ls(&dir), all);
    let out = run(setup.scene.command("find").arg("/run/scene/m")).stdout;
    assert_eq!(String::from_utf8_lossy(&out).lines().filter(|l| l.contains(".fsnap")).count(), 0);
    let expected: Vec<String> = all[..20].iter().map(|name| format!("{name}@s")).collect();
    assert_eq!(ls(dir.join(".fsnap")), expected);
    // Asked for by name it is everywhere, also where nobody took a snapshot, and the same directory each time.
    fs::create_dir(dir.join("empty")).unwrap();
    assert!(ls(dir.join("empty/.fsnap")).is_empty());
    assert_eq!(
        fs::metadata(dir.join(".fsnap")).unwrap().ino(),
        fs::metadata(dir.join(".fsnap")).unwrap().ino()
    );
    let second = setup.volume.mount("/run/scene/m2");
    assert_eq!(ls(second.path().join("dir/.fsnap")), expected);
}

/// Leaves an empty `.fsnap` in the directory.
fn had_snapshots(dir: &Path) {
    let file = dir.join("had one");
    fs::write(&file, b"x").unwrap();
    fsnap(&file, "create", "s").unwrap();
    fsnap(&file, "delete", "s").unwrap();
    fs::remove_file(&file).unwrap();
    assert!(ls(dir.join(".fsnap")).is_empty());
}

/// The kernel asks for a directory in pieces, and a piece may hold nothing but `.fsnap`.
#[test]
fn nothing_is_lost_behind_a_hidden_entry() {
    let single = single(Fs::Xfs);
    let root = single.mount.path();
    for entries in [0, 1, 2, 50, 2000] {
        let dir = root.join(format!("dir{entries}"));
        fs::create_dir(&dir).unwrap();
        let mut expected = Vec::new();
        for n in 0..entries {
            let name = format!("{n:05}-{}", "x".repeat(n % 200));
            fs::write(dir.join(&name), b"").unwrap();
            expected.push(name);
        }
        had_snapshots(&dir);
        assert!(single.mount.brick().join(format!("dir{entries}/.fsnap")).is_dir());
        assert_eq!(ls(&dir), expected);
    }
}

/// A piece of a listing may hold nothing but what is hidden: the tombstones of deleted files, in `.fsnap`.
#[test]
fn nothing_is_lost_behind_many_hidden_entries() {
    let single = single(Fs::Xfs);
    let root = single.mount.path();
    let (file, inside) = (root.join("f"), single.mount.brick().join(".fsnap"));
    fill(&file, 100, 1);
    had_snapshots(&root);
    for n in 0..3000 {
        fs::write(inside.join(format!("gone@.00000000-0000-7000-8000-{n:012}")), b"").unwrap();
    }
    assert!(ls(root.join(".fsnap")).is_empty());
    fsnap(&file, "create", "s").unwrap();
    assert_eq!(ls(root.join(".fsnap")), ["f@s"]);
}

#[test]
fn snapshots_are_ordinary_files_to_read() {
    let setup = distribute(1);
    let root = setup.mount.path();
    let file = root.join("f");
    fill(&file, MIB, 1);
    run(setup.scene.command("setfattr").args(["-n", "user.colour", "-v", "red", "/run/scene/m/f"]));
    let before = fs::metadata(&file).unwrap();
    fsnap(&file, "create", "s").unwrap();
    let snapshot = root.join(".fsnap/f@s");
    let meta = fs::metadata(&snapshot).unwrap();
    assert_eq!((meta.len(), meta.mode() & 0o7777, meta.nlink()), (MIB, before.mode() & 0o444, 1));
    assert_eq!((meta.mtime(), meta.mtime_nsec()), (before.mtime(), before.mtime_nsec()));
    assert_ne!(meta.ino(), before.ino());
    assert_eq!(fsnap_testbed::getx(&snapshot, "user.colour").unwrap(), b"red");
    let copy = root.join("copy");
    fs::copy(&snapshot, &copy).unwrap();
    assert_eq!(fs::read(&copy).unwrap(), fs::read(&file).unwrap());
}

#[test]
fn browse_off_hides_it_from_lookups_too() {
    let setup = distribute(1);
    let file = setup.mount.path().join("f");
    fill(&file, MIB, 1);
    fsnap(&file, "create", "s").unwrap();
    setup.volume.set("user.xlator.fsnap.browse", "off");
    let snapshot = setup.mount.path().join(".fsnap");
    fsnap_testbed::wait_until("browse is off", std::time::Duration::from_secs(20), || !snapshot.exists());
    assert_eq!(common::names(&file), ["s"]);
    setup.volume.set("user.xlator.fsnap.browse", "on");
    fsnap_testbed::wait_until("browse is on", std::time::Duration::from_secs(20), || snapshot.exists());
}
