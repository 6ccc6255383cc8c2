//! readdir and readdirp.

use super::fop;
use crate::ffi::call::Call;
use crate::ffi::listing::{self, ListFop};
use crate::ffi::reply::Pending;
use crate::ffi::role::{Translator, forbidden};
use crate::ffi::sys;

macro_rules! list_fop {
    ($name:ident, $default:ident, $kind:expr) => {
        pub(in crate::ffi) unsafe extern "C" fn $name<T: Translator>(
            frame: *mut sys::call_frame_t,
            this: *mut sys::xlator_t,
            fd: *mut sys::fd_t,
            size: usize,
            offset: i64,
            xdata: *mut sys::dict_t,
        ) -> i32 {
            let handle = |role: &T, call: &Call<'_>, pending: Pending| match role.hidden(call) {
                None => Some(pending),
                Some(hides) => {
                    let begins = offset == 0 && matches!($kind, ListFop::Readdirp);
                    // SAFETY: the host's promise.
                    let forbidden = unsafe { forbidden::<T>((frame, this), &[xdata]) };
                    let refused = forbidden.or_else(|| begins.then(|| role.refuse_list(call)).flatten());
                    if let Some(errno) = refused {
                        pending.fail(errno);
                        return None;
                    }
                    // SAFETY: the host's promise; we have a child (checked at init).
                    unsafe {
                        listing::list(
                            pending,
                            $kind,
                            hides,
                            (*(*this).children).xlator,
                            (fd, size, offset, xdata),
                        )
                    };
                    None
                }
            };
            // SAFETY: the host's promise, for the call and for passing it on.
            unsafe {
                fop(
                    (frame, this),
                    $kind.fop(),
                    |frame| Call::on_fd(frame, fd),
                    handle,
                    || sys::$default(frame, this, fd, size, offset, xdata),
                )
            }
        }
    };
}

list_fop!(readdir, default_readdir, ListFop::Readdir);
list_fop!(readdirp, default_readdirp, ListFop::Readdirp);
