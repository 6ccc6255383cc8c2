//! The client role: `user/fsnap-client`, on top of a private client graph of the volume, which has no caches.
//!
//! It turns a command into what is safe on every copy of the file: a snapshot is taken when nobody writes to any of them, and a
//! restore is carried by a truncate, which the cluster's translators know how to bring to all bricks or to make up for.

mod lock;
mod restore;
mod set;

use std::ffi::{CStr, CString};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use fsnap_core::SnapName;
use fsnap_core::command::{self, Command};
use serde_json::Value;

use crate::ffi::{ClientFile, Dict, GetReply, Host, Node, Range, SetReply, fence};
use lock::Lock;
use set::{Set, SetKind};

/// A question to this role, followed by the name of a snapshot: what the bricks that have the file say for themselves.
const BRICKS: &[u8] = b"glusterfs.fsnap.bricks.";

/// A question to this role, answered with nothing as soon as nobody is in the middle of a change of the file.
const TURN: &[u8] = b"glusterfs.fsnap.turn";

/// How long to wait for writers, if the volfile does not say.
const PATIENCE: Duration = Duration::from_secs(10);

/// The translator of a private client graph.
pub struct Client {
    host: Host,
    /// How long to wait until all writers of a file have stopped.
    patience: Duration,
}

impl Client {
    /// Option `lock-timeout`: how many seconds to wait until all writers of a file have stopped, or, on a disperse volume, whoever
    /// is at work on it.
    pub fn init(host: Host) -> Result<Self, String> {
        let seconds =
            host.option("lock-timeout").and_then(|value| String::from_utf8(value).ok()?.parse().ok());
        Ok(Client { host, patience: seconds.map_or(PATIENCE, Duration::from_secs) })
    }

    /// A setxattr: hands the reply back if it is for the bricks as it is.
    pub fn set(&self, file: ClientFile, dict: Dict<'_>, reply: SetReply) -> Option<SetReply> {
        let ours = dict.with_prefix(command::PREFIX.as_bytes());
        let [(key, value)] = &ours[..] else { return Some(reply) };
        let parsed = command::parse_set(key, value)?;
        let Ok(command @ (Command::Create(_) | Command::Arm(_))) = parsed else { return Some(reply) };
        let (patience, value) = (self.patience, value.to_vec());
        self.run(
            file,
            reply,
            move |work| match command {
                Command::Arm(arming) => restore::restore(work, &arming),
                _ => create(work, patience, &value),
            },
            |reply, done| match done {
                Ok(()) => reply.succeed(),
                Err(errno) => reply.fail(errno),
            },
        );
        None
    }

    /// A getxattr: hands the reply back if it is for the bricks as it is.
    pub fn get(&self, file: ClientFile, key: &CStr, reply: GetReply) -> Option<GetReply> {
        let what = key.to_bytes();
        let asked = match what.strip_prefix(BRICKS) {
            Some(name) => Some(SnapName::parse(name)),
            None if what == TURN => None,
            None => return Some(reply),
        };
        let (patience, key) = (self.patience, key.to_owned());
        let work = move |work: &mut Work| match asked {
            Some(Ok(name)) => Ok(work.set.describe(&mut work.file, &name)),
            Some(Err(error)) => Err(error.errno()),
            None => work.await_turn(patience).map(|()| String::new()),
        };
        self.run(file, reply, work, move |reply, answer| match answer {
            Ok(answer) => reply.value(&key, answer.as_bytes()),
            Err(errno) => reply.fail(errno),
        });
        None
    }

    /// Runs `work` on a thread of its own, where it may wait, then answers.
    fn run<T, R: Send + 'static>(
        &self,
        mut file: ClientFile,
        reply: R,
        work: impl FnOnce(&mut Work) -> Result<T, i32> + Send + 'static,
        answer: impl FnOnce(R, Result<T, i32>) + Send + 'static,
    ) {
        let host = self.host;
        let body = move || {
            host.adopt_thread();
            fence("a command", (), || {
                let top = Node::beneath(host).ok_or(libc::EIO);
                let done = top.and_then(|top| {
                    let set = Set::of(&mut file, top)?;
                    work(&mut Work { host, file, top, set })
                });
                answer(reply, done);
            });
        };
        if let Err(error) = std::thread::Builder::new().name("fsnap".into()).spawn(body) {
            tracing::error!("no thread for a command: {error}");
        }
    }
}

/// A command at work on a file.
struct Work {
    host: Host,
    file: ClientFile,
    top: Node,
    set: Set,
}

/// Takes a snapshot when nobody writes to any copy of the file. Disperse sees to that itself: there the setxattr waits for all
/// writers, and to take its lock from outside would be a deadlock.
fn create(work: &mut Work, patience: Duration, value: &[u8]) -> Result<(), i32> {
    let lock = match work.set.kind {
        SetKind::Replicate => Some(Lock::take(work, patience, Range::Data)?),
        SetKind::Disperse | SetKind::Single => None,
    };
    if Set::of(&mut work.file, work.top)?.node != work.set.node {
        tracing::warn!("rebalance has moved the file just now: ask again");
        return Err(libc::EBUSY);
    }
    step("locked");
    let done = work.file.set(work.top, c"glusterfs.fsnap.create", value);
    drop(lock);
    work.drain();
    done
}

/// The JSON that `to` answers to `glusterfs.fsnap.QUESTION`; `EIO` if it is none.
fn ask(file: &mut ClientFile, to: Node, question: &str) -> Result<Value, i32> {
    let key = CString::new(format!("{}{question}", command::PREFIX)).map_err(|_| libc::EINVAL)?;
    serde_json::from_slice(&file.get(to, &key)?).map_err(|_| libc::EIO)
}

impl Work {
    fn ask(&mut self, to: Node, question: &str) -> Result<Value, i32> {
        ask(&mut self.file, to, question)
    }

    /// Returns when nobody is in the middle of a change of the file's data; `EBUSY` if that takes too long.
    fn await_turn(&self, patience: Duration) -> Result<(), i32> {
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
    /// bricks what there is to note, and this process may end when it has its answer.
    fn drain(&self) {
        let locked = |to, range| Lock::take_by(self, to, PATIENCE, range).map(drop);
        let drained = match self.set.kind {
            SetKind::Replicate => locked(self.top, Range::Data).and(locked(self.top, Range::Metadata)),
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

/// A step is done, or begins. For the tests: with `FSNAP_FAULT=STEP:kill:MICROSECONDS` the process is killed that much later, with
/// `FSNAP_FAULT=STEP:wait:MICROSECONDS` it says so and waits.
fn step(_name: &str) {
    #[cfg(feature = "fault-injection")]
    if let Ok(wish) = std::env::var("FSNAP_FAULT")
        && let [name, what, pause] = wish.split(':').collect::<Vec<_>>()[..]
        && name == _name
    {
        let pause = Duration::from_micros(pause.parse().unwrap_or(0));
        let kill = move || {
            std::thread::sleep(pause);
            let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL);
        };
        match what {
            "wait" => {
                eprintln!("{name}");
                std::thread::sleep(pause);
            }
            _ if pause.is_zero() => kill(),
            _ => drop(std::thread::spawn(kill)),
        }
    }
}
