//! The client role: `user/fsnap-client`, on top of a private client graph of the volume, which has no caches.
//!
//! It turns a command into what is safe on every copy of the file: a snapshot is taken when nobody writes to any of them, and a
//! restore is carried by a truncate, which the cluster's translators know how to bring to all bricks or to make up for.

mod ask;
mod create;
mod lock;
mod restore;
mod set;
mod step;
mod work;

use std::ffi::{CStr, CString};
use std::time::Duration;

use fsnap_core::SnapName;
use fsnap_core::command::{self, Command};

use crate::ffi::{ClientFile, Dict, GetReply, Host, Node, SetReply, fence};
use create::create;
use lock::PATIENCE;
use set::Set;
use work::Work;

/// A question to this role, followed by the name of a snapshot: what the bricks that have the file say for themselves.
const BRICKS: &[u8] = b"glusterfs.fsnap.bricks.";

/// A question to this role, answered as soon as nobody is in the middle of a change of the file, with what the bricks that have it say for
/// themselves.
const TURN: &[u8] = b"glusterfs.fsnap.turn";

/// A question to this role, set on a snapshot of a deleted file: which file that is. From then on this graph finds it by its gfid.
const DELETED: &[u8] = b"glusterfs.fsnap.deleted";

/// A question to this role: which fops of this process are on their way beside it, some of which may have been answered already.
const UNDERWAY: &[u8] = b"glusterfs.fsnap.underway";

/// The translator of a private client graph.
pub struct Client {
    host: Host,
    /// How long to wait until all writers of a file have stopped.
    patience: Duration,
}

/// What this role is asked.
enum Asked {
    Bricks(fsnap_core::Result<SnapName>),
    Turn,
    Deleted,
}

impl Client {
    /// Option `lock-timeout`: how many seconds to wait until all writers of a file have stopped, or, on a disperse volume, whoever
    /// is at work on it.
    pub fn init(host: Host) -> Result<Self, String> {
        let seconds =
            host.option("lock-timeout").and_then(|value| String::from_utf8(value).ok()?.parse().ok());
        if let Some(digits) = host.option("subdir") {
            let dir = hex::decode(&digits).ok().and_then(|dir| CString::new(dir).ok());
            host.mount_only(dir.ok_or("option subdir is no path in hexadecimal digits")?);
        }
        Ok(Client { host, patience: seconds.map_or(PATIENCE, Duration::from_secs) })
    }

    /// A setxattr: hands the reply back if it is for the bricks as it is.
    pub fn set(&self, file: ClientFile, dict: Dict<'_>, reply: SetReply) -> Option<SetReply> {
        let ours = dict.with_prefix(command::PREFIX.as_bytes());
        let [(key, value)] = &ours[..] else { return Some(reply) };
        let parsed = command::parse_set(key, value)?;
        let Ok(command @ (Command::Create(_) | Command::Arm(_))) = parsed else { return Some(reply) };
        let (patience, value) = (self.patience, value.to_vec());
        // A create looks for it when it has the lock.
        let find = if matches!(command, Command::Create(_)) { Set::likely } else { Set::of };
        self.run(
            find,
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
        if what == UNDERWAY {
            let others: Vec<String> = reply.others().iter().map(|call| format!("{call:x}")).collect();
            reply.value(key, others.join(" ").as_bytes());
            return None;
        }
        let asked = match what.strip_prefix(BRICKS) {
            Some(name) => Asked::Bricks(SnapName::parse(name)),
            None if what == TURN => Asked::Turn,
            None if what == DELETED => Asked::Deleted,
            None => return Some(reply),
        };
        let patience = self.patience;
        let work = move |work: &mut Work| match asked {
            Asked::Bricks(Ok(name)) => Ok(work.set.describe(&mut work.file, Some(&name))),
            Asked::Bricks(Err(error)) => Err(error.errno()),
            Asked::Turn => work.await_turn(patience),
            Asked::Deleted => work.claim(),
        };
        let find = if what == TURN { Set::likely } else { Set::of };
        let key = key.to_owned();
        self.run(find, file, reply, work, move |reply, answer| match answer {
            Ok(answer) => reply.value(&key, answer.as_bytes()),
            Err(errno) => reply.fail(errno),
        });
        None
    }

    /// Runs `work` on a thread of its own, where it may wait, then answers. `find` tells which set has the file.
    fn run<T, R: Send + 'static>(
        &self,
        find: fn(Host, &mut ClientFile, Node) -> Result<Set, i32>,
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
                    let set = find(host, &mut file, top)?;
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
