//! Disks that are full.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::unistd::syncfs;

use crate::{Disk, Fs, run, setx};

/// What nothing is left of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Full {
    /// Space: not one block.
    Blocks,
    /// Inodes, of which XFS makes a certain number. Of btrfs it is the space for metadata, and that for data as well.
    Inodes,
}

impl Disk {
    /// Lets XFS make so few inodes that all are soon made: 1 % of the disk.
    ///
    /// # Panics
    /// If it can't be set.
    pub fn limit_inodes(&self) {
        if self.fs().kind() == "xfs" {
            run(self.scene().command("xfs_growfs").args(["-m", "1"]).arg(self.at()));
        }
    }

    /// Writes out all that is not on the disk yet.
    ///
    /// # Panics
    /// If that fails.
    pub fn sync(&self) {
        syncfs(File::open(self.path()).expect("cannot open a disk")).expect("syncfs");
    }

    /// Fills the disk by files in its root; returns the directory that they are in. May be repeated, when there is room again.
    ///
    /// # Panics
    /// If it can't be filled.
    pub fn fill(&self, full: Full) -> PathBuf {
        let dir = self.path().join("filler");
        fs::create_dir_all(&dir).expect("cannot make a directory");
        if full == Full::Inodes {
            self.limit_inodes();
        }
        fill_up(&dir, self.fs(), full);
        dir
    }
}

/// Fills the disk, or volume of such disks, that the directory `dir` is on, by files in it.
///
/// # Panics
/// If it can't be filled.
pub fn fill_up(dir: &Path, fs: Fs, full: Full) {
    if full == Full::Blocks || fs == Fs::Btrfs {
        fill_blocks(&dir.join("blocks"));
    }
    if full == Full::Inodes {
        fill_inodes(dir, if fs == Fs::Btrfs { 100 } else { 0 });
        // Btrfs may have got some of its own back since.
        syncfs(File::open(dir).expect("cannot open a directory")).expect("syncfs");
        fill_inodes(dir, 0);
    }
}

fn fill_blocks(at: &Path) {
    const BLOCK: i64 = 4096;
    let file = File::options().write(true).create(true).truncate(false).open(at).expect("cannot make a file");
    let (mut offset, mut size) = (0, BLOCK << 14);
    while size >= BLOCK {
        match fallocate(&file, FallocateFlags::empty(), offset, size) {
            Ok(()) => offset += size,
            Err(Errno::ENOSPC) => size /= 4,
            Err(Errno::EINTR) => {}
            Err(e) => panic!("cannot fill the disk: {e}"),
        }
    }
}

/// How many files can be half made before nothing is left.
const HALF_MADE: u32 = 1000;

/// Makes files with so many xattrs until none can be made.
fn fill_inodes(dir: &Path, xattrs: u32) {
    let value = [1; 3000];
    let mut half = 0;
    for n in 0.. {
        let at = dir.join(format!("{xattrs}-{n}"));
        let made = File::create(&at)
            .map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or_default()))
            .and_then(|_| (0..xattrs).try_for_each(|n| setx(&at, format!("user.{n}"), value)));
        match made {
            Ok(()) => {}
            Err(Errno::ENOSPC) => return,
            // What GlusterFS answers of a file that it could only half make, or on too few bricks: on others something is left.
            Err(Errno::ENOENT | Errno::ESTALE | Errno::ENOTCONN) if half < HALF_MADE => half += 1,
            Err(e) => panic!("cannot fill the disk: {e}"),
        }
    }
}
