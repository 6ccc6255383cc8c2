//! The end of every log of a scene, for the reader of a failed test. `FSNAP_KEEP=1` keeps the whole.

use std::fs;
use std::path::{Path, PathBuf};

/// GlusterFS's log directory; private to the scene.
pub(crate) const LOG_DIR: &str = "/var/log/glusterfs";
const LINES: usize = 20;
/// What does not fit into one line of a report is cut.
const WIDTH: usize = 300;

/// Prints the last lines of every log under the scene's `root` to stderr.
pub(crate) fn print_tails(root: &Path) {
    let mut logs = Vec::new();
    collect(&root.join(LOG_DIR.trim_start_matches('/')), &mut logs);
    logs.sort();
    for log in logs {
        let Ok(bytes) = fs::read(&log) else { continue };
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        let tail = &lines[lines.len().saturating_sub(LINES)..];
        let name = log.strip_prefix(root).unwrap_or(&log);
        eprintln!("---- /{}, last {} of {} lines", name.display(), tail.len(), lines.len());
        for line in tail {
            eprintln!("{}", line.chars().take(WIDTH).collect::<String>());
        }
    }
}

fn collect(dir: &Path, logs: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&path, logs);
        } else if path.extension().is_some_and(|extension| extension == "log") {
            logs.push(path);
        }
    }
}
