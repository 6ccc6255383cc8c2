//! Deleted files that were kept for long enough.

use std::time::{Duration, SystemTime};

use fsnap_core::record::DELETED;
use fsnap_core::{Error, Gfid, Result, Timestamp};

use crate::Store;
use crate::brick::Access;
use crate::sys;
use crate::xattrs::{self, XattrNames};

impl Store {
    /// Notes when the [`bury`](Store::bury)ed `base` was deleted, by the clock of who deleted it: it is the same on all bricks then. With
    /// `None` what [`deleted_at`](Store::deleted_at) tells is when this brick has learnt of it.
    ///
    /// [`Error::Gone`] (`ESTALE`), [`Error::NotRegular`] (`EINVAL`), or what a system call says.
    pub fn note_deletion(&self, base: Gfid, when: Option<Timestamp>) -> Result<()> {
        let _change = self.change()?;
        let _reserve = self.may_use_reserve();
        let base = self.brick.open_file(base, Access::Read)?.file;
        match when {
            Some(when) => xattrs::set(&base, DELETED, when.to_string().as_bytes()),
            None => xattrs::remove(&base, DELETED),
        }
    }

    /// All files that are buried.
    pub fn buried(&self) -> Vec<Gfid> {
        self.buried.all()
    }

    /// When `base` was deleted: what is noted on it, but no later than this brick has noted where it was. `None` if it is not deleted.
    ///
    /// [`Error::NotRegular`] (`EINVAL`), or what a system call says.
    pub fn deleted_at(&self, base: Gfid) -> Result<Option<SystemTime>> {
        let Some(state) = self.state.get().filter(|_| self.is_deleted(base)) else { return Ok(None) };
        let Some(note) = sys::stat_in(&state.buried, base.to_string().as_str())? else { return Ok(None) };
        let since = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let noted = since(u64::try_from(note.st_mtime).unwrap_or(0));
        let told = match self.brick.open_file(base, Access::Read) {
            Err(Error::Gone) => return Ok(None),
            other => xattrs::get(&other?.file, DELETED)?,
        };
        let told = told.and_then(|text| Timestamp::parse(std::str::from_utf8(&text).ok()?).ok());
        Ok(Some(told.map_or(noted, |told| since(told.seconds()).min(noted))))
    }

    /// Deletes the snapshots of the deleted `base` that are not held. With the last of them the file goes. Returns how many.
    ///
    /// As [`delete`](Store::delete); what befalls one leaves those that it has not come to.
    pub fn expire(&self, base: Gfid) -> Result<usize> {
        let _change = self.change()?;
        let file = self.brick.open_file(base, Access::Read)?.file;
        let mut gone = 0;
        for name in XattrNames::of(&file)?.snapshots()? {
            if !xattrs::expect_entry(&file, &name)?.held {
                self.delete(base, &name)?;
                gone += 1;
            }
        }
        Ok(gone)
    }
}
