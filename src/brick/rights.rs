//! Snapshots are never more readable than their file.

use fsnap_core::{Error, Gfid};
use fsnap_store::Store;

use super::caller::sees_xattrs;
use super::instance::Brick;
use super::shared::Shared;
use crate::ffi::{Call, role};

impl role::Rights for Brick {
    fn may_have_followers(&self) -> bool {
        self.state.store.get().is_some_and(Store::is_used)
    }

    fn has_followers(&self, file: Gfid) -> bool {
        self.state.store().is_ok_and(|store| store.has_snapshots(file).unwrap_or(false))
    }

    fn rights_changed(&self, file: Gfid) {
        follow(&self.state, file);
    }

    fn refuse_values(&self, call: &Call<'_>, file: Gfid) -> Option<i32> {
        if sees_xattrs(call) { None } else { refuse_read(&self.state, call, file) }
    }

    fn shows(&self, call: &Call<'_>, file: Gfid) {
        self.state.upcalls.looks(call);
        show(&self.state, file);
    }
}

/// Gives `file`, if it is a snapshot, the rights its file has now, before it is shown. A failure is in the log.
pub fn show(state: &Shared, file: Gfid) {
    if let Ok(store) = state.store()
        && let Err(error) = store.is_readable(file, None)
    {
        tracing::warn!("who may read {file} can't be told: {error}");
    }
}

/// Gives the snapshots of `file` the rights that it has now. A failure is in the log: who opens one is asked for the file's rights
/// all the same.
pub fn follow(state: &Shared, file: Gfid) {
    match state.store().and_then(|store| store.follow_rights(file)) {
        Ok(()) | Err(Error::Gone | Error::NotRegular) => {}
        Err(error) => tracing::error!("the snapshots of {file} do not have its rights: {error}"),
    }
}

/// `EACCES` if the caller may not read the snapshot `payload`, because he may not read its file.
pub fn refuse_read(state: &Shared, call: &Call<'_>, payload: Gfid) -> Option<i32> {
    match state.store().and_then(|store| store.is_readable(payload, Some(&call.caller()))) {
        Ok(true) => None,
        Ok(false) => Some(libc::EACCES),
        Err(error) => {
            tracing::warn!("who may read snapshot {payload} can't be told, so nobody may: {error}");
            Some(error.errno())
        }
    }
}
