//! Disks of every kind do what their file systems do.

use std::fs::{self, File};
use std::path::Path;

use fsnap_testbed::{Errno, Fs, Scene, checksum, content, df_used, fill, getx, listx, removex, setx};

const MIB: u64 = 1 << 20;

/// Makes a disk, fills a file on it, and tells whether a reflink copy of it is possible.
fn reflinks(fs: Fs) -> bool {
    let scene = Scene::new();
    let disk = scene.disk(fs, 320 * MIB, "/run/scene/b");
    let mounts = fs::read_to_string(format!("/proc/{}/mounts", scene.pid())).expect("mount table");
    let line = format!("{} /run/scene/b {} ", disk.device().display(), fs.kind());
    assert!(mounts.contains(&line), "{line} not in {mounts}");
    let file = disk.path().join("file");
    let before = df_used(disk.path());
    fill(&file, 8 * MIB, 7);
    assert!(df_used(disk.path()) >= before + 8 * MIB);
    let cp =
        scene.command("cp").args(["--reflink=always", "/run/scene/b/file", "/run/scene/b/copy"]).output();
    let copied = cp.expect("cp").status.success();
    if copied {
        assert_eq!(checksum(disk.path().join("copy")), checksum(&file));
    }
    copied
}

#[test]
fn xfs_reflinks() {
    assert!(reflinks(Fs::Xfs));
}

#[test]
fn xfs_made_without_reflink_does_not() {
    assert!(!reflinks(Fs::XfsNoReflink));
}

#[test]
fn btrfs_reflinks() {
    assert!(reflinks(Fs::Btrfs));
}

#[test]
fn ext4_does_not_reflink() {
    assert!(!reflinks(Fs::Ext4));
}

#[test]
fn a_disk_can_be_mounted_again() {
    let scene = Scene::new();
    let disk = scene.disk(Fs::Ext4, 16 * MIB, "/run/scene/b");
    fill(disk.path().join("file"), MIB, 1);
    disk.unmount();
    assert!(!disk.path().join("file").exists());
    disk.mount("ro");
    assert_eq!(fs::read(disk.path().join("file")).expect("read"), content(MIB as usize, 1));
    let refused = File::create(disk.path().join("more")).expect_err("mounted read-only");
    assert_eq!(refused.raw_os_error(), Some(Errno::EROFS as i32));
}

#[test]
fn a_power_cut_loses_what_was_not_synced() {
    let scene = Scene::new();
    let disk = scene.disk(Fs::Xfs, 300 * MIB, "/run/scene/b");
    let synced = |path: &Path| File::open(path).and_then(|file| file.sync_all()).expect("fsync");
    fill(disk.path().join("synced"), MIB, 1);
    synced(&disk.path().join("synced"));
    synced(&disk.path());
    fill(disk.path().join("dirty"), MIB, 2);
    disk.power_cut();
    assert_eq!(fs::read(disk.path().join("synced")).expect("read"), content(MIB as usize, 1));
    let dirty = fs::read(disk.path().join("dirty")).unwrap_or_default();
    assert_ne!(dirty, content(MIB as usize, 2));
}

#[test]
fn extended_attributes_answer_with_errnos() {
    let scene = Scene::new();
    let disk = scene.disk(Fs::Xfs, 300 * MIB, "/run/scene/b");
    let file = disk.path().join("file");
    assert_eq!(setx(&file, "user.a", b"1"), Err(Errno::ENOENT));
    fill(&file, 0, 0);
    assert_eq!(getx(&file, "user.a"), Err(Errno::ENODATA));
    assert_eq!(setx(&file, "user.a", b"1"), Ok(()));
    assert_eq!(setx(&file, "trusted.b", b"22"), Ok(()));
    assert_eq!(setx(&file, "glusterfs.fsnap", b"1"), Err(Errno::EOPNOTSUPP));
    assert_eq!(getx(&file, "trusted.b"), Ok(b"22".to_vec()));
    assert_eq!(listx(&file), Ok(vec!["trusted.b".into(), "user.a".into()]));
    assert_eq!(removex(&file, "user.a"), Ok(()));
    assert_eq!(removex(&file, "user.a"), Err(Errno::ENODATA));
}

#[test]
fn contents_depend_on_the_seed_alone() {
    assert_eq!(content(1003, 5), content(1003, 5));
    assert_eq!(content(1003, 5)[..77], content(77, 5));
    assert_ne!(content(1003, 5), content(1003, 6));
    let scene = Scene::new();
    let file = scene.path("/run/scene/file");
    fill(&file, 300_001, 5);
    assert_eq!(fs::read(&file).expect("read"), content(300_001, 5));
}
