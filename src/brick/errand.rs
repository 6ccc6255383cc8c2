//! Errands: before a restore changes anything, all who stand above us and may refuse a change of a file's content are asked, in the
//! only way that all of them know (features/worm, locks, leases, read-only, whatever comes): by a truncate of it, that begins at
//! the top of the brick, as the caller. They answer for themselves; if it comes here, nobody had anything against it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::{Brick, Shared};
use crate::ffi::{Call, HeldTruncate, Inode, Request, SetReply, TruncateOutcome, role};

/// What is done with the truncate when it has come here.
type Arrival = Box<dyn FnOnce(HeldTruncate) + Send>;

/// The truncates of ours that are on their way down.
#[derive(Default)]
pub struct Errands {
    sent: Mutex<HashMap<Request, Arrival>>,
    count: AtomicUsize,
}

impl Errands {
    fn change<T>(&self, change: impl FnOnce(&mut HashMap<Request, Arrival>) -> T) -> T {
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        let done = change(&mut sent);
        self.count.store(sent.len(), Ordering::Release);
        done
    }

    /// Whether there may be any. A look at memory.
    pub fn any(&self) -> bool {
        self.count.load(Ordering::Acquire) > 0
    }

    /// Whether this truncate is one of them.
    pub fn has(&self, call: &Call<'_>) -> bool {
        self.change(|sent| sent.contains_key(&call.request()))
    }

    /// One of them has come here.
    pub fn arrived(&self, call: &Call<'_>, held: HeldTruncate) {
        match self.change(|sent| sent.remove(&call.request())) {
            Some(arrival) => arrival(held),
            None => held.fail(libc::EIO),
        }
    }
}

impl role::Errands for Brick {
    fn has_errands(&self) -> bool {
        self.state.errands.any()
    }

    fn is_errand(&self, call: &Call<'_>) -> bool {
        self.state.errands.has(call)
    }

    fn run_errand(&self, call: &Call<'_>, held: HeldTruncate) {
        self.state.errands.arrived(call, held);
    }
}

/// Asks. `allowed` is told whether nobody has refused it, or how it was refused. Nothing is changed, and nobody above takes note.
pub fn ask(
    state: &Arc<Shared>,
    reply: SetReply,
    file: Inode,
    allowed: impl FnOnce(SetReply, Result<(), i32>) + Send + 'static,
) {
    send(
        state,
        reply,
        file,
        // Who learns that a truncate has failed forgets it.
        |held| held.fail(libc::ECANCELED),
        move |reply, came, outcome| {
            allowed(reply, if came { Ok(()) } else { outcome.errno().map_or(Ok(()), Err) });
        },
    );
}

/// Asks, and does what is to be done `here` if nobody refuses it. All above learn how it ended, as of any truncate; so does
/// `back`, and whether it has come here at all.
pub fn send(
    state: &Arc<Shared>,
    reply: SetReply,
    file: Inode,
    here: impl FnOnce(HeldTruncate) + Send + 'static,
    back: impl FnOnce(SetReply, bool, TruncateOutcome) + Send + 'static,
) {
    let (host, errands) = (state.host, Arc::clone(state));
    let sent = |request| state.errands.change(|sent| drop(sent.insert(request, Box::new(here))));
    reply.send_truncate(host, file, sent, move |request, outcome| {
        let came = errands.errands.change(|sent| sent.remove(&request)).is_none();
        Box::new(move |reply| back(reply, came, outcome))
    });
}
