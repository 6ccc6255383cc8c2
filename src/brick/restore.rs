//! Restores that a carrier brings: see `fsnap_store::Store::arm`.

use std::ffi::CStr;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use fsnap_core::command::parse_id;
use fsnap_core::{Error, Gfid, Result};

use super::caller::is_heal;
use super::graves;
use super::instance::Brick;
use super::pool::Key;
use super::shared::Shared;
use crate::ffi::{Call, Change, Connection, Dict, HeldTruncate, How, Target, role};

/// What the disperse translator notes of a fragment: the version of its data and metadata, the size of the file, and that a
/// change is under way.
const EC_VERSION: &CStr = c"trusted.ec.version";
const EC_SIZE: &CStr = c"trusted.ec.size";
const EC_DIRTY: &CStr = c"trusted.ec.dirty";
/// What is wrong with a torn file, and what to do.
const TORN: &str = "a restore of it failed here, and could not be taken back. That is tried again now: if it fails make room on \
                    this brick, or see what is wrong with its disk";
/// What is wrong with a half restored fragment, and what to do.
pub const HALF: &str = "a restore was cut short when some bricks had done it. To finish it restore the file again (`fsnap restore`)";

/// How often it is tried to finish what could not be finished.
const MENDED_EVERY: Duration = Duration::from_secs(1);

impl role::Restore for Brick {
    fn carry(&self, call: &Call<'_>, id: &[u8], held: HeldTruncate) {
        carry(self, call, id, held);
    }

    fn is_armed(&self) -> bool {
        self.state.arms.any()
    }

    fn refuse_truncate(&self, call: &Call<'_>, file: Gfid) -> Option<i32> {
        refuse_truncate(&self.state, call, file)
    }

    fn is_half_restored(&self, file: Gfid) -> bool {
        self.state.halves.has(file) || is_torn(&self.state, file)
    }

    fn any_half_restored(&self) -> bool {
        self.state.halves.any() || self.state.store.get().is_some_and(fsnap_store::Store::any_torn)
    }

    fn ends_restore(&self, call: &Call<'_>, file: Gfid, counts: Dict<'_>) -> Option<Gfid> {
        ends(&self.state, call, file, counts)
    }

    fn restored(&self, file: Gfid, id: Gfid) {
        over(&self.state, file, id);
    }
}

/// Whether the content of `file` is a part of two. A look at memory.
pub fn is_torn(state: &Shared, file: Gfid) -> bool {
    state.store.get().is_some_and(|store| store.is_torn(file))
}

/// Tries, once a second at most, to finish the restore that has left `file` torn: somebody has come for it in vain.
pub fn mend(brick: &Brick, file: Gfid) {
    {
        let mut last = brick.mended.lock().unwrap_or_else(PoisonError::into_inner);
        last.retain(|_, last| last.elapsed() < MENDED_EVERY);
        if last.contains_key(&file) {
            return;
        }
        last.insert(file, Instant::now());
    }
    tracing::warn!("{file} is neither read nor changed: {TORN}");
    let state = Arc::clone(&brick.state);
    brick.pool.submit(vec![Key::File(file)], move |turn| {
        // Why it could not be done is in the log.
        let _ = turn.in_time().and_then(|_turn| {
            let _change = state.begin()?;
            let store = state.store()?;
            store.mend(file)?;
            // Of a disperse volume's it is one that does not go with the others now.
            if store.is_half_restored(file) {
                state.halves.add(file, None);
            }
            Ok(())
        });
    });
}

/// What is done to a torn file: `EIO` for all data fops. To a half restored fragment: `EIO` for those of others, until its restore
/// [`ends`].
pub fn refuse_half(state: &Shared, call: &Call<'_>, change: &Change<'_>) -> Option<i32> {
    let (Target::File(file) | Target::Open(file)) = change.place else { return None };
    if is_torn(state, file) {
        // Not even self-heal: what it writes would go when the restore is finished.
        return matches!(change.how, How::Load | How::Other).then_some(libc::EIO);
    }
    let by = state.halves.by(file)?;
    let own = is_own(call, by);
    match change.how {
        How::Load if !own => {
            tracing::warn!("{file} is not read: {HALF}");
            Some(libc::EIO)
        }
        How::Other if !own && !is_heal(call) => {
            tracing::warn!("{file} is not changed: {HALF}");
            Some(libc::EIO)
        }
        _ => None,
    }
}

/// Whether it is the carrier's connection that asks, and not self-heal by it, which every client may do.
fn is_own(call: &Call<'_>, by: Option<Connection>) -> bool {
    by == Some(call.connection()) && !is_heal(call)
}

/// The restore that has left `file` half restored, if an xattrop that adds these counts is what the disperse translator notes at
/// its end, or self-heal when it has brought other data: once it is done that restore is [`over`].
fn ends(state: &Shared, call: &Call<'_>, file: Gfid, counts: Dict<'_>) -> Option<Gfid> {
    let by = state.halves.by(file).filter(|_| !is_torn(state, file))?;
    let own = is_own(call, by);
    // Two counts each: of the data, and of the metadata, which say nothing.
    let of_data = |key| counts.get(key).and_then(|counts| counts.get(..8));
    let counts_up = |count: &[u8]| count.iter().any(|&byte| byte != 0);
    let newer = of_data(EC_VERSION).is_some_and(counts_up);
    let resized = of_data(EC_SIZE).is_some_and(counts_up);
    // Where nothing has failed it notes no new version, but takes its mark back (`ec_update_info`). So does self-heal,
    // from fragments that it believes to go together.
    let unmarked = of_data(EC_DIRTY).is_some_and(|count| count[0] >= 0x80);
    if !(newer && (own || is_heal(call)) || (resized || unmarked) && own) {
        return None;
    }
    Some(state.store().ok()?.armed(file).ok()??.id)
}

/// Restore `id` of `file` by a carrier is over, on this brick.
fn over(state: &Shared, file: Gfid, id: Gfid) {
    let noted = state.store().and_then(|store| {
        store.conclude(file, id)?;
        store.armed(file)
    });
    match noted {
        Ok(None) => {
            state.halves.remove(file);
            state.arms.ended(file, id);
        }
        // The next one has begun: it was long in coming, and its client is gone.
        Ok(Some(_)) => {}
        Err(error) => tracing::error!("can't note that the restore of {file} is over: {error}"),
    }
}

/// Restore `id` of `file` is over, or will not be, says its command. A half restored fragment stays so: the command may say that
/// before the disperse translator has noted anything, for if it is quick the lock goes from the carrier to what it says
/// (`ec_lock_next_owner`), and what there is to note is noted when both are done.
pub fn settle(state: &Shared, file: Gfid, id: Gfid) -> Result<()> {
    state.arms.remove(file, id);
    match state.halves.has(file) {
        true => Ok(()),
        false => state.store()?.settle(file, id),
    }
}

/// A truncate that is no carrier: `EBUSY` if the file is armed on a volume that keeps copies, for a carrier that has lost its id on
/// its way would be one like that. Self-heal's are its own business.
fn refuse_truncate(state: &Shared, call: &Call<'_>, file: Gfid) -> Option<i32> {
    (!is_heal(call) && state.arms.has_alone(file)).then(|| {
        tracing::warn!("{file} is not truncated: {}", Error::Restoring);
        Error::Restoring.errno()
    })
}

/// The carrier of restore `id`: the file gets the content of the snapshot, and then the truncate, to the size that it has by
/// now, goes on to storage/posix, for the times and whatever else belongs to a change of data.
fn carry(brick: &Brick, call: &Call<'_>, id: &[u8], held: HeldTruncate) {
    let (file, shown, by, caller) = (call.gfid(), call.shown(), call.connection(), call.caller());
    let id = match parse_id(id) {
        Ok(id) => id,
        Err(error) => return held.fail(error.errno()),
    };
    let (state, entrance, inodes) = (Arc::clone(&brick.state), (*brick.pool).clone(), call.inodes());
    brick.pool.submit(vec![Key::File(file)], move |turn| {
        let done = turn.in_time().and_then(|turn| {
            let (change, store) = (state.begin()?, state.store()?);
            // It may have waited, and whoever sent it be gone, with the lock that kept others away.
            if !state.arms.has_id(file, id) {
                return Err(Error::Unhealed("its client is gone, or came too late".into()));
            }
            if store.is_dispersed(file)? {
                state.halves.add(file, Some(by));
            }
            // Once more: its owner may have given them back meanwhile.
            if store.is_deleted(file)
                && let Some(inodes) = inodes
            {
                // It may not come back after all.
                graves::empty(&state, &entrance, file, inodes);
            }
            let carried = store.strip_privileges(file, &caller).and_then(|()| store.carry(file, id));
            let restored = carried.inspect_err(|_| {
                // By an earlier one, or because it can't be taken back.
                match state.halves.has(file) && store.is_half_restored(file) {
                    true => state.halves.add(file, None),
                    false => state.halves.remove(file),
                }
            })?;
            state.counters.cloned(restored.time);
            Ok(((turn, change), restored.size))
        });
        state.counters.count("carrier", &done);
        match done {
            Ok((turn, size)) => {
                tracing::info!("restore {id} of {shown}: done");
                held.proceed_to(state.host, size);
                drop(turn);
            }
            Err(error) => {
                tracing::error!("restore {id} of {shown} failed on this brick: {error}");
                held.fail(error.errno());
            }
        }
    });
}
