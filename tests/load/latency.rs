//! How long small writes and reads take, and a file that takes long to clone.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use fsnap_testbed::Errno;

const BLOCK: usize = 4096;
/// `O_DIRECT`: past the caches of the client, to the brick.
const DIRECT: i32 = 0o40000;

/// Fills the file, which is there already, on the brick: every second block is written, so that it has `extents` extents.
/// Through a mount that would take a quarter of a minute for each 100,000.
pub fn fragment(on_brick: &Path, extents: u64) {
    let file = OpenOptions::new().write(true).open(on_brick).expect("the file on the brick");
    let block = [7; BLOCK];
    for n in 0..extents {
        file.write_all_at(&block, 2 * n * BLOCK as u64).expect("a write on the brick");
    }
    file.sync_all().expect("fsync");
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
