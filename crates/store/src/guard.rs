//! What an inode is to fsnap: what must be known before others may change it.

use std::fs::File;

use fsnap_core::catalogue::PAGE_PREFIX;
use fsnap_core::record::PAYLOAD;
use fsnap_core::{Error, Gfid, Result, SNAP_DIR};
use nix::sys::stat::FileStat;

use crate::Store;
use crate::brick::{Access, OpenFile, open_leaf};
use crate::sys;
use crate::xattrs;

/// What an inode is to fsnap.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InodeKind {
    /// Not fsnap's own.
    Other,
    /// A directory `.fsnap`.
    SnapDir,
    /// A snapshot.
    Payload,
    /// A deleted file that is kept for its snapshots.
    Tombstone,
    /// What DHT has laid into a `.fsnap` to find a snapshot on another brick.
    LinkFile,
}

impl Store {
    /// What `gfid` is. [`InodeKind::Other`] also if nothing is there or if it can't be told. Of a gfid that fsnap has not
    /// derived it knows that without looking at the disk.
    pub fn what_is(&self, gfid: Gfid) -> InodeKind {
        if self.is_buried(gfid) {
            return InodeKind::Tombstone;
        }
        if !gfid.is_derived() {
            return InodeKind::Other;
        }
        match self.brick.soft_handle_of(gfid) {
            Ok(Some(link)) if link.name == SNAP_DIR.as_bytes() && link.parent.snap_dir() == gfid => {
                InodeKind::SnapDir
            }
            Ok(_) => InodeKind::Other,
            // The handle is no symlink: a file.
            Err(_) => self
                .brick
                .open_file(gfid, Access::Read)
                .map_or(InodeKind::Other, |inode| kind_of_file(&inode)),
        }
    }

    /// Whether entries of directory `parent` lie in a `.fsnap`.
    pub fn entry_in_snap_dir(&self, parent: Gfid) -> bool {
        self.what_is(parent) == InodeKind::SnapDir
    }

    /// Whether the entry `name` of the `.fsnap` with the gfid `snap_dir` is a link file of DHT. False if it can't be
    /// told.
    pub fn link_file_at(&self, snap_dir: Gfid, name: &[u8]) -> bool {
        self.entry_in_snap_dir(snap_dir)
            && self
                .brick
                .open_dir(snap_dir)
                .is_ok_and(|dir| matches!(link_file(&dir.file, name), Ok(Some(_))))
    }

    /// Whether `file` has snapshots: the question that every unlink and rename asks, so it costs next to nothing for a
    /// file without. False as well for what is no regular file.
    ///
    /// [`Error::Gone`] (`ESTALE`) if it has no handle: a file that lost it may have snapshots all the same.
    /// [`Error::Damaged`] (`EIO`), or what a system call says.
    pub fn has_snapshots(&self, file: Gfid) -> Result<bool> {
        // Entries alone count: the number of the last snapshot stays when all are gone, and metadata heal sets them in any
        // order. One system call, and to look for the number alone would be no faster.
        if !self.brick.may_have_xattrs(file, PAGE_PREFIX)? {
            return Ok(false);
        }
        match self.brick.open_file(file, Access::Read) {
            Ok(_) => Ok(true),
            Err(Error::NotRegular) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Whether what has the name `name` in directory `parent`, and may have lost its handle, may have snapshots.
    ///
    /// [`Error::Gone`] (`ESTALE`) if the directory is not there, or what a system call says.
    pub fn may_have_snapshots_at(&self, parent: Gfid, name: &[u8]) -> Result<bool> {
        let dir = self.brick.open_dir(parent)?;
        xattrs::any_in(&dir.file, name, PAGE_PREFIX)
    }
}

fn kind_of_file(inode: &OpenFile) -> InodeKind {
    // Whatever the record says: nobody else sets that xattr, and a damaged snapshot is to stay as it is.
    match xattrs::get(&inode.file, PAYLOAD) {
        Ok(Some(_)) => InodeKind::Payload,
        _ if is_link_file(&inode.file, &inode.stat).unwrap_or(false) => InodeKind::LinkFile,
        _ => InodeKind::Other,
    }
}

/// Opens the entry `name` of `dir` if it is a link file of DHT.
pub(crate) fn link_file(dir: &File, name: &[u8]) -> Result<Option<(File, FileStat)>> {
    match open_leaf(dir, name, Access::Read) {
        Ok(Some((file, stat))) if is_link_file(&file, &stat)? => Ok(Some((file, stat))),
        Ok(_) | Err(Error::NotRegular) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Source: `check_is_linkfile` of cluster/dht; that such a file is empty is `dht_linkfile_create`'s doing.
pub(crate) fn is_link_file(file: &File, stat: &FileStat) -> Result<bool> {
    let shape =
        sys::kind(stat) == libc::S_IFREG && stat.st_mode & 0o7777 == libc::S_ISVTX && stat.st_size == 0;
    Ok(shape && xattrs::get(file, xattrs::LINKTO)?.is_some())
}
