//! Who is at work on a brick: what keeps a repair, a running brick, and one that has not ended yet apart.
//!
//! A [`Store`](crate::Store) holds a lock (flock) on `.glusterfs`, and so does a repair: there is never more than one of them. The
//! lock is the inode's, so it is seen from every container on the machine. A brick without fsnap, or that has not come so far, is
//! told by its process, which has the brick's directory open (`posix_init` of storage/posix).

use std::fs;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use fsnap_core::{Error, Result};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::stat::{FileStat, fstat, stat};

use crate::brick::BrickDir;
use crate::sys::{self, DIR, Doing, open_in};

/// How often it is tried to get a lock.
const PAUSE: Duration = Duration::from_millis(20);

/// A lock on a brick; dropping it gives it up.
pub(crate) type Lock = Flock<File>;

/// Says that a store is at work, when nobody else is: no repair, and no other store. As long as somebody is it asks again whether
/// it is to wait. [`Error::Leaving`] if not.
pub(crate) fn hold(brick: &BrickDir, wait: impl Fn() -> bool) -> Result<Lock> {
    let mut told = false;
    loop {
        match lock(brick, FlockArg::LockExclusiveNonblock)? {
            Err(Errno::EWOULDBLOCK) if !wait() => return Err(Error::Leaving),
            Err(Errno::EWOULDBLOCK) => {
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!(
                        "waiting for who is at work on this brick: fsnap-check, which repairs it, or an earlier instance of it, \
                         here or in another process, which has not ended yet"
                    );
                }
                thread::sleep(PAUSE);
            }
            other => return other.doing("lock .glusterfs"),
        }
    }
}

/// Keeps everybody else away. [`Error::InUse`] if somebody is at work.
pub(crate) fn alone(brick: &BrickDir) -> Result<Lock> {
    let lock = match lock(brick, FlockArg::LockExclusiveNonblock)? {
        Err(Errno::EWOULDBLOCK) => return Err(Error::InUse("fsnap is at work on it".into())),
        other => other.doing("lock .glusterfs")?,
    };
    match brick_process(brick)? {
        Some(pid) => Err(Error::InUse(format!("process {pid} serves it"))),
        None => Ok(lock),
    }
}

fn lock(brick: &BrickDir, how: FlockArg) -> Result<nix::Result<Lock>> {
    let dir = open_in(&brick.glusterfs, ".", DIR).doing("open .glusterfs")?;
    Ok(Flock::lock(dir, how).map_err(|(_, errno)| errno))
}

/// The process of GlusterFS that has the brick's directory or its health check open.
fn brick_process(brick: &BrickDir) -> Result<Option<u32>> {
    let mut marks = vec![fstat(&brick.root).doing("stat")?];
    marks.extend(sys::stat_in(&brick.glusterfs, "health_check")?);
    for entry in fs::read_dir("/proc").doing("read /proc")?.flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
        if let Some(pid) = pid.filter(|_| is_gluster(&entry.path()) && has_open(&entry.path(), &marks)) {
            return Ok(Some(pid));
        }
    }
    Ok(None)
}

/// glusterfsd, glusterfs and glusterd are one program.
fn is_gluster(process: &Path) -> bool {
    let program = fs::read_link(process.join("exe"));
    program.is_ok_and(|exe| exe.file_name().is_some_and(|name| name.as_bytes().starts_with(b"gluster")))
}

fn has_open(process: &Path, marks: &[FileStat]) -> bool {
    // A process that ends meanwhile has nothing open.
    let open = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    open.filter_map(|fd| stat(&fd.path()).ok()).any(|seen| marks.iter().any(|m| sys::same_inode(m, &seen)))
}
