//! Calls to the cluster's translators beneath, in a client's graph, that wait for the answer.
//!
//! Only threads of our own may wait: see [`Host::adopt_thread`].

use std::ffi::{CStr, c_char};
use std::ptr::{NonNull, null_mut};

use super::copies::OwnedLoc;
use super::dict::{Dict, OwnedDict};
use super::host::xlator::{Host, option_in};
use super::sys;

/// Where the range begins, without an end, that the replicate translator locks for metadata (`afr_setxattr`). To features/locks just
/// this range is another domain (`_pl_convert_volume_for_special_range`): it is not in that of all data.
const METADATA_FROM: i64 = i64::MAX - 1;

/// A translator of the graph.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Node(NonNull<sys::xlator_t>);

// SAFETY: as of `Host`: names, types, children and options of a graph that is in use do not change; a private client graph is
// never reconfigured.
unsafe impl Send for Node {}

impl Node {
    /// The one beneath `host`.
    pub fn beneath(host: Host) -> Option<Self> {
        NonNull::new(host.child()).map(Node)
    }

    /// Its name in the volfile.
    pub fn name(&self) -> &CStr {
        // SAFETY: every translator has a name, a C string.
        unsafe { CStr::from_ptr((*self.0.as_ptr()).name) }
    }

    /// Its type, e.g. `cluster/replicate`.
    pub fn kind(&self) -> &CStr {
        // SAFETY: every translator has a type, a C string.
        unsafe { CStr::from_ptr((*self.0.as_ptr()).type_) }
    }

    /// Those beneath it.
    pub fn children(&self) -> Vec<Node> {
        let mut children = Vec::new();
        // SAFETY: children form a finite chain of valid links, null at its end.
        unsafe {
            let mut next = (*self.0.as_ptr()).children;
            while let Some(link) = next.as_ref() {
                children.extend(NonNull::new(link.xlator).map(Node));
                next = link.next;
            }
        }
        children
    }

    /// The value of one of its options.
    pub fn option(&self, name: &str) -> Option<String> {
        // SAFETY: the options of a translator live as long as it does.
        let value = option_in(unsafe { Dict::new((*self.0.as_ptr()).options) }, name)?;
        String::from_utf8(value).ok()
    }
}

/// What to lock of a file.
#[derive(Clone, Copy)]
pub enum Range {
    /// All data: a setxattr goes through.
    Data,
    /// What a setxattr locks.
    Metadata,
    /// What the disperse translator locks, for whatever it does.
    Whole,
}

/// A file, as the cluster's translators know it.
pub struct ClientFile(OwnedLoc);

impl ClientFile {
    /// # Safety
    /// `loc` is a fop's.
    pub(super) unsafe fn of(loc: *const sys::loc_t) -> Option<Self> {
        // SAFETY: the caller's contract.
        unsafe { loc.as_ref() }?;
        // SAFETY: it is not null.
        unsafe { OwnedLoc::copy(loc) }.map(ClientFile)
    }

    /// The same once more. `None` if the host is out of memory.
    pub fn again(&self) -> Option<Self> {
        // SAFETY: a loc of our own.
        unsafe { Self::of(self.0.get()) }
    }

    /// setxattr by way of `to`. The errno if that fails, here and below; `ENOMEM` if the host is out of memory.
    pub fn set(&mut self, to: Node, key: &CStr, value: &[u8]) -> Result<(), i32> {
        let dict = OwnedDict::with(key, value).ok_or(libc::ENOMEM)?;
        // SAFETY: a translator of the graph, our own loc and dictionary; nothing is asked for in return.
        done(unsafe {
            let none = null_mut();
            sys::syncop_setxattr(to.0.as_ptr(), self.0.as_ptr(), dict.as_ptr(), 0, none, none.cast())
        })
    }

    /// getxattr of `key`.
    pub fn get(&mut self, to: Node, key: &CStr) -> Result<Vec<u8>, i32> {
        let mut answer = null_mut();
        // SAFETY: as above; the answer comes with a reference.
        done(unsafe {
            let (loc, none) = (self.0.as_ptr(), null_mut());
            sys::syncop_getxattr(to.0.as_ptr(), loc, &raw mut answer, key.as_ptr(), none, none.cast())
        })?;
        // SAFETY: a valid dictionary or null, whose reference is taken over.
        let answer = unsafe { OwnedDict::adopt(answer) }.ok_or(libc::EIO)?;
        answer.get(key).ok_or(libc::EIO)
    }

    /// Whether what `to` has of the file is sticky and nothing else by its mode, and has an xattr `key`: by a lookup, which needs no
    /// permission for the file and waits for nobody. `ENOENT` or `ESTALE` if it has not got the file.
    pub fn is_sticky_with(&mut self, to: Node, key: &CStr) -> Result<bool, i32> {
        let wanted = OwnedDict::with(key, &[0; 4]).ok_or(libc::ENOMEM)?;
        let mut answer = null_mut();
        // SAFETY: plain data.
        let mut stat: sys::iatt = unsafe { std::mem::zeroed() };
        // SAFETY: as above; the attributes are written to a place of our own, and the answer comes with a reference.
        done(unsafe {
            let (loc, none) = (self.0.as_ptr(), null_mut());
            sys::syncop_lookup(to.0.as_ptr(), loc, &raw mut stat, none, wanted.as_ptr(), &raw mut answer)
        })?;
        // SAFETY: a valid dictionary or null, whose reference is taken over.
        let answer = unsafe { OwnedDict::adopt(answer) };
        Ok(is_sticky_alone(&stat.ia_prot) && answer.is_some_and(|answer| answer.get(key).is_some()))
    }

    /// truncate, with `value` under `key` in its xdata.
    pub fn truncate(&mut self, to: Node, size: i64, key: &CStr, value: &[u8]) -> Result<(), i32> {
        let xdata = OwnedDict::with(key, value).ok_or(libc::ENOMEM)?;
        // SAFETY: as above.
        done(unsafe {
            sys::syncop_truncate(to.0.as_ptr(), self.0.as_ptr(), size, xdata.as_ptr(), null_mut())
        })
    }

    /// Locks the file in `domain` against everybody, or lets go of it. Waits for it for as long as it takes. Lock and
    /// release have to come from the same thread, after [`own_locks`].
    pub fn lock(&mut self, to: Node, domain: &CStr, range: Range, take: bool) -> Result<(), i32> {
        // SAFETY: plain data.
        let mut lock: sys::gf_flock = unsafe { std::mem::zeroed() };
        lock.l_type = if take { libc::F_WRLCK } else { libc::F_UNLCK } as i16;
        (lock.l_start, lock.l_len) = match range {
            Range::Data => (0, METADATA_FROM),
            Range::Metadata => (METADATA_FROM, 0),
            Range::Whole => (0, 0),
        };
        let volume: *const c_char = domain.as_ptr();
        // SAFETY: as above; the names and the range live until this returns.
        done(unsafe {
            let (loc, none) = (self.0.as_ptr(), null_mut());
            sys::syncop_inodelk(to.0.as_ptr(), volume, loc, libc::F_SETLKW, &raw mut lock, none, none.cast())
        })
    }
}

/// Makes the locks that this thread takes from now on nobody else's.
pub fn own_locks(owner: &[u8; 16]) {
    // SAFETY: plain data.
    let mut lk_owner: sys::gf_lkowner_t = unsafe { std::mem::zeroed() };
    lk_owner.len = owner.len() as i32;
    for (to, from) in lk_owner.data.iter_mut().zip(owner) {
        *to = from.cast_signed();
    }
    // SAFETY: copies it into the thread's own context.
    unsafe { sys::syncopctx_setfslkowner(&raw mut lk_owner) };
}

fn is_sticky_alone(mode: &sys::ia_prot_t) -> bool {
    let all = [&mode.owner, &mode.group, &mode.other];
    let nobody = all.iter().all(|class| class.read() | class.write() | class.exec() == 0);
    mode.sticky() != 0 && mode.suid() | mode.sgid() == 0 && nobody
}

fn done(returned: i32) -> Result<(), i32> {
    if returned < 0 { Err(-returned) } else { Ok(()) }
}
