//! The client role's table of fops: `user/fsnap-client`, on top of a private client graph. What it does not take is passed on.

use std::ffi::{CStr, c_char};
use std::ptr::NonNull;
use std::sync::Once;

use super::cluster::ClientFile;
use super::dict::Dict;
use super::fence::fence;
use super::reply::{Fop, GetReply, Pending, SetReply};
use super::role::role;
use super::sys;
use crate::client::Client;

// The host writes into it (STACK_WIND).
// SAFETY: all zero is a table without fops.
static mut FOPS: sys::xlator_fops = unsafe { std::mem::zeroed() };
static FILLED: Once = Once::new();

/// Gives `this` the table of this role. The host knows but one for each library, and fills that alone with its own fops
/// (`fill_defaults` of libglusterfs).
///
/// # Safety
/// `this` is a translator that is being initialised.
pub(super) unsafe fn take_table(this: NonNull<sys::xlator_t>) {
    // SAFETY: written once, before anybody has it; the host's own table lives as long as the process. Then the caller's contract.
    unsafe {
        FILLED.call_once(|| {
            FOPS = sys::xlator_fops {
                lookup: Some(lookup),
                setxattr: Some(setxattr),
                getxattr: Some(getxattr),
                ..*sys::default_fops
            };
        });
        (*this.as_ptr()).fops = &raw mut FOPS;
    }
}

/// lookup. libgfapi looks for the root as "." in it (`glfs_resolve_root`), which is to pass by md-cache: there is none here. To a server
/// that would be another inode than the root of who has mounted a directory (`server4_post_lookup`).
unsafe extern "C" fn lookup(
    frame: *mut sys::call_frame_t,
    this: *mut sys::xlator_t,
    loc: *mut sys::loc_t,
    xdata: *mut sys::dict_t,
) -> i32 {
    // SAFETY: the host's promise, for looking and for passing on. The copy of the loc is of what outlives the call, and nobody gives its
    // references back.
    unsafe {
        if (*loc).name.is_null() || CStr::from_ptr((*loc).name) != c"." {
            return sys::default_lookup(frame, this, loc, xdata);
        }
        let mut itself: sys::loc_t = std::mem::zeroed();
        itself.path = (*loc).path;
        itself.inode = (*loc).inode;
        itself.gfid = (*(*loc).inode).gfid;
        sys::default_lookup(frame, this, &raw mut itself, xdata)
    }
}

/// setxattr, which may be a command.
unsafe extern "C" fn setxattr(
    frame: *mut sys::call_frame_t,
    this: *mut sys::xlator_t,
    loc: *mut sys::loc_t,
    dict: *mut sys::dict_t,
    flags: i32,
    xdata: *mut sys::dict_t,
) -> i32 {
    let taken = fence("a command", true, || {
        // SAFETY: the host's promise.
        let client = unsafe { role::<Client>(this) };
        let (Some(client), Some(frame)) = (client, NonNull::new(frame)) else { return false };
        // SAFETY: the host's promise.
        let (Some(file), Some(dict)) = (unsafe { (ClientFile::of(loc), Dict::new(dict)) }) else {
            return false;
        };
        // SAFETY: the fop is ours, and so is its frame until it is answered or passed on.
        let reply = SetReply::new(unsafe { Pending::new(frame, Fop::Setxattr) });
        client.set(file, dict, reply).map(|reply| reply.into_pending().into_frame()).is_none()
    });
    // SAFETY: the host's promise, for passing on.
    if taken { 0 } else { unsafe { sys::default_setxattr(frame, this, loc, dict, flags, xdata) } }
}

/// getxattr, which may be a question.
unsafe extern "C" fn getxattr(
    frame: *mut sys::call_frame_t,
    this: *mut sys::xlator_t,
    loc: *mut sys::loc_t,
    key: *const c_char,
    xdata: *mut sys::dict_t,
) -> i32 {
    let taken = fence("a question", true, || {
        // SAFETY: the host's promise.
        let (client, file) = unsafe { (role::<Client>(this), ClientFile::of(loc)) };
        let (Some(client), Some(file), Some(frame)) = (client, file, NonNull::new(frame)) else {
            return false;
        };
        if key.is_null() {
            return false;
        }
        // SAFETY: the fop is ours, and so is its frame until it is answered or passed on; a key is a C string.
        let (reply, key) =
            unsafe { (GetReply::new(Pending::new(frame, Fop::Getxattr)), CStr::from_ptr(key)) };
        client.get(file, key, reply).map(|reply| reply.into_pending().into_frame()).is_none()
    });
    // SAFETY: the host's promise, for passing on.
    if taken { 0 } else { unsafe { sys::default_getxattr(frame, this, loc, key, xdata) } }
}
