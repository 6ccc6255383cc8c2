//! What a fop was called with: who asks, and about which file.

use std::ffi::CStr;
use std::marker::PhantomData;
use std::ptr::NonNull;

use fsnap_core::Gfid;
use fsnap_core::acl::Caller;

use super::sys;

/// A fop's frame and object, valid while the fop runs.
pub struct Call<'a> {
    frame: NonNull<sys::call_frame_t>,
    inode: *mut sys::inode_t,
    gfid: Gfid,
    path: Option<&'a CStr>,
    lifetime: PhantomData<&'a sys::call_frame_t>,
}

impl<'a> Call<'a> {
    /// A call about what `loc` says.
    ///
    /// # Safety
    /// `frame` and `loc` come from the host and are valid for `'a`.
    pub(super) unsafe fn on_loc(frame: NonNull<sys::call_frame_t>, loc: *const sys::loc_t) -> Option<Self> {
        // SAFETY: the caller's contract.
        let loc = unsafe { loc.as_ref() }?;
        // SAFETY: an inode in a loc is valid as long as the loc.
        let known = unsafe { loc.inode.as_ref() }.map(|inode| Gfid::from_bytes(inode.gfid));
        let gfid = known.filter(|g| !g.is_null()).unwrap_or(Gfid::from_bytes(loc.gfid));
        // SAFETY: a path in a loc is a C string, valid as long as the loc.
        let path = NonNull::new(loc.path.cast_mut()).map(|p| unsafe { CStr::from_ptr(p.as_ptr()) });
        Some(Call { frame, inode: loc.inode, gfid, path, lifetime: PhantomData })
    }

    /// A call about the open file `fd`.
    ///
    /// # Safety
    /// `frame` and `fd` come from the host and are valid for `'a`.
    pub(super) unsafe fn on_fd(frame: NonNull<sys::call_frame_t>, fd: *const sys::fd_t) -> Option<Self> {
        // SAFETY: the caller's contract.
        let inode = unsafe { fd.as_ref() }?.inode;
        // SAFETY: an fd holds a reference to its inode.
        let gfid = Gfid::from_bytes(unsafe { inode.as_ref() }?.gfid);
        Some(Call { frame, inode, gfid, path: None, lifetime: PhantomData })
    }

    /// The gfid of the file; all zero if the host does not know it yet (a first lookup).
    pub fn gfid(&self) -> Gfid {
        self.gfid
    }

    /// The file's path in the volume or another word for it, fit for a log line.
    pub fn shown(&self) -> String {
        match self.path {
            Some(path) => format!("{} ({})", path.to_bytes().escape_ascii(), self.gfid),
            None => self.gfid.to_string(),
        }
    }

    /// A reference to the file's inode that outlives the call. `None` if the host gave no inode.
    pub fn inode(&self) -> Option<Inode> {
        let inode = NonNull::new(self.inode)?;
        // SAFETY: `inode` is valid during the call; the reference taken here is given back by `Inode::drop`.
        NonNull::new(unsafe { sys::inode_ref(inode.as_ptr()) }).map(Inode)
    }

    /// The user who asks.
    pub fn caller(&self) -> Caller {
        let root = self.root();
        let groups = if root.groups.is_null() {
            Vec::new()
        } else {
            // SAFETY: the host keeps `ngrps` ids at `groups`.
            unsafe { std::slice::from_raw_parts(root.groups, root.ngrps.into()) }.to_vec()
        };
        Caller { uid: root.uid, gid: root.gid, groups }
    }

    /// The process id that the client put into the request: negative for the cluster's own traffic (`GF_CLIENT_PID_*`
    /// of glusterfs.h).
    pub fn pid(&self) -> i32 {
        self.root().pid
    }

    /// Whether a translator of the brick itself asks, on nobody's behalf.
    pub fn from_within(&self) -> bool {
        let root = self.root();
        // SAFETY: a frame's stack holds the process's context, which lives as long as the process.
        let server =
            unsafe { root.ctx.as_ref() }.is_some_and(|ctx| ctx.process_mode == sys::GF_SERVER_PROCESS as i32);
        root.client.is_null() && server
    }

    fn root(&self) -> &sys::call_stack_t {
        // SAFETY: the host's promise; a frame always has a stack.
        unsafe { &*(*self.frame.as_ptr()).root }
    }
}

/// An owned reference to an inode of the host. Dropping it gives the reference back.
pub struct Inode(NonNull<sys::inode_t>);

// SAFETY: the host counts inode references atomically under the inode table's lock and hands them between threads.
unsafe impl Send for Inode {}

impl Inode {
    pub(super) fn as_ptr(&self) -> *mut sys::inode_t {
        self.0.as_ptr()
    }
}

impl Drop for Inode {
    fn drop(&mut self) {
        // SAFETY: this object owns one reference.
        unsafe { sys::inode_unref(self.0.as_ptr()) };
    }
}
