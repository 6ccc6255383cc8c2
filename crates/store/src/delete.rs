//! Taking a snapshot away.

use std::fs::File;

use fsnap_core::record::Record;
use fsnap_core::{Error, Gfid, Result, SnapName};

use crate::Store;
use crate::brick::{Access, OpenFile};
use crate::names::links;
use crate::notice::Notice;
use crate::pages::{self, Pages};
use crate::sys;
use crate::xattrs;

impl Store {
    /// Deletes snapshot `name` of `base`. It is gone when its catalogue entry is: what can't be removed of the payload
    /// after that is left where it is until the next start, with a line in the log. A deleted file goes with its last snapshot.
    ///
    /// [`Error::NoSnapshot`] (`ENODATA`), [`Error::Held`] (`EBUSY`), [`Error::Damaged`] (`EIO`) if the entry can't be
    /// read, [`Error::Gone`] (`ESTALE`), [`Error::NotRegular`] (`EINVAL`), or what a system call says.
    pub fn delete(&self, base: Gfid, name: &SnapName) -> Result<()> {
        let _change = self.change()?;
        let reserve = self.may_use_reserve();
        let inode = self.brick.open_file(base, Access::Read)?;
        let record = pages::expect_entry(&inode, name)?;
        if record.held {
            return Err(Error::Held(name.to_string()));
        }
        let removed = self.remove_snapshot(&inode, name, &record);
        // Also if it may not be durable: as long as there is an entry this does nothing.
        self.after_delete(&inode);
        drop(reserve);
        self.top_up_reserve();
        removed
    }

    /// Takes an entry out of the catalogue, and its payload away. As [`delete`](Store::delete), whether it is held or not.
    pub(crate) fn remove_snapshot(&self, base: &OpenFile, name: &SnapName, record: &Record) -> Result<()> {
        let (file, gfid) = (&base.file, base.gfid);
        let state = self.state()?;
        let payload = self.payload_or_begun(gfid, name, record.gfid);
        match &payload {
            Ok(Some(payload)) if payload.has_record()? => state.note_pending(&self.brick, payload)?,
            _ => state.note_going(&self.brick, record.gfid, gfid)?,
        }
        pages::remove_entry(base, name)?;
        // The entry must never outlive its payload.
        if let Err(e) = self.brick.settle(file) {
            if let Err(undo) = pages::write_entry(base, name, record) {
                tracing::error!(
                    "the deletion of snapshot {name} of {gfid} failed ({e}) and was not taken back: {undo}"
                );
            }
            return Err(e);
        }
        let removed = match payload {
            Ok(Some(payload)) => self.unlink_everywhere(&payload),
            Ok(None) => {
                tracing::warn!("this brick had no data of the deleted snapshot {name} of {gfid}");
                state
                    .forget_awaited(record.gfid)
                    .and_then(|()| state.forget_pending(record.gfid))
                    .map(|()| Vec::new())
            }
            Err(e) => Err(e),
        };
        // It is deleted: the rest is done when the brick starts next.
        let touched = removed.unwrap_or_else(|e| {
            tracing::error!("the data of the deleted snapshot {name} of {gfid} is left alone: {e}");
            Vec::new()
        });
        // Where the log is one sequence this covers the removal of the entry as well: the unlinks came after it.
        let last = if touched.is_empty() { std::slice::from_ref(file) } else { &touched };
        last.iter().try_for_each(sys::sync)
    }

    /// Deletes the snapshot `name` of the file that `payload` is a snapshot of. If `payload` itself has that name, it is the
    /// one that goes, also if no catalogue knows of it: a crash or damage has left it then.
    ///
    /// As [`delete`](Store::delete); [`Error::Damaged`] (`EIO`) if `payload` is no snapshot.
    pub fn delete_by(&self, payload: Gfid, name: &SnapName) -> Result<()> {
        let _change = self.change()?;
        let _reserve = self.may_use_reserve();
        let inode = self.brick.open_file(payload, Access::Read)?;
        let record = xattrs::payload_record(&inode.file)?
            .ok_or_else(|| Error::Damaged(format!("{payload} is no snapshot")))?;
        let entry = match self.brick.open_file(record.base, Access::Read) {
            Ok(base) => pages::entry(&base, name)?,
            Err(Error::Gone) => None,
            Err(e) => return Err(e),
        };
        if record.name != *name || entry.is_some_and(|entry| entry.gfid == payload) {
            return self.delete(record.base, name);
        }
        tracing::warn!("no catalogue has snapshot {name} of {}, {payload}, which goes now", record.base);
        self.state()?.note_pending(&self.brick, &inode)?;
        self.unlink_everywhere(&inode)?.iter().try_for_each(sys::sync)
    }

    /// Deletes all snapshots of `base`. A failure on the way leaves those that it has not come to.
    ///
    /// [`Error::Held`] (`EBUSY`), with nothing changed, if any of them is held; [`Error::Damaged`] (`EIO`), with nothing
    /// changed, if an entry can't be read; else as [`delete`](Store::delete).
    pub fn purge(&self, base: Gfid) -> Result<()> {
        let _change = self.change()?;
        let file = self.brick.open_file(base, Access::Read)?.file;
        let entries = Pages::of(&file, base)?.all()?;
        if let Some((name, _)) = entries.iter().find(|(_, entry)| entry.held) {
            return Err(Error::Held(name.to_string()));
        }
        entries.iter().try_for_each(|(name, _)| self.delete(base, name))
    }

    /// Removes all names of a payload: those that its gfid2path tells, its handle, and the notes. Each is checked to be
    /// this inode before it goes, and the handle goes last, by which it is found again after a crash. Returns the
    /// directory that the last of them was in, or all of them where each needs an fsync of its own.
    pub(crate) fn unlink_everywhere(&self, payload: &OpenFile) -> Result<Vec<File>> {
        let gfid = payload.gfid;
        let mut touched = Vec::new();
        for link in links(&payload.file)? {
            let dir = match self.brick.open_dir(link.parent) {
                Err(Error::Gone) => continue,
                other => other?.file,
            };
            if sys::unlink_if_same(&dir, link.name.as_slice(), &payload.stat)? {
                self.notice(Notice::Removed { dir: link.parent, name: &link.name, file: gfid });
                self.brick.settle(&dir)?;
                touched.push(dir);
            }
        }
        let handles = self.brick.handle_dir(gfid)?;
        let state = self.state()?;
        if sys::unlink_if_same(&handles, gfid.to_string().as_str(), &payload.stat)? {
            self.brick.settle(&handles)?;
            touched.push(handles);
        }
        state.forget_awaited(gfid)?;
        state.forget_pending(gfid)?;
        Ok(if self.brick.ordered { touched.pop().into_iter().collect() } else { Vec::new() })
    }
}
