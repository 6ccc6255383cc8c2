//! The life of a file that has snapshots: they follow its renames, and outlive its last name or keep it from going.

use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fsnap_core::options::OnUnlink;
use fsnap_core::{Error, Gfid, Result};
use fsnap_store::Store;

use super::{Brick, State};
use crate::ffi::{Held, Outcome, Removal, Ticket};

/// unlink, rename, rmdir: hands the ticket back if there is nothing for us to do.
pub fn remove<'a>(brick: &Brick, removal: &Removal<'_>, ticket: Ticket<'a>) -> Option<Ticket<'a>> {
    let Ok(store) = brick.state.store() else { return Some(ticket) };
    match *removal {
        Removal::Unlink { parent, name, internal } => {
            // By what is on the disk: the host may still take the name for a file that another rename has replaced.
            match store.entry(parent, name.to_bytes()) {
                Some((file, false)) if store.has_snapshots(file) => {
                    let place = Place { parent, name: name.to_owned() };
                    hold(brick, Plan { moved: None, lost: Some(file), place, too_late: internal }, ticket);
                    None
                }
                _ => Some(ticket),
            }
        }
        Removal::Rmdir { dir, whole_tree } => or_fail(may_go(store, dir, whole_tree), ticket),
        Removal::Rename { old, parent, name } => rename(brick, store, (old, parent, name), ticket),
    }
}

fn or_fail<'a>(result: Result<()>, ticket: Ticket<'a>) -> Option<Ticket<'a>> {
    let Err(error) = result else { return Some(ticket) };
    tracing::warn!("{error}");
    ticket.fail(error.errno());
    None
}

fn rename<'a>(
    brick: &Brick,
    store: &Store,
    (old, parent, name): (Gfid, Gfid, &CStr),
    ticket: Ticket<'a>,
) -> Option<Ticket<'a>> {
    let target = store.entry(parent, name.to_bytes()).filter(|(gfid, _)| *gfid != old);
    if let Some((dir, true)) = target
        && let Err(error) = may_go(store, dir, false)
    {
        return or_fail(Err(error), ticket);
    }
    let lost = target.filter(|(_, is_dir)| !is_dir).map(|(gfid, _)| gfid);
    let plan = Plan {
        moved: Some(old).filter(|&old| store.has_snapshots(old)),
        lost: lost.filter(|&lost| store.has_snapshots(lost)),
        place: Place { parent, name: name.to_owned() },
        // A link file takes the place of the data on this brick because the data that it points to has, on another.
        too_late: lost.is_some() && store.is_link_file(old),
    };
    if plan.moved.is_none() && plan.lost.is_none() {
        return Some(ticket);
    }
    hold(brick, plan, ticket);
    None
}

/// Whether a directory may be removed; takes an empty `.fsnap` out of its way.
///
/// [`Error::NotEmpty`] (`ENOTEMPTY`) if it holds snapshots.
fn may_go(store: &Store, dir: Gfid, whole_tree: bool) -> Result<()> {
    if whole_tree && store.tree_has_snapshots(dir)? {
        return Err(Error::NotEmpty(format!(
            "the tree of directory {dir}, which is to be discarded, holds snapshots"
        )));
    }
    match store.clear_snap_dir(dir) {
        // It is gone, or is none: storage/posix will say so in its own way.
        Err(Error::Gone | Error::NotRegular) => Ok(()),
        Err(Error::Os { errno: libc::ENOTDIR, .. }) => Ok(()),
        other => other,
    }
}

/// A name that an unlink or a rename takes from whoever has it.
struct Place {
    parent: Gfid,
    name: CString,
}

/// The files with snapshots that an unlink or a rename is about.
struct Plan {
    /// Gets another name.
    moved: Option<Gfid>,
    /// Loses a name.
    lost: Option<Gfid>,
    /// The name that it loses.
    place: Place,
    /// It can't be refused any more: DHT has renamed another file to its name, on another brick, and asks us next. Were
    /// this refused, there would be two files of one name.
    too_late: bool,
}

/// How a file was prepared for the loss of a name.
#[derive(Clone, Copy)]
enum Prepared {
    /// It has other names.
    Stays,
    /// It goes into its grave.
    Buried,
    /// Its snapshots go when it has gone.
    Doomed,
}

/// Lets a worker prepare the fop, pass it on, and do what follows. What the policy forbids is answered at once.
fn hold(brick: &Brick, plan: Plan, ticket: Ticket<'_>) {
    if let Err(error) = allowed(&brick.state, &plan) {
        or_fail(Err(error), ticket);
        return;
    }
    let Some(held) = ticket.hold() else { return };
    let state = Arc::clone(&brick.state);
    let files = plan.moved.into_iter().chain(plan.lost).collect();
    brick.pool.submit(files, move |turn| {
        let prepared = turn.in_time().and_then(|()| prepare(&state, &plan));
        match prepared {
            Err(error) => refuse(held, &plan, &error),
            Ok(prepared) => {
                let host = state.host;
                held.proceed(host, move |outcome| follow_up(&state, &plan, prepared, &outcome));
            }
        }
    });
}

fn refuse(held: Held, plan: &Plan, error: &Error) {
    match plan {
        Plan { lost: Some(lost), .. } => tracing::warn!("{lost} keeps its name: {error}"),
        Plan { moved, .. } => tracing::warn!("{} is not renamed: {error}", moved.unwrap_or(Gfid::ROOT)),
    }
    held.fail(error.errno());
}

/// [`Error::HasSnapshots`] (`EBUSY`) if a file with snapshots must not lose its last name.
fn allowed(state: &State, plan: &Plan) -> Result<()> {
    match plan.lost.filter(|_| state.options().on_unlink == OnUnlink::Refuse && !plan.too_late) {
        Some(lost) if state.store()?.is_last_name(lost)? => Err(Error::HasSnapshots),
        _ => Ok(()),
    }
}

/// Before a file loses a name. [`Error::HasSnapshots`] (`EBUSY`) if it must not, [`Error::Held`] (`EBUSY`) if a snapshot
/// that is to go with it must not; neither if it is `too_late` for that, then it is buried whatever the policy.
/// [`Error::Renamed`] (`EBUSY`) if the name is another file's by now.
fn prepare(state: &State, plan: &Plan) -> Result<Option<Prepared>> {
    let store = state.store()?;
    let there = store.entry(plan.place.parent, plan.place.name.to_bytes());
    let lost = there.filter(|(file, is_dir)| !is_dir && Some(*file) != plan.moved).map(|(file, _)| file);
    match lost.filter(|&file| store.has_snapshots(file)) {
        now if now != plan.lost => Err(Error::Renamed),
        Some(file) => prepare_file(state, store, file, plan.too_late).map(Some),
        None => Ok(None),
    }
}

fn prepare_file(state: &State, store: &Store, file: Gfid, too_late: bool) -> Result<Prepared> {
    if !store.is_last_name(file)? {
        return Ok(Prepared::Stays);
    }
    match state.options().on_unlink {
        // Buried first all the same: the unlink may fail, and then nothing is to be gone.
        OnUnlink::Purge => match store.list(file)?.into_iter().find(|snapshot| snapshot.held) {
            Some(held) if !too_late => Err(Error::Held(held.name.to_string())),
            Some(_) => store.bury(file).map(|()| Prepared::Buried),
            None => store.bury(file).map(|()| Prepared::Doomed),
        },
        _ if too_late => store.bury(file).map(|()| Prepared::Buried),
        OnUnlink::Keep => store.bury(file).map(|()| Prepared::Buried),
        OnUnlink::Refuse => Err(Error::HasSnapshots),
    }
}

/// After the unlink or the rename. What fails here is logged: it can't be taken back, and is put right later.
fn follow_up(state: &State, plan: &Plan, prepared: Option<Prepared>, outcome: &Outcome<'_>) {
    let Ok(store) = state.store() else { return };
    let log = |what: &str, file: Gfid, result: Result<()>| {
        if let Err(error) = result {
            tracing::error!("{what} of {file}: {error}");
        }
    };
    if let (Some(lost), Some(prepared)) = (plan.lost, prepared) {
        match prepared {
            Prepared::Buried | Prepared::Doomed if !outcome.done() => {
                log("taking back the burial", lost, store.unbury(lost));
            }
            Prepared::Doomed => log("deleting the snapshots", lost, store.purge(lost)),
            Prepared::Buried => {
                log("renaming the snapshots", lost, store.follow(lost));
                if state.graves.is_closed(lost, outcome) {
                    log("emptying the grave", lost, store.empty_grave(lost));
                }
            }
            Prepared::Stays if outcome.done() => log("moving the snapshots", lost, store.follow(lost)),
            Prepared::Stays => {}
        }
    }
    if let Some(moved) = plan.moved.filter(|_| outcome.done()) {
        log("moving the snapshots", moved, store.follow(moved));
    }
}

/// A file was closed: if it waits in its grave for that, its content goes now.
pub fn released(brick: &Brick, file: Gfid, open: bool) {
    if open || !brick.state.graves.is_waiting(file) {
        return;
    }
    let state = Arc::clone(&brick.state);
    brick.pool.submit(vec![file], move |turn| {
        // What is not emptied now is when the brick starts next.
        if turn.in_time().is_ok()
            && state.graves.take(file)
            && let Ok(store) = state.store()
            && let Err(error) = store.empty_grave(file)
        {
            tracing::error!("emptying the grave of {file}: {error}");
        }
    });
}

/// Deleted files whose content somebody still has open.
#[derive(Default)]
pub struct Graves {
    waiting: Mutex<HashSet<Gfid>>,
    count: AtomicUsize,
}

impl Graves {
    fn lock(&self) -> MutexGuard<'_, HashSet<Gfid>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nobody has the file open; if somebody has, it waits for the close.
    fn is_closed(&self, file: Gfid, outcome: &Outcome<'_>) -> bool {
        if !outcome.open() {
            return true;
        }
        let mut waiting = self.lock();
        waiting.insert(file);
        self.count.store(waiting.len(), Ordering::Release);
        drop(waiting);
        outcome.watch();
        // Who closed it before that was not seen.
        !outcome.open() && self.take(file)
    }

    /// Asked at every close: it costs one load if nobody waits.
    fn is_waiting(&self, file: Gfid) -> bool {
        self.count.load(Ordering::Acquire) > 0 && self.lock().contains(&file)
    }

    fn take(&self, file: Gfid) -> bool {
        let mut waiting = self.lock();
        let was_there = waiting.remove(&file);
        self.count.store(waiting.len(), Ordering::Release);
        was_there
    }
}
