//! Restores: armed on every brick, carried by a truncate, settled.

use fsnap_core::command::{Arming, CARRIER};
use fsnap_core::{Error, SnapName};

use super::set::SetKind;
use super::step::step;
use super::work::Work;
use crate::ffi::Range;

/// Makes the content of the file that of a snapshot, on all bricks of its set that can be reached; the others are healed.
/// What an earlier command has left half done, when it died, is replaced with it.
///
/// `EBUSY` if another restore is under way, or self-heal is not done with the snapshot. Else what the bricks say.
pub fn restore(work: &mut Work, arming: &Arming) -> Result<(), i32> {
    if work.ask_all("armed").iter().flatten().any(|known| known["live"] == true) {
        tracing::warn!("{}", Error::Restoring);
        return Err(libc::EBUSY);
    }
    let done = carried(work, arming);
    work.drain(&[Range::Data, Range::Metadata]);
    done
}

fn carried(work: &mut Work, arming: &Arming) -> Result<(), i32> {
    let size = size_of(work, &arming.name)?;
    let id = arming.id.to_string();
    let mut done = work.file.set(work.top, c"glusterfs.fsnap.arm", arming.to_string().as_bytes());
    if done.is_ok() {
        step("armed");
        step("carrying");
        // The replicate translator locks from there to the end; the bricks know the size.
        let from = if work.set.kind == SetKind::Replicate { 0 } else { size };
        done = work.file.truncate(work.top, from, CARRIER, id.as_bytes());
        step("carried");
        if work.set.kind == SetKind::Disperse {
            if !is_noted(work, &id) {
                // Some bricks may have done it: nobody is to read those. Or they went away before they were told that all had.
                return Err(unclear(done.err().unwrap_or(libc::ENOTCONN)));
            }
            done = Ok(());
        }
        done = done.map_err(unclear);
    }
    if let Err(errno) = work.file.set(work.top, c"glusterfs.fsnap.settle", id.as_bytes()) {
        tracing::warn!("restore {id} is over ({done:?}), and the bricks can't be told ({errno})");
    }
    step("settled");
    done
}

/// Whether the disperse translator has noted the end of restore `id` on as many bricks as it takes to read the file. So it may have
/// although the carrier has failed: where that has cut a file short, it writes to its end once more (`ec_truncate_clean`), which
/// changes nothing here, and for which there may be no space. And it may not have although the carrier has not failed: it answers first.
fn is_noted(work: &mut Work, id: &str) -> bool {
    work.drain(&[Range::Data, Range::Metadata]);
    work.ask_all("armed").iter().flatten().filter(|known| known["over"] == id).count() >= work.set.needed()
}

/// The errno of a carrier that failed. Some bricks may have done it all the same, so it is none of those by which a refusal
/// is known that has changed nothing.
fn unclear(errno: i32) -> i32 {
    match errno {
        libc::ENOSPC | libc::EDQUOT | libc::ENOTCONN | libc::ETIMEDOUT => errno,
        other => {
            tracing::error!("the restore failed on its way to the bricks ({other}): some may have done it");
            libc::EIO
        }
    }
}

/// The size of a snapshot's content. `EBUSY` if it may not be the same on all bricks of this graph.
fn size_of(work: &mut Work, name: &SnapName) -> Result<i64, i32> {
    let told = work.set.told(&mut work.file, Some(name));
    let info = told.snapshot()?;
    if told.is_unsettled() {
        tracing::error!("snapshot {name} is not the same on all bricks yet: wait for self-heal");
        return Err(libc::EBUSY);
    }
    info["size"].as_u64().and_then(|size| i64::try_from(size).ok()).ok_or(libc::EIO)
}
