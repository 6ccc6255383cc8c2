//! The tour on real distribute volumes: snapshots of a changing file, deleted and restored in any order.
#![allow(missing_docs)]

mod common;

use std::fs;
use std::path::Path;

use common::{MIB, ask, counter, distribute, fsnap, ls, names, sees};
use fsnap_testbed::{checksum, df_used, fill};

/// The file through the mount, and its snapshot.
fn snap(file: &Path, name: &str) -> std::path::PathBuf {
    let file_name = file.file_name().unwrap().to_str().unwrap();
    file.parent().unwrap().join(".fsnap").join(format!("{file_name}@{name}"))
}

/// Three snapshots of three contents; the middle one goes, the others come back in both orders.
fn tour(file: &Path, seed: u64) {
    let size = |n: u64| 5 * MIB + n * 123_457;
    let mut sums = Vec::new();
    for (n, name) in ["one", "two", "three"].into_iter().enumerate() {
        fill(file, size(n as u64), seed + n as u64);
        fsnap(file, "create", name).unwrap();
        sums.push(checksum(file));
    }
    assert_eq!(names(file), ["one", "two", "three"]);
    for (n, name) in ["one", "two", "three"].into_iter().enumerate() {
        assert_eq!(checksum(snap(file, name)), sums[n], "{name} through .fsnap");
        let info = ask(file, &format!("info.{name}")).unwrap();
        assert_eq!(
            (info["size"].as_u64(), info["held"].as_bool()),
            (Some(size(n as u64)), Some(false)),
            "{info}"
        );
    }
    fill(file, MIB, seed + 99);
    fsnap(file, "delete", "two").unwrap();
    assert_eq!(names(file), ["one", "three"]);
    for (n, name) in [(0, "one"), (2, "three"), (0, "one"), (0, "one"), (2, "three")] {
        fsnap(file, "restore", name).unwrap();
        sees(file, sums[n]);
        assert_eq!(fs::metadata(file).unwrap().len(), size(n as u64));
        fill(file, 77, seed + 100);
    }
    assert_eq!(checksum(snap(file, "one")), sums[0], "untouched by all that");
    assert_eq!(checksum(snap(file, "three")), sums[2], "untouched by all that");
    assert!(!ls(file.parent().unwrap()).contains(&".fsnap".to_owned()));
}

#[test]
fn one_brick() {
    let setup = distribute(1);
    let dir = setup.mount.path().join("dir");
    fs::create_dir(&dir).unwrap();
    tour(&dir.join("vm.img"), 1);
    let dump = setup.volume.statedump(0);
    for (key, count) in [
        ("create.done", 3),
        ("delete.done", 1),
        ("restore.done", 5),
        ("info.done", 3),
        ("list.done", 2),
        ("clones", 8),
    ] {
        assert_eq!(counter(&dump, key), count, "{key} in {dump}");
    }
    assert!(counter(&dump, "clones.microseconds") > 0);
}

#[test]
fn two_bricks() {
    let setup = distribute(2);
    let dir = setup.mount.path().join("dir");
    fs::create_dir(&dir).unwrap();
    let files: Vec<_> = (0..8).map(|n| dir.join(format!("vm{n}.img"))).collect();
    for (n, file) in files.iter().enumerate() {
        tour(file, 1000 * n as u64);
    }
    let both = |key: &str| (0..2).map(|n| counter(&setup.volume.statedump(n), key)).collect::<Vec<_>>();
    let created = both("create.done");
    assert_eq!(created.iter().sum::<u64>(), 24);
    assert!(created.iter().all(|&n| n > 0), "files on both bricks: {created:?}");
    let mut expected: Vec<String> =
        (0..8).flat_map(|n| [format!("vm{n}.img@one"), format!("vm{n}.img@three")]).collect();
    expected.sort();
    assert_eq!(ls(dir.join(".fsnap")), expected);
}

#[test]
fn a_snapshot_takes_no_space_and_is_independent_of_its_file() {
    let setup = common::volume(fsnap_testbed::VolumeType::Distribute, 1, 4096 * MIB, |v| v);
    let file = setup.mount.path().join("big");
    fill(&file, 1024 * MIB, 7);
    let (sum, before) = (checksum(&file), df_used(setup.disks[0].path()));
    fsnap(&file, "create", "s").unwrap();
    let grown = df_used(setup.disks[0].path()).saturating_sub(before);
    assert!(grown < 1024 * MIB / 100, "{grown} bytes for a snapshot of 1 GiB");
    fill(&file, 3 * MIB, 8);
    assert_eq!(checksum(snap(&file, "s")), sum);
}

#[test]
fn a_snapshot_stays_through_a_restart_of_the_volume() {
    let setup = distribute(1);
    let file = setup.mount.path().join("f");
    fill(&file, MIB, 1);
    let sum = checksum(&file);
    fsnap(&file, "create", "s;created=1700000000.000000005;id=11111111-2222-4333-8444-555555555555").unwrap();
    let before = ask(&file, "info.s").unwrap();
    assert_eq!(before["created"], "1700000000.000000005");
    fill(&file, MIB, 2);
    setup.volume.stop();
    setup.volume.start();
    setup.mount.wait_connected(1);
    assert_eq!(ask(&file, "info.s").unwrap(), before);
    assert_eq!(checksum(snap(&file, "s")), sum);
    fsnap(&file, "restore", "s").unwrap();
    sees(&file, sum);
}

/// Written, restored and read through one mount, without a look at the attributes in between.
#[test]
fn a_write_just_before_a_restore_is_not_seen_for_long() {
    let setup = distribute(1);
    let file = setup.mount.path().join("f");
    for round in 0..5 {
        fill(&file, MIB, round);
        let sum = checksum(&file);
        fsnap(&file, "create", format!("n{round}")).unwrap();
        fill(&file, MIB, 100 + round);
        fsnap(&file, "restore", format!("n{round}")).unwrap();
        sees(&file, sum);
    }
}

/// Mounts that hold the file in their caches see the restored content.
#[test]
fn caches_learn_of_a_restore() {
    let setup = distribute(1);
    let second = setup.volume.mount("/run/scene/m2");
    let (here, there) = (setup.mount.path().join("f"), second.path().join("f"));
    for (round, size) in [MIB, MIB, 2 * MIB, 1000].into_iter().enumerate() {
        let name = format!("n{round}");
        fill(&here, MIB, 1);
        let sum = checksum(&here);
        fsnap(&here, "create", &name).unwrap();
        fill(&here, size, 2);
        let changed = checksum(&here);
        sees(&there, changed);
        // A command before it must not make md-cache forget what it knew.
        fsnap(&here, "hold", &name).unwrap();
        fsnap(&here, "restore", &name).unwrap();
        sees(&here, sum);
        sees(&there, sum);
    }
}
