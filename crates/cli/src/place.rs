//! Files and directories on mounts of GlusterFS, held as what they were when they were looked for.
//!
//! Whoever runs the command may be root, and the directories that a path goes through somebody else's: between two looks at one path
//! there may be a link, a FIFO or another file. So a path is looked at once, without opening anything (`O_PATH`), and whatever
//! follows is done to what was found then, by its descriptor.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use fsnap_core::{Gfid, SNAP_DIR};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, StatxFlags, openat2, statx};

use crate::mount::{self, Mount};

/// The longest that is read of what a client says of its graph, in bytes.
const LONGEST_GRAPH: u64 = 16 << 20;

/// A file or directory on a mount of GlusterFS that may be trusted.
#[derive(Debug)]
pub struct Place {
    held: Held,
    mount: Mount,
}

/// Something, wherever it is.
#[derive(Debug)]
pub struct Held {
    file: File,
    inode: u64,
    kind: FileType,
    mount_id: u64,
}

impl Held {
    /// What `path` leads to, through symbolic links.
    pub fn at(path: &Path) -> io::Result<Held> {
        Self::open(path, OFlags::empty())
    }

    fn open(path: &Path, flags: OFlags) -> io::Result<Held> {
        let flags = (OFlags::PATH | flags).bits().cast_signed();
        Self::of(OpenOptions::new().read(true).custom_flags(flags).open(path)?)
    }

    fn of(file: File) -> io::Result<Held> {
        // What does not change of a file, and is known: the brick is not asked, where that may have to wait for somebody.
        let (how, what) =
            (AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC, StatxFlags::TYPE | StatxFlags::INO);
        let stat = statx(&file, c"", how, what | StatxFlags::MNT_ID)?;
        let kind = FileType::from_raw_mode(stat.stx_mode.into());
        Ok(Held { file, inode: stat.stx_ino, kind, mount_id: stat.stx_mnt_id })
    }

    /// Its path without symbolic links, as the kernel has it now.
    pub fn path(&self) -> io::Result<PathBuf> {
        fs::read_link(self.by_descriptor())
    }

    /// Leads to it, whatever its path is by now.
    fn by_descriptor(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.file.as_raw_fd()).into()
    }
}

impl Place {
    /// What `path` leads to, through symbolic links.
    ///
    /// `InvalidInput` with a text if that is on no mount of GlusterFS that may be trusted.
    pub fn at(path: &Path) -> io::Result<Place> {
        Self::of(Held::at(path)?)
    }

    /// The same of what is held already.
    pub fn of(held: Held) -> io::Result<Place> {
        let mount = mount::trusted(&fs::read("/proc/self/mountinfo")?, held.mount_id)?;
        Ok(Place { held, mount })
    }

    /// What this directory has under `name`, itself: if it is a symbolic link, that. `EXDEV` if something is mounted there.
    pub fn below(&self, name: &OsStr) -> io::Result<Place> {
        let held = Held::open(&self.by_descriptor().join(name), OFlags::NOFOLLOW)?;
        match held.mount_id == self.held.mount_id {
            true => Ok(Place { held, mount: self.mount.clone() }),
            false => Err(io::Error::from_raw_os_error(nix::libc::EXDEV)),
        }
    }

    /// What `path` leads to from this directory, below it and through no symbolic link, nor another mount.
    pub fn beneath(&self, path: &Path) -> io::Result<Place> {
        let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let dir = openat2(&self.held.file, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), how)?;
        let held = Held::of(File::from(dir))?;
        Ok(Place { held, mount: self.mount.clone() })
    }

    /// The directory that this directory is in.
    pub fn above(&self) -> io::Result<Place> {
        self.below(OsStr::new(".."))
    }

    /// Its mount.
    pub fn mount(&self) -> &Mount {
        &self.mount
    }

    /// Leads to it, whatever its path is by now.
    pub fn by_descriptor(&self) -> PathBuf {
        self.held.by_descriptor()
    }

    /// Its path without symbolic links.
    pub fn path(&self) -> io::Result<PathBuf> {
        self.held.path()
    }

    /// Its path from the root of the volume.
    pub fn in_volume(&self) -> io::Result<PathBuf> {
        Ok(self.mount.in_volume(&self.path()?))
    }

    /// The same from the root of the client.
    pub fn in_client(&self) -> io::Result<PathBuf> {
        Ok(self.mount.in_client(&self.path()?))
    }

    /// What the client of the mount says of its graph, as a volfile (`.meta/graphs/active/volfile`). `EINVAL` if it is not at the root of
    /// the volume that it is mounted, where that is.
    pub fn client_graph(&self) -> io::Result<String> {
        let Mount { root, point, .. } = &self.mount;
        let whole = self.mount.volume().is_some_and(|volume| volume.subdir == Path::new("/"));
        let top = Place::at(point)?;
        if !whole || root != Path::new("/") || top.held.mount_id != self.held.mount_id {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let how = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = openat2(&top.held.file, ".meta/graphs/active/volfile", flags, Mode::empty(), how)?;
        let mut text = String::new();
        File::from(file).take(LONGEST_GRAPH).read_to_string(&mut text)?;
        Ok(text)
    }

    /// Has the mount look for it by the path that it has now, if that is as long ago as the kernel remembers names.
    pub fn look_again(&self) {
        let point = &self.mount.point;
        let looked = self.path().and_then(|path| {
            let below = path.strip_prefix(point).map_err(|_| io::ErrorKind::NotFound)?;
            Place::at(point)?.beneath(below)
        });
        // It may have been renamed meanwhile.
        drop(looked);
    }

    /// Whether it is a regular file. Only such are opened: another would do something.
    pub fn is_regular(&self) -> bool {
        self.held.kind == FileType::RegularFile
    }

    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.held.kind == FileType::Directory
    }

    /// The number of its inode.
    pub fn inode(&self) -> u64 {
        self.held.inode
    }

    /// Whether it may have this gfid, of which GlusterFS makes inode numbers (`gfid_to_ino`): with the mount option enable-ino32 of
    /// 32 bits.
    pub fn may_be(&self, gfid: Gfid) -> bool {
        let [.., a, b, c, d, e, f, g, h] = *gfid.as_bytes();
        let long = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
        let short = (long >> 32) ^ (long & u64::from(u32::MAX));
        [long, short].contains(&self.held.inode)
    }
}

/// Whether the last part of the path is the directory of snapshots.
pub fn is_snap_dir(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_bytes() == SNAP_DIR.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_no_volume_is_told() {
        let error = Place::at(Path::new("/proc/self/status")).unwrap_err();
        assert!(error.to_string().contains("on no GlusterFS mount (but on proc at /proc)"), "{error}");
        assert_eq!(Place::at(Path::new("/nowhere/f")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    /// Looking at it neither waits nor does anything.
    #[test]
    fn a_fifo_is_looked_at() {
        let dir = std::env::temp_dir().join(format!("fsnap-place-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        let fifo = dir.join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let held = Held::at(&fifo).unwrap();
        fs::rename(&fifo, dir.join("other")).unwrap();
        assert_eq!((held.kind, held.path().unwrap()), (FileType::Fifo, dir.join("other")));
        fs::remove_dir_all(&dir).unwrap();
    }
}
