//! How a fop goes on that needs a file's lock: at once, or when the file is no longer cloned.

use fsnap_core::Gfid;

use crate::ffi::pause::Access;
use crate::ffi::role::{Translator, role};
use crate::ffi::sys;

/// Passes a fop on `file` on by `go`, or has it wait as what `stub` makes.
///
/// # Safety
/// `this` is what the host calls us with. `go` passes the fop on to the translator beneath, and `stub` makes a stub of the host that
/// does the same; neither panics.
#[inline(always)]
pub(super) unsafe fn pass<T: Translator>(
    this: *mut sys::xlator_t,
    file: Option<Gfid>,
    access: Access,
    stub: impl FnOnce() -> *mut sys::call_stub_t,
    go: impl FnOnce() -> i32,
) -> i32 {
    // SAFETY: the caller's contract.
    match (unsafe { role::<T>(this) }, file) {
        (Some(role), Some(file)) => role.pauses().pass(file, access, stub, go),
        _ => go(),
    }
}

/// Passes a fop on by the host's default, or has it wait, as an access to a file. The frame, the translator, and the rest of the
/// arguments.
macro_rules! passed {
    ($role:ty, $file:expr, $access:ident, $default:ident, $stub:ident: $frame:ident, $this:ident, $($arg:expr),*) => {
        $crate::ffi::fops::pass::pass::<$role>(
            $this,
            $file,
            $crate::ffi::pause::Access::$access,
            move || sys::$stub($frame, Some(sys::$default), $($arg),*),
            move || sys::$default($frame, $this, $($arg),*),
        )
    };
}

pub(super) use passed;
