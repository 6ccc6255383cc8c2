//! The names of xattrs where there are more than listxattr(2) lists: it ends at 64 KiB of names, in all namespaces together
//! (`E2BIG`), and anybody who may write to a file may give it more. XFS and btrfs have ways of their own to look at them piece
//! by piece.
//!
//! What a piece holds is read as bytes that anybody may have written.

use std::fs::File;

use fsnap_core::{Error, Result};
use nix::errno::Errno;
use nix::sys::stat::fstat;
use nix::sys::statfs::{BTRFS_SUPER_MAGIC, XFS_SUPER_MAGIC, fstatfs};

use crate::ioctl::{self, Cursor};
use crate::sys::Doing;

/// A namespace.
#[derive(Clone, Copy)]
pub(crate) enum Space {
    /// GlusterFS's and our own.
    Trusted,
    /// The application's.
    User,
}

impl Space {
    fn prefix(self) -> &'static str {
        match self {
            Space::Trusted => "trusted.",
            Space::User => "user.",
        }
    }

    /// From fs/xfs/libxfs/xfs_fs.h.
    fn xfs_flags(self) -> u32 {
        match self {
            Space::Trusted => XFS_IOC_ATTR_ROOT,
            Space::User => 0,
        }
    }
}

const XFS_IOC_ATTR_ROOT: u32 = 0x0002;

/// All names in one namespace, each once. Those in one piece are of one moment; those that are there all the time are among
/// them, because both file systems go by the names' hashes.
///
/// `E2BIG` where the file system has no way to tell them, or what a system call says; [`Error::Damaged`] (`EIO`) if what it
/// tells makes no sense.
pub(crate) fn names(file: &File, space: Space) -> Result<Vec<Vec<u8>>> {
    let mut names = match fstatfs(file).doing("statfs")?.filesystem_type() {
        XFS_SUPER_MAGIC => on_xfs(file, space)?,
        BTRFS_SUPER_MAGIC => on_btrfs(file, space)?,
        _ => {
            return Err(Errno::E2BIG).doing(
                "list the xattrs, whose names take more than 64 KiB, on a file system that has no way of its own to do so",
            );
        }
    };
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

fn senseless() -> Error {
    Error::Damaged("the file system's own list of xattrs makes no sense".into())
}

fn on_xfs(file: &File, space: Space) -> Result<Vec<Vec<u8>>> {
    // XFS takes handles through a directory alone, whichever.
    let dir = ioctl::xfs_root(file).doing("open the root of XFS")?;
    let handle = ioctl::handle(file).doing("ask XFS for a handle")?;
    let (mut at, mut names) = (Cursor::default(), Vec::new());
    loop {
        let piece =
            ioctl::xattrs_of_handle(&dir, &handle, space.xfs_flags(), &mut at).doing("ask XFS for xattrs")?;
        let (found, more) = xfs_piece(&piece).ok_or_else(senseless)?;
        if more && found.is_empty() {
            return Err(senseless());
        }
        names.extend(found.into_iter().map(|name| [space.prefix().as_bytes(), name].concat()));
        if !more {
            return Ok(names);
        }
    }
}

/// The names in a `struct xfs_attrlist` (fs/xfs/libxfs/xfs_fs.h), and whether there are more. `None` if it makes no sense.
///
/// `al_count` and `al_more`, then as many offsets, all of 4 bytes; at each offset 4 bytes with the value's length and the name,
/// ended by a NUL.
fn xfs_piece(piece: &[u8]) -> Option<(Vec<&[u8]>, bool)> {
    let word = |at: usize| {
        let bytes = piece.get(at..at.checked_add(4)?)?;
        Some(i32::from_ne_bytes(bytes.try_into().ok()?))
    };
    let (count, more) = (usize::try_from(word(0)?).ok()?, word(4)? != 0);
    let name = |n: usize| {
        let offset = usize::try_from(word(n.checked_mul(4)?.checked_add(8)?)?).ok()?;
        let name = piece.get(offset.checked_add(4)?..)?;
        Some(&name[..name.iter().position(|&byte| byte == 0)?])
    };
    // As many as there can be: a count alone takes no memory.
    let names = (0..count.min(piece.len())).map(name).collect::<Option<Vec<_>>>()?;
    (names.len() == count).then_some((names, more))
}

fn on_btrfs(file: &File, space: Space) -> Result<Vec<Vec<u8>>> {
    let inode = fstat(file).doing("stat")?.st_ino;
    let (mut from, mut names) = (0, Vec::new());
    loop {
        let (items, piece) = ioctl::xattr_items(file, inode, from).doing("ask btrfs for xattrs")?;
        let Some(last) = btrfs_piece(&piece, items, |name| {
            if name.starts_with(space.prefix().as_bytes()) {
                names.push(name.to_vec());
            }
        })
        .ok_or_else(senseless)?
        else {
            return Ok(names);
        };
        if last < from {
            return Err(senseless());
        }
        match last.checked_add(1) {
            Some(next) => from = next,
            None => return Ok(names),
        }
    }
}

/// Calls `each` for every name in `items` items, as BTRFS_IOC_TREE_SEARCH_V2 gives them. Returns the offset in the key of the
/// last one, `Some(None)` if there is no item, and `None` if they make no sense.
///
/// An item is a `struct btrfs_ioctl_search_header` (include/uapi/linux/btrfs.h: `transid`, `objectid`, `offset`, 8 bytes each,
/// `type`, `len`, 4 bytes each) and `len` bytes: for each name of that hash a `struct btrfs_dir_item`
/// (include/uapi/linux/btrfs_tree.h: 25 bytes, then little-endian `data_len` and `name_len`, 2 bytes each, and `type`, 1 byte),
/// the name and the value.
fn btrfs_piece<'a>(mut rest: &'a [u8], items: u32, mut each: impl FnMut(&'a [u8])) -> Option<Option<u64>> {
    let mut last = None;
    for _ in 0..items {
        let (header, behind) = rest.split_at_checked(32)?;
        last = Some(u64::from_ne_bytes(header[16..24].try_into().ok()?));
        let len = u32::from_ne_bytes(header[28..].try_into().ok()?);
        let (mut entries, behind) = behind.split_at_checked(usize::try_from(len).ok()?)?;
        while !entries.is_empty() {
            let (entry, names) = entries.split_at_checked(30)?;
            let length = |at: usize| usize::from(u16::from_le_bytes([entry[at], entry[at + 1]]));
            let (name, values) = names.split_at_checked(length(27))?;
            entries = values.split_at_checked(length(25))?.1;
            each(name);
        }
        rest = behind;
    }
    Some(last)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn xfs(count: i32, more: i32, offsets: &[i32], entries: &[u8]) -> Vec<u8> {
        let words = [count, more].into_iter().chain(offsets.iter().copied());
        words.flat_map(i32::to_ne_bytes).chain(entries.iter().copied()).collect()
    }

    #[test]
    fn pieces_of_xfs() {
        let piece = xfs(2, 1, &[16, 22], b"\x05\0\0\0a\0\0\0\0\0bc\0");
        assert_eq!(xfs_piece(&piece), Some((vec![&b"a"[..], b"bc"], true)));
        assert_eq!(xfs_piece(&xfs(0, 0, &[], b"")), Some((vec![], false)));
        for senseless in [
            Vec::new(),
            xfs(0, 0, &[], b"")[..7].to_vec(),
            xfs(-1, 0, &[], b""),
            // More than there are, behind the end, before the beginning, without an end.
            xfs(i32::MAX, 0, &[16, 16], b"\0\0\0\0a\0"),
            xfs(3, 0, &[16, 16], b""),
            xfs(1, 0, &[100], b"\0\0\0\0a\0"),
            xfs(1, 0, &[i32::MAX], b"\0\0\0\0a\0"),
            xfs(1, 0, &[-4], b"\0\0\0\0a\0"),
            xfs(1, 0, &[12], b"\0\0\0\0a"),
        ] {
            assert_eq!(xfs_piece(&senseless), None, "{}", senseless.escape_ascii());
        }
    }

    fn entry(name: &[u8], value: &[u8]) -> Vec<u8> {
        let lengths = [value.len(), name.len()].map(|len| (len as u16).to_le_bytes()).concat();
        [&[7; 25][..], &lengths, &[8], name, value].concat()
    }

    fn item(offset: u64, entries: &[u8]) -> Vec<u8> {
        let numbers = [1, 2, offset].map(u64::to_ne_bytes).concat();
        [numbers, [24, entries.len() as u32].map(u32::to_ne_bytes).concat(), entries.to_vec()].concat()
    }

    fn btrfs(piece: &[u8], items: u32) -> Option<(Option<u64>, Vec<&[u8]>)> {
        let mut names = Vec::new();
        let last = btrfs_piece(piece, items, |name| names.push(name))?;
        Some((last, names))
    }

    #[test]
    fn pieces_of_btrfs() {
        let two = [entry(b"user.a", b"x"), entry(b"trusted.b", b"")].concat();
        let piece = [item(3, &two), item(9, &entry(b"", b"value")), vec![0; 9]].concat();
        assert_eq!(btrfs(&piece, 2), Some((Some(9), vec![&b"user.a"[..], b"trusted.b", b""])));
        assert_eq!(btrfs(&piece, 0), Some((None, vec![])));
        assert_eq!(btrfs(&piece, 3), None, "there are no more");
        for end in 0..item(3, &two).len() {
            assert_eq!(btrfs(&piece[..end], 1), None, "cut at {end}");
        }
        // Lengths of names and values that lead out of their item.
        for at in [25, 27] {
            let mut entry = entry(b"user.a", b"x");
            entry[at] = 8;
            assert_eq!(btrfs(&[item(3, &entry), item(4, &[])].concat(), 2), None);
        }
    }

    proptest! {
        #[test]
        fn whatever_the_bytes_are(bytes in proptest::collection::vec(any::<u8>(), 0..400), items in any::<u32>()) {
            if let Some((names, _)) = xfs_piece(&bytes) {
                prop_assert!(names.iter().all(|name| name.len() < bytes.len()));
            }
            btrfs(&bytes, items);
        }
    }
}
