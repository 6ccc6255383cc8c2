//! Fops by which self-heal brings what a brick has missed.

use std::ffi::CStr;
use std::ptr::NonNull;

use fsnap_core::Gfid;

use super::fop;
use crate::ffi::call::{Call, gfid_of};
use crate::ffi::change::{GFID_REQ, How, Target, entry};
use crate::ffi::dict::{Dict, OwnedDict};
use crate::ffi::fence::fence;
use crate::ffi::held::{HeldMake, HeldSet, Making, Setting};
use crate::ffi::reply::Fop;
use crate::ffi::role::{Translator, forbidden, refusal, role};
use crate::ffi::sys;

/// setxattr that may be self-heal's: else it goes on by `pass`.
///
/// # Safety
/// The arguments are a fop's.
pub(in crate::ffi) unsafe fn setxattr<T: Translator>(
    (frame, this): (*mut sys::call_frame_t, *mut sys::xlator_t),
    loc: *mut sys::loc_t,
    dict: *mut sys::dict_t,
    flags: i32,
    xdata: *mut sys::dict_t,
    pass: impl FnOnce() -> i32,
) -> i32 {
    let handle = |role: &T, call: &Call<'_>, pending| {
        // SAFETY: the host's promise.
        let values = unsafe { Dict::new(dict) }.filter(|values| role.heals_catalogue(call, *values));
        let Some(values) = values else { return Some(pending) };
        // SAFETY: the host's promise.
        let held =
            unsafe { HeldSet::hold(pending, loc, xdata, Setting { dict: OwnedDict::again(dict), flags }) };
        if let Some(held) = held {
            role.heal_catalogue(call, values, held);
        }
        None
    };
    // SAFETY: the caller's contract.
    unsafe { fop((frame, this), Fop::Setxattr, |frame| Call::on_loc(frame, loc), handle, pass) }
}

pub(in crate::ffi) unsafe extern "C" fn mknod<T: Translator>(
    frame: *mut sys::call_frame_t,
    this: *mut sys::xlator_t,
    loc: *mut sys::loc_t,
    mode: sys::mode_t,
    rdev: sys::dev_t,
    umask: sys::mode_t,
    xdata: *mut sys::dict_t,
) -> i32 {
    let handle = |role: &T, call: &Call<'_>, pending| {
        // SAFETY: the host's promise.
        let (place, asked) = unsafe {
            let asked = Dict::new(xdata).and_then(|xdata| xdata.get(GFID_REQ));
            (loc.as_ref().and_then(|loc| entry(loc)), asked)
        };
        let gfid = asked.and_then(|gfid| Gfid::from_xattr(gfid).ok());
        let (Some((parent, name)), Some(gfid)) = (place, gfid) else { return Some(pending) };
        if !role.heals_name(call, parent, gfid) {
            return Some(pending);
        }
        // SAFETY: the host's promise.
        if let Some(held) = unsafe { HeldMake::hold(pending, loc, xdata, Making { mode, rdev, umask }) } {
            role.heal_name(parent, name, gfid, held);
        }
        None
    };
    // SAFETY: the host's promise, for looking and for passing it on.
    unsafe {
        let pass = || {
            let refused = refusal::<T>((frame, this), &[Target::entry(&*loc)], How::Other, xdata);
            match refused.or_else(|| forbidden::<T>((frame, this), &[xdata])) {
                Some(errno) => sys::default_mknod_failure_cbk(frame, errno),
                None => sys::default_mknod(frame, this, loc, mode, rdev, umask, xdata),
            }
        };
        fop((frame, this), Fop::Mknod, |frame| Some(Call::on_nothing(frame)), handle, pass)
    }
}

/// removexattr of all that is in `xdata`, by self-heal, which sets them anew right after: what the translator keeps is left
/// out.
///
/// # Safety
/// The arguments are a fop's.
pub(in crate::ffi) unsafe fn kept<T: Translator>(
    (frame, this): (*mut sys::call_frame_t, *mut sys::xlator_t),
    loc: *mut sys::loc_t,
    name: *const std::ffi::c_char,
    xdata: *mut sys::dict_t,
) -> Option<OwnedDict> {
    fence("a removexattr of self-heal", None, || {
        // SAFETY: the host's promise. (`posix_is_bulk_removexattr`: the name is empty.)
        unsafe {
            if name.is_null() || !CStr::from_ptr(name).is_empty() {
                return None;
            }
            let (call, names) = (Call::on_nothing(NonNull::new(frame)?), Dict::new(xdata)?);
            let kept = role::<T>(this)?.heal_keeps(&call, gfid_of(loc.as_ref()?), names)?;
            OwnedDict::without(names, kept)
        }
    })
}
