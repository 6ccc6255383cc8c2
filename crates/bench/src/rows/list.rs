//! `glusterfs.fsnap.list` of files with more and more snapshots, beyond what any getxattr takes.

use std::path::{Path, PathBuf};

use fsnap_testbed::VolumeType;

use super::Scale;
use crate::bare::bare_look;
use crate::figure::{Figure, Goal, Outcome, Unit};
use crate::stage::{Caches, MIB, Medium, Stage, create_many, plain_set};
use crate::stats::{Turn, interleave, seconds};

/// What the kernel hands out at most (`XATTR_SIZE_MAX`).
const LARGEST: usize = 1 << 16;
/// Calls in a round.
const CALLS: usize = 10;

pub fn run(scale: Scale, outcome: &mut Outcome) {
    let stage = Stage::new(Medium::Ram, 1, 2048 * MIB);
    let v = stage.volume("v", VolumeType::Distribute, 1, true, Caches::On);
    v.allow_many();
    let mut files = Vec::new();
    for count in [1, 16, 64, 256, 1000] {
        let file = v.file(&format!("f{count}"), 4096);
        let there = create_many(&file, count);
        if there < count {
            outcome.note(format!("{count} snapshots of a file: refused after {there}"));
        } else if let Err(why) = get(&file, "glusterfs.fsnap.list") {
            outcome.note(format!("list of {count} snapshots: {why}"));
        } else {
            files.push((count, file));
        }
    }
    let plain = v.file("plain", 4096);
    plain_set(&plain);
    let call = |file: &Path, key: &str| {
        let call = || get(file, key).expect("an answer");
        seconds(|| (0..CALLS).map(|_| call()).sum::<usize>()) / CALLS as f64
    };
    let most = files.last().map_or(0, |(count, _)| *count);
    let payload = |n| v.on_brick(0, &format!(".fsnap/f{most}@s{n}"));
    let payloads: Vec<PathBuf> = (0..most).map(payload).collect();
    let mut turns: Vec<Turn<'_>> = vec![Box::new(|_| call(&plain, "user.plain"))];
    turns.extend(
        files.iter().map(|(_, file)| -> Turn<'_> { Box::new(|_| call(file, "glusterfs.fsnap.list")) }),
    );
    turns.push(Box::new(|_| seconds(|| payloads.iter().for_each(|payload| bare_look(payload)))));
    let measured = interleave(scale.rounds(60), &mut turns);
    let (trip, bare) = (&measured[0], &measured[measured.len() - 1]);
    outcome.add(Figure::time("what a list has to read of {} snapshots, by bare system calls", bare).at(most));
    for ((count, file), times) in files.iter().zip(&measured[1..]) {
        let beyond = times.with(trip, |list, trip| list - trip);
        let mut figure = Figure::time("list of {} snapshots, beyond a getxattr", &beyond).at(*count);
        figure.beside = Some(("a getxattr".to_owned(), trip.spread()));
        if *count == 256 {
            figure = figure.goal(Goal::most(1e-3, "1 ms"));
            let bytes = get(file, "glusterfs.fsnap.list").expect("an answer");
            outcome.note(format!("the answer for 256 snapshots has {bytes} bytes"));
        }
        outcome.add(figure);
    }
    let growth = measured[..=files.len()].last().zip(files.last()).map(|(times, (count, _))| {
        times.with(&measured[1], |many, one| (many - one) / (*count - 1) as f64).spread()
    });
    outcome.figures.extend(growth.map(|each| Figure::new("list: each further snapshot", Unit::Time, each)));
}

/// One call, with room for the whole answer; returns how long that is.
fn get(file: &Path, key: &str) -> Result<usize, rustix::io::Errno> {
    let mut room = vec![0_u8; LARGEST];
    rustix::fs::getxattr(file, key, &mut room[..])
}
