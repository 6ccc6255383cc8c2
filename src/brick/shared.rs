//! What fops and workers of a brick share.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use fsnap_core::options::Options;
use fsnap_core::{Error, Gfid, Result};
use fsnap_store::Store;

use super::claims::Claims;
use super::counters::Counters;
use super::paths::Paths;
use super::restores::{Arms, Halves};
use super::sent::Sent;
use super::sent_on::SentOn;
use super::upcalls::Upcalls;
use super::wanted::{Awaited, Doubts};
use crate::ffi::{Host, Pauses};

/// What fops and workers share.
pub struct Shared {
    pub host: Host,
    /// The brick's directory.
    pub directory: PathBuf,
    /// The brick's store, once it could be opened. Without it commands are refused and all else goes on.
    pub store: OnceLock<Store>,
    opening: Mutex<()>,
    /// Somebody waits for the brick, with that.
    waits: AtomicBool,
    /// What begins when the store is open.
    opened: OnceLock<Box<dyn Fn() + Send + Sync>>,
    /// The gfid-form of the volume's id, if a glusterd made this brick.
    pub volume_id: Option<Gfid>,
    options: RwLock<Arc<Options>>,
    pub counters: Counters,
    pub paths: Arc<Paths>,
    pub doubts: Doubts,
    pub awaited: Awaited,
    pub errands: Sent,
    pub arms: Arms,
    pub halves: Halves,
    pub sent_on: SentOn,
    pub pauses: Pauses,
    pub claims: Claims,
    pub upcalls: Arc<Upcalls>,
}

impl Shared {
    pub fn new(host: Host, directory: PathBuf, volume_id: Option<Gfid>) -> Self {
        Shared {
            host,
            directory,
            store: OnceLock::new(),
            opening: Mutex::default(),
            waits: AtomicBool::default(),
            opened: OnceLock::new(),
            volume_id,
            options: RwLock::new(read_options(&|name| host.option(name))),
            counters: Counters::default(),
            paths: Arc::default(),
            doubts: Doubts::default(),
            awaited: Awaited::default(),
            errands: Sent::default(),
            arms: Arms::default(),
            halves: Halves::default(),
            sent_on: SentOn::default(),
            pauses: Pauses::default(),
            claims: Claims::default(),
            upcalls: Arc::default(),
        }
    }

    /// Takes over changed options. `get` finds them by name.
    pub fn reconfigure(&self, get: &dyn Fn(&str) -> Option<Vec<u8>>) {
        *self.options.write().unwrap_or_else(PoisonError::into_inner) = read_options(get);
    }

    pub fn options(&self) -> Arc<Options> {
        Arc::clone(&self.options.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Begins a change that takes several calls of the store, or goes on beneath us: until it is dropped nobody else gets the
    /// brick.
    ///
    /// [`Error::Leaving`] (`ENOTCONN`) if the host is about to take this graph apart, or has built the next one.
    pub fn begin(&self) -> Result<fsnap_store::Change> {
        let store = self.store()?;
        self.leave_in_time();
        store.begin()
    }

    /// Leaves the brick to the next graph, or process, if the host is about to take this one apart.
    pub fn leave_in_time(&self) {
        if let Some(store) = self.store.get().filter(|_| self.host.is_going()) {
            store.leave();
        }
    }

    /// The store, opened if it is not yet. An error is not for good: the next command tries again.
    pub fn store(&self) -> Result<&Store> {
        self.open(|| false)
    }

    /// The same. If somebody else is at work on the brick, it waits for as long as `wait` says.
    ///
    /// [`Error::Leaving`] (`ENOTCONN`) after that, or if the host is about to take this graph apart.
    pub fn open(&self, wait: impl Fn() -> bool) -> Result<&Store> {
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
        let (host, upcalls) = (self.host, Arc::clone(&self.upcalls));
        store.tells(move |notice| upcalls.tell(host, notice));
        let store = self.store.get_or_init(|| store);
        self.begins();
        Ok(store)
    }

    /// `begin` is to run once the store is open.
    pub fn when_open(&self, begin: impl Fn() + Send + Sync + 'static) {
        let _ = self.opened.set(Box::new(begin));
    }

    /// Begins what is to begin, once more.
    pub fn begins(&self) {
        if let Some(begin) = self.opened.get() {
            begin();
        }
    }

    pub fn reflink(&self) -> bool {
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
