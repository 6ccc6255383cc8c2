//! What is wrong with what fsnap keeps for itself: notes, tombstones, `.fsnap`, intents, the state.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fsnap_core::record::Intent;
use fsnap_core::{Error, Gfid};
use fsnap_store::check::{self, Options, ProblemKind, Report};
use fsnap_testbed::{Fs, remove_entry_line, removex, setx};

use super::*;

#[test]
fn notes() {
    for fs in reflink() {
        let (b, base) = scene(fs);
        let note = own(&b, &format!("awaited/{}", b.record(base, "a").gfid));
        symlink_again("somebody else", &note);
        repairs(&b, ProblemKind::NoteStale);
        assert!(!note.is_symlink());
        // It is here; that it is awaited is put right when its file is healed next.
        symlink_again(&base.to_string(), &note);
        assert_eq!(kinds(&look(&b)), []);
        let stale = own(&b, &format!("awaited/{}", next_gfid()));
        symlink(base.to_string(), &stale).unwrap();
        repairs(&b, ProblemKind::NoteStale);
        assert!(!stale.is_symlink());
        // A file that is no snapshot.
        let other = b.make_file("d/g", b"x");
        symlink(base.to_string(), own(&b, &format!("awaited/{other}"))).unwrap();
        repairs(&b, ProblemKind::NoteStale);
        assert!(b.handle(other).exists());
        fs::write(own(&b, "awaited/mine"), b"x").unwrap();
        reports(&b, ProblemKind::Alien);
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
        reports(&b, ProblemKind::TombstoneNote);
        symlink(was.to_str().unwrap().replace("/f", "/g"), &note).unwrap();
        let found = kinds(&look(&b));
        assert!(
            found.contains(&ProblemKind::TombstoneNote) && !found.contains(&ProblemKind::BuriedStale),
            "{found:?}"
        );
        symlink_again(was.to_str().unwrap(), &note);

        let link = b.link_of(Path::new(&tombstone(base)));
        removex(&at, link.key()).unwrap();
        reports(&b, ProblemKind::TombstonePlace);
        setx(&at, link.key(), link.encode()).unwrap();
        fs::hard_link(&at, b.join("d/f")).unwrap();
        reports(&b, ProblemKind::TombstonePending);
        fs::remove_file(b.join("d/f")).unwrap();
        let other = format!("d/.fsnap/f@.{}", next_gfid());
        fs::rename(&at, b.join(&other)).unwrap();
        let found = kinds(&look(&b));
        assert!(found.contains(&ProblemKind::TombstoneGfid), "{found:?}");
        fs::remove_file(b.join(other)).unwrap();
        let found = kinds(&look(&b));
        assert_eq!(found, [ProblemKind::TombstoneMissing]);
        reports(&b, ProblemKind::TombstoneMissing);
        fs::hard_link(b.handle(base), &at).unwrap();
        assert_eq!(kinds(&look(&b)), []);
        fs::remove_file(b.handle(base)).unwrap();
        reports(&b, ProblemKind::BaseHandle);
        fs::hard_link(&at, b.handle(base)).unwrap();

        for lie in ["nowhere", "/etc", ""] {
            let lie = if lie.is_empty() { format!("{}/..", Gfid::ROOT) } else { lie.into() };
            symlink_again(&lie, &note);
            let found = kinds(&look(&b));
            assert_eq!(found, [ProblemKind::BuriedDamaged, ProblemKind::TombstoneNote]);
        }
        symlink_again(was.to_str().unwrap(), &note);
        let ghost = next_gfid();
        symlink(was, own(&b, &format!("buried/{ghost}"))).unwrap();
        reports(&b, ProblemKind::BuriedStale);
        drop(b.store());
        assert_eq!(kinds(&look(&b)), [], "the start has removed it");
        for name in ["a", "b"] {
            fs::remove_file(b.handle(b.record(base, name).gfid)).unwrap();
            fs::remove_file(b.join(format!("d/.fsnap/f@{name}@{}", &base.to_string()[..8]))).unwrap();
            remove_entry_line(&at, name).unwrap();
        }
        fs::remove_dir_all(own(&b, "awaited")).unwrap();
        reports(&b, ProblemKind::TombstoneUnused);
    }
}

#[test]
fn snap_dirs() {
    for fs in reflink() {
        let (b, _) = scene(fs);
        let gfid = b.gfid("d").snap_dir();
        let target = fs::read_link(b.handle(gfid)).unwrap();
        fs::remove_file(b.handle(gfid)).unwrap();
        repairs(&b, ProblemKind::SnapDirHandle);
        assert_eq!(fs::read_link(b.handle(gfid)).unwrap(), target);
        symlink_again("../../..", &b.handle(gfid));
        reports(&b, ProblemKind::SnapDirHandle);
        symlink_again(target.to_str().unwrap(), &b.handle(gfid));
        b.make_dir("other");
        b.make_dir("other/.fsnap");
        fs::write(b.join("other/.fsnap/x"), b"x").unwrap();
        reports(&b, ProblemKind::SnapDirForeign);
        fs::remove_file(b.join("other/.fsnap/x")).unwrap();
        b.make_dir("other/.fsnap/.fsnap");
        finds(&b, ProblemKind::SnapDirForeign, 2);
        fs::remove_dir_all(b.join("other")).unwrap();
        // Whatever lies in one of ours.
        fs::write(b.join("d/.fsnap/x"), b"x").unwrap();
        reports(&b, ProblemKind::Alien);
        fs::remove_file(b.join("d/.fsnap/x")).unwrap();
        symlink("..", b.join("d/.fsnap/loop")).unwrap();
        reports(&b, ProblemKind::Alien);
        fs::remove_file(b.join("d/.fsnap/loop")).unwrap();
        fs::create_dir(b.join("d/.fsnap/dir")).unwrap();
        reports(&b, ProblemKind::Alien);
    }
}

#[test]
fn intents() {
    let (b, base) = scene(Fs::Xfs);
    let at = own(&b, &format!("intents/{base}"));
    let intent = Intent { base, payload: b.record(base, "a").gfid, name: name("a") };
    fs::write(&at, intent.to_string()).unwrap();
    reports(&b, ProblemKind::IntentPending);
    let store = b.store();
    assert!(!at.exists());
    fs::write(&at, intent.to_string()).unwrap();
    assert_eq!(kinds(&look(&b)), [], "it may well be at work");
    drop(store);
    fs::write(&at, b"garbage").unwrap();
    reports(&b, ProblemKind::IntentDamaged);
    fs::remove_file(&at).unwrap();
    symlink(intent.to_string(), &at).unwrap();
    reports(&b, ProblemKind::IntentPending);
    drop(b.store());
    assert!(!at.exists());
    symlink("garbage", &at).unwrap();
    reports(&b, ProblemKind::IntentDamaged);
    fs::remove_file(&at).unwrap();
    tool("mkfifo", &[], own(&b, "intents/fifo"));
    reports(&b, ProblemKind::IntentDamaged);
}

#[test]
fn snapshots_that_were_being_made_or_deleted() {
    for fs in reflink() {
        let (b, base) = scene(fs);
        let gfid = b.record(base, "a").gfid;
        let note = own(&b, &format!("pending/{gfid}"));
        symlink(base.to_string(), &note).unwrap();
        reports(&b, ProblemKind::SnapshotPending);
        // Whatever else is missing.
        remove_entry_line(b.join("d/f"), "a").unwrap();
        reports(&b, ProblemKind::SnapshotPending);
        fs::remove_file(b.join("d/.fsnap/f@a")).unwrap();
        reports(&b, ProblemKind::SnapshotPending);
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
        repairs(&b, ProblemKind::Leftover);
        assert!(!own(&b, "tmp-1-2-3").exists());
        fs::write(own(&b, "mine"), b"x").unwrap();
        reports(&b, ProblemKind::Alien);
        fs::remove_file(own(&b, "mine")).unwrap();

        let (old, new) = (quarantined(base, 25), quarantined(base, 23));
        for name in [&old, &new, "mine-1-2-3"] {
            fs::write(own(&b, "lost").join(name), b"data").unwrap();
        }
        fs::create_dir(own(&b, "lost/intent-1-2-3")).unwrap();
        let report = look(&b);
        let mut found = kinds(&report);
        found.sort();
        assert_eq!(
            found,
            [ProblemKind::Alien, ProblemKind::Alien, ProblemKind::Quarantined, ProblemKind::Quarantined]
        );
        assert!(report.problems.iter().all(|problem| !problem.repairable));
        let all = b.lost();
        assert_eq!(all.len(), 4);
        let report = repair(&b);
        assert_eq!((report.repaired, report.discarded), (vec![], vec![]));
        assert_eq!(b.lost(), all, "a repair removes nothing from quarantine");
    }
}

#[test]
fn the_quarantine_is_emptied_when_that_is_asked_for() {
    let emptying = Options { empty_quarantine: true, pause: QUICK, ..Options::default() };
    for fs in reflink() {
        let (b, base) = scene(fs);
        let store = b.store();
        let refused = check::run(&b.path, &emptying).unwrap_err();
        assert!(matches!(refused, Error::InUse(_)), "{refused}");
        drop(store);
        let (old, new) = (quarantined(base, 25), quarantined(base, 23));
        let put = || {
            for name in [&old, &new, "mine-1-2-3"] {
                fs::write(own(&b, "lost").join(name), b"data").unwrap();
            }
        };
        put();
        let intent = old.replace(&format!("snapshot-{base}"), "intent");
        symlink("v1 restore", own(&b, "lost").join(&intent)).unwrap();
        fs::create_dir(own(&b, "lost/intent-1-2-3")).unwrap();
        fs::create_dir(own(&b, "tmp-1-2-3")).unwrap();
        let left = ["intent-1-2-3", "mine-1-2-3", &new];
        let report = check::run(&b.path, &emptying).unwrap();
        let paths = |report: &Report| -> Vec<_> {
            report.discarded.iter().map(|p| p.path.file_name().unwrap().to_owned()).collect()
        };
        assert_eq!(paths(&report), [OsString::from(&intent), OsString::from(&old)]);
        assert_eq!(report.repaired, []);
        assert_eq!(b.lost(), left);
        assert!(own(&b, "tmp-1-2-3").exists(), "nothing is repaired that way");

        put();
        let both = Options { repair: true, ..emptying };
        // What has just come there stays.
        remove_entry_line(b.path.join("d/f"), "a").unwrap();
        let report = check::run(&b.path, &both).unwrap();
        assert_eq!(paths(&report), [OsString::from(&old)]);
        let mut kinds: Vec<_> = report.repaired.iter().map(|p| p.kind).collect();
        kinds.sort();
        assert_eq!(kinds, [ProblemKind::Orphan, ProblemKind::Leftover]);
        assert_eq!(b.lost().len(), left.len() + 1);
        assert!(check::run(&b.path, &both).unwrap().discarded.is_empty());
        assert_eq!(b.lost().len(), left.len() + 1);
    }
}

/// The name in quarantine of what came there so many hours ago.
fn quarantined(base: Gfid, hours: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    format!("snapshot-{base}-{}-1-0", (now - Duration::from_secs(hours * 3600)).as_nanos())
}

#[test]
fn the_state_is_missing() {
    for fs in reflink() {
        let (b, base) = scene(fs);
        fs::remove_file(own(&b, "format")).unwrap();
        repairs(&b, ProblemKind::StateMissing);
        assert!(b.store().is_used());
        fs::remove_dir_all(own(&b, "")).unwrap();
        assert_eq!(kinds(&look(&b)), [ProblemKind::StateMissing]);
        assert!(repair(&b).problems.is_empty());
        assert_eq!(listed(&b.store(), base), ["a", "b"]);
        fs::remove_dir_all(own(&b, "awaited")).unwrap();
        fs::write(own(&b, "awaited"), b"x").unwrap();
        assert!(kinds(&look(&b)).contains(&ProblemKind::Unreadable));
        fs::remove_file(own(&b, "awaited")).unwrap();
        fs::write(own(&b, "format"), b"fsnap 1\n").unwrap();
        let refused = check::run(&b.path, &Options::default()).unwrap_err();
        assert!(matches!(refused, Error::Unsupported(_)), "{refused}");
    }
}
