//! Fops that change something: told apart by what they touch, before they go on.
//!
//! Only gfids that fsnap derives, and the name `.fsnap`, are looked at any closer; everything else goes straight to the
//! translator beneath.

use std::ffi::{CStr, c_char};
use std::ptr::NonNull;

use super::pass::{pass, passed};
use super::{heal, rights, truncate};
use crate::ffi::call::{Call, Inodes, gfid_of};
use crate::ffi::change::{How, Target};
use crate::ffi::dict::{Dict, OwnedDict};
use crate::ffi::fence::fence;
use crate::ffi::host::xlator::Host;
use crate::ffi::pause::Access;
use crate::ffi::role::{Translator, forbidden, refusal, role};
use crate::ffi::{index, sys};

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
/// what follows there are names of xattrs. With a stub it waits if the file is being cloned.
macro_rules! guarded {
    ($(
        $name:ident($($arg:ident: $type:ty),*) $(with [$($xattrs:ident)?])?
        or $default:ident, $failure:ident $(, $access:ident as $stub:ident)?: [$place:expr], $how:expr;
    )*) => {$(
        pub(in crate::ffi) unsafe extern "C" fn $name<T: Translator>(
            frame: *mut sys::call_frame_t,
            this: *mut sys::xlator_t,
            $($arg: $type,)*
            xdata: *mut sys::dict_t,
        ) -> i32 {
            // SAFETY: the host's promise, for looking and for passing on.
            unsafe {
                let place = $place;
                let refused = refusal::<T>((frame, this), &[place], $how, xdata);
                $(let refused = refused.or_else(|| forbidden::<T>((frame, this), &[xdata, $($xattrs)?]));)?
                match refused {
                    Some(errno) => sys::$failure(frame, errno),
                    None => on!(T, place, $default $(, $access as $stub)?: frame, this, $($arg,)* xdata),
                }
            }
        }
    )*};
}

macro_rules! on {
    ($role:ty, $place:ident, $default:ident: $frame:ident, $this:ident, $($arg:expr),*) => {
        sys::$default($frame, $this, $($arg),*)
    };
    ($role:ty, $place:ident, $default:ident, $access:ident as $stub:ident: $($rest:tt)*) => {
        passed!($role, $place.itself(), $access, $default, $stub: $($rest)*)
    };
}

type Loc = *mut sys::loc_t;
type Fd = *mut sys::fd_t;

guarded! {
    create(loc: Loc, flags: i32, mode: sys::mode_t, umask: sys::mode_t, fd: Fd) with []
        or default_create, default_create_failure_cbk: [Target::entry(&*loc)], How::Other;
    mkdir(loc: Loc, mode: sys::mode_t, umask: sys::mode_t) with []
        or default_mkdir, default_mkdir_failure_cbk: [Target::entry(&*loc)], How::Mkdir;
    symlink(target: *const c_char, loc: Loc, umask: sys::mode_t) with []
        or default_symlink, default_symlink_failure_cbk: [Target::entry(&*loc)], How::Other;
    put(
        loc: Loc, mode: sys::mode_t, umask: sys::mode_t, flags: u32, vector: *mut sys::iovec, count: i32, offset: i64,
        iobref: *mut sys::iobref, xattr: *mut sys::dict_t
    ) with [xattr] or default_put, default_put_failure_cbk: [Target::entry(&*loc)], How::Other;
    readv(fd: Fd, size: usize, offset: i64, flags: u32)
        or default_readv, default_readv_failure_cbk, Read as fop_readv_stub: [Target::open(fd)], How::Load;
    writev(fd: Fd, vector: *mut sys::iovec, count: i32, offset: i64, flags: u32, iobref: *mut sys::iobref)
        or default_writev, default_writev_failure_cbk, Change as fop_writev_stub: [Target::open(fd)], How::Other;
    fallocate(fd: Fd, keep_size: i32, offset: i64, len: usize)
        or default_fallocate, default_fallocate_failure_cbk, Change as fop_fallocate_stub: [Target::open(fd)], How::Other;
    discard(fd: Fd, offset: i64, len: usize)
        or default_discard, default_discard_failure_cbk, Change as fop_discard_stub: [Target::open(fd)], How::Other;
    zerofill(fd: Fd, offset: i64, len: i64)
        or default_zerofill, default_zerofill_failure_cbk, Change as fop_zerofill_stub: [Target::open(fd)], How::Other;
    rchecksum(fd: Fd, offset: i64, len: i32)
        or default_rchecksum, default_rchecksum_failure_cbk, Read as fop_rchecksum_stub: [Target::open(fd)], How::Read;
}

/// It reads one file and changes another.
pub(in crate::ffi) unsafe extern "C" fn copy_file_range<T: Translator>(
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
        let refused = refusal::<T>((frame, this), &[Target::open(fd_out)], How::Other, xdata)
            .or_else(|| refusal::<T>((frame, this), &[Target::open(fd_in)], How::Load, xdata));
        match refused {
            Some(errno) => sys::default_copy_file_range_failure_cbk(frame, errno),
            None => {
                let stub = || {
                    let default = Some(sys::default_copy_file_range as _);
                    sys::fop_copy_file_range_stub(
                        frame, default, fd_in, off_in, fd_out, off_out, len, flags, xdata,
                    )
                };
                let go = || {
                    sys::default_copy_file_range(
                        frame, this, fd_in, off_in, fd_out, off_out, len, flags, xdata,
                    )
                };
                let reads = || pass::<T>(this, Target::open(fd_in).itself(), Access::Read, stub, go);
                pass::<T>(this, Target::open(fd_out).itself(), Access::Change, stub, reads)
            }
        }
    }
}

pub(in crate::ffi) unsafe extern "C" fn xattrop<T: Translator>(
    frame: *mut sys::call_frame_t,
    this: *mut sys::xlator_t,
    loc: Loc,
    operation: sys::gf_xattrop_flags_t,
    xattrs: *mut sys::dict_t,
    xdata: *mut sys::dict_t,
) -> i32 {
    // SAFETY: the host's promise, for looking and for passing on.
    unsafe {
        let place = Target::file(&*loc);
        match xattrop_refusal::<T>((frame, this), place, (*loc).inode, operation, xattrs, xdata) {
            Some(errno) => sys::default_xattrop_failure_cbk(frame, errno),
            None => match truncate::ends::<T>((frame, this), place, xattrop_how(operation, xattrs)) {
                Some(ended) => truncate::end::<T>((frame, this), ended, |cookie, cbk, child| {
                    sys::fsnap_wind_xattrop(frame, cookie, cbk, child, loc, operation, xattrs, xdata)
                }),
                None => {
                    passed!(T, place.itself(), Change, default_xattrop, fop_xattrop_stub: frame, this, loc, operation, xattrs, xdata)
                }
            },
        }
    }
}

pub(in crate::ffi) unsafe extern "C" fn fxattrop<T: Translator>(
    frame: *mut sys::call_frame_t,
    this: *mut sys::xlator_t,
    fd: Fd,
    operation: sys::gf_xattrop_flags_t,
    xattrs: *mut sys::dict_t,
    xdata: *mut sys::dict_t,
) -> i32 {
    // SAFETY: the host's promise, for looking and for passing on.
    unsafe {
        let place = Target::open(fd);
        match xattrop_refusal::<T>((frame, this), place, (*fd).inode, operation, xattrs, xdata) {
            Some(errno) => sys::default_fxattrop_failure_cbk(frame, errno),
            None => match truncate::ends::<T>((frame, this), place, xattrop_how(operation, xattrs)) {
                Some(ended) => truncate::end::<T>((frame, this), ended, |cookie, cbk, child| {
                    sys::fsnap_wind_fxattrop(frame, cookie, cbk, child, fd, operation, xattrs, xdata)
                }),
                None => {
                    passed!(T, place.itself(), Change, default_fxattrop, fop_fxattrop_stub: frame, this, fd, operation, xattrs, xdata)
                }
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
    place: Target<'_>,
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
            fence("an xattrop of our own", (), || {
                index::take_back(Host::new(this), inode, operation, xattrs)
            });
        }
        refused
    }
}

pub(in crate::ffi) unsafe extern "C" fn open<T: Translator>(
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
        match refusal::<T>((frame, this), &[Target::file(&*loc)], how, xdata) {
            Some(errno) => sys::default_open_failure_cbk(frame, errno),
            None => {
                if !reads {
                    opened::<T>((frame, this), &*loc);
                }
                // Nothing else of it takes the file's lock.
                if flags & libc::O_TRUNC == 0 {
                    return sys::default_open(frame, this, loc, flags, fd, xdata);
                }
                let file = Target::file(&*loc).itself();
                passed!(T, file, Change, default_open, fop_open_stub: frame, this, loc, flags, fd, xdata)
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
    place: Target<'_>,
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

pub(in crate::ffi) unsafe extern "C" fn removexattr<T: Translator>(
    frame: *mut sys::call_frame_t,
    this: *mut sys::xlator_t,
    loc: Loc,
    name: *const c_char,
    xdata: *mut sys::dict_t,
) -> i32 {
    // SAFETY: the host's promise, for looking and for passing on.
    unsafe {
        match removal_refusal::<T>((frame, this), Target::file(&*loc), name, xdata) {
            Some(errno) => sys::default_removexattr_failure_cbk(frame, errno),
            None => {
                let kept = heal::kept::<T>((frame, this), loc, name, xdata);
                let xdata = kept.as_ref().map_or(xdata, OwnedDict::as_ptr);
                rights::removexattr::<T>((frame, this), loc, name, xdata)
            }
        }
    }
}

pub(in crate::ffi) unsafe extern "C" fn fremovexattr<T: Translator>(
    frame: *mut sys::call_frame_t,
    this: *mut sys::xlator_t,
    fd: Fd,
    name: *const c_char,
    xdata: *mut sys::dict_t,
) -> i32 {
    // SAFETY: the host's promise, for looking and for passing on.
    unsafe {
        match removal_refusal::<T>((frame, this), Target::open(fd), name, xdata) {
            Some(errno) => sys::default_fremovexattr_failure_cbk(frame, errno),
            None => rights::fremovexattr::<T>((frame, this), fd, name, xdata),
        }
    }
}
