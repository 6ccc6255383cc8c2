//! Stopping all writers of a replicated file.

use std::ffi::CString;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use super::Work;
use crate::ffi::{Node, Range, own_locks};

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
        let mut lock = Lock { release: Some(release), holder: Some(holder) };
        match answered.recv_timeout(patience) {
            Ok(Ok(())) => Ok(lock),
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

impl Drop for Lock {
    fn drop(&mut self) {
        drop(self.release.take());
        if let Some(holder) = self.holder.take() {
            let _ = holder.join();
        }
    }
}

fn unique() -> [u8; 16] {
    let mut owner = [0; 16];
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    owner[..8].copy_from_slice(&(now.as_nanos() as u64).to_be_bytes());
    owner[8..12].copy_from_slice(&std::process::id().to_be_bytes());
    owner
}
