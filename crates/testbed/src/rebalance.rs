//! Moving files between bricks.

use std::fs;
use std::ops::Range;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::{Scene, Volume, process, try_wait_until, wait_until};

const DONE_WITHIN: Duration = Duration::from_secs(60);
/// How long after its process has ended a move must be known to have ended.
const HEARD_WITHIN: Duration = Duration::from_secs(15);
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

impl Moved {
    fn has_ended(&self) -> bool {
        !["in progress", "not started"].contains(&self.status.as_str())
    }
}

impl Volume {
    /// Starts a rebalance and waits for its end. `words` come behind `start`, such as `force`.
    ///
    /// # Panics
    /// If glusterd refuses, or if it does not end in time.
    pub fn rebalance(&self, words: &[&str]) -> Moved {
        let command = [&["volume", "rebalance", self.name(), "start"], words].concat();
        self.gluster(command).unwrap_or_else(|error| panic!("{error}"));
        self.await_end(|| self.gluster(["volume", "rebalance", self.name(), "status", "--xml"]).ok())
    }

    /// Starts a rebalance, of a volume on one host.
    ///
    /// # Panics
    /// If glusterd refuses, or no process comes up.
    pub fn begin_rebalance(&self, words: &[&str]) -> Rebalancer {
        let command = [&["volume", "rebalance", self.name(), "start"], words].concat();
        self.gluster(command).unwrap_or_else(|error| panic!("{error}"));
        let mut pid = None;
        wait_until("the rebalance runs", PROCESS_WITHIN, || {
            pid = self.rebalancers().into_iter().find(|&pid| self.is_daemon(pid));
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
        self.await_end(|| self.remove_bricks(which.clone(), "status --xml").ok())
    }

    /// The hosts of the bricks.
    fn hosts(&self) -> Vec<Scene> {
        let mut hosts: Vec<Scene> = self.bricks().into_iter().map(|brick| brick.scene).collect();
        hosts.sort_unstable_by_key(Scene::pid);
        hosts.dedup_by_key(|host| host.pid());
        hosts
    }

    /// Processes that move files, those on their way to become a daemon included.
    fn rebalancers(&self) -> Vec<u32> {
        let all = self.hosts().into_iter().flat_map(|host| process::of_gluster(host.pid()));
        all.filter(|&pid| process::arguments(pid).iter().any(|word| word == "rebalance")).collect()
    }

    /// Whether `pid` is the one that stays, and not one that was to become a daemon and ends: it says so in its pid
    /// file.
    fn is_daemon(&self, pid: u32) -> bool {
        let arguments = process::arguments(pid);
        let file = arguments.iter().skip_while(|word| *word != "--pid-file").nth(1);
        let text = file.and_then(|file| fs::read_to_string(self.brick(0).scene.path(file)).ok());
        text.is_some_and(|text| text.trim().parse().ok() == process::inner_pid(pid))
    }

    /// Waits for the end of a move. glusterd connects to its process and takes the end of the connection for the end of
    /// the move; a process that ends just while glusterd connects, as one does that is refused at its first step, is
    /// not noticed, and then no status is to be had until glusterd is started anew, which starts the move anew
    /// (`__glusterd_defrag_notify`, `glusterd_restart_rebalance`).
    fn await_end(&self, ask: impl Fn() -> Option<String>) -> Moved {
        for _ in 0..3 {
            let mut moved = None;
            let mut alive = Instant::now();
            let ended = try_wait_until("the move has ended", DONE_WITHIN, || {
                if !self.rebalancers().is_empty() {
                    alive = Instant::now();
                }
                moved = ask().as_deref().and_then(read);
                moved.as_ref().is_some_and(Moved::has_ended) || alive.elapsed() > HEARD_WITHIN
            });
            ended.unwrap_or_else(|error| panic!("{error}: {moved:?}"));
            match moved {
                Some(moved) if moved.has_ended() => return moved,
                moved => {
                    eprintln!("glusterd has not heard of the end of a move, it says {moved:?}; once more")
                }
            }
            self.hosts().iter().for_each(Scene::restart_glusterd);
            self.await_bricks();
        }
        panic!("glusterd does not hear of the end of a move");
    }
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
