//! What the command was given.

use std::path::{Path, PathBuf};

use nix::errno::Errno;

use crate::failure::{Deed, Failure};
use crate::place::Place;

/// A file or directory as it was given, and what that is.
#[derive(Debug)]
pub struct Found {
    /// How it is called.
    pub shown: PathBuf,
    /// What it is.
    pub place: Place,
}

impl Found {
    /// What `path` leads to.
    pub fn at(path: &Path) -> Result<Found, Failure> {
        match Place::at(path) {
            Ok(place) => Ok(Found { shown: path.to_owned(), place }),
            Err(error) => Err(Failure::finding(path, error)),
        }
    }

    /// What the kernel would say if `deed` were tried by way of the mount and not around it: `EROFS` if that is read-only.
    pub fn may_change(&self, deed: Deed) -> Result<(), Failure> {
        match self.place.mount().is_read_only() {
            true => Err(self.failed(deed, Errno::EROFS)),
            false => Ok(()),
        }
    }

    /// What the volume answered when `deed` was tried on it.
    pub fn failed(&self, deed: Deed, errno: Errno) -> Failure {
        Failure::of(deed, &self.shown, &self.place, errno)
    }
}
