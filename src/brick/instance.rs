//! How a brick's translator comes, lives and goes.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use fsnap_core::options::NAMES;
use fsnap_core::{Error, Gfid};

use super::expiry::{self, Looker};
use super::pausing;
use super::pool::{self, Pool};
use super::shared::Shared;
use super::succession::{self, Waiting};
use super::tidy;
use crate::ffi::{Connection, Host, Pauses, StateDump, role};

/// One brick's translator.
pub struct Brick {
    /// What its workers know as well.
    pub state: Arc<Shared>,
    /// Who does what takes time.
    pub pool: Pool,
    /// Who looks which deleted files were kept for long enough.
    looker: Arc<Looker>,
    /// Until the brick is this instance's.
    waiting: Waiting,
    /// Files whose catalogue self-heal is about to bring: it has removed the old one, as it believes.
    pub healing: Mutex<HashSet<Gfid>>,
    /// When it was last tried to finish a restore of each file.
    pub mended: Mutex<HashMap<Gfid, Instant>>,
}

impl Drop for Brick {
    fn drop(&mut self) {
        self.waiting.end();
        succession::went(&self.state.directory, self.state.host);
    }
}

impl role::Pausing for Brick {
    fn pauses(&self) -> &Pauses {
        &self.state.pauses
    }
}

impl role::Instance for Brick {
    fn init(host: Host) -> std::result::Result<Self, String> {
        let directory = host.storage_option("directory").ok_or("there is no storage/posix beneath")?;
        let directory = PathBuf::from(OsString::from_vec(directory));
        let volume_id =
            host.storage_option("volume-id").and_then(|id| Gfid::parse(std::str::from_utf8(&id).ok()?).ok());
        let state = Arc::new(Shared::new(host, directory, volume_id));
        let known = Arc::downgrade(&state);
        let pool = Pool::new(move || host.adopt_thread(), move |keys| tidy::first(&known, keys));
        let (known, entrance) = (Arc::downgrade(&state), (*pool).clone());
        let looker = Arc::new(Looker::default());
        let looks = Arc::clone(&looker);
        state.when_open(move || {
            pausing::start(&known, &entrance);
            tidy::start(&known, &entrance);
            expiry::start(&known, &entrance, &looks);
        });
        Ok(Brick {
            state,
            pool,
            looker,
            waiting: Waiting::default(),
            healing: Mutex::default(),
            mended: Mutex::default(),
        })
    }

    fn reconfigure(&self, get: &dyn Fn(&str) -> Option<Vec<u8>>) {
        self.state.reconfigure(get);
        expiry::restart(&Arc::downgrade(&self.state), &self.pool, &self.looker);
    }

    /// storage/posix has found the brick to be in order: now what a crash interrupted is finished, before clients come.
    fn ready(&self) -> bool {
        self.pool.reopen();
        self.state.begins();
        if !matches!(self.state.store(), Err(Error::Leaving)) {
            // Why it could not be opened is in the log.
            succession::came(&self.state.directory, self.state.host);
            return true;
        }
        if !succession::was_up(&self.state.directory) {
            // Here: as long as this takes the process does not say where it can be reached, and it has let nobody to this brick before.
            if matches!(self.state.open(|| !self.state.host.is_going()), Err(Error::Leaving)) {
                return false;
            }
            succession::came(&self.state.directory, self.state.host);
            return true;
        }
        // Not here: the host keeps all bricks of the process waiting (`volfile_lock`).
        let state = Arc::clone(&self.state);
        self.waiting.start(move |goes_on| {
            state.host.adopt_thread();
            if !matches!(state.open(|| goes_on() && !state.host.is_going()), Err(Error::Leaving)) {
                succession::came(&state.directory, state.host);
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
        self.state.claims.left(connection);
        self.state.upcalls.left(connection);
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
        let untidied = self.state.store.get().map_or(0, |store| store.untidied().len());
        out.line("fops.held", self.state.pauses.held());
        out.line("deleted.to_look_at", untidied);
        self.state.counters.dump(out);
    }
}
