//! Intents: what lets a restore that a crash cut short be finished when the brick is opened again.

use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;

use fsnap_core::record::{self, Intent};
use fsnap_core::{Error, Gfid, Result};
use nix::errno::Errno;
use nix::fcntl::readlinkat;

use crate::Store;
use crate::brick::{Access, open_leaf};
use crate::restore::Need;
use crate::state::StateDir;
use crate::sys::{self, Doing};

impl StateDir {
    /// Whether a restore of `base` was begun and not ended.
    pub(crate) fn has_intent(&self, base: Gfid) -> bool {
        // Better no snapshot than one of a half restored file.
        !matches!(sys::stat_in(&self.intents, base.to_string().as_str()), Ok(None))
    }

    /// Writes an intent, `durable` or not yet: then all that is noted of it is in the log of XFS before what comes next.
    pub(crate) fn write_intent(&self, intent: &Intent, durable: bool) -> Result<()> {
        // In one step: a name never stands for half an intent.
        let text = intent.to_string();
        sys::symlink(text.as_bytes(), &self.intents, intent.base.to_string().as_str())
            .doing("write an intent")?;
        if !durable {
            return Ok(());
        }
        sys::sync(&self.intents).inspect_err(|_| {
            // Nothing was restored yet, so nothing must be later.
            if let Err(e) = self.remove_intent(intent.base) {
                tracing::error!(
                    "the intent to restore {} may be replayed at the next start: {e}",
                    intent.base
                );
            }
        })
    }

    /// Removes an intent, durably: it must not be replayed over what is written from now on.
    pub(crate) fn remove_intent(&self, base: Gfid) -> Result<()> {
        sys::unlink_in(&self.intents, base.to_string().as_str())?;
        sys::sync(&self.intents)
    }

    fn read_intent(&self, name: &[u8]) -> Result<Intent> {
        let intent = read_intent(&self.intents, name)?.ok_or(Error::Gone)?;
        if intent.base.to_string().as_bytes() == name {
            Ok(intent)
        } else {
            Err(Error::Damaged(format!("an intent for {} under another name", intent.base)))
        }
    }
}

/// The intent `name` of the directory `intents`; `None` if it is not there. It is a symlink's text, and of an older fsnap a file's.
///
/// [`Error::Damaged`] (`EIO`), [`Error::NotRegular`] (`EINVAL`), or what a system call says.
pub(crate) fn read_intent(intents: &File, name: &[u8]) -> Result<Option<Intent>> {
    match readlinkat(intents, name) {
        Ok(text) => return Intent::decode(text.as_bytes()).map(Some),
        Err(Errno::ENOENT) => return Ok(None),
        Err(Errno::EINVAL) => {}
        Err(e) => return Err(e).doing("read an intent"),
    }
    let Some((file, _)) = open_leaf(intents, name, Access::Read)? else { return Ok(None) };
    let mut text = Vec::new();
    file.take(record::MAX as u64 + 1).read_to_end(&mut text).doing("read an intent")?;
    Intent::decode(&text).map(Some)
}

impl Store {
    /// Finishes all restores that were begun. An intent that makes no sense, or whose file or snapshot is not here,
    /// goes into quarantine; one that the disk does not let finish now stays for the next time.
    pub(crate) fn replay_intents(&self, state: &StateDir) {
        let names = match sys::names_in(&state.intents) {
            Ok(names) => names,
            Err(e) => return tracing::error!("cannot read the interrupted restores: {e}"),
        };
        if let Err(e) = self.brick.settle(&state.intents) {
            tracing::warn!("a restore that is over may be replayed at a later start: {e}");
        }
        for name in names {
            // The failure is in the log, and the file's own commands will meet it again.
            let _ = self.replay(state, &name);
        }
    }

    /// Whether `file` has a part of two contents: a restore of it failed in the middle, and could neither be taken back nor be
    /// finished since. Nobody may look at its content until it is, or change it: what is finished then would take that away.
    pub fn is_torn(&self, file: Gfid) -> bool {
        self.torn.has(file)
    }

    /// Whether there may be any [torn](Store::is_torn) file. A look at memory.
    pub fn any_torn(&self) -> bool {
        self.torn.any()
    }

    /// Tries once more to finish the restore that has left `file` torn. It does nothing if it is not, by now.
    ///
    /// What a system call says; then it is as torn as before. [`Error::Damaged`] (`EIO`) or [`Error::Gone`] (`ESTALE`) if it can
    /// never be finished: the intent is in quarantine then, and the file is not closed any more, whatever its content is.
    pub fn mend(&self, file: Gfid) -> Result<()> {
        let _change = self.change()?;
        if self.is_torn(file) { self.finish_earlier_restore(self.state()?, file) } else { Ok(()) }
    }

    /// Finishes the restore of `base` that an earlier one has left behind, if there is one.
    pub(crate) fn finish_earlier_restore(&self, state: &StateDir, base: Gfid) -> Result<()> {
        match state.has_intent(base) {
            true => self.replay(state, base.to_string().as_bytes()),
            // Its end was not durable, and is by now.
            false if self.torn.has(base) => sys::sync(&state.intents).map(|()| self.torn.set(base, false)),
            false => Ok(()),
        }
    }

    fn replay(&self, state: &StateDir, name: &[u8]) -> Result<()> {
        let _reserve = self.may_use_reserve();
        let shown = name.escape_ascii();
        let base = std::str::from_utf8(name).ok().and_then(|name| Gfid::parse(name).ok());
        let note = |torn| base.into_iter().for_each(|base| self.torn.set(base, torn));
        match state.read_intent(name).and_then(|intent| self.redo(state, &intent)) {
            Ok(()) => {
                note(false);
                tracing::info!("the interrupted restore of {shown} was finished");
                Ok(())
            }
            Err(e @ Error::Os { .. }) => {
                note(true);
                tracing::error!("{shown} is half restored and cannot be finished now: {e}");
                Err(e)
            }
            Err(e) => {
                note(false);
                tracing::error!(
                    "the interrupted restore of {shown} cannot be finished, its content may be broken: {e}"
                );
                state
                    .quarantine(&self.brick, &state.intents, name, "intent")
                    .inspect_err(|e| tracing::error!("{e}"))
            }
        }
    }

    fn redo(&self, state: &StateDir, intent: &Intent) -> Result<()> {
        let live = self.brick.open_file(intent.base, Access::Write)?;
        let payload: File = match self.payload(intent.base, &intent.name, intent.payload)? {
            Some(payload) => payload.file,
            None => return Err(Error::Damaged(format!("its snapshot {} is not here", intent.payload))),
        };
        let armed = self.not_begun(state, intent.base, &intent.name)?;
        self.note_begun(state, intent.base, &armed, true)?;
        self.overwrite(&payload, Some(intent.payload), &live, Need::Must)?;
        state.remove_intent(intent.base)
    }
}
