//! Load for a long time, with a look at everything every minute: is all there, and does the brick stay as small as it was?
//!
//! `soak [MINUTES] [SEED]`: 60 minutes if not given. The same seed gives the same sequence of choices. There are two volumes:
//! the brick of `steady` runs from the beginning to the end and is measured, that of `shaken` is killed, stopped and started.
//! Needs root.

#[path = "../tests/common/mod.rs"]
mod common;
#[path = "../tests/load/mod.rs"]
mod load;

use std::process::ExitCode;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::{MIB, fsnap, ls, usage};
use fsnap_testbed::{Fs, Mount, Scene, Volume, VolumeType};
use load::audit::{audit, clear, faults, rename_all};
use load::versions::{self, Writer};
use load::{Book, Load, Rng, events};

/// After so long all caches and pools are what they will be.
const WARM_UP: Duration = Duration::from_secs(180);
/// How much the brick may have grown since, in KiB and in open files.
const MORE_MEMORY: u64 = 24 << 10;
const MORE_FILES: usize = 16;
const MINUTE: Duration = Duration::from_secs(60);

/// A volume with its mounts, and what those were told who work there.
struct Place {
    volume: Volume,
    mounts: Vec<Mount>,
    book: Arc<Book>,
}

impl Place {
    fn new(scene: &Scene, name: &str, disk: usize, mounts: usize) -> Place {
        let disk = scene.disk(Fs::Xfs, 4096 * MIB, format!("/run/scene/b{disk}"));
        // A brick remembers so many inodes: with the default of 16384 it grows for longer than the warm-up.
        let volume = scene.volume(name).layout(VolumeType::Distribute).disks(&[disk]).with_fsnap();
        let volume = volume.option("network.inode-lru-limit", "1024").start();
        let mounts = (0..mounts).map(|n| volume.mount(format!("/run/scene/{name}{n}"))).collect();
        Place { volume, mounts, book: Arc::default() }
    }

    fn start(&self, seed: u64) -> Load {
        let roots: Vec<_> = self.mounts.iter().map(Mount::path).collect();
        Load::start(&roots, 2, seed, true, &self.book)
    }

    fn fresh(&self) -> Mount {
        self.volume.mount(format!("/run/scene/{}-fresh", self.volume.name()))
    }

    fn refs(&self) -> Vec<&Mount> {
        self.mounts.iter().collect()
    }
}

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1).map(|arg| arg.parse::<u64>());
    let (Ok(minutes @ 1..), Ok(seed)) = (args.next().unwrap_or(Ok(60)), args.next().unwrap_or(Ok(1))) else {
        eprintln!("usage: soak [MINUTES] [SEED]");
        return ExitCode::from(2);
    };
    println!("{minutes} minutes, seed {seed}");
    soak(MINUTE * u32::try_from(minutes).unwrap_or(u32::MAX), seed)
}

fn soak(time: Duration, seed: u64) -> ExitCode {
    let scene = common::scene_with_fsnap();
    scene.start_glusterd();
    let (steady, shaken) = (Place::new(&scene, "steady", 1, 3), Place::new(&scene, "shaken", 2, 2));
    let pid = steady.volume.brick_pid(0);
    let mut rng = Rng::new(seed);
    let (start, mut warm) = (Instant::now(), None);
    let warm_up = WARM_UP.min(time / 3);
    println!("minute  commands   RSS KiB  files  threads");
    let mut round = 0;
    while start.elapsed() < time {
        let from = seed.wrapping_mul(1000) + round * 2;
        minute(&scene, &steady, &shaken, &mut rng, from);
        let now = usage(pid);
        println!(
            "{:>6}  {:>8}  {:>8}  {:>5}  {:>7}",
            start.elapsed().as_secs().div_ceil(60),
            steady.book.commands() + shaken.book.commands(),
            now.resident,
            now.files,
            now.threads
        );
        if start.elapsed() >= warm_up {
            warm.get_or_insert(now);
        }
        round += 1;
    }
    rename_all(&shaken.fresh().path());
    for place in [&steady, &shaken] {
        clear(&place.fresh().path(), &[&place.volume]);
    }
    println!("steady: {}\nshaken: {}", steady.book.summary(), shaken.book.summary());
    assert_eq!(steady.volume.brick_pid(0), pid, "the measured brick never ended");
    let (now, warm) = (usage(pid), warm.expect("a minute after the warm-up"));
    println!("after the warm-up: {warm:?}\nat the end:        {now:?}");
    let small = now.resident <= warm.resident + MORE_MEMORY && now.files <= warm.files + MORE_FILES;
    println!("{}", if small { "right: the brick did not grow" } else { "WRONG: the brick has grown" });
    if small { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A minute of load, with something happening in its middle, and an audit at its end.
fn minute(scene: &Scene, steady: &Place, shaken: &Place, rng: &mut Rng, seed: u64) {
    let end = Instant::now() + MINUTE;
    let loads = [steady.start(seed), shaken.start(seed + 1)];
    moments(steady, Instant::now() + MINUTE / 3);
    match rng.below(5) {
        0 => events::kill(&shaken.volume, 0, &shaken.refs(), &shaken.book),
        1 => events::restart(&shaken.volume, &shaken.refs(), &shaken.book),
        2 => events::switch_graph(&steady.volume, &steady.refs(), &steady.book),
        3 => events::set_nonsense(scene, &steady.volume, &steady.book),
        _ => {}
    }
    sleep((end - Duration::from_secs(10)).saturating_duration_since(Instant::now()));
    loads.into_iter().for_each(Load::finish);
    steady.book.excuse(None);
    for place in [steady, shaken] {
        let faults = faults(scene, &place.volume);
        if let Some(last) = faults.last() {
            println!("{} faults logged by {}, the last: {last}", faults.len(), place.volume.name());
        }
        audit(&place.fresh().path(), &place.book);
    }
}

/// Snapshots of a file that somebody writes all the time.
fn moments(place: &Place, until: Instant) {
    let root = place.mounts[0].path();
    let dir = root.join("moments");
    let _ = std::fs::create_dir(&dir);
    let writer = Writer::start(dir.join("f"));
    let mut count = 0;
    while Instant::now() < until {
        let (name, synced) = (format!("n{}-{count}", place.book.commands()), writer.synced());
        fsnap(dir.join("f"), "create", &name).expect("create");
        let begun = writer.begun();
        let snapshot = dir.join(".fsnap").join(format!("f@{name}"));
        let state = versions::read(&snapshot).expect("a snapshot");
        versions::check(&state, &synced, &begun);
        sleep(Duration::from_millis(200));
        assert_eq!(versions::read(&snapshot).expect("a snapshot"), state, "{name} has changed");
        fsnap(&snapshot, "delete", &name).expect("delete");
        count += 1;
    }
    writer.stop();
    assert!(ls(dir.join(".fsnap")).is_empty() && count > 0);
}
