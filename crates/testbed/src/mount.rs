//! FUSE mounts.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::logs::LOG_DIR;
use crate::wait::try_wait_until;
use crate::{Scene, process, run, wait_until};

const ANSWER_WITHIN: Duration = Duration::from_secs(60);
const END_WITHIN: Duration = Duration::from_secs(5);

/// A mounted GlusterFS client. Dropping it unmounts and waits for the client's end, which an open file delays.
pub struct Mount {
    at: PathBuf,
    pid: u32,
    scene: Scene,
}

impl Mount {
    /// Runs `glusterfs ARGS AT` and waits until the mount answers.
    pub(crate) fn new(scene: &Scene, args: &[OsString], at: &Path) -> Mount {
        Self::under(scene, &[], args, at)
    }

    /// The same, run by the command `tool`, if that has a word.
    pub(crate) fn under(scene: &Scene, tool: &[OsString], args: &[OsString], at: &Path) -> Mount {
        let name = at.display().to_string().trim_start_matches('/').replace('/', "-");
        let pid_file = format!("/run/private/{name}.pid");
        let point = scene.path(at);
        fs::create_dir_all(&point).expect("cannot make a mount point");
        let below = fs::metadata(&point).expect("a mount point").dev();
        let words = [tool, &["glusterfs".into()]].concat();
        let mut command = scene.command(&words[0]);
        command.args(&words[1..]).args(args);
        command.arg(format!("--log-file={LOG_DIR}/{name}.log")).arg(format!("--pid-file={pid_file}")).arg(at);
        if !tool.is_empty() {
            // Valgrind keeps its output open, and we would wait for its end.
            command.stdout(Stdio::null()).stderr(Stdio::null());
        }
        run(&mut command);
        wait_until(&format!("the mount at {} answers", at.display()), ANSWER_WITHIN, || {
            fs::metadata(&point).is_ok_and(|root| root.dev() != below)
        });
        let inner = fs::read_to_string(scene.path(&pid_file)).expect("the client wrote no pid file");
        let inner = inner.trim().parse().expect("a pid");
        let pid = scene.outer_pid(inner).expect("the client's process is gone");
        Mount { at: at.to_owned(), pid, scene: scene.clone() }
    }

    /// Where the volume is mounted, as seen inside the scene.
    pub fn at(&self) -> &Path {
        &self.at
    }

    /// Where the test process finds the mount's root.
    pub fn path(&self) -> PathBuf {
        self.scene.path(&self.at)
    }

    /// The client's pid, as the test process sees it.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The client answers nobody until the guard is dropped.
    pub fn freeze(&self) -> impl Drop {
        process::signal(self.pid, Signal::SIGSTOP);
        Frozen(self.pid)
    }

    /// Unmounts, and waits until the client has ended.
    ///
    /// # Panics
    /// If it does not end within `within`, for example because a file on it is open.
    pub fn end(self, within: Duration) {
        run(self.scene.command("umount").arg(&self.at));
        let what = format!("the client of {} ends", self.at.display());
        wait_until(&what, within, || process::is_gone(self.pid));
    }

    /// How many bricks this client is connected to.
    pub fn connected(&self) -> usize {
        let graph = self.path().join(".meta/graphs/active");
        let translators = fs::read_dir(graph).into_iter().flatten().flatten();
        translators
            .filter(|translator| {
                fs::read_to_string(translator.path().join("type"))
                    .is_ok_and(|kind| kind.trim() == "protocol/client")
                    && fs::read_to_string(translator.path().join("private"))
                        .is_ok_and(|state| state.lines().any(|line| line == "connected = 1"))
            })
            .count()
    }

    /// Waits until this client is connected to exactly `bricks` bricks.
    ///
    /// # Panics
    /// If that does not happen in time.
    pub fn wait_connected(&self, bricks: usize) {
        let what = format!("the mount at {} is connected to {bricks} bricks", self.at.display());
        wait_until(&what, ANSWER_WITHIN, || self.connected() == bricks);
    }
}

struct Frozen(u32);

impl Drop for Frozen {
    fn drop(&mut self) {
        process::signal(self.0, Signal::SIGCONT);
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = self.scene.command("umount").arg("-l").arg(&self.at).output();
        let gone = try_wait_until("the client ends", END_WITHIN, || process::is_gone(self.pid));
        if gone.is_err() {
            eprintln!("the client of {} outlives its mount (is a file on it still open?)", self.at.display());
        }
    }
}
