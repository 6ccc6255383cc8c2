//! Volumes to measure on: in one scene, on the same disks, so that they differ only in what is compared.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use fsnap_testbed::{Disk, Errno, Fs, Mount, Scene, Volume, VolumeType, fill, run, setx, translator_path};

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
