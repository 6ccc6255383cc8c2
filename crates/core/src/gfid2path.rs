//! `trusted.gfid2path.*`: one xattr per hard link, that tells where a file is. For a directory its handle tells that.
//!
//! Source: `posix_set_gfid2path_xattr` of storage/posix: the value is `PARENT-GFID/NAME`, the key ends with the
//! value's XXH64 (seed 0) in 16 hex digits.

use crate::{Error, Gfid, Result};

/// What every key starts with.
pub const PREFIX: &str = "trusted.gfid2path.";

/// One name of a file.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Link {
    /// The gfid of the directory.
    pub parent: Gfid,
    /// The name in it: any bytes but `/` and NUL.
    pub name: Vec<u8>,
}

impl Link {
    /// Reads an xattr's value. [`Error::Damaged`] (`EIO`) if it is not `GFID/NAME`, or the name is one that could
    /// lead elsewhere.
    pub fn decode(value: &[u8]) -> Result<Self> {
        let damaged = || Error::Damaged("a gfid2path xattr that is not GFID/NAME".into());
        let (parent, name) = value.split_at_checked(36).ok_or_else(damaged)?;
        let parent =
            std::str::from_utf8(parent).ok().and_then(|p| Gfid::parse(p).ok()).ok_or_else(damaged)?;
        let name = name.strip_prefix(b"/").ok_or_else(damaged)?;
        let unfit = name.is_empty() || name.len() > 255 || name == b"." || name == b"..";
        if unfit || parent.is_null() || name.iter().any(|b| b"/\0".contains(b)) {
            return Err(damaged());
        }
        Ok(Link { parent, name: name.to_vec() })
    }

    /// The value of the xattr.
    pub fn encode(&self) -> Vec<u8> {
        [self.parent.to_string().as_bytes(), b"/", &self.name].concat()
    }

    /// Reads the text of a directory's handle; `None` if it is not the one that [`soft_handle`](Self::soft_handle) gives.
    pub fn decode_soft_handle(target: &[u8]) -> Option<Self> {
        let link = Link::decode(target.get("../../pp/qq/".len()..)?).ok()?;
        (link.soft_handle() == target).then_some(link)
    }

    /// The text of a directory's handle, a symlink: `../../pp/qq/PARENT/NAME`. Source: `posix_handle_soft` of
    /// storage/posix.
    pub fn soft_handle(&self) -> Vec<u8> {
        let [one, two, ..] = self.parent.as_bytes();
        [format!("../../{one:02x}/{two:02x}/").as_bytes(), &self.encode()].concat()
    }

    /// The name of the xattr.
    pub fn key(&self) -> String {
        format!("{PREFIX}{:016x}", xxhash_rust::xxh64::xxh64(&self.encode(), 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_key() {
        let link = Link::decode(b"00000000-0000-0000-0000-000000000001/vm.img").unwrap();
        assert_eq!(link, Link { parent: Gfid::ROOT, name: b"vm.img".to_vec() });
        assert_eq!(link.encode(), b"00000000-0000-0000-0000-000000000001/vm.img");
        assert!(Link::decode(b"00000000-0000-0000-0000-000000000001/\xff\xfe").is_ok());
    }

    #[test]
    fn hostile_values() {
        let root = "00000000-0000-0000-0000-000000000001";
        for bad in ["", "x", "/a", root, &format!("{root}/"), &format!("{root}/..")] {
            assert!(Link::decode(bad.as_bytes()).is_err(), "{bad}");
        }
        for bad in ["a/b", ".", "a\0b", &"n".repeat(256)] {
            assert!(Link::decode(format!("{root}/{bad}").as_bytes()).is_err(), "{bad}");
        }
        assert!(Link::decode(b"00000000-0000-0000-0000-000000000000/a").is_err());
        assert!(Link::decode(&[0xff; 60]).is_err());
    }
    #[test]
    fn handles_of_directories() {
        let link = Link { parent: Gfid::ROOT, name: b"a".to_vec() };
        let text = b"../../00/00/00000000-0000-0000-0000-000000000001/a";
        assert_eq!(link.soft_handle(), text);
        assert_eq!(Link::decode_soft_handle(text), Some(link));
        for bad in [
            "",
            "../../..",
            "../../00/00/",
            "../../00/01/00000000-0000-0000-0000-000000000001/a",
            "../../0/000/00000000-0000-0000-0000-000000000001/a",
            "/./../00/00/00000000-0000-0000-0000-000000000001/a",
            "../../00/00/00000000-0000-0000-0000-000000000001/..",
            "../../00/00/00000000-0000-0000-0000-000000000001/a/b",
            "../../AB/00/AB000000-0000-0000-0000-000000000001/a",
        ] {
            assert_eq!(Link::decode_soft_handle(bad.as_bytes()), None, "{bad}");
        }
    }
}
