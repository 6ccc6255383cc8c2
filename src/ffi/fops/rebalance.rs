//! Lookups by which rebalance begins to move a file, or leaves it where it is: it moves none that has another link.

use std::ffi::c_void;
use std::ptr::{NonNull, null_mut};

use fsnap_core::Gfid;

use crate::ffi::call::Call;
use crate::ffi::dict::Dict;
use crate::ffi::fence::fence;
use crate::ffi::host::xlator::this;
use crate::ffi::role::{Translator, role};
use crate::ffi::sys;

/// Passes the lookup on if the translator says that it is such a one; true if it was.
///
/// # Safety
/// The arguments are a fop's, `child` is the translator beneath.
pub(super) unsafe fn takes_lookup<T: Translator>(
    (frame, this): (*mut sys::call_frame_t, *mut sys::xlator_t),
    child: *mut sys::xlator_t,
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
    let cookie = Box::into_raw(Box::new(shown));
    // SAFETY: the caller's contract; the frame is given up here. The box is taken back by `found`, or here if that is not
    // called.
    unsafe {
        if sys::fsnap_wind_lookup(frame, cookie.cast(), Some(found::<T>), child, loc, xdata) == 0 {
            drop(Box::from_raw(cookie));
            sys::default_lookup_failure_cbk(frame, libc::ENOMEM);
        }
    }
    true
}

unsafe extern "C" fn found<T: Translator>(
    frame: *mut sys::call_frame_t,
    cookie: *mut c_void,
    translator: *mut sys::xlator_t,
    op_ret: i32,
    op_errno: i32,
    inode: *mut sys::inode_t,
    stat: *mut sys::iatt,
    xdata: *mut sys::dict_t,
    postparent: *mut sys::iatt,
) -> i32 {
    fence("the answer to a lookup of rebalance", (), || {
        // SAFETY: the cookie is the box of `takes_lookup`; the host calls back once.
        let shown = unsafe { Box::from_raw(cookie.cast::<String>()) };
        // SAFETY: the host's promise; where the fop has failed nothing is looked at.
        let (role, stat) = unsafe { (role::<T>(translator), stat.as_mut().filter(|_| op_ret == 0)) };
        if let (Some(role), Some(stat)) = (role, stat)
            && stat.ia_type == sys::IA_IFREG
            && role.stays(Gfid::from_bytes(stat.ia_gfid), &shown)
        {
            stat.ia_nlink = stat.ia_nlink.max(2);
        }
    });
    // SAFETY: the frame came back to us, its owner, to be unwound, with what the host gave.
    unsafe {
        sys::default_lookup_cbk(frame, null_mut(), this(), op_ret, op_errno, inode, stat, xdata, postparent)
    }
}
