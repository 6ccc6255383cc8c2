//! A file whose every block tells when it was written, and what that says about its snapshots.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use fsnap_testbed::Errno;

use super::{Rng, lock, raw};

/// Goes to the brick in one piece.
pub const BLOCK: usize = 64 << 10;
pub const BLOCKS: usize = 24;

/// The version of each block.
pub type State = [u64; BLOCKS];

#[derive(Default)]
struct Progress {
    begun: [AtomicU64; BLOCKS],
    synced: Mutex<State>,
    stop: AtomicBool,
}

/// Someone who writes a file over and over, block by block, and fsyncs after each round.
pub struct Writer {
    progress: Arc<Progress>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// The first round is written and synced when this returns.
    pub fn start(path: PathBuf) -> Writer {
        let file = OpenOptions::new().create(true).write(true).truncate(true).open(path).expect("a new file");
        let progress = Arc::new(Progress::default());
        progress.round(&file, 1);
        let theirs = Arc::clone(&progress);
        let thread = std::thread::spawn(move || {
            for version in 2.. {
                if theirs.stop.load(Ordering::Relaxed) {
                    break;
                }
                theirs.round(&file, version);
            }
        });
        Writer { progress, thread: Some(thread) }
    }

    /// What is on the brick for certain.
    pub fn synced(&self) -> State {
        *lock(&self.progress.synced)
    }

    /// What may be.
    pub fn begun(&self) -> State {
        std::array::from_fn(|n| self.progress.begun[n].load(Ordering::SeqCst))
    }

    /// How many rounds there were.
    pub fn stop(mut self) -> u64 {
        self.end();
        self.synced()[0]
    }

    fn end(&mut self) {
        self.progress.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the writer panicked");
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // What hangs ends with the scene, and not before: who panics must not wait for it.
        if !std::thread::panicking() {
            self.end();
        }
    }
}

impl Progress {
    /// The order changes, or a snapshot in the middle would always show new blocks before old ones.
    fn round(&self, file: &File, version: u64) {
        for step in 0..BLOCKS {
            let n = (step * 7 + version as usize) % BLOCKS;
            self.begun[n].store(version, Ordering::SeqCst);
            let block = version.to_le_bytes().repeat(BLOCK / 8);
            file.write_all_at(&block, (n * BLOCK) as u64).expect("a write");
        }
        file.sync_data().expect("fsync");
        *lock(&self.synced) = [version; BLOCKS];
    }
}

/// The versions of the blocks. Panics over a file of another length, or a block of two versions.
pub fn read(path: &Path) -> Result<State, Errno> {
    let bytes = raw(std::fs::read(path))?;
    assert_eq!(bytes.len(), BLOCK * BLOCKS, "{}", path.display());
    let mut state = [0; BLOCKS];
    for (block, version) in bytes.chunks(BLOCK).zip(&mut state) {
        let mut words = block.chunks(8).map(|word| u64::from_le_bytes(word.try_into().expect("8 bytes")));
        *version = words.next().expect("a block has words");
        assert!(words.all(|word| word == *version), "{}: a block of two versions", path.display());
    }
    Ok(state)
}

/// Whether a snapshot is what promise 5 of docs/semantics.md says, given what was synced before and begun after.
#[track_caller]
pub fn check(snapshot: &State, synced: &State, begun: &State) {
    for (n, version) in snapshot.iter().enumerate() {
        assert!(
            (synced[n]..=begun[n]).contains(version),
            "block {n} has version {version}; {} was synced before, {} begun after",
            synced[n],
            begun[n]
        );
    }
}

/// Threads that read snapshots while these are deleted.
pub struct Readers {
    known: Arc<Mutex<Vec<(String, State)>>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<(u64, u64)>>,
}

impl Readers {
    /// `count` readers of snapshots of `f` in the directory `inside`.
    pub fn start(inside: &Path, count: u64) -> Readers {
        let known: Arc<Mutex<Vec<(String, State)>>> = Arc::default();
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..count).map(|who| {
            let (known, stop, inside) = (Arc::clone(&known), Arc::clone(&stop), inside.to_owned());
            std::thread::spawn(move || {
                let (mut rng, mut whole, mut gone) = (Rng::new(who), 0, 0);
                while !stop.load(Ordering::Relaxed) {
                    // Among the last, some of which are deleted by now.
                    let all = lock(&known);
                    let last = &all[all.len().saturating_sub(12)..];
                    let Some((name, state)) = rng.of(last).cloned() else { continue };
                    drop(all);
                    match read(&inside.join(format!("f@{name}"))) {
                        Ok(seen) => {
                            assert_eq!(seen, state, "{name} reads as something else");
                            whole += 1;
                        }
                        Err(Errno::ENOENT | Errno::ESTALE) => gone += 1,
                        Err(errno) => panic!("reading {name}: {errno}"),
                    }
                }
                (whole, gone)
            })
        });
        let threads = threads.collect();
        Readers { known, stop, threads }
    }

    /// From now on this one is read too.
    pub fn watch(&self, name: &str, state: &State) {
        lock(&self.known).push((name.to_owned(), *state));
    }

    /// How often a snapshot was read whole, and how often it was gone.
    pub fn stop(self) -> (u64, u64) {
        self.stop.store(true, Ordering::Relaxed);
        let counts = self.threads.into_iter().map(|thread| thread.join().expect("a reader panicked"));
        counts.fold((0, 0), |sum, (whole, gone)| (sum.0 + whole, sum.1 + gone))
    }
}
