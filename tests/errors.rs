//! The errno table, line by line, through a mount; nothing changes on the brick when a command is refused.
#![allow(missing_docs)]

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use common::{MIB, Setup, Single, ask, distribute, fsnap, names, of_deleted, single};
use fsnap_testbed::{
    Errno, Fs, VolumeType, entry_line, fill, getx, removex, run, set_entry_line, setx, wait_until,
};

/// Everything on the brick that a command could change: names, inodes, sizes, times, xattrs. Without the directories of
/// `.glusterfs` that GlusterFS itself works in.
fn picture(brick: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut todo = vec![brick.to_path_buf()];
    while let Some(path) = todo.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let mut xattrs: Vec<_> = xattrs_of(&path);
        if meta.is_dir() {
            xattrs.retain(|(name, _)| name != "trusted.glusterfs.mdata");
        }
        xattrs.sort();
        let times = (meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec());
        // A directory's times change with the housekeeping of GlusterFS in it, its entries are compared themselves.
        let times = if meta.is_dir() { Default::default() } else { times };
        lines.push(format!("{} {:o} {} {times:?} {xattrs:?}", path.display(), meta.mode(), meta.ino()));
        if meta.is_dir() {
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    let works = ["/.glusterfs/health_check", "/.glusterfs/brick.db", "/.glusterfs/changelogs"];
    lines.retain(|line| !works.iter().any(|own| line.contains(own)));
    lines.sort();
    lines
}

fn xattrs_of(path: &Path) -> Vec<(std::ffi::OsString, Vec<u8>)> {
    let names = fsnap_testbed::listx(path).unwrap_or_default();
    names.into_iter().map(|name| (name.clone(), getx(path, &name).unwrap_or_default())).collect()
}

#[track_caller]
fn refused(brick: &Path, file: &Path, verb: &str, value: impl AsRef<[u8]>, errno: Errno) {
    let before = picture(brick);
    let value = value.as_ref();
    assert_eq!(
        fsnap(file, verb, value),
        Err(errno),
        "{verb} {:?} of {}",
        value.escape_ascii().to_string(),
        file.display()
    );
    let after = picture(brick);
    assert_eq!(before, after, "{verb} {:?} changed the brick", value.escape_ascii().to_string());
}

fn setup() -> (Setup, std::path::PathBuf, std::path::PathBuf) {
    let setup = distribute(1);
    let file = setup.mount.path().join("f");
    fill(&file, MIB, 1);
    let brick = setup.volume.brick_path(0);
    (setup, file, brick)
}

#[test]
fn bad_names_and_values_are_einval() {
    let (_setup, file, brick) = setup();
    fsnap(&file, "create", "good").unwrap();
    let long = "n".repeat(65);
    let bad: [&[u8]; 14] = [
        b"",
        b".",
        b"..",
        b"../x",
        b"a/b",
        b"/a",
        b"a\0b",
        b"a\0",
        b"a@b",
        b"a:b",
        b"-a",
        b"a b",
        b"\xff\xfe",
        long.as_bytes(),
    ];
    for value in bad {
        for verb in ["create", "delete", "restore"] {
            refused(&brick, &file, verb, value, Errno::EINVAL);
        }
    }
    for value in [
        "a;",
        "a;x=1",
        "a;created=now",
        "a;created=1.5",
        "a;id=7",
        "a;id=",
        &format!("a;{}", "x".repeat(5000)),
    ] {
        refused(&brick, &file, "create", value, Errno::EINVAL);
    }
    assert_eq!(getx(&file, "glusterfs.fsnap.info...").unwrap_err(), Errno::EINVAL);
    assert_eq!(getx(&file, "glusterfs.fsnap.info.").unwrap_err(), Errno::EINVAL);
    // A value of over 64 KiB does not get past the kernel.
    assert_eq!(fsnap(&file, "create", vec![b'a'; 70_000]), Err(Errno::E2BIG));
    for n in 0..5 {
        setx(&file, format!("user.large{n}"), vec![b'x'; 60_000]).unwrap();
    }
    refused(&brick, &file, "create", "with-large-xattrs", Errno::E2BIG);
    (0..5).for_each(|n| removex(&file, format!("user.large{n}")).unwrap());
    assert_eq!(names(&file), ["good"]);
}

#[test]
fn unknown_verbs_are_eopnotsupp() {
    let (_setup, file, brick) = setup();
    for verb in ["", "creat", "creates", "list", "status", "info.x"] {
        refused(&brick, &file, verb, "a", Errno::EOPNOTSUPP);
    }
    for question in ["", "lists", "create", "snap"] {
        assert_eq!(getx(&file, format!("glusterfs.fsnap.{question}")), Err(Errno::EOPNOTSUPP), "{question}");
    }
    // And the mount's xattrs work on: ENOSYS would have switched them off.
    setx(&file, "user.still", "alive").unwrap();
}

#[test]
fn what_exists_and_what_does_not() {
    let (_setup, file, brick) = setup();
    refused(&brick, &file, "delete", "none", Errno::ENODATA);
    refused(&brick, &file, "restore", "none", Errno::ENODATA);
    assert_eq!(ask(&file, "info.none").unwrap_err(), Errno::ENODATA);
    assert!(names(&file).is_empty());
    fsnap(&file, "create", "s").unwrap();
    refused(&brick, &file, "create", "s", Errno::EEXIST);
    refused(&brick, &file, "create", "s;id=11111111-2222-4333-8444-555555555555", Errno::EEXIST);
}

#[test]
fn held_is_ebusy() {
    let (_setup, file, brick) = setup();
    fsnap(&file, "create", "s").unwrap();
    fsnap(&file, "hold", "s").unwrap();
    assert_eq!(ask(&file, "info.s").unwrap()["held"], true);
    refused(&brick, &file, "delete", "s", Errno::EBUSY);
    refused(&brick, &file, "hold", "none", Errno::ENODATA);
    fsnap(&file, "restore", "s").unwrap();
    fsnap(&file, "release", "s").unwrap();
    fsnap(&file, "delete", "s").unwrap();
}

#[test]
fn only_regular_files() {
    let (setup, _, brick) = setup();
    let root = setup.mount.path();
    fs::create_dir(root.join("dir")).unwrap();
    symlink("f", root.join("link")).unwrap();
    run(setup.scene.command("mkfifo").arg("/run/scene/m/fifo"));
    run(setup.scene.command("mknod").args(["/run/scene/m/null", "c", "1", "3"]));
    for name in ["dir", "link", "fifo", "null"] {
        for verb in ["create", "delete", "restore"] {
            refused(&brick, &root.join(name), verb, "s", Errno::EINVAL);
        }
        assert_eq!(ask(root.join(name), "list").unwrap_err(), Errno::EINVAL, "{name}");
    }
    refused(&brick, &root, "create", "s", Errno::EINVAL);
}

#[test]
fn snapshots_of_snapshots_are_erofs() {
    let (setup, file, brick) = setup();
    fsnap(&file, "create", "s").unwrap();
    let snapshot = setup.mount.path().join(".fsnap/f@s");
    refused(&brick, &snapshot, "create", "t", Errno::EROFS);
    refused(&brick, &snapshot, "restore", "s", Errno::EROFS);
    // List, info and delete are about its file.
    assert_eq!(names(&snapshot), ["s"]);
    assert_eq!(ask(&snapshot, "info.s").unwrap(), ask(&file, "info.s").unwrap());
    fsnap(&snapshot, "delete", "s").unwrap();
    assert!(names(&file).is_empty());
    assert!(!snapshot.exists());
}

#[test]
fn limits() {
    let (setup, file, brick) = setup();
    setup.volume.set("user.xlator.fsnap.max-snapshots", "2");
    await_option(&file, "max-snapshots", 2.into());
    fsnap(&file, "create", "a").unwrap();
    fsnap(&file, "create", "b").unwrap();
    refused(&brick, &file, "create", "c", Errno::EDQUOT);
    fsnap(&file, "delete", "a").unwrap();
    fsnap(&file, "create", "c").unwrap();
    setup.volume.set("user.xlator.fsnap.max-snapshots", "256");
    setup.volume.set("user.xlator.fsnap.min-free", "99%");
    await_option(&file, "min-free", 99.into());
    refused(&brick, &file, "create", "d", Errno::ENOSPC);
    setup.volume.set("user.xlator.fsnap.min-free", "nonsense");
    await_option(&file, "min-free", 5.into());
    fsnap(&file, "create", "d").unwrap();
    let long = setup.mount.path().join("l".repeat(250));
    fill(&long, 10, 1);
    refused(&brick, &long, "create", "long-name", Errno::ENAMETOOLONG);
    fsnap(&long, "create", "1234").unwrap();
}

#[test]
fn disabled_is_eopnotsupp_and_comes_back() {
    let (setup, file, brick) = setup();
    fsnap(&file, "create", "s").unwrap();
    setup.volume.set("user.xlator.fsnap.enabled", "off");
    await_option(&file, "enabled", false.into());
    for verb in ["create", "delete", "restore", "hold"] {
        refused(&brick, &file, verb, "s", Errno::EOPNOTSUPP);
    }
    setup.volume.set("user.xlator.fsnap.enabled", "on");
    await_option(&file, "enabled", true.into());
    setup.volume.set("user.xlator.fsnap.direct-restore", "off");
    await_option(&file, "direct-restore", "off".into());
    refused(&brick, &file, "restore", "s", Errno::EOPNOTSUPP);
    fsnap(&file, "delete", "s").unwrap();
}

/// Options are live, but glusterd tells the bricks after it has answered.
fn await_option(file: &Path, name: &str, value: serde_json::Value) {
    wait_until(&format!("option {name} is {value}"), Duration::from_secs(20), || {
        ask(file, "status").unwrap()["options"][name] == value
    });
}

#[test]
fn dht_and_shard_files() {
    let Single { mount, .. } = &single(Fs::Xfs);
    let (root, brick) = (mount.path(), mount.brick());
    let made = |name: &str| {
        let file = root.join(name);
        fill(&file, 1000, 1);
        (file, brick.join(name))
    };
    let (file, below) = made("linkfile");
    setx(&below, "trusted.glusterfs.dht.linkto", "v-client-0\0").unwrap();
    fs::set_permissions(&below, fs::Permissions::from_mode(0o1000)).unwrap();
    refused(brick, &file, "create", "s", Errno::EBUSY);
    // A file of that mode, and one that a rebalance has left so when it was killed. (One that is at work: tests/rebalance.rs.)
    let (file, below) = made("sticky-setgid");
    fs::set_permissions(&below, fs::Permissions::from_mode(0o3644)).unwrap();
    fsnap(&file, "create", "s").unwrap();
    setx(&below, "trusted.glusterfs.dht.linkto", "v-client-0\0").unwrap();
    fsnap(&file, "create", "left-behind").unwrap();
    let (file, below) = made("sharded");
    setx(&below, "trusted.glusterfs.shard.block-size", 4_194_304u64.to_be_bytes()).unwrap();
    refused(brick, &file, "create", "s", Errno::EOPNOTSUPP);
    let (file, below) = made("in-quota");
    setx(&below, "trusted.glusterfs.quota.00000000-0000-0000-0000-000000000001.contri.1", [0; 24]).unwrap();
    refused(brick, &file, "create", "s", Errno::EOPNOTSUPP);
}

#[test]
fn no_reflink_is_eopnotsupp() {
    for kind in [Fs::Ext4, Fs::XfsNoReflink] {
        let Single { mount, .. } = &single(kind);
        let file = mount.path().join("f");
        fill(&file, 1000, 1);
        refused(mount.brick(), &file, "create", "s", Errno::EOPNOTSUPP);
        assert_eq!(ask(&file, "status").unwrap()["reflink"], false, "{kind:?}");
        assert!(names(&file).is_empty());
        assert!(!mount.path().join(".fsnap").exists(), "{kind:?}: no snapshot, no directory for them");
    }
}

#[test]
fn btrfs_works_like_xfs() {
    let Single { mount, .. } = &single(Fs::Btrfs);
    let file = mount.path().join("f");
    fill(&file, MIB, 1);
    let sum = fsnap_testbed::checksum(&file);
    fsnap(&file, "create", "s").unwrap();
    fill(&file, 2 * MIB, 2);
    fsnap(&file, "restore", "s").unwrap();
    common::sees(&file, sum);
    fsnap(&file, "delete", "s").unwrap();
    assert!(names(&file).is_empty());
}

#[test]
fn a_bare_restore_is_refused_where_it_is_not_safe() {
    for (layout, bricks) in
        [(VolumeType::Replicate(3), 3), (VolumeType::Disperse { data: 2, redundancy: 1 }, 3)]
    {
        let setup = common::volume(layout, bricks, 1024 * MIB, |volume| volume);
        let file = setup.mount.path().join("f");
        fill(&file, MIB, 1);
        fsnap(&file, "create", "s").unwrap();
        assert_eq!(names(&file), ["s"], "{layout:?}");
        assert_eq!(ask(&file, "info.s").unwrap()["size"], MIB, "{layout:?}");
        let sum = fsnap_testbed::checksum(&file);
        assert_eq!(fsnap_testbed::checksum(setup.mount.path().join(".fsnap/f@s")), sum, "{layout:?}");
        fill(&file, MIB, 2);
        let changed = fsnap_testbed::checksum(&file);
        assert_eq!(fsnap(&file, "restore", "s"), Err(Errno::EOPNOTSUPP), "{layout:?}");
        assert_eq!(fsnap_testbed::checksum(&file), changed, "{layout:?}");
        fsnap(&file, "delete", "s").unwrap();
        assert!(names(&file).is_empty(), "{layout:?}");
    }
}

#[test]
fn a_volume_that_becomes_replicated_refuses_from_then_on() {
    let setup = common::distribute(1);
    let file = setup.mount.path().join("f");
    fill(&file, MIB, 1);
    fsnap(&file, "create", "s").unwrap();
    fsnap(&file, "restore", "s").unwrap();
    let disk = setup.scene.disk(Fs::Xfs, 1024 * MIB, "/run/scene/b9");
    let brick = format!("127.1.1.9:{}", disk.at().join("brick").display());
    setup.scene.gluster(["volume", "add-brick", "v", "replica", "2", &brick, "force"]).unwrap();
    assert_eq!(fsnap(&file, "restore", "s"), Err(Errno::EOPNOTSUPP));
}

#[test]
fn a_foreign_snap_dir_is_left_alone() {
    let Single { mount, .. } = &single(Fs::Xfs);
    let below = mount.brick().join("dir");
    fs::create_dir_all(below.join(".fsnap")).unwrap();
    fs::write(below.join(".fsnap/precious"), b"somebody's").unwrap();
    let file = mount.path().join("dir/f");
    fill(&file, 1000, 1);
    refused(mount.brick(), &file, "create", "s", Errno::EOPNOTSUPP);
    assert_eq!(fs::read(below.join(".fsnap/precious")).unwrap(), b"somebody's");
}

/// A directory of the name that was there before fsnap is its owner's: he may take it away, and then there is room.
#[test]
fn a_foreign_snap_dir_makes_way() {
    let scene = common::scene_with_fsnap();
    scene.start_glusterd();
    let disks = scene.disks(2, Fs::Xfs, 2048 * MIB);
    let volume = scene.volume("v").disks(&disks).start();
    let mount = volume.mount("/run/scene/m");
    let root = mount.path();
    for dir in ["renamed", "removed"] {
        fs::create_dir_all(root.join(dir).join(".fsnap")).unwrap();
        fill(root.join(dir).join("f"), 1000, 1);
    }
    fs::write(root.join("renamed/.fsnap/precious"), b"somebody's").unwrap();
    volume.set("user.xlator.fsnap", "posix");
    volume.stop();
    volume.start();
    mount.wait_connected(2);
    for dir in ["renamed", "removed"] {
        assert_eq!(fsnap(root.join(dir).join("f"), "create", "s"), Err(Errno::EOPNOTSUPP));
    }
    fs::rename(root.join("renamed/.fsnap"), root.join("renamed/mine")).unwrap();
    fs::remove_dir(root.join("removed/.fsnap")).unwrap();
    assert_eq!(fs::read(root.join("renamed/mine/precious")).unwrap(), b"somebody's");
    for dir in ["renamed", "removed"] {
        fsnap(root.join(dir).join("f"), "create", "s").unwrap();
        assert_eq!(common::ls(root.join(dir).join(".fsnap")), ["f@s"]);
    }
}

#[test]
fn no_path_no_snapshot() {
    let Single { mount, .. } = &single(Fs::Xfs);
    let file = mount.path().join("f");
    fill(&file, 1000, 1);
    let below = mount.brick().join("f");
    for name in fsnap_testbed::listx(&below).unwrap() {
        if name.to_string_lossy().starts_with("trusted.gfid2path.") {
            fsnap_testbed::removex(&below, &name).unwrap();
        }
    }
    refused(mount.brick(), &file, "create", "s", Errno::EOPNOTSUPP);
}

#[test]
fn a_signed_file_is_not_restored() {
    let Single { mount, .. } = &single(Fs::Xfs);
    let file = mount.path().join("f");
    fill(&file, 1000, 1);
    fsnap(&file, "create", "s").unwrap();
    setx(mount.brick().join("f"), "trusted.bit-rot.signature", [1; 40]).unwrap();
    refused(mount.brick(), &file, "restore", "s", Errno::EOPNOTSUPP);
}

#[test]
fn damage_is_eio_and_nothing_is_lost() {
    let Single { mount, .. } = &single(Fs::Xfs);
    let file = mount.path().join("f");
    fill(&file, 1000, 1);
    fsnap(&file, "create", "s").unwrap();
    let below = mount.brick().join("f");
    let entry = entry_line(&below, "s").unwrap();
    for garbage in [&b""[..], b"v1 seq=x", &[0xff; 100]] {
        set_entry_line(&below, "s", garbage).unwrap();
        for verb in ["restore", "delete", "hold"] {
            refused(mount.brick(), &file, verb, "s", Errno::EIO);
        }
        assert_eq!(ask(&file, "list").unwrap_err(), Errno::EIO);
        assert_eq!(ask(&file, "info.s").unwrap_err(), Errno::EIO);
    }
    set_entry_line(&below, "s", entry).unwrap();
    assert_eq!(names(&file), ["s"]);
    fsnap(&file, "delete", "s").unwrap();
}

#[test]
fn a_bare_restore_is_refused_where_others_would_not_be_told() {
    let (setup, file, brick) = setup();
    fsnap(&file, "create", "s").unwrap();
    fsnap(&file, "restore", "s").unwrap();
    setup.volume.set("changelog.changelog", "on");
    refused(&brick, &file, "restore", "s", Errno::EOPNOTSUPP);
    setup.volume.set("changelog.changelog", "off");
    fsnap(&file, "restore", "s").unwrap();
}

/// By setfattr, of a file and of one that was deleted. (`fsnap restore`: tests/command.rs.)
#[test]
fn no_restore_with_trash_on() {
    let (setup, file, brick) = setup();
    fsnap(&file, "create", "s").unwrap();
    let gone = file.with_file_name("gone");
    fill(&gone, 1000, 2);
    fsnap(&gone, "create", "s").unwrap();
    fs::remove_file(&gone).unwrap();
    let snapshot = of_deleted(file.parent().unwrap(), "gone");
    setup.volume.set("features.trash", "on");
    // It makes its directory some time after that.
    let handle = brick.join(".glusterfs/00/00/00000000-0000-0000-0000-000000000005");
    wait_until("there is a .trashcan", Duration::from_secs(20), || handle.is_symlink());
    refused(&brick, &file, "restore", "s", Errno::EOPNOTSUPP);
    refused(&brick, &snapshot, "restore", "s", Errno::EOPNOTSUPP);
    setup.volume.set("features.trash", "off");
    fsnap(&file, "restore", "s").unwrap();
    fsnap(&snapshot, "restore", "s").unwrap();
    assert!(gone.exists());
}
