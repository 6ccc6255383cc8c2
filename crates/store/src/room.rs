//! Which restores need no way back.
//!
//! A clone of what is there before would cost many times what the restore does: XFS counts each of its extents, and tears them down
//! again, while FICLONE over a file skips what is shared already. To find out what differs costs more than the restore as well:
//! FIEMAP looks each extent up among those that are shared (`xfs_reflink_trim_around_shared`; 10,000 extents of two files: 70 to
//! 350 ms where the restore took 10 to 40, Linux 6.18). So where nothing is known that could stop it in the middle it is begun
//! without one, and gone on with if it stops.

use fsnap_core::room;
use nix::errno::Errno;
use nix::unistd::{Whence, lseek};

use crate::Store;
use crate::brick::OpenFile;
use crate::ioctl::{self, XFLAG_DAX, XFLAG_REALTIME};

/// Of so many allocation groups at most it is asked how much room they have.
const MOST_GROUPS: u32 = 256;

impl Store {
    /// Whether a clone of `snapshot` over `live` will not stop in the middle, as far as can be told: on XFS, where both are ordinary
    /// files, nobody's space is limited, each allocation group has room, and the list of both files' extents can be read. What is
    /// left is a disk that fails, which shuts XFS down, and one that others fill in that moment.
    pub(crate) fn goes_forward(&self, snapshot: &OpenFile, live: &OpenFile) -> bool {
        self.brick.ordered && may_go_forward(snapshot, live).unwrap_or(false)
    }
}

fn may_go_forward(snapshot: &OpenFile, live: &OpenFile) -> nix::Result<bool> {
    let mut extents = 0;
    for file in [&snapshot.file, &live.file] {
        let (count, flags) = ioctl::extents(file)?;
        // Nothing is shared between one that is so and one that is not.
        if flags & (XFLAG_REALTIME | XFLAG_DAX) != 0 {
            return Ok(false);
        }
        extents += u64::from(count);
        // Reads the list.
        match lseek(file, 0, Whence::SeekData) {
            Ok(_) | Err(Errno::ENXIO) => {}
            Err(e) => return Err(e),
        }
    }
    let (block, groups) = ioctl::groups(&live.file, MOST_GROUPS)?;
    Ok(room::is_ample(&groups, block, extents) && ioctl::has_no_quota(&live.file))
}
