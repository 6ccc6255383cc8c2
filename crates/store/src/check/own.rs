//! fsnap's own directory, `.glusterfs/fsnap`, opened without making anything in it.

use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fsnap_core::record::Intent;
use fsnap_core::{Error, Gfid, LastPlace, Result};
use nix::errno::Errno;
use nix::fcntl::readlinkat;
use nix::sys::stat::FileStat;

use super::payload::At;
use super::{Finds, Fix, ProblemKind, Scan, Subject};
use crate::adopt;
use crate::brick::{Access, BrickDir, GLUSTERFS};
use crate::grave;
use crate::intent::read_intent;
use crate::reserve;
use crate::state::{self, UNFINISHED, base_in, has_format};
use crate::sys::{self, DIR, Doing, open_in};

/// What is in quarantine for longer can be discarded.
const KEEP: Duration = Duration::from_secs(24 * 3600);
/// A restore that takes longer on a running brick is worth a look.
const PATIENCE: Duration = Duration::from_secs(60);
const ENTRIES: [&str; 8] =
    ["format", "armed", "awaited", "pending", "buried", "intents", "lost", reserve::NAME];

/// What is there of it.
pub(super) struct Own {
    /// Whether a store would take it for whole.
    complete: bool,
    dir: Option<File>,
    awaited: Option<File>,
    pending: Option<File>,
    buried: Option<File>,
    intents: Option<File>,
    lost: Option<File>,
    reserve: Option<File>,
    /// What should be a directory and is none.
    odd: Vec<PathBuf>,
}

impl Own {
    /// [`Error::Unsupported`] if another version of fsnap has written it.
    pub(super) fn open(brick: &BrickDir) -> Result<Self> {
        let mut odd = Vec::new();
        let mut open = |dir: &File, name: &str, path: PathBuf| match open_in(dir, name, DIR) {
            Ok(dir) => Ok(Some(dir)),
            Err(Errno::ENOENT) => Ok(None),
            Err(Errno::ENOTDIR | Errno::ELOOP) => {
                odd.push(path);
                Ok(None)
            }
            Err(e) => Err(e).doing("open a directory of .glusterfs/fsnap"),
        };
        let dir = open(&brick.glusterfs, state::NAME, path(""))?;
        let mut sub = |name: &str| match &dir {
            Some(dir) => open(dir, name, path(name)),
            None => Ok(None),
        };
        let [awaited, pending, buried, intents, lost, reserve] =
            ["awaited", "pending", "buried", "intents", "lost", reserve::NAME].map(&mut sub);
        let complete = match &dir {
            Some(dir) => has_format(dir)?,
            None => false,
        };
        Ok(Own {
            complete,
            awaited: awaited?,
            pending: pending?,
            buried: buried?,
            intents: intents?,
            lost: lost?,
            reserve: reserve?,
            dir,
            odd,
        })
    }

    /// Removes for good what is in quarantine.
    pub(super) fn discard(&self, name: &[u8]) -> Result<()> {
        self.lost.as_ref().map_or(Ok(()), |lost| sys::unlink_in(lost, name))
    }

    /// All that is in it.
    pub(super) fn subjects(&self) -> Result<Vec<Subject>> {
        let mut subjects = Vec::new();
        let mut add = |dir: &Option<File>, subject: fn(Vec<u8>) -> Subject| -> Result<()> {
            let names = dir.as_ref().map_or(Ok(Vec::new()), sys::names_in)?;
            subjects.extend(names.into_iter().map(subject));
            Ok(())
        };
        add(&self.dir, Subject::OwnEntry)?;
        add(&self.awaited, Subject::Note)?;
        add(&self.pending, Subject::Pending)?;
        add(&self.buried, Subject::Buried)?;
        add(&self.intents, Subject::Intent)?;
        add(&self.lost, Subject::Lost)?;
        add(&self.reserve, Subject::Reserved)?;
        Ok(subjects)
    }

    /// What the note of a payload says; nothing if it is no symlink.
    pub(super) fn note(&self, payload: Gfid) -> Result<Option<Vec<u8>>> {
        let Some(dir) = &self.awaited else { return Ok(None) };
        match readlinkat(dir, payload.to_string().as_str()) {
            Ok(text) => Ok(Some(text.as_bytes().to_vec())),
            Err(Errno::ENOENT) => Ok(None),
            Err(Errno::EINVAL) => Ok(Some(Vec::new())),
            Err(e) => Err(e).doing("read a note"),
        }
    }

    /// For how long self-heal is to bring `payload`, a snapshot of `base`; `None` if that is not noted.
    pub(super) fn awaited_for(&self, payload: Gfid, base: Gfid) -> Option<Duration> {
        let note = base_in(&self.note(payload).ok()??)?;
        let stat = stat_of(&self.awaited, payload.to_string().as_bytes())?;
        (note == base).then(|| age(Duration::from_secs(stat.st_ctime.unsigned_abs())))
    }

    /// Where the deleted file `base` was, if it is noted. [`Error::Damaged`] if the note can't be read.
    pub(super) fn buried_at(&self, base: Gfid) -> Result<Option<LastPlace>> {
        self.buried.as_ref().map_or(Ok(None), |dir| state::read_buried(dir, base))
    }

    /// Whether a restore of `base` was begun. True also if it can't be told.
    pub(super) fn has_intent(&self, base: Gfid) -> bool {
        has(&self.intents, base)
    }

    /// Whether `payload` is about to enter the catalogue or to leave it. True also if it can't be told.
    pub(super) fn is_pending(&self, payload: Gfid) -> bool {
        has(&self.pending, payload)
    }
}

fn has(dir: &Option<File>, gfid: Gfid) -> bool {
    let Some(dir) = dir else { return false };
    !matches!(sys::stat_in(dir, gfid.to_string().as_str()), Ok(None))
}

impl Scan<'_> {
    pub(super) fn own_dir(&self, finds: &mut Finds) {
        for path in &self.own.odd {
            let text = "this is to be a directory: move away what is there; fsnap does not work on this \
                     brick until then";
            finds.add(ProblemKind::Unreadable, path, None, text, None);
        }
        let used = !self.tree.claimed.is_empty() || !self.tree.payloads.is_empty();
        if used && !self.own.complete && self.own.odd.is_empty() {
            let text = "there are snapshots, but this directory is missing or has no file \"format\": fsnap \
                     takes the brick for one without snapshots and does not keep those of files that are \
                     deleted or renamed. Repair makes it";
            finds.add(ProblemKind::StateMissing, &path(""), None, text, Some(Fix::MakeState));
        }
    }

    pub(super) fn own_entry(&self, name: &[u8], finds: &mut Finds) {
        let Some(stat) = stat_of(&self.own.dir, name) else { return };
        if ENTRIES.iter().any(|known| known.as_bytes() == name) {
            return;
        }
        let path = join("", name);
        if name.starts_with(UNFINISHED.as_bytes()) && sys::kind(&stat) == libc::S_IFDIR {
            let text = "an unfinished directory, left by a crash: the next start of the brick, or repair, \
                     removes it";
            finds.add(ProblemKind::Leftover, &path, None, text, Some(Fix::Sweep(name.to_vec())));
        } else {
            self.alien(&path, finds);
        }
    }

    pub(super) fn reserved(&self, name: &[u8], finds: &mut Finds) {
        if stat_of(&self.own.reserve, name)
            .is_some_and(|stat| !reserve::is_piece(name) || sys::kind(&stat) != libc::S_IFREG)
        {
            self.alien(&join(reserve::NAME, name), finds);
        }
    }

    pub(super) fn note(&self, name: &[u8], finds: &mut Finds) {
        let path = join("awaited", name);
        let Some(stat) = stat_of(&self.own.awaited, name) else { return };
        let Some(gfid) = gfid_of(name).filter(|_| sys::kind(&stat) == libc::S_IFLNK) else {
            return self.alien(&path, finds);
        };
        let look = |finds: &mut Finds| -> Result<bool> {
            let base = self.own.note(gfid)?.and_then(|text| base_in(&text));
            if let Some(base) = base
                && !matches!(adopt::record_of(self.brick, base, gfid), Ok(None))
            {
                return Ok(false);
            }
            // One that the walk has not met has only its handle.
            if let Ok(inode) = self.brick.open_file(gfid, Access::Read)
                && !self.tree.payloads.contains_key(&gfid)
                && inode.has_record()?
            {
                let at = At { file: &inode.file, stat: &inode.stat, path: &gfid.handle(), dir: None };
                self.payload(&at, &crate::xattrs::XattrNames::of(at.file)?, finds)?;
            }
            Ok(true)
        };
        match look(finds) {
            Ok(true) => {
                let text = "a note that self-heal is to bring a snapshot that no catalogue has: harmless; repair removes it";
                finds.add(ProblemKind::NoteStale, &path, Some(gfid), text, Some(Fix::RemoveNote(gfid)));
            }
            Ok(false) => {}
            Err(e) => finds.add_unreadable(&path, &e),
        }
    }

    pub(super) fn pending(&self, name: &[u8], finds: &mut Finds) {
        let path = join("pending", name);
        let Some(stat) = stat_of(&self.own.pending, name) else { return };
        let is_note = |_: &Gfid| [libc::S_IFLNK, libc::S_IFREG].contains(&sys::kind(&stat));
        let Some(gfid) = gfid_of(name).filter(is_note) else { return self.alien(&path, finds) };
        let age = age(Duration::from_secs(stat.st_ctime.unsigned_abs()));
        if !self.in_use || age > PATIENCE {
            let text = format!(
                "this snapshot was being made or deleted {} ago: the next start of the brick finishes that",
                spell(age)
            );
            finds.add(ProblemKind::SnapshotPending, &path, Some(gfid), text, None);
        }
    }

    pub(super) fn buried(&self, name: &[u8], finds: &mut Finds) {
        let path = join("buried", name);
        if let Err(e) = self.look_at_buried(&path, name, finds) {
            finds.add_unreadable(&path, &e);
        }
    }

    fn look_at_buried(&self, path: &Path, name: &[u8], finds: &mut Finds) -> Result<()> {
        let was = match gfid_of(name).map(|gfid| self.own.buried_at(gfid).map(|was| Some((gfid, was?)))) {
            Some(Err(Error::Damaged(_))) | None => {
                let text = "this is no note of a deleted file (a symlink named by its gfid, to \
                         GFID/PATH): a file that it is to tell of can't come back";
                finds.add(ProblemKind::BuriedDamaged, path, gfid_of(name), text, None);
                return Ok(());
            }
            Some(was) => was?,
        };
        let Some((gfid, was)) = was else { return Ok(()) };
        let met =
            self.tree.files.iter().any(|(path, _)| gfid.is_tombstone(super::walk::leaf(path).as_bytes()));
        if met || self.stat_tombstone(gfid, &was)?.is_some() {
            return Ok(());
        }
        if self.handle_stat(gfid)?.is_some_and(|there| there.st_nlink == 1) {
            let text = "the deleted file has lost its name in .fsnap and has only its handle: restore can't \
                     bring it back. Hard-link the handle to FILE@.GFID in the .fsnap of the directory that \
                     the note names";
            finds.add(ProblemKind::TombstoneMissing, path, Some(gfid), text, None);
        } else {
            let text = "a note of a deleted file that is gone or has come back: harmless; the next start of \
                     the brick removes it";
            finds.add(ProblemKind::BuriedStale, path, Some(gfid), text, None);
        }
        Ok(())
    }

    /// By the name `.fsnap`, whatever its handle says.
    fn stat_tombstone(&self, gfid: Gfid, was: &LastPlace) -> Result<Option<FileStat>> {
        let parent = match self.brick.open_dir(was.dir()) {
            Err(Error::Gone | Error::Damaged(_)) => return Ok(None),
            other => other?,
        };
        match open_in(&parent.file, fsnap_core::SNAP_DIR, DIR) {
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => Ok(None),
            dir => sys::stat_in(dir.doing("open .fsnap")?, grave::tombstone(gfid, was).name.as_slice()),
        }
    }

    pub(super) fn intent(&self, name: &[u8], finds: &mut Finds) {
        let path = join("intents", name);
        let Some(stat) = stat_of(&self.own.intents, name) else { return };
        let base = gfid_of(name);
        match self.read_intent(name) {
            Ok(Some(intent)) if Some(intent.base) == base => {
                let age = age(Duration::from_secs(stat.st_ctime.unsigned_abs()));
                if !self.in_use {
                    let text = format!(
                        "the restore of snapshot {} was cut short: the next start of the brick finishes it",
                        intent.name
                    );
                    finds.add(ProblemKind::IntentPending, &path, base, text, None);
                } else if age > PATIENCE {
                    let text = format!(
                        "the restore of snapshot {} has not ended for {}: the brick's log may tell why; the \
                         content of the file may be broken until then",
                        intent.name,
                        spell(age)
                    );
                    finds.add(ProblemKind::IntentPending, &path, base, text, None);
                }
            }
            Ok(None) => {}
            Err(e @ Error::Os { .. }) => finds.add_unreadable(&path, &e),
            Ok(Some(_)) | Err(_) => {
                let text = "the record of a restore that was cut short can't be read: the content of the \
                         file that it is named after may be broken. The next start of the brick moves it to \
                         quarantine; restore the file again";
                finds.add(ProblemKind::IntentDamaged, &path, base, text, None);
            }
        }
    }

    fn read_intent(&self, name: &[u8]) -> Result<Option<Intent>> {
        self.own.intents.as_ref().map_or(Ok(None), |dir| read_intent(dir, name))
    }

    pub(super) fn lost(&self, name: &[u8], finds: &mut Finds) {
        let Some(stat) = stat_of(&self.own.lost, name) else { return };
        let path = join("lost", name);
        match quarantined_at(name) {
            Some((kinds, since)) if kinds.contains(&sys::kind(&stat)) => {
                let age = age(since);
                let fix = (age > KEEP).then(|| Fix::Discard(name.to_vec()));
                let when = if fix.is_some() { "now" } else { "when it is there for a day" };
                let text = format!(
                    "in quarantine for {}: copy it if you miss something; --empty-quarantine removes it for good, {when}",
                    spell(age)
                );
                finds.add(ProblemKind::Quarantined, &path, None, text, fix);
            }
            _ => self.alien(&path, finds),
        }
    }
}

fn path(name: &str) -> PathBuf {
    let own = Path::new(GLUSTERFS).join(state::NAME);
    if name.is_empty() { own } else { own.join(name) }
}

fn join(dir: &str, name: &[u8]) -> PathBuf {
    path(dir).join(std::ffi::OsStr::from_bytes(name))
}

fn stat_of(dir: &Option<File>, name: &[u8]) -> Option<FileStat> {
    sys::stat_in(dir.as_ref()?, name).ok()?
}

/// The gfid that is spelled by a name exactly so.
fn gfid_of(name: &[u8]) -> Option<Gfid> {
    let gfid = Gfid::parse(std::str::from_utf8(name).ok()?).ok()?;
    (gfid.to_string().as_bytes() == name).then_some(gfid)
}

/// What may be in quarantine under that name (kinds of files), and when it came there (since 1970): see `StateDir::quarantine`.
fn quarantined_at(name: &[u8]) -> Option<(&'static [libc::mode_t], Duration)> {
    let mut parts = std::str::from_utf8(name).ok()?.rsplitn(4, '-');
    let (_count, _pid) = (parts.next()?.parse::<u64>().ok()?, parts.next()?.parse::<u32>().ok()?);
    let since = Duration::from_nanos(parts.next()?.parse().ok()?);
    let what = parts.next()?;
    let snapshot = what.strip_prefix("snapshot-").is_some_and(|gfid| gfid_of(gfid.as_bytes()).is_some());
    // What lay in the place of an intent went there as well.
    let kinds: &[_] = if snapshot { &[libc::S_IFREG] } else { &[libc::S_IFLNK, libc::S_IFREG] };
    (snapshot || what == "intent").then_some((kinds, since))
}

fn age(since: Duration) -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(since)
}

pub(super) fn spell(age: Duration) -> String {
    match age.as_secs() {
        s @ ..120 => format!("{s} s"),
        s @ ..7200 => format!("{} min", s / 60),
        s @ ..172_800 => format!("{} h", s / 3600),
        s => format!("{} days", s / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_quarantine() {
        let gfid = Gfid::ROOT;
        let since = Duration::from_nanos(1_700_000_000_000_000_001);
        let snapshot = format!("snapshot-{gfid}-1700000000000000001-12-0");
        assert_eq!(quarantined_at(snapshot.as_bytes()), Some((&[libc::S_IFREG][..], since)));
        let intent = quarantined_at(b"intent-1700000000000000001-12-3");
        assert_eq!(intent, Some((&[libc::S_IFLNK, libc::S_IFREG][..], since)));
        for other in ["", "intent", "x-1-2-3", "intent-1-2-x", "snapshot-1-2-3", "mine", "intent--1-2-3"] {
            assert_eq!(quarantined_at(other.as_bytes()), None, "{other}");
        }
        assert_eq!(quarantined_at(b"\xff-1-2-3"), None);
    }
}
