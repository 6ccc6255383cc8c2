//! What is in a place: questions about directories that the translator asks before it lets others change them.

use fsnap_core::layout::{self, Layout};
use fsnap_core::{Error, Gfid, Result};
use nix::errno::Errno;

use crate::Store;
use crate::brick::{Access, open_leaf};
use crate::guard::is_link_file;
use crate::sys::{self, DIR, Doing, open_in};
use crate::xattrs;

impl Store {
    /// Whether there ever was a snapshot on this brick. As long as there was none, nothing needs a closer look.
    pub fn is_used(&self) -> bool {
        self.state.get().is_some()
    }

    /// What has the name `name` in directory `parent`: its gfid, and whether it is a directory. `None` if there is
    /// nothing, or what is neither file nor directory, or what has no gfid.
    ///
    /// [`Error::Gone`] (`ESTALE`) if the directory is not there, or what a system call says.
    pub fn entry(&self, parent: Gfid, name: &[u8]) -> Result<Option<(Gfid, bool)>> {
        let parent = self.brick.open_dir(parent)?;
        let Some(seen) = sys::stat_in(&parent.file, name)? else { return Ok(None) };
        let is_dir = sys::kind(&seen) == libc::S_IFDIR;
        let file = match is_dir {
            true => match open_in(&parent.file, name, DIR) {
                Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => None,
                other => Some(other.doing("open a directory")?),
            },
            false => match open_leaf(&parent.file, name, Access::Read) {
                Err(Error::NotRegular | Error::Gone) => None,
                other => other?.map(|(file, _)| file),
            },
        };
        match file.map_or(Ok(None), |file| xattrs::gfid(&file)) {
            Err(Error::Damaged(_)) => Ok(None),
            found => Ok(found?.map(|gfid| (gfid, is_dir))),
        }
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
}
