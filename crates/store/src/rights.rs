//! Who may do what with a file: owner, mode and access ACL.

use std::fs::File;

use fsnap_core::acl::{ACCESS, Acl};
use fsnap_core::{Error, Result};
use nix::sys::stat::{FileStat, Mode, fchmod, fstat};
use nix::unistd::{Gid, Uid, fchown};

use crate::sys::{Doing, change};
use crate::xattrs;

#[derive(PartialEq, Eq)]
pub(crate) struct Rights {
    uid: u32,
    gid: u32,
    mode: u32,
    acl: Option<Acl>,
}

impl Rights {
    /// Those of `file`, whose `stat` is given.
    pub(crate) fn of(file: &File, stat: &FileStat) -> Result<Self> {
        let acl = xattrs::access_acl(file)?;
        Ok(Rights { uid: stat.st_uid, gid: stat.st_gid, mode: stat.st_mode & 0o7777, acl })
    }

    /// The same with nothing but `perm` (of rwx = 4 2 1) for anybody.
    pub(crate) fn limited_to(&self, perm: u16) -> Self {
        let acl = self.acl.as_ref().map(|acl| acl.limited_to(perm));
        Rights { acl, mode: self.mode & (u32::from(perm) * 0o111), ..*self }
    }

    /// Whether `caller` has all of `perm`.
    pub(crate) fn permit(&self, caller: &fsnap_core::acl::Caller, perm: u16) -> bool {
        match &self.acl {
            Some(acl) => acl.permits(caller, self.uid, self.gid, perm),
            None => Acl::from_mode(self.mode).permits(caller, self.uid, self.gid, perm),
        }
    }

    /// Gives them to `file`.
    pub(crate) fn apply(&self, file: &File) -> Result<()> {
        // In this order: a new owner may clear bits of the mode, and an ACL rewrites the group's.
        let owner = (Some(Uid::from_raw(self.uid)), Some(Gid::from_raw(self.gid)));
        change!("fchown", fchown(file, owner.0, owner.1)).doing("chown")?;
        if self.acl.is_none() && xattrs::get(file, ACCESS)?.is_some() {
            xattrs::remove(file, ACCESS)?;
        }
        let mode = Mode::from_bits_truncate(self.mode);
        change!("fchmod", fchmod(file, mode)).doing("chmod")?;
        match &self.acl {
            Some(acl) => xattrs::set(file, ACCESS, &acl.encode()),
            None => Ok(()),
        }
    }

    /// Makes them those of `file` if they are not already.
    pub(crate) fn ensure(&self, file: &File) -> Result<()> {
        let stat = fstat(file).doing("stat")?;
        match Rights::of(file, &stat) {
            Ok(now) if now == *self => Ok(()),
            Ok(_) | Err(Error::Damaged(_)) => self.apply(file),
            Err(e) => Err(e),
        }
    }
}
