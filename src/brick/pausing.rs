//! While the kernel keeps a file locked for a clone or a restore, fops on it wait for us, and not on the host's threads.

use std::sync::{Arc, Weak};

use fsnap_core::Gfid;
use fsnap_store::Watch;

use super::pool::{Entrance, RESUMERS};
use super::shared::Shared;

/// Pauses what the store locks.
struct Pausing {
    state: Weak<Shared>,
    entrance: Entrance,
}

impl Watch for Pausing {
    fn begins(&self, file: Gfid, readers: bool) {
        if let Some(state) = self.state.upgrade() {
            state.pauses.begin(file, readers);
        }
    }

    fn ends(&self, file: Gfid) {
        let Some(state) = self.state.upgrade() else { return };
        // With some of the threads that they would have had, lest the last of them wait for all others.
        for _ in 0..state.pauses.end(file).min(RESUMERS) {
            let state = Arc::clone(&state);
            self.entrance.submit_resumption(move |_| state.pauses.resume(file));
        }
    }
}

/// From now on.
pub fn start(state: &Weak<Shared>, entrance: &Entrance) {
    let Some(shared) = state.upgrade() else { return };
    if let Some(store) = shared.store.get() {
        store.watch(Pausing { state: Weak::clone(state), entrance: entrance.clone() });
    }
}
