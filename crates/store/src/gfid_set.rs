//! A set of files that is asked for at every fop, and nearly always empty.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock};

use fsnap_core::Gfid;

/// While it is empty, to ask is a look at one number.
#[derive(Default)]
pub(crate) struct GfidSet {
    files: RwLock<HashSet<Gfid>>,
    count: AtomicUsize,
}

impl GfidSet {
    pub fn any(&self) -> bool {
        self.count.load(Ordering::Acquire) > 0
    }

    pub fn has(&self, file: Gfid) -> bool {
        self.any() && self.files.read().unwrap_or_else(PoisonError::into_inner).contains(&file)
    }

    /// All of them, in no order.
    pub fn all(&self) -> Vec<Gfid> {
        self.files.read().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }

    /// Takes `file` out; false if it was not in there.
    pub fn take(&self, file: Gfid) -> bool {
        if !self.has(file) {
            return false;
        }
        let mut files = self.files.write().unwrap_or_else(PoisonError::into_inner);
        let was = files.remove(&file);
        self.count.store(files.len(), Ordering::Release);
        was
    }

    pub fn set(&self, file: Gfid, has: bool) {
        let mut files = self.files.write().unwrap_or_else(PoisonError::into_inner);
        if has {
            files.insert(file)
        } else {
            files.remove(&file)
        };
        self.count.store(files.len(), Ordering::Release);
    }
}
