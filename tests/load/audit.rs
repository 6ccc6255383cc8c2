//! Is everything there that was acknowledged, and nothing else?

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fsnap_testbed::{Scene, Volume, checksum, wait_until};

use super::{Book, DIRS, Fate, name_in, names_of};
use crate::common::{fsnap, ls, sound};

/// All snapshots in the load's directories, by name.
fn found(root: &Path) -> BTreeMap<String, PathBuf> {
    let mut found = BTreeMap::new();
    for dir in DIRS {
        let inside = root.join(dir).join(".fsnap");
        for entry in ls(&inside) {
            let twice = found.insert(name_in(&entry).to_owned(), inside.join(&entry));
            assert_eq!(twice, None, "{entry} is there twice");
        }
    }
    found
}

/// Every snapshot that was acknowledged and not deleted is there, is in the list of its file, and reads as it always did;
/// no other is there. Nobody may be at work; `root` is a mount that has nothing cached.
#[track_caller]
pub fn audit(root: &Path, book: &Book) {
    book.assert_right();
    let (fates, found) = (book.fates(), found(root));
    let taken: BTreeSet<_> = fates.iter().filter(|(_, fate)| **fate == Fate::Taken).map(|(n, _)| n).collect();
    let lost: Vec<_> = taken.iter().filter(|name| !found.contains_key(**name)).collect();
    assert!(lost.is_empty(), "lost: {lost:?}; {}", book.summary());
    for (name, path) in &found {
        let fate = fates.get(name);
        assert!(
            matches!(fate, Some(Fate::Taken | Fate::Unknown)),
            "{} is there, but it was {}",
            path.display(),
            if fate.is_some() { "deleted" } else { "refused" }
        );
        let listed = names_of(path).unwrap_or_else(|errno| panic!("list of {}: {errno}", path.display()));
        // What a brick that died left half-made may be in no list.
        assert!(listed.contains(name) || fate != Some(&Fate::Taken), "{} is not listed", path.display());
        book.read(name, checksum(path));
    }
    book.assert_right();
}

/// After a brick was killed: the snapshots of a file that was being renamed may be where it was, until its next rename.
pub fn rename_all(root: &Path) {
    for dir in DIRS.map(|dir| root.join(dir)) {
        for file in ls(&dir).into_iter().map(|name| dir.join(name)) {
            let aside = dir.join("aside");
            fs::rename(&file, &aside).and_then(|()| fs::rename(&aside, &file)).expect("rename");
        }
    }
}

/// Everything can be deleted, and then there is nothing left on the bricks.
#[track_caller]
pub fn clear(root: &Path, volumes: &[&Volume]) {
    volumes.iter().for_each(|volume| sound(volume));
    for (name, path) in found(root) {
        // A half-made one can't be released and is not held.
        let _ = fsnap(&path, "release", &name);
        fsnap(&path, "delete", &name).unwrap_or_else(|errno| panic!("delete of {}: {errno}", path.display()));
    }
    for dir in DIRS {
        assert_eq!(ls(root.join(dir).join(".fsnap")), Vec::<String>::new());
        for file in ls(root.join(dir)) {
            fs::remove_file(root.join(dir).join(file)).expect("an ordinary file");
        }
    }
    for volume in volumes {
        for brick in (0..volume.bricks().len()).map(|n| volume.brick_path(n)) {
            for dir in DIRS {
                assert_eq!(ls_if_there(&brick.join(dir).join(".fsnap")), Vec::<String>::new());
            }
            for part in ["awaited", "pending", "buried", "intents", "lost"] {
                let dir = brick.join(".glusterfs/fsnap").join(part);
                wait_until(&format!("{} is empty", dir.display()), Duration::from_secs(5), || {
                    ls_if_there(&dir).is_empty()
                });
            }
        }
    }
}

fn ls_if_there(dir: &Path) -> Vec<String> {
    if dir.exists() { ls(dir) } else { Vec::new() }
}

/// What fsnap has logged as a fault on the brick of a volume.
pub fn faults(scene: &Scene, volume: &Volume) -> Vec<String> {
    let dir = volume.bricks()[0].dir.display().to_string().trim_start_matches('/').replace('/', "-");
    let log = scene.path(format!("/var/log/glusterfs/bricks/{dir}.log"));
    let log = fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    log.lines()
        .filter(|line| line.contains("] E [") && line.contains("-fsnap: "))
        .map(str::to_owned)
        .collect()
}
