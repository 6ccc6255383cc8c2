//! A snapshot taken and restored before your eyes, on a real volume that is gone afterwards.
//!
//! `demo [MIB]`: the size of the file in MiB, 1024 if not given. Fails unless everything was right.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use fsnap_testbed::{Fs, Scene, checksum, df_used, fill, run, translator_path, try_wait_until};

const MIB: u64 = 1 << 20;
const FILE: &str = "/run/vm/disk.img";

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
        let output = run(self.scene.command(program).args(args));
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

    fn command(&mut self, what: &'static str, verb: &str, name: &str) {
        let key = format!("glusterfs.fsnap.{verb}");
        self.timed(what, |demo| demo.show("setfattr", &["-n", &key, "-v", name, FILE]));
    }

    fn list(&self) -> String {
        self.show("getfattr", &["--absolute-names", "--only-values", "-n", "glusterfs.fsnap.list", FILE])
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
    say("A GlusterFS volume: one brick on an XFS loop device, with the translator user/fsnap");
    let mut demo = Demo { scene: Scene::new(), steps: Vec::new() };
    demo.scene.install_translator(translator_path(), "fsnap");
    demo.scene.start_glusterd();
    // The file, its full copy, what is overwritten, and air.
    let disk = demo.scene.disk(Fs::Xfs, 3 * size + 1024 * MIB, "/run/scene/b1");
    let volume = demo.scene.volume("demo").disks(std::slice::from_ref(&disk)).with_fsnap().start();
    let mount = volume.mount("/run/vm");
    demo.show("gluster", &["volume", "get", "demo", "user.xlator.fsnap"]);

    say(&format!("A file of {} MiB, and what people do today: a full copy on the same mount", size / MIB));
    let file = mount.path().join("disk.img");
    fill(&file, size, 1);
    demo.show("ls", &["-lah", "/run/vm"]);
    demo.timed("cp", |demo| demo.show("cp", &[FILE, "/run/vm/copy.img"]));
    demo.show("rm", &["/run/vm/copy.img"]);
    let before = checksum(&file);
    let used = df_used(disk.path());

    say("A snapshot instead");
    demo.command("create", "create", "monday");
    demo.list();
    let grown = df_used(disk.path()).saturating_sub(used);
    check(grown < size / 100, &format!("it took {} KiB of the brick", grown / 1024));

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

    say("The file is restored, in place");
    demo.command("restore", "restore", "monday");
    // What this mount has cached of the file is thrown away when it next looks at the attributes, in a second or two.
    let seen = try_wait_until("the restored content", Duration::from_secs(20), || checksum(&file) == before);
    check(seen.is_ok(), "the file's checksum is the old one");

    say("The snapshot is deleted");
    demo.command("delete", "delete", "monday");
    check(demo.list().contains("\"snapshots\":[]"), "nothing is left");
    check(is_empty(&volume.brick_path(0).join(".fsnap")), "on the brick neither");
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
