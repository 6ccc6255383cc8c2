//! Room that is kept for the day when the disk is full: `.glusterfs/fsnap/reserve`.
//!
//! What makes room, or must not fail, needs a little itself: a note, a `.fsnap`, a name in a directory whose block is full. XFS
//! makes no inode when fewer than some 50 blocks are free, or none of those that it may make is left; btrfs wants some MiB of
//! its metadata free even for a rename. So there are pieces here that can be given up: with the [permission](permit) for it,
//! a change that fails for want of room is [made again](yields) when some are gone, more each time, until it is made or none
//! is left. What was given up and is not needed is taken back at once.
//!
//! Nothing here is synced: what a crash has taken is made again when the brick is opened and has room.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::File;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fsnap_core::Result;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::fstat;
use nix::sys::statvfs::fstatvfs;
use nix::unistd::syncfs;

use crate::brick::ensure_dir;
use crate::sys::{self, DIR, Doing, open_in};
use crate::xattrs;

/// In `.glusterfs/fsnap`.
pub(crate) const NAME: &str = "reserve";
const SPACES: u8 = 32;
const INODES: u8 = 64;
/// Bytes of a [`Piece::Space`] on XFS.
const SPACE: i64 = 64 << 10;
/// So many xattrs of so many bytes are one on other file systems: some leaves of btrfs's metadata, however large those are.
const XATTRS: (u32, usize) = (44, 3000);
/// There is room to make the reserve whole when so many bytes and inodes are free.
const ROOM: (u64, u64) = (16 << 20, 256);
/// With so many blocks free XFS can make an inode, if it has one left.
const BLOCKS: u64 = 128;
/// How long XFS is given to free an inode that was unlinked, for each that was, and for how many at most.
const INACTIVE: (Duration, u32) = (Duration::from_millis(5), 8);

/// A file in the reserve.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Piece {
    /// One that takes space. On XFS it stays when that is given up: to take space back needs no inode then.
    Space(u8),
    /// One that is nothing but an inode, of which only XFS has a number.
    OpenFile(u8),
}

impl Piece {
    fn name(self) -> String {
        match self {
            Piece::Space(n) => format!("space-{n}"),
            Piece::OpenFile(n) => format!("inode-{n}"),
        }
    }

    fn is_space(self) -> bool {
        matches!(self, Piece::Space(_))
    }

    fn all() -> impl Iterator<Item = Piece> {
        (0..SPACES).map(Piece::Space).chain((0..INODES).map(Piece::OpenFile))
    }
}

/// Whether a piece of the reserve can have that name.
pub(crate) fn is_piece(name: &[u8]) -> bool {
    Piece::all().any(|piece| piece.name().as_bytes() == name)
}

/// The reserve of a brick.
pub(crate) struct Reserve {
    /// `.glusterfs/fsnap`.
    own: File,
    xfs: bool,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// Made with the first piece.
    dir: Option<File>,
    pieces: BTreeSet<Piece>,
    /// How many threads have given up some of it and are not done.
    users: usize,
}

impl Reserve {
    /// That of the directory `.glusterfs/fsnap`, `own`, on XFS or not. Makes nothing, and whatever is wrong with it is only
    /// logged: without a reserve a brick is as good as any, until its disk is full.
    pub(crate) fn find(own: &File, xfs: bool) -> Result<Self> {
        let mut kept = Kept::default();
        match open_in(own, NAME, DIR) {
            Ok(dir) => {
                kept.pieces = Piece::all().filter(|piece| is_there(&dir, *piece, xfs)).collect();
                kept.dir = Some(dir);
            }
            Err(Errno::ENOENT) => {}
            Err(e) => tracing::warn!("no reserve for a full disk: .glusterfs/fsnap/{NAME}: {e}"),
        }
        Ok(Reserve { own: own.try_clone().doing("dup")?, xfs, kept: Mutex::new(kept) })
    }

    /// Makes it whole if it is not, and the disk has room.
    pub(crate) fn top_up(&self) {
        let mut kept = self.kept();
        if kept.users == 0 && kept.pieces.len() < self.wanted().count() && self.has_room() {
            self.fill(&mut kept);
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wanted(&self) -> impl Iterator<Item = Piece> {
        Piece::all().filter(|piece| self.xfs || piece.is_space())
    }

    fn has_room(&self) -> bool {
        let (bytes, inodes) = ROOM;
        fstatvfs(&self.own).is_ok_and(|fs| {
            // Btrfs has no number of inodes.
            fs.blocks_available() * fs.fragment_size() >= bytes
                && (fs.files() == 0 || fs.files_available() >= inodes)
        })
    }

    /// Makes the pieces that are missing, of each kind until one can't be made.
    fn fill(&self, kept: &mut Kept) {
        let dir = match &kept.dir {
            Some(dir) => dir,
            None => match ensure_dir(&self.own, NAME) {
                Ok(dir) => kept.dir.insert(dir),
                Err(e) => return tracing::warn!("no reserve for a full disk: {e}"),
            },
        };
        let missing: Vec<Piece> = self.wanted().filter(|piece| !kept.pieces.contains(piece)).collect();
        let (spaces, inodes): (Vec<_>, Vec<_>) = missing.into_iter().partition(|piece| piece.is_space());
        for pieces in [spaces, inodes] {
            for piece in pieces {
                if let Err(e) = self.make(dir, piece) {
                    tracing::debug!("the reserve for a full disk is not whole: {e}");
                    break;
                }
                kept.pieces.insert(piece);
            }
        }
    }

    fn make(&self, dir: &File, piece: Piece) -> Result<()> {
        let name = piece.name();
        let file = sys::make_file(dir, name.as_str()).doing("make a file of the reserve")?;
        match piece {
            Piece::OpenFile(_) => Ok(()),
            Piece::Space(_) if self.xfs => {
                sys::allocate(&file, SPACE).doing("allocate space for the reserve").inspect_err(|_| {
                    // What it may have got is better left to others than held and not counted.
                    let _ = sys::truncate(&file, 0);
                })
            }
            Piece::Space(_) => {
                let (count, bytes) = XATTRS;
                xattrs::pad(&file, count, bytes).inspect_err(|_| drop(sys::unlink_in(dir, name.as_str())))
            }
        }
    }

    /// Gives up so many pieces of each kind. False if there was none.
    fn give_up(&self, count: usize) -> bool {
        let mut kept = self.kept();
        let Kept { dir: Some(dir), pieces, .. } = &mut *kept else { return false };
        let (spaces, inodes) = pieces.iter().copied().partition::<Vec<_>, _>(|piece| piece.is_space());
        let mut given = 0;
        for piece in spaces.into_iter().take(count).chain(inodes.into_iter().take(count)) {
            match self.let_go(dir, piece) {
                Ok(()) => given += 1,
                Err(e) => tracing::warn!("the reserve for a full disk: {e}"),
            }
            // If it can't go it is of no use.
            pieces.remove(&piece);
        }
        let left = pieces.len();
        drop(kept);
        if given > 0 {
            tracing::info!("the disk is full: fsnap gives up {given} pieces of its reserve, {left} are left");
            self.await_effect(given);
        }
        given > 0
    }

    fn let_go(&self, dir: &File, piece: Piece) -> Result<()> {
        let name = piece.name();
        match piece {
            Piece::Space(_) if self.xfs => {
                let file = open_in(dir, name.as_str(), OFlag::O_WRONLY | OFlag::O_NOFOLLOW);
                sys::truncate(&file.doing("open a file of the reserve")?, 0).doing("truncate")
            }
            _ => sys::unlink_in(dir, name.as_str()),
        }
    }

    /// XFS frees the blocks of a file that is truncated at once: if they were what was missing there is no time to lose, before
    /// somebody else has them. An inode that is unlinked it frees in the background. Btrfs gives room back with its next
    /// commit.
    fn await_effect(&self, given: u32) {
        if self.xfs {
            if fstatvfs(&self.own).is_ok_and(|fs| fs.blocks_available() >= BLOCKS) {
                std::thread::sleep(INACTIVE.0 * given.min(INACTIVE.1));
            }
        } else if let Err(e) = syncfs(&self.own) {
            tracing::warn!("syncfs: {e}");
        }
    }

    fn begin(&self) {
        self.kept().users += 1;
    }

    /// Takes back what is left of what was given up, if nobody else is in need.
    fn end(&self) {
        let mut kept = self.kept();
        kept.users -= 1;
        if kept.users == 0 && !std::thread::panicking() {
            self.fill(&mut kept);
        }
    }
}

fn is_there(dir: &File, piece: Piece, xfs: bool) -> bool {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW;
    let stat = open_in(dir, piece.name().as_str(), flags).and_then(|file| fstat(&file));
    stat.is_ok_and(|stat| {
        sys::kind(&stat) == libc::S_IFREG && (!xfs || !piece.is_space() || stat.st_blocks * 512 >= SPACE)
    })
}

thread_local! {
    static DRAWING: RefCell<Option<Drawing>> = const { RefCell::new(None) };
}

/// A thread that may use the reserve.
struct Drawing {
    reserve: Arc<Reserve>,
    /// How many pieces of each kind it gives up next; 0 before the first.
    next: usize,
}

impl Drop for Drawing {
    fn drop(&mut self) {
        if self.next > 0 {
            self.reserve.end();
        }
    }
}

/// The permission to use a reserve, for the thread that has it and as long as it has it.
#[must_use]
pub(crate) struct Permit {
    /// There was none before.
    outermost: bool,
    _of_this_thread: PhantomData<*const ()>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.outermost {
            drop(DRAWING.take());
        }
    }
}

/// Lets this thread use `reserve`, if there is one.
pub(crate) fn permit(reserve: Option<&Arc<Reserve>>) -> Permit {
    let outermost = reserve.is_some() && DRAWING.with_borrow(Option::is_none);
    if let Some(reserve) = reserve.filter(|_| outermost) {
        DRAWING.set(Some(Drawing { reserve: Arc::clone(reserve), next: 0 }));
    }
    Permit { outermost, _of_this_thread: PhantomData }
}

/// Whether a change that has failed with `errno` is to be made again: there was no room for it, and some of the reserve was
/// given up.
pub(crate) fn yields(errno: Errno) -> bool {
    if !matches!(errno, Errno::ENOSPC | Errno::EDQUOT) {
        return false;
    }
    // Taken away meanwhile: what the reserve does itself has no reserve.
    let Some(mut drawing) = DRAWING.take() else { return false };
    if drawing.next == 0 {
        drawing.reserve.begin();
        drawing.next = 1;
    }
    let given = drawing.reserve.give_up(drawing.next);
    drawing.next = drawing.next.saturating_mul(2);
    DRAWING.set(Some(drawing));
    given
}
