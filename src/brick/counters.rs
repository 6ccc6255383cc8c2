//! What happened so far, for the statedump.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use fsnap_core::Error;

use crate::ffi::StateDump;

/// Commands by kind and result, and the time spent cloning.
#[derive(Default)]
pub struct Counters {
    results: Mutex<BTreeMap<(&'static str, Outcome), u64>>,
    clones: AtomicU64,
    clone_micros: AtomicU64,
}

/// How a command ended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Done,
    Failed(i32),
}

impl Counters {
    /// Counts a command of a kind.
    pub fn count<T>(&self, kind: &'static str, result: &Result<T, Error>) {
        let outcome = result.as_ref().map_or_else(|error| Outcome::Failed(error.errno()), |_| Outcome::Done);
        let mut results = self.results.lock().unwrap_or_else(PoisonError::into_inner);
        *results.entry((kind, outcome)).or_default() += 1;
    }

    /// Adds the time of one FICLONE.
    pub fn cloned(&self, time: Duration) {
        self.clones.fetch_add(1, Ordering::Relaxed);
        self.clone_micros.fetch_add(u64::try_from(time.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Writes everything: `create.done=3`, `create.EEXIST=1`, …
    pub fn dump(&self, out: &mut StateDump) {
        out.line("clones", self.clones.load(Ordering::Relaxed));
        out.line("clones.microseconds", self.clone_micros.load(Ordering::Relaxed));
        for ((kind, outcome), count) in &*self.results.lock().unwrap_or_else(PoisonError::into_inner) {
            match outcome {
                Outcome::Done => out.line(&format!("{kind}.done"), count),
                Outcome::Failed(errno) => {
                    out.line(&format!("{kind}.{:?}", nix::errno::Errno::from_raw(*errno)), count)
                }
            }
        }
    }
}
