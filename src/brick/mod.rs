//! The brick role: `user/fsnap`, directly above storage/posix.
//!
//! One file per concern. The translator holds the store of its brick, runs commands on its own workers, and answers.

mod commands;
mod counters;
mod namespace;
mod pool;
mod volume;

use std::ffi::{CStr, OsString};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use fsnap_core::options::{NAMES, Options};
use fsnap_core::{Gfid, Result};
use fsnap_store::Store;

use crate::ffi::{Call, Dict, GetReply, Host, SetReply, StateDump, Translator};
use counters::Counters;
use pool::Pool;

/// One brick's translator.
pub struct Brick {
    state: Arc<State>,
    pool: Pool,
}

/// What fops and workers share.
struct State {
    host: Host,
    /// The brick's directory.
    directory: PathBuf,
    /// The brick's store, or why there is none; then commands are refused and all else goes on. Opened at the start, so
    /// that what a crash interrupted is finished before the first fop; on a brick that storage/posix, which starts
    /// after us, has yet to set up there is nothing to finish, and it is opened when it is needed.
    store: OnceLock<Result<Store>>,
    /// The gfid-form of the volume's id, if a glusterd made this brick.
    volume_id: Option<Gfid>,
    options: RwLock<Arc<Options>>,
    counters: Counters,
}

impl State {
    fn options(&self) -> Arc<Options> {
        Arc::clone(&self.options.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn store(&self) -> Result<&Store> {
        self.store.get_or_init(|| open(&self.directory)).as_ref().map_err(Clone::clone)
    }

    fn reflink(&self) -> bool {
        self.store().is_ok_and(Store::reflink)
    }
}

fn open(directory: &Path) -> Result<Store> {
    let store = Store::open(directory);
    match &store {
        Ok(store) if store.reflink() => tracing::info!("fsnap {} is ready", env!("CARGO_PKG_VERSION")),
        Ok(_) => tracing::warn!("the brick's file system can't share blocks (reflink): no snapshots here"),
        Err(why) => tracing::error!("no snapshots on this brick: {why}"),
    }
    store
}

fn read_options(get: &dyn Fn(&str) -> Option<Vec<u8>>) -> Arc<Options> {
    let (options, complaints) = Options::read(get);
    for complaint in complaints {
        tracing::warn!("{complaint}");
    }
    Arc::new(options)
}

impl Translator for Brick {
    fn init(host: Host) -> std::result::Result<Self, String> {
        let directory = host.storage_option("directory").ok_or("there is no storage/posix beneath")?;
        let directory = PathBuf::from(OsString::from_vec(directory));
        let volume_id =
            host.storage_option("volume-id").and_then(|id| Gfid::parse(std::str::from_utf8(&id).ok()?).ok());
        let options = RwLock::new(read_options(&|name| host.option(name)));
        let (store, counters) = (OnceLock::new(), Counters::default());
        let state = Arc::new(State { host, directory, store, volume_id, options, counters });
        if state.directory.join(".glusterfs").exists() {
            let _ = state.store();
        }
        Ok(Brick { state, pool: Pool::new(move || host.adopt_thread()) })
    }

    fn reconfigure(&self, get: &dyn Fn(&str) -> Option<Vec<u8>>) {
        let options = read_options(get);
        *self.state.options.write().unwrap_or_else(PoisonError::into_inner) = options;
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
        out.line("workers", pool::WORKERS);
        out.line("workers.busy", busy);
        out.line("commands.waiting", waiting);
        self.state.counters.dump(out);
    }

    fn set(&self, call: &Call<'_>, dict: Dict<'_>, reply: SetReply) -> Option<SetReply> {
        commands::set(self, call, dict, reply)
    }

    fn get(&self, call: &Call<'_>, key: &CStr, reply: GetReply) -> Option<GetReply> {
        commands::get(self, call, key, reply)
    }

    fn lookup(&self, call: &Call<'_>, parent: Gfid, name: &CStr) -> Option<i32> {
        namespace::lookup(&self.state, call, parent, name)
    }

    fn hidden(&self, call: &Call<'_>) -> Option<&'static CStr> {
        namespace::hidden(call)
    }
}
