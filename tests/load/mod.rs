//! Load on files with snapshots: many hands at the same few names, and the book of what they were told.
#![allow(dead_code, missing_docs)]

pub mod audit;
pub mod events;
pub mod latency;
pub mod versions;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use fsnap_testbed::{Errno, content, setx, try_checksum};

/// The directories that the hands work in.
pub const DIRS: [&str; 2] = ["a", "b"];
/// Few, so that they meet.
const FILES: u64 = 4;
/// What is asked of a mount that hangs is never answered.
const END_WITHIN: Duration = Duration::from_secs(60);

/// All that a hand may be answered with, by what it did (docs/semantics.md, "Errors").
///
/// `ENOENT` and `ESTALE`: somebody else took the name, or deleted the file, a moment before. Not among them: `EIO`, which
/// is for damage.
pub fn accepted(what: &str, errno: Errno, excuse: Option<Excuse>) -> bool {
    use Errno::*;
    let excused = match excuse {
        Some(Excuse::Outage) => is_outage(errno),
        Some(Excuse::NoRestore) => what == "restore" && errno == EOPNOTSUPP,
        Some(Excuse::Switch) => what == "link" && errno == EIO,
        None => false,
    };
    if errno == ENOENT || errno == ESTALE || excused {
        return true;
    }
    // DHT's own answer to an xattr where it has lost track of the brick that a file is on ("no cached subvolume").
    if errno == EINVAL && ["create", "delete", "restore", "hold", "release", "list"].contains(&what) {
        return true;
    }
    match what {
        "create" => [EDQUOT].contains(&errno),
        "delete" => [ENODATA, EBUSY].contains(&errno),
        "restore" => [ENODATA, EEXIST, EROFS].contains(&errno),
        "hold" | "release" => [ENODATA].contains(&errno),
        // Two that create a file at once: GlusterFS 10.3 tells one of them.
        "link" | "write" => [EEXIST].contains(&errno),
        _ => false,
    }
}

/// What happens to the volume, for which more may be refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Excuse {
    /// A brick may be away.
    Outage,
    /// `direct-restore` has a value that can't be read: that is "off".
    NoRestore,
    /// The clients go over to another graph. A link to a file that somebody else deletes then is answered with the errno of the
    /// directory, which is there: 0, and no entry with it (`fuse_link_resume`); the kernel makes `EIO` of that.
    Switch,
}

/// The brick went away before it answered: the command happened or did not.
fn is_outage(errno: Errno) -> bool {
    [Errno::ENOTCONN, Errno::EBADFD, Errno::EIO].contains(&errno)
}

/// Pseudo-random choices (SplitMix64); a seed gives the same again.
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Rng {
        Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        (!all.is_empty()).then(|| &all[self.below(all.len() as u64) as usize])
    }
}

/// What became of a snapshot, as far as somebody was told. No two snapshots of a load have the same name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    Taken,
    Deleted,
    /// No answer came.
    Unknown,
}

/// What the hands were told.
#[derive(Default)]
pub struct Book {
    fates: Mutex<BTreeMap<String, Fate>>,
    /// The checksum of each snapshot that somebody has read.
    sums: Mutex<BTreeMap<String, u64>>,
    /// What should not be, each with an example.
    wrong: Mutex<BTreeMap<String, String>>,
    /// How many answers there were, by what was done and how it ended.
    answers: Mutex<BTreeMap<String, u64>>,
    commands: AtomicU64,
    excuse: Mutex<Option<Excuse>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Book {
    pub fn commands(&self) -> u64 {
        self.commands.load(Ordering::Relaxed)
    }

    pub fn excuse(&self, excuse: Option<Excuse>) {
        *lock(&self.excuse) = excuse;
    }

    pub fn fates(&self) -> BTreeMap<String, Fate> {
        lock(&self.fates).clone()
    }

    /// How often something ended in some way, such as `create` or `create EDQUOT`.
    pub fn answers(&self, what: &str) -> u64 {
        lock(&self.answers).get(what).copied().unwrap_or_default()
    }

    pub fn summary(&self) -> String {
        let answers = lock(&self.answers);
        answers.iter().map(|(what, count)| format!("{what}: {count}")).collect::<Vec<_>>().join(", ")
    }

    fn taken(&self, name: &str, fate: Fate) {
        // Somebody else may have found and deleted it before we were told that it was taken.
        lock(&self.fates).entry(name.to_owned()).or_insert(fate);
    }

    fn deleted(&self, name: &str, fate: Fate) {
        let mut fates = lock(&self.fates);
        // Of two that delete the same, one may be told so and the other nothing.
        if fates.get(name) != Some(&Fate::Deleted) {
            fates.insert(name.to_owned(), fate);
        }
    }

    /// A snapshot was read: whoever reads it later must see the same.
    pub fn read(&self, name: &str, sum: u64) {
        let known = *lock(&self.sums).entry(name.to_owned()).or_insert(sum);
        if known != sum {
            self.wrong("a snapshot has changed", name);
        }
    }

    fn wrong(&self, what: &str, example: &str) {
        lock(&self.wrong).insert(what.to_owned(), example.to_owned());
    }

    /// Counts an answer, and notes one that nobody should get.
    fn note<T>(
        &self,
        what: &str,
        path: &Path,
        excuse: Option<Excuse>,
        result: Result<T, Errno>,
    ) -> Result<T, Errno> {
        self.commands.fetch_add(1, Ordering::Relaxed);
        let key = match &result {
            Ok(_) => what.to_owned(),
            Err(errno) => format!("{what} {errno:?}"),
        };
        *lock(&self.answers).entry(key.clone()).or_default() += 1;
        if let Err(errno) = result
            && !accepted(what, errno, excuse)
            && !accepted(what, errno, *lock(&self.excuse))
        {
            self.wrong(&key, &path.display().to_string());
        }
        result
    }

    #[track_caller]
    pub fn assert_right(&self) {
        let wrong = lock(&self.wrong);
        assert!(wrong.is_empty(), "{wrong:#?}; {} answers: {}", self.commands(), self.summary());
    }
}

/// Hands at work.
pub struct Load {
    stop: Arc<AtomicBool>,
    hands: Vec<JoinHandle<()>>,
    ended: Receiver<()>,
}

impl Load {
    /// `threads` hands on each of the mounts at `roots`. `seed` decides what they choose, and must be new each time.
    ///
    /// On volumes of several bricks nobody may rename: two clients of GlusterFS 10.3 that do wait for each other for ever
    /// (a RENAME in features/locks waits for an inodelk of DHT's).
    pub fn start(roots: &[PathBuf], threads: usize, seed: u64, renames: bool, book: &Arc<Book>) -> Load {
        for (root, dir) in roots.iter().take(1).flat_map(|root| DIRS.map(|dir| (root, dir))) {
            let _ = fs::create_dir(root.join(dir));
        }
        let stop = Arc::new(AtomicBool::new(false));
        let (sender, ended) = channel();
        let places = roots.iter().flat_map(|root| std::iter::repeat_n(root, threads)).enumerate();
        let hands = places.map(|(who, root)| {
            let (stop, sender) = (Arc::clone(&stop), sender.clone());
            let seed = seed.wrapping_mul(1000) + who as u64;
            let mut hand = Hand {
                root: root.clone(),
                rng: Rng::new(seed),
                seed,
                renames,
                count: 0,
                book: Arc::clone(book),
            };
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    hand.step();
                }
                let _ = sender.send(());
            })
        });
        let hands = hands.collect();
        Load { stop, hands, ended }
    }

    /// Lets everybody end what they are at. Panics if somebody does not: the scene ends then, and with it what hangs.
    #[track_caller]
    pub fn finish(self) {
        self.stop.store(true, Ordering::Relaxed);
        let until = Instant::now() + END_WITHIN;
        for left in (1..=self.hands.len()).rev() {
            match self.ended.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(()) => {}
                Err(RecvTimeoutError::Timeout) => panic!("{left} hands are stuck"),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        for hand in self.hands {
            hand.join().expect("a hand panicked");
        }
    }
}

/// One of many who do this and that to the same files.
struct Hand {
    root: PathBuf,
    rng: Rng,
    seed: u64,
    renames: bool,
    count: u64,
    book: Arc<Book>,
}

impl Hand {
    fn step(&mut self) {
        let (dir, file) = self.place();
        match self.rng.below(100) {
            0..26 => self.create(&dir, &file),
            26..44 => self.delete(&dir),
            44..52 => self.restore(&file),
            52..55 => self.revive(&dir),
            55..62 => self.hold(&dir),
            62..70 if self.renames => {
                let (_, to) = self.place();
                let _ = self.note("rename", &file, |_| raw(fs::rename(&file, &to)));
            }
            70..76 => drop(self.note("unlink", &file, |_| raw(fs::remove_file(&file)))),
            76..82 => {
                let (_, to) = self.place();
                let _ = self.note("link", &file, |_| raw(fs::hard_link(&file, &to)));
            }
            62..70 | 82..92 => self.overwrite(&file),
            92..96 => drop(self.note("list", &file, names_of)),
            _ => self.read(&dir),
        }
    }

    fn place(&mut self) -> (PathBuf, PathBuf) {
        let dir = self.root.join(self.rng.of(&DIRS).expect("there are some"));
        let file = dir.join(format!("f{}", self.rng.below(FILES)));
        (dir, file)
    }

    fn note<T>(
        &self,
        what: &str,
        path: &Path,
        act: impl FnOnce(&Path) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let excuse = *lock(&self.book.excuse);
        let result = act(path);
        if matches!(result, Err(Errno::ENOTCONN)) {
            sleep(Duration::from_millis(5));
        }
        self.book.note(what, path, excuse, result)
    }

    fn command(&self, path: &Path, verb: &str, name: &str) -> Result<(), Errno> {
        self.note(verb, path, |path| setx(path, format!("glusterfs.fsnap.{verb}"), name))
    }

    fn create(&mut self, dir: &Path, file: &Path) {
        self.count += 1;
        let name = format!("n{}-{}", self.seed, self.count);
        match self.command(file, "create", &name) {
            Ok(()) => {
                self.book.taken(&name, Fate::Taken);
                let leaf = file.file_name().expect("a file").to_string_lossy();
                self.look(&dir.join(".fsnap").join(format!("{leaf}@{name}")), &name);
            }
            Err(Errno::ENOENT) => self.overwrite(file),
            Err(errno) if is_outage(errno) => self.book.taken(&name, Fate::Unknown),
            Err(_) => {}
        }
    }

    /// Some snapshot in the directory, also of a deleted file.
    fn pick(&mut self, dir: &Path) -> Option<(PathBuf, String)> {
        let inside = dir.join(".fsnap");
        let listed = self.note("ls", &inside, |inside| {
            raw(fs::read_dir(inside).and_then(|entries| {
                entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
            }))
        });
        let all: Vec<String> = listed.ok()?;
        let entry = self.rng.of(&all)?;
        Some((inside.join(entry), name_in(entry).to_owned()))
    }

    fn delete(&mut self, dir: &Path) {
        let Some((path, name)) = self.pick(dir) else { return };
        match self.command(&path, "delete", &name) {
            Ok(()) => self.book.deleted(&name, Fate::Deleted),
            Err(errno) if is_outage(errno) => self.book.deleted(&name, Fate::Unknown),
            Err(_) => {}
        }
    }

    fn restore(&mut self, file: &Path) {
        let Ok(names) = self.note("list", file, names_of) else { return };
        let Some(name) = self.rng.of(&names) else { return };
        let _ = self.command(file, "restore", name);
    }

    /// Brings a file back, if it was deleted.
    fn revive(&mut self, dir: &Path) {
        let Some((path, name)) = self.pick(dir) else { return };
        let _ = self.command(&path, "restore", &name);
    }

    fn hold(&mut self, dir: &Path) {
        let verb = if self.rng.below(3) == 0 { "hold" } else { "release" };
        let Some((path, name)) = self.pick(dir) else { return };
        let _ = self.command(&path, verb, &name);
    }

    fn overwrite(&mut self, file: &Path) {
        let bytes = content(1000 + self.rng.below(200_000) as usize, self.rng.below(1 << 40));
        let _ =
            self.note("write", file, |file| raw(File::create(file).and_then(|mut f| f.write_all(&bytes))));
    }

    fn read(&mut self, dir: &Path) {
        if let Some((path, name)) = self.pick(dir) {
            self.look(&path, &name);
        }
    }

    fn look(&self, snapshot: &Path, name: &str) {
        if let Ok(sum) = self.note("read", snapshot, |path| raw(try_checksum(path))) {
            self.book.read(name, sum);
        }
    }
}

/// The snapshot's name in the name of its file, `FILE@NAME` or `FILE@NAME@` and digits.
pub fn name_in(entry: &str) -> &str {
    entry.split('@').nth(1).unwrap_or_default()
}

pub fn raw<T>(result: io::Result<T>) -> Result<T, Errno> {
    result.map_err(|error| error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw))
}

/// The names of the file's snapshots.
pub fn names_of(file: &Path) -> Result<Vec<String>, Errno> {
    let list = crate::common::ask(file, "list")?;
    let snapshots = list["snapshots"].as_array().cloned().unwrap_or_default();
    Ok(snapshots.iter().filter_map(|s| s["name"].as_str()).map(str::to_owned).collect())
}
