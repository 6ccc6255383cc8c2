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
pub enum Fop {
    /// setxattr.
    Setxattr,
    /// fsetxattr.
    Fsetxattr,
    /// getxattr.
    Getxattr,
    /// fgetxattr.
    Fgetxattr,
    /// lookup.
    Lookup,
    /// readdir.
    Readdir,
    /// readdirp.
    Readdirp,
    /// unlink.
    Unlink,
    /// rmdir.
    Rmdir,
    /// rename.
    Rename,
    /// link.
    Link,
    /// mknod.
    Mknod,
    /// truncate.
    Truncate,
    /// ftruncate.
    Ftruncate,
    /// xattrop and fxattrop, which are answered alike.
    Xattrop,
    /// setattr.
    Setattr,
    /// fsetattr.
    Fsetattr,
    /// removexattr.
    Removexattr,
    /// fremovexattr.
    Fremovexattr,
}

/// What a fop is answered with, as the host hands it to a callback: valid until that returns. A fop has but some of it; the rest is
/// null.
#[derive(Clone, Copy)]
pub(in crate::ffi) struct Answer {
    /// Negative if it has failed.
    pub(in crate::ffi) op_ret: i32,
    /// Why.
    pub(in crate::ffi) op_errno: i32,
    pub(in crate::ffi) inode: *mut sys::inode_t,
    /// In the order of the callback's arguments.
    pub(in crate::ffi) iatts: [*mut sys::iatt; 5],
    /// The xattrs of a getxattr, a lookup or an xattrop.
    pub(in crate::ffi) xattrs: *mut sys::dict_t,
    pub(in crate::ffi) xdata: *mut sys::dict_t,
}

impl Answer {
    /// With nothing but success or an errno.
    pub(in crate::ffi) fn plain(op_ret: i32, op_errno: i32) -> Self {
        let (inode, iatts, none) = (null_mut(), [null_mut(); 5], null_mut());
        Answer { op_ret, op_errno, inode, iatts, xattrs: none, xdata: none }
    }

    pub(in crate::ffi) fn failed(errno: i32) -> Self {
        Answer::plain(-1, errno)
    }

    /// Answers a listing with no entries.
    ///
    /// # Safety
    /// The frame is the caller's to unwind, as this fop, and nobody else will; what the answer points to is valid.
    pub(in crate::ffi) unsafe fn unwind(self, frame: *mut sys::call_frame_t, fop: Fop) -> i32 {
        let (ret, errno, cookie, this) = (self.op_ret, self.op_errno, null_mut(), this());
        let Answer { inode, iatts: [a, b, c, d, e], xattrs, xdata, .. } = self;
        // SAFETY: the caller's contract.
        unsafe {
            match fop {
                Fop::Setxattr => sys::default_setxattr_cbk(frame, cookie, this, ret, errno, xdata),
                Fop::Fsetxattr => sys::default_fsetxattr_cbk(frame, cookie, this, ret, errno, xdata),
                Fop::Getxattr => sys::default_getxattr_cbk(frame, cookie, this, ret, errno, xattrs, xdata),
                Fop::Fgetxattr => sys::default_fgetxattr_cbk(frame, cookie, this, ret, errno, xattrs, xdata),
                Fop::Lookup => sys::default_lookup_cbk(frame, cookie, this, ret, errno, inode, a, xattrs, b),
                Fop::Readdir => sys::default_readdir_cbk(frame, cookie, this, ret, errno, null_mut(), xdata),
                Fop::Readdirp => {
                    sys::default_readdirp_cbk(frame, cookie, this, ret, errno, null_mut(), xdata)
                }
                Fop::Unlink => sys::default_unlink_cbk(frame, cookie, this, ret, errno, a, b, xdata),
                Fop::Rmdir => sys::default_rmdir_cbk(frame, cookie, this, ret, errno, a, b, xdata),
                Fop::Rename => sys::default_rename_cbk(frame, cookie, this, ret, errno, a, b, c, d, e, xdata),
                Fop::Link => sys::default_link_cbk(frame, cookie, this, ret, errno, inode, a, b, c, xdata),
                Fop::Mknod => sys::default_mknod_cbk(frame, cookie, this, ret, errno, inode, a, b, c, xdata),
                Fop::Truncate => sys::default_truncate_cbk(frame, cookie, this, ret, errno, a, b, xdata),
                Fop::Ftruncate => sys::default_ftruncate_cbk(frame, cookie, this, ret, errno, a, b, xdata),
                Fop::Xattrop => sys::default_xattrop_cbk(frame, cookie, this, ret, errno, xattrs, xdata),
                Fop::Setattr => sys::default_setattr_cbk(frame, cookie, this, ret, errno, a, b, xdata),
                Fop::Fsetattr => sys::default_fsetattr_cbk(frame, cookie, this, ret, errno, a, b, xdata),
                Fop::Removexattr => sys::default_removexattr_cbk(frame, cookie, this, ret, errno, xdata),
                Fop::Fremovexattr => sys::default_fremovexattr_cbk(frame, cookie, this, ret, errno, xdata),
            }
        }
    }
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
        // SAFETY: there is nothing in it.
        unsafe { self.answer(Answer::failed(errno)) };
    }

    /// # Safety
    /// What the answer points to is valid.
    pub(in crate::ffi) unsafe fn answer(self, answer: Answer) {
        let fop = self.fop;
        // SAFETY: the frame was pending, so it is valid and still to be unwound, as this fop; it is given up here.
        unsafe { answer.unwind(self.into_frame().as_ptr(), fop) };
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
        let (dict, success) = (OwnedDict::ptr_of(dict), Answer::plain(0, 0));
        let answer = match self.fop {
            Fop::Setxattr | Fop::Fsetxattr => Answer { xdata: dict, ..success },
            Fop::Getxattr | Fop::Fgetxattr => Answer { xattrs: dict, ..success },
            // The others have more to say than "done" and are never answered this way.
            _ => Answer::failed(libc::EIO),
        };
        // SAFETY: the dictionary is valid; the host takes references of its own.
        unsafe { self.answer(answer) };
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

    /// The fops of this process that are on their way beside this one, by something that tells each from the others (`call_pool_t`); of
    /// very many some. What connections do is none.
    pub fn others(&self) -> Vec<usize> {
        const MOST: usize = 1000;
        let mut calls = vec![0usize; MOST];
        // SAFETY: the frame is pending, hence valid; room for so many.
        let count = unsafe { sys::fsnap_other_fops(self.0.frame().as_ptr(), calls.as_mut_ptr(), MOST) };
        calls.truncate(count);
        calls
    }

    /// Answers with the value of the xattr `key` that was asked for. `ENOMEM` if the host has no memory for it.
    pub fn value(self, key: &CStr, value: &[u8]) {
        match OwnedDict::with(key, value) {
            Some(dict) => self.0.done(Some(&dict)),
            None => self.0.fail(libc::ENOMEM),
        }
    }
}
