//! Volumes of several bricks, served by real brick processes.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::{Disk, GlusterError, Mount, Scene, process, wait_until};

const BRICK_WITHIN: Duration = Duration::from_secs(60);

/// How a volume spreads files over its bricks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
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

impl Layout {
    fn words(self) -> Vec<String> {
        match self {
            Layout::Distribute => Vec::new(),
            Layout::Replicate(count) => vec!["replica".into(), count.to_string()],
            Layout::Arbiter => ["replica", "3", "arbiter", "1"].map(String::from).into(),
            Layout::Disperse { data, redundancy } => {
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
    /// The brick's directory, as seen inside the scene.
    pub dir: PathBuf,
}

/// A volume that is yet to be made; see [`Scene::volume`].
pub struct VolumeBuilder {
    scene: Scene,
    name: String,
    layout: Layout,
    bricks: Vec<Brick>,
    options: Vec<(String, String)>,
}

impl Scene {
    /// Begins a volume, distributed unless told otherwise. Needs [`Scene::start_glusterd`].
    pub fn volume(&self, name: &str) -> VolumeBuilder {
        VolumeBuilder {
            scene: self.clone(),
            name: name.to_owned(),
            layout: Layout::Distribute,
            bricks: Vec::new(),
            options: Vec::new(),
        }
    }
}

impl VolumeBuilder {
    /// How to spread files. A multiple of the layout's bricks makes the volume distributed on top of it.
    pub fn layout(mut self, layout: Layout) -> VolumeBuilder {
        self.layout = layout;
        self
    }

    /// Adds a brick in the directory `dir` of the scene. The first brick's host is 127.1.1.1, the second's 127.1.1.2, …
    pub fn brick(mut self, dir: impl AsRef<Path>) -> VolumeBuilder {
        let host = format!("127.1.1.{}", self.bricks.len() + 1);
        self.bricks.push(Brick { host, dir: dir.as_ref().to_owned() });
        self
    }

    /// Adds a brick on each disk, in its directory `brick`.
    pub fn disks(self, disks: &[Disk]) -> VolumeBuilder {
        disks.iter().fold(self, |volume, disk| volume.brick(disk.at().join("brick")))
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
        let VolumeBuilder { scene, name, layout, bricks, options } = self;
        for brick in &bricks {
            fs::create_dir_all(scene.path(&brick.dir)).expect("cannot make a brick directory");
        }
        let mut create = vec!["volume".to_owned(), "create".to_owned(), name.clone()];
        create.extend(layout.words());
        create.extend(bricks.iter().map(|brick| format!("{}:{}", brick.host, brick.dir.display())));
        create.push("force".to_owned());
        scene.gluster_ok(create);
        let volume = Volume { scene, name, bricks };
        for (option, value) in &options {
            volume.set(option, value);
        }
        volume.start();
        volume
    }
}

/// A volume with its bricks.
pub struct Volume {
    scene: Scene,
    name: String,
    bricks: Vec<Brick>,
}

impl Volume {
    /// The volume's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The volume's bricks, in the order in which they were added. Bricks are counted from 0.
    pub fn bricks(&self) -> &[Brick] {
        &self.bricks
    }

    /// Where the test process finds the directory of brick `n`.
    pub fn brick_path(&self, n: usize) -> PathBuf {
        self.scene.path(&self.bricks[n].dir)
    }

    /// Runs `gluster --mode=script ARGS` and returns what it printed.
    pub fn gluster<I>(&self, args: I) -> Result<String, GlusterError>
    where
        I: IntoIterator<Item: AsRef<OsStr>>,
    {
        self.scene.gluster(args)
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
        (0..self.bricks.len()).for_each(|n| self.await_brick(n));
    }

    /// Stops the volume, by force; its bricks end.
    ///
    /// # Panics
    /// If glusterd refuses.
    pub fn stop(&self) {
        let pids: Vec<u32> = (0..self.bricks.len()).filter_map(|n| self.try_brick_pid(n)).collect();
        self.gluster_ok(["volume", "stop", &self.name, "force"]);
        let what = format!("the bricks of {} have ended", self.name);
        wait_until(&what, BRICK_WITHIN, || pids.iter().all(|&pid| process::is_gone(pid)));
    }

    /// Stops the volume, by force, while bricks of others in the same processes go on (`cluster.brick-multiplex`).
    ///
    /// # Panics
    /// If glusterd refuses.
    pub fn detach(&self) {
        self.gluster_ok(["volume", "stop", &self.name, "force"]);
    }

    /// Mounts the volume at the absolute path `at` of the scene, and waits until the client is connected to all bricks
    /// that run.
    ///
    /// # Panics
    /// If it does not come up.
    pub fn mount(&self, at: impl AsRef<Path>) -> Mount {
        self.mount_with(at, &[])
    }

    /// Like [`Volume::mount`], with more arguments for glusterfs, such as `--attribute-timeout=0`.
    pub fn mount_with(&self, at: impl AsRef<Path>, args: &[&str]) -> Mount {
        let server = OsString::from("--volfile-server=127.1.1.1");
        let mut all = vec![server, format!("--volfile-id={}", self.name).into()];
        all.extend(args.iter().map(OsString::from));
        let mount = Mount::new(&self.scene, &all, at.as_ref());
        mount.wait_connected(self.running());
        mount
    }

    /// The pid of the process of brick `n`, as the test process sees it, if it runs.
    pub fn try_brick_pid(&self, n: usize) -> Option<u32> {
        let brick = &self.bricks[n];
        let dir = brick.dir.display().to_string().trim_start_matches('/').replace('/', "-");
        let file = format!("/run/gluster/vols/{}/{}-{dir}.pid", self.name, brick.host);
        let inner = fs::read_to_string(self.scene.path(file)).ok()?.trim().parse().ok()?;
        self.scene.outer_pid(inner)
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
        self.scene.statedump(self.brick_pid(n))
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

    /// How many bricks run.
    pub fn running(&self) -> usize {
        (0..self.bricks.len()).filter(|&n| self.try_brick_pid(n).is_some()).count()
    }

    fn await_brick(&self, n: usize) {
        wait_until(&format!("brick {n} of {} runs", self.name), BRICK_WITHIN, || {
            self.try_brick_pid(n).is_some()
        });
    }
}
