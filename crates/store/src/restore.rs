//! Giving a file the content of one of its snapshots.

use std::fs::File;
use std::time::{Duration, Instant};

use fsnap_core::record::Intent;
use fsnap_core::{Error, Gfid, Result, SnapName};
use nix::errno::Errno;
use nix::sys::stat::{FileStat, fstat};

use crate::Store;
use crate::brick::{Access, OpenFile};
use crate::catalogue::is_being_healed;
use crate::create::refuse_quota;
use crate::ioctl::{exchange, ficlone_range};
use crate::pages;
use crate::payload::{self, set_times};
use crate::reserve;
use crate::sys::{self, Doing};
use crate::xattrs::{self, XattrNames};

/// No block of XFS is larger, in bytes.
const LARGEST_BLOCK: i64 = 64 << 10;
/// How often a restore is tried that has no way back.
const TRIES: u32 = 3;

/// How a file gets another content, and what is there if that fails.
enum Way {
    /// It is cloned over the old one, and gone on with: see [`room`](crate::room).
    Forward,
    /// It is this file's, and exchanged with the old one, which this file has afterwards.
    Exchange(File),
    /// It is cloned over the old one, of which this is a clone.
    Back(File),
}

/// Whether what a clone needs may be taken from the [reserve].
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// It may fail.
    May,
    /// It has to end.
    Must,
}

/// A file that was restored.
#[derive(Clone, Copy, Debug)]
pub struct Restored {
    /// For how long its writers had to wait.
    pub time: Duration,
    /// Its size on this brick now, in bytes.
    pub size: i64,
}

impl Restored {
    pub(crate) fn now(live: &OpenFile, time: Duration) -> Result<Self> {
        Ok(Restored { time, size: fstat(&live.file).doing("stat")?.st_size })
    }
}

impl Store {
    /// Makes the content of `base` that of its snapshot `name`.
    /// The inode, and all else about it, stays. When this returns it is durable; after a crash the file has the old
    /// content or the snapshot's as soon as the brick is [`open`](Store::open)ed again.
    ///
    /// What clients have cached, and the times that GlusterFS keeps, are the caller's business. So is that nobody
    /// writes meanwhile: such writes may be lost, or be in the file and then be lost in a crash.
    ///
    /// Refused, with nothing changed: [`Error::NoSnapshot`] (`ENODATA`), [`Error::Gone`] (`ESTALE`),
    /// [`Error::NotRegular`] (`EINVAL`), [`Error::ReadOnly`] (`EROFS`: it is a snapshot), [`Error::Migrating`]
    /// (`EBUSY`: it is a link file of DHT), [`Error::Unsupported`] (`EOPNOTSUPP`: no reflink here, sharded, under quota accounting, signed by
    /// bitrot, deleted: see [`revive`](Store::revive)), [`Error::Damaged`] (`EIO`: the payload is missing or is not this snapshot's, or an earlier restore
    /// can't be finished), [`Error::Unhealed`] (`EIO`: self-heal has yet to fill the snapshot). Else what a system call says, and the old content is back; if that fails as well, or the new content can't be completed, the log
    /// tells, [`Error::Damaged`] is returned, the file [is torn](Store::is_torn), and the restore is tried again at the next one
    /// of the file or [`Store::open`].
    pub fn restore(&self, base: Gfid, name: &SnapName) -> Result<Restored> {
        let _change = self.change()?;
        let live = self.brick.open_file(base, Access::Write)?;
        let snapshot = self.check_restore(&live, name)?;
        let time = self.restore_into(&live, &snapshot, name)?;
        Restored::now(&live, time)
    }

    /// Whether it may be restored now, and nothing more: what [`restore`](Store::restore) refuses.
    pub fn may_restore(&self, base: Gfid, name: &SnapName) -> Result<()> {
        self.check_restore(&self.brick.open_file(base, Access::Write)?, name).map(drop)
    }

    fn check_restore(&self, live: &OpenFile, name: &SnapName) -> Result<OpenFile> {
        if self.only_grave(live)?.is_some() {
            return Err(Error::unsupported("the file was deleted: bring it back first"));
        }
        // Of a carrier it knows.
        let names = XattrNames::of(&live.file)?;
        refuse_quota(&names)?;
        self.restorable(live, &names, name)
    }

    /// The same for a file that may be a tombstone, and its snapshot `name`, which is [`restorable`](Store::restorable).
    pub(crate) fn restore_into(
        &self,
        live: &OpenFile,
        snapshot: &OpenFile,
        name: &SnapName,
    ) -> Result<Duration> {
        let base = live.gfid;
        let state = self.state()?;
        self.finish_earlier_restore(state, base)?;
        // Until it is known how it has ended: what was let go on before that might be taken away with it.
        let _locked = self.locks(base);
        let stat = fstat(&live.file).doing("stat")?;
        let way = self.way(live, &stat, snapshot, &state.dir)?;
        let armed = self.not_begun(state, base, name)?;
        let intent = Intent { base, payload: snapshot.gfid, name: name.clone() };
        if let Err(e) = state.write_intent(&intent, self.is_intent_first(&way, &stat, snapshot)) {
            // What is written from now on would go when it is replayed.
            self.torn.set(base, state.has_intent(base));
            return Err(e);
        }
        let start = Instant::now();
        let is_back = || {
            state.remove_intent(base)?;
            self.note_begun(state, base, &armed, false)
        };
        let begun = self.note_begun(state, base, &armed, true).and_then(|()| match &way {
            Way::Exchange(aside) => {
                let _locked = self.locks(base);
                exchange(aside, &live.file).doing("exchange the contents")
            }
            Way::Forward | Way::Back(_) => Ok(()),
        });
        // From here on it has to end, the one way or the other.
        let _reserve = self.may_use_reserve();
        if let Err(e) = begun {
            let back = is_back();
            self.torn.set(base, back.is_err());
            return back.and(Err(e));
        }
        let done = match &way {
            Way::Exchange(_) => sys::sync(&live.file).map(|()| start.elapsed()),
            Way::Back(_) => self.overwrite(&snapshot.file, Some(snapshot.gfid), live, Need::May),
            Way::Forward => self.go_forward(snapshot, live),
        };
        let ended = match (done, way) {
            // If that is not durable it is not over: a crash would bring the intent back.
            (Ok(time), _) => state.remove_intent(base).map(|()| time).map_err(|e| (e, true)),
            (Err(cause), Way::Forward) => {
                tracing::error!(
                    "{base} is HALF RESTORED: its restore failed ({cause}). Nobody may read or write it on this brick until it \
                     is finished"
                );
                Err((Error::Damaged(format!("half restored: {cause}")), true))
            }
            (Err(cause), Way::Exchange(old) | Way::Back(old)) => {
                Err(match self.roll_back(live, &stat, &old, is_back) {
                    Ok(()) => (cause, false),
                    Err(e) => {
                        tracing::error!(
                            "{base} is HALF RESTORED: its restore failed ({cause}), and so did taking that back ({e}). Nobody \
                             may read or write it on this brick until it is finished"
                        );
                        let why =
                            format!("half restored: {cause}; and the old content did not come back: {e}");
                        (Error::Damaged(why), true)
                    }
                })
            }
        };
        self.torn.set(base, matches!(ended, Err((_, true))));
        ended.map_err(|(e, _)| e)
    }

    /// How `live`, which has the attributes `was`, is to get the content of `snapshot`. What is made aside is made beside `dir`.
    fn way(&self, live: &OpenFile, was: &FileStat, snapshot: &OpenFile, dir: &File) -> Result<Way> {
        // A file that has to become shorter readers might see cut before it has the content.
        let in_one_step = !self.exchanges || was.st_size <= snapshot.stat.st_size;
        if in_one_step && self.goes_forward(snapshot, live) {
            return Ok(Way::Forward);
        }
        // With an exchange the new content is made aside, and the old one is there afterwards.
        let (aside, _) = payload::clone(self, if self.exchanges { snapshot } else { live }, dir)?;
        Ok(if self.exchanges { Way::Exchange(aside) } else { Way::Back(aside) })
    }

    /// Whether the intent must be on the disk before the content changes.
    ///
    /// Where steps become durable in their order it need not: what a clone or an exchange changes is noted in the log behind it. But
    /// a block that is cut within is filled up with zeros where it lies, which is in no log.
    fn is_intent_first(&self, way: &Way, was: &FileStat, snapshot: &OpenFile) -> bool {
        let size = snapshot.stat.st_size;
        let cuts_a_block = was.st_size > size && size % LARGEST_BLOCK != 0;
        match way {
            Way::Forward => !self.brick.ordered || cuts_a_block,
            Way::Exchange(_) => !self.brick.ordered,
            Way::Back(_) => true,
        }
    }

    /// The payload of the snapshot that `live`, whose xattrs have these `names`, may be restored to; the errors of [`restore`](Store::restore).
    pub(crate) fn restorable(
        &self,
        live: &OpenFile,
        names: &XattrNames,
        name: &SnapName,
    ) -> Result<OpenFile> {
        self.check_base(live, names)?;
        if names.has(xattrs::SIGNATURE) {
            return Err(Error::unsupported(
                "bitrot has signed the file and would take the restore for corruption",
            ));
        }
        let entry = pages::expect_entry(live, name)?;
        let payload = self
            .payload(live.gfid, name, entry.gfid)?
            .ok_or_else(|| Error::Damaged(format!("this brick lacks the data of snapshot {name}")))?;
        match is_being_healed(&XattrNames::of(&payload.file)?, names.is_dispersed()) {
            true => Err(Error::Unhealed(format!("self-heal has not filled snapshot {name} yet").into())),
            false => Ok(payload),
        }
    }

    /// Puts the old content back, and notes it by `is_back`.
    fn roll_back(
        &self,
        live: &OpenFile,
        was: &FileStat,
        old: &File,
        is_back: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        self.overwrite(old, None, live, Need::Must)?;
        set_times(&live.file, was)?;
        is_back()
    }

    /// Makes `live` the same bytes as `snapshot`; durable is that when its intent is durably away. It is begun once more if it stops: there is
    /// no way back. What a system call says if it still does.
    fn go_forward(&self, snapshot: &OpenFile, live: &OpenFile) -> Result<Duration> {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.replace(&snapshot.file, Some(snapshot.gfid), live, Need::Must) {
                Err(e) if tries < TRIES => {
                    tracing::warn!("the restore of {} has stopped ({e}) and is gone on with", live.gfid);
                }
                other => return other,
            }
        }
    }

    /// Makes `live` the same bytes as `src`, which is the snapshot `from` if it has a name, durably.
    ///
    /// XFS clones, and lets a file grow, in one step for all who look. One that is longer they may see cut to the size of `src`
    /// before that.
    pub(crate) fn overwrite(
        &self,
        src: &File,
        from: Option<Gfid>,
        live: &OpenFile,
        need: Need,
    ) -> Result<Duration> {
        let time = self.replace(src, from, live, need)?;
        sys::sync(&live.file)?;
        Ok(time)
    }

    /// The same, not durably.
    fn replace(&self, src: &File, from: Option<Gfid>, live: &OpenFile, need: Need) -> Result<Duration> {
        let dst = &live.file;
        let size = fstat(src).doing("stat")?.st_size;
        let _locked = (from.map(|from| self.locks_source(from)), self.locks(live.gfid));
        let start = Instant::now();
        if fstat(dst).doing("stat")?.st_size > size {
            // See `ficlone`.
            sys::truncate(dst, size).doing("truncate")?;
        }
        loop {
            match ficlone_range(src, size, dst) {
                Err(e) if need == Need::Must && reserve::yields(want_of_room(e)) => {}
                other => break other.doing("clone the snapshot (FICLONERANGE)")?,
            }
        }
        Ok(start.elapsed())
    }
}

/// What `FICLONERANGE` may mean by `errno`: `EINVAL` is also said by XFS where it has stopped in the middle and does not say why. See
/// [`ficlone_range`].
fn want_of_room(errno: Errno) -> Errno {
    if errno == Errno::EINVAL { Errno::ENOSPC } else { errno }
}
