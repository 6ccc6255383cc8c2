//! Answers without the xattrs that are fsnap's own: getxattr of all names, and lookups that ask for all xattrs.

use std::ffi::{CStr, CString, c_void};
use std::ptr::null_mut;

use super::dict::Dict;
use super::fence::fence;
use super::host::xlator::this;
use super::sys;

/// What the names of xattrs to be left out start with.
pub type HiddenXattrs = &'static CStr;

/// The key of a lookup's dictionary that asks for all xattrs (AFR and DHT set it).
pub(super) const LIST_XATTR: &CStr = c"list-xattr";

/// Takes what starts with `prefix` out of `dict`.
///
/// # Safety
/// `dict` is null, or a dictionary that nobody else uses now.
unsafe fn strip(dict: *mut sys::dict_t, prefix: &CStr) {
    // SAFETY: the caller's contract; the names are copied before anything is taken out.
    let Some(view) = (unsafe { Dict::new(dict) }) else { return };
    let names: Vec<CString> = view
        .with_prefix(prefix.to_bytes())
        .into_iter()
        .filter_map(|(name, _)| CString::new(name).ok())
        .collect();
    for name in names {
        // SAFETY: the dictionary is valid; the name is only read.
        unsafe { sys::fsnap_dict_del(dict, name.as_ptr().cast_mut()) };
    }
}

/// The prefix, as the cookie of a fop on its way.
fn cookie(prefix: HiddenXattrs) -> *mut c_void {
    prefix.as_ptr().cast_mut().cast()
}

/// # Safety
/// `cookie` was made by [`cookie`].
unsafe fn prefix(cookie: *mut c_void) -> HiddenXattrs {
    // SAFETY: the caller's contract: a C string that lives for ever.
    unsafe { CStr::from_ptr(cookie.cast_const().cast()) }
}

/// getxattr of all names.
///
/// # Safety
/// The arguments are the fop's, `child` is the translator beneath.
pub(super) unsafe fn getxattr(
    frame: *mut sys::call_frame_t,
    child: *mut sys::xlator_t,
    hidden: HiddenXattrs,
    loc: *mut sys::loc_t,
    xdata: *mut sys::dict_t,
) -> i32 {
    // SAFETY: the caller's contract; the frame is given up here.
    unsafe {
        match sys::fsnap_wind_getxattr(frame, cookie(hidden), Some(got), child, loc, xdata) {
            0 => sys::default_getxattr_failure_cbk(frame, libc::ENOMEM),
            _ => 0,
        }
    }
}

/// fgetxattr of all names.
///
/// # Safety
/// As for [`getxattr`].
pub(super) unsafe fn fgetxattr(
    frame: *mut sys::call_frame_t,
    child: *mut sys::xlator_t,
    hidden: HiddenXattrs,
    fd: *mut sys::fd_t,
    xdata: *mut sys::dict_t,
) -> i32 {
    // SAFETY: the caller's contract; the frame is given up here.
    unsafe {
        match sys::fsnap_wind_fgetxattr(frame, cookie(hidden), Some(fgot), child, fd, xdata) {
            0 => sys::default_fgetxattr_failure_cbk(frame, libc::ENOMEM),
            _ => 0,
        }
    }
}

/// lookup that asks for all xattrs.
///
/// # Safety
/// As for [`getxattr`].
pub(super) unsafe fn lookup(
    frame: *mut sys::call_frame_t,
    child: *mut sys::xlator_t,
    hidden: HiddenXattrs,
    loc: *mut sys::loc_t,
    xdata: *mut sys::dict_t,
) -> i32 {
    // SAFETY: the caller's contract; the frame is given up here.
    unsafe {
        match sys::fsnap_wind_lookup(frame, cookie(hidden), Some(found), child, loc, xdata) {
            0 => sys::default_lookup_failure_cbk(frame, libc::ENOMEM),
            _ => 0,
        }
    }
}

unsafe extern "C" fn got(
    frame: *mut sys::call_frame_t,
    cookie: *mut c_void,
    _this: *mut sys::xlator_t,
    op_ret: i32,
    op_errno: i32,
    dict: *mut sys::dict_t,
    xdata: *mut sys::dict_t,
) -> i32 {
    // SAFETY: the cookie is ours; the dictionary is the answer, on its way through our hands.
    fence("the answer to a getxattr", (), || unsafe { strip(dict, prefix(cookie)) });
    // SAFETY: the frame came back to us, its owner, to be unwound, with what the host gave.
    unsafe { sys::default_getxattr_cbk(frame, null_mut(), this(), op_ret, op_errno, dict, xdata) }
}

unsafe extern "C" fn fgot(
    frame: *mut sys::call_frame_t,
    cookie: *mut c_void,
    _this: *mut sys::xlator_t,
    op_ret: i32,
    op_errno: i32,
    dict: *mut sys::dict_t,
    xdata: *mut sys::dict_t,
) -> i32 {
    // SAFETY: as in `got`.
    fence("the answer to an fgetxattr", (), || unsafe { strip(dict, prefix(cookie)) });
    // SAFETY: as in `got`.
    unsafe { sys::default_fgetxattr_cbk(frame, null_mut(), this(), op_ret, op_errno, dict, xdata) }
}

unsafe extern "C" fn found(
    frame: *mut sys::call_frame_t,
    cookie: *mut c_void,
    _this: *mut sys::xlator_t,
    op_ret: i32,
    op_errno: i32,
    inode: *mut sys::inode_t,
    stat: *mut sys::iatt,
    xdata: *mut sys::dict_t,
    postparent: *mut sys::iatt,
) -> i32 {
    // SAFETY: as in `got`.
    fence("the answer to a lookup", (), || unsafe { strip(xdata, prefix(cookie)) });
    // SAFETY: as in `got`.
    unsafe {
        sys::default_lookup_cbk(frame, null_mut(), this(), op_ret, op_errno, inode, stat, xdata, postparent)
    }
}
