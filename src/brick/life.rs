//! The life of a file that has snapshots: they follow its renames, and outlive its last name or keep it from going.

use std::ffi::CString;
use std::sync::Arc;
use std::time::Duration;

use fsnap_core::options::OnUnlink;
use fsnap_core::{Error, Gfid, Result};
use fsnap_store::{Catalogue, Change, Entry, Kind, Store};

use super::guard::is_heal;
use super::pool::{Entered, Entrance, Key};
use super::{Brick, State, handles, heal};
use crate::ffi::{Call, Held, Inodes, Mark, Removal, Route, Spot, Ticket};

/// How often a removal looks again because a name has changed hands before it had the right files to itself.
const TRIES: u32 = 8;

/// How long a deleted file keeps its content, at least, and how long until it is looked at again if somebody has it open:
/// what opened it before it was deleted shows in the inode by then.
const GRACE: Duration = Duration::from_secs(2);

/// unlink, rename, rmdir, link: hands the ticket back if there is nothing for us to do.
pub fn remove<'a>(
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
                Ok(to) => link(brick, to, file, ticket),
                Err(error) => ticket.fail(error.errno()),
            }
            None
        }
        Removal::Rmdir { dir, whole_tree, path } => {
            if let (true, Some(path), Ok(false)) = (store.is_used(), path, store.has_handle(dir)) {
                handles::mend(store, &brick.pool, path);
            }
            match may_go(store, dir, whole_tree, healing) {
                Ok(()) => Some(ticket),
                Err(error) => {
                    tracing::warn!("{error}");
                    ticket.fail(error.errno());
                    None
                }
            }
        }
    }
}

/// Passes a link on when nobody is at work on the file or the name: storage/posix notes the name on the file a moment after
/// it has given it, and neither a removal nor a command is to see the file without.
fn link(brick: &Brick, to: Place, file: Gfid, ticket: Ticket<'_>) {
    let (host, keys) = (brick.state.host, vec![to.key(), Key::File(file)]);
    if let Some(entered) = brick.pool.enter(&keys) {
        return ticket.proceed(host, Route::AsGiven, move |_| drop(entered));
    }
    let Some(held) = ticket.hold() else { return };
    let (state, entrance) = (Arc::clone(&brick.state), (*brick.pool).clone());
    brick.pool.submit_short(keys, move |turn| match turn.in_time() {
        Ok(entered) => {
            if let Ok(store) = state.store() {
                // What it finds does not matter, but that there is a way to it.
                let _ = to.entry(store, &entrance);
            }
            held.proceed(host, move |_| {
                drop(entered);
                Vec::new()
            });
        }
        Err(error) => {
            tracing::warn!("no link is made: {error}");
            held.fail(error.errno());
        }
    });
}

/// Whether a directory may be removed; takes an empty `.fsnap` out of its way.
///
/// [`Error::NotEmpty`] (`ENOTEMPTY`) if it holds snapshots.
fn may_go(store: &Store, dir: Gfid, whole_tree: bool, healing: bool) -> Result<()> {
    if whole_tree && healing {
        // The other bricks do not have it, at this place. storage/posix keeps it for some minutes: what has another place
        // comes back from there.
        return Ok(());
    }
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

/// A name in a directory.
#[derive(Clone)]
struct Place {
    parent: Gfid,
    name: CString,
    /// The way to the directory from the brick's root, if the host tells it.
    way: Option<Vec<u8>>,
    /// What the host believes to have it; null if it does not know.
    believed: Gfid,
    /// The host says another place as well, where it is not: see `is_displaced` of ffi. The directory may have no gfid yet: then `parent` is
    /// null.
    displaced: bool,
}

impl Place {
    /// Where storage/posix will look: it goes by the path if there is one. [`Error::NoEntry`] (`ENOENT`, upon which features/trash makes
    /// the directory) if that leads nowhere, or what a system call says.
    fn new(store: &Store, spot: &Spot<'_>, believed: Gfid) -> Result<Self> {
        let (way, last) = split(spot.path);
        let place = Place {
            parent: spot.parent,
            name: spot.name.to_owned(),
            way: way.map(<[u8]>::to_vec),
            believed,
            displaced: false,
        };
        match (way, last.and_then(|last| CString::new(last).ok())) {
            (Some(way), Some(name)) if name != place.name && store.is_used() => {
                let found = store.entry_by_path(way, name.to_bytes());
                found.map_err(|error| if error == Error::Gone { Error::NoEntry } else { error })?;
                let parent = store.dir_at(way).unwrap_or(Gfid::from_bytes([0; 16]));
                Ok(Place { parent, name, displaced: true, ..place })
            }
            _ => Ok(place),
        }
    }

    fn key(&self) -> Key {
        Key::name(self.parent, self.name.to_bytes())
    }

    /// Has self-heal look whether other bricks have a tombstone of `file`, which lost this name.
    fn tombstone_mark(&self, file: Gfid) -> Mark {
        heal::entries_mark(self.parent.snap_dir(), vec![file.tombstone(self.name.to_bytes())])
    }

    /// What has the name on the disk. Where a handle above it is gone it is put back.
    fn entry(&self, store: &Store, entrance: &Entrance) -> Result<Entry> {
        let entry = || store.entry(self.parent, self.name.to_bytes());
        match (entry(), &self.way) {
            (_, Some(way)) if self.displaced => store.entry_by_path(way, self.name.to_bytes()),
            (Err(Error::Gone | Error::Damaged(_)), Some(way)) if handles::mend(store, entrance, way) => {
                entry()
            }
            (found, _) => found,
        }
    }

    /// The same of a name that is to be renamed. [`Error::Gone`] (`ESTALE`, upon which the client looks again) if that is
    /// not what the host believes, or has no gfid yet: storage/posix would move what has the name, and note the new name
    /// on what the host believes in.
    fn believed_entry(&self, store: &Store, entrance: &Entrance) -> Result<Entry> {
        match self.entry(store, entrance)? {
            Entry::Unnamed => Err(Error::Gone),
            Entry::File(gfid) | Entry::Dir(gfid) if gfid != self.believed && !self.believed.is_null() => {
                Err(Error::Gone)
            }
            entry => Ok(entry),
        }
    }

    /// Whether `file`, which has this name, has snapshots. The caller has it to himself: where its handle is gone that is put back
    /// if it has.
    fn has_snapshots(&self, store: &Store, file: Gfid) -> Result<bool> {
        match store.has_snapshots(file) {
            Err(Error::Gone) if store.may_have_snapshots_at(self.parent, self.name.to_bytes())? => {
                self.put_handle_back(store)?;
                store.has_snapshots(file)
            }
            Err(Error::Gone) => Ok(false),
            other => other,
        }
    }

    fn put_handle_back(&self, store: &Store) -> Result<()> {
        store.put_back_at(self.parent, self.name.to_bytes())
    }
}

/// The way to a directory, and the name in it, of a path.
fn split(path: Option<&[u8]>) -> (Option<&[u8]>, Option<&[u8]>) {
    let slash = |path: &[u8]| path.iter().rposition(|&byte| byte == b'/');
    match path.and_then(|path| Some((path, slash(path)?))) {
        Some((path, slash)) => (Some(&path[..slash]), Some(&path[slash + 1..])),
        None => (None, None),
    }
}

/// What an unlink or a rename is about.
#[derive(Clone)]
struct Names {
    /// The name that a rename takes from a file.
    from: Option<Place>,
    /// The name that an unlink takes from a file, or a rename gives to another one.
    to: Place,
    /// DHT's own unlink.
    internal: bool,
    /// Self-heal's.
    healing: bool,
}

/// What has these names, on the disk. Nothing is known of a brick where nobody has snapshots.
#[derive(Default)]
struct Found {
    /// What gets another name.
    moved: Option<Gfid>,
    /// The file that loses a name.
    lost: Option<Gfid>,
    /// The directory that is renamed over.
    replaced: Option<Gfid>,
    /// Both names of a rename are names of one file: it does nothing.
    same: Option<Gfid>,
}

impl Names {
    /// [`Error::NoEntry`] (`ENOENT`) if nothing has the name that is to be taken: something may get it before
    /// storage/posix comes to it. [`Error::Gone`] (`ESTALE`) if the host is mistaken about who has the name, and for a
    /// rename of a name to itself, which storage/posix takes for one over another file: it would remove the handle. (The
    /// client's kernel does nothing for it, once it has looked.)
    fn look(&self, store: &Store, entrance: &Entrance) -> Result<Found> {
        if !store.is_used() {
            return Ok(Found::default());
        }
        if self.from.as_ref().is_some_and(|from| from.key() == self.to.key()) {
            return Err(Error::Gone);
        }
        let from = self.from.as_ref().map(|from| from.believed_entry(store, entrance)).transpose()?;
        let to = self.to.entry(store, entrance)?;
        let moved = match from.unwrap_or(to) {
            Entry::Nothing => return Err(Error::NoEntry),
            Entry::File(gfid) | Entry::Dir(gfid) if from.is_some() => Some(gfid),
            _ => None,
        };
        let (lost, replaced, same) = match to {
            Entry::File(gfid) | Entry::Dir(gfid) if Some(gfid) == moved => (None, None, moved),
            Entry::File(gfid) => (Some(gfid), None, None),
            Entry::Dir(gfid) => (None, moved.and(Some(gfid)), None),
            Entry::Nothing | Entry::Unnamed => (None, None, None),
        };
        Ok(Found { moved, lost, replaced, same })
    }

    /// The same, when the names are ours.
    fn look_and_make_room(&self, store: &Store, entrance: &Entrance) -> Result<Found> {
        let found = self.look(store, entrance)?;
        match found.same.filter(|_| self.healing) {
            None => Ok(found),
            Some(file) => {
                store.make_room_aside(file, self.to.parent, self.to.name.to_bytes())?;
                self.look(store, entrance)
            }
        }
    }

    /// [`Error::NotEmpty`] (`ENOTEMPTY`) if a directory that is renamed over holds snapshots.
    fn check(&self, store: &Store, found: &Found) -> Result<()> {
        found.replaced.map_or(Ok(()), |dir| may_go(store, dir, false, false))
    }

    /// After a rename that did nothing: storage/posix has forgotten a name that the file still has.
    fn remember(&self, state: &State, found: &Found) {
        let (Some(from), Some(file), Ok(store)) = (&self.from, found.same, state.store()) else {
            return;
        };
        if let Err(error) = store.note_name(file, from.parent, from.name.to_bytes()) {
            tracing::error!("noting the name of {file} again: {error}");
        }
    }

    /// After a rename of `file`, which has snapshots: they go with it. Where the host has said the new place by path alone,
    /// storage/posix has noted the wrong one; and where the new directory has no gfid yet, which somebody gives it as soon as it is
    /// looked for, they go later.
    fn bring(&self, state: &Arc<State>, entrance: &Entrance, file: Gfid, tries: u32) {
        let brought = state.store().and_then(|store| {
            let Some((from, way)) =
                self.from.as_ref().zip(self.to.way.as_ref()).filter(|_| self.to.displaced)
            else {
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
            store.note_name(file, parent, self.to.name.to_bytes())?;
            store.forget_name(file, from.parent, self.to.name.to_bytes())?;
            store.follow(file).map(|()| true)
        });
        match brought {
            Ok(false) if entrance.takes_tasks() => {
                let (names, state, again) = (self.clone(), Arc::clone(state), entrance.clone());
                entrance.submit_after(GRACE, vec![Key::File(file)], move |turn| {
                    if let (Ok(_entered), Ok(_change)) = (turn.in_time(), state.begin()) {
                        names.bring(&state, &again, file, tries - 1);
                    }
                });
            }
            Ok(_) => {}
            Err(error) => tracing::error!("moving the snapshots of {file}: {error}"),
        }
    }

    /// After a removal that was not `done`: storage/posix has taken the handle of a directory that was to be renamed, or of a file
    /// that was to go, before it tried, and does not put it back.
    fn mend(&self, state: &State, done: bool) {
        if done {
            return;
        }
        let place = self.from.as_ref().unwrap_or(&self.to);
        if let Err(error) = state.store().and_then(|store| place.put_handle_back(store)) {
            tracing::error!("putting back the handle of what was not removed or renamed: {error}");
        }
    }

    /// As long as these are ours, nobody else gives or takes these names, and no command runs on these files.
    fn keys(&self, files: &[Gfid]) -> Vec<Key> {
        let names = self.from.iter().chain([&self.to]).map(Place::key);
        names.chain(files.iter().filter(|file| !file.is_null()).map(|&file| Key::File(file))).collect()
    }

    /// Says in the log why it was refused.
    fn refused(&self, error: &Error) {
        let Place { parent, name, .. } = &self.to;
        tracing::warn!("{} in directory {parent} stays whose it is: {error}", name.to_bytes().escape_ascii());
    }

    /// What it means that self-heal does this, to the file `lost` or to `moved`, which have snapshots, or to a snapshot.
    fn heal(&self, store: &Store, found: &Found, lost: Option<Gfid>, moved: Option<Gfid>) -> Result<Heal> {
        if self.to.displaced {
            return Ok(Heal::No);
        }
        if store.is_anonymous(self.to.parent)? {
            return Ok(match (lost, moved, &self.from) {
                (None, Some(file), Some(from)) => Heal::PutAside(from.tombstone_mark(file)),
                (Some(lost), ..) if store.is_buried(lost) => Heal::Known,
                (Some(_), ..) => Heal::Gone(None),
                _ => Heal::No,
            });
        }
        if self.from.is_some() {
            return Ok(Heal::No);
        }
        let Some(lost) = lost else { return self.heal_of_snapshot(store, found) };
        let in_snap_dir = self.to.parent.is_derived() && store.entry_in_snap_dir(self.to.parent);
        if in_snap_dir && lost.is_tombstone(self.to.name.to_bytes()) && store.is_deleted(lost) {
            return Ok(Heal::Unburied);
        }
        Ok(match store.is_dispersed(lost)? {
            // It has not looked whether the others have the file under any other name.
            true => Heal::Unsure(heal::dispersed_mark(self.to.parent.snap_dir())),
            false => Heal::Gone(Some(self.to.tombstone_mark(lost))),
        })
    }

    fn heal_of_snapshot(&self, store: &Store, found: &Found) -> Result<Heal> {
        Ok(match found.lost {
            Some(payload) if store.what_is(payload) == Kind::Payload => {
                store.base_of(payload).map_or(Heal::No, |(base, _)| Heal::Snapshot(base))
            }
            _ => Heal::No,
        })
    }

    /// What will be lost, what will follow.
    fn plan(&self, store: &Store, found: &Found) -> Result<Plan> {
        let with_snapshots = |place: &Place, file: Option<Gfid>| match file {
            Some(file) => Ok::<_, Error>(place.has_snapshots(store, file)?.then_some(file)),
            None => Ok(None),
        };
        let moved = self.from.as_ref().map(|from| with_snapshots(from, found.moved)).transpose()?.flatten();
        let lost = with_snapshots(&self.to, found.lost)?;
        // A link file takes the place of the data on this brick because the data that it points to has, on another.
        let too_late = lost.is_some()
            && (self.healing || self.internal || found.moved.is_some_and(|old| store.is_link_file(old)));
        let heal = if self.healing { self.heal(store, found, lost, moved)? } else { Heal::No };
        Ok(Plan { moved, lost, too_late, heal })
    }
}

impl Found {
    fn files(&self) -> Vec<Gfid> {
        self.moved.into_iter().chain(self.lost).collect()
    }

    fn is_within(&self, files: &[Gfid]) -> bool {
        self.files().iter().all(|file| files.contains(file))
    }
}

/// The files with snapshots that an unlink or a rename is about.
struct Plan {
    /// Gets another name.
    moved: Option<Gfid>,
    /// Loses a name.
    lost: Option<Gfid>,
    /// It can't be refused any more: DHT has renamed another file to its name, on another brick, and asks us next. Were
    /// this refused, there would be two files of one name.
    too_late: bool,
    heal: Heal,
}

impl Plan {
    fn is_nothing(&self) -> bool {
        self.moved.is_none() && self.lost.is_none() && matches!(self.heal, Heal::No)
    }
}

/// What it means for a file with snapshots that self-heal takes a name from it.
enum Heal {
    /// Nothing but what it would mean if an application did.
    No,
    /// It was renamed or deleted on the other bricks: if it was deleted, they have a tombstone, which heal has to look for.
    PutAside(Mark),
    /// The same, on a disperse volume: heal has to compare what is in `.fsnap`.
    Unsure(Mark),
    /// The other bricks do not have it: nobody can say whether its snapshots were deleted. If they have a tombstone, heal has
    /// to look for it.
    Gone(Option<Mark>),
    /// It was deleted, as its tombstone tells.
    Known,
    /// It was deleted, and the other bricks have no tombstone of it any more.
    Unburied,
    /// It is a snapshot of this file.
    Snapshot(Gfid),
}

impl Heal {
    /// What self-heal is told when it is done.
    fn marks(self, state: &State) -> Vec<Mark> {
        match self {
            Heal::PutAside(mark) | Heal::Unsure(mark) | Heal::Gone(Some(mark)) => vec![mark],
            // If the catalogue has it, it has to come again.
            Heal::Snapshot(base) => heal::outstanding(state, base).unwrap_or_default(),
            _ => Vec::new(),
        }
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
        match at_once(brick, store, &names, &mut files) {
            Err(error) => {
                names.refused(&error);
                return ticket.fail(error.errno());
            }
            Ok(Next::Pass(found)) => {
                let state = Arc::clone(&brick.state);
                let route = if store.is_used() { Route::ByGfid } else { Route::AsGiven };
                return ticket.proceed(brick.state.host, route, move |done| {
                    names.remember(&state, &found);
                    names.mend(&state, done);
                    drop((entered, change));
                });
            }
            Ok(Next::Prepare) => break,
            Ok(Next::Again) => {}
        }
    }
    let Some(held) = ticket.hold() else { return };
    let job = Job { state: Arc::clone(&brick.state), entrance: (*brick.pool).clone(), names };
    job.wait(files, held, TRIES);
}

/// How a removal goes on.
enum Next {
    /// Past us.
    Pass(Found),
    /// By a worker.
    Prepare,
    /// With other files to itself.
    Again,
}

fn at_once(brick: &Brick, store: &Store, names: &Names, files: &mut Vec<Gfid>) -> Result<Next> {
    let (state, entrance) = (&brick.state, &*brick.pool);
    let found = names.look_and_make_room(store, entrance)?;
    if !found.is_within(files) {
        *files = found.files();
        return Ok(Next::Again);
    }
    names.check(store, &found)?;
    let plan = names.plan(store, &found)?;
    if plan.is_nothing() {
        return Ok(Next::Pass(found));
    }
    allowed(state, &plan)?;
    Ok(Next::Prepare)
}

/// [`Error::HasSnapshots`] (`EBUSY`) if a file with snapshots must not lose its last name.
fn allowed(state: &State, plan: &Plan) -> Result<()> {
    match plan.lost.filter(|_| state.options().on_unlink == OnUnlink::Refuse && !plan.too_late) {
        Some(lost) if state.store()?.is_last_name(lost)? => Err(Error::HasSnapshots),
        _ => Ok(()),
    }
}

/// Whether a worker has what it needs.
enum Ready {
    Now(Found, Plan, Option<Prepared>, Option<Change>),
    /// It should have other files to itself.
    Not(Vec<Gfid>),
}

/// A removal in the hands of a worker.
struct Job {
    state: Arc<State>,
    entrance: Entrance,
    names: Names,
}

impl Job {
    /// Waits until the names and `files` are free.
    fn wait(self, files: Vec<Gfid>, held: Held, tries: u32) {
        let entrance = self.entrance.clone();
        entrance.submit_short(self.names.keys(&files), move |turn| match turn.in_time() {
            Ok(entered) => self.run(entered, &files, held, tries),
            Err(error) => self.refuse(held, &error),
        });
    }

    fn refuse(&self, held: Held, error: &Error) {
        self.names.refused(error);
        held.fail(error.errno());
    }

    fn run(self, entered: Entered, files: &[Gfid], held: Held, tries: u32) {
        match self.prepare(files) {
            Err(error) => self.refuse(held, &error),
            Ok(Ready::Not(others)) => {
                drop(entered);
                match tries.checked_sub(1) {
                    Some(left) => self.wait(others, held, left),
                    None => self.refuse(held, &Error::Renamed),
                }
            }
            Ok(Ready::Now(found, plan, prepared, change)) => {
                let (host, inodes) = (self.state.host, held.inodes());
                held.proceed(host, move |done| {
                    self.names.remember(&self.state, &found);
                    self.names.mend(&self.state, done);
                    self.follow_up(&plan, prepared, done, inodes);
                    let mut marks = if done { plan.heal.marks(&self.state) } else { Vec::new() };
                    if let (true, Some(lost), Some(Prepared::Buried)) = (done, plan.lost, prepared) {
                        marks.extend(self.missed_tombstone(lost));
                    }
                    drop((entered, change));
                    marks
                });
            }
        }
    }

    /// Where self-heal has to look for the tombstone of `lost`, on bricks that are away.
    fn missed_tombstone(&self, lost: Gfid) -> Vec<Mark> {
        let Place { parent, name, .. } = &self.names.to;
        let tombstone = lost.tombstone(name.to_bytes());
        let marks =
            self.state.store().and_then(|store| heal::missed_tombstone(store, *parent, tombstone, lost));
        marks.unwrap_or_else(|error| {
            tracing::error!("self-heal can't be told to look for the tombstone of {lost}: {error}");
            Vec::new()
        })
    }

    fn prepare(&self, files: &[Gfid]) -> Result<Ready> {
        let store = self.state.store()?;
        let change = self.state.begin();
        let found = self.names.look_and_make_room(store, &self.entrance)?;
        if !found.is_within(files) {
            return Ok(Ready::Not(found.files()));
        }
        self.names.check(store, &found)?;
        let plan = self.names.plan(store, &found)?;
        let change = if plan.is_nothing() { change.ok() } else { Some(change?) };
        if let Some(lost) = plan.lost.filter(|_| !self.names.to.displaced) {
            // It may not be noted: see `Names::bring`.
            store.note_name(lost, self.names.to.parent, self.names.to.name.to_bytes())?;
        }
        let prepared = plan.lost.map(|lost| prepare_file(&self.state, store, lost, &plan)).transpose()?;
        Ok(Ready::Now(found, plan, prepared, change))
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
                    if let Some(inodes) = inodes {
                        empty_grave(&self.state, &self.entrance, lost, inodes);
                    }
                }
                _ if done => log("moving the snapshots", lost, store.follow(lost)),
                _ => {}
            }
        }
        if let Some(moved) = plan.moved.filter(|_| done) {
            self.names.bring(&self.state, &self.entrance, moved, TRIES);
        }
    }
}

/// Before a file loses a name. [`Error::HasSnapshots`] (`EBUSY`) if it must not, [`Error::Held`] (`EBUSY`) if a snapshot
/// that is to go with it must not; neither if it is `too_late` for that, then it is buried whatever the policy.
fn prepare_file(state: &State, store: &Store, file: Gfid, plan: &Plan) -> Result<Prepared> {
    if matches!(plan.heal, Heal::Unburied) {
        return store.adopt(file, &Catalogue::default()).map(|()| Prepared::Unburied);
    }
    if !store.is_last_name(file)? {
        return Ok(Prepared::Stays);
    }
    if matches!(plan.heal, Heal::Gone(_)) {
        return store.bury(file).map(|()| Prepared::Disowned);
    }
    let too_late = plan.too_late;
    match state.options().on_unlink {
        // Buried first all the same: the unlink may fail, and then nothing is to be gone.
        OnUnlink::Purge if matches!(plan.heal, Heal::No) => {
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
pub fn opens(brick: &Brick, call: &Call<'_>, file: Gfid, inodes: Inodes) {
    if is_heal(call) && brick.state.store().is_ok_and(|store| store.is_deleted(file)) {
        empty_grave(&brick.state, &brick.pool, file, inodes);
    }
}

/// Takes the content of a deleted file when nobody has it open any more. A brick that ends before does it when it starts
/// again.
fn empty_grave(state: &Arc<State>, entrance: &Entrance, file: Gfid, inodes: Inodes) {
    let (state, again) = (Arc::clone(state), entrance.clone());
    entrance.submit_after(GRACE, vec![Key::File(file)], move |turn| {
        let Ok(store) = state.store() else { return };
        // Deleted for good meanwhile, or brought back.
        if !store.is_deleted(file) {
            return;
        }
        match turn.in_time() {
            Ok(_entered) if !inodes.is_open(file) => {
                // The next one will.
                let Ok(_change) = state.begin() else { return };
                if let Err(error) = store.empty_grave(file) {
                    tracing::error!("emptying the grave of {file}: {error}");
                }
            }
            _ if again.takes_tasks() => empty_grave(&state, &again, file, inodes),
            _ => {}
        }
    });
}
