//! The one symbol that the host needs, and its callbacks: they convert, call a safe method, convert back.

use std::any::Any;
use std::ffi::{CStr, c_char};
use std::ptr::{NonNull, null_mut};

use fsnap_core::Gfid;

use super::call::{Call, Connection, Inodes};
use super::carrier::{self, HeldTruncate};
use super::client;
use super::dict::{Dict, OwnedDict};
use super::fence::fence;
use super::filter::{self, HiddenXattrs};
use super::guard::{self, Change, entry};
use super::heal::{self, HeldMake, HeldSet};
use super::host::{Host, option_in};
use super::listing::{self, Hides, Kind};
use super::moving;
use super::removal::{self, Removal, Ticket};
use super::reply::{Fop, GetReply, Pending, SetReply};
use super::statedump::StateDump;
use super::{log, sys};
use crate::client::Client;

/// A translator, as safe code writes it. A fop that hands its reply back is passed on to the translator beneath as if
/// it had never been looked at; fops that are not here are not even in the host's table.
pub trait Translator: Sized + Send + Sync + 'static {
    /// Starts the translator. What is returned as an error keeps the brick from starting, so there must be no other way.
    fn init(host: Host) -> Result<Self, String>;

    /// Takes over changed options. `get` finds them by name.
    fn reconfigure(&self, get: &dyn Fn(&str) -> Option<Vec<u8>>);

    /// The translator beneath is ready; the ones above learn of it next, or if this is false by [`Host::is_up`]. May come more
    /// than once.
    fn ready(&self) -> bool;

    /// The host is about to take the graph apart. When this returns, nothing of it may be used by threads of ours.
    fn closing(&self);

    /// Writes the translator's part of a statedump.
    fn dump(&self, out: &mut StateDump);

    /// Whether changes and opens of `file` deserve a look, though its gfid is an ordinary one. Asked at many fops, so it
    /// must cost next to nothing.
    fn watches(&self, file: Gfid) -> bool;

    /// A fop that changes something which deserves a look: the errno to answer with, or `None` to let it go on.
    fn refuse(&self, call: &Call<'_>, change: &Change<'_>) -> Option<i32>;

    /// Somebody opens `file`, which [deserves a look](Translator::watches), for writing, and was not refused.
    fn opens(&self, call: &Call<'_>, file: Gfid, inodes: Inodes);

    /// removexattr of `name`, of any file: the errno to answer with, or `None` to let it go on.
    fn refuse_xattr(&self, call: &Call<'_>, name: &[u8]) -> Option<i32>;

    /// unlink, rmdir, rename, link: takes the ticket, or hands it back to let the fop go on.
    fn remove<'a>(&self, call: &Call<'_>, removal: Removal<'_>, ticket: Ticket<'a>) -> Option<Ticket<'a>>;

    /// A setxattr in which self-heal brings the catalogue of a file.
    fn heals_catalogue(&self, call: &Call<'_>, dict: Dict<'_>) -> bool;

    /// Takes such a setxattr.
    fn heal_catalogue(&self, call: &Call<'_>, dict: Dict<'_>, held: HeldSet);

    /// A mknod by self-heal, in directory `parent`, of what is to have this gfid, that deserves a look.
    fn heals_name(&self, call: &Call<'_>, parent: Gfid, gfid: Gfid) -> bool;

    /// Takes such a mknod.
    fn heal_name(&self, parent: Gfid, name: &CStr, gfid: Gfid, held: HeldMake);

    /// What self-heal is not to take away when it removes these xattrs of `file`, to set them anew.
    fn heal_keeps(&self, call: &Call<'_>, file: Gfid, names: Dict<'_>) -> Option<HiddenXattrs>;

    /// A truncate that carries the restore with this id.
    fn carry(&self, call: &Call<'_>, id: &[u8], held: HeldTruncate);

    /// Whether truncates of our own are on their way. Asked at each truncate, so it must cost next to nothing.
    fn has_errands(&self) -> bool;

    /// Whether this truncate is one of them.
    fn is_errand(&self, call: &Call<'_>) -> bool;

    /// Takes such a truncate.
    fn run_errand(&self, call: &Call<'_>, held: HeldTruncate);

    /// Whether `file` may be a fragment that does not go with the others, so that data fops deserve a look. Asked at each, so it
    /// must cost next to nothing.
    fn is_half_restored(&self, file: Gfid) -> bool;

    /// An xattrop that adds these counts to xattrs of such a file: the restore that is over once it is done.
    fn ends_restore(&self, call: &Call<'_>, file: Gfid, counts: Dict<'_>) -> Option<Gfid>;

    /// It is done, and not answered yet.
    fn restored(&self, file: Gfid, id: Gfid);

    /// Whether there may be any such file. Asked at each lookup.
    fn any_half_restored(&self) -> bool;

    /// A client's connection is closed.
    fn disconnected(&self, connection: &Connection);

    /// Whether truncates deserve a look. Asked at each, so it must cost next to nothing.
    fn is_armed(&self) -> bool;

    /// A truncate of `file` that carries nothing: the errno to answer with, or `None` to let it go on.
    fn refuse_truncate(&self, call: &Call<'_>, file: Gfid) -> Option<i32>;

    /// setxattr and fsetxattr.
    fn set(&self, call: &Call<'_>, dict: Dict<'_>, reply: SetReply) -> Option<SetReply>;

    /// getxattr and fgetxattr of one key.
    fn get(&self, call: &Call<'_>, key: &CStr, reply: GetReply) -> Option<GetReply>;

    /// lookup of `name` in the directory `parent`. The errno to answer with, or `None` to pass it on.
    fn lookup(&self, call: &Call<'_>, parent: Gfid, name: &CStr) -> Option<i32>;

    /// A lookup that asks for these xattrs, by which rebalance begins to move what it finds.
    fn begins_to_move(&self, call: &Call<'_>, asked: Dict<'_>) -> bool;

    /// Whether `file`, which such a lookup has found, is to stay where it is. `shown` is for the log.
    fn stays(&self, file: Gfid, shown: &str) -> bool;

    /// readdirp from a directory's beginning: the errno to answer with, or `None` to let it go on.
    fn refuse_list(&self, call: &Call<'_>) -> Option<i32>;

    /// The xattrs that this caller is not shown among all of a file's.
    fn hidden_xattrs(&self, call: &Call<'_>) -> Option<HiddenXattrs>;

    /// What listings of this directory for this caller leave out.
    fn hidden(&self, call: &Call<'_>) -> Option<Hides>;
}

/// What this library is, when the host loads it as `user/fsnap`.
type Role = crate::brick::Brick;
/// What it is under another name, in a private client graph.
const CLIENT: &CStr = c"user/fsnap-client";
/// `GF_CONTENT_KEY`: with it a lookup asks for the content of a small file.
const CONTENT: &CStr = c"glusterfs.content";

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
    setxattr: Some(healed_setxattr::<Role>),
    fsetxattr: Some(fsetxattr::<Role>),
    getxattr: Some(getxattr::<Role>),
    fgetxattr: Some(fgetxattr::<Role>),
    lookup: Some(lookup::<Role>),
    readdir: Some(readdir::<Role>),
    readdirp: Some(readdirp::<Role>),
    create: Some(guard::create::<Role>),
    mknod: Some(heal::mknod::<Role>),
    mkdir: Some(guard::mkdir::<Role>),
    symlink: Some(guard::symlink::<Role>),
    link: Some(removal::link::<Role>),
    put: Some(guard::put::<Role>),
    open: Some(guard::open::<Role>),
    truncate: Some(carrier::truncate::<Role>),
    ftruncate: Some(carrier::ftruncate::<Role>),
    readv: Some(guard::readv::<Role>),
    writev: Some(guard::writev::<Role>),
    fallocate: Some(guard::fallocate::<Role>),
    discard: Some(guard::discard::<Role>),
    zerofill: Some(guard::zerofill::<Role>),
    copy_file_range: Some(guard::copy_file_range::<Role>),
    setattr: Some(guard::setattr::<Role>),
    fsetattr: Some(guard::fsetattr::<Role>),
    xattrop: Some(guard::xattrop::<Role>),
    fxattrop: Some(guard::fxattrop::<Role>),
    removexattr: Some(guard::removexattr::<Role>),
    fremovexattr: Some(guard::fremovexattr::<Role>),
    unlink: Some(removal::unlink::<Role>),
    rmdir: Some(removal::rmdir::<Role>),
    rename: Some(removal::rename::<Role>),
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
static mut OPTIONS: [sys::volume_option_t; 8] = [
    option(c"enabled", c"on", c"Take commands. Off refuses them and leaves everything else as it is."),
    option(c"max-snapshots", c"256", c"Snapshots that one file may have, 1 to 256."),
    option(c"min-free", c"5", c"Percent of the brick that must be free for a new snapshot, 0 to 99."),
    option(c"browse", c"on", c"Let .fsnap directories be looked into."),
    option(
        c"on-unlink",
        c"keep",
        c"The snapshots of a file that is deleted: keep, purge, or refuse to delete it.",
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

/// The translator behind `this`.
///
/// # Safety
/// `this` is what the host calls us with: between `init` and `fini`, its `private` is ours.
pub(super) unsafe fn role<'a, T: 'static>(this: *mut sys::xlator_t) -> Option<&'a T> {
    // SAFETY: the caller's contract.
    unsafe { (*this).private.cast::<Private>().as_ref() }?.downcast_ref()
}

/// The one role that a translator has.
type Private = Box<dyn Any + Send + Sync>;

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

/// Runs a fop: `handle` gets the translator, the call and the reply, and `pass` runs if it hands the reply back, or if
/// the host's arguments leave nothing to handle.
///
/// # Safety
/// The arguments are a fop's, and `call` is about its object.
unsafe fn fop<T: Translator>(
    (frame, this): (*mut sys::call_frame_t, *mut sys::xlator_t),
    name: Fop,
    call: impl FnOnce(NonNull<sys::call_frame_t>) -> Option<Call<'static>>,
    handle: impl FnOnce(&T, &Call<'_>, Pending) -> Option<Pending>,
    pass: impl FnOnce() -> i32,
) -> i32 {
    let taken = fence("a fop", true, || {
        // SAFETY: the host's promise.
        let (Some(frame), Some(role)) = (NonNull::new(frame), unsafe { role::<T>(this) }) else {
            return false;
        };
        let Some(call) = call(frame) else { return false };
        // SAFETY: the fop is ours, and so is its frame until it is answered or passed on.
        let pending = unsafe { Pending::new(frame, name) };
        match handle(role, &call, pending) {
            Some(back) => {
                back.into_frame();
                false
            }
            None => true,
        }
    });
    if taken { 0 } else { pass() }
}

macro_rules! set_fop {
    ($name:ident, $default:ident, $fop:expr, $object:ident: $type:ty, $call:path) => {
        unsafe extern "C" fn $name<T: Translator>(
            frame: *mut sys::call_frame_t,
            this: *mut sys::xlator_t,
            $object: $type,
            dict: *mut sys::dict_t,
            flags: i32,
            xdata: *mut sys::dict_t,
        ) -> i32 {
            let handle = |role: &T, call: &Call<'_>, pending| {
                // SAFETY: the host's promise.
                match unsafe { Dict::new(dict) } {
                    Some(dict) => role.set(call, dict, SetReply::new(pending)).map(SetReply::into_pending),
                    None => Some(pending),
                }
            };
            // SAFETY: the host's promise, for the call and for passing it on.
            unsafe {
                fop(
                    (frame, this),
                    $fop,
                    |frame| $call(frame, $object),
                    handle,
                    || sys::$default(frame, this, $object, dict, flags, xdata),
                )
            }
        }
    };
}

/// The prefix of xattrs that the asker of all is not shown.
///
/// # Safety
/// The arguments are a fop's.
pub(super) unsafe fn hidden_xattrs<T: Translator>(
    frame: *mut sys::call_frame_t,
    this: *mut sys::xlator_t,
) -> Option<HiddenXattrs> {
    fence("a look at the caller", None, || {
        // SAFETY: the host's promise.
        unsafe { role::<T>(this)?.hidden_xattrs(&Call::on_nothing(NonNull::new(frame)?)) }
    })
}

macro_rules! get_fop {
    ($name:ident, $default:ident, $fop:expr, $object:ident: $type:ty, $call:path) => {
        unsafe extern "C" fn $name<T: Translator>(
            frame: *mut sys::call_frame_t,
            this: *mut sys::xlator_t,
            $object: $type,
            key: *const c_char,
            xdata: *mut sys::dict_t,
        ) -> i32 {
            if key.is_null() {
                // SAFETY: the host's promise, for looking and for passing on; we have a child (checked at init).
                return unsafe {
                    match hidden_xattrs::<T>(frame, this) {
                        Some(hidden) => {
                            filter::$name(frame, (*(*this).children).xlator, hidden, $object, xdata)
                        }
                        None => sys::$default(frame, this, $object, key, xdata),
                    }
                };
            }
            let handle = |role: &T, call: &Call<'_>, pending| {
                // SAFETY: the host's promise: a key is a C string.
                let key = unsafe { CStr::from_ptr(key) };
                role.get(call, key, GetReply::new(pending)).map(GetReply::into_pending)
            };
            // SAFETY: the host's promise, for the call and for passing it on.
            unsafe {
                fop(
                    (frame, this),
                    $fop,
                    |frame| $call(frame, $object),
                    handle,
                    || sys::$default(frame, this, $object, key, xdata),
                )
            }
        }
    };
}

macro_rules! list_fop {
    ($name:ident, $default:ident, $kind:expr) => {
        unsafe extern "C" fn $name<T: Translator>(
            frame: *mut sys::call_frame_t,
            this: *mut sys::xlator_t,
            fd: *mut sys::fd_t,
            size: usize,
            offset: i64,
            xdata: *mut sys::dict_t,
        ) -> i32 {
            let handle = |role: &T, call: &Call<'_>, pending: Pending| match role.hidden(call) {
                None => Some(pending),
                Some(hides) => {
                    let begins = offset == 0 && matches!($kind, Kind::Readdirp);
                    // SAFETY: the host's promise.
                    let forbidden = unsafe { guard::forbidden::<T>((frame, this), &[xdata]) };
                    let refused = forbidden.or_else(|| begins.then(|| role.refuse_list(call)).flatten());
                    if let Some(errno) = refused {
                        pending.fail(errno);
                        return None;
                    }
                    // SAFETY: the host's promise; we have a child (checked at init).
                    unsafe {
                        listing::list(
                            pending,
                            $kind,
                            hides,
                            (*(*this).children).xlator,
                            (fd, size, offset, xdata),
                        )
                    };
                    None
                }
            };
            // SAFETY: the host's promise, for the call and for passing it on.
            unsafe {
                fop(
                    (frame, this),
                    $kind.fop(),
                    |frame| Call::on_fd(frame, fd),
                    handle,
                    || sys::$default(frame, this, fd, size, offset, xdata),
                )
            }
        }
    };
}

/// setxattr, which may be self-heal's.
unsafe extern "C" fn healed_setxattr<T: Translator>(
    frame: *mut sys::call_frame_t,
    this: *mut sys::xlator_t,
    loc: *mut sys::loc_t,
    dict: *mut sys::dict_t,
    flags: i32,
    xdata: *mut sys::dict_t,
) -> i32 {
    // SAFETY: the host's promise, for looking and for passing on.
    unsafe {
        if heal::takes_set::<T>((frame, this), loc, dict, flags, xdata) {
            return 0;
        }
        setxattr::<T>(frame, this, loc, dict, flags, xdata)
    }
}

set_fop!(setxattr, default_setxattr, Fop::Setxattr, loc: *mut sys::loc_t, Call::on_loc);
set_fop!(fsetxattr, default_fsetxattr, Fop::Fsetxattr, fd: *mut sys::fd_t, Call::on_fd);
get_fop!(getxattr, default_getxattr, Fop::Getxattr, loc: *mut sys::loc_t, Call::on_loc);
get_fop!(fgetxattr, default_fgetxattr, Fop::Fgetxattr, fd: *mut sys::fd_t, Call::on_fd);
list_fop!(readdir, default_readdir, Kind::Readdir);
list_fop!(readdirp, default_readdirp, Kind::Readdirp);

unsafe extern "C" fn lookup<T: Translator>(
    frame: *mut sys::call_frame_t,
    this: *mut sys::xlator_t,
    loc: *mut sys::loc_t,
    xdata: *mut sys::dict_t,
) -> i32 {
    let handle = |role: &T, call: &Call<'_>, pending: Pending| {
        // SAFETY: the host's promise.
        if let Some(errno) = unsafe { guard::forbidden::<T>((frame, this), &[xdata]) } {
            pending.fail(errno);
            return None;
        }
        // SAFETY: the host's promise; `call` exists only if `loc` is not null.
        let Some((parent, name)) = (unsafe { entry(&*loc) }) else { return Some(pending) };
        match role.lookup(call, parent, name) {
            Some(errno) => pending.fail(errno),
            None => return Some(pending),
        }
        None
    };
    // SAFETY: the host's promise.
    let whole = unsafe { role::<T>(this).is_none_or(|role| !role.any_half_restored()) };
    // The content of small files is not given with the lookup then.
    // SAFETY: the host's promise.
    let without =
        unsafe { Dict::new(xdata) }.filter(|_| !whole).and_then(|dict| OwnedDict::without(dict, CONTENT));
    let xdata = without.as_ref().map_or(xdata, OwnedDict::as_ptr);
    // SAFETY: the host's promise, for the call and for passing it on; what is passed on has references of its own if it is kept.
    unsafe {
        fop(
            (frame, this),
            Fop::Lookup,
            |frame| Call::on_loc(frame, loc),
            handle,
            || {
                if moving::takes_lookup::<T>((frame, this), (*(*this).children).xlator, loc, xdata) {
                    return 0;
                }
                let all = Dict::new(xdata).is_some_and(|dict| dict.get(filter::LIST_XATTR).is_some());
                match hidden_xattrs::<T>(frame, this).filter(|_| all) {
                    Some(hidden) => filter::lookup(frame, (*(*this).children).xlator, hidden, loc, xdata),
                    None => sys::default_lookup(frame, this, loc, xdata),
                }
            },
        )
    }
}
