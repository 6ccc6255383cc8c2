//! Replicas on several hosts, of which one is cut off or dies.
#![allow(missing_docs)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::{MIB, fsnap, sound};
use fsnap_testbed::{Cluster, Fs, Layout, Volume, checksum, fill, translator_path};

/// The checksums of all files of a brick that clients see, by their paths.
fn files(volume: &Volume, brick: usize) -> BTreeMap<PathBuf, u64> {
    fn collect(root: &Path, dir: &Path, files: &mut BTreeMap<PathBuf, u64>) {
        for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if entry.file_name() == ".glusterfs" {
                continue;
            } else if path.is_dir() {
                collect(root, &path, files);
            } else {
                files.insert(path.strip_prefix(root).unwrap().to_owned(), checksum(&path));
            }
        }
    }
    let root = volume.brick_path(brick);
    let mut found = BTreeMap::new();
    collect(&root, &root, &mut found);
    found
}

#[test]
fn a_node_that_was_away_is_healed() {
    let cluster = Cluster::new(3);
    cluster.install_translator(translator_path(), "fsnap");
    let disks = cluster.disks(1, Fs::Xfs, 1024 * MIB);
    let volume = cluster.volume("v").layout(Layout::Replicate(3)).disks(&disks).with_fsnap().start();
    let mount = volume.mount("/run/scene/m");
    let root = mount.path();
    let write = |seed: u64| {
        (0..10).for_each(|n| fill(root.join(format!("f{n}")), 20_000, seed + n));
        fill(root.join(format!("new{seed}")), MIB, seed);
    };
    let compare = || {
        volume.await_healed(Duration::from_secs(60));
        assert_eq!(volume.split_brain(), Vec::<String>::new());
        let first = files(&volume, 0);
        (1..3).for_each(|n| assert_eq!(files(&volume, n), first, "brick {n}"));
        first.len()
    };
    write(0);
    fsnap(root.join("f0"), "create", "s").unwrap();
    let snapshot = checksum(root.join(".fsnap/f0@s"));
    assert_eq!(compare(), 12);

    cluster.cut(1);
    write(100);
    assert_eq!(volume.running(), 3, "the brick runs, and nobody sees it");
    assert_eq!(mount.connected(), 2);
    cluster.join(1);
    cluster.await_back(&volume, &mount);
    assert_eq!(compare(), 13);

    // Also the node that has served the volume's description so far.
    cluster.kill_node(0);
    assert_eq!(volume.running(), 2);
    write(200);
    cluster.start_node(0);
    cluster.await_back(&volume, &mount);
    assert_eq!(compare(), 14);
    assert_eq!(checksum(root.join(".fsnap/f0@s")), snapshot);
    sound(&volume);
}
