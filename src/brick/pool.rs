//! The translator's own workers, and who may be at work on what: commands and removals of one file or name run one at a
//! time and in order, those of different ones side by side, and a long clone never holds one of the host's threads, nor what
//! is soon done.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use fsnap_core::{Error, Gfid, Result};

use crate::ffi::fence;

/// How many commands run at once on a brick.
const WORKERS: usize = 4;

/// Workers that no command gets: an unlink of one file does not wait for the clones of others.
const SPARE: usize = 2;

/// Workers for questions alone.
const ASKED: usize = 2;

/// Workers for nothing but fops that were held while their file was cloned.
pub const RESUMERS: usize = 4;

/// All workers.
pub const THREADS: usize = WORKERS + SPARE + ASKED + RESUMERS;

/// How long a command waits for its turn before it is answered `EBUSY`.
const PATIENCE: Duration = Duration::from_secs(30);

/// How many commands may wait, and how many questions; more are answered `EBUSY` at once.
const QUEUE: usize = 1024;

/// Whom a task may keep waiting.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// It may take long: other commands, when there are many.
    Command,
    /// It is soon done, and somebody waits for it that had no command in mind: commands and its own kind.
    Short,
    /// It only looks: other questions.
    Question,
    /// Fops of others: nobody.
    Resumption,
}

/// How many tasks of each kind are in the hands of a worker.
#[derive(Default)]
struct Running([usize; 4]);

impl Running {
    fn of(&self, kind: Kind) -> usize {
        self.0[kind as usize]
    }

    fn all(&self) -> usize {
        self.0.iter().sum()
    }

    fn may_begin(&self, kind: Kind) -> bool {
        let others = self.of(Kind::Command) + self.of(Kind::Short) < WORKERS + SPARE;
        match kind {
            Kind::Command => others && self.of(Kind::Command) < WORKERS,
            Kind::Short => others,
            Kind::Question => self.of(Kind::Question) < ASKED,
            Kind::Resumption => self.of(Kind::Resumption) < RESUMERS,
        }
    }
}

/// What only one can be at work on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Key {
    /// A file.
    File(Gfid),
    /// A name in a directory, by its hash: that two names share one costs a wait and no more.
    Name(u64),
}

impl Key {
    /// The name `name` in directory `parent`.
    pub fn name(parent: Gfid, name: &[u8]) -> Self {
        let mut hasher = DefaultHasher::new();
        (parent, name).hash(&mut hasher);
        Key::Name(hasher.finish())
    }
}

/// What a task is told when its turn comes.
pub enum Turn {
    /// Run. Its keys are its own until this is dropped.
    Now(Entered),
    /// It waited too long: answer and be gone.
    TooLate,
}

impl Turn {
    /// [`Error::Busy`] (`EBUSY`) for one that waited too long.
    pub fn in_time(self) -> Result<Entered> {
        match self {
            Turn::Now(entered) => Ok(entered),
            Turn::TooLate => Err(Error::Busy(PATIENCE.as_secs())),
        }
    }
}

/// Holds keys; dropping it gives them back.
pub struct Entered {
    shared: Arc<Shared>,
    keys: Vec<Key>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut queue = self.shared.lock();
        for key in &self.keys {
            queue.busy.remove(key);
        }
        if !queue.waiting.is_empty() {
            // Whoever waited for these may go on, on any worker, which sees to others.
            self.shared.changed.notify_one();
        }
    }
}

type First = Box<dyn Fn(&[Key]) + Send + Sync>;
type Task = Box<dyn FnOnce(Turn) + Send>;

struct QueuedTask {
    kind: Kind,
    keys: Vec<Key>,
    since: Instant,
    task: Task,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<QueuedTask>,
    /// What is to wait from a time still to come, by that time and a number.
    later: BTreeMap<(Instant, u64), QueuedTask>,
    /// How many there were of these.
    postponed: u64,
    /// What somebody is at work on.
    busy: HashSet<Key>,
    running: Running,
    /// An idle worker will wake up when something is due. (No new task is due before one that it knew of when it went to sleep, but those
    /// in `later`.)
    minded: bool,
    /// No more tasks are taken.
    closed: bool,
    /// The workers are to end.
    ending: bool,
}

struct Shared {
    queue: Mutex<Queue>,
    /// For idle workers: there is something to do. One is woken, and wakes the next one if there is more.
    changed: Condvar,
    /// For who closes the pool: a task has ended.
    ended: Condvar,
    patience: Duration,
    threads: Mutex<Vec<JoinHandle<()>>>,
    setup: Box<dyn Fn() + Send + Sync>,
    first: First,
}

/// Threads and the queue in front of them. The threads start with the first task; dropping the pool waits for all tasks.
pub struct Pool(Entrance);

/// Where tasks are handed in; tasks hand in what follows them.
#[derive(Clone)]
pub struct Entrance(Arc<Shared>);

impl Pool {
    /// `setup` runs at the start of each thread, and `first` whenever somebody has got keys, before he does anything.
    pub fn new(
        setup: impl Fn() + Send + Sync + 'static,
        first: impl Fn(&[Key]) + Send + Sync + 'static,
    ) -> Self {
        Self::with_patience(PATIENCE, setup, first)
    }

    fn with_patience(
        patience: Duration,
        setup: impl Fn() + Send + Sync + 'static,
        first: impl Fn(&[Key]) + Send + Sync + 'static,
    ) -> Self {
        Pool(Entrance(Arc::new(Shared {
            queue: Mutex::default(),
            changed: Condvar::new(),
            ended: Condvar::new(),
            patience,
            threads: Mutex::default(),
            setup: Box::new(setup),
            first: Box::new(first),
        })))
    }

    /// How many tasks run, and how many wait.
    pub fn load(&self) -> (usize, usize) {
        let queue = self.0.0.lock();
        (queue.running.all(), queue.waiting.len())
    }

    /// Takes no more tasks, tells those that wait that it is too late, and returns when none runs any more.
    pub fn close(&self) {
        let shared = &self.0.0;
        let mut queue = shared.lock();
        queue.closed = true;
        while queue.running.all() > 0 || !queue.waiting.is_empty() || !queue.later.is_empty() {
            let late = std::mem::take(&mut queue.waiting).into_iter();
            let late: Vec<_> = late.chain(std::mem::take(&mut queue.later).into_values()).collect();
            drop(queue);
            for waiting in late {
                fence("a command", (), || (waiting.task)(Turn::TooLate));
            }
            queue = shared.lock();
            if queue.running.all() > 0 {
                queue = shared.ended.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    /// Takes tasks again.
    pub fn reopen(&self) {
        self.0.0.lock().closed = false;
    }
}

impl std::ops::Deref for Pool {
    type Target = Entrance;

    fn deref(&self) -> &Entrance {
        &self.0
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let shared = &self.0.0;
        let mut queue = shared.lock();
        (queue.closed, queue.ending) = (true, true);
        let later = std::mem::take(&mut queue.later);
        drop(queue);
        for waiting in later.into_values() {
            fence("a command", (), || (waiting.task)(Turn::TooLate));
        }
        shared.changed.notify_all();
        let threads = std::mem::take(&mut *shared.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            // A worker's panics end at its fence.
            let _ = thread.join();
        }
    }
}

impl Entrance {
    /// Runs `task` on a worker when nobody else has any of `keys`. Where that can't be (queue full, closed, no thread to
    /// be had) it is told [`Turn::TooLate`] right here.
    pub fn submit(&self, keys: Vec<Key>, task: impl FnOnce(Turn) + Send + 'static) {
        self.push(Kind::Command, Duration::ZERO, keys, task);
    }

    /// The same for a task that is soon done.
    pub fn submit_short(&self, keys: Vec<Key>, task: impl FnOnce(Turn) + Send + 'static) {
        self.push(Kind::Short, Duration::ZERO, keys, task);
    }

    /// The same for a question, which waits for no command but those that have any of `keys`.
    pub fn submit_question(&self, keys: Vec<Key>, task: impl FnOnce(Turn) + Send + 'static) {
        self.push(Kind::Question, Duration::ZERO, keys, task);
    }

    /// The same for what lets fops go on that were held. It is to do so whatever it is told.
    pub fn submit_resumption(&self, task: impl FnOnce(Turn) + Send + 'static) {
        self.push(Kind::Resumption, Duration::ZERO, Vec::new(), task);
    }

    /// The same, but not before some time has passed.
    pub fn submit_after(&self, pause: Duration, keys: Vec<Key>, task: impl FnOnce(Turn) + Send + 'static) {
        self.push(Kind::Command, pause, keys, task);
    }

    fn push(&self, kind: Kind, pause: Duration, keys: Vec<Key>, task: impl FnOnce(Turn) + Send + 'static) {
        if !self.started() {
            return task(Turn::TooLate);
        }
        let mut queue = self.0.lock();
        if queue.closed || pause.is_zero() && queue.is_full(kind) {
            drop(queue);
            return task(Turn::TooLate);
        }
        let waiting = QueuedTask { kind, keys, since: Instant::now() + pause, task: Box::new(task) };
        if pause.is_zero() {
            queue.waiting.push_back(waiting);
        } else {
            queue.postponed += 1;
            let place = (waiting.since, queue.postponed);
            queue.later.insert(place, waiting);
        }
        // While the lock is held: a task that has answered may be the last thing that kept the pool.
        if pause.is_zero() { self.0.changed.notify_one() } else { self.0.changed.notify_all() }
    }

    /// Whether tasks are taken: not when the brick is about to end.
    pub fn takes_tasks(&self) -> bool {
        !self.0.lock().closed
    }

    /// Takes `keys` at once, for a caller that is no task; `None` if somebody has one of them or waits for it.
    pub fn enter(&self, keys: &[Key]) -> Option<Entered> {
        let mut queue = self.0.lock();
        let wanted = queue.waiting.iter().any(|waiting| waiting.keys.iter().any(|key| keys.contains(key)));
        if wanted || keys.iter().any(|key| queue.busy.contains(key)) {
            return None;
        }
        queue.busy.extend(keys);
        drop(queue);
        let entered = Entered { shared: Arc::clone(&self.0), keys: keys.to_vec() };
        (self.0.first)(keys);
        Some(entered)
    }

    /// Starts the threads if they are not there yet; true if there is one at least.
    fn started(&self) -> bool {
        let mut threads = self.0.threads.lock().unwrap_or_else(PoisonError::into_inner);
        while threads.len() < THREADS {
            let shared = Arc::clone(&self.0);
            let body = move || {
                (shared.setup)();
                shared.work();
            };
            match Builder::new().name(format!("fsnap{}", threads.len())).spawn(body) {
                Ok(thread) => threads.push(thread),
                Err(why) => {
                    tracing::error!("can't start a worker: {why}");
                    break;
                }
            }
        }
        !threads.is_empty()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(self: &Arc<Self>) {
        let mut queue = self.lock();
        loop {
            let now = Instant::now();
            let had_room = queue.has_room_for_later();
            if let Some((QueuedTask { kind, keys, task, .. }, in_time)) = queue.next(now, self.patience) {
                queue.running.0[kind as usize] += 1;
                if !had_room && queue.has_room_for_later() && !queue.later.is_empty() {
                    // Who minds has not counted on these.
                    self.changed.notify_all();
                } else if !queue.waiting.is_empty() || !queue.later.is_empty() && !queue.minded {
                    self.changed.notify_one();
                }
                drop(queue);
                let entered = in_time.then(|| Entered { shared: Arc::clone(self), keys });
                if let Some(Entered { keys, .. }) = &entered {
                    fence("what comes before a command", (), || (self.first)(keys));
                }
                fence("a command", (), || task(entered.map_or(Turn::TooLate, Turn::Now)));
                queue = self.lock();
                queue.running.0[kind as usize] -= 1;
                if queue.closed {
                    self.ended.notify_all();
                }
                if queue.ending {
                    self.changed.notify_all();
                }
            } else if queue.ending && queue.waiting.is_empty() {
                return;
            } else {
                let minds = !std::mem::replace(&mut queue.minded, true);
                let pause = if minds { queue.pause(now, self.patience) } else { self.patience };
                queue = self.changed.wait_timeout(queue, pause).unwrap_or_else(PoisonError::into_inner).0;
                if minds {
                    queue.minded = false;
                }
            }
        }
    }
}

impl Queue {
    /// Whether as many of that kind wait as may.
    fn is_full(&self, kind: Kind) -> bool {
        let limited = matches!(kind, Kind::Command | Kind::Question);
        limited && self.waiting.iter().filter(|waiting| waiting.kind == kind).count() >= QUEUE
    }

    /// However many are due, they leave room for commands.
    fn has_room_for_later(&self) -> bool {
        self.waiting.len() < WORKERS
    }

    /// Takes the next task out: the first that may run and whose keys are free (true), which then are busy; or one that has
    /// waited too long.
    fn next(&mut self, now: Instant, patience: Duration) -> Option<(QueuedTask, bool)> {
        while self.has_room_for_later()
            && let Some(first) = self.later.first_entry()
            && first.get().since <= now
        {
            self.waiting.push_back(QueuedTask { since: now, ..first.remove() });
        }
        let may_run = |waiting: &QueuedTask| {
            self.running.may_begin(waiting.kind) && waiting.keys.iter().all(|key| !self.busy.contains(key))
        };
        // In order: who wants what somebody before him waits for, waits behind him.
        let mut wanted: HashSet<&Key> = HashSet::new();
        let first = self.waiting.iter().position(|waiting| {
            let free = may_run(waiting) && waiting.keys.iter().all(|key| !wanted.contains(key));
            wanted.extend(&waiting.keys);
            free
        });
        if let Some(at) = first {
            let waiting = self.waiting.remove(at)?;
            self.busy.extend(&waiting.keys);
            return Some((waiting, true));
        }
        let late = self.waiting.front().is_some_and(|first| now.duration_since(first.since) >= patience);
        if late { self.waiting.pop_front().map(|waiting| (waiting, false)) } else { None }
    }

    /// How long nothing will happen by itself.
    fn pause(&self, now: Instant, patience: Duration) -> Duration {
        let expiry = self.waiting.front().map(|first| first.since + patience);
        let due = self.later.keys().next().filter(|_| self.has_room_for_later()).map(|(then, _)| *then);
        due.into_iter().chain(expiry).min().map_or(patience, |then| then.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests;
