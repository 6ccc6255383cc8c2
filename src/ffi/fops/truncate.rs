//! Truncates: one of them may carry a restore, and none else may come between. And the xattrops by which such a restore ends.

use std::ffi::c_void;
use std::marker::PhantomData;
use std::ptr::NonNull;

use fsnap_core::Gfid;
use fsnap_core::command::CARRIER;

use super::fop;
use super::pass::passed;
use crate::ffi::call::{Call, gfid_of, gfid_of_fd};
use crate::ffi::change::{How, Target};
use crate::ffi::dict::Dict;
use crate::ffi::errand::ERRAND;
use crate::ffi::fence::fence;
use crate::ffi::held::{HeldTruncate, Truncating};
use crate::ffi::host::xlator::Host;
use crate::ffi::reply::{Answer, Fop, Pending};
use crate::ffi::role::{Translator, refusal, role};
use crate::ffi::sys;
use crate::ffi::wind::{Later, Waiter, down, xattrop_cbk};

pub(in crate::ffi) unsafe extern "C" fn truncate<T: Translator>(
    frame: *mut sys::call_frame_t,
    this: *mut sys::xlator_t,
    loc: *mut sys::loc_t,
    offset: i64,
    xdata: *mut sys::dict_t,
) -> i32 {
    // SAFETY: the host's promise, for looking and for passing on.
    unsafe {
        let get = |key| Dict::new(xdata).and_then(|xdata| xdata.get(key));
        if is_errand::<T>((frame, this)) {
            return hold((frame, this), loc, xdata, |role: &T, call, held| role.run_errand(call, held));
        }
        if get(ERRAND).is_some() {
            return sys::default_truncate_failure_cbk(frame, libc::EIO);
        }
        if let Some(id) = get(CARRIER) {
            return hold((frame, this), loc, xdata, |role: &T, call, held| role.carry(call, id, held));
        }
        if refused::<T>((frame, this), loc.as_ref().map(gfid_of), Fop::Truncate) {
            return 0;
        }
        match refusal::<T>((frame, this), &[Target::file(&*loc)], How::Other, xdata) {
            Some(errno) => sys::default_truncate_failure_cbk(frame, errno),
            None => {
                let file = Target::file(&*loc).itself();
                passed!(T, file, Change, default_truncate, fop_truncate_stub: frame, this, loc, offset, xdata)
            }
        }
    }
}

pub(in crate::ffi) unsafe extern "C" fn ftruncate<T: Translator>(
    frame: *mut sys::call_frame_t,
    this: *mut sys::xlator_t,
    fd: *mut sys::fd_t,
    offset: i64,
    xdata: *mut sys::dict_t,
) -> i32 {
    // SAFETY: the host's promise, for looking and for passing on.
    unsafe {
        if refused::<T>((frame, this), Some(gfid_of_fd(fd)), Fop::Ftruncate) {
            return 0;
        }
        match refusal::<T>((frame, this), &[Target::open(fd)], How::Other, xdata) {
            Some(errno) => sys::default_ftruncate_failure_cbk(frame, errno),
            None => {
                passed!(T, Some(gfid_of_fd(fd)), Change, default_ftruncate, fop_ftruncate_stub: frame, this, fd, offset, xdata)
            }
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

/// A truncate that `take` is to have, and that must not go on as what it says.
///
/// # Safety
/// The arguments are a fop's.
unsafe fn hold<T: Translator>(
    (frame, this): (*mut sys::call_frame_t, *mut sys::xlator_t),
    loc: *mut sys::loc_t,
    xdata: *mut sys::dict_t,
    take: impl FnOnce(&T, &Call<'_>, HeldTruncate),
) -> i32 {
    let handle = |role: &T, call: &Call<'_>, pending| {
        // SAFETY: the host's promise.
        if let Some(held) = unsafe { HeldTruncate::hold(pending, loc, xdata, Truncating { size: 0 }) } {
            take(role, call, held);
        }
        None
    };
    // SAFETY: the caller's contract.
    unsafe {
        let fail = || sys::default_truncate_failure_cbk(frame, libc::EIO);
        fop((frame, this), Fop::Truncate, |frame| Call::on_loc(frame, loc), handle, fail)
    }
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
pub(in crate::ffi) unsafe fn ends<T: Translator>(
    (frame, this): (*mut sys::call_frame_t, *mut sys::xlator_t),
    place: Target<'_>,
    how: How<'_>,
) -> Option<(Gfid, Gfid)> {
    let (Target::File(file) | Target::Open(file), How::Xattrop(Some(counts))) = (place, how) else {
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
pub(in crate::ffi) unsafe fn end<T: Translator>(
    (frame, this): (*mut sys::call_frame_t, *mut sys::xlator_t),
    (file, id): (Gfid, Gfid),
    wind: impl FnOnce(*mut c_void, sys::fop_xattrop_cbk_t, *mut sys::xlator_t) -> i32,
) -> i32 {
    // SAFETY: a translator that fops come to has one beneath; the frame is given up here.
    unsafe {
        let child = Host::new(NonNull::new_unchecked(this)).child();
        let ends = Ends::<T> { file, id, role: PhantomData };
        down((frame, this), Fop::Xattrop, ends, |_, cookie| wind(cookie, Some(xattrop_cbk::<Ends<T>>), child))
    }
}

/// An xattrop on its way with which a restore is over.
struct Ends<T> {
    file: Gfid,
    id: Gfid,
    role: PhantomData<T>,
}

impl<T: Translator> Waiter for Ends<T> {
    const WHAT: &'static str = "the end of a restore";

    fn answered(self, this: *mut sys::xlator_t, answer: &mut Answer) -> Option<Later> {
        // SAFETY: the host's promise.
        if let (Some(role), 0..) = (unsafe { role::<T>(this) }, answer.op_ret) {
            role.restored(self.file, self.id);
        }
        None
    }
}
