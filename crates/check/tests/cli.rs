//! The program `fsnap-check` on a real XFS: exit codes, text and JSON. Needs root.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use fsnap_core::command::Create;
use fsnap_core::gfid2path::Link;
use fsnap_core::{Gfid, SnapName};
use fsnap_store::{Limits, Store};
use fsnap_testbed::{Fs, Scene, remove_entry_line, setx};
use serde_json::Value;

fn check(brick: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_fsnap-check")).arg(brick).args(args).output().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn text(output: &Output) -> String {
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn report(brick: &Path, args: &[&str]) -> (i32, Value) {
    let output = check(brick, &[&["--json"], args].concat());
    (code(&output), serde_json::from_slice(&output.stdout).unwrap())
}

/// A brick with the file `vm.img`, as storage/posix makes them.
fn make_brick(brick: PathBuf) -> (PathBuf, Gfid) {
    fs::create_dir_all(brick.join(".glusterfs/00/00")).unwrap();
    setx(&brick, "trusted.gfid", Gfid::ROOT.as_bytes()).unwrap();
    symlink("../../..", brick.join(Gfid::ROOT.handle())).unwrap();
    let (file, gfid) = (brick.join("vm.img"), Gfid::parse("0a1b2c3d-0000-4000-8000-00000000ffff").unwrap());
    fs::write(&file, b"content").unwrap();
    setx(&file, "trusted.gfid", gfid.as_bytes()).unwrap();
    let link = Link { parent: Gfid::ROOT, name: b"vm.img".to_vec() };
    setx(&file, link.key(), link.encode()).unwrap();
    fs::create_dir_all(brick.join(gfid.handle()).parent().unwrap()).unwrap();
    fs::hard_link(&file, brick.join(gfid.handle())).unwrap();
    (brick, gfid)
}

#[test]
fn what_the_program_tells() {
    let scene = Scene::new();
    let disk = scene.disk(Fs::Xfs, 320 << 20, "/run/scene/disk");
    let (brick, base) = make_brick(disk.path().join("brick"));
    assert_eq!(text(&check(&brick, &[])), "0 files with 0 snapshots; 0 errors, 0 warnings, 0 repaired\n");

    let store = Store::open(&brick).unwrap();
    let monday = Create { name: SnapName::parse(b"monday").unwrap(), created: None, id: None };
    let taken = store.create(base, &monday, &Limits { max_snapshots: 1, min_free: 0 }).unwrap().gfid;
    let (status, found) = report(&brick, &[]);
    assert_eq!(status, 0);
    assert_eq!((&found["version"], &found["files"], &found["snapshots"]), (&1.into(), &1.into(), &1.into()));
    assert_eq!(found["in_use"], true);
    let refused = check(&brick, &["--repair"]);
    assert_eq!((code(&refused), refused.stdout.len()), (3, 0));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("stop it first"));
    drop(store);

    fs::write(brick.join(".fsnap/a\\b\n"), b"x").unwrap();
    remove_entry_line(brick.join("vm.img"), "monday").unwrap();
    let (status, found) = report(&brick, &[]);
    assert_eq!((status, found["in_use"].as_bool()), (1, Some(false)));
    let [alien, orphan] = &found["problems"].as_array().unwrap()[..] else { panic!("{found}") };
    assert_eq!((&alien["kind"], &alien["path"]), (&"alien".into(), &".fsnap/a\\\\b\\x0a".into()));
    assert_eq!((&alien["gfid"], &alien["repairable"]), (&Value::Null, &false.into()));
    assert_eq!((&orphan["kind"], &orphan["severity"]), (&"orphan".into(), &"warning".into()));
    assert_eq!((&orphan["gfid"], &orphan["repairable"]), (&taken.to_string().into(), &true.into()));

    let output = check(&brick, &[]);
    let told = text(&output);
    assert_eq!((code(&output), told.lines().count()), (1, 3), "{told}");
    assert!(told.starts_with("warning alien .fsnap/a\\\\b\\x0a: "), "{told}");
    assert!(told.ends_with("\n0 files with 0 snapshots; 0 errors, 2 warnings, 0 repaired\n"), "{told}");

    let (status, found) = report(&brick, &["--repair"]);
    assert_eq!(status, 1, "{found}");
    assert_eq!(found["repaired"][0]["kind"], "orphan");
    fs::remove_file(brick.join(".fsnap/a\\b\n")).unwrap();
    let output = check(&brick, &["--repair"]);
    assert_eq!(code(&output), 0);
    assert!(text(&output).starts_with("info quarantined .glusterfs/fsnap/lost/snapshot-"));
    let output = check(&brick, &["--quiet"]);
    assert_eq!((code(&output), text(&output)), (0, String::new()));
    quarantine(&brick);
}

/// What is there for longer than a day goes when that is asked for, and by nothing else.
fn quarantine(brick: &Path) {
    let old = brick.join(".glusterfs/fsnap/lost/intent-1700000000000000001-12-0");
    fs::write(&old, b"data").unwrap();
    let (status, found) = report(brick, &["--repair"]);
    assert_eq!((status, found["repaired"].as_array().unwrap().len()), (0, 0), "{found}");
    assert_eq!(found["discarded"].as_array().unwrap().len(), 0, "{found}");
    assert!(old.exists(), "a repair has removed it");
    let told = text(&check(brick, &[]));
    let line = told.lines().find(|line| line.contains("lost/intent-")).expect(&told);
    assert!(line.ends_with("--empty-quarantine removes it for good, now"), "{told}");
    let output = check(brick, &["--empty-quarantine"]);
    let told = text(&output);
    assert_eq!(code(&output), 0, "{told}");
    assert!(told.starts_with("discarded: info quarantined .glusterfs/fsnap/lost/intent-1700"), "{told}");
    assert!(told.contains("\ninfo quarantined .glusterfs/fsnap/lost/snapshot-"), "{told}");
    assert!(told.ends_with(" 0 repaired, 1 discarded\n"), "{told}");
    assert!(!old.exists());
}

#[test]
fn what_it_cannot_check() {
    let scene = Scene::new();
    let disk = scene.disk(Fs::Xfs, 320 << 20, "/run/scene/disk");
    let (brick, _) = make_brick(disk.path().join("brick"));
    let binary = env!("CARGO_BIN_EXE_fsnap-check");
    for (args, expected) in [(&[][..], 2), (&["--nonsense"], 2), (&["--help"], 0), (&["--version"], 0)] {
        let output = Command::new(binary).args(args).output().unwrap();
        assert_eq!(code(&output), expected, "{args:?}");
    }
    let help = Command::new(binary).arg("--help").output().unwrap();
    assert!(String::from_utf8_lossy(&help.stdout).contains("Exit codes:"));
    for no in [disk.path().join("nothing"), disk.path(), brick.join("vm.img")] {
        let output = check(&no, &[]);
        assert_eq!((code(&output), output.stdout.len()), (3, 0), "{}", no.display());
        assert!(String::from_utf8_lossy(&output.stderr).starts_with("fsnap-check: "));
    }
    // Without privileges the xattrs can't be seen: everything would look well.
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]).arg(binary).arg(&brick);
    assert_eq!(code(&command.output().unwrap()), 3);
    // A reader that goes away.
    let closed = Command::new(binary).arg(&brick).stdout(pipe_to_nobody()).output().unwrap();
    assert_eq!(code(&closed), 0);

    fs::create_dir(brick.join(".glusterfs/fsnap")).unwrap();
    fs::write(brick.join(".glusterfs/fsnap/format"), b"fsnap 1\n").unwrap();
    let output = check(&brick, &[]);
    assert_eq!(code(&output), 3);
    assert!(String::from_utf8_lossy(&output.stderr).contains("another version of fsnap"));
}

fn pipe_to_nobody() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    Stdio::from(File::from(std::os::fd::OwnedFd::from(writer)))
}
