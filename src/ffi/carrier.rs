//! Truncates: one of them may carry a restore, and none else may come between. And the xattrops by which such a restore ends.

use std::ffi::c_void;
use std::ptr::{NonNull, null_mut};

use fsnap_core::Gfid;
use fsnap_core::command::CARRIER;

use super::call::{Call, gfid_of};
use super::dict::{Dict, OwnedDict};
use super::errand::ERRAND;
use super::fence::fence;
use super::guard::{self, How, Place};
use super::held::OwnedLoc;
use super::host::{Host, this};
use super::reply::{Fop, Pending};
use super::sys;
use super::xlator::{Translator, role};

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

pub(super) unsafe extern "C" fn truncate<T: Translator>(
    frame: *mut sys::call_frame_t,
    this: *mut sys::xlator_t,
    loc: *mut sys::loc_t,
    offset: i64,
    xdata: *mut sys::dict_t,
) -> i32 {
    // SAFETY: the host's promise, for looking and for passing on.
    unsafe {
        let get = |key| Dict::new(xdata).and_then(|xdata| xdata.get(key));
        let taken = if is_errand::<T>((frame, this)) {
            takes::<T>((frame, this), loc, xdata, |role, call, held| role.run_errand(call, held))
        } else if get(ERRAND).is_some() {
            sys::default_truncate_failure_cbk(frame, libc::EIO);
            true
        } else if let Some(id) = get(CARRIER) {
            takes::<T>((frame, this), loc, xdata, |role, call, held| role.carry(call, id, held))
        } else {
            refused::<T>((frame, this), loc.as_ref().map(gfid_of), Fop::Truncate)
        };
        if taken { 0 } else { guard::truncate::<T>(frame, this, loc, offset, xdata) }
    }
}

pub(super) unsafe extern "C" fn ftruncate<T: Translator>(
    frame: *mut sys::call_frame_t,
    this: *mut sys::xlator_t,
    fd: *mut sys::fd_t,
    offset: i64,
    xdata: *mut sys::dict_t,
) -> i32 {
    // SAFETY: the host's promise, for looking and for passing on; an fd holds a reference to its inode.
    unsafe {
        let inode = fd.as_ref().and_then(|fd| fd.inode.as_ref());
        let file = inode.map(|inode| Gfid::from_bytes(inode.gfid));
        match refused::<T>((frame, this), file, Fop::Ftruncate) {
            true => 0,
            false => guard::ftruncate::<T>(frame, this, fd, offset, xdata),
        }
    }
}

/// Whether it is a truncate of our own.
///
/// # Safety
/// The arguments are a fop's.
unsafe fn is_errand<T: Translator>((frame, this): (*mut sys::call_frame_t, *mut sys::xlator_t)) -> bool {
    // SAFETY: the host's promise.
    let (role, frame) = unsafe { (role::<T>(this), NonNull::new(frame)) };
    let (Some(role), Some(frame)) = (role.filter(|role| role.has_errands()), frame) else { return false };
    fence("a truncate", false, || {
        // SAFETY: the host's promise.
        role.is_errand(&unsafe { Call::on_nothing(frame) })
    })
}

/// A truncate that `take` is to have; true if it is answered, or will be.
///
/// # Safety
/// The arguments are a fop's.
unsafe fn takes<T: Translator>(
    (frame, this): (*mut sys::call_frame_t, *mut sys::xlator_t),
    loc: *mut sys::loc_t,
    xdata: *mut sys::dict_t,
    take: impl FnOnce(&T, &Call<'_>, HeldTruncate),
) -> bool {
    fence("a carrier", true, || {
        // SAFETY: the host's promise.
        let (Some(frame), Some(role)) = (NonNull::new(frame), unsafe { role::<T>(this) }) else {
            return false;
        };
        // SAFETY: the host's promise.
        let Some(call) = (unsafe { Call::on_loc(frame, loc) }) else { return false };
        // SAFETY: the fop is ours, and so is its frame until it is answered or passed on.
        let pending = unsafe { Pending::new(frame, Fop::Truncate) };
        // SAFETY: the host's promise.
        match unsafe { OwnedLoc::copy(loc).map(|loc| Arguments { loc, xdata: OwnedDict::again(xdata) }) } {
            Some(arguments) => {
                take(role, &call, HeldTruncate { pending, arguments: Box::new(arguments) });
            }
            None => pending.fail(libc::ENOMEM),
        }
        true
    })
}

/// A truncate that carries nothing: true if it was refused.
///
/// # Safety
/// The arguments are a fop's.
unsafe fn refused<T: Translator>(
    (frame, this): (*mut sys::call_frame_t, *mut sys::xlator_t),
    file: Option<Gfid>,
    fop: Fop,
) -> bool {
    // SAFETY: the host's promise.
    let (Some(role), Some(file)) = (unsafe { role::<T>(this) }, file) else { return false };
    if !role.is_armed() {
        return false;
    }
    fence("a truncate", true, || {
        let Some(frame) = NonNull::new(frame) else { return false };
        // SAFETY: the host's promise; the frame is ours to answer.
        unsafe {
            let errno = role.refuse_truncate(&Call::on_nothing(frame), file);
            errno.map(|errno| Pending::new(frame, fop).fail(errno)).is_some()
        }
    })
}

/// The file and the restore of it that is over once this xattrop is done, if it is such a one.
///
/// # Safety
/// The arguments are a fop's.
pub(super) unsafe fn ends<T: Translator>(
    (frame, this): (*mut sys::call_frame_t, *mut sys::xlator_t),
    place: Place<'_>,
    how: How<'_>,
) -> Option<(Gfid, Gfid)> {
    let (Place::File(file) | Place::Open(file), How::Xattrop(Some(counts))) = (place, how) else {
        return None;
    };
    // SAFETY: the host's promise.
    let role = unsafe { role::<T>(this) }.filter(|role| role.is_half_restored(file))?;
    fence("the end of a restore", None, || {
        // SAFETY: the host's promise.
        let call = unsafe { Call::on_nothing(NonNull::new(frame)?) };
        role.ends_restore(&call, file, counts).map(|id| (file, id))
    })
}

/// Passes such an xattrop on, by `wind`, which gets a cookie, a callback and the translator beneath, and returns 0 if it can't.
///
/// # Safety
/// The frame is that of an xattrop or fxattrop, which are answered alike, and `this` the translator it has come to.
pub(super) unsafe fn end<T: Translator>(
    (frame, this): (*mut sys::call_frame_t, *mut sys::xlator_t),
    ended: (Gfid, Gfid),
    wind: impl FnOnce(*mut c_void, sys::fop_xattrop_cbk_t, *mut sys::xlator_t) -> i32,
) -> i32 {
    let cookie = Box::into_raw(Box::new(ended));
    // SAFETY: a translator that fops come to has one beneath; if `wind` returns 0, `noted` was not called, so the box and
    // the frame are still ours.
    unsafe {
        let child = Host::new(NonNull::new_unchecked(this)).child();
        if wind(cookie.cast(), Some(noted::<T>), child) == 0 {
            drop(Box::from_raw(cookie));
            sys::default_xattrop_failure_cbk(frame, libc::ENOMEM);
        }
    }
    0
}

unsafe extern "C" fn noted<T: Translator>(
    frame: *mut sys::call_frame_t,
    cookie: *mut c_void,
    this: *mut sys::xlator_t,
    op_ret: i32,
    op_errno: i32,
    counts: *mut sys::dict_t,
    xdata: *mut sys::dict_t,
) -> i32 {
    // SAFETY: the cookie is the box of `end`; the host calls back once.
    let (file, id) = *unsafe { Box::from_raw(cookie.cast::<(Gfid, Gfid)>()) };
    fence("the end of a restore", (), || {
        // SAFETY: the host's promise.
        if let (Some(role), 0..) = (unsafe { role::<T>(this) }, op_ret) {
            role.restored(file, id);
        }
    });
    // SAFETY: the frame came back to us, its owner, to be unwound, with what the host gave.
    unsafe { sys::default_xattrop_cbk(frame, null_mut(), this, op_ret, op_errno, counts, xdata) }
}
