//! The restores by a carrier that are under way, as far as memory knows.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use fsnap_core::{Error, Gfid, Result};

use crate::ffi::Connection;

/// How long a restore may take from its arming to its end. Then its command is taken for dead, as when its connection is
/// closed.
const LIFE: Duration = Duration::from_secs(60);

/// The files that are armed for a restore whose command may be at work.
#[derive(Default)]
pub struct Arms {
    live: Mutex<HashMap<Gfid, Live>>,
    count: AtomicUsize,
}

struct Live {
    id: Gfid,
    since: Instant,
    by: Connection,
    /// It has done its part here, and goes with the others.
    over: bool,
}

impl Live {
    fn has_expired(&self) -> bool {
        self.since.elapsed() >= LIFE
    }
}

impl Arms {
    fn change<T>(&self, change: impl FnOnce(&mut HashMap<Gfid, Live>) -> T) -> T {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        live.retain(|_, restore| !restore.has_expired());
        let done = change(&mut live);
        self.count.store(live.len(), Ordering::Relaxed);
        done
    }

    /// Restore `id` of `file` begins. [`Error::Restoring`] (`EBUSY`) if another one is under way.
    pub fn add(&self, file: Gfid, id: Gfid, by: Connection) -> Result<()> {
        self.change(|live| match live.get(&file) {
            Some(other) if other.id != id => Err(Error::Restoring),
            _ => {
                live.insert(file, Live { id, since: Instant::now(), by, over: false });
                Ok(())
            }
        })
    }

    /// Restore `id` of `file` is over.
    pub fn remove(&self, file: Gfid, id: Gfid) {
        self.change(|live| live.retain(|armed, restore| (*armed, restore.id) != (file, id)));
    }

    /// Whoever used this connection does not come back by it.
    pub fn left(&self, connection: &Connection) {
        if self.any() {
            self.change(|live| live.retain(|_, restore| restore.by != *connection));
        }
    }

    /// Whether a restore of `file` may be under way.
    pub fn has(&self, file: Gfid) -> bool {
        self.any() && self.change(|live| live.contains_key(&file))
    }

    /// Whether restore `id` of `file` may be under way.
    pub fn has_id(&self, file: Gfid, id: Gfid) -> bool {
        self.change(|live| live.get(&file).is_some_and(|restore| restore.id == id))
    }

    /// Disperse has noted the end of restore `id` of `file`.
    pub fn ended(&self, file: Gfid, id: Gfid) {
        self.change(|live| {
            if let Some(restore) = live.get_mut(&file).filter(|restore| restore.id == id) {
                restore.over = true;
            }
        });
    }

    /// The restore of `file` whose end disperse has noted, and of which its command has not been heard yet.
    pub fn over(&self, file: Gfid) -> Option<Gfid> {
        self.change(|live| live.get(&file).filter(|restore| restore.over).map(|restore| restore.id))
    }

    /// Whether there may be any. A look at memory.
    pub fn any(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }
}

/// The fragments that a carrier has changed, until the disperse translator has noted that all of them are: who reads some with
/// the new content and some with the old reads neither. It does that before it lets others at the file; so if somebody else
/// comes the one who carried is dead. By whom, if that is known: no connection has the name of an earlier one.
#[derive(Default)]
pub struct Halves {
    files: RwLock<HashMap<Gfid, Option<Connection>>>,
    count: AtomicUsize,
}

impl Halves {
    fn change(&self, change: impl FnOnce(&mut HashMap<Gfid, Option<Connection>>)) {
        let mut files = self.files.write().unwrap_or_else(PoisonError::into_inner);
        change(&mut files);
        self.count.store(files.len(), Ordering::Release);
    }

    pub fn add(&self, file: Gfid, by: Option<Connection>) {
        self.change(|files| _ = files.insert(file, by));
    }

    pub fn remove(&self, file: Gfid) {
        if self.has(file) {
            self.change(|files| _ = files.remove(&file));
        }
    }

    /// Whether there are any. A look at memory.
    pub fn any(&self) -> bool {
        self.count.load(Ordering::Acquire) > 0
    }

    /// Whether `file` is one of them. A look at memory if there are none.
    pub fn has(&self, file: Gfid) -> bool {
        self.any() && self.by(file).is_some()
    }

    pub fn by(&self, file: Gfid) -> Option<Option<Connection>> {
        self.files.read().unwrap_or_else(PoisonError::into_inner).get(&file).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_abandoned_restore_is_over_after_a_while() {
        let arms = Arms::default();
        let [file, one, other] = [1, 2, 3].map(|n| Gfid::from_bytes([n; 16]));
        let [here, there] = [&b"here"[..], b"there"].map(Connection::named);
        arms.add(file, one, here.clone()).unwrap();
        assert!(arms.add(file, other, there.clone()).is_err() && arms.has_id(file, one));
        // It is not the second one's to end.
        arms.remove(file, other);
        arms.left(&there);
        assert!(arms.has_id(file, one) && !arms.has_id(file, other));

        let age = |by: Duration| {
            for restore in arms.live.lock().unwrap().values_mut() {
                restore.since = restore.since.checked_sub(by).expect("the machine is up for longer");
            }
        };
        age(LIFE / 2);
        assert!(arms.has(file));
        age(LIFE / 2);
        assert!(!arms.has(file) && !arms.any());
        arms.add(file, other, there.clone()).unwrap();
        arms.left(&there);
        assert!(!arms.has(file));
    }
}
