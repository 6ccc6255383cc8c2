//! Reaching files by their gfid, through the handles that storage/posix keeps. Everything on the disk is taken for
//! what it is, bytes that anybody may have written: no symlink is ever followed, no device ever opened for I/O.

use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use fsnap_core::gfid2path::Link;
use fsnap_core::record::PAYLOAD;
use fsnap_core::{Error, Gfid, Result};
use nix::NixPath;
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2, readlinkat};
use nix::sys::stat::{FileStat, Mode, fstat};
use nix::sys::statfs::{XFS_SUPER_MAGIC, fstatfs};
use nix::sys::statvfs::fstatvfs;

use crate::sys::{self, DIR, Doing, STEP, open_in, same_inode};
use crate::xattrs::{self, XattrNames};

/// The directory in a brick's root that holds what is GlusterFS's own.
pub(crate) const GLUSTERFS: &str = ".glusterfs";

/// No directory lies deeper than this: a name and its slash take two bytes at least, a path ends at 4096.
pub(crate) const MAX_DEPTH: usize = 2048;
/// How often a walk is tried again that a rename has made stumble.
const TRIES: u32 = 5;

/// A brick's root directory.
pub(crate) struct BrickDir {
    pub root: File,
    /// `.glusterfs`.
    pub glusterfs: File,
    /// See [`BrickDir::settle`].
    pub ordered: bool,
    /// Whether the kernel resolves a path without following symlinks (openat2, Linux 5.6; some containers forbid it).
    resolves: bool,
}

/// An open regular file whose gfid was checked.
pub(crate) struct OpenFile {
    pub file: File,
    pub stat: FileStat,
    pub gfid: Gfid,
}

/// What a file is opened for.
#[derive(Clone, Copy)]
pub(crate) enum Access {
    Read,
    Write,
}

/// An open directory whose gfid was checked.
pub(crate) struct OpenDir {
    pub file: File,
    pub gfid: Gfid,
    /// Its way up to the root: each directory's place, its own first.
    pub way: Vec<Link>,
}

impl BrickDir {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let root = open(path, flags, Mode::empty()).map(File::from).doing("open the brick")?;
        match open_in(&root, GLUSTERFS, DIR) {
            Ok(glusterfs) => {
                let ordered = fstatfs(&root).doing("statfs")?.filesystem_type() == XFS_SUPER_MAGIC;
                let resolves = resolve(&root, GLUSTERFS, DIR).is_ok();
                Ok(BrickDir { root, glusterfs, ordered, resolves })
            }
            Err(Errno::ENOENT) => {
                Err(Error::unsupported("this directory is no brick: there is no .glusterfs in it"))
            }
            Err(e) => Err(e).doing("open .glusterfs"),
        }
    }

    /// Makes a step durable before the next one is taken, where the file system needs to be told.
    ///
    /// The log of XFS is one sequence: an fsync of the last step makes all steps before it durable, whichever files
    /// they were on, and a crash can only take them away from the end. Nobody else promises that. An fsync on btrfs
    /// makes one file durable, ahead of everything else that was done before, so there each step needs its own.
    #[track_caller]
    pub(crate) fn settle(&self, what: &File) -> Result<()> {
        if self.ordered { Ok(()) } else { sys::sync(what) }
    }

    /// The free space, in percent of all.
    pub(crate) fn free_percent(&self) -> Result<u64> {
        let fs = fstatvfs(&self.root).doing("statvfs")?;
        Ok((u128::from(fs.blocks_available()) * 100 / u128::from(fs.blocks()).max(1)) as u64)
    }

    /// The directory of the brick that holds the handle of `gfid`. [`Error::Gone`] if there is none.
    pub(crate) fn handle_dir(&self, gfid: Gfid) -> Result<File> {
        let [one, two, ..] = gfid.as_bytes();
        let opened = match self.resolves {
            true => resolve(&self.glusterfs, format!("{one:02x}/{two:02x}").as_str(), DIR),
            false => open_in(&self.glusterfs, hex(*one).as_str(), STEP)
                .and_then(|first| open_in(first, hex(*two).as_str(), DIR)),
        };
        match opened {
            Ok(dir) => Ok(dir),
            Err(Errno::ENOENT) => Err(Error::Gone),
            Err(e) => Err(e).doing("open the directory of a gfid handle"),
        }
    }

    /// The same, made if it is not there.
    pub(crate) fn make_handle_dir(&self, gfid: Gfid) -> Result<File> {
        let [one, two, ..] = gfid.as_bytes();
        let first = ensure_dir(&self.glusterfs, &hex(*one))?;
        let second = ensure_dir(&first, &hex(*two))?;
        self.settle(&self.glusterfs)?;
        self.settle(&first)?;
        Ok(second)
    }

    /// Opens a regular file. [`Error::Gone`] if it is not there, [`Error::NotRegular`] if it is something else,
    /// [`Error::Damaged`] if it is another file than its handle says.
    pub(crate) fn open_file(&self, gfid: Gfid, access: Access) -> Result<OpenFile> {
        let inode = match self.resolves {
            true => open_regular(&self.root, gfid.handle().as_os_str().as_bytes(), access, resolve)?,
            false => open_leaf(&self.handle_dir(gfid)?, gfid.to_string().as_bytes(), access)?,
        };
        let (file, stat) = inode.ok_or(Error::Gone)?;
        expect_gfid(&file, gfid)?;
        Ok(OpenFile { file, stat, gfid })
    }

    /// Opens a directory. [`Error::Gone`] if it is not there (any more), `ENOTDIR` if it is something else,
    /// [`Error::Damaged`] if it is another one than its handle says.
    ///
    /// Its handle is a symlink through the handles of all directories above it. The kernel gives up after 40 of
    /// those, and would follow any other symlink as well: so the links are read here, one by one up to the root, and
    /// the way back down is gone by their names. A rename in between can lead astray: hence the gfid at the end and
    /// the further tries.
    pub(crate) fn open_dir(&self, gfid: Gfid) -> Result<OpenDir> {
        let mut tries = 0;
        loop {
            match self.walk(gfid) {
                Err(Error::Gone | Error::Damaged(_)) if tries < TRIES => {
                    std::thread::sleep(Duration::from_millis(tries.into()));
                    tries += 1;
                }
                other => return other,
            }
        }
    }

    fn walk(&self, gfid: Gfid) -> Result<OpenDir> {
        let way = self.way_up(gfid)?;
        let opened = match self.resolves {
            true => match resolve(&self.root, way_down(&way).as_slice(), DIR) {
                Err(Errno::ENAMETOOLONG) => self.walk_down(&way),
                other => other,
            },
            false => self.walk_down(&way),
        };
        let file = match opened {
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => return Err(Error::Gone),
            other => other.doing("open a directory")?,
        };
        expect_gfid(&file, gfid)?;
        Ok(OpenDir { file, gfid, way })
    }

    /// Name by name.
    fn walk_down(&self, way: &[Link]) -> nix::Result<File> {
        let mut at = open_in(&self.root, ".", DIR)?;
        for (left, link) in way.iter().enumerate().rev() {
            at = open_in(&at, link.name.as_slice(), if left == 0 { DIR } else { STEP })?;
        }
        Ok(at)
    }

    /// Opens what `path` leads to from the root, without a symlink on the way, in one step; `None` if that can't be, or it is none that
    /// begins with a slash and has neither `.` nor `..`.
    pub(crate) fn resolve(&self, path: &[u8], flags: OFlag) -> Option<nix::Result<File>> {
        let plain = path.is_empty() || path.first() == Some(&b'/');
        let dots = path.split(|&byte| byte == b'/').any(|name| name == b"." || name == b"..");
        (self.resolves && plain && !dots)
            .then(|| resolve(&self.root, [b".", path].concat().as_slice(), flags))
    }

    /// Whether there may be something at `path` from the root.
    pub(crate) fn may_be(&self, path: &[u8]) -> bool {
        !matches!(self.resolve(path, OFlag::O_PATH | OFlag::O_NOFOLLOW), Some(Err(Errno::ENOENT)))
    }

    fn way_up(&self, gfid: Gfid) -> Result<Vec<Link>> {
        let mut way = Vec::new();
        let mut at = gfid;
        while at != Gfid::ROOT {
            if way.len() == MAX_DEPTH {
                return Err(Error::Damaged(format!("the handles above {gfid} never reach the root")));
            }
            let link = self.soft_handle_of(at)?;
            let link =
                link.ok_or_else(|| Error::Damaged(format!("{at} is not the handle of a directory")))?;
            at = link.parent;
            way.push(link);
        }
        Ok(way)
    }

    /// Where the directory `gfid` is, as its handle tells; `None` if that has an impossible text. [`Error::Gone`] if there
    /// is none, `ENOTDIR` if it is no symlink.
    pub(crate) fn soft_handle_of(&self, gfid: Gfid) -> Result<Option<Link>> {
        match readlinkat(&self.root, &gfid.handle()) {
            Ok(target) => Ok(Link::decode_soft_handle(target.as_bytes())),
            Err(Errno::ENOENT) => Err(Error::Gone),
            Err(Errno::EINVAL) => Err(Errno::ENOTDIR).doing("not a directory"),
            Err(e) => Err(e).doing("read the handle of a directory"),
        }
    }

    /// Whether what has the handle of `gfid` has xattrs that start with `prefix`, which is in `trusted.`, by one system call: so
    /// it looks neither at the kind of file nor at the way to it. (If there are too many for that, only files have any.)
    /// [`Error::Gone`] if there is nothing.
    pub(crate) fn may_have_xattrs(&self, gfid: Gfid, prefix: &str) -> Result<bool> {
        match xattr::list(xattrs::path_in(&self.root, gfid.handle().as_os_str().as_bytes())) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(Error::Gone),
            Err(e) if e.raw_os_error() == Some(libc::E2BIG) => match self.open_file(gfid, Access::Read) {
                Err(Error::NotRegular) => Ok(false),
                other => Ok(XattrNames::of(&other?.file)?.raw_starting(prefix).next().is_some()),
            },
            other => {
                let mut names = other.doing("listxattr")?;
                Ok(names.any(|name| name.as_bytes().starts_with(prefix.as_bytes())))
            }
        }
    }
}

impl OpenFile {
    /// Whether it carries the record of a snapshot, whatever that says.
    pub(crate) fn has_record(&self) -> Result<bool> {
        Ok(xattrs::get(&self.file, PAYLOAD)?.is_some())
    }
}

impl OpenDir {
    /// Whether it is a `.fsnap`.
    pub(crate) fn is_snap_dir(&self) -> bool {
        self.way.first().is_some_and(|place| place.parent.snap_dir() == self.gfid)
    }

    /// Whether it is, or lies in, where the replicate translator puts files that it can't find a name for.
    /// Source: `AFR_ANON_DIR_PREFIX` of cluster/afr.
    pub(crate) fn is_anonymous(&self) -> bool {
        self.way.last().is_some_and(|top| top.name.starts_with(b".glusterfs-anonymous-inode"))
    }

    /// [`Error::ReadOnly`] or [`Error::Unsupported`] if no `.fsnap` may be made in here.
    pub(crate) fn may_have_snapshots(&self) -> Result<()> {
        let gfids = std::iter::once(self.gfid).chain(self.way.iter().map(|link| link.parent));
        if gfids.zip(&self.way).any(|(gfid, link)| gfid == link.parent.snap_dir()) {
            return Err(Error::ReadOnly("there are no snapshots within .fsnap"));
        }
        if self.is_anonymous() || self.way.last().is_some_and(|top| top.name == GLUSTERFS.as_bytes()) {
            return Err(Error::unsupported("what is GlusterFS's own has no snapshots"));
        }
        Ok(())
    }
}

/// Opens the regular file `name` in `dir`; `None` if there is nothing, [`Error::NotRegular`] if it is another thing.
pub(crate) fn open_leaf(dir: &File, name: &[u8], access: Access) -> Result<Option<(File, FileStat)>> {
    open_regular(dir, name, access, |dir, name, flags| open_in(dir, name, flags))
}

/// The same of what is at `path` from `dir`, by `open`.
fn open_regular(
    dir: &File,
    path: &[u8],
    access: Access,
    open: impl Fn(&File, &[u8], OFlag) -> nix::Result<File>,
) -> Result<Option<(File, FileStat)>> {
    // Looked at before it is opened: opening a device or a FIFO can have effects of its own. What `open` would not go through leads to
    // another inode.
    let seen = match sys::stat_in(dir, path)? {
        None => return Ok(None),
        Some(seen) if sys::kind(&seen) != libc::S_IFREG => return Err(Error::NotRegular),
        Some(seen) => seen,
    };
    let mode = match access {
        Access::Read => OFlag::O_RDONLY,
        Access::Write => OFlag::O_RDWR,
    };
    let file = match open(dir, path, mode | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK) {
        Err(Errno::ENOENT) => return Ok(None),
        other => other.doing("open")?,
    };
    let stat = fstat(&file).doing("stat")?;
    if same_inode(&seen, &stat) { Ok(Some((file, stat))) } else { Err(Error::Gone) }
}

/// Opens the directory `name`, and makes it if it is not there.
#[track_caller]
pub(crate) fn ensure_dir(parent: &File, name: &str) -> Result<File> {
    match open_in(parent, name, DIR) {
        Err(Errno::ENOENT) => {}
        other => return other.doing("open a directory"),
    }
    match sys::make_dir(parent, name) {
        Ok(()) | Err(Errno::EEXIST) => open_in(parent, name, DIR).doing("open a directory"),
        Err(e) => Err(e).doing("mkdir"),
    }
}

fn expect_gfid(file: &File, gfid: Gfid) -> Result<()> {
    match xattrs::gfid(file)? {
        Some(found) if found == gfid => Ok(()),
        Some(found) => Err(Error::Damaged(format!("the handle of {gfid} leads to {found}"))),
        None => Err(Error::Damaged(format!("the handle of {gfid} leads to a file without a gfid"))),
    }
}

/// The path from the brick's root that `way` leads back on.
fn way_down(way: &[Link]) -> Vec<u8> {
    let mut path = b".".to_vec();
    for link in way.iter().rev() {
        path.push(b'/');
        path.extend(&link.name);
    }
    path
}

/// Opens what is at `path` from `dir`: no symlink is followed on the way, and it leads nowhere else.
fn resolve<P: NixPath + ?Sized>(dir: &File, path: &P, flags: OFlag) -> nix::Result<File> {
    let how = ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_BENEATH;
    let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(how);
    openat2(dir, path, how).map(File::from)
}

fn hex(byte: u8) -> String {
    format!("{byte:02x}")
}
