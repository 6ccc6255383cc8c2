//! What a fop was called with: who asks, and about which file.

use std::ffi::{CStr, CString};
use std::marker::PhantomData;
use std::ptr::NonNull;

use fsnap_core::Gfid;
use fsnap_core::acl::Caller;

use super::sys;

/// What a fop was called with. What it tells was copied, but for what [`Call::inode`] and [`Call::caller`] fetch: these
/// belong before the answer, and so a call is not to be kept beyond it.
pub struct Call<'a> {
    frame: NonNull<sys::call_frame_t>,
    inode: *mut sys::inode_t,
    gfid: Gfid,
    path: Option<&'a CStr>,
    pid: i32,
    from_within: bool,
    lifetime: PhantomData<&'a sys::call_frame_t>,
}

impl<'a> Call<'a> {
    /// A call about what `loc` says.
    ///
    /// # Safety
    /// `frame` and `loc` come from the host and are valid as long as the result is used.
    pub(in crate::ffi) unsafe fn on_loc(
        frame: NonNull<sys::call_frame_t>,
        loc: *const sys::loc_t,
    ) -> Option<Self> {
        // SAFETY: the caller's contract.
        let loc = unsafe { loc.as_ref() }?;
        // SAFETY: a path in a loc is a C string, valid as long as the loc.
        let path = NonNull::new(loc.path.cast_mut()).map(|p| unsafe { CStr::from_ptr(p.as_ptr()) });
        // SAFETY: the caller's contract.
        Some(unsafe { Self::on(frame, loc.inode, gfid_of(loc), path) })
    }

    /// A call about the open file `fd`.
    ///
    /// # Safety
    /// `frame` and `fd` come from the host and are valid as long as the result is used.
    pub(in crate::ffi) unsafe fn on_fd(
        frame: NonNull<sys::call_frame_t>,
        fd: *const sys::fd_t,
    ) -> Option<Self> {
        // SAFETY: the caller's contract; an fd holds a reference to its inode.
        unsafe {
            let inode = fd.as_ref()?.inode;
            Some(Self::on(frame, inode, Gfid::from_bytes(inode.as_ref()?.gfid), None))
        }
    }

    /// A call of which only the caller matters.
    ///
    /// # Safety
    /// `frame` comes from the host and is valid as long as the result is used.
    pub(in crate::ffi) unsafe fn on_nothing(frame: NonNull<sys::call_frame_t>) -> Self {
        // SAFETY: the caller's contract.
        unsafe { Self::on(frame, std::ptr::null_mut(), Gfid::from_bytes([0; 16]), None) }
    }

    /// # Safety
    /// `frame` comes from the host and is valid as long as the result is used.
    unsafe fn on(
        frame: NonNull<sys::call_frame_t>,
        inode: *mut sys::inode_t,
        gfid: Gfid,
        path: Option<&'a CStr>,
    ) -> Self {
        // SAFETY: the caller's contract; a frame has a stack, and that the process's context, which lives on.
        let (pid, no_client, server) = unsafe {
            let root = (*frame.as_ptr()).root;
            let server =
                (*root).ctx.as_ref().is_some_and(|c| c.process_mode == sys::GF_SERVER_PROCESS as i32);
            ((*root).pid, (*root).client.is_null(), server)
        };
        Call { frame, inode, gfid, path, pid, from_within: no_client && server, lifetime: PhantomData }
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

    /// The way to the file from the brick's root, if the host tells it.
    pub fn path(&self) -> Option<&[u8]> {
        self.path.map(CStr::to_bytes).filter(|path| path.first() == Some(&b'/'))
    }

    /// The inodes of the brick. `None` if the host gave no inode.
    pub fn inodes(&self) -> Option<Inodes> {
        // SAFETY: an inode is valid during the call.
        unsafe { Inodes::around(self.inode) }
    }

    /// A reference to the file's inode that outlives the call. `None` if the host gave no inode.
    pub fn inode(&self) -> Option<Inode> {
        let inode = NonNull::new(self.inode)?;
        // SAFETY: `inode` is valid during the call; the reference taken here is given back by `Inode::drop`.
        NonNull::new(unsafe { sys::inode_ref(inode.as_ptr()) }).map(|inode| Inode(inode, self.gfid))
    }

    /// The user who asks.
    pub fn caller(&self) -> Caller {
        // SAFETY: the frame is valid until it is answered, and a call is not kept beyond that.
        let root = unsafe { (*self.frame.as_ptr()).root };
        // SAFETY: as above; the host keeps `ngrps` ids at `groups`.
        unsafe {
            let (groups, count) = ((*root).groups, (*root).ngrps.into());
            let groups = if groups.is_null() { &[] } else { std::slice::from_raw_parts(groups, count) };
            Caller { uid: (*root).uid, gid: (*root).gid, groups: groups.to_vec() }
        }
    }

    /// The process id that the client put into the request: negative for the cluster's own traffic (`GF_CLIENT_PID_*`
    /// of glusterfs.h).
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// The request that it is a part of.
    pub fn request(&self) -> Request {
        // SAFETY: the frame is valid until it is answered, and a call is not kept beyond that.
        unsafe { Request::of(self.frame) }
    }

    /// The connection that it came by.
    pub fn connection(&self) -> Connection {
        // SAFETY: the frame is valid until it is answered, and a call is not kept beyond that; it holds a reference to its client.
        unsafe { Connection::of((*(*self.frame.as_ptr()).root).client) }
    }

    /// Whether the client's process says that it is called so (`--process-name`, which glusterd gives to those that it starts).
    pub fn is_by_process(&self, name: &CStr) -> bool {
        // SAFETY: the frame is valid until it is answered, and a call is not kept beyond that; it holds a reference to its client.
        let client = unsafe { (*(*self.frame.as_ptr()).root).client };
        if client.is_null() {
            return false;
        }
        // SAFETY: as above; the name, a C string or null, stays as it is as long as the client.
        unsafe {
            let its = sys::fsnap_client_name(client);
            !its.is_null() && CStr::from_ptr(its) == name
        }
    }

    /// Whether a translator of the brick itself asks, on nobody's behalf.
    pub fn from_within(&self) -> bool {
        self.from_within
    }
}

/// A request, as long as it is not answered.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Request(usize);

impl Request {
    /// # Safety
    /// `frame` is valid.
    pub(in crate::ffi) unsafe fn of(frame: NonNull<sys::call_frame_t>) -> Self {
        // SAFETY: the caller's contract. All frames of a request have one stack.
        Request(unsafe { (*frame.as_ptr()).root }.addr())
    }
}

/// A client's connection to this brick, by the name that no other has (`client_uid`); empty for a translator of the brick.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Connection(Vec<u8>);

impl Connection {
    /// Its name; `None` for a translator of the brick.
    pub(in crate::ffi) fn name(&self) -> Option<CString> {
        CString::new(self.0.as_slice()).ok().filter(|name| !name.is_empty())
    }

    /// One that is called like this.
    #[cfg(test)]
    pub fn named(name: &[u8]) -> Self {
        Connection(name.to_vec())
    }

    /// # Safety
    /// `client` is null or valid.
    pub(in crate::ffi) unsafe fn of(client: *const sys::client_t) -> Self {
        let Some(client) = NonNull::new(client.cast_mut()) else { return Connection(Vec::new()) };
        // SAFETY: the caller's contract.
        let uid = NonNull::new(unsafe { sys::fsnap_client_uid(client.as_ptr()) }.cast_mut());
        // SAFETY: a uid is a C string.
        Connection(
            uid.map_or_else(Vec::new, |uid| unsafe { CStr::from_ptr(uid.as_ptr()) }.to_bytes().to_vec()),
        )
    }
}

/// The gfid that a loc is about; all zero if it does not say.
pub(in crate::ffi) fn gfid_of(loc: &sys::loc_t) -> Gfid {
    // SAFETY: an inode in a loc is valid as long as the loc.
    let known = unsafe { loc.inode.as_ref() }.map(|inode| Gfid::from_bytes(inode.gfid));
    known.filter(|g| !g.is_null()).unwrap_or(Gfid::from_bytes(loc.gfid))
}

/// The gfid of an open file; all zero if it does not say.
///
/// # Safety
/// `fd` is null or valid.
pub(in crate::ffi) unsafe fn gfid_of_fd(fd: *const sys::fd_t) -> Gfid {
    // SAFETY: the caller's contract; an fd holds a reference to its inode.
    let inode = unsafe { fd.as_ref().and_then(|fd| fd.inode.as_ref()) };
    Gfid::from_bytes(inode.map_or([0; 16], |inode| inode.gfid))
}

/// An owned reference to an inode of the host. Dropping it gives the reference back.
pub struct Inode(NonNull<sys::inode_t>, Gfid);

// SAFETY: the host counts references under the lock of the inode table, and hands inodes between threads itself.
unsafe impl Send for Inode {}

impl Inode {
    /// A reference; `None` to a null pointer.
    ///
    /// # Safety
    /// `inode` is null or valid.
    pub(in crate::ffi) unsafe fn of(inode: *mut sys::inode_t) -> Option<Self> {
        let inode = NonNull::new(inode)?;
        // SAFETY: the caller's contract; the reference taken here is given back by `drop`.
        unsafe {
            let gfid = Gfid::from_bytes(inode.as_ref().gfid);
            NonNull::new(sys::inode_ref(inode.as_ptr())).map(|inode| Inode(inode, gfid))
        }
    }

    /// The reference that an inode was found with; `None` if it was not.
    ///
    /// # Safety
    /// `inode` is null, or comes with a reference that nobody else gives back.
    pub(in crate::ffi) unsafe fn found(inode: *mut sys::inode_t) -> Option<Self> {
        // SAFETY: the caller's contract.
        NonNull::new(inode).map(|inode| Inode(inode, Gfid::from_bytes(unsafe { inode.as_ref() }.gfid)))
    }

    pub(in crate::ffi) fn as_ptr(&self) -> *mut sys::inode_t {
        self.0.as_ptr()
    }

    /// One more reference. `None` if the host gives none.
    pub(in crate::ffi) fn again(&self) -> Option<Inode> {
        // SAFETY: this object's reference keeps the inode valid; the one taken is given back by `drop`.
        NonNull::new(unsafe { sys::inode_ref(self.as_ptr()) }).map(|inode| Inode(inode, self.1))
    }

    /// Its gfid.
    pub fn gfid(&self) -> Gfid {
        self.1
    }
}

impl Drop for Inode {
    fn drop(&mut self) {
        // SAFETY: this object owns one reference.
        unsafe { sys::inode_unref(self.0.as_ptr()) };
    }
}

/// The host's table of inodes: those of a brick that are in use.
pub struct Inodes(Inode);

impl Inodes {
    /// The table that `inode` is in; `None` for a null pointer.
    ///
    /// # Safety
    /// `inode` is null or valid.
    pub(in crate::ffi) unsafe fn around(inode: *mut sys::inode_t) -> Option<Self> {
        // SAFETY: the caller's contract.
        unsafe { Inode::of(inode) }.map(Inodes)
    }

    /// The inode of `gfid`, one that is in no table if the host has none at hand. `None` if it is out of memory.
    pub(in crate::ffi) fn find_or_make(&self, gfid: Gfid, directory: bool) -> Option<Inode> {
        // SAFETY: an inode's table lives as long as the inode. What is found or made comes with a reference, given back by
        // `Inode::drop`; what was made nobody else knows yet.
        unsafe {
            let table = (*self.0.as_ptr()).table;
            let found = sys::inode_find(table, gfid.as_bytes().as_ptr().cast_mut());
            if let Some(inode) = NonNull::new(found) {
                return Some(Inode(inode, gfid));
            }
            let mut inode = NonNull::new(sys::inode_new(table))?;
            inode.as_mut().gfid = *gfid.as_bytes();
            inode.as_mut().ia_type = if directory { sys::IA_IFDIR } else { sys::IA_IFREG };
            Some(Inode(inode, gfid))
        }
    }

    /// Whether somebody has `file` open.
    pub fn is_open(&self, file: Gfid) -> bool {
        // SAFETY: the inode is valid; the host changes the count under a lock, and a value just out of date is good enough.
        self.find(file).is_some_and(|inode| unsafe {
            (&raw const (*inode.as_ptr()).active_fd_count).read_volatile() > 0
        })
    }

    /// Whether a process that gives this number for its id has `file` open.
    pub fn is_open_by(&self, file: Gfid, pid: i32) -> bool {
        // SAFETY: the inode is valid. An fd that is found comes with a reference, given back here.
        self.find(file).is_some_and(|inode| unsafe {
            let fd = sys::fd_lookup(inode.as_ptr(), pid);
            if !fd.is_null() {
                sys::fd_unref(fd);
            }
            !fd.is_null()
        })
    }

    /// The inode of `file`, if the host has it at hand.
    fn find(&self, file: Gfid) -> Option<Inode> {
        // SAFETY: an inode's table lives as long as the inode. A found inode comes with a reference, given back by `Inode::drop`.
        let found = unsafe { sys::inode_find((*self.0.as_ptr()).table, file.as_bytes().as_ptr().cast_mut()) };
        NonNull::new(found).map(|inode| Inode(inode, file))
    }
}
