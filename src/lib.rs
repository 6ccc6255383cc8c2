//! fsnap: instant per-file reflink snapshots for GlusterFS, as a translator for the unmodified, packaged GlusterFS.
//!
//! [`ffi`] is the unsafe room: the host's bindings, and safe wrappers around them. [`brick`] is what the translator
//! does on a brick, on top of `fsnap-store` (the disk) and `fsnap-core` (pure logic). See `docs/architecture.md`.

pub mod brick;
pub mod client;
pub mod ffi;
