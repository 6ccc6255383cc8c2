//! Processes of a scene, seen from outside.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait::wait_until;

const DUMP_WITHIN: Duration = Duration::from_secs(30);

/// Whether `pid` is there and not a zombie.
pub(crate) fn exists(pid: u32) -> bool {
    status_field(pid, "State:").is_some_and(|state| !state.starts_with(['Z', 'X']))
}

/// Whether nothing is left of `pid`. A zombie is not enough: its other threads may still close their files.
pub(crate) fn is_gone(pid: u32) -> bool {
    !Path::new(&format!("/proc/{pid}")).exists()
}

/// Whether `pid` has something open at or below `dir`, an absolute path of its own.
pub(crate) fn has_open(pid: u32, dir: &Path) -> bool {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    files.filter_map(|file| fs::read_link(file.path()).ok()).any(|file| file.starts_with(dir))
}

/// The process that is `inner` in the pid namespace of `member`, by the caller's pid.
pub(crate) fn outer_pid(member: u32, inner: u32) -> Option<u32> {
    all().find(|&pid| inner_pid(pid) == Some(inner) && share_namespace(pid, member) && exists(pid))
}

/// The processes of GlusterFS in the pid namespace of `member`, by the caller's pids.
pub(crate) fn of_gluster(member: u32) -> Vec<u32> {
    let is_gluster = |pid: u32| {
        fs::read_to_string(format!("/proc/{pid}/comm"))
            .is_ok_and(|name| name.starts_with("gluster") || name.starts_with("glfs"))
    };
    all().filter(|&pid| is_gluster(pid) && share_namespace(pid, member)).collect()
}

/// The arguments that `pid` was started with, from its program's name on.
pub(crate) fn arguments(pid: u32) -> Vec<String> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|&byte| byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

fn all() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Whether both live and are in one pid namespace.
fn share_namespace(one: u32, other: u32) -> bool {
    let namespace = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    namespace(one).is_some_and(|of| namespace(other) == Some(of))
}

/// The pid that `pid` has in its own, innermost pid namespace.
pub(crate) fn inner_pid(pid: u32) -> Option<u32> {
    status_field(pid, "NSpid:")?.split_whitespace().last()?.parse().ok()
}

/// Sends a signal to a process that may have ended.
pub(crate) fn signal_if_there(pid: u32, signal: Signal) {
    let _ = kill(Pid::from_raw(pid.try_into().expect("a pid fits")), signal);
}

pub(crate) fn signal(pid: u32, signal: Signal) {
    let target = Pid::from_raw(pid.try_into().expect("a pid fits"));
    kill(target, signal).unwrap_or_else(|errno| panic!("cannot send {signal} to process {pid}: {errno}"));
}

/// The text of a new statedump of `pid`, which writes it to `dir`.
pub(crate) fn statedump(dir: &Path, pid: u32) -> String {
    let inner = inner_pid(pid).unwrap_or_else(|| panic!("process {pid} is gone: no statedump"));
    // Dumps of one second share a name.
    for old in dumps(dir, inner) {
        fs::remove_file(&old).expect("cannot remove an old statedump");
    }
    signal(pid, Signal::SIGUSR1);
    let mut text = String::new();
    wait_until(&format!("process {pid} has written a statedump to {}", dir.display()), DUMP_WITHIN, || {
        let Some(dump) = dumps(dir, inner).pop() else { return false };
        text = fs::read(dump).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        text.contains("DUMP-END-TIME")
    });
    text
}

fn dumps(dir: &Path, inner: u32) -> Vec<PathBuf> {
    let mark = format!(".{inner}.dump.");
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_name().to_string_lossy().contains(&mark)).map(|e| e.path()).collect()
}

fn status_field(pid: u32, name: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned())
}
