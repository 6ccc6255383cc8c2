//! The process that holds a scene's namespaces, and its end.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::wait::try_wait_until;
use crate::{logs, process};

const SETUP: &str = include_str!("holder.sh");
/// Dropping the last reference to a file system writes its dirty pages back.
const END_WITHIN: Duration = Duration::from_secs(60);

/// Owner of one scene's namespaces: they end when this is dropped, or when the test process ends. Those of a container are
/// not ours to end.
pub(crate) struct Holder {
    unshare: Option<Child>,
    /// The write end of the pipe that the first process of the scene reads. Nobody writes: it is there to be closed.
    lifeline: Option<ChildStdin>,
    pid: AtomicU32,
    tag: String,
    keep: bool,
    images: AtomicU32,
}

impl Holder {
    pub(crate) fn spawn() -> Holder {
        static SCENES: AtomicU32 = AtomicU32::new(0);
        assert!(
            nix::unistd::geteuid().is_root(),
            "the testbed makes namespaces and loop devices: it needs root"
        );
        let tag = format!("fsnap-scene-{}-{}", std::process::id(), SCENES.fetch_add(1, Ordering::Relaxed));
        let keep = std::env::var_os("FSNAP_KEEP").is_some_and(|v| !v.is_empty() && v != "0");
        let mut unshare = Command::new("unshare")
            .args(["-m", "-n", "-p", "-u", "-i", "-f", "--kill-child", "--propagation", "private"])
            .args(["sh", "-c", SETUP, "fsnap-scene"])
            .arg(image_prefix(&tag))
            .arg(if keep { "keep" } else { "end" })
            .env("PATH", search_path())
            .current_dir("/")
            .stdin(if keep { Stdio::null() } else { Stdio::piped() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Out of the terminal's foreground group: Ctrl-C ends the test process, and the pipe ends us.
            .process_group(0)
            .spawn()
            .expect("cannot run unshare (util-linux)");
        let lifeline = unshare.stdin.take();
        let pid = await_ready(&mut unshare);
        if keep {
            eprintln!("FSNAP_KEEP: scene {tag} stays. Enter: nsenter -t {pid} -a    End: kill -9 {pid}");
        }
        let unshare = Some(unshare);
        Holder { unshare, lifeline, pid: AtomicU32::new(pid), tag, keep, images: AtomicU32::new(0) }
    }

    /// A container that runs, by its name and the pid of its first process.
    pub(crate) fn of_container(name: &str, pid: u32) -> Holder {
        let (tag, pid) = (name.to_owned(), AtomicU32::new(pid));
        Holder { unshare: None, lifeline: None, pid, tag, keep: false, images: AtomicU32::new(0) }
    }

    /// The scene's first process, by the pid that the test process sees.
    pub(crate) fn pid(&self) -> u32 {
        self.pid.load(Ordering::SeqCst)
    }

    /// The first process is another one by now; 0: there is none.
    pub(crate) fn set_pid(&self, pid: u32) {
        self.pid.store(pid, Ordering::SeqCst);
    }

    pub(crate) fn tag(&self) -> &str {
        &self.tag
    }

    /// A name for one more disk image. The holder removes what has such a name when it ends.
    pub(crate) fn next_image(&self) -> PathBuf {
        let mut name = image_prefix(&self.tag).into_os_string();
        name.push(format!("{}.img", self.images.fetch_add(1, Ordering::Relaxed)));
        name.into()
    }

    pub(crate) fn root(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.pid()))
    }

    /// A command inside the namespaces, behind setpriv with `privileges`. It dies with the process that waits for it.
    pub(crate) fn command(&self, privileges: &[String], program: &OsStr) -> Command {
        let mut command = Command::new("nsenter");
        command.arg("-t").arg(self.pid().to_string()).args(["-m", "-n", "-p", "-u", "-i", "--"]);
        command.args(["setpriv", "--pdeathsig", "KILL"]).args(privileges).arg("--").arg(program);
        command.env("PATH", search_path()).stdin(Stdio::null());
        command
    }

    fn end(&mut self) {
        drop(self.lifeline.take());
        let Some(unshare) = &mut self.unshare else { return };
        let ended = try_wait_until("the scene's first process ends", END_WITHIN, || {
            unshare.try_wait().is_ok_and(|status| status.is_some())
        });
        if let Err(error) = ended {
            eprintln!("{}: {error}; killing it", self.tag);
            // unshare --kill-child: the first process goes with it.
            let _ = unshare.kill();
            let _ = unshare.wait();
        }
        let freed =
            try_wait_until("its loop devices are free (is a file on them still open?)", END_WITHIN, || {
                loop_devices(&self.tag).is_empty()
            });
        if let Err(error) = freed {
            eprintln!("{}: {error}", self.tag);
        }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        if std::thread::panicking() {
            logs::print_tails(&self.root());
        }
        if self.keep {
            eprintln!("FSNAP_KEEP: enter with nsenter -t {0} -a    end with kill -9 {0}", self.pid());
        } else {
            self.end();
        }
    }
}

/// Reads the pid that the holder reports, or panics with what it said instead.
fn await_ready(unshare: &mut Child) -> u32 {
    let mut line = String::new();
    let stdout = unshare.stdout.take().expect("stdout is a pipe");
    let _ = BufReader::new(stdout).read_line(&mut line);
    if let Some(pid) = line.strip_prefix("ready ").and_then(|pid| pid.trim().parse().ok()) {
        assert!(process::exists(pid), "the scene's first process {pid} is not to be seen in /proc");
        return pid;
    }
    let mut complaint = String::new();
    if let Some(mut stderr) = unshare.stderr.take() {
        let _ = stderr.read_to_string(&mut complaint);
    }
    let status = unshare.wait();
    panic!("the scene could not be set up ({status:?}): {line}{complaint}");
}

/// The loop devices over disk images of the scene `tag`.
fn loop_devices(tag: &str) -> Vec<PathBuf> {
    let prefix = image_prefix(tag);
    let prefix = prefix.to_string_lossy();
    let Ok(blocks) = fs::read_dir("/sys/block") else { return Vec::new() };
    blocks
        .flatten()
        .filter(|block| {
            fs::read_to_string(block.path().join("loop/backing_file"))
                .is_ok_and(|file| file.starts_with(prefix.as_ref()))
        })
        .map(|block| PathBuf::from("/dev").join(block.file_name()))
        .collect()
}

fn image_prefix(tag: &str) -> PathBuf {
    std::env::temp_dir().join(format!("{tag}-"))
}

/// The caller's PATH with the directories of the administrator's tools.
fn search_path() -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    format!("{path}:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin")
}
