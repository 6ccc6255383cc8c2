//! Deleted files that have snapshots. The inode, which holds the catalogue, is kept by one more name in `.fsnap`: the
//! tombstone. That it has, and where the file was, is noted in `.glusterfs/fsnap/buried`.

use fsnap_core::catalogue::PAGE_PREFIX;
use fsnap_core::gfid2path::Link;
use fsnap_core::record::{PAYLOAD, SEQ};
use fsnap_core::{Error, Gfid, LastPlace, Result};
use nix::errno::Errno;
use nix::sys::stat::fstat;

use crate::Store;
use crate::brick::{Access, OpenDir, OpenFile};
use crate::names::{self, links};
use crate::snapdir::SnapDir;
use crate::state::StateDir;
use crate::sys::{self, Doing, give_name};
use crate::xattrs::{self, XattrNames};

/// The tombstone of a file.
pub(crate) struct Grave {
    /// Its place.
    pub tombstone: Link,
    /// The `.fsnap` that it is in.
    pub dir: OpenDir,
    /// Where the file was.
    pub was: LastPlace,
}

/// The place of the tombstone of `base`, which was at `was`.
pub(crate) fn tombstone(base: Gfid, was: &LastPlace) -> Link {
    Link { parent: was.dir().snap_dir(), name: was.tombstone(base) }
}

impl Store {
    /// Whether `base` is buried: has a tombstone. From [`bury`](Store::bury) on it has, also as long as the file still has
    /// its name.
    pub fn is_buried(&self, base: Gfid) -> bool {
        self.buried.has(base)
    }

    /// Whether `base` has no name but its tombstone. False if it can't be told.
    pub fn is_deleted(&self, base: Gfid) -> bool {
        self.is_buried(base)
            && self
                .brick
                .open_file(base, Access::Read)
                .and_then(|inode| self.only_grave(&inode))
                .is_ok_and(|grave| grave.is_some())
    }

    /// Whether `file` is a regular file with one name left. A tombstone counts for none.
    ///
    /// [`Error::Gone`] (`ESTALE`), [`Error::Damaged`] (`EIO`), or what a system call says.
    pub fn is_last_name(&self, file: Gfid) -> Result<bool> {
        let inode = match self.brick.open_file(file, Access::Read) {
            Err(Error::NotRegular) => return Ok(false),
            other => other?,
        };
        let tombstones = u64::from(self.grave(&inode)?.is_some());
        Ok(inode.stat.st_nlink == 2 + tombstones)
    }

    /// Gives `base`, which is about to lose its last name, a tombstone in the `.fsnap` beside it, so that it and its
    /// snapshots outlive that. It does nothing if it has one. When this returns it is durable.
    ///
    /// [`Error::Gone`] (`ESTALE`), [`Error::NotRegular`] (`EINVAL`), [`Error::ReadOnly`] (`EROFS`: it is a snapshot),
    /// [`Error::Unsupported`] (`EOPNOTSUPP`: no gfid2path xattr, a foreign `.fsnap`), [`Error::Damaged`] (`EIO`: something
    /// else is in the place), or what a system call says. Then what was made is taken back.
    pub fn bury(&self, base: Gfid) -> Result<()> {
        let _change = self.change()?;
        let _reserve = self.may_use_reserve();
        let base = self.brick.open_file(base, Access::Read)?;
        if XattrNames::of(&base.file)?.has(PAYLOAD) {
            return Err(Error::ReadOnly("a snapshot has no snapshots of its own"));
        }
        if self.grave(&base)?.is_some() {
            return Ok(());
        }
        let (parent, name) = self.place_of(&base, |_| Ok(()))?;
        let snap_dir = self.ensure_snap_dir(&parent)?;
        let was = LastPlace::at(Link { parent: parent.gfid, name });
        self.buried.set(base.gfid, true);
        self.dig(&base, &was, &parent, &snap_dir).inspect_err(|_| {
            if let Err(e) = self.unbury(base.gfid) {
                tracing::error!("the burial of {} failed and was not taken back: {e}", base.gfid);
            }
        })
    }

    /// The note comes first: without it a tombstone that a crash leaves would never be found again.
    fn dig(&self, base: &OpenFile, was: &LastPlace, parent: &OpenDir, snap_dir: &SnapDir) -> Result<()> {
        let tombstone = tombstone(base.gfid, was);
        self.state()?.note_buried(&self.brick, base.gfid, was)?;
        names::note(&base.file, &tombstone)?;
        self.brick.settle(&base.file)?;
        match give_name(&base.file, &snap_dir.dir, tombstone.name.as_slice()) {
            Err(Errno::EEXIST) => {
                return Err(Error::Damaged(format!("{} is in the way", tombstone.name.escape_ascii())));
            }
            other => other.doing("link a tombstone")?,
        }
        for step in [&base.file, &snap_dir.handles, &parent.file] {
            self.brick.settle(step)?;
        }
        sys::sync(&snap_dir.dir)
    }

    /// Moves the tombstone of `base` to where it is for a file that was at `was`. After a crash the next start finds it, here or
    /// there. If it fails it is where it was. It is not synced but settled.
    pub(crate) fn move_grave(&self, base: &OpenFile, grave: &Grave, was: &LastPlace) -> Result<()> {
        let to = tombstone(base.gfid, was);
        if to == grave.tombstone {
            return Ok(());
        }
        let dir = self.brick.open_dir(to.parent)?;
        if sys::stat_in(&dir.file, to.name.as_slice())?.is_some() {
            return Err(Error::Damaged(format!("{} is in the way", to.name.escape_ascii())));
        }
        names::note(&base.file, &to)?;
        self.brick.settle(&base.file)?;
        let (here, there) =
            ((&grave.dir.file, grave.tombstone.name.as_slice()), (&dir.file, to.name.as_slice()));
        let moved = sys::rename(here, there).doing("move a tombstone").and_then(|()| {
            for step in [&dir.file, &grave.dir.file] {
                self.brick.settle(step)?;
            }
            self.state()?.note_moved(&self.brick, base.gfid, was)
        });
        if let Err(e) = moved {
            // What can't be taken back is found where it is.
            let back = match sys::stat_in(&dir.file, to.name.as_slice()) {
                Ok(None) => Ok(()),
                _ => sys::rename(there, here).doing("move a tombstone back"),
            };
            if let Err(e) = back.and_then(|()| names::forget(&base.file, &[to])) {
                tracing::error!(
                    "the tombstone of {} is between two places until the next start: {e}",
                    base.gfid
                );
            }
            return Err(e);
        }
        names::forget(&base.file, std::slice::from_ref(&grave.tombstone))?;
        self.brick.settle(&base.file)
    }

    /// Takes the tombstone of `base` away, which has kept, or got, another name. It does nothing if there is none. False,
    /// with nothing changed, if the tombstone is its only name.
    ///
    /// [`Error::Gone`] (`ESTALE`), [`Error::NotRegular`] (`EINVAL`), [`Error::Damaged`] (`EIO`), or what a system call
    /// says.
    pub fn unbury(&self, base: Gfid) -> Result<bool> {
        let _change = self.change()?;
        let _reserve = self.may_use_reserve();
        let base = self.brick.open_file(base, Access::Read)?;
        let Some(was) = self.buried_at(base.gfid)? else {
            self.buried.set(base.gfid, false);
            return Ok(true);
        };
        let tombstone = tombstone(base.gfid, &was);
        let dir = self.brick.dir_of(&tombstone, &base.stat)?;
        if dir.is_some() && self.only_grave(&base)?.is_some() {
            return Ok(false);
        }
        // storage/posix removes the xattr of a name before the name, and does not bring it back when that fails.
        if let Some(name) = was.link()
            && self.brick.dir_of(&name, &base.stat)?.is_some()
        {
            names::note(&base.file, &name)?;
            self.brick.settle(&base.file)?;
        }
        if let Some(dir) = dir {
            // Not ahead of the name that it has now.
            if !self.brick.ordered {
                for link in self.brick.current_names(&base)? {
                    sys::sync(&self.brick.open_dir(link.parent)?.file)?;
                }
                sys::sync(&base.file)?;
            }
            sys::unlink_if_same(&dir.file, tombstone.name.as_slice(), &base.stat)?;
            self.brick.settle(&dir.file)?;
        }
        self.forget_grave(&base, &tombstone)?;
        // What fails here is done when somebody looks.
        if let Err(e) = self.follow_rights(base.gfid) {
            tracing::warn!(
                "the snapshots of {}, which was not deleted, do not have its rights: {e}",
                base.gfid
            );
        }
        Ok(true)
    }

    /// Removes what tells of a tombstone that is gone.
    pub(crate) fn forget_grave(&self, base: &OpenFile, tombstone: &Link) -> Result<()> {
        names::forget(&base.file, std::slice::from_ref(tombstone))?;
        self.brick.settle(&base.file)?;
        self.state()?.forget_buried(base.gfid)?;
        self.buried.set(base.gfid, false);
        Ok(())
    }

    /// Takes the content of the buried `base`, which its snapshots do not need, when nobody has it open any more. It does
    /// nothing if it is not buried or has another name. When this returns it is durable.
    ///
    /// [`Error::Gone`] (`ESTALE`), [`Error::NotRegular`] (`EINVAL`), [`Error::Damaged`] (`EIO`), or what a system call
    /// says.
    pub fn empty_grave(&self, base: Gfid) -> Result<()> {
        let _change = self.change()?;
        let _reserve = self.may_use_reserve();
        let base = self.brick.open_file(base, Access::Write)?;
        let Some(grave) = self.only_grave(&base)? else { return Ok(()) };
        // A rename over the file leaves the xattr of the name that is another file's now.
        let gone: Vec<Link> =
            links(&base.file)?.into_iter().filter(|link| *link != grave.tombstone).collect();
        // Those that it was discarded with tell that as long as it has them.
        let gone = if base.stat.st_nlink == 2 { gone } else { Vec::new() };
        if base.stat.st_size == 0 && gone.is_empty() {
            return Ok(());
        }
        // A link may have given it another name since.
        if fstat(&base.file).doing("stat")?.st_nlink != base.stat.st_nlink {
            return Ok(());
        }
        names::forget(&base.file, &gone)?;
        sys::truncate(&base.file, 0).doing("truncate")?;
        if XattrNames::of(&base.file)?.is_dispersed() {
            xattrs::set(&base.file, xattrs::EC_SIZE, &0u64.to_be_bytes())?;
        }
        sys::sync(&base.file)
    }

    /// The tombstone of `base`, if it has one.
    pub(crate) fn grave(&self, base: &OpenFile) -> Result<Option<Grave>> {
        let Some(was) = self.buried_at(base.gfid)? else { return Ok(None) };
        let tombstone = tombstone(base.gfid, &was);
        match self.brick.dir_of(&tombstone, &base.stat)? {
            Some(dir) => Ok(Some(Grave { tombstone, dir, was })),
            None => self.moved_grave(base),
        }
    }

    /// The same, where it has moved and that was not noted.
    fn moved_grave(&self, base: &OpenFile) -> Result<Option<Grave>> {
        for tombstone in links(&base.file)?.into_iter().filter(|link| base.gfid.is_tombstone(&link.name)) {
            let Some(dir) = self.brick.dir_of(&tombstone, &base.stat)?.filter(OpenDir::is_snap_dir) else {
                continue;
            };
            let above = dir.way.first().map(|place| place.parent);
            let was = above.and_then(|above| LastPlace::of_tombstone(above, base.gfid, &tombstone.name));
            if let Some(was) = was {
                return Ok(Some(Grave { tombstone, dir, was }));
            }
        }
        Ok(None)
    }

    /// The same, if it is the only name that `base` has, where anybody can reach it: what self-heal has discarded with the directory
    /// that it was in storage/posix keeps for some seconds.
    pub(crate) fn only_grave(&self, base: &OpenFile) -> Result<Option<Grave>> {
        let Some(grave) = self.grave(base)? else { return Ok(None) };
        let others = base.stat.st_nlink.saturating_sub(2);
        Ok((others == 0 || self.are_discarded(base, &grave, others)?).then_some(grave))
    }

    /// Whether the other names of `base`, so many, are all in directories that are gone. One that is not noted may be anywhere.
    fn are_discarded(&self, base: &OpenFile, grave: &Grave, others: u64) -> Result<bool> {
        let mut gone = 0;
        for link in links(&base.file)?.into_iter().filter(|link| *link != grave.tombstone) {
            match self.brick.open_dir(link.parent) {
                Err(Error::Gone) => gone += 1,
                other => {
                    let there = sys::stat_in(&other?.file, link.name.as_slice())?;
                    if there.is_some_and(|there| sys::same_inode(&there, &base.stat)) {
                        return Ok(false);
                    }
                }
            }
        }
        Ok(gone == others)
    }

    /// Where `base` was, if it is buried.
    ///
    /// [`Error::Damaged`] (`EIO`) if the note can't be read, or what a system call says.
    pub fn buried_at(&self, base: Gfid) -> Result<Option<LastPlace>> {
        match self.state.get() {
            Some(state) if self.is_buried(base) => state.buried_at(base),
            _ => Ok(None),
        }
    }

    /// Lets the buried `base` go if it has no snapshots any more. A failure is in the log: the next start tries again.
    pub(crate) fn after_delete(&self, base: &OpenFile) {
        let gfid = base.gfid;
        let release = || {
            if !self.is_buried(gfid) || XattrNames::of(&base.file)?.raw_starting(PAGE_PREFIX).next().is_some()
            {
                return Ok(());
            }
            match self.only_grave(base)? {
                Some(grave) => self.abandon(base, Some(&grave)),
                None => Ok(()),
            }
        };
        if let Err(e) = release() {
            tracing::error!("the deleted file {gfid} has no snapshots any more and cannot be let go: {e}");
        }
    }

    /// After storage/posix has removed the tombstone of `base`, on behalf of self-heal, or has not made it: takes back the
    /// note of it.
    ///
    /// What a system call says.
    pub fn forget_burial(&self, base: Gfid) -> Result<()> {
        let _change = self.change()?;
        let _reserve = self.may_use_reserve();
        self.buried.set(base, false);
        self.state()?.forget_buried(base)
    }

    /// Removes the last names of a file that nobody needs any more. The note goes last: it brings us back here after a
    /// crash.
    pub(crate) fn abandon(&self, base: &OpenFile, grave: Option<&Grave>) -> Result<()> {
        if let Some(Grave { tombstone, dir, .. }) = grave {
            sys::unlink_if_same(&dir.file, tombstone.name.as_slice(), &base.stat)?;
            self.brick.settle(&dir.file)?;
        }
        let handles = self.brick.handle_dir(base.gfid)?;
        sys::unlink_if_same(&handles, base.gfid.to_string().as_str(), &base.stat)?;
        self.brick.settle(&handles)?;
        let state = self.state()?;
        state.forget_buried(base.gfid)?;
        self.buried.set(base.gfid, false);
        sys::sync(&state.buried)
    }

    /// Learns who is buried. What a crash has cut short of these is to be finished by [`tidy`](Store::tidy).
    pub(crate) fn learn_graves(&self, state: &StateDir) {
        let names = match sys::names_in(&state.buried) {
            Ok(names) => names,
            Err(e) => return tracing::error!("cannot tell which deleted files have snapshots: {e}"),
        };
        for name in names {
            let Some(base) = std::str::from_utf8(&name).ok().and_then(|name| Gfid::parse(name).ok()) else {
                tracing::error!("{} is no note of a deleted file", name.escape_ascii());
                continue;
            };
            self.buried.set(base, true);
            self.untidied.set(base, true);
        }
    }

    /// Whether [`tidy`](Store::tidy) has yet to come to any file. A look at memory.
    pub fn any_untidied(&self) -> bool {
        self.untidied.any()
    }

    /// The deleted files that it has yet to come to.
    pub fn untidied(&self) -> Vec<Gfid> {
        self.untidied.all()
    }

    /// Those of them that were in directory `dir`.
    pub fn untidied_in(&self, dir: Gfid) -> Vec<Gfid> {
        let was_there = |file: &Gfid| matches!(self.buried_at(*file), Ok(Some(was)) if was.dir() == dir);
        self.untidied().into_iter().filter(was_there).collect()
    }

    /// Those of them that were beside a name of `file`.
    pub fn untidied_beside(&self, file: Gfid) -> Vec<Gfid> {
        if !self.any_untidied() {
            return Vec::new();
        }
        let names = self.brick.open_file(file, Access::Read).and_then(|inode| links(&inode.file));
        names.unwrap_or_default().iter().flat_map(|link| self.untidied_in(link.parent)).collect()
    }

    /// Finishes what a crash has cut short of the deleted `file`, if it is one of the [`untidied`](Store::untidied): a burial that the
    /// unlink did not follow, a grave that was not emptied, a tombstone without snapshots. One look if there is nothing to do.
    /// Failures are logged.
    pub fn tidy(&self, file: Gfid) {
        if !self.untidied.has(file) {
            return;
        }
        // Who has the brick next will do it.
        let Ok(_change) = self.change() else { return };
        if !self.untidied.take(file) {
            return;
        }
        let reserve = self.may_use_reserve();
        if let Err(e) = self.state().and_then(|state| self.tidy_grave(state, file)) {
            tracing::error!("the tombstone of the deleted file {file}: {e}");
        }
        drop(reserve);
        if !self.any_untidied() {
            self.top_up_reserve();
        }
    }

    fn tidy_grave(&self, state: &StateDir, gfid: Gfid) -> Result<()> {
        let base = match self.brick.open_file(gfid, Access::Read) {
            Err(Error::Gone) => return self.tidy_without_handle(state, gfid),
            other => other?,
        };
        let grave = self.grave(&base)?;
        if let Some(Grave { was, .. }) = &grave
            && self.buried_at(gfid)?.as_ref() != Some(was)
        {
            state.note_moved(&self.brick, gfid, was)?;
        }
        let names = XattrNames::of(&base.file)?;
        // Without the number as well it may be a metadata heal that was cut short: the entries will come back.
        let unused = names.has(SEQ) && names.raw_starting(PAGE_PREFIX).next().is_none();
        let alive = grave.is_some() && self.only_grave(&base)?.is_none();
        match (grave, base.stat.st_nlink) {
            (Some(_), _) if alive => self.unbury(gfid).map(drop),
            (Some(grave), _) if unused => self.abandon(&base, Some(&grave)),
            (Some(grave), _) => {
                // Before others may find what only its owner may read.
                if grave.was.has_moved_up() {
                    self.follow_rights(gfid)?;
                }
                self.follow(gfid).and_then(|()| self.empty_grave(gfid))
            }
            (None, 1) if unused => self.abandon(&base, None),
            (None, 1) => Err(Error::Damaged("it has lost its name".into())),
            // It came back: the note is left, and its snapshots may be.
            (None, _) => self.unbury(gfid).and_then(|_| self.follow(gfid)),
        }
    }

    fn tidy_without_handle(&self, state: &StateDir, gfid: Gfid) -> Result<()> {
        if let Some(was) = state.buried_at(gfid)? {
            let tombstone = tombstone(gfid, &was);
            let there = match self.brick.open_dir(tombstone.parent) {
                Err(Error::Gone) => None,
                other => sys::stat_in(&other?.file, tombstone.name.as_slice())?,
            };
            if there.is_some() {
                return Err(Error::Damaged(format!("it has no handle any more, and so no {gfid}")));
            }
        }
        self.buried.set(gfid, false);
        state.forget_buried(gfid)
    }
}
