//! What a crash has cut short of deleted files. There may be many, so the brick does not wait for it when it starts: it is done one
//! after the other in the background, and of each before anybody else is at work on it.

use std::collections::VecDeque;
use std::sync::Weak;

use fsnap_core::Gfid;

use super::pool::{Entrance, Key, Turn};
use super::shared::Shared;

/// Before somebody who has these keys for himself does anything. A look at memory if there is nothing left to do.
pub fn first(state: &Weak<Shared>, keys: &[Key]) {
    let Some(state) = state.upgrade() else { return };
    let Some(store) = state.store.get().filter(|store| store.any_untidied()) else { return };
    // The next one who has the brick does it.
    let Ok(_change) = state.begin() else { return };
    for key in keys {
        if let Key::File(file) = key {
            store.tidy(*file);
        }
    }
}

/// Begins with all that there are.
pub fn start(state: &Weak<Shared>, entrance: &Entrance) {
    let Some(state) = state.upgrade() else { return };
    let Some(store) = state.store.get().filter(|store| store.any_untidied()) else { return };
    go_on(entrance.clone(), store.untidied().into());
}

fn go_on(entrance: Entrance, mut left: VecDeque<Gfid>) {
    let Some(file) = left.pop_front() else { return };
    let again = entrance.clone();
    // What is to be done with it is done first.
    entrance.submit_short(vec![Key::File(file)], move |turn| {
        // Too late: there is nobody to do it, or it has waited for long for who is at work on the file, who has done it.
        let goes_on = matches!(turn, Turn::Now(_)) && again.takes_tasks();
        // It is no more as soon as somebody else has had it.
        drop(turn);
        if goes_on {
            go_on(again, left);
        }
    });
}

/// Those that were in directory `dir` now, but for those that others are at work on. True if there were any.
pub fn those_in(state: &Shared, entrance: &Entrance, dir: Gfid) -> bool {
    let Some(store) = state.store.get().filter(|store| store.any_untidied()) else { return false };
    now(entrance, &store.untidied_in(dir))
}

/// The same of those that were beside `file`, which stand in the way of a snapshot if they have its name.
pub fn those_beside(state: &Shared, entrance: &Entrance, file: Gfid) -> bool {
    state.store.get().is_some_and(|store| now(entrance, &store.untidied_beside(file)))
}

fn now(entrance: &Entrance, files: &[Gfid]) -> bool {
    for &file in files {
        drop(entrance.enter(&[Key::File(file)]));
    }
    !files.is_empty()
}
