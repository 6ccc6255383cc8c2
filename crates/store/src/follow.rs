//! Snapshots go where their file goes.

use std::collections::BTreeMap;
use std::fs::File;

use fsnap_core::gfid2path::Link;
use fsnap_core::{Error, Gfid, LastPlace, Result, SnapName};
use nix::errno::Errno;

use crate::Store;
use crate::brick::{Access, OpenDir, OpenFile};
use crate::names::{self, links};
use crate::notice::Notice;
use crate::pages::Pages;
use crate::snapdir::SnapDir;
use crate::sys::{self, Doing};

/// How often a `.fsnap` is made again that the rmdir of its directory has taken away meanwhile.
const TRIES: u32 = 3;

/// A place that snapshots of a file can have.
pub(crate) enum SnapshotPlace {
    /// Beside a name of the file.
    Beside(Link),
    /// Where it was: it was deleted.
    Grave(LastPlace),
}

impl SnapshotPlace {
    /// The directory whose `.fsnap` it is in.
    pub(crate) fn parent(&self) -> Gfid {
        match self {
            SnapshotPlace::Beside(link) => link.parent,
            SnapshotPlace::Grave(was) => was.dir(),
        }
    }

    /// Where snapshot `name` of `base` is then.
    pub(crate) fn place(&self, name: &SnapName, base: Gfid) -> Result<Link> {
        let name = match self {
            SnapshotPlace::Beside(link) => name.file_name(&link.name)?,
            SnapshotPlace::Grave(was) => was.snapshot(name, base)?,
        };
        Ok(Link { parent: self.parent().snap_dir(), name })
    }
}

/// Where the snapshots of a file belong: at its first spot.
struct Home {
    parent: OpenDir,
    snap_dir: SnapDir,
}

/// What the gfid2path xattrs of a payload say.
struct PayloadNames {
    /// The names that it really has.
    names: Vec<(Link, OpenDir)>,
    /// Those that it does not have (any more).
    stale: Vec<Link>,
}

impl Store {
    /// Brings the snapshots of `base` to where it is now: those that lie beside none of its names move to beside the one that is
    /// likeliest to be its owner's, of these the smallest (as an xattr). To be called when a rename, or an unlink of one of several names, is done. It may be
    /// repeated, and finishes what a crash has cut short. When it returns all is durable.
    ///
    /// A snapshot stays where it is, with a warning in the log, if its new place is taken or its name there would be longer
    /// than 255 bytes: commands find it by its gfid. Those of a deleted file get the names that tell that
    /// ([`SnapName::deleted_file_name`]).
    ///
    /// [`Error::Gone`] (`ESTALE`), [`Error::NotRegular`] (`EINVAL`), [`Error::Damaged`] (`EIO`) if what the file or a
    /// snapshot carries can't be read, [`Error::Unsupported`] (`EOPNOTSUPP`) if a foreign `.fsnap` is where they are to
    /// go, or what a system call says. What befalls one snapshot does not keep the others; the last such error is
    /// returned.
    pub fn follow(&self, base: Gfid) -> Result<()> {
        let _change = self.change()?;
        let _reserve = self.may_use_reserve();
        let base = self.brick.open_file(base, Access::Read)?;
        let moved = self.bring_all(&base)?;
        moved.as_ref().map_or(Ok(()), sys::sync)
    }

    /// The same, settled alone. Returns the last that was moved.
    pub(crate) fn bring_all(&self, base: &OpenFile) -> Result<Option<File>> {
        self.follow_by(base, |base| self.spots(base))
    }

    /// The same where nobody can tell yet where the file is, which was moved from the place `name` in directory `parent`: its
    /// snapshots get the names that those of a deleted file have, so that a new file there can have some of the same names.
    pub fn follow_away(&self, base: Gfid, parent: Gfid, name: &[u8]) -> Result<()> {
        let _change = self.change()?;
        let _reserve = self.may_use_reserve();
        let base = self.brick.open_file(base, Access::Read)?;
        let was = LastPlace::at(Link { parent, name: name.to_vec() });
        let moved = self.follow_by(&base, |_| Ok(vec![SnapshotPlace::Grave(was.clone())]))?;
        moved.as_ref().map_or(Ok(()), sys::sync)
    }

    fn follow_by(
        &self,
        base: &OpenFile,
        spots: impl Fn(&OpenFile) -> Result<Vec<SnapshotPlace>>,
    ) -> Result<Option<File>> {
        let mut tries = 0;
        loop {
            match self.follow_once(base, &spots) {
                Err(Error::Os { errno: libc::ENOENT, .. } | Error::Gone) if tries < TRIES => tries += 1,
                other => return other,
            }
        }
    }

    fn follow_once(
        &self,
        base: &OpenFile,
        spots: impl Fn(&OpenFile) -> Result<Vec<SnapshotPlace>>,
    ) -> Result<Option<File>> {
        let snapshots = Pages::of(&base.file, base.gfid)?.all()?;
        if snapshots.is_empty() {
            return Ok(None);
        }
        let current = spots(base)?;
        let (mut homes, mut last, mut failed) = (BTreeMap::new(), None, None);
        for (name, entry) in &snapshots {
            match self.bring(base, name, entry.gfid, &current, &mut homes) {
                Ok(changed) => last = changed.or(last),
                Err(e) => {
                    tracing::error!("snapshot {name} of {} does not follow its file: {e}", base.gfid);
                    failed = Some(e);
                }
            }
        }
        match failed {
            // See `BrickDir::settle`: where the log is one sequence this makes the other moves durable as well.
            Some(e) => last.as_ref().map_or(Ok(()), sys::sync).and(Err(e)),
            None => Ok(last),
        }
    }

    /// Which of these names of `base` one of its snapshots lies beside.
    pub(crate) fn in_use(&self, base: &OpenFile, current: &[Link]) -> Result<Option<usize>> {
        for (name, entry) in Pages::of(&base.file, base.gfid)?.readable() {
            let payload = self.payload(base.gfid, &name, entry.gfid);
            let places = payload.and_then(|payload| payload.map(|payload| links(&payload.file)).transpose());
            // One that is damaged tells nothing.
            let Ok(Some(found)) = places else { continue };
            let beside = |link: &Link| {
                let place = SnapshotPlace::Beside(link.clone()).place(&name, base.gfid);
                place.is_ok_and(|place| found.contains(&place))
            };
            if let Some(n) = current.iter().position(beside) {
                return Ok(Some(n));
            }
        }
        Ok(None)
    }

    /// Where snapshots of `base` can be; the first is where they would be brought.
    pub(crate) fn spots(&self, base: &OpenFile) -> Result<Vec<SnapshotPlace>> {
        let mut spots: Vec<SnapshotPlace> =
            self.brick.current_names(base)?.into_iter().map(SnapshotPlace::Beside).collect();
        if spots.is_empty() {
            // What self-heal has put aside has one more name, which is no place.
            spots.extend(self.grave(base)?.map(|grave| SnapshotPlace::Grave(grave.was)));
        }
        Ok(spots)
    }

    /// Brings one snapshot to beside one of the `current` names of its base. Returns the payload if it was touched.
    fn bring(
        &self,
        base: &OpenFile,
        name: &SnapName,
        gfid: Gfid,
        current: &[SnapshotPlace],
        homes: &mut BTreeMap<usize, Result<Home>>,
    ) -> Result<Option<File>> {
        let Some(payload) = self.payload(base.gfid, name, gfid)?.filter(|_| !current.is_empty()) else {
            return Ok(None);
        };
        let found = self.names_of(&payload)?;
        let places: Vec<Link> = current.iter().filter_map(|spot| spot.place(name, base.gfid).ok()).collect();
        if found.names.iter().any(|(link, _)| places.contains(link)) {
            return self.tidy_names(payload, found, &places);
        }
        let fits = |(n, spot): (usize, &SnapshotPlace)| Some((n, spot.place(name, base.gfid).ok()?));
        let Some((n, to)) = current.iter().enumerate().find_map(fits) else {
            tracing::warn!("snapshot {name} of {} stays where it is: its name would be too long", base.gfid);
            return Ok(None);
        };
        // Once for all snapshots, be it a failure.
        match homes.entry(n).or_insert_with(|| self.home(base, &current[n])) {
            Ok(home) => self.move_payload(payload, found, &to, home),
            Err(e) => Err(e.clone()),
        }
    }

    fn home(&self, base: &OpenFile, first: &SnapshotPlace) -> Result<Home> {
        let parent = match first {
            SnapshotPlace::Beside(link) => self.brick.dir_of(link, &base.stat)?.ok_or(Error::Gone)?,
            SnapshotPlace::Grave(was) => self.brick.open_dir(was.dir())?,
        };
        Ok(Home { snap_dir: self.ensure_snap_dir(&parent)?, parent })
    }

    fn names_of(&self, payload: &OpenFile) -> Result<PayloadNames> {
        let mut found = PayloadNames { names: Vec::new(), stale: Vec::new() };
        for link in links(&payload.file)? {
            match self.brick.dir_of(&link, &payload.stat)? {
                Some(dir) => found.names.push((link, dir)),
                None => found.stale.push(link),
            }
        }
        Ok(found)
    }

    /// Takes away what an interrupted move of a payload, which is where it belongs, has left elsewhere.
    fn tidy_names(&self, payload: OpenFile, found: PayloadNames, places: &[Link]) -> Result<Option<File>> {
        let mut gone = found.stale;
        for (link, dir) in found.names {
            if !places.contains(&link) {
                sys::unlink_if_same(&dir.file, link.name.as_slice(), &payload.stat)?;
                self.notice(Notice::Removed { dir: link.parent, name: &link.name, file: payload.gfid });
                self.brick.settle(&dir.file)?;
                gone.push(link);
            }
        }
        if gone.is_empty() {
            return Ok(None);
        }
        names::forget(&payload.file, &gone)?;
        self.brick.settle(&payload.file)?;
        Ok(Some(payload.file))
    }

    /// The xattr of the new name comes before the move and that of the old one goes after it: a crash leaves one too many,
    /// never one too few.
    fn move_payload(
        &self,
        payload: OpenFile,
        found: PayloadNames,
        to: &Link,
        home: &Home,
    ) -> Result<Option<File>> {
        let into = &home.snap_dir.dir;
        let Some((from, dir)) = found.names.into_iter().next() else {
            return self.name_again(payload, &found.stale, to, home);
        };
        let there = sys::stat_in(into, to.name.as_slice())?;
        let moved_already = there.is_some_and(|there| sys::same_inode(&there, &payload.stat));
        if there.is_some() && !moved_already {
            tracing::warn!(
                "snapshot {} stays {} in {}: its new place {} is taken",
                payload.gfid,
                from.name.escape_ascii(),
                from.parent,
                to.name.escape_ascii()
            );
            names::forget(&payload.file, &found.stale)?;
            return Ok(None);
        }
        names::note(&payload.file, to)?;
        self.brick.settle(&payload.file)?;
        if moved_already {
            // A file system may have brought back the old name of a move that a crash cut short.
            sys::unlink_if_same(&dir.file, from.name.as_slice(), &payload.stat)?;
        } else {
            sys::rename((&dir.file, from.name.as_slice()), (into, to.name.as_slice()))
                .doing("move a snapshot")?;
        }
        self.notice(Notice::Removed { dir: from.parent, name: &from.name, file: payload.gfid });
        self.notice(Notice::Added(to.parent));
        for step in [into, &home.snap_dir.handles, &home.parent.file, &dir.file] {
            self.brick.settle(step)?;
        }
        let gone: Vec<Link> = found.stale.into_iter().chain([from]).filter(|link| link != to).collect();
        names::forget(&payload.file, &gone)?;
        self.brick.settle(&payload.file)?;
        Ok(Some(payload.file))
    }

    /// Gives a payload a name that has none that anybody knows: self-heal has thrown away the directory that it was in, and
    /// storage/posix keeps that aside for a while.
    fn name_again(&self, payload: OpenFile, stale: &[Link], to: &Link, home: &Home) -> Result<Option<File>> {
        names::note(&payload.file, to)?;
        self.brick.settle(&payload.file)?;
        match sys::give_name(&payload.file, &home.snap_dir.dir, to.name.as_slice()) {
            Err(Errno::EEXIST) => {
                tracing::warn!("snapshot {} has no name: {} is taken", payload.gfid, to.name.escape_ascii());
                return Ok(None);
            }
            other => other.doing("link a snapshot")?,
        }
        self.notice(Notice::Added(to.parent));
        for step in [&home.snap_dir.dir, &home.snap_dir.handles, &home.parent.file] {
            self.brick.settle(step)?;
        }
        let gone: Vec<Link> = stale.iter().filter(|link| *link != to).cloned().collect();
        names::forget(&payload.file, &gone)?;
        self.brick.settle(&payload.file)?;
        Ok(Some(payload.file))
    }
}
