//! What a fop is about to change, and where.

use std::ffi::{CStr, c_int};
use std::ptr::NonNull;

use fsnap_core::Gfid;

use super::call::{gfid_of, gfid_of_fd};
use super::dict::Dict;
use super::sys;

/// Something that a fop is about to change.
pub struct Change<'a> {
    /// Where.
    pub place: Target<'a>,
    /// How.
    pub how: How<'a>,
    /// The request's own dictionary.
    pub xdata: Option<Dict<'a>>,
}

/// What a change touches.
#[derive(Clone, Copy)]
pub enum Target<'a> {
    /// A file or directory itself, reached by its gfid: its content, attributes or xattrs.
    File(Gfid),
    /// The same, by somebody who has it open. By an fd that stands for a gfid and was never opened it is as the above.
    Open(Gfid),
    /// A name in a directory.
    Entry(Gfid, &'a [u8]),
}

/// How a change is made, as far as that matters.
#[derive(Clone, Copy)]
pub enum How<'a> {
    /// It is opened for reading.
    Read,
    /// readv.
    Load,
    /// mkdir.
    Mkdir,
    /// unlink.
    Unlink,
    /// setattr with these attributes (`GF_SET_ATTR_*`).
    Attributes(i32),
    /// xattrop that adds these values to xattrs.
    Xattrop(Option<Dict<'a>>),
    /// In another way.
    Other,
}

impl Target<'_> {
    /// The file that is touched, if it is one itself.
    pub(super) fn itself(&self) -> Option<Gfid> {
        match *self {
            Target::File(file) | Target::Open(file) => Some(file),
            Target::Entry(..) => None,
        }
    }

    pub(super) fn file(loc: &sys::loc_t) -> Target<'static> {
        Target::File(gfid_of(loc))
    }

    /// # Safety
    /// `fd` is null or valid.
    pub(super) unsafe fn open(fd: *const sys::fd_t) -> Target<'static> {
        // SAFETY: the caller's contract.
        let (gfid, anonymous) = unsafe { (gfid_of_fd(fd), fd.as_ref().is_some_and(|fd| fd.anonymous)) };
        if anonymous { Target::File(gfid) } else { Target::Open(gfid) }
    }

    /// # Safety
    /// `loc` comes from the host, and is valid as long as the result is used.
    pub(super) unsafe fn entry(loc: &sys::loc_t) -> Target<'_> {
        // SAFETY: the caller's contract.
        match unsafe { entry(loc) } {
            Some((parent, name)) => Target::Entry(parent, name.to_bytes()),
            None => Target::File(gfid_of(loc)),
        }
    }
}

/// The directory and the name of a loc.
///
/// # Safety
/// `loc` comes from the host, and is valid as long as the result is used.
pub(super) unsafe fn entry(loc: &sys::loc_t) -> Option<(Gfid, &CStr)> {
    let name = NonNull::new(loc.name.cast_mut())?;
    // SAFETY: an inode in a loc is valid as long as the loc; a name is a C string.
    let (parent, name) = unsafe { (loc.parent.as_ref().map(|p| p.gfid), CStr::from_ptr(name.as_ptr())) };
    let parent = parent.filter(|g| *g != [0; 16]).unwrap_or(loc.pargfid);
    (parent != [0; 16]).then_some((Gfid::from_bytes(parent), name))
}

/// The flags of an rmdir that stands for a whole tree (`posix_rmdir` moves it into the landfill).
pub(super) const WHOLE_TREE: c_int = 1;

/// `GFID_REQ` of GlusterFS, an xdata key: the gfid that a new entry is to have.
pub const GFID_REQ: &CStr = c"gfid-req";
