//! The truncates of ours that are on their way down.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::ffi::{Call, HeldTruncate, Request};

/// What is done with the truncate when it has come here.
pub type Arrival = Box<dyn FnOnce(HeldTruncate) + Send>;

/// By the request that each is.
#[derive(Default)]
pub struct Sent {
    sent: Mutex<HashMap<Request, Arrival>>,
    count: AtomicUsize,
}

impl Sent {
    pub fn change<T>(&self, change: impl FnOnce(&mut HashMap<Request, Arrival>) -> T) -> T {
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        let done = change(&mut sent);
        self.count.store(sent.len(), Ordering::Release);
        done
    }

    /// Whether there may be any. A look at memory.
    pub fn any(&self) -> bool {
        self.count.load(Ordering::Acquire) > 0
    }

    /// Whether this truncate is one of them.
    pub fn has(&self, call: &Call<'_>) -> bool {
        self.change(|sent| sent.contains_key(&call.request()))
    }

    /// One of them has come here.
    pub fn arrived(&self, call: &Call<'_>, held: HeldTruncate) {
        match self.change(|sent| sent.remove(&call.request())) {
            Some(arrival) => arrival(held),
            None => held.fail(libc::EIO),
        }
    }
}
