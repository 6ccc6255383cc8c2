//! Whether the bricks of a set hold the same.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use fsnap_testbed::{Volume, VolumeType, checksum, getx, listx, try_wait_until};

use super::sound;

pub const HEALED_WITHIN: Duration = Duration::from_secs(60);
pub const SAME_WITHIN: Duration = Duration::from_secs(20);

/// How many bricks share a file.
pub fn set(layout: VolumeType) -> usize {
    match layout {
        VolumeType::Distribute => 1,
        VolumeType::Replicate(count) => count,
        VolumeType::Arbiter => 3,
        VolumeType::Disperse { data, redundancy } => data + redundancy,
    }
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

/// What is not the same on all bricks of a set. Fragments differ in content.
pub fn differences(volume: &Volume, layout: VolumeType) -> Vec<String> {
    let set = set(layout);
    // Nor has an arbiter any.
    let content = matches!(layout, VolumeType::Replicate(_));
    let mut found = Vec::new();
    for first in (0..volume.bricks().len()).step_by(set) {
        let trees: Vec<_> = (first..first + set).map(|n| tree(&volume.brick_path(n), content)).collect();
        for (n, other) in trees.iter().enumerate().skip(1) {
            let all: BTreeSet<_> = trees[0].keys().chain(other.keys()).collect();
            for name in all.into_iter().filter(|name| trees[0].get(*name) != other.get(*name)) {
                let (one, other) = (trees[0].get(name), other.get(name));
                found.push(format!("bricks {first} and {}: {name}: {one:?} {other:?}", first + n));
            }
        }
    }
    found
}

/// Waits until nothing is left to heal and the bricks of each set are the same.
#[track_caller]
pub fn converges(volume: &Volume, layout: VolumeType) {
    volume.await_healed(HEALED_WITHIN);
    // Disperse knows no split-brain.
    let dispersed = matches!(layout, VolumeType::Disperse { .. });
    if !dispersed {
        assert_eq!(volume.split_brain(), Vec::<String>::new());
    }
    // A deleted file loses its content a moment later. And what is marked on one brick disperse may count for nothing as long as somebody
    // has it locked (`_need_heal_calculate`): its daemon comes again after the `heal-timeout`, or when it is told to.
    let mut told = Instant::now();
    let same = try_wait_until("the bricks are the same", SAME_WITHIN, || {
        let same = differences(volume, layout).is_empty();
        if dispersed && !same && told.elapsed() > Duration::from_secs(2) {
            volume.heal();
            told = Instant::now();
        }
        same
    });
    assert!(same.is_ok(), "{:#?}", differences(volume, layout));
    sound(volume);
}
