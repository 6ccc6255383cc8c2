//! The checker: a healthy brick has no problems, and each kind of damage is told by its name.

mod catalogues;
mod in_use;
mod own;
mod payloads;
mod random;

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use fsnap_core::Gfid;
use fsnap_core::record::{PayloadRecord, Record};
use fsnap_store::check::{self, Options, ProblemKind, Report};
use fsnap_testbed::{Fs, content, set_entry_line, setx};

use crate::common::*;

const QUICK: Duration = Duration::from_millis(2);

fn look(b: &TestBrick) -> Report {
    let before = b.tree();
    let report = check::run(&b.path, &Options { pause: QUICK, ..Options::default() }).unwrap();
    assert!(b.tree() == before, "a check has changed something");
    report
}

fn kinds(report: &Report) -> Vec<ProblemKind> {
    report.problems.iter().map(|problem| problem.kind).collect()
}

/// Asserts that a check finds just `kind`, `count` times.
#[track_caller]
fn finds(b: &TestBrick, kind: ProblemKind, count: usize) -> Report {
    let report = look(b);
    assert_eq!(kinds(&report), vec![kind; count], "{:#?}", report.problems);
    report
}

#[track_caller]
fn repair(b: &TestBrick) -> Report {
    check::run(&b.path, &Options { repair: true, pause: QUICK, ..Options::default() }).unwrap()
}

/// Asserts that a check finds just `kind` and that a repair sets it right.
#[track_caller]
fn repairs(b: &TestBrick, kind: ProblemKind) {
    let report = finds(b, kind, 1);
    assert!(report.problems[0].repairable, "{:#?}", report.problems);
    let report = repair(b);
    assert_eq!(report.repaired.iter().map(|p| p.kind).collect::<Vec<_>>(), [kind]);
    assert!(report.is_clean(), "{:#?}", report.problems);
}

/// Asserts that a check finds just `kind` and that a repair leaves everything as it is.
#[track_caller]
fn reports(b: &TestBrick, kind: ProblemKind) {
    let report = finds(b, kind, 1);
    assert!(!report.problems[0].repairable, "{:#?}", report.problems);
    let before = b.tree();
    let report = repair(b);
    assert_eq!((kinds(&report), report.repaired.len()), (vec![kind], 0), "{:#?}", report.problems);
    assert!(b.tree() == before, "a repair has changed something");
}

/// A brick with a file `d/f` that has the snapshots `a` and `b`; nobody uses it.
fn scene(fs: Fs) -> (TestBrick, Gfid) {
    let b = brick(fs);
    b.make_dir("d");
    let base = b.make_file("d/f", &content(20_000, 1));
    let store = b.store();
    snap(&store, base, "a");
    snap(&store, base, "b");
    drop(store);
    assert_eq!(kinds(&look(&b)), []);
    (b, base)
}

fn bury(b: &TestBrick, base: Gfid) {
    let store = b.store();
    store.bury(base).unwrap();
    b.unlink("d/f");
    store.follow(base).unwrap();
    store.empty_grave(base).unwrap();
}

fn tombstone(base: Gfid) -> String {
    format!("d/.fsnap/f@.{base}")
}

fn own(b: &TestBrick, at: &str) -> std::path::PathBuf {
    b.join(".glusterfs/fsnap").join(at)
}

fn set_record(b: &TestBrick, payload: Gfid, change: impl Fn(PayloadRecord) -> PayloadRecord) {
    let record = change(b.payload_record(payload));
    setx(b.handle(payload), "trusted.fsnap.record", record.to_string()).unwrap();
}

fn set_entry(b: &TestBrick, base: Gfid, name: &str, change: impl Fn(Record) -> Record) {
    let record = change(b.record(base, name));
    set_entry_line(b.handle(base), name, record.to_string()).unwrap();
}

fn symlink_again(text: &str, at: &Path) {
    let _ = fs::remove_file(at);
    symlink(text, at).unwrap();
}

#[test]
fn healthy_bricks() {
    on_both(|b| {
        assert_eq!(kinds(&look(&b)), [], "never used");
        assert!(!own(&b, "").exists());
        let store = b.store();
        b.make_dir("d");
        b.make_dir("d/e");
        b.make_dir("d/e/g");
        let f = b.make_file("d/f", &content(9000, 1));
        let linked = b.make_file("d/e/l", b"x");
        b.link("d/e/l", "d/m");
        let moved = b.make_file("d/e/from", b"y");
        let buried = b.make_file("d/e/buried", b"z");
        let back = b.make_file("d/e/g/back", b"w");
        let odd = b.make_file(Path::new(std::ffi::OsStr::from_bytes(b"d/\xff\n\\")), b"o");
        for base in [f, linked, moved, buried, back, odd] {
            for name in ["a", "b", "c"] {
                snap(&store, base, name);
            }
        }
        store.restore(f, &name("b")).unwrap();
        store.hold(f, &name("a"), true).unwrap();
        store.delete(f, &name("c")).unwrap();
        b.unlink("d/e/l");
        store.follow(linked).unwrap();
        b.rename("d/e/from", "d/to");
        store.follow(moved).unwrap();
        for (base, at) in [(buried, "d/e/buried"), (back, "d/e/g/back")] {
            store.bury(base).unwrap();
            b.unlink(at);
            store.follow(base).unwrap();
            store.empty_grave(base).unwrap();
        }
        store.revive(back, &name("a"), |_, _| Ok(())).unwrap();
        let emptied = b.make_file("d/emptied", b"x");
        snap(&store, emptied, "a");
        store.delete(emptied, &name("a")).unwrap();
        b.make_link_file("d/.fsnap/elsewhere@a", Gfid::ROOT.payload(&name("z"), None, 9));
        b.rename_dir("d/e", "d/renamed");
        symlink("..", b.join("d/loop")).unwrap();
        tool("mkfifo", &[], b.join("d/fifo"));
        let report = look(&b);
        assert_eq!(kinds(&report), [], "{:#?}", report.problems);
        assert_eq!((report.files, report.snapshots, report.in_use), (6, 17, true));
        drop(store);
        assert!(!look(&b).in_use);
        let before = b.tree();
        let report = repair(&b);
        assert!(report.problems.is_empty() && report.repaired.is_empty());
        assert!(b.tree() == before, "nothing to repair");
    });
}
