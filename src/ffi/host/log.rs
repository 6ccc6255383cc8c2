//! `tracing` events become lines of the Gluster log.

use std::ffi::{CStr, CString};
use std::fmt::{self, Write};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use super::sys;
use super::xlator::this;

/// Sends all events of this library to the host's log. Does nothing if that was done before.
pub(in crate::ffi) fn install() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        // Fails only if somebody was faster, and then there is a log already.
        let _ = tracing::subscriber::set_global_default(GlusterLog);
        // The default hook writes to stderr, which a daemon does not have; the fence logs the message.
        std::panic::set_hook(Box::new(|panic| {
            tracing::error!(
                "panic at {}",
                panic.location().map_or("an unknown place".into(), ToString::to_string)
            );
        }));
    });
}

struct GlusterLog;

impl Subscriber for GlusterLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // What the host's log level hides is dropped by the host.
        *metadata.level() <= Level::DEBUG
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        let meta = event.metadata();
        write(
            *meta.level(),
            meta.file().unwrap_or("fsnap"),
            meta.module_path().unwrap_or("fsnap"),
            meta.line(),
            text.0,
        );
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// The message and fields of an event in one line.
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string does not fail.
        let _ = match field.name() {
            "message" => write!(self.0, "{value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}

fn write(level: Level, file: &str, function: &str, line: Option<u32>, text: String) {
    let level = match level {
        Level::ERROR => sys::GF_LOG_ERROR,
        Level::WARN => sys::GF_LOG_WARNING,
        Level::INFO => sys::GF_LOG_INFO,
        _ => sys::GF_LOG_DEBUG,
    };
    // One event, one line, whatever a file name holds.
    let text = CString::new(text.replace(['\0', '\n', '\r'], " ")).unwrap_or_default();
    let (file, function) =
        (CString::new(file).unwrap_or_default(), CString::new(function).unwrap_or_default());
    let line = line.and_then(|l| i32::try_from(l).ok()).unwrap_or(0);
    // SAFETY: `THIS` is a valid translator (the host's global one at least) with a name; all strings are C strings and
    // the format is fixed.
    unsafe {
        let this = this();
        let domain =
            if this.is_null() || (*this).name.is_null() { c"fsnap" } else { CStr::from_ptr((*this).name) };
        sys::_gf_msg(
            domain.as_ptr(),
            file.as_ptr(),
            function.as_ptr(),
            line,
            level,
            0,
            0,
            0,
            c"%s".as_ptr(),
            text.as_ptr(),
        );
    }
}
