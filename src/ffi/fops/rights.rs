//! Fops that change who may do what with a file: its snapshots follow before the answer.

use std::ffi::c_char;
use std::marker::PhantomData;

use fsnap_core::Gfid;
use fsnap_store::RIGHTS_XATTRS;

use super::pass::pass;
use crate::ffi::call::{gfid_of, gfid_of_fd};
use crate::ffi::change::{How, Target};
use crate::ffi::dict::Dict;
use crate::ffi::fence::fence;
use crate::ffi::pause::Access;
use crate::ffi::reply::{Answer, Fop};
use crate::ffi::role::{Translator, refusal, role};
use crate::ffi::sys;
use crate::ffi::wind::{
    Later, Waiter, down, fremovexattr_cbk, fsetattr_cbk, fsetxattr_cbk, removexattr_cbk, setattr_cbk,
    setxattr_cbk,
};

type Arrived = (*mut sys::call_frame_t, *mut sys::xlator_t);

/// A change of the rights of a file that has snapshots, on its way.
pub(super) struct Followed<T> {
    file: Gfid,
    role: PhantomData<T>,
}

impl<T: Translator> Waiter for Followed<T> {
    const WHAT: &'static str = "what follows a change of rights";

    fn answered(self, this: *mut sys::xlator_t, answer: &mut Answer) -> Option<Later> {
        // SAFETY: the host's promise.
        if let (Some(role), 0..) = (unsafe { role::<T>(this) }, answer.op_ret) {
            role.rights_changed(self.file);
        }
        None
    }
}

/// Whether rights may have followers at all: a look at memory.
///
/// # Safety
/// The arguments are a fop's.
unsafe fn may_be_followed<T: Translator>((_, this): Arrived) -> bool {
    // SAFETY: the caller's contract.
    unsafe { role::<T>(this) }.is_some_and(|role| role.may_have_followers())
}

/// What waits for a change of the rights of `file`, if it has snapshots.
///
/// # Safety
/// The arguments are a fop's.
unsafe fn followed<T: Translator>((_, this): Arrived, file: Gfid) -> Option<Followed<T>> {
    // SAFETY: the caller's contract.
    let role = unsafe { role::<T>(this) }?;
    let follows = fence("a change of rights", false, || role.has_followers(file));
    follows.then_some(Followed { file, role: PhantomData })
}

/// What of a setattr is rights.
const RIGHTS: i32 = (sys::GF_SET_ATTR_MODE | sys::GF_SET_ATTR_UID | sys::GF_SET_ATTR_GID) as i32;

pub(in crate::ffi) unsafe extern "C" fn setattr<T: Translator>(
    frame: *mut sys::call_frame_t,
    this: *mut sys::xlator_t,
    loc: *mut sys::loc_t,
    stbuf: *mut sys::iatt,
    valid: i32,
    xdata: *mut sys::dict_t,
) -> i32 {
    // SAFETY: the host's promise, for looking and for passing on.
    unsafe {
        let refused = refusal::<T>((frame, this), &[Target::file(&*loc)], How::Attributes(valid), xdata);
        if let Some(errno) = refused {
            return sys::default_setattr_failure_cbk(frame, errno);
        }
        pass_setattr::<T>((frame, this), loc, stbuf, valid, xdata)
    }
}

/// Refused with `ESTALE`, whatever the reason: protocol/server of GlusterFS 10 crashes over any other errno that an
/// fsetattr fails with, because it logs it with an argument less than its format has (`server4_fsetattr_cbk`).
pub(in crate::ffi) unsafe extern "C" fn fsetattr<T: Translator>(
    frame: *mut sys::call_frame_t,
    this: *mut sys::xlator_t,
    fd: *mut sys::fd_t,
    stbuf: *mut sys::iatt,
    valid: i32,
    xdata: *mut sys::dict_t,
) -> i32 {
    // SAFETY: the host's promise, for looking and for passing on.
    unsafe {
        let refused = refusal::<T>((frame, this), &[Target::open(fd)], How::Attributes(valid), xdata);
        if refused.is_some() {
            return sys::default_fsetattr_failure_cbk(frame, libc::ESTALE);
        }
        pass_fsetattr::<T>((frame, this), fd, stbuf, valid, xdata)
    }
}

/// Passes on what may change rights, is nobody's command and was not refused.
macro_rules! rights_fop {
    ($(
        $name:ident, $on:ident($object:ident: $type:ty, $gfid:expr, $($arg:ident: $arg_type:ty),*; $xdata:ident) if $is_rights:expr;
        $default:ident, $stub:ident, $wind:ident, $cbk:ident, $fop:ident;
    )*) => {$(
        /// # Safety
        /// The arguments are the fop's.
        pub(in crate::ffi) unsafe fn $name<T: Translator>(
            (frame, this): Arrived,
            $object: $type,
            $($arg: $arg_type,)*
            $xdata: *mut sys::dict_t,
        ) -> i32 {
            // SAFETY: the caller's contract.
            unsafe {
                let stub = || sys::$stub(frame, Some($on::<T>), $object, $($arg,)* $xdata);
                let go = || $on::<T>(frame, this, $object, $($arg,)* $xdata);
                pass::<T>(this, Some($gfid), Access::Change, stub, go)
            }
        }

        /// It is let be, and does not wait any more.
        unsafe extern "C" fn $on<T: Translator>(
            frame: *mut sys::call_frame_t,
            this: *mut sys::xlator_t,
            $object: $type,
            $($arg: $arg_type,)*
            $xdata: *mut sys::dict_t,
        ) -> i32 {
            // SAFETY: the host's promise, for looking and for passing on.
            unsafe {
                let rights = may_be_followed::<T>((frame, this)) && $is_rights;
                match rights.then(|| followed::<T>((frame, this), $gfid)).flatten() {
                    None => sys::$default(frame, this, $object, $($arg,)* $xdata),
                    Some(followed) => down((frame, this), Fop::$fop, followed, |frame, cookie| {
                        let (child, cbk) = ((*(*this).children).xlator, Some($cbk::<Followed<T>> as _));
                        sys::$wind(frame, cookie, cbk, child, $object, $($arg,)* $xdata)
                    }),
                }
            }
        }
    )*};
}

/// # Safety
/// `dict` is null or valid.
unsafe fn has_rights(dict: *mut sys::dict_t) -> bool {
    // SAFETY: the caller's contract.
    let Some(dict) = (unsafe { Dict::new(dict) }) else { return false };
    let is_one = |(key, _): &(&[u8], &[u8])| RIGHTS_XATTRS.iter().any(|name| name.as_bytes() == *key);
    dict.with_prefix(b"").iter().any(is_one)
}

/// # Safety
/// `name` is null or a C string, `xdata` null or valid: the names may be in there (`posix_is_bulk_removexattr`).
unsafe fn names_rights(name: *const c_char, xdata: *mut sys::dict_t) -> bool {
    // SAFETY: the caller's contract.
    unsafe {
        let name = if name.is_null() { &[] } else { std::ffi::CStr::from_ptr(name).to_bytes() };
        RIGHTS_XATTRS.iter().any(|rights| rights.as_bytes() == name) || (name.is_empty() && has_rights(xdata))
    }
}

rights_fop! {
    pass_setattr, setattr_on(loc: *mut sys::loc_t, gfid_of(&*loc), stbuf: *mut sys::iatt, valid: i32; xdata) if valid & RIGHTS != 0;
        default_setattr, fop_setattr_stub, fsnap_wind_setattr, setattr_cbk, Setattr;
    pass_fsetattr, fsetattr_on(fd: *mut sys::fd_t, gfid_of_fd(fd), stbuf: *mut sys::iatt, valid: i32; xdata) if valid & RIGHTS != 0;
        default_fsetattr, fop_fsetattr_stub, fsnap_wind_fsetattr, fsetattr_cbk, Fsetattr;
    setxattr, setxattr_on(loc: *mut sys::loc_t, gfid_of(&*loc), dict: *mut sys::dict_t, flags: i32; xdata) if has_rights(dict);
        default_setxattr, fop_setxattr_stub, fsnap_wind_setxattr, setxattr_cbk, Setxattr;
    fsetxattr, fsetxattr_on(fd: *mut sys::fd_t, gfid_of_fd(fd), dict: *mut sys::dict_t, flags: i32; xdata) if has_rights(dict);
        default_fsetxattr, fop_fsetxattr_stub, fsnap_wind_fsetxattr, fsetxattr_cbk, Fsetxattr;
    removexattr, removexattr_on(loc: *mut sys::loc_t, gfid_of(&*loc), name: *const c_char; xdata) if names_rights(name, xdata);
        default_removexattr, fop_removexattr_stub, fsnap_wind_removexattr, removexattr_cbk, Removexattr;
    fremovexattr, fremovexattr_on(fd: *mut sys::fd_t, gfid_of_fd(fd), name: *const c_char; xdata) if names_rights(name, xdata);
        default_fremovexattr, fop_fremovexattr_stub, fsnap_wind_fremovexattr, fremovexattr_cbk, Fremovexattr;
}
