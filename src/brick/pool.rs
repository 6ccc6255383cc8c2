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
    file: Gfid,
    since: Instant,
    task: Task,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    /// The files that a command runs on.
    busy: HashSet<Gfid>,
    closing: bool,
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

    /// Runs `task` on a worker when no other task of `file` runs. Where that can't be (queue full, no thread to be had)
    /// it is told [`Turn::TooLate`] right here.
    pub fn submit(&self, file: Gfid, task: impl FnOnce(Turn) + Send + 'static) {
        if !self.started() {
            return task(Turn::TooLate);
        }
        let mut queue = self.shared.lock();
        if queue.waiting.len() >= QUEUE {
            drop(queue);
            return task(Turn::TooLate);
        }
        queue.waiting.push_back(Waiting { file, since: Instant::now(), task: Box::new(task) });
        drop(queue);
        self.shared.changed.notify_one();
    }

    /// How many tasks run, and how many wait.
    pub fn load(&self) -> (usize, usize) {
        let queue = self.shared.lock();
        (queue.busy.len(), queue.waiting.len())
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
        self.shared.lock().closing = true;
        self.shared.changed.notify_all();
        for thread in std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner)) {
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
                drop(queue);
                fence("a command", (), || (waiting.task)(turn));
                queue = self.lock();
                if turn == Turn::Now {
                    queue.busy.remove(&waiting.file);
                    // Whoever waited for this file may go on, on any worker.
                    self.changed.notify_all();
                }
            } else if queue.closing && queue.waiting.is_empty() {
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
    /// Takes the next task out: one that waited too long, or the first whose file is free (which is then busy).
    fn next(&mut self, now: Instant, patience: Duration) -> Option<(Waiting, Turn)> {
        if self.waiting.front().is_some_and(|first| now.duration_since(first.since) >= patience) {
            return self.waiting.pop_front().map(|waiting| (waiting, Turn::TooLate));
        }
        let at = self.waiting.iter().position(|waiting| !self.busy.contains(&waiting.file))?;
        let waiting = self.waiting.remove(at)?;
        self.busy.insert(waiting.file);
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
            pool.submit(file(1), move |turn| {
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
        pool.submit(file(1), move |_| {
            first.0.send(()).unwrap();
            done.send(second.1.recv_timeout(LONG).is_ok()).unwrap();
        });
        pool.submit(file(2), move |_| {
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
        pool.submit(file(1), move |_| wait.recv_timeout(LONG).unwrap());
        pool.submit(file(1), move |turn| tell.send(turn).unwrap());
        assert_eq!(told.recv_timeout(LONG), Ok(Turn::TooLate));
        go.send(()).unwrap();
    }

    #[test]
    fn a_panic_ends_with_its_task() {
        let pool = Pool::new(|| ());
        for _ in 0..2 * WORKERS {
            pool.submit(file(1), |_| panic!("on purpose"));
        }
        let (tell, told) = mpsc::channel();
        pool.submit(file(1), move |turn| tell.send(turn).unwrap());
        assert_eq!(told.recv_timeout(LONG), Ok(Turn::Now));
    }

    #[test]
    fn dropping_the_pool_finishes_what_waits() {
        let done = Arc::new(AtomicUsize::new(0));
        let pool = Pool::new(|| ());
        for n in 0..100 {
            let done = Arc::clone(&done);
            pool.submit(file(n % 7), move |_| {
                done.fetch_add(1, Ordering::SeqCst);
            });
        }
        drop(pool);
        assert_eq!(done.load(Ordering::SeqCst), 100);
    }
}
