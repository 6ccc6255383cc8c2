//! Fops that change something: told apart by what they touch, before they go on.
//!
//! Only gfids that fsnap derives, and the name `.fsnap`, are looked at any closer; everything else goes straight to the
//! translator beneath.

use std::ffi::{CStr, c_char, c_int};
use std::ptr::NonNull;

use fsnap_core::{Gfid, SNAP_DIR};

use super::call::{Call, Inodes, gfid_of};
use super::carrier;
use super::dict::{Dict, OwnedDict};
use super::fence::fence;
use super::heal;
use super::host::Host;
use super::mark;
use super::sys;
use super::xlator::{Translator, hidden_xattrs, role};

/// Something that a fop is about to change.
pub struct Change<'a> {
    /// Where.
    pub place: Place<'a>,
    /// How.
    pub how: How<'a>,
    /// The request's own dictionary.
    pub xdata: Option<Dict<'a>>,
}

/// What a change touches.
#[derive(Clone, Copy)]
pub enum Place<'a> {
    /// A file or directory itself, reached by its gfid: its content, attributes or xattrs.
    File(Gfid),
    /// The same, by somebody who has it open.
    Open(Gfid),
    /// A name in a directory.
    Entry(Gfid, &'a [u8]),
}

/// How a change is made, as far as that matters.
#[derive(Clone, Copy)]
pub enum How<'a> {
    /// It is opened for reading.
    Read,
    /// readv.
    Load,
    /// mkdir.
    Mkdir,
    /// unlink.
    Unlink,
    /// setattr with these attributes (`GF_SET_ATTR_*`).
    Attributes(i32),
    /// xattrop that adds these values to xattrs.
    Xattrop(Option<Dict<'a>>),
    /// In another way.
    Other,
}

impl Place<'_> {
    pub(super) fn file(loc: &sys::loc_t) -> Place<'static> {
        Place::File(gfid_of(loc))
    }

    /// # Safety
    /// `fd` is null or valid.
    unsafe fn open(fd: *const sys::fd_t) -> Place<'static> {
        // SAFETY: the caller's contract; an fd holds a reference to its inode.
        let gfid =
            unsafe { fd.as_ref().and_then(|fd| fd.inode.as_ref()) }.map_or([0; 16], |inode| inode.gfid);
        Place::Open(Gfid::from_bytes(gfid))
    }

    /// # Safety
    /// `loc` comes from the host, and is valid as long as the result is used.
    pub(super) unsafe fn entry(loc: &sys::loc_t) -> Place<'_> {
        // SAFETY: the caller's contract.
        match unsafe { entry(loc) } {
            Some((parent, name)) => Place::Entry(parent, name.to_bytes()),
            None => Place::File(gfid_of(loc)),
        }
    }

    fn deserves_a_look(&self, role: &impl Translator) -> bool {
        match self {
            Place::File(gfid) => gfid.is_derived() || role.watches(*gfid) || role.is_half_restored(*gfid),
            Place::Open(gfid) => gfid.is_derived() || role.is_half_restored(*gfid),
            Place::Entry(parent, name) => parent.is_derived() || *name == SNAP_DIR.as_bytes(),
        }
    }
}

/// The directory and the name of a loc.
///
/// # Safety
/// `loc` comes from the host, and is valid as long as the result is used.
pub(super) unsafe fn entry(loc: &sys::loc_t) -> Option<(Gfid, &CStr)> {
    let name = NonNull::new(loc.name.cast_mut())?;
    // SAFETY: an inode in a loc is valid as long as the loc; a name is a C string.
    let (parent, name) = unsafe { (loc.parent.as_ref().map(|p| p.gfid), CStr::from_ptr(name.as_ptr())) };
    let parent = parent.filter(|g| *g != [0; 16]).unwrap_or(loc.pargfid);
    (parent != [0; 16]).then_some((Gfid::from_bytes(parent), name))
}

/// The errno of a fop that must not be, `None` for one that may go on.
///
/// # Safety
/// The arguments are a fop's.
pub(super) unsafe fn refusal<T: Translator>(
    (frame, this): (*mut sys::call_frame_t, *mut sys::xlator_t),
    places: &[Place<'_>],
    how: How<'_>,
    xdata: *mut sys::dict_t,
) -> Option<i32> {
    // SAFETY: the host's promise.
    let role = unsafe { role::<T>(this) }?;
    if !places.iter().any(|place| place.deserves_a_look(role)) {
        return None;
    }
    fence("a guard", Some(libc::EIO), || {
        // SAFETY: the host's promise.
        let call = unsafe { Call::on_nothing(NonNull::new(frame)?) };
        places.iter().find_map(|&place| {
            // SAFETY: the host's promise.
            role.refuse(&call, &Change { place, how, xdata: unsafe { Dict::new(xdata) } })
        })
    })
}

/// `EPERM` if one of the dictionaries, whose keys are names of xattrs, has one that this caller is not shown: neither is it
/// his to ask for, to set or to remove.
///
/// # Safety
/// The arguments are a fop's.
pub(super) unsafe fn forbidden<T: Translator>(
    (frame, this): (*mut sys::call_frame_t, *mut sys::xlator_t),
    dicts: &[*mut sys::dict_t],
) -> Option<i32> {
    fence("a guard", Some(libc::EIO), || {
        // SAFETY: the host's promise.
        let hidden = unsafe { hidden_xattrs::<T>(frame, this) }?;
        let names = |dict: &*mut sys::dict_t| {
            // SAFETY: the host's promise.
            unsafe { Dict::new(*dict) }.is_some_and(|dict| !dict.with_prefix(hidden.to_bytes()).is_empty())
        };
        dicts.iter().any(names).then_some(libc::EPERM)
    })
}

/// # Safety
/// `xattrs` is the dictionary of an xattrop.
unsafe fn xattrop_how<'a>(operation: sys::gf_xattrop_flags_t, xattrs: *mut sys::dict_t) -> How<'a> {
    match operation {
        // SAFETY: the caller's contract.
        sys::GF_XATTROP_ADD_ARRAY | sys::GF_XATTROP_ADD_ARRAY64 => How::Xattrop(unsafe { Dict::new(xattrs) }),
        _ => How::Other,
    }
}

/// A fop of the given arguments that is guarded, and then passed on. With `with`, the keys of its xdata and of
/// what follows there are names of xattrs.
macro_rules! guarded {
    ($(
        $name:ident($($arg:ident: $type:ty),*) $(with [$($xattrs:ident)?])?
        or $default:ident, $failure:ident: [$($place:expr),*], $how:expr;
    )*) => {$(
        pub(super) unsafe extern "C" fn $name<T: Translator>(
            frame: *mut sys::call_frame_t,
            this: *mut sys::xlator_t,
            $($arg: $type,)*
            xdata: *mut sys::dict_t,
        ) -> i32 {
            // SAFETY: the host's promise, for looking and for passing on.
            unsafe {
                let refused = refusal::<T>((frame, this), &[$($place),*], $how, xdata);
                $(let refused = refused.or_else(|| forbidden::<T>((frame, this), &[xdata, $($xattrs)?]));)?
                match refused {
                    Some(errno) => sys::$failure(frame, errno),
                    None => sys::$default(frame, this, $($arg,)* xdata),
                }
            }
        }
    )*};
}

type Loc = *mut sys::loc_t;
type Fd = *mut sys::fd_t;

guarded! {
    create(loc: Loc, flags: i32, mode: sys::mode_t, umask: sys::mode_t, fd: Fd) with []
        or default_create, default_create_failure_cbk: [Place::entry(&*loc)], How::Other;
    mknod(loc: Loc, mode: sys::mode_t, rdev: sys::dev_t, umask: sys::mode_t) with []
        or default_mknod, default_mknod_failure_cbk: [Place::entry(&*loc)], How::Other;
    mkdir(loc: Loc, mode: sys::mode_t, umask: sys::mode_t) with []
        or default_mkdir, default_mkdir_failure_cbk: [Place::entry(&*loc)], How::Mkdir;
    symlink(target: *const c_char, loc: Loc, umask: sys::mode_t) with []
        or default_symlink, default_symlink_failure_cbk: [Place::entry(&*loc)], How::Other;
    put(
        loc: Loc, mode: sys::mode_t, umask: sys::mode_t, flags: u32, vector: *mut sys::iovec, count: i32, offset: i64,
        iobref: *mut sys::iobref, xattr: *mut sys::dict_t
    ) with [xattr] or default_put, default_put_failure_cbk: [Place::entry(&*loc)], How::Other;
    readv(fd: Fd, size: usize, offset: i64, flags: u32)
        or default_readv, default_readv_failure_cbk: [Place::open(fd)], How::Load;
    truncate(loc: Loc, offset: i64)
        or default_truncate, default_truncate_failure_cbk: [Place::file(&*loc)], How::Other;
    ftruncate(fd: Fd, offset: i64)
        or default_ftruncate, default_ftruncate_failure_cbk: [Place::open(fd)], How::Other;
    writev(fd: Fd, vector: *mut sys::iovec, count: i32, offset: i64, flags: u32, iobref: *mut sys::iobref)
        or default_writev, default_writev_failure_cbk: [Place::open(fd)], How::Other;
    fallocate(fd: Fd, keep_size: i32, offset: i64, len: usize)
        or default_fallocate, default_fallocate_failure_cbk: [Place::open(fd)], How::Other;
    discard(fd: Fd, offset: i64, len: usize)
        or default_discard, default_discard_failure_cbk: [Place::open(fd)], How::Other;
    zerofill(fd: Fd, offset: i64, len: i64)
        or default_zerofill, default_zerofill_failure_cbk: [Place::open(fd)], How::Other;
    setattr(loc: Loc, stbuf: *mut sys::iatt, valid: i32)
        or default_setattr, default_setattr_failure_cbk: [Place::file(&*loc)], How::Attributes(valid);
}

/// It reads one file and changes another.
pub(super) unsafe extern "C" fn copy_file_range<T: Translator>(
    frame: *mut sys::call_frame_t,
    this: *mut sys::xlator_t,
    fd_in: Fd,
    off_in: sys::off64_t,
    fd_out: Fd,
    off_out: sys::off64_t,
    len: usize,
    flags: u32,
    xdata: *mut sys::dict_t,
) -> i32 {
    // SAFETY: the host's promise, for looking and for passing on.
    unsafe {
        let refused = refusal::<T>((frame, this), &[Place::open(fd_out)], How::Other, xdata)
            .or_else(|| refusal::<T>((frame, this), &[Place::open(fd_in)], How::Load, xdata));
        match refused {
            Some(errno) => sys::default_copy_file_range_failure_cbk(frame, errno),
            None => {
                sys::default_copy_file_range(frame, this, fd_in, off_in, fd_out, off_out, len, flags, xdata)
            }
        }
    }
}

pub(super) unsafe extern "C" fn xattrop<T: Translator>(
    frame: *mut sys::call_frame_t,
    this: *mut sys::xlator_t,
    loc: Loc,
    operation: sys::gf_xattrop_flags_t,
    xattrs: *mut sys::dict_t,
    xdata: *mut sys::dict_t,
) -> i32 {
    // SAFETY: the host's promise, for looking and for passing on.
    unsafe {
        let place = Place::file(&*loc);
        match xattrop_refusal::<T>((frame, this), place, (*loc).inode, operation, xattrs, xdata) {
            Some(errno) => sys::default_xattrop_failure_cbk(frame, errno),
            None => match carrier::ends::<T>((frame, this), place, xattrop_how(operation, xattrs)) {
                Some(ended) => carrier::end::<T>((frame, this), ended, |cookie, cbk, child| {
                    sys::fsnap_wind_xattrop(frame, cookie, cbk, child, loc, operation, xattrs, xdata)
                }),
                None => sys::default_xattrop(frame, this, loc, operation, xattrs, xdata),
            },
        }
    }
}

pub(super) unsafe extern "C" fn fxattrop<T: Translator>(
    frame: *mut sys::call_frame_t,
    this: *mut sys::xlator_t,
    fd: Fd,
    operation: sys::gf_xattrop_flags_t,
    xattrs: *mut sys::dict_t,
    xdata: *mut sys::dict_t,
) -> i32 {
    // SAFETY: the host's promise, for looking and for passing on.
    unsafe {
        let place = Place::open(fd);
        match xattrop_refusal::<T>((frame, this), place, (*fd).inode, operation, xattrs, xdata) {
            Some(errno) => sys::default_fxattrop_failure_cbk(frame, errno),
            None => match carrier::ends::<T>((frame, this), place, xattrop_how(operation, xattrs)) {
                Some(ended) => carrier::end::<T>((frame, this), ended, |cookie, cbk, child| {
                    sys::fsnap_wind_fxattrop(frame, cookie, cbk, child, fd, operation, xattrs, xdata)
                }),
                None => sys::default_fxattrop(frame, this, fd, operation, xattrs, xdata),
            },
        }
    }
}

/// The errno of an xattrop that must not be, of which features/index, which has seen it before, learns as well.
///
/// # Safety
/// The arguments are a fop's.
unsafe fn xattrop_refusal<T: Translator>(
    (frame, this): (*mut sys::call_frame_t, *mut sys::xlator_t),
    place: Place<'_>,
    inode: *mut sys::inode_t,
    operation: sys::gf_xattrop_flags_t,
    xattrs: *mut sys::dict_t,
    xdata: *mut sys::dict_t,
) -> Option<i32> {
    // SAFETY: the caller's contract.
    unsafe {
        let how = xattrop_how(operation, xattrs);
        let added = matches!(how, How::Xattrop(_));
        let refused = refusal::<T>((frame, this), &[place], how, xdata)
            .or_else(|| forbidden::<T>((frame, this), &[xdata, xattrs]));
        if let (Some(libc::EROFS), true, Some(this)) = (refused, added, NonNull::new(this)) {
            fence("an xattrop of our own", (), || mark::take_back(Host::new(this), inode, operation, xattrs));
        }
        refused
    }
}

/// Refused with `ESTALE`, whatever the reason: protocol/server of GlusterFS 10 crashes over any other errno that an
/// fsetattr fails with, because it logs it with an argument less than its format has (`server4_fsetattr_cbk`).
pub(super) unsafe extern "C" fn fsetattr<T: Translator>(
    frame: *mut sys::call_frame_t,
    this: *mut sys::xlator_t,
    fd: Fd,
    stbuf: *mut sys::iatt,
    valid: i32,
    xdata: *mut sys::dict_t,
) -> i32 {
    // SAFETY: the host's promise, for looking and for passing on.
    unsafe {
        match refusal::<T>((frame, this), &[Place::open(fd)], How::Attributes(valid), xdata) {
            Some(_) => sys::default_fsetattr_failure_cbk(frame, libc::ESTALE),
            None => sys::default_fsetattr(frame, this, fd, stbuf, valid, xdata),
        }
    }
}

pub(super) unsafe extern "C" fn open<T: Translator>(
    frame: *mut sys::call_frame_t,
    this: *mut sys::xlator_t,
    loc: Loc,
    flags: i32,
    fd: Fd,
    xdata: *mut sys::dict_t,
) -> i32 {
    let reads = flags & libc::O_ACCMODE == libc::O_RDONLY && flags & libc::O_TRUNC == 0;
    let how = if reads { How::Read } else { How::Other };
    // SAFETY: the host's promise, for looking and for passing on.
    unsafe {
        match refusal::<T>((frame, this), &[Place::file(&*loc)], how, xdata) {
            Some(errno) => sys::default_open_failure_cbk(frame, errno),
            None => {
                if !reads {
                    opened::<T>((frame, this), &*loc);
                }
                sys::default_open(frame, this, loc, flags, fd, xdata)
            }
        }
    }
}

/// Tells the translator of a file that is opened for writing, if it wants to know.
///
/// # Safety
/// The arguments are a fop's.
unsafe fn opened<T: Translator>(
    (frame, this): (*mut sys::call_frame_t, *mut sys::xlator_t),
    loc: &sys::loc_t,
) {
    let file = gfid_of(loc);
    // SAFETY: the caller's contract.
    let Some(role) = (unsafe { role::<T>(this) }).filter(|role| role.watches(file)) else { return };
    fence("a guard", (), || {
        // SAFETY: the caller's contract: the inode of a loc is null or valid.
        let inodes = unsafe { Inodes::around(loc.inode) };
        if let (Some(frame), Some(inodes)) = (NonNull::new(frame), inodes) {
            // SAFETY: the caller's contract.
            role.opens(&unsafe { Call::on_nothing(frame) }, file, inodes);
        }
    });
}

/// Whether an xattr of that name is anybody's to remove.
///
/// # Safety
/// The arguments are a fop's.
unsafe fn removal_refusal<T: Translator>(
    (frame, this): (*mut sys::call_frame_t, *mut sys::xlator_t),
    place: Place<'_>,
    name: *const c_char,
    xdata: *mut sys::dict_t,
) -> Option<i32> {
    // SAFETY: the caller's contract. The names may be in the dictionary (`posix_is_bulk_removexattr`).
    let refused = unsafe {
        refusal::<T>((frame, this), &[place], How::Other, xdata)
            .or_else(|| forbidden::<T>((frame, this), &[xdata]))
    };
    if refused.is_some() {
        return refused;
    }
    // SAFETY: the caller's contract: a name is a C string.
    let name = unsafe { NonNull::new(name.cast_mut()).map(|name| CStr::from_ptr(name.as_ptr())) }?;
    fence("a guard", Some(libc::EIO), || {
        // SAFETY: the host's promise.
        let (role, call) = unsafe { (role::<T>(this)?, Call::on_nothing(NonNull::new(frame)?)) };
        role.refuse_xattr(&call, name.to_bytes())
    })
}

pub(super) unsafe extern "C" fn removexattr<T: Translator>(
    frame: *mut sys::call_frame_t,
    this: *mut sys::xlator_t,
    loc: Loc,
    name: *const c_char,
    xdata: *mut sys::dict_t,
) -> i32 {
    // SAFETY: the host's promise, for looking and for passing on.
    unsafe {
        match removal_refusal::<T>((frame, this), Place::file(&*loc), name, xdata) {
            Some(errno) => sys::default_removexattr_failure_cbk(frame, errno),
            None => {
                let kept = heal::kept::<T>((frame, this), loc, name, xdata);
                let xdata = kept.as_ref().map_or(xdata, OwnedDict::as_ptr);
                sys::default_removexattr(frame, this, loc, name, xdata)
            }
        }
    }
}

pub(super) unsafe extern "C" fn fremovexattr<T: Translator>(
    frame: *mut sys::call_frame_t,
    this: *mut sys::xlator_t,
    fd: Fd,
    name: *const c_char,
    xdata: *mut sys::dict_t,
) -> i32 {
    // SAFETY: the host's promise, for looking and for passing on.
    unsafe {
        match removal_refusal::<T>((frame, this), Place::open(fd), name, xdata) {
            Some(errno) => sys::default_fremovexattr_failure_cbk(frame, errno),
            None => sys::default_fremovexattr(frame, this, fd, name, xdata),
        }
    }
}

/// The flags of an rmdir that stands for a whole tree (`posix_rmdir` moves it into the landfill).
pub(super) const WHOLE_TREE: c_int = 1;
