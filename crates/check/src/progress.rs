//! What a terminal shows while something takes its time.

use std::time::{Duration, Instant};

use indicatif::ProgressBar;

/// What is done sooner is not shown on its way.
const SOON: Duration = Duration::from_secs(1);

/// How far something is, on standard error if that is a terminal, until this is dropped.
pub struct Progress {
    begun: Instant,
    bar: ProgressBar,
}

impl Progress {
    /// Of what begins now.
    pub fn new() -> Progress {
        Progress { begun: Instant::now(), bar: ProgressBar::new_spinner() }
    }

    /// Shows how far it is; may be called as often as one likes.
    pub fn tells(&self, text: impl FnOnce() -> String) {
        if !self.bar.is_hidden() && self.begun.elapsed() >= SOON {
            self.bar.set_message(text());
            self.bar.tick();
        }
    }
}

impl Default for Progress {
    fn default() -> Self {
        Progress::new()
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
