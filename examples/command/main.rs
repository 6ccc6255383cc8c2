//! What the command `fsnap` takes on replica 3, from its start to its end: median, and the middle half of all runs.
//!
//! `command [DIR]...`: directories with `fsnap` and `libfsnap.so`, each a column: what is built in release (`make build`) if none is given.
//! They take turns. Needs root, and a compiler for C, by which it makes what a client costs that only connects (`floor.c`).

#[path = "../../tests/common/mod.rs"]
mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use common::{MIB, Setup, fsnap, names, volume};
use fsnap_testbed::{Scene, VolumeType, fill, run};

const MOUNT: &str = "/run/scene/m";
const COMMAND: &str = "/run/scene/fsnap";
const FLOOR: &str = "/run/scene/floor";
/// How often each column has its turn, and how often each command runs in it. The first of a turn does not count.
const TURNS: usize = 6;
const RUNS: usize = 4;
/// How many files the long commands are given.
const FILES: usize = 50;
/// Given to itself, inside the scene: whoever enters it takes time.
const TIMER: &str = "--time";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.split_first() {
        Some((first, rest)) if first == TIMER => return time(rest),
        _ => {}
    }
    let built = std::env::current_exe().expect("target/PROFILE/examples/command");
    let built = built.ancestors().nth(2).expect("target/PROFILE").to_owned();
    let columns: Vec<PathBuf> =
        if args.is_empty() { vec![built] } else { args.into_iter().map(PathBuf::from).collect() };
    let setup = volume(VolumeType::Replicate(3), 3, 2048 * MIB, |volume| volume);
    make_floor(&setup.scene);
    let files: Vec<PathBuf> = (0..FILES).map(|n| setup.mount.path().join(format!("f{n}"))).collect();
    files.iter().enumerate().for_each(|(n, file)| fill(file, 64 << 10, n as u64));
    let mut rows: Vec<Row> =
        WHAT.iter().map(|what| Row { what: *what, columns: vec![Vec::new(); columns.len()] }).collect();
    // Without a wait for what the mount's client has cached, and at last with it.
    let (shown, others): (Vec<_>, Vec<_>) =
        (0..rows.len()).partition(|row| rows[*row].what == What::RestoreShown);
    for (timeout, which) in [("0", others), ("1", shown)] {
        setup.volume.set("performance.md-cache-timeout", timeout);
        for _ in 0..TURNS {
            for (at, column) in columns.iter().enumerate() {
                install(&setup.scene, column);
                which.iter().for_each(|row| rows[*row].run(&setup, &files, at));
            }
        }
    }
    println!("milliseconds: median (first quarter - third quarter)");
    for column in &columns {
        println!("  {}", column.display());
    }
    rows.iter().for_each(|row| println!("{}", row.line()));
    ExitCode::SUCCESS
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Floor,
    Status,
    Create,
    CreateMany,
    Restore,
    RestoreWithBackup,
    RestoreShown,
}

const WHAT: [What; 7] = [
    What::Floor,
    What::Status,
    What::Create,
    What::CreateMany,
    What::Restore,
    What::RestoreWithBackup,
    What::RestoreShown,
];

impl What {
    fn told(self) -> String {
        match self {
            What::Floor => "libgfapi: connect only".into(),
            What::Status => "fsnap status (no graph)".into(),
            What::Create => "create".into(),
            What::CreateMany => format!("create, {FILES} files"),
            What::Restore => "restore --no-backup".into(),
            What::RestoreWithBackup => "restore".into(),
            What::RestoreShown => "restore --no-backup, caches of 1 s".into(),
        }
    }
}

struct Row {
    what: What,
    /// Of each, milliseconds.
    columns: Vec<Vec<f64>>,
}

impl Row {
    fn run(&mut self, setup: &Setup, files: &[PathBuf], at: usize) {
        for n in 0..RUNS {
            let took = once(self.what, setup, files);
            if n > 0 {
                self.columns[at].push(took);
            }
        }
    }

    fn line(&self) -> String {
        let columns = self.columns.iter().map(|times| {
            let mut times = times.clone();
            times.sort_by(f64::total_cmp);
            let at = |part: usize| times[(times.len() - 1) * part / 4];
            format!("{:8.1} ({:.1} - {:.1})", at(2), at(1), at(3))
        });
        format!("{:36}{}", self.what.told(), columns.collect::<Vec<_>>().join("  "))
    }
}

/// One run, in milliseconds; what it has made is gone afterwards.
fn once(what: What, setup: &Setup, files: &[PathBuf]) -> f64 {
    let inside = |file: &Path| format!("{MOUNT}/{}", file.file_name().unwrap().display());
    let file = inside(&files[0]);
    let restore = |more: &[&str]| {
        fsnap(&files[0], "create", "s").expect("a snapshot");
        let took =
            timed(&setup.scene, &[&[COMMAND, "restore", "--yes"], more, &[&format!("{file}@s")]].concat());
        names(&files[0]).iter().for_each(|name| fsnap(&files[0], "delete", name).expect("a delete"));
        took
    };
    match what {
        What::Floor => timed(&setup.scene, &[FLOOR, setup.volume.name(), &setup.volume.brick(0).host]),
        What::Status => timed(&setup.scene, &[COMMAND, "status", MOUNT]),
        What::Create | What::CreateMany => {
            let files = if what == What::Create { &files[..1] } else { files };
            let paths: Vec<String> = files.iter().map(|file| inside(file)).collect();
            let mut args = vec![COMMAND, "create", "--name", "s"];
            args.extend(paths.iter().map(String::as_str));
            let took = timed(&setup.scene, &args);
            files.iter().for_each(|file| fsnap(file, "delete", "s").expect("a delete"));
            took
        }
        What::RestoreWithBackup => restore(&[]),
        What::Restore | What::RestoreShown => restore(&["--no-backup"]),
    }
}

fn timed(scene: &Scene, args: &[&str]) -> f64 {
    let exe = std::env::current_exe().expect("this program");
    let output = run(scene.command(exe).arg(TIMER).args(args));
    String::from_utf8_lossy(&output.stdout).trim().parse().expect("milliseconds")
}

/// Prints how many milliseconds a command takes.
fn time(args: &[String]) -> ExitCode {
    let Some((program, args)) = args.split_first() else { return ExitCode::from(2) };
    let begun = Instant::now();
    let output = Command::new(program).args(args).output().expect("the command");
    println!("{:.3}", begun.elapsed().as_secs_f64() * 1e3);
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    if output.status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn install(scene: &Scene, column: &Path) {
    scene.install_translator(column.join("libfsnap.so"), "fsnap-client");
    let new = scene.path("/run/scene/fsnap.new");
    std::fs::copy(column.join("fsnap"), &new).expect("the command, built before");
    std::fs::rename(&new, scene.path(COMMAND)).expect("the command's place");
}

fn make_floor(scene: &Scene) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/command/floor.c");
    run(scene.command("cc").arg("-o").arg(FLOOR).arg(source).args(["-lgfapi"]));
}
