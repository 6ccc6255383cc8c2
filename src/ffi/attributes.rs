//! The end of a command: the file's attributes, fetched from storage/posix, go along with the answer.
//!
//! md-cache in the client takes a setxattr that is answered without attributes for a reason to forget what it knew of
//! the file (`mdc_setxattr_cbk`), and what it does not know it can't find changed: the kernel's pages, which it would
//! have dropped, stay for good.

use std::ffi::c_void;
use std::ptr::null_mut;
use std::time::{SystemTime, UNIX_EPOCH};

use super::call::Inode;
use super::dict::OwnedDict;
use super::fence::fence;
use super::host::xlator::Host;
use super::reply::SetReply;
use super::sys;

impl SetReply {
    /// Answers success, with the attributes of `file`.
    pub fn done_with(self, host: Host, file: Option<Inode>) {
        let Some(file) = file else { return self.done(None) };
        let frame = self.pending().frame().as_ptr();
        let waiting = WaitingAnswer::leak(self, file, None);
        // SAFETY: the frame is pending and not used by anybody else; `waiting` lives until it is taken back.
        unsafe {
            let loc = &raw mut (*waiting).loc;
            if sys::fsnap_wind_stat(frame, waiting.cast(), Some(told), host.child(), loc) == 0 {
                WaitingAnswer::take(waiting.cast(), frame).answer(None);
            }
        }
    }

    /// Sets the mtime of `file` to now, then answers success: its content is another one than every cache believes.
    ///
    /// A setattr fop to the translator beneath does it, because storage/posix keeps the times that it serves in memory
    /// (`posix_mdata_t`, in the inode context) and would not see a change on disk.
    pub fn done_and_touched(self, host: Host, file: Inode) {
        let frame = self.pending().frame().as_ptr();
        // SAFETY: the frame is pending, hence valid. On a brick one frame at a time is on its way down from a request.
        let root = unsafe { &mut *(*frame).root };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let asker = Asker { uid: root.uid, gid: root.gid, ctime: (root.ctime.tv_sec, root.ctime.tv_nsec) };
        // Who may write to a file need not own it; setting its mtime is our doing.
        (root.uid, root.gid) = (0, 0);
        (root.ctime.tv_sec, root.ctime.tv_nsec) = (seconds, now.subsec_nanos().into());
        let waiting = WaitingAnswer::leak(self, file, Some(asker));
        let mtime = sys::GF_SET_ATTR_MTIME as i32;
        // SAFETY: as in `done_with`.
        unsafe {
            (*waiting).times.ia_mtime = seconds;
            (*waiting).times.ia_mtime_nsec = now.subsec_nanos();
            let (loc, times) = (&raw mut (*waiting).loc, &raw mut (*waiting).times);
            let (cookie, child) = (waiting.cast(), host.child());
            if sys::fsnap_wind_setattr(frame, cookie, Some(touched), child, loc, times, mtime, null_mut())
                == 0
            {
                WaitingAnswer::take(cookie, frame).answer(None);
            }
        }
    }
}

/// Who asked, while the frame carries somebody else's name.
struct Asker {
    uid: u32,
    gid: u32,
    ctime: (i64, i64),
}

/// An answer that waits for attributes, and what the fop that fetches them points to.
struct WaitingAnswer {
    reply: SetReply,
    asker: Option<Asker>,
    loc: sys::loc_t,
    times: sys::iatt,
    /// Keeps the inode in `loc` alive.
    file: Inode,
}

impl WaitingAnswer {
    /// In memory that stays in place until [`WaitingAnswer::take`].
    fn leak(reply: SetReply, file: Inode, asker: Option<Asker>) -> *mut Self {
        // SAFETY: plain data for which all zero is the host's own "nothing here".
        let (mut loc, times): (sys::loc_t, sys::iatt) = unsafe { std::mem::zeroed() };
        loc.inode = file.as_ptr();
        loc.gfid = *file.gfid().as_bytes();
        loc.path = c"<fsnap>".as_ptr();
        Box::into_raw(Box::new(WaitingAnswer { reply, asker, loc, times, file }))
    }

    /// # Safety
    /// `cookie` was made by `leak` and is taken once; `frame` is the frame that it was wound with.
    unsafe fn take(cookie: *mut c_void, frame: *mut sys::call_frame_t) -> Self {
        // SAFETY: the caller's contract.
        let waiting = unsafe { *Box::from_raw(cookie.cast::<Self>()) };
        if let Some(asker) = &waiting.asker {
            // SAFETY: the caller's contract; the frame is still pending.
            let root = unsafe { &mut *(*frame).root };
            (root.uid, root.gid) = (asker.uid, asker.gid);
            (root.ctime.tv_sec, root.ctime.tv_nsec) = asker.ctime;
        }
        waiting
    }

    /// Answers with `now`, if it is known, as what the file was before and is after the command: whatever a client
    /// believed, if it was something else, it learns that it was wrong.
    fn answer(self, now: Option<&sys::iatt>) {
        let xdata = now.and_then(OwnedDict::with_told);
        let WaitingAnswer { reply, file, .. } = self;
        // Before the answer: once a request is answered, the host may end.
        drop(file);
        reply.done(xdata.as_ref());
    }
}

/// The attributes as they were a nanosecond ago.
///
/// md-cache finds a change only against times that it holds; after a write through the same mount it holds none, and
/// takes what we answer for granted. Given times that are just out of date, it finds the change when it next asks.
pub(super) fn just_before(iatt: &sys::iatt) -> sys::iatt {
    let mut before = *iatt;
    before.ia_mtime_nsec = before.ia_mtime_nsec.saturating_sub(1);
    before.ia_ctime_nsec = before.ia_ctime_nsec.saturating_sub(1);
    before
}

impl OwnedDict {
    /// What tells a client that a file had these attributes before, and has them after. `None` if the host is out of memory.
    pub(super) fn with_told(now: &sys::iatt) -> Option<Self> {
        OwnedDict::with_iatts(&[PRESTAT, POSTSTAT], now)
    }
}

/// `GF_PRESTAT` and `GF_POSTSTAT` of glusterfs.h.
const PRESTAT: &std::ffi::CStr = c"virt-gf-prestat";
const POSTSTAT: &std::ffi::CStr = c"virt-gf-poststat";

unsafe extern "C" fn told(
    frame: *mut sys::call_frame_t,
    cookie: *mut c_void,
    _this: *mut sys::xlator_t,
    op_ret: i32,
    _op_errno: i32,
    now: *mut sys::iatt,
    _xdata: *mut sys::dict_t,
) -> i32 {
    fence("the answer to a stat", 0, || {
        // SAFETY: the host calls back once, with what `done_with` gave it.
        let waiting = unsafe { WaitingAnswer::take(cookie, frame) };
        // SAFETY: the host's promise.
        waiting.answer(unsafe { now.as_ref() }.filter(|_| op_ret == 0));
        0
    })
}

unsafe extern "C" fn touched(
    frame: *mut sys::call_frame_t,
    cookie: *mut c_void,
    _this: *mut sys::xlator_t,
    op_ret: i32,
    op_errno: i32,
    _before: *mut sys::iatt,
    now: *mut sys::iatt,
    _xdata: *mut sys::dict_t,
) -> i32 {
    fence("the answer to a setattr", 0, || {
        // SAFETY: the host calls back once, with what `done_and_touched` gave it.
        let waiting = unsafe { WaitingAnswer::take(cookie, frame) };
        if op_ret != 0 {
            let why = std::io::Error::from_raw_os_error(op_errno);
            tracing::warn!(
                "the file is restored, but its mtime could not be set, clients may see old data: {why}"
            );
        }
        // SAFETY: the host's promise.
        waiting.answer(unsafe { now.as_ref() }.filter(|_| op_ret == 0).map(just_before).as_ref());
        0
    })
}
