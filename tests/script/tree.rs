//! What there is below a directory, as lines that two trees can be compared by.

use std::fs::{self, Metadata};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use fsnap_testbed::{getx, listx};

/// They come when the signer of bitrot comes by.
const SIGNATURES: &str = "trusted.bit-rot.";

/// A checksum (FNV-1a), to compare contents, no more.
pub fn sum(bytes: &[u8]) -> u64 {
    let step = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

/// All that a mount shows, sorted.
pub fn of_mount(root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    visit(root, root, &|_| false, &|path, meta| xattrs(path, meta, is_users), &mut lines);
    lines.sort();
    lines
}

/// All that lies on a brick, but for `.glusterfs` and every `.fsnap`, sorted. GlusterFS's xattrs are told by their names, and
/// of each entry whether its handle is there.
pub fn of_brick(brick: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let is_left_out = |path: &Path| path.ends_with(".fsnap") || path == brick.join(".glusterfs");
    let more = |path: &Path, meta: &Metadata| {
        let handle = if has_handle(brick, path, meta) { "" } else { " NO HANDLE" };
        format!("{}{handle}", xattrs(path, meta, |_| true))
    };
    visit(brick, brick, &is_left_out, &more, &mut lines);
    lines.sort();
    lines
}

fn visit(
    root: &Path,
    dir: &Path,
    is_left_out: &dyn Fn(&Path) -> bool,
    more: &dyn Fn(&Path, &Metadata) -> String,
    lines: &mut Vec<String>,
) {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) => return lines.push(format!("{}: can't be listed: {error}", shown(root, dir))),
    };
    for entry in entries {
        let path = entry.expect("an entry").path();
        if is_left_out(&path) {
            continue;
        }
        match fs::symlink_metadata(&path) {
            Ok(meta) => {
                lines.push(format!(
                    "{}: {}{}",
                    shown(root, &path),
                    describe(&path, &meta),
                    more(&path, &meta)
                ));
                if meta.is_dir() {
                    visit(root, &path, is_left_out, more, lines);
                }
            }
            Err(error) => lines.push(format!("{}: {error}", shown(root, &path))),
        }
    }
}

/// The path below the root. What features/trash has put away has the time in its name.
fn shown(root: &Path, path: &Path) -> String {
    let path = path.strip_prefix(root).expect("below the root").display().to_string();
    const STAMP: &str = "_dddd-dd-dd_dddddd_+dddd";
    let at = path.len().saturating_sub(STAMP.len());
    let is_like = |(c, like): (char, char)| if like == 'd' { c.is_ascii_digit() } else { c == like };
    if path.is_char_boundary(at) && path[at..].chars().zip(STAMP.chars()).all(is_like) {
        return format!("{}_TIME", &path[..at]);
    }
    path
}

fn describe(path: &Path, meta: &Metadata) -> String {
    let kind = meta.file_type();
    let owner = format!("{:o} {}:{}", meta.mode() & 0o7777, meta.uid(), meta.gid());
    if kind.is_dir() {
        return format!("directory {owner}");
    }
    let rest = if kind.is_file() {
        let content = fs::read(path).map_or_else(|e| e.to_string(), |bytes| format!("{:x}", sum(&bytes)));
        format!("file, {} bytes [{content}]", meta.size())
    } else if kind.is_symlink() {
        format!(
            "link to {}",
            fs::read_link(path).map_or_else(|e| e.to_string(), |to| to.display().to_string())
        )
    } else if kind.is_fifo() {
        "fifo".to_owned()
    } else {
        format!("device {:x}", meta.rdev())
    };
    format!("{rest} {owner} {} names", meta.nlink())
}

fn is_users(name: &str) -> bool {
    name.starts_with("user.") || name.starts_with("system.")
}

/// The names of xattrs, and the values of those that are not GlusterFS's.
fn xattrs(path: &Path, meta: &Metadata, is_shown: impl Fn(&str) -> bool) -> String {
    // The mount follows a symbolic link that is asked for its xattrs.
    if meta.is_symlink() {
        return String::new();
    }
    let names = match listx(path) {
        Ok(names) => names,
        Err(errno) => return format!(" xattrs: {errno}"),
    };
    let names = names.into_iter().map(|name| name.into_string().expect("UTF-8"));
    let mut words: Vec<String> = names
        .filter(|name| is_shown(name) && !name.starts_with("trusted.fsnap.") && !name.starts_with(SIGNATURES))
        .map(|name| {
            if is_users(&name) {
                let value =
                    getx(path, &name).map_or_else(|e| e.to_string(), |v| v.escape_ascii().to_string());
                return format!(" {name}={value}");
            }
            format!(" {}", without_numbers(&name))
        })
        .collect();
    words.sort();
    words.concat()
}

/// Part of some names is a gfid, or a hash of one.
fn without_numbers(name: &str) -> String {
    let is_hash = |part: &str| part.len() >= 16 && part.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
    let parts = name.split('.').map(|part| if is_hash(part) { "HASH" } else { part });
    parts.collect::<Vec<_>>().join(".")
}

/// Whether the entry of `.glusterfs` that is named after the gfid leads to it.
fn has_handle(brick: &Path, path: &Path, meta: &Metadata) -> bool {
    let Ok(gfid) = getx(path, "trusted.gfid") else { return false };
    let hex: String = gfid.iter().map(|byte| format!("{byte:02x}")).collect();
    if hex.len() != 32 {
        return false;
    }
    let uuid = format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]);
    let handle = brick.join(".glusterfs").join(&hex[..2]).join(&hex[2..4]).join(uuid);
    // That of a directory is a symbolic link.
    let found = if meta.is_dir() { fs::metadata(handle) } else { fs::symlink_metadata(handle) };
    found.is_ok_and(|found| found.ino() == meta.ino())
}
