//! Walks over many files with many snapshots: the checker's of a brick, and the command's of a volume.

use std::path::PathBuf;
use std::process::Command;
use std::thread;

use fsnap_testbed::VolumeType;

use super::Scale;
use crate::figure::{Figure, Goal, Outcome};
use crate::stage::{Caches, MIB, Medium, Mounted, Stage, create_many};
use crate::stats::{interleave, seconds};

/// Snapshots of each file.
const EACH: u64 = 10;
/// Files in a directory.
const IN_DIRECTORY: u64 = 500;
const THREADS: u64 = 8;

pub fn run(scale: Scale, outcome: &mut Outcome) {
    let stage = Stage::new(Medium::Ram, 1, 8192 * MIB);
    let v = stage.volume("v", VolumeType::Distribute, 1, true, Caches::On);
    let most = scale.of(10_000);
    let mut made = 0;
    for files in [most / 10, most / 3, most] {
        populate(&v, made, files);
        made = files;
        measure(scale, outcome, &stage, &v, files);
    }
    outcome.note(format!("{EACH} snapshots of each file, {IN_DIRECTORY} files in a directory"));
}

fn measure(scale: Scale, outcome: &mut Outcome, stage: &Stage, v: &Mounted, files: u64) {
    let brick = v.volume.brick(0).dir.display().to_string();
    let at = v.mount.at().display().to_string();
    let shell = |script: &str, of: &str| {
        let mut command = stage.scene.command("sh");
        command.args(["-ec", script, "sh", of]);
        command
    };
    let timed = |mut command: Command| {
        seconds(|| {
            let output = command.output().expect("a command");
            // Of the checker, 1 is that there are problems.
            assert!(output.status.code().is_some_and(|code| code < 2), "{command:?}: {output:?}");
        })
    };
    let measured = interleave(
        if scale.quick { 2 } else { 3 },
        &mut [
            Box::new(|_| timed(stage.checker(&[&brick]))),
            Box::new(|_| {
                timed(shell("find \"$1\" >/dev/null; getfattr -R -d -m - -h \"$1\" >/dev/null 2>&1", &brick))
            }),
            Box::new(|_| timed(stage.fsnap(&["list", "-r", &at]))),
            Box::new(|_| timed(shell("find \"$1\" -type f -exec getfattr -d {} + >/dev/null 2>&1", &at))),
            // What is asked of the bricks, and nothing else.
            Box::new(|_| {
                timed(shell(
                    "find \"$1\" -type f -exec getfattr -n glusterfs.fsnap.list {} + >/dev/null 2>&1",
                    &at,
                ))
            }),
        ],
    );
    let [check, brick_walk, list, walk, asked] = &measured[..] else { unreachable!("five take turns") };
    let check = Figure::time("fsnap-check of {} files", check).beside(
        "find, getfattr -R of the brick",
        check,
        brick_walk,
    );
    let goal =
        |figure: Figure| if files == scale.of(10_000) { figure.goal(Goal::ratio(1.2)) } else { figure };
    outcome.add(goal(check.at(files)));
    let list =
        Figure::time("fsnap list -r of {} files", list).beside("find, getfattr on the mount", list, walk);
    outcome.add(goal(list.at(files)));
    let asked = Figure::time("getfattr -n glusterfs.fsnap.list of {} files", asked).beside(
        "find, getfattr on the mount",
        asked,
        walk,
    );
    outcome.add(asked.at(files));
}

/// Makes the files of the numbers `from` to `to`, and their snapshots.
fn populate(v: &Mounted, from: u64, to: u64) {
    let path = |n: u64| -> PathBuf { v.path(&format!("d{}", n / IN_DIRECTORY)).join(format!("f{n}")) };
    for dir in from / IN_DIRECTORY..=(to - 1) / IN_DIRECTORY {
        std::fs::create_dir_all(v.path(&format!("d{dir}"))).expect("a directory");
    }
    thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || {
                for n in (from..to).filter(|n| n % THREADS == thread) {
                    std::fs::write(path(n), b"content").expect("a file");
                    assert_eq!(create_many(&path(n), EACH), EACH, "snapshots are taken");
                }
            });
        }
    });
}
