//! Rebalance and remove-brick: a file with snapshots stays where it is, because they could not come along.
//!
//! Rebalance moves no file that has hard links, and counts it skipped. Remove-brick moves those too, once it has set its
//! mark on them. So both are told, when they look, that there is another link, and the mark is refused: then remove-brick
//! counts a failure, and does not commit. Snapshots of deleted files it would not notice at all: their directory can't be
//! listed when it is to leave the brick.

use std::ffi::CStr;

use fsnap_core::{Gfid, layout};

use super::caller::REBALANCE;
use super::instance::Brick;
use super::shared::Shared;
use crate::ffi::{Call, Dict, role};

/// DHT's link to the brick that has a file: the mark on a file that is about to move.
const LINKTO: &CStr = c"trusted.glusterfs.dht.linkto";

impl role::Rebalance for Brick {
    fn begins_to_move(&self, call: &Call<'_>, asked: Dict<'_>) -> bool {
        begins(call, asked)
    }

    fn stays(&self, file: Gfid, shown: &str) -> bool {
        stays(&self.state, file, shown)
    }

    fn refuse_list(&self, call: &Call<'_>) -> Option<i32> {
        refuse_list(&self.state, call)
    }
}

/// Whether a lookup that asks for these xattrs is the first step of moving a file. The lookups by which DHT finds a file ask
/// for a layout too (`dht_migrate_file`, `dht_set_dir_xattr_req`).
fn begins(call: &Call<'_>, asked: Dict<'_>) -> bool {
    call.pid() == REBALANCE
        && asked.get(LINKTO).is_some()
        && asked.with_prefix(layout::XATTR.as_bytes()).iter().all(|(key, _)| *key != layout::XATTR.as_bytes())
}

/// Whether `file` has to stay on this brick. If that can't be told it has to.
fn stays(state: &Shared, file: Gfid, shown: &str) -> bool {
    let stays = state.store().is_ok_and(|store| store.has_snapshots(file).unwrap_or(true));
    if stays {
        tracing::warn!(
            "{shown} stays on this brick: it has snapshots, and rebalance and remove-brick can't move those. To have it moved \
             delete them first (getfattr -n glusterfs.fsnap.list and setfattr -n glusterfs.fsnap.delete -v NAME, on the file)"
        );
    }
    stays
}

/// setxattr by which rebalance sets its mark on a file with snapshots. (Where it was not told of another link one was taken
/// since.)
///
/// `EBUSY`, a failure, if the brick is to lose all its files; otherwise `EEXIST`, which is not counted: remove-brick visits
/// the bricks that remain as well, and nothing is lost of what stays there.
pub fn refuse_set(state: &Shared, call: &Call<'_>, dict: Dict<'_>) -> Option<i32> {
    let moves = call.pid() == REBALANCE && dict.get(LINKTO).is_some();
    if !moves || !stays(state, call.gfid(), &call.shown()) {
        return None;
    }
    let leaves = state.store().and_then(|store| store.is_to_leave(call.gfid())).unwrap_or(true);
    Some(if leaves { libc::EBUSY } else { libc::EEXIST })
}

/// A listing by which rebalance looks for files to move, of a directory of which this brick is to hold nothing from now on:
/// `EBUSY` if its `.fsnap` has snapshots that are of no file in it.
fn refuse_list(state: &Shared, call: &Call<'_>) -> Option<i32> {
    let dir = call.gfid();
    let store = state.store().ok().filter(|store| call.pid() == REBALANCE && store.is_used())?;
    store.layout(dir).ok().flatten().filter(layout::Layout::is_empty)?;
    let why = match store.left_behind(dir) {
        Ok(None) => return None,
        Ok(Some(why)) => why,
        Err(error) => error.to_string(),
    };
    tracing::warn!("remove-brick would lose snapshots of deleted files, and stops here: {why}");
    Some(libc::EBUSY)
}
