//! One brick's snapshots on its disk, by system calls, without any Gluster library.
//!
//! The catalogue, in xattrs of the base file, is the truth; the payloads, in `.fsnap`, are the data. Every change is
//! ordered so that a crash leaves a snapshot whole or absent and a restored file wholly old or wholly new (after
//! [`Store::open`] has replayed what was begun).
//!
//! All calls block, and any number of threads may make them, with one rule that the caller keeps: **of the calls that
//! change a base or its snapshots no two on the same base at a time**: [`create`](Store::create),
//! [`delete`](Store::delete), [`purge`](Store::purge), [`restore`](Store::restore), [`arm`](Store::arm),
//! [`carry`](Store::carry), [`tidy`](Store::tidy), [`settle`](Store::settle), [`hold`](Store::hold),
//! [`strip_privileges`](Store::strip_privileges), [`follow`](Store::follow), [`adopt`](Store::adopt), [`seed`](Store::seed), [`bury`](Store::bury), [`unbury`](Store::unbury), [`empty_grave`](Store::empty_grave) and
//! [`revive`](Store::revive), [`expire`](Store::expire), and of all of its files [`move_up`](Store::move_up). From `bury` on this includes the unlink that it prepares, up to `empty_grave` or `unbury`.
//! Different bases, in the same directory too, and all calls that only ask need no such care; nor do
//! [`snap_dir`](Store::snap_dir) and [`clear_snap_dir`](Store::clear_snap_dir), of any number of threads.
//!
//! Nothing on the disk is trusted: not records, not gfids, not handles, not what kind of file it is.

mod arm;
mod brick;
mod catalogue;
pub mod check;
mod create;
mod delete;
#[cfg(feature = "fault-injection")]
pub mod fault;
#[cfg(not(feature = "fault-injection"))]
mod fault {
    /// Where faults are injected in tests.
    pub(crate) fn point(_: &str) -> nix::Result<()> {
        Ok(())
    }
}
mod adopt;
mod expire;
mod follow;
mod gfid_set;
mod grave;
mod guard;
mod handles;
mod in_use;
mod intent;
mod ioctl;
mod locked;
mod lookup;
mod many;
mod names;
mod notice;
mod pages;
mod payload;
mod pending;
mod reserve;
mod restore;
mod revive;
mod rights;
mod rmdir;
mod room;
mod snapdir;
mod state;
mod sys;
mod tenancy;
mod wanted;
mod xattrs;

use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, OnceLock, RwLock};

use fsnap_core::Result;

pub use adopt::{Catalogue, Outstanding};
pub use create::{Cloned, Limits};
pub use guard::InodeKind;
pub use handles::WithoutHandle;
pub use locked::Watch;
pub use lookup::DirEntry;
pub use notice::Notice;
pub use restore::Restored;
pub use rights::RIGHTS_XATTRS;
pub use rmdir::MovedUp;
pub use tenancy::Change;

use brick::BrickDir;
use gfid_set::GfidSet;
use locked::Watcher;
use notice::Listener;
use reserve::Permit;
use state::StateDir;
use tenancy::Tenancy;

/// An opened brick. No more than one at a time changes a brick, in whichever process: opening replays what looks
/// interrupted. Of two in one process it is the later one, and of two processes the one that came first, until it
/// [leaves](Store::leave) or ends.
pub struct Store {
    brick: BrickDir,
    /// Keeps repairs and other stores away.
    tenancy: Arc<Tenancy>,
    state: OnceLock<StateDir>,
    reflink: bool,
    exchanges: bool,
    /// See [`locked`].
    readers_go_on: bool,
    watcher: Watcher,
    listener: Listener,
    /// The deleted files that are kept for their snapshots.
    buried: GfidSet,
    /// Those of them of which a crash may have left something to do.
    untidied: GfidSet,
    /// Those with a part of two contents.
    torn: GfidSet,
    /// Written by who takes a `.fsnap` away with its handle, read by who sees to both being there.
    snap_dirs: RwLock<()>,
}

impl Store {
    /// Opens the brick whose root is `brick`: finds out whether its file system shares blocks, and finishes the
    /// restores that a crash interrupted, then the snapshots that were being made or deleted, then the burials and what else
    /// it did to deleted files, all of which it looks at. What can't be finished
    /// is logged, never a reason to fail.
    ///
    /// It waits for as long as a [repair](check) of the brick is at work, or another process has it open; and for the changes
    /// that an earlier store of this process has under way. That one begins no more from now on: they are
    /// [`Error::Leaving`](fsnap_core::Error::Leaving) (`ENOTCONN`).
    ///
    /// Nothing is written to a brick that fsnap was never used on: `.glusterfs/fsnap` is made when it is needed.
    ///
    /// [`Error::Unsupported`](fsnap_core::Error::Unsupported) (`EOPNOTSUPP`) if there is no `.glusterfs` (storage/posix
    /// makes it) or if another version of fsnap was at work here; [`Error::Leaving`](fsnap_core::Error::Leaving) (`ENOTCONN`) if
    /// this process has opened it once more meanwhile; else what a system call says.
    pub fn open(brick: &Path) -> Result<Self> {
        let store = Store::open_in_time(brick, || true)?;
        store.untidied().into_iter().for_each(|file| store.tidy(file));
        Ok(store)
    }

    /// The same, but it waits only as long as `wait` says, which is asked again and again:
    /// [`Error::Leaving`](fsnap_core::Error::Leaving) (`ENOTCONN`) then. And it looks at no deleted file: that takes long where there
    /// are many. Before a call on one of the [`untidied`](Store::untidied) comes [`tidy`](Store::tidy).
    pub fn open_in_time(brick: &Path, wait: impl Fn() -> bool) -> Result<Self> {
        let brick = BrickDir::open(brick)?;
        let (tenancy, _opening) = Tenancy::take(&brick, wait)?;
        let reflink = probe(&brick);
        let exchanges = reflink && probe_exchange(&brick);
        let readers_go_on = locked::readers_go_on(brick.ordered);
        let store = Store {
            brick,
            tenancy,
            state: OnceLock::new(),
            reflink,
            exchanges,
            readers_go_on,
            watcher: Watcher::default(),
            listener: Listener::default(),
            buried: GfidSet::default(),
            untidied: GfidSet::default(),
            torn: GfidSet::default(),
            snap_dirs: RwLock::default(),
        };
        if let Some(state) = StateDir::find(&store.brick)? {
            let state = store.state.get_or_init(|| state);
            let reserve = store.may_use_reserve();
            if let Err(e) = state.sweep() {
                tracing::warn!("cannot tidy .glusterfs/fsnap: {e}");
            }
            store.replay_intents(state);
            store.settle_pending(state);
            if let Err(e) = store.tidy_armed(state) {
                tracing::warn!("cannot tidy .glusterfs/fsnap/armed: {e}");
            }
            store.learn_graves(state);
            drop(reserve);
            state.reserve.top_up();
        }
        Ok(store)
    }

    /// Whether fsnap was ever used on the brick whose root is `brick`, by whichever version of it; true if it can't be told.
    pub fn was_used(brick: &Path) -> bool {
        !matches!(std::fs::symlink_metadata(brick.join(brick::GLUSTERFS).join(state::NAME)),
            Err(e) if e.kind() == io::ErrorKind::NotFound)
    }

    /// Whether the brick's file system shares blocks between files.
    pub fn reflink(&self) -> bool {
        self.reflink
    }

    /// Whether the brick's file system exchanges the contents of two files at once (XFS made with `exchange=1`): then
    /// nobody sees the middle of a restore.
    pub fn exchanges(&self) -> bool {
        self.exchanges
    }

    /// Lets this thread use what is kept for a full disk, for what makes room or must not fail.
    fn may_use_reserve(&self) -> Permit {
        reserve::permit(self.state.get().map(|state| &state.reserve))
    }

    /// Makes that whole again, if there is room.
    fn top_up_reserve(&self) {
        if let Some(state) = self.state.get() {
            state.reserve.top_up();
        }
    }

    /// fsnap's own directory, made if it is not there.
    fn state(&self) -> Result<&StateDir> {
        match self.state.get() {
            Some(state) => Ok(state),
            None => {
                let state = StateDir::make(&self.brick)?;
                Ok(self.state.get_or_init(|| state))
            }
        }
    }
}

/// Exchanges two empty files without names.
fn probe_exchange(brick: &BrickDir) -> bool {
    let nameless = || sys::nameless(&brick.glusterfs);
    nameless().and_then(|a| nameless().and_then(|b| ioctl::exchange(&a, &b))).is_ok()
}

/// Shares one block between two files without names.
fn probe(brick: &BrickDir) -> bool {
    let nameless = || sys::nameless(&brick.glusterfs);
    let share = || -> io::Result<()> {
        let (mut src, dst) = (nameless()?, nameless()?);
        src.write_all(&[0x66; 4096])?;
        Ok(ioctl::ficlone(&src, &dst)?)
    };
    let Err(e) = share() else { return true };
    match e.raw_os_error() {
        Some(libc::EOPNOTSUPP | libc::ENOTTY | libc::EINVAL | libc::EXDEV | libc::ENOSYS) => {
            tracing::warn!("this brick's file system cannot share blocks ({e}): no snapshots here");
            false
        }
        // A full or read-only disk says nothing about reflink. If there is none, each command will find out.
        _ => {
            tracing::warn!("cannot tell whether this brick's file system shares blocks: {e}");
            true
        }
    }
}
