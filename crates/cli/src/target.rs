//! Snapshots as people name them: `FILE@NAME`, or a path in `.fsnap`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use fsnap_check::unescaped;
use fsnap_core::{MovedUpName, SnapName};

use crate::failure::{Deed, Failure};
use crate::found::Found;
use crate::mount;
use crate::place::{Held, Place, is_snap_dir};
use crate::text::quoted;
use crate::volume;

/// `FILE@NAME` as it was typed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Named {
    /// All of it.
    pub typed: PathBuf,
    /// What is before the last `@`.
    pub file: PathBuf,
    /// What is behind it.
    pub name: SnapName,
}

impl Named {
    /// Splits at the last `@`. A text that says what is missing otherwise.
    pub fn parse(typed: OsString) -> Result<Named, String> {
        let bytes = typed.as_bytes();
        let slash = bytes.iter().rposition(|&b| b == b'/').map_or(0, |at| at + 1);
        if let Some(MovedUpName { name, .. }) = MovedUpName::parse(&bytes[slash..]) {
            return Ok(Named { file: typed.clone().into(), typed: typed.into(), name });
        }
        match bytes[slash..].iter().rposition(|&b| b == b'@') {
            Some(at) if at > 0 => {
                let name = SnapName::parse(&bytes[slash + at + 1..]).map_err(|why| why.to_string())?;
                let file = OsString::from_vec(bytes[..slash + at].to_vec()).into();
                Ok(Named { typed: typed.into(), file, name })
            }
            _ => Err("a snapshot is given as FILE@NAME".into()),
        }
    }
}

impl Named {
    /// What is printed with escapes is taken as well. An error if it may be both.
    fn meant(self) -> Result<Named, Failure> {
        let spelled = unescaped(&self.typed).filter(|path| *path != self.typed);
        let Some(spelled) = spelled.and_then(|path| Named::parse(path.into_os_string()).ok()) else {
            return Ok(self);
        };
        match (self.leads_somewhere(), spelled.leads_somewhere()) {
            (true, true) => {
                let why = format!(
                    "there is a file of just this name, and the one that is printed so: give --raw for the first, {} --raw for the other",
                    quoted(&spelled.typed)
                );
                Err(Failure::new(&self.typed, why))
            }
            (false, true) => Ok(spelled),
            _ => Ok(self),
        }
    }

    fn leads_somewhere(&self) -> bool {
        [&self.file, &self.typed].into_iter().any(|path| path.symlink_metadata().is_ok())
    }
}

/// A snapshot that a command is about.
#[derive(Debug)]
pub struct Target {
    /// As it was given.
    pub typed: PathBuf,
    /// What commands are set on: the file; the snapshot itself where there is none.
    pub file: Found,
    /// The snapshot's name.
    pub name: SnapName,
    /// What the file was, if it was deleted.
    pub deleted: Option<Deleted>,
}

impl Target {
    /// Finds out what `named` is: beside a file, or in `.fsnap`. If it is not `raw` it may be spelled as the command prints it.
    pub fn resolve(named: Named, raw: bool) -> Result<Target, Failure> {
        let Named { typed, file, name } = if raw { named } else { named.meant()? };
        let finding = |error| Failure::finding(&typed, error);
        let dir = Held::at(mount::parent(&typed)).map_err(finding)?;
        let path = dir.path().map_err(finding)?;
        if is_snap_dir(&path) {
            let dir = Place::of(dir).map_err(finding)?;
            return Self::in_snap_dir(typed, &dir, &path, name);
        }
        // Not of what was typed: FILE may be a link to another file system.
        let place = Place::at(&file).map_err(finding)?;
        Ok(Target { typed, file: Found { shown: file, place }, name, deleted: None })
    }

    /// Whether commands are set on the snapshot itself.
    pub fn is_by_itself(&self) -> bool {
        self.file.shown == self.typed
    }

    /// A snapshot by its own path. Its gfid says which it is: names of files may have an `@` too.
    fn in_snap_dir(typed: PathBuf, dir: &Place, path: &Path, last: SnapName) -> Result<Target, Failure> {
        let file_name = typed.file_name().unwrap_or_default();
        let place = dir.below(file_name).map_err(|error| Failure::finding(&typed, error))?;
        let failed = |errno| Failure::of(Deed::Look, &typed, &place, errno);
        let own = volume::gfid(&place).map_err(failed)?.to_string();
        let all = volume::list(&place).map_err(failed)?;
        let known = all.into_iter().find(|snapshot| snapshot.gfid.as_ref() == Some(&own));
        // One that the catalogue does not know can be deleted by its own path.
        let name = known.and_then(|known| SnapName::parse(known.name.as_bytes()).ok()).unwrap_or(last);
        let base = base_name(file_name, &name);
        if let Some((base, twin)) = base.and_then(|base| Some((base, dir.above().ok()?.below(base).ok()?)))
            && volume::info(&twin, &name).is_ok_and(|twin| twin.gfid.as_ref() == Some(&own))
        {
            let file = Found { shown: above(&typed, path).join(base), place: twin };
            return Ok(Target { typed, file, name, deleted: None });
        }
        let deleted = Deleted::parse(file_name).filter(|deleted| deleted.name == name);
        let file = Found { shown: typed.clone(), place };
        Ok(Target { typed, file, name, deleted })
    }
}

/// The directory above a `.fsnap`, in the words of the caller if they name it.
pub fn above(typed: &Path, snap_dir: &Path) -> PathBuf {
    let said = mount::parent(typed);
    let dir = if is_snap_dir(said) { said } else { snap_dir };
    let above = mount::parent(dir);
    if above == Path::new(".") { PathBuf::new() } else { above.to_owned() }
}

fn base_name<'a>(file_name: &'a OsStr, name: &SnapName) -> Option<&'a OsStr> {
    file_name.as_bytes().strip_suffix(format!("@{name}").as_bytes()).map(OsStr::from_bytes)
}

/// The name of a snapshot of a deleted file: `FILE@NAME@XXXXXXXX`, or `PATH@NAME@~GFID` if its directory was removed as well.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Deleted {
    /// The name that the file had, or its path from the directory that is there.
    pub file: PathBuf,
    /// The snapshot's name.
    pub name: SnapName,
    /// Whether the path is not known from its beginning.
    pub is_cut: bool,
}

impl Deleted {
    /// Reads such a name. A snapshot of a file `FILE@NAME` may have one too.
    pub fn parse(file_name: &OsStr) -> Option<Deleted> {
        if let Some(moved) = MovedUpName::parse(file_name.as_bytes()) {
            let is_cut = moved.is_cut();
            return Some(Deleted { file: OsString::from_vec(moved.path).into(), name: moved.name, is_cut });
        }
        let mut parts = file_name.as_bytes().rsplitn(3, |&b| b == b'@');
        let (digits, name, file) = (parts.next()?, parts.next()?, parts.next()?);
        let is_digit = |b: &u8| b.is_ascii_digit() || (b'a'..=b'f').contains(b);
        if file.is_empty() || digits.len() != 8 || !digits.iter().all(is_digit) {
            return None;
        }
        Some(Deleted {
            file: OsStr::from_bytes(file).into(),
            name: SnapName::parse(name).ok()?,
            is_cut: false,
        })
    }
}

/// `FILE@NAME`, as commands take it.
pub fn argument(file: &Path, name: &str) -> PathBuf {
    let mut argument = file.as_os_str().to_owned();
    argument.push("@");
    argument.push(name);
    argument.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(bytes: &[u8]) -> Option<(Vec<u8>, String)> {
        let named = Named::parse(OsString::from_vec(bytes.to_vec())).ok()?;
        Some((named.file.into_os_string().into_vec(), named.name.to_string()))
    }

    #[test]
    fn the_last_at_splits() {
        for (typed, file, name) in [
            (&b"f@a"[..], &b"f"[..], "a"),
            (b"d/f@a", b"d/f", "a"),
            (b"/d@x/f y@a", b"/d@x/f y", "a"),
            (b"f@a@b", b"f@a", "b"),
            (b"\xff\n@2026-11-23", b"\xff\n", "2026-11-23"),
            (b"d/.fsnap/f@monday@1234abcd", b"d/.fsnap/f@monday", "1234abcd"),
            (b"@@a", b"@", "a"),
        ] {
            assert_eq!(parsed(typed), Some((file.to_vec(), name.to_owned())), "{}", typed.escape_ascii());
        }
        for no in [&b""[..], b"f", b"@a", b"d/@a", b"d@a/f", b"f@", b"f@a/", b"f@-a", b"f@a b", b"f@\xff"] {
            assert_eq!(parsed(no), None, "{}", no.escape_ascii());
        }
    }

    #[test]
    fn names_of_deleted_files() {
        let parse =
            |name: &str| Deleted::parse(OsStr::new(name)).map(|d| (d.file, d.name.to_string(), d.is_cut));
        assert_eq!(parse("f@a@0123abcd"), Some(("f".into(), "a".into(), false)));
        assert_eq!(parse("f@x@a@0123abcd"), Some(("f@x".into(), "a".into(), false)));
        let gfid = "3f0c1e5a-0000-4000-8000-00000000ffff";
        assert_eq!(parse(&format!("d%2Ff@a@~{gfid}")), Some(("d/f".into(), "a".into(), false)));
        assert_eq!(parse(&format!("...%2Fd%2Ff@a@~{gfid}")), Some((".../d/f".into(), "a".into(), true)));
        let named = Named::parse(format!("m/.fsnap/d%2Ff@a@~{gfid}").into()).unwrap();
        assert_eq!((named.name.to_string(), named.file == named.typed), ("a".into(), true));
        for no in
            ["f@a", "f@0123abcd", "@a@0123abcd", "f@a@0123abc", "f@a@0123ABCD", "f@-@0123abcd", "f@@0123abcd"]
        {
            assert_eq!(parse(no), None, "{no}");
        }
    }

    #[test]
    fn above_a_snap_dir() {
        for (typed, expected) in
            [("d/.fsnap/f@a", "d"), (".fsnap/f@a", ""), ("/m/.fsnap/f@a", "/m"), ("f@a", "/real/d")]
        {
            assert_eq!(above(Path::new(typed), Path::new("/real/d/.fsnap")), Path::new(expected), "{typed}");
        }
    }

    #[test]
    fn arguments() {
        assert_eq!(argument(Path::new("d/f"), "a"), Path::new("d/f@a"));
        assert_eq!(base_name(OsStr::new("f@x@a"), &SnapName::parse(b"a").unwrap()), Some(OsStr::new("f@x")));
    }
}
