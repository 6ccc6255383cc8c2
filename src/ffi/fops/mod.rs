//! The fops: they convert, ask the translator, answer or pass on. A file for each group.

use std::ptr::NonNull;

use super::call::Call;
use super::fence::fence;
use super::reply::{Fop, Pending};
use super::role::{Translator, role};
use super::sys;

pub(super) mod gone;
pub(super) mod guard;
pub(super) mod heal;
pub(super) mod list;
pub(super) mod lookup;
pub(super) mod names;
mod pass;
mod rebalance;
pub(super) mod rights;
pub(super) mod truncate;
pub(super) mod xattrs;

/// Runs a fop: `handle` gets the translator, the call and the reply, and `pass` runs if it hands the reply back, or if
/// the host's arguments leave nothing to handle.
///
/// # Safety
/// The arguments are a fop's, and `call` is about its object.
pub(super) unsafe fn fop<T: Translator>(
    (frame, this): (*mut sys::call_frame_t, *mut sys::xlator_t),
    name: Fop,
    call: impl FnOnce(NonNull<sys::call_frame_t>) -> Option<Call<'static>>,
    handle: impl FnOnce(&T, &Call<'_>, Pending) -> Option<Pending>,
    pass: impl FnOnce() -> i32,
) -> i32 {
    let taken = fence("a fop", true, || {
        // SAFETY: the host's promise.
        let (Some(frame), Some(role)) = (NonNull::new(frame), unsafe { role::<T>(this) }) else {
            return false;
        };
        let Some(call) = call(frame) else { return false };
        // SAFETY: the fop is ours, and so is its frame until it is answered or passed on.
        let pending = unsafe { Pending::new(frame, name) };
        match handle(role, &call, pending) {
            Some(back) => {
                back.into_frame();
                false
            }
            None => true,
        }
    });
    if taken { 0 } else { pass() }
}
