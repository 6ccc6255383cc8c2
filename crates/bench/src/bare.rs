//! What fsnap is held against: what the file system takes for the same, by the system calls for it and no more.

use std::fs::{self, File, OpenOptions};
use std::os::fd::AsRawFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};

use crate::stage::sync;
use crate::stats::seconds;

/// What the xattrs of a catalogue are called.
const PAGE_PREFIX: &[u8] = b"trusted.fsnap.catalogue.";

/// A file without a name in the directory `dir` that shares all of `from`, fsynced: what a snapshot can't do without.
pub fn raw_clone(dir: &Path, from: &Path) -> File {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let to = rustix::fs::openat(CWD, dir, flags, Mode::from_raw_mode(0o600)).expect("O_TMPFILE");
    let from = File::open(from).expect("a file to clone");
    rustix::fs::ioctl_ficlone(&to, &from).expect("FICLONE");
    let to = File::from(to);
    to.sync_all().expect("fsync");
    to
}

/// What a create has to write, by the system calls for it and no more, without looking at anything: what it does for the snapshot `name`
/// of `from` in `dir`. The names and the note are gone afterwards, which is not timed.
pub fn bare_create(dir: &Path, from: &Path, name: &str) -> f64 {
    let base = File::open(from).expect("a file to clone");
    let places = ["note", "handle", "entry"].map(|place| dir.join(format!("{name}-{place}")));
    let took = seconds(|| {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let to = rustix::fs::openat(CWD, dir, flags, Mode::from_raw_mode(0o600)).expect("O_TMPFILE");
        rustix::fs::ioctl_ficlone(&to, &base).expect("FICLONE");
        let set = |file: &File, key: &str, bytes: usize| {
            rustix::fs::fsetxattr(file, key, &[b'x'; 2800][..bytes], XattrFlags::empty()).expect("an xattr");
        };
        let to = File::from(to);
        for (key, bytes) in [("gfid", 16), ("gfid2path.0123456789abcdef", 60), ("record", 60), ("mdata", 57)]
        {
            set(&to, &format!("trusted.bare.{key}"), bytes);
        }
        rustix::fs::fchown(&to, Some(Uid::ROOT), Some(Gid::ROOT)).expect("fchown");
        rustix::fs::fchmod(&to, Mode::from_raw_mode(0o444)).expect("fchmod");
        let time = Timespec { tv_sec: 1, tv_nsec: 1 };
        rustix::fs::futimens(&to, &Timestamps { last_access: time, last_modification: time })
            .expect("futimens");
        let unnamed = format!("/proc/self/fd/{}", to.as_raw_fd());
        for place in &places {
            rustix::fs::linkat(CWD, &*unnamed, CWD, place, AtFlags::SYMLINK_FOLLOW).expect("link");
        }
        set(&base, "trusted.bare.seq", 20);
        set(&base, "trusted.bare.catalogue", 256);
        base.sync_all().expect("fsync");
        fs::remove_file(&places[0]).expect("unlink");
    });
    places[1..].iter().for_each(|place| fs::remove_file(place).expect("unlink"));
    took
}

/// What a restore has to write, by the system calls for it and no more: a note, what both share already left alone, the note gone, and
/// the truncate to the size that the file has, with its times, that goes by way of the brick's translators.
pub fn bare_restore(to: &Path, from: &Path) {
    let (dir, note) = (to.parent().expect("a directory"), to.with_extension("note"));
    let to = OpenOptions::new().write(true).open(to).expect("a file to restore");
    let from = File::open(from).expect("a file to clone");
    rustix::fs::symlinkat("v1 restore", CWD, &note).expect("symlink");
    rustix::fs::ioctl_ficlone(&to, &from).expect("FICLONE");
    fs::remove_file(&note).expect("unlink");
    sync(dir);
    to.set_len(from.metadata().expect("stat").len()).expect("truncate");
    rustix::fs::fsetxattr(&to, "trusted.bare.mdata", &[b'x'; 57], XattrFlags::empty()).expect("an xattr");
}

/// Whether a path leads to the directory that is meant, what has a name in it, and whether that has snapshots: the least that who unlinks or
/// renames has to ask of the disk.
pub fn bare_question(dir: &Path, name: &str) {
    let mut room = [0_u8; 4096];
    let dir = rustix::fs::open(dir, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).expect("open");
    let dir = format!("/proc/self/fd/{}", dir.as_raw_fd());
    rustix::fs::getxattr(&*dir, "trusted.gfid", &mut room[..]).expect("getxattr");
    rustix::fs::llistxattr(format!("{dir}/{name}"), &mut room[..]).expect("listxattr");
}

/// A file's identity, xattr names, record and times, by the system calls for it and no more: what a list has to read of a snapshot.
pub fn bare_look(file: &Path) {
    let mut room = [0_u8; 4096];
    rustix::fs::statat(CWD, file, AtFlags::SYMLINK_NOFOLLOW).expect("stat");
    let file = rustix::fs::open(file, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).expect("open");
    rustix::fs::fstat(&file).expect("stat");
    rustix::fs::flistxattr(&file, &mut room[..]).expect("listxattr");
    for key in ["trusted.gfid", "trusted.fsnap.record", "trusted.glusterfs.mdata"] {
        rustix::fs::fgetxattr(&file, key, &mut room[..]).expect("getxattr");
    }
}

/// Makes `to` share all of `from`, and nothing else, fsynced. What `to` had is given up before if `truncate` says so.
pub fn raw_restore(to: &Path, from: &Path, truncate: bool) {
    let to = OpenOptions::new().write(true).open(to).expect("a file to restore");
    let from = File::open(from).expect("a file to clone");
    if truncate {
        to.set_len(0).expect("truncate");
    }
    rustix::fs::ioctl_ficlone(&to, &from).expect("FICLONE");
    to.sync_all().expect("fsync");
}

/// As storage/posix reads what replicate asks for at each lookup (`_posix_xattr_get_set_from_backend`).
pub fn bare_pages(file: &Path) {
    let (mut names, mut value) = (vec![0_u8; 65_536], vec![0_u8; 65_536]);
    let length = rustix::fs::llistxattr(file, &mut names[..]).expect("listxattr");
    for name in names[..length].split(|&byte| byte == 0).filter(|name| name.starts_with(PAGE_PREFIX)) {
        let mut get = |room: usize| rustix::fs::lgetxattr(file, name, &mut value[..room]);
        if get(256).is_err() {
            get(rustix::fs::lgetxattr_query(file, name).expect("getxattr")).expect("getxattr");
        }
    }
}
