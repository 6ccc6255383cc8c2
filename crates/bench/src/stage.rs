//! Volumes to measure on: in one scene, on the same disks, so that they differ only in what is compared.

use std::fs::{self, File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use fsnap_testbed::{Disk, Errno, Fs, Mount, Scene, Volume, VolumeType, fill, run, setx, translator_path};
use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};

use crate::stats::seconds;

/// 1024².
pub const MIB: u64 = 1 << 20;
/// Where the command is in a scene.
const COMMAND: &str = "/run/private/fsnap";
/// Where the checker is.
const CHECKER: &str = "/run/private/fsnap-check";

/// What disks are made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Medium {
    /// Memory: nothing waits for a device.
    Ram,
    /// A file in the directory for temporary files.
    Disk,
}

impl Medium {
    /// As figures name it.
    pub fn text(self) -> &'static str {
        match self {
            Medium::Ram => "in RAM",
            Medium::Disk => "on disk",
        }
    }
}

/// A scene with disks and a glusterd.
pub struct Stage {
    /// The disks, `/run/scene/d1` and so on.
    pub disks: Vec<Disk>,
    /// The scene.
    pub scene: Scene,
}

/// Which options a mount has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Caches {
    /// The defaults.
    On,
    /// None in the client, nor in the kernel: each call is a fop on the bricks.
    Off,
}

/// A volume with its mount. Fields are dropped in this order.
pub struct Mounted {
    /// The mount.
    pub mount: Mount,
    /// The volume.
    pub volume: Volume,
}

impl Stage {
    /// So many disks of that size, XFS.
    pub fn new(medium: Medium, disks: usize, bytes: u64) -> Stage {
        let scene = Scene::new();
        for name in ["fsnap", "fsnap-client"] {
            scene.install_translator(translator_path(), name);
        }
        scene.start_glusterd();
        let at = |n: usize| format!("/run/scene/d{n}");
        let disk = |n| match medium {
            Medium::Ram => scene.ram_disk(Fs::Xfs, bytes, at(n)),
            Medium::Disk => scene.disk(Fs::Xfs, bytes, at(n)),
        };
        let disks = (1..=disks).map(disk).collect();
        Stage { disks, scene }
    }

    /// A volume of so many bricks, which are directories on the disks in turn, mounted at `/run/scene/NAME`.
    pub fn volume(
        &self,
        name: &str,
        layout: VolumeType,
        bricks: usize,
        fsnap: bool,
        caches: Caches,
    ) -> Mounted {
        let disk = |n: usize| &self.disks[n % self.disks.len()];
        let dir = |n: usize| disk(n).at().join(format!("{name}{n}"));
        let mut volume = (0..bricks).fold(self.scene.volume(name).layout(layout), |v, n| v.brick(dir(n)));
        if fsnap {
            volume = volume.with_fsnap();
        }
        let mut args: &[&str] = &[];
        if caches == Caches::Off {
            for cache in
                ["stat-prefetch", "quick-read", "io-cache", "open-behind", "read-ahead", "write-behind"]
            {
                volume = volume.option(&format!("performance.{cache}"), "off");
            }
            args = &["--attribute-timeout=0", "--entry-timeout=0", "--negative-timeout=0"];
        }
        let volume = volume.start();
        let mount = volume.mount_with(format!("/run/scene/{name}"), args);
        Mounted { mount, volume }
    }

    /// A directory on the first disk, outside of all bricks.
    pub fn raw(&self) -> PathBuf {
        let dir = self.disks[0].path().join("raw");
        fs::create_dir_all(&dir).expect("a directory");
        dir
    }

    /// The command `fsnap`, in the scene.
    pub fn fsnap(&self, args: &[&str]) -> Command {
        let mut command = self.scene.command(self.bring("fsnap", COMMAND));
        command.args(args);
        command
    }

    /// The program `fsnap-check`, in the scene.
    pub fn checker(&self, args: &[&str]) -> Command {
        let mut command = self.scene.command(self.bring("fsnap-check", CHECKER));
        command.args(args);
        command
    }

    /// Copies a program that was built beside this one into the scene.
    fn bring<'a>(&self, name: &str, to: &'a str) -> &'a str {
        let place = self.scene.path(to);
        if !place.exists() {
            let built = std::env::current_exe().expect("the path of this program").with_file_name(name);
            fs::copy(&built, place)
                .unwrap_or_else(|error| panic!("{}: {error}; `make build`", built.display()));
        }
        to
    }
}

impl Mounted {
    /// A path below the mount.
    pub fn path(&self, name: &str) -> PathBuf {
        self.mount.path().join(name)
    }

    /// A path below brick `n`.
    pub fn on_brick(&self, n: usize, name: &str) -> PathBuf {
        self.volume.brick_path(n).join(name)
    }

    /// The path that `name` has in the scene.
    pub fn inside(&self, name: &str) -> String {
        self.mount.at().join(name).display().to_string()
    }

    /// Makes a file of that size.
    pub fn file(&self, name: &str, bytes: u64) -> PathBuf {
        let path = self.path(name);
        fill(&path, bytes, 1);
        sync(&path);
        path
    }

    /// Allows a thousand snapshots of a file, or as many as this version of fsnap does by default if those are too many for it.
    pub fn allow_many(&self) {
        self.volume.set("user.xlator.fsnap.max-snapshots", "1000");
        self.volume.set("user.xlator.fsnap.min-free", "1");
        // Options come to the brick a moment later.
        std::thread::sleep(std::time::Duration::from_secs(2));
    }
}

/// Takes a snapshot by setxattr.
pub fn create(file: &Path, name: &str) -> Result<(), Errno> {
    setx(file, "glusterfs.fsnap.create", name)
}

/// Deletes a snapshot by setxattr.
pub fn delete(file: &Path, name: &str) {
    setx(file, "glusterfs.fsnap.delete", name).expect("a snapshot is deleted");
}

/// Takes snapshots `s0`, `s1`, … until there are `count`, or one is refused; returns how many there are.
pub fn create_many(file: &Path, count: u64) -> u64 {
    (0..count).find(|n| create(file, &format!("s{n}")).is_err()).unwrap_or(count)
}

/// Sets a small xattr of the user: one round trip, and a change that waits for no disk.
pub fn plain_set(file: &Path) {
    setx(file, "user.plain", "x").expect("an xattr");
}

/// Writes out a file.
pub fn sync(path: &Path) {
    File::open(path).and_then(|file| file.sync_all()).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}

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

/// Overwrites some blocks of 4 KiB, and fsyncs.
pub fn dirty(file: &Path, blocks: &[u64], seed: usize) {
    let file = OpenOptions::new().write(true).open(file).expect("a file to write to");
    for block in blocks {
        file.write_all_at(&[seed as u8; 4096], block * 4096).expect("a write");
    }
    file.sync_all().expect("fsync");
}

/// Gives the empty file `file` (a path in the scene, on the first disk) so many extents of 4 KiB, by sharing blocks of another
/// file in descending order.
pub fn fragment(scene: &Scene, file: &Path, extents: u64) {
    const BLOCK: u64 = 4096;
    let source = file.with_file_name("../fragments");
    let blocks = (extents / 4).max(2);
    fill(scene.path(&source), blocks * BLOCK, 1);
    let line = |n: u64| {
        let (from, to) = ((blocks - 1 - n % blocks) * BLOCK, n * BLOCK);
        format!("reflink -q {} {from} {to} {BLOCK}\n", source.display())
    };
    fs::write(scene.path("/run/private/reflink"), (0..extents).map(line).collect::<String>())
        .expect("a script");
    let script = r#"xfs_io -f "$0" </run/private/reflink >/dev/null && rm "$1" && sync -f "$0""#;
    run(scene.command("sh").args(["-c", script]).args([file, &source]));
}
