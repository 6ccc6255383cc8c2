//! A scene: private namespaces in which file systems, bricks, volumes and mounts live.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use crate::holder::Holder;
use crate::{process, run};

/// Private namespaces that end with the test process.
///
/// A clone is another handle on the same scene. Disks, volumes and mounts hold one too: the scene ends when the last
/// of them is dropped.
#[derive(Clone)]
pub struct Scene {
    holder: Arc<Holder>,
}

impl fmt::Debug for Scene {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Scene").field(&self.tag()).finish()
    }
}

impl Scene {
    /// Sets up a new scene: loopback interface up, `/run` private and empty but for `/run/scene` (a place for mount
    /// points) and `/run/gluster`, GlusterFS's state and log directories private.
    ///
    /// # Panics
    /// If that fails, for example without root.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Scene {
        Scene { holder: Arc::new(Holder::spawn()) }
    }

    /// A container that runs, by its name and the pid of its first process. It stays when the handle is dropped.
    pub(crate) fn of_container(name: &str, pid: u32) -> Scene {
        Scene { holder: Arc::new(Holder::of_container(name, pid)) }
    }

    /// The container's first process is another one by now; 0: there is none.
    pub(crate) fn move_to(&self, pid: u32) {
        self.holder.set_pid(pid);
    }

    /// The pid of the scene's first process, as the test process sees it: good for nsenter and `/proc`.
    pub fn pid(&self) -> u32 {
        self.holder.pid()
    }

    /// A name that only this scene has; its disk images begin with it.
    pub fn tag(&self) -> &str {
        self.holder.tag()
    }

    /// Whether both are handles on one scene.
    pub(crate) fn is(&self, other: &Scene) -> bool {
        Arc::ptr_eq(&self.holder, &other.holder)
    }

    /// Where the test process finds the absolute path `inside` of the scene.
    ///
    /// Absolute symbolic links inside the scene still resolve inside it, relative ones may not leave it.
    pub fn path(&self, inside: impl AsRef<Path>) -> PathBuf {
        let inside = inside.as_ref();
        let relative = inside.strip_prefix("/");
        self.holder.root().join(relative.unwrap_or_else(|_| panic!("{} is not absolute", inside.display())))
    }

    /// A command that runs inside, as root, with no input and working directory `/`. Killing or dropping out of the
    /// returned command's child kills what runs inside, but not what that has started in turn.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        self.holder.command(&[], program.as_ref())
    }

    /// A command that runs inside as the given user and group, without supplementary groups.
    pub fn command_as(&self, uid: u32, gid: u32, program: impl AsRef<OsStr>) -> Command {
        let privileges = [format!("--reuid={uid}"), format!("--regid={gid}"), "--clear-groups".to_owned()];
        self.holder.command(&privileges, program.as_ref())
    }

    /// The pid by which the test process knows the process that is `inner` inside the scene, if it lives.
    pub fn outer_pid(&self, inner: u32) -> Option<u32> {
        process::outer_pid(self.pid(), inner)
    }

    /// Lets a GlusterFS process write a statedump and returns its text. `pid` is as the test process sees it.
    ///
    /// # Panics
    /// If the dump does not appear in time.
    pub fn statedump(&self, pid: u32) -> String {
        process::statedump(&self.path("/run/gluster"), pid)
    }

    /// Runs a shell script inside, with `args` as $1, $2, …
    pub(crate) fn shell(&self, script: &str, args: &[&OsStr]) -> String {
        let output = run(self.command("sh").args(["-ec", script, "sh"]).args(args));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub(crate) fn next_image(&self) -> PathBuf {
        self.holder.next_image()
    }
}
