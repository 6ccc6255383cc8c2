//! A snapshot taken and restored before your eyes, on a real volume that is gone afterwards.
//!
//! `demo [MIB]`: the size of the file in MiB, 1024 if not given. Fails unless everything was right.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use fsnap_testbed::{Fs, Scene, VolumeType, checksum, df_used, fill, run, translator_path, try_wait_until};

const MIB: u64 = 1 << 20;
const FILE: &str = "/run/vm/disk.img";
const COMMAND: &str = "/run/scene/fsnap";

/// The scene, and what each step took.
struct Demo {
    scene: Scene,
    steps: Vec<(&'static str, Duration)>,
}

impl Demo {
    /// Shows a command, runs it inside the scene, shows what it printed.
    fn show(&self, program: &str, args: &[&str]) -> String {
        let quoted: Vec<_> =
            args.iter().map(|a| if a.contains(' ') { format!("'{a}'") } else { (*a).to_owned() }).collect();
        println!("  # {program} {}", quoted.join(" "));
        let path = if program == "fsnap" { COMMAND } else { program };
        let output = run(self.scene.command(path).args(args));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().filter(|line| !line.is_empty()).for_each(|line| println!("  {line}"));
        text
    }

    fn timed<T>(&mut self, what: &'static str, step: impl FnOnce(&Self) -> T) -> T {
        let start = Instant::now();
        let result = step(self);
        self.steps.push((what, start.elapsed()));
        result
    }

    /// `fsnap VERB …`.
    fn fsnap(&mut self, verb: &'static str, args: &[&str]) {
        self.timed(verb, |demo| demo.show("fsnap", &[&[verb], args].concat()));
    }

    fn list(&self) -> String {
        self.show("fsnap", &["list", FILE])
    }
}

fn say(text: &str) {
    println!("\n{text}");
}

fn check(right: bool, what: &str) {
    assert!(right, "WRONG: {what}");
    println!("  right: {what}");
}

fn main() -> ExitCode {
    let mib = std::env::args().nth(1).map_or(Ok(1024), |arg| arg.parse());
    let Ok(mib @ 16..=65_536) = mib else {
        eprintln!("usage: demo [MIB], the size of the file in MiB, from 16 to 65536");
        return ExitCode::from(2);
    };
    tour(mib * MIB);
    ExitCode::SUCCESS
}

fn tour(size: u64) {
    say(
        "A GlusterFS volume: three copies of everything, on XFS loop devices, with the translator user/fsnap",
    );
    let mut demo = Demo { scene: Scene::new(), steps: Vec::new() };
    for name in ["fsnap", "fsnap-client"] {
        demo.scene.install_translator(translator_path(), name);
    }
    let built = std::env::current_exe().expect("target/PROFILE/examples/demo");
    let program = built.ancestors().nth(2).expect("target/PROFILE").join("fsnap");
    std::fs::copy(&program, demo.scene.path(COMMAND)).expect("the command fsnap, built before");
    demo.scene.start_glusterd();
    // The file, its full copy, what is overwritten, and air.
    let disks = demo.scene.disks(3, Fs::Xfs, 3 * size + 1024 * MIB);
    let volume =
        demo.scene.volume("demo").layout(VolumeType::Replicate(3)).disks(&disks).with_fsnap().start();
    let mount = volume.mount("/run/vm");
    demo.show("gluster", &["volume", "get", "demo", "user.xlator.fsnap"]);

    say(&format!("A file of {} MiB, and what people do today: a full copy on the same mount", size / MIB));
    let file = mount.path().join("disk.img");
    fill(&file, size, 1);
    demo.show("ls", &["-lah", "/run/vm"]);
    demo.timed("cp", |demo| demo.show("cp", &[FILE, "/run/vm/copy.img"]));
    demo.show("rm", &["/run/vm/copy.img"]);
    let before = checksum(&file);
    let used = df_used(disks[0].path());

    say("A snapshot instead");
    demo.fsnap("create", &[FILE, "--name", "monday"]);
    demo.list();
    let grown = df_used(disks[0].path()).saturating_sub(used);
    check(grown < size / 100, &format!("it took {} KiB of each brick", grown / 1024));

    say("The first half of the file is overwritten; the snapshot still has the old content");
    let half = std::fs::OpenOptions::new().write(true).open(&file).expect("the file");
    overwrite(half, size / 2);
    check(checksum(&file) != before, "the file has changed");
    demo.show("ls", &["-la", "/run/vm"]);
    demo.show("ls", &["-la", "/run/vm/.fsnap"]);
    check(
        checksum(mount.path().join(".fsnap/disk.img@monday")) == before,
        "the snapshot's checksum is the old one",
    );

    say("The file is restored, in place, on all bricks by one change of data");
    demo.fsnap("restore", &["--yes", "--no-backup", "/run/vm/disk.img@monday"]);
    // What this mount has cached of the file is thrown away when it next looks at the attributes, in a second or two.
    let seen = try_wait_until("the restored content", Duration::from_secs(20), || checksum(&file) == before);
    check(seen.is_ok(), "the file's checksum is the old one");
    let copies = |n| checksum(volume.brick_path(n).join("disk.img")) == before;
    check((0..3).all(copies), "so it is on each brick");

    say("The snapshot is deleted");
    demo.fsnap("delete", &["/run/vm/disk.img@monday"]);
    check(!demo.list().contains("monday"), "nothing is left");
    check((0..3).all(|n| is_empty(&volume.brick_path(n).join(".fsnap"))), "on the bricks neither");
    table(&demo.steps);
}

fn overwrite(mut file: std::fs::File, bytes: u64) {
    let chunk = fsnap_testbed::content(1 << 20, 2);
    for _ in 0..bytes / MIB {
        std::io::Write::write_all(&mut file, &chunk).expect("writing to the file");
    }
    file.sync_all().expect("fsync");
}

fn is_empty(dir: &Path) -> bool {
    std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_none())
}

fn table(steps: &[(&'static str, Duration)]) {
    say("What each step took, the start of the command included");
    let copy = steps.iter().find(|s| s.0 == "cp").map_or(0.0, |s| s.1.as_secs_f64());
    for (what, time) in steps {
        let ratio = copy / time.as_secs_f64();
        println!("  {what:<8} {:>10.1} ms   {ratio:>8.0} times as fast as cp", time.as_secs_f64() * 1e3);
    }
}
