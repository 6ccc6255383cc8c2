//! What a scene could leave behind, and test processes that come to a bad end.

#![allow(dead_code)] // Each test program uses a part of it.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fsnap_testbed::{Scene, wait_until};

/// What identifies a scene after its end.
#[derive(Debug)]
pub struct Trace {
    tag: String,
    /// One of its namespaces, which all of its processes are in. It is held open, because the number of one that is gone is
    /// given to the next.
    namespace: File,
}

impl Trace {
    pub fn of(scene: &Scene) -> Trace {
        Trace::new(scene.tag(), scene.pid())
    }

    pub fn new(tag: &str, pid: u32) -> Trace {
        let namespace = File::open(format!("/proc/{pid}/ns/uts")).expect("the scene's first process");
        Trace { tag: tag.to_owned(), namespace }
    }

    /// Loop devices, image files, mounts and processes of the scene.
    pub fn left(&self) -> Vec<String> {
        let mut left = self.images();
        let mounts = fs::read_to_string("/proc/self/mounts").expect("mount table");
        left.extend(mounts.lines().filter(|line| line.starts_with("fsnap-")).map(str::to_owned));
        left.extend(self.loops());
        left.extend(self.processes());
        left
    }

    pub fn images(&self) -> Vec<String> {
        let files = fs::read_dir(std::env::temp_dir()).expect("temporary files").flatten();
        files.map(|file| file.path().display().to_string()).filter(|name| name.contains(&self.tag)).collect()
    }

    pub fn loops(&self) -> Vec<String> {
        let blocks = fs::read_dir("/sys/block").expect("block devices").flatten();
        let backing = |block: fs::DirEntry| fs::read_to_string(block.path().join("loop/backing_file")).ok();
        blocks.filter_map(backing).filter(|file| file.contains(&self.tag)).collect()
    }

    pub fn processes(&self) -> Vec<String> {
        let ours = self.namespace.metadata().expect("a namespace").ino();
        let entries = fs::read_dir("/proc").expect("processes").flatten();
        let pids = entries
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(|c: char| c.is_ascii_digit()));
        pids.filter(|pid| {
            fs::metadata(pid.path().join("ns/uts")).is_ok_and(|namespace| namespace.ino() == ours)
        })
        .map(|pid| {
            let comm = fs::read_to_string(pid.path().join("comm")).unwrap_or_default();
            format!("process {} {}", pid.path().display(), comm.trim())
        })
        .collect()
    }

    pub fn wait_gone(&self) {
        let mut left = Vec::new();
        let gone = fsnap_testbed::try_wait_until("nothing is left", Duration::from_secs(30), || {
            left = self.left();
            left.is_empty()
        });
        gone.unwrap_or_else(|error| panic!("{error}: {left:?}"));
    }
}

/// Runs the ignored test `name` of this test program in a process of its own.
pub fn helper(name: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("own path"));
    command.args(["--exact", name, "--ignored", "--nocapture", "--test-threads=1"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The helper's side of [`await_scene`].
pub fn report(scene: &Scene) {
    println!("\nscene {} {}", scene.tag(), scene.pid());
}

/// Waits for a helper's report of its scene; returns the trace and the scene's pid.
pub fn await_scene(helper: &mut Child) -> (Trace, u32) {
    let mut stdout = BufReader::new(helper.stdout.take().expect("stdout is a pipe"));
    let mut line = String::new();
    while stdout.read_line(&mut line).expect("a line") > 0 {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let ["scene", tag, pid] = words[..] {
            let pid = pid.parse().expect("a pid");
            // It goes on printing.
            helper.stdout = Some(stdout.into_inner());
            return (Trace::new(tag, pid), pid);
        }
        line.clear();
    }
    panic!("the helper ended without a scene: {:?}", helper.wait());
}

/// Waits for the end of a process that is not a child.
pub fn await_end(pid: u32) {
    wait_until("the process ends", Duration::from_secs(30), || {
        !PathBuf::from(format!("/proc/{pid}")).exists()
    });
}
