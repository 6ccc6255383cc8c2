//! Several files at once, told in the order in which they were given.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::sync::mpsc::channel;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::scope;

use crate::failure::Failure;
use crate::found::Found;

/// How many at once: each waits for its bricks most of the time.
const AT_ONCE: usize = 8;

/// What is to be printed of files that are done, and has to wait for others.
static UNTOLD: Mutex<BTreeMap<usize, Vec<u8>>> = Mutex::new(BTreeMap::new());

/// Who is at what.
#[derive(Default)]
struct Turns {
    now: Mutex<Now>,
    changed: Condvar,
}

#[derive(Default)]
struct Now {
    /// The next one to begin with.
    next: usize,
    /// Of so many it is known what they are.
    looked: usize,
    /// Those that are known and not done, with the numbers of their inodes.
    busy: BTreeMap<usize, Option<u64>>,
}

/// One that is done when this is dropped.
struct Turn<'a> {
    turns: &'a Turns,
    at: usize,
}

impl Turns {
    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> Turn<'_> {
        let mut now = self.now();
        let at = now.next;
        now.next += 1;
        Turn { turns: self, at }
    }
}

impl Turn<'_> {
    /// Waits for those before it that are the same file.
    fn is_of(&self, inode: Option<u64>) {
        let Turn { turns, at } = self;
        let wait = |now| turns.changed.wait(now).unwrap_or_else(PoisonError::into_inner);
        let mut now = turns.now();
        while now.looked < *at {
            now = wait(now);
        }
        now.looked = at + 1;
        now.busy.insert(*at, inode);
        turns.changed.notify_all();
        while inode.is_some() && now.busy.range(..at).any(|(_, other)| *other == inode) {
            now = wait(now);
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut now = self.turns.now();
        now.looked = now.looked.max(self.at + 1);
        now.busy.remove(&self.at);
        self.turns.changed.notify_all();
    }
}

/// Does `work` to each of the files, several at once, and gives `tell` what came of it, in their order. One file that is given twice is not
/// at work twice: the first comes first. `line` is what is printed of one that went well.
pub fn each<T: Send>(
    files: &[PathBuf],
    work: impl Fn(&Found) -> Result<T, Failure> + Sync,
    line: impl Fn(&T) -> Vec<u8> + Sync,
    mut tell: impl FnMut(Result<T, Failure>),
) {
    let turns = Turns::default();
    let (done, results) = channel();
    scope(|scope| {
        for _ in 0..files.len().min(AT_ONCE) {
            let (turns, work, line, done) = (&turns, &work, &line, done.clone());
            scope.spawn(move || {
                loop {
                    let turn = turns.next();
                    let Some(file) = files.get(turn.at) else { break };
                    let found = Found::at(file);
                    turn.is_of(found.as_ref().ok().map(|found| found.place.inode()));
                    let result = found.and_then(|found| work(&found));
                    if let Ok(done) = &result {
                        untold().insert(turn.at, line(done));
                    }
                    // Somebody waits for it until all are done.
                    let _ = done.send((turn.at, result));
                }
            });
        }
        drop(done);
        let mut early = BTreeMap::new();
        let mut next = 0;
        for (at, result) in results {
            early.insert(at, result);
            while let Some(result) = early.remove(&next) {
                if let Some(line) = untold().remove(&next) {
                    crate::print_bytes(&line);
                }
                tell(result);
                next += 1;
            }
        }
    });
}

fn untold() -> MutexGuard<'static, BTreeMap<usize, Vec<u8>>> {
    UNTOLD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends the process because a file takes too long, having told what was done to others that came after it.
pub fn end() {
    for line in std::mem::take(&mut *untold()).into_values() {
        // The process ends, whatever becomes of it.
        let _ = std::io::stdout().write_all(&line);
    }
    let _ = std::io::stdout().flush();
    fsnap_graph::end(crate::FAILED)
}
