//! Self-heal. It brings the xattrs of a file from a brick that has missed nothing, and with them the catalogue, which is
//! the truth: snapshots that it does not name go, and for those that this brick lacks heal is told to make them. Nothing
//! else may be made in `.fsnap`, so that what was deleted can't come back from a brick that does not know of that yet.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;

use fsnap_core::catalogue::Page;
use fsnap_core::record::{PAYLOAD, PayloadRecord, Record, SEQ, encode_seq};
use fsnap_core::{Error, Gfid, LastPlace, Result, SnapName, afr};

use crate::Store;
use crate::brick::{Access, BrickDir, OpenFile};
use crate::follow::SnapshotPlace;
use crate::guard;
use crate::ioctl::{ficlone, follow_nocow};
use crate::pages::{self, Pages};
use crate::sys::{self, Doing};
use crate::xattrs::{self, XattrNames};

/// What self-heal has to see to, for the snapshots of one file.
#[derive(Default, PartialEq, Eq, Debug)]
pub struct Outstanding {
    /// The file is on a disperse volume.
    pub dispersed: bool,
    /// Where the snapshots that this brick lacks may be on the others: the gfids of `.fsnap`s and names in them.
    pub missing: BTreeMap<Gfid, BTreeSet<Vec<u8>>>,
    /// Their own gfids.
    pub awaited: BTreeSet<Gfid>,
    /// Those whose copies on the bricks may differ, as marks of the replicate translator say; with the names of the marks.
    pub unsettled: Vec<(Gfid, Vec<String>)>,
}

/// On a snapshot that self-heal has made and not filled yet.
pub(crate) const HEALING: &str = "trusted.fsnap.healing";

/// The catalogue of a file as another brick has it.
#[derive(Default, Debug)]
pub struct Catalogue {
    /// The number of the last snapshot taken; `None` if the brick knows of none.
    pub seq: Option<u64>,
    /// Its pages, by their numbers.
    pub pages: BTreeMap<u32, Page>,
    /// Snapshots that are another here than there, though the entries are the same.
    pub doubtful: BTreeSet<SnapName>,
}

impl Catalogue {
    /// Its entry of snapshot `name` of `base`; [`Error::Damaged`] if that can't be read.
    fn entry(&self, base: Gfid, name: &SnapName) -> Result<Option<Record>> {
        self.pages.values().find_map(|page| page.get(base, name).transpose()).transpose()
    }
}

impl Store {
    /// Removes the snapshots of `base` that are not in the catalogue `truth`, or are others there (have another gfid or
    /// number). Those that may not have been deleted there go into quarantine. To be called before the xattrs of `truth` are
    /// set. When this returns it is durable.
    ///
    /// [`Error::Damaged`] (`EIO`) also if it can't be told which snapshots `truth` has: nothing is changed then. Else [`Error::Gone`]
    /// (`ESTALE`), [`Error::NotRegular`] (`EINVAL`), or what a system call says.
    pub fn adopt(&self, base: Gfid, truth: &Catalogue) -> Result<()> {
        truth.pages.values().try_for_each(Page::check_names)?;
        let _change = self.change()?;
        let _reserve = self.may_use_reserve();
        let inode = self.brick.open_file(base, Access::Read)?;
        let names = XattrNames::of(&inode.file)?;
        for (name, ours) in Pages::named(&inode.file, base, &names)?.readable() {
            let outdated = match truth.entry(base, &name) {
                Ok(None) => true,
                Ok(Some(theirs)) => {
                    (ours.gfid, ours.seq) != (theirs.gfid, theirs.seq) || truth.doubtful.contains(&name)
                }
                // What is damaged there tells nothing.
                Err(_) => false,
            };
            if outdated {
                self.outdated(&inode, &name, &ours, truth)?;
            }
        }
        // Self-heal would leave pages that the other brick does not have. As always the number is there before the entries.
        if let Some(seq) = truth.seq {
            let seq = encode_seq(seq).into_bytes();
            if xattrs::get(&inode.file, SEQ)?.as_ref() != Some(&seq) {
                xattrs::set(&inode.file, SEQ, &seq)?;
            }
        }
        Pages::of(&inode.file, base)?.become_like(&inode.file, &truth.pages)?;
        if truth.seq.is_none() && names.has(SEQ) {
            xattrs::remove(&inode.file, SEQ)?;
        }
        sys::sync(&inode.file)
    }

    /// It was deleted while this brick was away if the other one knows of it: then its number is not above that one's last,
    /// nor that of another snapshot there. What was held here, or may be the only one, is kept aside.
    fn outdated(&self, base: &OpenFile, name: &SnapName, record: &Record, truth: &Catalogue) -> Result<()> {
        let mut theirs = truth.pages.values().flat_map(|page| page.entries(base.gfid)).filter_map(Result::ok);
        let forked = theirs.any(|(_, other)| other.seq == record.seq);
        if truth.seq.is_some_and(|seq| seq >= record.seq) && !forked && !record.held {
            tracing::info!("snapshot {name} of {} was deleted while this brick was away", base.gfid);
            return self.remove_snapshot(base, name, record);
        }
        match self.payload(base.gfid, name, record.gfid) {
            Ok(Some(payload)) => {
                self.state()?.keep_aside(&self.brick, &payload.file, &format!("snapshot-{}", record.gfid))?;
            }
            Ok(None) => {}
            Err(Error::Damaged(why)) => tracing::error!("snapshot {name} of {}: {why}", base.gfid),
            Err(e) => return Err(e),
        }
        tracing::error!(
            "snapshot {name} of {} is not on the other bricks, and goes into quarantine",
            base.gfid
        );
        self.remove_snapshot(base, name, record)
    }

    /// Puts all snapshots of `base` into quarantine: self-heal has found that the other bricks of the set do not have the
    /// file. If it is buried it goes.
    ///
    /// As [`adopt`](Store::adopt).
    pub fn disown(&self, base: Gfid) -> Result<()> {
        let _change = self.change()?;
        let _reserve = self.may_use_reserve();
        self.adopt(base, &Catalogue::default())?;
        self.after_delete(&self.brick.open_file(base, Access::Read)?);
        Ok(())
    }

    /// Whether `file` is a fragment of a disperse volume's file.
    ///
    /// [`Error::Gone`] (`ESTALE`), [`Error::NotRegular`] (`EINVAL`), [`Error::Damaged`] (`EIO`), or what a system call
    /// says.
    pub fn is_dispersed(&self, file: Gfid) -> Result<bool> {
        Ok(XattrNames::of(&self.brick.open_file(file, Access::Read)?.file)?.is_dispersed())
    }

    /// Whether directory `dir` is where self-heal puts what may have another name: to fsnap it is no place.
    ///
    /// [`Error::Gone`] (`ESTALE`), or what a system call says.
    pub fn is_anonymous(&self, dir: Gfid) -> Result<bool> {
        Ok(self.brick.open_dir(dir)?.is_anonymous())
    }

    /// Before self-heal renames a name of `file` to `name` in `dir`, where it puts files aside: if another of its names went
    /// there already, that goes. A rename between two names of one file does nothing, and self-heal would not notice.
    ///
    /// [`Error::Gone`] (`ESTALE`), or what a system call says.
    pub fn make_room_aside(&self, file: Gfid, dir: Gfid, name: &[u8]) -> Result<()> {
        let _change = self.change()?;
        let _reserve = self.may_use_reserve();
        let dir = self.brick.open_dir(dir)?;
        if dir.is_anonymous() {
            let file = self.brick.open_file(file, Access::Read)?;
            sys::unlink_if_same(&dir.file, name, &file.stat)?;
        }
        Ok(())
    }

    /// Whether another brick of the set may have missed a change of what is in directory `dir`, as marks of the replicate or
    /// disperse translator say.
    ///
    /// [`Error::Gone`] (`ESTALE`), or what a system call says.
    pub fn is_missed(&self, dir: Gfid) -> Result<bool> {
        let dir = self.brick.open_dir(dir)?.file;
        let names = XattrNames::of(&dir)?;
        for name in names.starting(afr::PREFIX) {
            if xattrs::get(&dir, name)?.is_some_and(|mark| afr::tells_of_entries(&mark)) {
                return Ok(true);
            }
        }
        let dirty = xattrs::get(&dir, xattrs::EC_DIRTY)?;
        Ok(dirty.is_some_and(|mark| mark.iter().any(|&byte| byte != 0)))
    }

    /// Before self-heal gives `base` a name in directory `parent`. If the file is here as a deleted one alone, whose content
    /// is gone or about to go, it has to be made anew: self-heal would take the content for right. Its snapshots stay until
    /// then. Where another brick has put the file aside it has no name: a full heal gives all bricks what one has there.
    ///
    /// [`Error::Unhealed`] (`EIO`) then, and the file is gone, but not if it was put aside; [`Error::Gone`] (`ESTALE`),
    /// [`Error::Damaged`] (`EIO`), or what a system call says.
    pub fn make_way(&self, base: Gfid, parent: Gfid) -> Result<()> {
        let _change = self.change()?;
        let _reserve = self.may_use_reserve();
        if self.is_anonymous(parent)? {
            return Err(Error::Unhealed("it was put aside on another brick alone".into()));
        }
        let inode = self.brick.open_file(base, Access::Read)?;
        let Some(grave) = self.only_grave(&inode)? else { return Ok(()) };
        self.abandon(&inode, Some(&grave))?;
        Err(Error::Unhealed("it was taken for deleted, and is to be made anew".into()))
    }

    /// After self-heal has given `base` a name: if it was about to be buried it is alive. Its snapshots are beside that name
    /// when this returns.
    ///
    /// [`Error::Gone`] (`ESTALE`), [`Error::NotRegular`] (`EINVAL`), [`Error::Damaged`] (`EIO`), or what a system call
    /// says.
    pub fn rise(&self, base: Gfid) -> Result<()> {
        let _change = self.change()?;
        let _reserve = self.may_use_reserve();
        if self.is_buried(base) && !self.unbury(base)? {
            return Err(Error::Damaged("it has got no name".into()));
        }
        self.follow(base)
    }

    /// What self-heal has to see to after the catalogue of `base` has come; takes note of what is to be made here. A deleted
    /// file without snapshots goes. What can't be read of the catalogue, or of a payload, is left to the log.
    ///
    /// [`Error::Gone`] (`ESTALE`), [`Error::NotRegular`] (`EINVAL`), [`Error::Damaged`] (`EIO`), or what a system call
    /// says.
    pub fn outstanding(&self, base: Gfid) -> Result<Outstanding> {
        let _change = self.change()?;
        let inode = self.brick.open_file(base, Access::Read)?;
        // Self-heal takes it for durable when this is answered.
        sys::sync(&inode.file)?;
        self.after_delete(&inode);
        let names = XattrNames::of(&inode.file)?;
        let mut outstanding = Outstanding { dispersed: names.is_dispersed(), ..Outstanding::default() };
        let mut spots = None;
        for entry in Pages::named(&inode.file, base, &names)?.entries() {
            let (name, record) = match entry {
                Ok(entry) => entry,
                Err(e) => {
                    tracing::error!("the catalogue of {base}: {e}");
                    continue;
                }
            };
            match self.payload(base, &name, record.gfid) {
                Ok(Some(payload)) => {
                    self.arrived(&payload)?;
                    let marks = marks(&payload)?;
                    if !marks.is_empty() {
                        outstanding.unsettled.push((payload.gfid, marks));
                    }
                }
                Ok(None) => {
                    self.state()?.note_awaited(&self.brick, record.gfid, base)?;
                    let spots = match &mut spots {
                        Some(spots) => spots,
                        none => none.insert(self.spots(&inode)?),
                    };
                    self.expect_at(base, &name, spots)?;
                    let in_use = |spot: &&SnapshotPlace| self.entry_in_snap_dir(spot.parent().snap_dir());
                    want(base, &name, spots.iter().filter(in_use), &mut outstanding.missing);
                    outstanding.awaited.insert(record.gfid);
                }
                // Its own xattrs are healed as well.
                Err(e @ Error::Damaged(_)) => tracing::warn!("snapshot {name} of {base}: {e}"),
                Err(e) => return Err(e),
            }
        }
        Ok(outstanding)
    }

    /// Notes that `payload` need not be awaited any more.
    fn arrived(&self, payload: &OpenFile) -> Result<()> {
        self.state()?.forget_awaited(payload.gfid)
    }

    /// Sees to it that there is the `.fsnap` in which the other bricks most likely have snapshot `name` of `base`, whose places are
    /// `spots`, that this one lacks. A snapshot is made beside the name that is likeliest to be the owner's and has room for it,
    /// and stays there when a better one comes: so it is there, or in another `.fsnap` that is in use.
    fn expect_at(&self, base: Gfid, name: &SnapName, spots: &[SnapshotPlace]) -> Result<()> {
        let fits = |spot: &&SnapshotPlace| spot.place(name, base).is_ok();
        let Some(first) = spots.iter().find(fits).or(spots.first()) else { return Ok(()) };
        let parent = first.parent();
        if self.entry_in_snap_dir(parent.snap_dir()) {
            return Ok(());
        }
        match self.snap_dir(parent) {
            Err(Error::Unsupported(why)) => {
                tracing::error!("no snapshots beside {base}: {why}");
                Ok(())
            }
            other => other.map(drop),
        }
    }

    /// Whether this brick has a file of that gfid. True if it can't be told.
    pub fn has(&self, gfid: Gfid) -> bool {
        !matches!(self.brick.open_file(gfid, Access::Read), Err(Error::Gone))
    }

    /// As [`payload`](Store::payload), and also what self-heal [had begun](is_begun) to make.
    pub(crate) fn payload_or_begun(
        &self,
        base: Gfid,
        name: &SnapName,
        gfid: Gfid,
    ) -> Result<Option<OpenFile>> {
        match self.brick.open_file(gfid, Access::Read) {
            Ok(inode) if is_begun(&inode)? => Ok(Some(inode)),
            _ => self.payload(base, name, gfid),
        }
    }

    /// Before self-heal makes the tombstone `name` of the deleted file `base` in `snap_dir`: notes that it is buried, and where
    /// it was. The file is not here, or was put aside. If it was deleted here as well, at a place that it had left on the
    /// other bricks before, its tombstone moves, and its snapshots with it: then there is nothing to be made.
    ///
    /// [`Error::Unhealed`] (`EIO`) then, and if the file has another place here, or the name does not tell its own;
    /// [`Error::Damaged`] (`EIO`), or what a system call says.
    pub fn expect_tombstone(&self, base: Gfid, snap_dir: Gfid, name: &[u8]) -> Result<()> {
        let _change = self.change()?;
        let parent = self.brick.soft_handle_of(snap_dir)?.map(|link| link.parent);
        let Some(was) = parent.and_then(|parent| LastPlace::of_tombstone(parent, base, name)) else {
            return Err(Error::Unhealed("the name of the tombstone does not tell the file's".into()));
        };
        match self.brick.open_file(base, Access::Read) {
            Err(Error::Gone) => {}
            Err(e) => return Err(e),
            // It was put aside, or it was discarded with its directory: who has its tombstone there is found by nobody.
            Ok(inode) if self.grave(&inode)?.is_none() && self.brick.current_names(&inode)?.is_empty() => {}
            Ok(inode) => {
                let Some(grave) = self.only_grave(&inode)? else {
                    return Err(Error::Unhealed("the deleted file is here, under another name".into()));
                };
                self.move_grave(&inode, &grave, &was)?;
                self.follow_rights(base)?;
                let last = self.bring_all(&inode)?;
                sys::sync(last.as_ref().unwrap_or(&inode.file))?;
                return Err(Error::Unhealed(
                    "it was deleted here as well, and its tombstone has moved".into(),
                ));
            }
        }
        self.state()?.note_buried(&self.brick, base, &was)?;
        self.buried.set(base, true);
        Ok(())
    }

    /// The names of the marks of the replicate translator that snapshot `name` of `base` has: what it may differ in from other
    /// bricks. None if it is not here.
    ///
    /// [`Error::Gone`] (`ESTALE`), [`Error::NotRegular`] (`EINVAL`), [`Error::Damaged`] (`EIO`), or what a system call
    /// says.
    pub fn marks(&self, base: Gfid, name: &SnapName) -> Result<Vec<String>> {
        let entry = pages::entry(&self.brick.open_file(base, Access::Read)?, name)?;
        let payload = entry.map(|entry| self.payload(base, name, entry.gfid)).transpose()?.flatten();
        payload.map_or(Ok(Vec::new()), |payload| marks(&payload))
    }

    /// After self-heal has set the attributes of snapshot `payload`, which it does when it has filled it.
    ///
    /// [`Error::Gone`] (`ESTALE`), [`Error::NotRegular`] (`EINVAL`), or what a system call says.
    pub fn healed(&self, payload: Gfid) -> Result<()> {
        let _change = self.change()?;
        xattrs::remove(&self.brick.open_file(payload, Access::Read)?.file, HEALING)?;
        self.state()?.forget_awaited(payload)?;
        self.top_up_reserve();
        Ok(())
    }

    /// After self-heal has made the file `payload`, a snapshot of `base`, empty as yet: gives it its record, and the file's
    /// content, of which it then has to be sent only what differs. (A fragment of a disperse volume is sent whole.)
    ///
    /// [`Error::Gone`] (`ESTALE`) if either is not there, or what a system call says: `EOPNOTSUPP` where blocks can't be
    /// shared. The record is there then, and heal goes on.
    pub fn seed(&self, payload: Gfid, base: Gfid) -> Result<()> {
        let _change = self.change()?;
        let record = record_of(&self.brick, base, payload)?.ok_or(Error::Gone)?;
        let (payload, base) =
            (self.brick.open_file(payload, Access::Write)?, self.brick.open_file(base, Access::Read)?);
        xattrs::set(&payload.file, HEALING, b"1")?;
        xattrs::set(&payload.file, PAYLOAD, record.to_string().as_bytes())?;
        self.arrived(&payload)?;
        if payload.stat.st_size != 0 || XattrNames::of(&base.file)?.is_dispersed() {
            return Ok(());
        }
        follow_nocow(&base.file, &payload.file).doing("set the NOCOW flag")?;
        let _locked = (self.locks_source(base.gfid), self.locks(payload.gfid));
        ficlone(&base.file, &payload.file).doing("clone the file (FICLONE)")
    }
}

/// What the snapshot `payload` of `base` is, if the catalogue has it. [`Error::Damaged`] if it may be what can't be read there.
pub(crate) fn record_of(brick: &BrickDir, base: Gfid, payload: Gfid) -> Result<Option<PayloadRecord>> {
    let file = match brick.open_file(base, Access::Read) {
        Err(Error::Gone | Error::NotRegular) => return Ok(None),
        other => other?.file,
    };
    let pages = Pages::of(&file, base)?;
    match pages.readable().find(|(_, entry)| entry.gfid == payload) {
        Some((name, entry)) => Ok(Some(PayloadRecord::of(base, name, &entry))),
        None => pages.entries().find_map(Result::err).map_or(Ok(None), Err),
    }
}

/// Adds where snapshot `name` of `base` may be. If the name that tells of the deletion is too long it has kept the other.
fn want<'a>(
    base: Gfid,
    name: &SnapName,
    spots: impl Iterator<Item = &'a SnapshotPlace>,
    missing: &mut BTreeMap<Gfid, BTreeSet<Vec<u8>>>,
) {
    let mut known = false;
    for spot in spots {
        let kept = |error| match spot {
            SnapshotPlace::Grave(was) if !was.has_moved_up() => name.file_name(was.path()),
            _ => Err(error),
        };
        if let Ok(leaf) = spot.place(name, base).map(|place| place.name).or_else(kept) {
            missing.entry(spot.parent().snap_dir()).or_default().insert(leaf);
            known = true;
        }
    }
    if !known {
        tracing::warn!("snapshot {name} of {base} is missing, and where it is on other bricks can't be told");
    }
}

/// Whether `payload` is what self-heal had begun to make when the brick died: it has neither record nor content.
pub(crate) fn is_begun(payload: &OpenFile) -> Result<bool> {
    let OpenFile { file, stat, gfid } = payload;
    Ok(gfid.is_derived()
        && stat.st_size == 0
        && !XattrNames::of(file)?.has(PAYLOAD)
        && !guard::is_link_file(file, stat)?)
}

/// The names of the marks of the replicate translator that `payload` has.
pub(crate) fn marks(payload: &OpenFile) -> Result<Vec<String>> {
    marks_among(&XattrNames::of(&payload.file)?, payload)
}

/// The same if the names of its xattrs are known.
pub(crate) fn marks_among(names: &XattrNames, payload: &OpenFile) -> Result<Vec<String>> {
    let mut marks = Vec::new();
    for name in names.starting(afr::PREFIX) {
        if xattrs::get(&payload.file, name)?.is_some_and(|mark| mark.iter().any(|&byte| byte != 0)) {
            marks.push(name.to_owned());
        }
    }
    Ok(marks)
}

/// Whether marks of the replicate translator say that metadata of `base`, which the catalogue is, may have to be healed.
pub(crate) fn is_unhealed(base: &File) -> Result<bool> {
    for name in XattrNames::of(base)?.starting(afr::PREFIX) {
        if xattrs::get(base, name)?.is_some_and(|mark| afr::tells_of_metadata(&mark)) {
            return Ok(true);
        }
    }
    Ok(false)
}
