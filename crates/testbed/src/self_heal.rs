//! Healing of replicated and dispersed volumes.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::{GlusterError, Volume, try_wait_until};

/// How long a self-heal daemon may take to start and to answer.
const DAEMON_WITHIN: Duration = Duration::from_secs(60);
/// Between two looks at what is left to heal. Each starts a client of the volume.
const PAUSE: Duration = Duration::from_millis(300);

impl Volume {
    /// Lets the self-heal daemons heal what the bricks have noted down as pending, and does not wait for the end.
    ///
    /// # Panics
    /// If the self-heal daemons do not take the order, also after a while: they may be about to start.
    pub fn heal(&self) {
        self.launch_heal(&[]);
    }

    /// Like [`Volume::heal`], for all files of the volume, noted down or not. A dispersed volume needs it after
    /// [`Volume::replace_brick`] and [`Volume::reset_brick`].
    ///
    /// # Panics
    /// Like [`Volume::heal`], and if a brick is down.
    pub fn heal_full(&self) {
        self.launch_heal(&["full"]);
    }

    /// How many entries are pending, added up over all bricks; nothing if a brick does not answer.
    pub fn pending_heals(&self) -> Option<usize> {
        pending(&self.heal_command(&["info"]).ok()?)
    }

    /// The files and directories that are in split-brain: paths on the volume, or `<gfid:…>`.
    ///
    /// # Panics
    /// If the volume cannot tell.
    pub fn split_brain(&self) -> Vec<String> {
        let info = self.heal_command(&["info", "split-brain"]).unwrap_or_else(|error| panic!("{error}"));
        entries(&info)
    }

    /// Asks for healing, again and again, until all bricks answer and nothing is pending. What a full heal has yet to
    /// find is not pending.
    ///
    /// # Panics
    /// If that does not happen within `timeout`; the message has the pending entries.
    #[track_caller]
    pub fn await_healed(&self, timeout: Duration) {
        let start = Instant::now();
        while self.pending_heals() != Some(0) {
            let refused = self.heal_command(&[]).err();
            if start.elapsed() >= timeout {
                let refused = refused.map(|error| error.to_string()).unwrap_or_default();
                let info = self.heal_command(&["info"]).unwrap_or_else(|error| error.to_string());
                panic!("{} is not healed after {timeout:?}: {refused}\n{info}", self.name());
            }
            std::thread::sleep(PAUSE);
        }
    }

    #[track_caller]
    fn launch_heal(&self, kind: &[&str]) {
        let mut refused = String::new();
        let launched = try_wait_until("a heal is launched", DAEMON_WITHIN, || {
            let launch = self.heal_command(kind);
            refused = launch.as_ref().err().map(GlusterError::to_string).unwrap_or_default();
            launch.is_ok()
        });
        launched.unwrap_or_else(|error| panic!("{error}: {refused}"));
    }

    fn heal_command(&self, words: &[&str]) -> Result<String, GlusterError> {
        self.gluster([&["volume", "heal", self.name()], words].concat())
    }
}

/// Adds up the `Number of entries: N` of all bricks. A brick that does not answer has `-` in place of a number.
fn pending(info: &str) -> Option<usize> {
    let counts = info.lines().filter_map(|line| line.strip_prefix("Number of entries: "));
    let counts: Option<Vec<usize>> = counts.map(|count| count.trim().parse().ok()).collect();
    counts.filter(|counts| !counts.is_empty()).map(|counts| counts.iter().sum())
}

/// The entries that any brick lists, each once.
fn entries(info: &str) -> Vec<String> {
    let entries = info.lines().filter(|line| line.starts_with(['/', '<']));
    let entries: BTreeSet<&str> = entries.map(str::trim_end).collect();
    entries.into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: &str = "Brick 127.1.1.1:/run/scene/b1/brick\n/file \n<gfid:0f> \nStatus: Connected\n\
                        Number of entries: 2\n\nBrick 127.1.1.2:/run/scene/b2/brick\n/file \nStatus: Connected\n\
                        Number of entries: 1\n\n";

    #[test]
    fn heal_info_is_understood() {
        assert_eq!(pending(INFO), Some(3));
        assert_eq!(entries(INFO), ["/file", "<gfid:0f>"]);
        let down = "Status: Transport endpoint is not connected\nNumber of entries: -\n";
        assert_eq!(pending(&format!("{INFO}{down}")), None);
        assert_eq!(pending(""), None);
    }
}
