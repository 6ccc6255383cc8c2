//! Finding snapshots.

use std::ffi::{OsStr, OsString};
use std::fs::{self, FileType};
use std::path::{Path, PathBuf};

use fsnap_core::SNAP_DIR;
use nix::errno::Errno;

use crate::entry::{Entry, Owner};
use crate::failure::{Deed, Failure};
use crate::found::Found;
use crate::mount;
use crate::place::{Place, is_snap_dir};
use crate::target::{Deleted, Named, Target, above};
use crate::volume::{self, Snapshot};

/// What was found, and what could not be looked at.
#[derive(Default)]
pub struct Listed {
    /// The snapshots.
    pub entries: Vec<Entry>,
    /// The failures.
    pub failures: Vec<Failure>,
}

impl Listed {
    /// Adds what there is of a file or a directory, `deep` with all directories below.
    pub fn add(&mut self, path: &Path, deep: bool) {
        if let Err(failure) = self.try_add(path, deep) {
            self.failures.push(failure);
        }
    }

    fn try_add(&mut self, path: &Path, deep: bool) -> Result<(), Failure> {
        let found = Found::at(path)?;
        let real = found.place.path().map_err(|error| Failure::finding(path, error))?;
        if found.place.is_dir() {
            works(&found)?;
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
            self.add_file(&found)?;
        }
        Ok(())
    }

    fn add_file(&mut self, file: &Found) -> Result<(), Failure> {
        let snapshots = volume::list(&file.place).map_err(|errno| file.failed(Deed::Look, errno))?;
        let entry = |snapshot| Entry { owner: Owner::File(file.shown.clone()), snapshot };
        self.entries.extend(snapshots.into_iter().map(entry));
        Ok(())
    }

    /// A path in `.fsnap`: all snapshots of the file beside it, if it is that file's; else this one.
    fn add_snapshot(&mut self, path: &Path) -> Result<(), Failure> {
        let named = Named::parse(path.into()).map_err(|why| Failure::new(path, why))?;
        let target = Target::resolve(named, true)?;
        if !target.is_by_itself() {
            return self.add_file(&target.file);
        }
        self.entries.push(show(&target)?);
        Ok(())
    }

    /// The files in a directory, and those that were; `deep`: those below as well, on the same mount.
    fn add_dir(&mut self, dir: &Found, deep: bool) {
        let Some(names) = self.names(dir) else { return };
        for (name, _) in names.iter().filter(|(_, kind)| kind.is_file()) {
            let Some(file) = self.below(dir, name) else { continue };
            // It was replaced while we looked.
            if !file.place.is_regular() {
                continue;
            }
            if let Err(failure) = self.add_file(&file) {
                // It went away.
                self.fail_unless(failure, &[Errno::ENOENT, Errno::ESTALE]);
            }
        }
        self.add_deleted(dir);
        if !deep {
            return;
        }
        for (name, _) in names.iter().filter(|(name, kind)| kind.is_dir() && name != SNAP_DIR) {
            if let Some(below) = self.below(dir, name).filter(|below| below.place.is_dir()) {
                self.add_dir(&below, true);
            }
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

    /// What lies in `.fsnap` of files that were deleted.
    fn add_deleted(&mut self, dir: &Found) {
        // Who may not list the directory has no .fsnap in it, nor has anybody with option browse off.
        let Ok(place) = dir.place.below(SNAP_DIR.as_ref()) else { return };
        let snap_dir = Found { shown: dir.shown.join(SNAP_DIR), place };
        for (name, _) in self.names(&snap_dir).unwrap_or_default() {
            let Some(deleted) = Deleted::parse(&name) else { continue };
            let Some(Found { shown: path, place }) = self.below(&snap_dir, &name) else { continue };
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
    }

    /// The names in a directory, sorted.
    fn names(&mut self, dir: &Found) -> Option<Vec<(OsString, FileType)>> {
        let shown = if dir.shown.as_os_str().is_empty() { Path::new(".") } else { &dir.shown };
        let read = fs::read_dir(dir.place.by_descriptor()).and_then(|entries| {
            entries.map(|entry| entry.and_then(|e| Ok((e.file_name(), e.file_type()?)))).collect()
        });
        let mut names: Vec<(OsString, FileType)> =
            read.map_err(|error| self.failures.push(Failure::finding(shown, error))).ok()?;
        names.sort_by(|(one, _), (other, _)| one.cmp(other));
        Some(names)
    }

    fn fail_unless(&mut self, failure: Failure, harmless: &[Errno]) {
        if !failure.errno.is_some_and(|errno| harmless.contains(&errno)) {
            self.failures.push(failure);
        }
    }
}

/// Whether questions are answered at all: otherwise all files would be refused, one by one.
fn works(dir: &Found) -> Result<(), Failure> {
    match volume::status(&dir.place) {
        Ok(status) if status.options.get("enabled") == Some(&false.into()) => Err(Errno::EOPNOTSUPP),
        Ok(_) => Ok(()),
        Err(errno) => Err(errno),
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
