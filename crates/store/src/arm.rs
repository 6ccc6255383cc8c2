//! A restore that a carrier brings: a truncate that has passed the locks and the bookkeeping of the cluster translators, as
//! every change of data has. The brick is armed for it first, so that it knows the carrier when it comes.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fsnap_core::record::{Armed, Stage};
use fsnap_core::{Error, Gfid, Result, SnapName};
use nix::sys::stat::fstat;

use crate::Store;
use crate::brick::Access;
use crate::heal::HEALING;
use crate::state::State;
use crate::sys::{self, Doing};
use crate::xattrs::Names;

/// How many seconds it is known that a restore is over: as long as another brick may be away that does not know it.
const REMEMBERED: i64 = 7 * 24 * 60 * 60;

impl Store {
    /// Gets ready for restore `id` of `base` to its snapshot `name`. An earlier one is forgotten.
    ///
    /// Refused, with nothing changed, as [`restore`](Store::restore); and with [`Error::Unhealed`] (`EIO`) if self-heal has
    /// yet to fill the snapshot.
    pub fn arm(&self, base: Gfid, name: &SnapName, id: Gfid) -> Result<()> {
        let live = self.brick.open_file(base, Access::Write)?;
        if self.only_grave(&live)?.is_some() {
            return Err(Error::unsupported("the file was deleted: copy the snapshot out of .fsnap"));
        }
        let snapshot = self.restorable(&live, name)?;
        if Names::of(&snapshot.file)?.has(HEALING) {
            return Err(Error::Unhealed(format!("self-heal has not filled snapshot {name} yet").into()));
        }
        let state = self.state()?;
        // A fragment that an earlier restore has changed, and nobody has said that all were, stays one: until this restore is
        // over.
        let half = Names::of(&live.file)?.is_dispersed()
            && matches!(state.armed(base), Ok(Some(Armed { stage: Stage::Begun, .. })));
        let stage = if half { Stage::Begun } else { Stage::Armed };
        state.note_armed(&self.brick, base, &Armed { stage, id, name: name.clone() })
    }

    /// Does restore `id` of `base`, for which this brick is armed; returns for how long the file's writers had to wait, and
    /// the file's size now, in bytes. The rest as [`restore`](Store::restore).
    ///
    /// [`Error::Unhealed`] (`EIO`) if it is not armed for that: another brick may be.
    pub fn carry(&self, base: Gfid, id: Gfid) -> Result<(Duration, i64)> {
        let state = self.state()?;
        let armed = state.armed(base)?.filter(|armed| armed.id == id && armed.stage != Stage::Settled);
        let armed =
            armed.ok_or(Error::Unhealed("this brick has missed that a restore was to come".into()))?;
        let live = self.brick.open_file(base, Access::Write)?;
        let time = self.restore_into(&live, &armed.name).inspect_err(|_| {
            // With an intent it is tried again when the brick is opened.
            if !state.has_intent(base)
                && let Err(e) = state.note_armed(&self.brick, base, &armed)
            {
                tracing::error!("cannot note that the restore of {base} did not begin: {e}");
            }
        })?;
        Ok((time, fstat(&live.file).doing("stat")?.st_size))
    }

    /// Notes, durably, that restore `id` of `base` is over; nothing if this brick does not know of it.
    ///
    /// [`Error::Damaged`] (`EIO`), or what a system call says.
    pub fn settle(&self, base: Gfid, id: Gfid) -> Result<()> {
        match self.armed(base)? {
            Some(armed) if armed.id == id => {
                let state = self.state()?;
                state.note_armed(&self.brick, base, &Armed { stage: Stage::Settled, ..armed })?;
                sys::sync(&state.armed)
            }
            _ => Ok(()),
        }
    }

    /// The last restore of `base` that this brick was armed for, if it is still noted.
    ///
    /// [`Error::Damaged`] (`EIO`), or what a system call says.
    pub fn armed(&self, base: Gfid) -> Result<Option<Armed>> {
        self.state.get().map_or(Ok(None), |state| state.armed(base))
    }

    /// The fragments of disperse volumes' files that have a restore's content, without word yet that it is over.
    ///
    /// What a system call says.
    pub fn half_restored(&self) -> Result<Vec<Gfid>> {
        let Some(state) = self.state.get() else { return Ok(Vec::new()) };
        let bases = sys::names_in(&state.armed)?;
        let bases = bases.iter().filter_map(|name| Gfid::parse(std::str::from_utf8(name).ok()?).ok());
        let half = |base: &Gfid| {
            let begun = matches!(state.armed(*base), Ok(Some(armed)) if armed.stage == Stage::Begun);
            begun && self.is_dispersed(*base).unwrap_or(true)
        };
        Ok(bases.filter(half).collect())
    }

    /// After the intent to do what a carrier has brought is durable, and before the content changes.
    pub(crate) fn begin_carried(&self, state: &State, base: Gfid, name: &SnapName) -> Result<()> {
        match state.armed(base)? {
            Some(armed) if armed.stage == Stage::Armed && armed.name == *name => {
                state.note_armed(&self.brick, base, &Armed { stage: Stage::Begun, ..armed })
            }
            _ => Ok(()),
        }
    }

    /// Forgets restores that were over long ago, and those of files that are gone.
    pub(crate) fn tidy_armed(&self, state: &State) -> Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() as i64;
        for name in sys::names_in(&state.armed)? {
            let base = std::str::from_utf8(&name).ok().and_then(|name| Gfid::parse(name).ok());
            let old = |base| -> Result<bool> {
                let over = state.armed(base)?.is_none_or(|armed| armed.stage == Stage::Settled);
                let since = sys::stat_in(&state.armed, name.as_slice())?.map(|stat| stat.st_mtime);
                Ok(over && since.is_some_and(|since| since < now - REMEMBERED)
                    || matches!(self.brick.open_file(base, Access::Read), Err(Error::Gone)))
            };
            match base.map(old) {
                Some(Ok(false)) => {}
                Some(Ok(true)) => sys::unlink_in(&state.armed, name.as_slice())?,
                Some(Err(e)) => tracing::error!("{e}"),
                None => tracing::error!("{} among the notes of restores", name.escape_ascii()),
            }
        }
        Ok(())
    }
}
