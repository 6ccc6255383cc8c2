//! How many snapshots are taken in a second, by one after the other and by many at once.

use std::path::PathBuf;
use std::thread;

use fsnap_testbed::{VolumeType, fill};

use super::Scale;
use crate::bare::raw_clone;
use crate::figure::{Figure, Goal, Outcome, Unit};
use crate::stage::{Caches, MIB, Medium, Mounted, Stage, create, delete, plain_set, sync};
use crate::stats::{interleave, seconds};

/// Snapshots of each file in a round.
const EACH: usize = 100;

pub fn run(scale: Scale, outcome: &mut Outcome) {
    for medium in [Medium::Ram, Medium::Disk] {
        let stage = Stage::new(medium, 1, 2048 * MIB);
        let v = stage.volume("v", VolumeType::Distribute, 1, true, Caches::On);
        for (threads, goal) in [(1, 2000.0), (16, 6000.0)] {
            measure(scale, outcome, &stage, &v, medium, threads, goal);
        }
    }
}

fn measure(
    scale: Scale,
    out: &mut Outcome,
    stage: &Stage,
    v: &Mounted,
    medium: Medium,
    threads: usize,
    goal: f64,
) {
    let files: Vec<PathBuf> = (0..threads).map(|n| v.file(&format!("t{threads}-{n}"), 65_536)).collect();
    let raw = stage.raw();
    let sources: Vec<PathBuf> = (0..threads).map(|n| raw.join(format!("t{threads}-{n}"))).collect();
    for source in &sources {
        fill(source, 65_536, 1);
        sync(source);
    }
    let measured = interleave(
        scale.rounds(15),
        &mut [
            Box::new(|_| {
                let took = at_once(&files, |file, n| create(file, &format!("s{n}")).expect("a snapshot"));
                at_once(&files, |file, n| delete(file, &format!("s{n}")));
                took
            }),
            Box::new(|_| at_once(&files, |file, _| plain_set(file))),
            Box::new(|_| at_once(&sources, |source, _| drop(raw_clone(&raw, source)))),
        ],
    );
    let who = match threads {
        1 => "one thread on one file".to_owned(),
        _ => format!("{threads} threads on {threads} files"),
    };
    let rates = |times: &crate::stats::Series| {
        crate::stats::Series(times.0.iter().map(|time| (EACH * threads) as f64 / time).collect())
    };
    let [creates, trips, clones] = &measured[..] else { unreachable!("three take turns") };
    let floor = trips.with(clones, |trips, clones| trips + clones);
    let text = format!("{goal} /s");
    let figure = |what: &str, times| {
        let what = format!("{what}, {who}, {}", medium.text());
        Figure::new(&what, Unit::Rate, rates(times).spread())
    };
    let all =
        figure("creates", creates).beside("setxattrs, then raw clones", &rates(creates), &rates(&floor));
    out.add(all.goal(Goal::least(goal, &text)));
    out.add(figure("plain setxattrs", trips));
}

/// Does it so often to each file, to all files at once; how long that takes.
fn at_once(files: &[PathBuf], act: impl Fn(&std::path::Path, usize) + Sync) -> f64 {
    seconds(|| {
        thread::scope(|scope| {
            for file in files {
                let act = &act;
                scope.spawn(move || (0..EACH).for_each(|n| act(file, n)));
            }
        });
    })
}
