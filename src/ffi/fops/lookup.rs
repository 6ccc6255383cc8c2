//! lookup.

use std::ffi::CStr;

use fsnap_core::SNAP_DIR;

use super::{fop, gone, rebalance};
use crate::ffi::call::Call;
use crate::ffi::change::{Target, entry};
use crate::ffi::dict::{Dict, OwnedDict};
use crate::ffi::filter;
use crate::ffi::reply::{Fop, Pending};
use crate::ffi::role::{Translator, forbidden, hidden_xattrs, role};
use crate::ffi::sys;

/// `GF_CONTENT_KEY`: with it a lookup asks for the content of a small file.
const CONTENT: &CStr = c"glusterfs.content";

pub(in crate::ffi) unsafe extern "C" fn lookup<T: Translator>(
    frame: *mut sys::call_frame_t,
    this: *mut sys::xlator_t,
    loc: *mut sys::loc_t,
    xdata: *mut sys::dict_t,
) -> i32 {
    let handle = |role: &T, call: &Call<'_>, pending: Pending| {
        // SAFETY: the host's promise.
        if let Some(errno) = unsafe { forbidden::<T>((frame, this), &[xdata]) } {
            pending.fail(errno);
            return None;
        }
        // SAFETY: the host's promise; `call` exists only if `loc` is not null.
        let Some((parent, name)) = (unsafe { entry(&*loc) }) else {
            // SAFETY: as above.
            return match unsafe { gone::refusal::<T>((frame, this), Target::file(&*loc)) } {
                Some(errno) => {
                    pending.fail(errno);
                    None
                }
                None => {
                    if call.gfid().is_derived() {
                        role.shows(call, call.gfid());
                    }
                    Some(pending)
                }
            };
        };
        // SAFETY: the host's promise.
        match role.lookup(call, parent, name, unsafe { Dict::new(xdata) }) {
            Some(errno) => pending.fail(errno),
            None => return Some(pending),
        }
        None
    };
    // SAFETY: the host's promise.
    let whole = unsafe { role::<T>(this).is_none_or(|role| !role.any_half_restored()) };
    // The content of small files is not given with the lookup then.
    // SAFETY: the host's promise.
    let without =
        unsafe { Dict::new(xdata) }.filter(|_| !whole).and_then(|dict| OwnedDict::without(dict, CONTENT));
    let xdata = without.as_ref().map_or(xdata, OwnedDict::as_ptr);
    // SAFETY: the host's promise, for the call and for passing it on; what is passed on has references of its own if it is kept.
    unsafe {
        fop(
            (frame, this),
            Fop::Lookup,
            |frame| Call::on_loc(frame, loc),
            handle,
            || {
                if rebalance::takes_lookup::<T>((frame, this), loc, xdata) {
                    return 0;
                }
                let all = Dict::new(xdata).is_some_and(|dict| dict.get(filter::LIST_XATTR).is_some());
                let hidden = hidden_xattrs::<T>(frame, this).filter(|_| all);
                filter::lookup((frame, this), (hidden, may_be_derived(loc)), loc, xdata)
            },
        )
    }
}

/// Whether a lookup may find what fsnap has derived.
///
/// # Safety
/// `loc` is null or a fop's.
unsafe fn may_be_derived(loc: *const sys::loc_t) -> bool {
    // SAFETY: the caller's contract.
    let Some(loc) = (unsafe { loc.as_ref() }) else { return false };
    // SAFETY: as above.
    match unsafe { Target::entry(loc) } {
        Target::Entry(parent, name) => parent.is_derived() || name == SNAP_DIR.as_bytes(),
        Target::File(file) | Target::Open(file) => file.is_derived(),
    }
}
