//! Bricks in use.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fsnap_core::Gfid;
use fsnap_store::Store;
use fsnap_store::check::{self, Options, ProblemKind};
use fsnap_testbed::{Fs, content};

use super::*;

#[test]
fn repair_wants_the_brick_alone() {
    let (b, base) = scene(Fs::Xfs);
    symlink(base.to_string(), own(&b, &format!("awaited/{}", next_gfid()))).unwrap();
    let options = Options { repair: true, pause: QUICK, ..Options::default() };
    let store = b.store();
    b.refuses(libc::EBUSY, || check::run(&b.path, &options));
    drop(store);
    // A brick's process without fsnap, as storage/posix has the directory open.
    let copy = fsnap_testbed::Scene::new();
    let disk = copy.disk(Fs::Ext4, 32 << 20, "/run/scene/bin");
    let program = disk.path().join("glusterfsd");
    fs::copy("/bin/sleep", &program).unwrap();
    let directory = fs::File::open(&b.path).unwrap();
    let mut process = std::process::Command::new(&program).arg("600").stdin(directory).spawn().unwrap();
    let refused = check::run(&b.path, &options);
    process.kill().unwrap();
    process.wait().unwrap();
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains(&format!("process {}", process.id())), "{refused}");
    repairs(&b, ProblemKind::NoteStale);
}

#[test]
fn a_busy_brick_gives_no_false_alarms() {
    on_both(|b| {
        let store = b.store();
        let stop = AtomicBool::new(false);
        let bases: Vec<Gfid> = (0..3)
            .map(|i| {
                b.make_dir(format!("d{i}"));
                b.make_dir(format!("d{i}/e"));
                b.make_file(format!("d{i}/f"), &content(5000, i))
            })
            .collect();
        std::thread::scope(|scope| {
            for (i, &base) in bases.iter().enumerate() {
                let (b, store, stop) = (&b, &store, &stop);
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        work(b, store, i, base);
                    }
                });
            }
            let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                for _ in 0..15 {
                    let options = Options { pause: Duration::from_millis(20), ..Options::default() };
                    let report = check::run(&b.path, &options).unwrap();
                    assert!(report.in_use);
                    assert_eq!(kinds(&report), [], "{:#?}", report.problems);
                }
            }));
            stop.store(true, Ordering::Relaxed);
            if let Err(panic) = checked {
                std::panic::resume_unwind(panic);
            }
        });
        drop(store);
        assert_eq!(kinds(&look(&b)), []);
    });
}

/// One round of what can happen to a file.
fn work(b: &TestBrick, store: &Store, i: usize, base: Gfid) {
    for name in ["a", "b", "c"] {
        snap(store, base, name);
    }
    store.hold(base, &name("b"), true).unwrap();
    store.restore(base, &name("a")).unwrap();
    let (at, moved) = (format!("d{i}/f"), format!("d{i}/e/g"));
    b.rename(&at, &moved);
    store.follow(base).unwrap();
    b.rename(&moved, &at);
    store.follow(base).unwrap();
    store.bury(base).unwrap();
    b.unlink(&at);
    store.follow(base).unwrap();
    store.empty_grave(base).unwrap();
    store.revive(base, &name("c"), |_, _| Ok(())).unwrap();
    store.hold(base, &name("b"), false).unwrap();
    for name in ["b", "a", "c"] {
        store.delete(base, &self::name(name)).unwrap();
    }
}
