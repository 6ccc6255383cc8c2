//! Create by setxattr against the least that it could be: the round trip of a setxattr, and a clone on the same file system.

use fsnap_testbed::{VolumeType, fill};

use super::Scale;
use crate::bare::{bare_create, raw_clone};
use crate::figure::{Figure, Goal, Outcome};
use crate::stage::{Caches, MIB, Medium, Stage, create, create_many, delete, plain_set, sync};
use crate::stats::{interleave, seconds};

pub fn run(scale: Scale, outcome: &mut Outcome) {
    for medium in [Medium::Ram, Medium::Disk] {
        let stage = Stage::new(medium, 1, 1024 * MIB);
        let v = stage.volume("v", VolumeType::Distribute, 1, true, Caches::On);
        let plain = v.file("plain", MIB);
        let (raw, source) = (stage.raw(), stage.raw().join("source"));
        fill(&source, MIB, 1);
        sync(&source);
        for there in [0, 16, 64, 200] {
            let file = v.file(&format!("f{there}"), MIB);
            assert_eq!(create_many(&file, there), there, "snapshots are taken");
            let measured = interleave(
                scale.rounds(150),
                &mut [
                    Box::new(|_| {
                        let took = seconds(|| create(&file, "new").expect("a snapshot"));
                        delete(&file, "new");
                        took
                    }),
                    Box::new(|_| seconds(|| plain_set(&plain))),
                    Box::new(|_| seconds(|| raw_clone(&raw, &source))),
                    Box::new(|_| bare_create(&raw, &source, "new")),
                ],
            );
            let [created, trip, clone, bare] = &measured[..] else { unreachable!("four take turns") };
            let floor = trip.with(clone, |trip, clone| trip + clone);
            let what = match there {
                0 => format!("create {}", medium.text()),
                _ => format!("create {} of a file with {{}} snapshots", medium.text()),
            };
            let mut figure = Figure::time(&what, created).beside("setxattr + raw clone", created, &floor);
            if there == 0 {
                figure = figure.goal(Goal::ratio(1.3));
                let parts = |text: &str, part| Figure::time(&format!("{text} {}", medium.text()), part);
                outcome.add(parts("a setxattr", trip));
                outcome.add(parts("raw O_TMPFILE, FICLONE, fsync", clone));
                outcome.add(parts("all that a create writes, by bare system calls", bare));
                let floor = trip.with(bare, |trip, bare| trip + bare);
                let what = format!("{what} (against all that it writes)");
                outcome.add(Figure::time(&what, created).beside(
                    "setxattr + bare system calls",
                    created,
                    &floor,
                ));
            } else {
                figure = figure.at(there);
            }
            outcome.add(figure);
        }
    }
}
