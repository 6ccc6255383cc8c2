//! Replicas on several hosts, of which one is cut off or dies.
#![allow(missing_docs)]

mod common;
mod load;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
use std::thread::{JoinHandle, sleep};
use std::time::Duration;

use common::agree::converges;
use common::{MIB, fsnap, names};
use fsnap_testbed::{
    Cluster, Errno, Fs, Mount, Volume, VolumeType, checksum, content, fill, translator_path, try_checksum,
};
use load::Rng;

fn cluster(layout: VolumeType, bricks_per_node: usize) -> (Mount, Volume, Cluster) {
    let cluster = Cluster::new(3);
    cluster.install_translator(translator_path(), "fsnap");
    let disks = cluster.disks(bricks_per_node, Fs::Xfs, 1024 * MIB);
    let volume = cluster.volume("v").layout(layout).disks(&disks).with_fsnap().start();
    let mount = volume.mount("/run/scene/m");
    (mount, volume, cluster)
}

#[test]
fn a_node_that_was_away_is_healed() {
    let (mount, volume, cluster) = cluster(VolumeType::Replicate(3), 1);
    let root = mount.path();
    let write = |seed: u64| {
        (0..10).for_each(|n| fill(root.join(format!("f{n}")), 20_000, seed + n));
        fill(root.join(format!("new{seed}")), MIB, seed);
        fsnap(root.join("f1"), "create", format!("s{seed}")).unwrap();
    };
    write(0);
    let snapshot = checksum(root.join(".fsnap/f1@s0"));
    converges(&volume, VolumeType::Replicate(3));

    cluster.cut(1);
    write(100);
    assert_eq!(volume.running(), 3, "the brick runs, and nobody sees it");
    assert_eq!(mount.connected(), 2);
    cluster.join(1);
    cluster.await_back(&volume, &mount);
    converges(&volume, VolumeType::Replicate(3));

    // Also the node that has served the volume's description so far.
    cluster.kill_node(0);
    assert_eq!(volume.running(), 2);
    write(200);
    cluster.start_node(0);
    cluster.await_back(&volume, &mount);
    converges(&volume, VolumeType::Replicate(3));
    assert_eq!(checksum(root.join(".fsnap/f1@s0")), snapshot);
    assert_eq!(names(root.join("f1")), ["s0", "s100", "s200"]);
}

#[test]
fn random_nodes_at_random_moments() {
    random_nodes(VolumeType::Replicate(3), 1);
}

#[test]
fn random_nodes_of_a_disperse_volume_at_random_moments() {
    random_nodes(VolumeType::Disperse { data: 4, redundancy: 2 }, 2);
}

/// `FSNAP_SEED` repeats the choices, `FSNAP_ROUNDS` makes it longer.
fn random_nodes(layout: VolumeType, per_node: usize) {
    let number =
        |name: &str, default| std::env::var(name).ok().map_or(default, |n| n.parse().expect("a number"));
    let (seed, rounds) = (number("FSNAP_SEED", 1), number("FSNAP_ROUNDS", 1));
    println!("{layout:?}, seed {seed}, {rounds} rounds");
    let (mount, volume, cluster) = cluster(layout, per_node);
    let mut rng = Rng::new(seed);
    let shift = Arc::new(Shift::default());
    let hand = Hand::start(&mount.path(), seed, &shift);
    let writer = write_on(mount.path().join("w"), &shift);
    for round in 0..rounds {
        sleep(Duration::from_millis(200 + rng.below(1500)));
        let (node, cut) = (rng.below(3) as usize, rng.below(2) == 0);
        println!("round {round}: node {node} is {}", if cut { "cut off" } else { "killed" });
        if cut {
            cluster.cut(node)
        } else {
            cluster.kill_node(node)
        }
        sleep(Duration::from_millis(500 + rng.below(8000)));
        if cut {
            cluster.join(node)
        } else {
            cluster.start_node(node)
        }
        cluster.await_back(&volume, &mount);
        sleep(Duration::from_millis(500 + rng.below(5000)));
        // Before the next one: two at a time are more than a quorum bears. What is made faster than it is healed would
        // never be.
        let _pause = shift.pause();
        volume.await_healed(Duration::from_secs(120));
    }
    shift.end();
    writer.join().unwrap();
    let book = hand.join().unwrap();
    println!("{} taken, {} deleted, {} unsure", book.there.len(), book.gone.len(), book.unsure.len());
    converges(&volume, layout);
    book.check(&volume.mount("/run/scene/fresh").path());
}

/// When to work: not during a pause, and not after the end.
#[derive(Default)]
struct Shift(RwLock<bool>);

impl Shift {
    /// Does `work`, once, unless it is the end.
    fn goes_on(&self, work: impl FnOnce()) -> bool {
        let over = self.0.read().unwrap();
        if !*over {
            work();
        }
        !*over
    }

    /// From the end of the work at hand until it is dropped.
    fn pause(&self) -> impl Drop {
        self.0.write().unwrap()
    }

    fn end(&self) {
        *self.0.write().unwrap() = true;
    }
}

/// Somebody who writes a file all the time, and takes snapshots of it.
fn write_on(path: PathBuf, shift: &Arc<Shift>) -> JoinHandle<()> {
    let shift = Arc::clone(shift);
    std::thread::spawn(move || {
        let file =
            OpenOptions::new().create(true).truncate(true).write(true).open(&path).expect("a new file");
        let mut round = 0u64;
        let mut work = || {
            // What fails is tried again in the next round.
            let _ = file.write_all_at(&content(40_000, round), (round % 50) * 40_000);
            if round.is_multiple_of(25) {
                let _ = file.sync_data();
                let _ = fsnap(&path, "create", format!("w{round}"));
            }
            round += 1;
        };
        while shift.goes_on(&mut work) {}
    })
}

/// What somebody who takes and deletes snapshots was told.
#[derive(Default)]
struct Hand {
    there: BTreeMap<String, u64>,
    gone: Vec<String>,
    /// The answer was an error: it happened, or did not, but not by half.
    unsure: BTreeMap<String, u64>,
}

impl Hand {
    fn start(root: &Path, seed: u64, shift: &Arc<Shift>) -> JoinHandle<Hand> {
        let (file, shift, mut rng) = (root.join("f"), Arc::clone(shift), Rng::new(seed + 1));
        std::thread::spawn(move || {
            let mut hand = Hand::default();
            let mut round = 0;
            let mut work = || {
                round += 1;
                let victim = hand.there.keys().nth(rng.below(8) as usize).cloned();
                match victim.filter(|_| rng.below(2) == 0) {
                    Some(name) => hand.delete(&file, name),
                    None => hand.create(&file, round),
                }
            };
            while shift.goes_on(&mut work) {}
            hand
        })
    }

    fn create(&mut self, file: &Path, round: u64) {
        let write = || -> io::Result<u64> {
            let mut file_there = File::create(file)?;
            file_there.write_all(&content(100_000 + round as usize, round))?;
            file_there.sync_all()?;
            try_checksum(file)
        };
        let Ok(sum) = write() else { return };
        let name = format!("s{round}");
        match fsnap(file, "create", &name) {
            Ok(()) => self.there.insert(name, sum),
            Err(_) => self.unsure.insert(name, sum),
        };
    }

    fn delete(&mut self, file: &Path, name: String) {
        let sum = self.there.remove(&name).expect("one of them");
        match fsnap(file, "delete", &name) {
            Ok(()) => self.gone.push(name),
            Err(_) => {
                self.unsure.insert(name, sum);
            }
        }
    }

    fn check(&self, root: &Path) {
        let is = names(root.join("f"));
        for (name, sum) in &self.there {
            assert!(is.contains(name), "{name} was taken and is not there");
            assert_eq!(checksum(root.join(format!(".fsnap/f@{name}"))), *sum, "{name}");
        }
        for name in &self.gone {
            assert!(!is.contains(name), "{name} was deleted and is there");
            let there = fs::metadata(root.join(format!(".fsnap/f@{name}")));
            assert_eq!(there.map_err(|e| e.raw_os_error()).err(), Some(Some(Errno::ENOENT as i32)));
        }
        for (name, sum) in self.unsure.iter().filter(|(name, _)| is.contains(name)) {
            assert_eq!(checksum(root.join(format!(".fsnap/f@{name}"))), *sum, "{name}");
        }
        assert!(!self.there.is_empty() && !self.gone.is_empty());
    }
}
