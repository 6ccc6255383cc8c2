//! A brick that GlusterFS itself has laid out, and reads afterwards.

use std::fs;

use fsnap_core::{Error, Gfid};
use fsnap_store::Store;
use fsnap_store::check::{self, Options};
use fsnap_testbed::{Fs, Scene, VOLFILE_POSIX, content, getx};

use crate::common::*;

#[test]
fn glusterfs_takes_snapshots_for_its_own_files() {
    let scene = Scene::new();
    let disk = scene.disk(Fs::Xfs, 320 << 20, "/run/scene/disk");
    let deep = format!("d{}", "/d".repeat(59));
    let mount = scene.mount_volfile(VOLFILE_POSIX, "/run/scene/disk/brick", "/run/scene/mnt");
    fs::create_dir_all(mount.path().join(&deep)).unwrap();
    fs::write(mount.path().join(&deep).join("vm.img"), content(MIB, 1)).unwrap();
    let old = fs::metadata(mount.path().join(&deep).join("vm.img")).unwrap();

    let brick = disk.path().join("brick");
    let gfid = |at: &str| Gfid::from_xattr(&getx(brick.join(at), "trusted.gfid").unwrap()).unwrap();
    let base = gfid(&format!("{deep}/vm.img"));
    let store = Store::open(&brick).unwrap();
    let taken = snap(&store, base, "a").gfid;
    fs::write(mount.path().join(&deep).join("vm.img"), b"changed").unwrap();

    let snapshots = mount.path().join(&deep).join(".fsnap");
    assert_eq!(names(&snapshots), ["vm.img@a"]);
    assert!(fs::read(snapshots.join("vm.img@a")).unwrap() == content(MIB, 1));
    let shown = fs::metadata(snapshots.join("vm.img@a")).unwrap();
    assert_eq!(shown.modified().unwrap(), old.modified().unwrap());
    // GlusterFS has met both and has left our gfids alone.
    assert_eq!(gfid(&format!("{deep}/.fsnap")), gfid(&deep).snap_dir());
    assert_eq!(gfid(&format!("{deep}/.fsnap/vm.img@a")), taken);

    // Nothing that GlusterFS has on a brick of its own looks wrong, and while it runs nobody repairs.
    let report = check::run(&brick, &Options::default()).unwrap();
    assert!(report.problems.is_empty() && report.snapshots == 1, "{:#?}", report.problems);
    store.delete(base, &name("a")).unwrap();
    assert_eq!(names(&snapshots), [""; 0]);
    drop(store);
    let refused = check::run(&brick, &Options { repair: true, ..Options::default() }).unwrap_err();
    assert!(matches!(&refused, Error::InUse(who) if who.starts_with("process")), "{refused}");
}
