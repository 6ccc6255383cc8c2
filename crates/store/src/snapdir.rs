//! The directory `.fsnap`, which holds the snapshots of the files beside it.

use std::fs::File;
use std::sync::PoisonError;
use std::time::Duration;

use fsnap_core::gfid2path::Link;
use fsnap_core::layout::{self, Layout};
use fsnap_core::{Error, Gfid, Result, SNAP_DIR};
use nix::errno::Errno;
use nix::fcntl::readlinkat;
use nix::sys::stat::fstat;

use crate::Store;
use crate::brick::OpenDir;
use crate::notice::Notice;
use crate::rights::Rights;
use crate::state::UNFINISHED;
use crate::sys::{self, DIR, Doing, open_in};
use crate::xattrs;

const DEFAULT_ACL: &str = "system.posix_acl_default";
const READ_AND_PASS: u16 = 5;

/// An opened `.fsnap`.
pub(crate) struct SnapDir {
    pub dir: File,
    /// The directory that holds its handle.
    pub handles: File,
}

impl Store {
    /// Sees to it that directory `parent` has its `.fsnap`, with the owner, of mode and ACL what reads and
    /// searches, and DHT's layout, that `parent` has now; returns its gfid.
    ///
    /// Any number of threads may call it for the same directory at a time.
    ///
    /// `ENOTDIR` if `parent` is no directory, [`Error::Gone`] (`ESTALE`) if it is not
    /// there, [`Error::ReadOnly`] (`EROFS`) if it is a `.fsnap` itself or lies in one, [`Error::Unsupported`]
    /// (`EOPNOTSUPP`) if it belongs to `.glusterfs` or something else has the name `.fsnap` in it.
    pub fn snap_dir(&self, parent: Gfid) -> Result<Gfid> {
        let _change = self.change()?;
        let parent = self.brick.open_dir(parent)?;
        self.ensure_snap_dir(&parent)?;
        Ok(parent.gfid.snap_dir())
    }

    /// The same if it has one: false if not. Errors as for [`snap_dir`](Store::snap_dir).
    pub fn has_snap_dir(&self, parent: Gfid) -> Result<bool> {
        let parent = self.brick.open_dir(parent)?;
        if find(&parent)?.is_none() {
            return Ok(false);
        }
        let _change = self.change()?;
        self.ensure_snap_dir(&parent).map(|_| true)
    }

    /// Opens the `.fsnap` of `parent`, and makes it or sets it right where needed.
    pub(crate) fn ensure_snap_dir(&self, parent: &OpenDir) -> Result<SnapDir> {
        parent.may_have_snapshots()?;
        let _shared = self.snap_dirs.read().unwrap_or_else(PoisonError::into_inner);
        let stat = fstat(&parent.file).doing("stat")?;
        let rights = Rights::of(&parent.file, &stat)?.limited_to(READ_AND_PASS);
        let dir = match find(parent)? {
            Some(dir) => dir,
            None => {
                self.make_snap_dir(parent, &rights)?;
                find(parent)?.ok_or(Error::Gone)?
            }
        };
        if rights.ensure(&dir)? {
            self.notice(Notice::Rights(parent.gfid.snap_dir()));
        }
        dht_follows(&parent.file, &dir)?;
        if xattrs::get(&dir, DEFAULT_ACL)?.is_some() {
            xattrs::remove(&dir, DEFAULT_ACL)?;
        }
        Ok(SnapDir { dir, handles: self.ensure_soft_handle(parent)? })
    }

    /// Makes `.fsnap` aside and moves it into place when it is whole: storage/posix gives a random gfid to any
    /// directory without one that it meets.
    fn make_snap_dir(&self, parent: &OpenDir, rights: &Rights) -> Result<()> {
        let aside = &self.state()?.dir;
        let name = sys::unique(UNFINISHED);
        sys::make_dir(aside, name.as_str()).doing("mkdir")?;
        let made = open_in(aside, name.as_str(), DIR).doing("open a directory").and_then(|dir| {
            xattrs::set(&dir, xattrs::GFID, parent.gfid.snap_dir().as_bytes())?;
            rights.apply(&dir)?;
            dht_follows(&parent.file, &dir)?;
            match sys::rename((aside, name.as_str()), (&parent.file, SNAP_DIR)) {
                Err(Errno::ENOENT) => Err(Error::Gone),
                other => other.doing("move .fsnap into place"),
            }
        });
        match made {
            Ok(()) => {
                self.notice(Notice::Added(parent.gfid));
                Ok(())
            }
            Err(e) => {
                if let Err(e) = sys::remove_dir(aside, name.as_str()) {
                    tracing::warn!("cannot remove the unfinished directory .glusterfs/fsnap/{name}: {e}");
                }
                // Another thread has made it meanwhile: as good as ours.
                if e == (Error::Os { what: "move .fsnap into place", errno: libc::EEXIST }) {
                    Ok(())
                } else {
                    Err(e)
                }
            }
        }
    }

    /// Makes the handle of the `.fsnap` of `parent` if it is not there; returns the directory that it is in.
    fn ensure_soft_handle(&self, parent: &OpenDir) -> Result<File> {
        let gfid = parent.gfid.snap_dir();
        let target = Link { parent: parent.gfid, name: SNAP_DIR.into() }.soft_handle();
        let handles = self.brick.make_handle_dir(gfid)?;
        let name = gfid.to_string();
        let is_there =
            || readlinkat(&handles, name.as_str()).is_ok_and(|there| there.as_encoded_bytes() == target);
        if is_there() {
            return Ok(handles);
        }
        match sys::symlink(&target, &handles, name.as_str()) {
            Ok(()) => Ok(handles),
            Err(Errno::EEXIST) if is_there() => Ok(handles),
            Err(Errno::EEXIST) => {
                tracing::error!("{} is not the handle of a .fsnap", gfid.handle().display());
                Err(Error::Damaged(format!("something else is in the place of the handle of .fsnap, {gfid}")))
            }
            Err(e) => Err(e).doing("make the handle of .fsnap"),
        }
    }
}

/// Gives a `.fsnap` what DHT is to find on it, by what its directory `parent` has now.
fn dht_follows(parent: &File, dir: &File) -> Result<()> {
    let directory = xattrs::get(parent, layout::XATTR)?;
    mark_as_counting(directory.as_deref().and_then(Layout::decode), dir)?;
    // Where it can't be, for want of space, DHT finds everything all the same.
    if let Err(error) = take_layout(directory.as_deref().and_then(layout::for_snap_dir), dir) {
        tracing::debug!("a .fsnap without the layout of its directory: {error}");
    }
    Ok(())
}

/// Notes on a `.fsnap` that it is the one whose attributes count, if it is (see [`layout::MDS`]), as DHT does of a directory that it makes.
/// Where it makes one that is missing on some bricks it does not, but believes to have, and then gives all of them the attributes of
/// that which it has not found: owner root and no rights (`dht_selfheal_dir_mkdir`, `dht_revalidate_cbk`).
fn mark_as_counting(directory: Option<Layout>, dir: &File) -> Result<()> {
    if directory.is_some_and(|layout| layout.is_asked_for_snap_dir())
        && xattrs::get(dir, layout::MDS)?.is_none()
    {
        xattrs::set(dir, layout::MDS, &0i32.to_be_bytes())?;
    }
    Ok(())
}

/// Gives a `.fsnap` this layout. With none it has none: what it had, beside the others' new ones, DHT would take for damage, and
/// heal again and again.
fn take_layout(wanted: Option<[u8; 16]>, dir: &File) -> Result<()> {
    match (wanted, xattrs::get(dir, layout::XATTR)?) {
        (Some(wanted), has) if has.as_deref() != Some(&wanted) => xattrs::set(dir, layout::XATTR, &wanted),
        (None, Some(_)) => xattrs::remove(dir, layout::XATTR),
        _ => Ok(()),
    }
}

/// Opens the `.fsnap` that is in `parent`, whose gfid is `gfid`, if it is ours.
pub(crate) fn find_own(parent: &File, gfid: Gfid) -> Result<Option<File>> {
    let dir = match open_in(parent, SNAP_DIR, DIR) {
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => return Ok(None),
        other => other.doing("open .fsnap")?,
    };
    match xattrs::gfid(&dir) {
        Ok(found) => Ok((found == Some(gfid.snap_dir())).then_some(dir)),
        Err(Error::Damaged(_)) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Opens the `.fsnap` of `parent` if it has one. [`Error::Unsupported`] if it is not ours.
pub(crate) fn find(parent: &OpenDir) -> Result<Option<File>> {
    // Heal and rebalance make `.fsnap` through storage/posix, which sets the gfid a moment after mkdir.
    for wait in [0, 5, 20] {
        std::thread::sleep(Duration::from_millis(wait));
        let dir = match open_in(&parent.file, SNAP_DIR, DIR) {
            Err(Errno::ENOENT) => return Ok(None),
            Err(Errno::ENOTDIR | Errno::ELOOP) => break,
            other => other.doing("open .fsnap")?,
        };
        match xattrs::gfid(&dir) {
            Ok(Some(gfid)) if gfid == parent.gfid.snap_dir() => return Ok(Some(dir)),
            Ok(None) => {}
            Ok(Some(_)) | Err(Error::Damaged(_)) => break,
            Err(e) => return Err(e),
        }
    }
    tracing::error!("the .fsnap in directory {} was not made by fsnap: rename it", parent.gfid);
    Err(Error::unsupported("a foreign .fsnap stands in this directory: rename it"))
}
