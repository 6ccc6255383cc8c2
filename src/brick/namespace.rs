//! `.fsnap` in the name space: never listed, found by name.

use std::ffi::CStr;

use fsnap_core::{Gfid, SNAP_DIR, is_tombstone};

use fsnap_store::DirEntry;

use super::caller::sees_all;
use super::instance::Brick;
use super::shared::Shared;
use crate::ffi::{Call, Hides, role};

impl role::Namespace for Brick {
    fn lookup(&self, call: &Call<'_>, parent: Gfid, name: &CStr) -> Option<i32> {
        lookup(&self.state, call, parent, name)
    }

    fn hidden(&self, call: &Call<'_>) -> Option<Hides> {
        hidden(&self.state, call)
    }
}

/// What listings of this directory for this caller leave out: `.fsnap` anywhere, and tombstones in it.
fn hidden(state: &Shared, call: &Call<'_>) -> Option<Hides> {
    if sees_all(call) {
        return None;
    }
    let in_snap_dir =
        call.gfid().is_derived() && state.store().is_ok_and(|s| s.entry_in_snap_dir(call.gfid()));
    Some(if in_snap_dir { is_tombstone } else { |name| name == SNAP_DIR.as_bytes() })
}

/// The virtual lookup: `.fsnap` is there as soon as somebody asks for it by name, with the same gfid on every brick, so
/// that DHT finds snapshots whichever brick they are on. Applications only; the cluster's own lookups find what there is.
///
/// Returns the errno to answer with, or `None` to let storage/posix answer.
fn lookup(state: &Shared, call: &Call<'_>, parent: Gfid, name: &CStr) -> Option<i32> {
    if is_tombstone(name.to_bytes()) && parent.is_derived() && !sees_all(call) {
        return state.store().is_ok_and(|s| s.entry_in_snap_dir(parent)).then_some(libc::ENOENT);
    }
    if parent.is_derived()
        && let Ok(store) = state.store()
        && let Ok(DirEntry::File(file)) = store.entry(parent, name.to_bytes())
        && file.is_derived()
        && let Err(error) = store.is_readable(file, None)
    {
        tracing::warn!("who may read {file} can't be told: {error}");
    }
    if name.to_bytes() != SNAP_DIR.as_bytes() || call.pid() < 0 || call.from_within() {
        return None;
    }
    if !state.options().browse {
        return Some(libc::ENOENT);
    }
    let Ok(store) = state.store() else { return None };
    if store.reflink()
        && let Err(why) = store.snap_dir(parent, Some(&call.caller()))
    {
        // Not there and not to be made: storage/posix says so.
        tracing::debug!("no .fsnap in directory {parent}: {why}");
    }
    None
}
