//! Bricks that were away: what they have missed is healed, on replicate and disperse volumes.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use common::{MIB, Setup, ask, fsnap, names, sound};
use fsnap_testbed::{Errno, Layout, Volume, checksum, fill, getx, listx};

const HEALED_WITHIN: Duration = Duration::from_secs(60);
const REPLICA: Layout = Layout::Replicate(3);
const DISPERSE: Layout = Layout::Disperse { data: 2, redundancy: 1 };

fn setup(layout: Layout, bricks: usize) -> Setup {
    common::volume(layout, bricks, 1024 * MIB, |volume| volume)
}

/// What is below a brick's directory `dir`, `.fsnap` included: names, and of files gfid, size, catalogue, and content.
fn tree(brick: &Path, content: bool) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    visit(brick, brick, content, &mut all);
    all
}

fn visit(brick: &Path, dir: &Path, content: bool, all: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let shown = path.strip_prefix(brick).unwrap().display().to_string();
        if shown.starts_with(".glusterfs") {
            continue;
        }
        let gfid = getx(&path, "trusted.gfid").unwrap_or_default();
        let mut text = format!("{}", gfid.escape_ascii());
        if path.is_dir() {
            visit(brick, &path, content, all);
        } else {
            for name in listx(&path).unwrap() {
                let name = name.into_string().unwrap();
                if name.starts_with("trusted.fsnap.") || name.starts_with("user.") {
                    text += &format!(" {name}={}", getx(&path, &name).unwrap().escape_ascii());
                }
            }
            if content {
                text += &format!(" {} {:x}", fs::metadata(&path).unwrap().len(), checksum(&path));
            }
        }
        all.insert(shown, text);
    }
}

/// Waits until nothing is left to heal, and sees to it that the bricks of each set are the same. Fragments differ in content.
#[track_caller]
fn converges(volume: &Volume, layout: Layout, set: usize) {
    volume.await_healed(HEALED_WITHIN);
    // Disperse knows no split-brain.
    if !matches!(layout, Layout::Disperse { .. }) {
        assert_eq!(volume.split_brain(), Vec::<String>::new());
    }
    for first in (0..volume.bricks().len()).step_by(set) {
        let content = matches!(layout, Layout::Replicate(_));
        let trees: Vec<_> = (first..first + set).map(|n| tree(&volume.brick_path(n), content)).collect();
        for other in &trees[1..] {
            assert_eq!(&trees[0], other);
        }
    }
    sound(volume);
}

#[test]
fn created_and_deleted_while_a_brick_was_away() {
    for (layout, bricks) in [(REPLICA, 3), (DISPERSE, 3)] {
        println!("{layout:?}");
        let Setup { mount, volume, .. } = setup(layout, bricks);
        let dir = mount.path().join("d");
        fs::create_dir(&dir).unwrap();
        let file = dir.join("f");
        fill(&file, 5 * MIB + 123, 1);
        let first = checksum(&file);
        for name in ["stays", "goes", "again"] {
            fsnap(&file, "create", name).unwrap();
        }
        volume.kill_brick(2);
        mount.wait_connected(2);
        fsnap(&file, "delete", "goes").unwrap();
        fsnap(&file, "delete", "again").unwrap();
        fill(&file, 3 * MIB, 2);
        let second = checksum(&file);
        fsnap(&file, "create", "missed").unwrap();
        fsnap(&file, "create", "again").unwrap();
        fsnap(&file, "hold", "stays").unwrap();
        assert_eq!(names(&file), ["stays", "missed", "again"]);
        volume.restart_brick(2);
        mount.wait_connected(3);
        converges(&volume, layout, 3);
        assert_eq!(names(&file), ["stays", "missed", "again"]);
        // Whichever two are left know all.
        for down in [0, 1, 2] {
            volume.kill_brick(down);
            mount.wait_connected(2);
            let snapshot = |name: &str| dir.join(".fsnap").join(format!("f@{name}"));
            assert_eq!(checksum(snapshot("stays")), first);
            for name in ["missed", "again"] {
                assert_eq!(checksum(snapshot(name)), second, "{name} without brick {down}");
            }
            assert_eq!(fs::metadata(snapshot("goes")).unwrap_err().raw_os_error(), Some(libc::ENOENT));
            assert_eq!(fsnap(&file, "delete", "stays"), Err(Errno::EBUSY));
            assert_eq!(ask(&file, "info.missed").unwrap()["size"], 3 * MIB);
            volume.restart_brick(down);
            mount.wait_connected(3);
            volume.await_healed(HEALED_WITHIN);
        }
    }
}
