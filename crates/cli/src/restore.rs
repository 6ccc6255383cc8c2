//! Restoring.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

use fsnap_check::escaped;
use fsnap_core::{SNAP_DIR, SnapName};
use jiff::Timestamp as Moment;
use nix::errno::Errno;

use crate::cluster::{Graphs, Known};
use crate::create::{Wish, create_by};
use crate::entry::{Entry, Owner};
use crate::failure::{Deed, Failure};
use crate::found::Found;
use crate::list::{former, show};
use crate::mount;
use crate::place::Place;
use crate::target::{Deleted, Target, argument};
use crate::text::{self, quoted};
use crate::volume;

/// What the names of snapshots that are taken before a restore begin with.
const BACKUP: &str = "before-restore-";

/// What a refused restore is answered with: nothing was changed.
const REFUSALS: [Errno; 8] = [
    Errno::EAGAIN,
    Errno::EOPNOTSUPP,
    Errno::EACCES,
    Errno::EPERM,
    Errno::EROFS,
    Errno::ENODATA,
    Errno::EINVAL,
    Errno::EBUSY,
];

/// What the caller wants besides.
pub struct Wishes {
    /// Where a deleted file is to be.
    pub to: Option<PathBuf>,
    /// Not to be asked.
    pub yes: bool,
    /// A snapshot of what the file is now.
    pub backup: bool,
}

/// Restores a file, or brings a deleted one back: what is to be said then.
///
/// By way of a private client graph.
pub fn restore(graphs: &Graphs, target: Target, wishes: &Wishes) -> Result<String, Failure> {
    target.file.may_change(Deed::Restore)?;
    let entry = look(graphs, &target)?;
    if let Some(deleted) = &target.deleted {
        return bring_back(graphs, &target, deleted, &entry, wishes);
    }
    if wishes.to.is_some() {
        let why = format!("the file is not deleted: copy the snapshot (cp {})", quoted(&as_file(&target)));
        return Err(Failure::new(&target.typed, why));
    }
    // A snapshot by itself has no snapshots; the volume refuses it if its file is elsewhere.
    let backup = wishes.backup && !target.is_by_itself();
    if !wishes.yes {
        confirm(&target, &entry, None, backup)?;
    }
    let file = &target.file.shown;
    let known = if target.is_by_itself() { None } else { graphs.find(&target.file)? };
    if let Some(known) = &known {
        // Before anything is saved or written out: it may take minutes, and others go on meanwhile.
        known.await_healed(file, &target.name)?;
    }
    let saved = if backup { Some(save(known.as_ref(), &target)?) } else { None };
    let drain = || {
        volume::drain(&target.file.place)
            .map_err(|errno| Failure::of(Deed::Drain, &target.typed, &target.file.place, errno))
    };
    // What is written out later would go into the restored file.
    let drained = (saved.is_none() && !target.is_by_itself()).then(drain).transpose()?;
    let done = match &known {
        None => {
            drop(drained);
            volume::command(&target.file.place, "restore", target.name.as_str()).map(|()| None)
        }
        Some(known) => match known.restore(file, &target.name, drained) {
            Ok(done) => done,
            Err(failure) => return Err(kept(&target, saved, failure)),
        },
    };
    match done {
        Ok(content) => {
            if let Some(content) = content
                && !volume::shows(&target.file.place, content)
            {
                eprintln!(
                    "fsnap: {}: it is restored, but this mount may still show what it was: wait until it does, or mount the volume anew",
                    escaped(&target.typed)
                );
            }
            Ok(told(&target, &entry, saved.as_ref()))
        }
        Err(errno) => Err(refused(&target, errno, saved)),
    }
}

/// A deleted file, to where it was or is to be.
fn bring_back(
    graphs: &Graphs,
    target: &Target,
    deleted: &Deleted,
    entry: &Entry,
    wishes: &Wishes,
) -> Result<String, Failure> {
    let to = match &wishes.to {
        // As mv does it.
        Some(to) if to.is_dir() => to.join(deleted.file.file_name().unwrap_or_default()),
        Some(to) => to.clone(),
        None if deleted.is_cut => {
            let why = "not all of the path that it had is known: give --to PATH";
            return Err(Failure::new(&target.typed, why));
        }
        None => former(&target.file, &deleted.file),
    };
    let Some(name) = to.file_name() else { return Err(Failure::new(&to, "this is not a name for a file")) };
    let shown = mount::parent(&to).to_owned();
    let place = match wishes.to {
        Some(_) => Place::at(&shown),
        // Nobody has typed that path: it is the one that whoever removed the directories left, and may have put links into.
        None => snap_dir_of(target)
            .and_then(|snaps| snaps.above())
            .and_then(|above| above.beneath(Path::new(".").join(mount::parent(&deleted.file)).as_path())),
    };
    let dir = match place {
        Ok(place) => Found { shown, place },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Failure::new(
                &shown,
                "there is no such directory (any more): make it, or give --to PATH",
            ));
        }
        Err(error) if error.raw_os_error() == Some(Errno::ELOOP as i32) => {
            return Err(Failure::new(&shown, "a symbolic link is on the way to it: give --to PATH"));
        }
        Err(error) => return Err(Failure::finding(&shown, error)),
    };
    dir.may_change(Deed::Revive)?;
    if dir.place.below(name).is_ok() {
        return Err(Failure {
            subject: escaped(&to),
            ..Failure::of(Deed::Revive, &to, &dir.place, Errno::EEXIST)
        });
    }
    if !wishes.yes {
        confirm(target, entry, Some(&to), false)?;
    }
    match graphs.bring_back(&target.file, &target.name, &dir, name)? {
        Ok(()) => Ok(format!("{} is back, as of snapshot {}\n", escaped(&to), target.name)),
        Err(errno) => Err(refused(target, errno, None)),
    }
}

/// The `.fsnap` that the snapshot is in.
fn snap_dir_of(target: &Target) -> io::Result<Place> {
    Place::at(mount::parent(&target.file.place.path()?))
}

/// The snapshot; by way of the graph if the mount's answer is `EIO`, which it is on a disperse volume in the midst of heal.
fn look(graphs: &Graphs, target: &Target) -> Result<Entry, Failure> {
    match show(target) {
        Err(failure) if failure.errno == Some(Errno::EIO) && !target.is_by_itself() => {
            let file = &target.file;
            let snapshot = match graphs.find(file)? {
                Some(known) => known.info(&file.shown, &target.name),
                None => {
                    volume::info(&file.place, &target.name).map_err(|errno| file.failed(Deed::Look, errno))
                }
            }?;
            Ok(Entry { owner: Owner::File(target.file.shown.clone()), snapshot })
        }
        other => other,
    }
}

/// Asks on a terminal.
fn confirm(target: &Target, entry: &Entry, to: Option<&Path>, backup: bool) -> Result<(), Failure> {
    if !io::stdin().is_terminal() {
        let why = "nobody can be asked (the input is no terminal): give --yes if it is to be restored";
        return Err(Failure::new(&target.typed, why));
    }
    let (file, created) = (shown(target, entry), text::time(entry.snapshot.created.as_deref()));
    let question = match (to, backup) {
        (Some(to), _) => format!("Bring {} back as of {created}?", escaped(to)),
        (None, true) => format!(
            "Restore {file} to {} of {created}? Stop what uses it first. Its present content is kept as a snapshot.",
            target.name
        ),
        (None, false) => format!(
            "Restore {file} to {} of {created}? Stop what uses it first. Its present content is LOST.",
            target.name
        ),
    };
    let mut answer = String::new();
    let mut stderr = io::stderr();
    let asked = write!(stderr, "{question} [y/N] ")
        .and_then(|()| stderr.flush())
        .and_then(|()| io::stdin().lock().read_line(&mut answer));
    match asked.is_ok() && is_yes(&answer) {
        true => Ok(()),
        false => Err(Failure::new(&target.typed, "not restored, as you wish")),
    }
}

fn is_yes(answer: &str) -> bool {
    ["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str())
}

/// The snapshot to go back to.
fn save(known: Option<&Known>, target: &Target) -> Result<SnapName, Failure> {
    let wish = Wish::Free(format!("{BACKUP}{}", text::name_of(Moment::now())));
    let taken = create_by(known, &target.file, &wish, false).and_then(|entry| {
        let name = SnapName::parse(entry.snapshot.name.as_bytes());
        name.map_err(|why| Failure::new(&target.file.shown, why.to_string()))
    });
    taken.map_err(|failure| Failure {
        text: format!(
            "not restored, because a snapshot of what it is now can't be taken (--no-backup: without): {}",
            failure.text
        ),
        ..failure
    })
}

fn told(target: &Target, entry: &Entry, saved: Option<&SnapName>) -> String {
    let file = shown(target, entry);
    let back = match saved {
        Some(name) => {
            format!("to go back: fsnap restore {}\n", quoted(&argument(&target.file.shown, name.as_str())))
        }
        None => String::new(),
    };
    format!("{file} is restored to {}\n{back}", target.name)
}

fn shown(target: &Target, entry: &Entry) -> String {
    entry.file().unwrap_or_else(|| escaped(&target.typed))
}

/// Says why, and what was saved.
fn refused(target: &Target, errno: Errno, saved: Option<SnapName>) -> Failure {
    let deed = if target.deleted.is_some() { Deed::Revive } else { Deed::Restore };
    let mut failure = Failure::of(deed, &target.typed, &target.file.place, errno);
    if errno == Errno::EOPNOTSUPP {
        let copy = format!(". Copy the snapshot instead: cp {} COPY", quoted(&as_file(target)));
        failure.text.push_str(&copy);
    }
    match REFUSALS.contains(&errno) {
        true => kept(target, saved, failure),
        false => noted(saved, failure),
    }
}

/// Takes back what was saved: nothing has changed.
fn kept(target: &Target, saved: Option<SnapName>, failure: Failure) -> Failure {
    let gone = |name: &SnapName| volume::command(&target.file.place, "delete", name.as_str()).is_ok();
    noted(saved.filter(|name| !gone(name)), failure)
}

fn noted(saved: Option<SnapName>, mut failure: Failure) -> Failure {
    if let Some(name) = saved {
        failure.text.push_str(&format!("; what it was before is kept as snapshot {name}"));
    }
    failure
}

/// Where the snapshot can be read, if it is where snapshots are.
fn as_file(target: &Target) -> PathBuf {
    if target.is_by_itself() {
        return target.file.shown.clone();
    }
    let file = target.file.place.path().unwrap_or_else(|_| target.file.shown.clone());
    let name = argument(file.file_name().unwrap_or_default().as_ref(), target.name.as_str());
    file.with_file_name(SNAP_DIR).join(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        for yes in ["y\n", "Y", " yes \n", "YES"] {
            assert!(is_yes(yes), "{yes:?}");
        }
        for no in ["", "\n", "n\n", "yy", "ye", "yes please"] {
            assert!(!is_yes(no), "{no:?}");
        }
    }

    #[test]
    fn names_of_backups_are_names() {
        SnapName::parse(format!("{BACKUP}{}_257", text::name_of(Moment::MAX)).as_bytes()).unwrap();
    }
}
