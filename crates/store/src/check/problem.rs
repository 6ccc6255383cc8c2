//! What a check can find.

use std::ffi::OsString;
use std::fmt::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use fsnap_core::Gfid;

/// How bad it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Severity {
    /// Nothing is wrong.
    Info,
    /// No data is in danger: something is left over, or not as it should be.
    Warning,
    /// A snapshot or a file is damaged, or commands on it will fail.
    Error,
}

impl Severity {
    /// As it is spelled in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Error => "error",
        }
    }
}

/// One thing that was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// What it is.
    pub kind: ProblemKind,
    /// Where, relative to the brick.
    pub path: PathBuf,
    /// What it is about: the file that has the catalogue, or the snapshot.
    pub gfid: Option<Gfid>,
    /// What it means and what to do.
    pub text: String,
    /// Whether a repair can set it right.
    pub repairable: bool,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.kind.severity().as_str(), self.kind.as_str(), escaped(&self.path))?;
        if let Some(gfid) = self.gfid {
            write!(f, " ({gfid})")?;
        }
        write!(f, ": {}", self.text)
    }
}

/// A path as text from which its bytes can be told: what is no UTF-8 and control characters are `\xNN`, `\` is `\\`.
pub fn escaped(path: &Path) -> String {
    let mut text = String::new();
    let hex = |text: &mut String, bytes: &[u8]| {
        for byte in bytes {
            // Writing to a String cannot fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    };
    for chunk in path.as_os_str().as_bytes().utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => text.push_str("\\\\"),
                c if c.is_control() => hex(&mut text, c.encode_utf8(&mut [0; 4]).as_bytes()),
                c => text.push(c),
            }
        }
        hex(&mut text, chunk.invalid());
    }
    text
}

/// The path that [`escaped`] has made this text of; `None` if it is not one of its texts.
pub fn unescaped(text: &Path) -> Option<PathBuf> {
    let mut bytes = Vec::new();
    let mut rest = text.as_os_str().as_bytes();
    while let [first, tail @ ..] = rest {
        (bytes, rest) = match (first, tail) {
            (b'\\', [b'\\', tail @ ..]) => ([&bytes[..], b"\\"].concat(), tail),
            (b'\\', [b'x', one, two, tail @ ..]) => {
                let byte = u8::from_str_radix(std::str::from_utf8(&[*one, *two]).ok()?, 16).ok()?;
                ([&bytes[..], &[byte]].concat(), tail)
            }
            (b'\\', _) => return None,
            _ => ([&bytes[..], &[*first]].concat(), tail),
        };
    }
    let path = PathBuf::from(OsString::from_vec(bytes));
    (escaped(&path).as_bytes() == text.as_os_str().as_bytes()).then_some(path)
}

/// Declares [`ProblemKind`] with what is fixed for each.
macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident $text:literal $severity:ident)*) => {
        /// The kinds of problems. Their names in reports never change. What to do about each: docs/check.md.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum ProblemKind {
            $($(#[$doc])* $kind,)*
        }

        impl ProblemKind {
            /// All of them.
            pub const ALL: &[ProblemKind] = &[$(ProblemKind::$kind),*];

            /// As it is spelled in reports.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(ProblemKind::$kind => $text,)*
                }
            }

            /// How bad it is.
            pub fn severity(self) -> Severity {
                match self {
                    $(ProblemKind::$kind => Severity::$severity,)*
                }
            }
        }
    };
}

kinds! {
    /// A file with a catalogue has no gfid.
    BaseGfid "base-gfid" Error
    /// The handle of a file with a catalogue is missing or leads elsewhere.
    BaseHandle "base-handle" Error
    /// Entries, but no number of the last snapshot.
    SeqMissing "seq-missing" Warning
    /// The number of the last snapshot can't be read.
    SeqDamaged "seq-damaged" Error
    /// An entry can't be read, or has a gfid that is not derived from its name.
    EntryDamaged "entry-damaged" Error
    /// An entry has a number that was not given yet.
    EntrySeq "entry-seq" Error
    /// Two entries with the same number or gfid.
    EntryDuplicate "entry-duplicate" Error
    /// An entry without its payload.
    PayloadMissing "payload-missing" Error
    /// An entry without its payload, which self-heal is to bring.
    PayloadAwaited "payload-awaited" Info
    /// What has the gfid of a payload is no regular file.
    PayloadType "payload-type" Error
    /// A payload has another gfid than its record says.
    PayloadGfid "payload-gfid" Error
    /// A payload's record can't be read, or is not that of the entry that leads to it.
    PayloadRecord "payload-record" Error
    /// The handle of a payload is missing or is another file.
    PayloadHandle "payload-handle" Error
    /// A payload has more or fewer names than one.
    PayloadNames "payload-names" Error
    /// The gfid2path xattrs of a payload do not tell its place.
    PayloadPlace "payload-place" Error
    /// A gfid2path xattr tells a place that the payload has left.
    PayloadPlaceStale "payload-place-stale" Warning
    /// A payload can be written.
    PayloadMode "payload-mode" Warning
    /// A payload does not lie beside its file under the name that it should have.
    PayloadElsewhere "payload-elsewhere" Warning
    /// The same where it could not follow its file.
    PayloadStays "payload-stays" Info
    /// A payload that the catalogue of its file does not name.
    Orphan "orphan" Warning
    /// The same, but the catalogue is older than the payload.
    OrphanNewer "orphan-newer" Warning
    /// A payload that the catalogue of its file does not name, which may have to be healed.
    OrphanUnhealed "orphan-unhealed" Info
    /// A payload whose file is not on the brick.
    BaseMissing "base-missing" Warning
    /// A note that self-heal is to bring a payload that no catalogue has.
    NoteStale "note-stale" Warning
    /// A tombstone has the name of another file's.
    TombstoneGfid "tombstone-gfid" Error
    /// A tombstone is not noted, or the note tells another place.
    TombstoneNote "tombstone-note" Error
    /// The gfid2path xattrs of a tombstone do not tell its place.
    TombstonePlace "tombstone-place" Error
    /// A tombstone of a file that has no snapshots.
    TombstoneUnused "tombstone-unused" Warning
    /// A tombstone of a file that has another name.
    TombstonePending "tombstone-pending" Warning
    /// A deleted file that has lost its tombstone.
    TombstoneMissing "tombstone-missing" Error
    /// A note of a deleted file that is not there, or is back.
    BuriedStale "buried-stale" Warning
    /// A note of a deleted file that can't be read.
    BuriedDamaged "buried-damaged" Error
    /// A `.fsnap` that fsnap has not made.
    SnapDirForeign "snap-dir-foreign" Warning
    /// The handle of a `.fsnap` is missing or leads elsewhere.
    SnapDirHandle "snap-dir-handle" Error
    /// A snapshot that was being made or deleted.
    SnapshotPending "snapshot-pending" Warning
    /// A restore that is not finished.
    IntentPending "intent-pending" Warning
    /// An intent that can't be read.
    IntentDamaged "intent-damaged" Error
    /// A file without snapshots, or a directory, has no handle.
    HandleMissing "handle-missing" Warning
    /// A file in a place of fsnap's that is not fsnap's.
    Alien "alien" Warning
    /// What an interrupted command has left.
    Leftover "leftover" Warning
    /// A file in quarantine.
    Quarantined "quarantined" Info
    /// There are snapshots, but fsnap's own directory is not whole.
    StateMissing "state-missing" Error
    /// What could not be looked at.
    Unreadable "unreadable" Error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_as_text() {
        let cases: [(&[u8], &str); 5] = [
            (b"d/vm.img", "d/vm.img"),
            ("d/\u{e9}".as_bytes(), "d/\u{e9}"),
            (b"a\\b", "a\\\\b"),
            (b"\xff\xfe.\x1b[31m\n", "\\xff\\xfe.\\x1b[31m\\x0a"),
            ("\u{85}".as_bytes(), "\\xc2\\x85"),
        ];
        for (bytes, text) in cases {
            let path = Path::new(std::ffi::OsStr::from_bytes(bytes));
            assert_eq!(escaped(path), text);
            assert_eq!(unescaped(Path::new(text)).as_deref(), Some(path));
        }
        for no in ["\\", "\\x", "\\x4", "\\x41", "\\xFF", "\\n", "a\n", "\\xc3\\xa9", "\\x+f"] {
            assert_eq!(unescaped(Path::new(no)), None, "{no:?}");
        }
    }

    #[test]
    fn kinds_have_names_of_their_own() {
        let mut names: Vec<_> = ProblemKind::ALL.iter().map(|kind| kind.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ProblemKind::ALL.len());
        let documented = include_str!("../../../../docs/check.md");
        for kind in ProblemKind::ALL {
            let row = format!("| `{}` | {} |", kind.as_str(), kind.severity().as_str());
            assert!(documented.contains(&row), "{row}");
        }
    }
}
