//! Snapshots that were about to enter the catalogue, or to leave it, when the brick died.

use fsnap_core::{Error, Gfid, Result};

use crate::Store;
use crate::adopt;
use crate::brick::{Access, OpenFile};
use crate::pages;
use crate::state::StateDir;
use crate::sys;
use crate::xattrs;

impl Store {
    /// Brings payloads in line with the catalogue: one that is in no catalogue was not acknowledged, or its deletion was
    /// begun, and goes. What can't be told now stays for the next start; failures are logged.
    pub(crate) fn settle_pending(&self, state: &StateDir) {
        let names = match sys::names_in(&state.pending) {
            Ok(names) => names,
            Err(e) => return tracing::error!("cannot read which snapshots were being made or deleted: {e}"),
        };
        for name in names {
            let Some(payload) = std::str::from_utf8(&name).ok().and_then(|name| Gfid::parse(name).ok())
            else {
                tracing::error!("{} is no note of a snapshot", name.escape_ascii());
                continue;
            };
            if let Err(e) = self.settle_one(payload).and_then(|()| state.forget_pending(payload)) {
                tracing::error!("snapshot {payload}, which was being made or deleted: {e}");
            }
        }
    }

    fn settle_one(&self, payload: Gfid) -> Result<()> {
        let inode = match self.brick.open_file(payload, Access::Read) {
            // Nothing was there yet, or is there any more.
            Err(Error::Gone) => return self.settle_nothing(payload),
            other => other?,
        };
        let Some(record) = xattrs::payload_record(&inode.file)? else {
            return self.settle_begun(&inode);
        };
        let entry = match self.brick.open_file(record.base, Access::Read) {
            Ok(base) => pages::entry(&base, &record.name)?,
            Err(Error::Gone) => None,
            Err(e) => return Err(e),
        };
        if entry.is_some_and(|entry| entry.gfid == payload) {
            return Ok(());
        }
        tracing::info!(
            "snapshot {} of {} was not finished, or was being deleted: it goes",
            record.name,
            record.base
        );
        self.unlink_everywhere(&inode)?.iter().try_for_each(sys::sync)
    }

    /// Forgets that it is awaited, unless it is in the catalogue: then self-heal is to bring it, and has to be let in.
    fn settle_nothing(&self, payload: Gfid) -> Result<()> {
        let state = self.state()?;
        match state.pending_of(payload)? {
            Some(base) if adopt::record_of(&self.brick, base, payload)?.is_some() => Ok(()),
            _ => state.forget_awaited(payload),
        }
    }

    fn settle_begun(&self, payload: &OpenFile) -> Result<()> {
        let base = self.state()?.pending_of(payload.gfid)?;
        let (Some(base), true) = (base, adopt::is_begun(payload)?) else {
            return Err(Error::Damaged("it is none".into()));
        };
        if adopt::record_of(&self.brick, base, payload.gfid)?.is_some() {
            return Ok(());
        }
        tracing::info!("{}, which self-heal had begun to make, was being deleted: it goes", payload.gfid);
        self.unlink_everywhere(payload)?.iter().try_for_each(sys::sync)
    }
}
