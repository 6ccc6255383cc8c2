//! The translator's own workers: commands on one file run one at a time and in order, commands on different files side
//! by side, and a long clone never holds one of the host's threads.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use fsnap_core::Gfid;

use crate::ffi::fence;

/// How many commands run at once on a brick.
pub const WORKERS: usize = 4;

/// How long a command waits for its turn before it is answered `EBUSY`.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How many commands may wait; more are answered `EBUSY` at once.
const QUEUE: usize = 1024;

/// What a task is told when its turn comes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turn {
    /// Run.
    Now,
    /// It waited too long: answer and be gone.
    TooLate,
}

type Task = Box<dyn FnOnce(Turn) + Send>;

struct Waiting {
    /// One, or two where a file takes the place of another.
    files: Vec<Gfid>,
    since: Instant,
    task: Task,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    /// The files that a command runs on.
    busy: HashSet<Gfid>,
    /// How many workers are in a task.
    running: usize,
    /// No more tasks are taken.
    closed: bool,
    /// The workers are to end.
    ending: bool,
}

struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
    patience: Duration,
}

/// Threads and the queue in front of them. The threads start with the first task; dropping the pool waits for all tasks.
pub struct Pool {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    setup: Arc<dyn Fn() + Send + Sync>,
}

impl Pool {
    /// `setup` runs at the start of each thread.
    pub fn new(setup: impl Fn() + Send + Sync + 'static) -> Self {
        Self::with_patience(PATIENCE, setup)
    }

    fn with_patience(patience: Duration, setup: impl Fn() + Send + Sync + 'static) -> Self {
        let shared = Shared { queue: Mutex::default(), changed: Condvar::new(), patience };
        Pool { shared: Arc::new(shared), threads: Mutex::default(), setup: Arc::new(setup) }
    }

    /// Runs `task` on a worker when no other task of any of `files` runs. Where that can't be (queue full, closed, no
    /// thread to be had) it is told [`Turn::TooLate`] right here.
    pub fn submit(&self, files: Vec<Gfid>, task: impl FnOnce(Turn) + Send + 'static) {
        if !self.started() {
            return task(Turn::TooLate);
        }
        let mut queue = self.shared.lock();
        if queue.closed || queue.waiting.len() >= QUEUE {
            drop(queue);
            return task(Turn::TooLate);
        }
        queue.waiting.push_back(Waiting { files, since: Instant::now(), task: Box::new(task) });
        // While the lock is held: a task that has answered may be the last thing that kept the pool.
        self.shared.changed.notify_one();
    }

    /// How many tasks run, and how many wait.
    pub fn load(&self) -> (usize, usize) {
        let queue = self.shared.lock();
        (queue.running, queue.waiting.len())
    }

    /// Takes no more tasks, tells those that wait that it is too late, and returns when none runs any more.
    pub fn close(&self) {
        let mut queue = self.shared.lock();
        queue.closed = true;
        while queue.running > 0 || !queue.waiting.is_empty() {
            let late = std::mem::take(&mut queue.waiting);
            drop(queue);
            for waiting in late {
                fence("a command", (), || (waiting.task)(Turn::TooLate));
            }
            queue = self.shared.lock();
            if queue.running > 0 {
                queue = self.shared.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    /// Takes tasks again.
    pub fn reopen(&self) {
        self.shared.lock().closed = false;
    }

    /// Starts the threads if they are not there yet; true if there is one at least.
    fn started(&self) -> bool {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        while threads.len() < WORKERS {
            let (shared, setup) = (Arc::clone(&self.shared), Arc::clone(&self.setup));
            let body = move || {
                setup();
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

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.lock().ending = true;
        self.shared.changed.notify_all();
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            // A worker's panics end at its fence.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        let mut queue = self.lock();
        loop {
            let now = Instant::now();
            if let Some((waiting, turn)) = queue.next(now, self.patience) {
                queue.running += 1;
                drop(queue);
                fence("a command", (), || (waiting.task)(turn));
                queue = self.lock();
                queue.running -= 1;
                if turn == Turn::Now {
                    queue.busy.retain(|file| !waiting.files.contains(file));
                }
                // Whoever waited for these files may go on, on any worker; and so may who waits for the end.
                self.changed.notify_all();
            } else if queue.ending && queue.waiting.is_empty() {
                return;
            } else {
                let patience = queue.waiting.front().map_or(self.patience, |first| {
                    (first.since + self.patience).saturating_duration_since(now)
                });
                queue = self.changed.wait_timeout(queue, patience).unwrap_or_else(PoisonError::into_inner).0;
            }
        }
    }
}

impl Queue {
    /// Takes the next task out: one that waited too long, or the first whose files are free (which are then busy).
    fn next(&mut self, now: Instant, patience: Duration) -> Option<(Waiting, Turn)> {
        if self.waiting.front().is_some_and(|first| now.duration_since(first.since) >= patience) {
            return self.waiting.pop_front().map(|waiting| (waiting, Turn::TooLate));
        }
        let free = |waiting: &Waiting| waiting.files.iter().all(|file| !self.busy.contains(file));
        let waiting = self.waiting.iter().position(free).and_then(|at| self.waiting.remove(at))?;
        self.busy.extend(&waiting.files);
        Some((waiting, Turn::Now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    const LONG: Duration = Duration::from_secs(20);

    fn file(n: u8) -> Gfid {
        Gfid::from_bytes([n; 16])
    }

    #[test]
    fn one_file_in_order_and_never_twice_at_once() {
        let pool = Pool::new(|| ());
        let (send, seen) = mpsc::channel();
        let inside = Arc::new(AtomicUsize::new(0));
        for n in 0..200 {
            let (send, inside) = (send.clone(), Arc::clone(&inside));
            pool.submit(vec![file(1)], move |turn| {
                assert_eq!((turn, inside.fetch_add(1, Ordering::SeqCst)), (Turn::Now, 0));
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
        pool.submit(vec![file(1)], move |_| wait.recv_timeout(LONG).unwrap());
        pool.submit(vec![file(1)], move |turn| tell.send(turn).unwrap());
        assert_eq!(told.recv_timeout(LONG), Ok(Turn::TooLate));
        go.send(()).unwrap();
    }

    #[test]
    fn a_panic_ends_with_its_task() {
        let pool = Pool::new(|| ());
        for _ in 0..2 * WORKERS {
            pool.submit(vec![file(1)], |_| panic!("on purpose"));
        }
        let (tell, told) = mpsc::channel();
        pool.submit(vec![file(1)], move |turn| tell.send(turn).unwrap());
        assert_eq!(told.recv_timeout(LONG), Ok(Turn::Now));
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
                tell.send(turn).unwrap();
            });
        }
        pool.close();
        let turns: Vec<_> = told.try_iter().collect();
        assert_eq!(turns.len(), 10);
        assert!(turns.contains(&Turn::TooLate));
        pool.submit(vec![file(1)], move |turn| assert_eq!(turn, Turn::TooLate));
        pool.reopen();
        pool.submit(vec![file(1)], move |turn| tell.send(turn).unwrap());
        assert_eq!(told.recv_timeout(LONG), Ok(Turn::Now));
    }

    #[test]
    fn a_task_of_two_files_waits_for_both() {
        let pool = Pool::new(|| ());
        let inside = Arc::new(AtomicUsize::new(0));
        for n in 0..60 {
            let inside = Arc::clone(&inside);
            let files = if n % 3 == 0 { vec![file(1), file(2)] } else { vec![file(1 + n % 2)] };
            let weight = if files.len() == 2 { 100 } else { 1 };
            pool.submit(files, move |_| {
                let others = inside.fetch_add(weight, Ordering::SeqCst);
                assert!(others < 100 && (weight == 1 || others == 0), "{others} {weight}");
                std::thread::yield_now();
                inside.fetch_sub(weight, Ordering::SeqCst);
            });
        }
        drop(pool);
        assert_eq!(inside.load(Ordering::SeqCst), 0);
    }
}
