//! What is left of deleted files.

use std::sync::Arc;
use std::time::Duration;

use fsnap_core::Gfid;

use super::pool::{Entrance, Key};
use super::shared::Shared;
use crate::ffi::Inodes;

/// How long a deleted file keeps its content, at least, and how long until it is looked at again if somebody has it open:
/// what opened it before it was deleted shows in the inode by then.
pub const GRACE: Duration = Duration::from_secs(2);

/// Takes the content of a deleted file when nobody has it open any more. A brick that ends before does it when it starts
/// again.
pub fn empty(state: &Arc<Shared>, entrance: &Entrance, file: Gfid, inodes: Inodes) {
    let (state, again) = (Arc::clone(state), entrance.clone());
    entrance.submit_after(GRACE, vec![Key::File(file)], move |turn| {
        let Ok(store) = state.store() else { return };
        // Deleted for good meanwhile, or brought back.
        if !store.is_deleted(file) {
            return;
        }
        match turn.in_time() {
            Ok(_entered) if !inodes.is_open(file) && !state.claims.has(file) => {
                // The next one will.
                let Ok(_change) = state.begin() else { return };
                if let Err(error) = store.empty_grave(file) {
                    tracing::error!("emptying the grave of {file}: {error}");
                }
            }
            _ if again.takes_tasks() => empty(&state, &again, file, inodes),
            _ => {}
        }
    });
}
