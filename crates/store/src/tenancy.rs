//! Whose a brick is: one store at a time changes it, in whichever process.
//!
//! GlusterFS may open a brick while it has not let go of it yet: with brick multiplexing `volume stop` returns long before the
//! graph is taken apart, and `volume start` builds the next one, in the same process or in another. What the earlier store
//! still did, the later one's clients would find in the middle of what they have written.
//!
//! So a store holds a [lock](in_use::hold) until it has left the brick and its last change has ended, and who comes second waits
//! for it. In one process the last store that is opened has the earlier one leave; between processes a brick that is going down
//! leaves by itself.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use fsnap_core::{Error, Result};
use nix::sys::stat::fstat;

use crate::Store;
use crate::brick::BrickDir;
use crate::in_use::{self, Lock};
use crate::sys::Doing;

/// By the inode of `.glusterfs`, the last store of this process to open that brick.
static TENANTS: Mutex<BTreeMap<(u64, u64), Weak<Tenancy>>> = Mutex::new(BTreeMap::new());

/// One store's hold on its brick.
#[derive(Default)]
pub(crate) struct Tenancy(Mutex<Now>);

#[derive(Default)]
struct Now {
    /// How many changes are under way.
    changes: usize,
    /// No more are begun.
    left: bool,
    /// Keeps repairs and other processes away.
    lock: Option<Lock>,
}

impl Now {
    fn is_over(&self) -> bool {
        self.left && self.changes == 0
    }

    fn end(&mut self) {
        if self.is_over() {
            self.lock = None;
        }
    }
}

/// A change to a brick that is under way. Until it is dropped no other store has the brick.
pub struct Change(Arc<Tenancy>);

impl Drop for Change {
    fn drop(&mut self) {
        let mut now = self.0.now();
        now.changes -= 1;
        now.end();
    }
}

impl Tenancy {
    /// Takes the brick over when nobody else changes it any more; `wait` is asked for how long. To open it is a change as well:
    /// the second part of the result.
    ///
    /// [`Error::Leaving`] (`ENOTCONN`) if it is not to wait, or has been opened once more since; or what a system call says.
    pub(crate) fn take(brick: &BrickDir, wait: impl Fn() -> bool) -> Result<(Arc<Self>, Change)> {
        let stat = fstat(&brick.glusterfs).doing("stat")?;
        let tenancy = Arc::new(Tenancy::default());
        let opening = tenancy.begin()?;
        let earlier = {
            let mut tenants = TENANTS.lock().unwrap_or_else(PoisonError::into_inner);
            tenants.retain(|_, tenancy| tenancy.strong_count() > 0);
            tenants.insert((stat.st_dev, stat.st_ino), Arc::downgrade(&tenancy))
        };
        if let Some(earlier) = earlier.and_then(|earlier| earlier.upgrade()) {
            earlier.leave();
        }
        let lock = in_use::hold(brick, || !tenancy.now().left && wait())?;
        let mut now = tenancy.now();
        if now.left {
            return Err(Error::Leaving);
        }
        now.lock = Some(lock);
        drop(now);
        Ok((tenancy, opening))
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(self: &Arc<Self>) -> Result<Change> {
        self.begin_if(|now| !now.left)
    }

    fn begin_if(self: &Arc<Self>, may: impl FnOnce(&Now) -> bool) -> Result<Change> {
        let mut now = self.now();
        if !may(&now) {
            return Err(Error::Leaving);
        }
        now.changes += 1;
        Ok(Change(Arc::clone(self)))
    }

    fn leave(&self) {
        let mut now = self.now();
        now.left = true;
        now.end();
    }
}

impl Store {
    /// Begins a change that takes several calls, and what others do between them: as long as the result lives no other store
    /// opens the brick.
    ///
    /// [`Error::Leaving`] (`ENOTCONN`) if this one has [left](Store::leave) it, or another one has been opened.
    pub fn begin(&self) -> Result<Change> {
        self.tenancy.begin()
    }

    /// Leaves the brick to others as soon as the changes under way have ended. No more begin.
    pub fn leave(&self) {
        self.tenancy.leave();
    }

    /// Begins a change that may be a part of one under way. As [`begin`](Store::begin) if there is none.
    pub(crate) fn change(&self) -> Result<Change> {
        self.tenancy.begin_if(|now| !now.is_over())
    }
}
