//! Extended attributes: those of GlusterFS that matter here.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use fsnap_core::record::{PAYLOAD, PayloadRecord};
use fsnap_core::{Gfid, Result, acl};
use nix::errno::Errno;
use xattr::FileExt;

use crate::many::{self, Space};
use crate::sys::{Doing, change};

/// The gfid, 16 bytes.
pub(crate) const GFID: &str = "trusted.gfid";
/// Where DHT's link files point to.
pub(crate) const LINKTO: &str = "trusted.glusterfs.dht.linkto";
/// On files that the shard translator has split.
pub(crate) const SHARD: &str = "trusted.glusterfs.shard.block-size";
/// On files that bitrot has signed.
pub(crate) const SIGNATURE: &str = "trusted.bit-rot.signature";
/// The content's size as the disperse translator counts it (u64, big-endian): a fragment is shorter.
pub(crate) const EC_SIZE: &str = "trusted.ec.size";
/// What the disperse translator knows of that may differ on the bricks: two counts, of data and metadata.
pub(crate) const EC_DIRTY: &str = "trusted.ec.dirty";
/// How the disperse translator has split the file: there from the moment when it is made.
pub(crate) const EC_CONFIG: &str = "trusted.ec.config";
/// One per directory that a file is linked in, when `storage.build-pgfid` is on: the number of links (u32, big-endian).
/// Source: `SET_PGFID_XATTR` of storage/posix.
pub(crate) const PGFID: &str = "trusted.pgfid.";

/// Reads an xattr; `None` if the file has none of that name, or its file system has no such namespace.
pub(crate) fn get(file: &File, name: &str) -> Result<Option<Vec<u8>>> {
    match file.get_xattr(name) {
        Err(e) if e.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(None),
        other => other.doing("getxattr"),
    }
}

/// The same of one whose name may be any bytes.
pub(crate) fn get_raw(file: &File, name: &[u8]) -> Result<Option<Vec<u8>>> {
    file.get_xattr(OsStr::from_bytes(name)).doing("getxattr")
}

/// Which of `names` the file has; all of them may be if there are too many to list.
pub(crate) fn have<const N: usize>(file: &File, names: [&str; N]) -> Result<[bool; N]> {
    let listed = match file.list_xattr() {
        Err(e) if e.raw_os_error() == Some(libc::E2BIG) => return Ok([true; N]),
        Err(e) if e.raw_os_error() == Some(libc::EOPNOTSUPP) => return Ok([false; N]),
        other => other.doing("listxattr")?,
    };
    let mut has = [false; N];
    for listed in listed {
        for (has, name) in has.iter_mut().zip(names) {
            *has |= listed == name;
        }
    }
    Ok(has)
}

#[track_caller]
pub(crate) fn set(file: &File, name: impl AsRef<OsStr>, value: &[u8]) -> Result<()> {
    change!("setxattr", file.set_xattr(name.as_ref(), value).map_err(errno)).doing("setxattr")
}

/// Gives the file so many xattrs of so many bytes that mean nothing, for the space that they take.
#[track_caller]
pub(crate) fn pad(file: &File, count: u32, bytes: usize) -> Result<()> {
    let value = vec![0; bytes];
    let one = |n: u32| file.set_xattr(format!("user.{n}"), &value).map_err(errno);
    change!("setxattr", (0..count).try_for_each(one)).doing("setxattr")
}

/// Removes an xattr if it is there.
#[track_caller]
pub(crate) fn remove(file: &File, name: impl AsRef<OsStr>) -> Result<()> {
    match change!("removexattr", file.remove_xattr(name.as_ref()).map_err(errno)) {
        Err(Errno::ENODATA) => Ok(()),
        other => other.doing("removexattr"),
    }
}

fn errno(error: io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

/// The file's gfid, if it has one.
pub(crate) fn gfid(file: &File) -> Result<Option<Gfid>> {
    get(file, GFID)?.map(|bytes| Gfid::from_xattr(&bytes)).transpose()
}

/// The gfid of what has the name `name` in `dir`, without opening it; `None` if it has none, or is not there.
pub(crate) fn gfid_in(dir: &File, name: &[u8]) -> Result<Option<Gfid>> {
    let bytes = match xattr::get(path_in(dir, name), GFID) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
        other => other.doing("getxattr")?,
    };
    bytes.map(|bytes| Gfid::from_xattr(&bytes)).transpose()
}

/// Whether what has the name `name` in `dir` may have xattrs that start with `prefix`, without opening it: it may if there are too
/// many to tell. False if it is not there.
pub(crate) fn any_in(dir: &File, name: &[u8], prefix: &str) -> Result<bool> {
    match xattr::list(path_in(dir, name)) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(e) if e.raw_os_error() == Some(libc::E2BIG) => Ok(true),
        other => Ok(other.doing("listxattr")?.any(|name| name.as_bytes().starts_with(prefix.as_bytes()))),
    }
}

/// A path by which a system call that needs one comes to the entry `name` of `dir`.
pub(crate) fn path_in(dir: &File, name: &[u8]) -> OsString {
    let mut path = format!("/proc/self/fd/{}/", dir.as_raw_fd()).into_bytes();
    path.extend(name);
    OsString::from_vec(path)
}

/// Which snapshot the file is, if it is one. [`Error::Damaged`] if its record can't be read.
pub(crate) fn payload_record(file: &File) -> Result<Option<PayloadRecord>> {
    get(file, PAYLOAD)?.map(|bytes| PayloadRecord::decode(&bytes)).transpose()
}

/// The access ACL, if there is more to it than the mode bits.
pub(crate) fn access_acl(file: &File) -> Result<Option<acl::Acl>> {
    get(file, acl::ACCESS)?.map(|bytes| acl::Acl::decode(&bytes)).transpose()
}

/// The names of the xattrs of a file at one moment.
pub(crate) struct XattrNames(Vec<Vec<u8>>);

impl XattrNames {
    /// All of GlusterFS and fsnap. If there are too many for one list the application's are not among them.
    pub(crate) fn of(file: &File) -> Result<Self> {
        XattrNames::at_least(file, Space::Trusted)
    }

    /// All of the application.
    pub(crate) fn of_application(file: &File) -> Result<Self> {
        XattrNames::at_least(file, Space::User)
    }

    fn at_least(file: &File, space: Space) -> Result<Self> {
        match file.list_xattr() {
            Err(e) if e.raw_os_error() == Some(libc::E2BIG) => many::names(file, space).map(XattrNames),
            other => Ok(XattrNames(other.doing("listxattr")?.map(OsStringExt::into_vec).collect())),
        }
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|n| n == name.as_bytes())
    }

    /// Those that start with `prefix` and are text.
    pub(crate) fn starting<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |n| n.starts_with(prefix.as_bytes()))
            .filter_map(|n| std::str::from_utf8(n).ok())
    }

    /// Those that start with `prefix`, whatever their bytes.
    pub(crate) fn raw_starting<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.0.iter().filter(move |n| n.starts_with(prefix.as_bytes())).map(Vec::as_slice)
    }

    /// Whether the file is a fragment of a disperse volume's file.
    pub(crate) fn is_dispersed(&self) -> bool {
        self.has(EC_CONFIG) || self.has(EC_SIZE)
    }

    /// Whether quota accounts for the file (`trusted.glusterfs.quota.PARENT.contri.VERSION`).
    pub(crate) fn has_quota(&self) -> bool {
        self.starting("trusted.glusterfs.quota.").any(|n| n.contains(".contri"))
    }
}

/// Copies the xattrs `names` from one file to another; what is gone meanwhile is left out.
pub(crate) fn copy<'a>(from: &File, to: &File, names: impl Iterator<Item = &'a [u8]>) -> Result<()> {
    for name in names.map(OsStr::from_bytes) {
        if let Some(value) = get_raw(from, name.as_bytes())? {
            set(to, name, &value)?;
        }
    }
    Ok(())
}
