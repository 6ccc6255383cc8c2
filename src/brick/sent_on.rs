//! Who was sent on to other bricks, to look for a `.fsnap` there.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use fsnap_core::Gfid;

use crate::ffi::{Call, Connection};

/// One look of a client's comes twice, first to one brick and then to all: by one process of one connection, about one directory. It
/// is sent on once: if nobody has it the answer is that it is not there. (For FUSE a thread is a process; of one that is a client itself
/// threads may look at once, and are not told apart.)
#[derive(Default)]
pub struct SentOn(Mutex<HashMap<(Connection, i32, Gfid), Look>>);

/// When it came first, and when again.
struct Look {
    first: Instant,
    second: Option<Instant>,
}

impl Look {
    /// Whether what comes now belongs to it.
    fn has(&self, now: Instant) -> bool {
        match self.second {
            None => now.duration_since(self.first) < SentOn::SAME,
            Some(second) => now.duration_since(second) < SentOn::AT_ONCE,
        }
    }
}

impl SentOn {
    /// For how long it may take to come again.
    const SAME: Duration = Duration::from_secs(1);
    /// Within that, what comes once more is another thread's, which has looked at the same time.
    const AT_ONCE: Duration = Duration::from_millis(20);
    /// So many at a time; further ones are not sent on.
    const MOST: usize = 10_000;

    /// Whether the caller has not been sent on already, which he is to be then.
    pub fn is_first(&self, call: &Call<'_>, parent: Gfid) -> bool {
        let mut sent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if sent.len() >= Self::MOST {
            sent.retain(|_, look| look.has(now));
        }
        let full = sent.len() >= Self::MOST;
        let key = (call.connection(), call.pid(), parent);
        match sent.get_mut(&key) {
            Some(look) if look.has(now) => {
                look.second.get_or_insert(now);
                false
            }
            _ if full => false,
            _ => {
                sent.insert(key, Look { first: now, second: None });
                true
            }
        }
    }
}
