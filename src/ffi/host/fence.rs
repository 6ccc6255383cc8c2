//! The panic fence: no panic ever unwinds into the host, which would abort the brick for every client.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};

type Rest = Box<dyn FnOnce()>;

thread_local! {
    static REST: RefCell<Vec<Rest>> = const { RefCell::new(Vec::new()) };
}

/// Puts off what a panic that unwinds on this thread has left to do, until it has come to its fence and the stack is in order again.
pub(in crate::ffi) fn put_off(rest: impl FnOnce() + 'static) {
    REST.with_borrow_mut(|all| all.push(Box::new(rest)));
}

/// Runs `run` as one callback of the host. After a panic it logs, does what was [put off](put_off), which answers `EIO` to every
/// request that the panic left without an answer, and returns `fallback`.
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
            REST.take().into_iter().for_each(|rest| rest());
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
