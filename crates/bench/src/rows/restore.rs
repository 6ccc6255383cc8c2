//! Restore by setxattr against what the file system needs for the same change.

use std::thread::sleep;
use std::time::Duration;

use fsnap_testbed::{VolumeType, setx};

use super::Scale;
use crate::bare::{bare_restore, raw_clone, raw_restore};
use crate::figure::{Figure, Goal, Outcome};
use crate::stage::{Caches, MIB, Medium, Mounted, Stage, create, delete, dirty, fragment, plain_set};
use crate::stats::{interleave, seconds};

/// What is changed before each restore.
const CHANGED: [u64; 3] = [0, 1, 3];

pub fn run(scale: Scale, outcome: &mut Outcome) {
    for medium in [Medium::Ram, Medium::Disk] {
        let stage = Stage::new(medium, 1, 2048 * MIB);
        let v = stage.volume("v", VolumeType::Distribute, 1, true, Caches::On);
        let most = scale.of(10_000);
        let sizes = if medium == Medium::Ram { vec![4, most / 100, most / 10, most] } else { vec![4, most] };
        for extents in sizes {
            measure(scale, outcome, &stage, &v, medium, extents);
        }
    }
}

/// A file of so many extents, of which three blocks differ from the snapshot.
fn measure(scale: Scale, outcome: &mut Outcome, stage: &Stage, v: &Mounted, medium: Medium, extents: u64) {
    let name = format!("f{extents}");
    let file = v.file(&name, 0);
    let brick = v.volume.brick(0).dir;
    fragment(&stage.scene, &brick.join(&name), extents);
    let (live, kept) = (stage.raw().join(&name), stage.raw().join(format!("{name}-kept")));
    for copy in [&live, &kept] {
        std::fs::write(copy, b"").expect("a file");
        raw_restore(copy, &v.on_brick(0, &name), false);
    }
    create(&file, "s").expect("a snapshot");
    let raw = stage.raw();
    let plain = v.file("plain", 4096);
    let changed: Vec<u64> = CHANGED.iter().map(|block| block * (extents / 4)).collect();
    // XFS gives up the extents of what was removed in the background: not in the next turn.
    let settled = |took: f64| {
        sleep(Duration::from_micros(10 * extents));
        took
    };
    let rounds = scale.rounds(if extents > 1000 { 20 } else { 100 });
    let measured = interleave(
        rounds,
        &mut [
            Box::new(|round| {
                dirty(&file, &changed, round);
                settled(seconds(|| setx(&file, "glusterfs.fsnap.restore", "s").expect("a restore")))
            }),
            Box::new(|_| seconds(|| plain_set(&plain))),
            Box::new(|round| {
                dirty(&live, &changed, round);
                settled(seconds(|| raw_restore(&live, &kept, true)))
            }),
            Box::new(|round| {
                dirty(&live, &changed, round);
                settled(seconds(|| raw_restore(&live, &kept, false)))
            }),
            Box::new(|_| settled(seconds(|| raw_clone(&raw, &kept)))),
            Box::new(|_| {
                let took = seconds(|| create(&file, "new").expect("a snapshot"));
                delete(&file, "new");
                settled(took)
            }),
            Box::new(|round| {
                dirty(&live, &changed, round);
                settled(seconds(|| bare_restore(&live, &kept)))
            }),
        ],
    );
    let [restored, trip, truncated, over, clone, created, bare] = &measured[..] else {
        unreachable!("seven take turns")
    };
    let beyond = restored.with(trip, |restored, trip| restored - trip);
    let what = format!("restore {}, {{}} extents, beyond a setxattr", medium.text());
    let figure = |what: &str| Figure::time(what, &beyond).at(extents);
    let of_few = extents == 4;
    let mut first = figure(&what).beside("raw truncate, FICLONE, fsync", &beyond, truncated);
    if of_few {
        first = first.goal(Goal::ratio(1.3));
    }
    outcome.add(first);
    if of_few {
        let all = figure(&format!("{what} (against all that it writes)"));
        outcome.add(all.beside("bare system calls", &beyond, bare));
    }
    let goal =
        |figure: Figure| if extents == scale.of(10_000) { figure.goal(Goal::ratio(1.1)) } else { figure };
    let second = figure(&format!("{what} (against the clone of it)"));
    outcome.add(goal(second.beside("raw FICLONE of it, fsync", &beyond, clone)));
    // What both share already the file system leaves alone.
    let third = figure(&format!("{what} (against a clone over it)"));
    outcome.add(goal(third.beside("raw FICLONE over the file, fsync", &beyond, over)));
    let floor = trip.with(clone, |trip, clone| trip + clone);
    let fourth = Figure::time(&format!("create {}, {{}} extents", medium.text()), created);
    outcome.add(fourth.at(extents).beside("setxattr + raw FICLONE of it, fsync", created, &floor));
}
