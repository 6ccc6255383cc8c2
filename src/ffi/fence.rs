//! The panic fence: no panic ever unwinds into the host, which would abort the brick for every client.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::reply;

/// Runs `run` as one callback of the host. After a panic it logs, answers `EIO` to every request that the panic left
/// without an answer, and returns `fallback`.
pub fn fence<T>(what: &str, fallback: T, run: impl FnOnce() -> T) -> T {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(value) => value,
        Err(panic) => {
            let text = message(panic.as_ref()).to_owned();
            // What was thrown may panic again when it is dropped.
            std::mem::forget(panic);
            let report = || tracing::error!("fsnap has a defect, please report it: panic in {what}: {text}");
            if catch_unwind(AssertUnwindSafe(report)).is_err() {
                // The log itself is broken; the requests still get their answer.
            }
            reply::fail_abandoned();
            fallback
        }
    }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text,
        _ => "(no message)",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_the_fallback() {
        assert_eq!(fence("test", 5, || 7), 7);
        assert_eq!(fence("test", 5, || panic!("on purpose")), 5);
        assert_eq!(fence("test", 5, || std::panic::panic_any(String::from("on purpose"))), 5);
        assert_eq!(fence("test", 5, || std::panic::panic_any(7u8)), 5);
    }
}
