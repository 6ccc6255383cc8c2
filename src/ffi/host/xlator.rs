//! The translator's place in the host: its name, options, neighbours, and the host's version.

use std::ffi::{CStr, CString, c_void};
use std::path::Path;
use std::ptr::NonNull;

use fsnap_core::Gfid;

use super::call::{Connection, Inode};
use super::dict::Dict;
use super::sys;

/// The version of GlusterFS that this library was built for.
const BUILT_FOR: &str = env!("FSNAP_GLUSTERFS_VERSION");

/// What every GlusterFS process puts into `glusterfs_ctx_t.page_size` (`glusterfs_ctx_defaults_init`).
const PAGE_SIZE: usize = 128 << 10;

/// `THIS` of the calling thread.
pub(in crate::ffi) fn this() -> *mut sys::xlator_t {
    // SAFETY: returns the address of the thread's variable, which the host sets up on first use.
    unsafe { *sys::__glusterfs_this_location() }
}

/// What of a client's caches is out of date.
#[derive(Clone, Copy, Debug)]
pub enum Stale {
    /// The names in this directory.
    Entries(Gfid),
    /// The attributes of this file or directory.
    Attributes(Gfid),
    /// These, and a name that it has had.
    Name(Gfid),
}

/// The translator's own `xlator_t`. Valid from `init` to the end of `fini`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Host(NonNull<sys::xlator_t>);

// SAFETY: what is read through it (name, options, children) does not change between init and fini.
unsafe impl Send for Host {}
// SAFETY: as above.
unsafe impl Sync for Host {}

impl Host {
    /// # Safety
    /// `this` is the `xlator_t` that the host called us with, and the result is not used after `fini`.
    pub(in crate::ffi) unsafe fn new(this: NonNull<sys::xlator_t>) -> Self {
        Host(this)
    }

    /// The translator's name in the graph, e.g. `VOLUME-fsnap`.
    pub fn name(&self) -> String {
        // SAFETY: every translator has a name, a C string.
        unsafe { CStr::from_ptr((*self.0.as_ptr()).name) }.to_string_lossy().into_owned()
    }

    pub(in crate::ffi) fn as_ptr(&self) -> *mut sys::xlator_t {
        self.0.as_ptr()
    }

    /// Makes the calling thread speak as this translator (`THIS`); for threads of our own.
    pub fn adopt_thread(&self) {
        // SAFETY: as in `this`; the thread ends before `fini` does.
        unsafe { *sys::__glusterfs_this_location() = self.0.as_ptr() };
    }

    /// The value of one of the translator's own options.
    pub fn option(&self, name: &str) -> Option<Vec<u8>> {
        // SAFETY: the options of a translator live as long as it does.
        option_in(unsafe { Dict::new((*self.0.as_ptr()).options) }, name)
    }

    /// Makes `dir` the root of the connections of this graph, and of its context's others, that begin from now on, as a mount of that
    /// directory has it (`subdir-mount`, `client_setvolume` of protocol/client).
    pub fn mount_only(&self, dir: CString) {
        // SAFETY: a translator has a context. The text stays for the life of the process.
        unsafe { (*(*self.0.as_ptr()).ctx).cmd_args.subdir_mount = dir.into_raw() };
    }

    /// The value of an option of the storage/posix beneath. `None` if it has none, or there is no storage/posix.
    pub fn storage_option(&self, name: &str) -> Option<Vec<u8>> {
        let mut xlator = self.0.as_ptr();
        loop {
            // SAFETY: translators of a graph stay valid while one of them is in use; children form a finite chain of
            // valid links, null at its end.
            unsafe {
                if CStr::from_ptr((*xlator).type_) == c"storage/posix" {
                    return option_in(Dict::new((*xlator).options), name);
                }
                xlator = (*xlator).children.as_ref()?.xlator;
            }
        }
    }

    /// The translator of this type above, on the way down from the clients.
    pub(in crate::ffi) fn above(&self, kind: &CStr) -> Option<NonNull<sys::xlator_t>> {
        let mut xlator = self.0.as_ptr();
        loop {
            // SAFETY: as in `storage_option`, for the chain of parents.
            unsafe {
                if CStr::from_ptr((*xlator).type_) == kind {
                    return NonNull::new(xlator);
                }
                xlator = (*xlator).parents.as_ref()?.xlator;
            }
        }
    }

    /// Whether the host is about to take this graph apart: set at once by `volume stop`, on the brick's topmost translator, where
    /// others go on in the process (`glusterfs_handle_terminate`). `GF_EVENT_PARENT_DOWN` may come long after that.
    pub fn is_going(&self) -> bool {
        // SAFETY: as in `top`. The host sets the number, which is aligned, from a thread of its own, and never back.
        unsafe { (&raw const (*self.top()).cleanup_starting).read_volatile() != 0 }
    }

    /// Says to the translators above that this one and all beneath are up.
    pub fn is_up(&self) {
        // SAFETY: as in `above`; the event may come from any thread, as that of a client's connection does.
        unsafe {
            sys::default_notify(self.as_ptr(), sys::GF_EVENT_CHILD_UP.cast_signed(), std::ptr::null_mut())
        };
    }

    /// Says to protocol/server once more that this brick is up.
    pub fn says_that_it_is_up(&self) {
        // SAFETY: as in `top`; protocol/server takes the event from any thread (its `conf->mutex`), and more than once.
        unsafe {
            sys::default_notify(self.top(), sys::GF_EVENT_CHILD_UP.cast_signed(), std::ptr::null_mut())
        };
    }

    /// Tells the client at the other end of `connection`, if it is still there, that what it has cached is out of date.
    ///
    /// Source: `upcall_client_cache_invalidate` of features/upcall.
    pub fn upcall(&self, connection: &Connection, stale: Stale) {
        let Some(client) = connection.name() else { return };
        let (gfid, what) = match stale {
            Stale::Entries(dir) => (dir, sys::FSNAP_UPCALL_ENTRIES),
            Stale::Attributes(file) => (file, sys::FSNAP_UPCALL_ATTRIBUTES),
            Stale::Name(file) => (file, sys::FSNAP_UPCALL_NAME),
        };
        // SAFETY: as in `top`; protocol/server takes the event from any thread. It reads the name and the gfid and keeps neither.
        unsafe { sys::fsnap_upcall(self.top(), client.as_ptr().cast_mut(), gfid.as_bytes().as_ptr(), what) };
    }

    /// What had the name `name` in directory `dir` has it no more: the brick would go on to take what has it next for the same, in
    /// lookups and listings (`resolve_entry_simple`, `posix_readdirp_fill`).
    pub fn forget_name(&self, dir: Gfid, name: &[u8]) {
        let Ok(name) = CString::new(name) else { return };
        // SAFETY: as in `top`; its table, which comes with the first client and stays, has a lock of its own. Inodes that are found come
        // with a reference, given back by `Inode::drop`.
        unsafe {
            let table = (&raw const (*self.top()).itable).read_volatile();
            if table.is_null() {
                return;
            }
            let Some(dir) = Inode::found(sys::inode_find(table, dir.as_bytes().as_ptr().cast_mut())) else {
                return;
            };
            if let Some(inode) = Inode::found(sys::inode_grep(table, dir.as_ptr(), name.as_ptr())) {
                sys::inode_unlink(inode.as_ptr(), dir.as_ptr(), name.as_ptr());
            }
        }
    }

    /// The topmost translator of the brick, by which protocol/server knows it.
    pub(in crate::ffi) fn top(&self) -> *mut sys::xlator_t {
        let mut xlator = self.0.as_ptr();
        loop {
            // SAFETY: as in `above`.
            unsafe {
                match (*xlator).parents.as_ref().map(|parent| parent.xlator) {
                    Some(parent) if CStr::from_ptr((*parent).type_) != c"protocol/server" => xlator = parent,
                    _ => return xlator,
                }
            }
        }
    }

    /// Whether the brick is an arbiter: its files have no content.
    pub fn is_arbiter(&self) -> bool {
        self.above(c"features/arbiter").is_some()
    }

    /// The translator beneath. Null if there is none, which `check` refuses.
    pub(in crate::ffi) fn child(&self) -> *mut sys::xlator_t {
        // SAFETY: as in `storage_option`.
        unsafe { (*self.0.as_ptr()).children.as_ref() }.map_or(std::ptr::null_mut(), |list| list.xlator)
    }

    /// Refuses a host that this library was not built for: its structs could be laid out differently.
    pub(in crate::ffi) fn check(&self) -> Result<(), String> {
        let running = running_version().ok_or("can't tell which GlusterFS loaded this library")?;
        if running != BUILT_FOR {
            return Err(format!(
                "built for GlusterFS {BUILT_FOR}, loaded by GlusterFS {running}: install the fsnap for {running}"
            ));
        }
        // SAFETY: the layout of `xlator_t` was asserted when this was compiled, for this version, so the fields are
        // where we read them; the context lives as long as the process.
        let sane = unsafe {
            let this = self.0.as_ref();
            CStr::from_ptr(this.type_).to_bytes().starts_with(b"user/")
                && this.ctx.as_ref().is_some_and(|ctx| ctx.page_size == PAGE_SIZE)
        };
        if !sane {
            return Err(
                "the structs of this GlusterFS are not laid out as in its headers: rebuild fsnap".into()
            );
        }
        if self.child().is_null() {
            return Err("there is no translator beneath: put fsnap above storage/posix".into());
        }
        Ok(())
    }
}

/// The value of option `name` in `dict`, without the NUL that the host may count in.
pub(in crate::ffi) fn option_in(dict: Option<Dict<'_>>, name: &str) -> Option<Vec<u8>> {
    let key = std::ffi::CString::new(name).ok()?;
    let value = dict?.get(&key)?;
    Some(value.strip_suffix(b"\0").unwrap_or(value).to_vec())
}

/// DHT's hash of a file name, by which a directory's layout tells the brick that is to have it. Source:
/// `dht_hash_compute` of cluster/dht, without the rules for temporary names of rsync.
pub fn dht_hash(name: &[u8]) -> u32 {
    let length = i32::try_from(name.len()).unwrap_or(i32::MAX);
    // SAFETY: reads `length` bytes of the name.
    unsafe { sys::gf_dm_hashfn(name.as_ptr().cast(), length) }
}

/// The version of the running host: it loads translators from `…/glusterfs/VERSION/xlator/…` and from nowhere else
/// (`xlator_dynload` of libglusterfs).
fn running_version() -> Option<String> {
    // SAFETY: plain data, filled in by `dladdr`.
    let mut info: libc::Dl_info = unsafe { std::mem::zeroed() };
    let here: *const c_void = (running_version as fn() -> Option<String>) as *const c_void;
    // SAFETY: `here` is an address in this library, `info` is writable; the name stays mapped with the library.
    let file = unsafe { (libc::dladdr(here, &mut info) != 0).then(|| CStr::from_ptr(info.dli_fname)) }?;
    version_in(file.to_str().ok()?)
}

fn version_in(path: &str) -> Option<String> {
    let mut parts = Path::new(path).iter().rev().skip_while(|part| *part != "xlator");
    let version = parts.nth(1)?.to_str()?;
    version.starts_with(|c: char| c.is_ascii_digit()).then(|| version.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_in_the_path() {
        let path = |p: &str| version_in(p);
        assert_eq!(
            path("/usr/lib/x86_64-linux-gnu/glusterfs/10.3/xlator/user/fsnap.so"),
            Some("10.3".into())
        );
        assert_eq!(path("/usr/lib64/glusterfs/11.1/xlator/user/fsnap.so"), Some("11.1".into()));
        assert_eq!(path("/xlator/user/fsnap.so"), None);
        assert_eq!(path("/tmp/libfsnap.so"), None);
    }
}
