//! Fops that we send down to the translator beneath ourselves, because we look at their answers on the way up.

use std::ffi::{c_int, c_void};
use std::ptr::NonNull;

use super::copies::KeptAnswer;
use super::fence::fence;
use super::reply::{Answer, Fop, Pending};
use super::sys;

/// Who looks at the answer to a fop: what its callback gets for a cookie.
pub(super) trait Waiter: Sized {
    /// For the log, if it panics.
    const WHAT: &'static str;

    /// As long as the fop is on its way.
    fn into_cookie(self) -> *mut c_void {
        Box::into_raw(Box::new(self)).cast()
    }

    /// # Safety
    /// `cookie` comes from [`into_cookie`](Waiter::into_cookie), and from each once.
    unsafe fn from_cookie(cookie: *mut c_void) -> Self {
        // SAFETY: the caller's contract.
        unsafe { *Box::from_raw(cookie.cast::<Self>()) }
    }

    /// The answer has come to `this`. What the pointers in it lead to is valid until this returns, and may be changed. It goes
    /// on its way up, also after a panic: the fop is done. Or it waits for what is returned.
    fn answered(self, this: *mut sys::xlator_t, answer: &mut Answer) -> Option<Later>;
}

/// What gives an answer later, or another one.
pub(super) type Later = Box<dyn FnOnce(Pending, KeptAnswer)>;

/// Sends a fop down by `wind`, which gets the frame and the cookie for one of the callbacks below, and returns 0 if the host is out
/// of memory: that is answered with `ENOMEM`, as if it came from beneath.
///
/// # Safety
/// The frame has come to `this`, is ours to unwind, as that fop, and is given up here. What `wind` sends is valid, with the callback
/// of that fop for `W`; it does not panic.
pub(super) unsafe fn down<W: Waiter>(
    (frame, this): (*mut sys::call_frame_t, *mut sys::xlator_t),
    fop: Fop,
    waiter: W,
    wind: impl FnOnce(*mut sys::call_frame_t, *mut c_void) -> c_int,
) -> i32 {
    let cookie = waiter.into_cookie();
    match wind(frame, cookie) {
        // SAFETY: the callback was not called, so both are still ours.
        0 => unsafe { back::<W>(frame, cookie, this, fop, Answer::failed(libc::ENOMEM)) },
        _ => 0,
    }
}

/// # Safety
/// The frame has come back to us, its owner, as that fop, with the cookie of `W` that it was sent with, and what the host gave.
unsafe fn back<W: Waiter>(
    frame: *mut sys::call_frame_t,
    cookie: *mut c_void,
    this: *mut sys::xlator_t,
    fop: Fop,
    mut answer: Answer,
) -> i32 {
    // SAFETY: the caller's contract.
    let later = fence(W::WHAT, None, || unsafe { W::from_cookie(cookie) }.answered(this, &mut answer));
    let (Some(later), Some(pending)) = (later, NonNull::new(frame)) else {
        // SAFETY: the caller's contract.
        return unsafe { answer.unwind(frame, fop) };
    };
    fence(W::WHAT, 0, || {
        // SAFETY: the caller's contract.
        let (pending, answer) = unsafe { (Pending::new(pending, fop), KeptAnswer::of(answer)) };
        later(pending, answer);
        0
    })
}

/// The callback of a fop, with the arguments that it has after the errno, and what these are of an [`Answer`].
macro_rules! callback {
    ($($name:ident, $fop:ident: ($($arg:ident: $type:ident is [$($part:tt)+]),*);)*) => {$(
        pub(super) unsafe extern "C" fn $name<W: Waiter>(
            frame: *mut sys::call_frame_t,
            cookie: *mut c_void,
            this: *mut sys::xlator_t,
            op_ret: i32,
            op_errno: i32,
            $($arg: *mut sys::$type),*
        ) -> i32 {
            let mut answer = Answer::plain(op_ret, op_errno);
            $(answer.$($part)+ = $arg;)*
            // SAFETY: the host calls back once, with what `down` gave it.
            unsafe { back::<W>(frame, cookie, this, Fop::$fop, answer) }
        }
    )*};
}

callback! {
    fsetxattr_cbk, Fsetxattr: (xdata: dict_t is [xdata]);
    removexattr_cbk, Removexattr: (xdata: dict_t is [xdata]);
    fremovexattr_cbk, Fremovexattr: (xdata: dict_t is [xdata]);
    setattr_cbk, Setattr: (before: iatt is [iatts[0]], after: iatt is [iatts[1]], xdata: dict_t is [xdata]);
    fsetattr_cbk, Fsetattr: (before: iatt is [iatts[0]], after: iatt is [iatts[1]], xdata: dict_t is [xdata]);
    setxattr_cbk, Setxattr: (xdata: dict_t is [xdata]);
    getxattr_cbk, Getxattr: (dict: dict_t is [xattrs], xdata: dict_t is [xdata]);
    fgetxattr_cbk, Fgetxattr: (dict: dict_t is [xattrs], xdata: dict_t is [xdata]);
    xattrop_cbk, Xattrop: (dict: dict_t is [xattrs], xdata: dict_t is [xdata]);
    lookup_cbk, Lookup: (inode: inode_t is [inode], stat: iatt is [iatts[0]], dict: dict_t is [xattrs], parent: iatt is [iatts[1]]);
    unlink_cbk, Unlink: (before: iatt is [iatts[0]], after: iatt is [iatts[1]], xdata: dict_t is [xdata]);
    rmdir_cbk, Rmdir: (before: iatt is [iatts[0]], after: iatt is [iatts[1]], xdata: dict_t is [xdata]);
    truncate_cbk, Truncate: (before: iatt is [iatts[0]], after: iatt is [iatts[1]], xdata: dict_t is [xdata]);
    link_cbk, Link: (
        inode: inode_t is [inode], stat: iatt is [iatts[0]], before: iatt is [iatts[1]], after: iatt is [iatts[2]],
        xdata: dict_t is [xdata]
    );
    mknod_cbk, Mknod: (
        inode: inode_t is [inode], stat: iatt is [iatts[0]], before: iatt is [iatts[1]], after: iatt is [iatts[2]],
        xdata: dict_t is [xdata]
    );
    rename_cbk, Rename: (
        stat: iatt is [iatts[0]], old: iatt is [iatts[1]], old_now: iatt is [iatts[2]], new: iatt is [iatts[3]],
        new_now: iatt is [iatts[4]], xdata: dict_t is [xdata]
    );
}
