//! Fops that take names away or give them: unlink, rename, rmdir, link. They can be held back until a worker of ours has
//! prepared them, and followed up before they are answered.

use std::ffi::{CStr, c_int, c_void};
use std::ptr::{NonNull, null_mut};

use fsnap_core::Gfid;

use super::call::Inodes;
use super::change::entry;
use super::copies::{Iatts, OwnedLoc};
use super::dict::OwnedDict;
use super::fence::fence;
use super::host::xlator::{Host, this};
use super::index::{self, Mark};
use super::reply::{Fop, Pending};
use super::sys;

/// A name in a directory, as a fop tells it.
#[derive(Clone, Copy)]
pub struct Spot<'a> {
    /// The directory.
    pub parent: Gfid,
    /// The name in it.
    pub name: &'a CStr,
    /// The way to it from the brick's root, if that is told. storage/posix goes by it.
    pub path: Option<&'a [u8]>,
}

impl<'a> Spot<'a> {
    /// # Safety
    /// `loc` comes from the host, and is valid as long as the result is used.
    pub(super) unsafe fn of(loc: &'a sys::loc_t) -> Option<Self> {
        // SAFETY: the caller's contract.
        unsafe { entry(loc).map(|(parent, name)| Spot { parent, name, path: path_of(loc) }) }
    }
}

/// The path that a loc tells, if it is one from the root (`LOC_HAS_ABSPATH`).
///
/// # Safety
/// `loc` comes from the host, and is valid as long as the result is used.
pub(super) unsafe fn path_of(loc: &sys::loc_t) -> Option<&[u8]> {
    let path = NonNull::new(loc.path.cast_mut())?;
    // SAFETY: a path in a loc is a C string, valid as long as the loc.
    Some(unsafe { CStr::from_ptr(path.as_ptr()) }.to_bytes()).filter(|path| path.first() == Some(&b'/'))
}

/// How a fop goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Route {
    /// As it came.
    AsGiven,
    /// By the directory's gfid and the name alone, where the path is of no other place.
    ByGfid,
}

/// A name that is about to go or to come.
pub enum Removal<'a> {
    /// unlink of a file.
    Unlink {
        /// The name.
        at: Spot<'a>,
        /// The file that the host believes to have that name.
        file: Gfid,
        /// By DHT, as a part of something that an application asked for (`GLUSTERFS_INTERNAL_FOP_KEY`).
        internal: bool,
    },
    /// rename of a file or directory, over what has the new name.
    Rename {
        /// The old name.
        from: Spot<'a>,
        /// The new name.
        to: Spot<'a>,
        /// The files that the host believes to have these names.
        files: [Gfid; 2],
    },
    /// link: one more name for a file.
    Link {
        /// The file.
        file: Gfid,
        /// The new name.
        to: Spot<'a>,
    },
    /// rmdir of a directory.
    Rmdir {
        /// The way to it from the brick's root, if that is told.
        path: Option<&'a [u8]>,
        /// The directory.
        dir: Gfid,
        /// With all that it holds.
        whole_tree: bool,
    },
}

/// Such a fop, not yet passed on.
pub struct Ticket<'a> {
    pub(super) pending: Pending,
    pub(super) oldloc: &'a sys::loc_t,
    pub(super) newloc: Option<&'a sys::loc_t>,
    pub(super) flags: c_int,
    pub(super) xdata: *mut sys::dict_t,
}

impl Ticket<'_> {
    /// Answers with an error.
    pub fn fail(self, errno: i32) {
        self.pending.fail(errno);
    }

    /// Passes the fop on to the translator beneath; `after` runs when it is done, before it is answered.
    pub fn proceed(self, host: Host, route: Route, after: impl FnOnce(bool) + Send + 'static) {
        let after = |done| {
            after(done);
            Vec::new()
        };
        let Ticket { pending, oldloc, newloc, flags, xdata } = self;
        // Shallow copies: what they point to the host keeps until it is answered. Like all translators storage/posix takes
        // what it needs of a loc before it returns.
        let take = |loc: &sys::loc_t| match route {
            Route::ByGfid if !is_displaced(loc) => by_gfid(loc),
            // SAFETY: plain data; whoever uses the copy keeps what it points to.
            _ => unsafe { std::ptr::read(loc) },
        };
        let (mut old, mut new) = (take(oldloc), newloc.map(take));
        let new = new.as_mut().map_or(null_mut(), |loc| &raw mut *loc);
        let underway = Underway { arguments: None, host, fop: pending.fop(), after: Box::new(after) };
        // SAFETY: valid until `wind` returns, and what they point to until the answer.
        unsafe { wind(pending, host, underway, (&raw mut old, new, flags, xdata)) };
    }

    /// Copies what the fop needs, so that it can go on later. Answers `ENOMEM` if the host has no memory.
    pub fn hold(self) -> Option<HeldRemoval> {
        // SAFETY: the fop's own locs and dictionary.
        let (old, new, xdata) = unsafe {
            let new = self.newloc.map(|loc| OwnedLoc::copy(loc));
            (OwnedLoc::copy(self.oldloc), new, OwnedDict::again(self.xdata))
        };
        let (Some(old), None | Some(Some(_))) = (old, &new) else {
            self.pending.fail(libc::ENOMEM);
            return None;
        };
        // A copy has its name from the path.
        let displaced = [is_displaced(self.oldloc), self.newloc.is_some_and(is_displaced)];
        let arguments = Box::new(Arguments { old, new: new.flatten(), displaced, flags: self.flags, xdata });
        Some(HeldRemoval { pending: self.pending, arguments })
    }
}

/// A fop's arguments, in memory and with references of our own.
struct Arguments {
    old: OwnedLoc,
    new: Option<OwnedLoc>,
    /// Of which of them the path counts.
    displaced: [bool; 2],
    flags: c_int,
    xdata: Option<OwnedDict>,
}

/// A fop that waits for us.
pub struct HeldRemoval {
    pending: Pending,
    arguments: Box<Arguments>,
}

type After = Box<dyn FnOnce(bool) -> Vec<Mark> + Send>;

/// A fop on its way.
struct Underway {
    arguments: Option<Box<Arguments>>,
    host: Host,
    fop: Fop,
    after: After,
}

impl HeldRemoval {
    /// Answers with an error.
    pub fn fail(self, errno: i32) {
        let HeldRemoval { pending, arguments } = self;
        // Before the answer: once a request is answered, the host may end.
        drop(arguments);
        pending.fail(errno);
    }

    /// The inodes of the brick. `None` if the fop does not lead to them.
    pub fn inodes(&self) -> Option<Inodes> {
        // SAFETY: the arguments hold a reference to the directory.
        unsafe { Inodes::around(self.arguments.old.get().parent) }
    }

    /// Passes the fop on to the translator beneath; `after` runs when it is done (true if it succeeded), before it is
    /// answered. What it returns self-heal is told before that as well, if it is an unlink or a rename. It goes by gfid.
    pub fn proceed(self, host: Host, after: impl FnOnce(bool) -> Vec<Mark> + Send + 'static) {
        let HeldRemoval { pending, arguments } = self;
        let take = |loc: &OwnedLoc, displaced| match displaced {
            // SAFETY: plain data; the arguments keep what it points to.
            true => unsafe { std::ptr::read(loc.get()) },
            false => by_gfid(loc.get()),
        };
        let [old, new] = arguments.displaced;
        let mut old = take(&arguments.old, old);
        let mut new = arguments.new.as_ref().map(|loc| take(loc, new));
        let new = new.as_mut().map_or(null_mut(), |loc| &raw mut *loc);
        let args = (&raw mut old, new, arguments.flags, OwnedDict::ptr_of(arguments.xdata.as_ref()));
        let underway =
            Underway { arguments: Some(arguments), host, fop: pending.fop(), after: Box::new(after) };
        // SAFETY: valid until `wind` returns; what they point to is kept by the arguments until `Underway::end`.
        unsafe { wind(pending, host, underway, args) };
    }
}

/// Whether the path of `loc` is that of another place than what else it says: whoever makes a place of his own (features/trash)
/// replaces the path of a copy of another one, and nothing more. Then the path is what counts.
fn is_displaced(loc: &sys::loc_t) -> bool {
    // SAFETY: a path and a name in a loc are C strings, valid as long as the loc.
    let (path, name) = unsafe {
        let name = NonNull::new(loc.name.cast_mut()).map(|name| CStr::from_ptr(name.as_ptr()).to_bytes());
        (path_of(loc), name)
    };
    path.zip(name).is_some_and(|(path, name)| path.rsplit(|&byte| byte == b'/').next() != Some(name))
}

/// A shallow copy of `loc` that says where by the directory's gfid and the name alone. With a path storage/posix would go
/// by that, and so into another directory than the one that was looked at, if one above was renamed meanwhile.
fn by_gfid(loc: &sys::loc_t) -> sys::loc_t {
    // SAFETY: plain data; whoever uses the copy keeps what it points to.
    let mut copy = unsafe { std::ptr::read(loc) };
    // SAFETY: an inode in a loc is valid as long as the loc, and so is its path.
    let (parent, path) = unsafe { (copy.parent.as_ref(), path_of(loc)) };
    if let Some(parent) = parent.filter(|parent| parent.gfid != [0; 16]) {
        copy.pargfid = parent.gfid;
    }
    // The handle of a directory is a chain of symlinks, one for each level: the kernel follows no more than 40.
    let depth = path.map_or(0, |path| path.iter().filter(|&&byte| byte == b'/').count());
    if depth < 35 && copy.pargfid != [0; 16] {
        copy.path = std::ptr::null();
    }
    copy
}

/// # Safety
/// The arguments are those of the pending fop: the locs are valid until this returns, what they point to until the fop is
/// answered or `underway` is dropped.
unsafe fn wind(
    pending: Pending,
    host: Host,
    underway: Underway,
    (old, new, flags, xdata): (*mut sys::loc_t, *mut sys::loc_t, c_int, *mut sys::dict_t),
) {
    let fop = underway.fop;
    let frame = pending.into_frame().as_ptr();
    let underway = Box::into_raw(Box::new(underway));
    let (cookie, child) = (underway.cast(), host.child());
    // SAFETY: the caller's contract; the frame is pending and given up here; the box lives until it is taken back by the
    // callback, or here if that is not called.
    unsafe {
        let wound = match fop {
            Fop::Unlink => sys::fsnap_wind_unlink(frame, cookie, Some(removed), child, old, flags, xdata),
            Fop::Rmdir => sys::fsnap_wind_rmdir(frame, cookie, Some(removed), child, old, flags, xdata),
            Fop::Link => sys::fsnap_wind_link(frame, cookie, Some(linked), child, old, new, xdata),
            _ => sys::fsnap_wind_rename(frame, cookie, Some(renamed), child, old, new, xdata),
        };
        if wound == 0 {
            let pending = Pending::new(NonNull::new_unchecked(frame), fop);
            fence("what follows a removal", Vec::new(), || Box::from_raw(underway).end(false));
            pending.fail(libc::ENOMEM);
        }
    }
}

impl Underway {
    /// Runs what is to run after the fop, and gives back what was held.
    fn end(self, done: bool) -> Vec<Mark> {
        (self.after)(done)
    }
}

unsafe extern "C" fn removed(
    frame: *mut sys::call_frame_t,
    cookie: *mut c_void,
    _this: *mut sys::xlator_t,
    op_ret: i32,
    op_errno: i32,
    preparent: *mut sys::iatt,
    postparent: *mut sys::iatt,
    xdata: *mut sys::dict_t,
) -> i32 {
    // SAFETY: the cookie is the box of `wind`; the host calls back once.
    let underway = unsafe { Box::from_raw(cookie.cast::<Underway>()) };
    let (fop, host) = (underway.fop, underway.host);
    // SAFETY: the arguments hold a reference to the directory.
    let inodes = unsafe {
        Inodes::around(underway.arguments.as_ref().map_or(null_mut(), |held| held.old.get().parent))
    };
    // The fop is done, whatever becomes of what follows it: the answer is the host's own.
    let marks = fence("what follows a removal", Vec::new(), || underway.end(op_ret == 0));
    if let (Fop::Unlink, [_, ..], Some(inodes)) = (fop, &marks[..], inodes) {
        return fence("what follows an unlink", 0, || {
            let Some(frame) = NonNull::new(frame) else { return 0 };
            // SAFETY: the host's promise: null or valid.
            let mut parents = unsafe { Iatts::copy([preparent, postparent]) };
            let answer = move |pending: Pending, _| {
                let (frame, cookie, this) = (pending.into_frame().as_ptr(), null_mut(), this());
                let [pre, post] = parents.as_ptrs();
                // SAFETY: the frame is ours to unwind, with copies of what the host gave.
                unsafe {
                    sys::default_unlink_cbk(frame, cookie, this, op_ret, op_errno, pre, post, null_mut())
                };
            };
            // SAFETY: the frame came back to us, its owner, to be unwound.
            index::send(host, &inodes, unsafe { Pending::new(frame, fop) }, &marks, Box::new(answer));
            0
        });
    }
    let (cookie, this) = (null_mut(), this());
    // SAFETY: the frame came back to us, its owner, to be unwound, with what the host gave.
    unsafe {
        match fop {
            Fop::Rmdir => {
                sys::default_rmdir_cbk(frame, cookie, this, op_ret, op_errno, preparent, postparent, xdata)
            }
            _ => sys::default_unlink_cbk(frame, cookie, this, op_ret, op_errno, preparent, postparent, xdata),
        }
    }
}

unsafe extern "C" fn linked(
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
    // SAFETY: the cookie is the box of `wind`; the host calls back once.
    let underway = unsafe { Box::from_raw(cookie.cast::<Underway>()) };
    fence("what follows a link", Vec::new(), || underway.end(op_ret == 0));
    let (cookie, this) = (null_mut(), this());
    // SAFETY: the frame came back to us, its owner, to be unwound, with what the host gave.
    unsafe {
        sys::default_link_cbk(
            frame, cookie, this, op_ret, op_errno, inode, stbuf, preparent, postparent, xdata,
        )
    }
}

unsafe extern "C" fn renamed(
    frame: *mut sys::call_frame_t,
    cookie: *mut c_void,
    _this: *mut sys::xlator_t,
    op_ret: i32,
    op_errno: i32,
    stbuf: *mut sys::iatt,
    preold: *mut sys::iatt,
    postold: *mut sys::iatt,
    prenew: *mut sys::iatt,
    postnew: *mut sys::iatt,
    xdata: *mut sys::dict_t,
) -> i32 {
    // SAFETY: the cookie is the box of `wind`; the host calls back once.
    let underway = unsafe { Box::from_raw(cookie.cast::<Underway>()) };
    let host = underway.host;
    // SAFETY: the arguments hold a reference to the directory.
    let inodes = unsafe {
        Inodes::around(underway.arguments.as_ref().map_or(null_mut(), |held| held.old.get().parent))
    };
    let marks = fence("what follows a rename", Vec::new(), || underway.end(op_ret == 0));
    if let ([_, ..], Some(inodes)) = (&marks[..], inodes) {
        return fence("what follows a rename", 0, || {
            let Some(frame) = NonNull::new(frame) else { return 0 };
            // SAFETY: the host's promise: null or valid.
            let mut iatts = unsafe { Iatts::copy([stbuf, preold, postold, prenew, postnew]) };
            let answer = move |pending: Pending, _| {
                let (frame, cookie, this) = (pending.into_frame().as_ptr(), null_mut(), this());
                let ([stat, old, old_now, new, new_now], none) = (iatts.as_ptrs(), null_mut());
                // SAFETY: the frame is ours to unwind, with copies of what the host gave.
                unsafe {
                    sys::default_rename_cbk(
                        frame, cookie, this, op_ret, op_errno, stat, old, old_now, new, new_now, none,
                    )
                };
            };
            // SAFETY: the frame came back to us, its owner, to be unwound.
            index::send(host, &inodes, unsafe { Pending::new(frame, Fop::Rename) }, &marks, Box::new(answer));
            0
        });
    }
    let (cookie, this) = (null_mut(), this());
    // SAFETY: the frame came back to us, its owner, to be unwound, with what the host gave.
    unsafe {
        sys::default_rename_cbk(
            frame, cookie, this, op_ret, op_errno, stbuf, preold, postold, prenew, postnew, xdata,
        )
    }
}
