//! What the tests on real volumes share.
#![allow(dead_code, missing_docs)]

pub mod agree;
pub mod instructions;
pub mod stage;

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use fsnap_store::check;
use fsnap_testbed::{
    Disk, Errno, Fs, Mount, Scene, VOLFILE_FSNAP, VolfileMount, Volume, VolumeBuilder, VolumeType, getx, run,
    setx, translator_path, try_checksum, try_wait_until,
};

pub const MIB: u64 = 1 << 20;

/// A mounted volume with fsnap. Fields are dropped in this order.
pub struct Setup {
    pub mount: Mount,
    pub volume: Volume,
    pub disks: Vec<Disk>,
    pub scene: Scene,
}

/// A distribute volume of so many XFS bricks, with fsnap, mounted at /run/scene/m.
pub fn distribute(bricks: usize) -> Setup {
    volume(VolumeType::Distribute, bricks, 2048 * MIB, |volume| volume)
}

/// A volume with fsnap, mounted at /run/scene/m; `adjust` may set more options.
pub fn volume(
    layout: VolumeType,
    bricks: usize,
    size: u64,
    adjust: impl FnOnce(VolumeBuilder) -> VolumeBuilder,
) -> Setup {
    let scene = scene_with_fsnap();
    scene.start_glusterd();
    let disks = scene.disks(bricks, Fs::Xfs, size);
    let builder = scene.volume("v").layout(layout).disks(&disks).with_fsnap();
    let volume = adjust(builder).start();
    let mount = volume.mount("/run/scene/m");
    Setup { mount, volume, disks, scene }
}

/// One process over a brick on a disk of its own. Fields are dropped in this order.
pub struct Single {
    pub mount: VolfileMount,
    pub disk: Disk,
    pub scene: Scene,
}

/// user/fsnap over storage/posix in one process, mounted at /run/scene/m.
pub fn single(fs: Fs) -> Single {
    let scene = scene_with_fsnap();
    let disk = scene.disk(fs, 1024 * MIB, "/run/scene/b1");
    let mount = scene.mount_volfile(VOLFILE_FSNAP, "/run/scene/b1/brick", "/run/scene/m");
    Single { mount, disk, scene }
}

pub fn scene_with_fsnap() -> Scene {
    let scene = Scene::new();
    scene.install_translator(translator_path(), "fsnap");
    scene.install_translator(translator_path(), "fsnap-client");
    scene
}

/// `setfattr -n glusterfs.fsnap.VERB -v VALUE FILE`.
pub fn fsnap(file: impl AsRef<Path>, verb: &str, value: impl AsRef<[u8]>) -> Result<(), Errno> {
    setx(file, format!("glusterfs.fsnap.{verb}"), value)
}

/// The JSON that `getfattr -n glusterfs.fsnap.QUESTION` answers.
pub fn ask(file: impl AsRef<Path>, question: &str) -> Result<serde_json::Value, Errno> {
    let answer = getx(file, format!("glusterfs.fsnap.{question}"))?;
    Ok(serde_json::from_slice(&answer).unwrap_or_else(|e| panic!("{e}: {}", answer.escape_ascii())))
}

/// The names of the file's snapshots, oldest first.
pub fn names(file: impl AsRef<Path>) -> Vec<String> {
    try_names(file).expect("list")
}

pub fn try_names(file: impl AsRef<Path>) -> Result<Vec<String>, Errno> {
    let list = ask(file, "list")?;
    let snapshots = list["snapshots"].as_array().expect("an array");
    Ok(snapshots.iter().map(|s| s["name"].as_str().expect("a name").to_owned()).collect())
}

/// The names in a directory, sorted. In a `.fsnap` that is not there there are none.
pub fn ls(dir: impl AsRef<Path>) -> Vec<String> {
    let entries = match std::fs::read_dir(dir.as_ref()) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && dir.as_ref().ends_with(".fsnap") => {
            return Vec::new();
        }
        entries => entries.unwrap_or_else(|e| panic!("{}: {e}", dir.as_ref().display())),
    };
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8")).collect();
    names.sort();
    names
}

/// Waits until the file reads as it should. Caches of a mount learn of a restore when attributes are next looked at:
/// after two seconds at the latest by default (docs/semantics.md).
#[track_caller]
pub fn sees(file: impl AsRef<Path>, sum: u64) {
    let within = Duration::from_secs(10);
    let mut last = None;
    let seen = try_wait_until("the restored content", within, || {
        last = Some(try_checksum(&file).map_err(|why| why.to_string()));
        last == Some(Ok(sum))
    });
    if seen.is_err() {
        let stat = std::fs::metadata(&file).map(|stat| (stat.len(), stat.mtime(), stat.mtime_nsec()));
        // Whose cache it was: the kernel's, or one of GlusterFS.
        std::fs::write("/proc/sys/vm/drop_caches", "3").expect("drop_caches");
        let dropped = try_checksum(&file);
        panic!(
            "{} is {last:?}, and not {sum}; {stat:?}; without the kernel's caches {dropped:?}",
            file.as_ref().display()
        );
    }
}

/// The value of `KEY=` in the section of user/fsnap of a statedump; 0 if the line is not there.
pub fn counter(statedump: &str, key: &str) -> u64 {
    let (_, section) =
        statedump.split_once("[user.fsnap.").expect("a section of user/fsnap in the statedump");
    let lines = section.lines().skip(1).take_while(|line| !line.starts_with('['));
    let value = lines.filter_map(|line| line.split_once('=')).find(|(k, _)| *k == key);
    value.map_or(0, |(_, v)| v.parse().unwrap_or_else(|e| panic!("{key}={v}: {e}")))
}

/// How many bytes have passed the loopback device of the scene.
pub fn received(scene: &Scene) -> u64 {
    let devices = std::fs::read_to_string(format!("/proc/{}/net/dev", scene.pid())).expect("a network");
    let loopback =
        devices.lines().find_map(|line| line.trim().strip_prefix("lo:")).expect("a loopback device");
    loopback.split_whitespace().next().and_then(|bytes| bytes.parse().ok()).expect("a number")
}

/// What a process uses.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// Open files.
    pub files: usize,
    /// Resident memory in KiB.
    pub resident: u64,
    pub threads: u64,
}

pub fn usage(pid: u32) -> Usage {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let number = |key: &str| {
        let value = status.lines().find_map(|line| line.strip_prefix(key)).expect("such a line");
        value.trim().trim_end_matches(" kB").parse().expect("a number")
    };
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("a process").count();
    Usage { files, resident: number("VmRSS:"), threads: number("Threads:") }
}

/// Compiles `tests/NAME.c`, runs it in the scene, and returns what it prints: calls and what they failed with
/// (`UnknownErrno` if they did not).
pub fn client(setup: &Setup, name: &str, args: &[&str]) -> Vec<(String, Errno)> {
    let inside = format!("/run/scene/{name}");
    let flags = run(Command::new("pkg-config").args(["--cflags", "glusterfs-api", "uuid"]));
    let flags = String::from_utf8(flags.stdout).unwrap();
    let mut cc = Command::new("cc");
    // The macros that the installed headers expect: see build.rs.
    cc.args(["-D_FILE_OFFSET_BITS=64", "-D_GNU_SOURCE", "-DGF_LINUX_HOST_OS=1", "-DSIZEOF_LONG=8"]);
    cc.args(["-DHAVE_ATOMIC_BUILTINS", "-DHAVE_STRUCT_STAT_ST_ATIM_TV_NSEC"]).args(flags.split_whitespace());
    cc.arg(format!("tests/{name}.c")).arg("-o").arg(setup.scene.path(&inside));
    run(cc.args(["-lgfapi", "-lglusterfs", "-luuid"]).current_dir(env!("CARGO_MANIFEST_DIR")));
    let output = run(setup.scene.command(inside).args(args));
    let text = String::from_utf8_lossy(&output.stdout);
    let result = |line: &str| {
        let mut words = line.rsplitn(3, ' ');
        let errno = Errno::from_raw(words.next()?.parse().ok()?);
        let errno = if words.next()? == "0" { Errno::UnknownErrno } else { errno };
        Some((words.next()?.to_owned(), errno))
    };
    text.lines().map(|line| result(line).unwrap_or_else(|| panic!("{text}"))).collect()
}

/// Sees to it that the checker finds nothing wrong with the volume's bricks, which may be in use.
#[track_caller]
pub fn sound(volume: &Volume) {
    for n in 0..volume.bricks().len() {
        let wrong = problems(volume, n);
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}

/// The only snapshot in the `.fsnap` of directory `dir` whose name begins with `name@`: of a deleted file, if there is none of
/// that name.
#[track_caller]
pub fn of_deleted(dir: &Path, name: &str) -> PathBuf {
    let begin = format!("{name}@");
    let found: Vec<_> =
        ls(dir.join(".fsnap")).into_iter().filter(|entry| entry.starts_with(&begin)).collect();
    assert_eq!(found.len(), 1, "{name}: {found:?}");
    dir.join(".fsnap").join(&found[0])
}

/// The snapshot `NAME` of a deleted file, whose directory was removed as well: `path` leads from `dir`, which is there, to where
/// it was.
pub fn of_deleted_below(dir: &Path, path: &str, name: &str) -> PathBuf {
    let begin = format!("{}@{name}@~", path.replace('%', "%25").replace('/', "%2F"));
    let found: Vec<_> =
        ls(dir.join(".fsnap")).into_iter().filter(|entry| entry.starts_with(&begin)).collect();
    assert_eq!(found.len(), 1, "{begin}: {found:?}");
    dir.join(".fsnap").join(&found[0])
}

/// What the checker finds wrong with a brick, which may be in use.
pub fn problems(volume: &Volume, n: usize) -> Vec<check::Problem> {
    let options = check::Options { pause: Duration::from_secs(1), ..check::Options::default() };
    let report = check::run(&volume.brick_path(n), &options).expect("a brick");
    // The handle of a .fsnap is made by whoever looks for it next.
    let wrong = |problem: &check::Problem| {
        problem.kind.severity() != check::Severity::Info && problem.kind != check::ProblemKind::SnapDirHandle
    };
    report.problems.into_iter().filter(wrong).collect()
}
