//! What self-heal does to files with snapshots, and to snapshots: fops that wait for a worker of ours.

use std::ffi::{CStr, c_void};
use std::ptr::{NonNull, null_mut};

use super::call::Inodes;
use super::copies::{Iatts, OwnedLoc};
use super::dict::OwnedDict;
use super::fence::fence;
use super::host::xlator::{Host, this};
use super::index::{self, Mark};
use super::reply::{Fop, Pending, SetReply};
use super::sys;

/// A fop's arguments, in memory and with references of our own.
pub(super) struct Arguments {
    loc: OwnedLoc,
    dict: Option<OwnedDict>,
    pub(super) flags: i32,
    pub(super) mode: sys::mode_t,
    pub(super) rdev: sys::dev_t,
    pub(super) umask: sys::mode_t,
    xdata: Option<OwnedDict>,
}

impl Arguments {
    /// `None` if the host is out of memory.
    ///
    /// # Safety
    /// What is passed is a fop's: valid, the dictionaries or null.
    pub(super) unsafe fn hold(
        loc: *const sys::loc_t,
        dict: *mut sys::dict_t,
        xdata: *mut sys::dict_t,
    ) -> Option<Box<Self>> {
        // SAFETY: the caller's contract.
        let (loc, dict, xdata) =
            unsafe { (OwnedLoc::copy(loc)?, OwnedDict::again(dict), OwnedDict::again(xdata)) };
        Some(Box::new(Arguments { loc, dict, flags: 0, mode: 0, rdev: 0, umask: 0, xdata }))
    }
}

/// A setxattr that brings all xattrs of a file, held.
pub struct HeldSet {
    pub(super) pending: Pending,
    pub(super) arguments: Box<Arguments>,
}

type Marks = Box<dyn FnOnce() -> Result<Vec<Mark>, i32> + Send>;

struct Setting {
    arguments: Box<Arguments>,
    host: Host,
    after: Marks,
}

impl HeldSet {
    /// Answers with an error.
    pub fn fail(self, errno: i32) {
        let HeldSet { pending, arguments } = self;
        // Before the answer: once a request is answered, the host may end.
        drop(arguments);
        pending.fail(errno);
    }

    /// Passes it on to the translator beneath. When it has succeeded `after` says where self-heal has to look; it is told
    /// before this is answered, so that it comes again if that fails.
    pub fn proceed(self, host: Host, after: impl FnOnce() -> Result<Vec<Mark>, i32> + Send + 'static) {
        let HeldSet { pending, mut arguments } = self;
        let frame = pending.into_frame();
        let (loc, dict) = (arguments.loc.as_ptr(), OwnedDict::ptr_of(arguments.dict.as_ref()));
        let (flags, xdata) = (arguments.flags, OwnedDict::ptr_of(arguments.xdata.as_ref()));
        let child = host.child();
        let setting = Box::into_raw(Box::new(Setting { arguments, host, after: Box::new(after) }));
        // SAFETY: the frame is pending and given up here; the arguments live until `set` takes the box back, or here if that
        // is not called.
        unsafe {
            let (frame_ptr, cookie) = (frame.as_ptr(), setting.cast());
            if sys::fsnap_wind_setxattr(frame_ptr, cookie, Some(set), child, loc, dict, flags, xdata) == 0 {
                drop(Box::from_raw(setting));
                Pending::new(frame, Fop::Setxattr).fail(libc::ENOMEM);
            }
        }
    }
}

unsafe extern "C" fn set(
    frame: *mut sys::call_frame_t,
    cookie: *mut c_void,
    _this: *mut sys::xlator_t,
    op_ret: i32,
    op_errno: i32,
    _xdata: *mut sys::dict_t,
) -> i32 {
    fence("the answer to a setxattr", 0, || {
        // SAFETY: the cookie is the box of `proceed`; the host calls back once.
        let setting = unsafe { Box::from_raw(cookie.cast::<Setting>()) };
        let Some(frame) = NonNull::new(frame) else { return 0 };
        // SAFETY: the frame came back to us, its owner, to be unwound.
        let pending = unsafe { Pending::new(frame, Fop::Setxattr) };
        let Setting { arguments, host, after } = *setting;
        // SAFETY: the arguments hold a reference to the inode.
        let inodes = unsafe { Inodes::around(arguments.loc.get().inode) };
        drop(arguments);
        let marks = if op_ret == 0 { after() } else { Err(op_errno) };
        match (marks, inodes) {
            (Err(errno), _) => pending.fail(errno),
            (Ok(_), None) => pending.fail(libc::EIO),
            (Ok(marks), Some(inodes)) => SetReply::new(pending).done_when_marked(host, &inodes, &marks),
        }
        0
    })
}

impl SetReply {
    /// Answers success when self-heal has been told of `marks`.
    fn done_when_marked(self, host: Host, inodes: &Inodes, marks: &[Mark]) {
        let answer = |pending: Pending, told: Result<(), i32>| match told {
            Ok(()) => SetReply::new(pending).done(None),
            Err(errno) => pending.fail(errno),
        };
        index::send(host, inodes, self.into_pending(), marks, Box::new(answer));
    }

    /// Tells self-heal of `marks`, then goes on with the reply. A failure is in the log.
    pub fn mark(
        self,
        host: Host,
        inodes: &Inodes,
        marks: &[Mark],
        then: impl FnOnce(SetReply) + Send + 'static,
    ) {
        index::send(
            host,
            inodes,
            self.into_pending(),
            marks,
            Box::new(|pending, _| then(SetReply::new(pending))),
        );
    }
}

/// A mknod, held.
pub struct HeldMake {
    pub(super) pending: Pending,
    pub(super) arguments: Box<Arguments>,
}

struct Making {
    arguments: Box<Arguments>,
    host: Host,
    after: Box<dyn FnOnce(bool) -> Vec<Mark> + Send>,
}

impl HeldMake {
    /// Answers with an error.
    pub fn fail(self, errno: i32) {
        let HeldMake { pending, arguments } = self;
        // Before the answer: once a request is answered, the host may end.
        drop(arguments);
        pending.fail(errno);
    }

    /// Passes it on to the translator beneath; `after` runs when it is done (true if it succeeded), before it is answered.
    /// What it returns self-heal is told before that as well.
    pub fn proceed(self, host: Host, after: impl FnOnce(bool) -> Vec<Mark> + Send + 'static) {
        let HeldMake { pending, mut arguments } = self;
        let (frame, child, loc) = (pending.into_frame(), host.child(), arguments.loc.as_ptr());
        let Arguments { mode, rdev, umask, .. } = *arguments;
        let xdata = OwnedDict::ptr_of(arguments.xdata.as_ref());
        let making = Box::into_raw(Box::new(Making { arguments, host, after: Box::new(after) }));
        // SAFETY: as in `HeldSet::proceed`.
        unsafe {
            let (frame_ptr, cookie) = (frame.as_ptr(), making.cast());
            if sys::fsnap_wind_mknod(frame_ptr, cookie, Some(made), child, loc, mode, rdev, umask, xdata) == 0
            {
                let Making { arguments, after, .. } = *Box::from_raw(making);
                after(false);
                drop(arguments);
                Pending::new(frame, Fop::Mknod).fail(libc::ENOMEM);
            }
        }
    }
}

unsafe extern "C" fn made(
    frame: *mut sys::call_frame_t,
    cookie: *mut c_void,
    _this: *mut sys::xlator_t,
    op_ret: i32,
    op_errno: i32,
    inode: *mut sys::inode_t,
    stbuf: *mut sys::iatt,
    preparent: *mut sys::iatt,
    postparent: *mut sys::iatt,
    xdata: *mut sys::dict_t,
) -> i32 {
    // SAFETY: the cookie is the box of `proceed`; the host calls back once.
    let Making { arguments, host, after } = unsafe { *Box::from_raw(cookie.cast::<Making>()) };
    let marks = fence("what follows a mknod", Vec::new(), || after(op_ret == 0));
    // SAFETY: the arguments hold a reference to the directory.
    let inodes = unsafe { Inodes::around(arguments.loc.get().parent) };
    if let ([_, ..], Some(inodes)) = (&marks[..], inodes) {
        return fence("what follows a mknod", 0, || {
            let Some(frame) = NonNull::new(frame) else { return 0 };
            // SAFETY: the host's promise: null or valid.
            let mut iatts = unsafe { Iatts::copy([stbuf, preparent, postparent]) };
            let answer = move |pending: Pending, _| {
                let (frame, cookie, this) = (pending.into_frame().as_ptr(), null_mut(), this());
                let ([buf, pre, post], none) = (iatts.as_ptrs(), null_mut());
                let inode = arguments.loc.get().inode;
                // SAFETY: the frame is ours to unwind, with copies of what the host gave; the arguments hold the inode.
                unsafe {
                    sys::default_mknod_cbk(frame, cookie, this, op_ret, op_errno, inode, buf, pre, post, none)
                };
            };
            // SAFETY: the frame came back to us, its owner, to be unwound.
            index::send(host, &inodes, unsafe { Pending::new(frame, Fop::Mknod) }, &marks, Box::new(answer));
            0
        });
    }
    let (cookie, this) = (null_mut(), this());
    // SAFETY: the frame came back to us, its owner, to be unwound, with what the host gave; the inode is the arguments', which
    // go afterwards.
    unsafe {
        sys::default_mknod_cbk(
            frame, cookie, this, op_ret, op_errno, inode, stbuf, preparent, postparent, xdata,
        )
    };
    drop(arguments);
    0
}

/// `GFID_REQ` of GlusterFS, an xdata key: the gfid that a new entry is to have.
pub const GFID_REQ: &CStr = c"gfid-req";
