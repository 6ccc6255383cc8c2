//! Truncates of our own that begin at the top of the brick, on behalf of a caller: whoever may refuse a change of a file's
//! content stands above us, and is asked, and told, in no other way.

use std::ffi::{CStr, c_void};
use std::ptr::NonNull;

use super::attributes::just_before;
use super::call::{Inode, Request};
use super::dict::OwnedDict;
use super::fence::fence;
use super::host::xlator::Host;
use super::reply::SetReply;
use super::sys;

/// In its xdata: if it is not known below, it must not be taken for somebody's who wants the file empty.
pub(super) const ERRAND: &CStr = c"glusterfs.fsnap.errand";

/// How it was answered.
pub struct TruncateOutcome(Result<Option<Box<sys::iatt>>, i32>);

impl TruncateOutcome {
    /// The errno that it was refused with, or failed with.
    pub fn errno(&self) -> Option<i32> {
        self.0.as_ref().err().copied()
    }
}

/// What runs when it is answered. What that returns runs when nothing is left of it, and answers the request.
type Back = Box<dyn FnOnce(Request, TruncateOutcome) -> After + Send>;
type After = Box<dyn FnOnce(SetReply) + Send>;

struct Errand {
    reply: SetReply,
    back: Back,
    loc: sys::loc_t,
    /// Keeps the inode in `loc` alive.
    _file: Inode,
    xdata: OwnedDict,
}

impl SetReply {
    /// Sends a truncate of `file` to no bytes at all, the whole of it, as the one who has made this request. `sent` learns by
    /// what it is known before it is on its way. Answers `ENOMEM` if the host is out of memory.
    pub fn send_truncate(
        self,
        host: Host,
        file: Inode,
        sent: impl FnOnce(Request),
        back: impl FnOnce(Request, TruncateOutcome) -> After + Send + 'static,
    ) {
        let caller = self.pending().frame().as_ptr();
        // SAFETY: the frame is pending, hence valid, and so is the client in it.
        let (own, top) = unsafe {
            (
                NonNull::new(sys::fsnap_frame_like(caller)),
                (*(*caller).root).client.as_ref().map(|c| c.bound_xl),
            )
        };
        let Some(own) = own else { return self.fail(libc::ENOMEM) };
        let Some(xdata) = OwnedDict::with(ERRAND, b"1") else {
            // SAFETY: a frame of our own that went nowhere.
            unsafe { sys::fsnap_end_frame(own.as_ptr()) };
            return self.fail(libc::ENOMEM);
        };
        let top = top.filter(|top| !top.is_null()).unwrap_or_else(|| host.top());
        // SAFETY: a frame of our own.
        sent(unsafe { Request::of(own) });
        // SAFETY: plain data for which all zero is the host's own "nothing here".
        let mut loc: sys::loc_t = unsafe { std::mem::zeroed() };
        loc.inode = file.as_ptr();
        loc.gfid = *file.gfid().as_bytes();
        loc.path = c"<fsnap>".as_ptr();
        let xdata_ptr = xdata.as_ptr();
        let errand = Errand { reply: self, back: Box::new(back), loc, _file: file, xdata };
        let errand = Box::into_raw(Box::new(errand));
        // SAFETY: the frame is our own and goes on its way here; the errand lives until it is taken back by the callback, or
        // here if that is not called; a brick's topmost translator is valid as long as one of its requests is pending.
        unsafe {
            let loc = &raw mut (*errand).loc;
            let cbk = Some(answered as _);
            if sys::fsnap_wind_truncate(own.as_ptr(), errand.cast(), cbk, top, loc, 0, xdata_ptr) == 0 {
                Errand::end(errand, own, TruncateOutcome(Err(libc::ENOMEM)));
            }
        }
    }

    /// Answers success, with the attributes that the file has after such a truncate: whatever a client believed, it learns that
    /// it was wrong.
    pub fn done_as(self, outcome: &TruncateOutcome) {
        let now = outcome.0.as_ref().ok().and_then(Option::as_deref).map(just_before);
        self.done(now.and_then(|now| OwnedDict::with_told(&now)).as_ref());
    }
}

impl Errand {
    /// # Safety
    /// `errand` and `frame` are those of one `send_truncate`, and are ended once.
    unsafe fn end(errand: *mut Self, frame: NonNull<sys::call_frame_t>, outcome: TruncateOutcome) {
        // SAFETY: the caller's contract.
        let Errand { reply, back, xdata, .. } = *unsafe { Box::from_raw(errand) };
        drop(xdata);
        // SAFETY: the caller's contract: a frame of our own that has come back. As long as it is there nobody else's request is
        // known by the same.
        let after = unsafe {
            let after = back(Request::of(frame), outcome);
            sys::fsnap_end_frame(frame.as_ptr());
            after
        };
        after(reply);
    }
}

unsafe extern "C" fn answered(
    frame: *mut sys::call_frame_t,
    cookie: *mut c_void,
    _this: *mut sys::xlator_t,
    op_ret: i32,
    op_errno: i32,
    _before: *mut sys::iatt,
    now: *mut sys::iatt,
    _xdata: *mut sys::dict_t,
) -> i32 {
    fence("the answer to a truncate of our own", 0, || {
        // SAFETY: the host's promise: null or valid.
        let now = unsafe { now.as_ref() }.map(|now| Box::new(*now));
        let outcome = TruncateOutcome(if op_ret == 0 { Ok(now) } else { Err(op_errno) });
        // SAFETY: the host calls back once, with what `send_truncate` gave it; a frame that comes back is not null.
        unsafe { Errand::end(cookie.cast(), NonNull::new_unchecked(frame), outcome) };
        0
    })
}
