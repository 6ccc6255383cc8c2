//! System calls that have no safe wrapper.
#![allow(unsafe_code)]

use std::fs::File;
use std::os::fd::AsRawFd;

use crate::fault;

/// Makes `dst` share all of `src`'s blocks.
///
/// Mind its ways: it never shrinks `dst`, refuses a longer `dst` when `src` ends within a block, and does nothing when
/// `src` is empty: call ftruncate on a longer `dst` first. It is not atomic: a failure or a crash can leave a part of it done.
#[track_caller]
pub(crate) fn ficlone(src: &File, dst: &File) -> nix::Result<()> {
    fault::point("FICLONE")?;
    // SAFETY: FICLONE takes its argument by value, a descriptor number, and touches no memory of this process. Both
    // descriptors stay open for the length of the call, because the `File`s are borrowed until it returns.
    unsafe { raw::ficlone(dst.as_raw_fd(), libc::c_ulong::from(src.as_raw_fd().cast_unsigned())) }.map(drop)
}

/// Exchanges the contents of `a` and `b`, sizes and all, at once for all who look. `EOPNOTSUPP` or `ENOTTY` where the file
/// system can't.
///
/// Not so for a crash: Linux 6.18 was seen to recover a file with a part of each, unless an fsync had followed.
#[track_caller]
pub(crate) fn exchange(a: &File, b: &File) -> nix::Result<()> {
    fault::point("XFS_IOC_EXCHANGE_RANGE")?;
    let all = raw::ExchangeRange {
        file1_fd: a.as_raw_fd(),
        flags: EXCHANGE_RANGE_TO_EOF,
        ..raw::ExchangeRange::default()
    };
    // SAFETY: XFS_IOC_EXCHANGE_RANGE reads one such struct through the pointer, which lives during the call; both
    // descriptors stay open for the length of it, because the `File`s are borrowed.
    unsafe { raw::exchange_range(b.as_raw_fd(), &raw const all) }.map(drop)
}

/// Keeps the blocks of the empty file `dst` out of copy-on-write and checksums if those of `src` are: between files that
/// differ in this btrfs shares nothing (`EINVAL`). File systems without such a flag are content.
pub(crate) fn follow_nocow(src: &File, dst: &File) -> nix::Result<()> {
    let mut flags: libc::c_int = 0;
    // SAFETY: FS_IOC_GETFLAGS writes one int through the pointer, whatever its request code says of a long; `flags` is
    // one, and lives and is exclusively borrowed during the call, as the descriptor stays open during it.
    let known = unsafe { raw::get_flags(src.as_raw_fd(), (&raw mut flags).cast()) };
    if known.is_err() || flags & FS_NOCOW_FL == 0 {
        return Ok(());
    }
    fault::point("FS_IOC_SETFLAGS")?;
    let nocow = FS_NOCOW_FL;
    // SAFETY: FS_IOC_SETFLAGS reads one int through the pointer; again the request code's long is history. The rest as
    // above.
    unsafe { raw::set_flags(dst.as_raw_fd(), (&raw const nocow).cast()) }.map(drop)
}

// From include/uapi/linux/fs.h.
const FS_NOCOW_FL: libc::c_int = 0x0080_0000;

// From fs/xfs/libxfs/xfs_fs.h.
const EXCHANGE_RANGE_TO_EOF: u64 = 1 << 0;

mod raw {
    /// `struct xfs_exchange_range` of fs/xfs/libxfs/xfs_fs.h.
    #[repr(C)]
    #[derive(Default)]
    pub struct ExchangeRange {
        pub file1_fd: i32,
        pub pad: u32,
        pub file1_offset: u64,
        pub file2_offset: u64,
        pub length: u64,
        pub flags: u64,
    }

    // _IOW('X', 129, struct xfs_exchange_range) there.
    nix::ioctl_write_ptr!(exchange_range, b'X', 129, ExchangeRange);
    // As there: _IOR('f', 1, long) and _IOW('f', 2, long).
    nix::ioctl_read!(get_flags, b'f', 1, libc::c_long);
    nix::ioctl_write_ptr!(set_flags, b'f', 2, libc::c_long);
    // FICLONE is _IOW(0x94, 9, int) in include/uapi/linux/fs.h.
    nix::ioctl_write_int!(ficlone, 0x94, 9);
}
