//! System calls that have no safe wrapper.
#![allow(unsafe_code)]

use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd};
use std::ptr::{null, null_mut};

use fsnap_core::room::Group;
use nix::errno::Errno;
use nix::sys::stat::fstat;

use crate::fault;

/// Makes `dst` share all of `src`'s blocks.
///
/// Mind its ways: it never shrinks `dst`, refuses a longer `dst` when `src` ends within a block, and does nothing when
/// `src` is empty: call ftruncate on a longer `dst` first. It is not atomic: a failure or a crash can leave a part of it done.
///
/// `ENOSPC` also if it has stopped in the middle, mostly for want of room, and says that it is done, as XFS does from Linux 4.20 on
/// (3f68c1f562f1) to 6.13 (7ce31f20a077, "don't drop errno values when we fail to ficlone the entire range"). It can be told of a
/// `dst` that was empty.
#[track_caller]
pub(crate) fn ficlone(src: &File, dst: &File) -> nix::Result<()> {
    fault::point("FICLONE")?;
    let size = |file: &File| fstat(file).map(|stat| stat.st_size);
    let before = size(src)?;
    // SAFETY: FICLONE takes its argument by value, a descriptor number, and touches no memory of this process. Both
    // descriptors stay open for the length of the call, because the `File`s are borrowed until it returns.
    unsafe { raw::ficlone(dst.as_raw_fd(), libc::c_ulong::from(src.as_raw_fd().cast_unsigned())) }?;
    // Somebody may be making `src` shorter, or longer, meanwhile. Its size comes last of all that a clone does.
    let short = size(dst)? == 0 && before > 0 && size(src)? > 0;
    if short { Err(Errno::ENOSPC) } else { Ok(()) }
}

/// Makes `dst`, which is no longer, share all of the blocks of `src`, which has `size` bytes. The rest as [`ficlone`], but that
/// `EINVAL` is what is said where it has stopped in the middle and XFS does not say why.
#[track_caller]
pub(crate) fn ficlone_range(src: &File, size: i64, dst: &File) -> nix::Result<()> {
    fault::point("FICLONERANGE")?;
    let all = raw::CloneRange {
        src_fd: src.as_raw_fd().into(),
        src_length: size.unsigned_abs(),
        ..raw::CloneRange::default()
    };
    // SAFETY: FICLONERANGE reads one such struct through the pointer, which lives during the call; both descriptors stay open
    // for the length of it, because the `File`s are borrowed.
    unsafe { raw::ficlone_range(dst.as_raw_fd(), &raw const all) }.map(drop)
}

/// How many extents `file`, which is on XFS, has, and its flags: some of [`XFLAG_REALTIME`] and [`XFLAG_DAX`], and others.
pub(crate) fn extents(file: &File) -> nix::Result<(u32, u32)> {
    let mut found = raw::FsXattr::default();
    // SAFETY: FS_IOC_FSGETXATTR writes one such struct through the pointer; it lives and is exclusively borrowed during the
    // call, as the descriptor stays open during it.
    unsafe { raw::fsgetxattr(file.as_raw_fd(), &raw mut found) }?;
    Ok((found.nextents, found.xflags))
}

/// The size of a block in bytes, and the allocation groups, of the XFS that `file` is on. `E2BIG` if there are more than `most`.
pub(crate) fn groups(file: &File, most: u32) -> nix::Result<(u32, Vec<Group>)> {
    let mut geometry = raw::Geometry::default();
    // SAFETY: XFS_IOC_FSGEOMETRY_V1 writes one such struct through the pointer; it lives and is exclusively borrowed during the
    // call, as the descriptor stays open during it.
    unsafe { raw::fsgeometry(file.as_raw_fd(), &raw mut geometry) }?;
    if geometry.agcount > most {
        return Err(Errno::E2BIG);
    }
    let group = |number| {
        let mut group = raw::GroupGeometry { number, ..raw::GroupGeometry::default() };
        // SAFETY: XFS_IOC_AG_GEOMETRY reads and writes one such struct through the pointer; the rest as above.
        unsafe { raw::ag_geometry(file.as_raw_fd(), &raw mut group) }?;
        Ok(Group { blocks: group.length, free: group.free })
    };
    let groups = (0..geometry.agcount).map(group).collect::<nix::Result<_>>()?;
    Ok((geometry.blocksize, groups))
}

/// Whether nobody's space is limited on the XFS that `file` is on. False as well if it can't be told: before Linux 5.14.
pub(crate) fn has_no_quota(file: &File) -> bool {
    // It says how large a `struct fs_quota_stat` is, which is less.
    let mut found = [0u64; 64];
    let mut ask = |fd: libc::c_int| {
        // SAFETY: quotactl_fd(2) with Q_XGETQSTAT writes one such struct through the pointer, for which there is room; it lives and
        // is exclusively borrowed during the call. The descriptor stays open during it, or is none.
        let result = unsafe { libc::syscall(libc::SYS_quotactl_fd, fd, QUOTA_STATE, 0, found.as_mut_ptr()) };
        Errno::result(result).err()
    };
    // There is no quota, or no such system call.
    ask(file.as_raw_fd()) == Some(Errno::ENOSYS) && ask(-1) == Some(Errno::EBADF)
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

/// The root directory of the file system that `file` is on, which is XFS, wherever that is mounted.
pub(crate) fn xfs_root(file: &File) -> nix::Result<File> {
    let mut request =
        raw::StatRequest { ino: BULK_ROOT, flags: BULK_SPECIAL, icount: 1, ..Default::default() };
    // SAFETY: XFS_IOC_BULKSTAT reads the header through the pointer, writes it, and behind it `icount` structs of 192 bytes, for
    // which there is room; it lives and is exclusively borrowed during the call, as the descriptor stays open during it.
    unsafe { raw::bulkstat(file.as_raw_fd(), &raw mut request) }?;
    if request.ocount != 1 {
        return Err(Errno::ENOENT);
    }
    let mut handle = raw::FileHandle { bytes: 12, kind: FILEID_INO64_GEN, fid: [0; 12] };
    handle.fid[..8].copy_from_slice(&request.found.ino.to_ne_bytes());
    handle.fid[8..].copy_from_slice(&request.found.generation.to_ne_bytes());
    let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC;
    // SAFETY: open_by_handle_at(2) reads two numbers through the pointer and as many bytes behind them as the first says, which
    // are there; the handle lives during the call, as the descriptor stays open during it.
    let fd = unsafe { libc::open_by_handle_at(file.as_raw_fd(), (&raw mut handle).cast(), flags) };
    let fd = Errno::result(fd)?;
    // SAFETY: the call has just opened it, for nobody else.
    Ok(unsafe { File::from_raw_fd(fd) })
}

/// What XFS calls a file by.
pub(crate) struct Handle {
    bytes: [u8; 64],
    len: u32,
}

/// The handle of `file`, which is on XFS.
pub(crate) fn handle(file: &File) -> nix::Result<Handle> {
    let mut handle = Handle { bytes: [0; 64], len: 0 };
    let mut request = raw::HandleRequest {
        fd: file.as_raw_fd().cast_unsigned(),
        path: null(),
        oflags: 0,
        ihandle: null(),
        ihandlen: 0,
        ohandle: handle.bytes.as_mut_ptr(),
        ohandlen: &raw mut handle.len,
    };
    // SAFETY: XFS_IOC_FD_TO_HANDLE reads one such struct through the pointer, and writes a handle, which is a `struct xfs_handle`
    // of 24 bytes, and its length through the two pointers in it; all live and are exclusively borrowed during the call, as the
    // descriptor, of which it is asked and which is in the struct, stays open during it.
    unsafe { raw::fd_to_handle(file.as_raw_fd(), &raw mut request) }?;
    // It is as long as it says, or nothing that this knows.
    if handle.len as usize > handle.bytes.len() { Err(Errno::EOVERFLOW) } else { Ok(handle) }
}

/// How far a list has come.
#[derive(Default)]
pub(crate) struct Cursor([u32; 4]);

/// A piece of the list of xattrs of the file with this handle, from `at` on: a `struct xfs_attrlist`. `dir` is any directory of
/// that file system; `flags` says which namespace.
pub(crate) fn xattrs_of_handle(
    dir: &File,
    handle: &Handle,
    flags: u32,
    at: &mut Cursor,
) -> nix::Result<Vec<u8>> {
    // No more is allowed.
    let mut piece = vec![0; 1 << 16];
    let mut request = raw::ListRequest {
        file: raw::HandleRequest {
            fd: 0,
            path: null(),
            oflags: 0,
            ihandle: handle.bytes.as_ptr(),
            ihandlen: handle.len,
            ohandle: null_mut(),
            ohandlen: null_mut(),
        },
        pos: at.0,
        flags,
        buflen: piece.len() as u32,
        buffer: piece.as_mut_ptr(),
    };
    // SAFETY: XFS_IOC_ATTRLIST_BY_HANDLE reads one such struct through the pointer, and `ihandlen` bytes through `ihandle`, which
    // are there; it writes `buflen` bytes at most through `buffer`, and `pos`. All live during the call, and what is written is
    // exclusively borrowed; the descriptor stays open during it.
    unsafe { raw::attrlist_by_handle(dir.as_raw_fd(), (&raw mut request).cast_const()) }?;
    at.0 = request.pos;
    Ok(piece)
}

/// A piece of the xattrs of `file`, which is on btrfs, has the number `inode`, and is what they are of: those whose hashes are
/// `from` or more, as items behind each other, and how many these are.
pub(crate) fn xattr_items(file: &File, inode: u64, from: u64) -> nix::Result<(u32, Vec<u8>)> {
    // Twice what the largest item takes.
    const ROOM: usize = 128 << 10;
    let key = raw::SearchKey {
        min_objectid: inode,
        max_objectid: inode,
        min_offset: from,
        max_offset: u64::MAX,
        max_transid: u64::MAX,
        min_type: BTRFS_XATTR_ITEM_KEY,
        max_type: BTRFS_XATTR_ITEM_KEY,
        nr_items: u32::MAX,
        ..raw::SearchKey::default()
    };
    // On the heap: the host's threads have small stacks.
    let mut request: Vec<u64> = vec![0; (size_of::<raw::Search>() + ROOM) / size_of::<u64>()];
    let place = request.as_mut_ptr().cast::<raw::Search>();
    // SAFETY: the vector is large enough for the struct and `ROOM` bytes behind it, and aligned for it. BTRFS_IOC_TREE_SEARCH_V2
    // reads the struct, and writes its key and `buf_size` bytes at most behind it; the vector lives and is exclusively borrowed
    // during the call, as the descriptor stays open during it. Any bytes are a key.
    let items = unsafe {
        place.write(raw::Search { key, buf_size: ROOM as u64 });
        raw::tree_search(file.as_raw_fd(), place)?;
        (*place).key.nr_items
    };
    let words = &request[size_of::<raw::Search>() / size_of::<u64>()..];
    Ok((items, words.iter().flat_map(|word| word.to_ne_bytes()).collect()))
}

// XFS_BULK_IREQ_SPECIAL_ROOT and XFS_BULK_IREQ_SPECIAL of fs/xfs/libxfs/xfs_fs.h.
const BULK_ROOT: u64 = 1;
const BULK_SPECIAL: u32 = 1 << 1;
// FILEID_INO32_GEN of include/linux/exportfs.h and XFS_FILEID_TYPE_64FLAG of fs/xfs/xfs_export.h: 8 bytes of inode number, 4 of
// generation.
const FILEID_INO64_GEN: libc::c_int = 0x01 | 0x80;

// From include/uapi/linux/btrfs_tree.h.
const BTRFS_XATTR_ITEM_KEY: u32 = 24;

// From include/uapi/linux/fs.h.
const FS_NOCOW_FL: libc::c_int = 0x0080_0000;

/// The file's data is on another device. From there.
pub(crate) const XFLAG_REALTIME: u32 = 0x1;
/// It is not kept in memory. From there.
pub(crate) const XFLAG_DAX: u32 = 0x8000;

// QCMD(Q_XGETQSTAT, USRQUOTA) of include/uapi/linux/dqblk_xfs.h and quota.h.
const QUOTA_STATE: libc::c_uint = ((b'X' as libc::c_uint) << 8 | 5) << 8;

// From fs/xfs/libxfs/xfs_fs.h.
const EXCHANGE_RANGE_TO_EOF: u64 = 1 << 0;

mod raw {
    use std::mem::offset_of;

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

    /// `struct file_clone_range` of include/uapi/linux/fs.h.
    #[repr(C)]
    #[derive(Default)]
    pub struct CloneRange {
        pub src_fd: i64,
        pub src_offset: u64,
        pub src_length: u64,
        pub dest_offset: u64,
    }

    /// `struct fsxattr` there.
    #[repr(C)]
    #[derive(Default)]
    pub struct FsXattr {
        pub xflags: u32,
        pub extsize: u32,
        pub nextents: u32,
        pub projid: u32,
        pub cowextsize: u32,
        pub pad: [u8; 8],
    }

    /// `struct xfs_fsop_geom_v1` of fs/xfs/libxfs/xfs_fs.h.
    #[repr(C)]
    #[derive(Default)]
    pub struct Geometry {
        pub blocksize: u32,
        pub rtextsize: u32,
        pub agblocks: u32,
        pub agcount: u32,
        pub unread: [u64; 12],
    }

    /// `struct xfs_ag_geometry` there.
    #[repr(C)]
    #[derive(Default)]
    pub struct GroupGeometry {
        pub number: u32,
        pub length: u32,
        pub free: u32,
        pub unread: [u32; 29],
    }

    /// `struct xfs_bulkstat_req` there: a `struct xfs_bulk_ireq`, and room for what is found.
    #[repr(C)]
    #[derive(Default)]
    pub struct StatRequest {
        pub ino: u64,
        pub flags: u32,
        pub icount: u32,
        pub ocount: u32,
        pub agno: u32,
        pub reserved: [u64; 5],
        pub found: BulkStat,
    }

    /// `struct xfs_bulkstat` there.
    #[repr(C)]
    #[derive(Default)]
    pub struct BulkStat {
        pub ino: u64,
        pub unread: [u64; 7],
        pub generation: u32,
        pub unread_too: [u32; 31],
    }

    /// `struct file_handle` of open_by_handle_at(2).
    #[repr(C)]
    pub struct FileHandle {
        pub bytes: libc::c_uint,
        pub kind: libc::c_int,
        pub fid: [u8; 12],
    }

    // As the kernel's headers lay them out for 64 bits.
    const _: () = {
        assert!(size_of::<StatRequest>() == 64 + 192 && offset_of!(BulkStat, generation) == 64);
        assert!(size_of::<HandleRequest>() == 56 && size_of::<ListRequest>() == 88);
        assert!(size_of::<CloneRange>() == 32 && size_of::<FsXattr>() == 28);
        assert!(size_of::<Geometry>() == 112 && size_of::<GroupGeometry>() == 128);
        assert!(size_of::<SearchKey>() == 104 && size_of::<Search>() == 112);
    };

    // _IOR('X', 127, struct xfs_bulkstat_req), whose room counts for nothing.
    nix::ioctl_readwrite_bad!(bulkstat, nix::request_code_read!(b'X', 127, 64), StatRequest);

    /// `struct xfs_fsop_handlereq` there.
    #[repr(C)]
    pub struct HandleRequest {
        pub fd: u32,
        pub path: *const u8,
        pub oflags: u32,
        pub ihandle: *const u8,
        pub ihandlen: u32,
        pub ohandle: *mut u8,
        pub ohandlen: *mut u32,
    }

    /// `struct xfs_fsop_attrlist_handlereq` there.
    #[repr(C)]
    pub struct ListRequest {
        pub file: HandleRequest,
        pub pos: [u32; 4],
        pub flags: u32,
        pub buflen: u32,
        pub buffer: *mut u8,
    }

    /// `struct btrfs_ioctl_search_key` of include/uapi/linux/btrfs.h. The tree 0 is that of the file.
    #[repr(C)]
    #[derive(Clone, Copy, Default)]
    pub struct SearchKey {
        pub tree_id: u64,
        pub min_objectid: u64,
        pub max_objectid: u64,
        pub min_offset: u64,
        pub max_offset: u64,
        pub min_transid: u64,
        pub max_transid: u64,
        pub min_type: u32,
        pub max_type: u32,
        pub nr_items: u32,
        pub unused: u32,
        pub unused_too: [u64; 4],
    }

    /// `struct btrfs_ioctl_search_args_v2` there, without the room for what is found, which follows it.
    #[repr(C)]
    pub struct Search {
        pub key: SearchKey,
        pub buf_size: u64,
    }

    // _IOWR('X', 106, struct xfs_fsop_handlereq) and _IOW('X', 122, struct xfs_fsop_attrlist_handlereq) there.
    nix::ioctl_readwrite!(fd_to_handle, b'X', 106, HandleRequest);
    nix::ioctl_write_ptr!(attrlist_by_handle, b'X', 122, ListRequest);
    // _IOWR(0x94, 17, struct btrfs_ioctl_search_args_v2) in include/uapi/linux/btrfs.h.
    nix::ioctl_readwrite!(tree_search, 0x94, 17, Search);
    // _IOW('X', 129, struct xfs_exchange_range) there.
    nix::ioctl_write_ptr!(exchange_range, b'X', 129, ExchangeRange);
    // As there: _IOR('f', 1, long) and _IOW('f', 2, long).
    nix::ioctl_read!(get_flags, b'f', 1, libc::c_long);
    nix::ioctl_write_ptr!(set_flags, b'f', 2, libc::c_long);
    // FICLONE is _IOW(0x94, 9, int) in include/uapi/linux/fs.h.
    nix::ioctl_write_int!(ficlone, 0x94, 9);
    // _IOW(0x94, 13, struct file_clone_range) and _IOR('X', 31, struct fsxattr) there.
    nix::ioctl_write_ptr!(ficlone_range, 0x94, 13, CloneRange);
    nix::ioctl_read!(fsgetxattr, b'X', 31, FsXattr);
    // _IOR('X', 100, struct xfs_fsop_geom_v1) and _IOWR('X', 61, struct xfs_ag_geometry) of fs/xfs/libxfs/xfs_fs.h.
    nix::ioctl_read!(fsgeometry, b'X', 100, Geometry);
    nix::ioctl_readwrite!(ag_geometry, b'X', 61, GroupGeometry);
}
