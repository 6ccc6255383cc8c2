//! Rebalance and remove-brick, under files with snapshots and without.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use common::stage::Stage;
use common::{MIB, Setup, fsnap, names, sound};
use fsnap_testbed::{Disk, Errno, Fs, Scene, Volume, VolumeType, checksum, fill, getx, wait_until};

const DISK: u64 = 512 * MIB;
const FILES: u64 = 24;

/// A directory in which every second file has snapshots.
struct Files {
    dir: PathBuf,
    /// What the files read, and the snapshots.
    sums: BTreeMap<PathBuf, u64>,
}

impl Files {
    fn new(root: &Path) -> Files {
        let dir = root.join("d");
        fs::create_dir(&dir).unwrap();
        let mut files = Files { dir, sums: BTreeMap::new() };
        for n in 0..FILES {
            let file = files.dir.join(format!("f{n}"));
            fill(&file, 100_000 + n, n);
            if n % 2 == 0 {
                fsnap(&file, "create", "s").unwrap();
                let snapshot = files.snapshot(n);
                files.sums.insert(snapshot.clone(), checksum(snapshot));
                fs::OpenOptions::new().append(true).open(&file).unwrap().write_all(b"more").unwrap();
            }
            files.sums.insert(file.clone(), checksum(file));
        }
        files
    }

    fn snapshot(&self, n: u64) -> PathBuf {
        self.dir.join(format!(".fsnap/f{n}@s"))
    }

    /// All is there and reads as it did.
    #[track_caller]
    fn are_right(&self, root: &Path) {
        for (file, sum) in &self.sums {
            let file = root.join("d").join(file.strip_prefix(&self.dir).unwrap());
            assert_eq!(checksum(&file), *sum, "{}", file.display());
        }
        for n in 0..FILES {
            let expected: &[&str] = if self.sums.contains_key(&self.snapshot(n)) { &["s"] } else { &[] };
            assert_eq!(names(root.join(format!("d/f{n}"))), expected);
        }
    }

    /// Snapshots are read, again and again, while something is done.
    fn are_read<T>(&self, meanwhile: impl FnOnce() -> T) -> T {
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let reader = scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    for (file, sum) in self.sums.iter().filter(|(file, _)| is_snapshot(file)) {
                        assert_eq!(checksum(file), *sum, "{}", file.display());
                    }
                }
            });
            let result = meanwhile();
            done.store(true, Ordering::Relaxed);
            reader.join().unwrap();
            result
        })
    }
}

fn is_snapshot(file: &Path) -> bool {
    file.parent().is_some_and(|dir| dir.ends_with(".fsnap"))
}

fn more_disks(scene: &Scene, first: usize, count: usize) -> Vec<Disk> {
    (first..first + count).map(|n| scene.disk(Fs::Xfs, DISK, format!("/run/scene/b{n}"))).collect()
}

/// Names in the bricks' directory d: those of files with content and those of link files.
fn on_brick(volume: &Volume, n: usize) -> (Vec<String>, Vec<String>) {
    let dir = volume.brick_path(n).join("d");
    let (mut data, mut links) = (Vec::new(), Vec::new());
    for name in common::ls(&dir).into_iter().filter(|name| name != ".fsnap") {
        let size = fs::metadata(dir.join(&name)).unwrap().len();
        if size == 0 { links.push(name) } else { data.push(name) }
    }
    (data, links)
}

/// What is in the `.fsnap` of the directory d, which may be missing, on a brick.
fn snapshots_on_brick(volume: &Volume, n: usize) -> Vec<String> {
    let dir = volume.brick_path(n).join("d/.fsnap");
    if dir.exists() { common::ls(dir) } else { Vec::new() }
}

/// What brick `n` has in its log about files that stay.
fn told(scene: &Scene, volume: &Volume, n: usize, what: &str) -> Vec<String> {
    let dir = volume.brick(n).dir.display().to_string().trim_start_matches('/').replace('/', "-");
    let log = fs::read(scene.path(format!("/var/log/glusterfs/bricks/{dir}.log"))).unwrap();
    let log = String::from_utf8_lossy(&log).into_owned();
    log.lines().filter(|line| line.contains(what)).map(str::to_owned).collect()
}

fn rebalance_and_remove(layout: VolumeType, set: usize, bricks: usize) {
    let Setup { mount, volume, scene, disks: _disks } = common::volume(layout, bricks, DISK, |volume| volume);
    let root = mount.path();
    let mut files = Files::new(&root);
    let _more = more_disks(&scene, bricks + 1, set);
    volume.add_bricks(&_more);
    mount.wait_connected(bricks + set);
    files.are_right(&root);

    let first = files.are_read(|| volume.rebalance(&[]));
    assert!(first.files > 0 && first.skipped > 0, "{first:?}");
    assert_eq!((first.failures, first.status.as_str()), (0, "completed"));
    let forced = files.are_read(|| volume.rebalance(&["force"]));
    assert_eq!((forced.failures, forced.status.as_str()), (0, "completed"));
    assert_eq!(forced.skipped, first.skipped);
    // Only files without snapshots have moved, and nothing else has come to the new bricks.
    for n in bricks..bricks + set {
        let (data, _) = on_brick(&volume, n);
        assert_eq!(data.len() as u64, first.files);
        assert!(data.iter().all(|name| name[1..].parse::<u64>().unwrap() % 2 == 1), "{data:?}");
        assert_eq!(snapshots_on_brick(&volume, n), Vec::<String>::new());
    }
    let lines: usize = (0..bricks).map(|n| told(&scene, &volume, n, "stays on this brick").len()).sum();
    // Two runs, and each replica says it.
    assert_eq!(lines as u64, 2 * first.skipped * set as u64);
    files.are_right(&root);
    files.are_right(&volume.mount("/run/scene/fresh").path());
    sound(&volume);

    // New files, on all bricks, can have snapshots.
    for n in 0..12 {
        let file = root.join(format!("d/new{n}"));
        fs::write(&file, b"new").unwrap();
        fsnap(&file, "create", "s").unwrap();
        assert_eq!(fs::read(root.join(format!("d/.fsnap/new{n}@s"))).unwrap(), b"new");
    }

    // The first set is to go, but files with snapshots are on it. Those on other bricks don't count.
    let emptied = files.are_read(|| volume.empty_bricks(0..set));
    let (left, _) = on_brick(&volume, 0);
    assert!(!left.is_empty() && left.iter().all(|name| !names(root.join("d").join(name)).is_empty()));
    assert_eq!((emptied.failures, emptied.status.as_str()), (left.len() as u64, "completed"));
    let refused = volume.remove_bricks(0..set, "commit").unwrap_err();
    assert!(refused.output.contains("use 'force' option"), "{refused}");
    files.are_right(&root);
    files.are_right(&volume.mount("/run/scene/fresh").path());

    // What the log says: without snapshots they move.
    volume.remove_bricks(0..set, "stop").unwrap();
    for name in on_brick(&volume, 0).0 {
        let file = root.join("d").join(&name);
        for snapshot in names(&file) {
            fsnap(&file, "delete", &snapshot).unwrap();
            files.sums.remove(&files.dir.join(".fsnap").join(format!("{name}@{snapshot}")));
        }
    }
    let emptied = volume.empty_bricks(0..set);
    assert_eq!((emptied.failures, emptied.status.as_str()), (0, "completed"));
    assert_eq!(on_brick(&volume, 0).0, Vec::<String>::new());
    volume.remove_bricks(0..set, "commit").unwrap();
    mount.wait_connected(bricks);
    files.are_right(&root);
    files.are_right(&volume.mount("/run/scene/fresh").path());
    assert!(files.sums.keys().any(|file| is_snapshot(file)));
    assert_eq!(common::ls(root.join("d")).len() as u64, FILES + 12);
}

#[test]
fn distribute() {
    rebalance_and_remove(VolumeType::Distribute, 1, 2);
}

#[test]
fn distributed_replicate() {
    rebalance_and_remove(VolumeType::Replicate(2), 2, 4);
}

#[test]
fn snapshots_of_deleted_files_are_not_lost_with_a_brick() {
    let Setup { mount, volume, scene, disks: _disks } = common::distribute(2);
    let root = mount.path();
    let dir = root.join("d/e");
    fs::create_dir_all(&dir).unwrap();
    for n in 0..12 {
        let file = dir.join(format!("f{n}"));
        fill(&file, 10_000, n);
        fs::write(root.join(format!("d/plain{n}")), b"plain").unwrap();
        if n % 3 == 0 {
            fsnap(&file, "create", "s").unwrap();
            fs::remove_file(&file).unwrap();
        }
    }
    let kept = common::ls(dir.join(".fsnap"));
    assert_eq!(kept.len(), 4);
    let emptied = volume.empty_bricks(0..1);
    assert_eq!(emptied.status, "failed");
    assert!(emptied.failures > 0);
    let refused = volume.remove_bricks(0..1, "commit").unwrap_err();
    assert!(refused.output.contains("use 'force' option"), "{refused}");
    let lines = told(&scene, &volume, 0, "remove-brick would lose");
    assert!(lines[0].contains("'MOUNT/d/e/.fsnap/f"), "{lines:?}");
    assert_eq!(common::ls(dir.join(".fsnap")), kept);
    volume.remove_bricks(0..1, "stop").unwrap();
    // No hindrance for a mere rebalance, nor for a brick that has none of them.
    assert_eq!(volume.rebalance(&[]).failures, 0);
    for name in kept {
        fsnap(dir.join(".fsnap").join(name), "delete", "s").unwrap();
    }
    let emptied = volume.empty_bricks(0..1);
    assert_eq!((emptied.status.as_str(), emptied.failures), ("completed", 0));
    volume.remove_bricks(0..1, "commit").unwrap();
    assert_eq!(common::ls(&dir).len(), 8);
    assert_eq!(fsnap(dir.join("f1"), "create", "s"), Ok::<(), Errno>(()));
}

/// Rebalance marks what it moves, and does not take that back when it is killed.
#[test]
fn what_a_killed_rebalance_leaves_behind_can_have_snapshots() {
    let stage = Stage::new(common::volume(VolumeType::Distribute, 1, 2048 * MIB, |volume| volume));
    let Setup { mount, volume, scene, .. } = &stage.0;
    let root = mount.path();
    fs::create_dir(root.join("d")).unwrap();
    for n in 0..6 {
        fill(root.join(format!("d/f{n}")), 96 * MIB, n);
    }
    // Its own mode says nothing.
    let sticky = root.join("d/sticky");
    fill(&sticky, MIB, 7);
    fs::set_permissions(&sticky, fs::Permissions::from_mode(0o3644)).unwrap();
    fsnap(&sticky, "create", "s").unwrap();
    let _more: Vec<Disk> =
        (2..4).map(|n| scene.disk(Fs::Xfs, 2048 * MIB, format!("/run/scene/b{n}"))).collect();
    volume.add_bricks(&_more);
    mount.wait_connected(3);

    let brick = volume.brick_path(0).join("d");
    let is_marked = |n: &u64| {
        let below = brick.join(format!("f{n}"));
        fs::metadata(&below).is_ok_and(|file| file.mode() & 0o3000 == 0o3000)
            && getx(&below, "trusted.glusterfs.dht.linkto").is_ok()
    };
    // One file after the other: it must not be over before we see it.
    volume.set("cluster.rebal-throttle", "lazy");
    let rebalancer = volume.begin_rebalance(&["force"]);
    let mut moving = None;
    wait_until("a file is being moved", Duration::from_secs(60), || {
        moving = (0..6).find(is_marked);
        moving.is_some()
    });
    rebalancer.freeze();
    let moving = moving.filter(is_marked).expect("it has outrun us: larger files are needed");
    let name = format!("d/f{moving}");
    let file = root.join(&name);
    assert_eq!(fsnap(&file, "create", "s"), Err(Errno::EBUSY));
    stage.refused(["create", &name, "--name", "s"], "rebalance");

    rebalancer.kill();
    assert!(is_marked(&moving));
    wait_until("the brick knows that it is dead", Duration::from_secs(20), || {
        fsnap(&file, "create", "s") == Ok(())
    });
    let sum = checksum(&file);
    assert_eq!(checksum(root.join(format!("d/.fsnap/f{moving}@s"))), sum);
    stage.ok(["create", &name, "--name", "t"]);
    assert_eq!(names(&file), ["s", "t"]);
    // Both kinds of restore, of which the second is known to DHT as a truncate: what was to be moved gets none.
    let change = || fs::OpenOptions::new().append(true).open(&file).unwrap().write_all(b"more").unwrap();
    change();
    assert_ne!(checksum(&file), sum);
    fsnap(&file, "restore", "s").unwrap();
    common::sees(&file, sum);
    change();
    stage.restore(&name, "t");
    common::sees(&file, sum);
    assert_eq!(checksum(volume.mount("/run/scene/fresh").path().join(&name)), sum);
    sound(volume);
}
