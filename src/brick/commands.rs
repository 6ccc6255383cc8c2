//! Commands and questions: xattrs whose names start with `glusterfs.fsnap.`.

use std::ffi::CStr;
use std::sync::Arc;

use fsnap_core::command::{self, Arming, Command, Question};
use fsnap_core::{Error, Gfid, Result};

use super::instance::Brick;
use super::order::{Order, command_kind, question_kind};
use super::pool::Key;
use super::{errand, graves, guard, volume};
use crate::ffi::{Call, Dict, GetReply, HeldTruncate, Inode, Inodes, SetReply, role};

impl role::Commands for Brick {
    fn set(&self, call: &Call<'_>, dict: Dict<'_>, reply: SetReply) -> Option<SetReply> {
        set(self, call, dict, reply)
    }

    fn get(&self, call: &Call<'_>, key: &CStr, reply: GetReply) -> Option<GetReply> {
        get(self, call, key, reply)
    }
}

/// A setxattr: hands the reply back if it is no command of ours.
fn set(brick: &Brick, call: &Call<'_>, dict: Dict<'_>, reply: SetReply) -> Option<SetReply> {
    let ours = dict.with_prefix(command::PREFIX.as_bytes());
    let [(key, value), rest @ ..] = &ours[..] else {
        match guard::refuse_set(&brick.state, call, dict) {
            Some(errno) => reply.fail(errno),
            None => return Some(reply),
        }
        return None;
    };
    #[cfg(feature = "fault-injection")]
    if *key == b"glusterfs.fsnap.fault" {
        return faults::set(brick, call, value, reply);
    }
    let Some(mut parsed) = command::parse_set(key, value) else { return Some(reply) };
    if !rest.is_empty() {
        parsed = Err(Error::bad("one command at a time"));
    }
    let order = Order::new(brick, call, parsed.as_ref().map_or("command", command_kind));
    match parsed.and_then(|command| Ok((order.base_for_command(call, &command)?, command))) {
        Err(error) => reply.fail(order.refuse(error)),
        Ok((base, command)) => {
            let waiting = QueuedCommand {
                keys: order.keys(base, &command),
                file: call.inode(),
                inodes: call.inodes(),
                order,
                base,
                command,
            };
            waiting.go(reply);
        }
    }
    None
}

/// A command, and what it needs when its turn comes.
struct QueuedCommand {
    order: Order,
    base: Gfid,
    command: Command,
    /// What nobody else may be at work on.
    keys: Vec<Key>,
    file: Option<Inode>,
    inodes: Option<Inodes>,
}

impl QueuedCommand {
    fn go(mut self, reply: SetReply) {
        let asks = match self.command {
            Command::Arm(_) => true,
            Command::Restore(_) => !self.order.is_deleted(self.base),
            _ => false,
        };
        match self.file.take() {
            Some(file) if asks => self.after_asking(file, reply),
            file => QueuedCommand { file, ..self }.submit(reply),
        }
    }

    /// A restore is a change of content: who stands above may forbid it. Nobody is asked about what is refused anyway.
    fn after_asking(self, file: Inode, reply: SetReply) {
        // It was brought back this very moment: what stands above would be asked about the snapshot.
        let checked = if self.order.file == self.base { self.may_begin() } else { Err(Error::Gone) };
        // Or deleted: the client looks again.
        let checked =
            checked.map_err(|error| if self.order.is_deleted(self.base) { Error::Gone } else { error });
        let state = Arc::clone(&self.order.state);
        match (checked, &self.command) {
            (Err(error), _) => {
                let errno = self.order.refuse(error);
                // Before the answer: once a request is answered, the host may end.
                drop((self, file));
                reply.fail(errno);
            }
            (Ok(()), Command::Restore(_)) => self.carry(file, reply),
            _ => errand::ask(&state, reply, file, |reply, allowed| match allowed {
                Ok(()) => self.submit(reply),
                Err(errno) => {
                    let errno = self.order.refused_above(errno);
                    drop(self);
                    reply.fail(errno);
                }
            }),
        }
    }

    fn may_begin(&self) -> Result<()> {
        let Order { state, .. } = &self.order;
        self.order.refuse_moving(self.base, &self.command, self.inodes.as_ref())?;
        match &self.command {
            Command::Restore(name) => {
                volume::allow_direct_restore(&state.options(), state.volume_id)?;
                state.store()?.may_restore(self.base, name)
            }
            Command::Arm(Arming { name, .. }) => {
                volume::allow_carried_restore(state.volume_id)?;
                state.store()?.may_arm(self.base, name)
            }
            _ => Ok(()),
        }
    }

    /// A restore by setfattr: the truncate that asks carries it.
    fn carry(self, file: Inode, reply: SetReply) {
        let QueuedCommand { order, base, command, keys, inodes, .. } = self;
        let (state, order) = (Arc::clone(&order.state), Arc::new(order));
        let (host, above) = (state.host, Arc::clone(&order));
        let here = move |held: HeldTruncate| {
            let entrance = order.entrance.clone();
            entrance.submit(keys.clone(), move |turn| {
                let done = turn.in_time().and_then(|turn| {
                    let change = order.state.begin()?;
                    order.refuse_moving(base, &command, inodes.as_ref())?;
                    // Before the answer: once a request is answered, the host may end.
                    drop(inodes);
                    let done = order.run_as_it_was(base, &command, &keys)?;
                    Ok(((turn, change), done.size.ok_or(Error::Gone)?))
                });
                match order.account(done) {
                    Ok((turn, size)) => {
                        // The rest of a change of data: times, and what clients are told.
                        held.proceed_to(host, size);
                        drop(turn);
                    }
                    Err(errno) => held.fail(errno),
                }
            });
        };
        errand::send(&state, reply, file, here, move |reply, came, outcome| match outcome.errno() {
            None if came => reply.done_as(&outcome),
            Some(errno) if came => reply.fail(errno),
            errno => match above.refused_above(errno.unwrap_or(libc::EIO)) {
                // The kernel makes EOPNOTSUPP of it (`__vfs_setxattr_noperm`).
                libc::EAGAIN => reply.fail(libc::EBUSY),
                errno => reply.fail(errno),
            },
        });
    }

    fn submit(self, reply: SetReply) {
        let QueuedCommand { order, base, command, keys, file, inodes } = self;
        let entrance = order.entrance.clone();
        entrance.submit(keys.clone(), move |turn| {
            let done = turn.in_time().and_then(|turn| {
                let change = order.state.begin()?;
                order.refuse_moving(base, &command, inodes.as_ref())?;
                order.run_as_it_was(base, &command, &keys).map(|done| ((turn, change), done.unsettled))
            });
            let host = order.state.host;
            match (order.account(done), file, inodes) {
                (Ok((turn, Some(unsettled))), file, Some(inodes)) => {
                    reply.mark(host, inodes, &[unsettled], move |reply| {
                        reply.done_with(host, file);
                        drop(turn);
                    });
                }
                (done, file, inodes) => {
                    // Before the answer: once a request is answered, the host may end.
                    drop(inodes);
                    match (done, command, file) {
                        (Err(errno), _, file) => {
                            drop(file);
                            reply.fail(errno);
                        }
                        (Ok(_), Command::Restore(_), Some(file)) => reply.done_and_touched(host, file),
                        (Ok(_), _, file) => reply.done_with(host, file),
                    }
                }
            }
        });
    }
}

/// A getxattr: hands the reply back if it is no question to us.
fn get(brick: &Brick, call: &Call<'_>, key: &CStr, reply: GetReply) -> Option<GetReply> {
    let Some(parsed) = command::parse_get(key.to_bytes()) else {
        match guard::refuse_get(&brick.state, call, key) {
            Some(errno) => reply.fail(errno),
            None => return Some(reply),
        }
        return None;
    };
    let order = Order::new(brick, call, parsed.as_ref().map_or("question", question_kind));
    match parsed.and_then(|question| Ok((order.base_for_question(call, &question)?, question))) {
        Err(error) => reply.fail(order.refuse(error)),
        Ok((None, _)) => match order.account(Ok(order.status())) {
            Ok(status) => reply.value(key, status.as_bytes()),
            Err(errno) => reply.fail(errno),
        },
        Ok((Some(base), question)) => {
            let key = key.to_owned();
            // Whoever has it then may write to it, and not bring it back after all.
            let claims = question == Question::Deleted && !brick.state.claims.has(base);
            if let Some(inodes) = call.inodes().filter(|_| claims) {
                graves::empty(&brick.state, &brick.pool, base, inodes);
            }
            brick.pool.submit_question(keys_of(base, &question), move |turn| {
                match order.account(turn.in_time().and_then(|_turn| order.answer(base, &question))) {
                    Ok(answer) => reply.value(&key, answer.as_bytes()),
                    Err(errno) => reply.fail(errno),
                }
            });
        }
    }
    None
}

/// What a question waits for. list and info tell what is, whatever is under way: a command is done when its entry is in the
/// catalogue, or out of it. How far a restore has come, and whether a snapshot is the same on all bricks, is told when no command
/// on the file is in the middle of it.
fn keys_of(base: Gfid, question: &Question) -> Vec<Key> {
    match question {
        Question::List | Question::Info(_) | Question::Status => Vec::new(),
        Question::Armed | Question::Deleted | Question::Marks(_) => vec![Key::File(base)],
    }
}

/// Faults on purpose, for the tests.
#[cfg(feature = "fault-injection")]
mod faults {
    use std::path::Path;

    use super::*;
    use crate::ffi::provoke::{provoke, provoked};

    /// `glusterfs.fsnap.fault`: a panic in the `fop` or the `worker` at once, elsewhere at the next occasion; `slow`, a
    /// command that takes three seconds; or a number N: the process is killed at the Nth change that the store makes to
    /// the disk; with `eio:N` all such changes fail from the Nth on, with `eio:0` no more. `WHAT@DIRECTORY` is for the brick of that directory only.
    pub fn set(brick: &Brick, call: &Call<'_>, what: &[u8], reply: SetReply) -> Option<SetReply> {
        let what = String::from_utf8_lossy(what).into_owned();
        let (key, file, host) = (vec![Key::File(call.gfid())], call.inode(), brick.state.host);
        let what = match what.split_once('@') {
            Some((_, directory)) if brick.state.directory != Path::new(directory) => {
                reply.done_with(host, file);
                return None;
            }
            Some((what, _)) => what.to_owned(),
            None => what,
        };
        if let Ok(at) = what.parse() {
            fsnap_store::fault::kill_at(at);
            reply.done_with(host, file);
            return None;
        }
        if let Some(at) = what.strip_prefix("eio:").and_then(|at| at.parse().ok()) {
            fsnap_store::fault::fail_from(at);
            reply.done_with(host, file);
            return None;
        }
        match what.as_str() {
            "slow" => brick.pool.submit(key, move |_turn| {
                std::thread::sleep(std::time::Duration::from_secs(3));
                reply.done_with(host, file);
            }),
            "fop" => {
                provoke(&what);
                provoked("fop");
            }
            "worker" => {
                provoke(&what);
                brick.pool.submit(key, |_turn| {
                    provoked("worker");
                    drop(reply);
                });
            }
            _ => {
                provoke(&what);
                reply.done_with(host, file);
            }
        }
        None
    }
}
