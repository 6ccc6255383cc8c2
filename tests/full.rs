//! Bricks on which nothing is left: snapshots can be deleted, held and released, and files with snapshots go and move, as
//! files without them do.
#![allow(missing_docs)]

mod common;

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::agree::converges;
use common::{MIB, Setup, fsnap, names, of_deleted, scene_with_fsnap, sound};
use fsnap_testbed::{Disk, Fs, Full, VolumeType, checksum, fill, fill_up, wait_until};

const REPLICA: VolumeType = VolumeType::Replicate(3);
const VICTIMS: u64 = 6;
/// Of the inodes that XFS makes on 1 % of the disk not all need to be used up through the mount, which takes its time.
const INODES: usize = 5600;

/// Who takes the last of it.
#[derive(Clone, Copy, PartialEq, Debug)]
enum By {
    /// An application.
    Mount,
    /// Something else on the brick's file system.
    Neighbour,
}

fn setup(layout: VolumeType, bricks: usize, disk: Fs) -> Setup {
    let scene = scene_with_fsnap();
    scene.start_glusterd();
    let disks = scene.disks(bricks, disk, 320 * MIB);
    // The last percent as well.
    let volume =
        scene.volume("v").layout(layout).disks(&disks).with_fsnap().option("storage.reserve", "0").start();
    let mount = volume.mount("/run/scene/m");
    Setup { mount, volume, disks, scene }
}

/// Fills all bricks; what is to be removed to make room.
fn fill_bricks(setup: &Setup, full: Full, by: By) -> Vec<PathBuf> {
    if by == By::Neighbour {
        return setup.disks.iter().map(|disk| disk.fill(full)).collect();
    }
    let mut made = Vec::new();
    if full == Full::Inodes {
        for disk in &setup.disks {
            disk.limit_inodes();
            let dir = disk.path().join("neighbour");
            fs::create_dir(&dir).unwrap();
            (0..INODES).for_each(|n| drop(fs::File::create(dir.join(n.to_string())).unwrap()));
            made.push(dir);
        }
    }
    let dir = setup.mount.path().join("filler");
    fs::create_dir(&dir).unwrap();
    fill_up(&dir, setup.disks[0].fs(), full);
    made.push(dir);
    made
}

/// A file with a snapshot `a`, whose checksum it returns, and another content since.
fn snapped(file: &Path, seed: u64) -> u64 {
    fill(file, 100_000, seed);
    fsnap(file, "create", "a").unwrap();
    let sum = checksum(file);
    fill(file, 50_000, seed + 1000);
    sum
}

fn works(layout: VolumeType, bricks: usize, disk: Fs, full: Full, by: By) {
    println!("{layout:?} on {disk:?} without {full:?}, taken by {by:?}");
    let setup = setup(layout, bricks, disk);
    let at = |path: &str| setup.mount.path().join(path);
    ["d", "e", "later"].iter().for_each(|dir| fs::create_dir(at(dir)).unwrap());
    let first = snapped(&at("d/f"), 1);
    fsnap(at("d/f"), "create", "b").unwrap();
    let victims: Vec<u64> = (0..VICTIMS).map(|n| snapped(&at(&format!("d/v{n}")), 10 + n)).collect();
    let (old, new) = (snapped(&at("d/old"), 30), snapped(&at("e/new"), 31));
    let moved = snapped(&at("d/moved"), 40);
    fill(at("d/plain"), 1000, 50);
    let fillers = fill_bricks(&setup, full, by);

    fsnap(at("d/f"), "hold", "a").unwrap();
    fsnap(at("d/f"), "release", "a").unwrap();
    for (n, sum) in victims.iter().enumerate() {
        fs::remove_file(at(&format!("d/v{n}"))).unwrap();
        assert_eq!(checksum(of_deleted(&at("d"), &format!("v{n}@a"))), *sum, "v{n}");
    }
    // Where a file without snapshots can be renamed: btrfs lets none without space for metadata.
    if fs::rename(at("d/plain"), at("e/plain")).is_ok() {
        fs::rename(at("d/old"), at("e/new")).unwrap();
        assert_eq!(checksum(at("e/.fsnap/new@a")), old);
        assert_eq!(checksum(of_deleted(&at("e"), "new@a")), new);
        fs::rename(at("d/moved"), at("later/moved")).unwrap();
        assert_eq!(
            (names(at("later/moved")), checksum(at("later/.fsnap/moved@a"))),
            (vec!["a".into()], moved)
        );
    } else {
        assert_eq!((disk, full), (Fs::Btrfs, Full::Inodes));
    }
    fsnap(at("d/f"), "delete", "b").unwrap();
    assert_eq!((names(at("d/f")), checksum(at("d/.fsnap/f@a"))), (vec!["a".into()], first));
    fsnap(of_deleted(&at("d"), "v0@a"), "delete", "a").unwrap();
    fsnap(at("d/f"), "delete", "a").unwrap();
    assert!(names(at("d/f")).is_empty());

    for filler in fillers {
        // What stock GlusterFS could only half make of the last file it can't always remove.
        fs::read_dir(filler).unwrap().for_each(|entry| drop(fs::remove_file(entry.unwrap().path())));
    }
    setup.disks.iter().for_each(has_room);
    fsnap(at("d/f"), "create", "again").unwrap();
    // Nor heal.
    if layout != VolumeType::Distribute && (full, by) != (Full::Inodes, By::Mount) {
        converges(&setup.volume, layout);
    }
    sound(&setup.volume);
}

/// Waits until what was removed is free: XFS frees inodes in the background, btrfs counts what its next commit frees.
fn has_room(disk: &Disk) {
    let probe = disk.path().join("probe");
    wait_until("there is room again", Duration::from_secs(20), || {
        disk.sync();
        let written = fs::write(&probe, vec![1; 40 * MIB as usize]).is_ok();
        fs::remove_file(&probe).is_ok() && written
    });
    disk.sync();
}

#[test]
fn of_distribute_on_xfs() {
    for full in [Full::Blocks, Full::Inodes] {
        for by in [By::Neighbour, By::Mount] {
            works(VolumeType::Distribute, 1, Fs::Xfs, full, by);
        }
    }
}

#[test]
fn of_distribute_on_btrfs() {
    for full in [Full::Inodes, Full::Blocks] {
        works(VolumeType::Distribute, 1, Fs::Btrfs, full, By::Neighbour);
    }
    works(VolumeType::Distribute, 1, Fs::Btrfs, Full::Blocks, By::Mount);
}

#[test]
fn of_replicate() {
    for full in [Full::Blocks, Full::Inodes] {
        for by in [By::Neighbour, By::Mount] {
            works(REPLICA, 3, Fs::Xfs, full, by);
        }
    }
}

/// A snapshot that is deleted gives the disk back what only it had.
#[test]
fn deleting_makes_room() {
    let setup = setup(VolumeType::Distribute, 1, Fs::Xfs);
    let file = setup.mount.path().join("f");
    fill(&file, 40 * MIB, 1);
    fsnap(&file, "create", "a").unwrap();
    fill(&file, 40 * MIB, 2);
    let other = fs::File::create(setup.mount.path().join("g")).unwrap();
    // The brick closes a file a moment after the application, and XFS takes back then what it has reserved beyond its end.
    std::thread::sleep(Duration::from_secs(3));
    let writes = |size: u64| {
        other.set_len(0)?;
        other.write_all_at(&vec![1; size as usize], 0).and_then(|()| other.sync_all())
    };
    // Or later, when the disk is full already.
    wait_until("there is no room", Duration::from_secs(60), || {
        setup.disks[0].fill(Full::Blocks);
        writes(MIB).is_err()
    });
    fsnap(&file, "delete", "a").unwrap();
    wait_until("there is room", Duration::from_secs(20), || writes(30 * MIB).is_ok());
    drop(other);
    sound(&setup.volume);
}
