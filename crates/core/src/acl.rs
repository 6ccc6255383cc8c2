//! POSIX ACLs in their xattr form, as far as a snapshot needs them.
//!
//! Source: `include/uapi/linux/posix_acl_xattr.h`: a version (u32, 2), then entries of tag (u16), permissions (u16)
//! and id (u32), all little-endian; the order of the checks is acl(5)'s.

use crate::{Error, Result};

/// The xattr of the access ACL.
pub const ACCESS: &str = "system.posix_acl_access";

const VERSION: u32 = 2;
const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// Who asks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Caller {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

impl Caller {
    /// Whether this is a member of the group.
    pub fn is_in(&self, gid: u32) -> bool {
        self.gid == gid || self.groups.contains(&gid)
    }
}

/// An access ACL.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Acl(Vec<AclEntry>);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct AclEntry {
    tag: u16,
    perm: u16,
    id: u32,
}

impl Acl {
    /// Reads the xattr's bytes. [`Error::Damaged`] (`EIO`) if they are not of the known form.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let damaged = || Error::Damaged("an ACL of unknown form".into());
        let (version, rest) = bytes.split_first_chunk::<4>().ok_or_else(damaged)?;
        let (entries, tail) = rest.as_chunks::<8>();
        if u32::from_le_bytes(*version) != VERSION || !tail.is_empty() {
            return Err(damaged());
        }
        let entry = |e: &[u8; 8]| AclEntry {
            tag: u16::from_le_bytes([e[0], e[1]]),
            perm: u16::from_le_bytes([e[2], e[3]]),
            id: u32::from_le_bytes([e[4], e[5], e[6], e[7]]),
        };
        Ok(Acl(entries.iter().map(entry).collect()))
    }

    /// The ACL of mode bits.
    pub fn from_mode(mode: u32) -> Self {
        let bits = |shift: u32| (mode >> shift & 7) as u16;
        let entry = |(tag, perm)| AclEntry { tag, perm, id: u32::MAX };
        Acl([(USER_OBJ, bits(6)), (GROUP_OBJ, bits(3)), (OTHER, bits(0))].map(entry).to_vec())
    }

    /// The xattr's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = VERSION.to_le_bytes().to_vec();
        for e in &self.0 {
            bytes.extend(e.tag.to_le_bytes());
            bytes.extend(e.perm.to_le_bytes());
            bytes.extend(e.id.to_le_bytes());
        }
        bytes
    }

    /// The same with nothing but `perm` (of rwx = 4 2 1) in any entry.
    #[must_use]
    pub fn limited_to(&self, perm: u16) -> Self {
        Acl(self.0.iter().map(|e| AclEntry { perm: e.perm & perm, ..*e }).collect())
    }

    /// The same with `perm` for the owner as well.
    #[must_use]
    pub fn with_owner(&self, perm: u16) -> Self {
        let more =
            |e: &AclEntry| AclEntry { perm: if e.tag == USER_OBJ { e.perm | perm } else { e.perm }, ..*e };
        Acl(self.0.iter().map(more).collect())
    }

    /// Whether `caller` has all of `want` (of rwx = 4 2 1) on a file of `owner` and `group`. Root has.
    pub fn permits(&self, caller: &Caller, owner: u32, group: u32, want: u16) -> bool {
        if caller.uid == 0 {
            return true;
        }
        let has = |e: &AclEntry| e.perm & want == want;
        let find = |tag: u16| self.0.iter().find(|e| e.tag == tag);
        let unmasked = find(MASK).is_none_or(has);
        if caller.uid == owner {
            return find(USER_OBJ).is_some_and(has);
        }
        if let Some(named) = self.0.iter().find(|e| e.tag == USER && e.id == caller.uid) {
            return unmasked && has(named);
        }
        let mut groups = self.0.iter().filter(|e| match e.tag {
            GROUP_OBJ => caller.is_in(group),
            GROUP => caller.is_in(e.id),
            _ => false,
        });
        match groups.next() {
            Some(first) => unmasked && (has(first) || groups.any(has)),
            None => find(OTHER).is_some_and(has),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl(entries: &[(u16, u16, u32)]) -> Acl {
        Acl(entries.iter().map(|&(tag, perm, id)| AclEntry { tag, perm, id }).collect())
    }

    fn caller(uid: u32, gid: u32) -> Caller {
        Caller { uid, gid, groups: vec![900] }
    }

    #[test]
    fn round_trip_and_hostile_bytes() {
        let a = acl(&[(USER_OBJ, 7, u32::MAX), (USER, 6, 5), (MASK, 6, u32::MAX)]);
        assert_eq!(Acl::decode(&a.encode()), Ok(a.clone()));
        assert_eq!(a.limited_to(4), acl(&[(USER_OBJ, 4, u32::MAX), (USER, 4, 5), (MASK, 4, u32::MAX)]));
        for bad in [&b""[..], b"\x02\0\0", b"\x01\0\0\0", &[2, 0, 0, 0, 1, 2, 3]] {
            assert!(Acl::decode(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn mode_bits() {
        let a = Acl::from_mode(0o640);
        assert!(a.permits(&caller(0, 0), 1, 1, 7));
        assert!(a.permits(&caller(1, 9), 1, 2, 6));
        assert!(!a.permits(&caller(1, 2), 1, 2, 1));
        assert!(a.permits(&caller(3, 2), 1, 2, 4));
        assert!(a.permits(&caller(3, 4), 1, 900, 4));
        assert!(!a.permits(&caller(3, 2), 1, 2, 2));
        assert!(!a.permits(&caller(3, 4), 1, 2, 4));
    }

    #[test]
    fn named_entries_and_mask() {
        let a = acl(&[
            (USER_OBJ, 7, 0),
            (USER, 6, 5),
            (GROUP_OBJ, 0, 0),
            (GROUP, 4, 70),
            (MASK, 4, 0),
            (OTHER, 0, 0),
        ]);
        assert!(a.permits(&caller(5, 1), 1, 1, 4));
        assert!(!a.permits(&caller(5, 1), 1, 1, 2), "masked");
        assert!(a.permits(&caller(6, 70), 1, 1, 4));
        assert!(!a.permits(&caller(6, 71), 1, 1, 4));
        assert!(a.permits(&caller(6, 70), 1, 70, 4), "any of several groups is enough");
    }
}
