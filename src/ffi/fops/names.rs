//! unlink, rename, rmdir, link.

use std::ffi::c_int;
use std::ptr::{NonNull, null_mut};

use crate::ffi::call::{Call, gfid_of};
use crate::ffi::change::{How, Target, WHOLE_TREE};
use crate::ffi::dict::Dict;
use crate::ffi::fence::fence;
use crate::ffi::removal::{Removal, Spot, Ticket, path_of};
use crate::ffi::reply::{Answer, Fop, Pending};
use crate::ffi::role::{Translator, refusal, role};
use crate::ffi::sys;

/// A fop that takes names away or gives them: the locs, flags and xdata that it came with.
type Arguments = (*mut sys::loc_t, *mut sys::loc_t, c_int, *mut sys::dict_t);

/// Asks the translator whether a removal may be, and what is to become of it; true if it is answered, or will be.
///
/// # Safety
/// The arguments are a fop's, the second loc is null if it has but one.
unsafe fn taken<T: Translator>(
    (frame, this): (*mut sys::call_frame_t, *mut sys::xlator_t),
    fop: Fop,
    (oldloc, newloc, flags, xdata): Arguments,
    (places, how): (&[Target<'_>], How<'_>),
    removal: Option<Removal<'_>>,
) -> bool {
    // SAFETY: the host's promise; what is refused is answered here.
    unsafe {
        if let Some(errno) = refusal::<T>((frame, this), places, how, xdata) {
            Answer::failed(errno).unwind(frame, fop);
            return true;
        }
    }
    let Some(removal) = removal else { return false };
    fence("a removal", true, || {
        let Some(frame) = NonNull::new(frame) else { return false };
        // SAFETY: the fop is ours, and so is its frame until it is answered or passed on. Then the host's promise.
        let (ticket, call, role) = unsafe {
            let pending = Pending::new(frame, fop);
            let ticket = Ticket { pending, oldloc: &*oldloc, newloc: newloc.as_ref(), flags, xdata };
            (ticket, Call::on_nothing(frame), role::<T>(this))
        };
        let back = match role {
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
        let asked = (&[Target::entry(&*loc)][..], How::Unlink);
        let removal = Spot::of(&*loc).map(|at| {
            let internal =
                Dict::new(xdata).is_some_and(|xdata| xdata.get(c"glusterfs-internal-fop").is_some());
            Removal::Unlink { at, file: gfid_of(&*loc), internal }
        });
        match taken::<T>((frame, this), Fop::Unlink, (loc, null_mut(), flags, xdata), asked, removal) {
            true => 0,
            false => sys::default_unlink(frame, this, loc, flags, xdata),
        }
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
        let asked = (&[Target::entry(&*loc)][..], How::Other);
        let whole_tree = flags & WHOLE_TREE != 0;
        let removal = Removal::Rmdir { path: path_of(&*loc), dir: gfid_of(&*loc), whole_tree };
        match taken::<T>((frame, this), Fop::Rmdir, (loc, null_mut(), flags, xdata), asked, Some(removal)) {
            true => 0,
            false => sys::default_rmdir(frame, this, loc, flags, xdata),
        }
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
        let asked = (&[Target::entry(&*oldloc), Target::entry(&*newloc)][..], How::Other);
        let files = [gfid_of(&*oldloc), gfid_of(&*newloc)];
        let removal = Spot::of(&*oldloc).zip(Spot::of(&*newloc));
        let removal = removal.map(|(from, to)| Removal::Rename { from, to, files });
        match taken::<T>((frame, this), Fop::Rename, (oldloc, newloc, 0, xdata), asked, removal) {
            true => 0,
            false => sys::default_rename(frame, this, oldloc, newloc, xdata),
        }
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
        let asked = (&[Target::file(&*oldloc), Target::entry(&*newloc)][..], How::Other);
        let removal = Spot::of(&*newloc).map(|to| Removal::Link { file: gfid_of(&*oldloc), to });
        match taken::<T>((frame, this), Fop::Link, (oldloc, newloc, 0, xdata), asked, removal) {
            true => 0,
            false => sys::default_link(frame, this, oldloc, newloc, xdata),
        }
    }
}
