//! Listings with one name left out.
//!
//! A batch that is empty after that, but is not the last one, is fetched anew from where it ended: DHT takes an empty
//! answer for the end of the brick's part of the directory.

use std::ffi::{CStr, c_void};
use std::ptr::NonNull;

use super::fence::fence;
use super::host::this;
use super::reply::{Fop, Pending};
use super::sys;

/// Which of the two listing fops.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Readdir,
    Readdirp,
}

impl Kind {
    pub(super) fn fop(self) -> Fop {
        match self {
            Kind::Readdir => Fop::Readdir,
            Kind::Readdirp => Fop::Readdirp,
        }
    }
}

/// A listing on its way. Owns references to what it needs to be sent again.
struct Listing {
    reply: Option<Pending>,
    kind: Kind,
    hidden: &'static CStr,
    fd: *mut sys::fd_t,
    size: usize,
    xdata: *mut sys::dict_t,
}

impl Drop for Listing {
    fn drop(&mut self) {
        // SAFETY: both references were taken in `list`.
        unsafe {
            sys::fd_unref(self.fd);
            if !self.xdata.is_null() {
                sys::dict_unref(self.xdata);
            }
        }
    }
}

/// Sends a listing to the translator beneath and leaves `hidden` out of the answer.
///
/// # Safety
/// `fd` and `xdata` are a listing fop's arguments, valid during this call; `child` is the translator beneath.
pub(super) unsafe fn list(
    reply: Pending,
    kind: Kind,
    hidden: &'static CStr,
    child: *mut sys::xlator_t,
    (fd, size, offset, xdata): (*mut sys::fd_t, usize, i64, *mut sys::dict_t),
) {
    // SAFETY: valid by contract; given back by `Listing::drop`.
    let (fd, xdata) =
        unsafe { (sys::fd_ref(fd), if xdata.is_null() { xdata } else { sys::dict_ref(xdata) }) };
    wind(Box::new(Listing { reply: Some(reply), kind, hidden, fd, size, xdata }), child, offset);
}

fn wind(mut listing: Box<Listing>, child: *mut sys::xlator_t, offset: i64) {
    let Some(frame) = listing.reply.take().map(|reply| reply.into_frame().as_ptr()) else { return };
    let (kind, fd, size, xdata) = (listing.kind, listing.fd, listing.size, listing.xdata);
    let cookie = Box::into_raw(listing).cast();
    // SAFETY: the frame is pending and given up here, `listed` takes it and the box back; fd and xdata are ours as long
    // as the box lives, and the host takes references of its own while it needs them longer.
    unsafe {
        match kind {
            Kind::Readdir => {
                sys::fsnap_wind_readdir(frame, cookie, Some(listed), child, fd, size, offset, xdata)
            }
            Kind::Readdirp => {
                sys::fsnap_wind_readdirp(frame, cookie, Some(listed), child, fd, size, offset, xdata)
            }
        }
    }
}

unsafe extern "C" fn listed(
    frame: *mut sys::call_frame_t,
    cookie: *mut c_void,
    this: *mut sys::xlator_t,
    op_ret: i32,
    op_errno: i32,
    entries: *mut sys::gf_dirent_t,
    xdata: *mut sys::dict_t,
) -> i32 {
    fence("the answer to a listing", 0, || {
        // SAFETY: the cookie is the box that `wind` leaked; the host calls back once.
        let mut listing = unsafe { Box::from_raw(cookie.cast::<Listing>()) };
        let Some(frame) = NonNull::new(frame) else { return 0 };
        // SAFETY: the frame came back to us, its owner, to be unwound.
        let reply = unsafe { Pending::new(frame, listing.kind.fop()) };
        #[cfg(feature = "fault-injection")]
        super::xlator::provoked("listing");
        // SAFETY: the host's promise: a list of entries, ours to change during the callback.
        let (dropped, last) = unsafe { leave_out(entries, listing.hidden) };
        let left = op_ret.saturating_sub(dropped);
        match last {
            // storage/posix says ENOENT when it has reached the end of the directory.
            Some(offset) if dropped > 0 && left == 0 && op_errno != libc::ENOENT => {
                listing.reply = Some(reply);
                // SAFETY: `this` is us, with a child (checked at init).
                let child = unsafe { (*(*this).children).xlator };
                wind(listing, child, offset);
            }
            _ => {
                let frame = reply.into_frame().as_ptr();
                // SAFETY: the frame is unwound here, once, as what it was.
                unsafe { unwind(listing.kind, frame, left, op_errno, entries, xdata) };
            }
        }
        0
    })
}

/// # Safety
/// `frame` is pending as a fop of that kind; the rest is what the host handed to the callback.
unsafe fn unwind(
    kind: Kind,
    frame: *mut sys::call_frame_t,
    op_ret: i32,
    op_errno: i32,
    entries: *mut sys::gf_dirent_t,
    xdata: *mut sys::dict_t,
) {
    let (cookie, this) = (std::ptr::null_mut(), this());
    // SAFETY: the caller's contract.
    unsafe {
        match kind {
            Kind::Readdir => sys::default_readdir_cbk(frame, cookie, this, op_ret, op_errno, entries, xdata),
            Kind::Readdirp => {
                sys::default_readdirp_cbk(frame, cookie, this, op_ret, op_errno, entries, xdata)
            }
        }
    };
}

/// Takes the entries named `name` out of the list. How many they were, and the offset behind the last one.
///
/// # Safety
/// `head` is null or the head of a list of entries that nobody else uses.
unsafe fn leave_out(head: *mut sys::gf_dirent_t, name: &CStr) -> (i32, Option<i64>) {
    let (mut dropped, mut offset) = (0, None);
    if head.is_null() {
        return (dropped, offset);
    }
    // SAFETY: a circular list of valid entries, each with a C string for a name; `next` is read before the entry is
    // freed. A head that was never linked (zeroed) has a null `next`.
    unsafe {
        let mut entry = (*head).__bindgen_anon_1.__bindgen_anon_1.next;
        while !entry.is_null() && entry != head {
            let next = (*entry).__bindgen_anon_1.__bindgen_anon_1.next;
            if CStr::from_ptr((*entry).d_name.as_ptr()) == name {
                offset = Some((*entry).d_off.cast_signed());
                dropped += 1;
                sys::gf_dirent_entry_free(entry);
            }
            entry = next;
        }
    }
    (dropped, offset)
}
