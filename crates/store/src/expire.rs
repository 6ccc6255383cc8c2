//! Deleted files that were kept for long enough.

use std::time::{Duration, SystemTime};

use fsnap_core::{Gfid, Result};

use crate::Store;
use crate::brick::Access;
use crate::pages::Pages;
use crate::sys;

impl Store {
    /// All files that are buried.
    pub fn buried(&self) -> Vec<Gfid> {
        self.buried.all()
    }

    /// When this brick has noted that `base` is deleted. `None` if it is not.
    ///
    /// What a system call says.
    pub fn deleted_at(&self, base: Gfid) -> Result<Option<SystemTime>> {
        let Some(state) = self.state.get().filter(|_| self.is_deleted(base)) else { return Ok(None) };
        let note = sys::stat_in(&state.buried, base.to_string().as_str())?;
        let seconds = note.map(|note| u64::try_from(note.st_mtime).unwrap_or(0));
        Ok(seconds.map(|seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)))
    }

    /// Deletes the snapshots of the deleted `base` that are not held. With the last of them the file goes. Returns how many.
    ///
    /// As [`delete`](Store::delete); what befalls one leaves those that it has not come to.
    pub fn expire(&self, base: Gfid) -> Result<usize> {
        let _change = self.change()?;
        let file = self.brick.open_file(base, Access::Read)?.file;
        let mut gone = 0;
        for (name, _) in Pages::of(&file, base)?.all()?.into_iter().filter(|(_, entry)| !entry.held) {
            self.delete(base, &name)?;
            gone += 1;
        }
        Ok(gone)
    }
}
