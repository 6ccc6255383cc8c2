//! Taking a snapshot away.

use std::fs::File;

use fsnap_core::{Error, Gfid, Result, SnapName};

use crate::Store;
use crate::brick::{Access, Inode};
use crate::names::links;
use crate::sys;
use crate::xattrs::{self, Names};

impl Store {
    /// Deletes snapshot `name` of `base`. It is gone when its catalogue entry is: what can't be removed of the payload
    /// after that is left where it is, with a line in the log. A deleted file goes with its last snapshot.
    ///
    /// [`Error::NoSnapshot`] (`ENODATA`), [`Error::Held`] (`EBUSY`), [`Error::Damaged`] (`EIO`) if the entry can't be
    /// read, [`Error::Gone`] (`ESTALE`), [`Error::NotRegular`] (`EINVAL`), or what a system call says.
    pub fn delete(&self, base: Gfid, name: &SnapName) -> Result<()> {
        let inode = self.brick.open_file(base, Access::Read)?;
        let file = &inode.file;
        let record = xattrs::expect_entry(file, name)?;
        if record.held {
            return Err(Error::Held(name.to_string()));
        }
        xattrs::remove(file, &xattrs::entry_key(name))?;
        // The entry must never outlive its payload.
        self.brick.settle(file)?;
        let touched = match self.payload(base, name, record.gfid) {
            Ok(Some(payload)) => self.unlink_everywhere(&payload),
            Ok(None) => {
                tracing::warn!("this brick had no data of the deleted snapshot {name} of {base}");
                Vec::new()
            }
            Err(e) => {
                tracing::error!("the data of the deleted snapshot {name} of {base} is left alone: {e}");
                Vec::new()
            }
        };
        // Where the log is one sequence this covers the removal of the entry as well: the unlinks came after it.
        if touched.is_empty() {
            sys::sync(file)?;
        }
        touched.iter().try_for_each(sys::sync)?;
        self.after_delete(&inode);
        Ok(())
    }

    /// Deletes the snapshot `name` of the file that `payload` is a snapshot of. If `payload` itself has that name, it is the
    /// one that goes, also if no catalogue knows of it: a crash or damage has left it then.
    ///
    /// As [`delete`](Store::delete); [`Error::Damaged`] (`EIO`) if `payload` is no snapshot.
    pub fn delete_by(&self, payload: Gfid, name: &SnapName) -> Result<()> {
        let inode = self.brick.open_file(payload, Access::Read)?;
        let record = xattrs::payload_record(&inode.file)?
            .ok_or_else(|| Error::Damaged(format!("{payload} is no snapshot")))?;
        let entry = match self.brick.open_file(record.base, Access::Read) {
            Ok(base) => xattrs::entry(&base.file, name)?,
            Err(Error::Gone) => None,
            Err(e) => return Err(e),
        };
        if record.name != *name || entry.is_some_and(|entry| entry.gfid == payload) {
            return self.delete(record.base, name);
        }
        tracing::warn!("no catalogue has snapshot {name} of {}, {payload}, which goes now", record.base);
        self.unlink_everywhere(&inode).iter().try_for_each(sys::sync)
    }

    /// Deletes all snapshots of `base`. A failure on the way leaves those that it has not come to.
    ///
    /// [`Error::Held`] (`EBUSY`), with nothing changed, if any of them is held; [`Error::Damaged`] (`EIO`), with nothing
    /// changed, if an entry can't be read; else as [`delete`](Store::delete).
    pub fn purge(&self, base: Gfid) -> Result<()> {
        let file = self.brick.open_file(base, Access::Read)?.file;
        let names = Names::of(&file)?.snapshots()?;
        for name in &names {
            if xattrs::expect_entry(&file, name)?.held {
                return Err(Error::Held(name.to_string()));
            }
        }
        names.iter().try_for_each(|name| self.delete(base, name))
    }

    /// Removes all names of a payload: its notes, its handle, and those that its gfid2path tells. Each is checked to
    /// be this inode before it goes. Failures are logged. Returns the directory that the last of them was in, or all
    /// of them where each needs an fsync of its own.
    pub(crate) fn unlink_everywhere(&self, payload: &Inode) -> Vec<File> {
        let gfid = payload.gfid;
        if let Err(e) = self.state().and_then(|state| state.forget_base(gfid)) {
            tracing::error!("cannot remove the note of snapshot {gfid}: {e}");
        }
        let mut touched = Vec::new();
        let mut unlink = |dir: Result<File>, name: &[u8]| match dir
            .and_then(|dir| Ok((sys::unlink_if_same(&dir, name, &payload.stat)?, dir)))
        {
            Ok((true, dir)) => touched.push(dir),
            Ok((false, _)) => {}
            Err(e) => tracing::error!("cannot remove {} of snapshot {gfid}: {e}", name.escape_ascii()),
        };
        unlink(self.brick.handle_dir(gfid), gfid.to_string().as_bytes());
        match links(&payload.file) {
            Ok(links) => {
                for link in links {
                    unlink(self.brick.open_dir(link.parent).map(|dir| dir.file), &link.name);
                }
            }
            Err(e) => tracing::error!("cannot tell the names of snapshot {gfid}: {e}"),
        }
        if self.brick.ordered { touched.pop().into_iter().collect() } else { touched }
    }
}
