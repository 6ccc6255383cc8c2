//! What goes wrong, as a sentence that says what to do.

use std::fmt;
use std::io;
use std::path::Path;

use fsnap_check::escaped;
use nix::errno::Errno;

use crate::place::Place;
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

/// What was tried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Deed {
    /// To write out what this client has.
    Drain,
    /// To take a snapshot.
    Create,
    /// To delete one.
    Delete,
    /// To forbid its deletion.
    Hold,
    /// To allow it.
    Release,
    /// To restore one.
    Restore,
    /// To ask for one or all, or to look into a directory.
    Look,
    /// To ask for fsnap itself.
    Status,
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

/// The table of docs/semantics.md, "Errors", as far as the errno alone tells.
fn sentence(deed: Deed, errno: Errno) -> String {
    use Deed::{Create, Delete, Drain, Look, Restore, Status};
    let text = match (deed, errno) {
        (_, Errno::ENOENT) => "there is no such file; the snapshots of deleted files are in `fsnap list DIR`",
        (Drain, Errno::EACCES) | (Look, Errno::EACCES) => "you have no read permission for it",
        (Status, Errno::EACCES) => "you have no permission to look there",
        (_, Errno::EACCES) => "you have no write permission for the file",
        (Drain, other) => {
            return format!("its data can't be written out ({}): nothing was done", other.desc());
        }
        (_, Errno::EINVAL) => {
            "the client has lost track of the file: look at it again (stat), then try again"
        }
        (Create, Errno::EEXIST) => {
            "there is a snapshot of that name: choose another, or delete that one first"
        }
        (Restore, Errno::EEXIST) => {
            "the deleted file can't come back, its name is another file's: rename that one first"
        }
        (_, Errno::ENODATA) => "there is no such snapshot: `fsnap list FILE` shows what there is",
        (Delete, Errno::EBUSY) => {
            "it is held (`fsnap release` allows its deletion), or other commands or rebalance are at work on the file: \
             try again then"
        }
        (Create, Errno::EBUSY) => {
            "its writers have not stopped in time (--timeout), or rebalance or other commands are at work on the file: try \
             again"
        }
        (_, Errno::EBUSY) => "rebalance or other commands are at work on the file: try again later",
        (Create, Errno::E2BIG) => {
            "its user.* xattrs, which each snapshot has a copy of, take more than 256 KiB: remove some (`setfattr -x`)"
        }
        (_, Errno::EDQUOT) => {
            "the file has as many snapshots as it may (option max-snapshots): delete some first"
        }
        (_, Errno::ENOSPC) => {
            "its brick has too little free space (option min-free, `fsnap status`): make room, or delete snapshots"
        }
        (_, Errno::ENAMETOOLONG) => {
            "file name and snapshot name together exceed 255 bytes: choose a shorter name for the snapshot"
        }
        (Create, Errno::EROFS) => {
            "it is a snapshot, and they have none; or the mount is read-only, or too few bricks are up to write \
             (`gluster volume status`)"
        }
        (Restore, Errno::EROFS) => {
            "the volume or the file is write-once (features.worm, features.worm-file-level), or the mount is read-only, or too \
             few bricks are up to write, or a snapshot was given whose file is not beside it: give FILE@NAME"
        }
        (Restore, Errno::EAGAIN) => {
            "somebody has a mandatory lock on the file (locks.mandatory-locking): restore it when that is released"
        }
        (_, Errno::EROFS) => {
            "the mount is read-only, or too few bricks are up to write (`gluster volume status`)"
        }
        (_, Errno::EPERM) => "it is not permitted to you",
        (_, Errno::ESTALE) => "the file was deleted or replaced meanwhile: look again, then try again",
        (_, Errno::EIO) => {
            "what is on the disk is damaged or not healed yet; the log of its brick says what. Look with `fsnap-check \
             BRICK` on the servers and `gluster volume heal VOLUME info`"
        }
        (_, Errno::ENOTCONN | Errno::ETIMEDOUT) => {
            "too few of its bricks can be reached (`gluster volume status`). What was asked may be done when they are \
             back: look with `fsnap list`"
        }
        (_, Errno::EPROTO) => "the volume's answer can't be understood: is this fsnap too old for it?",
        (_, other) => return format!("{} ({other:?}); the log of its brick may say more", other.desc()),
    };
    text.to_owned()
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
        return "fsnap is switched off on this volume; `gluster volume set VOLUME user.xlator.fsnap.enabled on`".into();
    }
    if deed != Deed::Restore {
        return match (deed, status.reflink) {
            (Deed::Create, false) => "the brick's file system can't share blocks: it must be XFS with reflink, or btrfs",
            _ => {
                "not possible for this file: it is sharded, under quota, or something else named .fsnap is in its \
                 directory; the log of its brick says which"
            }
        }
        .into();
    }
    "not possible here: features.trash is on, bitrot has signed the file, or it is under quota on a disperse volume, where it must \
     not be longer than the snapshot (`truncate` it first); the log of its brick says which"
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEEDS: [Deed; 8] = [
        Deed::Drain,
        Deed::Create,
        Deed::Delete,
        Deed::Hold,
        Deed::Release,
        Deed::Restore,
        Deed::Look,
        Deed::Status,
    ];

    #[test]
    fn every_errno_has_a_sentence() {
        for deed in DEEDS {
            for code in 1..134 {
                let text = sentence(deed, Errno::from_raw(code));
                assert!(
                    text.len() > 10 && !text.ends_with('.') && !text.contains("  "),
                    "{deed:?} {code}: {text}"
                );
            }
        }
    }

    #[test]
    fn sentences_fit_the_deed() {
        for (deed, errno, part) in [
            (Deed::Create, Errno::EEXIST, "choose another"),
            (Deed::Restore, Errno::EEXIST, "rename that one"),
            (Deed::Delete, Errno::EBUSY, "fsnap release"),
            (Deed::Hold, Errno::EBUSY, "try again later"),
            (Deed::Drain, Errno::ENOSPC, "can't be written out"),
            (Deed::Create, Errno::ENOSPC, "min-free"),
            (Deed::Create, Errno::E2BIG, "256 KiB"),
            (Deed::Look, Errno::EACCES, "read permission"),
            (Deed::Delete, Errno::EACCES, "write permission"),
            (Deed::Hold, Errno::EMFILE, "EMFILE"),
            (Deed::Restore, Errno::EROFS, "write-once"),
            (Deed::Restore, Errno::EAGAIN, "mandatory lock"),
        ] {
            assert!(sentence(deed, errno).contains(part), "{deed:?} {errno}");
        }
    }

    #[test]
    fn subjects_are_escaped() {
        assert_eq!(Failure::new(Path::new("a\nb"), "no").to_string(), "a\\x0ab: no");
    }
}
