//! Volumes of several bricks, served by real brick processes.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::server::Server;
use crate::{Disk, GlusterError, Mount, Scene, process, wait_until};

const BRICK_WITHIN: Duration = Duration::from_secs(60);

/// How a volume spreads files over its bricks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VolumeType {
    /// Each file on one brick.
    Distribute,
    /// Each file on so many bricks.
    Replicate(usize),
    /// Each file on two bricks, its metadata on a third.
    Arbiter,
    /// Each file in fragments, of which `redundancy` may be lost.
    Disperse {
        /// Fragments that hold data.
        data: usize,
        /// Fragments that may be lost.
        redundancy: usize,
    },
}

impl VolumeType {
    fn words(self) -> Vec<String> {
        match self {
            VolumeType::Distribute => Vec::new(),
            VolumeType::Replicate(count) => vec!["replica".into(), count.to_string()],
            VolumeType::Arbiter => ["replica", "3", "arbiter", "1"].map(String::from).into(),
            VolumeType::Disperse { data, redundancy } => {
                vec!["disperse-data".into(), data.to_string(), "redundancy".into(), redundancy.to_string()]
            }
        }
    }
}

/// One brick: a directory that one process serves.
#[derive(Clone, Debug)]
pub struct Brick {
    /// The address of the brick's host.
    pub host: String,
    /// The brick's directory, as seen inside its scene.
    pub dir: PathBuf,
    /// The scene that the brick's process and directory are in.
    pub scene: Scene,
}

impl Brick {
    /// Number `n` of a volume's bricks.
    fn new(servers: &[Server], n: usize, scene: &Scene, dir: PathBuf) -> Brick {
        let server = servers.iter().find(|server| server.scene.is(scene));
        let host = server.expect("the volume's servers include the scene").address(n);
        Brick { host, dir, scene: scene.clone() }
    }

    fn path(&self) -> PathBuf {
        self.scene.path(&self.dir)
    }

    /// What GlusterFS calls it.
    fn name(&self) -> String {
        format!("{}:{}", self.host, self.dir.display())
    }

    fn make_dir(&self) {
        fs::create_dir_all(self.path()).expect("cannot make a brick directory");
    }
}

/// A volume that is yet to be made; see [`Scene::volume`] and [`Cluster::volume`](crate::Cluster::volume).
pub struct VolumeBuilder {
    servers: Vec<Server>,
    client: Scene,
    name: String,
    layout: VolumeType,
    bricks: Vec<Brick>,
    options: Vec<(String, String)>,
}

impl Scene {
    /// Begins a volume, distributed unless told otherwise. Needs [`Scene::start_glusterd`].
    pub fn volume(&self, name: &str) -> VolumeBuilder {
        VolumeBuilder::new(vec![Server::alone(self)], self, name)
    }
}

impl VolumeBuilder {
    /// A volume of bricks on the servers, with mounts in the scene `client`.
    pub(crate) fn new(servers: Vec<Server>, client: &Scene, name: &str) -> VolumeBuilder {
        VolumeBuilder {
            servers,
            client: client.clone(),
            name: name.to_owned(),
            layout: VolumeType::Distribute,
            bricks: Vec::new(),
            options: Vec::new(),
        }
    }

    /// How to spread files. A multiple of the layout's bricks makes the volume distributed on top of it.
    pub fn layout(mut self, layout: VolumeType) -> VolumeBuilder {
        self.layout = layout;
        self
    }

    /// Adds a brick in the directory `dir` of the scene; on a cluster, of its first node. In a scene, the first brick's
    /// host is 127.1.1.1, the second's 127.1.1.2, …
    pub fn brick(self, dir: impl AsRef<Path>) -> VolumeBuilder {
        let scene = self.servers[0].scene.clone();
        self.brick_in(&scene, dir)
    }

    /// Adds a brick in the directory `dir` of the scene of one node of the volume's cluster.
    ///
    /// # Panics
    /// If it is no scene of that cluster's nodes.
    pub fn brick_in(mut self, scene: &Scene, dir: impl AsRef<Path>) -> VolumeBuilder {
        self.bricks.push(Brick::new(&self.servers, self.bricks.len(), scene, dir.as_ref().to_owned()));
        self
    }

    /// Adds a brick on each disk, in its directory `brick`.
    ///
    /// # Panics
    /// If a disk is in no scene of the volume's.
    pub fn disks(self, disks: &[Disk]) -> VolumeBuilder {
        disks.iter().fold(self, |volume, disk| volume.brick_in(disk.scene(), brick_dir(disk)))
    }

    /// Sets a volume option before the start.
    pub fn option(mut self, name: &str, value: &str) -> VolumeBuilder {
        self.options.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Puts the translator user/fsnap above storage/posix of each brick. Needs [`Scene::install_translator`].
    pub fn with_fsnap(self) -> VolumeBuilder {
        self.option("user.xlator.fsnap", "posix")
    }

    /// Makes the volume, sets its options, starts it, and waits for its brick processes.
    ///
    /// # Panics
    /// If glusterd refuses or a brick does not start.
    pub fn start(self) -> Volume {
        let VolumeBuilder { servers, client, name, layout, bricks, options } = self;
        bricks.iter().for_each(Brick::make_dir);
        let mut create = vec!["volume".to_owned(), "create".to_owned(), name.clone()];
        create.extend(layout.words());
        create.extend(bricks.iter().map(Brick::name));
        create.push("force".to_owned());
        let mut volume = Volume { servers, client, name, id: String::new(), bricks: Mutex::new(bricks) };
        volume.gluster_ok(create);
        let info = volume.gluster(["volume", "info", &volume.name]).expect("the volume's description");
        let id = info.lines().find_map(|line| line.strip_prefix("Volume ID: "));
        volume.id = id.expect("the volume's id").to_owned();
        for (option, value) in &options {
            volume.set(option, value);
        }
        volume.start();
        volume
    }
}

/// A volume with its bricks.
pub struct Volume {
    servers: Vec<Server>,
    client: Scene,
    name: String,
    id: String,
    bricks: Mutex<Vec<Brick>>,
}

impl Volume {
    /// The volume's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The volume's bricks, in the order in which they were added. Bricks are counted from 0.
    pub fn bricks(&self) -> Vec<Brick> {
        self.lock_bricks().clone()
    }

    /// Brick `n`.
    ///
    /// # Panics
    /// If the volume has no such brick.
    pub fn brick(&self, n: usize) -> Brick {
        self.lock_bricks()[n].clone()
    }

    fn lock_bricks(&self) -> MutexGuard<'_, Vec<Brick>> {
        self.bricks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the test process finds the directory of brick `n`.
    pub fn brick_path(&self, n: usize) -> PathBuf {
        self.brick(n).path()
    }

    /// Runs `gluster --mode=script ARGS` and returns what it printed. On a cluster, that is on the first node which is
    /// neither cut off nor dead.
    ///
    /// # Panics
    /// If there is none.
    pub fn gluster<I>(&self, args: I) -> Result<String, GlusterError>
    where
        I: IntoIterator<Item: AsRef<OsStr>>,
    {
        let server = self.servers.iter().find(|server| !server.is_away());
        server.expect("a node is in reach").scene.gluster(args)
    }

    #[track_caller]
    fn gluster_ok<I>(&self, args: I)
    where
        I: IntoIterator<Item: AsRef<OsStr>>,
    {
        self.gluster(args).unwrap_or_else(|error| panic!("{error}"));
    }

    /// Sets a volume option.
    ///
    /// # Panics
    /// If glusterd refuses; ask [`Volume::gluster`] for what may fail.
    pub fn set(&self, option: &str, value: &str) {
        self.gluster_ok(["volume", "set", &self.name, option, value]);
    }

    /// Starts the stopped volume and waits for all brick processes.
    ///
    /// # Panics
    /// If one does not start.
    pub fn start(&self) {
        self.gluster_ok(["volume", "start", &self.name]);
        self.await_bricks();
    }

    /// Stops the volume, by force; its bricks end.
    ///
    /// # Panics
    /// If glusterd refuses.
    pub fn stop(&self) {
        let pids: Vec<u32> = self.bricks().iter().filter_map(|brick| self.pid_of(brick)).collect();
        self.gluster_ok(["volume", "stop", &self.name, "force"]);
        let what = format!("the bricks of {} have ended", self.name);
        wait_until(&what, BRICK_WITHIN, || pids.iter().all(|&pid| process::is_gone(pid)));
    }

    /// Stops the volume, by force, while bricks of others in the same processes go on (`cluster.brick-multiplex`), and
    /// waits until those processes have let go of its bricks. GlusterFS 10.3 does that up to a second later, and a brick
    /// that is started again before then is taken for the old one that goes down, for good.
    ///
    /// # Panics
    /// If a brick does not run, glusterd refuses, or something on a brick stays open.
    pub fn detach(&self) {
        let bricks = self.bricks();
        let pids: Vec<_> = (0..bricks.len()).map(|n| self.brick_pid(n)).collect();
        let held = || pids.iter().zip(&bricks).any(|(pid, brick)| process::has_open(*pid, &brick.dir));
        assert!(held(), "nothing is open on the bricks of {}", self.name);
        self.gluster_ok(["volume", "stop", &self.name, "force"]);
        wait_until(&format!("the bricks of {} are detached", self.name), BRICK_WITHIN, || !held());
    }

    /// Mounts the volume at the absolute path `at` of the scene, or of the cluster's client scene, and waits until the
    /// client is connected to all bricks that run and are not cut off.
    ///
    /// # Panics
    /// If it does not come up.
    pub fn mount(&self, at: impl AsRef<Path>) -> Mount {
        self.mount_with(at, &[])
    }

    /// Like [`Volume::mount`], with more arguments for glusterfs, such as `--attribute-timeout=0`.
    pub fn mount_with(&self, at: impl AsRef<Path>, args: &[&str]) -> Mount {
        let mut servers = self.servers.clone();
        // The client would wait for one that is cut off.
        servers.sort_by_key(Server::is_away);
        let server = |server: &Server| format!("--volfile-server={}", server.address(0)).into();
        let mut all: Vec<OsString> = servers.iter().map(server).collect();
        all.push(format!("--volfile-id={}", self.name).into());
        // Else, now and then, it is a part of the id by which it wants to be known to a brick, and is refused for good: it takes
        // the id from the answer of another, and not in one piece (`client_setvolume` of GlusterFS 10 and 11).
        all.push(format!("--xlator-option={}.volume-id={}", self.name, self.id).into());
        all.extend(args.iter().map(OsString::from));
        let mount = Mount::new(&self.client, &all, at.as_ref());
        mount.wait_connected(self.in_reach());
        mount
    }

    /// The pid of the process of brick `n`, as the test process sees it, if it runs.
    pub fn try_brick_pid(&self, n: usize) -> Option<u32> {
        self.pid_of(&self.brick(n))
    }

    fn pid_of(&self, brick: &Brick) -> Option<u32> {
        let dir = brick.dir.display().to_string().trim_start_matches('/').replace('/', "-");
        let file = format!("/run/gluster/vols/{}/{}-{dir}.pid", self.name, brick.host);
        let inner = fs::read_to_string(brick.scene.path(file)).ok()?.trim().parse().ok()?;
        brick.scene.outer_pid(inner)
    }

    /// The pid of the process of brick `n`, as the test process sees it: good for `/proc`.
    ///
    /// # Panics
    /// If the brick does not run.
    pub fn brick_pid(&self, n: usize) -> u32 {
        self.try_brick_pid(n).unwrap_or_else(|| panic!("brick {n} of {} does not run", self.name))
    }

    /// Lets brick `n` write a statedump and returns its text.
    ///
    /// # Panics
    /// If the brick does not run or does not answer.
    pub fn statedump(&self, n: usize) -> String {
        self.brick(n).scene.statedump(self.brick_pid(n))
    }

    /// Kills brick `n` with SIGKILL and waits until it is gone.
    ///
    /// # Panics
    /// If the brick does not run.
    pub fn kill_brick(&self, n: usize) {
        let pid = self.brick_pid(n);
        process::signal(pid, Signal::SIGKILL);
        wait_until(&format!("brick {n} is dead"), BRICK_WITHIN, || process::is_gone(pid));
    }

    /// Starts brick `n` again after it was killed, and with it all others that are down. Clients reconnect by
    /// themselves: see [`Mount::wait_connected`].
    ///
    /// # Panics
    /// If it does not start.
    pub fn restart_brick(&self, n: usize) {
        self.gluster_ok(["volume", "start", &self.name, "force"]);
        self.await_brick(n);
    }

    /// Gives brick `n` up for a new one on `disk`, and waits until that runs. What the others have heals to it: see
    /// [`Volume::await_healed`] and [`Volume::heal_full`]. On a cluster the disk may be on another node.
    ///
    /// # Panics
    /// If glusterd refuses, as it does where nothing can be healed, or if the brick does not start.
    pub fn replace_brick(&self, n: usize, disk: &Disk) {
        let old = self.brick(n);
        let new = Brick::new(&self.servers, n, disk.scene(), brick_dir(disk));
        new.make_dir();
        self.gluster_ok(["volume", "replace-brick", &self.name, &old.name(), &new.name(), "commit", "force"]);
        self.lock_bricks()[n] = new;
        self.await_brick(n);
    }

    /// Empties brick `n`, as if its disk had been changed for a new one, and waits until it runs again. What the others
    /// have heals to it, as after [`Volume::replace_brick`].
    ///
    /// # Panics
    /// If glusterd refuses, as it does where nothing can be healed, or if the brick does not start.
    pub fn reset_brick(&self, n: usize) {
        let brick = self.brick(n);
        let (name, pid) = (brick.name(), self.try_brick_pid(n));
        self.gluster_ok(["volume", "reset-brick", &self.name, &name, "start"]);
        wait_until(&format!("brick {n} has ended"), BRICK_WITHIN, || pid.is_none_or(process::is_gone));
        fs::remove_dir_all(brick.path()).expect("cannot empty a brick");
        brick.make_dir();
        self.gluster_ok(["volume", "reset-brick", &self.name, &name, &name, "commit", "force"]);
        self.await_brick(n);
    }

    /// How many calls of a fop (`LOOKUP`, `MKDIR`, …) have come to all bricks since `gluster volume profile NAME start`.
    ///
    /// # Panics
    /// If they are not counted.
    pub fn calls(&self, fop: &str) -> u64 {
        let info = self.gluster(["volume", "profile", &self.name, "info", "cumulative"]);
        let info = info.unwrap_or_else(|error| panic!("{error}"));
        let calls = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [.., calls, name] = words[..] else { return None };
            calls.parse::<u64>().ok().filter(|_| name == fop)
        };
        info.lines().filter_map(calls).sum()
    }

    /// Adds a brick on each disk, and waits until they run. Nothing moves there: see [`Volume::rebalance`].
    ///
    /// # Panics
    /// If glusterd refuses, or one does not start.
    pub fn add_bricks(&self, disks: &[Disk]) {
        let first = self.bricks().len();
        let brick =
            |(n, disk): (usize, &Disk)| Brick::new(&self.servers, first + n, disk.scene(), brick_dir(disk));
        let new: Vec<Brick> = disks.iter().enumerate().map(brick).collect();
        new.iter().for_each(Brick::make_dir);
        let names = new.iter().map(Brick::name);
        let words = ["volume", "add-brick", &self.name].map(String::from).into_iter();
        self.gluster_ok(words.chain(names).chain(["force".to_owned()]));
        self.lock_bricks().extend(new);
        self.await_bricks();
    }

    /// Runs `gluster volume remove-brick NAME BRICKS COMMAND`, about those of the volume's bricks that `which` says, and
    /// returns what it printed.
    pub fn remove_bricks(&self, which: Range<usize>, command: &str) -> Result<String, GlusterError> {
        let names = self.bricks()[which].iter().map(Brick::name).collect::<Vec<_>>();
        let words = ["volume", "remove-brick", &self.name].map(String::from).into_iter();
        self.gluster(words.chain(names).chain(command.split(' ').map(String::from)))
    }

    /// How many bricks run.
    pub fn running(&self) -> usize {
        self.bricks().iter().filter(|brick| self.pid_of(brick).is_some()).count()
    }

    /// How many bricks run on hosts that are not cut off.
    fn in_reach(&self) -> usize {
        let cut = |brick: &Brick| self.servers.iter().any(|s| s.is_away() && s.scene.is(&brick.scene));
        self.bricks().iter().filter(|brick| !cut(brick) && self.pid_of(brick).is_some()).count()
    }

    /// Waits until all bricks run.
    ///
    /// # Panics
    /// If one does not in time.
    pub(crate) fn await_bricks(&self) {
        (0..self.bricks().len()).for_each(|n| self.await_brick(n));
    }

    fn await_brick(&self, n: usize) {
        wait_until(&format!("brick {n} of {} runs", self.name), BRICK_WITHIN, || {
            self.try_brick_pid(n).is_some()
        });
    }
}

fn brick_dir(disk: &Disk) -> PathBuf {
    disk.at().join("brick")
}
