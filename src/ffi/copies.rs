//! What is kept of a fop while it waits, or while something is done before its answer.

use std::ptr::null_mut;

use super::call::Inode;
use super::dict::OwnedDict;
use super::reply::{Answer, Pending};
use super::sys;

/// A copy of a loc, with references of its own.
pub(super) struct OwnedLoc(sys::loc_t);

// SAFETY: host references that any thread may use and give back, and memory that nobody else knows.
unsafe impl Send for OwnedLoc {}

impl OwnedLoc {
    /// `None` if the host is out of memory.
    ///
    /// # Safety
    /// `loc` is valid.
    pub(super) unsafe fn copy(loc: *const sys::loc_t) -> Option<Self> {
        // SAFETY: an empty loc is all zero; loc_copy reads the other one, takes references, and copies the path, which the name
        // is in. What it has taken when it fails is given back by `drop`.
        unsafe {
            let mut copy = OwnedLoc(std::mem::zeroed());
            (sys::loc_copy(&raw mut copy.0, loc.cast_mut()) == 0).then_some(copy)
        }
    }

    pub(super) fn get(&self) -> &sys::loc_t {
        &self.0
    }

    pub(super) fn as_ptr(&mut self) -> *mut sys::loc_t {
        &raw mut self.0
    }
}

impl Drop for OwnedLoc {
    fn drop(&mut self) {
        // SAFETY: references and copies made in `copy`.
        unsafe { sys::loc_wipe(&raw mut self.0) };
    }
}

/// An answer that comes later: with copies of what the callback was given, and references.
pub(super) struct KeptAnswer {
    op_ret: i32,
    op_errno: i32,
    inode: Option<Inode>,
    iatts: [Option<sys::iatt>; 5],
    xattrs: Option<OwnedDict>,
    xdata: Option<OwnedDict>,
}

impl KeptAnswer {
    /// # Safety
    /// What the answer points to is valid.
    pub(super) unsafe fn of(answer: Answer) -> Self {
        let Answer { op_ret, op_errno, inode, iatts, xattrs, xdata } = answer;
        // Of one that has failed nobody looks at more, and it may be anything.
        let (inode, iatts, xattrs) = match op_ret {
            0.. => (inode, iatts, xattrs),
            _ => (null_mut(), [null_mut(); 5], null_mut()),
        };
        // SAFETY: the caller's contract.
        unsafe {
            let (inode, iatts) = (Inode::of(inode), iatts.map(|iatt| iatt.as_ref().copied()));
            let (xattrs, xdata) = (OwnedDict::again(xattrs), OwnedDict::again(xdata));
            KeptAnswer { op_ret, op_errno, inode, iatts, xattrs, xdata }
        }
    }

    pub(super) fn give(mut self, pending: Pending) {
        let answer = Answer {
            op_ret: self.op_ret,
            op_errno: self.op_errno,
            inode: self.inode.as_ref().map_or(null_mut(), Inode::as_ptr),
            iatts: self.iatts.each_mut().map(|iatt| iatt.as_mut().map_or(null_mut(), |iatt| &raw mut *iatt)),
            xattrs: OwnedDict::ptr_of(self.xattrs.as_ref()),
            xdata: OwnedDict::ptr_of(self.xdata.as_ref()),
        };
        // SAFETY: all of it is ours until this returns.
        unsafe { pending.answer(answer) };
    }
}
