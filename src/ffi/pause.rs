//! Files that are being cloned or restored: what would wait for such a file's lock in storage/posix, on a thread of the host that all
//! files share, waits here, as a stub of the host, and goes on when the lock is free.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fsnap_core::Gfid;

use super::fence::fence;
use super::sys;

/// How long a clone waits for those fops that are on their way in storage/posix already. What is not back by then waits there.
const WITHIN: Duration = Duration::from_millis(250);

/// How long it waits for those that the last one has held.
const RESUMED_WITHIN: Duration = Duration::from_secs(30);

/// What a fop does with a file's content.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::ffi) enum Access {
    Read,
    /// Or with its attributes, or xattrs.
    Change,
}

/// The files whose fops wait.
pub struct Pauses {
    /// How many there are.
    paused: AtomicUsize,
    files: Mutex<HashMap<Gfid, Paused>>,
    resumed: Condvar,
    /// How many fops are on their way beneath us, of all files whose gfids end with that byte.
    beneath: [AtomicU32; 256],
    /// How many were ever held.
    held: AtomicU64,
}

#[derive(Default)]
struct Paused {
    /// How often it is locked, or about to be, by one who has it to himself; if not it has only left fops that have yet to go on.
    locked: u32,
    /// Those that read wait as well.
    readers: bool,
    waiting: VecDeque<Stub>,
    /// How many go on at this moment.
    going: usize,
}

/// A fop that waits, with its arguments, and references to what they lead to.
struct Stub(NonNull<sys::call_stub_t>);

// SAFETY: the host hands stubs from one thread to another itself (performance/io-threads).
unsafe impl Send for Stub {}

impl Stub {
    fn resume(self) {
        // SAFETY: a stub of the host's, made for a fop that was not answered, and given up here. It sets `THIS`.
        unsafe { sys::call_resume(self.0.as_ptr()) };
    }
}

impl Default for Pauses {
    fn default() -> Self {
        Pauses {
            paused: AtomicUsize::default(),
            files: Mutex::default(),
            resumed: Condvar::default(),
            beneath: [const { AtomicU32::new(0) }; 256],
            held: AtomicU64::default(),
        }
    }
}

impl Pauses {
    /// From now on fops on `file` wait, with `readers` those that read it too. Returns when none of it is on its way beneath us.
    pub fn begin(&self, file: Gfid, readers: bool) {
        let mut files = self.lock();
        if let Some(paused) = files.get_mut(&file).filter(|paused| paused.locked > 0) {
            (paused.locked, paused.readers) = (paused.locked + 1, paused.readers | readers);
            return;
        }
        // Those that the last one has held come before it.
        let until = Instant::now() + RESUMED_WITHIN;
        while files.contains_key(&file) && Instant::now() < until {
            let left = until.saturating_duration_since(Instant::now());
            files = self.resumed.wait_timeout(files, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let paused = files.entry(file).or_default();
        (paused.locked, paused.readers) = (1, readers);
        self.paused.fetch_add(1, Ordering::SeqCst);
        drop(files);
        // Who counts himself from now on sees that; see `pass`.
        let (beneath, until) = (self.beneath(file), Instant::now() + WITHIN);
        while beneath.load(Ordering::SeqCst) > 0 && Instant::now() < until {
            std::thread::sleep(Duration::from_micros(50));
        }
    }

    /// They wait no more. How many have: as long as there are any, [`resume`](Pauses::resume) has to be called for them.
    pub fn end(&self, file: Gfid) -> usize {
        let mut files = self.lock();
        let Entry::Occupied(mut entry) = files.entry(file) else { return 0 };
        let paused = entry.get_mut();
        if paused.locked > 1 {
            paused.locked -= 1;
            return 0;
        }
        self.paused.fetch_sub(paused.locked as usize, Ordering::SeqCst);
        paused.locked = 0;
        let waiting = paused.waiting.len();
        if waiting == 0 && paused.going == 0 {
            entry.remove();
            self.resumed.notify_all();
        }
        waiting
    }

    /// Lets those go on that have waited, one after the other, in the order in which they came. More threads may do it.
    pub fn resume(&self, file: Gfid) {
        let mut files = self.lock();
        loop {
            let Entry::Occupied(mut entry) = files.entry(file) else { return };
            let paused = entry.get_mut();
            if paused.locked > 0 {
                return;
            }
            let Some(stub) = paused.waiting.pop_front() else {
                if paused.going == 0 {
                    entry.remove();
                    self.resumed.notify_all();
                }
                return;
            };
            paused.going += 1;
            drop(files);
            stub.resume();
            files = self.lock();
            if let Some(paused) = files.get_mut(&file) {
                paused.going -= 1;
            }
        }
    }

    /// How many fops were held since the brick was started.
    pub fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Gfid, Paused>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn beneath(&self, file: Gfid) -> &AtomicU32 {
        &self.beneath[usize::from(file.as_bytes()[15])]
    }

    /// Passes a fop on, by `go`, which returns when storage/posix has answered it. Unless it has to wait: as what `stub` makes of it.
    ///
    /// storage/posix answers before it returns but with `storage.linux-aio` and `storage.io_uring`: those fops are not waited for.
    #[inline(always)]
    pub(in crate::ffi) fn pass(
        &self,
        file: Gfid,
        access: Access,
        stub: impl FnOnce() -> *mut sys::call_stub_t,
        go: impl FnOnce() -> i32,
    ) -> i32 {
        // It counts itself before it looks, and who pauses the file looks at the count after that: one of them sees the other.
        let beneath = self.beneath(file);
        beneath.fetch_add(1, Ordering::SeqCst);
        let done = match self.paused.load(Ordering::SeqCst) > 0 && self.hold(file, access, stub) {
            true => 0,
            false => go(),
        };
        beneath.fetch_sub(1, Ordering::SeqCst);
        done
    }

    /// False if it need not wait, or the host has no memory for that.
    #[cold]
    #[inline(never)]
    fn hold(&self, file: Gfid, access: Access, stub: impl FnOnce() -> *mut sys::call_stub_t) -> bool {
        fence("a fop that waits", false, || {
            let mut files = self.lock();
            let Some(paused) = files.get_mut(&file) else { return false };
            if paused.locked == 0 || access == Access::Read && !paused.readers {
                return false;
            }
            paused.waiting.reserve(1);
            let Some(stub) = NonNull::new(stub()) else { return false };
            paused.waiting.push_back(Stub(stub));
            self.held.fetch_add(1, Ordering::Relaxed);
            true
        })
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::ptr::null_mut;
    use std::sync::Arc;
    use std::sync::mpsc::channel;

    use super::*;

    fn file(n: u8) -> Gfid {
        Gfid::from_bytes([n; 16])
    }

    /// Whether it would wait, if the host had memory for that. It goes on in any case.
    fn waits(pauses: &Pauses, file: Gfid, access: Access) -> bool {
        let asked = Cell::new(false);
        let stub = || {
            asked.set(true);
            null_mut()
        };
        assert_eq!(pauses.pass(file, access, stub, || 7), 7);
        asked.get()
    }

    #[test]
    fn who_waits() {
        let pauses = Pauses::default();
        let all = |file| [Access::Read, Access::Change].map(|access| waits(&pauses, file, access));
        assert_eq!(all(file(1)), [false, false]);
        pauses.begin(file(1), false);
        assert_eq!((all(file(1)), all(file(2))), ([false, true], [false, false]));
        pauses.begin(file(2), true);
        assert_eq!((all(file(1)), all(file(2))), ([false, true], [true, true]));
        assert_eq!((pauses.end(file(1)), pauses.end(file(1)), pauses.end(file(3))), (0, 0, 0));
        assert_eq!((all(file(1)), all(file(2))), ([false, false], [true, true]));
        pauses.resume(file(2));
        assert_eq!((pauses.end(file(2)), all(file(2))), (0, [false, false]));
        // Once more by who has it already, who may want readers to wait as well.
        pauses.begin(file(3), false);
        pauses.begin(file(3), true);
        assert_eq!((pauses.end(file(3)), all(file(3))), (0, [true, true]));
        assert_eq!((pauses.end(file(3)), all(file(3))), (0, [false, false]));
        assert_eq!((pauses.held(), pauses.lock().len()), (0, 0));
    }

    #[test]
    fn a_clone_waits_for_what_is_beneath() {
        let pauses = Arc::new(Pauses::default());
        let ((come, came), (back, gone)) = (channel(), channel());
        let other = Arc::clone(&pauses);
        let fop = std::thread::spawn(move || {
            other.pass(file(1), Access::Change, null_mut, || {
                come.send(()).unwrap();
                std::thread::sleep(WITHIN / 5);
                back.send(()).unwrap();
                0
            })
        });
        came.recv().unwrap();
        pauses.begin(file(2), true);
        assert!(gone.try_recv().is_err(), "it is not this one's");
        pauses.begin(file(1), true);
        assert!(gone.try_recv().is_ok());
        fop.join().unwrap();
        // But not for long.
        let start = Instant::now();
        pauses.pass(file(3), Access::Read, null_mut, || {
            pauses.begin(file(3), true);
            0
        });
        assert!(start.elapsed() >= WITHIN && start.elapsed() < WITHIN * 20);
    }
}
