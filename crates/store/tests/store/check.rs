//! The checker: a healthy brick has no problems, and each kind of damage is told by its name.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fsnap_core::record::{Intent, PayloadRecord, Record};
use fsnap_core::{Error, Gfid};
use fsnap_store::Store;
use fsnap_store::check::{self, Kind, Options, Report, Severity};
use fsnap_testbed::{Fs, content, getx, listx, removex, setx};

use crate::common::*;

const QUICK: Duration = Duration::from_millis(2);

fn look(b: &Brick) -> Report {
    let before = b.tree();
    let report = check::run(&b.path, &Options { repair: false, pause: QUICK }).unwrap();
    assert!(b.tree() == before, "a check has changed something");
    report
}

fn kinds(report: &Report) -> Vec<Kind> {
    report.problems.iter().map(|problem| problem.kind).collect()
}

/// Asserts that a check finds just `kind`, `count` times.
#[track_caller]
fn finds(b: &Brick, kind: Kind, count: usize) -> Report {
    let report = look(b);
    assert_eq!(kinds(&report), vec![kind; count], "{:#?}", report.problems);
    report
}

#[track_caller]
fn repair(b: &Brick) -> Report {
    check::run(&b.path, &Options { repair: true, pause: QUICK }).unwrap()
}

/// Asserts that a check finds just `kind` and that a repair sets it right.
#[track_caller]
fn repairs(b: &Brick, kind: Kind) {
    let report = finds(b, kind, 1);
    assert!(report.problems[0].repairable, "{:#?}", report.problems);
    let report = repair(b);
    assert_eq!(report.repaired.iter().map(|p| p.kind).collect::<Vec<_>>(), [kind]);
    assert!(report.is_clean(), "{:#?}", report.problems);
}

/// Asserts that a check finds just `kind` and that a repair leaves everything as it is.
#[track_caller]
fn reports(b: &Brick, kind: Kind) {
    let report = finds(b, kind, 1);
    assert!(!report.problems[0].repairable, "{:#?}", report.problems);
    let before = b.tree();
    let report = repair(b);
    assert_eq!((kinds(&report), report.repaired.len()), (vec![kind], 0), "{:#?}", report.problems);
    assert!(b.tree() == before, "a repair has changed something");
}

/// A brick with a file `d/f` that has the snapshots `a` and `b`; nobody uses it.
fn scene(fs: Fs) -> (Brick, Gfid) {
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

fn bury(b: &Brick, base: Gfid) {
    let store = b.store();
    store.bury(base).unwrap();
    b.unlink("d/f");
    store.follow(base).unwrap();
    store.empty_grave(base).unwrap();
}

fn tombstone(base: Gfid) -> String {
    format!("d/.fsnap/f@.{base}")
}

fn own(b: &Brick, at: &str) -> std::path::PathBuf {
    b.join(".glusterfs/fsnap").join(at)
}

fn set_record(b: &Brick, payload: Gfid, change: impl Fn(PayloadRecord) -> PayloadRecord) {
    let record = change(b.payload_record(payload));
    setx(b.handle(payload), "trusted.fsnap.record", record.to_string()).unwrap();
}

fn set_entry(b: &Brick, base: Gfid, name: &str, change: impl Fn(Record) -> Record) {
    let record = change(b.record(base, name));
    setx(b.handle(base), format!("trusted.fsnap.snap.{name}"), record.to_string()).unwrap();
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

#[test]
fn entries() {
    for fs in reflink() {
        let (b, base) = scene(fs);
        let path = b.join("d/f");
        removex(&path, "trusted.fsnap.seq").unwrap();
        reports(&b, Kind::SeqMissing);
        setx(&path, "trusted.fsnap.seq", b"x").unwrap();
        reports(&b, Kind::SeqDamaged);
        setx(&path, "trusted.fsnap.seq", b"1").unwrap();
        reports(&b, Kind::EntrySeq);
        setx(&path, "trusted.fsnap.seq", b"2").unwrap();

        let good = getx(&path, "trusted.fsnap.snap.a").unwrap();
        for lie in [b"garbage".to_vec(), vec![0xff; 3000], Vec::new()] {
            setx(&path, "trusted.fsnap.snap.a", lie).unwrap();
            reports(&b, Kind::EntryDamaged);
        }
        set_lie(&b, base, &good);
        reports(&b, Kind::EntryDamaged);
        setx(&path, "trusted.fsnap.snap.a", &good).unwrap();
        setx(&path, "trusted.fsnap.snap.\u{1b}[31m", b"x").unwrap();
        let report = finds(&b, Kind::EntryDamaged, 1);
        assert!(!report.problems[0].to_string().contains('\u{1b}'));
        removex(&path, "trusted.fsnap.snap.\u{1b}[31m").unwrap();
        assert_eq!(kinds(&look(&b)), []);
    }
}

/// An entry that leads to the file itself.
fn set_lie(b: &Brick, base: Gfid, good: &[u8]) {
    setx(b.join("d/f"), "trusted.fsnap.snap.a", good).unwrap();
    set_entry(b, base, "a", |record| Record { gfid: base, ..record });
}

#[test]
fn entries_with_the_same_number() {
    let (b, base) = scene(Fs::Xfs);
    let id = Some(next_gfid());
    let gfid = base.payload(&name("b"), id, 1);
    // The payload `b` becomes one that was taken with an id, and with the number of `a`.
    let old = b.record(base, "b").gfid;
    set_record(&b, old, |r| PayloadRecord { entry: Record { seq: 1, id, gfid, ..r.entry }, ..r });
    setx(b.handle(old), "trusted.gfid", gfid.as_bytes()).unwrap();
    fs::create_dir_all(b.handle(gfid).parent().unwrap()).unwrap();
    fs::rename(b.handle(old), b.handle(gfid)).unwrap();
    fs::remove_file(own(&b, &format!("by-gfid/{old}"))).unwrap();
    symlink(base.to_string(), own(&b, &format!("by-gfid/{gfid}"))).unwrap();
    set_entry(&b, base, "b", |record| Record { seq: 1, id, gfid, ..record });
    reports(&b, Kind::EntryDuplicate);
}

#[test]
fn handles_of_what_is_not_ours() {
    for fs in reflink() {
        let (b, _) = scene(fs);
        let (file, dir) = (b.make_file("d/g", b"x"), b.make_dir("d/e"));
        assert_eq!(kinds(&look(&b)), []);
        let way = fs::read_link(b.handle(dir)).unwrap();
        for gfid in [file, dir] {
            fs::remove_file(b.handle(gfid)).unwrap();
            repairs(&b, Kind::HandleMissing);
        }
        assert_eq!(fs::read_link(b.handle(dir)).unwrap(), way);
        // As unlinks and renames do it.
        fs::remove_file(b.handle(dir)).unwrap();
        fs::remove_file(b.handle(file)).unwrap();
        let store = b.store();
        let lost = store.without_handles(b"/d/e/").unwrap();
        assert_eq!(lost.iter().map(|lost| lost.gfid).collect::<Vec<_>>(), [dir]);
        for lost in lost.iter().chain(&store.without_handles(b"/d/g").unwrap()) {
            store.put_back(lost).unwrap();
            store.put_back(lost).unwrap();
        }
        drop(store);
        assert_eq!(kinds(&look(&b)), []);
    }
}

#[test]
fn bases() {
    for fs in reflink() {
        let (b, base) = scene(fs);
        fs::remove_file(b.handle(base)).unwrap();
        reports(&b, Kind::BaseHandle);
        fs::write(b.handle(base), b"another").unwrap();
        reports(&b, Kind::BaseHandle);
        fs::remove_file(b.handle(base)).unwrap();
        fs::hard_link(b.join("d/f"), b.handle(base)).unwrap();
        assert_eq!(kinds(&look(&b)), []);
        for lie in [&b"short"[..], &[0; 16]] {
            setx(b.join("d/f"), "trusted.gfid", lie).unwrap();
            reports(&b, Kind::BaseGfid);
        }
    }
}

#[test]
fn payloads_that_are_missing_or_something_else() {
    for fs in reflink() {
        let (b, base) = scene(fs);
        let (gfid, leaf) = (b.record(base, "a").gfid, b.join("d/.fsnap/f@a"));
        // Only the handle is gone: linked again.
        let inode = fs::metadata(&leaf).unwrap().ino();
        fs::remove_file(b.handle(gfid)).unwrap();
        repairs(&b, Kind::PayloadHandle);
        assert_eq!(fs::metadata(b.handle(gfid)).unwrap().ino(), inode);
        fs::remove_file(b.handle(gfid)).unwrap();
        fs::write(b.handle(gfid), b"another").unwrap();
        reports(&b, Kind::PayloadHandle);
        fs::remove_file(b.handle(gfid)).unwrap();
        symlink("nowhere", b.handle(gfid)).unwrap();
        reports(&b, Kind::PayloadHandle);
        fs::remove_file(b.handle(gfid)).unwrap();
        fs::hard_link(&leaf, b.handle(gfid)).unwrap();
        // A copy claims to be it as well: nobody guesses which is right.
        tool("cp", &["-a", leaf.to_str().unwrap()], b.join("d/copy"));
        finds_mine(&b, gfid, "d/copy");
        fs::remove_file(b.handle(gfid)).unwrap();
        assert!(look(&b).problems.iter().all(|problem| !problem.repairable));
        fs::remove_file(b.join("d/copy")).unwrap();
        fs::hard_link(&leaf, b.handle(gfid)).unwrap();
        assert_eq!(kinds(&look(&b)), []);
        // Only the name is gone.
        let aside = own(&b, "aside");
        fs::remove_file(&leaf).unwrap();
        let report = finds(&b, Kind::PayloadNames, 1);
        assert_eq!(report.problems[0].path, gfid.handle());
        reports(&b, Kind::PayloadNames);
        fs::hard_link(b.handle(gfid), &leaf).unwrap();
        fs::hard_link(&leaf, b.join("d/more")).unwrap();
        reports(&b, Kind::PayloadNames);
        fs::remove_file(b.join("d/more")).unwrap();
        // All is gone; the note is needed for healing.
        fs::remove_file(&leaf).unwrap();
        fs::remove_file(b.handle(gfid)).unwrap();
        reports(&b, Kind::PayloadMissing);
        tool("mkfifo", &[], b.handle(gfid));
        reports(&b, Kind::PayloadType);
        fs::remove_file(b.handle(gfid)).unwrap();
        fs::hard_link(b.join("d/f"), b.handle(gfid)).unwrap();
        reports(&b, Kind::PayloadGfid);
        assert!(!aside.exists() && own(&b, &format!("by-gfid/{gfid}")).is_symlink());
    }
}

/// Asserts that all that is found is about the file at `at`, which has the gfid of another.
#[track_caller]
fn finds_mine(b: &Brick, gfid: Gfid, at: &str) {
    let report = look(b);
    assert!(kinds(&report).contains(&Kind::PayloadHandle), "{:#?}", report.problems);
    assert!(report.problems.iter().all(|p| p.path == Path::new(at) && p.gfid == Some(gfid)));
}

#[test]
fn payloads_that_say_something_else() {
    for fs in reflink() {
        let (b, base) = scene(fs);
        let other = b.make_file("d/g", b"other");
        let (gfid, leaf) = (b.record(base, "a").gfid, b.join("d/.fsnap/f@a"));
        let good = getx(&leaf, "trusted.fsnap.record").unwrap();
        for garbage in [&b"garbage"[..], b"", &[0xff; 600]] {
            setx(&leaf, "trusted.fsnap.record", garbage).unwrap();
            reports(&b, Kind::PayloadRecord);
        }
        removex(&leaf, "trusted.fsnap.record").unwrap();
        reports(&b, Kind::PayloadRecord);
        setx(&leaf, "trusted.fsnap.record", &good).unwrap();
        // One that claims to be another file's is nobody's to throw away: an entry leads to it.
        setx(b.join("d/g"), "trusted.fsnap.seq", b"9").unwrap();
        set_record(&b, gfid, |record| PayloadRecord { base: other, ..record });
        let found = kinds(&look(&b));
        assert!(found.contains(&Kind::PayloadRecord) && !found.contains(&Kind::Orphan), "{found:?}");
        set_record(&b, gfid, |record| PayloadRecord { base: next_gfid(), ..record });
        let found = kinds(&look(&b));
        assert!(found.contains(&Kind::PayloadRecord) && !found.contains(&Kind::BaseMissing), "{found:?}");
        repair(&b);
        assert!(leaf.exists() && b.lost().is_empty());
        setx(&leaf, "trusted.fsnap.record", &good).unwrap();
        symlink_again(&base.to_string(), &own(&b, &format!("by-gfid/{gfid}")));

        setx(&leaf, "trusted.gfid", other.as_bytes()).unwrap();
        reports(&b, Kind::PayloadGfid);
        setx(&leaf, "trusted.gfid", b"x").unwrap();
        reports(&b, Kind::PayloadGfid);
        setx(&leaf, "trusted.gfid", gfid.as_bytes()).unwrap();
        fs::set_permissions(&leaf, fs::Permissions::from_mode(0o644)).unwrap();
        reports(&b, Kind::PayloadMode);
        fs::set_permissions(&leaf, fs::Permissions::from_mode(0o444)).unwrap();
        assert_eq!(kinds(&look(&b)), []);
    }
}

fn symlink_again(text: &str, at: &Path) {
    let _ = fs::remove_file(at);
    symlink(text, at).unwrap();
}

#[test]
fn places_of_payloads() {
    for fs in reflink() {
        let (b, base) = scene(fs);
        let link = b.link_of(Path::new("d/.fsnap/f@a"));
        let leaf = b.join("d/.fsnap/f@a");
        removex(&leaf, link.key()).unwrap();
        reports(&b, Kind::PayloadPlace);
        setx(&leaf, "trusted.gfid2path.0000000000000000", link.encode()).unwrap();
        reports(&b, Kind::PayloadPlace);
        setx(&leaf, "trusted.gfid2path.0000000000000000", b"garbage").unwrap();
        setx(&leaf, link.key(), link.encode()).unwrap();
        reports(&b, Kind::PayloadPlace);
        removex(&leaf, "trusted.gfid2path.0000000000000000").unwrap();
        // A move that was cut short.
        let stale = b.link_of(Path::new("d/.fsnap/old@a"));
        setx(&leaf, stale.key(), stale.encode()).unwrap();
        reports(&b, Kind::PayloadPlaceStale);
        let store = b.store();
        store.follow(base).unwrap();
        drop(store);
        assert_eq!(kinds(&look(&b)), []);
        // A rename that the snapshots did not follow; a place that is taken; a name that is too long.
        b.rename("d/f", "d/moved");
        finds(&b, Kind::PayloadElsewhere, 2);
        b.make_file("d/.fsnap/moved@a", b"");
        fs::remove_file(b.join("d/.fsnap/moved@a")).unwrap();
        b.make_link_file("d/.fsnap/moved@a", Gfid::ROOT.payload(&name("z"), None, 1));
        b.store().follow(base).unwrap();
        reports(&b, Kind::PayloadStays);
        assert!(look(&b).is_clean());
        let long = format!("d/{}", "x".repeat(255));
        b.rename("d/moved", &long);
        b.store().follow(base).unwrap();
        finds(&b, Kind::PayloadStays, 2);
    }
}

#[test]
fn orphans_go_into_quarantine() {
    for fs in reflink() {
        let (b, base) = scene(fs);
        let (gfid, leaf) = (b.record(base, "a").gfid, b.join("d/.fsnap/f@a"));
        removex(b.join("d/f"), "trusted.fsnap.snap.a").unwrap();
        // The catalogue may be about to be healed; somebody may have linked it; a restore may need it.
        setx(b.join("d/f"), "trusted.fsnap.seq", b"0").unwrap();
        removex(b.join("d/f"), "trusted.fsnap.snap.b").unwrap();
        let report = finds(&b, Kind::OrphanNewer, 2);
        assert!(report.problems.iter().all(|problem| !problem.repairable));
        setx(b.join("d/f"), "trusted.fsnap.seq", b"1").unwrap();
        assert_eq!(kinds(&look(&b)), [Kind::Orphan, Kind::OrphanNewer]);
        setx(b.join("d/f"), "trusted.fsnap.seq", b"2").unwrap();
        finds(&b, Kind::Orphan, 2);
        setx(b.join("d/f"), "trusted.fsnap.snap.b", b.entry_of("d/.fsnap/f@b")).unwrap();
        fs::hard_link(&leaf, b.join("d/more")).unwrap();
        reports(&b, Kind::Orphan);
        fs::remove_file(b.join("d/more")).unwrap();
        let intent = Intent { base, payload: gfid, name: name("a") };
        fs::write(own(&b, &format!("intents/{base}")), intent.to_string()).unwrap();
        assert!(look(&b).problems.iter().all(|problem| !problem.repairable));
        fs::remove_file(own(&b, &format!("intents/{base}"))).unwrap();
        let inode = fs::metadata(&leaf).unwrap().ino();
        repairs(&b, Kind::Orphan);
        assert!(!leaf.exists() && !b.handle(gfid).exists());
        let [lost] = &b.lost()[..] else { panic!("{:?}", b.lost()) };
        let lost = own(&b, "lost").join(lost);
        assert!(
            fs::metadata(&lost).unwrap().ino() == inode && fs::read(&lost).unwrap() == content(20_000, 1)
        );
        assert_eq!(listed(&b.store(), base), ["b"]);

        // Of a create that died before the name; it has a note.
        let gfid = b.record(base, "b").gfid;
        removex(b.join("d/f"), "trusted.fsnap.snap.b").unwrap();
        fs::remove_file(b.join("d/.fsnap/f@b")).unwrap();
        let report = finds_with_lost(&b, Kind::Orphan);
        assert_eq!(report.problems[0].path, gfid.handle());
        assert!(repair(&b).is_clean());
        assert!(!b.handle(gfid).exists() && b.lost().len() == 2);
    }
}

/// As [`finds`], on a brick with something in quarantine.
#[track_caller]
fn finds_with_lost(b: &Brick, kind: Kind) -> Report {
    let report = look(b);
    assert_eq!(kinds(&report), [kind, Kind::Quarantined], "{:#?}", report.problems);
    report
}

#[test]
fn what_waits_for_heal() {
    for fs in reflink() {
        let (b, base) = scene(fs);
        let store = b.store();
        let truth = || [("a", b.record(base, "a")), ("b", b.record(base, "b")), ("c", taken(base, "c", 3))];
        heal(&b, &store, base, 3, &truth()).unwrap();
        drop(store);
        let awaited = taken(base, "c", 3).gfid;
        let note = own(&b, &format!("by-gfid/{awaited}"));
        reports(&b, Kind::PayloadAwaited);
        assert!(look(&b).is_clean());
        // Nobody has told heal of it, or of another file's.
        for text in [base, next_gfid()].map(|base| base.to_string()) {
            symlink_again(&text, &note);
            reports(&b, Kind::PayloadMissing);
        }
        symlink_again(&format!("awaited {}", next_gfid()), &note);
        reports(&b, Kind::PayloadMissing);
        fs::remove_file(&note).unwrap();
        reports(&b, Kind::PayloadMissing);
        // It has come; that the note says otherwise is put right by the next heal.
        symlink_again(&format!("awaited {base}"), &note);
        let store = b.store();
        b.make_as("d/.fsnap/f@c", awaited);
        store.seed(awaited, base).unwrap();
        assert_eq!(kinds(&look(&b)), []);
        symlink_again(&format!("awaited {base}"), &note);
        assert_eq!(kinds(&look(&b)), []);
        heal(&b, &store, base, 3, &truth()).unwrap();
        assert_eq!(fs::read_link(&note).unwrap().to_str().unwrap(), base.to_string());
        drop(store);
        symlink_again(&format!("awaited {}", next_gfid()), &note);
        repairs(&b, Kind::NoteWrong);
        // The catalogue was to name it, but does not.
        forget(&b, base, awaited);
        symlink_again(&format!("awaited {base}"), &note);
        repairs(&b, Kind::NoteStale);
        assert!(!note.is_symlink());
    }
}

/// Removes snapshot `c` of `d/f` without a trace but the note.
fn forget(b: &Brick, base: Gfid, payload: Gfid) {
    removex(b.handle(base), "trusted.fsnap.snap.c").unwrap();
    fs::remove_file(b.join("d/.fsnap/f@c")).unwrap();
    fs::remove_file(b.handle(payload)).unwrap();
}

#[test]
fn catalogues_that_are_not_healed() {
    for fs in reflink() {
        let (b, _) = scene(fs);
        let mark = |name: &str, counts: [u32; 3]| {
            setx(b.join("d/f"), name, counts.map(u32::to_be_bytes).concat()).unwrap();
        };
        let (dirty, blames) = ("trusted.afr.dirty", "trusted.afr.v-client-2");
        mark(dirty, [0, 1, 0]);
        mark(blames, [0, 1, 0]);
        assert_eq!(kinds(&look(&b)), [], "all is there");
        let entry = getx(b.join("d/f"), "trusted.fsnap.snap.a").unwrap();
        removex(b.join("d/f"), "trusted.fsnap.snap.a").unwrap();
        reports(&b, Kind::OrphanUnhealed);
        mark(dirty, [7, 0, 7]);
        reports(&b, Kind::OrphanUnhealed);
        // Another form than a mark's tells nothing: it may be one.
        removex(b.join("d/f"), blames).unwrap();
        setx(b.join("d/f"), dirty, b"\x01").unwrap();
        reports(&b, Kind::OrphanUnhealed);
        assert!(look(&b).is_clean());
        // Whatever its number, and whatever the entry of its name says.
        mark(dirty, [0, 1 << 31, 0]);
        setx(b.join("d/f"), "trusted.fsnap.seq", b"0").unwrap();
        removex(b.join("d/f"), "trusted.fsnap.snap.b").unwrap();
        finds(&b, Kind::OrphanUnhealed, 2);
        setx(b.join("d/f"), "trusted.fsnap.seq", b"2").unwrap();
        setx(b.join("d/f"), "trusted.fsnap.snap.b", b.entry_of("d/.fsnap/f@b")).unwrap();
        reports(&b, Kind::OrphanUnhealed);
        setx(b.join("d/f"), "trusted.fsnap.snap.a", &entry).unwrap();
        assert_eq!(kinds(&look(&b)), []);
        // Marks of data and entries say nothing of the catalogue.
        removex(b.join("d/f"), "trusted.fsnap.snap.a").unwrap();
        mark(dirty, [1, 0, 1]);
        mark(blames, [0; 3]);
        repairs(&b, Kind::Orphan);
        assert_eq!(b.lost().len(), 1);
    }
}

#[test]
fn payloads_without_their_file() {
    for fs in reflink() {
        let (b, base) = scene(fs);
        b.store().delete(base, &name("b")).unwrap();
        b.unlink("d/f");
        let gfid = Gfid::from_xattr(&getx(b.join("d/.fsnap/f@a"), "trusted.gfid").unwrap()).unwrap();
        repairs(&b, Kind::BaseMissing);
        assert_eq!(b.lost().len(), 1);
        assert!(b.lost()[0].starts_with(&format!("snapshot-{gfid}-")));
        assert!(names(&b.join("d/.fsnap")).is_empty() && !b.handle(gfid).exists());
        assert!(fs::read(own(&b, "lost").join(&b.lost()[0])).unwrap() == content(20_000, 1));
    }
}

#[test]
fn nothing_is_moved_as_long_as_something_may_speak_for_it() {
    for fs in reflink() {
        // A deleted file that has lost its handle and its catalogue still has its tombstone.
        let (b, base) = scene(fs);
        bury(&b, base);
        let at = b.join(tombstone(base));
        fs::remove_file(b.handle(base)).unwrap();
        for key in ["trusted.fsnap.seq", "trusted.fsnap.snap.a", "trusted.fsnap.snap.b"] {
            removex(&at, key).unwrap();
        }
        assert_eq!(kinds(&look(&b)), [Kind::TombstoneUnused]);
        if fs == Fs::Btrfs {
            continue;
        }
        // A tree that was not seen wholly.
        fs::remove_file(&at).unwrap();
        assert_eq!(
            look(&b).problems.iter().filter(|p| p.kind == Kind::BaseMissing && p.repairable).count(),
            2
        );
        let mut path = "x/".repeat(2000);
        path.pop();
        tool("mkdir", &["-p"], b.join(&path));
        let mut deep = fs::File::open(b.join(&path)).unwrap();
        for _ in 0..60 {
            let next = format!("/proc/self/fd/{}/x", std::os::fd::AsRawFd::as_raw_fd(&deep));
            fs::create_dir(&next).unwrap();
            deep = fs::File::open(next).unwrap();
        }
        let report = check::run(&b.path, &Options { repair: true, pause: QUICK }).unwrap();
        assert!(kinds(&report).contains(&Kind::Unreadable), "{:#?}", report.problems);
        assert!(report.repaired.iter().all(|p| p.kind != Kind::BaseMissing) && b.lost().is_empty());
        tool("rm", &["-rf"], b.join("x"));
    }
}

#[test]
fn notes() {
    for fs in reflink() {
        let (b, base) = scene(fs);
        let note = own(&b, &format!("by-gfid/{}", b.record(base, "a").gfid));
        fs::remove_file(&note).unwrap();
        repairs(&b, Kind::NoteMissing);
        assert_eq!(fs::read_link(&note).unwrap().to_str().unwrap(), base.to_string());
        symlink_again("somebody else", &note);
        repairs(&b, Kind::NoteWrong);
        assert_eq!(fs::read_link(&note).unwrap().to_str().unwrap(), base.to_string());
        let stale = own(&b, &format!("by-gfid/{}", next_gfid()));
        symlink(base.to_string(), &stale).unwrap();
        repairs(&b, Kind::NoteStale);
        assert!(!stale.is_symlink());
        // A file that is no snapshot.
        let other = b.make_file("d/g", b"x");
        symlink(base.to_string(), own(&b, &format!("by-gfid/{other}"))).unwrap();
        repairs(&b, Kind::NoteStale);
        assert!(b.handle(other).exists());
        fs::write(own(&b, "by-gfid/mine"), b"x").unwrap();
        reports(&b, Kind::Alien);
    }
}

#[test]
fn tombstones() {
    for fs in reflink() {
        let (b, base) = scene(fs);
        bury(&b, base);
        assert_eq!(kinds(&look(&b)), []);
        let (at, note) = (b.join(tombstone(base)), own(&b, &format!("buried/{base}")));
        let was = fs::read_link(&note).unwrap();
        // The snapshots' names can't be judged without the note.
        fs::remove_file(&note).unwrap();
        reports(&b, Kind::TombstoneNote);
        symlink(was.to_str().unwrap().replace("/f", "/g"), &note).unwrap();
        let found = kinds(&look(&b));
        assert!(found.contains(&Kind::TombstoneNote) && !found.contains(&Kind::BuriedStale), "{found:?}");
        symlink_again(was.to_str().unwrap(), &note);

        let link = b.link_of(Path::new(&tombstone(base)));
        removex(&at, link.key()).unwrap();
        reports(&b, Kind::TombstonePlace);
        setx(&at, link.key(), link.encode()).unwrap();
        fs::hard_link(&at, b.join("d/f")).unwrap();
        reports(&b, Kind::TombstonePending);
        fs::remove_file(b.join("d/f")).unwrap();
        let other = format!("d/.fsnap/f@.{}", next_gfid());
        fs::rename(&at, b.join(&other)).unwrap();
        let found = kinds(&look(&b));
        assert!(found.contains(&Kind::TombstoneGfid), "{found:?}");
        fs::remove_file(b.join(other)).unwrap();
        let found = kinds(&look(&b));
        assert_eq!(found, [Kind::TombstoneMissing]);
        reports(&b, Kind::TombstoneMissing);
        fs::hard_link(b.handle(base), &at).unwrap();
        assert_eq!(kinds(&look(&b)), []);
        fs::remove_file(b.handle(base)).unwrap();
        reports(&b, Kind::BaseHandle);
        fs::hard_link(&at, b.handle(base)).unwrap();

        for lie in ["nowhere", "/etc", ""] {
            let lie = if lie.is_empty() { format!("{}/..", Gfid::ROOT) } else { lie.into() };
            symlink_again(&lie, &note);
            let found = kinds(&look(&b));
            assert_eq!(found, [Kind::BuriedDamaged, Kind::TombstoneNote]);
        }
        symlink_again(was.to_str().unwrap(), &note);
        let ghost = next_gfid();
        symlink(was, own(&b, &format!("buried/{ghost}"))).unwrap();
        reports(&b, Kind::BuriedStale);
        drop(b.store());
        assert_eq!(kinds(&look(&b)), [], "the start has removed it");
        for name in ["a", "b"] {
            fs::remove_file(b.handle(b.record(base, name).gfid)).unwrap();
            fs::remove_file(b.join(format!("d/.fsnap/f@{name}@{}", &base.to_string()[..8]))).unwrap();
            removex(&at, format!("trusted.fsnap.snap.{name}")).unwrap();
        }
        fs::remove_dir_all(own(&b, "by-gfid")).unwrap();
        reports(&b, Kind::TombstoneUnused);
    }
}

#[test]
fn snap_dirs() {
    for fs in reflink() {
        let (b, _) = scene(fs);
        let gfid = b.gfid("d").snap_dir();
        let target = fs::read_link(b.handle(gfid)).unwrap();
        fs::remove_file(b.handle(gfid)).unwrap();
        repairs(&b, Kind::SnapDirHandle);
        assert_eq!(fs::read_link(b.handle(gfid)).unwrap(), target);
        symlink_again("../../..", &b.handle(gfid));
        reports(&b, Kind::SnapDirHandle);
        symlink_again(target.to_str().unwrap(), &b.handle(gfid));
        b.make_dir("other");
        b.make_dir("other/.fsnap");
        fs::write(b.join("other/.fsnap/x"), b"x").unwrap();
        reports(&b, Kind::SnapDirForeign);
        fs::remove_file(b.join("other/.fsnap/x")).unwrap();
        b.make_dir("other/.fsnap/.fsnap");
        finds(&b, Kind::SnapDirForeign, 2);
        fs::remove_dir_all(b.join("other")).unwrap();
        // Whatever lies in one of ours.
        fs::write(b.join("d/.fsnap/x"), b"x").unwrap();
        reports(&b, Kind::Alien);
        fs::remove_file(b.join("d/.fsnap/x")).unwrap();
        symlink("..", b.join("d/.fsnap/loop")).unwrap();
        reports(&b, Kind::Alien);
        fs::remove_file(b.join("d/.fsnap/loop")).unwrap();
        fs::create_dir(b.join("d/.fsnap/dir")).unwrap();
        reports(&b, Kind::Alien);
    }
}

#[test]
fn intents() {
    let (b, base) = scene(Fs::Xfs);
    let at = own(&b, &format!("intents/{base}"));
    let intent = Intent { base, payload: b.record(base, "a").gfid, name: name("a") };
    fs::write(&at, intent.to_string()).unwrap();
    reports(&b, Kind::IntentPending);
    let store = b.store();
    assert!(!at.exists());
    fs::write(&at, intent.to_string()).unwrap();
    assert_eq!(kinds(&look(&b)), [], "it may well be at work");
    drop(store);
    fs::write(&at, b"garbage").unwrap();
    reports(&b, Kind::IntentDamaged);
    fs::remove_file(&at).unwrap();
    tool("mkfifo", &[], own(&b, "intents/fifo"));
    reports(&b, Kind::IntentDamaged);
}

#[test]
fn snapshots_that_were_being_made_or_deleted() {
    for fs in reflink() {
        let (b, base) = scene(fs);
        let gfid = b.record(base, "a").gfid;
        let note = own(&b, &format!("pending/{gfid}"));
        symlink(base.to_string(), &note).unwrap();
        reports(&b, Kind::SnapshotPending);
        // Whatever else is missing.
        removex(b.join("d/f"), "trusted.fsnap.snap.a").unwrap();
        reports(&b, Kind::SnapshotPending);
        fs::remove_file(b.join("d/.fsnap/f@a")).unwrap();
        reports(&b, Kind::SnapshotPending);
        let store = b.store();
        assert!(!note.is_symlink() && !b.handle(gfid).exists());
        symlink(base.to_string(), &note).unwrap();
        assert_eq!(kinds(&look(&b)), [], "it may well be at work");
        drop(store);
        drop(b.store());
        assert_eq!(kinds(&look(&b)), []);
    }
}

#[test]
fn leftovers_and_quarantine() {
    for fs in reflink() {
        let (b, base) = scene(fs);
        fs::create_dir(own(&b, "tmp-1-2-3")).unwrap();
        repairs(&b, Kind::Leftover);
        assert!(!own(&b, "tmp-1-2-3").exists());
        fs::write(own(&b, "mine"), b"x").unwrap();
        reports(&b, Kind::Alien);
        fs::remove_file(own(&b, "mine")).unwrap();

        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let name = |hours: u64| {
            format!("snapshot-{base}-{}-1-0", (now - Duration::from_secs(hours * 3600)).as_nanos())
        };
        let (old, new) = (name(25), name(23));
        for name in [&old, &new, "mine-1-2-3"] {
            fs::write(own(&b, "lost").join(name), b"data").unwrap();
        }
        fs::create_dir(own(&b, "lost/intent-1-2-3")).unwrap();
        let report = look(&b);
        let mut found = kinds(&report);
        found.sort();
        assert_eq!(found, [Kind::Alien, Kind::Alien, Kind::Quarantined, Kind::Quarantined]);
        assert_eq!(report.problems.iter().filter(|problem| problem.repairable).count(), 1);
        let report = repair(&b);
        assert_eq!(report.repaired.len(), 1);
        assert_eq!(b.lost(), ["intent-1-2-3", "mine-1-2-3", &new]);
    }
}

#[test]
fn the_state_is_missing() {
    for fs in reflink() {
        let (b, base) = scene(fs);
        fs::remove_file(own(&b, "format")).unwrap();
        repairs(&b, Kind::StateMissing);
        assert!(b.store().is_used());
        fs::remove_dir_all(own(&b, "")).unwrap();
        assert_eq!(kinds(&look(&b)), [Kind::StateMissing, Kind::NoteMissing, Kind::NoteMissing]);
        assert!(repair(&b).problems.is_empty());
        assert_eq!(names(&own(&b, "by-gfid")).len(), 2);
        assert_eq!(listed(&b.store(), base), ["a", "b"]);
        fs::remove_dir_all(own(&b, "by-gfid")).unwrap();
        fs::write(own(&b, "by-gfid"), b"x").unwrap();
        assert!(kinds(&look(&b)).contains(&Kind::Unreadable));
        fs::remove_file(own(&b, "by-gfid")).unwrap();
        fs::write(own(&b, "format"), b"fsnap 2\n").unwrap();
        let refused = check::run(&b.path, &Options::default()).unwrap_err();
        assert!(matches!(refused, Error::Unsupported(_)), "{refused}");
    }
}

#[test]
fn hostile_trees() {
    let (b, _) = scene(Fs::Xfs);
    // As deep as it gets by one call each; mounts and odd names.
    let mut path = b.join("d");
    for _ in 0..60 {
        path = path.join("x".repeat(60));
        fs::create_dir(&path).unwrap();
    }
    let odd = std::ffi::OsStr::from_bytes(b"\xff\x1b[31m");
    fs::write(b.join("d/.fsnap").join(odd), b"x").unwrap();
    let report = finds(&b, Kind::Alien, 1);
    assert_eq!(check::escaped(&report.problems[0].path), "d/.fsnap/\\xff\\x1b[31m");
    assert_eq!(report.problems[0].kind.severity(), Severity::Warning);
    // Another directory is no brick, nor is one without its gfid.
    for no in [b.join("d"), b.join("nothing")] {
        assert!(check::run(&no, &Options::default()).is_err());
    }
    removex(&b.path, "trusted.gfid").unwrap();
    assert!(check::run(&b.path, &Options::default()).is_err());
}

/// Whatever is broken, in whatever way: a check ends, a repair can be repeated, and no snapshot's data is gone.
#[test]
fn random_damage_costs_no_data() {
    for (fs, seed) in [(Fs::Xfs, 1), (Fs::Xfs, 2), (Fs::Btrfs, 3), (Fs::Btrfs, 4)] {
        let b = brick(fs);
        let mut random = Random(seed);
        for round in 0..12 {
            let at = format!("d{round}");
            b.make_dir(&at);
            let base = b.make_file(format!("{at}/f"), &content(4096, round));
            let store = b.store();
            for name in ["a", "b"] {
                snap(&store, base, name);
            }
            if round % 3 == 0 {
                store.bury(base).unwrap();
                b.unlink(format!("{at}/f"));
                store.follow(base).unwrap();
            }
            drop(store);
            for _ in 0..3 {
                break_something(&b, &b.join(&at), &mut random);
            }
            let before = data(&b);
            look(&b);
            let repaired = repair(&b);
            assert_eq!(data(&b), before, "seed {seed}, round {round}: {:#?}", repaired.repaired);
            let again = repair(&b);
            let told: Vec<_> = again.repaired.iter().chain(&repaired.repaired).map(|p| p.kind).collect();
            assert!(again.repaired.is_empty(), "seed {seed}, round {round}: {told:?}");
        }
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }
}

/// The inodes of all files that are or were snapshots, wherever they are.
fn data(b: &Brick) -> std::collections::BTreeSet<u64> {
    let mut inodes = std::collections::BTreeSet::new();
    for path in b.tree().into_keys() {
        let meta = fs::symlink_metadata(&path).unwrap();
        if meta.is_file() && meta.len() == 4096 {
            inodes.insert(meta.ino());
        }
    }
    inodes
}

/// Damages one thing in `dir` or in what tells of it. What has data keeps a name.
fn break_something(b: &Brick, dir: &Path, random: &mut Random) {
    let mut files: Vec<_> = b.tree().into_keys().filter(|path| path.starts_with(dir)).collect();
    let handles = files
        .iter()
        .filter_map(|path| Some(b.handle(Gfid::from_xattr(&getx(path, "trusted.gfid").ok()?).ok()?)));
    let handles: Vec<_> = handles.filter(|handle| handle.is_symlink() || handle.exists()).collect();
    let own = names(&own(b, "by-gfid")).into_iter().map(|name| self::own(b, "by-gfid").join(name));
    let own =
        own.chain(names(&self::own(b, "buried")).into_iter().map(|name| self::own(b, "buried").join(name)));
    let own: Vec<_> = own.collect();
    files.retain(|path| path.is_file());
    match random.below(4) {
        0 if !own.is_empty() => {
            let note = &own[random.below(own.len())];
            let _ = fs::remove_file(note);
            if random.below(2) == 0 {
                symlink("nonsense", note).unwrap();
            }
        }
        1 if !handles.is_empty() => {
            let handle = &handles[random.below(handles.len())];
            if fs::symlink_metadata(handle).unwrap().nlink() != 1 || handle.is_symlink() {
                fs::remove_file(handle).unwrap();
            }
        }
        _ if !files.is_empty() => {
            let file = &files[random.below(files.len())];
            let keys: Vec<_> = listx(file)
                .unwrap()
                .into_iter()
                .filter(|key| key.as_bytes().starts_with(b"trusted."))
                .collect();
            let Some(key) = keys.get(random.below(keys.len().max(1))) else { return };
            match random.below(3) {
                0 => removex(file, key).unwrap(),
                1 => setx(file, key, b"nonsense").unwrap(),
                _ => {
                    let other = &files[random.below(files.len())];
                    if let Ok(value) = getx(other, key) {
                        setx(file, key, value).unwrap();
                    }
                }
            }
        }
        _ => {}
    }
}

#[test]
fn repair_wants_the_brick_alone() {
    let (b, base) = scene(Fs::Xfs);
    symlink(base.to_string(), own(&b, &format!("by-gfid/{}", next_gfid()))).unwrap();
    let options = Options { repair: true, pause: QUICK };
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
    repairs(&b, Kind::NoteStale);
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
                    let options = Options { repair: false, pause: Duration::from_millis(20) };
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
fn work(b: &Brick, store: &Store, i: usize, base: Gfid) {
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
