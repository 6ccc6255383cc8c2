//! Commands and questions: xattrs whose names start with `glusterfs.fsnap.`.

use std::ffi::CStr;
use std::sync::Arc;

use fsnap_core::acl::Caller;
use fsnap_core::answer::{self, Snapshot, Status};
use fsnap_core::command::{self, Arming, Command, Create, Question};
use fsnap_core::{Error, Gfid, Result, layout};
use fsnap_store::{Limits, Store};

use super::caller::REBALANCE;
use super::instance::Brick;
use super::pool::{Entrance, Key};
use super::restores::Arm;
use super::shared::Shared;
use super::{errand, guard, handles, heal, restore, tidy, volume};
use crate::ffi::{
    Call, Connection, Dict, GetReply, HeldTruncate, Inode, Inodes, Mark, SetReply, dht_hash, role,
};

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
        let QueuedCommand { order, base, command, keys, .. } = self;
        let (state, order) = (Arc::clone(&order.state), Arc::new(order));
        let (host, above) = (state.host, Arc::clone(&order));
        let here = move |held: HeldTruncate| {
            let entrance = order.entrance.clone();
            entrance.submit(keys.clone(), move |turn| {
                let done = turn.in_time().and_then(|turn| {
                    let change = order.state.begin()?;
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

/// What a command that is done leaves to do.
#[derive(Default)]
struct Done {
    /// What self-heal has to look at.
    unsettled: Option<Mark>,
    /// Of a file that was restored: its size.
    size: Option<i64>,
}

/// A getxattr: hands the reply back if it is no question to us.
fn get(brick: &Brick, call: &Call<'_>, key: &CStr, reply: GetReply) -> Option<GetReply> {
    let Some(parsed) = command::parse_get(key.to_bytes()) else {
        match guard::refuse_get(call, key) {
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
        Question::Armed | Question::Marks(_) => vec![Key::File(base)],
    }
}

fn command_kind(command: &Command) -> &'static str {
    match command {
        Command::Create(_) => "create",
        Command::Delete(_) => "delete",
        Command::Restore(_) => "restore",
        Command::Hold(_, true) => "hold",
        Command::Hold(_, false) => "release",
        Command::Arm(_) => "arm",
        Command::Settle(_) => "settle",
    }
}

fn question_kind(question: &Question) -> &'static str {
    match question {
        Question::List => "list",
        Question::Info(_) => "info",
        Question::Status => "status",
        Question::Armed => "armed",
        Question::Marks(_) => "marks",
    }
}

/// One command or question on its way to its answer.
struct Order {
    state: Arc<Shared>,
    kind: &'static str,
    /// What it was set on: a file or one of its snapshots.
    file: Gfid,
    /// The same, for the log.
    shown: String,
    /// The way to it from the brick's root, if the host tells it.
    path: Option<Vec<u8>>,
    entrance: Entrance,
    by: Connection,
    caller: Caller,
}

impl Order {
    fn new(brick: &Brick, call: &Call<'_>, kind: &'static str) -> Self {
        Order {
            state: Arc::clone(&brick.state),
            kind,
            file: call.gfid(),
            shown: call.shown(),
            path: call.path().map(<[u8]>::to_vec),
            entrance: (*brick.pool).clone(),
            by: call.connection(),
            caller: call.caller(),
        }
    }

    /// The file whose snapshots the command is about. What outlived its file can be managed through the snapshot itself;
    /// but a snapshot has no snapshots and is not restored.
    fn base_for_command(&self, call: &Call<'_>, command: &Command) -> Result<Gfid> {
        let (base, is_snapshot) = self.base(call)?;
        match command {
            Command::Create(_) if is_snapshot => Err(Error::ReadOnly("no snapshots of snapshots")),
            Command::Arm(_) | Command::Settle(_) if is_snapshot => {
                Err(Error::ReadOnly("restore the file itself"))
            }
            Command::Restore(_) if is_snapshot && !self.state.store()?.is_deleted(base) => {
                Err(Error::ReadOnly("restore the file itself"))
            }
            // Replicate and disperse note on the snapshot, which goes, what a brick has missed, and not on the file.
            _ if is_snapshot
                && volume::has_copies(&self.state.options(), self.state.volume_id)
                && !self.state.store()?.is_deleted(base) =>
            {
                Err(Error::unsupported("on a replicate or disperse volume set this on the file itself"))
            }
            _ => Ok(base),
        }
    }

    /// The file that the question is about; `None` if it is about none.
    fn base_for_question(&self, call: &Call<'_>, question: &Question) -> Result<Option<Gfid>> {
        match question {
            Question::Status => Ok(None),
            Question::List | Question::Info(_) | Question::Armed | Question::Marks(_) => {
                self.base(call).map(|(base, _)| Some(base))
            }
        }
    }

    fn base(&self, call: &Call<'_>) -> Result<(Gfid, bool)> {
        if !self.state.options().enabled {
            return Err(Error::unsupported("fsnap is disabled on this volume (option enabled)"));
        }
        self.state.store()?.base_of(call.gfid())
    }

    /// What nobody else may be at work on: the file, and the name that it gets if it is brought back.
    fn keys(&self, base: Gfid, command: &Command) -> Vec<Key> {
        let was = match command {
            Command::Restore(_) => self.state.store().and_then(|store| store.buried_at(base)).ok().flatten(),
            _ => None,
        };
        std::iter::once(Key::File(base)).chain(was.map(|was| Key::name(was.parent, &was.name))).collect()
    }

    fn is_deleted(&self, base: Gfid) -> bool {
        self.state.store().is_ok_and(|store| store.is_deleted(base))
    }

    /// [`Error::Gone`] (`ESTALE`, upon which the client looks again) if the file was deleted, or brought back, while this waited for
    /// `keys`.
    fn run_as_it_was(&self, base: Gfid, command: &Command, keys: &[Key]) -> Result<Done> {
        if self.keys(base, command) != keys {
            return Err(Error::Gone);
        }
        match self.run(base, command) {
            // The handle of a directory above may be gone, or nobody have noted where it is.
            Err(Error::Gone | Error::Damaged(_)) if self.mends_way(base) => self.run(base, command),
            done => done,
        }
    }

    fn mends_way(&self, base: Gfid) -> bool {
        let (Ok(store), Some(path)) = (self.state.store(), &self.path) else { return false };
        let mended = handles::mend(store, &self.entrance, path);
        self.file == base && store.note_path(base, path).is_ok_and(|noted| noted) || mended
    }

    /// [`Error::Migrating`] (`EBUSY`) if rebalance is moving the file: it has marked it, and has it open. Its marks alone are what one
    /// that was killed has left. The brick closes what a connection had open when that ends.
    fn refuse_moving(&self, base: Gfid, command: &Command, inodes: Option<&Inodes>) -> Result<()> {
        let matters = matches!(command, Command::Create(_) | Command::Restore(_) | Command::Arm(_));
        if !matters || !inodes.is_some_and(|inodes| inodes.is_open_by(base, REBALANCE)) {
            return Ok(());
        }
        match self.state.store()?.is_marked_as_moving(base)? {
            true => Err(Error::Migrating),
            false => Ok(()),
        }
    }

    fn run(&self, base: Gfid, command: &Command) -> Result<Done> {
        let (store, options) = (self.state.store()?, self.state.options());
        let mut done = Done::default();
        match command {
            Command::Create(_) if self.state.halves.has(base) => {
                return Err(Error::Unhealed(restore::HALF.into()));
            }
            Command::Create(create) => {
                volume::refuse_quota(self.state.volume_id)?;
                let limits =
                    Limits { max_snapshots: options.max_snapshots.into(), min_free: options.min_free };
                let dated = self.dated(store, base, create)?;
                let take = || store.create(base, &dated, &limits);
                let mut taken = take();
                // Snapshots of a deleted file of this name, which a crash has left where they were.
                if matches!(taken, Err(Error::Exists(_)))
                    && tidy::those_beside(&self.state, &self.entrance, base)
                {
                    taken = take();
                }
                if matches!(taken, Err(Error::Exists(_))) && create.id.is_none() {
                    self.state.doubts.add(base, &create.name);
                }
                let cloned = taken?;
                self.state.counters.cloned(cloned.clone_time);
                if !cloned.marks.is_empty() {
                    done.unsettled = Some(heal::unsettled_mark(cloned.gfid, cloned.marks));
                }
            }
            // Not before a restore is over: a brick may have yet to find its content.
            Command::Delete(_) if self.state.arms.has(base) || store.is_torn(base) => {
                return Err(Error::Restoring);
            }
            Command::Delete(name) if self.file != base => store.delete_by(self.file, name)?,
            Command::Delete(name) => store.delete(base, name)?,
            Command::Restore(name) => {
                volume::allow_direct_restore(&options, self.state.volume_id)?;
                // Being buried is not enough: it may have its name still, or again.
                let time = match store.is_deleted(base) {
                    true => store.revive(base, name, |parent, file| {
                        self.may_appear(store, parent, file)?;
                        store.strip_privileges(base, &self.caller)
                    })?,
                    false => {
                        store.may_restore(base, name)?;
                        store.strip_privileges(base, &self.caller)?;
                        let restored = store.restore(base, name)?;
                        done.size = Some(restored.size);
                        restored.time
                    }
                };
                self.state.counters.cloned(time);
            }
            Command::Hold(name, held) => store.hold(base, name, *held)?,
            Command::Arm(Arming { name, id }) => {
                volume::allow_carried_restore(self.state.volume_id)?;
                // On a distribute volume nothing can make a bare truncate of a carrier: nobody has to be kept away.
                let alone = !volume::is_alone(&options, self.state.volume_id);
                let (by, uid) = (self.by.clone(), self.caller.uid);
                self.state.arms.add(base, Arm { id: *id, by, uid, alone })?;
                // With the setxattr, of which replicate and disperse know who has missed it, not with the carrier alone: a brick that
                // missed that would give them back to the others.
                let armed =
                    store.arm(base, name, *id).and_then(|()| store.strip_privileges(base, &self.caller));
                armed.inspect_err(|_| self.state.arms.remove(base, *id))?;
            }
            Command::Settle(id) => restore::settle(&self.state, base, *id)?,
        }
        tracing::info!("{} {} of {}: done", self.kind, command.subject(), self.shown);
        Ok(done)
    }

    /// A create without a time gets the file's mtime, where no other brick has to come to the same: an arbiter, or a brick
    /// that writes have not reached yet, has another.
    fn dated(&self, store: &Store, base: Gfid, create: &Create) -> Result<Create> {
        let mut create = create.clone();
        if create.created.is_none() && volume::is_alone(&self.state.options(), self.state.volume_id) {
            create.created = store.mtime(base)?;
        }
        Ok(create)
    }

    /// Whether DHT would find a file that comes into being on this brick: it looks for a name on the brick that the
    /// directory's layout gives it, and on others only sometimes.
    fn may_appear(&self, store: &Store, parent: Gfid, name: &[u8]) -> Result<()> {
        match store.layout(parent)? {
            Some(layout) if !layout.has(dht_hash(layout::hashed_part(name))) => Err(Error::unsupported(
                "the file's name belongs to another brick, where it would not be found: copy the snapshot out of .fsnap",
            )),
            _ => Ok(()),
        }
    }

    fn answer(&self, base: Gfid, question: &Question) -> Result<String> {
        let store = self.state.store()?;
        match question {
            Question::List => {
                let snapshots = store.list(base)?;
                self.knows(&snapshots)?;
                Ok(answer::list(&snapshots))
            }
            Question::Info(name) => {
                let snapshot = store.info(base, name)?;
                self.knows(std::slice::from_ref(&snapshot))?;
                Ok(answer::info(&snapshot))
            }
            Question::Status => Ok(self.status()),
            Question::Marks(name) => Ok(answer::marks(&store.marks(base, name)?)),
            Question::Armed => {
                let arms = &self.state.arms;
                Ok(answer::armed(arms.is_taken(base, self.caller.uid), arms.over(base)))
            }
        }
    }

    /// [`Error::Unhealed`] (`EIO`) if other bricks know more than this one: replicate and disperse
    /// then ask the next.
    fn knows(&self, snapshots: &[Snapshot]) -> Result<()> {
        if !snapshots.is_empty() && self.state.host.is_arbiter() {
            return Err(Error::Unhealed("an arbiter knows no sizes".into()));
        }
        let lacks = snapshots.iter().find(|snapshot| snapshot.size.is_none());
        match lacks.filter(|_| volume::has_copies(&self.state.options(), self.state.volume_id)) {
            Some(snapshot) => {
                Err(Error::Unhealed(format!("this brick lacks snapshot {}", snapshot.name).into()))
            }
            None => Ok(()),
        }
    }

    fn status(&self) -> String {
        answer::status(&Status {
            version: answer::VERSION,
            fsnap: env!("CARGO_PKG_VERSION"),
            reflink: self.state.reflink(),
            options: self.state.options().as_ref().clone(),
        })
    }

    /// Counts and logs a refusal; its errno.
    fn refuse(&self, error: Error) -> i32 {
        let errno = error.errno();
        let _ = self.account::<()>(Err(error));
        errno
    }

    /// The same of what a translator above has refused.
    fn refused_above(&self, errno: i32) -> i32 {
        self.refuse(match errno {
            // They have looked for the file in vain.
            libc::ENOENT | libc::ESTALE => Error::Gone,
            0 => Error::RefusedAbove(libc::EIO),
            errno => Error::RefusedAbove(errno),
        })
    }

    /// Counts how it ended, and logs why it did not go well.
    fn account<T>(&self, result: Result<T>) -> std::result::Result<T, i32> {
        self.state.counters.count(self.kind, &result);
        result.map_err(|error| {
            match error.is_fault() {
                true => tracing::error!("{} of {} failed: {error}", self.kind, self.shown),
                false => tracing::warn!("{} of {} refused: {error}", self.kind, self.shown),
            }
            error.errno()
        })
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
