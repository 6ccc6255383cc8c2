//! Our part of a statedump.

use std::ffi::CString;

use super::sys;

/// The section of a statedump that is being written.
pub struct StateDump(());

impl StateDump {
    /// Opens the section of the translator `name`.
    pub(in crate::ffi) fn open(name: &str) -> Self {
        let section = CString::new(short(format!("user.fsnap.{name}"))).unwrap_or_default();
        // SAFETY: a fixed format with one string. Called by the host's dump only, which holds its lock.
        unsafe { sys::gf_proc_dump_add_section(c"%s".as_ptr().cast_mut(), section.as_ptr()) };
        StateDump(())
    }

    /// One `KEY=VALUE` line.
    pub fn line(&mut self, key: &str, value: impl ToString) {
        let (Ok(key), Ok(value)) = (CString::new(key), CString::new(short(value.to_string()))) else {
            return;
        };
        // SAFETY: as in `open`; the key is used as text, the value's format is fixed.
        unsafe {
            sys::gf_proc_dump_write(key.as_ptr().cast_mut(), c"%s".as_ptr().cast_mut(), value.as_ptr())
        };
    }
}

/// The host's buffer for a line is 4 KiB, and does not mind its end.
fn short(text: String) -> String {
    text.chars().take(1000).collect()
}
