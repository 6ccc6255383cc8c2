//! What ordinary reads and writes notice of fsnap: fio, and small files, on volumes that differ in nothing else.

use std::fs;
use std::path::Path;

use fsnap_testbed::{VolumeType, run as finish};
use serde_json::Value;

use super::Scale;
use crate::figure::{Figure, Outcome, Unit};
use crate::stage::{Caches, MIB, Medium, Mounted, Stage, create, create_many, delete};
use crate::stats::{Series, Turn, interleave, seconds};

const LAYOUTS: [(&str, VolumeType, usize); 3] = [
    ("distribute", VolumeType::Distribute, 2),
    ("replica 3", VolumeType::Replicate(3), 3),
    ("disperse 2+1", VolumeType::Disperse { data: 2, redundancy: 1 }, 3),
];

/// What fio does.
const JOBS: [(&str, &str, &str); 5] = [
    ("4 KiB random reads", "randread", "4k"),
    ("4 KiB random writes", "randwrite", "4k"),
    ("4 KiB random reads and writes", "randrw", "4k"),
    ("1 MiB sequential reads", "read", "1m"),
    ("1 MiB sequential writes", "write", "1m"),
];

/// The volumes: their names, what they are, and whether they have fsnap.
const VOLUMES: [(&str, &str, bool); 5] = [
    ("without", "without fsnap", false),
    ("control", "control, without fsnap", false),
    ("none", "no snapshots", true),
    ("brick", "snapshots on the brick", true),
    ("file", "a new snapshot of the file", true),
];

/// Files that have snapshots on the brick, and how many each has.
const OTHERS: (usize, u64) = (20, 20);
/// Small files in a round.
const SMALL: usize = 60;

pub fn run(scale: Scale, outcome: &mut Outcome) {
    for (name, layout, bricks) in LAYOUTS {
        measure(scale, outcome, name, layout, bricks);
    }
    outcome
        .note("in RAM; fio with direct=1 and psync, one job; a new snapshot: one is taken before each run");
}

fn measure(scale: Scale, outcome: &mut Outcome, name: &str, layout: VolumeType, bricks: usize) {
    let stage = Stage::new(Medium::Ram, bricks, 4096 * MIB);
    let size = scale.of(160) * MIB;
    let volumes = VOLUMES.map(|(name, _, fsnap)| {
        let v = stage.volume(name, layout, bricks, fsnap, Caches::On);
        v.file("file", size);
        fs::create_dir(v.path("small")).expect("a directory");
        v
    });
    for n in 0..OTHERS.0 {
        create_many(&volumes[3].file(&format!("s{n}"), 4096), OTHERS.1);
    }
    let has_fio = stage.scene.command("fio").arg("--version").output().is_ok_and(|o| o.status.success());
    if !has_fio {
        outcome.note("fio is not installed: skipped");
    }
    let (rounds, time) = if scale.quick { (1, "300ms") } else { (10, "600ms") };
    for (text, rw, block) in JOBS.iter().filter(|_| has_fio) {
        let turn = |n: usize| -> Turn<'_> {
            let (stage, v) = (&stage, &volumes[n]);
            Box::new(move |round| {
                renew(v, n, round);
                let file = format!("--filename={}", v.inside("file"));
                fio(
                    stage,
                    &[&file, &format!("--rw={rw}"), &format!("--bs={block}"), &format!("--runtime={time}")],
                    size,
                )
            })
        };
        let measured = interleave(rounds, &mut [0, 1, 2, 3, 4].map(turn));
        report(outcome, &format!("{text}, {name}"), Unit::Throughput, &measured);
    }
    let turn = |n: usize| -> Turn<'_> {
        let v = &volumes[n];
        Box::new(move |round| {
            renew(v, n, round);
            SMALL as f64 / seconds(|| small_files(&v.path("small"), round))
        })
    };
    let measured = interleave(rounds * 3, &mut [0, 1, 2, 3, 4].map(turn));
    report(outcome, &format!("small files, {name}"), Unit::Rate, &measured);
}

/// A new snapshot of the file, where it is to have one: what was written since the last is no longer shared.
fn renew(v: &Mounted, n: usize, round: usize) {
    if n != VOLUMES.len() - 1 {
        return;
    }
    let file = v.path("file");
    let (old, new) = (format!("r{}", round.wrapping_sub(1)), format!("r{round}"));
    if fsnap_testbed::getx(&file, format!("glusterfs.fsnap.info.{new}")).is_ok() {
        delete(&file, &new);
    }
    create(&file, &new).expect("a snapshot");
    if fsnap_testbed::getx(&file, format!("glusterfs.fsnap.info.{old}")).is_ok() {
        delete(&file, &old);
    }
}

/// MiB each second.
fn fio(stage: &Stage, args: &[&str], size: u64) -> f64 {
    let mut command = stage.scene.command("fio");
    command.args(["--name=bench", "--ioengine=psync", "--direct=1", "--time_based", "--output-format=json"]);
    let output = finish(command.arg(format!("--size={size}")).args(args));
    let text = String::from_utf8_lossy(&output.stdout);
    let json = &text[text.find('{').expect("an object")..];
    let report: Value = serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {json}"));
    let bandwidth = |way: &str| report["jobs"][0][way]["bw_bytes"].as_f64().expect("bytes each second");
    (bandwidth("read") + bandwidth("write")) / MIB as f64
}

/// Makes and writes files, and takes the place of those that were there.
fn small_files(dir: &Path, round: usize) {
    for n in 0..SMALL {
        fs::write(dir.join(format!("{round}-{n}")), [7; 4096]).expect("a small file");
    }
}

fn report(outcome: &mut Outcome, what: &str, unit: Unit, measured: &[Series]) {
    for ((_, state, _), values) in VOLUMES.iter().zip(measured).skip(1) {
        let figure = Figure::new(&format!("{what}: {state}"), unit, values.spread());
        outcome.add(figure.beside("without fsnap", values, &measured[0]));
    }
}
