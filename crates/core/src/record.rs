//! What the base file and its snapshots carry in xattrs, and what a brick notes of a restore.
//!
//! The base file has [`SEQ`] and the pages of its [catalogue](crate::catalogue); a snapshot has [`PAYLOAD`]. All are short ASCII, the
//! same bytes on every brick, with nothing from a local stat or clock in them.

use std::fmt;

use crate::{Error, Gfid, Result, SnapName, Timestamp};

/// On the base file: the number of the last snapshot taken. Never goes back.
pub const SEQ: &str = "trusted.fsnap.seq";
/// On a snapshot: which file's snapshot it is.
pub const PAYLOAD: &str = "trusted.fsnap.record";
/// The longest record that is read, in bytes.
pub const MAX: usize = 512;

/// What the catalogue says of one snapshot: `SEQ ID CREATED FLAGS`, such as `3 1111…5555 1700000000.000000001 -`; `-` for what is not
/// known. An id has 32 digits, without dashes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// Which snapshot of the file this is, counted from 1.
    pub seq: u64,
    /// What the caller gave to make the gfid unique.
    pub id: Option<Gfid>,
    /// The gfid of the payload: it is derived, and not written down.
    pub gfid: Gfid,
    /// When the caller says it was taken; without that, the file's mtime then.
    pub created: Option<Timestamp>,
    /// Deletion is forbidden (flag `h`).
    pub held: bool,
}

impl Record {
    /// Reads what is said of snapshot `name` of `base`. [`Error::Damaged`] (`EIO`) if it is nothing that [`Record`]'s `Display` could
    /// have written.
    pub fn decode(base: Gfid, name: &SnapName, bytes: &[u8]) -> Result<Self> {
        decode(bytes, |fields| {
            let (seq, id) = (seq_from(fields.word()?)?, optional(fields.word()?, Gfid::parse_simple)?);
            Ok(Record {
                seq,
                id,
                gfid: base.payload(name, id, seq),
                created: optional(fields.word()?, Timestamp::parse)?,
                held: match fields.word()? {
                    "-" => false,
                    "h" => true,
                    _ => return Err(Error::bad("unknown flags")),
                },
            })
        })
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = if self.held { "h" } else { "-" };
        write!(f, "{} {} {} {flags}", self.seq, OrDash(self.id.map(Simple)), OrDash(self.created))
    }
}

/// What a snapshot carries: `BASE NAME SEQ ID`, gfids with 32 digits, so that it fits into the inode beside the xattrs of GlusterFS.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PayloadRecord {
    /// The file that it is a snapshot of.
    pub base: Gfid,
    /// Its name.
    pub name: SnapName,
    /// Which snapshot of the file this is, counted from 1.
    pub seq: u64,
    /// What the caller gave to make the gfid unique.
    pub id: Option<Gfid>,
    /// Its gfid: derived, and not written down.
    pub gfid: Gfid,
}

impl PayloadRecord {
    /// Of the snapshot `name` of `base` whose catalogue entry is `entry`.
    pub fn of(base: Gfid, name: SnapName, entry: &Record) -> Self {
        PayloadRecord { base, name, seq: entry.seq, id: entry.id, gfid: entry.gfid }
    }

    /// Reads the xattr. [`Error::Damaged`] (`EIO`) if it is not one that `Display` could have written.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        decode(bytes, |fields| {
            let base = Gfid::parse_simple(fields.word()?)?;
            let name = SnapName::parse(fields.word()?.as_bytes())?;
            let (seq, id) = (seq_from(fields.word()?)?, optional(fields.word()?, Gfid::parse_simple)?);
            let gfid = base.payload(&name, id, seq);
            Ok(PayloadRecord { base, name, seq, id, gfid })
        })
    }
}

impl fmt::Display for PayloadRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} {}", Simple(self.base), self.name, self.seq, OrDash(self.id.map(Simple)))
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
        decode_v1(bytes, |fields| {
            fields.expect("restore")?;
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
        decode_v1(bytes, |fields| {
            Ok(Armed {
                begun: fields.word()? == "begun",
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

/// [`SEQ`]'s value: 20 digits, so that it never gets longer. See [`catalogue`](crate::catalogue) for what XFS does with what does.
pub fn encode_seq(seq: u64) -> String {
    format!("{seq:020}")
}

/// Reads [`SEQ`]'s value, also with less zeros in front. [`Error::Damaged`] (`EIO`) if it is not a decimal number.
pub fn decode_seq(bytes: &[u8]) -> Result<u64> {
    let digits = bytes.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(bytes).ok().filter(|_| digits && bytes.len() <= 20);
    text.and_then(|text| text.parse().ok()).ok_or_else(|| damaged(bytes))
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

/// A gfid without dashes.
struct Simple(Gfid);

impl fmt::Display for Simple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt_simple(f)
    }
}

struct OrDash<T>(Option<T>);

impl<T: fmt::Display> fmt::Display for OrDash<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str("-"),
        }
    }
}

/// The words of a record, taken in order.
struct Fields<'a>(std::str::Split<'a, char>);

impl<'a> Fields<'a> {
    fn word(&mut self) -> Result<&'a str> {
        self.0.next().ok_or(Error::bad("a word is missing"))
    }

    fn expect(&mut self, expected: &str) -> Result<()> {
        if self.word()? == expected { Ok(()) } else { Err(Error::bad("a word is missing")) }
    }

    /// Of a word `key=value`.
    fn next(&mut self, key: &str) -> Result<&'a str> {
        let value = self.word()?.strip_prefix(key).and_then(|rest| rest.strip_prefix('='));
        value.ok_or(Error::bad("a field is missing"))
    }
}

/// Reads words with one space between them. Only the one spelling that we write ourselves is good: all bricks must agree byte for byte.
fn decode<T: fmt::Display>(bytes: &[u8], read: impl FnOnce(&mut Fields<'_>) -> Result<T>) -> Result<T> {
    let text = std::str::from_utf8(bytes).ok().filter(|_| bytes.len() <= MAX);
    match read(&mut Fields(text.ok_or_else(|| damaged(bytes))?.split(' '))) {
        Ok(record) if record.to_string().as_bytes() == bytes => Ok(record),
        _ => Err(damaged(bytes)),
    }
}

/// The same of what begins with `v1`.
fn decode_v1<T: fmt::Display>(bytes: &[u8], read: impl FnOnce(&mut Fields<'_>) -> Result<T>) -> Result<T> {
    decode(bytes, |fields| {
        fields.expect("v1")?;
        read(fields)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRY: &str = "3 11111111222243338444555555555555 1700000000.000000001 h";
    const BARE: &str = "1 - - -";

    fn name() -> SnapName {
        SnapName::parse(b"mon").unwrap()
    }

    fn read(text: &str) -> Result<Record> {
        Record::decode(Gfid::ROOT, &name(), text.as_bytes())
    }

    #[test]
    fn entries() {
        let full = read(ENTRY).unwrap();
        assert_eq!((full.seq, full.held, full.to_string().as_str()), (3, true, ENTRY));
        assert_eq!(full.gfid, Gfid::ROOT.payload(&name(), full.id, 3));
        let bare = read(BARE).unwrap();
        assert_eq!((bare.id, bare.created, bare.held, bare.to_string().as_str()), (None, None, false, BARE));
        assert_eq!(bare.gfid, Gfid::ROOT.payload(&name(), None, 1));
    }

    #[test]
    fn payload_records() {
        for (text, entry) in [
            ("00000000000000000000000000000001 mon 1 -", BARE),
            ("00000000000000000000000000000001 mon 3 11111111222243338444555555555555", ENTRY),
        ] {
            let read = PayloadRecord::decode(text.as_bytes()).unwrap();
            assert_eq!(read, PayloadRecord::of(Gfid::ROOT, name(), &self::read(entry).unwrap()));
            assert_eq!(read.to_string(), text);
            for bad in [&text.replace("mon", ".."), &text.replacen("00", "", 1), &format!("{text} -"), entry]
            {
                assert_eq!(PayloadRecord::decode(bad.as_bytes()).unwrap_err().errno(), libc::EIO, "{bad}");
            }
        }
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
            " ",
            "1",
            &BARE.replacen('1', "01", 1),
            &BARE.replacen('1', "+1", 1),
            &BARE.replacen('1', "18446744073709551616", 1),
            &BARE.replace("- - -", "- - x"),
            &BARE.replace("1 -", "1  -"),
            &format!("{BARE} "),
            &format!("{BARE} more"),
            &format!("{BARE}\0"),
            &ENTRY.replace("11111111222243338444", "AAAAAAAA222243338444"),
            &ENTRY.replace("11111111222243338444555555555555", "11111111-2222-4333-8444-555555555555"),
            &format!("{BARE}{}", "x".repeat(MAX)),
        ];
        for bad in bad {
            assert_eq!(read(bad).unwrap_err().errno(), libc::EIO, "{bad:?}");
        }
        assert!(Record::decode(Gfid::ROOT, &name(), &[0xff; 40]).is_err());
    }

    #[test]
    fn seq() {
        assert_eq!(decode_seq(b"0"), Ok(0));
        assert_eq!(decode_seq(b"18446744073709551615"), Ok(u64::MAX));
        for seq in [0, 9, 10, u64::MAX] {
            let bytes = encode_seq(seq);
            assert_eq!((bytes.len(), decode_seq(bytes.as_bytes())), (20, Ok(seq)));
        }
        for bad in ["", "-1", "+1", "1 ", "x", "000000000000000000001", "18446744073709551616"] {
            assert_eq!(decode_seq(bad.as_bytes()).unwrap_err().errno(), libc::EIO, "{bad}");
        }
    }
}
