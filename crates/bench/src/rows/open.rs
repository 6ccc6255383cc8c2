//! Stat and open of files with many snapshots, against one that has none, where every call goes to three bricks.

use std::fs::{self, File};
use std::path::Path;

use fsnap_testbed::VolumeType;

use super::Scale;
use crate::bare::bare_pages;
use crate::figure::{Figure, Goal, Outcome};
use crate::stage::{Caches, MIB, Medium, Stage, create_many};
use crate::stats::{Turn, interleave, seconds};

/// Calls in a round.
const CALLS: usize = 20;

pub fn run(scale: Scale, outcome: &mut Outcome) {
    let stage = Stage::new(Medium::Ram, 3, 1024 * MIB);
    let v = stage.volume("v", VolumeType::Replicate(3), 3, true, Caches::Off);
    v.allow_many();
    let mut files = vec![(0, v.file("f0", 4096)), (0, v.file("control", 4096))];
    for count in [16, 64, 256, 1000] {
        let file = v.file(&format!("f{count}"), 4096);
        let there = create_many(&file, count);
        if there < count {
            outcome.note(format!("{count} snapshots of a file: refused after {there}"));
        } else {
            files.push((count, file));
        }
    }
    if let Some((count, file)) = files.last() {
        let on_bricks = (0..3).map(|n| v.on_brick(n, &file.file_name().expect("a name").to_string_lossy()));
        let on_bricks: Vec<_> = on_bricks.collect();
        let mut turn: [Turn<'_>; 1] =
            [Box::new(|_| seconds(|| on_bricks.iter().for_each(|file| bare_pages(file))))];
        let measured = interleave(scale.rounds(100), &mut turn);
        let what = "what storage/posix does to read the catalogue of {} snapshots, on three bricks, by bare system calls";
        outcome.add(Figure::time(what, &measured[0]).at(*count));
    }
    outcome.note(
        "no cache in client and kernel: a stat is a lookup and a stat, an open a lookup, an open and a flush",
    );
    type Call = fn(&Path);
    let calls: [(&str, Call); 2] = [
        ("stat", |file| assert!(fs::metadata(file).expect("stat").is_file())),
        ("open", |file| drop(File::open(file).expect("open"))),
    ];
    for (name, call) in calls {
        let turn = |(_, file): &'_ (u64, std::path::PathBuf)| -> Turn<'_> {
            let file = file.clone();
            Box::new(move |_| seconds(|| (0..CALLS).for_each(|_| call(&file))) / CALLS as f64)
        };
        let mut turns: Vec<Turn<'_>> = files.iter().map(turn).collect();
        let measured = interleave(scale.rounds(100), &mut turns);
        for ((count, _), times) in files.iter().zip(&measured).skip(1) {
            let what = match count {
                0 => format!("{name}, replica 3: control, no snapshots"),
                _ => format!("{name}, replica 3, {{}} snapshots"),
            };
            let mut figure = Figure::time(&what, times).beside("no snapshots", times, &measured[0]);
            if *count > 0 {
                figure = figure.at(*count);
            }
            if *count == 256 {
                figure = figure.goal(Goal::ratio(1.05));
            }
            outcome.add(figure);
        }
    }
}
