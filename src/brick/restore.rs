//! Restores that a carrier brings: see `fsnap_store::Store::arm`.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fsnap_core::command::parse_id;
use fsnap_core::{Error, Gfid, Result};

use super::guard::is_heal;
use super::pool::Key;
use super::{Brick, State};
use crate::ffi::{Call, Connection, HeldTruncate};

/// How long a restore may take from its arming to its end. Then its command is taken for dead, as when its connection is
/// closed.
const LIFE: Duration = Duration::from_secs(60);

/// The files that are armed for a restore whose command may be at work.
#[derive(Default)]
pub struct Arms {
    live: Mutex<HashMap<Gfid, Live>>,
    count: AtomicUsize,
}

#[derive(Clone, Copy)]
struct Live {
    id: Gfid,
    since: Instant,
    by: Connection,
}

impl Live {
    fn is_over(&self) -> bool {
        self.since.elapsed() >= LIFE
    }
}

impl Arms {
    fn change<T>(&self, change: impl FnOnce(&mut HashMap<Gfid, Live>) -> T) -> T {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        live.retain(|_, restore| !restore.is_over());
        let done = change(&mut live);
        self.count.store(live.len(), Ordering::Relaxed);
        done
    }

    /// Restore `id` of `file` begins. [`Error::Restoring`] (`EBUSY`) if another one is under way.
    pub fn add(&self, file: Gfid, id: Gfid, by: Connection) -> Result<()> {
        self.change(|live| match live.get(&file) {
            Some(other) if other.id != id => Err(Error::Restoring),
            _ => {
                live.insert(file, Live { id, since: Instant::now(), by });
                Ok(())
            }
        })
    }

    /// Restore `id` of `file` is over.
    pub fn remove(&self, file: Gfid, id: Gfid) {
        self.change(|live| live.retain(|armed, restore| (*armed, restore.id) != (file, id)));
    }

    /// Whoever used this connection does not come back by it.
    pub fn left(&self, connection: Connection) {
        if self.any() {
            self.change(|live| live.retain(|_, restore| restore.by != connection));
        }
    }

    /// Whether a restore of `file` may be under way.
    pub fn has(&self, file: Gfid) -> bool {
        self.any() && self.change(|live| live.contains_key(&file))
    }

    /// Whether there may be any. A look at memory.
    pub fn any(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }
}

/// A truncate that is no carrier: `EBUSY` if the file is armed, for a carrier that has lost its id on its way would be one
/// like that. Self-heal's are its own business.
pub fn refuse_truncate(state: &State, call: &Call<'_>, file: Gfid) -> Option<i32> {
    (!is_heal(call) && state.arms.has(file)).then(|| {
        tracing::warn!("{file} is not truncated: {}", Error::Restoring);
        Error::Restoring.errno()
    })
}

/// The carrier of restore `id`: the file gets the content of the snapshot, and then the truncate, to the size that it has by
/// now, goes on to storage/posix, for the times and whatever else belongs to a change of data.
pub fn carry(brick: &Brick, call: &Call<'_>, id: &[u8], held: HeldTruncate) {
    let (file, shown) = (call.gfid(), call.shown());
    let id = match parse_id(id) {
        Ok(id) => id,
        Err(error) => return held.fail(error.errno()),
    };
    let state = Arc::clone(&brick.state);
    brick.pool.submit(vec![Key::File(file)], move |turn| {
        let done = turn.in_time().and_then(|turn| {
            let (time, size) = state.store()?.carry(file, id)?;
            state.counters.cloned(time);
            Ok((turn, size))
        });
        state.counters.count("carrier", &done);
        match done {
            Ok((turn, size)) => {
                tracing::info!("restore {id} of {shown}: done");
                held.proceed(state.host, size);
                drop(turn);
            }
            Err(error) => {
                tracing::error!("restore {id} of {shown} failed on this brick: {error}");
                held.fail(error.errno());
            }
        }
    });
}
