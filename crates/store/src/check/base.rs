//! Files that have snapshots, also those that are deleted.

use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use fsnap_core::catalogue::PAGE_PREFIX;
use fsnap_core::gfid2path::Link;
use fsnap_core::record::{Record, SEQ, decode_seq};
use fsnap_core::{Error, Gfid, Result, SnapName};

use super::payload::At;
use super::{Finds, ProblemKind, Scan, walk};
use crate::brick::Access;
use crate::grave;
use crate::names;
use crate::pages::Pages;
use crate::sys::{self, same_inode};
use crate::xattrs::{self, XattrNames};

impl Scan<'_> {
    /// A file with a catalogue.
    pub(super) fn base(&self, at: &At<'_>, names: &XattrNames, finds: &mut Finds) -> Result<()> {
        let Some(gfid) = walk::readable_gfid(at.file)? else {
            finds.add(
                ProblemKind::BaseGfid,
                at.path,
                None,
                "the file has snapshots but no gfid (trusted.gfid): commands can't find it. Set the one \
                 that its snapshots' records name",
                None,
            );
            return Ok(());
        };
        if !self.has_handle(at, gfid)? {
            let handle = gfid.handle();
            finds.add(
                ProblemKind::BaseHandle,
                at.path,
                Some(gfid),
                format!(
                    "its handle {} is missing or another file: commands can't find the file, nor its \
                         snapshots. Look at what is there; if nothing is, hard-link the file to it, or rename it on a mount",
                    handle.display()
                ),
                None,
            );
        }
        let entries = self.entries(at, gfid, names, finds)?;
        self.seq(at, gfid, &entries, finds)?;
        for (name, record) in &entries {
            self.entry(at.path, gfid, name, record, finds)?;
        }
        Ok(())
    }

    /// The entries that can be read.
    fn entries(
        &self,
        at: &At<'_>,
        gfid: Gfid,
        names: &XattrNames,
        finds: &mut Finds,
    ) -> Result<Vec<(SnapName, Record)>> {
        let mut entries = Vec::new();
        let mut seen = (HashSet::new(), HashSet::new());
        for entry in Pages::named(at.file, gfid, names)?.entries() {
            finds.entries += 1;
            let (name, record) = match entry {
                Ok(entry) => entry,
                Err(why) => {
                    let text = format!(
                        "{why}: list and create fail with EIO. If nothing tells what it said, take the line out of its \
                         page; the payload is an orphan then"
                    );
                    finds.add(ProblemKind::EntryDamaged, at.path, Some(gfid), text, None);
                    continue;
                }
            };
            if !(seen.0.insert(record.seq) & seen.1.insert(name.clone())) {
                let text = format!(
                    "the entry of {name} has the number {} or the name of another entry: one of them is \
                     false",
                    record.seq
                );
                finds.add(ProblemKind::EntryDuplicate, at.path, Some(record.gfid), text, None);
            }
            entries.push((name, record));
        }
        Ok(entries)
    }

    /// The number of the last snapshot. Read after the entries: it is set before them.
    fn seq(&self, at: &At<'_>, gfid: Gfid, entries: &[(SnapName, Record)], finds: &mut Finds) -> Result<()> {
        let seq = match xattrs::get(at.file, SEQ)?.map(|bytes| decode_seq(&bytes)) {
            None if entries.is_empty() => return Ok(()),
            None => {
                let text = format!(
                    "{SEQ} is missing: the next snapshot is numbered after the entries, which is right \
                     unless newer ones were deleted. On a replicated volume heal may be about to set it"
                );
                finds.add(ProblemKind::SeqMissing, at.path, Some(gfid), text, None);
                return Ok(());
            }
            Some(Err(_)) => {
                let text = format!(
                    "{SEQ} can't be read: create fails with EIO. Set it to the largest number in the \
                     entries, or larger"
                );
                finds.add(ProblemKind::SeqDamaged, at.path, Some(gfid), text, None);
                return Ok(());
            }
            Some(Ok(seq)) => seq,
        };
        for (name, record) in entries.iter().filter(|(_, record)| record.seq > seq) {
            let text = format!(
                "the entry of {name} has number {}, but the last one given is {seq}: set {SEQ} to the \
                 largest number in the entries, or larger",
                record.seq
            );
            finds.add(ProblemKind::EntrySeq, at.path, Some(record.gfid), text, None);
        }
        Ok(())
    }

    /// The way from an entry to its payload.
    fn entry(
        &self,
        path: &Path,
        base: Gfid,
        name: &SnapName,
        record: &Record,
        finds: &mut Finds,
    ) -> Result<()> {
        let gfid = record.gfid;
        // What is wrong with a payload that the walk has met is told there.
        let met = self.tree.payloads.contains_key(&gfid);
        let mut add = |kind, text| finds.add(kind, path, Some(gfid), text, None);
        let inode = match self.brick.open_file(gfid, Access::Read) {
            Ok(inode) => inode,
            Err(Error::Gone | Error::NotRegular | Error::Damaged(_)) if met => return Ok(()),
            Err(Error::Gone) => {
                match self.own.awaited_for(gfid, base) {
                    Some(age) => add(
                        ProblemKind::PayloadAwaited,
                        format!(
                            "snapshot {name} was taken while this brick was away, and has waited for self-heal \
                             for {}: if it does not come, gluster volume heal VOLUME full",
                            super::own::spell(age)
                        ),
                    ),
                    None => add(
                        ProblemKind::PayloadMissing,
                        format!(
                            "the data of snapshot {name} is not on this brick. On a replicated volume heal may \
                             be about to learn of it; else it is lost: delete the snapshot"
                        ),
                    ),
                }
                return Ok(());
            }
            Err(Error::NotRegular) => {
                add(
                    ProblemKind::PayloadType,
                    format!(
                        "the handle of snapshot {name}, {}, is no regular file: move it away; the data is \
                         lost if no file in .fsnap has it",
                        gfid.handle().display()
                    ),
                );
                return Ok(());
            }
            Err(Error::Damaged(why)) => {
                add(ProblemKind::PayloadGfid, format!("snapshot {name} is not what its entry says: {why}"));
                return Ok(());
            }
            Err(e) => return Err(e),
        };
        match xattrs::payload_record(&inode.file) {
            Ok(Some(r)) if r.base == base && r.name == *name && r.gfid == gfid => {}
            Err(Error::Damaged(_)) if met => return Ok(()),
            Err(e @ Error::Os { .. }) => return Err(e),
            _ => {
                add(
                    ProblemKind::PayloadRecord,
                    format!(
                        "what has the gfid of snapshot {name} does not carry its record: commands on it \
                         fail with EIO. If the content is right set {}",
                        expected(base, name, record)
                    ),
                );
                return Ok(());
            }
        }
        if met {
            return Ok(());
        }
        let at = At { file: &inode.file, stat: &inode.stat, path: &gfid.handle(), dir: None };
        self.payload(&at, &XattrNames::of(at.file)?, finds)
    }

    /// What keeps a deleted file.
    pub(super) fn tombstone(
        &self,
        at: &At<'_>,
        gfid: Option<Gfid>,
        names: &XattrNames,
        finds: &mut Finds,
    ) -> Result<()> {
        let name = walk::leaf(at.path).as_bytes();
        let Some(gfid) = gfid.filter(|gfid| gfid.is_tombstone(name)) else {
            finds.add(
                ProblemKind::TombstoneGfid,
                at.path,
                gfid,
                "the name of this tombstone, what is kept of a \
                     deleted file, is that of another file's: the deleted file can't come back. Set \
                     trusted.gfid to what the name says if nothing else has it",
                None,
            );
            return Ok(());
        };
        let place = self.place(at)?;
        let noted = self.own.buried_at(gfid).ok().flatten();
        if noted.is_none_or(|was| Some(grave::tombstone(gfid, &was)) != place) {
            let note = format!(".glusterfs/fsnap/buried/{gfid}");
            finds.add(
                ProblemKind::TombstoneNote,
                at.path,
                Some(gfid),
                format!(
                    "{note} does not lead to this \
                     deleted file: restore can't bring it back. It is to be a symlink to GFID/FILE, the \
                     gfid of the directory above .fsnap and the name that the file had"
                ),
                None,
            );
        }
        let links = names::links(at.file);
        if place.is_some_and(|place| links.is_ok_and(|links| !links.contains(&place))) {
            finds.add(
                ProblemKind::TombstonePlace,
                at.path,
                Some(gfid),
                "no trusted.gfid2path xattr of this deleted file tells where it is: restore fails",
                None,
            );
        }
        if names.raw_starting(PAGE_PREFIX).next().is_none() {
            let text = "the deleted file has no snapshots any more: the next start of the brick lets it go";
            finds.add(ProblemKind::TombstoneUnused, at.path, Some(gfid), text, None);
        }
        if at.stat.st_nlink > 1 + u64::from(self.has_handle(at, gfid)?) {
            let text = "the file is kept as a deleted one but has another name: a deletion that was cut \
                     short; the next start of the brick takes it back";
            finds.add(ProblemKind::TombstonePending, at.path, Some(gfid), text, None);
        }
        Ok(())
    }

    /// Whether the handle of `gfid` is this very file.
    pub(super) fn has_handle(&self, at: &At<'_>, gfid: Gfid) -> Result<bool> {
        Ok(self.handle_stat(gfid)?.is_some_and(|there| same_inode(&there, at.stat)))
    }

    /// What the handle of `gfid` is, if there is one.
    pub(super) fn handle_stat(&self, gfid: Gfid) -> Result<Option<nix::sys::stat::FileStat>> {
        match self.brick.handle_dir(gfid) {
            Err(Error::Gone) => Ok(None),
            other => sys::stat_in(&other?, gfid.to_string().as_str()),
        }
    }

    /// The place where a file was met; `None` if its directory has no gfid, or if it came by its handle.
    pub(super) fn place(&self, at: &At<'_>) -> Result<Option<Link>> {
        let Some(dir) = at.dir else { return Ok(None) };
        let name = walk::leaf(at.path).as_bytes().to_vec();
        Ok(walk::readable_gfid(dir)?.map(|parent| Link { parent, name }))
    }
}

/// The record that the payload of an entry carries.
fn expected(base: Gfid, name: &SnapName, record: &Record) -> String {
    let record = fsnap_core::record::PayloadRecord::of(base, name.clone(), record);
    format!("{} to \"{record}\"", fsnap_core::record::PAYLOAD)
}
