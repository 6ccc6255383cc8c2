//! Where a deleted file was, and the names in `.fsnap` that tell it.
//!
//! As long as the directory that it was in is there, what is kept of it lies in the `.fsnap` of that one. When it is removed
//! as well, what is kept moves up: into the `.fsnap` of the directory above, under names with the path that leads from there
//! to where the file was. A name can't have a slash: such a path is percent-encoded (`%` and `/` alone).

use crate::gfid2path::Link;
use crate::{Error, Gfid, Result, SnapName};

/// What marks the names of what has moved up. No snapshot of a file that is there has one of these, nor has one of a deleted
/// file that has not moved: of a [`SnapName`] the first is a letter or a digit.
const SNAPSHOT_MARK: &str = "@~";
const TOMBSTONE_MARK: &str = "@..";

/// The longest path that is told, in bytes, encoded: with the longest name of a snapshot, a gfid and the mark it is 255.
const MAX_PATH: usize = 255 - SnapName::MAX - "@".len() - SNAPSHOT_MARK.len() - 36;

/// Stands for what a path of more than [`MAX_PATH`] had before the rest.
const CUT: &[u8] = b"...";

/// Where a deleted file was.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct LastPlace {
    /// The nearest directory above that is there yet.
    dir: Gfid,
    /// The way from there: the file's name, and those of directories that were removed before it.
    path: Vec<u8>,
}

impl LastPlace {
    /// In a directory that is there.
    pub fn at(link: Link) -> Self {
        LastPlace { dir: link.parent, path: link.name }
    }

    /// The directory in whose `.fsnap` the file is kept.
    pub fn dir(&self) -> Gfid {
        self.dir
    }

    /// The path of the file from there: any bytes but NUL, no component is empty, `.` or `..`. One that was too long begins with
    /// `.../`.
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// The name that it had, if the directory that it was in is there.
    pub fn link(&self) -> Option<Link> {
        (!self.has_moved_up()).then(|| Link { parent: self.dir, name: self.path.clone() })
    }

    /// Whether the beginning of the path is not known: it was too long.
    pub fn is_cut(&self) -> bool {
        is_cut(&self.path)
    }

    /// Whether the directory that the file was in was removed as well.
    pub fn has_moved_up(&self) -> bool {
        self.path.contains(&b'/')
    }

    /// The same place when [`dir`](Self::dir), whose own place is `dir`, is removed.
    pub fn up(&self, dir: &Link) -> Self {
        if self.is_cut() {
            return LastPlace { dir: dir.parent, path: self.path.clone() };
        }
        LastPlace { dir: dir.parent, path: shortened([&dir.name, &b"/"[..], &self.path].concat()) }
    }

    /// Reads the text of a note. [`Error::Damaged`] (`EIO`) if it is not `GFID/PATH`, or the path is one that [`path`](Self::path)
    /// never gives.
    pub fn decode(text: &[u8]) -> Result<Self> {
        if text.get(37..).is_some_and(|path| !path.contains(&b'/')) {
            return Link::decode(text).map(Self::at);
        }
        let damaged = || Error::Damaged("the note of a deleted file that is not GFID/PATH".into());
        let (dir, path) = text.split_at_checked(36).ok_or_else(damaged)?;
        let dir = std::str::from_utf8(dir).ok().and_then(|dir| Gfid::parse(dir).ok()).ok_or_else(damaged)?;
        let path = path.strip_prefix(b"/").filter(|path| is_path(path)).ok_or_else(damaged)?;
        if dir.is_null() {
            return Err(damaged());
        }
        Ok(LastPlace { dir, path: path.to_vec() })
    }

    /// The text of the note.
    pub fn encode(&self) -> Vec<u8> {
        [self.dir.to_string().as_bytes(), b"/", &self.path].concat()
    }

    /// The name of the tombstone of `file`, in `.fsnap`: `FILE@.GFID`, or `PATH@..GFID` if it has moved up.
    pub fn tombstone(&self, file: Gfid) -> Vec<u8> {
        match self.has_moved_up() {
            true => [encoded(&self.path), format!("{TOMBSTONE_MARK}{file}").into_bytes()].concat(),
            false => file.tombstone(&self.path),
        }
    }

    /// Where `file` was, as the name of its tombstone in the `.fsnap` of `dir` tells; `None` if it does not.
    pub fn of_tombstone(dir: Gfid, file: Gfid, name: &[u8]) -> Option<Self> {
        let before = |mark: &str| name.strip_suffix(format!("{mark}{file}").as_bytes());
        let path = match before(TOMBSTONE_MARK) {
            Some(path) => decoded(path).filter(|path| is_path(path) && path.contains(&b'/'))?,
            None => before("@.").filter(|name| is_name(name))?.to_vec(),
        };
        let place = LastPlace { dir, path };
        (place.tombstone(file) == name).then_some(place)
    }

    /// The name of snapshot `name` of the deleted `file`, in `.fsnap`: `FILE@NAME@` and the first 8 digits of its gfid, or
    /// `PATH@NAME@~GFID` if it has moved up. [`Error::NameTooLong`] (`ENAMETOOLONG`) if it exceeds 255 bytes, which the latter never
    /// does.
    pub fn snapshot(&self, name: &SnapName, file: Gfid) -> Result<Vec<u8>> {
        match self.has_moved_up() {
            true => Ok([encoded(&self.path), format!("@{name}{SNAPSHOT_MARK}{file}").into_bytes()].concat()),
            false => name.deleted_file_name(&self.path, file),
        }
    }
}

/// The name of a snapshot in `.fsnap` that has moved up there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MovedUpName {
    /// The path that the file had from the directory that the `.fsnap` is in: see [`LastPlace::path`].
    pub path: Vec<u8>,
    /// The snapshot's name.
    pub name: SnapName,
    /// The file.
    pub file: Gfid,
}

impl MovedUpName {
    /// `None` if `name` is none of those that [`LastPlace::snapshot`] gives.
    pub fn parse(name: &[u8]) -> Option<Self> {
        let file = moved_up(name)?;
        let before = &name[..name.len() - SNAPSHOT_MARK.len() - 36];
        let at = before.iter().rposition(|&byte| byte == b'@')?;
        let path = decoded(&before[..at]).filter(|path| is_path(path) && path.contains(&b'/'))?;
        Some(MovedUpName { path, name: SnapName::parse(&before[at + 1..]).ok()?, file })
    }

    /// Whether the beginning of the path is not known: it was too long.
    pub fn is_cut(&self) -> bool {
        is_cut(&self.path)
    }
}

/// The file whose snapshot has the name `name` in `.fsnap`, if that is the name of one that has moved up.
pub fn moved_up(name: &[u8]) -> Option<Gfid> {
    let (before, gfid) = name.split_last_chunk::<36>()?;
    let gfid = Gfid::parse(std::str::from_utf8(gfid).ok()?).ok()?;
    before.ends_with(SNAPSHOT_MARK.as_bytes()).then_some(gfid)
}

/// Whether `name` is that of the tombstone of `file` where it has moved up.
pub(crate) fn is_tombstone(file: Gfid, name: &[u8]) -> bool {
    name.ends_with(format!("{TOMBSTONE_MARK}{file}").as_bytes())
}

fn is_cut(path: &[u8]) -> bool {
    path.strip_prefix(CUT).is_some_and(|rest| rest.first() == Some(&b'/'))
}

fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && name != b"." && name != b".." && !name.iter().any(|byte| b"/\0".contains(byte))
}

fn is_path(path: &[u8]) -> bool {
    path.split(|&byte| byte == b'/').all(is_name) && encoded(path).len() <= MAX_PATH
}

fn encoded(path: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(path.len());
    for &byte in path {
        match byte {
            b'/' => encoded.extend(b"%2F"),
            b'%' => encoded.extend(b"%25"),
            _ => encoded.push(byte),
        }
    }
    encoded
}

/// `None` if [`encoded`] never gives that.
fn decoded(text: &[u8]) -> Option<Vec<u8>> {
    let mut path = Vec::with_capacity(text.len());
    let mut left = text;
    while let Some((&byte, rest)) = left.split_first() {
        (left, _) = match byte {
            b'%' if rest.starts_with(b"2F") => (&rest[2..], path.push(b'/')),
            b'%' if rest.starts_with(b"25") => (&rest[2..], path.push(b'%')),
            b'%' | b'/' => return None,
            _ => (rest, path.push(byte)),
        };
    }
    Some(path)
}

/// Leaves directories out at the front, then the end of the file's name, until what is left of `path` can be told.
fn shortened(path: Vec<u8>) -> Vec<u8> {
    let mut path = path;
    while encoded(&path).len() > MAX_PATH {
        let rest = path.strip_prefix(CUT).and_then(|rest| rest.strip_prefix(b"/")).unwrap_or(&path);
        match rest.iter().position(|&byte| byte == b'/') {
            Some(slash) => path = [CUT, &rest[slash..]].concat(),
            // A whole character of UTF-8, which has four bytes at most.
            None => {
                let follows = |byte: u8| byte & 0xc0 == 0x80;
                let _last = (0..4).find(|_| !path.pop().is_some_and(follows));
            }
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(name: &[u8]) -> LastPlace {
        LastPlace::at(Link { parent: Gfid::ROOT, name: name.to_vec() })
    }

    fn above(name: &[u8]) -> Link {
        Link { parent: Gfid::ROOT, name: name.to_vec() }
    }

    fn agrees(place: &LastPlace, file: Gfid) {
        assert_eq!(LastPlace::decode(&place.encode()), Ok(place.clone()));
        let tombstone = place.tombstone(file);
        assert!(file.is_tombstone(&tombstone) && crate::is_tombstone(&tombstone), "{place:?}");
        assert_eq!(LastPlace::of_tombstone(place.dir(), file, &tombstone), Some(place.clone()));
        assert_eq!(LastPlace::of_tombstone(place.dir(), file.snap_dir(), &tombstone), None);
    }

    #[test]
    fn a_name_tells_the_path() {
        let (file, name) = (Gfid::ROOT.snap_dir(), SnapName::parse(b"monday").unwrap());
        let place = at(b"vm.img");
        agrees(&place, file);
        assert_eq!(place.link(), Some(above(b"vm.img")));
        assert_eq!(place.snapshot(&name, file).unwrap(), b"vm.img@monday@04f48f30");
        assert_eq!(place.encode(), b"00000000-0000-0000-0000-000000000001/vm.img");

        let place = place.up(&above(b"100%")).up(&above(b"a b"));
        agrees(&place, file);
        assert_eq!((place.path(), place.link()), (&b"a b/100%/vm.img"[..], None));
        assert_eq!(place.encode(), b"00000000-0000-0000-0000-000000000001/a b/100%/vm.img");
        let shown = place.snapshot(&name, file).unwrap();
        assert_eq!(shown, b"a b%2F100%25%2Fvm.img@monday@~04f48f30-a50a-5cc9-bce1-eb58d1ec3f8a");
        let parsed = MovedUpName::parse(&shown).unwrap();
        assert_eq!(
            (&parsed.path[..], &parsed.name, parsed.file, parsed.is_cut()),
            (place.path(), &name, file, false)
        );
        assert_eq!((moved_up(&shown), moved_up(&place.tombstone(file))), (Some(file), None));
        assert_eq!(place.tombstone(file), b"a b%2F100%25%2Fvm.img@..04f48f30-a50a-5cc9-bce1-eb58d1ec3f8a");
    }

    #[test]
    fn long_paths_are_cut() {
        let (file, name) = (Gfid::ROOT.snap_dir(), SnapName::parse(&[b'n'; 64]).unwrap());
        let mut place = at(b"f");
        for depth in 0..400 {
            place = place.up(&above(format!("d{depth}").as_bytes()));
            agrees(&place, file);
            assert!(place.snapshot(&name, file).unwrap().len() <= 255);
        }
        assert!(place.path().starts_with(b".../d") && place.path().ends_with(b"/d0/f"), "{place:?}");

        assert_eq!(at(b"f").up(&above(&[b'd'; 250])).up(&above(b"top")).path(), b".../f");

        for file_name in [vec![b'f'; 255], "ä".repeat(127).into_bytes(), vec![b'%'; 255], vec![0xbf; 255]] {
            let place = at(&file_name).up(&above(&[b'd'; 255]));
            agrees(&place, file);
            assert!(MovedUpName::parse(&place.snapshot(&name, file).unwrap()).unwrap().is_cut());
            assert!(place.path().starts_with(b".../") && place.snapshot(&name, file).unwrap().len() <= 255);
            if file_name[0] == 0xc3 {
                assert!(std::str::from_utf8(place.path()).is_ok());
            }
        }
    }

    #[test]
    fn what_only_looks_so() {
        let file = Gfid::ROOT.snap_dir();
        for bad in [
            "a%2F@..",
            "%2Fa@..",
            "a@..",
            "a%2f@..",
            "a%2Fb%@..",
            "a%2F..@..",
            "a/b@..",
            "@.",
            "a@~",
            "a\0@.",
            "..@.",
        ] {
            let name = format!("{bad}{file}");
            assert_eq!(LastPlace::of_tombstone(Gfid::ROOT, file, name.as_bytes()), None, "{bad}");
        }
        let root = Gfid::ROOT;
        for bad in ["a//b", "a/", "/a", "a/..", "./a", "", "a/\0", &"d/".repeat(80)] {
            assert!(LastPlace::decode(format!("{root}/{bad}").as_bytes()).is_err(), "{bad}");
        }
        for bad in ["", "x", &root.to_string(), "00000000-0000-0000-0000-000000000000/a/b"] {
            assert!(LastPlace::decode(bad.as_bytes()).is_err(), "{bad}");
        }
        for bad in ["a%2Fb@~", "a@x@~", "a%2Fb@-@~", "a%2F..@x@~", "@x@~", "a%2Fb@x@"] {
            assert_eq!(MovedUpName::parse(format!("{bad}{root}").as_bytes()), None, "{bad}");
        }
        assert_eq!((moved_up(b""), moved_up(b"vm.img@monday"), moved_up(&[0xff; 40])), (None, None, None));
    }
}
