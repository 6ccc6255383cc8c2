//! fsnap's own directory on the brick: `.glusterfs/fsnap`.
//!
//! ```text
//! format        "fsnap 2"
//! intents/      restores that were begun: BASE-GFID is a symlink whose text is an Intent
//! awaited/      PAYLOAD-GFID is a symlink whose text is the base's gfid: the payload is missing, and self-heal is to bring it
//! pending/      PAYLOAD-GFID is the payload, or a symlink as above if that is missing: it is about to enter the catalogue or to leave it
//! armed/        BASE-GFID is a symlink whose text says what is known of a restore by a carrier that is not over: Armed
//! buried/       BASE-GFID is a symlink whose text is where the deleted file was: LastPlace
//! lost/         quarantine: what was in the way and might be somebody's data
//! reserve/      room for a full disk: Reserve
//! tmp-…         directories and notes that are not finished yet
//! ```

use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, Mutex, PoisonError};

use fsnap_core::record::Armed;
use fsnap_core::{Error, Gfid, LastPlace, Result};
use nix::errno::Errno;
use nix::fcntl::readlinkat;
use nix::sys::stat::FileStat;

use crate::brick::{Access, BrickDir, OpenFile, ensure_dir, open_leaf};
use crate::reserve::Reserve;
use crate::sys::{self, DIR, Doing, give_name, nameless, open_in};

/// In `.glusterfs`.
pub(crate) const NAME: &str = "fsnap";
const FORMAT: &[u8] = b"fsnap 2\n";
/// What the names of unfinished directories and notes start with.
pub(crate) const UNFINISHED: &str = "tmp";
pub(crate) struct StateDir {
    pub dir: File,
    pub intents: File,
    pub buried: File,
    pub pending: File,
    pub armed: File,
    awaited: File,
    pub lost: File,
    pub reserve: Arc<Reserve>,
    /// Held while a note in `armed` is replaced, or taken back for what it says.
    arming: Mutex<()>,
}

impl StateDir {
    /// Opens it if it is there. [`Error::Unsupported`] if another version of fsnap has written it.
    pub(crate) fn find(brick: &BrickDir) -> Result<Option<Self>> {
        let dir = match open_in(&brick.glusterfs, NAME, DIR) {
            Err(Errno::ENOENT) => return Ok(None),
            other => other.doing("open .glusterfs/fsnap")?,
        };
        // Without a format file its making was cut short: it is made again when it is needed.
        if has_format(&dir)? { Self::complete(brick, dir).map(Some) } else { Ok(None) }
    }

    /// Opens it, and makes it if it is not there.
    pub(crate) fn make(brick: &BrickDir) -> Result<Self> {
        let state = Self::complete(brick, ensure_dir(&brick.glusterfs, NAME)?)?;
        if !has_format(&state.dir)? {
            let format = nameless(&state.dir).doing("write the format file")?;
            sys::write(&format, FORMAT).doing("write the format file")?;
            sys::sync(&format)?;
            match give_name(&format, &state.dir, "format") {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(e) => return Err(e).doing("write the format file"),
            }
            sys::sync(&state.dir)?;
            sys::sync(&brick.glusterfs)?;
        }
        Ok(state)
    }

    fn complete(brick: &BrickDir, dir: File) -> Result<Self> {
        Ok(StateDir {
            intents: ensure_dir(&dir, "intents")?,
            armed: ensure_dir(&dir, "armed")?,
            awaited: ensure_dir(&dir, "awaited")?,
            pending: ensure_dir(&dir, "pending")?,
            buried: ensure_dir(&dir, "buried")?,
            lost: ensure_dir(&dir, "lost")?,
            reserve: Arc::new(Reserve::find(&dir, brick.ordered)?),
            arming: Mutex::default(),
            dir,
        })
    }

    /// Moves `name` out of `place` into quarantine, under a name that starts with `what`.
    pub(crate) fn quarantine(&self, brick: &BrickDir, place: &File, name: &[u8], what: &str) -> Result<()> {
        let new = sys::unique(what);
        sys::rename((place, name), (&self.lost, new.as_str())).doing("move a file into quarantine")?;
        brick.settle(&self.lost)?;
        tracing::warn!("{} was moved to .glusterfs/fsnap/lost/{new}", name.escape_ascii());
        Ok(())
    }

    /// Gives `file` one more name, in quarantine, that starts with `what`.
    pub(crate) fn keep_aside(&self, brick: &BrickDir, file: &File, what: &str) -> Result<()> {
        let new = sys::unique(what);
        give_name(file, &self.lost, new.as_str()).doing("link a file into quarantine")?;
        brick.settle(&self.lost)?;
        tracing::warn!("what was lost is kept as .glusterfs/fsnap/lost/{new}");
        Ok(())
    }

    /// Notes that snapshot `payload` of `base` is missing, and self-heal is to bring it.
    pub(crate) fn note_awaited(&self, brick: &BrickDir, payload: Gfid, base: Gfid) -> Result<()> {
        set_symlink(&self.awaited, payload, base.to_string().as_bytes())?;
        brick.settle(&self.awaited)
    }

    /// Whose snapshot the awaited `payload` is; `None` if it is not awaited. [`Error::Damaged`] if the note can't be read.
    pub(crate) fn awaited(&self, payload: Gfid) -> Result<Option<Gfid>> {
        read_note(&self.awaited, payload)
    }

    /// Takes that note back.
    pub(crate) fn forget_awaited(&self, payload: Gfid) -> Result<()> {
        sys::unlink_in(&self.awaited, payload.to_string().as_str())
    }

    /// Notes that snapshot `payload` is about to enter the catalogue or to leave it: after a crash the catalogue decides what becomes of
    /// it. The note is one more name of the payload: that needs no inode, which on XFS a full disk would not have.
    pub(crate) fn note_pending(&self, brick: &BrickDir, payload: &OpenFile) -> Result<()> {
        let name = payload.gfid.to_string();
        match give_name(&payload.file, &self.pending, name.as_str()) {
            Err(Errno::EEXIST) => {
                // What failed and could not be taken back has left it.
                sys::unlink_in(&self.pending, name.as_str())?;
                give_name(&payload.file, &self.pending, name.as_str())
            }
            other => other,
        }
        .doing("make a note")?;
        brick.settle(&self.pending)
    }

    /// The same of one that is missing, or has no record, and is about to leave it.
    pub(crate) fn note_going(&self, brick: &BrickDir, payload: Gfid, base: Gfid) -> Result<()> {
        // One that is awaited is noted already.
        let noted = matches!(self.awaited(payload), Ok(Some(noted)) if noted == base);
        if !noted || sys::link_into(&self.awaited, &self.pending, &payload.to_string()).is_err() {
            set_symlink(&self.pending, payload, base.to_string().as_bytes())?;
        }
        brick.settle(&self.pending)
    }

    /// Whose snapshot `payload` is, as that note of a missing one says; [`Error::Damaged`] if it can't be read.
    pub(crate) fn pending_of(&self, payload: Gfid) -> Result<Option<Gfid>> {
        match sys::stat_in(&self.pending, payload.to_string().as_str())? {
            Some(note) if sys::kind(&note) == libc::S_IFREG => Ok(None),
            _ => read_note(&self.pending, payload),
        }
    }

    /// Takes that note back: catalogue and payload agree.
    pub(crate) fn forget_pending(&self, payload: Gfid) -> Result<()> {
        sys::unlink_in(&self.pending, payload.to_string().as_str())
    }

    /// Notes that `base` is buried, and where it was: since when is the note's mtime. A crash leaves the note that there was, or this one.
    pub(crate) fn note_buried(&self, brick: &BrickDir, base: Gfid, was: &LastPlace) -> Result<()> {
        match sys::symlink(&was.encode(), &self.buried, base.to_string().as_str()) {
            Ok(()) => brick.settle(&self.buried),
            Err(Errno::EEXIST) => self.replace_buried(brick, base, was, None),
            Err(e) => Err(e).doing("make a note"),
        }
    }

    /// The same of one that is buried already, as long as before.
    pub(crate) fn note_moved(&self, brick: &BrickDir, base: Gfid, was: &LastPlace) -> Result<()> {
        let old = sys::stat_in(&self.buried, base.to_string().as_str())?;
        self.replace_buried(brick, base, was, old.as_ref())
    }

    fn replace_buried(
        &self,
        brick: &BrickDir,
        base: Gfid,
        was: &LastPlace,
        since: Option<&FileStat>,
    ) -> Result<()> {
        let (name, new) = (base.to_string(), sys::unique(UNFINISHED));
        sys::symlink(&was.encode(), &self.dir, new.as_str()).doing("make a note")?;
        if let Some(since) = since {
            sys::set_mtime(&self.dir, new.as_str(), since).doing("date a note")?;
        }
        sys::replace((&self.dir, new.as_str()), (&self.buried, name.as_str())).doing("make a note")?;
        brick.settle(&self.buried)
    }

    /// Where the buried file `base` was; `None` if it is not noted. [`Error::Damaged`] if the note can't be read.
    pub(crate) fn buried_at(&self, base: Gfid) -> Result<Option<LastPlace>> {
        read_buried(&self.buried, base)
    }

    /// Takes that note back.
    pub(crate) fn forget_buried(&self, base: Gfid) -> Result<()> {
        sys::unlink_in(&self.buried, base.to_string().as_str())
    }

    /// Notes how far a restore of `base` by a carrier has come.
    pub(crate) fn note_armed(&self, brick: &BrickDir, base: Gfid, armed: &Armed) -> Result<()> {
        let (name, new) = (base.to_string(), sys::unique(UNFINISHED));
        // In one step: a crash never leaves none.
        sys::symlink(armed.to_string().as_bytes(), &self.dir, new.as_str()).doing("make a note")?;
        let _one = self.arming.lock().unwrap_or_else(PoisonError::into_inner);
        sys::replace((&self.dir, new.as_str()), (&self.armed, name.as_str())).doing("make a note")?;
        brick.settle(&self.armed)
    }

    /// Takes that note back, durably: it must not be there again after a crash.
    pub(crate) fn forget_armed(&self, base: Gfid) -> Result<()> {
        sys::unlink_in(&self.armed, base.to_string().as_str())?;
        sys::sync(&self.armed)
    }

    /// The same if it is of restore `id`.
    pub(crate) fn forget_armed_as(&self, base: Gfid, id: Gfid) -> Result<()> {
        let _one = self.arming.lock().unwrap_or_else(PoisonError::into_inner);
        match self.armed(base)? {
            Some(armed) if armed.id == id => self.forget_armed(base),
            _ => Ok(()),
        }
    }

    /// What is noted of it. [`Error::Damaged`] if that can't be read.
    pub(crate) fn armed(&self, base: Gfid) -> Result<Option<Armed>> {
        match readlinkat(&self.armed, base.to_string().as_str()) {
            Ok(text) => Armed::decode(text.as_bytes()).map(Some),
            Err(Errno::ENOENT) => Ok(None),
            Err(Errno::EINVAL) => {
                Err(Error::Damaged(format!("the note of a restore of {base} is no symlink")))
            }
            Err(e) => Err(e).doing("read the note of a restore"),
        }
    }

    /// Removes directories and notes that a crash has left unfinished; they were never in use.
    pub(crate) fn sweep(&self) -> Result<()> {
        for name in sys::names_in(&self.dir)? {
            if name.starts_with(UNFINISHED.as_bytes()) {
                match sys::remove_dir(&self.dir, name.as_slice()) {
                    Err(Errno::ENOTDIR) => sys::unlink_in(&self.dir, name.as_slice())?,
                    other => other.doing("rmdir")?,
                }
            }
        }
        Ok(())
    }
}

fn read_note(dir: &File, payload: Gfid) -> Result<Option<Gfid>> {
    match readlinkat(dir, payload.to_string().as_str()) {
        Ok(text) => match base_in(text.as_bytes()) {
            None => Err(Error::Damaged(format!("the note of snapshot {payload} names no file"))),
            base => Ok(base),
        },
        Err(Errno::ENOENT) => Ok(None),
        Err(Errno::EINVAL) => Err(Error::Damaged(format!("the note of snapshot {payload} is no symlink"))),
        Err(e) => Err(e).doing("read the note of a snapshot"),
    }
}

/// Whose snapshot it is, as the note of a payload says; `None` if it can't be read.
pub(crate) fn base_in(note: &[u8]) -> Option<Gfid> {
    let base = Gfid::parse(std::str::from_utf8(note).ok()?).ok()?;
    (base.to_string().as_bytes() == note).then_some(base)
}

/// The same, in the directory `buried`.
pub(crate) fn read_buried(buried: &File, base: Gfid) -> Result<Option<LastPlace>> {
    match readlinkat(buried, base.to_string().as_str()) {
        Ok(text) => LastPlace::decode(text.as_bytes()).map(Some),
        Err(Errno::ENOENT) => Ok(None),
        Err(Errno::EINVAL) => {
            Err(Error::Damaged(format!("the note of the deleted file {base} is no symlink")))
        }
        Err(e) => Err(e).doing("read the note of a deleted file"),
    }
}

/// Makes the symlink `name` with the text `text`, whatever it said before.
fn set_symlink(dir: &File, name: Gfid, text: &[u8]) -> Result<()> {
    let name = name.to_string();
    match sys::symlink(text, dir, name.as_str()) {
        Err(Errno::EEXIST) if readlinkat(dir, name.as_str()).is_ok_and(|old| old.as_bytes() == text) => {
            Ok(())
        }
        Err(Errno::EEXIST) => {
            sys::unlink_in(dir, name.as_str())?;
            sys::symlink(text, dir, name.as_str()).doing("make a note")
        }
        other => other.doing("make a note"),
    }
}

/// Whether the format file is there. [`Error::Unsupported`] if another version of fsnap has written it.
pub(crate) fn has_format(dir: &File) -> Result<bool> {
    let Some((file, _)) = open_leaf(dir, b"format", Access::Read)? else { return Ok(false) };
    let mut text = Vec::new();
    file.take(64).read_to_end(&mut text).doing("read the format file")?;
    if text == FORMAT {
        return Ok(true);
    }
    Err(Error::Unsupported(
        format!(
            "this brick was written by another version of fsnap: .glusterfs/fsnap/format says \"{}\", not \"{}\"",
            text.escape_ascii(),
            FORMAT.escape_ascii()
        )
        .into(),
    ))
}
