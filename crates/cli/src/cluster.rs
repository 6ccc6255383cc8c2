//! What has to be done by way of a private client graph: it is safe on every copy of a file. See docs/architecture.md,
//! "The private client graph".

use std::ffi::{CStr, CString, OsStr};
use std::mem;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
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

/// The graphs that this process has opened.
pub struct Graphs {
    opened: Vec<Opened>,
    /// Volumes of which there can be none, and why.
    lacking: Vec<(MountSource, String)>,
    /// How long to wait until all writers of a file have stopped.
    patience: Duration,
}

struct Opened {
    volume: MountSource,
    source: Volume,
    patience: Duration,
    /// It has said that it waits for a heal.
    waits: bool,
    /// The root of its graphs, a directory of the volume: what the client of the mount has, if that is to be had.
    top: PathBuf,
    graphs: Vec<Opening>,
}

struct Opening {
    /// The bricks that it does not reach.
    without: Vec<String>,
    since: Instant,
    graph: Graph,
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
        Graphs { opened: Vec::new(), lacking: Vec::new(), patience }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.opened.is_empty()
    }

    /// Returns as soon as nobody is in the middle of a change of the file, or [`Errno::EBUSY`] if that takes too long: what is done
    /// to it then, by way of a mount, does not wait for long.
    pub fn await_turn(&mut self, found: &Found) -> Result<Result<(), Errno>, Failure> {
        let limit = LIMIT + self.patience;
        let file = &found.shown;
        let Some((gfid, opened)) = self.opened_if_needed(found)? else { return Ok(Ok(())) };
        within(file, limit, || {
            let object =
                opened.graph(file, &[])?.file(gfid).map_err(|errno| Failure::answered(file, errno))?;
            Ok(object.get(&key("turn")).map(drop))
        })
    }

    /// `glusterfs.fsnap.create` when nobody writes to any copy of the file.
    pub fn create(
        &mut self,
        found: &Found,
        name: &SnapName,
        value: &str,
        drained: Option<Drained>,
    ) -> Result<Result<(), Errno>, Failure> {
        let limit = LIMIT + self.patience;
        let file = &found.shown;
        let Some((gfid, opened)) = self.opened_if_needed(found)? else {
            drop(drained);
            return Ok(volume::command(&found.place, "create", value));
        };
        within(file, limit, || {
            let (object, bricks) = opened.file(file, gfid, &[], name)?;
            match left_out(file, &bricks.bricks) {
                // Whoever may write need not be allowed to ask.
                Err(Failure { errno: Some(Errno::EACCES), .. }) => {}
                answered => drop(answered?),
            }
            drop(drained);
            Ok(object.set(&key("create"), value.as_bytes()))
        })
    }

    /// One snapshot, as the bricks know it.
    pub fn info(&mut self, found: &Found, name: &SnapName) -> Result<Snapshot, Failure> {
        let file = &found.shown;
        let Some((gfid, opened)) = self.opened_if_needed(found)? else {
            return volume::info(&found.place, name).map_err(|errno| found.failed(Deed::Look, errno));
        };
        within(file, LIMIT, || {
            let (_, bricks) = opened.file(file, gfid, &[], name)?;
            bricks.snapshot.ok_or_else(|| Failure::answered(file, Errno::ENODATA))
        })
    }

    /// Waits until a snapshot that is not the same on all bricks is healed, and has the self-heal daemons look for that now if the caller
    /// may.
    pub fn await_healed(&mut self, found: &Found, name: &SnapName) -> Result<(), Failure> {
        match self.opened_if_needed(found)? {
            Some((gfid, opened)) => opened.await_healed(&found.shown, gfid, name),
            None => Ok(()),
        }
    }

    /// Makes the file's content that of its snapshot, on all bricks that can be reached. By what one can tell that a mount shows it, if
    /// that is known.
    pub fn restore(
        &mut self,
        found: &Found,
        name: &SnapName,
        drained: Option<Drained>,
    ) -> Result<Result<Option<Content>, Errno>, Failure> {
        let file = &found.shown;
        let Some((gfid, opened)) = self.opened_if_needed(found)? else {
            drop(drained);
            return Ok(volume::command(&found.place, "restore", name.as_str()).map(|()| None));
        };
        let object = within(file, LIMIT, move || {
            let (_, bricks) = opened.file(file, gfid, &[], name)?;
            let away = left_out(file, &bricks.bricks)?;
            // A brick that comes back meanwhile has not been asked whether it would know a restore from a truncate. And one
            // that has the snapshot wrong gets it right by the data of the others.
            opened.file(file, gfid, &away, name).map(|(object, _)| object)
        })?;
        drop(drained);
        match carried(file, &object, name)? {
            Ok(()) => within(file, LIMIT, || Ok(Ok(object.content().ok()))),
            Err(errno) => Ok(Err(errno)),
        }
    }

    /// Brings the deleted file back that `found` is the snapshot `name` of, with the content of that, as `to` in the directory `dir`.
    pub fn bring_back(
        &mut self,
        found: &Found,
        name: &SnapName,
        dir: &Found,
        to: &OsStr,
    ) -> Result<Result<(), Errno>, Failure> {
        let file = &found.shown;
        let (gfid, opened) = self.opened(found)?;
        if dir.place.mount().volume().as_ref() != Some(&opened.volume) {
            return Err(Failure::new(
                &dir.shown,
                "it is on another volume, or mounted another way: a file comes back on its own",
            ));
        }
        let path = opened.path(dir)?;
        let new = CString::new(to.as_bytes()).map_err(|_| dir.failed(Deed::Look, Errno::EINVAL))?;
        let graph = within(file, LIMIT, move || {
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

    /// The same, or nothing where there can be no graph and the mount does as well: each file is on one brick alone.
    fn opened_if_needed(&mut self, found: &Found) -> Result<Option<(Gfid, &mut Opened)>, Failure> {
        let volume = found.place.mount().volume();
        let known = |(other, _): &&(MountSource, String)| Some(other) == volume.as_ref();
        let lacks = |text: &str| Failure { lacks_graph: true, ..Failure::new(&found.shown, text) };
        let failure = match self.lacking.iter().find(known) {
            Some((_, text)) => lacks(text),
            None => match self.open(found) {
                Ok(at) => return self.find(at, found).map(Some),
                Err(failure) if failure.lacks_graph => failure,
                Err(failure) => return Err(failure),
            },
        };
        if let Some(volume) = volume.filter(|volume| !self.lacking.iter().any(|(other, _)| other == volume)) {
            self.lacking.push((volume, failure.text.clone()));
        }
        match volume::status(&found.place) {
            Ok(status) if status.r#type.as_deref() == Some("distribute") => Ok(None),
            _ => Err(failure),
        }
    }

    /// The file's gfid, and graphs of its volume. It is not looked at by way of the mount: on a disperse volume that waits for who
    /// is in the middle of a change, for as long as it takes.
    fn opened(&mut self, found: &Found) -> Result<(Gfid, &mut Opened), Failure> {
        let at = self.open(found)?;
        self.find(at, found)
    }

    /// Sees to it that there is a graph of the file's volume; which of [`opened`](Self::opened) has it.
    fn open(&mut self, found: &Found) -> Result<usize, Failure> {
        let Found { shown: file, place } = found;
        if !place.is_regular() {
            return Err(found.failed(Deed::Look, Errno::EINVAL));
        }
        let volume = place.mount().volume().ok_or_else(|| {
            let why =
                "this mount does not tell its volume (it was given a volfile): mount it as SERVER:VOLUME";
            Failure { lacks_graph: true, ..Failure::new(file, why) }
        })?;
        let known = self.opened.iter().position(|opened| opened.volume == volume);
        let at = match known {
            Some(at) => at,
            None => {
                let log = std::env::var_os(LOG).map_or("/dev/null".into(), PathBuf::from);
                let log = CString::new(log.into_os_string().into_encoded_bytes()).unwrap_or_default();
                let source = within(file, LIMIT, || {
                    let fetched = Volume::fetch(&volume.server, &volume.name, &log);
                    let found = fetched.or_else(|error| match error {
                        // The client has another server by now, or had from the beginning.
                        GraphError::NoVolfile { .. } => of_client(place, &volume, &log).ok_or(error),
                        other => Err(other),
                    });
                    found.map_err(|error| Failure::without_graph(file, &error))
                })?;
                self.opened.push(Opened {
                    top: volume.subdir.clone(),
                    volume,
                    source,
                    graphs: Vec::new(),
                    patience: self.patience,
                    waits: false,
                });
                self.opened.len() - 1
            }
        };
        within(file, LIMIT, || self.opened[at].graph(file, &[]).map(drop))?;
        Ok(at)
    }

    /// The file by way of the graph of that one.
    fn find(&mut self, at: usize, found: &Found) -> Result<(Gfid, &mut Opened), Failure> {
        let Found { shown: file, place } = found;
        let opened = &mut self.opened[at];
        let path = opened.path(found)?;
        let gfid = within(file, LIMIT, || Ok(opened.graph(file, &[])?.find(&path)))?
            .map_err(|errno| Failure::of(Deed::Look, file, place, errno))?;
        // Somebody may have put another file there.
        match place.may_be(gfid) {
            true => Ok((gfid, opened)),
            false => Err(Failure::answered(file, Errno::ESTALE)),
        }
    }
}

impl Opened {
    /// A graph that does not reach the bricks `without`.
    fn graph(&mut self, file: &Path, without: &[String]) -> Result<&Graph, Failure> {
        // Its clients were told where their bricks listen: one that was started again since is not found by an old one.
        self.graphs.retain(|opening| opening.since.elapsed() < RENEWED_AFTER);
        let known = self.graphs.iter().position(|opening| opening.without == without);
        let at = match known {
            Some(at) => at,
            None => {
                let patience = self.patience.as_secs().to_string();
                let options = [("lock-timeout", &patience[..])];
                let root = Path::new("/");
                let graph = match self.source.graph(&self.top, without, &options) {
                    // A brick has not got that directory yet.
                    Err(_) if self.top != root => {
                        self.top = root.into();
                        self.source.graph(root, without, &options)
                    }
                    made => made,
                };
                let graph = graph.map_err(|error| Failure::without_graph(file, &error))?;
                self.graphs.push(Opening { without: without.to_vec(), since: Instant::now(), graph });
                self.graphs.len() - 1
            }
        };
        Ok(&self.graphs[at].graph)
    }

    /// Where that is in such a graph.
    fn path(&self, found: &Found) -> Result<PathBuf, Failure> {
        let path = match self.top == Path::new("/") {
            true => found.place.in_volume(),
            false => found.place.in_client(),
        };
        path.map_err(|error| Failure::finding(&found.shown, error))
    }

    /// See [`Graphs::await_healed`].
    fn await_healed(&mut self, file: &Path, gfid: Gfid, name: &SnapName) -> Result<(), Failure> {
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
            if mem::replace(&mut self.waits, true) {
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

    /// The file in such a graph, and what the bricks say, also of snapshot `name`.
    fn file(
        &mut self,
        file: &Path,
        gfid: Gfid,
        without: &[String],
        name: &SnapName,
    ) -> Result<(Object<'_>, Bricks), Failure> {
        let answered = |errno| Failure::answered(file, errno);
        let object = self.graph(file, without)?.file(gfid).map_err(answered)?;
        let question = key(&format!("bricks.{name}"));
        let answer = volume::again_if_healed_meanwhile(|| object.get(&question)).map_err(answered)?;
        let bricks = serde_json::from_slice(&answer).map_err(|_| answered(Errno::EPROTO))?;
        Ok((object, bricks))
    }
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
    if_late(file, limit, late, || fsnap_graph::end(crate::FAILED), work)
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
