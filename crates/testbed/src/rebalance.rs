//! Moving files between bricks.

use std::ops::Range;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::{Volume, process, try_wait_until, wait_until};

const DONE_WITHIN: Duration = Duration::from_secs(60);
const PROCESS_WITHIN: Duration = Duration::from_secs(20);

/// The process of a rebalance that was started.
pub struct Rebalancer(u32);

impl Rebalancer {
    /// Stops it where it is, with all that it holds.
    pub fn freeze(&self) {
        process::signal(self.0, Signal::SIGSTOP);
    }

    /// Kills it with SIGKILL, and waits until it is gone.
    pub fn kill(self) {
        process::signal(self.0, Signal::SIGKILL);
        wait_until("the rebalance is dead", PROCESS_WITHIN, || process::is_gone(self.0));
    }
}

/// How a rebalance or a remove-brick has ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Moved {
    /// Files that were moved.
    pub files: u64,
    /// Files that could not be.
    pub failures: u64,
    /// Files that were left where they are; for remove-brick always 0, it counts them as failures.
    pub skipped: u64,
    /// `completed`, `failed` or `stopped`.
    pub status: String,
}

impl Volume {
    /// Starts a rebalance and waits for its end. `words` come behind `start`, such as `force`.
    ///
    /// # Panics
    /// If glusterd refuses, or if it does not end in time.
    pub fn rebalance(&self, words: &[&str]) -> Moved {
        let command = [&["volume", "rebalance", self.name(), "start"], words].concat();
        self.gluster(command).unwrap_or_else(|error| panic!("{error}"));
        await_end(|| self.gluster(["volume", "rebalance", self.name(), "status", "--xml"]).ok())
    }

    /// Starts a rebalance, of a volume on one host.
    ///
    /// # Panics
    /// If glusterd refuses, or no process comes up.
    pub fn begin_rebalance(&self, words: &[&str]) -> Rebalancer {
        let command = [&["volume", "rebalance", self.name(), "start"], words].concat();
        self.gluster(command).unwrap_or_else(|error| panic!("{error}"));
        let member = self.brick(0).scene.pid();
        let mut pid = None;
        wait_until("the rebalance runs", PROCESS_WITHIN, || {
            pid =
                process::of_gluster(member).into_iter().find(|&pid| process::has_argument(pid, "rebalance"));
            pid.is_some()
        });
        Rebalancer(pid.expect("a process"))
    }

    /// Starts to remove the bricks that `which` says, and waits until their files have moved. What is to follow is
    /// [`Volume::remove_bricks`] with `commit` or `stop`.
    ///
    /// # Panics
    /// If glusterd refuses, or if it does not end in time.
    pub fn empty_bricks(&self, which: Range<usize>) -> Moved {
        self.remove_bricks(which.clone(), "start").unwrap_or_else(|error| panic!("{error}"));
        await_end(|| self.remove_bricks(which.clone(), "status --xml").ok())
    }
}

fn await_end(ask: impl Fn() -> Option<String>) -> Moved {
    let mut moved = None;
    let ended = try_wait_until("the move has ended", DONE_WITHIN, || {
        moved = ask().as_deref().and_then(read);
        moved.as_ref().is_some_and(|moved| moved.status != "in progress" && moved.status != "not started")
    });
    ended.unwrap_or_else(|error| panic!("{error}: {moved:?}"));
    moved.expect("a status")
}

/// The sum over all nodes, as `gluster --xml` tells it.
fn read(xml: &str) -> Option<Moved> {
    let (_, sum) = xml.split_once("<aggregate>")?;
    let text = |tag: &str| {
        let (_, rest) = sum.split_once(&format!("<{tag}>"))?;
        rest.split_once('<').map(|(text, _)| text)
    };
    let count = |tag: &str| text(tag)?.parse().ok();
    Some(Moved {
        files: count("files")?,
        failures: count("failures")?,
        skipped: count("skipped")?,
        status: text("statusStr")?.to_owned(),
    })
}
