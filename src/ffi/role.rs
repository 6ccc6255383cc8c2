//! What a translator answers, and who it is: what stands between the fops and safe code.

use std::any::Any;
use std::ffi::CStr;
use std::ptr::NonNull;

use fsnap_core::{Gfid, SNAP_DIR};

use super::call::{Call, Connection, Inodes};
use super::change::{Change, How, Target};
use super::dict::Dict;
use super::fence::fence;
use super::filter::HiddenXattrs;
use super::held::{HeldMake, HeldSet, HeldTruncate};
use super::host::xlator::Host;
use super::listing::Hides;
use super::pause::Pauses;
use super::removal::{Removal, Ticket};
use super::reply::{GetReply, SetReply};
use super::statedump::StateDump;
use super::sys;

/// A translator, as safe code writes it: one trait for each concern. A fop that hands its reply back is passed on to the translator
/// beneath as if it had never been looked at; fops that are not here are not even in the host's table.
pub trait Translator:
    Instance + Commands + Namespace + Guard + Rights + Life + Heal + Restore + Errands + Rebalance + Pausing
{
}

impl<T> Translator for T where
    T: Instance
        + Commands
        + Namespace
        + Guard
        + Rights
        + Life
        + Heal
        + Restore
        + Errands
        + Rebalance
        + Pausing
{
}

/// How it comes, lives and goes.
pub trait Instance: Sized + Send + Sync + 'static {
    /// Starts the translator. What is returned as an error keeps the brick from starting, so there must be no other way.
    fn init(host: Host) -> Result<Self, String>;

    /// Takes over changed options. `get` finds them by name.
    fn reconfigure(&self, get: &dyn Fn(&str) -> Option<Vec<u8>>);

    /// The translator beneath is ready; the ones above learn of it next, or if this is false by [`Host::is_up`]. May come more
    /// than once.
    fn ready(&self) -> bool;

    /// The host is about to take the graph apart. When this returns, nothing of it may be used by threads of ours.
    fn closing(&self);

    /// A client's connection is closed.
    fn disconnected(&self, connection: &Connection);

    /// Writes the translator's part of a statedump.
    fn dump(&self, out: &mut StateDump);
}

/// Commands and questions: xattrs.
pub trait Commands {
    /// setxattr and fsetxattr.
    fn set(&self, call: &Call<'_>, dict: Dict<'_>, reply: SetReply) -> Option<SetReply>;

    /// getxattr and fgetxattr of one key.
    fn get(&self, call: &Call<'_>, key: &CStr, reply: GetReply) -> Option<GetReply>;
}

/// Whose fops wait.
pub trait Pausing {
    /// The files that are being cloned or restored. Asked at each data fop.
    fn pauses(&self) -> &Pauses;
}

/// What is found and listed.
pub trait Namespace {
    /// lookup of `name` in the directory `parent`, which asks for these xattrs. The errno to answer with, or `None` to pass it on.
    fn lookup(&self, call: &Call<'_>, parent: Gfid, name: &CStr, asked: Option<Dict<'_>>) -> Option<i32>;

    /// What listings of this directory for this caller leave out.
    fn hidden(&self, call: &Call<'_>) -> Option<Hides>;
}

/// What must not be changed, and by whom.
pub trait Guard {
    /// Whether changes and opens of `file` deserve a look, though its gfid is an ordinary one. Asked at many fops, so it
    /// must cost next to nothing.
    fn watches(&self, file: Gfid) -> bool;

    /// The errno for `file`, which [deserves a look](Guard::watches) or may be derived by fsnap, if it is not there for who asks and
    /// has not got it open.
    fn gone(&self, call: &Call<'_>, file: Gfid) -> Option<i32>;

    /// A fop that changes something which deserves a look: the errno to answer with, or `None` to let it go on.
    fn refuse(&self, call: &Call<'_>, change: &Change<'_>) -> Option<i32>;

    /// removexattr of `name`, of any file: the errno to answer with, or `None` to let it go on.
    fn refuse_xattr(&self, call: &Call<'_>, name: &[u8]) -> Option<i32>;

    /// The xattrs that this caller is not shown among all of a file's.
    fn hidden_xattrs(&self, call: &Call<'_>) -> Option<HiddenXattrs>;
}

/// Who may read snapshots: who may read their file now.
pub trait Rights {
    /// Whether any file may have snapshots. Asked at every change of xattrs and rights, so it must cost next to nothing.
    fn may_have_followers(&self) -> bool;

    /// Whether `file` has any, which follow a change of its rights.
    fn has_followers(&self, file: Gfid) -> bool;

    /// Its rights have changed, and that is not answered yet.
    fn rights_changed(&self, file: Gfid);

    /// getxattr of all that `file` has, which fsnap may have derived: the errno to answer with, or `None` to let it go on.
    fn refuse_values(&self, call: &Call<'_>, file: Gfid) -> Option<i32>;

    /// What has this gfid, which fsnap may have derived, is about to be shown.
    fn shows(&self, call: &Call<'_>, file: Gfid);
}

/// The life of a file: its names, and its end.
pub trait Life {
    /// unlink, rmdir, rename, link: takes the ticket, or hands it back to let the fop go on.
    fn remove<'a>(&self, call: &Call<'_>, removal: Removal<'_>, ticket: Ticket<'a>) -> Option<Ticket<'a>>;

    /// Somebody opens `file`, which [deserves a look](Guard::watches), for writing, and was not refused.
    fn opens(&self, call: &Call<'_>, file: Gfid, inodes: Inodes);
}

/// Self-heal.
pub trait Heal {
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
}

/// Restores that a carrier brings.
pub trait Restore {
    /// A truncate that carries the restore with this id.
    fn carry(&self, call: &Call<'_>, id: &[u8], held: HeldTruncate);

    /// Whether truncates deserve a look. Asked at each, so it must cost next to nothing.
    fn is_armed(&self) -> bool;

    /// A truncate of `file` that carries nothing: the errno to answer with, or `None` to let it go on.
    fn refuse_truncate(&self, call: &Call<'_>, file: Gfid) -> Option<i32>;

    /// Whether `file` may be a fragment that does not go with the others, so that data fops deserve a look. Asked at each, so it
    /// must cost next to nothing.
    fn is_half_restored(&self, file: Gfid) -> bool;

    /// Whether there may be any such file. Asked at each lookup.
    fn any_half_restored(&self) -> bool;

    /// An xattrop that adds these counts to xattrs of such a file: the restore that is over once it is done.
    fn ends_restore(&self, call: &Call<'_>, file: Gfid, counts: Dict<'_>) -> Option<Gfid>;

    /// It is done, and not answered yet.
    fn restored(&self, file: Gfid, id: Gfid);
}

/// Truncates of our own, on their way down.
pub trait Errands {
    /// Whether truncates of our own are on their way. Asked at each truncate, so it must cost next to nothing.
    fn has_errands(&self) -> bool;

    /// Whether this truncate is one of them.
    fn is_errand(&self, call: &Call<'_>) -> bool;

    /// Takes such a truncate.
    fn run_errand(&self, call: &Call<'_>, held: HeldTruncate);
}

/// What rebalance and remove-brick are to leave where it is.
pub trait Rebalance {
    /// A lookup that asks for these xattrs, by which rebalance begins to move what it finds.
    fn begins_to_move(&self, call: &Call<'_>, asked: Dict<'_>) -> bool;

    /// Whether `file`, which such a lookup has found, is to stay where it is. `shown` is for the log.
    fn stays(&self, file: Gfid, shown: &str) -> bool;

    /// readdirp from a directory's beginning: the errno to answer with, or `None` to let it go on.
    fn refuse_list(&self, call: &Call<'_>) -> Option<i32>;
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
pub(super) type Private = Box<dyn Any + Send + Sync>;

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

/// The errno of a fop that must not be, `None` for one that may go on.
///
/// # Safety
/// The arguments are a fop's.
pub(super) unsafe fn refusal<T: Translator>(
    (frame, this): (*mut sys::call_frame_t, *mut sys::xlator_t),
    places: &[Target<'_>],
    how: How<'_>,
    xdata: *mut sys::dict_t,
) -> Option<i32> {
    // SAFETY: the host's promise.
    let role = unsafe { role::<T>(this) }?;
    if !places.iter().any(|place| deserves_a_look(place, role)) {
        return None;
    }
    fence("a guard", Some(libc::EIO), || {
        // SAFETY: the host's promise.
        let call = unsafe { Call::on_nothing(NonNull::new(frame)?) };
        places.iter().find_map(|&place| {
            // SAFETY: the host's promise.
            role.refuse(&call, &Change { place, how, xdata: unsafe { Dict::new(xdata) } })
        })
    })
}

/// `EPERM` if one of the dictionaries, whose keys are names of xattrs, has one that this caller is not shown: neither is it
/// his to ask for, to set or to remove.
///
/// # Safety
/// The arguments are a fop's.
pub(super) unsafe fn forbidden<T: Translator>(
    (frame, this): (*mut sys::call_frame_t, *mut sys::xlator_t),
    dicts: &[*mut sys::dict_t],
) -> Option<i32> {
    fence("a guard", Some(libc::EIO), || {
        // SAFETY: the host's promise.
        let hidden = unsafe { hidden_xattrs::<T>(frame, this) }?;
        let names = |dict: &*mut sys::dict_t| {
            // SAFETY: the host's promise.
            unsafe { Dict::new(*dict) }.is_some_and(|dict| !dict.with_prefix(hidden.to_bytes()).is_empty())
        };
        dicts.iter().any(names).then_some(libc::EPERM)
    })
}

/// Whether what it touches may be fsnap's, or half restored.
fn deserves_a_look(place: &Target<'_>, role: &impl Translator) -> bool {
    match place {
        Target::File(gfid) => gfid.is_derived() || role.watches(*gfid) || role.is_half_restored(*gfid),
        Target::Open(gfid) => gfid.is_derived() || role.is_half_restored(*gfid),
        Target::Entry(parent, name) => parent.is_derived() || *name == SNAP_DIR.as_bytes(),
    }
}
