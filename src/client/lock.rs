//! Stopping all writers of a replicated file.

use std::ffi::CString;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use super::ask::ask;
use super::set::SetKind;
use super::work::Work;
use crate::ffi::{Host, Node, Range, own_locks};

/// How long to wait for writers, if the volfile does not say.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// All data of a file, locked on all bricks of its set as the replicate translator does for a write. Dropped, it is released. A
/// process that dies loses it as well.
pub struct Lock {
    release: Option<Sender<()>>,
    holder: Option<JoinHandle<()>>,
}

impl Lock {
    /// `EBUSY` if the writers do not stop in time; then a lock that is granted later is released at once. (A request for a lock
    /// can't be taken back.) Else what the cluster says.
    pub fn take(work: &Work, patience: Duration, range: Range) -> Result<Lock, i32> {
        Self::take_by(work, work.top, patience, range)
    }

    /// The same by way of `to`, for as much of the set as is beneath that.
    pub fn take_by(work: &Work, to: Node, patience: Duration, range: Range) -> Result<Lock, i32> {
        Self::ask_for(work, to, range)?.granted(patience)
    }

    /// Asks for it, and does not wait.
    fn ask_for(work: &Work, to: Node, range: Range) -> Result<Asked, i32> {
        let (host, domain) = (work.host, CString::from(work.set.node.name()));
        let mut file = work.file.again().ok_or(libc::ENOMEM)?;
        let (answer, answered) = channel();
        let (release, released) = channel::<()>();
        let hold = move || {
            host.adopt_thread();
            own_locks(&unique());
            let taken = file.lock(to, &domain, range, true);
            let _ = answer.send(taken);
            if taken.is_ok() {
                // Until the other end is dropped.
                let _ = released.recv();
                if let Err(errno) = file.lock(to, &domain, range, false) {
                    tracing::warn!("a lock is not released ({errno}): it goes when this process ends");
                }
            }
        };
        let holder = Builder::new().name("fsnap-lock".into()).spawn(hold).map_err(|_| libc::EAGAIN)?;
        Ok(Asked { lock: Lock { release: Some(release), holder: Some(holder) }, answered })
    }
}

/// A lock that was asked for.
struct Asked {
    lock: Lock,
    answered: Receiver<Result<(), i32>>,
}

impl Asked {
    /// See [`Lock::take`].
    fn granted(self, patience: Duration) -> Result<Lock, i32> {
        let Asked { mut lock, answered } = self;
        match answered.recv_timeout(patience) {
            Ok(Ok(())) => Ok(lock),
            // It is known by its gfid.
            Ok(Err(libc::ENOENT)) => Err(libc::ESTALE),
            Ok(Err(errno)) => Err(errno),
            Err(RecvTimeoutError::Disconnected) => Err(libc::EIO),
            Err(RecvTimeoutError::Timeout) => {
                tracing::error!("not all writers of the file have stopped within {} s", patience.as_secs());
                // Nobody waits for this one.
                drop(lock.holder.take());
                Err(libc::EBUSY)
            }
        }
    }
}

impl Lock {
    /// Begins to release it; it is released when it has been dropped.
    pub fn let_go(&mut self) {
        drop(self.release.take());
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.let_go();
        if let Some(holder) = self.holder.take() {
            let _ = holder.join();
        }
    }
}

fn unique() -> [u8; 16] {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    let mut owner = [0; 16];
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    owner[..8].copy_from_slice(&(now.as_nanos() as u64).to_be_bytes());
    owner[8..12].copy_from_slice(&std::process::id().to_be_bytes());
    owner[12..].copy_from_slice(&TAKEN.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    owner
}

impl Work {
    /// Returns when nobody is in the middle of a change of the file's data, with what the bricks [say for themselves](Set::describe); `EBUSY`
    /// if that takes too long.
    pub fn await_turn(&self, patience: Duration) -> Result<String, i32> {
        let mut file = self.file.again().ok_or(libc::ENOMEM)?;
        let (host, set) = (self.host, self.set.clone());
        let describe = move || {
            host.adopt_thread();
            set.describe(&mut file, None)
        };
        let described = Builder::new().name("fsnap-ask".into()).spawn(describe).map_err(|_| libc::EAGAIN)?;
        self.turn(patience)?;
        described.join().map_err(|_| libc::EIO)
    }

    fn turn(&self, patience: Duration) -> Result<(), i32> {
        match self.set.kind {
            SetKind::Replicate => Lock::take(self, patience, Range::Data).map(drop),
            // A question waits its turn there.
            SetKind::Disperse => {
                let (top, mut file) = (self.top, self.file.again().ok_or(libc::ENOMEM)?);
                in_time(self.host, patience, move || {
                    // Whatever the answer, it was given.
                    let _ = ask(&mut file, top, "list");
                    Ok(())
                })
            }
            SetKind::Single => Ok(()),
        }
    }

    /// Returns when all that was done to the file is complete: the cluster's translators answer before they have noted on the
    /// bricks what there is to note, and this process may end when it has its answer. On replicate that is what was done beneath these locks,
    /// which are waited for all at once: they are different ones, and each is somebody else's.
    pub fn drain(&self, locks: &[Range]) {
        let locked = |to, range| Lock::take_by(self, to, PATIENCE, range).map(drop);
        let drained = match self.set.kind {
            SetKind::Replicate => {
                // None is kept: who has the one may want the other.
                let ask = |&range| {
                    let mut asked = Lock::ask_for(self, self.top, range)?;
                    asked.lock.let_go();
                    Ok(asked)
                };
                let asked: Vec<Result<Asked, i32>> = locks.iter().map(ask).collect();
                let taken = asked.into_iter().map(|asked| asked?.granted(PATIENCE).map(drop));
                taken.fold(Ok(()), Result::and)
            }
            // Beneath that translator, because it would give its own lock on to what comes next, with all that is yet to be
            // noted. One brick after the other, and none kept: whoever locks several at once can't be in the way.
            SetKind::Disperse => {
                self.set.bricks().into_iter().try_for_each(|brick| match locked(brick, Range::Whole) {
                    Err(libc::EBUSY) => Err(libc::EBUSY),
                    // It is away.
                    _ => Ok(()),
                })
            }
            SetKind::Single => Ok(()),
        };
        if let Err(errno) = drained {
            tracing::warn!("what was done may leave something for self-heal to look at ({errno})");
        }
    }
}

/// What `work` gives, which may wait for others. `EBUSY` if it does so for longer than `patience`; it goes on then.
fn in_time<T: Send + 'static>(
    host: Host,
    patience: Duration,
    work: impl FnOnce() -> Result<T, i32> + Send + 'static,
) -> Result<T, i32> {
    let (done, waited) = channel();
    let body = move || {
        host.adopt_thread();
        let _ = done.send(work());
    };
    std::thread::Builder::new().name("fsnap-ask".into()).spawn(body).map_err(|_| libc::EAGAIN)?;
    waited.recv_timeout(patience).unwrap_or_else(|error| match error {
        RecvTimeoutError::Timeout => {
            tracing::error!("whatever is at work on the file has not ended within {} s", patience.as_secs());
            Err(libc::EBUSY)
        }
        RecvTimeoutError::Disconnected => Err(libc::EIO),
    })
}
