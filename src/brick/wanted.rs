//! What self-heal is to bring, and what of this brick is not to be trusted when it comes.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

use fsnap_core::{Gfid, SnapName};
use fsnap_store::Store;

/// Snapshots that this brick refused to take because it had one of that name. If the others have taken it, the one here is
/// left from a command that failed on them, and has the same gfid: so its content is not to be trusted. Too many to keep are
/// forgotten.
#[derive(Default)]
pub struct Doubts(Mutex<HashMap<Gfid, BTreeSet<SnapName>>>);

impl Doubts {
    /// No more files than that.
    const MOST: usize = 10_000;

    pub fn add(&self, base: Gfid, name: &SnapName) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() < Self::MOST || all.contains_key(&base) {
            all.entry(base).or_default().insert(name.clone());
        }
    }

    pub fn of(&self, base: Gfid) -> BTreeSet<SnapName> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&base).cloned().unwrap_or_default()
    }

    pub fn clear(&self, base: Gfid) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&base);
    }
}

/// The snapshots that self-heal was asked for, by the `.fsnap` that they belong into.
///
/// When granular entry heal is done with a directory it throws away all names that it was to look at, also those that were
/// added meanwhile, on behalf of another file (features/index, `xattrop_index_action`): so it is not let be done while
/// something is missing.
#[derive(Default)]
pub struct Awaited(Mutex<HashMap<Gfid, HashMap<Gfid, u8>>>);

impl Awaited {
    /// How often self-heal is sent back for one. No brick may have it.
    const TRIES: u8 = 5;

    pub fn add(&self, snap_dir: Gfid, payloads: &BTreeSet<Gfid>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(snap_dir).or_default().extend(payloads.iter().map(|&payload| (payload, Self::TRIES)));
    }

    /// What is still missing in `snap_dir`, each of which was sent for once more.
    pub fn again(&self, store: &Store, snap_dir: Gfid) -> usize {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(here) = all.get_mut(&snap_dir) else { return 0 };
        here.retain(|payload, tries| {
            if store.has(*payload) {
                return false;
            }
            *tries = tries.saturating_sub(1);
            if *tries == 0 {
                tracing::error!(
                    "self-heal does not find snapshot {payload}, which the catalogue has, on any brick"
                );
            }
            *tries > 0
        });
        let left = here.len();
        if left == 0 {
            all.remove(&snap_dir);
        }
        left
    }
}
