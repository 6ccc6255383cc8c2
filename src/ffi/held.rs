//! A fop that was taken: it fails, or goes on later, once. What follows it runs before its answer.

use std::ffi::{c_int, c_void};
use std::ptr::NonNull;

use super::call::Inodes;
use super::copies::OwnedLoc;
use super::dict::OwnedDict;
use super::fence::fence;
use super::host::xlator::Host;
use super::index::{self, Mark};
use super::reply::{Answer, Pending};
use super::sys;
use super::wind::{self, Later, Waiter, down};

/// What one kind of fop has besides a loc and its xdata, and how it is sent on.
pub trait FopKind: Sized + Send + 'static {
    /// For the log, if what follows it panics.
    const WHAT: &'static str;

    /// Success means that what follows is done as well: if that fails, the answer is its errno.
    const MEANS_WHAT_FOLLOWS: bool = false;

    /// What goes along with its answer shows nothing of the marks of a rebalance.
    const SHOWS_NO_MIGRATION: bool = false;

    /// Sends the fop to `child`, with the cookie of a [`Underway`] of this kind; 0 if the host is out of memory.
    ///
    /// # Safety
    /// `held` is valid until the callback is called, which may be before this returns.
    unsafe fn wind(
        held: *mut Arguments<Self>,
        frame: *mut sys::call_frame_t,
        cookie: *mut c_void,
        child: *mut sys::xlator_t,
    ) -> c_int;
}

/// A fop's arguments, in memory and with references of our own.
pub struct Arguments<K> {
    pub(super) loc: OwnedLoc,
    pub(super) xdata: Option<OwnedDict>,
    pub(super) kind: K,
}

/// A fop that waits for us.
pub struct Held<K> {
    pending: Pending,
    arguments: Box<Arguments<K>>,
}

/// Where self-heal is to look, or why what follows a fop has failed.
pub type FollowUp = Result<Vec<Mark>, i32>;

impl<K: FopKind> Held<K> {
    /// Keeps what the fop needs, so that it can go on later. Answers `ENOMEM` if the host has no memory.
    ///
    /// # Safety
    /// The arguments are those of the pending fop.
    pub(super) unsafe fn hold(
        pending: Pending,
        loc: *const sys::loc_t,
        xdata: *mut sys::dict_t,
        kind: K,
    ) -> Option<Self> {
        // SAFETY: the caller's contract.
        let (loc, xdata) = unsafe { (OwnedLoc::copy(loc), OwnedDict::again(xdata)) };
        match loc {
            Some(loc) => Some(Held { pending, arguments: Box::new(Arguments { loc, xdata, kind }) }),
            None => {
                pending.fail(libc::ENOMEM);
                None
            }
        }
    }

    /// Answers with an error.
    pub fn fail(self, errno: i32) {
        let Held { pending, arguments } = self;
        // Before the answer: once a request is answered, the host may end.
        drop(arguments);
        pending.fail(errno);
    }

    /// The inodes of the brick. `None` if the fop does not lead to them.
    pub fn inodes(&self) -> Option<Inodes> {
        self.arguments.inodes()
    }

    /// Answers with an error, when self-heal was told of `marks`.
    pub fn fail_with(self, host: Host, errno: i32, marks: &[Mark]) {
        let Held { pending, arguments } = self;
        let inodes = arguments.inodes().filter(|_| !marks.is_empty());
        // Before the answer: once a request is answered, the host may end.
        drop(arguments);
        match inodes {
            Some(inodes) => {
                index::send(host, inodes, pending, marks, Box::new(move |pending, _| pending.fail(errno)))
            }
            None => pending.fail(errno),
        }
    }

    /// Passes the fop on to the translator beneath; `after` runs when it is done (true if it succeeded), before it is answered.
    /// What it returns self-heal is told before that as well.
    pub fn proceed(self, host: Host, after: impl FnOnce(bool) -> FollowUp + Send + 'static) {
        let Held { pending, arguments } = self;
        let fop = pending.fop();
        let waiting = Underway { arguments: Some(arguments), host, after: Box::new(after) };
        let wind = |frame, cookie: *mut c_void| {
            // SAFETY: the cookie is the box of `waiting`, which has the arguments until the callback takes it back.
            unsafe {
                let arguments =
                    (*cookie.cast::<Underway<K>>()).arguments.as_deref_mut().map(|held| &raw mut *held);
                arguments.map_or(0, |held| K::wind(held, frame, cookie, host.child()))
            }
        };
        // SAFETY: the frame is pending and given up here.
        unsafe { down((pending.into_frame().as_ptr(), host.as_ptr()), fop, waiting, wind) };
    }
}

impl<K> Arguments<K> {
    fn inodes(&self) -> Option<Inodes> {
        let loc = self.loc.get();
        let inode = NonNull::new(loc.parent).or(NonNull::new(loc.inode))?;
        // SAFETY: the loc has references to both.
        unsafe { Inodes::around(inode.as_ptr()) }
    }
}

/// What waits for a fop to be done.
pub(super) struct Underway<K> {
    /// Of one that was held.
    pub(super) arguments: Option<Box<Arguments<K>>>,
    pub(super) host: Host,
    pub(super) after: Box<dyn FnOnce(bool) -> FollowUp + Send>,
}

impl<K: FopKind> Waiter for Underway<K> {
    const WHAT: &'static str = K::WHAT;

    fn answered(self, _this: *mut sys::xlator_t, answer: &mut Answer) -> Option<Later> {
        let Underway { arguments, host, after } = self;
        let done = answer.op_ret >= 0;
        if K::SHOWS_NO_MIGRATION {
            // SAFETY: the host's promise: null or valid, and to be changed.
            answer.iatts.iter().for_each(|stat| unsafe { stat.as_mut() }.into_iter().for_each(unmark));
        }
        let Some(arguments) = arguments else {
            // It has not said anything of inodes by which self-heal could be told.
            let _ = after(done);
            return None;
        };
        let inodes = arguments.inodes();
        let followed = match K::MEANS_WHAT_FOLLOWS {
            true => Err(after),
            // The fop is done, whatever becomes of what follows it.
            false => Ok(fence(K::WHAT, Ok(Vec::new()), || after(done))),
        };
        Some(Box::new(move |pending, answer| {
            let marks = followed.unwrap_or_else(|after| after(done));
            // Before the answer: once a request is answered, the host may end.
            drop(arguments);
            let tell = move |pending: Pending, told: Result<(), i32>| match told {
                Err(errno) if K::MEANS_WHAT_FOLLOWS && done => pending.fail(errno),
                _ => answer.give(pending),
            };
            match (marks, inodes) {
                (Err(errno), _) => tell(pending, Err(errno)),
                (Ok(_), None) => tell(pending, Err(libc::EIO)),
                (Ok(marks), Some(inodes)) => index::send(host, inodes, pending, &marks, Box::new(tell)),
            }
        }))
    }
}

/// Source: `DHT_STRIP_PHASE1_FLAGS` of cluster/dht.
fn unmark(stat: &mut sys::iatt) {
    let mode = &mut stat.ia_prot;
    if mode.sticky() != 0 && mode.sgid() != 0 {
        mode.set_sticky(0);
        mode.set_sgid(0);
    }
}

/// A setxattr by which self-heal brings all xattrs of a file.
pub struct Setting {
    pub(super) dict: Option<OwnedDict>,
    pub(super) flags: i32,
}

/// Such a setxattr, held.
pub type HeldSet = Held<Setting>;

impl FopKind for Setting {
    const WHAT: &'static str = "what follows a setxattr of self-heal";
    const MEANS_WHAT_FOLLOWS: bool = true;

    unsafe fn wind(
        held: *mut Arguments<Self>,
        frame: *mut sys::call_frame_t,
        cookie: *mut c_void,
        child: *mut sys::xlator_t,
    ) -> c_int {
        // SAFETY: the caller's contract.
        unsafe {
            let (loc, dict) = ((*held).loc.as_ptr(), OwnedDict::ptr_of((*held).kind.dict.as_ref()));
            let (flags, xdata) = ((*held).kind.flags, OwnedDict::ptr_of((*held).xdata.as_ref()));
            let cbk = Some(wind::setxattr_cbk::<Underway<Self>> as _);
            sys::fsnap_wind_setxattr(frame, cookie, cbk, child, loc, dict, flags, xdata)
        }
    }
}

/// A mknod by which self-heal gives something a name.
pub struct Making {
    pub(super) mode: sys::mode_t,
    pub(super) rdev: sys::dev_t,
    pub(super) umask: sys::mode_t,
}

/// Such a mknod, held.
pub type HeldMake = Held<Making>;

impl FopKind for Making {
    const WHAT: &'static str = "what follows a mknod of self-heal";

    unsafe fn wind(
        held: *mut Arguments<Self>,
        frame: *mut sys::call_frame_t,
        cookie: *mut c_void,
        child: *mut sys::xlator_t,
    ) -> c_int {
        // SAFETY: the caller's contract.
        unsafe {
            let (loc, xdata) = ((*held).loc.as_ptr(), OwnedDict::ptr_of((*held).xdata.as_ref()));
            let Making { mode, rdev, umask } = (*held).kind;
            let cbk = Some(wind::mknod_cbk::<Underway<Self>> as _);
            sys::fsnap_wind_mknod(frame, cookie, cbk, child, loc, mode, rdev, umask, xdata)
        }
    }
}

/// A truncate that carries a restore. It goes on as one to another size.
pub struct Truncating {
    pub(super) size: i64,
}

/// Such a truncate, held.
pub type HeldTruncate = Held<Truncating>;

impl HeldTruncate {
    /// Passes it on to the translator beneath, as a truncate to `size`.
    pub fn proceed_to(mut self, host: Host, size: i64) {
        self.arguments.kind.size = size;
        self.proceed(host, |_| Ok(Vec::new()));
    }
}

impl FopKind for Truncating {
    const WHAT: &'static str = "the answer to a carrier";
    // DHT would send it on to where the file was to go (`dht_truncate_cbk`), which knows nothing of a restore. A rebalance that is
    // at work refuses restores: these are the marks of one that was killed. DHT itself shows them to nobody.
    const SHOWS_NO_MIGRATION: bool = true;

    unsafe fn wind(
        held: *mut Arguments<Self>,
        frame: *mut sys::call_frame_t,
        cookie: *mut c_void,
        child: *mut sys::xlator_t,
    ) -> c_int {
        // SAFETY: the caller's contract.
        unsafe {
            let (loc, xdata) = ((*held).loc.as_ptr(), OwnedDict::ptr_of((*held).xdata.as_ref()));
            let cbk = Some(wind::truncate_cbk::<Underway<Self>> as _);
            sys::fsnap_wind_truncate(frame, cookie, cbk, child, loc, (*held).kind.size, xdata)
        }
    }
}
