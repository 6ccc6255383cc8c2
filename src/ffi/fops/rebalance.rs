//! Lookups by which rebalance begins to move a file, or leaves it where it is: it moves none that has another link.

use std::marker::PhantomData;
use std::ptr::NonNull;

use fsnap_core::Gfid;

use crate::ffi::call::Call;
use crate::ffi::dict::Dict;
use crate::ffi::fence::fence;
use crate::ffi::reply::{Answer, Fop};
use crate::ffi::role::{Translator, role};
use crate::ffi::sys;
use crate::ffi::wind::{Later, Waiter, down, lookup_cbk};

/// Passes the lookup on if the translator says that it is such a one; true if it was.
///
/// # Safety
/// The arguments are a fop's; `this` has a translator beneath (checked at init).
pub(super) unsafe fn takes_lookup<T: Translator>(
    (frame, this): (*mut sys::call_frame_t, *mut sys::xlator_t),
    loc: *mut sys::loc_t,
    xdata: *mut sys::dict_t,
) -> bool {
    let shown = fence("a lookup of rebalance", None, || {
        // SAFETY: the host's promise.
        let (call, asked, role) =
            unsafe { (Call::on_loc(NonNull::new(frame)?, loc)?, Dict::new(xdata)?, role::<T>(this)?) };
        role.begins_to_move(&call, asked).then(|| call.shown())
    });
    let Some(shown) = shown else { return false };
    // SAFETY: the caller's contract; the frame is given up here.
    unsafe {
        let child = (*(*this).children).xlator;
        down((frame, this), Fop::Lookup, LookupToMove::<T>(shown, PhantomData), |frame, cookie| {
            sys::fsnap_wind_lookup(frame, cookie, Some(lookup_cbk::<LookupToMove<T>>), child, loc, xdata)
        });
    }
    true
}

/// What such a lookup was about, for the log.
struct LookupToMove<T>(String, PhantomData<T>);

impl<T: Translator> Waiter for LookupToMove<T> {
    const WHAT: &'static str = "the answer to a lookup of rebalance";

    fn answered(self, this: *mut sys::xlator_t, answer: &mut Answer) -> Option<Later> {
        // SAFETY: the host's promise; where the fop has failed nothing is looked at.
        let (role, stat) =
            unsafe { (role::<T>(this)?, answer.iatts[0].as_mut().filter(|_| answer.op_ret == 0)?) };
        if stat.ia_type == sys::IA_IFREG && role.stays(Gfid::from_bytes(stat.ia_gfid), &self.0) {
            stat.ia_nlink = stat.ia_nlink.max(2);
        }
        None
    }
}
