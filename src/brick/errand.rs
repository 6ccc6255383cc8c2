//! Errands: before a restore changes anything, all who stand above us and may refuse a change of a file's content are asked, in the
//! only way that all of them know (features/worm, locks, leases, read-only, whatever comes): by a truncate of it, that begins at
//! the top of the brick, as the caller. They answer for themselves; if it comes here, nobody had anything against it.

use std::sync::Arc;

use super::instance::Brick;
use super::shared::Shared;
use crate::ffi::{Call, HeldTruncate, Inode, SetReply, TruncateOutcome, role};

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
