//! The brick role: `user/fsnap`, directly above storage/posix.
//!
//! One file per concern. The translator holds the store of its brick, runs commands on its own workers, and answers.

mod caller;
mod claims;
mod commands;
mod counters;
mod errand;
mod expiry;
mod graves;
mod guard;
mod handles;
mod heal;
mod instance;
mod life;
mod names;
mod namespace;
mod order;
mod paths;
mod pausing;
mod pool;
mod rebalance;
mod restore;
mod restores;
mod rights;
mod rmdir;
mod sent;
mod sent_on;
mod shared;
mod succession;
mod tidy;
mod upcalls;
mod volume;
mod wanted;

pub use instance::Brick;
