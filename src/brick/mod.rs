//! The brick role: `user/fsnap`, directly above storage/posix.
//!
//! One file per concern. The translator holds the store of its brick, runs commands on its own workers, and answers.

mod caller;
mod commands;
mod counters;
mod errand;
mod guard;
mod handles;
mod heal;
mod instances;
mod life;
mod names;
mod namespace;
mod pool;
mod rebalance;
mod restore;
mod volume;

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Instant;

use fsnap_core::options::{NAMES, Options};
use fsnap_core::{Error, Gfid, Result};
use fsnap_store::Store;

use crate::ffi::{Connection, Host, StateDump, role};
use counters::Counters;
use instances::Waiting;
use pool::Pool;

/// One brick's translator.
pub struct Brick {
    state: Arc<Shared>,
    pool: Pool,
    /// Until the brick is this instance's.
    waiting: Waiting,
    /// Files whose catalogue self-heal is about to bring: it has removed the old one, as it believes.
    healing: Mutex<HashSet<Gfid>>,
    /// When it was last tried to finish a restore of each file.
    mended: Mutex<HashMap<Gfid, Instant>>,
}

/// What fops and workers share.
struct Shared {
    host: Host,
    /// The brick's directory.
    directory: PathBuf,
    /// The brick's store, once it could be opened. Without it commands are refused and all else goes on.
    store: OnceLock<Store>,
    opening: Mutex<()>,
    /// Somebody waits for the brick, with that.
    waits: AtomicBool,
    /// The gfid-form of the volume's id, if a glusterd made this brick.
    volume_id: Option<Gfid>,
    options: RwLock<Arc<Options>>,
    counters: Counters,
    doubts: heal::Doubts,
    awaited: heal::Awaited,
    errands: errand::Errands,
    arms: restore::Arms,
    halves: restore::Halves,
}

impl Shared {
    fn options(&self) -> Arc<Options> {
        Arc::clone(&self.options.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Begins a change that takes several calls of the store, or goes on beneath us: until it is dropped nobody else gets the
    /// brick.
    ///
    /// [`Error::Leaving`] (`ENOTCONN`) if the host is about to take this graph apart, or has built the next one.
    fn begin(&self) -> Result<fsnap_store::Change> {
        let store = self.store()?;
        self.leave_in_time();
        store.begin()
    }

    /// Leaves the brick to the next graph, or process, if the host is about to take this one apart.
    fn leave_in_time(&self) {
        if let Some(store) = self.store.get().filter(|_| self.host.is_going()) {
            store.leave();
        }
    }

    /// The store, opened if it is not yet. An error is not for good: the next command tries again.
    fn store(&self) -> Result<&Store> {
        self.open(|| false)
    }

    /// The same. If somebody else is at work on the brick, it waits for as long as `wait` says.
    ///
    /// [`Error::Leaving`] (`ENOTCONN`) after that, or if the host is about to take this graph apart.
    fn open(&self, wait: impl Fn() -> bool) -> Result<&Store> {
        if let Some(store) = self.store.get() {
            return Ok(store);
        }
        if self.waits.load(Ordering::Relaxed) {
            return Err(Error::Leaving);
        }
        let _one = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = self.store.get() {
            return Ok(store);
        }
        // The next one has it already, or is about to.
        if self.host.is_going() {
            return Err(Error::Leaving);
        }
        let waits = || {
            let waits = wait();
            self.waits.store(waits, Ordering::Relaxed);
            waits
        };
        let opened = Store::open_in_time(&self.directory, waits);
        self.waits.store(false, Ordering::Relaxed);
        let store = opened.inspect_err(|why| {
            if *why != Error::Leaving {
                tracing::error!("no snapshots on this brick: {why}");
            }
        })?;
        let half = store.half_restored().inspect_err(|why| {
            tracing::error!(
                "no snapshots on this brick, it can't be told which restores were cut short: {why}"
            )
        })?;
        half.into_iter().for_each(|file| self.halves.add(file, None));
        match store.reflink() {
            true => tracing::info!("fsnap {} is ready", env!("CARGO_PKG_VERSION")),
            false => {
                tracing::warn!("the brick's file system can't share blocks (reflink): no snapshots here")
            }
        }
        Ok(self.store.get_or_init(|| store))
    }

    fn reflink(&self) -> bool {
        self.store.get().is_some_and(Store::reflink)
    }
}

fn read_options(get: &dyn Fn(&str) -> Option<Vec<u8>>) -> Arc<Options> {
    let (options, complaints) = Options::read(get);
    for complaint in complaints {
        tracing::warn!("{complaint}");
    }
    Arc::new(options)
}

impl Drop for Brick {
    fn drop(&mut self) {
        self.waiting.end();
        instances::went(&self.state.directory, self.state.host);
    }
}

impl role::Instance for Brick {
    fn init(host: Host) -> std::result::Result<Self, String> {
        let directory = host.storage_option("directory").ok_or("there is no storage/posix beneath")?;
        let directory = PathBuf::from(OsString::from_vec(directory));
        let volume_id =
            host.storage_option("volume-id").and_then(|id| Gfid::parse(std::str::from_utf8(&id).ok()?).ok());
        let options = RwLock::new(read_options(&|name| host.option(name)));
        let state = Arc::new(Shared {
            host,
            directory,
            store: OnceLock::new(),
            opening: Mutex::default(),
            waits: AtomicBool::default(),
            volume_id,
            options,
            counters: Counters::default(),
            doubts: heal::Doubts::default(),
            awaited: heal::Awaited::default(),
            errands: errand::Errands::default(),
            arms: restore::Arms::default(),
            halves: restore::Halves::default(),
        });
        let pool = Pool::new(move || host.adopt_thread());
        Ok(Brick {
            state,
            pool,
            waiting: Waiting::default(),
            healing: Mutex::default(),
            mended: Mutex::default(),
        })
    }

    fn reconfigure(&self, get: &dyn Fn(&str) -> Option<Vec<u8>>) {
        let options = read_options(get);
        *self.state.options.write().unwrap_or_else(PoisonError::into_inner) = options;
    }

    /// storage/posix has found the brick to be in order: now what a crash interrupted is finished, before clients come.
    fn ready(&self) -> bool {
        self.pool.reopen();
        if !matches!(self.state.store(), Err(Error::Leaving)) {
            // Why it could not be opened is in the log.
            instances::came(&self.state.directory, self.state.host);
            return true;
        }
        if !instances::was_up(&self.state.directory) {
            // Here: as long as this takes the process does not say where it can be reached, and it has let nobody to this brick before.
            if matches!(self.state.open(|| !self.state.host.is_going()), Err(Error::Leaving)) {
                return false;
            }
            instances::came(&self.state.directory, self.state.host);
            return true;
        }
        // Not here: the host keeps all bricks of the process waiting (`volfile_lock`).
        let state = Arc::clone(&self.state);
        self.waiting.start(move |goes_on| {
            state.host.adopt_thread();
            if !matches!(state.open(|| goes_on() && !state.host.is_going()), Err(Error::Leaving)) {
                instances::came(&state.directory, state.host);
                state.host.is_up();
            }
        });
        false
    }

    /// The host lets go of inodes and of storage/posix next.
    fn closing(&self) {
        self.waiting.end();
        self.pool.close();
        self.state.leave_in_time();
    }

    fn disconnected(&self, connection: &Connection) {
        self.state.arms.left(connection);
        self.state.leave_in_time();
    }

    fn dump(&self, out: &mut StateDump) {
        out.line("version", env!("CARGO_PKG_VERSION"));
        out.line("reflink", self.state.reflink());
        let options = serde_json::to_value(&*self.state.options()).unwrap_or_default();
        for name in NAMES {
            if let Some(value) = options.get(name) {
                out.line(&format!("option.{name}"), value);
            }
        }
        let (busy, waiting) = self.pool.load();
        out.line("workers", pool::THREADS);
        out.line("workers.busy", busy);
        out.line("commands.waiting", waiting);
        self.state.counters.dump(out);
    }
}
