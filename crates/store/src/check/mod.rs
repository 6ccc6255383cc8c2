//! Is everything on a brick as fsnap left it? The checker looks at all that fsnap keeps there, and changes nothing
//! unless it is to repair.
//!
//! It opens no [`Store`](crate::Store), which would finish what was interrupted before anybody could see it. A brick may
//! be checked while it is in use: what looks wrong is looked at again after a while, because a command may be half done,
//! and counts only if it looks the same each time.

mod base;
mod own;
mod payload;
mod problem;
mod repair;
mod walk;

use std::collections::{HashMap, HashSet};
use std::num::NonZero;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use fsnap_core::catalogue::PAGE_PREFIX;
use fsnap_core::gfid2path::Link;
use fsnap_core::record::{PAYLOAD, SEQ};
use fsnap_core::{Error, Gfid, Result, SNAP_DIR};

pub use problem::{Problem, ProblemKind, Severity, escaped, unescaped};

use crate::brick::{Access, BrickDir, open_leaf};
use crate::in_use;
use crate::sys::{self, Doing};
use crate::xattrs;
use own::Own;
use walk::Tree;

/// How often what looks wrong is looked at again.
const LOOKS: u32 = 4;

/// How to check.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Set right what can be set right without guessing. The brick must be stopped.
    pub repair: bool,
    /// Discard for good what is in quarantine for longer than a day. The brick must be stopped.
    pub empty_quarantine: bool,
    /// How long to wait before the first further look at what looks wrong; before each of the other three twice as long
    /// as before the last.
    pub pause: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options { repair: false, empty_quarantine: false, pause: Duration::from_millis(250) }
    }
}

/// What a check has found.
#[derive(Debug)]
pub struct Report {
    /// What is wrong (after a repair: still), by path.
    pub problems: Vec<Problem>,
    /// What was repaired.
    pub repaired: Vec<Problem>,
    /// What was discarded from quarantine.
    pub discarded: Vec<Problem>,
    /// Whether the brick was in use.
    pub in_use: bool,
    /// How many files have snapshots.
    pub files: u64,
    /// How many snapshots they have.
    pub snapshots: u64,
}

impl Report {
    /// Whether there are problems worse than [`Severity::Info`].
    pub fn is_clean(&self) -> bool {
        self.problems.iter().all(|problem| problem.kind.severity() == Severity::Info)
    }
}

/// Checks the brick whose root is `brick`.
///
/// [`Error::Unsupported`] (`EOPNOTSUPP`) if it is no brick, if its `trusted.*` xattrs can't be seen (that needs root), or
/// if another version of fsnap was at work here; [`Error::InUse`] (`EBUSY`) if it is to be changed and is not stopped;
/// else what a system call says. What can't be looked at within the brick is a problem, no error.
pub fn run(brick: &Path, options: &Options) -> Result<Report> {
    run_telling(brick, options, &|| {})
}

/// The same; calls `meets` for each file and directory that it comes to on its way through the brick.
pub fn run_telling(brick: &Path, options: &Options, meets: &dyn Fn()) -> Result<Report> {
    let brick = BrickDir::open(brick)?;
    if walk::readable_gfid(&brick.root)? != Some(Gfid::ROOT) {
        return Err(Error::unsupported(
            "the directory has no trusted.gfid of a brick's root: it is none, or who asks is not root",
        ));
    }
    let alone = in_use::alone(&brick);
    if options.repair || options.empty_quarantine {
        let _alone = alone?;
        return repair::run(&brick, options, meets);
    }
    let in_use = match alone {
        Ok(_) => false,
        Err(Error::InUse(_)) => true,
        Err(e) => return Err(e),
    };
    let mut scan = Scan::of(&brick, in_use, meets)?;
    scan.look_again(options.pause)?;
    Ok(scan.report())
}

/// What is looked at in one go.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Subject {
    /// A directory `.fsnap`.
    SnapDir(PathBuf),
    /// A file that has something of fsnap's, or lies in a `.fsnap`; `known` if another name of it is looked at as well.
    File { path: PathBuf, known: bool },
    /// What is not fsnap's, and was met without its handle.
    Handle(PathBuf),
    /// `.glusterfs/fsnap` as a whole.
    Own,
    /// An entry of it.
    OwnEntry(Vec<u8>),
    /// An entry of `awaited`.
    Note(Vec<u8>),
    /// An entry of `pending`.
    Pending(Vec<u8>),
    /// An entry of `buried`.
    Buried(Vec<u8>),
    /// An entry of `intents`.
    Intent(Vec<u8>),
    /// An entry of `lost`.
    Lost(Vec<u8>),
    /// An entry of `reserve`.
    Reserved(Vec<u8>),
    /// What the walk could not look at.
    Unreadable(PathBuf),
}

/// How a problem is repaired.
#[derive(Clone, PartialEq, Eq)]
enum Fix {
    RemoveNote(Gfid),
    LinkHandle(Gfid),
    LinkDir(Gfid, Link),
    LinkSnapDir { parent: Gfid },
    Quarantine(Gfid),
    Sweep(Vec<u8>),
    Discard(Vec<u8>),
    MakeState,
}

impl Fix {
    /// Whether a repair does it. The rest removes what may be data: only who asks for just that gets it.
    fn is_repair(&self) -> bool {
        !matches!(self, Fix::Discard(_))
    }
}

struct Finding {
    problem: Problem,
    fix: Option<Fix>,
}

impl Finding {
    /// Whether it is the same problem as `other`, whatever is said about it.
    fn is(&self, other: &Finding) -> bool {
        let key = |found: &Finding| (found.problem.kind, found.problem.path.clone(), found.problem.gfid);
        key(self) == key(other)
    }
}

/// One look at a brick.
struct Scan<'a> {
    brick: &'a BrickDir,
    in_use: bool,
    tree: Tree,
    own: Own,
    found: HashMap<Subject, Vec<Finding>>,
    files: u64,
    snapshots: u64,
}

/// What is found at one subject.
#[derive(Default)]
struct Finds {
    found: Vec<Finding>,
    /// The entries of the catalogue, if it has one.
    entries: u64,
}

impl Finds {
    fn add(
        &mut self,
        kind: ProblemKind,
        path: &Path,
        gfid: Option<Gfid>,
        text: impl Into<String>,
        fix: Option<Fix>,
    ) {
        let repairable = fix.as_ref().is_some_and(Fix::is_repair);
        let problem = Problem { kind, path: path.to_owned(), gfid, text: text.into(), repairable };
        self.found.push(Finding { problem, fix });
    }

    fn add_unreadable(&mut self, path: &Path, why: &Error) {
        let problem = walk::unreadable(path, why);
        self.found.extend(problem.map(|problem| Finding { problem, fix: None }));
    }
}

impl<'a> Scan<'a> {
    fn of(brick: &'a BrickDir, in_use: bool, meets: &dyn Fn()) -> Result<Self> {
        // Notes first: one that is made after this is not looked at, and one that is here by now is of a payload that
        // the walk meets, or that is gone.
        let own = Own::open(brick)?;
        let notes = own.subjects()?;
        let tree = walk::walk(brick, meets)?;
        let mut scan = Scan { brick, in_use, tree, own, found: HashMap::new(), files: 0, snapshots: 0 };
        let mut inodes = HashSet::new();
        let files = scan.tree.files.iter();
        let subjects: Vec<_> = files
            .map(|(path, inode)| Subject::File { path: path.clone(), known: !inodes.insert(*inode) })
            .collect();
        scan.look_at_all(&subjects);
        let snap_dirs = scan.tree.snap_dirs.clone().into_iter().map(Subject::SnapDir);
        let unreadable: Vec<_> =
            scan.tree.unreadable.iter().map(|problem| Subject::Unreadable(problem.path.clone())).collect();
        let handles = scan.tree.without_handle.clone().into_iter().map(Subject::Handle);
        for subject in snap_dirs.chain(handles).chain(unreadable).chain(notes).chain([Subject::Own]) {
            scan.look(subject);
        }
        Ok(scan)
    }

    fn look(&mut self, subject: Subject) {
        let finds = self.examine(&subject);
        if !finds.found.is_empty() {
            self.found.insert(subject, finds.found);
        }
    }

    /// The same of files, on as many threads as there are cores. Counts what has snapshots.
    fn look_at_all(&mut self, subjects: &[Subject]) {
        let (next, looks) = (AtomicUsize::new(0), Mutex::new((HashMap::new(), 0, 0)));
        let work = || {
            let (mut found, mut files, mut snapshots) = (Vec::new(), 0, 0);
            while let Some(subject) = subjects.get(next.fetch_add(1, Ordering::Relaxed)) {
                let finds = self.examine(subject);
                files += u64::from(finds.entries > 0);
                snapshots += finds.entries;
                if !finds.found.is_empty() {
                    found.push((subject.clone(), finds.found));
                }
            }
            let mut all = looks.lock().unwrap_or_else(PoisonError::into_inner);
            all.0.extend(found);
            all.1 += files;
            all.2 += snapshots;
        };
        thread::scope(|scope| {
            for _ in 1..thread::available_parallelism().map_or(1, NonZero::get) {
                // If there may be no more threads the others do it.
                let _ = thread::Builder::new().spawn_scoped(scope, work);
            }
            work();
        });
        let (found, files, snapshots) = looks.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.found.extend(found);
        self.files += files;
        self.snapshots += snapshots;
    }

    /// Keeps what is found again.
    fn look_again(&mut self, pause: Duration) -> Result<()> {
        let mut pause = pause;
        for _ in 0..LOOKS {
            if self.found.is_empty() {
                break;
            }
            thread::sleep(pause);
            pause *= 2;
            let before = std::mem::take(&mut self.found);
            // It may have come into being, or been completed, since.
            self.own = Own::open(self.brick)?;
            for (subject, old) in before {
                let mut now = self.examine(&subject).found;
                now.retain(|found| old.iter().any(|old| old.is(found)));
                if !now.is_empty() {
                    self.found.insert(subject, now);
                }
            }
        }
        Ok(())
    }

    fn examine(&self, subject: &Subject) -> Finds {
        let mut finds = Finds::default();
        match subject {
            Subject::SnapDir(path) => self.snap_dir(path, &mut finds),
            Subject::File { path, known } => self.file(path, *known, &mut finds),
            Subject::Handle(path) => self.lost_handle(path, &mut finds),
            Subject::Own => self.own_dir(&mut finds),
            Subject::OwnEntry(name) => self.own_entry(name, &mut finds),
            Subject::Note(name) => self.note(name, &mut finds),
            Subject::Pending(name) => self.pending(name, &mut finds),
            Subject::Buried(name) => self.buried(name, &mut finds),
            Subject::Intent(name) => self.intent(name, &mut finds),
            Subject::Lost(name) => self.lost(name, &mut finds),
            Subject::Reserved(name) => self.reserved(name, &mut finds),
            Subject::Unreadable(path) => {
                let seen = self.tree.unreadable.iter().filter(|problem| problem.path == *path);
                finds.found.extend(seen.map(|problem| Finding { problem: problem.clone(), fix: None }));
            }
        }
        finds
    }

    fn report(self) -> Report {
        let mut problems: Vec<_> = self.found.into_values().flatten().map(|found| found.problem).collect();
        sort(&mut problems);
        Report {
            problems,
            repaired: Vec::new(),
            discarded: Vec::new(),
            in_use: self.in_use,
            files: self.files,
            snapshots: self.snapshots,
        }
    }

    fn snap_dir(&self, path: &Path, finds: &mut Finds) {
        let look = |finds: &mut Finds| -> Result<()> {
            let above = walk::open_dir(self.brick, walk::parent(path)).doing("open a directory")?;
            let dir = walk::open_dir(self.brick, path).doing("open a directory")?;
            // Without a gfid storage/posix has not met it yet, nor has fsnap.
            let Some(parent) = walk::readable_gfid(&above)? else { return Ok(()) };
            let gfid = parent.snap_dir();
            match walk::readable_gfid(&dir)? {
                Some(own) if own == gfid => self.snap_dir_handle(path, parent, finds),
                own => finds.add(
                    ProblemKind::SnapDirForeign,
                    path,
                    own,
                    format!(
                        "fsnap has not made this directory (its gfid would be {gfid}): files beside it \
                             can have no snapshots until it is renamed"
                    ),
                    None,
                ),
            }
            Ok(())
        };
        if let Err(e) = look(finds) {
            finds.add_unreadable(path, &e);
        }
    }

    fn snap_dir_handle(&self, path: &Path, parent: Gfid, finds: &mut Finds) {
        let gfid = parent.snap_dir();
        let link = Link { parent, name: SNAP_DIR.into() };
        let (text, fix) = match self.brick.soft_handle_of(gfid) {
            Ok(Some(there)) if there == link => return,
            Err(Error::Gone) => {
                let text = "its handle is missing: what comes by its gfid does not find it. Repair, or the \
                         next snapshot, makes it";
                (text.into(), Some(Fix::LinkSnapDir { parent }))
            }
            Err(e @ Error::Os { .. }) if !matches!(e, Error::Os { errno: libc::ENOTDIR, .. }) => {
                return finds.add_unreadable(path, &e);
            }
            _ => {
                let target = link.soft_handle();
                let (handle, target) = (gfid.handle(), target.escape_ascii());
                (
                    format!(
                        "its handle {} is not the symlink to {target}: see what is there, then remove that",
                        handle.display()
                    ),
                    None,
                )
            }
        };
        finds.add(ProblemKind::SnapDirHandle, path, Some(gfid), text, fix);
    }

    fn lost_handle(&self, path: &Path, finds: &mut Finds) {
        let look = |finds: &mut Finds| -> Result<()> {
            let dir = walk::open_dir(self.brick, walk::parent(path)).doing("open a directory")?;
            let name = walk::leaf(path).as_bytes();
            let (Some(stat), Some(gfid)) = (sys::stat_in(&dir, name)?, xattrs::gfid_in(&dir, name)?) else {
                return Ok(());
            };
            if self.handle_stat(gfid)?.is_some() {
                return Ok(());
            }
            let fix = match (sys::kind(&stat), walk::readable_gfid(&dir)?) {
                (libc::S_IFDIR, None) => None,
                (libc::S_IFDIR, Some(parent)) => {
                    Some(Fix::LinkDir(gfid, Link { parent, name: name.to_vec() }))
                }
                _ => Some(Fix::LinkHandle(gfid)),
            };
            let text = format!(
                "its handle {} is missing: it has no snapshots, and commands can't find it. Repair makes it, and so does the next \
                 unlink or rename in a directory like that",
                gfid.handle().display()
            );
            finds.add(ProblemKind::HandleMissing, path, Some(gfid), text, fix);
            Ok(())
        };
        if let Err(e) = look(finds) {
            finds.add_unreadable(path, &e);
        }
    }

    fn file(&self, path: &Path, known: bool, finds: &mut Finds) {
        let look = |finds: &mut Finds| -> Result<()> {
            let dir = walk::open_dir(self.brick, walk::parent(path)).doing("open a directory")?;
            let own = walk::is_own_snap_dir(self.brick, walk::parent(path), &dir)?;
            let (file, stat) = match open_leaf(&dir, walk::leaf(path).as_bytes(), Access::Read) {
                Err(Error::NotRegular) if own => {
                    self.alien(path, finds);
                    return Ok(());
                }
                Ok(None) | Err(Error::NotRegular) => return Ok(()),
                other => match other? {
                    Some(leaf) => leaf,
                    None => return Ok(()),
                },
            };
            let at = payload::At { file: &file, stat: &stat, path, dir: Some(&dir) };
            self.regular(&at, own, known, finds)
        };
        if let Err(e) = look(finds) {
            finds.add_unreadable(path, &e);
        }
    }

    fn alien(&self, path: &Path, finds: &mut Finds) {
        let text = "this is not fsnap's: nobody but root on the brick can have put it here; move it away";
        finds.add(ProblemKind::Alien, path, None, text, None);
    }

    fn regular(&self, at: &payload::At<'_>, own: bool, known: bool, finds: &mut Finds) -> Result<()> {
        let names = xattrs::XattrNames::of(at.file)?;
        if names.has(PAYLOAD) {
            return if known { Ok(()) } else { self.payload(at, &names, finds) };
        }
        let catalogue = names.has(SEQ) || names.raw_starting(PAGE_PREFIX).next().is_some();
        if catalogue && !known {
            self.base(at, &names, finds)?;
        }
        if !own || crate::guard::is_link_file(at.file, at.stat)? {
            return Ok(());
        }
        let gfid = walk::readable_gfid(at.file)?;
        if fsnap_core::is_tombstone(walk::leaf(at.path).as_bytes()) {
            self.tombstone(at, gfid, &names, finds)?;
        } else if gfid.is_none_or(|gfid| !self.tree.claimed.contains(&gfid)) {
            // One that a catalogue names is told there to have lost its record.
            self.alien(at.path, finds);
        }
        Ok(())
    }
}

/// By path, then the worst first; each but once.
fn sort(problems: &mut Vec<Problem>) {
    problems.sort_by(|a, b| {
        let key = |p: &Problem| (p.path.clone(), std::cmp::Reverse(p.kind.severity()), p.kind, p.gfid);
        key(a).cmp(&key(b))
    });
    problems.dedup_by(|a, b| (a.kind, &a.path, a.gfid) == (b.kind, &b.path, b.gfid));
}
