//! What is kept of a fop while it waits, or while something is done before its answer.

use std::ptr::null_mut;

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

/// Copies of the attributes that a callback was given, for an answer that comes later.
pub(super) struct Iatts<const N: usize>([Option<sys::iatt>; N]);

impl<const N: usize> Iatts<N> {
    /// # Safety
    /// Each is null or valid.
    pub(super) unsafe fn copy(iatts: [*mut sys::iatt; N]) -> Self {
        // SAFETY: the caller's contract.
        Iatts(iatts.map(|iatt| unsafe { iatt.as_ref() }.copied()))
    }

    /// Null where there was none.
    pub(super) fn as_ptrs(&mut self) -> [*mut sys::iatt; N] {
        self.0.each_mut().map(|iatt| iatt.as_mut().map_or(null_mut(), |iatt| &raw mut *iatt))
    }
}
