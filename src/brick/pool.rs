//! The translator's own workers, and who may be at work on what: commands and removals of one file or name run one at a
//! time and in order, those of different ones side by side, and a long clone never holds one of the host's threads.

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

/// All workers.
pub const THREADS: usize = WORKERS + SPARE;

/// How long a command waits for its turn before it is answered `EBUSY`.
const PATIENCE: Duration = Duration::from_secs(30);

/// How many commands may wait; more are answered `EBUSY` at once.
const QUEUE: usize = 1024;

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
        queue.busy.retain(|key| !self.keys.contains(key));
        if !queue.waiting.is_empty() {
            // Whoever waited for these may go on, on any worker.
            self.shared.changed.notify_all();
        }
    }
}

type Task = Box<dyn FnOnce(Turn) + Send>;

struct QueuedTask {
    /// A command, which may take long.
    long: bool,
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
    /// How many workers are in a task.
    running: usize,
    /// How many of these are commands.
    long: usize,
    /// No more tasks are taken.
    closed: bool,
    /// The workers are to end.
    ending: bool,
}

struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
    patience: Duration,
    threads: Mutex<Vec<JoinHandle<()>>>,
    setup: Box<dyn Fn() + Send + Sync>,
}

/// Threads and the queue in front of them. The threads start with the first task; dropping the pool waits for all tasks.
pub struct Pool(Entrance);

/// Where tasks are handed in; tasks hand in what follows them.
#[derive(Clone)]
pub struct Entrance(Arc<Shared>);

impl Pool {
    /// `setup` runs at the start of each thread.
    pub fn new(setup: impl Fn() + Send + Sync + 'static) -> Self {
        Self::with_patience(PATIENCE, setup)
    }

    fn with_patience(patience: Duration, setup: impl Fn() + Send + Sync + 'static) -> Self {
        Pool(Entrance(Arc::new(Shared {
            queue: Mutex::default(),
            changed: Condvar::new(),
            patience,
            threads: Mutex::default(),
            setup: Box::new(setup),
        })))
    }

    /// How many tasks run, and how many wait.
    pub fn load(&self) -> (usize, usize) {
        let queue = self.0.0.lock();
        (queue.running, queue.waiting.len())
    }

    /// Takes no more tasks, tells those that wait that it is too late, and returns when none runs any more.
    pub fn close(&self) {
        let shared = &self.0.0;
        let mut queue = shared.lock();
        queue.closed = true;
        while queue.running > 0 || !queue.waiting.is_empty() || !queue.later.is_empty() {
            let late = std::mem::take(&mut queue.waiting).into_iter();
            let late: Vec<_> = late.chain(std::mem::take(&mut queue.later).into_values()).collect();
            drop(queue);
            for waiting in late {
                fence("a command", (), || (waiting.task)(Turn::TooLate));
            }
            queue = shared.lock();
            if queue.running > 0 {
                queue = shared.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
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
        self.push(true, Duration::ZERO, keys, task);
    }

    /// The same for a task that is soon done.
    pub fn submit_short(&self, keys: Vec<Key>, task: impl FnOnce(Turn) + Send + 'static) {
        self.push(false, Duration::ZERO, keys, task);
    }

    /// The same, but not before some time has passed.
    pub fn submit_after(&self, pause: Duration, keys: Vec<Key>, task: impl FnOnce(Turn) + Send + 'static) {
        self.push(true, pause, keys, task);
    }

    fn push(&self, long: bool, pause: Duration, keys: Vec<Key>, task: impl FnOnce(Turn) + Send + 'static) {
        if !self.started() {
            return task(Turn::TooLate);
        }
        let mut queue = self.0.lock();
        if queue.closed || long && pause.is_zero() && queue.waiting.len() >= QUEUE {
            drop(queue);
            return task(Turn::TooLate);
        }
        let waiting = QueuedTask { long, keys, since: Instant::now() + pause, task: Box::new(task) };
        if pause.is_zero() {
            queue.waiting.push_back(waiting);
        } else {
            queue.postponed += 1;
            let place = (waiting.since, queue.postponed);
            queue.later.insert(place, waiting);
        }
        // While the lock is held: a task that has answered may be the last thing that kept the pool.
        self.0.changed.notify_all();
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
        Some(Entered { shared: Arc::clone(&self.0), keys: keys.to_vec() })
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
            if let Some((QueuedTask { long, keys, task, .. }, in_time)) = queue.next(now, self.patience) {
                queue.running += 1;
                queue.long += usize::from(long);
                drop(queue);
                let turn = match in_time {
                    true => Turn::Now(Entered { shared: Arc::clone(self), keys }),
                    false => Turn::TooLate,
                };
                fence("a command", (), || task(turn));
                queue = self.lock();
                queue.running -= 1;
                queue.long -= usize::from(long);
                // Who waits for a worker, and who waits for the end.
                self.changed.notify_all();
            } else if queue.ending && queue.waiting.is_empty() {
                return;
            } else {
                let pause = queue.pause(now, self.patience);
                queue = self.changed.wait_timeout(queue, pause).unwrap_or_else(PoisonError::into_inner).0;
            }
        }
    }
}

impl Queue {
    /// Takes the next task out: the first that may run and whose keys are free (true), which then are busy; or one that has
    /// waited too long.
    fn next(&mut self, now: Instant, patience: Duration) -> Option<(QueuedTask, bool)> {
        // However many are due, they leave room for commands.
        while self.waiting.len() < WORKERS
            && let Some(first) = self.later.first_entry()
            && first.get().since <= now
        {
            self.waiting.push_back(QueuedTask { since: now, ..first.remove() });
        }
        let may_run = |waiting: &QueuedTask| {
            (!waiting.long || self.long < WORKERS) && waiting.keys.iter().all(|key| !self.busy.contains(key))
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
        let due = self.later.keys().next().filter(|_| self.waiting.len() < WORKERS).map(|(then, _)| *then);
        due.into_iter().chain(expiry).min().map_or(patience, |then| then.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    const LONG: Duration = Duration::from_secs(20);

    fn file(n: u8) -> Key {
        Key::File(Gfid::from_bytes([n; 16]))
    }

    fn now(turn: &Turn) -> bool {
        matches!(turn, Turn::Now(_))
    }

    #[test]
    fn one_file_in_order_and_never_twice_at_once() {
        let pool = Pool::new(|| ());
        let (send, seen) = mpsc::channel();
        let inside = Arc::new(AtomicUsize::new(0));
        for n in 0..200 {
            let (send, inside) = (send.clone(), Arc::clone(&inside));
            pool.submit(vec![file(1)], move |turn| {
                assert_eq!((now(&turn), inside.fetch_add(1, Ordering::SeqCst)), (true, 0));
                std::thread::yield_now();
                inside.fetch_sub(1, Ordering::SeqCst);
                send.send(n).unwrap();
            });
        }
        drop((pool, send));
        assert_eq!(seen.iter().collect::<Vec<_>>(), (0..200).collect::<Vec<_>>());
    }

    #[test]
    fn different_files_run_side_by_side() {
        let pool = Pool::new(|| ());
        let (first, second) = (mpsc::channel::<()>(), mpsc::channel::<()>());
        let (done, all) = mpsc::channel();
        let other = done.clone();
        // Each waits for the other: they finish only if both run at once.
        pool.submit(vec![file(1)], move |_| {
            first.0.send(()).unwrap();
            done.send(second.1.recv_timeout(LONG).is_ok()).unwrap();
        });
        pool.submit(vec![file(2)], move |_| {
            second.0.send(()).unwrap();
            other.send(first.1.recv_timeout(LONG).is_ok()).unwrap();
        });
        assert_eq!(all.iter().collect::<Vec<_>>(), [true, true]);
    }

    #[test]
    fn who_waits_too_long_is_told() {
        let pool = Pool::with_patience(Duration::from_millis(20), || ());
        let (go, wait) = mpsc::channel::<()>();
        let (tell, told) = mpsc::channel();
        pool.submit(vec![file(1)], move |_turn| wait.recv_timeout(LONG).unwrap());
        pool.submit(vec![file(1)], move |turn| tell.send(now(&turn)).unwrap());
        assert_eq!(told.recv_timeout(LONG), Ok(false));
        go.send(()).unwrap();
    }

    #[test]
    fn a_panic_ends_with_its_task() {
        let pool = Pool::new(|| ());
        for _ in 0..2 * WORKERS {
            pool.submit(vec![file(1)], |_| panic!("on purpose"));
        }
        let (tell, told) = mpsc::channel();
        pool.submit(vec![file(1)], move |turn| tell.send(now(&turn)).unwrap());
        assert_eq!(told.recv_timeout(LONG), Ok(true));
    }

    #[test]
    fn dropping_the_pool_finishes_what_waits() {
        let done = Arc::new(AtomicUsize::new(0));
        let pool = Pool::new(|| ());
        for n in 0..100 {
            let done = Arc::clone(&done);
            pool.submit(vec![file(n % 7)], move |_| {
                done.fetch_add(1, Ordering::SeqCst);
            });
        }
        drop(pool);
        assert_eq!(done.load(Ordering::SeqCst), 100);
    }

    #[test]
    fn closing_waits_for_what_runs_and_turns_away_what_waits() {
        let pool = Pool::new(|| ());
        let (tell, told) = mpsc::channel();
        for _ in 0..10 {
            let tell = tell.clone();
            pool.submit(vec![file(1)], move |turn| {
                std::thread::sleep(Duration::from_millis(20));
                tell.send(now(&turn)).unwrap();
            });
        }
        pool.close();
        let turns: Vec<_> = told.try_iter().collect();
        assert_eq!(turns.len(), 10);
        assert!(turns.contains(&false));
        pool.submit(vec![file(1)], move |turn| assert!(!now(&turn)));
        pool.reopen();
        pool.submit(vec![file(1)], move |turn| tell.send(now(&turn)).unwrap());
        assert_eq!(told.recv_timeout(LONG), Ok(true));
    }

    #[test]
    fn a_task_of_two_files_waits_for_both() {
        let pool = Pool::new(|| ());
        let inside = Arc::new(AtomicUsize::new(0));
        for n in 0..60 {
            let inside = Arc::clone(&inside);
            let files = if n % 3 == 0 { vec![file(1), file(2)] } else { vec![file(1 + n % 2)] };
            let weight = if files.len() == 2 { 100 } else { 1 };
            pool.submit(files, move |_turn| {
                let others = inside.fetch_add(weight, Ordering::SeqCst);
                assert!(others < 100 && (weight == 1 || others == 0), "{others} {weight}");
                std::thread::yield_now();
                inside.fetch_sub(weight, Ordering::SeqCst);
            });
        }
        drop(pool);
        assert_eq!(inside.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn what_is_short_does_not_wait_for_long_ones() {
        let pool = Pool::with_patience(Duration::from_millis(20), || ());
        let (go, wait) = mpsc::channel::<()>();
        let wait = Arc::new(Mutex::new(wait));
        let (tell, told) = mpsc::channel();
        for n in 0..WORKERS + 1 {
            let (wait, tell) = (Arc::clone(&wait), tell.clone());
            pool.submit(vec![file(n as u8)], move |turn| {
                tell.send(now(&turn)).unwrap();
                if now(&turn) {
                    let _ = wait.lock().unwrap().recv_timeout(LONG);
                }
            });
        }
        for _ in 0..WORKERS {
            assert_eq!(told.recv_timeout(LONG), Ok(true));
        }
        assert_eq!(told.recv_timeout(LONG), Ok(false), "one too many, and told so in time");
        for n in 100..110 {
            let tell = tell.clone();
            pool.submit_short(vec![file(n)], move |turn| tell.send(now(&turn)).unwrap());
            assert_eq!(told.recv_timeout(LONG), Ok(true));
        }
        drop(go);
    }

    #[test]
    fn who_enters_keeps_others_out_and_waits_for_nobody() {
        let pool = Pool::new(|| ());
        let inside = pool.enter(&[file(1), Key::name(Gfid::ROOT, b"f")]).expect("nobody is there");
        assert!(pool.enter(&[file(2), Key::name(Gfid::ROOT, b"f")]).is_none());
        assert!(pool.enter(&[file(2), Key::name(Gfid::ROOT, b"g")]).is_some());
        let (tell, told) = mpsc::channel();
        pool.submit(vec![file(1), file(3)], move |turn| tell.send(turn.in_time()).unwrap());
        assert!(pool.enter(&[file(3)]).is_none(), "somebody waits for it");
        assert!(told.try_recv().is_err());
        drop(inside);
        let turn = told.recv_timeout(LONG).unwrap().expect("its turn has come");
        assert!(pool.enter(&[file(1)]).is_none(), "kept beyond the task's end");
        drop(turn);
        assert!(pool.enter(&[file(1)]).is_some());
    }

    #[test]
    fn what_is_for_later_comes_later_and_leaves_room() {
        let pool = Pool::new(|| ());
        let (tell, told) = mpsc::channel();
        let start = Instant::now();
        let pause = Duration::from_millis(50);
        for n in 0..2 * QUEUE {
            let tell = tell.clone();
            pool.submit_after(pause, vec![file(n as u8)], move |turn| tell.send((n, now(&turn))).unwrap());
        }
        pool.submit(vec![file(1)], move |turn| tell.send((QUEUE * 2, now(&turn))).unwrap());
        assert_eq!(told.recv_timeout(LONG), Ok((QUEUE * 2, true)));
        for _ in 0..2 * QUEUE {
            assert!(told.recv_timeout(LONG).unwrap().1);
        }
        assert!(start.elapsed() >= pause);
        let (tell, told) = mpsc::channel();
        pool.submit_after(LONG, vec![file(1)], move |turn| tell.send(now(&turn)).unwrap());
        drop(pool);
        assert_eq!(told.recv_timeout(Duration::ZERO), Ok(false));
    }
}
