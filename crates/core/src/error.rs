//! Why a call fails, in words for the log and as the errno that the caller sees.

use std::borrow::Cow;

/// Shorthand for results whose error is [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that can go wrong. The text says why and, where somebody can act, what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// `EINVAL`: a name or value that does not follow the grammar.
    #[error("bad value: {0}")]
    BadValue(Cow<'static, str>),
    /// `EOPNOTSUPP`: a verb that this version does not have.
    #[error("unknown fsnap command {0:?}: is this version of fsnap too old for it?")]
    UnknownCommand(String),
    /// `EINVAL`: snapshots are for regular files.
    #[error("not a regular file: only regular files have snapshots")]
    NotRegular,
    /// `EROFS`: a change to what lies in `.fsnap`.
    #[error("snapshots are read-only: {0}")]
    ReadOnly(&'static str),
    /// `EEXIST`: the name is taken.
    #[error("snapshot {0} exists already: choose another name or delete it first")]
    Exists(String),
    /// `EEXIST`: a file has the name that a deleted one is to have again.
    #[error("there is a file {0} by now: rename it first")]
    FileExists(String),
    /// `ENODATA`: there is no such snapshot.
    #[error("there is no snapshot {0} of this file")]
    NoSnapshot(String),
    /// `EBUSY`: the snapshot is held.
    #[error("snapshot {0} is held: release it first")]
    Held(String),
    /// `EBUSY`: the file may not be deleted while it has snapshots.
    #[error(
        "the file has snapshots, and on-unlink is refuse: delete them first (glusterfs.fsnap.list names them)"
    )]
    HasSnapshots,
    /// `ENOENT`: nothing has the name that was to be removed or renamed.
    #[error("nothing has that name any more")]
    NoEntry,
    /// `EBUSY`: a name went from file to file while somebody wanted to take it.
    #[error("the name was given to other files again and again meanwhile: try again")]
    Renamed,
    /// `EBUSY`: rebalance is at work on the file, or has moved it away.
    #[error("the file is being migrated or was migrated away: try again when rebalance is done with it")]
    Migrating,
    /// `EBUSY`: another command on this file took too long.
    #[error("waited {0} s for other commands on this file: try again")]
    Busy(u64),
    /// `EBUSY`: the file is being restored.
    #[error("the file is being restored: try again when that is over, at the latest in a minute")]
    Restoring,
    /// `EBUSY`: who asks had the file armed just now.
    #[error(
        "a restore of this user had the file for itself just now, and leaves it to others for as long: try again in {0} s"
    )]
    TakesTurns(u64),
    /// `ENOTCONN`: the brick is going down, or was started again meanwhile.
    #[error("the brick is going down: ask again when it is back")]
    Leaving,
    /// `EBUSY`: the brick must be stopped for this.
    #[error("the brick is in use ({0}): stop it first")]
    InUse(String),
    /// `EDQUOT`: the file has as many snapshots as it may.
    #[error("the file has {0} snapshots, max-snapshots is reached: delete some first")]
    TooMany(usize),
    /// `E2BIG`: a snapshot of the file would take more space for xattrs than it may.
    #[error(
        "the file's user.* xattrs take more than {0} bytes, names and values, of which each snapshot has a copy: remove some (`setfattr -x`)"
    )]
    TooManyXattrs(usize),
    /// `ENOSPC`: the brick has less free space than `min-free` asks.
    #[error("{free} % of the brick are free, min-free asks for {min} %")]
    LowSpace {
        /// Free blocks, in percent.
        free: u64,
        /// The limit, in percent.
        min: u8,
    },
    /// `EOPNOTSUPP`: a case that is refused on purpose.
    #[error("not supported: {0}")]
    Unsupported(Cow<'static, str>),
    /// `ENAMETOOLONG`: file name, `@` and snapshot name together exceed 255 bytes.
    #[error("file name and snapshot name together are longer than 255 bytes: choose a shorter snapshot name")]
    NameTooLong,
    /// `ESTALE`: the file is not on this brick (any more). Makes DHT look for it elsewhere.
    #[error("the file is not on this brick")]
    Gone,
    /// `EIO`: another brick of the set may know, or this one will when it is healed. Replicate and disperse then ask the
    /// next one, and entry heal goes on with the other names (`afr_selfheal_entry_do_subvol`).
    #[error("not healed yet: {0}")]
    Unhealed(Cow<'static, str>),
    /// `ENOTEMPTY`: the directory holds snapshots.
    #[error("there are snapshots in this directory: {0}")]
    NotEmpty(String),
    /// `EIO`: what is on disk is not what fsnap wrote, or was not written whole.
    #[error("damaged: {0}")]
    Damaged(String),
    /// The errno by which a translator above has refused a change of the file's content.
    #[error(
        "another translator forbids changes of this file's content, as it would a write (features.worm, a mandatory lock, a lease, \
         read-only): {}", std::io::Error::from_raw_os_error(*_0)
    )]
    RefusedAbove(i32),
    /// The errno of a system call that failed.
    #[error("{what}: {}", std::io::Error::from_raw_os_error(*errno))]
    Os {
        /// What was tried.
        what: &'static str,
        /// The errno that the kernel gave.
        errno: i32,
    },
}

impl Error {
    /// The errno for the caller.
    ///
    /// Never `ENOSYS` (the kernel would disable xattrs for the whole mount), `ESTALE` only for [`Error::Gone`], and never
    /// `ENOENT` of a command (DHT takes them for a migrated file).
    pub fn errno(&self) -> i32 {
        match self {
            Error::BadValue(_) | Error::NotRegular => libc::EINVAL,
            Error::UnknownCommand(_) | Error::Unsupported(_) => libc::EOPNOTSUPP,
            Error::ReadOnly(_) => libc::EROFS,
            Error::Exists(_) | Error::FileExists(_) => libc::EEXIST,
            Error::NoSnapshot(_) => libc::ENODATA,
            Error::NoEntry => libc::ENOENT,
            Error::Held(_)
            | Error::HasSnapshots
            | Error::Renamed
            | Error::Migrating
            | Error::Busy(_)
            | Error::Restoring
            | Error::TakesTurns(_)
            | Error::InUse(_) => libc::EBUSY,
            Error::TooMany(_) => libc::EDQUOT,
            Error::TooManyXattrs(_) => libc::E2BIG,
            Error::LowSpace { .. } => libc::ENOSPC,
            Error::NameTooLong => libc::ENAMETOOLONG,
            Error::Leaving => libc::ENOTCONN,
            Error::Gone => libc::ESTALE,
            Error::NotEmpty(_) => libc::ENOTEMPTY,
            Error::Damaged(_) | Error::Unhealed(_) => libc::EIO,
            Error::RefusedAbove(errno) => *errno,
            Error::Os { errno, .. } => match *errno {
                libc::ENOSYS => libc::EOPNOTSUPP,
                libc::ENOENT | libc::ESTALE | libc::ENODATA | libc::EEXIST => libc::EIO,
                other => other,
            },
        }
    }

    /// True if the cluster or the brick is at fault, false if the caller asked for what can't be had.
    pub fn is_fault(&self) -> bool {
        matches!(self, Error::Damaged(_) | Error::Os { .. })
    }

    /// A [`Error::BadValue`] with a fixed text.
    pub const fn bad(text: &'static str) -> Self {
        Error::BadValue(Cow::Borrowed(text))
    }

    /// An [`Error::Unsupported`] with a fixed text.
    pub const fn unsupported(text: &'static str) -> Self {
        Error::Unsupported(Cow::Borrowed(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errnos_that_would_confuse_the_cluster_never_leave() {
        for errno in 1..=133 {
            let seen = Error::Os { what: "x", errno }.errno();
            assert!(![libc::ENOSYS, libc::ENOENT, libc::ESTALE, libc::ENODATA].contains(&seen), "{errno}");
        }
        assert_eq!(Error::Os { what: "x", errno: libc::ENOSPC }.errno(), libc::ENOSPC);
        assert_eq!(Error::Gone.errno(), libc::ESTALE);
        assert_eq!(Error::NotEmpty("x".into()).errno(), libc::ENOTEMPTY);
        assert_eq!(Error::FileExists("x".into()).errno(), libc::EEXIST);
    }
}
