//! File systems of their own, on loop devices that go with the scene.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::wait::try_wait_until;
use crate::{Scene, run};

/// Scenes side by side compete for the next free loop device.
const ATTACH_WITHIN: Duration = Duration::from_secs(10);

/// What a disk is formatted with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fs {
    /// XFS with reflink. The image needs 300 MiB or more.
    Xfs,
    /// XFS with reflink and exchange-range, as `mkfs.xfs -i exchange=1` of xfsprogs 6.10 makes it. Kernels before 6.10 do
    /// not mount it. The image needs 300 MiB or more.
    XfsExchange,
    /// XFS made without reflink. The image needs 300 MiB or more.
    XfsNoReflink,
    /// Btrfs. The image needs 110 MiB or more.
    Btrfs,
    /// ext4: extended attributes, but no reflink.
    Ext4,
}

impl Fs {
    /// The type as `mount -t` and `/proc/mounts` know it.
    pub fn kind(self) -> &'static str {
        match self {
            Fs::Xfs | Fs::XfsExchange | Fs::XfsNoReflink => "xfs",
            Fs::Btrfs => "btrfs",
            Fs::Ext4 => "ext4",
        }
    }

    /// Whether this kernel mounts it.
    pub fn is_known(self) -> bool {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let mut numbers = release.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
        self != Fs::XfsExchange || (numbers.next(), numbers.next()) >= (Some(6), Some(10))
    }

    fn mkfs(self) -> &'static [&'static str] {
        match self {
            Fs::Xfs | Fs::XfsExchange => &["mkfs.xfs", "-q", "-K", "-m", "reflink=1"],
            Fs::XfsNoReflink => &["mkfs.xfs", "-q", "-K", "-m", "reflink=0"],
            Fs::Btrfs => &["mkfs.btrfs", "-q", "-K"],
            Fs::Ext4 => &["mkfs.ext4", "-q", "-F", "-E", "nodiscard"],
        }
    }
}

/// A mounted file system on a loop device. It stays mounted until the scene ends, unless it is unmounted.
pub struct Disk {
    /// An open device is not freed when it is unmounted, so that the disk can be mounted again.
    _device: Option<File>,
    device: PathBuf,
    fs: Fs,
    at: PathBuf,
    scene: Scene,
}

impl Scene {
    /// Makes a disk of `bytes` (sparse) and mounts it at the absolute path `at` of the scene.
    ///
    /// The image lies in the directory for temporary files and is unlinked as soon as it is mounted.
    ///
    /// # Panics
    /// If the file system cannot be made or mounted.
    pub fn disk(&self, fs: Fs, bytes: u64, at: impl AsRef<Path>) -> Disk {
        let image = self.next_image();
        self.disk_on(fs, bytes, at.as_ref(), &image, &image)
    }

    /// The same, with its image in memory: in the tmpfs that the scene has at `/run`.
    ///
    /// # Panics
    /// If the file system cannot be made or mounted.
    pub fn ram_disk(&self, fs: Fs, bytes: u64, at: impl AsRef<Path>) -> Disk {
        let image = self.next_image();
        let image = Path::new("/run/private").join(image.file_name().expect("a name"));
        self.disk_on(fs, bytes, at.as_ref(), &image, &self.path(&image))
    }

    /// A disk on the image that the scene knows as `image`, and the test process as `outside`.
    fn disk_on(&self, fs: Fs, bytes: u64, at: &Path, image: &Path, outside: &Path) -> Disk {
        let at = at.to_owned();
        File::create_new(outside)
            .and_then(|file| file.set_len(bytes))
            .unwrap_or_else(|error| panic!("cannot make a disk image {}: {error}", outside.display()));
        let [mkfs, args @ ..] = fs.mkfs() else { unreachable!("every file system has its mkfs") };
        run(self.command(mkfs).args(args).arg(image));
        if fs == Fs::XfsExchange {
            self.add_exchange(image);
        }
        fs::create_dir_all(self.path(&at)).expect("cannot make a mount point");
        self.attach(fs, image, &at);
        fs::remove_file(outside).expect("cannot unlink a disk image");
        let device = self.device_at(&at);
        let open = OpenOptions::new().read(true).open(&device).expect("cannot open a loop device");
        Disk { _device: Some(open), device, fs, at, scene: self.clone() }
    }

    /// The directory `at` in the root of an XFS that the scene has mounted, for a disk. It can't be unmounted.
    pub(crate) fn part_of_disk(&self, at: impl AsRef<Path>) -> Disk {
        let at = at.as_ref().to_owned();
        fs::create_dir_all(self.path(&at)).expect("cannot make a directory");
        let device = self.device_at(at.parent().expect("a directory in the root of a file system"));
        Disk { _device: None, device, fs: Fs::Xfs, at, scene: self.clone() }
    }

    /// Makes `count` disks, mounted at `/run/scene/b1`, `/run/scene/b2`, …
    pub fn disks(&self, count: usize, fs: Fs, bytes: u64) -> Vec<Disk> {
        (1..=count).map(|n| self.disk(fs, bytes, format!("/run/scene/b{n}"))).collect()
    }

    /// Sets the bit in the superblock of an XFS image that says so. Nothing else of the format differs.
    fn add_exchange(&self, image: &Path) {
        const EXCHRANGE: u64 = 1 << 6;
        let db = |args: &[&str]| run(self.command("xfs_db").args(args).arg(image)).stdout;
        let now = db(&["-r", "-c", "sb 0", "-c", "print features_incompat"]);
        let now = String::from_utf8_lossy(&now);
        let bits = now.trim().rsplit_once("0x").and_then(|(_, hex)| u64::from_str_radix(hex, 16).ok());
        let bits = bits.unwrap_or_else(|| panic!("xfs_db says {now}")) | EXCHRANGE;
        db(&["-x", "-c", "sb 0", "-c", &format!("write -d features_incompat {bits:#x}")]);
    }

    fn attach(&self, fs: Fs, image: &Path, at: &Path) {
        let mut complaint = String::new();
        let attached = try_wait_until("a loop device is attached", ATTACH_WITHIN, || {
            let output =
                self.mount_command(fs, image, at).args(["-o", "loop"]).output().expect("cannot run mount");
            complaint = String::from_utf8_lossy(&output.stderr).into_owned();
            let raced = complaint.contains("failed to setup loop device") || complaint.contains("busy");
            assert!(output.status.success() || raced, "cannot mount a {fs:?} disk: {complaint}");
            output.status.success()
        });
        attached.unwrap_or_else(|error| panic!("{error}: {complaint}"));
    }

    fn mount_command(&self, fs: Fs, source: &Path, at: &Path) -> Command {
        let mut command = self.command("mount");
        command.args(["-t", fs.kind()]).arg(source).arg(at);
        command
    }

    /// The device that is mounted at `at`.
    fn device_at(&self, at: &Path) -> PathBuf {
        let mounts = fs::read_to_string(format!("/proc/{}/mounts", self.pid())).expect("no mount table");
        let device = mounts.lines().rev().find_map(|line| {
            let mut fields = line.split(' ');
            let device = fields.next()?;
            (Path::new(fields.next()?) == at).then(|| PathBuf::from(device))
        });
        device.unwrap_or_else(|| panic!("nothing is mounted at {}:\n{mounts}", at.display()))
    }
}

impl Disk {
    /// The scene that the disk is mounted in.
    pub fn scene(&self) -> &Scene {
        &self.scene
    }

    /// Where the disk is mounted, as seen inside the scene.
    pub fn at(&self) -> &Path {
        &self.at
    }

    /// Where the test process finds the disk's root.
    pub fn path(&self) -> PathBuf {
        self.scene.path(&self.at)
    }

    /// The loop device.
    pub fn device(&self) -> &Path {
        &self.device
    }

    /// What the disk is formatted with.
    pub fn fs(&self) -> Fs {
        self.fs
    }

    /// Unmounts the disk; what is on it stays for [`Disk::mount`].
    ///
    /// # Panics
    /// If it is busy.
    pub fn unmount(&self) {
        run(self.scene.command("umount").arg(&self.at));
    }

    /// Mounts an unmounted disk again, with mount options such as `ro` or an empty string.
    ///
    /// # Panics
    /// If the file system cannot be mounted.
    pub fn mount(&self, options: &str) {
        let mut command = self.scene.mount_command(self.fs, &self.device, &self.at);
        if !options.is_empty() {
            command.args(["-o", options]);
        }
        run(&mut command);
    }

    /// What a power cut does to an XFS disk: everything that was not synced is lost. No process may have the disk open.
    ///
    /// # Panics
    /// If the disk is busy or not XFS.
    pub fn power_cut(&self) {
        assert_eq!(self.fs.kind(), "xfs", "only XFS can be shut down");
        run(self.scene.command("xfs_io").args(["-x", "-c", "shutdown"]).arg(&self.at));
        self.unmount();
        self.mount("");
    }
}
