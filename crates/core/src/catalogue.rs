//! The catalogue of a file: its snapshots, in pages, each of which is one xattr of the file.
//!
//! A page has a line `NAME `[`Record`]`\n` for each of its snapshots. A new one comes into the page with the largest number, or into a
//! new page if that is full; none ever changes its page, and an empty page is no page. So each change is one system call, bricks that
//! were told the same have the same pages, and a file with many snapshots has few xattrs: replicate has all of them read at each lookup.
//!
//! Behind the last line are as many newlines as make it [`LEAST`] bytes. XFS keeps what is shorter within the inode, and a longer value that
//! does not fit there any more is set in two transactions: the first one takes the old value away (`xfs_attr_sf_addname`). A power cut
//! between them would leave no page. What is never within the inode is replaced in one (`xfs_attr3_leaf_flipflags`).

use crate::record::Record;
use crate::{Error, Gfid, Result, SnapName};

/// What the names of the xattrs start with; the page's number follows, in decimal.
pub const PAGE_PREFIX: &str = "trusted.fsnap.catalogue.";
/// How many bytes a page gets at most. XFS keeps up to three quarters of a block of 4 KiB within the block that has the xattr's name, and
/// btrfs an xattr within its node, of which the smallest have 4 KiB.
pub const PAGE_SIZE: usize = 2800;
/// How many bytes a page has at least: XFS keeps up to 255 within the inode (`XFS_ATTR_SF_ENTSIZE_MAX`).
pub const LEAST: usize = 256;

/// The name of the xattr that is page `number`.
pub fn page_key(number: u32) -> String {
    format!("{PAGE_PREFIX}{number}")
}

/// The number of the page that the xattr `key` is; `None` if it is none that fsnap can have written.
pub fn page_number(key: &[u8]) -> Option<u32> {
    let digits = std::str::from_utf8(key.strip_prefix(PAGE_PREFIX.as_bytes())?).ok()?;
    digits.parse().ok().filter(|number: &u32| number.to_string() == digits)
}

/// What is wrong with the xattr `key`, which starts like a page's: [`Error::Damaged`] (`EIO`).
pub fn impossible_key(key: &[u8]) -> Error {
    Error::Damaged(format!("a page of the catalogue with an impossible name: {}", key.escape_ascii()))
}

/// A page, without the newlines at its end: what it has that can't be read stays as it is.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Page(Vec<u8>);

impl Page {
    /// Of the value of an xattr, whatever that is.
    pub fn new(mut bytes: Vec<u8>) -> Self {
        while bytes.ends_with(b"\n\n") {
            bytes.pop();
        }
        Page(bytes)
    }

    /// The value.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.0.clone();
        bytes.resize(bytes.len().max(LEAST), b'\n');
        bytes
    }

    /// Whether nothing is in it: there should be no such page.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Its entries, of the file `base`. [`Error::Damaged`] (`EIO`) for each that can't be read, and if nothing is in it.
    pub fn entries(&self, base: Gfid) -> impl Iterator<Item = Result<(SnapName, Record)>> {
        let empty = self.check_names().err().filter(|_| self.is_empty()).map(Err);
        let entries = self.lines().map(move |line| {
            let (name, record) = split(line)?;
            Record::decode(base, &name, record).map(|record| (name, record))
        });
        empty.into_iter().chain(entries)
    }

    /// What it says of snapshot `name` of `base`; `None` if it is not in it. [`Error::Damaged`] (`EIO`) if that can't be read.
    pub fn get(&self, base: Gfid, name: &SnapName) -> Result<Option<Record>> {
        let line = self.lines().find(|line| is_of(line, name));
        line.map(|line| Record::decode(base, name, split(line)?.1)).transpose()
    }

    /// [`Error::Damaged`] (`EIO`) if it can't be told of which snapshots it says something.
    pub fn check_names(&self) -> Result<()> {
        if self.is_empty() {
            return Err(Error::Damaged("a page of the catalogue is empty".into()));
        }
        self.lines().try_for_each(|line| split(line).map(drop))
    }

    /// Whether there is room for another entry.
    pub fn has_room(&self, name: &SnapName, record: &Record) -> bool {
        self.0.len() + usize::from(self.is_cut_short()) + line(name, record).len() <= PAGE_SIZE
    }

    /// Puts the entry in the place of the one of its name, or else at the end.
    pub fn put(&mut self, name: &SnapName, record: &Record) {
        let new = line(name, record);
        match self.place(name) {
            Some(place) => drop(self.0.splice(place, new)),
            None => {
                // What was cut short is a line of its own.
                if self.is_cut_short() {
                    self.0.push(b'\n');
                }
                self.0.extend(new);
            }
        }
    }

    /// Takes the entry of that name out, whether it can be read or not. False if it is not in it.
    pub fn remove(&mut self, name: &SnapName) -> bool {
        let place = self.place(name);
        place.map(|place| drop(self.0.drain(place))).is_some()
    }

    /// Takes out what has no possible name.
    pub fn remove_nameless(&mut self) {
        self.0 = self.lines().filter(|line| split(line).is_ok()).flatten().copied().collect();
    }

    fn is_cut_short(&self) -> bool {
        self.0.last().is_some_and(|&byte| byte != b'\n')
    }

    /// The lines with their ends; the last one may have been cut short.
    fn lines(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split_inclusive(|&byte| byte == b'\n')
    }

    fn place(&self, name: &SnapName) -> Option<std::ops::Range<usize>> {
        let mut start = 0;
        for line in self.lines() {
            if is_of(line, name) {
                return Some(start..start + line.len());
            }
            start += line.len();
        }
        None
    }
}

fn line(name: &SnapName, record: &Record) -> Vec<u8> {
    format!("{name} {record}\n").into_bytes()
}

fn is_of(line: &[u8], name: &SnapName) -> bool {
    line.strip_prefix(name.as_str().as_bytes()).is_some_and(|rest| rest.starts_with(b" "))
}

/// The name, and what is said of it.
fn split(line: &[u8]) -> Result<(SnapName, &[u8])> {
    let parts = || {
        let line = line.strip_suffix(b"\n")?;
        let space = line.iter().position(|&byte| byte == b' ')?;
        Some((SnapName::parse(&line[..space]).ok()?, &line[space + 1..]))
    };
    parts().ok_or_else(|| {
        let shown = &line[..line.len().min(80)];
        Error::Damaged(format!(
            "an entry that has no possible name, or is cut short: \"{}\"",
            shown.escape_ascii()
        ))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> SnapName {
        SnapName::parse(text.as_bytes()).unwrap()
    }

    fn record(name: &SnapName, seq: u64, held: bool) -> Record {
        Record { seq, id: None, gfid: Gfid::ROOT.payload(name, None, seq), created: None, held }
    }

    fn page(entries: &[(&str, u64)]) -> Page {
        let mut page = Page::default();
        for (text, seq) in entries {
            page.put(&name(text), &record(&name(text), *seq, false));
        }
        page
    }

    #[test]
    fn keys() {
        assert_eq!(page_key(12), "trusted.fsnap.catalogue.12");
        assert_eq!(page_number(b"trusted.fsnap.catalogue.12"), Some(12));
        for bad in [
            "trusted.fsnap.catalogue.",
            "trusted.fsnap.catalogue.01",
            "trusted.fsnap.catalogue.+1",
            "trusted.fsnap.catalogue.4294967296",
            "trusted.fsnap.seq",
        ] {
            assert_eq!(page_number(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn entries_come_change_and_go() {
        let mut page = page(&[("a", 1), ("ab", 2), ("b", 3)]);
        assert_eq!(page.0, b"a 1 - - -\nab 2 - - -\nb 3 - - -\n");
        assert_eq!(page.get(Gfid::ROOT, &name("ab")).unwrap(), Some(record(&name("ab"), 2, false)));
        assert_eq!(page.get(Gfid::ROOT, &name("c")).unwrap(), None);
        page.put(&name("ab"), &record(&name("ab"), 2, true));
        assert_eq!(page.0, b"a 1 - - -\nab 2 - - h\nb 3 - - -\n");
        assert!(page.remove(&name("a")) && !page.remove(&name("a")));
        let names: Vec<String> = page.entries(Gfid::ROOT).map(|entry| entry.unwrap().0.to_string()).collect();
        assert_eq!(names, ["ab", "b"]);
        assert!(page.remove(&name("ab")) && page.remove(&name("b")) && page.is_empty());
    }

    #[test]
    fn what_cannot_be_read_stays_and_hides_nothing_else() {
        let mut page = Page::new(b"a 1 - - -\n\n/ 2 - - -\nb x\nc 3 - - -\nd 4 - -".to_vec());
        let read: Vec<bool> = page.entries(Gfid::ROOT).map(|entry| entry.is_ok()).collect();
        assert_eq!(read, [true, false, false, false, true, false]);
        assert_eq!(page.get(Gfid::ROOT, &name("b")).unwrap_err().errno(), libc::EIO);
        assert_eq!(page.get(Gfid::ROOT, &name("d")).unwrap_err().errno(), libc::EIO);
        page.put(&name("e"), &record(&name("e"), 5, false));
        assert_eq!(page.0, b"a 1 - - -\n\n/ 2 - - -\nb x\nc 3 - - -\nd 4 - -\ne 5 - - -\n");
        assert!(page.remove(&name("b")) && page.check_names().is_err());
        page.remove_nameless();
        assert_eq!(page.0, b"a 1 - - -\nc 3 - - -\nd 4 - -\ne 5 - - -\n");
    }

    #[test]
    fn a_page_has_its_least_length() {
        for count in [1, 40] {
            let names: Vec<String> = (0..count).map(|n| format!("n{n}")).collect();
            let page = page(&names.iter().map(|name| (name.as_str(), 1)).collect::<Vec<_>>());
            let bytes = page.to_bytes();
            assert!(bytes.len() >= LEAST && bytes.starts_with(&page.0), "{count}");
            assert_eq!((Page::new(bytes), page.check_names()), (page.clone(), Ok(())));
        }
        for (bytes, lines) in [("", 1), ("\n", 1), ("\n\n\n", 1), ("a 1 - - -\n\n\nb 2 - - -\n\n", 4)] {
            let entries: Vec<_> = Page::new(bytes.into()).entries(Gfid::ROOT).collect();
            assert_eq!(entries.len(), lines, "{bytes:?}");
            assert!(entries.iter().any(Result::is_err), "{bytes:?}: {entries:?}");
            assert!(Page::new(bytes.into()).check_names().is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn a_page_is_full_some_time() {
        let (mut page, mut count) = (Page::default(), 0);
        let names = (0..).map(|n| name(&format!("auto-2026-12-01T00.00.00-{n:04}")));
        for (name, seq) in names.zip(1..) {
            let record = Record { id: Some(Gfid::ROOT), ..record(&name, seq, false) };
            if !page.has_room(&name, &record) {
                break;
            }
            page.put(&name, &record);
            count += 1;
        }
        assert!(page.to_bytes().len() <= PAGE_SIZE && (36..60).contains(&count), "{count}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_page(bytes in prop::collection::vec(prop_oneof![Just(b'\n'), Just(b' '), Just(b'a'), any::<u8>()], 0..200)) {
            // What is put behind a line without its end gives it one.
            let end = if bytes.last().is_some_and(|&byte| byte != b'\n') { "\n" } else { "" };
            let mut page = Page::new([&bytes, end.as_bytes()].concat());
            let before: Vec<_> = page.entries(Gfid::ROOT).collect();
            page.put(&name("new"), &record(&name("new"), 7, false));
            prop_assert_eq!(page.get(Gfid::ROOT, &name("new")).unwrap(), Some(record(&name("new"), 7, false)));
            prop_assert!(page.remove(&name("new")));
            let after: Vec<_> = page.entries(Gfid::ROOT).collect();
            let good = |entries: &[Result<(SnapName, Record)>]| -> Vec<_> {
                entries.iter().flatten().filter(|(name, _)| name.as_str() != "new").cloned().collect()
            };
            prop_assert_eq!(good(&before), good(&after));
        }
    }
}
