//! What an inode is, and whether it has snapshots.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use fsnap_core::{Error, Gfid};
use fsnap_store::InodeKind;
use fsnap_testbed::{Fs, getx, removex, set_entry_line, setx};

use crate::common::*;

#[test]
fn what_is_what() {
    let b = brick(Fs::Xfs);
    let store = b.store();
    let dir = b.make_dir("d");
    let (base, kept) = (b.make_file("d/f", b"x"), b.make_file("d/kept", b"x"));
    let payload = snap(&store, base, "a").gfid;
    snap(&store, kept, "a");
    store.bury(kept).unwrap();
    let elsewhere = kept.payload(&name("b"), None, 9);
    b.make_link_file("d/.fsnap/kept@b", elsewhere);
    for (gfid, kind) in [
        (Gfid::ROOT, InodeKind::Other),
        (dir, InodeKind::Other),
        (base, InodeKind::Other),
        (next_gfid(), InodeKind::Other),
        (next_gfid().snap_dir(), InodeKind::Other),
        (dir.snap_dir(), InodeKind::SnapDir),
        (payload, InodeKind::Payload),
        (kept, InodeKind::Tombstone),
        (elsewhere, InodeKind::LinkFile),
    ] {
        assert_eq!(store.what_is(gfid), kind, "{gfid}");
        assert_eq!(store.entry_in_snap_dir(gfid), kind == InodeKind::SnapDir);
    }
    assert!(store.link_file_at(dir.snap_dir(), b"kept@b"));
    for (parent, file) in
        [(dir.snap_dir(), "f@a"), (dir.snap_dir(), "none"), (dir, "f"), (dir, ".fsnap/kept@b")]
    {
        assert!(!store.link_file_at(parent, file.as_bytes()), "{file}");
    }

    // A damaged snapshot is one all the same, and a handle that leads elsewhere leads nowhere.
    setx(b.handle(payload), "trusted.fsnap.record", b"garbage").unwrap();
    assert_eq!(store.what_is(payload), InodeKind::Payload);
    let stray = dir.payload(&name("x"), None, 1);
    fs::create_dir_all(b.handle(stray).parent().unwrap()).unwrap();
    fs::hard_link(b.join("d/f"), b.handle(stray)).unwrap();
    assert_eq!(store.what_is(stray), InodeKind::Other);
    fs::remove_file(b.handle(stray)).unwrap();
    std::os::unix::fs::symlink(fs::read_link(b.handle(dir.snap_dir())).unwrap(), b.handle(stray)).unwrap();
    assert_eq!(store.what_is(stray), InodeKind::Other);
}

#[test]
fn link_files_are_of_one_shape_only() {
    let b = brick(Fs::Xfs);
    let store = b.store();
    let snaps = store.snap_dir(Gfid::ROOT).unwrap();
    let gfid = next_gfid().snap_dir();
    b.make_link_file(".fsnap/l", gfid);
    let path = b.join(".fsnap/l");
    let is = |yes: bool| {
        assert_eq!(store.link_file_at(snaps, b"l"), yes);
        assert_eq!(store.what_is(gfid) == InodeKind::LinkFile, yes);
    };
    is(true);
    for mode in [0o1644, 0o3000, 0] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        is(false);
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o1000)).unwrap();
    is(true);
    fs::File::options().write(true).open(&path).unwrap().set_len(1).unwrap();
    is(false);
    fs::File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
    removex(&path, "trusted.glusterfs.dht.linkto").unwrap();
    is(false);
}

#[test]
fn who_has_snapshots() {
    on_both(|b| {
        let store = b.store();
        let dir = b.make_dir("d");
        let base = b.make_file("d/f", b"x");
        assert!(!store.has_snapshots(base).unwrap(), "on a brick that fsnap was never used on");
        let payload = snap(&store, base, "a").gfid;
        assert!(store.has_snapshots(base).unwrap());
        for gfid in [payload, dir, dir.snap_dir(), Gfid::ROOT, b.make_file("d/g", b"x")] {
            assert!(!store.has_snapshots(gfid).unwrap(), "{gfid}");
        }
        assert_eq!(store.has_snapshots(next_gfid()), Err(Error::Gone));
        // Without its handle it has them still.
        fs::rename(b.handle(base), b.join("aside")).unwrap();
        assert_eq!(store.has_snapshots(base), Err(Error::Gone));
        fs::rename(b.join("aside"), b.handle(base)).unwrap();
        let seq = getx(b.join("d/f"), "trusted.fsnap.seq").unwrap();
        removex(b.join("d/f"), "trusted.fsnap.seq").unwrap();
        assert!(store.has_snapshots(base).unwrap(), "a metadata heal in its course");
        setx(b.join("d/f"), "trusted.fsnap.seq", seq).unwrap();
        set_entry_line(b.join("d"), "a", b"x").unwrap();
        assert!(!store.has_snapshots(dir).unwrap(), "directories never have");
        store.delete(base, &name("a")).unwrap();
        assert!(!store.has_snapshots(base).unwrap(), "the number of the last one stays");
    });
}
