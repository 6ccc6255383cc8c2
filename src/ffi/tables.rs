//! The one symbol that the host needs, its tables, and the callbacks that are no fops: they convert, call a safe method, convert
//! back.

use std::ffi::CStr;
use std::ptr::{NonNull, null_mut};

use super::call::Connection;
use super::dict::Dict;
use super::fence::fence;
use super::fops::{gone, guard, heal, list, lookup, names, rights, truncate, xattrs};
use super::host::xlator::{Host, option_in};
use super::role::{Instance, Private, Translator, role};
use super::statedump::StateDump;
use super::{client, log, sys};
use crate::client::Client;

/// What this library is, when the host loads it as `user/fsnap`.
type Role = crate::brick::Brick;
/// What it is under another name, in a private client graph.
const CLIENT: &CStr = c"user/fsnap-client";
#[unsafe(no_mangle)]
static mut xlator_api: sys::xlator_api_t = sys::xlator_api_t {
    identifier: c"fsnap".as_ptr().cast_mut(),
    category: sys::GF_EXPERIMENTAL,
    // SAFETY: written by the host only, before any of our code runs; taking the address is all that happens here.
    options: &raw mut OPTIONS as *mut sys::volume_option_t,
    init: Some(init::<Role>),
    fini: Some(fini),
    reconfigure: Some(reconfigure::<Role>),
    notify: Some(sys::fsnap_notify),
    fops: &raw mut FOPS,
    cbks: &raw mut CBKS,
    dumpops: &raw mut DUMPOPS,
    // SAFETY: for every other field all zero means "none".
    ..unsafe { std::mem::zeroed() }
};

// The host writes into these tables (`fill_defaults`, STACK_WIND): they must be writable.
static mut FOPS: sys::xlator_fops = sys::xlator_fops {
    setxattr: Some(xattrs::healed_setxattr::<Role>),
    fsetxattr: Some(xattrs::fsetxattr::<Role>),
    getxattr: Some(xattrs::getxattr::<Role>),
    fgetxattr: Some(xattrs::fgetxattr::<Role>),
    lookup: Some(lookup::lookup::<Role>),
    stat: Some(gone::stat::<Role>),
    fstat: Some(gone::fstat::<Role>),
    seek: Some(gone::seek::<Role>),
    readdir: Some(list::readdir::<Role>),
    readdirp: Some(list::readdirp::<Role>),
    create: Some(guard::create::<Role>),
    mknod: Some(heal::mknod::<Role>),
    mkdir: Some(guard::mkdir::<Role>),
    symlink: Some(guard::symlink::<Role>),
    link: Some(names::link::<Role>),
    put: Some(guard::put::<Role>),
    open: Some(guard::open::<Role>),
    truncate: Some(truncate::truncate::<Role>),
    ftruncate: Some(truncate::ftruncate::<Role>),
    readv: Some(guard::readv::<Role>),
    writev: Some(guard::writev::<Role>),
    fallocate: Some(guard::fallocate::<Role>),
    discard: Some(guard::discard::<Role>),
    zerofill: Some(guard::zerofill::<Role>),
    rchecksum: Some(guard::rchecksum::<Role>),
    copy_file_range: Some(guard::copy_file_range::<Role>),
    setattr: Some(rights::setattr::<Role>),
    fsetattr: Some(rights::fsetattr::<Role>),
    xattrop: Some(guard::xattrop::<Role>),
    fxattrop: Some(guard::fxattrop::<Role>),
    removexattr: Some(guard::removexattr::<Role>),
    fremovexattr: Some(guard::fremovexattr::<Role>),
    unlink: Some(names::unlink::<Role>),
    rmdir: Some(names::rmdir::<Role>),
    rename: Some(names::rename::<Role>),
    // SAFETY: a null fop is passed on.
    ..unsafe { std::mem::zeroed() }
};

static mut CBKS: sys::xlator_cbks = sys::xlator_cbks {
    client_disconnect: Some(disconnected::<Role>),
    // SAFETY: null callbacks are the host's "none".
    ..unsafe { std::mem::zeroed() }
};

static mut DUMPOPS: sys::xlator_dumpops = sys::xlator_dumpops {
    priv_: Some(dump::<Role>),
    // SAFETY: null methods are the host's "none".
    ..unsafe { std::mem::zeroed() }
};

// All are declared as strings: the host would refuse to start a brick over a value of another type.
static mut OPTIONS: [sys::volume_option_t; 9] = [
    option(c"enabled", c"on", c"Take commands. Off refuses them and leaves everything else as it is."),
    option(c"max-snapshots", c"256", c"Snapshots that one file may have, 1 to 256."),
    option(c"min-free", c"5", c"Percent of the brick that must be free for a new snapshot, 0 to 99."),
    option(c"browse", c"on", c"Let .fsnap directories be looked into."),
    option(
        c"on-unlink",
        c"keep",
        c"The snapshots of a file that is deleted: keep, purge, or refuse to delete it.",
    ),
    option(
        c"keep-deleted",
        c"0",
        c"For how long the snapshots of deleted files are kept that are not held: 30d, 12h; 0 for ever.",
    ),
    option(c"direct-restore", c"auto", c"Restore by plain setfattr: auto (on distribute volumes) or off."),
    option(c"volume-type", c"", c"For volfiles without a glusterd only: distribute, replicate or disperse."),
    // SAFETY: an entry without a key ends the list.
    unsafe { std::mem::zeroed() },
];

const fn option(key: &'static CStr, default: &'static CStr, text: &'static CStr) -> sys::volume_option_t {
    // SAFETY: all zero is a valid, empty option.
    let mut option: sys::volume_option_t = unsafe { std::mem::zeroed() };
    option.key[0] = key.as_ptr().cast_mut();
    option.type_ = sys::GF_OPTION_TYPE_STR;
    option.default_value = default.as_ptr().cast_mut();
    option.description = text.as_ptr().cast_mut();
    option
}

unsafe extern "C" fn init<T: Translator>(this: *mut sys::xlator_t) -> i32 {
    log::install();
    fence("init", -1, || {
        let Some(this) = NonNull::new(this) else { return -1 };
        // SAFETY: the host's promise; `fini` ends the use.
        let host = unsafe { Host::new(this) };
        // SAFETY: every translator has a type, a C string.
        let kind = unsafe { CStr::from_ptr((*this.as_ptr()).type_) };
        let started = host.check().and_then(|()| {
            let private: Private = if kind == CLIENT {
                let client = Box::new(Client::init(host)?);
                // SAFETY: the host's promise: it has no fops for this translator yet.
                unsafe { client::take_table(this) };
                client
            } else {
                Box::new(T::init(host)?)
            };
            Ok(private)
        });
        match started {
            Ok(private) => {
                // SAFETY: the host's promise; nobody else writes here.
                unsafe { (*this.as_ptr()).private = Box::into_raw(Box::new(private)).cast() };
                0
            }
            Err(why) => {
                tracing::error!("fsnap can't start: {why}");
                -1
            }
        }
    })
}

unsafe extern "C" fn fini(this: *mut sys::xlator_t) {
    fence("fini", (), || {
        // SAFETY: the host's promise; it sends no fop after this.
        let private = unsafe { std::mem::replace(&mut (*this).private, null_mut()) }.cast::<Private>();
        if !private.is_null() {
            // SAFETY: it was made by `Box::into_raw` in `init` and is taken back once.
            drop(unsafe { Box::from_raw(private) });
        }
    });
}

unsafe extern "C" fn reconfigure<T: Translator>(this: *mut sys::xlator_t, options: *mut sys::dict_t) -> i32 {
    // Success whatever happens: a failure would stop the reconfiguration of the translators above.
    fence("reconfigure", 0, || {
        // SAFETY: the host's promise.
        let (role, options) = unsafe { (role::<T>(this), Dict::new(options)) };
        if let Some(role) = role {
            role.reconfigure(&|name| option_in(options, name));
        }
        0
    })
}

/// Called by the shim for each event, before it goes on its way; 0 if it is not to go on.
#[unsafe(no_mangle)]
unsafe extern "C" fn fsnap_event(this: *mut sys::xlator_t, event: i32) -> i32 {
    fence("an event", 1, || {
        // SAFETY: the host's promise.
        let Some(role) = (unsafe { role::<Role>(this) }) else { return 1 };
        match event.cast_unsigned() {
            sys::GF_EVENT_CHILD_UP => return i32::from(role.ready()),
            sys::GF_EVENT_PARENT_DOWN => role.closing(),
            _ => {}
        }
        1
    })
}

unsafe extern "C" fn dump<T: Translator>(this: *mut sys::xlator_t) -> i32 {
    // SAFETY: the host's promise. It does not set `THIS` for a statedump, so nothing here relies on it.
    fence("a statedump", 0, || unsafe {
        if let (Some(role), Some(this)) = (role::<T>(this), NonNull::new(this)) {
            role.dump(&mut StateDump::open(&Host::new(this).name()));
        }
        0
    })
}

unsafe extern "C" fn disconnected<T: Translator>(
    this: *mut sys::xlator_t,
    client: *mut sys::client_t,
) -> i32 {
    fence("a disconnection", 0, || {
        // SAFETY: the host's promise.
        if let Some(role) = unsafe { role::<T>(this) } {
            // SAFETY: the host's promise.
            role.disconnected(&unsafe { Connection::of(client) });
        }
        0
    })
}
