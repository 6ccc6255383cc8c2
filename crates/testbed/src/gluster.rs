//! glusterd and the gluster command.

use std::ffi::OsStr;
use std::fs;
use std::time::Duration;

use nix::sys::signal::Signal;
use thiserror::Error;

use crate::{Scene, process, run, wait_until};

/// Makes gsyncd look not installed: asking it for its settings is nearly all of glusterd's start (1.2 of 1.3 s).
const WITHOUT_GEO_REPLICATION: &str = r#"
gsyncd=$(glusterfs --print-libexecdir)/gsyncd
[ -e "$gsyncd" ] && [ ! -e /run/private/gsyncd ] || exit 0
echo '#!/not/installed' >/run/private/gsyncd
chmod 755 /run/private/gsyncd
mount --bind /run/private/gsyncd "$gsyncd"
"#;
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// A gluster command that failed.
#[derive(Debug, Error)]
#[error("gluster {command}: {output}")]
pub struct GlusterError {
    /// The command, without the leading `gluster`.
    pub command: String,
    /// What it printed.
    pub output: String,
}

impl Scene {
    /// Starts the management daemon, without geo-replication, and waits until it answers. Its pid in the scene is in
    /// `/run/glusterd.pid`.
    ///
    /// # Panics
    /// If it does not.
    pub fn start_glusterd(&self) {
        self.shell(WITHOUT_GEO_REPLICATION, &[]);
        run(self.command("glusterd").args(["-p", "/run/glusterd.pid"]));
        wait_until("glusterd answers", ANSWER_WITHIN, || self.gluster(["pool", "list"]).is_ok());
    }

    /// Kills the management daemon and starts it again. Bricks run on.
    ///
    /// # Panics
    /// If it does not run, or does not come back.
    pub fn restart_glusterd(&self) {
        let inner = fs::read_to_string(self.path("/run/glusterd.pid")).expect("glusterd was never started");
        let inner = inner.trim().parse().expect("a pid");
        let pid = process::outer_pid(self.pid(), inner).expect("glusterd does not run");
        process::signal(pid, Signal::SIGKILL);
        wait_until("glusterd is gone", ANSWER_WITHIN, || process::is_gone(pid));
        self.start_glusterd();
    }

    /// Runs `gluster --mode=script ARGS` and returns what it printed.
    pub fn gluster<I>(&self, args: I) -> Result<String, GlusterError>
    where
        I: IntoIterator<Item: AsRef<OsStr>>,
    {
        let mut command = self.command("gluster");
        let args: Vec<_> = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
        let output = command.arg("--mode=script").args(&args).output().expect("cannot run nsenter");
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(stdout);
        }
        let stderr = String::from_utf8_lossy(&output.stderr);
        let said = format!("{}{}", stdout, stderr).trim().to_owned();
        Err(GlusterError { command: args.join(OsStr::new(" ")).to_string_lossy().into_owned(), output: said })
    }
}
