//! Snapshot names.

use std::fmt;

use crate::{Error, Gfid, Result};

/// The name of a snapshot: 1 to 64 of `A-Z a-z 0-9 . _ + -`, the first a letter or digit.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct SnapName(String);

impl SnapName {
    /// The longest name, in bytes.
    pub const MAX: usize = 64;

    /// Checks `bytes`. [`Error::BadValue`] (`EINVAL`) if they are not a name.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        if bytes.is_empty() || bytes.len() > Self::MAX {
            return Err(Error::bad("a snapshot name has 1 to 64 characters"));
        }
        if !bytes[0].is_ascii_alphanumeric() {
            return Err(Error::bad("a snapshot name starts with a letter or digit"));
        }
        if !bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"._+-".contains(b)) {
            return Err(Error::bad("a snapshot name has only A-Z a-z 0-9 . _ + -"));
        }
        Ok(SnapName(bytes.iter().map(|&b| char::from(b)).collect()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The file name of the snapshot in `.fsnap`: `FILE@NAME`, where `file` is the base's file name (any bytes).
    /// [`Error::NameTooLong`] (`ENAMETOOLONG`) if it exceeds 255 bytes.
    pub fn file_name(&self, file: &[u8]) -> Result<Vec<u8>> {
        fits([file, b"@", self.0.as_bytes()].concat())
    }

    /// The file name of the snapshot when the file `base` was deleted: `FILE@NAME@` and the first 8 digits of its gfid.
    /// The next file of the name, which may be on another brick, is free to have a snapshot `FILE@NAME`: DHT wants a
    /// name to be on one brick only. Errors as for [`file_name`](Self::file_name).
    pub fn deleted_file_name(&self, file: &[u8], base: Gfid) -> Result<Vec<u8>> {
        let digits = &base.to_string()[..8];
        fits([file, b"@", self.0.as_bytes(), b"@", digits.as_bytes()].concat())
    }
}

fn fits(name: Vec<u8>) -> Result<Vec<u8>> {
    if name.len() > 255 { Err(Error::NameTooLong) } else { Ok(name) }
}

impl fmt::Display for SnapName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grammar() {
        for good in ["a", "Z9", "2026-11-23T10.30+01_x", &"n".repeat(64)] {
            assert_eq!(SnapName::parse(good.as_bytes()).unwrap().as_str(), good);
        }
        let long = "n".repeat(65);
        let bad: [&[u8]; 15] = [
            b"",
            b".",
            b"..",
            b".a",
            b"-a",
            b"_a",
            b"a/b",
            b"a\0",
            b"a@b",
            b"a:b",
            b"a b",
            b"a;b",
            b"\xff",
            "ä".as_bytes(),
            long.as_bytes(),
        ];
        for bad in bad {
            assert_eq!(SnapName::parse(bad).unwrap_err().errno(), libc::EINVAL, "{bad:?}");
        }
    }

    #[test]
    fn file_names_end_at_255_bytes() {
        let name = SnapName::parse(b"x").unwrap();
        assert_eq!(name.file_name(b"vm.img").unwrap(), b"vm.img@x");
        assert_eq!(name.deleted_file_name(b"vm.img", Gfid::ROOT).unwrap(), b"vm.img@x@00000000");
        assert_eq!(name.deleted_file_name(&[b'f'; 245], Gfid::ROOT), Err(Error::NameTooLong));
        assert_eq!(name.file_name(&[b'f'; 253]).unwrap().len(), 255);
        assert_eq!(name.file_name(&[b'f'; 254]), Err(Error::NameTooLong));
    }
}
