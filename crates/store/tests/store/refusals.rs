//! What is refused leaves the disk as it was.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use fsnap_core::{Error, Gfid};
use fsnap_store::{Limits, Store};
use fsnap_testbed::{Fs, getx, listx, removex, setx};

use crate::common::*;

/// A brick with a file that has one snapshot, `old`.
fn scene(fs: Fs) -> (TestBrick, Store, Gfid) {
    let b = brick(fs);
    let store = b.store();
    b.make_dir("d");
    let base = b.make_file("d/f", b"content");
    snap(&store, base, "old");
    (b, store, base)
}

#[test]
fn files_that_must_not_be_touched() {
    for fs in reflink() {
        let (b, store, base) = scene(fs);
        let path = b.join("d/f");
        let refused = |errno: i32| {
            b.refuses(errno, || store.create(base, &bare("new"), &PLENTY));
            b.refuses(errno, || store.restore(base, &name("old")))
        };
        let xattr = |key: &str, errno: i32| {
            setx(&path, key, b"x").unwrap();
            let error = refused(errno);
            removex(&path, key).unwrap();
            error
        };
        assert!(matches!(
            xattr("trusted.glusterfs.shard.block-size", libc::EOPNOTSUPP),
            Error::Unsupported(_)
        ));
        xattr(QUOTA, libc::EOPNOTSUPP);
        xattr("trusted.fsnap.record", libc::EROFS);
        let mode = |bits| fs::set_permissions(&path, fs::Permissions::from_mode(bits)).unwrap();
        mode(0o1000);
        assert_eq!(xattr("trusted.glusterfs.dht.linkto", libc::EBUSY), Error::Migrating);

        // A mode without the xattr, and a linkto xattr on an ordinary file, are no marks of rebalance. Both are: but whether it is at
        // work the disk does not tell.
        let marked = || store.is_marked_as_moving(base).unwrap();
        snap(&store, base, "sticky");
        mode(0o3644);
        assert!(!marked());
        snap(&store, base, "sticky-setgid");
        mode(0o644);
        setx(&path, "trusted.glusterfs.dht.linkto", b"x").unwrap();
        assert!(!marked());
        snap(&store, base, "linkto");
        mode(0o3644);
        assert!(marked());
        snap(&store, base, "marked");
        store.restore(base, &name("old")).unwrap();

        setx(&path, "trusted.bit-rot.signature", b"x").unwrap();
        b.refuses(libc::EOPNOTSUPP, || store.restore(base, &name("old")));
        snap(&store, base, "signed");
    }
}

#[test]
fn names_and_limits() {
    let (b, store, base) = scene(Fs::Xfs);
    let few = Limits { max_snapshots: 1, min_free: 0 };
    b.refuses(libc::EEXIST, || store.create(base, &bare("old"), &few));
    assert_eq!(b.refuses(libc::EDQUOT, || store.create(base, &bare("new"), &few)), Error::TooMany(1));
    let roomy = Limits { max_snapshots: 9, min_free: 100 };
    let error = b.refuses(libc::ENOSPC, || store.create(base, &bare("new"), &roomy));
    assert!(matches!(error, Error::LowSpace { free: 1..=99, min: 100 }), "{error}");
    b.refuses(libc::ENODATA, || store.restore(base, &name("new")));
    b.refuses(libc::ENODATA, || store.delete(base, &name("new")));
    b.refuses(libc::ENODATA, || store.info(base, &name("new")));

    let long = b.make_file(format!("d/{}", "n".repeat(254)), b"x");
    b.refuses(libc::ENAMETOOLONG, || store.create(long, &bare("x"), &PLENTY));
    let fits = b.make_file(format!("d/{}", "n".repeat(253)), b"x");
    snap(&store, fits, "x");
}

#[test]
fn things_that_are_no_files() {
    let (b, store, _) = scene(Fs::Xfs);
    let fifo = b.join("pipe");
    tool("mkfifo", &[], &fifo);
    std::os::unix::fs::symlink("target", b.join("link")).unwrap();
    let mut gfids = vec![Gfid::ROOT, getx_gfid(&b, "d"), b.adopt("pipe")];
    let device = next_gfid();
    fs::create_dir_all(b.handle(device).parent().unwrap()).unwrap();
    tool_mknod(&b.handle(device));
    gfids.push(device);
    let link = next_gfid();
    fs::create_dir_all(b.handle(link).parent().unwrap()).unwrap();
    fs::hard_link(b.join("link"), b.handle(link)).unwrap();
    gfids.push(link);
    for gfid in gfids {
        b.refuses(libc::EINVAL, || store.create(gfid, &bare("x"), &PLENTY));
        b.refuses(libc::EINVAL, || store.restore(gfid, &name("x")));
        b.refuses(libc::EINVAL, || store.list(gfid));
        assert_eq!(store.base_of(gfid).unwrap(), (gfid, false));
    }
    let nobody = next_gfid();
    b.refuses(libc::ESTALE, || store.create(nobody, &bare("x"), &PLENTY));
    b.refuses(libc::ESTALE, || store.delete(nobody, &name("x")));
    b.refuses(libc::ESTALE, || store.snap_dir(nobody));
}

fn getx_gfid(b: &TestBrick, at: &str) -> Gfid {
    Gfid::from_xattr(&getx(b.join(at), "trusted.gfid").unwrap()).unwrap()
}

fn tool_mknod(at: &std::path::Path) {
    fsnap_testbed::run(std::process::Command::new("mknod").arg(at).args(["c", "1", "9"]));
}

#[test]
fn a_file_without_gfid2path() {
    let (b, store, base) = scene(Fs::Btrfs);
    for key in listx(b.join("d/f")).unwrap() {
        if key.to_str().unwrap().starts_with("trusted.gfid2path.") {
            removex(b.join("d/f"), key).unwrap();
        }
    }
    let error = b.refuses(libc::EOPNOTSUPP, || store.create(base, &bare("new"), &PLENTY));
    assert!(error.to_string().contains("storage.gfid2path"), "{error}");
    store.restore(base, &name("old")).unwrap();
}

#[test]
fn file_systems_that_share_no_blocks() {
    for fs in [Fs::XfsNoReflink, Fs::Ext4] {
        let b = brick(fs);
        let base = b.make_file("f", b"x");
        let before = b.tree();
        let store = b.store();
        assert!(!store.reflink(), "{fs:?}");
        assert_eq!(b.tree(), before, "opening a brick leaves no trace");
        b.refuses(libc::EOPNOTSUPP, || store.create(base, &bare("a"), &PLENTY));
        b.refuses(libc::EOPNOTSUPP, || store.restore(base, &name("a")));
        assert!(store.list(base).unwrap().is_empty());
    }
}

#[test]
fn bricks_that_are_not_ours() {
    let b = brick(Fs::Xfs);
    let open = |at: &std::path::Path| Store::open(at).map(drop);
    b.refuses(libc::EOPNOTSUPP, || open(&b.join(".glusterfs")));
    assert!(open(&b.join("nowhere")).is_err());
    let before = b.tree();
    assert!(b.store().reflink());
    assert_eq!(b.tree(), before, "opening a brick leaves no trace");

    let base = b.make_file("f", b"x");
    snap(&b.store(), base, "a");
    let format = b.join(".glusterfs/fsnap/format");
    for other in ["fsnap 1\n", "fsnap 2", "fsnap 3\n", "", "x"] {
        fs::write(&format, other).unwrap();
        let error = b.refuses(libc::EOPNOTSUPP, || open(&b.path));
        assert!(error.to_string().contains("fsnap/format"), "{error}");
    }
    fs::write(&format, "fsnap 2\n").unwrap();
    assert_eq!(listed(&b.store(), base), ["a"]);
}
