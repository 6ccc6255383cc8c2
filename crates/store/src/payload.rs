//! Making a payload: a file without a name that is finished before anybody can see it.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use fsnap_core::gfid2path::Link;
use fsnap_core::record::{PAYLOAD, PayloadRecord};
use fsnap_core::{Error, Result, afr, mdata};
use nix::sys::stat::{FileStat, futimens};
use nix::sys::time::TimeSpec;

use crate::Store;
use crate::brick::OpenFile;
use crate::fault;
use crate::ioctl::{ficlone, follow_nocow};
use crate::rights::{READ, Rights};
use crate::sys::{self, Doing};
use crate::xattrs::{self, XattrNames};

/// What the cluster translators need to know of the copy as they know it of the file.
const COPIED: [&str; 4] = [mdata::XATTR, xattrs::EC_SIZE, xattrs::EC_CONFIG, "trusted.ec.version"];
/// What is the application's own.
const APPLICATION: &str = "user.";
/// How many bytes that may take, because it is copied and not shared, and anybody who may write to a file may give it as much as the
/// disk has room for. Four values as large as one can be, or more names than can be listed; a file with as many snapshots as it may
/// have takes 64 MiB for them.
pub(crate) const MOST_OF_APPLICATION: usize = 256 << 10;
/// What one costs besides its name and value, about: a header on the disk.
const HEADER: usize = 32;

/// The xattrs of an application, names and values.
pub(crate) type OwnXattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// Those of `file`; what is gone meanwhile is left out. [`Error::TooManyXattrs`] (`E2BIG`) if a snapshot is not to have as many, or
/// what a system call says.
pub(crate) fn of_application(file: &File) -> Result<OwnXattrs> {
    let (names, mut own, mut size) = (XattrNames::of_application(file)?, Vec::new(), 0);
    for name in names.raw_starting(APPLICATION) {
        if let Some(value) = xattrs::get_raw(file, name)? {
            size += name.len() + value.len() + HEADER;
            if size > MOST_OF_APPLICATION {
                return Err(Error::TooManyXattrs(MOST_OF_APPLICATION));
            }
            own.push((name.to_vec(), value));
        }
    }
    Ok(own)
}

/// Clones `base` into a new file without a name in the file system of `dir`, with everything that the snapshot `record`
/// with the name `link` is to have, the application's xattrs `own` among it. Returns how long the clone took.
pub(crate) fn make(
    store: &Store,
    base: &OpenFile,
    names: &XattrNames,
    own: &OwnXattrs,
    record: &PayloadRecord,
    link: &Link,
    dir: &File,
) -> Result<(File, Duration)> {
    let (file, clone_time) = clone(store, base, dir)?;

    xattrs::set(&file, xattrs::GFID, record.gfid.as_bytes())?;
    xattrs::set(&file, link.key(), &link.encode())?;
    xattrs::set(&file, PAYLOAD, record.to_string().as_bytes())?;
    if names.starting(xattrs::PGFID).next().is_some() {
        xattrs::set(&file, format!("{}{}", xattrs::PGFID, link.parent), &1u32.to_be_bytes())?;
    }
    let single = COPIED.iter().filter(|name| names.has(name)).map(|name| name.as_bytes());
    xattrs::copy(&base.file, &file, single)?;
    own.iter().try_for_each(|(name, value)| xattrs::set(&file, OsStr::from_bytes(name), value))?;
    for name in names.starting(afr::PREFIX) {
        let mark = xattrs::get(&base.file, name)?.and_then(|value| afr::inherited(name.as_bytes(), &value));
        mark.map_or(Ok(()), |mark| xattrs::set(&file, name, &mark))?;
    }

    Rights::of(&base.file, &base.stat)?.limited_to(READ).apply(&file)?;
    set_times(&file, &base.stat)?;
    Ok((file, clone_time))
}

/// Clones `of` into a new file without a name in the file system of `dir`. Returns how long the clone took.
pub(crate) fn clone(store: &Store, of: &OpenFile, dir: &File) -> Result<(File, Duration)> {
    let file = &of.file;
    let copy = sys::nameless(dir).doing("make a file without a name")?;
    follow_nocow(file, &copy).doing("set the NOCOW flag")?;
    let _locked = store.locks_source(of.gfid);
    let start = Instant::now();
    ficlone(file, &copy).doing("clone the file (FICLONE)")?;
    Ok((copy, start.elapsed()))
}

/// Gives `file` the atime and mtime in `stat`.
pub(crate) fn set_times(file: &File, stat: &FileStat) -> Result<()> {
    let atime = TimeSpec::new(stat.st_atime, stat.st_atime_nsec);
    let mtime = TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec);
    fault::point("futimens").and_then(|()| futimens(file, &atime, &mtime)).doing("set the times")
}
