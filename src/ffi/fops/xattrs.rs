//! setxattr and getxattr: commands, questions, and what is hidden from whom.

use std::ffi::{CStr, c_char};

use super::{fop, gone, heal, rights};
use crate::ffi::call::Call;
use crate::ffi::change::Target;
use crate::ffi::dict::Dict;
use crate::ffi::filter;
use crate::ffi::reply::{Fop, GetReply, SetReply};
use crate::ffi::role::{Translator, hidden_xattrs};
use crate::ffi::sys;

macro_rules! set_fop {
    ($name:ident, $failure:ident, $fop:expr, $object:ident: $type:ty, $call:path, $place:expr) => {
        pub(in crate::ffi) unsafe extern "C" fn $name<T: Translator>(
            frame: *mut sys::call_frame_t,
            this: *mut sys::xlator_t,
            $object: $type,
            dict: *mut sys::dict_t,
            flags: i32,
            xdata: *mut sys::dict_t,
        ) -> i32 {
            // SAFETY: the host's promise.
            if let Some(errno) = unsafe { gone::refusal::<T>((frame, this), $place) } {
                // SAFETY: the host's promise.
                return unsafe { sys::$failure(frame, errno) };
            }
            let handle = |role: &T, call: &Call<'_>, pending| {
                // SAFETY: the host's promise.
                match unsafe { Dict::new(dict) } {
                    Some(dict) => role.set(call, dict, SetReply::new(pending)).map(SetReply::into_pending),
                    None => Some(pending),
                }
            };
            // SAFETY: the host's promise, for the call and for passing it on.
            unsafe {
                fop(
                    (frame, this),
                    $fop,
                    |frame| $call(frame, $object),
                    handle,
                    || rights::$name::<T>((frame, this), $object, dict, flags, xdata),
                )
            }
        }
    };
}

macro_rules! get_fop {
    ($name:ident, $default:ident, $failure:ident, $fop:expr, $object:ident: $type:ty, $call:path, $place:expr) => {
        pub(in crate::ffi) unsafe extern "C" fn $name<T: Translator>(
            frame: *mut sys::call_frame_t,
            this: *mut sys::xlator_t,
            $object: $type,
            key: *const c_char,
            xdata: *mut sys::dict_t,
        ) -> i32 {
            // SAFETY: the host's promise.
            if let Some(errno) = unsafe { gone::refusal::<T>((frame, this), $place) } {
                // SAFETY: the host's promise.
                return unsafe { sys::$failure(frame, errno) };
            }
            if key.is_null() {
                // SAFETY: the host's promise, for looking and for passing on; we have a child (checked at init).
                return unsafe {
                    if let Some(errno) = gone::values_refusal::<T>((frame, this), $place) {
                        return sys::$failure(frame, errno);
                    }
                    match hidden_xattrs::<T>(frame, this) {
                        Some(hidden) => filter::$name((frame, this), hidden, $object, xdata),
                        None => sys::$default(frame, this, $object, key, xdata),
                    }
                };
            }
            let handle = |role: &T, call: &Call<'_>, pending| {
                // SAFETY: the host's promise: a key is a C string.
                let key = unsafe { CStr::from_ptr(key) };
                role.get(call, key, GetReply::new(pending)).map(GetReply::into_pending)
            };
            // SAFETY: the host's promise, for the call and for passing it on.
            unsafe {
                fop(
                    (frame, this),
                    $fop,
                    |frame| $call(frame, $object),
                    handle,
                    || sys::$default(frame, this, $object, key, xdata),
                )
            }
        }
    };
}

/// setxattr, which may be self-heal's.
pub(in crate::ffi) unsafe extern "C" fn healed_setxattr<T: Translator>(
    frame: *mut sys::call_frame_t,
    this: *mut sys::xlator_t,
    loc: *mut sys::loc_t,
    dict: *mut sys::dict_t,
    flags: i32,
    xdata: *mut sys::dict_t,
) -> i32 {
    // SAFETY: the host's promise, for looking and for passing on.
    unsafe {
        heal::setxattr::<T>((frame, this), loc, dict, flags, xdata, || {
            setxattr::<T>(frame, this, loc, dict, flags, xdata)
        })
    }
}

set_fop!(setxattr, default_setxattr_failure_cbk, Fop::Setxattr, loc: *mut sys::loc_t, Call::on_loc,
    Target::file(&*loc));
set_fop!(fsetxattr, default_fsetxattr_failure_cbk, Fop::Fsetxattr, fd: *mut sys::fd_t, Call::on_fd,
    Target::open(fd));
get_fop!(getxattr, default_getxattr, default_getxattr_failure_cbk, Fop::Getxattr, loc: *mut sys::loc_t, Call::on_loc,
    Target::file(&*loc));
get_fop!(fgetxattr, default_fgetxattr, default_fgetxattr_failure_cbk, Fop::Fgetxattr, fd: *mut sys::fd_t, Call::on_fd,
    Target::open(fd));
