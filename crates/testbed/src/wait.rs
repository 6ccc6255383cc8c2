//! Waiting with a bound, for what other processes do.

use std::thread::sleep;
use std::time::{Duration, Instant};

use thiserror::Error;

/// How long to pause between two looks.
const PAUSE: Duration = Duration::from_millis(5);

/// What was waited for did not come.
#[derive(Debug, Error)]
#[error("waited {waited:?} in vain until {what}")]
pub struct TimedOut {
    /// What was waited for.
    pub what: String,
    /// How long.
    pub waited: Duration,
}

/// Waits until `holds` says true, at most for `timeout`.
pub fn try_wait_until(
    what: &str,
    timeout: Duration,
    mut holds: impl FnMut() -> bool,
) -> Result<(), TimedOut> {
    let start = Instant::now();
    loop {
        if holds() {
            return Ok(());
        }
        if start.elapsed() >= timeout {
            return Err(TimedOut { what: what.to_owned(), waited: timeout });
        }
        sleep(PAUSE);
    }
}

/// Waits until `holds` says true.
///
/// # Panics
/// If that does not happen within `timeout`; the message names `what`.
#[track_caller]
pub fn wait_until(what: &str, timeout: Duration, holds: impl FnMut() -> bool) {
    if let Err(error) = try_wait_until(what, timeout, holds) {
        panic!("{error}");
    }
}
