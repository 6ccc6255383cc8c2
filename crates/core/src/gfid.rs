//! Gfids: GlusterFS's 16-byte file identities, and the deterministic ones that fsnap derives.

use std::fmt;
use std::path::PathBuf;

use uuid::Uuid;

use crate::{Error, Result, SNAP_DIR, SnapName, last_place};

/// A GlusterFS file id (`uuid_t`, stored in `trusted.gfid`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Gfid([u8; 16]);

impl Gfid {
    /// The gfid of the brick's root directory.
    pub const ROOT: Gfid = Gfid([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);

    /// From the bytes of a `uuid_t`.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Gfid(bytes)
    }

    /// From the bytes of an xattr. [`Error::Damaged`] (`EIO`) if they are not 16 or all zero.
    pub fn from_xattr(bytes: &[u8]) -> Result<Self> {
        match <[u8; 16]>::try_from(bytes) {
            Ok(b) if b != [0; 16] => Ok(Gfid(b)),
            _ => Err(Error::Damaged(format!("a gfid of {} bytes or all zero", bytes.len()))),
        }
    }

    /// From the canonical text form (36 characters). [`Error::BadValue`] (`EINVAL`) if it is not one.
    pub fn parse(text: &str) -> Result<Self> {
        match Uuid::try_parse(text) {
            Ok(uuid) if text.len() == 36 => Ok(Gfid(uuid.into_bytes())),
            _ => Err(Error::bad("not a UUID in its canonical form")),
        }
    }

    /// From 32 hexadecimal digits without dashes. [`Error::BadValue`] (`EINVAL`) if it is not that.
    pub(crate) fn parse_simple(text: &str) -> Result<Self> {
        match Uuid::try_parse(text) {
            Ok(uuid) if text.len() == 32 => Ok(Gfid(uuid.into_bytes())),
            _ => Err(Error::bad("not a UUID of 32 digits")),
        }
    }

    /// Writes it in that form.
    pub(crate) fn fmt_simple(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Uuid::from_bytes(self.0).simple(), f)
    }

    /// The bytes, as in `trusted.gfid`.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The all-zero gfid, which GlusterFS uses for "not known".
    pub fn is_null(&self) -> bool {
        self.0 == [0; 16]
    }

    /// Where the brick keeps the file's handle, relative to the brick's root: `.glusterfs/xx/yy/GFID`.
    /// Source: `MAKE_HANDLE_GFID_PATH` of storage/posix.
    pub fn handle(&self) -> PathBuf {
        let mut text = Uuid::encode_buffer();
        let text = &*Uuid::from_bytes(self.0).hyphenated().encode_lower(&mut text);
        PathBuf::from([".glusterfs/", &text[..2], "/", &text[2..4], "/", text].concat())
    }

    /// The gfid of the `.fsnap` directory in the directory `self`; the same on every brick.
    pub fn snap_dir(&self) -> Gfid {
        self.derive(SNAP_DIR)
    }

    /// The gfid of snapshot `name` of the file `self`; the same on every brick that runs the same command.
    ///
    /// `id` is what the caller gave; without one the file's `seq` takes its place. The two can't collide: a UUID has
    /// dashes, a `seq` has none.
    pub fn payload(&self, name: &SnapName, id: Option<Gfid>, seq: u64) -> Gfid {
        match id {
            Some(id) => self.derive(&format!("{name}/{id}")),
            None => self.derive(&format!("{name}/{seq}")),
        }
    }

    /// Whether it is of the kind that fsnap derives, a name-based UUID (version 5). GlusterFS makes random ones
    /// (version 4).
    pub const fn is_derived(&self) -> bool {
        self.0[6] >> 4 == 5 && self.0[8] >> 6 == 0b10
    }

    /// The name in `.fsnap` of what keeps the deleted file `self` alive: `FILE@.GFID`, where `file` is the name that it
    /// had (any bytes); `@.GFID` if that is too long. No snapshot has such a name: theirs never start with a dot.
    pub fn tombstone(&self, file: &[u8]) -> Vec<u8> {
        let suffix = format!("@.{self}").into_bytes();
        if file.len() + suffix.len() > 255 { suffix } else { [file, &suffix].concat() }
    }

    /// Whether the snapshot that has the name `snapshot` in `.fsnap` may be of the deleted file whose tombstone has the name `tombstone`
    /// and this gfid: it has its digits, or the same path in front, as one has that its file's deletion was no reason to rename.
    pub fn may_have_tombstone(&self, snapshot: &[u8], tombstone: &[u8]) -> bool {
        let gfid = self.to_string();
        let digits = |end: &str| snapshot.ends_with(end.as_bytes());
        let path = tombstone
            .len()
            .checked_sub(36)
            .map(|end| &tombstone[..end])
            .and_then(|path| path.strip_suffix(b"@."));
        digits(&format!("@{}", &gfid[..8]))
            || digits(&format!("@~{gfid}"))
            || path.is_some_and(|path| {
                snapshot.strip_prefix(path).is_some_and(|rest| path.is_empty() || rest.starts_with(b"@"))
            })
    }

    /// Whether [`tombstone`](Self::tombstone) gives this name for some `file`, or [`LastPlace::tombstone`](crate::LastPlace::tombstone) for some path.
    pub fn is_tombstone(&self, name: &[u8]) -> bool {
        name.ends_with(format!("@.{self}").as_bytes()) || last_place::is_tombstone(*self, name)
    }

    fn derive(&self, name: &str) -> Gfid {
        Gfid(Uuid::new_v5(&Uuid::from_bytes(self.0), name.as_bytes()).into_bytes())
    }
}

/// Whether it is the name of a tombstone ([`Gfid::is_tombstone`]) of any file.
pub fn is_tombstone(name: &[u8]) -> bool {
    let gfid = name.last_chunk::<36>().and_then(|g| Gfid::parse(std::str::from_utf8(g).ok()?).ok());
    gfid.is_some_and(|gfid| gfid.is_tombstone(name))
}

impl fmt::Display for Gfid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Uuid::from_bytes(self.0).hyphenated().fmt(f)
    }
}

impl fmt::Debug for Gfid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_handle() {
        let g = Gfid::parse("0a1b2c3d-0000-4000-8000-00000000ffff").unwrap();
        assert_eq!(g.to_string(), "0a1b2c3d-0000-4000-8000-00000000ffff");
        assert_eq!(g.handle().to_str().unwrap(), ".glusterfs/0a/1b/0a1b2c3d-0000-4000-8000-00000000ffff");
        for bad in ["", "0a1b2c3d000040008000-00000000ffff", "{0a1b2c3d-0000-4000-8000-00000000ffff}", "x"] {
            assert!(Gfid::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn xattr_bytes_are_checked() {
        assert!(Gfid::from_xattr(&[0; 16]).is_err());
        assert!(Gfid::from_xattr(&[1; 15]).is_err());
        assert_eq!(Gfid::from_xattr(Gfid::ROOT.as_bytes()).unwrap(), Gfid::ROOT);
    }

    #[test]
    fn derived_and_random_ones() {
        assert!(Gfid::ROOT.snap_dir().is_derived());
        assert!(!Gfid::ROOT.is_derived());
        assert!(!Gfid::parse("11111111-2222-4333-8444-555555555555").unwrap().is_derived());
        assert!(!Gfid::parse("11111111-2222-5333-0444-555555555555").unwrap().is_derived());
    }

    #[test]
    fn tombstones() {
        let root = Gfid::ROOT;
        assert_eq!(root.tombstone(b"vm.img"), b"vm.img@.00000000-0000-0000-0000-000000000001");
        assert_eq!(root.tombstone(&[b'f'; 217]).len(), 255);
        assert_eq!(root.tombstone(&[b'f'; 218]), b"@.00000000-0000-0000-0000-000000000001");
        for file in [&b"vm.img"[..], &[b'f'; 218]] {
            assert!(
                root.is_tombstone(&root.tombstone(file))
                    && !root.snap_dir().is_tombstone(&root.tombstone(file))
            );
        }
        assert!(!root.is_tombstone(b"vm.img@monday"));
        assert!(is_tombstone(b"vm.img@.00000000-0000-0000-0000-000000000001"));
        for no in [&b""[..], b"vm.img@monday", b"vm.img@00000000-0000-0000-0000-000000000001", &[0xff; 40]] {
            assert!(!is_tombstone(no));
        }
    }

    #[test]
    fn snapshots_and_tombstones() {
        let file = Gfid::parse("11111111-2222-4333-8444-555555555555").unwrap();
        let [beside, long, up] =
            [file.tombstone(b"a@b"), file.tombstone(&[b'f'; 218]), format!("d%2Ff@..{file}").into()];
        for (snapshot, tombstone, may) in [
            ("a@b@mon@11111111".to_owned(), &beside, true),
            ("x@mon@11111111".into(), &beside, true),
            ("a@b@mon".into(), &beside, true),
            ("a@b@mon@11111112".into(), &beside, true),
            ("a@mon@11111112".into(), &beside, false),
            ("a@bc@mon".into(), &beside, false),
            ("ffff@mon".into(), &long, true),
            (format!("d%2Ff@mon@~{file}"), &up, true),
            (format!("d%2Ff@mon@~{}", Gfid::ROOT), &up, false),
        ] {
            assert_eq!(file.may_have_tombstone(snapshot.as_bytes(), tombstone), may, "{snapshot}");
        }
        assert!(!file.may_have_tombstone(b"a@mon", b"short"));
    }

    /// These values are part of the on-disk format: they must never change.
    #[test]
    fn derived_gfids_are_pinned() {
        let name = SnapName::parse(b"monday").unwrap();
        let id = Gfid::parse("11111111-2222-4333-8444-555555555555").unwrap();
        assert_eq!(Gfid::ROOT.snap_dir().to_string(), "04f48f30-a50a-5cc9-bce1-eb58d1ec3f8a");
        assert_eq!(Gfid::ROOT.payload(&name, None, 7).to_string(), "098d27eb-8e11-53ec-ba92-36ff08a689a2");
        assert_eq!(Gfid::ROOT.payload(&name, Some(id), 7), Gfid::ROOT.payload(&name, Some(id), 8));
        assert_ne!(Gfid::ROOT.payload(&name, None, 7), Gfid::ROOT.payload(&name, None, 8));
    }
}
