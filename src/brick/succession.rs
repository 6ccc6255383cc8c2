//! The instances of one brick in this process: with brick multiplexing the next may be up before the last is down.
//!
//! protocol/server keeps by the brick's name whether it is up (`server_process_child_event`). The last one's end, which may be
//! long in coming, then counts as the end of the next one: no client gets in any more ("Not received child_up"). So that one
//! says once more that it is up when the last is gone.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};

use crate::ffi::{Host, fence};

static KNOWN: Mutex<Known> = Mutex::new(Known { up: Vec::new(), ever: BTreeSet::new() });

struct Known {
    /// Those that are up, by the brick's directory.
    up: Vec<(PathBuf, Host)>,
    /// The bricks of which one ever was.
    ever: BTreeSet<PathBuf>,
}

fn known() -> MutexGuard<'static, Known> {
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One is up.
pub fn came(directory: &Path, host: Host) {
    let mut known = known();
    known.ever.insert(directory.to_owned());
    if !known.up.iter().any(|(_, other)| *other == host) {
        known.up.push((directory.to_owned(), host));
    }
}

/// Whether an instance of this brick ever was up in this process. A brick of which protocol/server has never heard that, it lets
/// clients to (`server_setvolume`).
pub fn was_up(directory: &Path) -> bool {
    known().ever.contains(directory)
}

/// One is gone, and its translators above have been told.
pub fn went(directory: &Path, host: Host) {
    // Until the end: those that are in there are not taken apart meanwhile.
    let mut known = known();
    known.up.retain(|(_, other)| *other != host);
    for (_, next) in known.up.iter().filter(|(other, next)| other == directory && !next.is_going()) {
        tracing::info!("an earlier instance of this brick is gone: clients are let in again");
        next.says_that_it_is_up();
    }
}

/// An instance that waits for its turn, on a thread of its own.
#[derive(Default)]
pub struct Waiting(Mutex<Option<(Arc<AtomicBool>, JoinHandle<()>)>>);

impl Waiting {
    /// Runs `wait`, which is told by a function whether it goes on. It does nothing if it waits already.
    pub fn start(&self, wait: impl FnOnce(&dyn Fn() -> bool) + Send + 'static) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.as_ref().is_some_and(|(_, thread)| !thread.is_finished()) {
            return;
        }
        let over = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&over);
        let body = move || fence("an instance that waits", (), || wait(&|| !seen.load(Ordering::Relaxed)));
        match Builder::new().name("fsnap-waits".into()).spawn(body) {
            Ok(thread) => *waiting = Some((over, thread)),
            Err(why) => tracing::error!("this brick stays down, no thread can be had to wait for it: {why}"),
        }
    }

    /// Gives up, and returns when nothing of it is at work any more.
    pub fn end(&self) {
        let waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((over, thread)) = waiting {
            over.store(true, Ordering::Relaxed);
            // Its panics end at its fence.
            let _ = thread.join();
        }
    }
}
