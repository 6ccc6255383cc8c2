//! The life of a file that has snapshots: they follow its renames, and outlive its last name or keep it from going.

use std::sync::Arc;
use std::time::Duration;

use fsnap_core::acl::Caller;
use fsnap_core::options::OnUnlink;
use fsnap_core::{Error, Gfid, Result};
use fsnap_store::{Catalogue, Change, MovedUp, Notice, Store};

use super::caller::{heals, is_heal};
use super::instance::Brick;
use super::names::{HealRemoval, Names, OnDisk, Place, Plan};
use super::paths::{Changing, Followed};
use super::pool::{Entered, Entrance, Key, Turn};
use super::shared::Shared;
use super::{graves, heal, rmdir};
use crate::ffi::{Call, Connection, HeldRemoval, Inodes, Mark, Removal, Route, Ticket, role};

/// How often a removal looks again because a name has changed hands before it had the right files to itself.
const TRIES: u32 = 8;

/// How long it waits for those who go by path, or change where paths lead, before it looks again.
const PAUSE: Duration = Duration::from_millis(2);

impl role::Life for Brick {
    fn remove<'a>(&self, call: &Call<'_>, removal: Removal<'_>, ticket: Ticket<'a>) -> Option<Ticket<'a>> {
        remove(self, call, &removal, ticket)
    }

    fn opens(&self, call: &Call<'_>, file: Gfid, inodes: Inodes) {
        opens(self, call, file, inodes);
    }
}

/// unlink, rename, rmdir, link: hands the ticket back if there is nothing for us to do.
fn remove<'a>(
    brick: &Brick,
    call: &Call<'_>,
    removal: &Removal<'_>,
    ticket: Ticket<'a>,
) -> Option<Ticket<'a>> {
    let store = match brick.state.store() {
        Ok(store) => store,
        // Nobody has snapshots here.
        Err(_) if !Store::was_used(&brick.state.directory) => return Some(ticket),
        Err(error) => {
            tracing::warn!("nothing is removed or renamed on this brick, which may have snapshots: {error}");
            ticket.fail(error.errno());
            return None;
        }
    };
    let healing = is_heal(call);
    match *removal {
        Removal::Unlink { at, file, internal } => {
            match Place::new(store, &at, file) {
                Ok(to) => take(brick, store, Names { from: None, to, internal, healing }, &[file], ticket),
                Err(error) => ticket.fail(error.errno()),
            }
            None
        }
        Removal::Rename { from, to, files } => {
            let from = Place::new(store, &from, files[0]).map(Some);
            match from.and_then(|from| Ok((from, Place::new(store, &to, files[1])?))) {
                Ok((from, to)) => {
                    take(brick, store, Names { from, to, internal: false, healing }, &files, ticket);
                }
                Err(error) => ticket.fail(error.errno()),
            }
            None
        }
        Removal::Link { file, to } => {
            match Place::new(store, &to, file) {
                Ok(to) => link(brick, to, file, call, ticket),
                Err(error) => ticket.fail(error.errno()),
            }
            None
        }
        Removal::Rmdir { dir, whole_tree, path } => {
            if whole_tree {
                rmdir::discard(brick, dir, healing, ticket)
            } else {
                rmdir::remove(brick, dir, path, ticket)
            }
        }
    }
}

/// Passes a link on when nobody is at work on the file or the name: storage/posix notes the name on the file a moment after
/// it has given it, and neither a removal nor a command is to see the file without. `ESTALE` if the file has lost its last
/// name meanwhile: storage/posix would find the inode, which is kept. Who is about to bring it back gives it a name again so.
fn link(brick: &Brick, to: Place, file: Gfid, call: &Call<'_>, ticket: Ticket<'_>) {
    let linking = Linking {
        state: Arc::clone(&brick.state),
        parent: to.parent,
        file,
        heals: heals(call),
        by: call.connection(),
        caller: call.caller(),
    };
    let (host, keys) = (brick.state.host, vec![to.key(), Key::File(file)]);
    if let Some(entered) = brick.pool.enter(&keys) {
        return match linking.may() {
            Err(error) => ticket.fail(error.errno()),
            Ok(rises) => ticket.proceed(host, Route::AsGiven, move |done| {
                linking.done(rises && done);
                drop(entered);
            }),
        };
    }
    let Some(held) = ticket.hold() else { return };
    let entrance = (*brick.pool).clone();
    brick.pool.submit_short(keys, move |turn| {
        let ready = turn.in_time().and_then(|entered| Ok((entered, linking.may()?)));
        match ready {
            Ok((entered, rises)) => {
                if let Ok(store) = linking.state.store() {
                    // What it finds does not matter, but that there is a way to it.
                    let _ = to.entry(store, &entrance);
                }
                held.proceed(host, move |done| {
                    linking.done(rises && done);
                    drop(entered);
                    Ok(Vec::new())
                });
            }
            Err(error) => {
                tracing::warn!("no link is made: {error}");
                held.fail(error.errno());
            }
        }
    });
}

/// A link of a file to a name in directory `parent`.
struct Linking {
    state: Arc<Shared>,
    parent: Gfid,
    file: Gfid,
    heals: bool,
    by: Connection,
    caller: Caller,
}

impl Linking {
    /// Whether the file comes back by it. [`Error::Gone`] (`ESTALE`) if it was deleted and does not, `EACCES` if it must not there: a
    /// private graph has no kernel that has looked at the directory's rights.
    fn may(&self) -> Result<bool> {
        let store = match self.state.store() {
            Ok(store) if !self.heals && store.is_deleted(self.file) => store,
            _ => return Ok(false),
        };
        if !self.state.claims.has_by(self.file, || self.by.clone()) {
            return Err(Error::Gone);
        }
        store.may_make_entry(self.parent, &self.caller).map(|()| true)
    }

    /// After the link. What fails here is logged: the next start does it.
    fn done(&self, rises: bool) {
        if !rises {
            return;
        }
        let rise = || {
            let _change = self.state.begin()?;
            let store = self.state.store()?;
            store.rise(self.file)?;
            store.follow_rights(self.file)
        };
        // features/upcall tells those only who know the file.
        self.state.upcalls.tell(self.state.host, Notice::Added(self.parent));
        match rise() {
            Ok(()) => tracing::info!("the deleted file {} is back, in directory {}", self.file, self.parent),
            Err(error) => tracing::error!("{} is back, and its snapshots do not know: {error}", self.file),
        }
        self.state.claims.remove(self.file);
    }
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
    /// They go into quarantine then.
    Disowned,
    /// Its snapshots have gone, and its tombstone goes.
    Unburied,
}

/// Sees to it that the names stay whose they are while the fop is under way. Without snapshots it goes on here and now; for
/// the others a worker prepares it, passes it on, and does what follows. What the policy forbids is answered at once.
fn take(brick: &Brick, store: &Store, names: Names, believed: &[Gfid], ticket: Ticket<'_>) {
    let mut files = believed.to_vec();
    for _ in 0..2 {
        let Some(entered) = brick.pool.enter(&names.keys(&files)) else { break };
        // What has no snapshots goes without it as well, as it would without us.
        let change = brick.state.begin().ok();
        match at_once(brick, store, &names, &mut files, change.is_some()) {
            Err(error) => {
                names.refused(&error);
                return ticket.fail(error.errno());
            }
            Ok(Next::Pass(found, paths)) => {
                let state = Arc::clone(&brick.state);
                let as_given = found.by_path || !store.is_used();
                let route = if as_given { Route::AsGiven } else { Route::ByGfid };
                return ticket.proceed(brick.state.host, route, move |done| {
                    names.remember(&state, &found);
                    names.mend(&state, done);
                    drop((entered, change, paths));
                });
            }
            Ok(Next::Prepare) => break,
            Ok(Next::Again) => {}
        }
    }
    let Some(held) = ticket.hold() else { return };
    let entrance = (*brick.pool).clone();
    let job = Job { state: Arc::clone(&brick.state), entrance, names, paths: (None, None) };
    job.wait(Duration::ZERO, files, held, TRIES);
}

/// How a removal goes on.
enum Next {
    /// Past us.
    Pass(OnDisk, (Option<Followed>, Option<Changing>)),
    /// By a worker.
    Prepare,
    /// With other files to itself.
    Again,
}

fn at_once(brick: &Brick, store: &Store, names: &Names, files: &mut Vec<Gfid>, alone: bool) -> Result<Next> {
    let (state, entrance) = (&brick.state, &*brick.pool);
    // Not while the brick is somebody else's, who does not know of us.
    let mut followed = alone.then(|| state.paths.follow()).flatten();
    let mut found = names.look_and_make_room(store, entrance, followed.is_some())?;
    let mut plan = names.plan(store, &found);
    if found.by_path && matches!(plan, Err(Error::Gone)) {
        // By gfid a handle that is gone is put back.
        found = names.look_and_make_room(store, entrance, false)?;
        plan = names.plan(store, &found);
    }
    if !found.is_within(files) {
        *files = found.files();
        return Ok(Next::Again);
    }
    if !found.kept.is_empty() {
        return Ok(Next::Prepare);
    }
    names.check(store, &found)?;
    let plan = plan?;
    if !plan.is_nothing() {
        allowed(state, &plan)?;
        return Ok(Next::Prepare);
    }
    let deep = names.are_deep() && !found.by_path;
    followed = followed.filter(|_| found.by_path || deep && !found.moves_dir);
    let changing = found.moves_dir.then(|| state.paths.change());
    if changing.as_ref().is_some_and(|changing| !changing.is_alone())
        || deep && followed.is_none() && changing.is_none()
    {
        return Ok(Next::Prepare);
    }
    if deep {
        names.check_paths(store)?;
    }
    Ok(Next::Pass(found, (followed, changing)))
}

/// [`Error::HasSnapshots`] (`EBUSY`) if a file with snapshots must not lose its last name.
fn allowed(state: &Shared, plan: &Plan) -> Result<()> {
    match plan.lost.filter(|_| state.options().on_unlink == OnUnlink::Refuse && !plan.too_late) {
        Some(lost) if state.store()?.is_last_name(lost)? => Err(Error::HasSnapshots),
        _ => Ok(()),
    }
}

/// Whether a worker has what it needs.
enum Ready {
    Now(Box<OnDisk>, Plan, Option<Prepared>, Option<MovedUp>, Option<Change>),
    /// It should have other files to itself.
    Not(Vec<Gfid>),
    /// Others go by path, or change where paths lead.
    Later,
}

/// A removal in the hands of a worker.
struct Job {
    state: Arc<Shared>,
    entrance: Entrance,
    names: Names,
    paths: (Option<Followed>, Option<Changing>),
}

impl Job {
    /// Waits, for `pause` and until the names and `files` are free.
    fn wait(self, pause: Duration, files: Vec<Gfid>, held: HeldRemoval, tries: u32) {
        let (entrance, keys) = (self.entrance.clone(), self.names.keys(&files));
        let task = move |turn: Turn| match turn.in_time() {
            Ok(entered) => self.run(entered, files, held, tries),
            Err(error) => self.refuse(held, &error),
        };
        match pause.is_zero() {
            true => entrance.submit_short(keys, task),
            false => entrance.submit_after(pause, keys, task),
        }
    }

    fn refuse(&self, held: HeldRemoval, error: &Error) {
        self.names.refused(error);
        held.fail(error.errno());
    }

    fn run(mut self, entered: Entered, files: Vec<Gfid>, held: HeldRemoval, tries: u32) {
        match self.prepare(&files) {
            Err(error) => self.refuse(held, &error),
            Ok(Ready::Not(others)) => {
                drop(entered);
                self.paths = (None, None);
                match tries.checked_sub(1) {
                    Some(left) => self.wait(Duration::ZERO, others, held, left),
                    None => self.refuse(held, &Error::Renamed),
                }
            }
            Ok(Ready::Later) => {
                drop(entered);
                self.wait(PAUSE, files, held, tries);
            }
            Ok(Ready::Now(found, plan, prepared, moved_up, change)) => {
                let (host, inodes) = (self.state.host, held.inodes());
                held.proceed(host, move |done| {
                    self.names.remember(&self.state, &found);
                    self.names.mend(&self.state, done);
                    self.follow_up(&plan, prepared, done, inodes);
                    let mut marks = if done { plan.heal.marks(&self.state) } else { Vec::new() };
                    if let (true, Some(lost), Some(Prepared::Buried)) = (done, plan.lost, prepared) {
                        marks.extend(self.missed_tombstone(lost));
                    }
                    if let Some(moved) = moved_up {
                        marks.extend(rmdir::marks(&self.state, moved));
                    }
                    drop((entered, change, self.paths));
                    Ok(marks)
                });
            }
        }
    }

    /// Where self-heal has to look for the tombstone of `lost`, on bricks that are away.
    fn missed_tombstone(&self, lost: Gfid) -> Vec<Mark> {
        let Place { parent, name, .. } = &self.names.to;
        let tombstone = lost.tombstone(name.to_bytes());
        let marks = self
            .state
            .store()
            .and_then(|store| heal::missed_tombstones(store, *parent, vec![(lost, tombstone)]));
        marks.unwrap_or_else(|error| {
            tracing::error!("self-heal can't be told to look for the tombstone of {lost}: {error}");
            Vec::new()
        })
    }

    /// Whether paths lead where they lead now until it is done, if it goes by any, or nobody goes by one that it changes. That is so from
    /// now on.
    fn has_paths(&mut self, found: &OnDisk) -> bool {
        let (paths, (followed, changing)) = (&self.state.paths, &mut self.paths);
        if found.moves_dir {
            *followed = None;
            changing.get_or_insert_with(|| paths.change()).is_alone()
        } else {
            *changing = None;
            if followed.is_none() && self.names.are_deep() {
                *followed = paths.follow();
            }
            followed.is_some() || !self.names.are_deep()
        }
    }

    fn prepare(&mut self, files: &[Gfid]) -> Result<Ready> {
        let state = Arc::clone(&self.state);
        let (store, change) = (state.store()?, state.begin());
        let found = self.names.look_and_make_room(store, &self.entrance, false)?;
        if !found.is_within(files) {
            return Ok(Ready::Not(found.files()));
        }
        if !self.has_paths(&found) {
            return Ok(Ready::Later);
        }
        self.names.check_paths(store)?;
        let plan = self.names.plan(store, &found)?;
        let change = if plan.is_nothing() && found.kept.is_empty() { change.ok() } else { Some(change?) };
        let replaced = found.replaced.filter(|_| !found.kept.is_empty());
        let moved_up = replaced.map(|dir| store.move_up(dir, &found.kept)).transpose()?;
        self.names.check(store, &found)?;
        if let Some(lost) = plan.lost.filter(|_| !self.names.to.displaced) {
            // It may not be noted: see `bring`.
            store.note_name(lost, self.names.to.parent, self.names.to.name.to_bytes())?;
        }
        let prepared = plan.lost.map(|lost| prepare_file(&self.state, store, lost, &plan)).transpose()?;
        Ok(Ready::Now(Box::new(found), plan, prepared, moved_up, change))
    }

    /// After the unlink or the rename. What fails here is logged: it can't be taken back, and is put right later.
    fn follow_up(&self, plan: &Plan, prepared: Option<Prepared>, done: bool, inodes: Option<Inodes>) {
        let Ok(store) = self.state.store() else { return };
        let log = |what: &str, file: Gfid, result: Result<()>| {
            if let Err(error) = result {
                tracing::error!("{what} of {file}: {error}");
            }
        };
        if let (Some(lost), Some(prepared)) = (plan.lost, prepared) {
            // storage/posix may fail when the name has gone already: then it has gone.
            let kept = !done
                && !matches!(prepared, Prepared::Stays | Prepared::Unburied)
                && store.unbury(lost).unwrap_or_else(|error| {
                    tracing::error!("taking back the burial of {lost}: {error}");
                    true
                });
            match prepared {
                Prepared::Doomed if !kept => log("deleting the snapshots", lost, store.purge(lost)),
                Prepared::Disowned if !kept => log("deleting the snapshots", lost, store.disown(lost)),
                Prepared::Unburied if done => {
                    log("forgetting the tombstone", lost, store.forget_burial(lost))
                }
                Prepared::Buried if !kept => {
                    log("renaming the snapshots", lost, store.follow(lost));
                    log("giving its owner the snapshots", lost, store.follow_rights(lost));
                    if let Some(inodes) = inodes {
                        graves::empty(&self.state, &self.entrance, lost, inodes);
                    }
                }
                _ if done => log("moving the snapshots", lost, store.follow(lost)),
                _ => {}
            }
        }
        if let Some(moved) = plan.moved.filter(|_| done) {
            bring(&self.names, &self.state, &self.entrance, moved, TRIES);
        }
    }
}

/// After a rename of `file`, which has snapshots: they go with it. Where the host has said the new place by path alone,
/// storage/posix has noted the wrong one; and where the new directory has no gfid yet, which somebody gives it as soon as it is
/// looked for, they go later.
fn bring(names: &Names, state: &Arc<Shared>, entrance: &Entrance, file: Gfid, tries: u32) {
    let Names { from, to, .. } = names;
    let brought = state.store().and_then(|store| {
        let Some((from, way)) = from.as_ref().zip(to.way.as_ref()).filter(|_| to.displaced) else {
            return store.follow(file).map(|()| true);
        };
        let parent = match store.dir_at(way) {
            Err(Error::Gone) if tries == TRIES => {
                store.follow_away(file, from.parent, from.name.to_bytes())?;
                return Ok(false);
            }
            Err(Error::Gone) if tries > 0 => return Ok(false),
            other => other?,
        };
        store.note_name(file, parent, to.name.to_bytes())?;
        store.forget_name(file, from.parent, to.name.to_bytes())?;
        store.follow(file).map(|()| true)
    });
    match brought {
        Ok(false) if entrance.takes_tasks() => {
            let (names, state, again) = (names.clone(), Arc::clone(state), entrance.clone());
            entrance.submit_after(graves::GRACE, vec![Key::File(file)], move |turn| {
                if let (Ok(_entered), Ok(_change)) = (turn.in_time(), state.begin()) {
                    bring(&names, &state, &again, file, tries - 1);
                }
            });
        }
        Ok(_) => {}
        Err(error) => tracing::error!("moving the snapshots of {file}: {error}"),
    }
}

/// Before a file loses a name. [`Error::HasSnapshots`] (`EBUSY`) if it must not, [`Error::Held`] (`EBUSY`) if a snapshot
/// that is to go with it must not; neither if it is `too_late` for that, then it is buried whatever the policy.
fn prepare_file(state: &Shared, store: &Store, file: Gfid, plan: &Plan) -> Result<Prepared> {
    if matches!(plan.heal, HealRemoval::Unburied) {
        return store.adopt(file, &Catalogue::default()).map(|()| Prepared::Unburied);
    }
    if !store.is_last_name(file)? {
        return Ok(Prepared::Stays);
    }
    if matches!(plan.heal, HealRemoval::Gone(_)) {
        return store.bury(file).map(|()| Prepared::Disowned);
    }
    let too_late = plan.too_late;
    match state.options().on_unlink {
        // Buried first all the same: the unlink may fail, and then nothing is to be gone.
        OnUnlink::Purge if matches!(plan.heal, HealRemoval::No) => {
            match store.list(file)?.into_iter().find(|snapshot| snapshot.held) {
                Some(held) if !too_late => Err(Error::Held(held.name.to_string())),
                Some(_) => store.bury(file).map(|()| Prepared::Buried),
                None => store.bury(file).map(|()| Prepared::Doomed),
            }
        }
        _ if too_late => store.bury(file).map(|()| Prepared::Buried),
        OnUnlink::Keep | OnUnlink::Purge => store.bury(file).map(|()| Prepared::Buried),
        OnUnlink::Refuse => Err(Error::HasSnapshots),
    }
}

/// Self-heal gives a deleted file the content that another brick has not taken from it yet: that has to go as well.
fn opens(brick: &Brick, call: &Call<'_>, file: Gfid, inodes: Inodes) {
    if is_heal(call) && brick.state.store().is_ok_and(|store| store.is_deleted(file)) {
        graves::empty(&brick.state, &brick.pool, file, inodes);
    }
}
