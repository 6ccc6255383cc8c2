//! pjdfstest, the tests of what POSIX says of file systems, gives the same verdicts with fsnap as without, with snapshots and
//! without.
#![allow(missing_docs)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use common::{MIB, fsnap, names, scene_with_fsnap, sound};
use fsnap_testbed::{Fs, Mount, Scene, Volume, VolumeType, fill, run};

/// The users are Debian's.
const CONFIG: &str = r#"
[features]
posix_fallocate = {}
rename_ctime = {}
utime_now = {}
utimensat = {}
[settings]
naptime = 0.01
allow_remount = false
[dummy_auth]
entries = [["nobody", "nogroup"], ["daemon", "daemon"]]
"#;
const CONFIG_AT: &str = "/run/scene/pjdfstest.toml";
/// How often a case is tried again that ended differently.
const TRIES: usize = 6;
/// Fields are dropped in this order.
struct Subject {
    mount: Mount,
    volume: Volume,
}

struct Stage {
    scene: Scene,
    program: PathBuf,
}

impl Stage {
    fn new() -> Stage {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts");
        let said = run(&mut Command::new(scripts.join("pjdfstest"))).stdout;
        let scene = scene_with_fsnap();
        scene.start_glusterd();
        fs::write(scene.path(CONFIG_AT), CONFIG).unwrap();
        Stage { scene, program: String::from_utf8(said).unwrap().trim().into() }
    }

    fn subject(&self, layout: VolumeType, bricks: usize, name: &str, with_fsnap: bool) -> Subject {
        let dirs = (1..=bricks).map(|n| format!("/run/scene/b{n}/{name}"));
        let builder = dirs.fold(self.scene.volume(name).layout(layout), |volume, dir| volume.brick(dir));
        let builder = if with_fsnap { builder.with_fsnap() } else { builder };
        let volume = builder.start();
        let mount = volume.mount(format!("/run/scene/m-{name}"));
        // Ordinary users make files there.
        fs::set_permissions(mount.path(), Permissions::from_mode(0o777)).unwrap();
        Subject { mount, volume }
    }

    /// The verdict on each case, or on one.
    fn verdicts(&self, subject: &Subject, case: Option<&str>) -> BTreeMap<String, String> {
        let mut command = self.scene.command(&self.program);
        command.args(["-c", CONFIG_AT, "-p"]).arg(subject.mount.at());
        command.args(case.map(|_| "--exact")).arg("--").args(case);
        // It fails if one case does.
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let verdict = |line: &str| {
            let (name, verdict) = line.split_once(' ')?;
            let verdict = verdict.trim();
            (name.contains("::") && ["ok", "FAILED", "skipped"].contains(&verdict))
                .then(|| (name.to_owned(), verdict.to_owned()))
        };
        let verdicts: BTreeMap<_, _> = text.lines().filter_map(verdict).collect();
        assert!(!verdicts.is_empty(), "{}: {text}{}", output.status, String::from_utf8_lossy(&output.stderr));
        verdicts
    }

    /// The verdicts that a case gets when it is tried again and again.
    fn again(&self, subject: &Subject, case: &str) -> BTreeSet<String> {
        (0..TRIES).flat_map(|_| self.verdicts(subject, Some(case)).into_values()).collect()
    }
}

fn same_verdicts(layout: VolumeType, bricks: usize) {
    let stage = Stage::new();
    let _disks = stage.scene.disks(bricks, Fs::Xfs, 2048 * MIB);
    let without = stage.subject(layout, bricks, "without", false);
    let unused = stage.subject(layout, bricks, "unused", true);
    let snapshots = stage.subject(layout, bricks, "snapshots", true);
    // Enough that each brick has some.
    let files: Vec<PathBuf> = (0..12).map(|n| snapshots.mount.path().join(format!("f{n}"))).collect();
    for file in &files {
        fill(file, 10_000, 1);
        fsnap(file, "create", "s").unwrap();
    }

    let all = [&without, &unused, &snapshots];
    let [expected, verdicts @ ..] = thread::scope(|scope| {
        let stage = &stage;
        let run = |subject| scope.spawn(move || stage.verdicts(subject, None));
        all.map(run).map(|thread| thread.join().expect("verdicts"))
    });
    assert!(expected.len() > 100, "only {} cases", expected.len());
    let passed = expected.values().filter(|verdict| *verdict == "ok").count();
    println!("{layout:?}: {passed} of {} cases pass without fsnap", expected.len());
    for (subject, verdicts) in all[1..].iter().zip(verdicts) {
        let cases: BTreeSet<&String> = expected.keys().chain(verdicts.keys()).collect();
        for case in cases.into_iter().filter(|case| expected.get(*case) != verdicts.get(*case)) {
            let (one, other) = (stage.again(&without, case), stage.again(subject, case));
            let name = subject.volume.name();
            println!(
                "{case}: {:?}, {name} {:?}; again: {one:?}, {other:?}",
                expected.get(case),
                verdicts.get(case)
            );
            assert!(other.is_subset(&one), "{case} without fsnap: {one:?}, {name}: {other:?}");
        }
    }
    for file in &files {
        assert_eq!(names(file), ["s"]);
    }
    sound(&unused.volume);
    sound(&snapshots.volume);
}

#[test]
fn distribute() {
    same_verdicts(VolumeType::Distribute, 2);
}

#[test]
fn replica_3() {
    same_verdicts(VolumeType::Replicate(3), 3);
}
