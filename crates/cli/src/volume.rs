//! Commands and questions to the volume: extended attributes of files.

use std::fs::{File, OpenOptions};
use std::io;
use std::time::{Duration, Instant};

use fsnap_core::answer::VERSION;
use fsnap_core::command::PREFIX;
use fsnap_core::{Gfid, SnapName, Timestamp};
use fsnap_graph::Content;
use nix::errno::Errno;
use rustix::fs::{Advice, AtFlags, StatxFlags, fadvise, statx};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::place::Place;

/// How often a question is asked that is answered with `EIO`, and how long after each.
const ASKED: usize = 8;
const PAUSE: Duration = Duration::from_millis(250);

/// For how long a mount is asked whether it shows what was restored; for how long by its attributes alone, which it shows in a moment
/// mostly; and then how often, so that neither the kernel nor md-cache knows any more what they were told the last time.
const SHOWN_WITHIN: Duration = Duration::from_secs(10);
const SHOWN_SOON: Duration = Duration::from_millis(1500);
const FORGOTTEN: Duration = Duration::from_millis(1200);

/// A snapshot, as the volume tells of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Snapshot {
    /// Its name.
    pub name: String,
    /// When it was taken, `SECONDS.NANOS`.
    pub created: Option<String>,
    /// Bytes of content.
    pub size: Option<u64>,
    /// The file's mtime then, `SECONDS.NANOS`.
    pub mtime: Option<String>,
    /// The gfid of the snapshot file; `None` only of one that was just taken and may not be looked at.
    pub gfid: Option<String>,
    /// Deletion is forbidden.
    pub held: bool,
    /// The bricks may have different contents until they are healed.
    #[serde(default)]
    pub unsettled: bool,
}

/// fsnap on the volume.
#[derive(Clone, Debug, Deserialize)]
pub struct Status {
    /// Its version.
    pub fsnap: String,
    /// `distribute`, `replicate` or `disperse`, if that is known.
    #[serde(default)]
    pub r#type: Option<String>,
    /// Whether the brick's file system can share blocks.
    pub reflink: bool,
    /// The options in force.
    pub options: Map<String, Value>,
}

/// What all answers begin with.
#[derive(Deserialize)]
struct Answer<T> {
    version: u32,
    #[serde(flatten)]
    content: T,
}

#[derive(Deserialize)]
struct List {
    snapshots: Vec<Snapshot>,
}

/// What `create` is set to for a snapshot, which gets the gfid that `id` gives it on every brick.
pub fn creation(name: &SnapName, created: Timestamp) -> String {
    format!("{name};created={created};id={}", Uuid::new_v4())
}

/// Sets `glusterfs.fsnap.VERB`.
pub fn command(place: &Place, verb: &str, value: &str) -> Result<(), Errno> {
    xattr::set_deref(place.by_descriptor(), format!("{PREFIX}{verb}"), value.as_bytes()).map_err(errno)
}

/// All snapshots of a file, oldest first.
pub fn list(file: &Place) -> Result<Vec<Snapshot>, Errno> {
    ask::<List>(file, "list").map(|list| list.snapshots)
}

/// One snapshot.
pub fn info(file: &Place, name: &SnapName) -> Result<Snapshot, Errno> {
    ask(file, &format!("info.{name}"))
}

/// fsnap on the volume, as one brick sees it.
pub fn status(place: &Place) -> Result<Status, Errno> {
    ask(place, "status")
}

/// The file's own gfid.
pub fn gfid(file: &Place) -> Result<Gfid, Errno> {
    let value = get(file, "glusterfs.gfid.string")?;
    // Whatever is not one was made up by somebody else.
    let text = std::str::from_utf8(&value).map_err(|_| Errno::EPROTO)?;
    Gfid::parse(text.trim_end_matches('\0')).map_err(|_| Errno::EPROTO)
}

/// What this client had yet to write is on the bricks. To be dropped just before something that wants the file's lock.
///
/// Replicate keeps the lock of an fsync for another second (`cluster.post-op-delay-secs`), unless the file is flushed; if that comes before
/// it has begun to wait it does not notice. So it is flushed at once, and again when this is dropped. Not later: a flush waits for whoever
/// writes by way of the same mount, and he for the lock. A process that is killed in it would keep what it has locked.
pub struct Drained(#[expect(dead_code, reason = "its end flushes it")] File);

/// Sends to the bricks what this client has yet to write. `EINVAL` if it is no regular file.
pub fn drain(file: &Place) -> Result<Drained, Errno> {
    if !file.is_regular() {
        return Err(Errno::EINVAL);
    }
    let path = file.by_descriptor();
    // Whoever may write need not be allowed to read. Neither opening changes anything.
    let open = |error: io::Error| match error.kind() {
        io::ErrorKind::PermissionDenied => OpenOptions::new().write(true).open(&path),
        _ => Err(error),
    };
    let file = OpenOptions::new().read(true).open(&path).or_else(open).map_err(errno)?;
    file.sync_all().map_err(errno)?;
    drop(file.try_clone());
    Ok(Drained(file))
}

/// Waits until the mount shows that a file has this content, or a later one, and then lets the kernel forget what it has cached of it. False
/// if it does not within [`SHOWN_WITHIN`].
///
/// What another client has done (the private graph is one) FUSE learns with the attributes, and gives up its pages when they have changed
/// (`fuse_change_attributes`). It is asked past the kernel's cache, and so until md-cache looks again (a second). Which bricks of a replicate
/// volume have missed the restore, or failed it, its client learns with the next lookup alone (`afr_lookup`).
pub fn shows(file: &Place, content: Content) -> bool {
    let begun = Instant::now();
    let what = StatxFlags::SIZE | StatxFlags::MTIME;
    let Ok(open) = OpenOptions::new().read(true).open(file.by_descriptor()) else {
        // Whoever may write need not be allowed to read. He reads nothing old, then.
        return true;
    };
    loop {
        let stat = statx(&open, c"", AtFlags::EMPTY_PATH | AtFlags::STATX_FORCE_SYNC, what);
        let is_shown = stat.is_ok_and(|stat| {
            let (size, mtime) =
                (stat.stx_size.cast_signed(), (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec.into()));
            // Whoever writes to it now comes after the restore.
            mtime > content.mtime || Content { size, mtime } == content
        });
        if is_shown {
            return fadvise(&open, 0, None, Advice::DontNeed).is_ok();
        }
        if begun.elapsed() >= SHOWN_WITHIN {
            return false;
        }
        if begun.elapsed() < SHOWN_SOON {
            std::thread::sleep(Duration::from_millis(20));
        } else {
            std::thread::sleep(FORGOTTEN);
            file.look_again();
        }
    }
}

/// `EPROTO` if the answer can't be understood.
fn ask<T: for<'de> Deserialize<'de>>(file: &Place, question: &str) -> Result<T, Errno> {
    let value = get(file, &format!("{PREFIX}{question}"))?;
    let answer: Answer<T> = serde_json::from_slice(&value).map_err(|_| Errno::EPROTO)?;
    if answer.version == VERSION { Ok(answer.content) } else { Err(Errno::EPROTO) }
}

fn get(file: &Place, key: &str) -> Result<Vec<u8>, Errno> {
    let path = file.by_descriptor();
    again_if_healed_meanwhile(|| xattr::get_deref(&path, key).map_err(errno)?.ok_or(Errno::ENODATA))
}

/// Asks a few times: the disperse translator answers `EIO` when it has asked a brick that is just being healed
/// (`ec_complete`).
pub fn again_if_healed_meanwhile<T>(ask: impl Fn() -> Result<T, Errno>) -> Result<T, Errno> {
    for _ in 1..ASKED {
        match ask() {
            Err(Errno::EIO) => std::thread::sleep(PAUSE),
            answer => return answer,
        }
    }
    ask()
}

/// The errno of a failed call; `EIO` for what is none.
pub fn errno(error: io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}
