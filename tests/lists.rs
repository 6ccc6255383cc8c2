//! `fsnap list`: which files it asks, and what a terminal shows meanwhile.
#![allow(missing_docs)]

mod common;

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use common::stage::{Stage, arguments};
use common::{MIB, distribute, fsnap, ls, volume};
use fsnap_testbed::{VolumeType, fill, wait_until};

/// Of many files those are asked that have any, wherever these are.
#[test]
fn lists_of_many_files() {
    const FILES: usize = 300;
    let stage = Stage::new(distribute(2));
    for dir in ["d", "other"] {
        fs::create_dir(stage.file(dir)).unwrap();
    }
    for n in 0..FILES {
        fill(stage.file(format!("d/f{n:03}")), 10, n as u64);
    }
    let long = "n".repeat(250);
    for (name, becomes) in [("f050", "f050"), ("f100", &*long), ("f150", "x\n@y"), ("f200", "f200")] {
        fsnap(stage.file(format!("d/{name}")), "create", "snapshot").unwrap();
        fs::rename(stage.file(format!("d/{name}")), stage.file(format!("d/{becomes}"))).unwrap();
    }
    fs::remove_file(stage.file("d/f200")).unwrap();
    let linked = stage.file("other/linked");
    fill(&linked, 10, 1);
    fsnap(&linked, "create", "snapshot").unwrap();
    fs::hard_link(&linked, stage.file("d/link")).unwrap();

    let asked = || (0..2).map(|n| common::counter(&stage.0.volume.statedump(n), "list.done")).sum::<u64>();
    let lists = |deleted: usize, files: usize| {
        let before = asked();
        let listed = stage.json(&["list", "--json", "d"]);
        let all = arguments(&listed);
        let alive =
            ["d/f050@snapshot", "d/link@snapshot", &format!("d/{long}@snapshot"), "d/x\\x0a@y@snapshot"];
        assert_eq!(all[..4], alive, "{listed}");
        assert_eq!(all.len() - 4, deleted, "{listed}");
        assert_eq!(asked() - before, files as u64, "{listed}");
    };
    lists(1, 4);
    assert_eq!(stage.ok(["list", "other"]).lines().count(), 2);
    // Nobody has any here.
    fs::create_dir(stage.file("none")).unwrap();
    fill(stage.file("none/f"), 10, 1);
    let before = asked();
    assert_eq!((stage.ok(["list", "none"]), asked()), (String::new(), before));
    progress(&stage);
    stage.0.volume.set("user.xlator.fsnap.browse", "off");
    wait_until("browse is off", Duration::from_secs(20), || !stage.file("d/.fsnap/f050@snapshot").exists());
    lists(0, FILES);
}

/// A terminal shows how far it is, if it takes its time.
fn progress(stage: &Stage) {
    let list = |shown: &str| {
        let frozen = stage.0.mount.freeze();
        let mut command = stage.0.scene.command("sh");
        command.args(["-c", shown]).stdout(Stdio::piped());
        let listing = command.spawn().unwrap();
        std::thread::sleep(Duration::from_millis(1500));
        drop(frozen);
        String::from_utf8_lossy(&listing.wait_with_output().unwrap().stdout).into_owned()
    };
    let shown = list("script -qec '/run/scene/fsnap list -r /run/scene/m' /dev/null");
    assert!(shown.contains("files, ") && shown.contains("snapshots, "), "{shown}");
    let plain = list("/run/scene/fsnap list -r /run/scene/m 2>&1");
    assert!(plain.contains("f050") && !plain.contains("files, "), "{plain}");
}

/// A brick that has missed snapshots may be the one that `.fsnap` is listed by.
#[test]
fn by_a_brick_that_is_not_healed() {
    const FILES: usize = 5;
    for (layout, healer) in [
        (VolumeType::Replicate(3), "cluster.self-heal-daemon"),
        (VolumeType::Disperse { data: 2, redundancy: 1 }, "cluster.disperse-self-heal-daemon"),
    ] {
        println!("{layout:?}");
        let stage = Stage::new(volume(layout, 3, 1024 * MIB, |volume| volume));
        let (volume, mount) = (&stage.0.volume, &stage.0.mount);
        volume.set(healer, "off");
        if let VolumeType::Replicate(_) = layout {
            volume.set("cluster.choose-local", "off");
            volume.set("cluster.read-subvolume-index", "2");
        }
        fs::create_dir(stage.file("d")).unwrap();
        let names: Vec<_> = (0..FILES).map(|n| format!("d/f{n}")).collect();
        for name in &names {
            fill(stage.file(name), 1000, 1);
        }
        stage.ok(["create", &names[0], "--name", "before"]);
        volume.kill_brick(2);
        mount.wait_connected(2);
        for name in &names {
            stage.ok(["create", name, "--name", "missed"]);
        }
        volume.restart_brick(2);
        mount.wait_connected(3);
        assert_eq!(ls(volume.brick_path(2).join("d/.fsnap")), ["f0@before"], "it is healed already");
        let listed = stage.json(&["list", "--json", "d"]);
        let all: Vec<_> = names.iter().map(|name| format!("{name}@missed")).collect();
        let missed: Vec<_> = arguments(&listed).into_iter().filter(|name| name.ends_with("missed")).collect();
        assert_eq!(missed, all, "{listed}");
    }
}
