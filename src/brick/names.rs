//! What an unlink, a rename or a link is about: names, what has them on the disk, and what it means for files with snapshots.

use std::collections::BTreeSet;
use std::ffi::CString;

use fsnap_core::{Error, Gfid, Result};
use fsnap_store::{DirEntry, InodeKind, Store};

use super::pool::{Entrance, Key};
use super::shared::Shared;
use super::{handles, heal, rmdir};
use crate::ffi::{Mark, Spot, is_deep};

/// A name in a directory.
#[derive(Clone)]
pub struct Place {
    pub parent: Gfid,
    pub name: CString,
    /// The way to the directory from the brick's root, if the host tells it.
    pub way: Option<Vec<u8>>,
    /// What the host believes to have it; null if it does not know.
    pub believed: Gfid,
    /// The host says another place as well, where it is not: see `is_displaced` of ffi. The directory may have no gfid yet: then `parent` is
    /// null.
    pub displaced: bool,
}

impl Place {
    /// Where storage/posix will look: it goes by the path if there is one. [`Error::NoEntry`] (`ENOENT`, upon which features/trash makes
    /// the directory) if that leads nowhere, or what a system call says.
    pub fn new(store: &Store, spot: &Spot<'_>, believed: Gfid) -> Result<Self> {
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

    /// Whether it is in directory `parent`, to which the host says that `way` leads.
    fn is_at(&self, parent: Gfid, way: &[u8]) -> bool {
        !self.displaced && self.parent == parent && self.way.as_deref() == Some(way)
    }

    /// Whether storage/posix goes by the path, whatever it is told of the directory.
    fn is_deep(&self) -> bool {
        !self.displaced && self.way.as_ref().is_some_and(|way| is_deep(&[way, &b"/"[..]].concat()))
    }

    pub fn key(&self) -> Key {
        Key::name(self.parent, self.name.to_bytes())
    }

    /// Has self-heal look whether other bricks have a tombstone of `file`, which lost this name.
    fn tombstone_mark(&self, file: Gfid) -> Mark {
        heal::entries_mark(self.parent.snap_dir(), vec![file.tombstone(self.name.to_bytes())])
    }

    /// What has the name on the disk. Where a handle above it is gone it is put back.
    pub fn entry(&self, store: &Store, entrance: &Entrance) -> Result<DirEntry> {
        let entry = || store.entry(self.parent, self.name.to_bytes());
        match (entry(), &self.way) {
            (_, Some(way)) if self.displaced => store.entry_by_path(way, self.name.to_bytes()),
            (Err(Error::Gone | Error::Damaged(_)), Some(way)) if handles::mend(store, entrance, way) => {
                entry()
            }
            (found, _) => found,
        }
    }

    /// The `entry` of a name that is to be renamed. [`Error::Gone`] (`ESTALE`, upon which the client looks again) if that is
    /// not what the host believes, or has no gfid yet: storage/posix would move what has the name, and note the new name
    /// on what the host believes in.
    fn believed_entry(&self, entry: DirEntry) -> Result<DirEntry> {
        match entry {
            DirEntry::Unnamed => Err(Error::Gone),
            DirEntry::File(gfid) | DirEntry::Dir(gfid)
                if gfid != self.believed && !self.believed.is_null() =>
            {
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

    pub fn put_handle_back(&self, store: &Store) -> Result<()> {
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
pub struct Names {
    /// The name that a rename takes from a file.
    pub from: Option<Place>,
    /// The name that an unlink takes from a file, or a rename gives to another one.
    pub to: Place,
    /// DHT's own unlink.
    pub internal: bool,
    /// Self-heal's.
    pub healing: bool,
}

/// What has these names, on the disk. Nothing is known of a brick where nobody has snapshots.
#[derive(Default)]
pub struct OnDisk {
    /// What gets another name.
    pub moved: Option<Gfid>,
    /// The file that loses a name.
    pub lost: Option<Gfid>,
    /// The directory that is renamed over.
    pub replaced: Option<Gfid>,
    /// The deleted files that are kept in that.
    pub kept: BTreeSet<Gfid>,
    /// Both names of a rename are names of one file: it does nothing.
    pub same: Option<Gfid>,
    /// A directory gets another name.
    pub moves_dir: bool,
    /// It was looked at where the path leads, and goes on by that.
    pub by_path: bool,
}

impl Names {
    /// [`Error::NoEntry`] (`ENOENT`) if nothing has the name that is to be taken: something may get it before
    /// storage/posix comes to it. [`Error::Gone`] (`ESTALE`) if the host is mistaken about who has the name, and for a
    /// rename of a name to itself, which storage/posix takes for one over another file: it would remove the handle. (The
    /// client's kernel does nothing for it, once it has looked.)
    fn look(&self, store: &Store, entrance: &Entrance, by_path: bool) -> Result<OnDisk> {
        if !store.is_used() {
            return Ok(OnDisk::default());
        }
        if self.from.as_ref().is_some_and(|from| from.key() == self.to.key()) {
            return Err(Error::Gone);
        }
        let at_path = by_path.then(|| self.entries_at_path(store)).flatten();
        let by_path = at_path.is_some();
        let (from, to) = match at_path {
            Some(found) => found,
            None => {
                let from = self.from.as_ref().map(|from| from.entry(store, entrance)).transpose()?;
                (from, self.to.entry(store, entrance)?)
            }
        };
        let from =
            from.zip(self.from.as_ref()).map(|(entry, from)| from.believed_entry(entry)).transpose()?;
        let moved = match from.unwrap_or(to) {
            DirEntry::Nothing => return Err(Error::NoEntry),
            DirEntry::File(gfid) | DirEntry::Dir(gfid) if from.is_some() => Some(gfid),
            _ => None,
        };
        let (lost, replaced, same) = match to {
            DirEntry::File(gfid) | DirEntry::Dir(gfid) if Some(gfid) == moved => (None, None, moved),
            DirEntry::File(gfid) => (Some(gfid), None, None),
            DirEntry::Dir(gfid) => (None, moved.and(Some(gfid)), None),
            DirEntry::Nothing | DirEntry::Unnamed => (None, None, None),
        };
        let kept = replaced.map(|dir| store.kept_in(dir)).transpose()?.unwrap_or_default();
        let moves_dir = matches!(from, Some(DirEntry::Dir(_)));
        let by_path = by_path && !moves_dir;
        Ok(OnDisk { moved, lost, replaced, kept, same, moves_dir, by_path })
    }

    /// What has the names, if they are in one directory, to which the path leads. (A name in it keeps the directory where it is; that of
    /// another one might be made anew.)
    fn entries_at_path(&self, store: &Store) -> Option<(Option<DirEntry>, DirEntry)> {
        let places = self.from.iter().chain([&self.to]);
        let way = self.to.way.as_ref()?;
        if !places.clone().all(|place| place.is_at(self.to.parent, way)) {
            return None;
        }
        let names: Vec<&[u8]> = places.map(|place| place.name.to_bytes()).collect();
        match store.entries_at(way, self.to.parent, &names)?[..] {
            [from, to] => Some((Some(from), to)),
            [to] => Some((None, to)),
            _ => None,
        }
    }

    /// The same, when the names are ours; `by_path` if the path leads there until it is done: then it may go by that.
    pub fn look_and_make_room(&self, store: &Store, entrance: &Entrance, by_path: bool) -> Result<OnDisk> {
        let found = self.look(store, entrance, by_path)?;
        match found.same.filter(|_| self.healing) {
            None => Ok(found),
            Some(file) => {
                store.make_room_aside(file, self.to.parent, self.to.name.to_bytes())?;
                self.look(store, entrance, by_path)
            }
        }
    }

    /// Whether storage/posix goes by a path here, whatever it is told.
    pub fn are_deep(&self) -> bool {
        self.from.iter().chain([&self.to]).any(Place::is_deep)
    }

    /// Whether the paths that it goes by lead to the right directories; [`Error::Gone`] (`ESTALE`) if not.
    pub fn check_paths(&self, store: &Store) -> Result<()> {
        let mut deep = self.from.iter().chain([&self.to]).filter(|place| place.is_deep());
        let leads = |place: &Place| place.way.as_ref().is_some_and(|way| store.leads_to(way, place.parent));
        if deep.all(leads) { Ok(()) } else { Err(Error::Gone) }
    }

    /// [`Error::NotEmpty`] (`ENOTEMPTY`) if a directory that is renamed over holds snapshots.
    pub fn check(&self, store: &Store, found: &OnDisk) -> Result<()> {
        found.replaced.map_or(Ok(()), |dir| rmdir::may_go(store, dir))
    }

    /// After a rename that did nothing: storage/posix has forgotten a name that the file still has.
    pub fn remember(&self, state: &Shared, found: &OnDisk) {
        let (Some(from), Some(file), Ok(store)) = (&self.from, found.same, state.store()) else {
            return;
        };
        if let Err(error) = store.note_name(file, from.parent, from.name.to_bytes()) {
            tracing::error!("noting the name of {file} again: {error}");
        }
    }

    /// After a removal that was not `done`: storage/posix has taken the handle of a directory that was to be renamed, or of a file
    /// that was to go, before it tried, and does not put it back.
    pub fn mend(&self, state: &Shared, done: bool) {
        if done {
            return;
        }
        let place = self.from.as_ref().unwrap_or(&self.to);
        if let Err(error) = state.store().and_then(|store| place.put_handle_back(store)) {
            tracing::error!("putting back the handle of what was not removed or renamed: {error}");
        }
    }

    /// As long as these are ours, nobody else gives or takes these names, and no command runs on these files.
    pub fn keys(&self, files: &[Gfid]) -> Vec<Key> {
        let names = self.from.iter().chain([&self.to]).map(Place::key);
        names.chain(files.iter().filter(|file| !file.is_null()).map(|&file| Key::File(file))).collect()
    }

    /// Says in the log why it was refused.
    pub fn refused(&self, error: &Error) {
        let Place { parent, name, .. } = &self.to;
        tracing::warn!("{} in directory {parent} stays whose it is: {error}", name.to_bytes().escape_ascii());
    }

    /// What it means that self-heal does this, to the file `lost` or to `moved`, which have snapshots, or to a snapshot.
    fn heal(
        &self,
        store: &Store,
        found: &OnDisk,
        lost: Option<Gfid>,
        moved: Option<Gfid>,
    ) -> Result<HealRemoval> {
        if self.to.displaced {
            return Ok(HealRemoval::No);
        }
        if store.is_anonymous(self.to.parent)? {
            return Ok(match (lost, moved, &self.from) {
                (None, Some(file), Some(from)) => HealRemoval::PutAside(from.tombstone_mark(file)),
                (Some(lost), ..) if store.is_buried(lost) => HealRemoval::Known,
                (Some(_), ..) => HealRemoval::Gone(None),
                _ => HealRemoval::No,
            });
        }
        if self.from.is_some() {
            return Ok(HealRemoval::No);
        }
        let Some(lost) = lost else { return self.heal_of_snapshot(store, found) };
        let in_snap_dir = self.to.parent.is_derived() && store.entry_in_snap_dir(self.to.parent);
        if in_snap_dir && lost.is_tombstone(self.to.name.to_bytes()) && store.is_deleted(lost) {
            return Ok(HealRemoval::Unburied);
        }
        Ok(match store.is_dispersed(lost)? {
            // It has not looked whether the others have the file under any other name.
            true => HealRemoval::Unsure(heal::dispersed_mark(self.to.parent.snap_dir())),
            false => HealRemoval::Gone(Some(self.to.tombstone_mark(lost))),
        })
    }

    fn heal_of_snapshot(&self, store: &Store, found: &OnDisk) -> Result<HealRemoval> {
        Ok(match found.lost {
            Some(payload) if store.what_is(payload) == InodeKind::Payload => {
                store.base_of(payload).map_or(HealRemoval::No, |(base, _)| HealRemoval::Snapshot(base))
            }
            _ => HealRemoval::No,
        })
    }

    /// What will be lost, what will follow.
    pub fn plan(&self, store: &Store, found: &OnDisk) -> Result<Plan> {
        let with_snapshots = |place: &Place, file: Option<Gfid>| match file {
            Some(file) => Ok::<_, Error>(place.has_snapshots(store, file)?.then_some(file)),
            None => Ok(None),
        };
        let moved = self.from.as_ref().map(|from| with_snapshots(from, found.moved)).transpose()?.flatten();
        let lost = with_snapshots(&self.to, found.lost)?;
        // A link file takes the place of the data on this brick because the data that it points to has, on another.
        let too_late = lost.is_some()
            && (self.healing || self.internal || found.moved.is_some_and(|old| store.is_link_file(old)));
        let heal = if self.healing { self.heal(store, found, lost, moved)? } else { HealRemoval::No };
        Ok(Plan { moved, lost, too_late, heal })
    }
}

impl OnDisk {
    pub fn files(&self) -> Vec<Gfid> {
        self.moved.into_iter().chain(self.lost).chain(self.kept.iter().copied()).collect()
    }

    pub fn is_within(&self, files: &[Gfid]) -> bool {
        self.files().iter().all(|file| files.contains(file))
    }
}

/// The files with snapshots that an unlink or a rename is about.
pub struct Plan {
    /// Gets another name.
    pub moved: Option<Gfid>,
    /// Loses a name.
    pub lost: Option<Gfid>,
    /// It can't be refused any more: DHT has renamed another file to its name, on another brick, and asks us next. Were
    /// this refused, there would be two files of one name.
    pub too_late: bool,
    pub heal: HealRemoval,
}

impl Plan {
    pub fn is_nothing(&self) -> bool {
        self.moved.is_none() && self.lost.is_none() && matches!(self.heal, HealRemoval::No)
    }
}

/// What it means for a file with snapshots that self-heal takes a name from it.
pub enum HealRemoval {
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

impl HealRemoval {
    /// What self-heal is told when it is done.
    pub fn marks(self, state: &Shared) -> Vec<Mark> {
        match self {
            HealRemoval::PutAside(mark) | HealRemoval::Unsure(mark) | HealRemoval::Gone(Some(mark)) => {
                vec![mark]
            }
            // If the catalogue has it, it has to come again.
            HealRemoval::Snapshot(base) => heal::outstanding(state, base).unwrap_or_default(),
            _ => Vec::new(),
        }
    }
}
