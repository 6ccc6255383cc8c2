//! Snapshots: taken when nobody writes.

use std::time::Duration;

use super::lock::Lock;
use super::set::{Set, SetKind};
use super::step::step;
use super::work::Work;
use crate::ffi::Range;

/// Takes a snapshot when nobody writes to any copy of the file. Disperse sees to that itself: there the setxattr waits for all
/// writers, and to take its lock from outside would be a deadlock.
pub fn create(work: &mut Work, patience: Duration, value: &[u8]) -> Result<(), i32> {
    let mut lock = match work.set.kind {
        SetKind::Replicate => Some(Lock::take(work, patience, Range::Data)?),
        SetKind::Disperse | SetKind::Single => None,
    };
    if Set::of(work.host, &mut work.file, work.top)?.node != work.set.node {
        tracing::warn!("rebalance has moved the file just now: ask again");
        return Err(libc::EBUSY);
    }
    step("locked");
    let done = work.file.set(work.top, c"glusterfs.fsnap.create", value);
    // Nobody answers a release before it is done: what has yet to be noted is beneath the other lock.
    lock.iter_mut().for_each(Lock::let_go);
    work.drain(&[Range::Metadata]);
    done
}
