//! What the host has: its structs and functions, and what of them is safe to use.

pub(super) mod call;
pub(super) mod dict;
pub(super) mod fence;
pub(super) mod log;
pub(super) mod reply;
pub(super) mod statedump;
pub(super) mod xlator;

/// The host's structs and functions, as bindgen reads them. Not exported further.
pub(super) mod sys {
    #![allow(missing_docs, non_camel_case_types, non_snake_case, non_upper_case_globals, dead_code)]
    #![allow(clippy::all, clippy::undocumented_unsafe_blocks)]
    include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
}
