//! What is asked of the catalogue: list, info, hold; and the way from an entry to its payload.

use fsnap_core::answer::Snapshot;
use fsnap_core::record::Record;
use fsnap_core::{Error, Gfid, Result, SnapName, Timestamp, mdata};

use crate::Store;
use crate::adopt;
use crate::brick::{Access, OpenFile};
use crate::pages::{self, Pages};
use crate::sys;
use crate::xattrs::{self, XattrNames};

impl Store {
    /// The base of `file`, and whether `file` is one of its snapshots; `file` itself if it is none.
    ///
    /// [`Error::Gone`] (`ESTALE`) if it is not on this brick, [`Error::Damaged`] (`EIO`) if its record can't be read.
    pub fn base_of(&self, file: Gfid) -> Result<(Gfid, bool)> {
        let inode = match self.brick.open_file(file, Access::Read) {
            Err(Error::NotRegular) => return Ok((file, false)),
            other => other?,
        };
        Ok(xattrs::payload_record(&inode.file)?.map_or((file, false), |record| (record.base, true)))
    }

    /// All snapshots of `base`, the oldest first: what the catalogue has at this moment, also while others change it.
    ///
    /// [`Error::Damaged`] (`EIO`) if any of them can't be trusted, [`Error::Gone`] (`ESTALE`) if the file is not on
    /// this brick, [`Error::NotRegular`] (`EINVAL`).
    pub fn list(&self, base: Gfid) -> Result<Vec<Snapshot>> {
        let inode = self.brick.open_file(base, Access::Read)?;
        let mut found = Vec::new();
        let names = XattrNames::of(&inode.file)?;
        let dispersed = names.is_dispersed();
        let entries = match Pages::named(&inode.file, base, &names)?.all() {
            // Others change one page while another is read.
            Err(Error::Damaged(_)) => Pages::of(&inode.file, base)?.all()?,
            other => other?,
        };
        for (name, entry) in entries {
            // Without an entry it was deleted since.
            if let Some((seq, snapshot)) = self.snapshot(&inode, name, Some(entry), dispersed)? {
                found.push((seq, snapshot));
            }
        }
        found.sort_by(|a, b| (a.0, &a.1.name).cmp(&(b.0, &b.1.name)));
        Ok(found.into_iter().map(|(_, snapshot)| snapshot).collect())
    }

    /// The mtime of `file` as GlusterFS keeps it; `None` without the `ctime` feature. The bricks of a set need not agree on
    /// it.
    ///
    /// [`Error::Gone`] (`ESTALE`), [`Error::NotRegular`] (`EINVAL`), or what a system call says.
    pub fn mtime(&self, file: Gfid) -> Result<Option<Timestamp>> {
        mtime(&self.brick.open_file(file, Access::Read)?)
    }

    /// One snapshot of `base`. [`Error::NoSnapshot`] (`ENODATA`) if there is none of that name; else as
    /// [`list`](Store::list).
    pub fn info(&self, base: Gfid, name: &SnapName) -> Result<Snapshot> {
        let inode = self.brick.open_file(base, Access::Read)?;
        let names = XattrNames::of(&inode.file)?;
        let entry = Pages::named(&inode.file, base, &names)?.get(name)?;
        match self.snapshot(&inode, name.clone(), entry, names.is_dispersed())? {
            Some((_, snapshot)) => Ok(snapshot),
            None => Err(Error::NoSnapshot(name.to_string())),
        }
    }

    /// The snapshot `name` of `base` whose entry is `entry`, and its number; `None` if there is none. What is wrong with its payload is told only if the
    /// entry is still the same afterwards: it may be that it was deleted, and perhaps taken again, in between.
    fn snapshot(
        &self,
        base: &OpenFile,
        name: SnapName,
        mut entry: Option<Record>,
        dispersed: bool,
    ) -> Result<Option<(u64, Snapshot)>> {
        while let Some(record) = entry {
            let described = self.describe(base.gfid, name.clone(), &record, dispersed);
            if matches!(&described, Ok(snapshot) if snapshot.size.is_some()) {
                return described.map(|snapshot| Some((record.seq, snapshot)));
            }
            entry = pages::entry(base, &name)?;
            if entry.as_ref().is_some_and(|now| now.gfid == record.gfid) {
                return described
                    .inspect_err(|e| {
                        if e.is_fault() {
                            tracing::error!("snapshot {name} of {}: {e}", base.gfid);
                        }
                    })
                    .map(|snapshot| Some((record.seq, snapshot)));
            }
        }
        Ok(None)
    }

    /// Forbids (`held`) or allows the deletion of a snapshot. It does nothing if that is already so.
    ///
    /// [`Error::NoSnapshot`] (`ENODATA`), [`Error::Damaged`] (`EIO`), [`Error::Gone`] (`ESTALE`),
    /// [`Error::NotRegular`] (`EINVAL`), or what a system call says.
    pub fn hold(&self, base: Gfid, name: &SnapName, held: bool) -> Result<()> {
        let _change = self.change()?;
        let _reserve = self.may_use_reserve();
        let base = self.brick.open_file(base, Access::Read)?;
        let record = pages::expect_entry(&base, name)?;
        if record.held == held {
            return Ok(());
        }
        pages::write_entry(&base, name, &Record { held, ..record })?;
        sys::sync(&base.file)
    }

    fn describe(&self, base: Gfid, name: SnapName, record: &Record, dispersed: bool) -> Result<Snapshot> {
        let payload = self.payload(base, &name, record.gfid)?;
        let mut snapshot = Snapshot::from_record(name, record);
        let Some(payload) = payload else { return Ok(snapshot) };
        // Of what it has not, nothing need be asked.
        let names = XattrNames::of(&payload.file)?;
        if !is_being_healed(&names, dispersed) {
            snapshot.unsettled = !adopt::marks_among(&names, &payload)?.is_empty();
            snapshot.size = Some(if names.has(xattrs::EC_SIZE) {
                content_size(&payload)?
            } else {
                payload.stat.st_size.unsigned_abs()
            });
            snapshot.mtime = if names.has(mdata::XATTR) { mtime(&payload)? } else { None };
        }
        Ok(snapshot)
    }

    /// Opens the payload of snapshot `name` of `base`; `None` if this brick lacks it. [`Error::Damaged`] if what has
    /// its gfid is something else.
    pub(crate) fn payload(&self, base: Gfid, name: &SnapName, gfid: Gfid) -> Result<Option<OpenFile>> {
        let inode = match self.brick.open_file(gfid, Access::Read) {
            Err(Error::Gone) => return Ok(None),
            Err(Error::NotRegular) => {
                return Err(Error::Damaged(format!("{gfid} is to be a snapshot but is not a regular file")));
            }
            other => other?,
        };
        match xattrs::payload_record(&inode.file)? {
            Some(r) if r.base == base && r.name == *name && r.gfid == gfid => Ok(Some(inode)),
            Some(r) => {
                Err(Error::Damaged(format!("{gfid} says that it is snapshot {} of {}", r.name, r.base)))
            }
            None => Err(Error::Damaged(format!("{gfid} is to be snapshot {name} but has no record"))),
        }
    }
}

/// Whether self-heal has yet to fill a payload with xattrs of these names.
pub(crate) fn is_being_healed(names: &XattrNames, dispersed: bool) -> bool {
    names.has(adopt::HEALING) || (dispersed && !names.has(xattrs::EC_SIZE))
}

fn mtime(file: &OpenFile) -> Result<Option<Timestamp>> {
    Ok(xattrs::get(&file.file, mdata::XATTR)?.and_then(|bytes| mdata::mtime(&bytes)))
}

/// The size of the content, which on a disperse volume is more than that of this brick's fragment.
pub(crate) fn content_size(inode: &OpenFile) -> Result<u64> {
    let fragment = xattrs::get(&inode.file, xattrs::EC_SIZE)?.and_then(|bytes| bytes.try_into().ok());
    Ok(fragment.map_or(inode.stat.st_size.unsigned_abs(), u64::from_be_bytes))
}
