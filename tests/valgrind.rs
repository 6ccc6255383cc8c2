//! The whole command set under valgrind: no invalid access, no use of what was never set, nothing lost.
//!
//! The library is linked with `-z nodelete` (build.rs): its symbols are still there when the leaks are told.
#![allow(missing_docs)]

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use common::{MIB, ask, fsnap, ls, names};
use fsnap_testbed::{Errno, Fs, Scene, VOLFILE_FSNAP, fill, getx, listx, setx};

/// Known errors of GlusterFS's own.
const SUPPRESSIONS: &str = include_str!("valgrind.supp");
/// Our library in a stack.
const OURS: &str = "/fsnap.so</obj>";

#[test]
fn no_memory_error_and_nothing_lost() {
    if Command::new("valgrind").arg("--version").output().is_err() {
        eprintln!("SKIPPED: memory errors are not looked for, there is no valgrind");
        return;
    }
    let errors = errors_of(|root, scene, pid| {
        tour(root);
        lives(root);
        refusals(root);
        assert!(scene.statedump(pid).contains("[user.fsnap.fsnap]"));
    });
    let wrong: Vec<&String> = errors.iter().filter(|error| is_wrong(error)).collect();
    println!("{} errors, {} of them ours or invalid", errors.len(), wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.iter().map(|e| short(e)).collect::<Vec<_>>().join("\n\n"));
}

/// What memcheck reports of one process that serves all that `run` does.
fn errors_of(run: impl FnOnce(&Path, &Scene, u32)) -> Vec<String> {
    let scene = common::scene_with_fsnap();
    let _disk = scene.disk(Fs::Xfs, 1024 * MIB, "/run/scene/b1");
    fs::write(scene.path("/run/scene/supp"), SUPPRESSIONS).unwrap();
    let tool = [
        "valgrind",
        "--leak-check=full",
        "--show-leak-kinds=definite",
        "--num-callers=40",
        "--suppressions=/run/scene/supp",
        "--xml=yes",
        "--xml-file=/run/scene/valgrind.%p",
    ];
    let mount = scene.mount_volfile_under(&tool, VOLFILE_FSNAP, "/run/scene/b1/brick", "/run/scene/m");
    run(&mount.path(), &scene, mount.pid());
    mount.end(Duration::from_secs(60));
    // The daemon's, and its parent's, which has left it alone.
    let reports = ls(scene.path("/run/scene")).into_iter().filter(|name| name.starts_with("valgrind."));
    let reports: Vec<String> =
        reports.map(|name| fs::read_to_string(scene.path("/run/scene").join(name)).unwrap()).collect();
    assert!(reports.iter().any(|xml| xml.contains("<state>FINISHED</state>")), "valgrind has not ended");
    let errors = reports.iter().flat_map(|xml| xml.split("<error>").skip(1));
    errors.map(|error| error.split("</error>").next().unwrap_or(error).to_owned()).collect()
}

/// Any error that is no leak; and of leaks, those with a frame of ours.
fn is_wrong(error: &str) -> bool {
    !error.contains("<kind>Leak_")
        || error.contains("<kind>Leak_DefinitelyLost</kind>") && error.contains(OURS)
}

/// The kind, and the functions of the stack.
fn short(error: &str) -> String {
    let inside = |tag: &str| {
        let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
        let parts = error.split(&open).skip(1).filter_map(|part| part.split(&close).next());
        parts.map(str::to_owned).collect::<Vec<_>>()
    };
    format!("{}{}: {}", inside("kind").concat(), inside("text").concat(), inside("fn").join(" < "))
}

/// All commands and questions.
fn tour(root: &Path) {
    let file = root.join("f");
    fill(&file, MIB, 1);
    setx(&file, "user.colour", "red").unwrap();
    for n in 0..20 {
        fsnap(&file, "create", format!("s{n}")).unwrap();
        fill(&file, 100_000 + n, n);
    }
    fsnap(&file, "create", "t;created=1700000000.000000005;id=11111111-2222-4333-8444-555555555555").unwrap();
    assert_eq!(names(&file).len(), 21);
    ask(&file, "info.s3").unwrap();
    ask(root, "status").unwrap();
    fsnap(&file, "hold", "s3").unwrap();
    assert_eq!(fsnap(&file, "delete", "s3"), Err(Errno::EBUSY));
    fsnap(&file, "release", "s3").unwrap();
    for n in [3, 7, 5] {
        fsnap(&file, "restore", format!("s{n}")).unwrap();
        fsnap(&file, "delete", format!("s{n}")).unwrap();
    }
    assert_eq!(ls(root), ["f"]);
    assert_eq!(ls(root.join(".fsnap")).len(), 18);
    fs::read(root.join(".fsnap/f@s9")).unwrap();
    listx(root.join(".fsnap/f@s9")).unwrap();
    listx(&file).unwrap();
}

/// Renamed, linked, unlinked, replaced, brought back; and directories.
fn lives(root: &Path) {
    let (d, e) = (root.join("d"), root.join("e"));
    fs::create_dir(&d).unwrap();
    fs::create_dir(&e).unwrap();
    for n in 0..10 {
        let (f, g) = (d.join("f"), e.join("g"));
        fill(&f, 10_000, n);
        fsnap(&f, "create", "s").unwrap();
        fs::hard_link(&f, d.join("h")).unwrap();
        fs::remove_file(&f).unwrap();
        fs::rename(d.join("h"), &g).unwrap();
        fs::remove_file(&g).unwrap();
        let kept = e.join(".fsnap").join(&ls(e.join(".fsnap"))[0]);
        fsnap(&kept, "restore", "s").unwrap();
        assert_eq!(fs::remove_dir(&e).unwrap_err().raw_os_error(), Some(Errno::ENOTEMPTY as i32));
        fs::write(&f, b"x").unwrap();
        fs::rename(&f, &g).unwrap();
        let kept = e.join(".fsnap").join(&ls(e.join(".fsnap"))[0]);
        fsnap(&kept, "delete", "s").unwrap();
        fs::remove_file(&g).unwrap();
    }
    // Beneath what waits before it looks whether somebody has a deleted file open.
    std::thread::sleep(Duration::from_secs(3));
    fs::remove_dir(&d).unwrap();
    fs::remove_dir(&e).unwrap();
}

/// What is refused, in each of its ways.
fn refusals(root: &Path) {
    let (file, snapshot) = (root.join("f"), root.join(".fsnap/f@s9"));
    for n in 0..5 {
        for (path, verb, value, errno) in [
            (&file, "create", "bad/name", Errno::EINVAL),
            (&file, "create", "s9", Errno::EEXIST),
            (&file, "delete", "none", Errno::ENODATA),
            (&file, "restore", "none", Errno::ENODATA),
            (&file, "nonsense", "s9", Errno::EOPNOTSUPP),
            (&snapshot, "create", "u", Errno::EROFS),
            (&snapshot, "restore", "s9", Errno::EROFS),
        ] {
            assert_eq!(fsnap(path, verb, value), Err(errno), "{n}: {verb} {value}");
        }
        assert_eq!(ask(&file, "info.none"), Err(Errno::ENODATA));
        assert_eq!(setx(&file, "trusted.fsnap.seq", "1"), Err(Errno::EPERM));
        assert_eq!(getx(&file, "trusted.fsnap.seq"), Err(Errno::ENODATA));
        let readonly = Some(Errno::EROFS as i32);
        assert_eq!(fs::remove_file(&snapshot).unwrap_err().raw_os_error(), readonly);
        assert_eq!(fs::rename(&snapshot, root.join("x")).unwrap_err().raw_os_error(), readonly);
        assert_eq!(fs::write(root.join(".fsnap/x"), b"x").unwrap_err().raw_os_error(), readonly);
        assert_eq!(fs::create_dir(root.join(".fsnap/x")).unwrap_err().raw_os_error(), readonly);
        assert_eq!(setx(&snapshot, "user.x", "1"), Err(Errno::EROFS));
    }
}
