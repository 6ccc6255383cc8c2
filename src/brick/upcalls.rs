//! Whom to tell of what comes and goes in `.fsnap`: it changes beneath the caches of clients, and beneath features/upcall, which tells
//! them of each other's changes.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use fsnap_store::Notice;

use super::caller::sees_all;
use crate::ffi::{Call, Connection, Host, Stale};

/// The connections of clients that may know something of a `.fsnap`: that have looked for one, or into it.
#[derive(Default)]
pub struct Upcalls {
    known: Mutex<HashSet<Connection>>,
    any: AtomicBool,
}

impl Upcalls {
    fn change<T>(&self, change: impl FnOnce(&mut HashSet<Connection>) -> T) -> T {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let done = change(&mut known);
        self.any.store(!known.is_empty(), Ordering::Release);
        done
    }

    /// This caller is about to know something.
    pub fn looks(&self, call: &Call<'_>) {
        // Heal and rebalance have no caches.
        if call.pid() >= 0 && !sees_all(call) {
            self.change(|known| known.insert(call.connection()));
        }
    }

    /// Its caches go with the connection (`GF_EVENT_CHILD_DOWN`).
    pub fn left(&self, connection: &Connection) {
        if self.any.load(Ordering::Acquire) {
            self.change(|known| known.remove(connection));
        }
    }

    /// Tells them, and the host itself. By the time that a command is answered they have been sent it.
    pub fn tell(&self, host: Host, notice: Notice<'_>) {
        if host.is_going() {
            return;
        }
        if let Notice::Removed { dir, name, .. } = notice {
            host.forget_name(dir, name);
        }
        if !self.any.load(Ordering::Acquire) {
            return;
        }
        let (dir, file) = match notice {
            Notice::Added(dir) => (Some(Stale::Entries(dir)), None),
            Notice::Removed { dir, file, .. } => (Some(Stale::Entries(dir)), Some(Stale::Name(file))),
            Notice::Rights(file) => (None, Some(Stale::Attributes(file))),
        };
        // Not while they are sent it: a connection may be found to be broken then.
        let known: Vec<Connection> = self.change(|known| known.iter().cloned().collect());
        for connection in &known {
            [dir, file].into_iter().flatten().for_each(|stale| host.upcall(connection, stale));
        }
    }
}
