//! The command `fsnap` on real volumes.
#![allow(missing_docs)]

mod common;

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use common::stage::{Stage, arguments, fsnap_in};
use common::{MIB, Setup, ask, distribute, fsnap, names, sees, volume};
use fsnap_testbed::{Errno, VolumeType, checksum, fill, run, translator_path, wait_until};
use serde_json::Value;

const OWNER: u32 = 4001;
const READER: u32 = 4002;
/// The group of both.
const GROUP: u32 = 4000;

#[test]
fn on_a_distribute_volume() {
    let stage = Stage::new(distribute(2));
    fill(stage.file("f"), MIB, 1);
    names_and_collisions(&stage);
    show_hold_and_delete(&stage);
    several_files(&stage);
    restoring(&stage);
    paths(&stage);
    odd_names(&stage);
    directories(&stage);
    deleted_files(&stage);
    ordinary_users(&stage);
    status_and_errors(&stage);
    common::sound(&stage.0.volume);
}

fn names_and_collisions(stage: &Stage) {
    assert_eq!(stage.ok(["create", "f", "--name", "monday"]), "f@monday\n");
    stage.refused(["create", "f", "--name", "monday"], "choose another");
    // The second of the day may end between two of them, but not between all.
    let taken: Vec<String> = (0..4).map(|_| stage.ok(["create", "f"])).collect();
    let stems = taken.iter().filter(|name| name.len() == "f@20231114T221320Z\n".len()).count();
    assert!(stems < 4 && taken.iter().any(|name| name.ends_with("Z_2\n")), "{taken:?}");
    let list = stage.json(&["list", "--json", "f"]);
    assert_eq!(arguments(&list)[1..], taken.iter().map(|name| name.trim_end()).collect::<Vec<_>>());
    let first = &list["snapshots"][1];
    let created: f64 = first["created"].as_str().unwrap().parse().unwrap();
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
    assert!((created - now).abs() < 60.0, "created is the caller's time: {created}");
    assert_eq!(
        (&first["size"], &first["held"], &first["deleted"]),
        (&MIB.into(), &false.into(), &false.into())
    );
    let deletes = taken.iter().map(|name| name.trim_end());
    stage.ok(std::iter::once("delete").chain(deletes));
    assert_eq!(names(stage.file("f")), ["monday"]);

    let answer = stage.json(&["create", "f", "-n", "json", "--json"]);
    assert_eq!(arguments(&answer), ["f@json"]);
    assert_eq!(answer["errors"], Value::Array(vec![]));
    stage.ok(["delete", "f@json"]);
}

fn show_hold_and_delete(stage: &Stage) {
    let shown = stage.ok(["show", "f@monday"]);
    assert!(
        shown.starts_with("snapshot   f@monday\n") && shown.contains("1.0 MiB (1048576 bytes)"),
        "{shown}"
    );
    let table = stage.ok(["list", "f"]);
    assert!(table.starts_with("FILE  NAME    CREATED") && table.lines().count() == 2, "{table}");
    assert_eq!(stage.ok(["hold", "f@monday"]), "held f@monday\n");
    assert_eq!(stage.json(&["show", "--json", "f@monday"])["held"], true);
    stage.refused(["delete", "f@monday"], "fsnap release");
    assert_eq!(stage.ok(["release", "f@monday"]), "released f@monday\n");
    assert_eq!(stage.ok(["delete", "f@monday"]), "deleted f@monday\n");
    for verb in ["show", "delete", "hold", "release"] {
        stage.refused([verb, "f@monday"], "there is no such snapshot");
    }
    assert_eq!(stage.ok(["list", "f"]), "");
}

fn several_files(stage: &Stage) {
    fill(stage.file("g"), 1000, 2);
    let said = stage.fsnap(["create", "f", "none", "g", ".", "--name", "all"]);
    assert_eq!((said.code, &said.out[..]), (1, "f@all\ng@all\n"), "{}", said.err);
    let lines: Vec<&str> = said.err.lines().collect();
    assert!(lines[0].starts_with("fsnap: none: there is no such file"), "{lines:?}");
    assert!(lines[1].starts_with("fsnap: .: only regular files"), "{lines:?}");
    let said = stage.fsnap(["create", "f", "none", "--name", "all", "--json"]);
    let answer: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(said.code, 1);
    let errors: Vec<_> =
        answer["errors"].as_array().unwrap().iter().map(|e| (&e["path"], &e["errno"])).collect();
    assert_eq!(errors, [(&"f".into(), &"EEXIST".into()), (&"none".into(), &"ENOENT".into())]);
    twice_and_many(stage);
    let said = stage.fsnap(["delete", "f@all", "f@none", "g@all"]);
    assert_eq!((said.code, &said.out[..]), (1, "deleted f@all\ndeleted g@all\n"));
    assert!(said.err.starts_with("fsnap: f@none: there is no such snapshot"), "{}", said.err);
}

/// Several are at work at once; that is not to be seen.
fn twice_and_many(stage: &Stage) {
    let said = stage.fsnap(["create", "f", "g", "./f", "--name", "twice"]);
    assert_eq!((said.code, &said.out[..]), (1, "f@twice\ng@twice\n"), "{}", said.err);
    assert!(said.err.starts_with("fsnap: ./f: there is a snapshot of that name"), "{}", said.err);
    let taken = stage.ok(["create", "f", "g", "f", "f"]);
    let taken: Vec<&str> = taken.lines().collect();
    assert!(taken.len() == 4 && taken[1].starts_with("g@"), "{taken:?}");
    let list = stage.json(&["list", "--json", "f"]);
    assert_eq!(arguments(&list)[2..], [taken[0], taken[2], taken[3]], "the order in which they were given");
    stage.ok(["delete", "f@twice", "g@twice"].into_iter().chain(taken));

    let many: Vec<String> = (0..20).map(|n| format!("many{n}")).collect();
    many.iter().for_each(|name| fill(stage.file(name), 1000, 4));
    let said = stage.ok(["create", "--name", "all"].into_iter().chain(many.iter().map(String::as_str)));
    let taken: Vec<String> = many.iter().map(|name| format!("{name}@all")).collect();
    assert_eq!(said.lines().collect::<Vec<_>>(), taken);
    stage.ok(std::iter::once("delete").chain(taken.iter().map(String::as_str)));
    many.iter().for_each(|name| fs::remove_file(stage.file(name)).unwrap());
}

fn restoring(stage: &Stage) {
    let file = stage.file("f");
    let (old, new) = (checksum(&file), {
        stage.ok(["create", "f", "--name", "old"]);
        fill(&file, MIB, 3);
        checksum(&file)
    });
    stage.refused(["restore", "f@old"], "--yes");
    assert_eq!((checksum(&file), names(&file)), (new, vec!["old".to_owned()]));

    let told = stage.ok(["restore", "--yes", "f@old"]);
    sees(&file, old);
    let (first, second) = told.split_once('\n').unwrap();
    assert_eq!(first, "f is restored to old");
    let back = second.strip_prefix("to go back: fsnap restore ").expect(second).trim_end();
    assert!(back.starts_with("f@before-restore-2"), "{back}");
    stage.ok(["restore", "-y", "--no-backup", back]);
    sees(&file, new);
    assert_eq!(names(&file).len(), 2);

    // On a terminal it asks.
    for (answer, sum, snapshots) in [("n\n", new, 2), ("y\n", old, 3)] {
        let code = on_terminal(stage, "cd /run/scene/m && /run/scene/fsnap restore f@old", answer);
        assert_eq!(code, if sum == old { 0 } else { 1 });
        sees(&file, sum);
        assert_eq!(names(&file).len(), snapshots);
    }
    for name in names(&file) {
        fsnap(&file, "delete", name).unwrap();
    }
}

fn on_terminal(stage: &Stage, line: &str, answer: &str) -> i32 {
    let mut command = stage.0.scene.command("script");
    command.args(["--quiet", "--return", "--command", line, "/dev/null"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("script");
    child.stdin.as_mut().unwrap().write_all(answer.as_bytes()).unwrap();
    child.wait().unwrap().code().expect("an end")
}

/// Whatever a file is called: what is printed for a snapshot is what commands take, and so is what it is called.
fn odd_names(stage: &Stage) {
    let dir = stage.file("odd");
    fs::create_dir(&dir).unwrap();
    let all: [&[u8]; 9] = [
        b"new\nline",
        b"tab\t",
        b"bell\x07",
        b"\xff\xfe",
        b"back\\slash",
        b"\\x41",
        b"A",
        b"\\\\two",
        b"it's @ \"quoted\"",
    ];
    for (n, name) in all.iter().enumerate() {
        fill(dir.join(OsStr::from_bytes(name)), 1000, n as u64);
        let file = OsStr::from_bytes(&[b"odd/", *name].concat()).to_owned();
        let printed = stage.ok(["create".into(), file.clone(), "-n".into(), "x".into()]);
        let printed = printed.strip_suffix('\n').unwrap();
        assert!(!printed.contains(char::is_control), "{printed:?}");
        let listed = stage.json(&["list", "--json", "odd"]);
        let known = listed["snapshots"].as_array().unwrap().iter().any(|entry| entry["snapshot"] == printed);
        assert!(known, "{printed}: {listed}");
        assert_eq!(stage.json(&["show", "--json", printed])["snapshot"], printed);
        stage.ok(["hold", printed]);
        let mut named = file;
        named.push("@x");
        stage.ok(["release".into(), named.clone()]);
        stage.ok(["hold".into(), "--raw".into(), named.clone()]);
        stage.ok(["release", printed]);
    }
    let raw = stage.fsnap(["list", "-0", "odd"]);
    let mut found: Vec<_> = raw.bytes.split(|&byte| byte == 0).filter(|name| !name.is_empty()).collect();
    let mut expected: Vec<_> = all.iter().map(|name| [b"odd/", *name, b"@x"].concat()).collect();
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
    // There is a file of just that name, and one that is printed so.
    fill(dir.join("back\\\\slash"), 1000, 20);
    stage.ok(["create", "odd/back\\\\slash", "-n", "y"]);
    stage.refused(["delete", "odd/back\\\\slash@x"], "--raw");
    stage.ok(["delete", "--raw", "odd/back\\\\slash@y"]);
    stage.ok(["delete", "--raw", "odd/back\\slash@x"]);
    assert!(names(dir.join("back\\\\slash")).is_empty() && names(dir.join("back\\slash")).is_empty());
    for entry in fs::read_dir(&dir).unwrap() {
        let path = entry.unwrap().path();
        let mut args = vec!["delete".into(), "--raw".into()];
        let mut named = OsStr::new("odd/").to_owned();
        named.push(path.file_name().unwrap());
        named.push("@x");
        args.push(named);
        if !names(&path).is_empty() {
            stage.ok(args);
        }
    }
    fs::remove_dir_all(&dir).unwrap();
}

fn paths(stage: &Stage) {
    let dir = stage.file("some dir");
    fs::create_dir(&dir).unwrap();
    let odd = OsStr::from_bytes(b"a b@c\n'\xff");
    fill(dir.join(odd), 1000, 4);
    symlink("some dir", stage.file("link")).unwrap();
    symlink("/run/scene/m/f", stage.0.scene.path("/run/scene/elsewhere")).unwrap();
    let shown = "some dir/a b@c\\x0a'\\xff";
    let path = |prefix: &[u8], suffix: &[u8]| {
        OsStr::from_bytes(&[prefix, odd.as_bytes(), suffix].concat()).to_owned()
    };

    let create = [OsStr::new("create").to_owned(), path(b"some dir/", b""), "-n".into(), "x".into()];
    assert_eq!(stage.ok(create), format!("{shown}@x\n"));
    let listed = stage.json(&["list", "--json", "some dir"]);
    assert_eq!(arguments(&listed), [format!("{shown}@x")]);
    // The snapshot itself, from elsewhere, through a link.
    let show = [OsStr::new("show").to_owned(), path(b"link/../some dir/.fsnap/", b"@x")];
    assert!(stage.ok(show).contains(&format!("snapshot   link/../{shown}@x\n")));
    let said = stage.fsnap_as(0, 0, "/run/scene/m/some dir/.fsnap", [OsStr::new("hold"), &path(b"", b"@x")]);
    assert_eq!((said.code, &said.err[..]), (0, ""));
    let listed = stage.json(&["list", "--json", "link/.fsnap"]);
    assert_eq!(
        (arguments(&listed)[0], &listed["snapshots"][0]["held"]),
        (&format!("link/{}@x", &shown[9..])[..], &true.into())
    );
    let release = [OsStr::new("release").to_owned(), path(b"link/.fsnap/", b"@x")];
    stage.ok(release);
    let restore = [OsStr::new("restore").to_owned(), "-y".into(), path(b"/run/scene/m/link/.fsnap/", b"@x")];
    let told = stage.ok(restore);
    assert!(
        told.contains("to go back: fsnap restore $'/run/scene/m/link/a b@c\\n\\'\\xff@before-restore-"),
        "{told}"
    );
    let delete = [OsStr::new("delete").to_owned(), path(b"/run/scene/m/some dir/", b"@x")];
    stage.ok(delete);

    // A link to the file, on another file system.
    let said = stage.fsnap_as(0, 0, "/run/scene", ["create", "elsewhere", "-n", "far"]);
    assert_eq!((said.code, &said.out[..]), (0, "elsewhere@far\n"), "{}", said.err);
    let said = stage.fsnap_as(0, 0, "/run/scene", ["delete", "elsewhere@far"]);
    assert_eq!((said.code, &said.err[..]), (0, ""));
    for args in
        [&["create", "/etc/passwd"][..], &["list", "/etc"], &["show", "/etc/passwd@a"], &["status", "/"]]
    {
        stage.refused(args, "it is on no GlusterFS mount");
    }
    stage.refused(["create", "/nowhere/f"], "there is no such file");
    stage.refused(["create", "some dir/.fsnap/nothing"], "there is no such file");
    left_behind(stage);
}

/// Where a file's new name is too long for its snapshots they stay; and what is a snapshot of a file elsewhere.
fn left_behind(stage: &Stage) {
    let long = "n".repeat(250);
    fill(stage.file("moves"), 1000, 5);
    stage.ok(["create", "moves", "-n", "snapshot"]);
    fs::rename(stage.file("moves"), stage.file(&long)).unwrap();
    let name = format!("{long}@snapshot");
    assert_eq!(stage.json(&["show", "--json", &name])["snapshot"], name);
    let path = ".fsnap/moves@snapshot";
    let shown = stage.json(&["show", "--json", path]);
    assert_eq!((&shown["snapshot"], &shown["file"]), (&path.into(), &Value::Null));
    assert_eq!(arguments(&stage.json(&["list", "--json", path])), [path]);
    stage.refused(["restore", "-y", path], "give FILE@NAME");
    stage.refused(["create", &long, "-n", "snapshot2"], "choose a shorter name");
    stage.ok(["delete", path]);
}

fn directories(stage: &Stage) {
    fs::create_dir_all(stage.file("t/a/b")).unwrap();
    for (n, file) in ["t/f2", "t/f1", "t/none", "t/a/b/deep"].iter().enumerate() {
        fill(stage.file(file), 1000, n as u64);
    }
    stage.ok(["create", "t/f1", "t/f2", "t/a/b/deep", "-n", "s"]);
    stage.ok(["create", "t/f1", "-n", "another"]);
    assert_eq!(arguments(&stage.json(&["list", "--json", "t"])), ["t/f1@s", "t/f1@another", "t/f2@s"]);
    let all = ["f1@s", "f1@another", "f2@s", "a/b/deep@s"];
    let said = stage.fsnap_as(0, 0, "/run/scene/m/t", ["list", "--json", "-r"]);
    assert_eq!(arguments(&serde_json::from_str(&said.out).unwrap()), all, "{}", said.err);
    assert_eq!(stage.ok(["list", "-r", "t"]).lines().count(), 5);
}

fn deleted_files(stage: &Stage) {
    let file = stage.file("t/f1");
    let sum = checksum(&file);
    // A file that is there, with a snapshot that looks like a deleted file's.
    fill(stage.file("t/f1@s"), 1000, 7);
    stage.ok(["create", "t/f1@s", "-n", "0123abcd"]);
    fs::remove_file(&file).unwrap();
    let listed = stage.json(&["list", "--json", "t"]);
    let (at, entry) = listed["snapshots"]
        .as_array()
        .unwrap()
        .iter()
        .enumerate()
        .find(|(_, entry)| entry["deleted"] == true && entry["name"] == "s")
        .expect("the deleted file's snapshot");
    assert_eq!(entry["file"], "t/f1");
    let path = arguments(&listed)[at];
    assert!(path.starts_with("t/.fsnap/f1@s@") && path.len() == "t/.fsnap/f1@s@01234567".len(), "{path}");
    assert!(arguments(&listed).contains(&"t/f1@s@0123abcd"), "{listed}");
    assert_eq!(stage.ok(["list", "t"]).matches(" deleted").count(), 2);
    assert_eq!(arguments(&stage.json(&["list", "--json", path])), [path]);
    assert!(stage.ok(["show", path]).contains("t/f1 (deleted)"));
    let alive = stage.json(&["show", "--json", "t/.fsnap/f1@s@0123abcd"]);
    assert_eq!((&alive["snapshot"], &alive["deleted"]), (&"t/f1@s@0123abcd".into(), &false.into()));

    stage.refused(["create", path], "it is a snapshot");
    stage.refused(["show", "t/f1@s"], "there is no such file");
    stage.ok(["hold", path]);
    stage.refused(["delete", path], "it is held");
    stage.ok(["release", path]);
    fill(&file, 10, 1);
    stage.refused(["restore", "-y", path], "rename that one first");
    fs::remove_file(&file).unwrap();
    assert_eq!(stage.ok(["restore", "-y", path]), "t/f1 is back, as of snapshot s\n");
    assert_eq!((checksum(&file), names(&file)), (sum, vec!["s".to_owned(), "another".to_owned()]));
}

fn ordinary_users(stage: &Stage) {
    let home = stage.file("home");
    fs::create_dir(&home).unwrap();
    let file = home.join("f");
    fill(&file, 1000, 1);
    for path in [&home, &file] {
        chown(path, Some(OWNER), Some(GROUP)).unwrap();
    }
    fs::set_permissions(&home, fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    let owner = |args: &[&str]| stage.fsnap_as(OWNER, GROUP, "/run/scene/m/home", args);
    let reader = |args: &[&str]| stage.fsnap_as(READER, GROUP, "/run/scene/m/home", args);
    let stranger = |args: &[&str]| stage.fsnap_as(READER, READER, "/run/scene/m/home", args);
    for args in
        [&["create", "f", "-n", "a"][..], &["hold", "f@a"], &["release", "f@a"], &["restore", "-y", "f@a"]]
    {
        let said = owner(args);
        assert_eq!(said.code, 0, "{args:?}: {}", said.err);
    }
    let listed = reader(&["list", "--json"]);
    assert_eq!(arguments(&serde_json::from_str(&listed.out).unwrap())[0], "f@a", "{}", listed.err);
    for args in
        [&["create", "f"][..], &["delete", "f@a"], &["hold", "f@a"], &["restore", "-y", "--no-backup", "f@a"]]
    {
        reader(args).refused("no write permission");
    }
    reader(&["restore", "-y", "f@a"]).refused("a snapshot of what it is now can't be taken");
    stranger(&["list"]).refused("no read permission");
    stranger(&["show", "f@a"]).refused("no read permission");
    assert_eq!(stranger(&["status"]).code, 0);
    // Who may write but not read takes one all the same.
    fs::set_permissions(&file, fs::Permissions::from_mode(0o222)).unwrap();
    let said = stage.fsnap_as(READER, READER, "/run/scene/m/home", ["create", "f", "-n", "blind"]);
    assert_eq!((said.code, &said.out[..]), (0, "f@blind\n"), "{}", said.err);
}

fn status_and_errors(stage: &Stage) {
    let status = stage.json(&["status", "--json", "some dir"]);
    let mount = &status["mount"];
    assert_eq!((&mount["volume"], &mount["path"]), (&"v".into(), &"/some dir".into()));
    assert_eq!((&mount["point"], &mount["server"]), (&"/run/scene/m".into(), &"127.1.1.1".into()));
    assert_eq!((&status["reflink"], &status["options"]["on-unlink"]), (&true.into(), &"keep".into()));
    let text = stage.ok(["status"]);
    assert!(text.starts_with("volume ") && text.contains("max-snapshots   256\n"), "{text}");

    for wrong in [&["create"][..], &["delete", "f"], &["create", "f", "-n", "a/b"], &["nonsense"], &[]] {
        assert_eq!(stage.fsnap(wrong).code, 2, "{wrong:?}");
    }
    assert!(stage.ok(["create", "--help"]).contains("Examples:"));
    let bricks: Vec<_> =
        stage.0.volume.bricks().iter().map(|brick| brick.dir.display().to_string()).collect();
    let said = stage.fsnap(["check", &bricks[0], &bricks[1]]);
    assert!(said.code <= 1 && said.out.matches(" files with ").count() == 2, "{}{}", said.out, said.err);
    let said = stage.fsnap(["check", "/nowhere", &bricks[1]]);
    assert!(said.code == 3 && said.err.starts_with("fsnap: /nowhere: "), "{}", said.err);

    stage.0.volume.set("user.xlator.fsnap.max-snapshots", "1");
    known(stage, "max-snapshots", 1);
    stage.ok(["create", "g", "-n", "one"]);
    stage.refused(["create", "g"], "max-snapshots");
    stage.refused(["restore", "-y", "g@one"], "--no-backup");
    stage.0.volume.set("user.xlator.fsnap.enabled", "off");
    known(stage, "enabled", false);
    for args in [&["create", "g"][..], &["list", "g"], &["list"], &["delete", "g@one"]] {
        stage.refused(args, "fsnap is switched off");
    }
    stage.0.volume.set("user.xlator.fsnap.enabled", "on");
    known(stage, "enabled", true);
    // By setfattr it is refused then; the command has a way of its own.
    stage.0.volume.set("user.xlator.fsnap.direct-restore", "off");
    known(stage, "direct-restore", "off");
    assert_eq!(fsnap(stage.file("g"), "restore", "one"), Err(Errno::EOPNOTSUPP));
    stage.restore("g", "one");
    stage.0.volume.set("features.trash", "on");
    stage.refused(["restore", "-y", "--no-backup", "g@one"], "features.trash");
}

/// Waits until the brick of `g`, and that of its directory, know the option: glusterd does not.
fn known(stage: &Stage, option: &str, value: impl Into<Value>) {
    let value = value.into();
    wait_until("the bricks know the option", Duration::from_secs(20), || {
        ["g", "."]
            .iter()
            .all(|path| ask(stage.file(path), "status").is_ok_and(|s| s["options"][option] == value))
    });
}

#[test]
fn on_a_replicate_volume() {
    let stage = Stage::new(volume(VolumeType::Replicate(3), 3, 320 * MIB, |volume| volume));
    let file = stage.file("f");
    fill(&file, 1000, 1);
    let first = checksum(&file);
    chown(&file, Some(OWNER), Some(GROUP)).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    let owner = |args: &[&str]| stage.fsnap_as(OWNER, GROUP, "/run/scene/m", args);
    assert_eq!(owner(&["create", "f", "-n", "a"]).out, "f@a\n");
    fill(&file, 5000, 2);
    let reader = stage.fsnap_as(READER, GROUP, "/run/scene/m", ["restore", "-y", "--no-backup", "f@a"]);
    reader.refused("no write permission");
    let said = owner(&["restore", "-y", "f@a"]);
    assert!(said.code == 0 && said.out.starts_with("f is restored to a\n"), "{}{}", said.out, said.err);
    sees(&file, first);
    let [_, before] = &names(&file)[..] else { panic!("a snapshot of what it was") };
    assert!(before.starts_with("before-restore-"));
    stage.0.volume.set("features.trash", "on");
    stage.refused(["restore", "-y", "f@a"], "features.trash");
    assert_eq!(names(&file).len(), 2, "what was taken before the restore is taken back");
    // By the snapshot's own path too.
    stage.ok(["hold", ".fsnap/f@a"]);
    assert_eq!(stage.json(&["show", "--json", ".fsnap/f@a"])["held"], true);
    stage.ok(["release", ".fsnap/f@a"]);
    stage.ok(["delete", ".fsnap/f@a"]);
    assert_eq!(names(&file).len(), 1);
}

#[test]
fn every_brick_is_asked() {
    let scene = common::scene_with_fsnap();
    scene.start_glusterd();
    let disks = scene.disks(3, fsnap_testbed::Fs::Xfs, 320 * MIB);
    let volume = scene.volume("v").layout(VolumeType::Replicate(3)).disks(&disks).start();
    let mount = volume.mount("/run/scene/m");
    let stage = Stage::new(Setup { mount, volume, disks, scene });
    let file = stage.file("f");
    fill(&file, 1000, 1);
    let Setup { volume, mount, .. } = &stage.0;
    // The others run on as they were started: without fsnap.
    volume.set("user.xlator.fsnap", "posix");
    volume.kill_brick(0);
    volume.restart_brick(0);
    mount.wait_connected(3);
    let second = "brick 127.1.1.2:/run/scene/b2/brick";
    stage.refused(["create", "f"], &format!("{second} has no fsnap"));
    let other = stage.0.scene.path("/run/scene/other.so");
    let version = VERSION.replace(char::is_numeric, "9");
    fs::write(&other, of_version(&version)).unwrap();
    for (n, so) in [(2, translator_path()), (1, other)] {
        stage.0.scene.install_translator(so, "fsnap");
        volume.kill_brick(n);
        volume.restart_brick(n);
        mount.wait_connected(3);
    }
    fsnap(&file, "create", "a").unwrap();
    let differs = format!("{second} has fsnap {version}, this is {VERSION}: install the same everywhere");
    stage.refused(["create", "f"], &differs);
    stage.refused(["restore", "-y", "--no-backup", "f@a"], &differs);
    // Too few bricks: nothing is done, and it does not take for ever.
    volume.kill_brick(1);
    volume.kill_brick(2);
    for args in [["create", "/run/scene/m/f", "-nb"], ["restore", "-y", "/run/scene/m/f@a"]] {
        let said = stage.fsnap_as(0, 0, "/", args);
        assert_eq!((said.code, &said.out[..]), (1, ""), "{}", said.err);
        assert!(["not connected", "too few"].iter().any(|part| said.err.contains(part)), "{}", said.err);
    }
}

/// Where there can be no private graph it is said why; where each file is on one brick alone the mount does as well.
#[test]
fn without_a_private_graph() {
    for (layout, bricks) in [(VolumeType::Replicate(3), 3), (VolumeType::Distribute, 2)] {
        let stage = Stage::new(volume(layout, bricks, 1024 * MIB, |volume| volume));
        let (file, scene) = (stage.file("f"), &stage.0.scene);
        fill(&file, MIB, 1);
        let sum = checksum(&file);
        stage.ok(["create", "f", "-n", "a"]);
        let by_mount = layout == VolumeType::Distribute;
        let dir = run(scene.command("glusterfs").arg("--print-xlatordir"));
        let dir = PathBuf::from(String::from_utf8_lossy(&dir.stdout).trim());
        fs::remove_file(scene.path(dir.join("user/fsnap-client.so"))).unwrap();
        let said = stage.fsnap(["create", "f", "-n", "c"]);
        match by_mount {
            true => assert_eq!((said.code, &said.out[..]), (0, "f@c\n"), "{}", said.err),
            false => {
                said.refused("fsnap is not installed here as user/fsnap-client");
                said.refused("`setfattr -n glusterfs.fsnap.create -v NAME FILE` takes one without that");
            }
        }
        fill(&file, 2 * MIB, 2);
        let said = stage.fsnap(["restore", "--yes", "--no-backup", "f@a"]);
        match by_mount {
            true => {
                assert_eq!(said.code, 0, "{}", said.err);
                sees(&file, sum);
            }
            false => said.refused("fsnap is not installed here as user/fsnap-client"),
        }
    }
}

/// Bricks that are not running, or let nobody in, and no glusterd that would know.
#[test]
fn who_does_not_answer() {
    let stage = Stage::new(volume(VolumeType::Replicate(3), 3, 1024 * MIB, |volume| volume));
    let Setup { volume, scene, .. } = &stage.0;
    fill(stage.file("f"), MIB, 1);
    // There the file is found without a brick.
    let knows = |at: &str| {
        let mount = volume.mount_with(at, &["--entry-timeout=600", "--attribute-timeout=600"]);
        fs::metadata(mount.path().join("f")).unwrap();
        mount
    };
    let says = |at: &str, part: &str| {
        wait_until(part, Duration::from_secs(30), || {
            let said = fsnap_in(scene, 0, 0, "/", ["create", &format!("{at}/f")]);
            said.code == 1 && said.err.contains(part)
        });
    };
    let [first, second] = ["/run/scene/first", "/run/scene/second"];
    let known = knows(first);
    volume.set("auth.reject", "*");
    says(first, "do not let this machine, or this user, in");
    volume.gluster(["volume", "reset", "v", "auth.reject"]).unwrap();
    drop(known);
    let _known = knows(second);
    (0..3).for_each(|brick| volume.kill_brick(brick));
    says(second, ":/run/scene/b1/brick is not running (`gluster volume status`)");
    let glusterd = fs::read_to_string(scene.path("/run/glusterd.pid")).unwrap();
    run(scene.command("kill").arg(glusterd.trim()));
    says(second, "is glusterd up there?");
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The translator, as one of another version: it is the same but for what it says.
fn of_version(other: &str) -> Vec<u8> {
    let mut bytes = fs::read(translator_path()).expect("the translator");
    let at = |bytes: &[u8]| bytes.windows(VERSION.len()).position(|part| part == VERSION.as_bytes());
    assert!(at(&bytes).is_some());
    while let Some(at) = at(&bytes) {
        bytes[at..][..VERSION.len()].copy_from_slice(other.as_bytes());
    }
    bytes
}

#[test]
fn on_a_volume_without_fsnap() {
    let scene = fsnap_testbed::Scene::new();
    scene.start_glusterd();
    let disks = scene.disks(1, fsnap_testbed::Fs::Xfs, 320 * MIB);
    let volume = scene.volume("v").disks(&disks).start();
    let mount = volume.mount("/run/scene/m");
    let stage = Stage::new(Setup { mount, volume, disks, scene });
    fill(stage.file("f"), 1000, 1);
    let absent = "fsnap is not on this volume";
    for args in [&["list", "f"][..], &["list"], &["show", "f@a"], &["status"]] {
        stage.refused(args, absent);
    }
    stage.refused(["create", "f"], "not installed here");
    stage.0.scene.install_translator(translator_path(), "fsnap-client");
    stage.refused(["create", "f"], absent);
    let glusterd = fs::read_to_string(stage.0.scene.path("/run/glusterd.pid")).unwrap();
    run(stage.0.scene.command("kill").arg(glusterd.trim()));
    stage.refused(["create", "f"], "is glusterd up there");
}

/// Whoever runs it often does not run out of ports, nor do GlusterFS's clients look for one for ever longer.
#[test]
fn no_ports_are_kept() {
    const RUNS: usize = 20;
    let stage = Stage::new(volume(VolumeType::Replicate(3), 3, 1024 * MIB, |volume| volume));
    fill(stage.file("f"), MIB, 1);
    // TIME_WAIT of `include/net/tcp_states.h`, in the fourth column.
    let kept = || {
        let sockets = fs::read_to_string(format!("/proc/{}/net/tcp", stage.0.scene.pid())).unwrap();
        sockets.lines().filter(|line| line.split_whitespace().nth(3) == Some("06")).count()
    };
    let before = kept();
    for n in 0..RUNS {
        stage.ok(["create", "f", "--name", &format!("s{n}")]);
    }
    stage.restore("f", "s0");
    let after = kept();
    assert!(after < before + RUNS / 2, "{before} before, {after} after");
}
