//! Answers without the xattrs that are fsnap's own: getxattr of all names, and lookups that ask for all xattrs.

use std::ffi::{CStr, CString, c_void};

use super::dict::Dict;
use super::reply::{Answer, Fop};
use super::sys;
use super::wind::{Later, Waiter, down, fgetxattr_cbk, getxattr_cbk, lookup_cbk};

/// What the names of xattrs to be left out start with.
pub type HiddenXattrs = &'static CStr;

/// The key of a lookup's dictionary that asks for all xattrs (AFR and DHT set it).
pub(super) const LIST_XATTR: &CStr = c"list-xattr";

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
    /// lookup that asks for all xattrs.
    lookup(loc: sys::loc_t) is Lookup: fsnap_wind_lookup, lookup_cbk;
}
