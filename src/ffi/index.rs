//! Telling self-heal where to look.
//!
//! Its daemon looks at what features/index has noted, and that notes what xattrop fops make of the marks of the cluster
//! translators. So we send it such fops, as if they came from above, while the request that they belong to waits.

use std::collections::VecDeque;
use std::ffi::{CString, c_void};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use fsnap_core::{Gfid, afr};

use super::call::{Inode, Inodes};
use super::dict::{Dict, OwnedDict};
use super::fence::fence;
use super::host::xlator::Host;
use super::reply::{Fop, Pending, SetReply};
use super::sys;

/// Something that self-heal is to look at.
pub struct Mark {
    /// The file or directory.
    pub gfid: Gfid,
    /// It is a directory.
    pub directory: bool,
    /// The names of xattrs, and what is added to them: big-endian counts.
    pub counts: Vec<(String, Vec<u8>)>,
    /// The counts have 64 bits, else 32.
    pub wide: bool,
    /// Names in the directory. (Granular entry heal looks at no others.)
    pub entries: Vec<Vec<u8>>,
}

/// `GF_XATTROP_ENTRY_IN_KEY` of glusterfs.h.
const ENTRY_IN: &std::ffi::CStr = c"glusterfs.xattrop-entry-create";
/// The mark of the disperse translator on what is not the same on all bricks: two big-endian 64-bit counts, of data and
/// metadata.
pub const EC_DIRTY: &str = "trusted.ec.dirty";
/// `GF_CLIENT_PID_SELF_HEALD` of glusterfs.h.
const SELF_HEAL: i32 = -6;

/// One xattrop.
struct Step {
    file: Inode,
    counts: OwnedDict,
    wide: bool,
    entry: Option<OwnedDict>,
}

type Then = Box<dyn FnOnce(Pending, Result<(), i32>) + Send>;

/// The marks of one request on their way.
struct Marking {
    index: *mut sys::xlator_t,
    fop: Fop,
    asker: (i32, u32, u32),
    steps: VecDeque<Step>,
    /// What the step under way points to.
    current: Option<(Step, Box<sys::loc_t>)>,
    /// See [`super::listing`]: who sends the next one.
    state: Arc<AtomicU8>,
    then: Then,
}

const WINDING: u8 = 0;
const RETURNED: u8 = 1;
const AGAIN: u8 = 2;
const ENDED: u8 = 3;

/// Before an xattrop that adds `marks` is refused. features/index has noted the file for self-heal, and does not take it out
/// again when it learns of that; where sizes differ, as with an arbiter, replicate would never do so either. So it is sent a
/// further one, which adds nothing, and finds the marks that the file has. It deals with it after the refused one.
///
/// # Safety
/// `inode` is null or valid, and `marks` the dictionary of an xattrop.
pub(super) unsafe fn take_back(
    host: Host,
    inode: *mut sys::inode_t,
    operation: sys::gf_xattrop_flags_t,
    marks: *mut sys::dict_t,
) {
    // SAFETY: the caller's contract.
    let (inode, marks) = unsafe { (inode.as_ref(), Dict::new(marks)) };
    let (Some(inode), Some(marks), Some(index)) = (inode, marks, host.above(c"features/index")) else {
        return;
    };
    let noted = |(key, value): &(&[u8], &[u8])| {
        (key.starts_with(afr::PREFIX.as_bytes()) || *key == EC_DIRTY.as_bytes())
            && value.iter().any(|&byte| byte != 0)
    };
    let noted: Vec<_> = marks.with_prefix(b"trusted.").into_iter().filter(noted).collect();
    if noted.is_empty() {
        return;
    }
    let nothing = noted.iter().try_fold(OwnedDict::new(), |dict, (key, value)| {
        Some(dict?.and(&CString::new(*key).ok()?, &vec![0; value.len()]))
    });
    let Some(nothing) = nothing.flatten() else { return };
    // SAFETY: an empty loc is all zero. What it points to outlives the call, which takes copies and references.
    let sent = unsafe {
        let mut loc: sys::loc_t = std::mem::zeroed();
        loc.inode = std::ptr::from_ref(inode).cast_mut();
        loc.gfid = inode.gfid;
        loc.path = c"<fsnap>".as_ptr();
        sys::fsnap_send_xattrop(host.as_ptr(), index.as_ptr(), &raw mut loc, operation, nothing.as_ptr())
    };
    if sent == 0 {
        tracing::error!("out of memory: {} may stay in the heal index", Gfid::from_bytes(inode.gfid));
    }
}

/// Sends the marks, one after the other, and then calls `then` with the pending request, and the first error. Without
/// features/index above (a graph without a glusterd) there is nobody to be told.
pub(super) fn send(host: Host, inodes: Inodes, pending: Pending, marks: &[Mark], then: Then) {
    let index = host.above(c"features/index").filter(|_| !marks.is_empty());
    let steps = index.and_then(|_| marks.iter().map(|mark| steps(&inodes, mark)).collect::<Option<Vec<_>>>());
    // Before the answer: once a request is answered, the host may end.
    drop(inodes);
    let (index, steps) = match (index, steps) {
        (None, _) => return then(pending, Ok(())),
        (Some(_), None) => return then(pending, Err(libc::ENOMEM)),
        (Some(index), Some(steps)) => (index, steps),
    };
    // SAFETY: the frame is pending, hence valid. On a brick one frame at a time is on its way down from a request.
    let root = unsafe { &mut *(*pending.frame().as_ptr()).root };
    let asker = (root.pid, root.uid, root.gid);
    (root.pid, root.uid, root.gid) = (SELF_HEAL, 0, 0);
    let marking = Box::new(Marking {
        index: index.as_ptr(),
        fop: pending.fop(),
        asker,
        steps: steps.into_iter().flatten().collect(),
        current: None,
        state: Arc::default(),
        then,
    });
    run(pending, marking);
}

impl SetReply {
    /// Tells self-heal of `marks`, then goes on with the reply. A failure is in the log.
    pub fn mark(
        self,
        host: Host,
        inodes: Inodes,
        marks: &[Mark],
        then: impl FnOnce(SetReply) + Send + 'static,
    ) {
        let then = Box::new(|pending, _| then(SetReply::new(pending)));
        send(host, inodes, self.into_pending(), marks, then);
    }
}

/// `None` if the host is out of memory.
fn steps(inodes: &Inodes, mark: &Mark) -> Option<Vec<Step>> {
    let file = inodes.find_or_make(mark.gfid, mark.directory)?;
    let step = |entry: Option<&Vec<u8>>, adds: bool| {
        let mut counts = OwnedDict::new()?;
        for (name, add) in &mark.counts {
            let add = if adds { add.clone() } else { vec![0; add.len()] };
            counts = counts.and(&CString::new(name.as_str()).ok()?, &add)?;
        }
        let entry = match entry {
            Some(name) => Some(OwnedDict::with_text(ENTRY_IN, &CString::new(name.as_slice()).ok()?)?),
            None => None,
        };
        Some(Step { file: file.again()?, counts, wide: mark.wide, entry })
    };
    match &mark.entries[..] {
        [] => Some(vec![step(None, true)?]),
        names => names.iter().enumerate().map(|(n, name)| step(Some(name), n == 0)).collect(),
    }
}

/// Sends one step after the other, here or from where the last one was answered.
fn run(pending: Pending, mut marking: Box<Marking>) {
    let frame = pending.into_frame();
    let state = Arc::clone(&marking.state);
    loop {
        let Some(step) = marking.steps.pop_front() else { return end(frame, *marking, Ok(())) };
        state.store(WINDING, Ordering::Release);
        // SAFETY: an empty loc is all zero.
        let mut loc: Box<sys::loc_t> = Box::new(unsafe { std::mem::zeroed() });
        loc.inode = step.file.as_ptr();
        loc.gfid = *step.file.gfid().as_bytes();
        loc.path = c"<fsnap>".as_ptr();
        let operation = if step.wide { sys::GF_XATTROP_ADD_ARRAY64 } else { sys::GF_XATTROP_ADD_ARRAY };
        let (at, counts) = (&raw mut *loc, step.counts.as_ptr());
        let entry = OwnedDict::ptr_of(step.entry.as_ref());
        let index = marking.index;
        marking.current = Some((step, loc));
        let cookie = Box::into_raw(marking);
        // SAFETY: the frame is pending and given up here until `marked` has it; what the arguments point to lives in the
        // box until `marked` takes it back.
        let wound = unsafe {
            sys::fsnap_wind_xattrop(
                frame.as_ptr(),
                cookie.cast(),
                Some(marked),
                index,
                at,
                operation,
                counts,
                entry,
            )
        };
        if wound == 0 {
            // SAFETY: `marked` was not called, so the box is still ours.
            return end(frame, unsafe { *Box::from_raw(cookie) }, Err(libc::ENOMEM));
        }
        match state.compare_exchange(WINDING, RETURNED, Ordering::AcqRel, Ordering::Acquire) {
            Err(AGAIN) => {}
            _ => return,
        }
        // SAFETY: `marked` has left it to us to go on.
        marking = unsafe { Box::from_raw(cookie) };
    }
}

fn end(frame: NonNull<sys::call_frame_t>, marking: Marking, result: Result<(), i32>) {
    let Marking { fop, asker, steps, current, then, .. } = marking;
    // Before the answer: once a request is answered, the host may end.
    drop((steps, current));
    // SAFETY: the frame came back to us, its owner, and is still to be unwound.
    let root = unsafe { &mut *(*frame.as_ptr()).root };
    (root.pid, root.uid, root.gid) = asker;
    // SAFETY: as above.
    then(unsafe { Pending::new(frame, fop) }, result);
}

unsafe extern "C" fn marked(
    frame: *mut sys::call_frame_t,
    cookie: *mut c_void,
    _this: *mut sys::xlator_t,
    op_ret: i32,
    op_errno: i32,
    _dict: *mut sys::dict_t,
    _xdata: *mut sys::dict_t,
) -> i32 {
    fence("the answer to an xattrop", 0, || {
        // SAFETY: the cookie is the box of `run`; the host calls back once.
        let marking = unsafe { Box::from_raw(cookie.cast::<Marking>()) };
        let Some(frame) = NonNull::new(frame) else { return 0 };
        if op_ret != 0 {
            if let Some((step, _)) = &marking.current {
                let why = std::io::Error::from_raw_os_error(op_errno);
                tracing::error!("self-heal can't be told to look at {}: {why}", step.file.gfid());
            }
            return finish(frame, *marking, Err(op_errno));
        }
        let state = Arc::clone(&marking.state);
        if marking.steps.is_empty() {
            return finish(frame, *marking, Ok(()));
        }
        let cookie = Box::into_raw(marking);
        if state.compare_exchange(WINDING, AGAIN, Ordering::AcqRel, Ordering::Acquire).is_err() {
            // SAFETY: `run` has returned and left it to us; the frame is ours to unwind.
            unsafe {
                let marking = Box::from_raw(cookie);
                let pending = Pending::new(frame, marking.fop);
                run(pending, marking);
            }
        }
        0
    })
}

fn finish(frame: NonNull<sys::call_frame_t>, marking: Marking, result: Result<(), i32>) -> i32 {
    // If `run` is still on the stack it must not go on with what is gone.
    marking.state.store(ENDED, Ordering::Release);
    end(frame, marking, result);
    0
}
