//! The command, from its start to its end, on replicate volumes.

use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use fsnap_testbed::{VolumeType, run as finish, setx};

use super::Scale;
use crate::figure::{Figure, Goal, Outcome};
use crate::stage::{Caches, MIB, Medium, Stage, dirty};
use crate::stats::{Series, interleave, seconds};

/// Files of one command.
const FILES: usize = 9;
/// A client of libgfapi that connects to a volume and ends, in the scene.
const FLOOR: &str = "/run/private/floor";

pub fn run(scale: Scale, outcome: &mut Outcome) {
    for medium in [Medium::Ram, Medium::Disk] {
        measure(scale, outcome, medium);
    }
    outcome.note("`true` started in the same way, in the namespaces of the scene, is subtracted");
}

fn measure(scale: Scale, outcome: &mut Outcome, medium: Medium) {
    let stage = Stage::new(medium, 3, 1024 * MIB);
    let v = stage.volume("v", VolumeType::Replicate(3), 3, true, Caches::On);
    let files: Vec<String> = (0..FILES).map(|n| format!("f{n}")).collect();
    for name in &files {
        v.file(name, MIB);
    }
    let paths: Vec<String> = files.iter().map(|name| v.inside(name)).collect();
    let timed = |mut command: Command| seconds(|| finish(&mut command));
    let snapshots = |count: usize, name: &str| -> Vec<String> {
        paths[..count].iter().map(|path| format!("{path}@{name}")).collect()
    };
    let words = |before: &[&str], rest: &[String]| {
        let all: Vec<String> = before.iter().map(|word| (*word).to_owned()).chain(rest.to_vec()).collect();
        stage.fsnap(&all.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let create = |count: usize| {
        let took = timed(words(&["create", "--name", "new"], &paths[..count]));
        finish(&mut words(&["delete"], &snapshots(count, "new")));
        took
    };
    finish(&mut words(&["create", "--name", "kept"], &paths));
    // The command waits until the mount shows what was restored, and md-cache may remember for a second.
    let bare = stage.volume("w", VolumeType::Replicate(3), 3, true, Caches::Off);
    bare.file("f0", MIB);
    finish(&mut words(&["create", "--name", "kept"], &[bare.inside("f0")]));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/command/floor.c");
    finish(stage.scene.command("cc").arg("-o").arg(FLOOR).arg(source).arg("-lgfapi"));
    let set_bare = |verb: &str, name: &str| {
        setx(bare.path("f0"), format!("glusterfs.fsnap.{verb}"), name)
            .unwrap_or_else(|errno| panic!("{verb}: {errno}"));
    };
    let measured = interleave(
        scale.rounds(20),
        &mut [
            Box::new(|_| timed(stage.scene.command("true"))),
            Box::new(|_| create(1)),
            Box::new(|_| create(FILES)),
            Box::new(|round| {
                dirty(&bare.path("f0"), &[round as u64 % 256], round);
                timed(words(&["restore", "--yes", "--no-backup"], &[format!("{}@kept", bare.inside("f0"))]))
            }),
            Box::new(|round| {
                dirty(&v.path("f0"), &[round as u64 % 256], round);
                // Replicate lets go of what was written a second after (cluster.post-op-delay-secs).
                sleep(Duration::from_millis(1500));
                timed(words(&["restore", "--yes", "--no-backup"], &snapshots(1, "kept")))
            }),
            Box::new(|_| {
                timed({
                    let mut command = stage.scene.command(FLOOR);
                    command.args(["v", "127.1.1.1"]);
                    command
                })
            }),
            Box::new(|_| {
                let took = seconds(|| set_bare("create", "bare"));
                set_bare("delete", "bare");
                took
            }),
        ],
    );
    let [nothing, one, many, uncached, restore, floor, set] = &measured[..] else {
        unreachable!("seven take turns")
    };
    let own = |all: &Series| all.with(nothing, |all, nothing| all - nothing);
    let figure = |what: &str, times: &Series, goal: f64, text: &str| {
        let what = format!("{what}, replica 3, {}", medium.text());
        Figure::time(&what, times).goal(Goal::most(goal, text))
    };
    let mut first = figure("fsnap create", &own(one), 0.020, "20 ms");
    first.beside = Some(("true".to_owned(), nothing.spread()));
    outcome.add(first);
    let connected = own(floor);
    let beside = "libgfapi, connected and ended";
    outcome.add(figure("fsnap restore", &own(restore), 0.025, "25 ms"));
    let uncached = own(uncached);
    outcome.add(
        figure("fsnap restore, mount without caches", &uncached, 0.025, "25 ms")
            .beside(beside, &uncached, &connected),
    );
    let each = many.with(one, |many, one| (many - one) / (FILES - 1) as f64);
    outcome.add(figure("fsnap create: each further file", &each, 0.004, "4 ms").beside(
        "create by setxattr on a mount without caches",
        &each,
        set,
    ));
}
