//! Stock GlusterFS on several hosts.

mod common;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use common::Trace;
use fsnap_testbed::{Cluster, Fs, Volume, VolumeType, checksum, fill, wait_until};

const MIB: u64 = 1 << 20;
const SOON: Duration = Duration::from_secs(60);

/// Sees to it that the file is the same on all bricks.
fn same(volume: &Volume, file: &str) {
    let sum = |n: usize| checksum(volume.brick_path(n).join(file));
    (1..volume.bricks().len()).for_each(|n| assert_eq!(sum(n), sum(0), "brick {n}"));
}

#[test]
fn a_cluster_leaves_nothing_behind() {
    let links = || fs::read_dir("/sys/class/net").expect("links").flatten().count();
    let before = links();
    let cluster = Cluster::new(2);
    let disks = cluster.disks(1, Fs::Xfs, 300 * MIB);
    let volume = cluster.volume("v").disks(&disks).start();
    let mount = volume.mount("/run/scene/m");
    assert_eq!(links(), before, "the machine's network is left alone");
    let traces = [cluster.node(0), cluster.node(1), cluster.client()].map(Trace::of);
    drop((mount, volume, disks, cluster));
    traces.iter().for_each(Trace::wait_gone);
    assert_eq!(links(), before);
}

#[test]
fn who_is_cut_off_is_left_out() {
    let cluster = Cluster::new(3);
    let disks = cluster.disks(2, Fs::Xfs, 300 * MIB);
    let volume = cluster.volume("v").layout(VolumeType::Replicate(3)).disks(&disks).start();
    let mount = volume.mount("/run/scene/m");
    assert_eq!((volume.running(), mount.connected()), (6, 6));
    let hosts = |n: usize| volume.brick(n).host;
    assert_eq!([hosts(0), hosts(3), hosts(5)], ["192.0.2.11", "192.0.2.11", "192.0.2.13"]);

    cluster.cut(0);
    let start = Instant::now();
    cluster.await_peers();
    println!("noticed after {:?}", start.elapsed());
    (0..10).for_each(|n| fill(mount.path().join(format!("f{n}")), MIB, n));
    println!("written after {:?}", start.elapsed());
    assert_eq!(mount.connected(), 4);
    // The others answer, and a new client finds them.
    let info = volume.gluster(["volume", "info", "v"]).expect("info");
    assert!(info.contains("Number of Bricks: 2 x 3 = 6"), "{info}");
    volume.set("performance.stat-prefetch", "off");
    println!("option set after {:?}", start.elapsed());
    let late = volume.mount("/run/scene/late");
    println!("mounted after {:?}", start.elapsed());
    assert_eq!(checksum(late.path().join("f0")), checksum(mount.path().join("f0")));

    cluster.join(0);
    cluster.await_back(&volume, &mount);
    println!("back after {:?}", start.elapsed());
    volume.await_healed(SOON);
    println!("healed after {:?}", start.elapsed());
    let files = |n: usize| fs::read_dir(volume.brick_path(n)).expect("a brick").flatten().count();
    assert_eq!((files(0), files(3)), (files(1), files(4)));
}

#[test]
fn a_dead_node_takes_two_fragments_along() {
    let cluster = Cluster::new(3);
    let disks = cluster.disks(2, Fs::Xfs, 300 * MIB);
    let volume =
        cluster.volume("v").layout(VolumeType::Disperse { data: 4, redundancy: 2 }).disks(&disks).start();
    let mount = volume.mount("/run/scene/m");
    let file = mount.path().join("file");
    fill(&file, MIB, 1);
    cluster.kill_node(2);
    assert_eq!(volume.running(), 4);
    mount.wait_connected(4);
    fill(&file, MIB, 2);
    cluster.start_node(2);
    cluster.await_back(&volume, &mount);
    volume.await_healed(SOON);
    // Now the fragments of others are missing.
    let sum = checksum(&file);
    cluster.kill_node(0);
    mount.wait_connected(4);
    fsnap_testbed::run(cluster.client().command("sh").args(["-c", "echo 3 >/proc/sys/vm/drop_caches"]));
    assert_eq!(checksum(&file), sum);
    cluster.start_node(0);
    cluster.await_back(&volume, &mount);

    volume.reset_brick(1);
    mount.wait_connected(6);
    volume.heal_full();
    let fragment = |n: usize| volume.brick_path(n).join("file");
    wait_until("the fragment is there again", SOON, || {
        fs::metadata(fragment(1)).is_ok_and(|healed| healed.len() == MIB / 4)
    });
}

#[test]
fn a_new_brick_is_healed() {
    let cluster = Cluster::new(3);
    let disks = cluster.disks(1, Fs::Xfs, 300 * MIB);
    let volume = cluster.volume("v").layout(VolumeType::Replicate(3)).disks(&disks).start();
    let mount = volume.mount("/run/scene/m");
    fill(mount.path().join("file"), MIB, 1);
    let disk = cluster.node(1).disk(Fs::Xfs, 300 * MIB, "/run/scene/new");
    volume.replace_brick(1, &disk);
    assert_eq!(volume.brick(1).dir, Path::new("/run/scene/new/brick"));
    mount.wait_connected(3);
    volume.await_healed(SOON);
    same(&volume, "file");
    volume.reset_brick(2);
    mount.wait_connected(3);
    volume.await_healed(SOON);
    same(&volume, "file");
}
