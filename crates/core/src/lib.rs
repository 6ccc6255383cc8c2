//! The pure part of fsnap: names, the command grammar, records and their encoding, answers, options, errors.
//!
//! No I/O, no unsafe code, no knowledge of GlusterFS beyond the bytes that it stores. Every decoder in here reads
//! untrusted bytes (a client's, a disk's, a volume option's) and answers with an [`Error`], never with a panic.
#![forbid(unsafe_code)]

pub mod acl;
pub mod afr;
pub mod answer;
pub mod catalogue;
pub mod command;
mod error;
mod gfid;
pub mod gfid2path;
mod last_place;
pub mod layout;
pub mod mdata;
mod name;
pub mod options;
pub mod record;
pub mod room;
mod time;
pub mod volume;

pub use error::{Error, Result};
pub use gfid::{Gfid, is_tombstone};
pub use last_place::{LastPlace, MovedUpName, moved_up};
pub use name::SnapName;
pub use time::Timestamp;

/// The reserved directory that holds the snapshots of the files beside it.
pub const SNAP_DIR: &str = ".fsnap";
