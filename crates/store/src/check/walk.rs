//! The brick's tree, walked once. Nothing of it is kept but what is fsnap's.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use fsnap_core::catalogue::{PAGE_PREFIX, Page};
use fsnap_core::record::{PAYLOAD, PayloadRecord, SEQ};
use fsnap_core::{Error, Gfid, Result, SNAP_DIR};
use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, fstat};

use super::problem::{Problem, ProblemKind};
use crate::brick::{Access, BrickDir, GLUSTERFS, MAX_DEPTH, open_leaf};
use crate::sys::{self, DIR, Doing, STEP, open_in};
use crate::xattrs::{self, XattrNames};

/// What was met. On a brick that is in use all of it may have changed since.
#[derive(Default)]
pub(super) struct Tree {
    /// Directories named `.fsnap`.
    pub snap_dirs: Vec<PathBuf>,
    /// Files that carry something of fsnap's, and everything in a `.fsnap`, with the inodes that their directories tell.
    pub files: Vec<(PathBuf, u64)>,
    /// The gfids of payloads, as they and as their records tell, and whose inodes have them.
    pub payloads: HashMap<Gfid, u64>,
    /// Those that more than one file has.
    pub ambiguous: HashSet<Gfid>,
    /// Those that an entry in some catalogue names.
    pub claimed: HashSet<Gfid>,
    /// There is a file with a catalogue and without a gfid: whose entries those are can't be told.
    pub nameless: bool,
    /// The gfids of files with a catalogue, and of those that a tombstone is named after.
    pub bases: HashSet<Gfid>,
    /// Files and directories that are not fsnap's, and have no handle.
    pub without_handle: Vec<PathBuf>,
    /// What could not be looked at.
    pub unreadable: Vec<Problem>,
}

/// Walks the tree of `brick`. No symlink is followed, no other file system entered; it needs memory for what is fsnap's
/// and for the directories that are still to be looked at.
pub(super) fn walk(brick: &BrickDir, meets: &dyn Fn()) -> Result<Tree> {
    let device = fstat(&brick.root).doing("stat")?.st_dev;
    let mut tree = Tree::default();
    let mut pending = vec![PathBuf::new()];
    while let Some(path) = pending.pop() {
        let seen = if path.components().count() > MAX_DEPTH {
            Err(Error::Damaged("the tree is too deep".into()))
        } else {
            tree.enter((brick, device, meets), &path, &mut pending)
        };
        if let Err(e) = seen {
            tree.unreadable.extend(unreadable(&path, &e));
        }
    }
    Ok(tree)
}

/// What is said of a place that can't be looked at; nothing if it is just not there any more.
pub(super) fn unreadable(path: &Path, why: &Error) -> Option<Problem> {
    let gone = match why {
        Error::Gone => true,
        Error::Os { errno, .. } => [libc::ENOENT, libc::ENOTDIR, libc::ELOOP, libc::ESTALE].contains(errno),
        _ => false,
    };
    (!gone).then(|| Problem {
        kind: ProblemKind::Unreadable,
        path: path.to_owned(),
        gfid: None,
        text: format!("it can't be looked at ({why}), nor what may lie beneath"),
        repairable: false,
    })
}

/// Opens the directory `path` of the brick, through no symlink: in one step where that can be, else name by name.
pub(super) fn open_dir(brick: &BrickDir, path: &Path) -> nix::Result<File> {
    let slash: &[u8] = if path.as_os_str().is_empty() { b"" } else { b"/" };
    if let Some(Ok(dir)) =
        brick.resolve(&[slash, path.as_os_str().as_bytes()].concat(), DIR | OFlag::O_NOATIME)
    {
        return Ok(dir);
    }
    let mut at = open_in(&brick.root, ".", STEP)?;
    for name in path {
        at = open_in(&at, name, STEP)?;
    }
    open_in(&at, ".", DIR | OFlag::O_NOATIME)
}

/// The directory that `path` is in.
pub(super) fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

/// The last name of `path`.
pub(super) fn leaf(path: &Path) -> &OsStr {
    path.file_name().unwrap_or(OsStr::new("."))
}

/// Whether the directory `path`, open as `dir`, is a `.fsnap` of ours.
pub(super) fn is_own_snap_dir(brick: &BrickDir, path: &Path, dir: &File) -> Result<bool> {
    if leaf(path) != SNAP_DIR {
        return Ok(false);
    }
    let above = open_dir(brick, parent(path)).doing("open a directory")?;
    Ok(readable_gfid(&above)?
        .is_some_and(|gfid| readable_gfid(dir).is_ok_and(|own| own == Some(gfid.snap_dir()))))
}

/// A file's gfid; `None` if it has none or an impossible one.
pub(super) fn readable_gfid(file: &File) -> Result<Option<Gfid>> {
    match xattrs::gfid(file) {
        Err(Error::Damaged(_)) => Ok(None),
        other => other,
    }
}

/// The names of the xattrs of the file `name` in `dir`, by the path `at`. It is opened only if there are too many for one list;
/// then the application's are left out.
fn names_of(dir: &File, at: &Path, name: &OsStr) -> Result<Vec<OsString>> {
    match xattr::list(at) {
        Err(e) if e.raw_os_error() == Some(libc::E2BIG) => {
            match open_leaf(dir, name.as_bytes(), Access::Read)? {
                None => Err(Errno::ENOENT).doing("open"),
                Some((file, _)) => {
                    let names = XattrNames::of(&file)?;
                    Ok(names.raw_starting("").map(|name| OsStr::from_bytes(name).to_owned()).collect())
                }
            }
        }
        other => Ok(other.doing("listxattr")?.collect()),
    }
}

/// The file whose tombstone has this name.
fn tombstone_of(name: &[u8]) -> Option<Gfid> {
    let gfid = Gfid::parse(std::str::from_utf8(name.last_chunk::<36>()?).ok()?).ok()?;
    gfid.is_tombstone(name).then_some(gfid)
}

impl Tree {
    fn enter(
        &mut self,
        (brick, device, meets): (&BrickDir, u64, &dyn Fn()),
        path: &Path,
        pending: &mut Vec<PathBuf>,
    ) -> Result<()> {
        let dir = open_dir(brick, path).doing("open a directory")?;
        if fstat(&dir).doing("stat")?.st_dev != device {
            return Err(Error::Damaged("another file system is mounted here".into()));
        }
        if leaf(path) == SNAP_DIR {
            self.snap_dirs.push(path.to_owned());
        }
        let own = is_own_snap_dir(brick, path, &dir)?;
        // Of a .fsnap that is told elsewhere.
        if leaf(path) != SNAP_DIR
            && let Some(gfid) = readable_gfid(&dir)?
        {
            self.needs_handle(brick, path, gfid)?;
        }
        let mut listing =
            Dir::openat(&dir, ".", DIR | OFlag::O_NOATIME, Mode::empty()).doing("open a directory")?;
        for entry in listing.iter() {
            let entry = entry.doing("read a directory")?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." || (path.as_os_str().is_empty() && name == GLUSTERFS) {
                continue;
            }
            meets();
            let kind = match entry.file_type() {
                Some(kind) => kind,
                None => match sys::stat_in(&dir, name)?.map(|stat| sys::kind(&stat)) {
                    Some(libc::S_IFDIR) => Type::Directory,
                    Some(libc::S_IFREG) => Type::File,
                    _ => Type::Symlink,
                },
            };
            match kind {
                Type::Directory if !own => pending.push(path.join(name)),
                Type::File => self.file(brick, &dir, path.join(name), entry.ino(), own)?,
                // Nothing but files belongs there.
                _ if own => self.files.push((path.join(name), entry.ino())),
                _ => {}
            }
        }
        Ok(())
    }

    /// Looks at the xattrs of a file without opening it.
    fn file(&mut self, brick: &BrickDir, dir: &File, path: PathBuf, inode: u64, own: bool) -> Result<()> {
        let at = Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(leaf(&path));
        let names: Vec<OsString> = match names_of(dir, &at, leaf(&path)) {
            Ok(names) => names,
            Err(e) => {
                self.unreadable.extend(unreadable(&path, &e));
                return Ok(());
            }
        };
        let starts = |name: &OsStr, prefix: &str| name.as_bytes().starts_with(prefix.as_bytes());
        let get = |name: &OsStr| xattr::get(&at, name).ok().flatten();
        let gfid = get(OsStr::new(xattrs::GFID)).and_then(|bytes| Gfid::from_xattr(&bytes).ok());
        let is_payload = names.iter().any(|name| name == PAYLOAD);
        let is_base = names.iter().any(|name| name == SEQ || starts(name, PAGE_PREFIX));
        if is_payload {
            let record = get(OsStr::new(PAYLOAD)).and_then(|bytes| PayloadRecord::decode(&bytes).ok());
            for gfid in record.map(|record| record.gfid).into_iter().chain(gfid) {
                if self.payloads.insert(gfid, inode).is_some_and(|other| other != inode) {
                    self.ambiguous.insert(gfid);
                }
            }
        } else if is_base {
            self.bases.extend(gfid);
            match gfid {
                Some(base) => {
                    let pages = names.iter().filter(|name| starts(name, PAGE_PREFIX));
                    for page in pages.filter_map(|name| get(name)).map(Page::new) {
                        self.claimed.extend(page.entries(base).flatten().map(|(_, record)| record.gfid));
                    }
                }
                None => self.nameless = true,
            }
        }
        if own {
            self.bases.extend(tombstone_of(leaf(&path).as_bytes()));
        }
        if own || is_payload || is_base {
            self.files.push((path, inode));
        } else if let Some(gfid) = gfid {
            self.needs_handle(brick, &path, gfid)?;
        }
        Ok(())
    }

    fn needs_handle(&mut self, brick: &BrickDir, path: &Path, gfid: Gfid) -> Result<()> {
        if gfid != Gfid::ROOT && sys::stat_in(&brick.root, &gfid.handle())?.is_none() {
            self.without_handle.push(path.to_owned());
        }
        Ok(())
    }
}
