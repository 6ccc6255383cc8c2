//! What has to be done by way of a private client graph: it is safe on every copy of a file. See docs/architecture.md,
//! "The private client graph".

use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fsnap_check::escaped;
use fsnap_core::command::{Arming, PREFIX};
use fsnap_core::{Gfid, SnapName};
use fsnap_graph::{Content, Error as GraphError, Graph, Object, Undisturbed, Volume};
use nix::errno::Errno;
use serde::Deserialize;
use uuid::Uuid;

use crate::failure::{Deed, Failure, NOT_ON_VOLUME};
use crate::found::Found;
use crate::mount::MountSource;
use crate::place::Place;
use crate::volume::{self, Drained, Snapshot, Status};

/// A command on one file takes no longer. (What it has locked is free when the process ends.)
const LIMIT: Duration = Duration::from_secs(120);

/// For how long a restore that died counts as under way, and a bit.
const UNDER_WAY: Duration = Duration::from_secs(65);

/// For how long a snapshot is waited for that is to be healed, which is longer than the self-heal daemon takes to look
/// (`cluster.heal-timeout`), and how often it is looked at.
const HEALED_WITHIN: Duration = Duration::from_secs(660);
const HEALING: Duration = Duration::from_secs(1);
/// The command of the administrator, on servers.
const GLUSTER: &str = "/usr/sbin/gluster";

/// After how long another graph is made of a volume.
const RENEWED_AFTER: Duration = Duration::from_secs(60);

/// For how long somebody may be about to bring a deleted file back, and a bit.
const CLAIMED: Duration = Duration::from_secs(125);

/// Where libgfapi's log goes, if this is not set.
const LOG: &str = "FSNAP_LOG";

/// The graphs that this process has opened, for any of its threads.
pub struct Graphs {
    opened: Mutex<Vec<Arc<Opened>>>,
    /// Volumes of which there can be none, and why.
    lacking: Mutex<Vec<(MountSource, String)>>,
    /// How long to wait until all writers of a file have stopped.
    patience: Duration,
}

/// A volume, by private graphs.
struct Opened {
    volume: MountSource,
    source: Volume,
    patience: Duration,
    /// It has said that it waits for a heal.
    waits: AtomicBool,
    made: Mutex<Made>,
}

/// The graphs of a volume.
struct Made {
    /// Their root, a directory of the volume: what the client of the mount has, if that is to be had.
    top: PathBuf,
    graphs: Vec<Opening>,
}

struct Opening {
    /// The bricks that it does not reach.
    without: Vec<String>,
    since: Instant,
    graph: Arc<Graph>,
}

/// A file, as private graphs of its volume know it. What is done to it goes by its gfid.
pub struct Known {
    gfid: Gfid,
    opened: Arc<Opened>,
}

/// What `glusterfs.fsnap.bricks` answers.
#[derive(Deserialize)]
struct Bricks {
    bricks: Vec<BrickAnswer>,
    /// Those that can be reached may not have the same content of the snapshot.
    unsettled: bool,
    snapshot: Option<Snapshot>,
}

#[derive(Deserialize)]
struct BrickAnswer {
    name: String,
    host: Option<String>,
    path: Option<String>,
    status: Option<Status>,
    errno: i32,
    /// Its copy of the snapshot is not right, as another brick knows.
    blamed: bool,
}

impl BrickAnswer {
    /// It answers, and has no fsnap.
    fn lacks_fsnap(&self) -> bool {
        self.status.is_none() && [Errno::EOPNOTSUPP, Errno::ENODATA].contains(&Errno::from_raw(self.errno))
    }
}

impl Graphs {
    /// None yet. A create waits for writers of the file for `patience` seconds.
    pub fn new(patience: u16) -> Graphs {
        let patience = Duration::from_secs(patience.into());
        Graphs { opened: Mutex::default(), lacking: Mutex::default(), patience }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        unpoisoned(&self.opened).is_empty()
    }

    /// The file by way of private graphs, or nothing where there can be none and the mount does as well: each file is on one brick alone.
    ///
    /// It is not looked at by way of the mount: on a disperse volume that waits for who is in the middle of a change, for as long as it takes.
    pub fn find(&self, found: &Found) -> Result<Option<Known>, Failure> {
        let volume = found.place.mount().volume();
        let known = |(other, _): &&(MountSource, String)| Some(other) == volume.as_ref();
        let lacks = |text: &str| Failure { lacks_graph: true, ..Failure::new(&found.shown, text) };
        let before = unpoisoned(&self.lacking).iter().find(known).map(|(_, text)| lacks(text));
        let failure = match before {
            Some(failure) => failure,
            None => match self.open(found) {
                Ok(opened) => return opened.find(found).map(Some),
                Err(failure) if failure.lacks_graph => failure,
                Err(failure) => return Err(failure),
            },
        };
        if let Some(volume) = volume {
            let mut lacking = unpoisoned(&self.lacking);
            if !lacking.iter().any(|(other, _)| *other == volume) {
                lacking.push((volume, failure.text.clone()));
            }
        }
        match volume::status(&found.place) {
            Ok(status) if status.r#type.as_deref() == Some("distribute") => Ok(None),
            _ => Err(failure),
        }
    }

    /// Brings the deleted file back that `found` is the snapshot `name` of, with the content of that, as `to` in the directory `dir`.
    pub fn bring_back(
        &self,
        found: &Found,
        name: &SnapName,
        dir: &Found,
        to: &OsStr,
    ) -> Result<Result<(), Errno>, Failure> {
        let file = &found.shown;
        let Known { gfid, opened } = self.open(found)?.find(found)?;
        if dir.place.mount().volume().as_ref() != Some(&opened.volume) {
            return Err(Failure::new(
                &dir.shown,
                "it is on another volume, or mounted another way: a file comes back on its own",
            ));
        }
        let path = opened.path(dir)?;
        let new = CString::new(to.as_bytes()).map_err(|_| dir.failed(Deed::Look, Errno::EINVAL))?;
        let graph = within(file, LIMIT, || {
            let (_, bricks) = opened.file(file, gfid, &[], name)?;
            let away = left_out(file, &bricks.bricks)?;
            opened.graph(file, &away)
        })?;
        let look = || {
            let dir = graph.directory(&path).map_err(|errno| dir.failed(Deed::Look, errno))?;
            let claimed = graph.file(gfid).and_then(|snapshot| snapshot.get(&key("deleted")));
            Ok(claimed.and_then(|answer| graph.file(file_of(&answer)?)).map(|object| (dir, object)))
        };
        let begun = Instant::now();
        let (dir, object) = loop {
            match within(file, LIMIT, look)? {
                Ok(found) => break found,
                // Somebody else is about to bring it back.
                Err(Errno::EBUSY) if begun.elapsed() < CLAIMED => std::thread::sleep(Duration::from_secs(1)),
                Err(errno) => return Ok(Err(errno)),
            }
        };
        match carried(file, &object, name)? {
            // The bricks take what it has now from it again if it does not get its name.
            Ok(()) => within(file, LIMIT, || Ok(object.link(&dir, &new))),
            refused => Ok(refused),
        }
    }

    /// Sees to it that there is a graph of the file's volume.
    fn open(&self, found: &Found) -> Result<Arc<Opened>, Failure> {
        let Found { shown: file, place } = found;
        if !place.is_regular() {
            return Err(found.failed(Deed::Look, Errno::EINVAL));
        }
        let volume = place.mount().volume().ok_or_else(|| {
            let why =
                "this mount does not tell its volume (it was given a volfile): mount it as SERVER:VOLUME";
            Failure { lacks_graph: true, ..Failure::new(file, why) }
        })?;
        let opened = within(file, LIMIT, || {
            // Others who are here for the same volume wait: they would fetch the same.
            let mut all = unpoisoned(&self.opened);
            if let Some(known) = all.iter().find(|opened| opened.volume == volume) {
                return Ok(known.clone());
            }
            let log = std::env::var_os(LOG).map_or("/dev/null".into(), PathBuf::from);
            let log = CString::new(log.into_os_string().into_encoded_bytes()).unwrap_or_default();
            let fetched = Volume::fetch(&volume.server, &volume.name, &log);
            let fetched = fetched.or_else(|error| match error {
                // The client has another server by now, or had from the beginning.
                GraphError::NoVolfile { .. } => of_client(place, &volume, &log).ok_or(error),
                other => Err(other),
            });
            let source = fetched.map_err(|error| Failure::without_graph(file, &error))?;
            let made = Mutex::new(Made { top: volume.subdir.clone(), graphs: Vec::new() });
            let (waits, patience) = (AtomicBool::new(false), self.patience);
            all.push(Arc::new(Opened { volume, source, patience, waits, made }));
            Ok(all[all.len() - 1].clone())
        })?;
        within(file, LIMIT, || opened.graph(file, &[]).map(drop))?;
        Ok(opened)
    }
}

impl Known {
    /// Returns as soon as nobody is in the middle of a change of the file: what is done to it then, by way of a mount, does not wait for
    /// long. An [`Errno::EBUSY`] if that takes too long. An error too if a brick that can be reached has not this version of fsnap.
    pub fn await_turn(&self, file: &Path) -> Result<Result<(), Errno>, Failure> {
        let Known { gfid, opened } = self;
        within(file, LIMIT + opened.patience, || {
            let graph = opened.graph(file, &[])?;
            let object = graph.file(*gfid).map_err(|errno| Failure::answered(file, errno))?;
            let bricks = match object.get(&key("turn")) {
                Ok(answer) => understood(file, &answer)?,
                Err(errno) => return Ok(Err(errno)),
            };
            match left_out(file, &bricks.bricks) {
                // Whoever may write need not be allowed to ask.
                Err(Failure { errno: Some(Errno::EACCES), .. }) => Ok(Ok(())),
                answered => answered.map(|_| Ok(())),
            }
        })
    }

    /// `glusterfs.fsnap.create` when nobody writes to any copy of the file. To be asked for a turn before.
    pub fn create(
        &self,
        file: &Path,
        value: &str,
        drained: Option<Drained>,
    ) -> Result<Result<(), Errno>, Failure> {
        let Known { gfid, opened } = self;
        within(file, LIMIT + opened.patience, || {
            let graph = opened.graph(file, &[])?;
            let object = graph.file(*gfid).map_err(|errno| Failure::answered(file, errno))?;
            drop(drained);
            Ok(object.set(&key("create"), value.as_bytes()))
        })
    }

    /// One snapshot, as the bricks know it.
    pub fn info(&self, file: &Path, name: &SnapName) -> Result<Snapshot, Failure> {
        within(file, LIMIT, || {
            let (_, bricks) = self.opened.file(file, self.gfid, &[], name)?;
            bricks.snapshot.ok_or_else(|| Failure::answered(file, Errno::ENODATA))
        })
    }

    /// Waits until a snapshot that is not the same on all bricks is healed, and has the self-heal daemons look for that now if the caller
    /// may.
    pub fn await_healed(&self, file: &Path, name: &SnapName) -> Result<(), Failure> {
        self.opened.await_healed(file, self.gfid, name)
    }

    /// Makes the file's content that of its snapshot, on all bricks that can be reached. By what one can tell that a mount shows it, if
    /// that is known.
    pub fn restore(
        &self,
        file: &Path,
        name: &SnapName,
        drained: Option<Drained>,
    ) -> Result<Result<Option<Content>, Errno>, Failure> {
        let Known { gfid, opened } = self;
        let graph = within(file, LIMIT, || {
            let (graph, bricks) = opened.file(file, *gfid, &[], name)?;
            let away = left_out(file, &bricks.bricks)?;
            if away.is_empty() {
                return Ok(graph);
            }
            // A brick that comes back meanwhile has not been asked whether it would know a restore from a truncate. And one
            // that has the snapshot wrong gets it right by the data of the others.
            opened.file(file, *gfid, &away, name).map(|(graph, _)| graph)
        })?;
        let object =
            within(file, LIMIT, || graph.file(*gfid).map_err(|errno| Failure::answered(file, errno)))?;
        drop(drained);
        match carried(file, &object, name)? {
            Ok(()) => within(file, LIMIT, || Ok(Ok(object.content().ok()))),
            Err(errno) => Ok(Err(errno)),
        }
    }
}

impl Opened {
    /// A graph that does not reach the bricks `without`.
    fn graph(&self, file: &Path, without: &[String]) -> Result<Arc<Graph>, Failure> {
        let mut made = unpoisoned(&self.made);
        // Its clients were told where their bricks listen: one that was started again since is not found by an old one.
        made.graphs.retain(|opening| opening.since.elapsed() < RENEWED_AFTER);
        if let Some(known) = made.graphs.iter().find(|opening| opening.without == without) {
            return Ok(known.graph.clone());
        }
        let patience = self.patience.as_secs().to_string();
        let options = [("lock-timeout", &patience[..])];
        let root = Path::new("/");
        let graph = match self.source.graph(&made.top, without, &options) {
            // A brick has not got that directory yet.
            Err(_) if made.top != root => {
                made.top = root.into();
                self.source.graph(root, without, &options)
            }
            made => made,
        };
        let graph = Arc::new(graph.map_err(|error| Failure::without_graph(file, &error))?);
        let opening = Opening { without: without.to_vec(), since: Instant::now(), graph: graph.clone() };
        made.graphs.push(opening);
        Ok(graph)
    }

    /// The file by way of the graph that reaches all bricks. `ESTALE` if somebody has put another file there.
    fn find(self: Arc<Self>, found: &Found) -> Result<Known, Failure> {
        let Found { shown: file, place } = found;
        let path = self.path(found)?;
        let gfid = within(file, LIMIT, || Ok(self.graph(file, &[])?.find(&path)))?
            .map_err(|errno| Failure::of(Deed::Look, file, place, errno))?;
        match place.may_be(gfid) {
            true => Ok(Known { gfid, opened: self }),
            false => Err(Failure::answered(file, Errno::ESTALE)),
        }
    }

    /// Where that is in such a graph.
    fn path(&self, found: &Found) -> Result<PathBuf, Failure> {
        let path = match unpoisoned(&self.made).top == Path::new("/") {
            true => found.place.in_volume(),
            false => found.place.in_client(),
        };
        path.map_err(|error| Failure::finding(&found.shown, error))
    }

    /// See [`Known::await_healed`].
    fn await_healed(&self, file: &Path, gfid: Gfid, name: &SnapName) -> Result<(), Failure> {
        let begun = Instant::now();
        loop {
            let bricks = within(file, LIMIT, || self.file(file, gfid, &[], name).map(|(_, bricks)| bricks))?;
            if !bricks.unsettled {
                return Ok(());
            }
            let different = format!("the bricks do not have the same content of snapshot {name} yet");
            let volume = &self.volume.name;
            if begun.elapsed() >= HEALED_WITHIN {
                let why = format!(
                    "{different}: see `gluster volume heal {volume} info`, and restore it when it is healed"
                );
                return Err(Failure::new(file, why));
            }
            if self.waits.swap(true, Ordering::Relaxed) {
                std::thread::sleep(HEALING);
                continue;
            }
            let what = match heal(volume) {
                true => "it is healed now".to_owned(),
                false => format!(
                    "`gluster volume heal {volume}` on a server heals it now, the self-heal daemon within ten minutes"
                ),
            };
            eprintln!("fsnap: {}: {different}, and is restored when they have: {what}", escaped(file));
        }
    }

    /// Such a graph that has found the file, and what the bricks say, also of snapshot `name`.
    fn file(
        &self,
        file: &Path,
        gfid: Gfid,
        without: &[String],
        name: &SnapName,
    ) -> Result<(Arc<Graph>, Bricks), Failure> {
        let answered = |errno| Failure::answered(file, errno);
        let graph = self.graph(file, without)?;
        let object = graph.file(gfid).map_err(answered)?;
        let question = key(&format!("bricks.{name}"));
        let answer = volume::again_if_healed_meanwhile(|| object.get(&question)).map_err(answered)?;
        Ok((graph, understood(file, &answer)?))
    }
}

fn understood(file: &Path, answer: &[u8]) -> Result<Bricks, Failure> {
    serde_json::from_slice(answer).map_err(|_| Failure::answered(file, Errno::EPROTO))
}

/// What it protects is whole between any two of its statements.
fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Has the self-heal daemons of a volume look for what there is to heal; false if that is not for the caller, or not to be had here.
fn heal(volume: &str) -> bool {
    if !nix::unistd::geteuid().is_root() {
        return false;
    }
    let mut command = Command::new(GLUSTER);
    command.args(["--mode=script", "volume", "heal", volume]).stdin(Stdio::null());
    command.output().is_ok_and(|output| output.status.success())
}

/// The volume as the client of the mount has it, if that tells: not by way of a directory of it that is mounted alone.
fn of_client(place: &Place, volume: &MountSource, log: &CStr) -> Option<Volume> {
    let graph = place.client_graph().ok()?;
    let source = format!("the client of {}", place.mount().point.display());
    Volume::of_mount(&graph, &source, &volume.name, log).ok()
}

/// The file that an answer to `deleted` names.
fn file_of(answer: &[u8]) -> Result<Gfid, Errno> {
    #[derive(Deserialize)]
    struct Answer {
        file: String,
    }
    let answer: Answer = serde_json::from_slice(answer).map_err(|_| Errno::EPROTO)?;
    Gfid::parse(&answer.file).map_err(|_| Errno::EPROTO)
}

/// A restore of `object`, which is tried again while another one is under way.
fn carried(file: &Path, object: &Object<'_>, name: &SnapName) -> Result<Result<(), Errno>, Failure> {
    let begun = Instant::now();
    loop {
        // Bricks that one was tried on do not take it again.
        let id = Gfid::from_bytes(Uuid::new_v4().into_bytes());
        let arming = Arming { name: name.clone(), id }.to_string();
        match undisturbed(file, || object.set(&key("arm"), arming.as_bytes()))? {
            Err(Errno::EBUSY) if begun.elapsed() < UNDER_WAY => {
                std::thread::sleep(Duration::from_secs(1));
            }
            done => return Ok(done),
        }
    }
}

/// The bricks that are to be left out of a restore: they are away, or have the snapshot wrong. An error if one that can be
/// reached has not this version of fsnap.
fn left_out(file: &Path, bricks: &[BrickAnswer]) -> Result<Vec<String>, Failure> {
    let mut away = Vec::new();
    if bricks.iter().all(BrickAnswer::lacks_fsnap) {
        return Err(Failure::new(file, NOT_ON_VOLUME));
    }
    for brick in bricks {
        let shown = format!(
            "{}:{}",
            brick.host.as_deref().unwrap_or("?"),
            brick.path.as_deref().unwrap_or(&brick.name)
        );
        match (&brick.status, Errno::from_raw(brick.errno)) {
            (Some(status), _) if status.fsnap == env!("CARGO_PKG_VERSION") => {
                away.extend(brick.blamed.then(|| brick.name.clone()));
            }
            (Some(status), _) => {
                let ours = env!("CARGO_PKG_VERSION");
                let why = format!(
                    "brick {shown} has fsnap {}, this is {ours}: install the same everywhere",
                    status.fsnap
                );
                return Err(Failure::new(file, why));
            }
            (None, _) if brick.lacks_fsnap() => {
                let why =
                    format!("brick {shown} has no fsnap: install it there, then stop and start the volume");
                return Err(Failure::new(file, why));
            }
            (None, errno @ (Errno::EACCES | Errno::EPERM)) => return Err(Failure::answered(file, errno)),
            (None, _) => away.push(brick.name.clone()),
        }
    }
    Ok(away)
}

fn key(verb: &str) -> CString {
    CString::new(format!("{PREFIX}{verb}")).unwrap_or_default()
}

/// Runs `work`; ends the process if that takes longer than `limit`.
fn within<T>(file: &Path, limit: Duration, work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    let late = format!(
        "no answer for {} s: are too few bricks up (`gluster volume status`)? What was asked may be done all the same: look with \
         `fsnap list`",
        limit.as_secs()
    );
    if_late(file, limit, late, crate::several::end, work)
}

/// Runs `work`, in the middle of which the process should not end: a file of a disperse volume could not be read until it is
/// restored once more.
fn undisturbed<T>(file: &Path, work: impl FnOnce() -> T) -> Result<T, Failure> {
    let _undisturbed = Undisturbed::begin().map_err(|errno| Failure::answered(file, errno))?;
    let late = "its bricks are still at work. If you kill this now, restore the file again".to_owned();
    Ok(if_late(file, LIMIT, late, || (), work))
}

/// Runs `work`; says that it is `late` when it takes longer than `limit`, and does what is to be done `then`.
fn if_late<T>(
    file: &Path,
    limit: Duration,
    late: String,
    then: impl FnOnce() + Send + 'static,
    work: impl FnOnce() -> T,
) -> T {
    let (done, waited) = channel::<()>();
    let late = Failure::new(file, late);
    std::thread::spawn(move || {
        if waited.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
            eprintln!("fsnap: {late}");
            then();
        }
    });
    let result = work();
    drop(done);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn brick(name: &str, version: Option<&str>, errno: i32, blamed: bool) -> BrickAnswer {
        let status = version.map(|fsnap| Status {
            fsnap: fsnap.to_owned(),
            r#type: None,
            reflink: true,
            options: Default::default(),
        });
        BrickAnswer {
            name: name.into(),
            host: Some("h".into()),
            path: Some(format!("/{name}")),
            status,
            errno,
            blamed,
        }
    }

    #[test]
    fn every_brick_has_to_have_this_version() {
        let ours = Some(env!("CARGO_PKG_VERSION"));
        let out = |bricks: &[BrickAnswer]| left_out(Path::new("f"), bricks).map_err(|failure| failure.text);
        let (good, absent) =
            (|| brick("a", ours, 0, false), |name| brick(name, None, Errno::ENODATA as i32, false));
        assert_eq!(out(&[good(), good()]), Ok(vec![]));
        let (down, wrong) = (brick("b", None, Errno::ENOTCONN as i32, false), brick("c", ours, 0, true));
        assert_eq!(out(&[good(), down, wrong]), Ok(vec!["b".to_owned(), "c".to_owned()]));
        let other = out(&[good(), brick("b", Some("0.0.9"), 0, false)]).unwrap_err();
        assert!(other.starts_with("brick h:/b has fsnap 0.0.9, this is "), "{other}");
        let without = out(&[good(), absent("b")]).unwrap_err();
        assert!(without.starts_with("brick h:/b has no fsnap"), "{without}");
        assert_eq!(out(&[absent("a"), absent("b")]), Err(NOT_ON_VOLUME.into()));
    }
}
