//! The client role: `user/fsnap-client`, on top of a private client graph of the volume, which has no caches.
//!
//! It turns a command into what is safe on every copy of the file: a snapshot is taken when nobody writes to any of them, and a
//! restore is carried by a truncate, which the cluster's translators know how to bring to all bricks or to make up for.

mod lock;
mod restore;
mod set;

use std::ffi::{CStr, CString};
use std::time::Duration;

use fsnap_core::SnapName;
use fsnap_core::command::{self, Command};
use serde_json::Value;

use crate::ffi::{Dict, File, GetReply, Host, Node, Range, SetReply, fence};
use lock::Lock;
use set::{Kind, Set};

/// A question to this role, followed by the name of a snapshot: what the bricks that have the file say for themselves.
const BRICKS: &[u8] = b"glusterfs.fsnap.bricks.";

/// How long to wait for writers, if the volfile does not say.
const PATIENCE: Duration = Duration::from_secs(10);

/// The translator of a private client graph.
pub struct Client {
    host: Host,
    /// How long to wait until all writers of a file have stopped.
    patience: Duration,
}

impl Client {
    /// Option `lock-timeout`: how many seconds to wait until all writers of a file have stopped.
    pub fn init(host: Host) -> Result<Self, String> {
        let seconds =
            host.option("lock-timeout").and_then(|value| String::from_utf8(value).ok()?.parse().ok());
        Ok(Client { host, patience: seconds.map_or(PATIENCE, Duration::from_secs) })
    }

    /// A setxattr: hands the reply back if it is for the bricks as it is.
    pub fn set(&self, file: File, dict: Dict<'_>, reply: SetReply) -> Option<SetReply> {
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
    pub fn get(&self, file: File, key: &CStr, reply: GetReply) -> Option<GetReply> {
        let Some(name) = key.to_bytes().strip_prefix(BRICKS) else { return Some(reply) };
        let (name, key) = (SnapName::parse(name), key.to_owned());
        let describe = move |work: &mut Work| match name {
            Ok(name) => Ok(work.set.describe(&mut work.file, &name)),
            Err(error) => Err(error.errno()),
        };
        self.run(file, reply, describe, move |reply, answer| match answer {
            Ok(answer) => reply.value(&key, answer.as_bytes()),
            Err(errno) => reply.fail(errno),
        });
        None
    }

    /// Runs `work` on a thread of its own, where it may wait, then answers.
    fn run<T, R: Send + 'static>(
        &self,
        mut file: File,
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
    file: File,
    top: Node,
    set: Set,
}

/// Takes a snapshot when nobody writes to any copy of the file. Disperse sees to that itself: there the setxattr waits for all
/// writers, and to take its lock from outside would be a deadlock.
fn create(work: &mut Work, patience: Duration, value: &[u8]) -> Result<(), i32> {
    let lock = match work.set.kind {
        Kind::Replicate => Some(Lock::take(work, patience, Range::Data)?),
        Kind::Disperse | Kind::Single => None,
    };
    let done = work.file.set(work.top, c"glusterfs.fsnap.create", value);
    drop(lock);
    work.drain();
    done
}

/// The JSON that `to` answers to `glusterfs.fsnap.QUESTION`; `EIO` if it is none.
fn ask(file: &mut File, to: Node, question: &str) -> Result<Value, i32> {
    let key = CString::new(format!("{}{question}", command::PREFIX)).map_err(|_| libc::EINVAL)?;
    serde_json::from_slice(&file.get(to, &key)?).map_err(|_| libc::EIO)
}

impl Work {
    fn ask(&mut self, to: Node, question: &str) -> Result<Value, i32> {
        ask(&mut self.file, to, question)
    }

    /// Returns when all that was done to the file is complete: the cluster's translators answer before they have noted on the
    /// bricks that nothing is left to heal, and this process may end when it has its answer.
    fn drain(&mut self) {
        let drained = match self.set.kind {
            Kind::Replicate => Lock::take(self, PATIENCE, Range::All).map(drop),
            // It waits its turn behind what is not complete.
            Kind::Disperse => self.ask(self.top, "list").map(drop),
            Kind::Single => Ok(()),
        };
        if let Err(errno) = drained {
            tracing::warn!("what was done may leave something for self-heal to look at ({errno})");
        }
    }
}
