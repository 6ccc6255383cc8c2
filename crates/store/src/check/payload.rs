//! Payloads: the snapshots themselves.

use std::fs::File;
use std::path::Path;

use fsnap_core::gfid2path::{Link, PREFIX};
use fsnap_core::record::{PayloadRecord, Record, SEQ, decode_seq};
use fsnap_core::{Error, Gfid, Result};
use nix::sys::stat::FileStat;

use super::{Finds, Fix, ProblemKind, Scan, walk};
use crate::adopt;
use crate::brick::{Access, OpenFile};
use crate::follow::SnapshotPlace;
use crate::pages;
use crate::sys;
use crate::xattrs::{self, XattrNames};

/// A file that is looked at.
pub(super) struct At<'a> {
    pub file: &'a File,
    pub stat: &'a FileStat,
    /// Where it was met.
    pub path: &'a Path,
    /// The directory there; `None` if it came by its handle.
    pub dir: Option<&'a File>,
}

/// What the gfid2path xattrs of a payload say.
struct Places {
    /// Where it is.
    current: Vec<Link>,
    /// Where it is not.
    stale: Vec<Link>,
    /// Whether they tell where it was met, each under its right key.
    complete: bool,
}

impl Scan<'_> {
    /// A file with a payload's record.
    pub(super) fn payload(&self, at: &At<'_>, xattrs: &XattrNames, finds: &mut Finds) -> Result<()> {
        let mut add = |kind, gfid, text: String| finds.add(kind, at.path, gfid, text, None);
        let own = walk::readable_gfid(at.file)?;
        let record = match xattrs::payload_record(at.file) {
            Ok(Some(record)) => record,
            Ok(None) => return Ok(()),
            Err(Error::Damaged(why)) => {
                add(
                    ProblemKind::PayloadRecord,
                    own,
                    format!("{why}. Commands on this snapshot fail with EIO; the content may be good"),
                );
                return Ok(());
            }
            Err(e) => return Err(e),
        };
        let gfid = record.gfid;
        if own != Some(gfid) {
            let own = own.map_or("none".into(), |own| own.to_string());
            add(
                ProblemKind::PayloadGfid,
                Some(gfid),
                format!(
                    "its gfid is {own}, not the one in its record: commands on this snapshot fail with EIO. \
                     Set trusted.gfid to {gfid}"
                ),
            );
            return Ok(());
        }
        // Whatever it lacks, the next start decides what becomes of it, by its catalogue.
        if self.own.is_pending(gfid) {
            return Ok(());
        }
        let base = self.brick.open_file(record.base, Access::Read);
        if self.orphan(at, &record, &base, finds)? {
            return Ok(());
        }
        let has_handle = self.handle(at, gfid, finds)?;
        let names = at.stat.st_nlink.saturating_sub(u64::from(has_handle));
        let met = self.place(at)?;
        let places = self.places(at, xattrs, names, met.as_ref())?;
        tell_names(at, gfid, names, &places, finds);
        // The owner of a deleted file commands its snapshots.
        let owner = if self.is_deleted(record.base, &base) { 0o200 } else { 0 };
        if at.stat.st_mode & 0o222 & !owner != 0 {
            let text = format!(
                "its mode {:o} lets it be written: fsnap forbids that all the same; chmod a-w",
                at.stat.st_mode & 0o7777
            );
            finds.add(ProblemKind::PayloadMode, at.path, Some(gfid), text, None);
        }
        let met = met.filter(|_| names < 2);
        if let (Ok(base), Some(place)) = (&base, met.or_else(|| places.current.into_iter().next())) {
            self.home(at, &record, base, &place, finds);
        }
        Ok(())
    }

    /// Whether its handle is this very file; tells if not.
    fn handle(&self, at: &At<'_>, gfid: Gfid, finds: &mut Finds) -> Result<bool> {
        let handle = gfid.handle();
        match self.handle_stat(gfid)? {
            Some(there) if sys::same_inode(&there, at.stat) => return Ok(true),
            Some(_) => {
                let text = format!(
                    "its handle {} is another file: commands on this snapshot fail with EIO. See what that \
                     is, move it away and repair",
                    handle.display()
                );
                finds.add(ProblemKind::PayloadHandle, at.path, Some(gfid), text, None);
            }
            None => {
                // Of two files that claim to be it somebody has to choose.
                let fix = (!self.tree.ambiguous.contains(&gfid)).then_some(Fix::LinkHandle(gfid));
                let text = format!(
                    "its handle {} is missing: the snapshot counts as lost. Repair links it again",
                    handle.display()
                );
                finds.add(ProblemKind::PayloadHandle, at.path, Some(gfid), text, fix);
            }
        }
        Ok(false)
    }

    /// Whether no catalogue has it. Says so only if that is sure: all that is damaged speaks for the payload.
    fn orphan(
        &self,
        at: &At<'_>,
        record: &PayloadRecord,
        base: &Result<OpenFile>,
        finds: &mut Finds,
    ) -> Result<bool> {
        let gfid = record.gfid;
        let fix = || -> Result<Option<Fix>> {
            let handle = self.handle_stat(gfid)?;
            let names = u64::from(handle.is_some_and(|there| sys::same_inode(&there, at.stat)))
                + u64::from(at.dir.is_some());
            // With a restore under way, another name, or a part of the tree not seen somebody has to look.
            let sure = at.stat.st_nlink == names
                && !self.own.has_intent(record.base)
                && self.tree.unreadable.is_empty();
            Ok(sure.then_some(Fix::Quarantine(gfid)))
        };
        let base = match base {
            Ok(base) => base,
            Err(Error::Gone) if !self.knows(record) => {
                let text = format!(
                    "the file that it is a snapshot of, {}, is not on this brick: the snapshot can be \
                     copied from here. Repair moves it to quarantine, from where it goes after a day",
                    record.base
                );
                finds.add(ProblemKind::BaseMissing, at.path, Some(gfid), text, fix()?);
                return Ok(true);
            }
            Err(Error::Gone | Error::NotRegular | Error::Damaged(_)) => return Ok(false),
            Err(e) => return Err(e.clone()),
        };
        let entry = match pages::entry(base, &record.name) {
            Err(Error::Damaged(_)) => return Ok(false),
            other => other?,
        };
        // A false entry tells nothing.
        let other = |e: &Record| e.gfid != gfid && e.gfid == record.base.payload(&record.name, e.id, e.seq);
        if self.tree.claimed.contains(&gfid) || !entry.as_ref().is_none_or(other) {
            return Ok(false);
        }
        if adopt::is_unhealed(&base.file)? {
            let text = format!(
                "the catalogue of its file, {}, does not name this snapshot, but waits for heal, as marks of the \
                 replicate translator on that file say",
                record.base
            );
            finds.add(ProblemKind::OrphanUnhealed, at.path, Some(gfid), text, None);
            return Ok(true);
        }
        let seq = xattrs::get(&base.file, SEQ)?.and_then(|bytes| decode_seq(&bytes).ok());
        if seq.is_some_and(|seq| seq >= record.seq) {
            let text = format!(
                "the catalogue of its file, {}, does not name this snapshot: it takes space for nothing. \
                 Repair moves it to quarantine, from where it goes after a day",
                record.base
            );
            finds.add(ProblemKind::Orphan, at.path, Some(gfid), text, fix()?);
        } else {
            let text = format!(
                "the catalogue of its file, {}, does not name this snapshot and is older: it waits for heal \
                 on a replicated volume, or a create was cut short. Once healed it can be deleted by its \
                 own path",
                record.base
            );
            finds.add(ProblemKind::OrphanNewer, at.path, Some(gfid), text, None);
        }
        Ok(true)
    }

    /// Whether there is a sign of the payload's file, or of its entry, in the tree.
    fn knows(&self, record: &PayloadRecord) -> bool {
        self.tree.nameless
            || self.tree.bases.contains(&record.base)
            || self.tree.claimed.contains(&record.gfid)
    }

    /// `xattrs` are the names of its xattrs, `names` is how many names it has, and it was `met` there.
    fn places(&self, at: &At<'_>, xattrs: &XattrNames, names: u64, met: Option<&Link>) -> Result<Places> {
        let mut places = Places { current: Vec::new(), stale: Vec::new(), complete: true };
        for key in xattrs.starting(PREFIX) {
            let Some(value) = xattrs::get(at.file, key)? else { continue };
            match Link::decode(&value) {
                Ok(link) if link.key() != key => places.complete = false,
                Err(_) => places.complete = false,
                Ok(link) if Some(&link) == met => places.current.push(link),
                Ok(link) => match self.brick.dir_of(&link, at.stat) {
                    Ok(Some(_)) => places.current.push(link),
                    Ok(None) | Err(Error::Damaged(_)) => places.stale.push(link),
                    Err(e) => return Err(e),
                },
            }
        }
        places.complete &= match met {
            Some(met) if names < 2 => places.current.contains(met),
            None if at.dir.is_some() => false,
            // It came by its handle, or has more names, which is told anyway: one of them is enough.
            _ => !places.current.is_empty(),
        };
        Ok(places)
    }

    /// Whether it is `place`d where it belongs: beside its file and named after it.
    fn home(&self, at: &At<'_>, record: &PayloadRecord, base: &OpenFile, place: &Link, finds: &mut Finds) {
        // A file whose own places can't be told is GlusterFS's to mend.
        let Ok(homes) = self.homes(base, record) else { return };
        let belongs = |link: &Link| homes.iter().any(|home| home.as_ref() == Ok(link));
        let Some(first) = homes.first() else { return };
        if belongs(place) {
            return;
        }
        let gfid = Some(record.gfid);
        match first {
            Err(Error::NameTooLong) => {
                let text = "it did not follow its file: its name there would be longer than 255 bytes. \
                         Commands find it";
                finds.add(ProblemKind::PayloadStays, at.path, gfid, text, None);
            }
            Ok(home) if self.is_taken(home, at.stat) => {
                let text = format!(
                    "it did not follow its file: its place {} there is taken. Commands find it",
                    home.name.escape_ascii()
                );
                finds.add(ProblemKind::PayloadStays, at.path, gfid, text, None);
            }
            _ => {
                let text = "it does not lie beside its file, named after it: a crash between a rename and \
                         this. Commands find it; the next rename of its file, or start of the brick if it \
                         was deleted, moves it";
                finds.add(ProblemKind::PayloadElsewhere, at.path, gfid, text, None);
            }
        }
    }

    /// The places where a payload may be; the first is where it would be brought.
    fn homes(&self, base: &OpenFile, record: &PayloadRecord) -> Result<Vec<Result<Link>>> {
        let place = |link: &Link, name: Result<Vec<u8>>| {
            name.map(|name| Link { parent: link.parent.snap_dir(), name })
        };
        let current = self.brick.current_names(base)?;
        if !current.is_empty() {
            let mut homes: Vec<_> =
                current.iter().map(|link| place(link, record.name.file_name(&link.name))).collect();
            homes.sort_by_key(Result::is_err);
            return Ok(homes);
        }
        let was = self.own.buried_at(base.gfid)?;
        Ok(was.into_iter().map(|was| SnapshotPlace::Grave(was).place(&record.name, base.gfid)).collect())
    }

    /// Whether nothing but a tombstone is left of `base`, which has this gfid.
    fn is_deleted(&self, gfid: Gfid, base: &Result<OpenFile>) -> bool {
        self.own.buried_at(gfid).is_ok_and(|was| was.is_some())
            && base.as_ref().is_ok_and(|base| base.stat.st_nlink == 2)
    }

    fn is_taken(&self, place: &Link, stat: &FileStat) -> bool {
        let Ok(dir) = self.brick.open_dir(place.parent) else { return false };
        sys::stat_in(&dir.file, place.name.as_slice())
            .is_ok_and(|there| there.is_some_and(|there| !sys::same_inode(&there, stat)))
    }
}

fn tell_names(at: &At<'_>, gfid: Gfid, names: u64, places: &Places, finds: &mut Finds) {
    let mut add = |kind, text: String| finds.add(kind, at.path, Some(gfid), text, None);
    match names {
        1 => {}
        0 => {
            add(
                ProblemKind::PayloadNames,
                "the snapshot has no name in .fsnap, only its handle: copy it from \
                     there, or hard-link that to its place and set its trusted.gfid2path"
                    .into(),
            );
            return;
        }
        _ => add(
            ProblemKind::PayloadNames,
            format!(
                "it has {names} names instead of one: find BRICK -samefile tells them. Remove those that \
                 are not its place; a delete leaves them"
            ),
        ),
    }
    if !places.complete {
        add(
            ProblemKind::PayloadPlace,
            "its trusted.gfid2path xattr does not tell its place (PARENT-GFID/NAME): it \
                 can't follow its file, and a delete leaves it here"
                .into(),
        );
    }
    for link in &places.stale {
        add(
            ProblemKind::PayloadPlaceStale,
            format!(
                "a trusted.gfid2path xattr tells {}/{}, where it is not: a move that was cut short; the \
                 next rename of its file sets it right",
                link.parent,
                link.name.escape_ascii()
            ),
        );
    }
}
