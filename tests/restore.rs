//! Restores by way of the private client graph, on every kind of volume.
#![allow(missing_docs)]

mod common;

use std::fs;

use common::agree::converges;
use common::stage::Stage;
use common::{MIB, names, sees, volume};
use fsnap_testbed::{Layout, checksum, fill};

const REPLICA: Layout = Layout::Replicate(3);
const DISPERSE: Layout = Layout::Disperse { data: 2, redundancy: 1 };
const WIDE: Layout = Layout::Disperse { data: 4, redundancy: 2 };
const ALL: [(Layout, usize); 6] =
    [(Layout::Distribute, 2), (REPLICA, 3), (Layout::Arbiter, 3), (DISPERSE, 3), (WIDE, 6), (REPLICA, 6)];

fn stage(layout: Layout, bricks: usize) -> Stage {
    Stage::new(volume(layout, bricks, 1024 * MIB, |volume| volume))
}

/// How many bricks share a file.
fn set(layout: Layout) -> usize {
    match layout {
        Layout::Distribute => 1,
        Layout::Replicate(count) => count,
        Layout::Arbiter => 3,
        Layout::Disperse { data, redundancy } => data + redundancy,
    }
}

/// All bricks have the same, and nothing is left to heal.
fn settled(stage: &Stage, layout: Layout) {
    if layout != Layout::Distribute {
        converges(&stage.0.volume, layout, set(layout));
    }
}

#[test]
fn sizes() {
    for (layout, bricks) in ALL {
        println!("{layout:?} on {bricks}");
        let stage = stage(layout, bricks);
        let file = stage.file("f");
        let mut sums = Vec::new();
        for (n, size) in [5 * MIB + 123, 0, 1, 3 * MIB, 511, 512, 9 * MIB + 4097].into_iter().enumerate() {
            fill(&file, size, n as u64);
            stage.ok(["create", "f", "--name", &format!("s{n}")]);
            sums.push((checksum(&file), size));
        }
        for n in [0, 6, 1, 5, 2, 4, 3, 0] {
            println!("{n}");
            stage.restore("f", &format!("s{n}"));
            sees(&file, sums[n].0);
            assert_eq!(fs::metadata(&file).unwrap().len(), sums[n].1);
        }
        settled(&stage, layout);
        assert_eq!(names(&file).len(), 7);
    }
}
