//! The answer to a request: owed exactly once.
//!
//! Answering consumes the reply. A reply that is dropped instead answers `EIO` and logs; while a panic unwinds it only
//! notes the request, and the [`fence`](super::fence) answers when the stack is in order again.

use std::ffi::CStr;
use std::mem::ManuallyDrop;
use std::ptr::{NonNull, null_mut};

use super::dict::OwnedDict;
use super::fence::put_off;
use super::sys;
use super::xlator::this;

/// Which fop waits for the answer: each has an unwind of its own.
#[derive(Clone, Copy)]
pub(in crate::ffi) enum Fop {
    Setxattr,
    Fsetxattr,
    Getxattr,
    Fgetxattr,
    Lookup,
    Readdir,
    Readdirp,
    Unlink,
    Rmdir,
    Rename,
    Link,
    Mknod,
    Truncate,
    Ftruncate,
}

/// A frame that has not been unwound yet.
pub(in crate::ffi) struct Pending {
    frame: NonNull<sys::call_frame_t>,
    fop: Fop,
}

// SAFETY: a frame has one owner at a time and the host lets any thread unwind it.
unsafe impl Send for Pending {}

impl Pending {
    /// # Safety
    /// `frame` is the caller's to unwind, as a `fop`, and nobody else will.
    pub(in crate::ffi) unsafe fn new(frame: NonNull<sys::call_frame_t>, fop: Fop) -> Self {
        Pending { frame, fop }
    }

    /// Gives the frame up without an answer: whoever takes it must see to that.
    pub(in crate::ffi) fn into_frame(self) -> NonNull<sys::call_frame_t> {
        ManuallyDrop::new(self).frame
    }

    pub(in crate::ffi) fn fail(self, errno: i32) {
        let fop = self.fop;
        let frame = self.into_frame().as_ptr();
        // SAFETY: the frame was pending, so it is valid and still to be unwound, as this fop; it is given up here.
        unsafe {
            match fop {
                Fop::Setxattr => sys::default_setxattr_failure_cbk(frame, errno),
                Fop::Fsetxattr => sys::default_fsetxattr_failure_cbk(frame, errno),
                Fop::Getxattr => sys::default_getxattr_failure_cbk(frame, errno),
                Fop::Fgetxattr => sys::default_fgetxattr_failure_cbk(frame, errno),
                Fop::Lookup => sys::default_lookup_failure_cbk(frame, errno),
                Fop::Readdir => sys::default_readdir_failure_cbk(frame, errno),
                Fop::Readdirp => sys::default_readdirp_failure_cbk(frame, errno),
                Fop::Unlink => sys::default_unlink_failure_cbk(frame, errno),
                Fop::Rmdir => sys::default_rmdir_failure_cbk(frame, errno),
                Fop::Rename => sys::default_rename_failure_cbk(frame, errno),
                Fop::Link => sys::default_link_failure_cbk(frame, errno),
                Fop::Mknod => sys::default_mknod_failure_cbk(frame, errno),
                Fop::Truncate => sys::default_truncate_failure_cbk(frame, errno),
                Fop::Ftruncate => sys::default_ftruncate_failure_cbk(frame, errno),
            };
        }
    }

    pub(in crate::ffi) fn fop(&self) -> Fop {
        self.fop
    }

    /// The frame, still pending.
    pub(in crate::ffi) fn frame(&self) -> NonNull<sys::call_frame_t> {
        self.frame
    }

    /// Answers success: a getxattr with the values in `dict`, a setxattr with `dict` as its xdata.
    fn done(self, dict: Option<&OwnedDict>) {
        let fop = self.fop;
        let frame = self.into_frame().as_ptr();
        let dict = dict.map_or(null_mut(), OwnedDict::as_ptr);
        let (cookie, this, none) = (null_mut(), this(), null_mut());
        // SAFETY: as in `fail`; the host takes references of its own to the dictionary.
        unsafe {
            match fop {
                Fop::Setxattr => sys::default_setxattr_cbk(frame, cookie, this, 0, 0, dict),
                Fop::Fsetxattr => sys::default_fsetxattr_cbk(frame, cookie, this, 0, 0, dict),
                Fop::Getxattr => sys::default_getxattr_cbk(frame, cookie, this, 0, 0, dict, none),
                Fop::Fgetxattr => sys::default_fgetxattr_cbk(frame, cookie, this, 0, 0, dict, none),
                // The others have more to say than "done" and are never answered this way.
                _ => {
                    Pending::new(NonNull::new_unchecked(frame), fop).fail(libc::EIO);
                    0
                }
            };
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let left = Pending { ..*self };
            put_off(|| left.fail(libc::EIO));
        } else {
            tracing::error!("fsnap has a defect, please report it: a request was left without an answer");
            Pending { ..*self }.fail(libc::EIO);
        }
    }
}

/// The answer to a setxattr or fsetxattr.
pub struct SetReply(Pending);

impl SetReply {
    pub(in crate::ffi) fn new(pending: Pending) -> Self {
        SetReply(pending)
    }

    pub(in crate::ffi) fn into_pending(self) -> Pending {
        self.0
    }

    pub(in crate::ffi) fn pending(&self) -> &Pending {
        &self.0
    }

    /// Answers with an error.
    pub fn fail(self, errno: i32) {
        self.0.fail(errno);
    }

    /// Answers success.
    pub fn succeed(self) {
        self.0.done(None);
    }

    /// Answers success, with an xdata or none.
    pub(in crate::ffi) fn done(self, xdata: Option<&OwnedDict>) {
        self.0.done(xdata);
    }
}

/// The answer to a getxattr or fgetxattr.
pub struct GetReply(Pending);

impl GetReply {
    pub(in crate::ffi) fn new(pending: Pending) -> Self {
        GetReply(pending)
    }

    pub(in crate::ffi) fn into_pending(self) -> Pending {
        self.0
    }

    /// Answers with an error.
    pub fn fail(self, errno: i32) {
        self.0.fail(errno);
    }

    /// Answers with the value of the xattr `key` that was asked for. `ENOMEM` if the host has no memory for it.
    pub fn value(self, key: &CStr, value: &[u8]) {
        match OwnedDict::with(key, value) {
            Some(dict) => self.0.done(Some(&dict)),
            None => self.0.fail(libc::ENOMEM),
        }
    }
}
