//! The catalogue: what the base file and its snapshots carry in xattrs.
//!
//! The base file has [`SEQ`] and one [`ENTRY_PREFIX`]`NAME` for each snapshot; a snapshot has [`PAYLOAD`]. All are
//! short ASCII, the same bytes on every brick, with nothing from a local stat or clock in them.

use std::fmt;

use crate::{Error, Gfid, Result, SnapName, Timestamp};

/// On the base file: the number of the last snapshot taken, in decimal. Never goes back.
pub const SEQ: &str = "trusted.fsnap.seq";
/// On the base file: the catalogue entry of the snapshot whose name follows.
pub const ENTRY_PREFIX: &str = "trusted.fsnap.snap.";
/// On a snapshot: which file's snapshot it is.
pub const PAYLOAD: &str = "trusted.fsnap.record";
/// The longest record that is read, in bytes.
pub const MAX: usize = 512;

/// A catalogue entry: `v1 seq=3 id=UUID gfid=UUID created=SECONDS.NANOS flags=-`, `-` for what is not known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// Which snapshot of the file this is, counted from 1.
    pub seq: u64,
    /// What the caller gave to make the gfid unique.
    pub id: Option<Gfid>,
    /// The gfid of the payload.
    pub gfid: Gfid,
    /// When the caller says it was taken; without that, the file's mtime then.
    pub created: Option<Timestamp>,
    /// Deletion is forbidden (flag `h`).
    pub held: bool,
}

impl Record {
    /// Reads an entry. [`Error::Damaged`] (`EIO`) if it is none that [`Record`]'s `Display` could have written.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        decode(bytes, Self::read)
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self> {
        Ok(Record {
            seq: seq_from(fields.next("seq")?)?,
            id: optional(fields.next("id")?, Gfid::parse)?,
            gfid: Gfid::parse(fields.next("gfid")?)?,
            created: optional(fields.next("created")?, Timestamp::parse)?,
            held: match fields.next("flags")? {
                "-" => false,
                "h" => true,
                _ => return Err(Error::bad("unknown flags")),
            },
        })
    }

    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seq={} id={} gfid={}", self.seq, OrDash(&self.id), self.gfid)?;
        write!(f, " created={} flags={}", OrDash(&self.created), if self.held { "h" } else { "-" })
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("v1 ")?;
        self.write(f)
    }
}

/// What a snapshot carries: `v1 base=UUID name=NAME`, then the rest of its first catalogue entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PayloadRecord {
    /// The file that it is a snapshot of.
    pub base: Gfid,
    /// Its name.
    pub name: SnapName,
    /// The catalogue entry as it was at first.
    pub entry: Record,
}

impl PayloadRecord {
    /// Reads the xattr. [`Error::Damaged`] (`EIO`) if it is not one that `Display` could have written.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        decode(bytes, |fields| {
            Ok(PayloadRecord {
                base: Gfid::parse(fields.next("base")?)?,
                name: SnapName::parse(fields.next("name")?.as_bytes())?,
                entry: Record::read(fields)?,
            })
        })
    }
}

impl fmt::Display for PayloadRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v1 base={} name={} ", self.base, self.name)?;
        self.entry.write(f)
    }
}

/// What a restore writes down before it touches the file, so that it can be finished after a crash:
/// `v1 restore base=UUID payload=UUID name=NAME`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Intent {
    /// The file whose content is replaced.
    pub base: Gfid,
    /// The gfid of the snapshot that it is replaced with.
    pub payload: Gfid,
    /// That snapshot's name.
    pub name: SnapName,
}

impl Intent {
    /// Reads an intent. [`Error::Damaged`] (`EIO`) if it is none that `Display` could have written.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        decode(bytes, |fields| {
            fields.word("restore")?;
            Ok(Intent {
                base: Gfid::parse(fields.next("base")?)?,
                payload: Gfid::parse(fields.next("payload")?)?,
                name: SnapName::parse(fields.next("name")?.as_bytes())?,
            })
        })
    }
}

impl fmt::Display for Intent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v1 restore base={} payload={} name={}", self.base, self.payload, self.name)
    }
}

/// What a brick notes of a restore of a file by a carrier, until it is over: `v1 armed id=UUID name=NAME`, and `begun` in place of
/// `armed` from when the carrier came: the file has the snapshot's content then, or will have it when the brick is opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Armed {
    /// Its carrier came.
    pub begun: bool,
    /// Which restore it is.
    pub id: Gfid,
    /// The snapshot.
    pub name: SnapName,
}

impl Armed {
    /// Reads a note. [`Error::Damaged`] (`EIO`) if it is none that `Display` could have written.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        decode(bytes, |fields| {
            Ok(Armed {
                begun: fields.0.next() == Some("begun"),
                id: Gfid::parse(fields.next("id")?)?,
                name: SnapName::parse(fields.next("name")?.as_bytes())?,
            })
        })
    }
}

impl fmt::Display for Armed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = if self.begun { "begun" } else { "armed" };
        write!(f, "v1 {stage} id={} name={}", self.id, self.name)
    }
}

/// Reads [`SEQ`]'s value. [`Error::Damaged`] (`EIO`) if it is not a decimal number.
pub fn decode_seq(bytes: &[u8]) -> Result<u64> {
    std::str::from_utf8(bytes).ok().and_then(|s| seq_from(s).ok()).ok_or_else(|| damaged(bytes))
}

fn seq_from(text: &str) -> Result<u64> {
    let number = text.parse().map_err(|_| Error::bad("not a number"))?;
    // One text for each number: no sign, no leading zeros.
    if u64::to_string(&number) == text { Ok(number) } else { Err(Error::bad("not a plain number")) }
}

fn damaged(bytes: &[u8]) -> Error {
    let shown = &bytes[..bytes.len().min(80)];
    Error::Damaged(format!("not a record of this version of fsnap: \"{}\"", shown.escape_ascii()))
}

fn optional<T>(text: &str, parse: impl Fn(&str) -> Result<T>) -> Result<Option<T>> {
    if text == "-" { Ok(None) } else { parse(text).map(Some) }
}

struct OrDash<'a, T>(&'a Option<T>);

impl<T: fmt::Display> fmt::Display for OrDash<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str("-"),
        }
    }
}

/// The `key=value` words of a record, taken in order.
struct Fields<'a>(std::str::Split<'a, char>);

impl<'a> Fields<'a> {
    fn word(&mut self, expected: &str) -> Result<()> {
        if self.0.next() == Some(expected) { Ok(()) } else { Err(Error::bad("a word is missing")) }
    }

    fn next(&mut self, key: &str) -> Result<&'a str> {
        let value = self.0.next().and_then(|word| word.strip_prefix(key)?.strip_prefix('='));
        value.ok_or(Error::bad("a field is missing"))
    }
}

/// Reads `v1 key=value …`. Only the one spelling that we write ourselves is good: all bricks must agree byte for byte.
fn decode<T: fmt::Display>(bytes: &[u8], read: impl FnOnce(&mut Fields<'_>) -> Result<T>) -> Result<T> {
    let text = std::str::from_utf8(bytes).ok().filter(|_| bytes.len() <= MAX);
    let rest = text.and_then(|t| t.strip_prefix("v1 ")).ok_or_else(|| damaged(bytes))?;
    match read(&mut Fields(rest.split(' '))) {
        Ok(record) if record.to_string().as_bytes() == bytes => Ok(record),
        _ => Err(damaged(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRY: &str = "v1 seq=3 id=11111111-2222-4333-8444-555555555555 gfid=00000000-0000-0000-0000-000000000001 \
                         created=1700000000.000000001 flags=h";
    const BARE: &str = "v1 seq=1 id=- gfid=00000000-0000-0000-0000-000000000001 created=- flags=-";

    #[test]
    fn entries() {
        let full = Record::decode(ENTRY.as_bytes()).unwrap();
        assert_eq!((full.seq, full.held, full.to_string().as_str()), (3, true, ENTRY));
        let bare = Record::decode(BARE.as_bytes()).unwrap();
        assert_eq!((bare.id, bare.created, bare.held, bare.to_string().as_str()), (None, None, false, BARE));
    }

    #[test]
    fn payload_records() {
        let text = BARE.replace("v1 ", "v1 base=00000000-0000-0000-0000-000000000001 name=mon ");
        let read = PayloadRecord::decode(text.as_bytes()).unwrap();
        assert_eq!((read.base, read.name.as_str(), read.to_string()), (Gfid::ROOT, "mon", text.clone()));
        assert!(PayloadRecord::decode(BARE.as_bytes()).is_err());
        assert_eq!(
            PayloadRecord::decode(text.replace("mon", "..").as_bytes()).unwrap_err().errno(),
            libc::EIO
        );
    }

    #[test]
    fn intents() {
        let text = "v1 restore base=00000000-0000-0000-0000-000000000001 \
                    payload=11111111-2222-4333-8444-555555555555 name=mon";
        let read = Intent::decode(text.as_bytes()).unwrap();
        assert_eq!((read.base, read.name.as_str(), read.to_string().as_str()), (Gfid::ROOT, "mon", text));
        for bad in [
            "",
            "v1 restore",
            &text.replace("restore", "remove"),
            &text.replace("v1", "v2"),
            &text.replace(" restore", ""),
            &text.replace("=mon", "=a/b"),
            &text.replace("1111", "zzzz"),
            &format!("{text}\n"),
            &format!("{text} x=1"),
        ] {
            assert_eq!(Intent::decode(bad.as_bytes()).unwrap_err().errno(), libc::EIO, "{bad:?}");
        }
    }

    #[test]
    fn notes_of_restores() {
        let text = "v1 begun id=11111111-2222-4333-8444-555555555555 name=mon";
        let read = Armed::decode(text.as_bytes()).unwrap();
        assert_eq!((read.begun, read.name.as_str(), read.to_string().as_str()), (true, "mon", text));
        assert!(!Armed::decode(text.replace("begun", "armed").as_bytes()).unwrap().begun);
        for bad in ["v1 begun", &text.replace("begun", "done"), &text.replace("=mon", "=a/b")] {
            assert_eq!(Armed::decode(bad.as_bytes()).unwrap_err().errno(), libc::EIO, "{bad:?}");
        }
    }

    #[test]
    fn only_our_own_spelling_is_read() {
        let bad = [
            "",
            "v1",
            "v1 ",
            "v2 seq=1",
            &BARE.replace("seq=1", "seq=01"),
            &BARE.replace("seq=1", "seq=+1"),
            &BARE.replace("seq=1", "seq=18446744073709551616"),
            &BARE.replace("flags=-", "flags=x"),
            &BARE.replace("v1 seq", "v1  seq"),
            &format!("{BARE} "),
            &format!("{BARE} more=1"),
            &format!("{BARE}\0"),
            &ENTRY.replace("11111111-2222-4333-8444-555555555555", "AAAAAAAA-2222-4333-8444-555555555555"),
            &format!("{BARE}{}", "x".repeat(MAX)),
        ];
        for bad in bad {
            assert_eq!(Record::decode(bad.as_bytes()).unwrap_err().errno(), libc::EIO, "{bad:?}");
        }
        assert!(Record::decode(&[0xff; 40]).is_err());
    }

    #[test]
    fn seq() {
        assert_eq!(decode_seq(b"0"), Ok(0));
        assert_eq!(decode_seq(b"18446744073709551615"), Ok(u64::MAX));
        for bad in ["", "-1", "1 ", "01", "x"] {
            assert_eq!(decode_seq(bad.as_bytes()).unwrap_err().errno(), libc::EIO, "{bad}");
        }
    }
}
