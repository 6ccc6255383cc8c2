//! Fops that take names away or give them: unlink, rename, rmdir, link. They can be held back until a worker of ours has
//! prepared them, and followed up before they are answered.

use std::ffi::{CStr, c_int, c_void};
use std::ptr::{NonNull, null_mut};

use fsnap_core::Gfid;

use super::change::entry;
use super::copies::OwnedLoc;
use super::dict::OwnedDict;
use super::held::{Arguments, FopKind, Held, Underway};
use super::host::xlator::Host;
use super::reply::{Fop, Pending};
use super::sys;
use super::wind::{down, link_cbk, rename_cbk, rmdir_cbk, unlink_cbk};

/// A name in a directory, as a fop tells it.
#[derive(Clone, Copy)]
pub struct Spot<'a> {
    /// The directory.
    pub parent: Gfid,
    /// The name in it.
    pub name: &'a CStr,
    /// The way to it from the brick's root, if that is told. storage/posix goes by it.
    pub path: Option<&'a [u8]>,
}

impl<'a> Spot<'a> {
    /// # Safety
    /// `loc` comes from the host, and is valid as long as the result is used.
    pub(super) unsafe fn of(loc: &'a sys::loc_t) -> Option<Self> {
        // SAFETY: the caller's contract.
        unsafe { entry(loc).map(|(parent, name)| Spot { parent, name, path: path_of(loc) }) }
    }
}

/// The path that a loc tells, if it is one from the root (`LOC_HAS_ABSPATH`).
///
/// # Safety
/// `loc` comes from the host, and is valid as long as the result is used.
pub(super) unsafe fn path_of(loc: &sys::loc_t) -> Option<&[u8]> {
    let path = NonNull::new(loc.path.cast_mut())?;
    // SAFETY: a path in a loc is a C string, valid as long as the loc.
    Some(unsafe { CStr::from_ptr(path.as_ptr()) }.to_bytes()).filter(|path| path.first() == Some(&b'/'))
}

/// How a fop goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Route {
    /// As it came.
    AsGiven,
    /// By the directory's gfid and the name alone, where the path is of no other place.
    ByGfid,
}

/// A name that is about to go or to come.
pub enum Removal<'a> {
    /// unlink of a file.
    Unlink {
        /// The name.
        at: Spot<'a>,
        /// The file that the host believes to have that name.
        file: Gfid,
        /// By DHT, as a part of something that an application asked for (`GLUSTERFS_INTERNAL_FOP_KEY`).
        internal: bool,
    },
    /// rename of a file or directory, over what has the new name.
    Rename {
        /// The old name.
        from: Spot<'a>,
        /// The new name.
        to: Spot<'a>,
        /// The files that the host believes to have these names.
        files: [Gfid; 2],
    },
    /// link: one more name for a file.
    Link {
        /// The file.
        file: Gfid,
        /// The new name.
        to: Spot<'a>,
    },
    /// rmdir of a directory.
    Rmdir {
        /// The way to it from the brick's root, if that is told.
        path: Option<&'a [u8]>,
        /// The directory.
        dir: Gfid,
        /// With all that it holds.
        whole_tree: bool,
    },
}

/// Such a fop, not yet passed on.
pub struct Ticket<'a> {
    pub(super) pending: Pending,
    pub(super) oldloc: &'a sys::loc_t,
    pub(super) newloc: Option<&'a sys::loc_t>,
    pub(super) flags: c_int,
    pub(super) xdata: *mut sys::dict_t,
}

impl Ticket<'_> {
    /// Answers with an error.
    pub fn fail(self, errno: i32) {
        self.pending.fail(errno);
    }

    /// Passes the fop on to the translator beneath; `after` runs when it is done, before it is answered.
    pub fn proceed(self, host: Host, route: Route, after: impl FnOnce(bool) + Send + 'static) {
        let Ticket { pending, oldloc, newloc, flags, xdata } = self;
        // Shallow copies: what they point to the host keeps until it is answered. Like all translators storage/posix takes
        // what it needs of a loc before it returns.
        let take = |loc: &sys::loc_t| match route {
            Route::ByGfid => by_gfid(loc, is_displaced(loc)),
            // SAFETY: plain data; whoever uses the copy keeps what it points to.
            Route::AsGiven => unsafe { std::ptr::read(loc) },
        };
        let (fop, old, new) = (pending.fop(), take(oldloc), newloc.map(take));
        let after = move |done| {
            after(done);
            Ok(Vec::new())
        };
        let waiting = Underway::<Removing> { arguments: None, host, after: Box::new(after) };
        // SAFETY: the frame is pending and given up here; the locs and the dictionary are valid until the fop is answered.
        unsafe {
            down((pending.into_frame().as_ptr(), host.as_ptr()), fop, waiting, |frame, cookie| {
                wind(fop, frame, cookie, host.child(), (old, new, flags, xdata))
            });
        }
    }

    /// Copies what the fop needs, so that it can go on later. Answers `ENOMEM` if the host has no memory.
    pub fn hold(self) -> Option<HeldRemoval> {
        let Ticket { pending, oldloc, newloc, flags, xdata } = self;
        // A copy has its name from the path.
        let displaced = [is_displaced(oldloc), newloc.is_some_and(is_displaced)];
        // SAFETY: the fop's own loc.
        let new = newloc.map(|loc| unsafe { OwnedLoc::copy(loc) });
        if matches!(new, Some(None)) {
            pending.fail(libc::ENOMEM);
            return None;
        }
        let kind = Removing { fop: pending.fop(), new: new.flatten(), displaced, flags };
        // SAFETY: the fop's own loc and dictionary.
        unsafe { Held::hold(pending, oldloc, xdata, kind) }
    }
}

/// What a removal has besides its first loc.
pub struct Removing {
    fop: Fop,
    new: Option<OwnedLoc>,
    /// Of which of the two locs the path counts.
    displaced: [bool; 2],
    flags: c_int,
}

/// A removal, held. It goes on by gfid.
pub type HeldRemoval = Held<Removing>;

impl FopKind for Removing {
    const WHAT: &'static str = "what follows a removal";

    unsafe fn wind(
        held: *mut Arguments<Self>,
        frame: *mut sys::call_frame_t,
        cookie: *mut c_void,
        child: *mut sys::xlator_t,
    ) -> c_int {
        // SAFETY: the caller's contract: what the locs point to is kept until the callback is called.
        unsafe {
            let Removing { fop, ref new, displaced, flags } = (*held).kind;
            let old = by_gfid((*held).loc.get(), displaced[0]);
            let new = new.as_ref().map(|loc| by_gfid(loc.get(), displaced[1]));
            let xdata = OwnedDict::ptr_of((*held).xdata.as_ref());
            wind(fop, frame, cookie, child, (old, new, flags, xdata))
        }
    }
}

/// Whether the path of `loc` is that of another place than what else it says: whoever makes a place of his own (features/trash)
/// replaces the path of a copy of another one, and nothing more. Then the path is what counts.
fn is_displaced(loc: &sys::loc_t) -> bool {
    // SAFETY: a path and a name in a loc are C strings, valid as long as the loc.
    let (path, name) = unsafe {
        let name = NonNull::new(loc.name.cast_mut()).map(|name| CStr::from_ptr(name.as_ptr()).to_bytes());
        (path_of(loc), name)
    };
    path.zip(name).is_some_and(|(path, name)| path.rsplit(|&byte| byte == b'/').next() != Some(name))
}

/// Whether storage/posix can't go by the gfid of the directory that the last name of `path`, which begins with a slash, is in, and goes by
/// the path. The handle of a directory is a chain of symlinks, one for each level: the kernel follows no more than 40.
pub fn is_deep(path: &[u8]) -> bool {
    path.iter().filter(|&&byte| byte == b'/').count() >= 35
}

/// A shallow copy of `loc` that says where by the directory's gfid and the name alone, if it is not `displaced`. With a path
/// storage/posix would go by that, and so into another directory than the one that was looked at, if one above was renamed
/// meanwhile.
fn by_gfid(loc: &sys::loc_t, displaced: bool) -> sys::loc_t {
    // SAFETY: plain data; whoever uses the copy keeps what it points to.
    let mut copy = unsafe { std::ptr::read(loc) };
    if displaced {
        return copy;
    }
    // SAFETY: an inode in a loc is valid as long as the loc, and so is its path.
    let (parent, path) = unsafe { (copy.parent.as_ref(), path_of(loc)) };
    if let Some(parent) = parent.filter(|parent| parent.gfid != [0; 16]) {
        copy.pargfid = parent.gfid;
    }
    if path.is_none_or(|path| !is_deep(path)) && copy.pargfid != [0; 16] {
        copy.path = std::ptr::null();
    }
    copy
}

/// # Safety
/// What the locs and `xdata` point to is valid until the fop is answered, or the cookie is taken back by its callback.
unsafe fn wind(
    fop: Fop,
    frame: *mut sys::call_frame_t,
    cookie: *mut c_void,
    child: *mut sys::xlator_t,
    (mut old, new, flags, xdata): (sys::loc_t, Option<sys::loc_t>, c_int, *mut sys::dict_t),
) -> c_int {
    type W = Underway<Removing>;
    let (old, mut new) = (&raw mut old, new);
    let new = new.as_mut().map_or(null_mut(), |loc| &raw mut *loc);
    // SAFETY: the caller's contract; the locs themselves are valid until this returns.
    unsafe {
        match fop {
            Fop::Unlink => {
                sys::fsnap_wind_unlink(frame, cookie, Some(unlink_cbk::<W>), child, old, flags, xdata)
            }
            Fop::Rmdir => {
                sys::fsnap_wind_rmdir(frame, cookie, Some(rmdir_cbk::<W>), child, old, flags, xdata)
            }
            Fop::Link => sys::fsnap_wind_link(frame, cookie, Some(link_cbk::<W>), child, old, new, xdata),
            _ => sys::fsnap_wind_rename(frame, cookie, Some(rename_cbk::<W>), child, old, new, xdata),
        }
    }
}
