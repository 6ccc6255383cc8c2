//! What users see of a brick.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use fsnap_core::Gfid;
use fsnap_store::{Store, check};

use crate::common::*;

/// All names with their contents, and what the catalogues and the notes of restores of the given files say. Gfids are told by their place in
/// `files`, so that bricks with the same history look the same.
pub fn view(b: &TestBrick, store: &Store, files: &[Gfid]) -> BTreeMap<String, String> {
    let mut seen = BTreeMap::new();
    walk(&b.path, &b.path, &mut seen);
    let mut seen: BTreeMap<_, _> = seen.into_iter().map(|(name, text)| (plain(name, files), text)).collect();
    for (n, &file) in files.iter().enumerate() {
        let catalogue = match store.list(file) {
            Ok(all) => all.iter().map(|s| format!("{} {:?} {}", s.name, s.size, s.held)).collect(),
            Err(error) => vec![error.to_string()],
        };
        seen.insert(format!("catalogue of {n}"), format!("{catalogue:?} {}", store.is_deleted(file)));
        seen.insert(format!("restore of {n}"), format!("{:?}", store.armed(file)));
    }
    seen
}

/// Removes a brick, to make room for others on its disk.
pub fn discard(b: &TestBrick) {
    fs::remove_dir_all(&b.path).unwrap();
}

fn plain(name: String, files: &[Gfid]) -> String {
    files.iter().enumerate().fold(name, |name, (n, file)| {
        let gfid = file.to_string();
        name.replace(&gfid, &format!("<{n}>")).replace(&gfid[..8], &format!("<{n}>"))
    })
}

fn walk(root: &Path, dir: &Path, seen: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let shown = path.strip_prefix(root).unwrap().display().to_string();
        if shown == ".glusterfs" {
            continue;
        }
        if path.is_dir() {
            // An empty .fsnap is as good as none.
            if !shown.ends_with(".fsnap") {
                seen.insert(shown, "directory".into());
            }
            walk(root, &path, seen);
        } else {
            let meta = fs::metadata(&path).unwrap();
            // What a restore takes from a file is not given back when it fails.
            let mode = if shown.contains(".fsnap/") { meta.mode() & 0o7777 } else { 0 };
            let text = format!("{} bytes, {:x}, {mode:o}", meta.len(), fsnap_testbed::checksum(&path));
            seen.insert(shown, text);
        }
    }
}

/// Sees to it that the checker finds nothing wrong with the brick, which is open; `what` was done to it.
#[track_caller]
pub fn sound(b: &TestBrick, what: &str) {
    sound_but(b, what, &[]);
}

/// The same, but for some kinds of problems.
#[track_caller]
pub fn sound_but(b: &TestBrick, what: &str, tolerated: &[check::ProblemKind]) {
    let options = check::Options { pause: std::time::Duration::ZERO, ..check::Options::default() };
    let report = check::run(&b.path, &options).unwrap_or_else(|error| panic!("{what}: {error}"));
    // The handle of a .fsnap is made by whoever looks for it next.
    let wrong = |problem: &&check::Problem| {
        problem.kind.severity() != check::Severity::Info
            && problem.kind != check::ProblemKind::SnapDirHandle
            && !tolerated.contains(&problem.kind)
    };
    let wrong: Vec<_> = report.problems.iter().filter(wrong).collect();
    assert!(wrong.is_empty(), "{what}: {wrong:#?}");
}
