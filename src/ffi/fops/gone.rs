//! Looks by gfid at what is not to be found so: what was deleted and is kept for its snapshots, and, by geo-replication, what is
//! fsnap's.

use std::ptr::NonNull;

use crate::ffi::call::Call;
use crate::ffi::change::Target;
use crate::ffi::fence::fence;
use crate::ffi::role::{Translator, role};
use crate::ffi::sys;

/// The errno for what is to be gone for this caller. A look at memory as long as no deleted file is kept, and at the gfid.
///
/// # Safety
/// The arguments are a fop's.
pub(super) unsafe fn refusal<T: Translator>(
    (frame, this): (*mut sys::call_frame_t, *mut sys::xlator_t),
    place: Target<'_>,
) -> Option<i32> {
    let Target::File(file) = place else { return None };
    // SAFETY: the host's promise.
    let role = unsafe { role::<T>(this) }.filter(|role| file.is_derived() || role.watches(file))?;
    fence("a look at a deleted file", Some(libc::EIO), || {
        // SAFETY: the host's promise.
        let call = unsafe { Call::on_nothing(NonNull::new(frame)?) };
        role.gone(&call, file)
    })
}

/// The errno of a getxattr of all that something has, if that must not be.
///
/// # Safety
/// The arguments are a fop's.
pub(super) unsafe fn values_refusal<T: Translator>(
    (frame, this): (*mut sys::call_frame_t, *mut sys::xlator_t),
    place: Target<'_>,
) -> Option<i32> {
    let (Target::File(file) | Target::Open(file)) = place else { return None };
    // SAFETY: the host's promise.
    let role = unsafe { role::<T>(this) }.filter(|_| file.is_derived())?;
    fence("a look at a snapshot", Some(libc::EIO), || {
        // SAFETY: the host's promise.
        role.refuse_values(&unsafe { Call::on_nothing(NonNull::new(frame)?) }, file)
    })
}

/// What fsnap has derived is looked at before it is shown.
///
/// # Safety
/// The arguments are a fop's.
unsafe fn shows<T: Translator>(
    (frame, this): (*mut sys::call_frame_t, *mut sys::xlator_t),
    place: Target<'_>,
) {
    let (Target::File(file) | Target::Open(file)) = place else { return };
    // SAFETY: the host's promise.
    let (role, frame) = unsafe { (role::<T>(this).filter(|_| file.is_derived()), NonNull::new(frame)) };
    if let (Some(role), Some(frame)) = (role, frame) {
        fence("a look at a snapshot", (), || {
            // SAFETY: the host's promise.
            role.shows(&unsafe { Call::on_nothing(frame) }, file);
        });
    }
}

/// A fop of the given arguments that looks at such a place, and is passed on if it may.
macro_rules! looks {
    ($($name:ident($($arg:ident: $type:ty),*) or $default:ident, $failure:ident: $place:expr;)*) => {$(
        pub(in crate::ffi) unsafe extern "C" fn $name<T: Translator>(
            frame: *mut sys::call_frame_t,
            this: *mut sys::xlator_t,
            $($arg: $type,)*
            xdata: *mut sys::dict_t,
        ) -> i32 {
            // SAFETY: the host's promise, for looking and for passing on.
            unsafe {
                let place = $place;
                match refusal::<T>((frame, this), place) {
                    Some(errno) => sys::$failure(frame, errno),
                    None => {
                        shows::<T>((frame, this), place);
                        sys::$default(frame, this, $($arg,)* xdata)
                    }
                }
            }
        }
    )*};
}

type Loc = *mut sys::loc_t;
type Fd = *mut sys::fd_t;

looks! {
    stat(loc: Loc) or default_stat, default_stat_failure_cbk: Target::file(&*loc);
    fstat(fd: Fd) or default_fstat, default_fstat_failure_cbk: Target::open(fd);
    seek(fd: Fd, offset: i64, what: sys::gf_seek_what_t)
        or default_seek, default_seek_failure_cbk: Target::open(fd);
}
