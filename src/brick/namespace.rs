//! `.fsnap` in the name space: never listed, found by name where it is.

use std::collections::HashMap;
use std::ffi::CStr;
use std::sync::{Arc, Mutex, PoisonError};

use fsnap_core::acl::Caller;
use fsnap_core::{Gfid, SNAP_DIR, is_tombstone, moved_up};
use fsnap_store::DirEntry;

use super::caller::sees_all;
use super::instance::Brick;
use super::rights;
use super::shared::Shared;
use crate::ffi::{Call, Dict, Hides, role};

impl role::Namespace for Brick {
    fn lookup(&self, call: &Call<'_>, parent: Gfid, name: &CStr, asked: Option<Dict<'_>>) -> Option<i32> {
        lookup(&self.state, call, parent, name, asked)
    }

    fn hidden(&self, call: &Call<'_>) -> Option<Hides> {
        hidden(&self.state, call)
    }
}

/// What listings of this directory for this caller leave out: `.fsnap` anywhere, and in it tombstones, and what has moved up there
/// from directories that not all might look into who may look into this one.
fn hidden(state: &Arc<Shared>, call: &Call<'_>) -> Option<Hides> {
    if sees_all(call) {
        return None;
    }
    let in_snap_dir =
        call.gfid().is_derived() && state.store().is_ok_and(|s| s.entry_in_snap_dir(call.gfid()));
    if !in_snap_dir {
        return Some(Box::new(|name| name == SNAP_DIR.as_bytes()));
    }
    let (state, who) = (Arc::clone(state), call.caller());
    if who.uid == 0 {
        return Some(Box::new(is_tombstone));
    }
    // Of the snapshots of a file one after the other is asked for.
    let known = Mutex::<HashMap<Gfid, bool>>::default();
    Some(Box::new(move |name| {
        let is_others = |file| {
            let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
            *known.entry(file).or_insert_with(|| !may_see(&state, &who, file))
        };
        is_tombstone(name) || moved_up(name).is_some_and(is_others)
    }))
}

/// Whether `who` may see what has moved up of the deleted `file`.
fn may_see(state: &Shared, who: &Caller, file: Gfid) -> bool {
    let may = state.store().and_then(|store| store.may_read_snapshots(file, who));
    may.unwrap_or(who.uid == 0)
}

/// Whether `name` in a `.fsnap` has moved up there, and is no business of `who`.
fn is_others(state: &Shared, who: &Caller, name: &[u8]) -> bool {
    moved_up(name).is_some_and(|file| !may_see(state, who, file))
}

/// `.fsnap` is there where there are snapshots, or were. DHT asks the brick that the name belongs to, and if that has none no
/// other (`dht_should_lookup_everywhere`): so that one says first that it can't tell (`ENOTCONN`, of all errnos the one that replicate
/// and disperse pass on as it is), upon which DHT asks all (`dht_lookup_cbk`) and makes it where it is missing.
///
/// Returns the errno to answer with, or `None` to let storage/posix answer.
fn lookup(
    state: &Shared,
    call: &Call<'_>,
    parent: Gfid,
    name: &CStr,
    asked: Option<Dict<'_>>,
) -> Option<i32> {
    if parent.is_derived() || name.to_bytes() == SNAP_DIR.as_bytes() {
        state.upcalls.looks(call);
    }
    if is_tombstone(name.to_bytes()) && parent.is_derived() && !sees_all(call) {
        return state.store().is_ok_and(|s| s.entry_in_snap_dir(parent)).then_some(libc::ENOENT);
    }
    let is_others =
        || parent.is_derived() && !sees_all(call) && is_others(state, &call.caller(), name.to_bytes());
    if is_others() {
        return Some(libc::ENOENT);
    }
    if parent.is_derived()
        && let Ok(store) = state.store()
        && let Ok(DirEntry::File(file)) = store.entry(parent, name.to_bytes())
        && file.is_derived()
    {
        rights::show(state, file);
    }
    if name.to_bytes() != SNAP_DIR.as_bytes() || call.pid() < 0 || call.from_within() {
        return None;
    }
    if !state.options().browse {
        return Some(libc::ENOENT);
    }
    let Ok(store) = state.store() else { return None };
    match store.has_snap_dir(parent) {
        Ok(true) => None,
        Ok(false) => {
            // A directory that DHT has just made again may have no layout yet.
            let layout = store.layout(parent).ok().flatten();
            let is_ours = layout.is_none_or(|layout| layout.is_asked_for_snap_dir());
            let by_dht = asked.is_some_and(|asked| asked.get(DHT_LAYOUT).is_some());
            (is_ours && by_dht && state.sent_on.is_first(call, parent)).then_some(libc::ENOTCONN)
        }
        Err(why) => {
            tracing::debug!("no .fsnap in directory {parent}: {why}");
            None
        }
    }
}

/// What DHT asks for of a directory (`fsnap_core::layout::XATTR`).
const DHT_LAYOUT: &CStr = c"trusted.glusterfs.dht";

#[cfg(test)]
mod tests {
    use fsnap_core::layout::SNAP_DIR_HASH;

    use super::*;
    use crate::ffi::dht_hash;

    #[test]
    fn the_hash_of_the_name_is_the_hosts() {
        assert_eq!(SNAP_DIR_HASH, dht_hash(SNAP_DIR.as_bytes()));
    }
}
