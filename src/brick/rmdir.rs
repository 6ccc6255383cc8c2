//! Directories that go: rmdir, and a rename over one. An empty `.fsnap` goes with them, and what is kept of deleted files moves to
//! the one above.

use std::collections::BTreeSet;
use std::sync::Arc;

use fsnap_core::{Error, Gfid, Result};
use fsnap_store::{MovedUp, Store};

use super::instance::Brick;
use super::pool::{Entered, Entrance, Key};
use super::shared::Shared;
use super::{handles, heal, tidy};
use crate::ffi::{HeldRemoval, Mark, Ticket};

/// How often it looks again because other files were deleted in the directory before it had the right ones to itself.
const TRIES: u32 = 8;

/// Whether a directory may be removed; takes an empty `.fsnap` out of its way.
///
/// [`Error::NotEmpty`] (`ENOTEMPTY`) if it holds snapshots.
pub fn may_go(store: &Store, dir: Gfid) -> Result<()> {
    match store.clear_snap_dir(dir) {
        // It is gone, or is none: storage/posix will say so in its own way.
        Err(Error::Gone | Error::NotRegular) => Ok(()),
        Err(Error::Os { errno: libc::ENOTDIR, .. }) => Ok(()),
        other => other,
    }
}

/// rmdir of the directory `dir`, which the host says to be at `path`. Hands the ticket back if there is nothing for us to do.
pub fn remove<'a>(brick: &Brick, dir: Gfid, path: Option<&[u8]>, ticket: Ticket<'a>) -> Option<Ticket<'a>> {
    // storage/posix goes by the path as well.
    if path.is_some_and(|path| brick.state.store().is_ok_and(|store| !store.may_have_snap_dir(path))) {
        return Some(ticket);
    }
    let may = brick.state.store().and_then(|store| {
        if let (true, Some(path), Ok(false)) = (store.is_used(), path, store.has_handle(dir)) {
            handles::mend(store, &brick.pool, path);
        }
        may_go(store, dir)
    });
    match may {
        Ok(()) => return Some(ticket),
        Err(Error::NotEmpty(_)) => {
            if let Some(held) = ticket.hold() {
                let job = Job { state: Arc::clone(&brick.state), entrance: (*brick.pool).clone(), dir };
                job.wait(BTreeSet::new(), held, TRIES);
            }
        }
        Err(error) => {
            tracing::warn!("{error}");
            ticket.fail(error.errno());
        }
    }
    None
}

/// The same of all that it holds at once (`posix_rmdir` moves it into the landfill). Self-heal may: the other bricks do not have it, at
/// this place, and what has another place comes back from there.
pub fn discard<'a>(brick: &Brick, dir: Gfid, healing: bool, ticket: Ticket<'a>) -> Option<Ticket<'a>> {
    if healing {
        return Some(ticket);
    }
    let refused = |error: Error, ticket: Ticket<'a>| {
        tracing::warn!("{error}");
        ticket.fail(error.errno());
        None
    };
    let store = match brick.state.store() {
        Ok(store) => store,
        Err(error) => return refused(error, ticket),
    };
    let may = match store.tree_has_snapshots(dir) {
        Ok(false) => may_go(store, dir),
        Ok(true) => Err(Error::NotEmpty(format!(
            "the tree of directory {dir}, which is to be discarded, holds snapshots"
        ))),
        Err(error) => Err(error),
    };
    match may {
        Ok(()) => Some(ticket),
        Err(error) => refused(error, ticket),
    }
}

/// Where self-heal has to look, on bricks that are away, for what has moved up.
pub fn marks(state: &Shared, moved: MovedUp) -> Vec<Mark> {
    let MovedUp { into, tombstones } = moved;
    let marks = state.store().and_then(|store| heal::missed_tombstones(store, into, tombstones));
    marks.unwrap_or_else(|error| {
        tracing::error!("self-heal can't be told what has moved into the .fsnap of {into}: {error}");
        Vec::new()
    })
}

/// A directory that holds what is kept of deleted files, in the hands of a worker.
struct Job {
    state: Arc<Shared>,
    entrance: Entrance,
    dir: Gfid,
}

impl Job {
    /// Waits until nobody is at work on these `files`.
    fn wait(self, files: BTreeSet<Gfid>, held: HeldRemoval, tries: u32) {
        let (entrance, keys) = (self.entrance.clone(), files.iter().map(|&file| Key::File(file)).collect());
        entrance.submit_short(keys, move |turn| match turn.in_time() {
            Ok(entered) => self.run(entered, &files, held, tries),
            Err(error) => self.refuse(held, &error),
        });
    }

    /// What has moved up stays there.
    fn refuse(&self, held: HeldRemoval, error: &Error) {
        tracing::warn!("directory {} stays: {error}", self.dir);
        let moved = self.state.store().and_then(|store| store.moved_up(self.dir));
        let marks = moved.map(|moved| marks(&self.state, moved)).unwrap_or_default();
        held.fail_with(self.state.host, error.errno(), &marks);
    }

    fn run(self, entered: Entered, files: &BTreeSet<Gfid>, held: HeldRemoval, tries: u32) {
        let ready = || {
            let (store, change) = (self.state.store()?, self.state.begin()?);
            tidy::those_in(&self.state, &self.entrance, self.dir);
            let kept = store.kept_in(self.dir)?;
            if !kept.is_subset(files) {
                return Ok(Err(kept));
            }
            let moved = store.move_up(self.dir, &kept)?;
            may_go(store, self.dir).map(|()| Ok((moved, change)))
        };
        match ready() {
            Err(error) => self.refuse(held, &error),
            Ok(Err(others)) => {
                drop(entered);
                match tries.checked_sub(1) {
                    Some(left) => self.wait(others, held, left),
                    None => self.refuse(held, &Error::Renamed),
                }
            }
            // They stay there if the directory stays after all.
            Ok(Ok((moved, change))) => held.proceed(self.state.host, move |_| {
                drop((entered, change));
                Ok(marks(&self.state, moved))
            }),
        }
    }
}
