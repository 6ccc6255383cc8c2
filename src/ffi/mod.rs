//! The unsafe room: everything that touches the host's memory.
//!
//! What leaves it is safe to use: borrowed views that end with the callback they were handed to ([`Call`], [`Dict`]),
//! owned references that give back what they took ([`Inode`]), and replies that answer exactly once ([`SetReply`],
//! [`GetReply`]). What enters it from the host is a pointer whose validity is the host's promise; that promise is
//! stated once, here: *the arguments of a fop, a cbk or a method of the translator are valid for the duration of the
//! call, and a frame is valid until it is unwound.* The `SAFETY` comments refer to it as "the host's promise".
#![allow(unsafe_code)]

mod attributes;
mod change;
mod client;
mod cluster;
mod copies;
mod errand;
mod filter;
mod fops;
mod held;
mod host;
mod index;
mod listing;
mod pause;
#[cfg(feature = "fault-injection")]
pub mod provoke;
mod removal;
pub mod role;
mod tables;
mod wind;

use host::{call, dict, fence, log, reply, statedump, sys};

pub use call::{Call, Connection, Inode, Inodes, Request};
pub use change::{Change, GFID_REQ, How, Target};
pub use cluster::{ClientFile, Node, Range, own_locks};
pub use dict::Dict;
pub use errand::TruncateOutcome;
pub use fence::fence;
pub use filter::HiddenXattrs;
pub use held::{HeldMake, HeldSet, HeldTruncate};
pub use host::xlator::{Host, Stale, dht_hash};
pub use index::{EC_DIRTY, Mark};
pub use listing::Hides;
pub use pause::Pauses;
pub use removal::{HeldRemoval, Removal, Route, Spot, Ticket, is_deep};
pub use reply::{GetReply, SetReply};
pub use statedump::StateDump;
