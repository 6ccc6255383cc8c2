//! What is in a place: questions about directories that the translator asks before it lets others change them.

use std::fs::File;

use fsnap_core::layout::{self, Layout};
use fsnap_core::{Error, Gfid, Result, SNAP_DIR};

use crate::Store;
use crate::brick::Access;
use crate::guard::is_link_file;
use crate::names::links;
use crate::sys;
use crate::xattrs;

/// The longest path of a directory that is chosen to go by, in bytes. Where that is too long with the brick's own in front storage/posix
/// does not take it for one from the root (`MAKE_REAL_PATH`).
const LONGEST_WAY: usize = 2048;

/// What has a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DirEntry {
    /// Nothing has it.
    Nothing,
    /// A file of whatever kind.
    File(Gfid),
    /// A directory.
    Dir(Gfid),
    /// Something without a gfid: storage/posix gives it one a moment after it has made it.
    Unnamed,
}

impl Store {
    /// Whether there ever was a snapshot on this brick. As long as there was none, nothing needs a closer look.
    pub fn is_used(&self) -> bool {
        self.state.get().is_some()
    }

    /// What has the name `name` in directory `parent`.
    ///
    /// [`Error::Gone`] (`ESTALE`) if the directory is not there, or what a system call says.
    pub fn entry(&self, parent: Gfid, name: &[u8]) -> Result<DirEntry> {
        entry_in(&self.brick.open_dir(parent)?.file, name)
    }

    /// The same of names in a directory to which `way`, which is empty or begins with a slash, is to lead from the brick's root, as
    /// storage/posix goes; `None` if it does not, or that can't be told.
    pub fn entries_at(&self, way: &[u8], parent: Gfid, names: &[&[u8]]) -> Option<Vec<DirEntry>> {
        let dir = self.dir_by(way, parent).filter(|_| way.len() <= LONGEST_WAY)?;
        names.iter().map(|name| entry_in(&dir, name).ok()).collect()
    }

    /// Whether `way` leads to directory `parent` so.
    pub fn leads_to(&self, way: &[u8], parent: Gfid) -> bool {
        self.dir_by(way, parent).is_some()
    }

    /// None if the path goes through a symlink, which may be replaced at any time.
    fn dir_by(&self, way: &[u8], gfid: Gfid) -> Option<File> {
        let dir = self.brick.dir_by_path(way).ok()?;
        matches!(xattrs::gfid_in(&dir, b"."), Ok(Some(found)) if found == gfid).then_some(dir)
    }

    /// Whether there is a `.fsnap` in the directory that `path` leads to from the brick's root. True if it can't be told.
    pub fn may_have_snap_dir(&self, path: &[u8]) -> bool {
        self.brick.may_be(&[path, b"/", SNAP_DIR.as_bytes()].concat())
    }

    /// The same in the directory that `way` leads to from the brick's root, which need not have a gfid.
    pub fn entry_by_path(&self, way: &[u8], name: &[u8]) -> Result<DirEntry> {
        entry_in(&self.brick.dir_by_path(way)?, name)
    }

    /// Whether `file` is, on this brick, a link file of DHT. False if it can't be told.
    pub fn is_link_file(&self, file: Gfid) -> bool {
        self.brick
            .open_file(file, Access::Read)
            .is_ok_and(|inode| is_link_file(&inode.file, &inode.stat).unwrap_or(false))
    }

    /// DHT's layout of directory `dir` on this brick; `None` if it has none, as without DHT.
    ///
    /// [`Error::Gone`] (`ESTALE`) if the directory is not there, or what a system call says.
    pub fn layout(&self, dir: Gfid) -> Result<Option<Layout>> {
        let dir = self.brick.open_dir(dir)?;
        Ok(xattrs::get(&dir.file, layout::XATTR)?.and_then(|bytes| Layout::decode(&bytes)))
    }

    /// Whether no name in a directory that `file` lies in belongs to this brick: all that is there is to leave it.
    ///
    /// [`Error::Gone`] (`ESTALE`) if it is not there or nobody knows where, [`Error::NotRegular`] (`EINVAL`), or what a system
    /// call says.
    pub fn is_to_leave(&self, file: Gfid) -> Result<bool> {
        let links = links(&self.brick.open_file(file, Access::Read)?.file)?;
        if links.is_empty() {
            return Err(Error::Gone);
        }
        for link in links {
            if self.layout(link.parent)?.is_none_or(|layout| layout.is_empty()) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn entry_in(parent: &File, name: &[u8]) -> Result<DirEntry> {
    let Some(seen) = sys::stat_in(parent, name)? else { return Ok(DirEntry::Nothing) };
    // Without opening it, whatever it is. A rename in between is the caller's business.
    match xattrs::gfid_in(parent, name) {
        Ok(Some(gfid)) if sys::kind(&seen) == libc::S_IFDIR => Ok(DirEntry::Dir(gfid)),
        Ok(Some(gfid)) => Ok(DirEntry::File(gfid)),
        Ok(None) | Err(Error::Damaged(_)) => Ok(DirEntry::Unnamed),
        Err(e) => Err(e),
    }
}
