//! What goes wrong, as a sentence that says what to do.

use std::fmt;
use std::io;
use std::path::Path;

use fsnap_check::escaped;
use nix::errno::Errno;

use crate::place::Place;
pub use crate::sentences::Deed;
use crate::sentences::{self, sentence};
use crate::volume;

/// Where nothing answers for fsnap.
pub const NOT_ON_VOLUME: &str = "fsnap is not on this volume: its README tells how to put it there";

/// Something that was not done, and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// The file or snapshot, as it was given, for people.
    pub subject: String,
    /// What the volume or the kernel answered, if it was asked.
    pub errno: Option<Errno>,
    /// Why, and what to do.
    pub text: String,
    /// There is no private client graph of the volume.
    pub lacks_graph: bool,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.subject, self.text)
    }
}

impl Failure {
    /// A failure that is not an errno.
    pub fn new(subject: &Path, text: impl Into<String>) -> Failure {
        Failure { subject: escaped(subject), errno: None, text: text.into(), lacks_graph: false }
    }

    /// Why there is no private client graph of the volume that `subject` is on.
    pub fn without_graph(subject: &Path, why: &fsnap_graph::Error) -> Failure {
        Failure { lacks_graph: true, ..Failure::new(subject, why.to_string()) }
    }

    /// What the volume answered when `deed` was tried on what is at `place`.
    pub fn of(deed: Deed, subject: &Path, place: &Place, errno: Errno) -> Failure {
        let text = match errno {
            Errno::EOPNOTSUPP => unsupported(deed, place),
            Errno::EINVAL if !place.is_regular() => "only regular files have snapshots".into(),
            _ => sentence(deed, errno),
        };
        Failure { errno: Some(errno), ..Failure::new(subject, text) }
    }

    /// What the volume answered when it was asked about `subject`.
    pub fn answered(subject: &Path, errno: Errno) -> Failure {
        Failure { errno: Some(errno), ..Failure::new(subject, sentence(Deed::Look, errno)) }
    }

    /// A failure to find out where a path is.
    pub fn finding(subject: &Path, error: io::Error) -> Failure {
        match error.raw_os_error() {
            Some(code) => Failure::answered(subject, Errno::from_raw(code)),
            None => Failure::new(subject, error.to_string()),
        }
    }
}

/// `EOPNOTSUPP` has many reasons: those that can be seen from here.
fn unsupported(deed: Deed, place: &Place) -> String {
    let status = match volume::status(place) {
        Ok(status) => status,
        Err(Errno::EOPNOTSUPP | Errno::ENODATA) => {
            return NOT_ON_VOLUME.into();
        }
        Err(other) => return sentence(Deed::Status, other),
    };
    let option = |name: &str| status.options.get(name);
    if option("enabled") == Some(&false.into()) {
        return sentences::DISABLED.into();
    }
    match (deed, status.reflink) {
        (Deed::Create, false) => sentences::NO_REFLINK.into(),
        _ => sentence(deed, Errno::EOPNOTSUPP),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_escaped() {
        assert_eq!(Failure::new(Path::new("a\nb"), "no").to_string(), "a\\x0ab: no");
    }
}
