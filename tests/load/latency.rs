//! How long small writes and reads take, and a file that takes long to clone.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fsnap_testbed::{Errno, Scene, fill, run};

use super::Rng;

const BLOCK: usize = 4096;
/// `O_DIRECT`: past the caches of the client, to the brick.
const DIRECT: i32 = 0o40000;

/// Gives the empty file `file` on the root of a disk's brick (a path inside the scene) `extents` extents of 4 KiB, by sharing
/// blocks of another file in descending order. Written block by block through a mount it would take a quarter of a minute
/// for 100,000, and the disk's image would be in as many pieces.
pub fn fragment(scene: &Scene, file: &Path, extents: u64) {
    let blocks = (extents / 4).max(1);
    let source = file.with_file_name("../fragments");
    fill(scene.path(&source), blocks * BLOCK as u64, 1);
    let line = |n: u64| {
        let (from, to) = ((blocks - 1 - n % blocks) * BLOCK as u64, n * BLOCK as u64);
        format!("reflink -q {} {from} {to} {BLOCK}\n", source.display())
    };
    std::fs::write(scene.path("/run/private/reflink"), (0..extents).map(line).collect::<String>())
        .expect("a script");
    let script = r#"xfs_io -f "$0" </run/private/reflink >/dev/null && rm "$1" && sync -f "$0""#;
    run(scene.command("sh").args(["-c", script]).args([file, &source]));
}

/// What each operation took, sorted.
#[derive(Default)]
pub struct Times(Vec<Duration>);

impl Times {
    pub fn count(&self) -> usize {
        self.0.len()
    }

    pub fn max(&self) -> Duration {
        self.0.last().copied().unwrap_or_default()
    }

    /// What so many of a thousand took at most.
    pub fn permille(&self, of: usize) -> Duration {
        self.0.get(self.0.len() * of / 1000).copied().unwrap_or_default()
    }
}

/// A page-aligned buffer, as `O_DIRECT` wants it.
#[repr(align(4096))]
struct Page([u8; BLOCK]);

/// Small writes, each with an fsync, and small reads on one file through a mount.
pub struct Probe {
    file: File,
    turn: u64,
}

/// What [`Probe::run`] measured.
#[derive(Default)]
pub struct Measured {
    pub writes: Times,
    pub reads: Times,
}

impl Probe {
    pub fn new(path: &Path) -> Probe {
        std::fs::write(path, vec![1; 1 << 20]).expect("a small file");
        let file = OpenOptions::new().read(true).write(true).custom_flags(DIRECT).open(path);
        Probe { file: file.expect("O_DIRECT"), turn: 0 }
    }

    fn once(&mut self) -> io::Result<(Duration, Duration)> {
        self.turn += 1;
        let at = self.turn * 13 % 256 * BLOCK as u64;
        let mut page = Box::new(Page([self.turn as u8; BLOCK]));
        let start = Instant::now();
        self.file.write_all_at(&page.0, at)?;
        self.file.sync_data()?;
        let written = start.elapsed();
        let start = Instant::now();
        self.file.read_exact_at(&mut page.0, at)?;
        Ok((written, start.elapsed()))
    }

    /// Writes and reads until `done`.
    pub fn run(&mut self, mut done: impl FnMut() -> bool) -> Measured {
        let mut measured = Measured::default();
        while !done() {
            let (written, read) = self.once().expect("a write and a read");
            measured.writes.0.push(written);
            measured.reads.0.push(read);
        }
        measured.writes.0.sort();
        measured.reads.0.sort();
        measured
    }

    /// The same for as long as `act` takes; and how long that was.
    pub fn during(&mut self, act: impl FnOnce() -> Result<(), Errno> + Send) -> (Measured, Duration) {
        std::thread::scope(|scope| {
            let actor = scope.spawn(|| {
                let start = Instant::now();
                act().expect("the command");
                start.elapsed()
            });
            let measured = self.run(|| actor.is_finished());
            (measured, actor.join().expect("the actor"))
        })
    }
}

/// Somebody who writes to blocks of a file, here and there, as quickly as the mount takes it: performance/write-behind sends many
/// at once, more than a brick has threads.
pub struct Hammer {
    stop: Arc<AtomicBool>,
    hand: JoinHandle<HashMap<u64, u64>>,
}

impl Hammer {
    pub fn start(path: PathBuf, blocks: u64) -> Hammer {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let hand = std::thread::spawn(move || {
            let file = OpenOptions::new().write(true).open(path).expect("a file");
            let (mut rng, mut last, mut turn) = (Rng::new(blocks), HashMap::new(), 0);
            while !seen.load(Ordering::Relaxed) {
                turn += 1;
                let at = rng.below(blocks);
                let mut block = [turn as u8; BLOCK];
                block[..8].copy_from_slice(&u64::to_le_bytes(turn));
                file.write_all_at(&block, at * BLOCK as u64).expect("a write");
                last.insert(at, turn);
            }
            file.sync_data().expect("an fsync");
            last
        });
        Hammer { stop, hand }
    }

    /// What it has written last, to each block.
    pub fn stop(self) -> HashMap<u64, u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.hand.join().expect("a writer")
    }
}

/// Sees to it that the file has what was written last.
pub fn check_written(path: &Path, written: &HashMap<u64, u64>) {
    let file = File::open(path).expect("a file");
    for (at, turn) in written {
        let mut block = [0; BLOCK];
        file.read_exact_at(&mut block, at * BLOCK as u64).expect("a read");
        let (begin, rest) = block.split_at(8);
        assert_eq!((begin, rest[0]), (&u64::to_le_bytes(*turn)[..], *turn as u8), "block {at}");
        assert!(rest.iter().all(|byte| *byte == rest[0]), "block {at} has parts of two");
    }
}

/// The figures of both, for people.
pub fn table(quiet: &Measured, busy: &Measured) -> String {
    let mut lines = vec![format!("{:<34}{:>8}{:>12}{:>12}{:>12}", "", "count", "p50", "p99", "max")];
    for (what, times) in [
        ("4 KiB write and fsync, no clone", &quiet.writes),
        ("4 KiB write and fsync, clone runs", &busy.writes),
        ("4 KiB read, no clone", &quiet.reads),
        ("4 KiB read, clone runs", &busy.reads),
    ] {
        let [p50, p99, max] = [times.permille(500), times.permille(990), times.max()]
            .map(|time| format!("{:.2} ms", time.as_secs_f64() * 1e3));
        lines.push(format!("{what:<34}{:>8}{p50:>12}{p99:>12}{max:>12}", times.count()));
    }
    lines.join("\n")
}
