//! Nobody changes anything in `.fsnap`, and nobody but the cluster touches fsnap's xattrs.
//!
//! The cluster's own traffic must pass, and is told by what it carries, because DHT acts under the application's pid: a
//! mkdir of `.fsnap` by exactly the gfid that all bricks derive, layouts, heal's attributes, the stamping of times, and
//! xattrops that add nothing. Self-heal has a pid of its own.

use std::ffi::CStr;

use fsnap_core::{Gfid, SNAP_DIR, mdata};
use fsnap_store::{DirEntry, InodeKind, Store};

use super::caller::{STAMPER, XATTRS, finds_deleted, heals, is_heal, replicates, sees_xattrs};
use super::instance::Brick;
use super::shared::Shared;
use super::{heal, rebalance, restore, rights};
use crate::ffi::{Call, Change, Dict, GFID_REQ, HiddenXattrs, How, Target, role};

/// What the names of all of DHT's xattrs start with.
const DHT_XATTRS: &[u8] = b"trusted.glusterfs.dht";
/// `CTIME_MDATA_XDATA_KEY`: the times that a lookup wants stamped on a file which has none.
const SET_MDATA: &[u8] = b"set-ctime-mdata";
/// Self-heal of DHT sets all attributes at once (0xffffff or 0xffffffff); no application can ask for that.
const ALL_ATTRIBUTES: i32 = 0xff_ffff;

impl role::Guard for Brick {
    fn watches(&self, file: Gfid) -> bool {
        self.state.store.get().is_some_and(|store| store.is_buried(file))
    }

    fn gone(&self, call: &Call<'_>, file: Gfid) -> Option<i32> {
        let store = self.state.store.get()?;
        if replicates(call) && matches!(store.what_is(file), InodeKind::Payload | InodeKind::SnapDir) {
            // The journal has what self-heal makes in `.fsnap`: what is gone geo-replication passes over, at once with this errno.
            return Some(libc::ENOENT);
        }
        (!finds_deleted(call) && store.is_deleted(file) && !is_claimed(&self.state, call, file))
            .then_some(libc::ESTALE)
    }

    fn refuse(&self, call: &Call<'_>, change: &Change<'_>) -> Option<i32> {
        let refused = refuse(&self.state, call, change);
        if let (Some(libc::EIO), Target::File(file) | Target::Open(file)) = (refused, change.place)
            && restore::is_torn(&self.state, file)
        {
            restore::mend(self, file);
        }
        refused
    }

    fn refuse_xattr(&self, call: &Call<'_>, name: &[u8]) -> Option<i32> {
        refuse_xattr(call, name)
    }

    fn hidden_xattrs(&self, call: &Call<'_>) -> Option<HiddenXattrs> {
        hidden_xattrs(call)
    }
}

/// The xattrs that this caller is not shown.
fn hidden_xattrs(call: &Call<'_>) -> Option<HiddenXattrs> {
    (!sees_xattrs(call)).then_some(XATTRS)
}

/// getxattr of `key`, which is no question of ours: `ENODATA` for what is hidden from this caller, `EACCES` for what an application
/// has given a snapshot whose file he may not read.
pub fn refuse_get(state: &Shared, call: &Call<'_>, key: &CStr) -> Option<i32> {
    if sees_xattrs(call) {
        return None;
    }
    if is_ours(key.to_bytes()) {
        return Some(libc::ENODATA);
    }
    let is_content = call.gfid().is_derived() && key.to_bytes().starts_with(b"user.");
    is_content.then(|| rights::refuse_read(state, call, call.gfid())).flatten()
}

/// removexattr of `name`: `EPERM` for what is the cluster's alone.
fn refuse_xattr(call: &Call<'_>, name: &[u8]) -> Option<i32> {
    (is_ours(name) && !sees_xattrs(call)).then_some(libc::EPERM)
}

fn is_ours(name: &[u8]) -> bool {
    name.starts_with(XATTRS.to_bytes())
}

/// setxattr of what is no command: `EROFS` in `.fsnap`, `EPERM` for what is the cluster's alone.
pub fn refuse_set(state: &Shared, call: &Call<'_>, dict: Dict<'_>) -> Option<i32> {
    if !sees_xattrs(call) && !dict.with_prefix(XATTRS.to_bytes()).is_empty() {
        return Some(libc::EPERM);
    }
    if let Some(errno) = rebalance::refuse_set(state, call, dict) {
        return Some(errno);
    }
    if !call.gfid().is_derived() || heals(call) {
        return None;
    }
    let only = |allowed: &dyn Fn(&[u8]) -> bool| dict.with_prefix(b"").iter().all(|(key, _)| allowed(key));
    let stamps = |key: &[u8]| call.pid() == STAMPER && (key == SET_MDATA || key == mdata::XATTR.as_bytes());
    let allowed = match state.store().ok()?.what_is(call.gfid()) {
        InodeKind::Other | InodeKind::LinkFile | InodeKind::Tombstone => true,
        InodeKind::SnapDir => only(&|key| key.starts_with(DHT_XATTRS) || stamps(key)),
        InodeKind::Payload => only(&stamps),
    };
    (!allowed).then_some(libc::EROFS)
}

/// Any other change, and opens: `EROFS` for what must not be, `ESTALE` for a deleted file that is kept for its snapshots:
/// to everybody but those who have it open it is gone.
fn refuse(state: &Shared, call: &Call<'_>, change: &Change<'_>) -> Option<i32> {
    if let Some(errno) = restore::refuse_half(state, call, change) {
        return Some(errno);
    }
    if heals(call) {
        return match (change.place, change.how) {
            (Target::File(snap_dir), How::Xattrop(Some(counts))) if is_heal(call) => {
                heal::refuse_xattrop(state, snap_dir, counts)
            }
            _ => None,
        };
    }
    let store = state.store().ok()?;
    let allowed = match change.place {
        Target::File(gfid) if store.is_deleted(gfid) && !is_claimed(state, call, gfid) => {
            return Some(libc::ESTALE);
        }
        Target::File(gfid) | Target::Open(gfid) => {
            let kind = store.what_is(gfid);
            let reads = match change.place {
                // Who has it open was asked then.
                Target::File(_) => matches!(change.how, How::Read | How::Load),
                _ => matches!(change.how, How::Read),
            };
            if kind == InodeKind::Payload && reads {
                return rights::refuse_read(state, call, gfid);
            }
            file_allowed(kind, change.how)
        }
        Target::Entry(parent, name) => entry_allowed(store, parent, name, change),
    };
    (!allowed).then_some(libc::EROFS)
}

/// Whether who asks is about to bring the deleted `file` back.
fn is_claimed(state: &Shared, call: &Call<'_>, file: Gfid) -> bool {
    state.claims.has_by(file, || call.connection())
}

fn file_allowed(kind: InodeKind, how: How<'_>) -> bool {
    match (kind, how) {
        (InodeKind::Other | InodeKind::LinkFile | InodeKind::Tombstone, _) | (_, How::Read | How::Load) => {
            true
        }
        (InodeKind::SnapDir, How::Attributes(valid)) => valid & ALL_ATTRIBUTES == ALL_ATTRIBUTES,
        (InodeKind::SnapDir, How::Xattrop(dict)) => adds_nothing(dict) || only_dht(dict),
        (InodeKind::Payload, How::Xattrop(dict)) => adds_nothing(dict),
        _ => false,
    }
}

fn entry_allowed(store: &Store, parent: Gfid, name: &[u8], change: &Change<'_>) -> bool {
    if store.entry_in_snap_dir(parent) {
        // DHT's link files are not let in. DHT does without (`dht_lookup_linkfile_create_cbk`), and one that points to a
        // snapshot which was deleted, or renamed with its file, would make that name `ESTALE` for good: it compares
        // gfids before it cleans up. Those that are there, it may remove.
        return matches!(change.how, How::Unlink) && store.link_file_at(parent, name);
    }
    if name != SNAP_DIR.as_bytes() {
        return true;
    }
    // Somebody else's, from before our time: it may be renamed or removed.
    let own = parent.snap_dir();
    if matches!(store.entry(parent, name), Ok(DirEntry::File(gfid) | DirEntry::Dir(gfid)) if gfid != own) {
        return true;
    }
    let wanted = change.xdata.and_then(|xdata| xdata.get(GFID_REQ));
    let is_made = matches!(change.how, How::Mkdir) && wanted == Some(parent.snap_dir().as_bytes());
    if is_made && let Err(why) = store.snap_dir(parent) {
        tracing::debug!("no .fsnap in directory {parent}: {why}");
    }
    // It is there already then (`EEXIST`), with the rights of its directory. DHT would make it root's and set them afterwards, and
    // where it sees two bricks differ meanwhile give it none at all: no brick's `.fsnap` has its mark of the one that counts
    // (`trusted.glusterfs.dht.mds`, `dht_selfheal_directory`).
    is_made
}

fn adds_nothing(dict: Option<Dict<'_>>) -> bool {
    dict.is_none_or(|dict| dict.with_prefix(b"").iter().all(|(_, value)| value.iter().all(|&b| b == 0)))
}

fn only_dht(dict: Option<Dict<'_>>) -> bool {
    dict.is_none_or(|dict| dict.with_prefix(b"").iter().all(|(key, _)| key.starts_with(DHT_XATTRS)))
}

#[cfg(test)]
mod tests {
    use fsnap_core::{catalogue, record};

    use super::*;

    #[test]
    fn the_prefix_covers_all_our_xattrs() {
        for name in [record::SEQ, catalogue::PAGE_PREFIX, record::PAYLOAD] {
            assert!(is_ours(name.as_bytes()), "{name}");
        }
        assert!(!is_ours(b"trusted.fsnapx"));
    }
}
