//! Fops by which self-heal brings what a brick has missed.

use std::ffi::CStr;
use std::ptr::{NonNull, null_mut};

use fsnap_core::Gfid;

use crate::ffi::call::{Call, gfid_of};
use crate::ffi::change::{How, Place, entry};
use crate::ffi::dict::{Dict, OwnedDict};
use crate::ffi::fence::fence;
use crate::ffi::heal::{Arguments, GFID_REQ, HeldMake, HeldSet};
use crate::ffi::reply::{Fop, Pending};
use crate::ffi::role::{Translator, forbidden, refusal, role};
use crate::ffi::sys;

/// setxattr by self-heal of what deserves a look; true if the translator has taken it.
///
/// # Safety
/// The arguments are a fop's.
pub(in crate::ffi) unsafe fn takes_set<T: Translator>(
    (frame, this): (*mut sys::call_frame_t, *mut sys::xlator_t),
    loc: *mut sys::loc_t,
    dict: *mut sys::dict_t,
    flags: i32,
    xdata: *mut sys::dict_t,
) -> bool {
    fence("a setxattr of self-heal", true, || {
        // SAFETY: the host's promise.
        let (Some(frame), Some(role)) = (NonNull::new(frame), unsafe { role::<T>(this) }) else {
            return false;
        };
        // SAFETY: the host's promise.
        let (Some(call), Some(values)) = (unsafe { (Call::on_loc(frame, loc), Dict::new(dict)) }) else {
            return false;
        };
        // SAFETY: the fop is ours, and so is its frame until it is answered or passed on.
        let pending = unsafe { Pending::new(frame, Fop::Setxattr) };
        if !role.heals_catalogue(&call, values) {
            pending.into_frame();
            return false;
        }
        // SAFETY: the host's promise.
        match unsafe { Arguments::hold(loc, dict, xdata) } {
            None => pending.fail(libc::ENOMEM),
            Some(mut arguments) => {
                arguments.flags = flags;
                role.heal_catalogue(&call, values, HeldSet { pending, arguments });
            }
        }
        true
    })
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
    let taken = fence("a mknod", true, || {
        // SAFETY: the host's promise.
        let (Some(frame), Some(role)) = (NonNull::new(frame), unsafe { role::<T>(this) }) else {
            return false;
        };
        // SAFETY: the host's promise.
        let (call, asked) =
            unsafe { (Call::on_nothing(frame), Dict::new(xdata).and_then(|xdata| xdata.get(GFID_REQ))) };
        // SAFETY: the host's promise.
        let Some((parent, name)) = (unsafe { loc.as_ref().and_then(|loc| entry(loc)) }) else { return false };
        let Some(gfid) = asked.and_then(|gfid| Gfid::from_xattr(gfid).ok()) else { return false };
        // SAFETY: the fop is ours, and so is its frame until it is answered or passed on.
        let pending = unsafe { Pending::new(frame, Fop::Mknod) };
        if !role.heals_name(&call, parent, gfid) {
            pending.into_frame();
            return false;
        }
        // SAFETY: the host's promise.
        match unsafe { Arguments::hold(loc, null_mut(), xdata) } {
            None => pending.fail(libc::ENOMEM),
            Some(mut arguments) => {
                (arguments.mode, arguments.rdev, arguments.umask) = (mode, rdev, umask);
                role.heal_name(parent, name, gfid, HeldMake { pending, arguments });
            }
        }
        true
    });
    // SAFETY: the host's promise, for passing it on.
    unsafe {
        if taken {
            return 0;
        }
        let refused = refusal::<T>((frame, this), &[Place::entry(&*loc)], How::Other, xdata);
        match refused.or_else(|| forbidden::<T>((frame, this), &[xdata])) {
            Some(errno) => sys::default_mknod_failure_cbk(frame, errno),
            None => sys::default_mknod(frame, this, loc, mode, rdev, umask, xdata),
        }
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
