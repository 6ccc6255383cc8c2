//! Names that change at random while a brick is away: what it has missed is healed.
#![allow(missing_docs)]

mod common;
mod load;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use common::agree::{HEALED_WITHIN, converges};
use common::{MIB, Setup, fsnap, ls, names};
use fsnap_testbed::{Errno, VolumeType, checksum, fill};
use load::Rng;

const DIRS: [&str; 3] = ["one", "two", "three"];
const FILES: [&str; 3] = ["f", "g", "h"];
/// While one brick is away.
const CHANGES: u64 = 10;

/// `FSNAP_SEED` repeats the choices, `FSNAP_ROUNDS` makes it longer.
#[test]
fn random_changes_while_a_brick_was_away() {
    let number =
        |name: &str, default| std::env::var(name).ok().map_or(default, |n| n.parse().expect("a number"));
    let (seed, rounds) = (number("FSNAP_SEED", 1), number("FSNAP_ROUNDS", 2));
    for layout in [VolumeType::Replicate(3), VolumeType::Disperse { data: 2, redundancy: 1 }] {
        println!("{layout:?}, seed {seed}, {rounds} rounds");
        let Setup { mount, volume, .. } = common::volume(layout, 3, 1024 * MIB, |volume| volume);
        let mut tree = Tree::new(mount.path(), seed);
        for _ in 0..2 * CHANGES {
            tree.change();
        }
        for round in 0..rounds {
            let away = tree.rng.below(3) as usize;
            println!("round {round}: brick {away} is away");
            volume.kill_brick(away);
            mount.wait_connected(2);
            for _ in 0..CHANGES {
                tree.change();
            }
            volume.restart_brick(away);
            mount.wait_connected(3);
            if tree.rng.below(4) == 0 {
                println!("full heal");
                volume.heal_full();
            }
            volume.await_healed(HEALED_WITHIN);
            // An empty one may be missing until somebody looks for it.
            tree.dirs.iter().for_each(|dir| drop(fs::metadata(tree.root.join(dir).join(".fsnap"))));
            converges(&volume, layout);
            tree.check();
        }
        let fresh = volume.mount("/run/scene/fresh");
        tree.root = fresh.path();
        tree.check();
    }
}

/// A file, whatever its names are.
#[derive(Default)]
struct File {
    content: u64,
    /// What the snapshots have.
    snapshots: BTreeMap<String, u64>,
}

/// What is on the volume.
struct Tree {
    root: PathBuf,
    rng: Rng,
    /// How many things were named or filled.
    count: u64,
    dirs: BTreeSet<String>,
    names: BTreeMap<PathBuf, usize>,
    files: Vec<File>,
}

impl Tree {
    fn new(root: PathBuf, seed: u64) -> Self {
        let (dirs, names, files) = Default::default();
        Tree { root, rng: Rng::new(seed), count: 0, dirs, names, files }
    }

    fn any_dir(&mut self) -> &'static str {
        DIRS[self.rng.below(DIRS.len() as u64) as usize]
    }

    /// A name that there may be or not, in a directory that there is.
    fn any_name(&mut self) -> Option<PathBuf> {
        let dir = self.dirs.iter().nth(self.rng.below(self.dirs.len().max(1) as u64) as usize)?.clone();
        Some(Path::new(&dir).join(FILES[self.rng.below(FILES.len() as u64) as usize]))
    }

    fn any_file(&mut self) -> Option<(PathBuf, usize)> {
        let n = self.rng.below(self.names.len().max(1) as u64) as usize;
        self.names.iter().nth(n).map(|(name, &file)| (name.clone(), file))
    }

    /// One change, which succeeds; sometimes none.
    fn change(&mut self) -> Option<()> {
        let at = |tree: &Self, name: &Path| tree.root.join(name);
        match self.rng.below(20) {
            0..=2 => {
                let name = self.any_name()?;
                self.count += 1;
                println!("write {}", name.display());
                let size = 1000 + self.rng.below(200_000);
                fill(at(self, &name), size, self.count);
                let file = *self.names.entry(name.clone()).or_insert_with(|| {
                    self.files.push(File::default());
                    self.files.len() - 1
                });
                self.files[file].content = checksum(at(self, &name));
            }
            3..=6 => {
                let (name, file) = self.any_file()?;
                self.count += 1;
                let snapshot = format!("s{}", self.count);
                println!("create {snapshot} of {}", name.display());
                fsnap(at(self, &name), "create", &snapshot).unwrap();
                let file = &mut self.files[file];
                file.snapshots.insert(snapshot, file.content);
            }
            7..=8 => {
                let (name, file) = self.any_file()?;
                let file = &mut self.files[file];
                let n = self.rng.below(file.snapshots.len().max(1) as u64) as usize;
                let snapshot = file.snapshots.keys().nth(n)?.clone();
                println!("delete {snapshot} of {}", name.display());
                file.snapshots.remove(&snapshot);
                fsnap(at(self, &name), "delete", &snapshot).unwrap();
            }
            9..=12 => {
                let ((from, file), to) = (self.any_file()?, self.any_name()?);
                if self.names.get(&to) == Some(&file) {
                    return None;
                }
                println!("rename {} {}", from.display(), to.display());
                fs::rename(at(self, &from), at(self, &to)).unwrap();
                self.names.remove(&from);
                self.names.insert(to, file);
            }
            13 => {
                let ((from, file), to) = (self.any_file()?, self.any_name()?);
                if self.names.contains_key(&to) {
                    return None;
                }
                println!("link {} {}", from.display(), to.display());
                fs::hard_link(at(self, &from), at(self, &to)).unwrap();
                self.names.insert(to, file);
            }
            14..=16 => {
                let (name, _) = self.any_file()?;
                println!("unlink {}", name.display());
                fs::remove_file(at(self, &name)).unwrap();
                self.names.remove(&name);
            }
            17 | 18 => {
                let dir = self.any_dir();
                if self.dirs.contains(dir) {
                    return None;
                }
                println!("mkdir {dir}");
                fs::create_dir(self.root.join(dir)).unwrap();
                self.dirs.insert(dir.to_owned());
            }
            _ => {
                let (from, to) = (self.any_dir(), self.any_dir());
                if !self.dirs.contains(from) {
                    return None;
                }
                if self.dirs.contains(to) {
                    match fs::remove_dir(self.root.join(from)) {
                        Ok(()) => {
                            println!("rmdir {from}");
                            self.dirs.remove(from);
                        }
                        Err(error) => assert_eq!(error.raw_os_error(), Some(Errno::ENOTEMPTY as i32)),
                    }
                    return Some(());
                }
                println!("rename {from} {to}");
                fs::rename(self.root.join(from), self.root.join(to)).unwrap();
                self.dirs.remove(from);
                self.dirs.insert(to.to_owned());
                let moved = |name: &PathBuf| match name.strip_prefix(from) {
                    Ok(leaf) => Path::new(to).join(leaf),
                    Err(_) => name.clone(),
                };
                self.names = self.names.iter().map(|(name, &file)| (moved(name), file)).collect();
            }
        }
        Some(())
    }

    /// Everything is there, and nothing else.
    fn check(&self) {
        let mut there = BTreeMap::new();
        for dir in &self.dirs {
            let dir = self.root.join(dir);
            if !dir.join(".fsnap").exists() {
                continue;
            }
            for name in ls(dir.join(".fsnap")) {
                let path = dir.join(".fsnap").join(&name);
                let snapshot = name.split('@').nth(1).unwrap().to_owned();
                assert_eq!(there.insert(snapshot, checksum(&path)), None, "{}", path.display());
            }
        }
        let snapshots = self.files.iter().flat_map(|file| file.snapshots.clone());
        assert_eq!(there, snapshots.collect::<BTreeMap<_, _>>());
        for (name, &file) in &self.names {
            let (path, file) = (self.root.join(name), &self.files[file]);
            assert_eq!(checksum(&path), file.content, "{}", path.display());
            let listed: BTreeSet<String> = names(&path).into_iter().collect();
            assert!(listed.iter().eq(file.snapshots.keys()), "{}: {listed:?}", path.display());
        }
        let found: BTreeSet<PathBuf> = self
            .dirs
            .iter()
            .flat_map(|dir| ls(self.root.join(dir)).into_iter().map(|name| Path::new(dir).join(name)))
            .collect();
        assert!(found.iter().eq(self.names.keys()), "{found:?}");
    }
}
