//! fsnap's own directory on the brick: `.glusterfs/fsnap`.
//!
//! ```text
//! format        "fsnap 1"
//! intents/      restores that were begun: BASE-GFID holds an Intent
//! by-gfid/      PAYLOAD-GFID is a symlink whose text is the base's gfid
//! lost/         quarantine: what was in the way and might be somebody's data
//! tmp-…         directories that are not finished yet
//! ```

use std::fs::File;
use std::io::{Read, Write};

use fsnap_core::{Error, Gfid, Result};
use nix::errno::Errno;
use nix::fcntl::{RenameFlags, readlinkat, renameat2};
use nix::unistd::{UnlinkatFlags, symlinkat, unlinkat};

use crate::brick::{Access, Brick, ensure_dir, open_leaf};
use crate::sys::{self, DIR, Doing, give_name, nameless, open_in};

const NAME: &str = "fsnap";
const FORMAT: &[u8] = b"fsnap 1\n";
/// What the names of unfinished directories start with.
pub(crate) const UNFINISHED: &str = "tmp";

pub(crate) struct State {
    pub dir: File,
    pub intents: File,
    by_gfid: File,
    lost: File,
}

impl State {
    /// Opens it if it is there. [`Error::Unsupported`] if another version of fsnap has written it.
    pub(crate) fn find(brick: &Brick) -> Result<Option<Self>> {
        let dir = match open_in(&brick.glusterfs, NAME, DIR) {
            Err(Errno::ENOENT) => return Ok(None),
            other => other.doing("open .glusterfs/fsnap")?,
        };
        // Without a format file its making was cut short: it is made again when it is needed.
        if has_format(&dir)? { Self::complete(dir).map(Some) } else { Ok(None) }
    }

    /// Opens it, and makes it if it is not there.
    pub(crate) fn make(brick: &Brick) -> Result<Self> {
        let state = Self::complete(ensure_dir(&brick.glusterfs, NAME)?)?;
        if !has_format(&state.dir)? {
            let mut format = nameless(&state.dir).doing("write the format file")?;
            format.write_all(FORMAT).doing("write the format file")?;
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

    fn complete(dir: File) -> Result<Self> {
        Ok(State {
            intents: ensure_dir(&dir, "intents")?,
            by_gfid: ensure_dir(&dir, "by-gfid")?,
            lost: ensure_dir(&dir, "lost")?,
            dir,
        })
    }

    /// Moves `name` out of `place` into quarantine, under a name that starts with `what`.
    pub(crate) fn quarantine(&self, brick: &Brick, place: &File, name: &[u8], what: &str) -> Result<()> {
        let new = sys::unique(what);
        renameat2(place, name, &self.lost, new.as_str(), RenameFlags::RENAME_NOREPLACE)
            .doing("move a file into quarantine")?;
        brick.settle(&self.lost)?;
        tracing::warn!("{} was moved to .glusterfs/fsnap/lost/{new}", name.escape_ascii());
        Ok(())
    }

    /// Notes whose snapshot `payload` is.
    pub(crate) fn note_base(&self, brick: &Brick, payload: Gfid, base: Gfid) -> Result<()> {
        let (name, text) = (payload.to_string(), base.to_string());
        match symlinkat(text.as_str(), &self.by_gfid, name.as_str()) {
            Err(Errno::EEXIST) if readlinkat(&self.by_gfid, name.as_str()).is_ok_and(|old| old == *text) => {}
            Err(Errno::EEXIST) => {
                // Only a lead for healing, the payload's own record is the truth.
                sys::unlink_in(&self.by_gfid, name.as_str())?;
                symlinkat(text.as_str(), &self.by_gfid, name.as_str()).doing("note a snapshot's base")?;
            }
            other => other.doing("note a snapshot's base")?,
        }
        brick.settle(&self.by_gfid)
    }

    /// Takes that note back.
    pub(crate) fn forget_base(&self, payload: Gfid) -> Result<()> {
        sys::unlink_in(&self.by_gfid, payload.to_string().as_str())
    }

    /// Removes directories that a crash has left unfinished; they are empty and were never in use.
    pub(crate) fn sweep(&self) -> Result<()> {
        for name in sys::names_in(&self.dir)? {
            if name.starts_with(UNFINISHED.as_bytes()) {
                unlinkat(&self.dir, name.as_slice(), UnlinkatFlags::RemoveDir).doing("rmdir")?;
            }
        }
        Ok(())
    }
}

fn has_format(dir: &File) -> Result<bool> {
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
