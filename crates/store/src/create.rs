//! Taking a snapshot.

use std::fs::File;
use std::time::Duration;

use fsnap_core::command::Create;
use fsnap_core::gfid2path::Link;
use fsnap_core::record::{PAYLOAD, PayloadRecord, Record, SEQ, decode_seq, encode_seq};
use fsnap_core::{Error, Gfid, Result, SnapName};
use nix::sys::stat::{FileStat, fstat};

use crate::Store;
use crate::adopt;
use crate::brick::{Access, OpenDir, OpenFile, open_leaf};
use crate::notice::Notice;
use crate::pages::{self, Pages};
use crate::payload::{self, OwnXattrs};
use crate::snapdir::SnapDir;
use crate::sys::{self, Doing, give_name};
use crate::xattrs::{self, XattrNames};

/// How much of the brick snapshots may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Snapshots that one file may have.
    pub max_snapshots: usize,
    /// Percent of the brick that must be free for a new snapshot.
    pub min_free: u8,
}

/// A snapshot that was taken.
#[derive(Clone, Debug)]
pub struct Cloned {
    /// The gfid of the snapshot file.
    pub gfid: Gfid,
    /// For how long the file's writers had to wait: the time of the clone itself.
    pub clone_time: Duration,
    /// The names of the marks that the replicate translator had on the file and that are true of the snapshot as well.
    pub marks: Vec<String>,
}

/// What a create is going to make.
struct NewPayload {
    /// The directory that the base lies in.
    parent: OpenDir,
    /// The payload's name in `.fsnap`.
    leaf: Vec<u8>,
    record: PayloadRecord,
    entry: Record,
    /// The value of [`SEQ`] until now.
    last_seq: Option<Vec<u8>>,
}

/// The places where a payload goes.
struct PayloadDirs {
    handles: File,
    snap_dir: SnapDir,
}

impl Store {
    /// Takes a snapshot of `file`. When this returns it is durable, with all data that had reached the brick.
    ///
    /// Whether rebalance is moving it is the caller's to know: see [`is_marked_as_moving`](Store::is_marked_as_moving).
    ///
    /// Refused, with nothing on the disk changed: [`Error::Gone`] (`ESTALE`: also if it was deleted), [`Error::NotRegular`] (`EINVAL`),
    /// [`Error::ReadOnly`] (`EROFS`: it is a snapshot), [`Error::Migrating`] (`EBUSY`: it is a link file of DHT), [`Error::Unsupported`]
    /// (`EOPNOTSUPP`: no reflink here, sharded, under quota accounting, no gfid2path xattr, a foreign `.fsnap`),
    /// [`Error::Exists`] (`EEXIST`: also if the snapshot of another file that once had this name is in the way),
    /// [`Error::TooMany`] (`EDQUOT`), [`Error::TooManyXattrs`] (`E2BIG`), [`Error::LowSpace`] (`ENOSPC`), [`Error::NameTooLong`] (`ENAMETOOLONG`),
    /// [`Error::Damaged`] (`EIO`: something on the disk is not what it should be, or a restore was begun and could
    /// not be finished). Else what a system call says; then what was made is taken back.
    pub fn create(&self, file: Gfid, what: &Create, limits: &Limits) -> Result<Cloned> {
        let _change = self.change()?;
        let base = self.brick.open_file(file, Access::Read)?;
        let names = XattrNames::of(&base.file)?;
        self.check_base(&base, &names)?;
        refuse_quota(&names)?;
        if self.is_torn(file) || self.state.get().is_some_and(|state| state.has_intent(file)) {
            return Err(Error::Damaged(
                "a restore of this file was interrupted and could not be finished".into(),
            ));
        }
        let mut pages = Pages::named(&base.file, file, &names)?;
        self.check_limits(&base, &pages, &what.name, limits)?;
        let own = payload::of_application(&base.file)?;
        let plan = self.plan(&base, &pages, what)?;
        let taken = self.take(&base, &names, &own, &plan, &mut pages)?;
        self.top_up_reserve();
        Ok(taken)
    }

    /// Whether `file` has both marks by which DHT tells its clients that rebalance is moving it away: the xattr, and sticky and setgid
    /// (`__dht_rebalance_open_src_file` of cluster/dht sets them in this order, `IS_DHT_MIGRATION_PHASE1`). Either alone says nothing:
    /// anybody may give his file that mode. Both stay when a rebalance is killed.
    ///
    /// [`Error::Gone`] (`ESTALE`), [`Error::NotRegular`] (`EINVAL`), or what a system call says.
    pub fn is_marked_as_moving(&self, file: Gfid) -> Result<bool> {
        let inode = self.brick.open_file(file, Access::Read)?;
        let moving = libc::S_ISVTX | libc::S_ISGID;
        Ok(inode.stat.st_mode & moving == moving && xattrs::get(&inode.file, xattrs::LINKTO)?.is_some())
    }

    /// Refuses what has no snapshots and what must not be touched now.
    pub(crate) fn check_base(&self, base: &OpenFile, names: &XattrNames) -> Result<()> {
        if names.has(PAYLOAD) {
            return Err(Error::ReadOnly("a snapshot has no snapshots of its own"));
        }
        if is_link(&base.stat, names) {
            return Err(Error::Migrating);
        }
        if names.has(xattrs::SHARD) {
            return Err(Error::unsupported("the file is sharded"));
        }
        if !self.reflink {
            return Err(Error::unsupported("the brick's file system cannot share blocks (reflink)"));
        }
        Ok(())
    }

    fn check_limits(&self, base: &OpenFile, pages: &Pages, name: &SnapName, limits: &Limits) -> Result<()> {
        if pages.page_of(name).is_some() {
            return Err(Error::Exists(name.to_string()));
        }
        let count = pages.all()?.len();
        if count >= limits.max_snapshots {
            tracing::info!("{} has {count} snapshots: no more", base.gfid);
            return Err(Error::TooMany(count));
        }
        let free = self.brick.free_percent()?;
        if free < u64::from(limits.min_free) {
            return Err(Error::LowSpace { free, min: limits.min_free });
        }
        Ok(())
    }

    fn plan(&self, base: &OpenFile, pages: &Pages, what: &Create) -> Result<NewPayload> {
        let (parent, file_name) =
            self.place_of(base, |file_name| what.name.file_name(file_name).map(drop))?;
        let last_seq = xattrs::get(&base.file, SEQ)?;
        let seq = match &last_seq {
            Some(bytes) => decode_seq(bytes)?,
            // Heal sets the xattrs one by one: the entries can be here before the number.
            None => pages.readable().map(|(_, record)| record.seq).max().unwrap_or(0),
        };
        let seq = seq
            .checked_add(1)
            .ok_or_else(|| Error::Damaged(format!("the seq of {} is at its end", base.gfid)))?;
        let gfid = base.gfid.payload(&what.name, what.id, seq);
        let entry = Record { seq, id: what.id, gfid, created: what.created, held: false };
        Ok(NewPayload {
            parent,
            leaf: what.name.file_name(&file_name)?,
            record: PayloadRecord::of(base.gfid, what.name.clone(), &entry),
            entry,
            last_seq,
        })
    }

    fn take(
        &self,
        base: &OpenFile,
        names: &XattrNames,
        own: &OwnXattrs,
        plan: &NewPayload,
        pages: &mut Pages,
    ) -> Result<Cloned> {
        let gfid = plan.record.gfid;
        let places = self.clear_places(plan)?;
        let link = Link { parent: plan.parent.gfid.snap_dir(), name: plan.leaf.clone() };
        let (file, clone_time) =
            payload::make(self, base, names, own, &plan.record, &link, &places.snap_dir.dir)?;
        let stat = fstat(&file).doing("stat")?;
        let payload = OpenFile { file, stat, gfid };
        match self.publish(base, &payload, plan, &places, pages) {
            Ok(()) => Ok(Cloned { gfid, clone_time, marks: adopt::marks(&payload).unwrap_or_default() }),
            Err(e) => {
                if let Err(undo) = self.take_back(base, &payload, plan, &places) {
                    tracing::error!(
                        "snapshot {} of {} failed ({e}) and was not taken back: {undo}",
                        plan.record.name,
                        base.gfid
                    );
                }
                Err(e)
            }
        }
    }

    /// Gives the payload its places, then enters it into the catalogue, and makes all of it durable.
    fn publish(
        &self,
        base: &OpenFile,
        payload: &OpenFile,
        plan: &NewPayload,
        places: &PayloadDirs,
        pages: &mut Pages,
    ) -> Result<()> {
        let NewPayload { record: PayloadRecord { name, .. }, entry, .. } = plan;
        let brick = &self.brick;
        let state = self.state()?;
        state.note_pending(brick, payload)?;
        // The handle first: what has a name has a handle, or storage/posix would see to it in its own way.
        give_name(&payload.file, &places.handles, payload.gfid.to_string().as_str())
            .doing("link a handle")?;
        give_name(&payload.file, &places.snap_dir.dir, plan.leaf.as_slice()).doing("link a snapshot")?;
        // The entry must never be there without the payload. See `BrickDir::settle`: on XFS the fsync of the base, whose
        // change is the last one in the log, says that for all of these.
        for step in [
            &payload.file,
            &places.handles,
            &places.snap_dir.dir,
            &places.snap_dir.handles,
            &plan.parent.file,
        ] {
            brick.settle(step)?;
        }
        xattrs::set(&base.file, SEQ, encode_seq(entry.seq).as_bytes())?;
        pages.put(&base.file, name, entry)?;
        // An unlink does not wait for a file without snapshots, which it was until now.
        if fstat(&base.file).doing("stat")?.st_nlink < 2 {
            return Err(Error::Gone);
        }
        sys::sync(&base.file)?;
        // A change of rights that came before the entry has not found it.
        self.ensure_rights(&self.rights_of_snapshots(base)?, payload)?;
        // It is taken: a note that stays does no harm.
        if let Err(e) = state.forget_pending(payload.gfid) {
            tracing::warn!("cannot remove the note that snapshot {} was being made: {e}", payload.gfid);
        }
        self.notice(Notice::Added(plan.parent.gfid.snap_dir()));
        Ok(())
    }

    /// Undoes [`publish`](Self::publish), however far it came: also the number, which other bricks may not have given.
    fn take_back(
        &self,
        base: &OpenFile,
        payload: &OpenFile,
        plan: &NewPayload,
        places: &PayloadDirs,
    ) -> Result<()> {
        let _reserve = self.may_use_reserve();
        let gfid = payload.gfid;
        pages::remove_entry(base, &plan.record.name)?;
        if xattrs::get(&base.file, SEQ)? != plan.last_seq {
            match &plan.last_seq {
                Some(seq) => xattrs::set(&base.file, SEQ, seq)?,
                None => xattrs::remove(&base.file, SEQ)?,
            }
        }
        self.brick.settle(&base.file)?;
        if sys::unlink_if_same(&places.snap_dir.dir, plan.leaf.as_slice(), &payload.stat)? {
            self.notice(Notice::Removed { dir: plan.parent.gfid.snap_dir(), name: &plan.leaf, file: gfid });
            self.brick.settle(&places.snap_dir.dir)?;
        }
        if sys::unlink_if_same(&places.handles, gfid.to_string().as_str(), &payload.stat)? {
            self.brick.settle(&places.handles)?;
        }
        self.state()?.forget_pending(gfid)?;
        sys::sync(&base.file)
    }

    /// Opens the places where the payload goes, and makes sure that nothing stands there. They are made if they are not there: only
    /// where nothing can stand, which would be a reason to refuse.
    fn clear_places(&self, plan: &NewPayload) -> Result<PayloadDirs> {
        let gfid = plan.record.gfid;
        let handles = match self.brick.handle_dir(gfid) {
            Ok(handles) => {
                self.clear(&handles, gfid.to_string().as_bytes(), plan)?;
                Some(handles)
            }
            Err(Error::Gone) => None,
            Err(e) => return Err(e),
        };
        let snap_dir = self.ensure_snap_dir(&plan.parent)?;
        self.clear(&snap_dir.dir, &plan.leaf, plan)?;
        let handles = match handles {
            Some(handles) => handles,
            None => self.brick.make_handle_dir(gfid)?,
        };
        Ok(PayloadDirs { snap_dir, handles })
    }

    /// Makes sure that nothing is in the place `name` of `dir`. A payload of this very snapshot that is in no
    /// catalogue (a crash, or a heal that is not done) goes into quarantine. Anything else is not ours to move.
    fn clear(&self, dir: &File, name: &[u8], plan: &NewPayload) -> Result<()> {
        let blocked = || {
            tracing::error!("{} is in the way of a snapshot and was not made by fsnap", name.escape_ascii());
            Err(Error::Damaged(format!("{} is in the way", name.escape_ascii())))
        };
        let (file, stat) = match open_leaf(dir, name, Access::Read) {
            Ok(None) => return Ok(()),
            Ok(Some(leaf)) => leaf,
            Err(Error::NotRegular) => return blocked(),
            Err(e) => return Err(e),
        };
        match xattrs::payload_record(&file) {
            Ok(Some(r)) if r.base == plan.record.base && r.name == plan.record.name => {
                self.state()?.quarantine(&self.brick, dir, name, &format!("snapshot-{}", r.gfid))?;
                self.unlink_everywhere(&OpenFile { file, stat, gfid: r.gfid }).map(drop)
            }
            Ok(Some(r)) if name == plan.leaf => {
                tracing::error!(
                    "{} is a snapshot of {}, another file of that name",
                    name.escape_ascii(),
                    r.base
                );
                Err(Error::Exists(plan.record.name.to_string()))
            }
            Ok(_) | Err(Error::Damaged(_)) => blocked(),
            Err(e) => Err(e),
        }
    }
}

/// Quota counts what comes from above: nothing of what is made or changed here.
pub(crate) fn refuse_quota(names: &XattrNames) -> Result<()> {
    match names.has_quota() {
        true => Err(Error::unsupported("quota is on: it would not count this")),
        false => Ok(()),
    }
}

/// Whether rebalance has moved the file away, or is about to fill this one. Source: `check_is_linkfile` of cluster/dht.
fn is_link(stat: &FileStat, names: &XattrNames) -> bool {
    stat.st_mode & 0o7777 == libc::S_ISVTX && names.has(xattrs::LINKTO)
}
