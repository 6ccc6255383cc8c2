//! Real bricks, volumes and mounts for the tests of fsnap: no part of GlusterFS is imitated.
//!
//! A [`Scene`] is a set of private namespaces (mount, net, pid, uts, ipc) on the machine that runs the test. Its
//! first process, the *holder*, blocks on a pipe that the test process owns. When the test process goes away, for
//! whatever reason, the holder reads end-of-file and exits, the kernel kills every process of the scene, drops its
//! mounts and thereby frees its loop devices. Nothing is left behind, also after SIGKILL.
//!
//! The test process stays outside. It reaches files through `/proc/<holder>/root` ([`Scene::path`]) and runs commands
//! inside with nsenter ([`Scene::command`]). What it sees of processes are its own pids ([`Volume::brick_pid`]).
//!
//! - [`Scene::disk`]: a file system of its own on a loop device, enough for tests without GlusterFS.
//! - [`Scene::install_translator`]: makes a translator visible to GlusterFS inside the scene only.
//! - [`Scene::mount_volfile`]: one process, FUSE straight over a brick graph.
//! - [`Scene::start_glusterd`], [`Scene::volume`], [`Volume::mount`]: a real volume of several bricks. Addresses
//!   127.1.1.1, 127.1.1.2, … serve as hosts, and scenes side by side do not see each other.
//! - [`Cluster`]: several hosts. Each is a scene with a glusterd, and can be cut off and killed. With
//!   `FSNAP_CONTAINERS=PROJECT` in the environment the hosts are the containers of docker/compose.yaml (`make docker-test`).
//!
//! Whatever cannot be set up panics with the command and its output. When a scene is dropped during a panic, it prints
//! the end of every GlusterFS log. With `FSNAP_KEEP=1` in the environment scenes stay, and print how to enter and how
//! to end them. All this needs root.

mod cluster;
mod containers;
mod disk;
mod entries;
mod full;
mod gluster;
mod holder;
mod logs;
mod mount;
mod probe;
mod process;
mod rebalance;
mod scene;
mod self_heal;
mod server;
mod translator;
mod volfile;
mod volume;
mod wait;

pub use cluster::Cluster;
pub use disk::{Disk, Fs};
pub use entries::{entry_line, remove_entry_line, set_entry_line};
pub use full::{Full, fill_up};
pub use gluster::GlusterError;
pub use mount::Mount;
pub use nix::errno::Errno;
pub use probe::{checksum, content, df_used, fill, getx, listx, removex, run, setx, try_checksum};
pub use rebalance::{Moved, Rebalancer};
pub use scene::Scene;
pub use translator::translator_path;
pub use volfile::{VOLFILE_FSNAP, VOLFILE_POSIX, VolfileMount};
pub use volume::{Brick, Volume, VolumeBuilder, VolumeType};
pub use wait::{TimedOut, try_wait_until, wait_until};
