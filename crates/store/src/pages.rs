//! The catalogue of a file on the disk: see [`fsnap_core::catalogue`].

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;

use fsnap_core::catalogue::{PAGE_PREFIX, Page, impossible_key, page_key, page_number};
use fsnap_core::record::Record;
use fsnap_core::{Error, Gfid, Result, SnapName};

use crate::brick::OpenFile;
use crate::xattrs::{self, XattrNames};

/// What a file's catalogue has, page by page: an entry is in the same one for all its life, so that one which is there all the time is
/// found also while others come and go.
pub(crate) struct Pages {
    base: Gfid,
    pages: BTreeMap<u32, Page>,
    /// The names of xattrs that only fsnap could have given, and can't have.
    impossible: Vec<Vec<u8>>,
}

impl Pages {
    /// Of `file`, whose gfid is `base`.
    pub(crate) fn of(file: &File, base: Gfid) -> Result<Self> {
        Pages::named(file, base, &XattrNames::of(file)?)
    }

    /// The same if the names of its xattrs are known.
    pub(crate) fn named(file: &File, base: Gfid, names: &XattrNames) -> Result<Self> {
        let (mut pages, mut impossible) = (BTreeMap::new(), Vec::new());
        for key in names.raw_starting(PAGE_PREFIX) {
            match page_number(key) {
                Some(number) => {
                    if let Some(bytes) = xattrs::get_raw(file, key)? {
                        pages.insert(number, Page::new(bytes));
                    }
                }
                None => impossible.push(key.to_vec()),
            }
        }
        Ok(Pages { base, pages, impossible })
    }

    /// All entries; [`Error::Damaged`] (`EIO`) for each that can't be read.
    pub(crate) fn entries(&self) -> impl Iterator<Item = Result<(SnapName, Record)>> {
        let impossible = self.impossible.iter().map(|key| Err(impossible_key(key)));
        self.pages.values().flat_map(|page| page.entries(self.base)).chain(impossible)
    }

    /// All entries, if all of them can be read and each name is there once: else [`Error::Damaged`] (`EIO`).
    pub(crate) fn all(&self) -> Result<Vec<(SnapName, Record)>> {
        let mut seen = HashSet::new();
        let once = |entry: Result<(SnapName, Record)>| {
            let (name, record) = entry?;
            if !seen.insert(name.clone()) {
                return Err(Error::Damaged(format!("two entries are of snapshot {name}")));
            }
            Ok((name, record))
        };
        self.entries().map(once).collect()
    }

    /// Those entries that can be read.
    pub(crate) fn readable(&self) -> impl Iterator<Item = (SnapName, Record)> {
        self.entries().filter_map(Result::ok)
    }

    /// The entry of `name`, if there is one. [`Error::Damaged`] (`EIO`) if it can't be read, or if it may be among what can't be read.
    pub(crate) fn get(&self, name: &SnapName) -> Result<Option<Record>> {
        if let Some(found) = self.pages.values().find_map(|page| page.get(self.base, name).transpose()) {
            return found.map(Some);
        }
        self.pages.values().try_for_each(Page::check_names)?;
        self.impossible.first().map_or(Ok(None), |key| Err(impossible_key(key)))
    }

    /// The number of the page with the entry of `name`, whether that can be read or not.
    pub(crate) fn page_of(&self, name: &SnapName) -> Option<u32> {
        let has = |page: &Page| !matches!(page.get(self.base, name), Ok(None));
        self.pages.iter().find(|(_, page)| has(page)).map(|(number, _)| *number)
    }

    /// Writes an entry: in the place of the one of its name, or as a new one.
    pub(crate) fn put(&mut self, file: &File, name: &SnapName, record: &Record) -> Result<()> {
        let number = match self.page_of(name) {
            Some(number) => number,
            None => match self.pages.last_key_value() {
                Some((number, page)) if page.has_room(name, record) => *number,
                Some((number, _)) => number.checked_add(1).ok_or_else(|| {
                    Error::Damaged(format!(
                        "the catalogue of {} has a page with the last number that there is",
                        self.base
                    ))
                })?,
                None => 0,
            },
        };
        let page = self.pages.entry(number).or_default();
        page.put(name, record);
        xattrs::set(file, page_key(number), &page.to_bytes())
    }

    /// Takes the entries of `name` out.
    pub(crate) fn remove(&mut self, file: &File, name: &SnapName) -> Result<()> {
        for (number, page) in &mut self.pages {
            while page.remove(name) {
                write(file, *number, page)?;
            }
        }
        self.pages.retain(|_, page| !page.is_empty());
        Ok(())
    }

    /// Makes it what another brick has.
    pub(crate) fn become_like(mut self, file: &File, others: &BTreeMap<u32, Page>) -> Result<()> {
        for (number, page) in others {
            if self.pages.remove(number).as_ref() != Some(page) {
                write(file, *number, page)?;
            }
        }
        for number in self.pages.keys() {
            xattrs::remove(file, page_key(*number))?;
        }
        // Nobody can have given it. What the other bricks have comes anyway.
        self.impossible.iter().try_for_each(|key| xattrs::remove(file, OsStr::from_bytes(key)))
    }
}

fn write(file: &File, number: u32, page: &Page) -> Result<()> {
    match page.is_empty() {
        true => xattrs::remove(file, page_key(number)),
        false => xattrs::set(file, page_key(number), &page.to_bytes()),
    }
}

/// The catalogue entry of `name`, if there is one.
pub(crate) fn entry(base: &OpenFile, name: &SnapName) -> Result<Option<Record>> {
    Pages::of(&base.file, base.gfid)?.get(name)
}

/// The catalogue entry of `name`; [`Error::NoSnapshot`] if there is none.
pub(crate) fn expect_entry(base: &OpenFile, name: &SnapName) -> Result<Record> {
    entry(base, name)?.ok_or_else(|| Error::NoSnapshot(name.to_string()))
}

/// Writes a catalogue entry.
pub(crate) fn write_entry(base: &OpenFile, name: &SnapName, record: &Record) -> Result<()> {
    Pages::of(&base.file, base.gfid)?.put(&base.file, name, record)
}

/// Takes it out.
pub(crate) fn remove_entry(base: &OpenFile, name: &SnapName) -> Result<()> {
    Pages::of(&base.file, base.gfid)?.remove(&base.file, name)
}
