//! One process, FUSE straight over a brick graph: the quickest way to a translator.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::{Mount, Scene};

/// Volfile of storage/posix alone.
pub const VOLFILE_POSIX: &str = include_str!("../../../xlator-volfiles/posix.vol");
/// Volfile of user/fsnap over storage/posix.
pub const VOLFILE_FSNAP: &str = include_str!("../../../xlator-volfiles/fsnap.vol");

/// A mount of a volfile, FUSE and brick in one process. Dropping it unmounts.
pub struct VolfileMount {
    mount: Mount,
    brick: PathBuf,
}

impl Scene {
    /// Mounts the graph of a volfile at `at`. `template` is the volfile's text, in which `@BRICK@` stands for the
    /// directory `brick` of the scene, made if it is missing.
    ///
    /// # Panics
    /// If the mount does not come up.
    pub fn mount_volfile(
        &self,
        template: &str,
        brick: impl AsRef<Path>,
        at: impl AsRef<Path>,
    ) -> VolfileMount {
        self.mount_volfile_under(&[], template, brick, at)
    }

    /// The same, with the process run by the command `tool`, such as valgrind and its arguments.
    ///
    /// # Panics
    /// If the mount does not come up.
    pub fn mount_volfile_under(
        &self,
        tool: &[&str],
        template: &str,
        brick: impl AsRef<Path>,
        at: impl AsRef<Path>,
    ) -> VolfileMount {
        let (brick, at) = (brick.as_ref(), at.as_ref());
        assert!(template.contains("@BRICK@"), "the volfile has no place @BRICK@");
        fs::create_dir_all(self.path(brick)).expect("cannot make a brick directory");
        let name = at.display().to_string().trim_start_matches('/').replace('/', "-");
        let volfile = format!("/run/private/{name}.vol");
        let text = template.replace("@BRICK@", brick.to_str().expect("the brick's path is UTF-8"));
        fs::write(self.path(&volfile), text).expect("cannot write a volfile");
        // There is no md-cache in the graph to tell the kernel that its pages are out of date.
        let args = ["--auto-invalidation=on".into(), "-f".into(), volfile.into()];
        let tool: Vec<_> = tool.iter().map(Into::into).collect();
        let mount = Mount::under(self, &tool, &args, at);
        VolfileMount { mount, brick: self.path(brick) }
    }
}

impl VolfileMount {
    /// Where the test process finds the mount's root.
    pub fn path(&self) -> PathBuf {
        self.mount.path()
    }

    /// Where the graph is mounted, as seen inside the scene.
    pub fn at(&self) -> &Path {
        self.mount.at()
    }

    /// Where the test process finds the brick's directory.
    pub fn brick(&self) -> &Path {
        &self.brick
    }

    /// See [`Mount::end`].
    pub fn end(self, within: Duration) {
        self.mount.end(within);
    }

    /// The pid of the one process, as the test process sees it.
    pub fn pid(&self) -> u32 {
        self.mount.pid()
    }
}
