//! Who may do what with a file: owner, mode and access ACL.

use std::fs::File;

use fsnap_core::acl::{ACCESS, Acl, Caller};
use fsnap_core::{Error, Gfid, Result};
use nix::errno::Errno;
use nix::sys::stat::{FileStat, Mode, fchmod, fstat};
use nix::unistd::{Gid, Uid, fchown};

use crate::Store;
use crate::brick::{Access, OpenFile};
use crate::pages::Pages;
use crate::sys::{Doing, change};
use crate::xattrs;

pub(crate) const READ: u16 = 4;
const WRITE: u16 = 2;
const WRITE_AND_PASS: u16 = 3;

/// What a program may do that not all who run it may.
const CAPABILITY: &str = "security.capability";

/// The file's label, and where features/selinux keeps that which clients set (`SELINUX_GLUSTER_XATTR`).
const LABELS: [&str; 2] = ["security.selinux", "trusted.glusterfs.selinux"];

/// The xattrs that tell who may do what with a file: a change of one is a change of rights.
pub const RIGHTS_XATTRS: [&str; 3] = [ACCESS, LABELS[0], LABELS[1]];

impl Store {
    /// Takes from `file` what must not stay when `by` changes its content, which would then run with it: setuid, setgid (what is
    /// no group's program it marks for mandatory locks, and stays for its members) and `security.capability`. As the kernel does at
    /// every write and truncate (`file_remove_privs`): root's changes take the last alone. To be called before the content changes.
    ///
    /// [`Error::Gone`] (`ESTALE`), [`Error::NotRegular`] (`EINVAL`), or what a system call says.
    pub fn strip_privileges(&self, file: Gfid, by: &Caller) -> Result<()> {
        let _change = self.change()?;
        let inode = self.brick.open_file(file, Access::Read)?;
        let mode = inode.stat.st_mode & 0o7777;
        let left = if by.uid == 0 { mode } else { without_ids(mode, by.is_in(inode.stat.st_gid)) };
        let capable = xattrs::get(&inode.file, CAPABILITY)?.is_some();
        if capable {
            xattrs::remove(&inode.file, CAPABILITY)?;
        }
        if left != mode {
            set_mode(&inode.file, left)?;
        }
        if capable || left != mode { self.brick.settle(&inode.file) } else { Ok(()) }
    }

    /// After a change of the rights of `base`: gives its snapshots those that it has now, as far as they are for reading. It may be
    /// repeated. No more durable than the change itself: what a crash takes back [`is_readable`](Store::is_readable) does again.
    ///
    /// [`Error::Gone`] (`ESTALE`), [`Error::NotRegular`] (`EINVAL`), [`Error::Damaged`] (`EIO`: of one snapshot; the others have them
    /// then), or what a system call says.
    pub fn follow_rights(&self, base: Gfid) -> Result<()> {
        let _change = self.change()?;
        let base = self.brick.open_file(base, Access::Read)?;
        let rights = self.rights_of_snapshots(&base)?;
        let mut result = Ok(());
        for entry in Pages::of(&base.file, base.gfid)?.entries() {
            let followed =
                entry.and_then(|(name, entry)| match self.payload(base.gfid, &name, entry.gfid)? {
                    Some(payload) => self.ensure_rights(&rights, &payload),
                    None => Ok(()),
                });
            result = result.and(followed);
        }
        result
    }

    /// Those that the snapshots of `base` are to have, as it is now. Of a deleted file they stand for it, and its owner may command
    /// them: to be asked for that he needs the right to write, of which nobody makes another use.
    pub(crate) fn rights_of_snapshots(&self, base: &OpenFile) -> Result<Rights> {
        let stat = fstat(&base.file).doing("stat")?;
        let rights = Rights::of(&base.file, &stat)?.limited_to(READ);
        Ok(match self.only_grave(base)? {
            // Not all who may search the directory above could search the one that it was in.
            Some(grave) if grave.was.has_moved_up() => rights.owners().with_owner(WRITE),
            Some(_) => rights.with_owner(WRITE),
            None => rights,
        })
    }

    /// `EACCES` if `who` may not command the snapshots of `base` by way of one of them: its owner may if it was deleted, and root. Else
    /// as [`follow_rights`](Store::follow_rights).
    pub fn may_command_snapshots(&self, base: Gfid, who: &Caller) -> Result<()> {
        match self.rights_of_snapshots(&self.brick.open_file(base, Access::Read)?)?.permit(who, WRITE) {
            true => Ok(()),
            false => Err(Errno::EACCES).doing("command a snapshot that is not the caller's"),
        }
    }

    /// Whether `who` may read the snapshots of `base`. Errors as for [`follow_rights`](Store::follow_rights).
    pub fn may_read_snapshots(&self, base: Gfid, who: &Caller) -> Result<bool> {
        Ok(self.rights_of_snapshots(&self.brick.open_file(base, Access::Read)?)?.permit(who, READ))
    }

    /// `EACCES` if `who` may not make an entry in directory `dir`. Else [`Error::Gone`] (`ESTALE`), [`Error::Damaged`] (`EIO`), or
    /// what a system call says.
    pub fn may_make_entry(&self, dir: Gfid, who: &Caller) -> Result<()> {
        let dir = self.brick.open_dir(dir)?;
        let stat = fstat(&dir.file).doing("stat")?;
        match Rights::of(&dir.file, &stat)?.permit(who, WRITE_AND_PASS) {
            true => Ok(()),
            false => Err(Errno::EACCES).doing("bring a file back without write permission for its directory"),
        }
    }

    /// Whether `who` may read the snapshot `payload`: whether he may read its file. It is given the file's rights, if a crash or a
    /// heal has left it others. True of what is no snapshot, or one whose file is not here.
    ///
    /// [`Error::Damaged`] (`EIO`), or what a system call says.
    pub fn is_readable(&self, payload: Gfid, who: Option<&Caller>) -> Result<bool> {
        let payload = match self.brick.open_file(payload, Access::Read) {
            Err(Error::Gone | Error::NotRegular) => return Ok(true),
            other => other?,
        };
        let Some(record) = xattrs::payload_record(&payload.file)? else { return Ok(true) };
        let base = match self.brick.open_file(record.base, Access::Read) {
            Err(Error::Gone) => return Ok(true),
            other => other?,
        };
        let rights = self.rights_of_snapshots(&base)?;
        let ensured = self.change().and_then(|_change| self.ensure_rights(&rights, &payload));
        if let Err(error) = ensured {
            tracing::warn!("snapshot {} can't be given the rights of its file: {error}", payload.gfid);
        }
        Ok(who.is_none_or(|who| rights.permit(who, READ)))
    }
}

/// Source: `setattr_should_drop_suidgid` of the kernel.
fn without_ids(mode: u32, member: bool) -> u32 {
    let group_runs_it = mode & libc::S_IXGRP != 0;
    let gone = if group_runs_it || !member { libc::S_ISUID | libc::S_ISGID } else { libc::S_ISUID };
    mode & !gone
}

fn set_mode(file: &File, mode: u32) -> Result<()> {
    let mode = Mode::from_bits_truncate(mode);
    change!("fchmod", fchmod(file, mode)).doing("chmod")
}

#[derive(PartialEq, Eq)]
pub(crate) struct Rights {
    uid: u32,
    gid: u32,
    mode: u32,
    acl: Option<Acl>,
    /// The values of [`LABELS`].
    labels: [Option<Vec<u8>>; 2],
}

impl Rights {
    /// Those of `file`, whose `stat` is given.
    pub(crate) fn of(file: &File, stat: &FileStat) -> Result<Self> {
        // Hardly any file has one of them: one call tells.
        let has = xattrs::have(file, [ACCESS, LABELS[0], LABELS[1]])?;
        let label = |n: usize| if has[n + 1] { xattrs::get(file, LABELS[n]) } else { Ok(None) };
        let acl = if has[0] { xattrs::access_acl(file)? } else { None };
        let labels = [label(0)?, label(1)?];
        Ok(Rights { uid: stat.st_uid, gid: stat.st_gid, mode: stat.st_mode & 0o7777, acl, labels })
    }

    /// The same with `perm` for the owner as well.
    fn with_owner(&self, perm: u16) -> Self {
        let acl = self.acl.as_ref().map(|acl| acl.with_owner(perm));
        Rights { acl, mode: self.mode | (u32::from(perm) << 6), labels: self.labels.clone(), ..*self }
    }

    /// The same with nothing for anybody but the owner.
    fn owners(&self) -> Self {
        Rights { acl: None, mode: self.mode & 0o700, labels: self.labels.clone(), ..*self }
    }

    /// The same with nothing but `perm` (of rwx = 4 2 1) for anybody.
    pub(crate) fn limited_to(&self, perm: u16) -> Self {
        let acl = self.acl.as_ref().map(|acl| acl.limited_to(perm));
        Rights { acl, mode: self.mode & (u32::from(perm) * 0o111), labels: self.labels.clone(), ..*self }
    }

    /// Whether `caller` has all of `perm`.
    pub(crate) fn permit(&self, caller: &fsnap_core::acl::Caller, perm: u16) -> bool {
        match &self.acl {
            Some(acl) => acl.permits(caller, self.uid, self.gid, perm),
            None => Acl::from_mode(self.mode).permits(caller, self.uid, self.gid, perm),
        }
    }

    fn labelled(self, labels: &[Option<Vec<u8>>; 2]) -> Self {
        Rights { labels: labels.clone(), ..self }
    }

    /// Gives them to `file`.
    pub(crate) fn apply(&self, file: &File) -> Result<()> {
        // In this order: a new owner may clear bits of the mode, and an ACL rewrites the group's.
        let owner = (Some(Uid::from_raw(self.uid)), Some(Gid::from_raw(self.gid)));
        change!("fchown", fchown(file, owner.0, owner.1)).doing("chown")?;
        let has = xattrs::have(file, [ACCESS, LABELS[0], LABELS[1]])?;
        if self.acl.is_none() && has[0] {
            xattrs::remove(file, ACCESS)?;
        }
        set_mode(file, self.mode)?;
        if let Some(acl) = &self.acl {
            xattrs::set(file, ACCESS, &acl.encode())?;
        }
        if self.labels.iter().any(Option::is_some) || has[1] || has[2] { self.label(file) } else { Ok(()) }
    }

    fn label(&self, file: &File) -> Result<()> {
        for (name, label) in LABELS.iter().zip(&self.labels) {
            let now = xattrs::get(file, name)?;
            let done = match label {
                Some(label) if now.as_ref() != Some(label) => xattrs::set(file, name, label),
                None if now.is_some() => xattrs::remove(file, name),
                _ => Ok(()),
            };
            // The server's own policy may forbid the first; what clients see is the other one.
            if *name != LABELS[0] {
                done?;
            }
        }
        Ok(())
    }

    /// Makes them those of `file` if they are not already; whether they were not.
    pub(crate) fn ensure(&self, file: &File) -> Result<bool> {
        let stat = fstat(file).doing("stat")?;
        match Rights::of(file, &stat) {
            Ok(now) if now == *self => return Ok(false),
            // The server's own policy may have kept a label from being set.
            Ok(now) => match now.labelled(&self.labels) == *self {
                true => self.label(file),
                false => self.apply(file),
            },
            Err(Error::Damaged(_)) => self.apply(file),
            Err(e) => Err(e),
        }
        .map(|()| true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_write_takes() {
        for (mode, member, left) in [
            (0o4755, true, 0o755),
            (0o6755, true, 0o755),
            (0o2755, true, 0o755),
            (0o2644, true, 0o2644),
            (0o2644, false, 0o644),
            (0o6644, true, 0o2644),
            (0o1777, false, 0o1777),
            (0o640, true, 0o640),
        ] {
            assert_eq!(without_ids(mode, member), left, "{mode:o}");
        }
    }
}
