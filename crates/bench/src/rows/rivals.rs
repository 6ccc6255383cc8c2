//! What people do today when they want an earlier state of a large file, on the same mount.

use std::process::Command;

use fsnap_testbed::{VolumeType, run as finish};

use super::Scale;
use crate::figure::{Figure, Outcome};
use crate::stage::{Caches, MIB, Medium, Stage};
use crate::stats::{Turn, interleave, seconds};

/// A rival: what is timed, and what takes it back. `$1` is the file, `$2` a path beside it, `$3` the command fsnap.
struct Way {
    name: &'static str,
    program: &'static str,
    act: &'static str,
    back: &'static str,
}

const WAYS: [Way; 7] = [
    Way {
        name: "setfattr -n glusterfs.fsnap.create",
        program: "setfattr",
        act: "setfattr -n glusterfs.fsnap.create -v new \"$1\"",
        back: "setfattr -n glusterfs.fsnap.delete -v new \"$1\"",
    },
    Way {
        name: "fsnap create",
        program: "sh",
        act: "\"$3\" create --name new \"$1\"",
        back: "\"$3\" delete \"$1@new\"",
    },
    Way {
        name: "cp --reflink=auto",
        program: "cp",
        act: "cp --reflink=auto \"$1\" \"$2\"",
        back: "rm \"$2\"",
    },
    Way {
        name: "cp --reflink=never",
        program: "cp",
        act: "cp --reflink=never \"$1\" \"$2\"",
        back: "rm \"$2\"",
    },
    Way { name: "rsync", program: "rsync", act: "rsync \"$1\" \"$2\"", back: "rm \"$2\"" },
    Way {
        name: "qemu-img snapshot -c of a qcow2",
        program: "qemu-img",
        act: "qemu-img snapshot -c new \"$1.qcow2\"",
        back: "qemu-img snapshot -d new \"$1.qcow2\"",
    },
    Way { name: "sh, and nothing else", program: "sh", act: ":", back: ":" },
];

pub fn run(scale: Scale, outcome: &mut Outcome) {
    let sizes = if scale.quick { vec![100] } else { vec![128, 1024] };
    for mib in sizes {
        measure(scale, outcome, mib);
    }
    outcome.note(
        "on disk, one brick; processes from start to end; what is copied is in the brick's page cache then",
    );
}

fn measure(scale: Scale, outcome: &mut Outcome, mib: u64) {
    let stage = Stage::new(Medium::Disk, 1, 4 * mib * MIB + 1024 * MIB);
    let v = stage.volume("v", VolumeType::Distribute, 1, true, Caches::On);
    v.file("vm.img", mib * MIB);
    // Brings the command into the scene.
    let fsnap = stage.fsnap(&[]).get_args().last().expect("its path").to_string_lossy().into_owned();
    let shell = |script: &str| -> Command {
        let mut command = stage.scene.command("sh");
        command.args(["-ec", script, "sh", &v.inside("vm.img"), &v.inside("copy.img"), &fsnap]);
        command
    };
    let there =
        |program: &str| shell(&format!("command -v {program}")).output().is_ok_and(|o| o.status.success());
    let (ways, missing): (Vec<&Way>, Vec<&Way>) = WAYS.iter().partition(|way| there(way.program));
    for way in missing {
        outcome.note(format!("{}: skipped, {} is not installed", way.name, way.program));
    }
    if there("qemu-img") {
        finish(&mut shell("qemu-img convert -O qcow2 \"$1\" \"$1.qcow2\""));
    }
    let turn = |way: &&'static Way| -> Turn<'_> {
        let (act, back, shell) = (way.act, way.back, &shell);
        Box::new(move |_| {
            let mut command = shell(act);
            let took = seconds(|| finish(&mut command));
            finish(&mut shell(back));
            took
        })
    };
    let mut turns: Vec<Turn<'_>> = ways.iter().map(turn).collect();
    let measured = interleave(if scale.quick { 3 } else { 5 }, &mut turns);
    for (way, times) in ways.iter().zip(&measured) {
        let figure = Figure::time(&format!("{}, {{}} MiB", way.name), times).at(mib);
        outcome.add(match way.name {
            "setfattr -n glusterfs.fsnap.create" => figure,
            _ => figure.beside("setfattr", times, &measured[0]),
        });
    }
}
