//! Listings with some names left out.
//!
//! A batch that is empty after that, but is not the last one, is fetched anew from where it ended: DHT takes an empty
//! answer for the end of the brick's part of the directory.

use std::ffi::{CStr, c_void};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU8, Ordering};

use super::fence::fence;
use super::host::xlator::this;
use super::reply::{Fop, Pending};
use super::sys;

/// Which of the two listing fops.
#[derive(Clone, Copy)]
pub(super) enum ListFop {
    Readdir,
    Readdirp,
}

impl ListFop {
    pub(super) fn fop(self) -> Fop {
        match self {
            ListFop::Readdir => Fop::Readdir,
            ListFop::Readdirp => Fop::Readdirp,
        }
    }
}

/// Says of a name that it is to be left out.
pub type Hides = Box<dyn Fn(&[u8]) -> bool + Send + Sync>;

/// A listing on its way. Owns references to what it needs to be sent again.
struct Listing {
    kind: ListFop,
    hides: Hides,
    child: *mut sys::xlator_t,
    fd: *mut sys::fd_t,
    size: usize,
    xdata: *mut sys::dict_t,
    /// Who sends the next batch, if there is to be one: the callback, or `send`, which may be still on the stack beneath
    /// it. A loop there and not a call here, because a directory can hold any number of batches to be left out.
    state: AtomicU8,
    /// Where the next batch begins.
    offset: AtomicI64,
}

/// `send` has not come back from the wind.
const WINDING: u8 = 0;
/// It has: the callback goes on by itself.
const RETURNED: u8 = 1;
/// The callback leaves it to `send` to go on.
const AGAIN: u8 = 2;

// SAFETY: the pointers are host references that any thread may use and give back; the rest is atomic.
unsafe impl Send for Listing {}
// SAFETY: as above.
unsafe impl Sync for Listing {}

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

/// Sends a listing to the translator beneath and leaves out what `hides` says.
///
/// # Safety
/// `fd` and `xdata` are a listing fop's arguments, valid during this call; `child` is the translator beneath.
pub(super) unsafe fn list(
    reply: Pending,
    kind: ListFop,
    hides: Hides,
    child: *mut sys::xlator_t,
    (fd, size, offset, xdata): (*mut sys::fd_t, usize, i64, *mut sys::dict_t),
) {
    // SAFETY: valid by contract; given back by `Listing::drop`.
    let (fd, xdata) =
        unsafe { (sys::fd_ref(fd), if xdata.is_null() { xdata } else { sys::dict_ref(xdata) }) };
    let (state, next) = (AtomicU8::new(WINDING), AtomicI64::new(offset));
    send(&Arc::new(Listing { kind, hides, child, fd, size, xdata, state, offset: next }), reply);
}

fn send(listing: &Arc<Listing>, reply: Pending) {
    let kind = listing.kind;
    let frame = reply.into_frame();
    loop {
        listing.state.store(WINDING, Ordering::Release);
        let offset = listing.offset.load(Ordering::Acquire);
        let (child, fd, size, xdata) = (listing.child, listing.fd, listing.size, listing.xdata);
        let cookie = Arc::into_raw(Arc::clone(listing));
        let (frame, cbk) = (frame.as_ptr(), cookie.cast_mut().cast());
        // SAFETY: the frame is pending and given up here until `listed` has it; fd and xdata are ours as long as
        // `listing` lives.
        let wound = unsafe {
            match kind {
                ListFop::Readdir => {
                    sys::fsnap_wind_readdir(frame, cbk, Some(listed), child, fd, size, offset, xdata)
                }
                ListFop::Readdirp => {
                    sys::fsnap_wind_readdirp(frame, cbk, Some(listed), child, fd, size, offset, xdata)
                }
            }
        };
        if wound == 0 {
            // SAFETY: `listed` was not called, so the reference and the frame are still ours.
            let (_unused, frame) = unsafe { (Arc::from_raw(cookie), NonNull::new_unchecked(frame)) };
            // SAFETY: as above.
            return unsafe { Pending::new(frame, kind.fop()) }.fail(libc::ENOMEM);
        }
        let done = listing.state.compare_exchange(WINDING, RETURNED, Ordering::AcqRel, Ordering::Acquire);
        if done.is_ok() {
            return;
        }
    }
}

unsafe extern "C" fn listed(
    frame: *mut sys::call_frame_t,
    cookie: *mut c_void,
    _this: *mut sys::xlator_t,
    op_ret: i32,
    op_errno: i32,
    entries: *mut sys::gf_dirent_t,
    xdata: *mut sys::dict_t,
) -> i32 {
    fence("the answer to a listing", 0, || {
        // SAFETY: the cookie is the reference that `send` made; the host calls back once.
        let listing = unsafe { Arc::from_raw(cookie.cast_const().cast::<Listing>()) };
        let Some(frame) = NonNull::new(frame) else { return 0 };
        // SAFETY: the frame came back to us, its owner, to be unwound.
        let reply = unsafe { Pending::new(frame, listing.kind.fop()) };
        #[cfg(feature = "fault-injection")]
        super::provoke::provoked("listing");
        let (dropped, last) = match op_ret {
            // SAFETY: the host's promise: a list of entries, ours to change during the callback.
            1.. => unsafe { leave_out(entries, &listing.hides) },
            _ => (0, None),
        };
        let left = op_ret.saturating_sub(dropped);
        match last {
            // storage/posix says ENOENT when it has reached the end of the directory.
            Some(offset) if left == 0 && op_errno != libc::ENOENT => {
                listing.offset.store(offset, Ordering::Release);
                match listing.state.compare_exchange(WINDING, AGAIN, Ordering::AcqRel, Ordering::Acquire) {
                    Ok(_) => drop(reply.into_frame()),
                    Err(_) => send(&listing, reply),
                }
            }
            _ => {
                let kind = listing.kind;
                // Before the answer: once a request is answered, the host may end.
                drop(listing);
                // SAFETY: the frame is unwound here, once, as what it was.
                unsafe { unwind(kind, reply.into_frame().as_ptr(), left, op_errno, entries, xdata) };
            }
        }
        0
    })
}

/// # Safety
/// `frame` is pending as a fop of that kind; the rest is what the host handed to the callback.
unsafe fn unwind(
    kind: ListFop,
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
            ListFop::Readdir => {
                sys::default_readdir_cbk(frame, cookie, this, op_ret, op_errno, entries, xdata)
            }
            ListFop::Readdirp => {
                sys::default_readdirp_cbk(frame, cookie, this, op_ret, op_errno, entries, xdata)
            }
        }
    };
}

/// Takes the entries that `hides` names out of the list. How many they were, and the offset behind the last one.
///
/// # Safety
/// `head` is null or the head of a list of entries that nobody else uses.
unsafe fn leave_out(head: *mut sys::gf_dirent_t, hides: &Hides) -> (i32, Option<i64>) {
    let (mut dropped, mut offset) = (0, None);
    if head.is_null() {
        return (dropped, offset);
    }
    // SAFETY: a circular list of valid entries, each with a C string for a name; `next` is read before the entry is
    // freed.
    unsafe {
        let mut entry = (*head).__bindgen_anon_1.__bindgen_anon_1.next;
        while !entry.is_null() && entry != head {
            let next = (*entry).__bindgen_anon_1.__bindgen_anon_1.next;
            if hides(CStr::from_ptr((&raw const (*entry).d_name).cast()).to_bytes()) {
                offset = Some((*entry).d_off.cast_signed());
                dropped += 1;
                sys::gf_dirent_entry_free(entry);
            }
            entry = next;
        }
    }
    (dropped, offset)
}
