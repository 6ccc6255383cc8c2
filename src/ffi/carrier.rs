//! A truncate that carries a restore, held.

use std::ffi::c_void;
use std::ptr::null_mut;

use super::copies::OwnedLoc;
use super::dict::OwnedDict;
use super::host::xlator::{Host, this};
use super::reply::{Fop, Pending};
use super::sys;

/// A truncate, held.
pub struct HeldTruncate {
    pending: Pending,
    arguments: Box<Arguments>,
}

struct Arguments {
    loc: OwnedLoc,
    xdata: Option<OwnedDict>,
}

impl HeldTruncate {
    /// Keeps what the fop needs, so that it can go on later. Answers `ENOMEM` if the host has no memory.
    ///
    /// # Safety
    /// The arguments are those of the pending fop.
    pub(super) unsafe fn hold(
        pending: Pending,
        loc: *const sys::loc_t,
        xdata: *mut sys::dict_t,
    ) -> Option<Self> {
        // SAFETY: the caller's contract.
        match unsafe { OwnedLoc::copy(loc).map(|loc| Arguments { loc, xdata: OwnedDict::again(xdata) }) } {
            Some(arguments) => Some(HeldTruncate { pending, arguments: Box::new(arguments) }),
            None => {
                pending.fail(libc::ENOMEM);
                None
            }
        }
    }

    /// Answers with an error.
    pub fn fail(self, errno: i32) {
        let HeldTruncate { pending, arguments } = self;
        // Before the answer: once a request is answered, the host may end.
        drop(arguments);
        pending.fail(errno);
    }

    /// Passes it on to the translator beneath, as a truncate to `size`.
    pub fn proceed(self, host: Host, size: i64) {
        let HeldTruncate { pending, mut arguments } = self;
        let (frame, child, loc) = (pending.into_frame(), host.child(), arguments.loc.as_ptr());
        let xdata = OwnedDict::ptr_of(arguments.xdata.as_ref());
        let cookie = Box::into_raw(arguments);
        // SAFETY: the frame is pending and given up here; the arguments live until `truncated` takes the box back, or here if
        // that is not called.
        unsafe {
            let (frame_ptr, cbk) = (frame.as_ptr(), Some(truncated as _));
            if sys::fsnap_wind_truncate(frame_ptr, cookie.cast(), cbk, child, loc, size, xdata) == 0 {
                drop(Box::from_raw(cookie));
                Pending::new(frame, Fop::Truncate).fail(libc::ENOMEM);
            }
        }
    }
}

unsafe extern "C" fn truncated(
    frame: *mut sys::call_frame_t,
    cookie: *mut c_void,
    _this: *mut sys::xlator_t,
    op_ret: i32,
    op_errno: i32,
    before: *mut sys::iatt,
    after: *mut sys::iatt,
    xdata: *mut sys::dict_t,
) -> i32 {
    // SAFETY: the cookie is the box of `proceed`; the host calls back once. What the translator beneath gave is not in it.
    drop(unsafe { Box::from_raw(cookie.cast::<Arguments>()) });
    // SAFETY: the frame came back to us, its owner, to be unwound, with what the host gave.
    unsafe { sys::default_truncate_cbk(frame, null_mut(), this(), op_ret, op_errno, before, after, xdata) }
}
