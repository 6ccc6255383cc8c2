//! Who was sent on to other bricks, to look for a `.fsnap` there.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use fsnap_core::Gfid;

use crate::ffi::{Call, Connection};

/// One look of a client's comes twice, first to one brick and then to all: by one process of one connection, about one directory. It
/// is sent on once: if nobody has it the answer is that it is not there.
#[derive(Default)]
pub struct SentOn(Mutex<HashMap<(Connection, i32, Gfid), Instant>>);

impl SentOn {
    /// For how long it is the same look.
    const SAME: Duration = Duration::from_secs(1);
    /// So many at a time; further ones are not sent on.
    const MOST: usize = 10_000;

    /// Whether the caller has not been sent on already, which he is to be then.
    pub fn is_first(&self, call: &Call<'_>, parent: Gfid) -> bool {
        let mut sent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if sent.len() >= Self::MOST {
            sent.retain(|_, when| now.duration_since(*when) < Self::SAME);
        }
        let key = (call.connection(), call.pid(), parent);
        match sent.get(&key) {
            Some(when) if now.duration_since(*when) < Self::SAME => false,
            _ if sent.len() >= Self::MOST => false,
            _ => {
                sent.insert(key, now);
                true
            }
        }
    }
}
