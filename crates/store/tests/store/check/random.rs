//! Damage of any kind.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use fsnap_core::Gfid;
use fsnap_store::check::{self, Options, ProblemKind, Severity};
use fsnap_testbed::{Fs, content, getx, listx, removex, setx};

use super::*;

#[test]
fn hostile_trees() {
    let (b, _) = scene(Fs::Xfs);
    // As deep as it gets by one call each; mounts and odd names.
    let mut path = b.join("d");
    for _ in 0..60 {
        path = path.join("x".repeat(60));
        fs::create_dir(&path).unwrap();
    }
    let odd = std::ffi::OsStr::from_bytes(b"\xff\x1b[31m");
    fs::write(b.join("d/.fsnap").join(odd), b"x").unwrap();
    let report = finds(&b, ProblemKind::Alien, 1);
    assert_eq!(check::escaped(&report.problems[0].path), "d/.fsnap/\\xff\\x1b[31m");
    assert_eq!(report.problems[0].kind.severity(), Severity::Warning);
    // Another directory is no brick, nor is one without its gfid.
    for no in [b.join("d"), b.join("nothing")] {
        assert!(check::run(&no, &Options::default()).is_err());
    }
    removex(&b.path, "trusted.gfid").unwrap();
    assert!(check::run(&b.path, &Options::default()).is_err());
}

/// Whatever is broken, in whatever way: a check ends, a repair can be repeated, and no snapshot's data is gone.
#[test]
fn random_damage_costs_no_data() {
    for (fs, seed) in [(Fs::Xfs, 1), (Fs::Xfs, 2), (Fs::Btrfs, 3), (Fs::Btrfs, 4)] {
        let b = brick(fs);
        let mut random = Random(seed);
        for round in 0..12 {
            let at = format!("d{round}");
            b.make_dir(&at);
            let base = b.make_file(format!("{at}/f"), &content(4096, round));
            let store = b.store();
            for name in ["a", "b"] {
                snap(&store, base, name);
            }
            if round % 3 == 0 {
                store.bury(base).unwrap();
                b.unlink(format!("{at}/f"));
                store.follow(base).unwrap();
            }
            drop(store);
            for _ in 0..3 {
                break_something(&b, &b.join(&at), &mut random);
            }
            let before = data(&b);
            look(&b);
            let repaired = repair(&b);
            assert_eq!(data(&b), before, "seed {seed}, round {round}: {:#?}", repaired.repaired);
            let again = repair(&b);
            let told: Vec<_> = again.repaired.iter().chain(&repaired.repaired).map(|p| p.kind).collect();
            assert!(again.repaired.is_empty(), "seed {seed}, round {round}: {told:?}");
        }
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }
}

/// The inodes of all files that are or were snapshots, wherever they are.
fn data(b: &TestBrick) -> std::collections::BTreeSet<u64> {
    let mut inodes = std::collections::BTreeSet::new();
    for path in b.tree().into_keys() {
        let meta = fs::symlink_metadata(&path).unwrap();
        if meta.is_file() && meta.len() == 4096 {
            inodes.insert(meta.ino());
        }
    }
    inodes
}

/// Damages one thing in `dir` or in what tells of it. What has data keeps a name.
fn break_something(b: &TestBrick, dir: &Path, random: &mut Random) {
    let mut files: Vec<_> = b.tree().into_keys().filter(|path| path.starts_with(dir)).collect();
    let handles = files
        .iter()
        .filter_map(|path| Some(b.handle(Gfid::from_xattr(&getx(path, "trusted.gfid").ok()?).ok()?)));
    let handles: Vec<_> = handles.filter(|handle| handle.is_symlink() || handle.exists()).collect();
    let own = names(&own(b, "awaited")).into_iter().map(|name| self::own(b, "awaited").join(name));
    let own =
        own.chain(names(&self::own(b, "buried")).into_iter().map(|name| self::own(b, "buried").join(name)));
    let own: Vec<_> = own.collect();
    files.retain(|path| path.is_file());
    match random.below(4) {
        0 if !own.is_empty() => {
            let note = &own[random.below(own.len())];
            let _ = fs::remove_file(note);
            if random.below(2) == 0 {
                symlink("nonsense", note).unwrap();
            }
        }
        1 if !handles.is_empty() => {
            let handle = &handles[random.below(handles.len())];
            if fs::symlink_metadata(handle).unwrap().nlink() != 1 || handle.is_symlink() {
                fs::remove_file(handle).unwrap();
            }
        }
        _ if !files.is_empty() => {
            let file = &files[random.below(files.len())];
            let keys: Vec<_> = listx(file)
                .unwrap()
                .into_iter()
                .filter(|key| key.as_bytes().starts_with(b"trusted."))
                .collect();
            let Some(key) = keys.get(random.below(keys.len().max(1))) else { return };
            match random.below(3) {
                0 => removex(file, key).unwrap(),
                1 => setx(file, key, b"nonsense").unwrap(),
                _ => {
                    let other = &files[random.below(files.len())];
                    if let Ok(value) = getx(other, key) {
                        setx(file, key, value).unwrap();
                    }
                }
            }
        }
        _ => {}
    }
}
