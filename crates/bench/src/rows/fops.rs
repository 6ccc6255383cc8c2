//! Fops of ordinary files: on a brick that has snapshots of other files, against the same volume without fsnap in its graph.

use std::fs::{self, File, OpenOptions, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use fsnap_testbed::{VolumeType, getx, setx};

use super::Scale;
use crate::bare::bare_question;
use crate::figure::{Figure, Goal, Outcome};
use crate::stage::{Caches, MIB, Medium, Mounted, Stage, create_many};
use crate::stats::{Series, Spread, seconds};

/// Files that a round is about.
const FILES: usize = 50;
/// Files with snapshots on the brick, and how many each has.
const OTHERS: (usize, u64) = (20, 50);

/// What is done to the file or directory of a number in a directory.
type Act = fn(&Path, usize);

/// What is done, and what is done before to make it possible, and after to take it back, neither of which is timed.
struct Fop {
    name: &'static str,
    before: Act,
    act: Act,
    after: Act,
}

fn nothing(_: &Path, _: usize) {}

fn file(dir: &Path, n: usize) -> PathBuf {
    dir.join(format!("f{n}"))
}

fn other(dir: &Path, n: usize) -> PathBuf {
    dir.join(format!("o{n}"))
}

fn remove_other(dir: &Path, n: usize) {
    fs::remove_file(other(dir, n)).expect("unlink");
}

fn make_other(dir: &Path, n: usize) {
    fs::write(other(dir, n), b"x").expect("a file");
}

fn link_other(dir: &Path, n: usize) {
    fs::hard_link(file(dir, n), other(dir, n)).expect("link");
}

/// Those that remove or rename: fsnap has to know whether the file has snapshots.
const NAMES: [Fop; 4] = [
    Fop {
        name: "rename",
        before: make_other,
        act: |dir, n| fs::rename(other(dir, n), dir.join(format!("r{n}"))).expect("rename"),
        after: |dir, n| fs::remove_file(dir.join(format!("r{n}"))).expect("unlink"),
    },
    Fop { name: "unlink", before: make_other, act: remove_other, after: nothing },
    Fop { name: "link", before: nothing, act: link_other, after: remove_other },
    Fop {
        name: "rmdir",
        before: |dir, n| fs::create_dir(other(dir, n)).expect("mkdir"),
        act: |dir, n| fs::remove_dir(other(dir, n)).expect("rmdir"),
        after: nothing,
    },
];

/// All others.
const OTHERS_OF_FOPS: [Fop; 8] = [
    Fop {
        name: "lookup",
        before: nothing,
        act: |dir, n| assert!(fs::metadata(file(dir, n)).expect("stat").is_file()),
        after: nothing,
    },
    Fop {
        name: "lookup of what is not there",
        before: nothing,
        act: |dir, n| drop(fs::metadata(dir.join(format!("none{n}"))).expect_err("nothing is there")),
        after: nothing,
    },
    Fop {
        name: "create",
        before: nothing,
        act: |dir, n| drop(File::create(other(dir, n)).expect("create")),
        after: remove_other,
    },
    Fop {
        name: "open and read",
        before: nothing,
        act: |dir, n| drop(fs::read(file(dir, n)).expect("read")),
        after: nothing,
    },
    Fop {
        name: "open and write",
        before: nothing,
        act: |dir, n| {
            let file = OpenOptions::new().write(true).open(file(dir, n)).expect("open");
            file.write_all_at(&[7; 4096], 0).expect("write");
        },
        after: nothing,
    },
    Fop {
        name: "setattr",
        before: nothing,
        act: |dir, n| fs::set_permissions(file(dir, n), Permissions::from_mode(0o640)).expect("chmod"),
        after: nothing,
    },
    Fop {
        name: "getxattr",
        before: nothing,
        act: |dir, n| drop(getx(file(dir, n), "user.colour").expect("getxattr")),
        after: nothing,
    },
    Fop {
        name: "readdir",
        before: nothing,
        act: |dir, _| assert!(fs::read_dir(dir).expect("opendir").count() >= FILES),
        after: nothing,
    },
];

/// The row of rename, unlink, link and rmdir.
pub fn names(scale: Scale, outcome: &mut Outcome) {
    measure(scale, outcome, &NAMES, scale.rounds(100), Caches::On);
}

/// The row of all others.
pub fn others(scale: Scale, outcome: &mut Outcome) {
    measure(scale, outcome, &OTHERS_OF_FOPS, scale.rounds(45), Caches::Off);
    outcome.note("instructions of each fop: `cargo run --release --example instructions`");
}

fn measure(scale: Scale, outcome: &mut Outcome, fops: &[Fop], rounds: usize, caches: Caches) {
    let goals = caches == Caches::On;
    let stage = Stage::new(Medium::Ram, 1, 2048 * MIB);
    let volume = |name: &str, fsnap| stage.volume(name, VolumeType::Distribute, 1, fsnap, caches);
    let volumes = [volume("without", false), volume("control", false), volume("with", true)];
    for n in 0..OTHERS.0 {
        create_many(&volumes[2].file(&format!("s{n}"), 4096), scale.of(OTHERS.1));
    }
    let dirs = volumes.each_ref().map(prepared);
    let asked = goals.then(|| volumes[2].on_brick(0, "dir"));
    for fop in fops {
        let mut measured = vec![Series::default(); dirs.len() + 1];
        for round in 0..=rounds {
            for (series, middle) in measured.iter_mut().zip(turn(fop, &dirs, asked.as_deref())) {
                if round > 0 {
                    series.0.push(middle);
                }
            }
        }
        let [without, control, with, question] = &measured[..] else { unreachable!("four take turns") };
        let figure = |what: &str, times: &Series| {
            Figure::time(&format!("{}{what}", fop.name), times).beside("without fsnap", times, without)
        };
        let goal = |figure: Figure| if goals { figure.goal(Goal::ratio(1.01)) } else { figure };
        outcome.add(goal(figure(", with snapshots on the brick", with)));
        outcome.add(figure(": control, without fsnap", control));
        if ["rename", "unlink"].contains(&fop.name) {
            let floor = without.with(question, |without, question| without + question);
            outcome.add(figure(": without fsnap, and a look at the disk by bare system calls", &floor));
        }
    }
    outcome.note(format!(
        "{rounds} rounds of {FILES} files, of which the median counts; file by file the volumes take turns"
    ));
}

/// One round: what it takes in each directory, the median of all files, and what it takes to look at each file in `asked`, which is the last
/// one on its brick. File by file they take turns.
fn turn(fop: &Fop, dirs: &[PathBuf; 3], asked: Option<&Path>) -> [f64; 4] {
    dirs.iter().for_each(|dir| (0..FILES).for_each(|n| (fop.before)(dir, n)));
    let mut times = [const { Vec::new() }; 4];
    for n in 0..FILES {
        times[3].push(asked.map_or(0.0, |dir| seconds(|| bare_question(dir, &format!("f{n}")))));
        for place in 0..dirs.len() {
            let place = (place + n) % dirs.len();
            times[place].push(seconds(|| (fop.act)(&dirs[place], n)));
        }
    }
    dirs.iter().for_each(|dir| (0..FILES).for_each(|n| (fop.after)(dir, n)));
    times.map(|times| Spread::of(&times).median)
}

/// A directory with files.
fn prepared(volume: &Mounted) -> PathBuf {
    let dir = volume.path("dir");
    fs::create_dir(&dir).expect("a directory");
    for n in 0..FILES {
        fs::write(file(&dir, n), [1; 4096]).expect("a file");
        setx(file(&dir, n), "user.colour", "red").expect("an xattr");
    }
    dir
}
