//! libgfapi, as safe code sees it.
#![allow(unsafe_code)]

use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::PathBuf;
use std::ptr::NonNull;
use std::sync::mpsc::channel;
use std::thread::Builder;
use std::time::{Duration, Instant};

use fsnap_core::Gfid;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::sys::socket::{setsockopt, sockopt};

/// The functions of libgfapi, as bindgen reads them.
mod sys {
    #![allow(missing_docs, non_camel_case_types, non_snake_case, non_upper_case_globals, dead_code)]
    #![allow(clippy::all, clippy::undocumented_unsafe_blocks)]
    include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
}

/// The longest volfile that is read, in bytes.
const LONGEST: usize = 16 << 20;
/// The longest answer of an xattr: the kernel gives no more either.
const ANSWER: usize = 64 << 10;
/// A question to our translator on top of the graph: which calls are on their way.
const UNDERWAY: &CStr = c"glusterfs.fsnap.underway";
/// More than it takes until a server that does not answer is given up (`network.ping-timeout`, 42 s).
const SETTLES_WITHIN: Duration = Duration::from_secs(60);

/// A virtual mount (`glfs_t`). It stays until the process ends: taking one down takes 10 s.
pub struct Glfs(NonNull<sys::glfs_t>);

// SAFETY: libgfapi's functions may be called by any thread.
unsafe impl Send for Glfs {}
// SAFETY: and by several at once.
unsafe impl Sync for Glfs {}

/// A file of a virtual mount (`glfs_object`).
pub struct Object<'a> {
    mount: &'a Glfs,
    object: NonNull<sys::glfs_object>,
}

/// By what one can tell which content a file has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Content {
    /// Bytes.
    pub size: i64,
    /// Seconds and nanoseconds since the epoch.
    pub mtime: (i64, i64),
}

impl Glfs {
    /// One that is not connected yet. The errno of what fails, here and below.
    pub fn new(volume: &CStr, log: &CStr) -> Result<Glfs, Errno> {
        // SAFETY: C strings.
        let mount = unsafe { NonNull::new(sys::glfs_new(volume.as_ptr())) }.ok_or_else(Errno::last)?;
        // SAFETY: a new mount; 5 is GF_LOG_WARNING.
        done(unsafe { sys::glfs_set_logging(mount.as_ptr(), log.as_ptr(), 5) })?;
        Ok(Glfs(mount))
    }

    /// To get its volfile from a server; may be called for several.
    pub fn ask(&self, server: &CStr) -> Result<(), Errno> {
        // SAFETY: C strings; no port is the usual one.
        done(unsafe { sys::glfs_set_volfile_server(self.0.as_ptr(), c"tcp".as_ptr(), server.as_ptr(), 0) })
    }

    /// To be made by this volfile.
    pub fn make_by(&self, volfile: &impl AsRawFd) -> Result<(), Errno> {
        let path =
            CString::new(format!("/proc/self/fd/{}", volfile.as_raw_fd())).map_err(|_| Errno::EINVAL)?;
        // SAFETY: a C string.
        done(unsafe { sys::glfs_set_volfile(self.0.as_ptr(), path.as_ptr()) })
    }

    /// Connects it to the bricks.
    pub fn connect(&self) -> Result<(), Errno> {
        // SAFETY: a mount that is set up.
        done(unsafe { sys::glfs_init(self.0.as_ptr()) })
    }

    /// The same; `ETIMEDOUT` if it takes longer than `limit`. It goes on then, and nobody hears of it.
    pub fn connect_within(&self, limit: Duration) -> Result<(), Errno> {
        let (done, connected) = channel();
        // Both are of one mount, which stays.
        let same = Glfs(self.0);
        let connect = move || {
            // Nobody may wait for it any more.
            let _ = done.send(same.connect());
        };
        Builder::new().spawn(connect).map_err(|_| Errno::EAGAIN)?;
        connected.recv_timeout(limit).unwrap_or(Err(Errno::ETIMEDOUT))
    }

    /// The volfile that it was made by. `EIO` if there is none, or a longer one than 16 MiB.
    pub fn volfile(&self) -> Result<String, Errno> {
        let read = |buffer: &mut [u8]| {
            // SAFETY: a buffer of that size. The host fills all of it, from a text that may be shorter: so it is asked first.
            unsafe { sys::glfs_get_volfile(self.0.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) }
        };
        // Minus what is missing.
        let size = usize::try_from(-read(&mut [])).map_err(|_| Errno::EIO)?;
        if size == 0 || size > LONGEST {
            return Err(Errno::EIO);
        }
        let mut text = vec![0; size];
        match usize::try_from(read(&mut text)) {
            Ok(filled) if filled == size => String::from_utf8(text).map_err(|_| Errno::EIO),
            _ => Err(Errno::EIO),
        }
    }

    /// The volume's id, as glusterd knows it.
    pub fn volume_id(&self) -> Result<Gfid, Errno> {
        let mut id = [0; 16];
        // SAFETY: a buffer of that size.
        match unsafe { sys::glfs_get_volumeid(self.0.as_ptr(), id.as_mut_ptr().cast(), id.len()) } {
            16 => Ok(Gfid::from_bytes(id)),
            _ => Err(Errno::last()),
        }
    }

    /// The gfid of the regular file at `path`, which begins at the volume's root; its last part may not be a symbolic link.
    /// `EINVAL` if something else is there.
    pub fn find(&self, path: &CStr) -> Result<Gfid, Errno> {
        let mut gfid = [0; 16];
        let (object, kind) = self.look_up(path)?;
        if kind != libc::S_IFREG {
            return Err(Errno::EINVAL);
        }
        // SAFETY: an object, a buffer of that size.
        match unsafe { sys::glfs_h_extract_handle(object.object.as_ptr(), gfid.as_mut_ptr(), 16) } {
            16 => Ok(Gfid::from_bytes(gfid)),
            _ => Err(Errno::last()),
        }
    }

    /// The directory at `path`, likewise. `ENOTDIR` if something else is there.
    pub fn directory(&self, path: &CStr) -> Result<Object<'_>, Errno> {
        match self.look_up(path)? {
            (object, libc::S_IFDIR) => Ok(object),
            _ => Err(Errno::ENOTDIR),
        }
    }

    /// What is at `path`, and its file type.
    fn look_up(&self, path: &CStr) -> Result<(Object<'_>, u32), Errno> {
        // SAFETY: plain data, filled in by the host.
        let mut stat: sys::stat = unsafe { std::mem::zeroed() };
        // SAFETY: a connected mount, whose root is meant by null, a C string, and writable attributes.
        let object = unsafe {
            sys::glfs_h_lookupat(self.0.as_ptr(), std::ptr::null_mut(), path.as_ptr(), &raw mut stat, 0)
        };
        let object = NonNull::new(object).ok_or_else(Errno::last)?;
        Ok((Object { mount: self, object }, stat.st_mode & libc::S_IFMT))
    }

    /// The file with this gfid. `ESTALE` or `ENOENT` if there is none.
    pub fn object(&self, gfid: Gfid) -> Result<Object<'_>, Errno> {
        let mut handle = *gfid.as_bytes();
        // SAFETY: a connected mount, a handle of 16 bytes, no interest in the attributes.
        let object = unsafe {
            sys::glfs_h_create_from_handle(self.0.as_ptr(), handle.as_mut_ptr(), 16, std::ptr::null_mut())
        };
        NonNull::new(object).map(|object| Object { mount: self, object }).ok_or_else(Errno::last)
    }
}

impl Object<'_> {
    /// setxattr.
    pub fn set(&self, name: &CStr, value: &[u8]) -> Result<(), Errno> {
        let (mount, object) = (self.mount.0.as_ptr(), self.object.as_ptr());
        // SAFETY: an object of that mount, a C string, `len` readable bytes.
        done(unsafe {
            sys::glfs_h_setxattrs(mount, object, name.as_ptr(), value.as_ptr().cast(), value.len(), 0)
        })
    }

    /// Waits until nothing is left to do of what has gone well: the process may end then. (Our translator sees to that itself for commands.)
    /// Replicate answers before it has noted which brick has missed a change (`afr_transaction_resume`); where a brick is down and that
    /// note does not come, heal takes each for as good as any other, and puts what was removed back.
    ///
    /// Not for the `others`, which were on their way before: a lock that nobody waits for any more may be among them.
    fn settle(&self, others: &HashSet<String>) {
        let begun = Instant::now();
        while begun.elapsed() < SETTLES_WITHIN && !self.underway().is_subset(others) {
            std::thread::sleep(Duration::from_micros(500));
        }
    }

    /// The calls that are on their way, whatever they are called.
    fn underway(&self) -> HashSet<String> {
        let told = self.get(UNDERWAY).unwrap_or_default();
        String::from_utf8_lossy(&told).split_whitespace().map(str::to_owned).collect()
    }

    /// Its size in bytes, and its mtime: seconds and nanoseconds.
    pub fn content(&self) -> Result<Content, Errno> {
        // SAFETY: plain data, filled in by the host.
        let mut stat: sys::stat = unsafe { std::mem::zeroed() };
        // SAFETY: an object of that mount, writable attributes.
        done(unsafe { sys::glfs_h_stat(self.mount.0.as_ptr(), self.object.as_ptr(), &raw mut stat) })?;
        Ok(Content { size: stat.st_size, mtime: (stat.st_mtim.tv_sec, stat.st_mtim.tv_nsec) })
    }

    /// Gives it the name `name` in `dir`, of the same mount. `EEXIST` if something has that.
    pub fn link(&self, dir: &Object<'_>, name: &CStr) -> Result<(), Errno> {
        let mount = self.mount.0.as_ptr();
        let others = self.underway();
        // SAFETY: objects of that mount, a C string.
        let linked = done(unsafe {
            sys::glfs_h_link(mount, self.object.as_ptr(), dir.object.as_ptr(), name.as_ptr())
        });
        linked.inspect(|()| self.settle(&others))
    }

    /// getxattr. `ERANGE` for more than 64 KiB.
    pub fn get(&self, name: &CStr) -> Result<Vec<u8>, Errno> {
        let (mount, object) = (self.mount.0.as_ptr(), self.object.as_ptr());
        let mut value = vec![0u8; ANSWER];
        // SAFETY: an object of that mount, a C string, a buffer of that size.
        let size = unsafe {
            sys::glfs_h_getxattrs(mount, object, name.as_ptr(), value.as_mut_ptr().cast(), value.len())
        };
        value.truncate(usize::try_from(size).map_err(|_| Errno::last())?);
        Ok(value)
    }
}

/// Has the process load these shared objects, so that they are there when a graph wants them. What can't be loaded is told then.
pub fn load(files: impl IntoIterator<Item = PathBuf>) {
    for file in files {
        let Ok(file) = CString::new(file.into_os_string().into_encoded_bytes()) else { continue };
        // SAFETY: a C string. They are GlusterFS's and ours, which nothing comes of by being loaded, and stay; as GlusterFS does it
        // (`xlator_dynload`, `rpc_transport_load`).
        unsafe { libc::dlopen(file.as_ptr(), libc::RTLD_NOW) };
    }
}

/// As long as it lives, no signal but SIGKILL ends the process.
pub struct Undisturbed([(Signal, SigHandler); 4]);

impl Undisturbed {
    /// From now on.
    pub fn begin() -> Result<Undisturbed, Errno> {
        let ignored = |which| {
            // SAFETY: no handler of ours runs, there is none to be unsafe.
            unsafe { signal(which, SigHandler::SigIgn) }.map(|before| (which, before))
        };
        Ok(Undisturbed([
            ignored(Signal::SIGINT)?,
            ignored(Signal::SIGTERM)?,
            ignored(Signal::SIGHUP)?,
            ignored(Signal::SIGQUIT)?,
        ]))
    }
}

impl Drop for Undisturbed {
    fn drop(&mut self) {
        for (which, before) in self.0 {
            // SAFETY: as it was before.
            let _ = unsafe { signal(which, before) };
        }
    }
}

/// Ends the process at once. What libgfapi does at the end of a process takes its mounts apart under the feet of its own threads.
///
/// Its connections are reset: one that is closed in order keeps its port for a minute (TIME_WAIT), and the next process tries ports from
/// the highest on (`af_inet_bind_to_port_lt_ceiling`).
pub fn end(code: u8) -> ! {
    for fd in std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten() {
        let Some(fd) = fd.file_name().to_str().and_then(|fd| fd.parse().ok()) else { continue };
        // SAFETY: nobody closes it but libgfapi's threads, which go on for a moment: at worst another of theirs is reset.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        // What somebody else has opened for us has not the flag.
        let own = fcntl(fd, FcntlArg::F_GETFD).is_ok_and(|flags| flags & libc::FD_CLOEXEC != 0);
        if own {
            // No socket, no matter.
            let _ = setsockopt(&fd, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 });
        }
    }
    // SAFETY: no preconditions.
    unsafe { libc::_exit(code.into()) }
}

fn done(returned: i32) -> Result<(), Errno> {
    if returned == 0 { Ok(()) } else { Err(Errno::last()) }
}
