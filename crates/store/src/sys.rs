//! System calls with names that may be any bytes, and with errors that say what was tried.

use std::fs::File;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use fsnap_core::{Error, Result};
use nix::NixPath;
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{
    AT_FDCWD, AtFlags, FallocateFlags, OFlag, RenameFlags, fallocate, openat, renameat, renameat2,
};
use nix::sys::stat::{FileStat, Mode, UtimensatFlags, fstatat, mkdirat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{UnlinkatFlags, fsync, ftruncate, linkat, symlinkat, unlinkat};

use crate::fault;

/// Makes a change to the disk, again for as long as the reserve [gives way](crate::reserve::yields) for it.
macro_rules! change {
    ($what:literal, $call:expr) => {
        loop {
            match $crate::fault::point($what).and_then(|()| $call) {
                Err(errno) if $crate::reserve::yields(errno) => {}
                other => break other,
            }
        }
    };
}
pub(crate) use change;

/// Opens a directory for reading, never through a symlink.
pub(crate) const DIR: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);
/// Opens a directory only to go on from it: needs no I/O, wakes no automounter.
pub(crate) const STEP: OFlag = DIR.union(OFlag::O_PATH);

/// Says what was tried when a system call failed.
pub(crate) trait Doing<T> {
    fn doing(self, what: &'static str) -> Result<T>;
}

impl<T> Doing<T> for nix::Result<T> {
    fn doing(self, what: &'static str) -> Result<T> {
        self.map_err(|errno| Error::Os { what, errno: errno as i32 })
    }
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, what: &'static str) -> Result<T> {
        self.map_err(|e| Error::Os { what, errno: e.raw_os_error().unwrap_or(libc::EIO) })
    }
}

/// openat without a mode: for everything but `O_CREAT` and `O_TMPFILE`.
pub(crate) fn open_in<P: NixPath + ?Sized>(dir: impl AsFd, name: &P, flags: OFlag) -> nix::Result<File> {
    openat(dir, name, flags | OFlag::O_CLOEXEC, Mode::empty()).map(File::from)
}

/// A file without a name in the file system of `dir`, which nobody else can open until it is linked.
#[track_caller]
pub(crate) fn nameless(dir: impl AsFd) -> nix::Result<File> {
    fault::point("O_TMPFILE")?;
    let flags = OFlag::O_TMPFILE | OFlag::O_RDWR | OFlag::O_CLOEXEC;
    openat(dir, ".", flags, Mode::S_IRUSR | Mode::S_IWUSR).map(File::from)
}

/// Writes all of `bytes`.
#[track_caller]
pub(crate) fn write(mut file: &File, bytes: &[u8]) -> io::Result<()> {
    fault::point("write")?;
    file.write_all(bytes)
}

/// Opens the file `name` for writing, and makes it, for root alone, if it is not there.
#[track_caller]
pub(crate) fn make_file(dir: &File, name: &str) -> nix::Result<File> {
    let flags = OFlag::O_CREAT | OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    change!("O_CREAT", openat(dir, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)).map(File::from)
}

/// Gives the file its first `size` bytes of space, without a content.
#[track_caller]
pub(crate) fn allocate(file: &File, size: i64) -> nix::Result<()> {
    change!("fallocate", fallocate(file, FallocateFlags::empty(), 0, size))
}

/// Makes the file `size` bytes long.
#[track_caller]
pub(crate) fn truncate(file: &File, size: i64) -> nix::Result<()> {
    change!("ftruncate", ftruncate(file, size))
}

/// Makes a directory that only root may enter.
#[track_caller]
pub(crate) fn make_dir<P: NixPath + ?Sized>(dir: impl AsFd, name: &P) -> nix::Result<()> {
    change!("mkdir", mkdirat(&dir, name, Mode::S_IRWXU))
}

/// Removes an empty directory.
#[track_caller]
pub(crate) fn remove_dir<P: NixPath + ?Sized>(dir: impl AsFd, name: &P) -> nix::Result<()> {
    change!("rmdir", unlinkat(&dir, name, UnlinkatFlags::RemoveDir))
}

/// Makes a symlink. `EEXIST` if its name is taken.
#[track_caller]
pub(crate) fn symlink<P: NixPath + ?Sized>(text: &[u8], dir: impl AsFd, name: &P) -> nix::Result<()> {
    change!("symlink", symlinkat(text, &dir, name))
}

/// Gives the symlink `name` the mtime of `of`.
#[track_caller]
pub(crate) fn set_mtime(dir: impl AsFd, name: &str, of: &FileStat) -> nix::Result<()> {
    let (atime, mtime) = (TimeSpec::UTIME_OMIT, TimeSpec::new(of.st_mtime, of.st_mtime_nsec));
    change!("utimensat", utimensat(&dir, name, &atime, &mtime, UtimensatFlags::NoFollowSymlink))
}

/// Renames what has the name `old`. `EEXIST` if the new name is taken.
#[track_caller]
pub(crate) fn rename<P: NixPath + ?Sized, Q: NixPath + ?Sized>(
    (from, old): (&File, &P),
    (to, new): (&File, &Q),
) -> nix::Result<()> {
    change!("rename", renameat2(from, old, to, new, RenameFlags::RENAME_NOREPLACE))
}

/// The same, over what has the new name.
#[track_caller]
pub(crate) fn replace((from, old): (&File, &str), (to, new): (&File, &str)) -> nix::Result<()> {
    change!("rename", renameat(from, old, to, new))
}

/// Gives a [`nameless`] file its name. `EEXIST` if that is taken.
#[track_caller]
pub(crate) fn give_name<P: NixPath + ?Sized>(file: &File, dir: impl AsFd, name: &P) -> nix::Result<()> {
    let unnamed = format!("/proc/self/fd/{}", file.as_raw_fd());
    change!("link", linkat(AT_FDCWD, unnamed.as_str(), &dir, name, AtFlags::AT_SYMLINK_FOLLOW))
}

/// Gives what has the name `name` in `from` the same one in `to`; a symlink is not followed. `EEXIST` if that is taken.
#[track_caller]
pub(crate) fn link_into(from: &File, to: &File, name: &str) -> nix::Result<()> {
    change!("link", linkat(from, name, to, name, AtFlags::empty()))
}

/// Gives what has the name `old` one more. `EEXIST` if that is taken.
#[track_caller]
pub(crate) fn link<P: NixPath + ?Sized, Q: NixPath + ?Sized>(
    (from, old): (&File, &P),
    (to, new): (&File, &Q),
) -> nix::Result<()> {
    change!("link", linkat(from, old, to, new, AtFlags::empty()))
}

/// The names in a directory, without `.` and `..`.
pub(crate) fn names_in(dir: &File) -> Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    each_name(dir, |name| {
        names.push(name.to_vec());
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(names)
}

/// Calls `look` for one name after the other in a directory, `.` and `..` left out, until it breaks.
pub(crate) fn each_name(dir: &File, mut look: impl FnMut(&[u8]) -> Result<ControlFlow<()>>) -> Result<()> {
    let mut listing = Dir::openat(dir, ".", DIR, Mode::empty()).doing("open a directory")?;
    for entry in listing.iter() {
        let entry = entry.doing("read a directory")?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." && look(name)?.is_break() {
            break;
        }
    }
    Ok(())
}

/// fstatat that does not follow a symlink; `None` if nothing is there.
pub(crate) fn stat_in<P: NixPath + ?Sized>(dir: impl AsFd, name: &P) -> Result<Option<FileStat>> {
    match fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::ENOENT) => Ok(None),
        Err(e) => Err(e).doing("stat"),
    }
}

/// Unlinks `name` if it is there.
#[track_caller]
pub(crate) fn unlink_in<P: NixPath + ?Sized>(dir: impl AsFd, name: &P) -> Result<()> {
    match change!("unlink", unlinkat(&dir, name, UnlinkatFlags::NoRemoveDir)) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(e) => Err(e).doing("unlink"),
    }
}

/// Unlinks `name` if it is the inode that `stat` is of; whether it was.
#[track_caller]
pub(crate) fn unlink_if_same<P: NixPath + ?Sized>(dir: impl AsFd, name: &P, stat: &FileStat) -> Result<bool> {
    let same = stat_in(&dir, name)?.is_some_and(|there| same_inode(&there, stat));
    if same {
        unlink_in(dir, name)?;
    }
    Ok(same)
}

pub(crate) fn same_inode(a: &FileStat, b: &FileStat) -> bool {
    (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)
}

/// The file type bits of `stat`, one of the `S_IF…`.
pub(crate) fn kind(stat: &FileStat) -> u32 {
    stat.st_mode & libc::S_IFMT
}

/// fsync, of a file or a directory.
#[track_caller]
pub(crate) fn sync(file: &File) -> Result<()> {
    fault::point("fsync").and_then(|()| fsync(file)).doing("fsync")
}

/// A name that no other thread, process or boot has given.
pub(crate) fn unique(prefix: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    // A clock before 1970 is no reason to fail: the process id and the count still tell names apart.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    format!("{prefix}-{now}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}
