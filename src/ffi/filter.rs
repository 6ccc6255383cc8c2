//! Answers without the xattrs that are fsnap's own: getxattr of all names, and lookups that ask for all xattrs. And lookups of what
//! fsnap has derived, after which no client shall want to stamp it.

use std::ffi::{CStr, CString, c_void};

use fsnap_core::{Gfid, mdata};

use super::dict::{Dict, OwnedDict};
use super::reply::{Answer, Fop};
use super::sys;
use super::wind::{Later, Waiter, down, fgetxattr_cbk, getxattr_cbk, lookup_cbk};

/// What the names of xattrs to be left out start with.
pub type HiddenXattrs = &'static CStr;

/// The key of a lookup's dictionary that asks for all xattrs (AFR and DHT set it).
pub(super) const LIST_XATTR: &CStr = c"list-xattr";
/// `GF_XATTR_MDATA_KEY`.
const MDATA: &CStr = c"trusted.glusterfs.mdata";

/// Takes what starts with `prefix` out of `dict`.
///
/// # Safety
/// `dict` is null, or a dictionary that nobody else uses now.
unsafe fn strip(dict: *mut sys::dict_t, prefix: &CStr) {
    // SAFETY: the caller's contract; the names are copied before anything is taken out.
    let Some(view) = (unsafe { Dict::new(dict) }) else { return };
    let names: Vec<CString> = view
        .with_prefix(prefix.to_bytes())
        .into_iter()
        .filter_map(|(name, _)| CString::new(name).ok())
        .collect();
    for name in names {
        // SAFETY: the dictionary is valid; the name is only read.
        unsafe { sys::fsnap_dict_del(dict, name.as_ptr().cast_mut()) };
    }
}

/// Takes what starts with the prefix out of the xattrs of an answer. The prefix itself is the cookie.
struct Strip(HiddenXattrs);

impl Waiter for Strip {
    const WHAT: &'static str = "an answer with xattrs";

    fn into_cookie(self) -> *mut c_void {
        self.0.as_ptr().cast_mut().cast()
    }

    unsafe fn from_cookie(cookie: *mut c_void) -> Self {
        // SAFETY: the caller's contract: a C string that lives for ever.
        Strip(unsafe { CStr::from_ptr(cookie.cast_const().cast()) })
    }

    fn answered(self, _this: *mut sys::xlator_t, answer: &mut Answer) -> Option<Later> {
        // SAFETY: the answer's dictionary, on its way through our hands.
        unsafe { strip(answer.xattrs, self.0) };
        None
    }
}

/// Sends on a fop whose answer is to be without some xattrs.
macro_rules! stripped {
    ($($(#[$doc:meta])* $name:ident($object:ident: $type:ty) is $fop:ident: $wind:ident, $cbk:ident;)*) => {$(
        $(#[$doc])*
        ///
        /// # Safety
        /// The arguments are the fop's; `this` has a translator beneath (checked at init).
        pub(super) unsafe fn $name(
            (frame, this): (*mut sys::call_frame_t, *mut sys::xlator_t),
            hidden: HiddenXattrs,
            $object: *mut $type,
            xdata: *mut sys::dict_t,
        ) -> i32 {
            // SAFETY: the caller's contract; the frame is given up here.
            unsafe {
                let child = (*(*this).children).xlator;
                down((frame, this), Fop::$fop, Strip(hidden), |frame, cookie| {
                    sys::$wind(frame, cookie, Some($cbk::<Strip>), child, $object, xdata)
                })
            }
        }
    )*};
}

stripped! {
    /// getxattr of all names.
    getxattr(loc: sys::loc_t) is Getxattr: fsnap_wind_getxattr, getxattr_cbk;
    /// fgetxattr of all names.
    fgetxattr(fd: sys::fd_t) is Fgetxattr: fsnap_wind_fgetxattr, fgetxattr_cbk;
}

/// Looks at the answer to a lookup.
struct Shown {
    hidden: Option<HiddenXattrs>,
    /// Whether it is a client that would stamp what has no times (`gf_utime_set_mdata_lookup_cbk`).
    stamps: bool,
}

impl Waiter for Shown {
    const WHAT: &'static str = "an answer to a lookup";

    fn answered(self, _this: *mut sys::xlator_t, answer: &mut Answer) -> Option<Later> {
        // SAFETY: the answer's own parts, on their way through our hands.
        unsafe {
            if let Some(hidden) = self.hidden {
                strip(answer.xattrs, hidden);
            }
            let is_derived = |stat: &sys::iatt| Gfid::from_bytes(stat.ia_gfid).is_derived();
            if self.stamps && answer.op_ret == 0 && answer.iatts[0].as_ref().is_some_and(is_derived) {
                seem_stamped(answer.xattrs);
            }
        }
        None
    }
}

/// Says that there are times, to who asks no more than that. To set some counts as a change, of which disperse notes that it is
/// going on if a brick is down: that is refused in `.fsnap`, and with it what else waits for the same lock (an opendir: `EIO`).
///
/// # Safety
/// `dict` is null, or a dictionary that nobody else uses now.
unsafe fn seem_stamped(dict: *mut sys::dict_t) {
    // SAFETY: the caller's contract.
    if unsafe { Dict::new(dict) }.is_some_and(|dict| dict.get(MDATA).is_none()) {
        // The same of all bricks: disperse compares. Of the right size: DHT may send it on with a mkdir, and storage/posix takes it as it
        // is (`posix_handle_pair`). Where the host is out of memory it is as before.
        // SAFETY: the caller's contract.
        let _ = unsafe { OwnedDict::again(dict) }.and_then(|dict| dict.and(MDATA, &[0; mdata::SIZE]));
    }
}

/// lookup, of what may be `derived` or is not.
///
/// # Safety
/// The arguments are the fop's; `this` has a translator beneath (checked at init).
pub(super) unsafe fn lookup(
    (frame, this): (*mut sys::call_frame_t, *mut sys::xlator_t),
    (hidden, derived): (Option<HiddenXattrs>, bool),
    loc: *mut sys::loc_t,
    xdata: *mut sys::dict_t,
) -> i32 {
    // SAFETY: the caller's contract; the frame is given up here.
    unsafe {
        let stamps = derived && Dict::new(xdata).is_some_and(|asked| asked.get(MDATA).is_some());
        if hidden.is_none() && !stamps {
            return sys::default_lookup(frame, this, loc, xdata);
        }
        let child = (*(*this).children).xlator;
        down((frame, this), Fop::Lookup, Shown { hidden, stamps }, |frame, cookie| {
            sys::fsnap_wind_lookup(frame, cookie, Some(lookup_cbk::<Shown>), child, loc, xdata)
        })
    }
}
