//! Directories that are to be removed: an empty `.fsnap` goes with them, what is kept of deleted files moves up, snapshots of other
//! files keep them.

use std::collections::BTreeSet;
use std::fs::File;
use std::iter;
use std::ops::ControlFlow;
use std::sync::PoisonError;

use fsnap_core::gfid2path::Link;
use fsnap_core::{Error, Gfid, LastPlace, Result, SNAP_DIR, is_tombstone};
use nix::dir::{self, OwningIter};
use nix::errno::Errno;
use nix::fcntl::readlinkat;
use nix::sys::stat::Mode;

use crate::Store;
use crate::brick::{Access, MAX_DEPTH, OpenDir, open_leaf};
use crate::grave::tombstone;
use crate::guard::{is_link_file, link_file};
use crate::names::{self, links};
use crate::notice::Notice;
use crate::snapdir::find_own;
use crate::sys::{self, DIR, Doing, open_in};
use crate::xattrs;

/// What [`Store::move_up`] has moved.
#[derive(PartialEq, Eq, Debug)]
pub struct MovedUp {
    /// The directory into whose `.fsnap` it was.
    pub into: Gfid,
    /// The files, and the names that their tombstones have there.
    pub tombstones: Vec<(Gfid, Vec<u8>)>,
}

impl Store {
    /// Removes the `.fsnap` of directory `dir`, which is about to be removed itself, if nothing but link files of DHT lies
    /// in it, and those with it. It does nothing if there is none, if it is not ours, if `dir` has other entries as well
    /// (storage/posix will refuse to remove it) or is no directory.
    ///
    /// [`Error::NotEmpty`] (`ENOTEMPTY`), with nothing changed, if snapshots lie in it, or anything else; or what a system
    /// call says.
    pub fn clear_snap_dir(&self, dir: Gfid) -> Result<()> {
        let _reserve = self.may_use_reserve();
        let dir = match self.brick.open_dir(dir) {
            Err(Error::Gone | Error::Os { errno: libc::ENOTDIR, .. }) => return Ok(()),
            other => other?,
        };
        let Some(snaps) = find_own(&dir.file, dir.gfid)? else { return Ok(()) };
        let _change = self.change()?;
        if has_another(&dir.file, SNAP_DIR.as_bytes())? {
            return Ok(());
        }
        if let Some(name) = first_kept(&snaps)? {
            return Err(Error::NotEmpty(explain(&dir, &snaps, &name)));
        }
        for name in sys::names_in(&snaps)? {
            self.remove_link_file(&snaps, &name)?;
        }
        // Nobody may find the handle between the two, make `.fsnap` anew and then lose the handle.
        let _alone = self.snap_dirs.write().unwrap_or_else(PoisonError::into_inner);
        match sys::remove_dir(&dir.file, SNAP_DIR) {
            Ok(()) => {
                let (name, file) = (SNAP_DIR.as_bytes(), dir.gfid.snap_dir());
                self.notice(Notice::Removed { dir: dir.gfid, name, file });
                self.remove_soft_handle(&dir)
            }
            Err(Errno::ENOENT) => Ok(()),
            Err(Errno::ENOTEMPTY | Errno::EEXIST) => Err(Error::NotEmpty("one came this very moment".into())),
            Err(e) => Err(e).doing("remove .fsnap"),
        }
    }

    /// The deleted files that are kept in the `.fsnap` of directory `dir`, which is to be removed: they are in its way, and
    /// [`move_up`](Store::move_up) takes them out of it. None if `dir` has other entries as well (storage/posix will refuse to
    /// remove it), or is no directory, or is the brick's root.
    ///
    /// [`Error::NotEmpty`] (`ENOTEMPTY`) if something else is in the way too, or what a system call says.
    pub fn kept_in(&self, dir: Gfid) -> Result<BTreeSet<Gfid>> {
        let mut kept = BTreeSet::new();
        let dir = match self.brick.open_dir(dir) {
            Err(Error::Gone | Error::Os { errno: libc::ENOTDIR, .. }) => return Ok(kept),
            other => other?,
        };
        let Some(snaps) = find_own(&dir.file, dir.gfid)? else { return Ok(kept) };
        if dir.way.is_empty() || has_another(&dir.file, SNAP_DIR.as_bytes())? {
            return Ok(kept);
        }
        sys::each_name(&snaps, |name| {
            if link_file(&snaps, name)?.is_none() {
                match self.deleted_file_of(&snaps, name)? {
                    Some(file) => kept.insert(file),
                    None => return Err(Error::NotEmpty(explain(&dir, &snaps, name))),
                };
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(kept)
    }

    /// The deleted file that the entry `name` of a `.fsnap` is kept of.
    fn deleted_file_of(&self, snaps: &File, name: &[u8]) -> Result<Option<Gfid>> {
        let file = match open_leaf(snaps, name, Access::Read) {
            Err(Error::NotRegular) | Ok(None) => return Ok(None),
            other => other?.map(|(file, _)| file),
        };
        let Some(file) = file else { return Ok(None) };
        let base = match xattrs::payload_record(&file)? {
            Some(record) => Some(record.base),
            None => xattrs::gfid(&file)?.filter(|gfid| gfid.is_tombstone(name)),
        };
        Ok(base.filter(|&base| self.is_deleted(base)))
    }

    /// Moves what is kept of the deleted `files` from the `.fsnap` of directory `dir`, which is to be removed, to that of the
    /// directory above, which is made if it is not there. Its names tell the path that it had, and nobody may read the snapshots any
    /// more but its owner, and root. When this returns it is durable; after a crash the next start finishes it. It may be repeated.
    ///
    /// [`Error::NotEmpty`] (`ENOTEMPTY`) if there can be no `.fsnap` above, [`Error::Gone`] (`ESTALE`), [`Error::Damaged`] (`EIO`),
    /// or what a system call says.
    pub fn move_up(&self, dir: Gfid, files: &BTreeSet<Gfid>) -> Result<MovedUp> {
        let _change = self.change()?;
        let _reserve = self.may_use_reserve();
        let dir = self.brick.open_dir(dir)?;
        let Some(place) = dir.way.first() else {
            return Err(Error::NotEmpty("it is the brick's root".into()));
        };
        let mut moved = MovedUp { into: place.parent, tombstones: Vec::new() };
        if files.is_empty() {
            return Ok(moved);
        }
        match self.snap_dir(place.parent) {
            Err(Error::Unsupported(why)) => {
                return Err(Error::NotEmpty(format!("they can't move up: {why}")));
            }
            other => other?,
        };
        let mut last = None;
        for &file in files {
            let base = self.brick.open_file(file, Access::Read)?;
            let Some(grave) = self.only_grave(&base)? else { continue };
            if grave.was.dir() == dir.gfid {
                let was = grave.was.up(place);
                self.move_grave(&base, &grave, &was)?;
                if base.stat.st_nlink == 2 {
                    // What a rename over the file has left: it would lead nowhere, or to what has the name next.
                    let tombstone = tombstone(file, &was);
                    let others: Vec<Link> =
                        links(&base.file)?.into_iter().filter(|link| *link != tombstone).collect();
                    names::forget(&base.file, &others)?;
                }
            }
            self.follow_rights(file)?;
            last = Some(self.bring_all(&base)?.unwrap_or(base.file));
        }
        // See `BrickDir::settle`.
        last.as_ref().map_or(Ok(()), sys::sync)?;
        // Also what moved before, when the directory stayed after all: nobody may have been told.
        moved.tombstones = self.moved_from(place)?;
        Ok(moved)
    }

    /// What has moved up from directory `dir` so far. As [`move_up`](Store::move_up).
    pub fn moved_up(&self, dir: Gfid) -> Result<MovedUp> {
        let dir = self.brick.open_dir(dir)?;
        let place = dir.way.first().ok_or(Error::Gone)?;
        Ok(MovedUp { into: place.parent, tombstones: self.moved_from(place)? })
    }

    /// The tombstones in the `.fsnap` above of what has moved up from the directory at `place`.
    fn moved_from(&self, place: &Link) -> Result<Vec<(Gfid, Vec<u8>)>> {
        let mut moved = Vec::new();
        let snaps = match self.brick.open_dir(place.parent.snap_dir()) {
            Err(Error::Gone) => return Ok(moved),
            other => other?.file,
        };
        sys::each_name(&snaps, |name| {
            let file =
                name.last_chunk::<36>().and_then(|end| Gfid::parse(std::str::from_utf8(end).ok()?).ok());
            let was = file.and_then(|file| Some((file, LastPlace::of_tombstone(place.parent, file, name)?)));
            let from = |was: &LastPlace| {
                let below = was.path().strip_prefix(place.name.as_slice());
                was.is_cut() || below.is_some_and(|below| below.first() == Some(&b'/'))
            };
            if let Some((file, _)) = was.filter(|(_, was)| from(was)) {
                moved.push((file, name.to_vec()));
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(moved)
    }

    /// Whether a `.fsnap` anywhere below directory `dir`, or in it, holds more than link files of DHT. For whoever is about
    /// to throw away the whole tree; it looks at every directory, and needs memory for the depth of the tree alone.
    ///
    /// [`Error::Gone`] (`ESTALE`), `ENOTDIR`, [`Error::Damaged`] (`EIO`) if the tree is deeper than a path can be long, or
    /// what a system call says.
    pub fn tree_has_snapshots(&self, dir: Gfid) -> Result<bool> {
        let mut found = false;
        self.each_snap_dir(dir, |snaps| {
            found = first_kept(snaps)?.is_some();
            Ok(if found { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        Ok(found)
    }

    fn each_snap_dir(&self, dir: Gfid, mut look: impl FnMut(&File) -> Result<ControlFlow<()>>) -> Result<()> {
        let mut look =
            |dir: &File| own_snap_dir(dir)?.map_or(Ok(ControlFlow::Continue(())), |snaps| look(&snaps));
        let top = self.brick.open_dir(dir)?.file;
        if look(&top)?.is_break() {
            return Ok(());
        }
        let mut open = vec![Level::of(top)?];
        while let Some(level) = open.last_mut() {
            let Some(entry) = level.entries.next() else {
                open.pop();
                continue;
            };
            let entry = entry.doing("read a directory")?;
            let Some(below) = level.enter(&entry)? else { continue };
            if open.len() == MAX_DEPTH {
                return Err(Error::Damaged(format!("the tree below {dir} is too deep")));
            }
            if look(&below)?.is_break() {
                return Ok(());
            }
            open.push(Level::of(below)?);
        }
        Ok(())
    }

    /// Of the snapshots in the `.fsnap` of directory `dir` one that no file in it has, because its file was deleted: its path,
    /// and what to do about it.
    ///
    /// [`Error::Gone`] (`ESTALE`) if the directory is not there, or what a system call says.
    pub fn left_behind(&self, dir: Gfid) -> Result<Option<String>> {
        let dir = self.brick.open_dir(dir)?;
        let Some(snaps) = find_own(&dir.file, dir.gfid)? else { return Ok(None) };
        let mut left = None;
        sys::each_name(&snaps, |name| {
            if is_tombstone(name) || !self.is_left_behind(&snaps, name)? {
                return Ok(ControlFlow::Continue(()));
            }
            left = Some(name.to_vec());
            Ok(ControlFlow::Break(()))
        })?;
        Ok(left.map(|name| explain(&dir, &snaps, &name)))
    }

    /// Whether the entry `name` of a `.fsnap` is neither a snapshot of a file that is there nor a link file of DHT.
    fn is_left_behind(&self, snaps: &File, name: &[u8]) -> Result<bool> {
        let Some((file, stat)) = open_leaf(snaps, name, Access::Read)? else { return Ok(false) };
        if is_link_file(&file, &stat)? {
            return Ok(false);
        }
        let Some(record) = xattrs::payload_record(&file)? else { return Ok(true) };
        match self.has_snapshots(record.base) {
            Err(Error::Gone) => Ok(true),
            other => Ok(!other? || self.is_deleted(record.base)),
        }
    }

    fn remove_link_file(&self, snaps: &File, name: &[u8]) -> Result<()> {
        // What has become something else meanwhile is met again when the directory is removed.
        let Some((file, stat)) = link_file(snaps, name)? else { return Ok(()) };
        if sys::unlink_if_same(snaps, name, &stat)?
            && let Ok(Some(gfid)) = xattrs::gfid(&file)
            && let Ok(handles) = self.brick.handle_dir(gfid)
        {
            sys::unlink_if_same(&handles, gfid.to_string().as_str(), &stat)?;
        }
        Ok(())
    }

    fn remove_soft_handle(&self, parent: &OpenDir) -> Result<()> {
        let gfid = parent.gfid.snap_dir();
        let Ok(handles) = self.brick.handle_dir(gfid) else { return Ok(()) };
        let target = Link { parent: parent.gfid, name: SNAP_DIR.into() }.soft_handle();
        match readlinkat(&handles, gfid.to_string().as_str()) {
            Ok(there) if there.as_encoded_bytes() == target => {
                sys::unlink_in(&handles, gfid.to_string().as_str())
            }
            _ => Ok(()),
        }
    }
}

/// A directory on the way through a tree.
struct Level {
    dir: File,
    entries: OwningIter,
}

impl Level {
    fn of(dir: File) -> Result<Self> {
        let entries = dir::Dir::openat(&dir, ".", DIR, Mode::empty()).doing("open a directory")?.into_iter();
        Ok(Level { dir, entries })
    }

    /// Opens an entry if it is a directory.
    fn enter(&self, entry: &dir::Entry) -> Result<Option<File>> {
        let name = entry.file_name().to_bytes();
        let maybe = entry.file_type().is_none_or(|kind| kind == dir::Type::Directory);
        if !maybe || name == b"." || name == b".." {
            return Ok(None);
        }
        match open_in(&self.dir, name, DIR) {
            Ok(dir) => Ok(Some(dir)),
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => Ok(None),
            Err(e) => Err(e).doing("open a directory"),
        }
    }
}

/// The `.fsnap` of `dir`, if it has one of ours.
fn own_snap_dir(dir: &File) -> Result<Option<File>> {
    // Without a gfid storage/posix has not met it, nor has fsnap.
    let Ok(Some(gfid)) = xattrs::gfid(dir) else { return Ok(None) };
    find_own(dir, gfid)
}

fn has_another(dir: &File, known: &[u8]) -> Result<bool> {
    let mut another = false;
    sys::each_name(dir, |name| {
        another = name != known;
        Ok(if another { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    Ok(another)
}

/// What keeps a `.fsnap`: the first entry that is no link file.
fn first_kept(snaps: &File) -> Result<Option<Vec<u8>>> {
    let mut kept = None;
    sys::each_name(snaps, |name| {
        if link_file(snaps, name)?.is_some() {
            return Ok(ControlFlow::Continue(()));
        }
        kept = Some(name.to_vec());
        Ok(ControlFlow::Break(()))
    })?;
    Ok(kept)
}

/// What is in the way, and how to clear it.
fn explain(dir: &OpenDir, snaps: &File, first: &[u8]) -> String {
    let path: String = dir.way.iter().rev().map(|link| format!("/{}", link.name.escape_ascii())).collect();
    let named = |name: &[u8]| {
        let (file, _) = open_leaf(snaps, name, Access::Read).ok()??;
        Some(xattrs::payload_record(&file).ok()??.name)
    };
    // Of a deleted file the first can be what keeps it alive: that goes with its last snapshot.
    let names = sys::names_in(snaps).unwrap_or_default();
    let mut all = iter::once(first).chain(names.iter().map(Vec::as_slice));
    match all.find_map(|name| Some((name, named(name)?))) {
        Some((file, name)) => {
            let at = format!("{path}/{SNAP_DIR}/{}", file.escape_ascii());
            format!("{at}. Delete them first: setfattr -n glusterfs.fsnap.delete -v {name} 'MOUNT{at}'")
        }
        None => format!("{path}/{SNAP_DIR}/{} is none, but was put there; remove it", first.escape_ascii()),
    }
}
