//! Finding snapshots.

use std::ffi::{OsStr, OsString};
use std::fs::{self, FileType};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use fsnap_core::SNAP_DIR;
use nix::errno::Errno;

use crate::entry::{Entry, Owner};
use crate::failure::{Deed, Failure};
use crate::mount::{self, MountPath};
use crate::target::{Deleted, Named, Target, above, snap_dir};
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
        let place = MountPath::of(path).map_err(|error| Failure::finding(path, error))?;
        let meta = fs::metadata(path).map_err(|error| Failure::finding(path, error))?;
        if meta.is_dir() {
            works(path)?;
            // What is in "." is shown without a "./".
            let dir = match mount::is_snap_dir(&place.path) {
                true => above(&path.join("any"), &place.path),
                false if path == Path::new(".") => PathBuf::new(),
                false => path.to_owned(),
            };
            self.add_dir(&dir, deep.then_some(meta.dev()));
        } else if place.path.parent().is_some_and(mount::is_snap_dir) {
            self.add_snapshot(path)?;
        } else {
            self.add_file(path)?;
        }
        Ok(())
    }

    fn add_file(&mut self, file: &Path) -> Result<(), Failure> {
        let snapshots = volume::list(file).map_err(|errno| Failure::of(Deed::Look, file, file, errno))?;
        let entry = |snapshot| Entry { owner: Owner::File(file.to_owned()), snapshot };
        self.entries.extend(snapshots.into_iter().map(entry));
        Ok(())
    }

    /// A path in `.fsnap`: all snapshots of the file beside it, if it is that file's; else this one.
    fn add_snapshot(&mut self, path: &Path) -> Result<(), Failure> {
        let named = Named::parse(path.into()).map_err(|why| Failure::new(path, why))?;
        let target = Target::resolve(named)?;
        if !target.is_by_itself() {
            return self.add_file(&target.file);
        }
        self.entries.push(show(target)?);
        Ok(())
    }

    /// The files in a directory, and those that were. `device`: those below as well, if they are on it.
    fn add_dir(&mut self, dir: &Path, device: Option<u64>) {
        let Some(names) = self.names(dir) else { return };
        for (name, _) in names.iter().filter(|(_, kind)| kind.is_file()) {
            if let Err(failure) = self.add_file(&dir.join(name)) {
                // It went away while we looked.
                self.fail_unless(failure, &[Errno::ENOENT, Errno::ESTALE]);
            }
        }
        self.add_deleted(dir);
        let Some(device) = device else { return };
        for (name, _) in names.iter().filter(|(name, kind)| kind.is_dir() && name != SNAP_DIR) {
            let below = dir.join(name);
            if fs::symlink_metadata(&below).is_ok_and(|meta| meta.dev() == device) {
                self.add_dir(&below, Some(device));
            }
        }
    }

    /// What lies in `.fsnap` of files that were deleted.
    fn add_deleted(&mut self, dir: &Path) {
        let snap_dir = snap_dir(dir);
        // Who may not list the directory has no .fsnap in it, nor has anybody with option browse off.
        if fs::symlink_metadata(&snap_dir).is_err() {
            return;
        }
        for (name, _) in self.names(&snap_dir).unwrap_or_default() {
            let Some(deleted) = Deleted::parse(&name) else { continue };
            let path = snap_dir.join(&name);
            match snapshot_of(&path, &deleted) {
                Ok(Some(snapshot)) => {
                    let owner = Owner::Deleted { file: dir.join(&deleted.file), path };
                    self.entries.push(Entry { owner, snapshot });
                }
                Ok(None) => {}
                Err(errno) => {
                    let failure = Failure::of(Deed::Look, &path, &path, errno);
                    // Not a snapshot, or gone.
                    self.fail_unless(failure, &[Errno::ENOENT, Errno::ESTALE, Errno::ENODATA, Errno::EINVAL]);
                }
            }
        }
    }

    /// The names in a directory, sorted.
    fn names(&mut self, dir: &Path) -> Option<Vec<(OsString, FileType)>> {
        let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
        let read = fs::read_dir(dir).and_then(|entries| {
            entries.map(|entry| entry.and_then(|e| Ok((e.file_name(), e.file_type()?)))).collect()
        });
        let mut names: Vec<(OsString, FileType)> =
            read.map_err(|error| self.failures.push(Failure::finding(dir, error))).ok()?;
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
fn works(dir: &Path) -> Result<(), Failure> {
    match volume::status(dir) {
        Ok(status) if status.options.get("enabled") == Some(&false.into()) => Err(Errno::EOPNOTSUPP),
        Ok(_) => Ok(()),
        Err(errno) => Err(errno),
    }
    .map_err(|errno| Failure::of(Deed::Look, dir, dir, errno))
}

/// The snapshot at `path`, if it is one of a deleted file; a file that is there may have one of such a name.
fn snapshot_of(path: &Path, deleted: &Deleted) -> Result<Option<Snapshot>, Errno> {
    let snapshot = volume::info(path, &deleted.name)?;
    let own = volume::gfid(path)?.to_string();
    Ok(Some(snapshot).filter(|snapshot| snapshot.gfid.as_ref() == Some(&own)))
}

/// One snapshot.
pub fn show(target: Target) -> Result<Entry, Failure> {
    let snapshot = volume::info(&target.file, &target.name)
        .map_err(|errno| Failure::of(Deed::Look, &target.typed, &target.file, errno))?;
    let by_itself = target.is_by_itself();
    let Target { file, deleted, .. } = target;
    let owner = match deleted {
        Some(deleted) => Owner::Deleted { file: former(&file, &deleted.file), path: file },
        None if by_itself => Owner::Elsewhere(file),
        None => Owner::File(file),
    };
    Ok(Entry { owner, snapshot })
}

/// The path that the file of a snapshot in `.fsnap` had.
fn former(snapshot: &Path, file: &OsStr) -> PathBuf {
    let dir = fs::canonicalize(mount::parent(snapshot)).unwrap_or_default();
    above(snapshot, &dir).join(file)
}
