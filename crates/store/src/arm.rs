//! A restore that a carrier brings: a truncate that has passed the locks and the bookkeeping of the cluster translators, as
//! every change of data has. The brick is armed for it first, so that it knows the carrier when it comes.

use fsnap_core::record::Armed;
use fsnap_core::{Error, Gfid, Result, SnapName};

use crate::Store;
use crate::brick::Access;
use crate::catalogue::content_size;
use crate::restore::Restored;
use crate::state::StateDir;
use crate::sys;
use crate::xattrs::XattrNames;

impl Store {
    /// Gets ready for restore `id` of `base` to its snapshot `name`. An earlier one is forgotten. It may be a deleted file, which then
    /// [rises](Store::rise), or else is [emptied](Store::empty_grave).
    ///
    /// Refused, with nothing changed, as [`restore`](Store::restore). For quota, which counts what a carrier does, only where a file
    /// of a disperse volume becomes shorter: that translator then writes to its new end once more (`ec_truncate_clean`), and if a
    /// limit refuses that while a brick is away it notes nothing, and the file would stay closed.
    pub fn arm(&self, base: Gfid, name: &SnapName, id: Gfid) -> Result<()> {
        let _change = self.change()?;
        self.may_arm(base, name)?;
        let state = self.state()?;
        // A fragment that an earlier restore has changed, and nobody has said that all were, stays one: until this restore is
        // over.
        let begun = self.is_half_restored(base);
        state.note_armed(&self.brick, base, &Armed { begun, id, name: name.clone() })?;
        sys::sync(&state.armed)
    }

    /// Whether it could be armed for that now, and nothing more: what [`arm`](Store::arm) refuses.
    pub fn may_arm(&self, base: Gfid, name: &SnapName) -> Result<()> {
        let live = self.brick.open_file(base, Access::Write)?;
        let names = XattrNames::of(&live.file)?;
        let payload = self.restorable(&live, &names, name)?;
        if names.is_dispersed() && names.has_quota() && content_size(&payload)? < content_size(&live)? {
            return Err(Error::unsupported(
                "quota is on, and the file would become shorter: make it shorter first (`truncate`)",
            ));
        }
        Ok(())
    }

    /// Does restore `id` of `base`, for which this brick is armed. The rest as [`restore`](Store::restore), but for quota.
    ///
    /// [`Error::Unhealed`] (`EIO`) if it is not armed for that: another brick may be.
    pub fn carry(&self, base: Gfid, id: Gfid) -> Result<Restored> {
        let _change = self.change()?;
        let state = self.state()?;
        let armed = state.armed(base)?.filter(|armed| armed.id == id);
        let armed =
            armed.ok_or(Error::Unhealed("this brick has missed that a restore was to come".into()))?;
        let live = self.brick.open_file(base, Access::Write)?;
        let snapshot = self.restorable(&live, &XattrNames::of(&live.file)?, &armed.name)?;
        let time = self.restore_into(&live, &snapshot, &armed.name)?;
        Restored::now(&live, time)
    }

    /// Forgets, durably, restore `id` of `base`, which is over; nothing if this brick does not know of it.
    ///
    /// [`Error::Damaged`] (`EIO`), or what a system call says.
    pub fn settle(&self, base: Gfid, id: Gfid) -> Result<()> {
        let _change = self.change()?;
        let _reserve = self.may_use_reserve();
        match self.state.get() {
            Some(state) => state.forget_armed_as(base, id),
            None => Ok(()),
        }
    }

    /// The same when all that was done to the file is durable: a crash must not take what the disperse translator has noted of the
    /// end, and leave that it is forgotten. May come at any time, also while another call changes `base`.
    ///
    /// [`Error::Damaged`] (`EIO`), or what a system call says.
    pub fn conclude(&self, base: Gfid, id: Gfid) -> Result<()> {
        let _change = self.change()?;
        sys::sync(&self.brick.open_file(base, Access::Read)?.file)?;
        self.settle(base, id)
    }

    /// The restore of `base` that this brick was armed for, if nobody has said that it is over.
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
        Ok(bases.filter(|base| self.is_half_restored(*base)).collect())
    }

    /// Whether `file` is one of them. One whose note can't be read is.
    pub fn is_half_restored(&self, file: Gfid) -> bool {
        self.armed(file).map_or(true, |armed| armed.is_some_and(|armed| armed.begun))
            && self.is_dispersed(file).unwrap_or(true)
    }

    /// The note of the restore of `base` to `name` that a carrier may be bringing, and that is not known to have begun.
    pub(crate) fn not_begun(&self, state: &StateDir, base: Gfid, name: &SnapName) -> Result<Option<Armed>> {
        Ok(state.armed(base)?.filter(|armed| !armed.begun && armed.name == *name))
    }

    /// Notes whether it has: after its intent is durable and before the content changes, or when all is as it was.
    pub(crate) fn note_begun(
        &self,
        state: &StateDir,
        base: Gfid,
        armed: &Option<Armed>,
        begun: bool,
    ) -> Result<()> {
        match armed.clone() {
            Some(armed) => state.note_armed(&self.brick, base, &Armed { begun, ..armed }),
            None => Ok(()),
        }
    }

    /// Forgets restores of files that are gone.
    pub(crate) fn tidy_armed(&self, state: &StateDir) -> Result<()> {
        for name in sys::names_in(&state.armed)? {
            match std::str::from_utf8(&name).ok().and_then(|name| Gfid::parse(name).ok()) {
                Some(base) if self.has(base) => {}
                Some(base) => state.forget_armed(base)?,
                None => tracing::error!("{} among the notes of restores", name.escape_ascii()),
            }
        }
        Ok(())
    }
}
