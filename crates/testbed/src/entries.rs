//! Entries of a file's catalogue on a brick, as lines of the pages that docs/format.md tells of: for tests of what is damaged.

use std::path::Path;

use nix::errno::Errno;

use crate::{getx, removex, setx};

const PAGE: &str = "trusted.fsnap.catalogue.";
/// How many bytes a page has at least; newlines fill it up.
const LEAST: usize = 256;

/// A line without its end, and the xattr that has it.
struct Line {
    page: String,
    text: Vec<u8>,
}

impl Line {
    /// What it says if it is of snapshot `name`.
    fn of(&self, name: &str) -> Option<&[u8]> {
        self.text.strip_prefix(name.as_bytes())?.strip_prefix(b" ")
    }
}

/// What the catalogue says of snapshot `name`, behind its name; `ENODATA` if nothing.
pub fn entry_line(path: impl AsRef<Path>, name: &str) -> Result<String, Errno> {
    let lines = lines(path)?;
    let found = lines.iter().find_map(|line| line.of(name)).ok_or(Errno::ENODATA)?;
    Ok(String::from_utf8_lossy(found).into_owned())
}

/// Has it say `text` of snapshot `name`, which may be no name: in the same place if it says something already.
pub fn set_entry_line(path: impl AsRef<Path>, name: &str, text: impl AsRef<[u8]>) -> Result<(), Errno> {
    let mut lines = lines(&path)?;
    let text = [name.as_bytes(), b" ", text.as_ref()].concat();
    match lines.iter_mut().find(|line| line.of(name).is_some()) {
        Some(line) => line.text = text,
        None => {
            let page = lines.last().map_or(format!("{PAGE}0"), |line| line.page.clone());
            lines.push(Line { page, text });
        }
    }
    write(path, &lines)
}

/// Takes out what it says of snapshot `name`; `ENODATA` if nothing.
pub fn remove_entry_line(path: impl AsRef<Path>, name: &str) -> Result<(), Errno> {
    let mut lines = lines(&path)?;
    let place = lines.iter().position(|line| line.of(name).is_some()).ok_or(Errno::ENODATA)?;
    lines.remove(place);
    write(path, &lines)
}

fn lines(path: impl AsRef<Path>) -> Result<Vec<Line>, Errno> {
    let mut lines = Vec::new();
    for page in pages(&path)? {
        let bytes = getx(&path, &page)?;
        let end = bytes.iter().rposition(|&byte| byte != b'\n').map_or(0, |last| last + 1);
        let texts = bytes[..end].split(|&byte| byte == b'\n');
        lines.extend(texts.map(|text| Line { page: page.clone(), text: text.to_vec() }));
    }
    Ok(lines)
}

/// Asked for one by one: a file may have too many xattrs to list.
fn pages(path: impl AsRef<Path>) -> Result<Vec<String>, Errno> {
    let mut pages = Vec::new();
    for page in (0..300).map(|number| format!("{PAGE}{number}")) {
        match getx(&path, &page) {
            Ok(_) => pages.push(page),
            Err(Errno::ENODATA) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(pages)
}

fn write(path: impl AsRef<Path>, lines: &[Line]) -> Result<(), Errno> {
    for page in pages(&path)? {
        if !lines.iter().any(|line| line.page == page) {
            removex(&path, page)?;
        }
    }
    for lines in lines.chunk_by(|one, other| one.page == other.page) {
        let mut text: Vec<u8> =
            lines.iter().flat_map(|line| line.text.iter().copied().chain([b'\n'])).collect();
        text.resize(text.len().max(LEAST), b'\n');
        setx(&path, &lines[0].page, text)?;
    }
    Ok(())
}
