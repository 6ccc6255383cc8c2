//! Finding snapshots.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, DirEntry, FileType};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use fsnap_check::{Progress, escaped};
use fsnap_core::{SNAP_DIR, SnapName};
use nix::errno::Errno;
use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::entry::{Entry, Owner};
use crate::failure::{Deed, Failure};
use crate::found::Found;
use crate::mount;
use crate::place::{Place, is_snap_dir};
use crate::target::{Deleted, Named, Target, above};
use crate::volume::{self, Snapshot, Status};

/// What was found, and what could not be looked at.
#[derive(Default)]
pub struct Listed {
    /// The snapshots.
    pub entries: Vec<Entry>,
    /// The failures.
    pub failures: Vec<Failure>,
}

/// A file with a longer name has snapshots whose names there would be too long: they stay where they were.
const LONGEST: usize = 255 - "@".len() - SnapName::MAX;
/// So many files are asked at once: each waits for its bricks.
const AT_ONCE: usize = 8;

/// Who looks for snapshots.
pub struct Lister {
    listed: Listed,
    /// Whether `.fsnap` is hidden here (option `browse`).
    hidden: bool,
    /// Whether more than one brick has a file: then one may list `.fsnap` that has yet to be healed.
    copies: bool,
    /// Nothing if there may be no more threads.
    pool: Option<ThreadPool>,
    progress: Progress,
    /// How many files it has been through.
    files: AtomicUsize,
}

/// An entry of a directory.
struct Name {
    name: OsString,
    kind: FileType,
    /// Whether it is a file with other names.
    shared: bool,
}

/// What is in the `.fsnap` of a directory.
enum Snapshots {
    /// These are, in this directory.
    Are(Found, Vec<Name>),
    /// There is none.
    None,
    /// That can't be told: each file has to be asked.
    Unknown,
}

impl Snapshots {
    fn names(&self) -> impl Iterator<Item = &OsStr> {
        let names = if let Snapshots::Are(_, names) = self { &names[..] } else { &[] };
        names.iter().map(|name| name.name.as_os_str())
    }
}

impl Lister {
    /// One that has found nothing yet.
    pub fn new() -> Lister {
        let pool = ThreadPoolBuilder::new().num_threads(AT_ONCE).build().ok();
        Lister {
            listed: Listed::default(),
            hidden: false,
            copies: false,
            pool,
            progress: Progress::new(),
            files: AtomicUsize::new(0),
        }
    }

    /// What it has found.
    pub fn listed(self) -> Listed {
        self.listed
    }

    /// Adds what there is of a file or a directory, `deep` with all directories below.
    pub fn add(&mut self, path: &Path, deep: bool) {
        if let Err(failure) = self.try_add(path, deep) {
            self.listed.failures.push(failure);
        }
    }

    fn try_add(&mut self, path: &Path, deep: bool) -> Result<(), Failure> {
        let found = Found::at(path)?;
        let real = found.place.path().map_err(|error| Failure::finding(path, error))?;
        if found.place.is_dir() {
            let status = works(&found)?;
            self.hidden = status.options.get("browse") == Some(&false.into());
            self.copies = status.r#type.as_deref() != Some("distribute");
            let finding = |error| Failure::finding(path, error);
            let Found { shown, mut place } = found;
            // What is in "." is shown without a "./".
            let shown = match is_snap_dir(&real) {
                true => {
                    place = place.above().map_err(finding)?;
                    above(&path.join("any"), &real)
                }
                false if path == Path::new(".") => PathBuf::new(),
                false => shown,
            };
            self.add_dir(&Found { shown, place }, deep);
        } else if real.parent().is_some_and(is_snap_dir) {
            self.add_snapshot(path)?;
        } else {
            self.listed.entries.extend(of_file(&found)?);
        }
        Ok(())
    }

    /// A path in `.fsnap`: all snapshots of the file beside it, if it is that file's; else this one.
    fn add_snapshot(&mut self, path: &Path) -> Result<(), Failure> {
        let named = Named::parse(path.into()).map_err(|why| Failure::new(path, why))?;
        let target = Target::resolve(named, true)?;
        let found = if target.is_by_itself() { vec![show(&target)?] } else { of_file(&target.file)? };
        self.listed.entries.extend(found);
        Ok(())
    }

    /// The files in a directory, and those that were; `deep`: those below as well, on the same mount.
    fn add_dir(&mut self, dir: &Found, deep: bool) {
        let Some(names) = self.listed.names(dir, true) else { return };
        let snapshots = self.snapshots(dir);
        let with: HashSet<&[u8]> = snapshots.names().filter_map(file_of).collect();
        let may_have = |name: &&Name| {
            let bytes = name.name.as_bytes();
            let unknown = self.copies || matches!(snapshots, Snapshots::Unknown);
            let elsewhere = unknown || name.shared || bytes.len() > LONGEST;
            name.kind.is_file() && (elsewhere || with.contains(bytes))
        };
        let asked: Vec<&OsStr> = names.iter().filter(may_have).map(|name| name.name.as_os_str()).collect();
        let files = names.iter().filter(|name| name.kind.is_file()).count();
        let is_through = |more: usize| {
            let files = self.files.fetch_add(more, Ordering::Relaxed) + more;
            let snapshots = self.listed.entries.len();
            if deep {
                self.progress
                    .tells(|| format!("{files} files, {snapshots} snapshots, {}", escaped(&dir.shown)));
            }
        };
        is_through(files - asked.len());
        let ask = |name: &OsStr| {
            let mut listed = Listed::default();
            listed.add_file_of(dir, name);
            is_through(1);
            listed
        };
        let found: Vec<Listed> = match &self.pool {
            Some(pool) => pool.install(|| asked.par_iter().map(|name| ask(name)).collect()),
            None => asked.iter().map(|name| ask(name)).collect(),
        };
        found.into_iter().for_each(|found| self.listed.extend(found));
        if let Snapshots::Are(snap_dir, names) = &snapshots {
            names.iter().for_each(|name| self.listed.add_deleted(dir, snap_dir, &name.name));
        }
        drop(snapshots);
        if !deep {
            return;
        }
        for name in names.iter().filter(|name| name.kind.is_dir() && name.name != SNAP_DIR) {
            let below = self.listed.below(dir, &name.name);
            if let Some(below) = below.filter(|below| below.place.is_dir()) {
                self.add_dir(&below, true);
            }
        }
    }

    /// What is in the `.fsnap` of a directory.
    fn snapshots(&mut self, dir: &Found) -> Snapshots {
        match dir.place.below(SNAP_DIR.as_ref()) {
            Ok(place) => {
                let snap_dir = Found { shown: dir.shown.join(SNAP_DIR), place };
                let names = self.listed.names(&snap_dir, false);
                names.map_or(Snapshots::Unknown, |names| Snapshots::Are(snap_dir, names))
            }
            Err(error) if error.kind() == ErrorKind::NotFound && !self.hidden => Snapshots::None,
            Err(_) => Snapshots::Unknown,
        }
    }
}

impl Listed {
    fn extend(&mut self, other: Listed) {
        self.entries.extend(other.entries);
        self.failures.extend(other.failures);
    }

    /// The file `name` in a directory.
    fn add_file_of(&mut self, dir: &Found, name: &OsStr) {
        // It may be replaced while we look.
        let Some(file) = self.below(dir, name).filter(|file| file.place.is_regular()) else { return };
        match of_file(&file) {
            Ok(entries) => self.entries.extend(entries),
            // It went away.
            Err(failure) => self.fail_unless(failure, &[Errno::ENOENT, Errno::ESTALE]),
        }
    }

    /// What is in a directory under `name`; nothing if it has gone, or something else is mounted there.
    fn below(&mut self, dir: &Found, name: &OsStr) -> Option<Found> {
        let shown = dir.shown.join(name);
        match dir.place.below(name) {
            Ok(place) => Some(Found { shown, place }),
            Err(error) => {
                let failure = Failure::finding(&shown, error);
                self.fail_unless(failure, &[Errno::ENOENT, Errno::ESTALE, Errno::EXDEV]);
                None
            }
        }
    }

    /// What lies in the `.fsnap` of directory `dir` under `name`, if it is of a file that was deleted.
    fn add_deleted(&mut self, dir: &Found, snap_dir: &Found, name: &OsStr) {
        let Some(deleted) = Deleted::parse(name) else { return };
        let Some(Found { shown: path, place }) = self.below(snap_dir, name) else { return };
        match snapshot_of(&place, &deleted) {
            Ok(Some(snapshot)) => {
                let owner = Owner::Deleted { file: dir.shown.join(&deleted.file), path };
                self.entries.push(Entry { owner, snapshot });
            }
            Ok(None) => {}
            Err(errno) => {
                let failure = Failure::of(Deed::Look, &path, &place, errno);
                // Not a snapshot, or gone.
                self.fail_unless(failure, &[Errno::ENOENT, Errno::ESTALE, Errno::ENODATA, Errno::EINVAL]);
            }
        }
    }

    /// The entries of a directory, by name; `asked` whether they are files with other names.
    fn names(&mut self, dir: &Found, asked: bool) -> Option<Vec<Name>> {
        let shown = if dir.shown.as_os_str().is_empty() { Path::new(".") } else { &dir.shown };
        let name = |entry: DirEntry| {
            let kind = entry.file_type()?;
            // If that can't be told it is asked, and what is wrong is told then.
            let shared = asked && kind.is_file() && entry.metadata().map_or(true, |file| file.nlink() > 1);
            Ok(Name { name: entry.file_name(), kind, shared })
        };
        let read = fs::read_dir(dir.place.by_descriptor())
            .and_then(|entries| entries.map(|entry| entry.and_then(name)).collect());
        let mut names: Vec<Name> =
            read.map_err(|error| self.failures.push(Failure::finding(shown, error))).ok()?;
        names.sort_by(|one, other| one.name.cmp(&other.name));
        Some(names)
    }

    fn fail_unless(&mut self, failure: Failure, harmless: &[Errno]) {
        if !failure.errno.is_some_and(|errno| harmless.contains(&errno)) {
            self.failures.push(failure);
        }
    }
}

fn of_file(file: &Found) -> Result<Vec<Entry>, Failure> {
    let snapshots = volume::list(&file.place).map_err(|errno| file.failed(Deed::Look, errno))?;
    let entry = |snapshot| Entry { owner: Owner::File(file.shown.clone()), snapshot };
    Ok(snapshots.into_iter().map(entry).collect())
}

/// The file that a snapshot of this name in `.fsnap` is of, as long as that has its name.
fn file_of(snapshot: &OsStr) -> Option<&[u8]> {
    let bytes = snapshot.as_bytes();
    bytes.iter().rposition(|&byte| byte == b'@').map(|at| &bytes[..at])
}

/// Whether questions are answered at all: otherwise all files would be refused, one by one.
fn works(dir: &Found) -> Result<Status, Failure> {
    match volume::status(&dir.place) {
        Ok(status) if status.options.get("enabled") == Some(&false.into()) => Err(Errno::EOPNOTSUPP),
        answered => answered,
    }
    .map_err(|errno| dir.failed(Deed::Look, errno))
}

/// The snapshot at `place`, if it is one of a deleted file; a file that is there may have one of such a name.
fn snapshot_of(place: &Place, deleted: &Deleted) -> Result<Option<Snapshot>, Errno> {
    let snapshot = volume::info(place, &deleted.name)?;
    let own = volume::gfid(place)?.to_string();
    Ok(Some(snapshot).filter(|snapshot| snapshot.gfid.as_ref() == Some(&own)))
}

/// One snapshot.
pub fn show(target: &Target) -> Result<Entry, Failure> {
    let Target { typed, file, name, deleted } = target;
    let snapshot = volume::info(&file.place, name)
        .map_err(|errno| Failure::of(Deed::Look, typed, &file.place, errno))?;
    let shown = file.shown.clone();
    let owner = match deleted {
        Some(deleted) => Owner::Deleted { file: former(file, &deleted.file), path: shown },
        None if target.is_by_itself() => Owner::Elsewhere(shown),
        None => Owner::File(shown),
    };
    Ok(Entry { owner, snapshot })
}

/// The path that the file of a snapshot in `.fsnap` had.
pub fn former(snapshot: &Found, file: &Path) -> PathBuf {
    let real = snapshot.place.path().unwrap_or_default();
    above(&snapshot.shown, mount::parent(&real)).join(file)
}
