//! What somebody asks for, from the check of the request to its answer.

use std::sync::Arc;

use fsnap_core::acl::Caller;
use fsnap_core::answer::{self, Snapshot, Status};
use fsnap_core::command::{Arming, Command, Create, Question};
use fsnap_core::{Error, Gfid, Result, layout};
use fsnap_store::{Limits, Store};

use super::caller::REBALANCE;
use super::instance::Brick;
use super::pool::{Entrance, Key};
use super::restores::Arm;
use super::shared::Shared;
use super::{handles, heal, restore, tidy, volume};
use crate::ffi::{Call, Connection, Inodes, Mark, dht_hash};

/// What a command that is done leaves to do.
#[derive(Default)]
pub struct Done {
    /// What self-heal has to look at.
    pub unsettled: Option<Mark>,
    /// Of a file that was restored: its size.
    pub size: Option<i64>,
}

pub fn command_kind(command: &Command) -> &'static str {
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

pub fn question_kind(question: &Question) -> &'static str {
    match question {
        Question::List => "list",
        Question::Info(_) => "info",
        Question::Status => "status",
        Question::Armed => "armed",
        Question::Deleted => "deleted",
        Question::Marks(_) => "marks",
    }
}

/// One command or question on its way to its answer.
pub struct Order {
    pub state: Arc<Shared>,
    pub kind: &'static str,
    /// What it was set on: a file or one of its snapshots.
    pub file: Gfid,
    /// The same, for the log.
    pub shown: String,
    /// The way to it from the brick's root, if the host tells it.
    pub path: Option<Vec<u8>>,
    pub entrance: Entrance,
    pub by: Connection,
    pub caller: Caller,
}

impl Order {
    pub fn new(brick: &Brick, call: &Call<'_>, kind: &'static str) -> Self {
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
    pub fn base_for_command(&self, call: &Call<'_>, command: &Command) -> Result<Gfid> {
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
            // access-control may remember the rights that a snapshot had when its file was deleted.
            _ if is_snapshot => match self.state.store()?.may_command_snapshots(base, &self.caller) {
                Ok(()) | Err(Error::Gone) => Ok(base),
                Err(error) => Err(error),
            },
            _ => Ok(base),
        }
    }

    /// The file that the question is about; `None` if it is about none.
    pub fn base_for_question(&self, call: &Call<'_>, question: &Question) -> Result<Option<Gfid>> {
        match question {
            Question::Status => Ok(None),
            Question::List | Question::Info(_) | Question::Armed | Question::Deleted | Question::Marks(_) => {
                self.base(call).map(|(base, _)| Some(base))
            }
        }
    }

    pub fn base(&self, call: &Call<'_>) -> Result<(Gfid, bool)> {
        if !self.state.options().enabled {
            return Err(Error::unsupported("fsnap is disabled on this volume (option enabled)"));
        }
        self.state.store()?.base_of(call.gfid())
    }

    /// What nobody else may be at work on: the file, and the name that it gets if it is brought back.
    pub fn keys(&self, base: Gfid, command: &Command) -> Vec<Key> {
        let was = match command {
            Command::Restore(_) => self
                .state
                .store()
                .and_then(|store| store.buried_at(base))
                .ok()
                .flatten()
                .and_then(|was| was.link()),
            _ => None,
        };
        std::iter::once(Key::File(base)).chain(was.map(|was| Key::name(was.parent, &was.name))).collect()
    }

    /// Whether it is deleted, and not there for who asks.
    pub fn is_deleted(&self, base: Gfid) -> bool {
        self.state.store().is_ok_and(|store| store.is_deleted(base)) && !self.is_claimed(base)
    }

    /// Whether who asks is about to bring it back.
    pub fn is_claimed(&self, base: Gfid) -> bool {
        self.state.claims.has_by(base, || self.by.clone())
    }

    /// [`Error::Gone`] (`ESTALE`, upon which the client looks again) if the file was deleted, or brought back, while this waited for
    /// `keys`.
    pub fn run_as_it_was(&self, base: Gfid, command: &Command, keys: &[Key]) -> Result<Done> {
        if self.keys(base, command) != keys {
            return Err(Error::Gone);
        }
        match self.run(base, command) {
            // The handle of a directory above may be gone, or nobody have noted where it is.
            Err(Error::Gone | Error::Damaged(_)) if self.mends_way(base) => self.run(base, command),
            done => done,
        }
    }

    pub fn mends_way(&self, base: Gfid) -> bool {
        let (Ok(store), Some(path)) = (self.state.store(), &self.path) else { return false };
        let mended = handles::mend(store, &self.entrance, path);
        self.file == base && store.note_path(base, path).is_ok_and(|noted| noted) || mended
    }

    /// [`Error::Migrating`] (`EBUSY`) if rebalance is moving the file: it has marked it, and has it open. Its marks alone are what one
    /// that was killed has left. The brick closes what a connection had open when that ends.
    pub fn refuse_moving(&self, base: Gfid, command: &Command, inodes: Option<&Inodes>) -> Result<()> {
        let matters = matches!(command, Command::Create(_) | Command::Restore(_) | Command::Arm(_));
        if !matters || !inodes.is_some_and(|inodes| inodes.is_open_by(base, REBALANCE)) {
            return Ok(());
        }
        match self.state.store()?.is_marked_as_moving(base)? {
            true => Err(Error::Migrating),
            false => Ok(()),
        }
    }

    pub fn run(&self, base: Gfid, command: &Command) -> Result<Done> {
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
                        store.may_make_entry(parent, &self.caller)?;
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
            Command::Arm(_) if self.is_deleted(base) => return Err(Error::Gone),
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
    pub fn dated(&self, store: &Store, base: Gfid, create: &Create) -> Result<Create> {
        let mut create = create.clone();
        if create.created.is_none() && volume::is_alone(&self.state.options(), self.state.volume_id) {
            create.created = store.mtime(base)?;
        }
        Ok(create)
    }

    /// Whether DHT would find a file that comes into being on this brick: it looks for a name on the brick that the
    /// directory's layout gives it, and on others only sometimes.
    pub fn may_appear(&self, store: &Store, parent: Gfid, name: &[u8]) -> Result<()> {
        match store.layout(parent)? {
            Some(layout) if !layout.is_all() && !volume::hashes_as_usual(self.state.volume_id) => {
                Err(Error::unsupported(
                    "DHT hashes names in another way than usual (cluster.extra-hash-regex, cluster.rsync-hash-regex), so this brick can't \
                     tell whether the file would be found here: `fsnap restore` brings it back",
                ))
            }
            Some(layout) if !layout.has(dht_hash(layout::hashed_part(name))) => Err(Error::unsupported(
                "the file's name belongs to another brick, where it would not be found: `fsnap restore` brings it back",
            )),
            _ => Ok(()),
        }
    }

    pub fn answer(&self, base: Gfid, question: &Question) -> Result<String> {
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
            Question::Deleted => {
                store.may_command_snapshots(base, &self.caller)?;
                if self.file == base || !store.is_deleted(base) {
                    return Err(Error::unsupported("this is no snapshot of a deleted file"));
                }
                match self.state.claims.add(base, self.by.clone(), self.caller.uid == 0) {
                    true => Ok(answer::deleted(base)),
                    false => Err(Error::Restoring),
                }
            }
            Question::Armed => {
                let arms = &self.state.arms;
                Ok(answer::armed(arms.is_taken(base, self.caller.uid), arms.over(base)))
            }
        }
    }

    /// [`Error::Unhealed`] (`EIO`) if other bricks know more than this one: replicate and disperse
    /// then ask the next.
    pub fn knows(&self, snapshots: &[Snapshot]) -> Result<()> {
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

    pub fn status(&self) -> String {
        answer::status(&Status {
            version: answer::VERSION,
            fsnap: env!("CARGO_PKG_VERSION"),
            r#type: volume::kind(&self.state.options(), self.state.volume_id),
            reflink: self.state.reflink(),
            options: self.state.options().as_ref().clone(),
        })
    }

    /// Counts and logs a refusal; its errno.
    pub fn refuse(&self, error: Error) -> i32 {
        let errno = error.errno();
        let _ = self.account::<()>(Err(error));
        errno
    }

    /// The same of what a translator above has refused.
    pub fn refused_above(&self, errno: i32) -> i32 {
        self.refuse(match errno {
            // They have looked for the file in vain.
            libc::ENOENT | libc::ESTALE => Error::Gone,
            0 => Error::RefusedAbove(libc::EIO),
            errno => Error::RefusedAbove(errno),
        })
    }

    /// Counts how it ended, and logs why it did not go well.
    pub fn account<T>(&self, result: Result<T>) -> std::result::Result<T, i32> {
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
