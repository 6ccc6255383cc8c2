//! Handles that are gone though what they were of is not: storage/posix takes a directory's away before it renames it, and does not
//! put it back if that fails; a file's can be lost as well. Without fsnap hardly anybody notices, because storage/posix goes by path
//! where it has one. The name still leads there, and by it the handle is put back.

use std::fs::File;

use fsnap_core::gfid2path::Link;
use fsnap_core::{Error, Gfid, Result};
use nix::errno::Errno;

use crate::Store;
use crate::brick::BrickDir;
use crate::sys::{self, Doing, STEP, open_in};
use crate::xattrs;

/// Something that has a name and a gfid, but no handle.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WithoutHandle {
    /// Its gfid.
    pub gfid: Gfid,
    /// Its place.
    pub place: Link,
}

impl BrickDir {
    /// The directory that `path` leads to from the root, as storage/posix goes; `step` sees each directory on the way, and the name in
    /// it that comes next. [`Error::Gone`] if it leads nowhere, or to none.
    fn walk_path(&self, path: &[u8], mut step: impl FnMut(&File, &[u8]) -> Result<()>) -> Result<File> {
        let mut at = open_in(&self.root, ".", STEP).doing("open the brick")?;
        for name in path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()) {
            if name == b"." || name == b".." {
                return Err(Error::Gone);
            }
            step(&at, name)?;
            at = match open_in(&at, name, STEP) {
                Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => return Err(Error::Gone),
                other => other.doing("open a directory")?,
            };
        }
        Ok(at)
    }

    pub(crate) fn dir_by_path(&self, path: &[u8]) -> Result<File> {
        match self.resolve(path, STEP) {
            Some(Ok(dir)) => Ok(dir),
            Some(Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP)) => Err(Error::Gone),
            _ => self.walk_path(path, |_, _| Ok(())),
        }
    }
}

impl Store {
    /// What has no handle of all that lies on the way `path` from the brick's root, the last of it included.
    ///
    /// [`Error::Gone`] (`ESTALE`) if it leads nowhere, or what a system call says.
    pub fn without_handles(&self, path: &[u8]) -> Result<Vec<WithoutHandle>> {
        let (mut found, mut parent) = (Vec::new(), Gfid::ROOT);
        let walked = self.brick.walk_path(path, |dir, name| {
            let gfid = xattrs::gfid_in(dir, name)?.ok_or(Error::Gone)?;
            if !self.has_handle(gfid)? {
                found.push(WithoutHandle { gfid, place: Link { parent, name: name.to_vec() } });
            }
            parent = gfid;
            Ok(())
        });
        match walked {
            // The last may be a file.
            Err(Error::Gone) if parent != Gfid::ROOT => Ok(found),
            other => other.map(|_| found),
        }
    }

    /// The gfid of the directory that `path` leads to from the brick's root, as storage/posix goes.
    ///
    /// [`Error::Gone`] (`ESTALE`) if it leads nowhere, to none, or to one without; or what a system call says.
    pub fn dir_at(&self, path: &[u8]) -> Result<Gfid> {
        let mut reached = Some(Gfid::ROOT);
        self.brick.walk_path(path, |dir, name| {
            reached = xattrs::gfid_in(dir, name)?;
            Ok(())
        })?;
        reached.ok_or(Error::Gone)
    }

    /// Whether `gfid` has a handle.
    ///
    /// What a system call says.
    pub fn has_handle(&self, gfid: Gfid) -> Result<bool> {
        Ok(gfid == Gfid::ROOT || sys::stat_in(&self.brick.root, &gfid.handle())?.is_some())
    }

    /// Puts a handle back, if it is still gone and its place still has what it was of. The caller sees to it that nobody renames or
    /// removes that meanwhile: storage/posix makes no handle where one is (`posix_handle_soft`), not even if it leads elsewhere.
    ///
    /// What a system call says.
    pub fn put_back(&self, what: &WithoutHandle) -> Result<()> {
        let _change = self.change()?;
        let _reserve = self.may_use_reserve();
        let dir = match self.brick.open_dir(what.place.parent) {
            Err(Error::Gone) => return Ok(()),
            other => other?.file,
        };
        let name = what.place.name.as_slice();
        let Some(there) = sys::stat_in(&dir, name)? else { return Ok(()) };
        if xattrs::gfid_in(&dir, name)? != Some(what.gfid) || self.has_handle(what.gfid)? {
            return Ok(());
        }
        let handles = self.brick.make_handle_dir(what.gfid)?;
        let handle = what.gfid.to_string();
        let made = match sys::kind(&there) {
            libc::S_IFDIR => sys::symlink(&what.place.soft_handle(), &handles, handle.as_str()),
            _ => sys::link((&dir, name), (&handles, handle.as_str())),
        };
        match made {
            Ok(()) | Err(Errno::EEXIST) => self.brick.settle(&handles),
            Err(e) => Err(e).doing("put a handle back"),
        }
    }

    /// The same of what has the name `name` in directory `parent`, if anything has. The caller sees to it as well.
    pub fn put_back_at(&self, parent: Gfid, name: &[u8]) -> Result<()> {
        let dir = match self.brick.open_dir(parent) {
            Err(Error::Gone) => return Ok(()),
            other => other?.file,
        };
        match xattrs::gfid_in(&dir, name)? {
            Some(gfid) => self.put_back(&WithoutHandle { gfid, place: Link { parent, name: name.to_vec() } }),
            None => Ok(()),
        }
    }
}
