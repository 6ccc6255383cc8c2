//! Bringing a deleted file back.

use std::time::Duration;

use fsnap_core::gfid2path::Link;
use fsnap_core::{Error, Gfid, Result, SnapName};
use nix::errno::Errno;

use crate::Store;
use crate::brick::{Access, OpenDir, OpenFile};
use crate::create::refuse_quota;
use crate::grave::Grave;
use crate::names;
use crate::notice::Notice;
use crate::sys::{self, Doing};
use crate::xattrs::XattrNames;

impl Store {
    /// Brings the buried file `base` back, in its directory and under its name, with the content of its snapshot `name`.
    /// It is the same inode: gfid, owner, mode and xattrs are those that it had when it was deleted, all its snapshots
    /// are its own again. Returns how long the clone took. When this returns it is durable; after a crash the file is back
    /// or still deleted.
    ///
    /// `may` is asked before anything is changed, and when nothing else is in the way, with the gfid of the directory and the name that
    /// the file will have. Its error is returned.
    ///
    /// Refused, with nothing changed: [`Error::Unsupported`] (`EOPNOTSUPP`: the file was not deleted, its directory was
    /// removed, and as in [`restore`](Store::restore)), [`Error::FileExists`] (`EEXIST`), [`Error::NoSnapshot`] (`ENODATA`), and what else
    /// [`restore`](Store::restore) refuses. Else what a system call says; then the file stays deleted.
    pub fn revive(
        &self,
        base: Gfid,
        name: &SnapName,
        may: impl Fn(Gfid, &[u8]) -> Result<()>,
    ) -> Result<Duration> {
        let _change = self.change()?;
        let base = self.brick.open_file(base, Access::Write)?;
        let Some(grave) = self.only_grave(&base)? else {
            return Err(Error::unsupported("the file was not deleted"));
        };
        let names = XattrNames::of(&base.file)?;
        refuse_quota(&names)?;
        let was = grave.was.link().ok_or(Error::unsupported(
            "the directory that the file was in was removed: `fsnap restore --to PATH` brings it back elsewhere",
        ))?;
        let parent = self.brick.open_dir(was.parent)?;
        if sys::stat_in(&parent.file, was.name.as_slice())?.is_some() {
            return Err(exists(&was));
        }
        let snapshot = self.restorable(&base, &names, name)?;
        may(parent.gfid, &was.name)?;
        let back = self.restore_into(&base, &snapshot, name).and_then(|time| {
            self.raise(&base, &grave, &was, &parent)?;
            // They are not its owner's any more but its own: what fails here is done when somebody looks.
            if let Err(e) = self.follow_rights(base.gfid) {
                tracing::warn!("the snapshots of {}, which is back, do not have its rights: {e}", base.gfid);
            }
            Ok(time)
        });
        // Nothing but a grave is emptied: not what has its name back already.
        if back.is_err()
            && let Err(e) = self.empty_grave(base.gfid)
        {
            tracing::error!("the deleted file {} keeps a content: {e}", base.gfid);
        }
        back
    }

    /// Moves the tombstone to where the file was. As with a payload's move, there is an xattr too many for a moment, never
    /// one too few.
    fn raise(&self, base: &OpenFile, grave: &Grave, was: &Link, parent: &OpenDir) -> Result<()> {
        let Grave { tombstone, dir, .. } = grave;
        names::note(&base.file, was)?;
        self.brick.settle(&base.file)?;
        match sys::rename((&dir.file, tombstone.name.as_slice()), (&parent.file, was.name.as_slice())) {
            Err(Errno::EEXIST) => return Err(exists(was)),
            other => other.doing("bring a file back")?,
        }
        self.notice(Notice::Added(was.parent));
        // It is back: what fails from here on is told, not taken back.
        let durable = [&parent.file, &dir.file].into_iter().try_for_each(|step| self.brick.settle(step));
        // The note goes last: with it the next start finishes what is cut short.
        match self.follow(base.gfid) {
            Ok(()) => self.forget_grave(base, tombstone)?,
            Err(e) => tracing::error!(
                "snapshots of {}, which is back, have the names of a deleted file's until the next start: {e}",
                base.gfid
            ),
        }
        durable.and_then(|()| sys::sync(&base.file))
    }
}

fn exists(was: &Link) -> Error {
    Error::FileExists(was.name.escape_ascii().to_string())
}
