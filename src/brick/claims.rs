//! Who may bring a deleted file back: to him it is there, for as long as that takes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use fsnap_core::Gfid;

use crate::ffi::Connection;

/// How long a file may take to come back. Then its command is taken for dead, as when its connection is closed.
const LIFE: Duration = Duration::from_secs(120);

/// The deleted files that somebody is about to bring back, and by which connection.
#[derive(Default)]
pub struct Claims {
    known: Mutex<HashMap<Gfid, (Connection, Instant)>>,
    count: AtomicUsize,
}

impl Claims {
    fn change<T>(&self, change: impl FnOnce(&mut HashMap<Gfid, (Connection, Instant)>) -> T) -> T {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, (_, since)| since.elapsed() < LIFE);
        let done = change(&mut known);
        self.count.store(known.len(), Ordering::Release);
        done
    }

    fn any(&self) -> bool {
        self.count.load(Ordering::Acquire) > 0
    }

    /// From now on `file` is there for `by`. False if somebody else is about to bring it back, from whom root takes it.
    pub fn add(&self, file: Gfid, by: Connection, is_root: bool) -> bool {
        self.change(|known| {
            let free = is_root || known.get(&file).is_none_or(|(other, _)| *other == by);
            if free {
                known.insert(file, (by, Instant::now()));
            }
            free
        })
    }

    /// Whether it is there for `by`. A look at memory if nobody brings anything back.
    pub fn has_by(&self, file: Gfid, by: impl FnOnce() -> Connection) -> bool {
        self.any() && self.change(|known| known.get(&file).is_some_and(|(known, _)| *known == by()))
    }

    /// Whether it is there for anybody.
    pub fn has(&self, file: Gfid) -> bool {
        self.any() && self.change(|known| known.contains_key(&file))
    }

    /// It is back.
    pub fn remove(&self, file: Gfid) {
        self.change(|known| known.remove(&file));
    }

    /// Whoever used this connection does not come back by it.
    pub fn left(&self, connection: &Connection) {
        if self.any() {
            self.change(|known| known.retain(|_, (by, _)| by != connection));
        }
    }
}
