//! Faults on purpose, for tests: before each change to the disk there is a point at which a crash or an error can be
//! ordered.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::panic::Location;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use nix::sys::signal::{Signal, raise};

/// What happens at a point.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The thread panics with [`Crash`]: nothing more reaches the disk, as if the process had been killed.
    Crash,
    /// This change fails.
    Fail(Errno),
    /// This change and all that follow fail: the file system has shut down.
    FailFrom(Errno),
}

/// What a panic of [`Fault::Crash`] carries.
#[derive(Debug)]
pub struct Crash;

thread_local! {
    static ORDERED: Cell<Option<(u64, Fault)>> = const { Cell::new(None) };
}

/// The point at which any thread of the process is killed; 0 for none.
static KILL_AT: AtomicU64 = AtomicU64::new(0);
/// The point from which on all fail with `EIO`, on whatever thread of the process; 0 for none.
static FAIL_FROM: AtomicU64 = AtomicU64::new(0);
static VISITED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Runs `call`, with `fault` at the `at`th point (from 1) that this thread comes to in it. True if it came to that.
pub fn with<T>(at: u64, fault: Fault, call: impl FnOnce() -> T) -> (T, bool) {
    struct Disarm;
    impl Drop for Disarm {
        fn drop(&mut self) {
            ORDERED.set(None);
        }
    }
    ORDERED.set(Some((at, fault)));
    let _disarm = Disarm;
    let result = call();
    (result, ORDERED.get().is_none_or(|(left, _)| left == 0))
}

/// Kills the process at the `at`th point (from 1) that any thread comes to from now on.
pub fn kill_at(at: u64) {
    KILL_AT.store(at, Ordering::Relaxed);
}

/// From the `at`th point (from 1) that any thread comes to all fail with `EIO`, until this is called with 0.
pub fn fail_from(at: u64) {
    FAIL_FROM.store(at, Ordering::Relaxed);
}

/// The points that were come to: the file and what it was about to do.
pub fn visited() -> BTreeSet<String> {
    VISITED.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
}

/// One change to the disk, `what`, is about to be made.
#[track_caller]
pub(crate) fn point(what: &str) -> nix::Result<()> {
    let file = Location::caller().file().rsplit('/').next().unwrap_or_default();
    // Of a function that was passed on as one it is not known who calls.
    let file = if file == "function.rs" { "sys.rs" } else { file };
    VISITED.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(format!("{file}: {what}"));
    if KILL_AT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)) == Ok(1) {
        let _ = raise(Signal::SIGKILL);
    }
    let count_down = |left: u64| (left > 1).then(|| left - 1);
    if FAIL_FROM.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count_down) == Err(1) {
        return Err(Errno::EIO);
    }
    let Some((left, fault)) = ORDERED.get() else { return Ok(()) };
    if left > 1 {
        ORDERED.set(Some((left - 1, fault)));
        return Ok(());
    }
    match fault {
        // Done with: whatever the thread does while it unwinds is not hit again.
        Fault::Crash => {
            ORDERED.set(None);
            std::panic::panic_any(Crash)
        }
        Fault::Fail(errno) => {
            ORDERED.set(None);
            Err(errno)
        }
        Fault::FailFrom(errno) => {
            ORDERED.set(Some((0, fault)));
            Err(errno)
        }
    }
}
