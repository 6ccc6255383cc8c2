//! unlink, rename, rmdir, link.

use std::ffi::c_int;
use std::ptr::NonNull;

use crate::ffi::call::{Call, gfid_of};
use crate::ffi::change::{How, Place, WHOLE_TREE};
use crate::ffi::dict::Dict;
use crate::ffi::fence::fence;
use crate::ffi::removal::{Removal, Spot, Ticket, path_of};
use crate::ffi::reply::{Fop, Pending};
use crate::ffi::role::{Translator, refusal, role};
use crate::ffi::sys;

/// Asks the translator what is to become of a removal; true if it has taken it.
///
/// # Safety
/// The arguments are a fop's.
unsafe fn asked<T: Translator>(
    (frame, this): (*mut sys::call_frame_t, *mut sys::xlator_t),
    fop: Fop,
    removal: Removal<'_>,
    ticket: impl FnOnce(Pending) -> Ticket<'static>,
) -> bool {
    fence("a removal", true, || {
        let Some(frame) = NonNull::new(frame) else { return false };
        // SAFETY: the fop is ours, and so is its frame until it is answered or passed on.
        let (pending, call) = unsafe { (Pending::new(frame, fop), Call::on_nothing(frame)) };
        let ticket = ticket(pending);
        // SAFETY: the host's promise.
        let back = match unsafe { role::<T>(this) } {
            Some(role) => role.remove(&call, removal, ticket),
            None => Some(ticket),
        };
        back.map(|ticket| ticket.pending.into_frame()).is_none()
    })
}

pub(in crate::ffi) unsafe extern "C" fn unlink<T: Translator>(
    frame: *mut sys::call_frame_t,
    this: *mut sys::xlator_t,
    loc: *mut sys::loc_t,
    flags: c_int,
    xdata: *mut sys::dict_t,
) -> i32 {
    // SAFETY: the host's promise, for looking, for asking and for passing on.
    unsafe {
        if let Some(errno) = refusal::<T>((frame, this), &[Place::entry(&*loc)], How::Unlink, xdata) {
            return sys::default_unlink_failure_cbk(frame, errno);
        }
        let Some(at) = Spot::of(&*loc) else {
            return sys::default_unlink(frame, this, loc, flags, xdata);
        };
        let ticket = |pending| Ticket { pending, oldloc: &*loc, newloc: None, flags, xdata };
        let internal = Dict::new(xdata).is_some_and(|xdata| xdata.get(c"glusterfs-internal-fop").is_some());
        let removal = Removal::Unlink { at, file: gfid_of(&*loc), internal };
        if asked::<T>((frame, this), Fop::Unlink, removal, ticket) {
            return 0;
        }
        sys::default_unlink(frame, this, loc, flags, xdata)
    }
}

pub(in crate::ffi) unsafe extern "C" fn rmdir<T: Translator>(
    frame: *mut sys::call_frame_t,
    this: *mut sys::xlator_t,
    loc: *mut sys::loc_t,
    flags: c_int,
    xdata: *mut sys::dict_t,
) -> i32 {
    // SAFETY: the host's promise, for looking, for asking and for passing on.
    unsafe {
        if let Some(errno) = refusal::<T>((frame, this), &[Place::entry(&*loc)], How::Other, xdata) {
            return sys::default_rmdir_failure_cbk(frame, errno);
        }
        let whole_tree = flags & WHOLE_TREE != 0;
        let removal = Removal::Rmdir { path: path_of(&*loc), dir: gfid_of(&*loc), whole_tree };
        let ticket = |pending| Ticket { pending, oldloc: &*loc, newloc: None, flags, xdata };
        if asked::<T>((frame, this), Fop::Rmdir, removal, ticket) {
            return 0;
        }
        sys::default_rmdir(frame, this, loc, flags, xdata)
    }
}

pub(in crate::ffi) unsafe extern "C" fn rename<T: Translator>(
    frame: *mut sys::call_frame_t,
    this: *mut sys::xlator_t,
    oldloc: *mut sys::loc_t,
    newloc: *mut sys::loc_t,
    xdata: *mut sys::dict_t,
) -> i32 {
    // SAFETY: the host's promise, for looking, for asking and for passing on.
    unsafe {
        let places = [Place::entry(&*oldloc), Place::entry(&*newloc)];
        if let Some(errno) = refusal::<T>((frame, this), &places, How::Other, xdata) {
            return sys::default_rename_failure_cbk(frame, errno);
        }
        if let (Some(from), Some(to)) = (Spot::of(&*oldloc), Spot::of(&*newloc)) {
            let removal = Removal::Rename { from, to, files: [gfid_of(&*oldloc), gfid_of(&*newloc)] };
            let ticket =
                |pending| Ticket { pending, oldloc: &*oldloc, newloc: Some(&*newloc), flags: 0, xdata };
            if asked::<T>((frame, this), Fop::Rename, removal, ticket) {
                return 0;
            }
        }
        sys::default_rename(frame, this, oldloc, newloc, xdata)
    }
}

pub(in crate::ffi) unsafe extern "C" fn link<T: Translator>(
    frame: *mut sys::call_frame_t,
    this: *mut sys::xlator_t,
    oldloc: *mut sys::loc_t,
    newloc: *mut sys::loc_t,
    xdata: *mut sys::dict_t,
) -> i32 {
    // SAFETY: the host's promise, for looking, for asking and for passing on.
    unsafe {
        let places = [Place::file(&*oldloc), Place::entry(&*newloc)];
        if let Some(errno) = refusal::<T>((frame, this), &places, How::Other, xdata) {
            return sys::default_link_failure_cbk(frame, errno);
        }
        if let Some(to) = Spot::of(&*newloc) {
            let removal = Removal::Link { file: gfid_of(&*oldloc), to };
            let ticket =
                |pending| Ticket { pending, oldloc: &*oldloc, newloc: Some(&*newloc), flags: 0, xdata };
            if asked::<T>((frame, this), Fop::Link, removal, ticket) {
                return 0;
            }
        }
        sys::default_link(frame, this, oldloc, newloc, xdata)
    }
}
