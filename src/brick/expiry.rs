//! Deleted files go for good when they were kept for as long as the option `keep-deleted` says.
//!
//! Each brick sees to that by itself, and by its own clock: what counts is when it has noted that the file is deleted. So those of a set
//! agree but for the time between two looks, and but for what one of them has learnt later, by heal.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use fsnap_core::Gfid;

use super::pool::{Entrance, Key};
use super::shared::Shared;

/// Until it looks again whether files are to go, in seconds: a tenth of the time that they are kept, and no more than this.
const SELDOM: u64 = 3600;

/// Who looks now and then. There is one, as long as somebody has what this leads to.
#[derive(Default)]
pub struct Looker(Mutex<Weak<()>>);

impl Looker {
    fn now(&self) -> MutexGuard<'_, Weak<()>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is(&self, token: &Arc<()>) -> bool {
        Weak::ptr_eq(&self.now(), &Arc::downgrade(token))
    }
}

/// Begins to look, if nobody does.
pub fn start(state: &Weak<Shared>, entrance: &Entrance, looker: &Arc<Looker>) {
    if looker.now().upgrade().is_none() {
        restart(state, entrance, looker);
    }
}

/// Begins anew: the options are others.
pub fn restart(state: &Weak<Shared>, entrance: &Entrance, looker: &Arc<Looker>) {
    let token = Arc::new(());
    *looker.now() = Arc::downgrade(&token);
    go_on(Weak::clone(state), entrance.clone(), Arc::clone(looker), token);
}

fn go_on(known: Weak<Shared>, entrance: Entrance, looker: Arc<Looker>, token: Arc<()>) {
    let Some(kept) = known.upgrade().map(|state| state.options().keep_deleted) else { return };
    if kept == 0 {
        return;
    }
    let again = entrance.clone();
    entrance.submit_after(Duration::from_secs((kept / 10).clamp(1, SELDOM)), Vec::new(), move |_| {
        if !again.takes_tasks() || !looker.is(&token) {
            return;
        }
        if let Some(state) = known.upgrade() {
            look(&state, &again);
        }
        go_on(known, again, looker, token);
    });
}

/// How many are looked at in one go.
const AT_ONCE: usize = 256;

fn look(state: &Arc<Shared>, entrance: &Entrance) {
    if let Some(store) = state.store.get().filter(|_| state.options().keep_deleted > 0) {
        go_through(Arc::clone(state), entrance, store.buried().into());
    }
}

/// One after the other, so that nobody else waits for many of them.
fn go_through(state: Arc<Shared>, entrance: &Entrance, mut left: VecDeque<Gfid>) {
    let mut looked = 0;
    let due = loop {
        match left.pop_front() {
            None => return,
            Some(file) if is_due(&state, file) => break Some(file),
            Some(_) => looked += 1,
        }
        if looked == AT_ONCE {
            break None;
        }
    };
    let again = entrance.clone();
    entrance.submit_short(due.map(Key::File).into_iter().collect(), move |turn| {
        // Else the next look finds it.
        if let (Ok(_entered), Ok(_change), Some(file)) = (turn.in_time(), state.begin(), due) {
            expire(&state, file);
        }
        if again.takes_tasks() && !state.host.is_going() {
            go_through(state, &again, left);
        }
    });
}

fn is_due(state: &Shared, file: Gfid) -> bool {
    let keep = Duration::from_secs(state.options().keep_deleted);
    let deleted = state.store().and_then(|store| store.deleted_at(file));
    let age = |then| SystemTime::now().duration_since(then).unwrap_or_default();
    !keep.is_zero() && deleted.is_ok_and(|then| then.is_some_and(|then| age(then) >= keep))
}

fn expire(state: &Shared, file: Gfid) {
    let store = state.store();
    // It is coming back, or is not whole: the next look finds what becomes of it.
    let in_use =
        state.claims.has(file) || state.arms.has(file) || store.is_ok_and(|store| store.is_torn(file));
    if in_use || !is_due(state, file) {
        return;
    }
    match state.store().and_then(|store| store.expire(file)) {
        Ok(0) => {}
        Ok(count) => {
            tracing::info!(
                "{count} snapshots of the deleted file {file} were kept for as long as keep-deleted says, and are deleted"
            );
        }
        Err(error) => {
            tracing::error!("the deleted file {file} was kept for long enough, and does not go: {error}")
        }
    }
}
