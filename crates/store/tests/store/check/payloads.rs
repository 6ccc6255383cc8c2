//! What is wrong with snapshots, and with what waits for heal.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use fsnap_core::Gfid;
use fsnap_core::record::{Intent, PayloadRecord};
use fsnap_store::check::{self, Options, ProblemKind};
use fsnap_testbed::{Fs, content, entry_line, getx, remove_entry_line, removex, set_entry_line, setx};

use super::*;

#[test]
fn payloads_that_are_missing_or_something_else() {
    for fs in reflink() {
        let (b, base) = scene(fs);
        let (gfid, leaf) = (b.record(base, "a").gfid, b.join("d/.fsnap/f@a"));
        // Only the handle is gone: linked again.
        let inode = fs::metadata(&leaf).unwrap().ino();
        fs::remove_file(b.handle(gfid)).unwrap();
        repairs(&b, ProblemKind::PayloadHandle);
        assert_eq!(fs::metadata(b.handle(gfid)).unwrap().ino(), inode);
        fs::remove_file(b.handle(gfid)).unwrap();
        fs::write(b.handle(gfid), b"another").unwrap();
        reports(&b, ProblemKind::PayloadHandle);
        fs::remove_file(b.handle(gfid)).unwrap();
        symlink("nowhere", b.handle(gfid)).unwrap();
        reports(&b, ProblemKind::PayloadHandle);
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
        let report = finds(&b, ProblemKind::PayloadNames, 1);
        assert_eq!(report.problems[0].path, gfid.handle());
        reports(&b, ProblemKind::PayloadNames);
        fs::hard_link(b.handle(gfid), &leaf).unwrap();
        fs::hard_link(&leaf, b.join("d/more")).unwrap();
        reports(&b, ProblemKind::PayloadNames);
        fs::remove_file(b.join("d/more")).unwrap();
        // All is gone.
        fs::remove_file(&leaf).unwrap();
        fs::remove_file(b.handle(gfid)).unwrap();
        reports(&b, ProblemKind::PayloadMissing);
        tool("mkfifo", &[], b.handle(gfid));
        reports(&b, ProblemKind::PayloadType);
        fs::remove_file(b.handle(gfid)).unwrap();
        fs::hard_link(b.join("d/f"), b.handle(gfid)).unwrap();
        reports(&b, ProblemKind::PayloadGfid);
        assert!(!aside.exists());
    }
}

/// Asserts that all that is found is about the file at `at`, which has the gfid of another.
#[track_caller]
fn finds_mine(b: &TestBrick, gfid: Gfid, at: &str) {
    let report = look(b);
    assert!(kinds(&report).contains(&ProblemKind::PayloadHandle), "{:#?}", report.problems);
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
            reports(&b, ProblemKind::PayloadRecord);
        }
        removex(&leaf, "trusted.fsnap.record").unwrap();
        reports(&b, ProblemKind::PayloadRecord);
        setx(&leaf, "trusted.fsnap.record", &good).unwrap();
        // One that claims to be another file's is nobody's to throw away: an entry leads to it.
        setx(b.join("d/g"), "trusted.fsnap.seq", b"9").unwrap();
        set_record(&b, gfid, |record| PayloadRecord { base: other, ..record });
        let found = kinds(&look(&b));
        assert!(
            found.contains(&ProblemKind::PayloadRecord) && !found.contains(&ProblemKind::Orphan),
            "{found:?}"
        );
        set_record(&b, gfid, |record| PayloadRecord { base: next_gfid(), ..record });
        let found = kinds(&look(&b));
        assert!(
            found.contains(&ProblemKind::PayloadRecord) && !found.contains(&ProblemKind::BaseMissing),
            "{found:?}"
        );
        repair(&b);
        assert!(leaf.exists() && b.lost().is_empty());
        setx(&leaf, "trusted.fsnap.record", &good).unwrap();

        setx(&leaf, "trusted.gfid", other.as_bytes()).unwrap();
        reports(&b, ProblemKind::PayloadGfid);
        setx(&leaf, "trusted.gfid", b"x").unwrap();
        reports(&b, ProblemKind::PayloadGfid);
        setx(&leaf, "trusted.gfid", gfid.as_bytes()).unwrap();
        fs::set_permissions(&leaf, fs::Permissions::from_mode(0o644)).unwrap();
        reports(&b, ProblemKind::PayloadMode);
        fs::set_permissions(&leaf, fs::Permissions::from_mode(0o444)).unwrap();
        assert_eq!(kinds(&look(&b)), []);
    }
}

#[test]
fn places_of_payloads() {
    for fs in reflink() {
        let (b, base) = scene(fs);
        let link = b.link_of(Path::new("d/.fsnap/f@a"));
        let leaf = b.join("d/.fsnap/f@a");
        removex(&leaf, link.key()).unwrap();
        reports(&b, ProblemKind::PayloadPlace);
        setx(&leaf, "trusted.gfid2path.0000000000000000", link.encode()).unwrap();
        reports(&b, ProblemKind::PayloadPlace);
        setx(&leaf, "trusted.gfid2path.0000000000000000", b"garbage").unwrap();
        setx(&leaf, link.key(), link.encode()).unwrap();
        reports(&b, ProblemKind::PayloadPlace);
        removex(&leaf, "trusted.gfid2path.0000000000000000").unwrap();
        // A move that was cut short.
        let stale = b.link_of(Path::new("d/.fsnap/old@a"));
        setx(&leaf, stale.key(), stale.encode()).unwrap();
        reports(&b, ProblemKind::PayloadPlaceStale);
        let store = b.store();
        store.follow(base).unwrap();
        drop(store);
        assert_eq!(kinds(&look(&b)), []);
        // A rename that the snapshots did not follow; a place that is taken; a name that is too long.
        b.rename("d/f", "d/moved");
        finds(&b, ProblemKind::PayloadElsewhere, 2);
        b.make_file("d/.fsnap/moved@a", b"");
        fs::remove_file(b.join("d/.fsnap/moved@a")).unwrap();
        b.make_link_file("d/.fsnap/moved@a", Gfid::ROOT.payload(&name("z"), None, 1));
        b.store().follow(base).unwrap();
        reports(&b, ProblemKind::PayloadStays);
        assert!(look(&b).is_clean());
        let long = format!("d/{}", "x".repeat(255));
        b.rename("d/moved", &long);
        b.store().follow(base).unwrap();
        finds(&b, ProblemKind::PayloadStays, 2);
    }
}

#[test]
fn orphans_go_into_quarantine() {
    for fs in reflink() {
        let (b, base) = scene(fs);
        let (gfid, leaf) = (b.record(base, "a").gfid, b.join("d/.fsnap/f@a"));
        remove_entry_line(b.join("d/f"), "a").unwrap();
        // The catalogue may be about to be healed; somebody may have linked it; a restore may need it.
        setx(b.join("d/f"), "trusted.fsnap.seq", b"0").unwrap();
        remove_entry_line(b.join("d/f"), "b").unwrap();
        let report = finds(&b, ProblemKind::OrphanNewer, 2);
        assert!(report.problems.iter().all(|problem| !problem.repairable));
        setx(b.join("d/f"), "trusted.fsnap.seq", b"1").unwrap();
        assert_eq!(kinds(&look(&b)), [ProblemKind::Orphan, ProblemKind::OrphanNewer]);
        setx(b.join("d/f"), "trusted.fsnap.seq", b"2").unwrap();
        finds(&b, ProblemKind::Orphan, 2);
        set_entry_line(b.join("d/f"), "b", b.entry_of("d/.fsnap/f@b")).unwrap();
        fs::hard_link(&leaf, b.join("d/more")).unwrap();
        reports(&b, ProblemKind::Orphan);
        fs::remove_file(b.join("d/more")).unwrap();
        let intent = Intent { base, payload: gfid, name: name("a") };
        fs::write(own(&b, &format!("intents/{base}")), intent.to_string()).unwrap();
        assert!(look(&b).problems.iter().all(|problem| !problem.repairable));
        fs::remove_file(own(&b, &format!("intents/{base}"))).unwrap();
        let inode = fs::metadata(&leaf).unwrap().ino();
        repairs(&b, ProblemKind::Orphan);
        assert!(!leaf.exists() && !b.handle(gfid).exists());
        let [lost] = &b.lost()[..] else { panic!("{:?}", b.lost()) };
        let lost = own(&b, "lost").join(lost);
        assert!(
            fs::metadata(&lost).unwrap().ino() == inode && fs::read(&lost).unwrap() == content(20_000, 1)
        );
        assert_eq!(listed(&b.store(), base), ["b"]);

        // Of a create that died before the name; it has a note.
        let gfid = b.record(base, "b").gfid;
        fs::hard_link(b.handle(gfid), own(&b, &format!("pending/{gfid}"))).unwrap();
        remove_entry_line(b.join("d/f"), "b").unwrap();
        fs::remove_file(b.join("d/.fsnap/f@b")).unwrap();
        assert_eq!(kinds(&look(&b)), [ProblemKind::Quarantined, ProblemKind::SnapshotPending]);
        drop(b.store());
        assert!(look(&b).is_clean());
        assert!(!b.handle(gfid).exists() && b.lost().len() == 1);
    }
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
        let note = own(&b, &format!("awaited/{awaited}"));
        reports(&b, ProblemKind::PayloadAwaited);
        assert!(look(&b).is_clean());
        // Nobody has told heal of it, or of another file's.
        symlink_again(&next_gfid().to_string(), &note);
        assert_eq!(kinds(&look(&b)), [ProblemKind::NoteStale, ProblemKind::PayloadMissing]);
        fs::remove_file(&note).unwrap();
        reports(&b, ProblemKind::PayloadMissing);
        // It has come; that the note says otherwise is put right by the next heal.
        symlink_again(&base.to_string(), &note);
        let store = b.store();
        b.make_as("d/.fsnap/f@c", awaited);
        store.seed(awaited, base).unwrap();
        assert_eq!(kinds(&look(&b)), []);
        symlink_again(&base.to_string(), &note);
        assert_eq!(kinds(&look(&b)), []);
        heal(&b, &store, base, 3, &truth()).unwrap();
        assert!(!note.is_symlink());
        drop(store);
        symlink_again(&next_gfid().to_string(), &note);
        repairs(&b, ProblemKind::NoteStale);
        // The catalogue was to name it, but does not.
        forget(&b, base, awaited);
        symlink_again(&base.to_string(), &note);
        repairs(&b, ProblemKind::NoteStale);
        assert!(!note.is_symlink());
    }
}

/// Removes snapshot `c` of `d/f` without a trace but the note.
fn forget(b: &TestBrick, base: Gfid, payload: Gfid) {
    remove_entry_line(b.handle(base), "c").unwrap();
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
        let entry = entry_line(b.join("d/f"), "a").unwrap();
        remove_entry_line(b.join("d/f"), "a").unwrap();
        reports(&b, ProblemKind::OrphanUnhealed);
        mark(dirty, [7, 0, 7]);
        reports(&b, ProblemKind::OrphanUnhealed);
        // Another form than a mark's tells nothing: it may be one.
        removex(b.join("d/f"), blames).unwrap();
        setx(b.join("d/f"), dirty, b"\x01").unwrap();
        reports(&b, ProblemKind::OrphanUnhealed);
        assert!(look(&b).is_clean());
        // Whatever its number, and whatever the entry of its name says.
        mark(dirty, [0, 1 << 31, 0]);
        setx(b.join("d/f"), "trusted.fsnap.seq", b"0").unwrap();
        remove_entry_line(b.join("d/f"), "b").unwrap();
        finds(&b, ProblemKind::OrphanUnhealed, 2);
        setx(b.join("d/f"), "trusted.fsnap.seq", b"2").unwrap();
        set_entry_line(b.join("d/f"), "b", b.entry_of("d/.fsnap/f@b")).unwrap();
        reports(&b, ProblemKind::OrphanUnhealed);
        set_entry_line(b.join("d/f"), "a", &entry).unwrap();
        assert_eq!(kinds(&look(&b)), []);
        // Marks of data and entries say nothing of the catalogue.
        remove_entry_line(b.join("d/f"), "a").unwrap();
        mark(dirty, [1, 0, 1]);
        mark(blames, [0; 3]);
        repairs(&b, ProblemKind::Orphan);
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
        repairs(&b, ProblemKind::BaseMissing);
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
        for key in ["trusted.fsnap.seq", "trusted.fsnap.catalogue.0"] {
            removex(&at, key).unwrap();
        }
        assert_eq!(kinds(&look(&b)), [ProblemKind::TombstoneUnused]);
        if fs == Fs::Btrfs {
            continue;
        }
        // A tree that was not seen wholly.
        fs::remove_file(&at).unwrap();
        assert_eq!(
            look(&b).problems.iter().filter(|p| p.kind == ProblemKind::BaseMissing && p.repairable).count(),
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
        let report =
            check::run(&b.path, &Options { repair: true, pause: QUICK, ..Options::default() }).unwrap();
        assert!(kinds(&report).contains(&ProblemKind::Unreadable), "{:#?}", report.problems);
        assert!(report.repaired.iter().all(|p| p.kind != ProblemKind::BaseMissing) && b.lost().is_empty());
        tool("rm", &["-rf"], b.join("x"));
    }
}
