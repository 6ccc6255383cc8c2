//! How many lookups come to the bricks when a snapshot is opened by name for the first time.

use std::fs::{self, File};
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use fsnap_testbed::{Volume, VolumeType};

use super::Scale;
use crate::figure::{Figure, Outcome, Unit};
use crate::stage::{Caches, MIB, Medium, Mounted, Stage, create};
use crate::stats::Spread;

const WITH: &str = "each snapshot, its .fsnap known, with the option";
/// What is hashed of a name then: what is before its first `@`.
const REGEX: &str = "^([^@]+)@.+$";
/// How many files are opened where the figure is a mean.
const EACH: u32 = 16;

pub fn run(scale: Scale, outcome: &mut Outcome) {
    let counts: &[usize] = if scale.quick { &[2, 8] } else { &[2, 8, 32] };
    for &bricks in counts {
        let stage = Stage::new(Medium::Ram, 1, 2048 * MIB);
        let v = stage.volume("v", VolumeType::Distribute, bricks, true, Caches::On);
        let dir = v.path("dir");
        fs::create_dir(&dir).expect("a directory");
        let file = v.file("dir/f", 4096);
        create(&file, "s").expect("a snapshot");
        fs::create_dir(dir.join("other")).expect("a directory");
        fs::write(dir.join("other/f"), b"x").expect("a file");
        v.volume.gluster(["volume", "profile", "v", "start"]).expect("profile");
        for (what, name) in [("a snapshot", ".fsnap/f@s"), ("a file in a directory", "other/f")] {
            // A client that knows nothing; `dir` it has seen.
            let at = format!("/run/scene/new-{}", name.len());
            let mount = v.volume.mount(&at);
            fs::metadata(mount.path().join("dir")).expect("a directory");
            let all =
                count(&v.volume, || drop(File::open(mount.path().join("dir").join(name)).expect("open")));
            let what = format!("lookups at {{}} bricks, first open of {what}");
            outcome.add(Figure::new(&what, Unit::Count, Spread::of(&[all])).at(bricks as u64));
            let again = count(&v.volume, || reopen(&mount.path().join("dir").join(name)));
            let what = format!("{what}, then once more after its names were forgotten");
            outcome.add(Figure::new(&what, Unit::Count, Spread::of(&[again])).at(bricks as u64));
        }
        known_directory(&v, bricks as u64, outcome);
    }
    outcome.note("counted by `gluster volume profile`, all bricks together");
    outcome.note(format!(
        "\"each\": the mean of {EACH}; \"the option\" is `cluster.extra-hash-regex '{REGEX}'`"
    ));
}

/// Of several files: what one more costs where the directory is known, by way of a client that has opened nothing there.
fn known_directory(v: &Mounted, bricks: u64, outcome: &mut Outcome) {
    for n in 0..EACH {
        create(&v.file(&format!("dir/e{n}"), 4096), "s").expect("a snapshot");
    }
    for (what, dir, suffix) in [
        ("each file, its directory known", "dir", ""),
        ("each snapshot, its .fsnap known", "dir/.fsnap", "@s"),
        (WITH, "dir/.fsnap", "@s"),
    ] {
        if what == WITH {
            v.volume.set("cluster.extra-hash-regex", REGEX);
        }
        let at = format!("/run/scene/known-{}", what.len());
        let mount = v.volume.mount_with(&at, &["--entry-timeout=60", "--attribute-timeout=60"]);
        let dir = mount.path().join(dir);
        fs::metadata(&dir).expect("a directory");
        let all = count(&v.volume, || {
            for n in 0..EACH {
                drop(File::open(dir.join(format!("e{n}{suffix}"))).expect("open"));
            }
        });
        let what = format!("lookups at {{}} bricks, first open of {what}");
        outcome.add(Figure::new(&what, Unit::Count, Spread::of(&[all / f64::from(EACH)])).at(bricks));
    }
}

/// Opens it when the kernel's names are older than a second (entry-timeout).
fn reopen(path: &Path) {
    sleep(Duration::from_millis(1500));
    drop(File::open(path).expect("open"));
}

/// How many lookups come to the bricks by what is done.
fn count(volume: &Volume, act: impl FnOnce()) -> f64 {
    let before = volume.calls("LOOKUP");
    act();
    (volume.calls("LOOKUP") - before) as f64
}
