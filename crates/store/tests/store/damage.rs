//! What lies on the disk may be anything.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use fsnap_core::record::{PayloadRecord, encode_seq};
use fsnap_core::{Error, Gfid};
use fsnap_store::check::{self, ProblemKind};
use fsnap_testbed::{Fs, content, entry_line, getx, remove_entry_line, removex, set_entry_line, setx};

use crate::common::*;

#[test]
fn hostile_catalogues() {
    let b = brick(Fs::Xfs);
    let store = b.store();
    let base = b.make_file("f", b"x");
    snap(&store, base, "a");
    let path = b.join("f");
    let good = entry_line(&path, "a").unwrap();
    let other = taken(base, "a", 7);
    b.make_as("other", other.gfid);
    fs::write(b.join("other"), b"mine").unwrap();
    let lies = [
        b"".to_vec(),
        b"garbage".to_vec(),
        vec![0xff; 60_000],
        format!("{good}\0").into_bytes(),
        format!("v9 {good}").into_bytes(),
        // A good record that leads to another file.
        other.to_string().into_bytes(),
    ];
    for lie in &lies {
        set_entry_line(&path, "a", lie).unwrap();
        b.refuses(libc::EIO, || store.list(base));
        b.refuses(libc::EIO, || store.info(base, &name("a")));
        b.refuses(libc::EIO, || store.restore(base, &name("a")));
        b.refuses(libc::EEXIST, || store.create(base, &bare("a"), &PLENTY));
    }
    for lie in &lies[..5] {
        set_entry_line(&path, "a", lie).unwrap();
        b.refuses(libc::EIO, || store.delete(base, &name("a")));
        b.refuses(libc::EIO, || store.hold(base, &name("a"), true));
    }
    // Deleting an entry that leads elsewhere removes the entry and nothing else.
    set_entry_line(&path, "a", &lies[5]).unwrap();
    store.delete(base, &name("a")).unwrap();
    assert!(path.exists() && b.handle(other.gfid).exists() && b.join(".fsnap/f@a").exists());

    set_entry_line(&path, "", b"x").unwrap();
    b.refuses(libc::EIO, || store.list(base));
    b.refuses(libc::EIO, || store.create(base, &bare("b"), &PLENTY));
    remove_entry_line(&path, "").unwrap();
    for seq in ["", "-1", "x", "18446744073709551615"] {
        setx(&path, "trusted.fsnap.seq", seq).unwrap();
        b.refuses(libc::EIO, || store.create(base, &bare("b"), &PLENTY));
    }
}

#[test]
fn a_snapshot_that_no_catalogue_knows_is_deleted_by_itself() {
    for fs in reflink() {
        let b = brick(fs);
        let store = b.store();
        let base = b.make_file("f", b"x");
        snap(&store, base, "a");
        let twin = b.record(base, "a").gfid;
        snap(&store, base, "b");
        let orphan = b.record(base, "b").gfid;
        remove_entry_line(b.join("f"), "b").unwrap();
        b.refuses(libc::ENODATA, || store.delete(base, &name("b")));
        b.refuses(libc::EIO, || store.delete_by(base, &name("b")));
        store.delete_by(orphan, &name("b")).unwrap();
        b.refuses(libc::ESTALE, || store.delete_by(orphan, &name("b")));
        assert_eq!(names(&b.join(".fsnap")), ["f@a"]);
        assert!(b.handle(twin).exists() && !b.handle(orphan).exists());
        // One that the catalogue knows goes with its entry, whichever it is asked by.
        snap(&store, base, "c");
        store.delete_by(twin, &name("c")).unwrap();
        store.delete_by(twin, &name("a")).unwrap();
        assert!(names(&b.join(".fsnap")).is_empty() && store.list(base).unwrap().is_empty());
        // Without its file.
        snap(&store, base, "d");
        let orphan = b.record(base, "d").gfid;
        b.unlink("f");
        store.delete_by(orphan, &name("d")).unwrap();
        assert!(names(&b.join(".fsnap")).is_empty() && !b.handle(orphan).exists());
    }
}

/// What a line that can't be read says may be just that.
#[test]
fn a_payload_that_a_damaged_catalogue_may_have_stays() {
    on_both(|b| {
        let store = b.store();
        let base = b.make_file("f", b"x");
        let payload = snap(&store, base, "a").gfid;
        let (path, good) = (b.join("f"), entry_line(b.join("f"), "a").unwrap());
        b.refuses(libc::ENODATA, || store.delete(base, &name("b")));
        remove_entry_line(&path, "a").unwrap();
        let damage: [(&str, &[u8]); 3] = [
            ("trusted.fsnap.catalogue.0", b""),
            ("trusted.fsnap.catalogue.0", b"/ 1 - - -\n"),
            ("trusted.fsnap.catalogue.00", format!("a {good}\n").leak().as_bytes()),
        ];
        let note = b.join(format!(".glusterfs/fsnap/pending/{payload}"));
        let mut store = store;
        for (key, value) in damage {
            setx(&path, key, value).unwrap();
            b.refuses(libc::EIO, || store.delete(base, &name("a")));
            b.refuses(libc::EIO, || store.list(base));
            b.refuses(libc::EIO, || store.create(base, &bare("b"), &PLENTY));
            fs::hard_link(b.handle(payload), &note).unwrap();
            drop(store);
            store = b.store();
            assert!(b.handle(payload).exists() && b.join(".fsnap/f@a").exists() && note.exists(), "{key}");
            fs::remove_file(&note).unwrap();
            drop(store);
            let report = check::run(&b.path, &Default::default()).unwrap();
            let kinds: Vec<_> = report.problems.iter().map(|problem| problem.kind).collect();
            assert_eq!(kinds, [ProblemKind::EntryDamaged], "{key}");
            removex(&path, key).unwrap();
            store = b.store();
        }
        // All of it can be read, and it is not there.
        fs::hard_link(b.handle(payload), &note).unwrap();
        drop(store);
        drop(b.store());
        assert!(!b.handle(payload).exists() && !b.join(".fsnap/f@a").exists() && !note.exists());
    });
}

#[test]
fn hostile_payloads() {
    let b = brick(Fs::Xfs);
    let store = b.store();
    let base = b.make_file("f", b"old");
    let other = b.make_file("g", b"other");
    let gfid = snap(&store, base, "a").gfid;
    fs::write(b.join("f"), b"new").unwrap();
    let leaf = b.handle(gfid);
    let record = b.payload_record(gfid);
    let good = getx(&leaf, "trusted.fsnap.record").unwrap();
    let lies = [
        b"".to_vec(),
        b"garbage".to_vec(),
        PayloadRecord { base: other, ..record.clone() }.to_string().into_bytes(),
        PayloadRecord { name: name("b"), ..record.clone() }.to_string().into_bytes(),
        PayloadRecord { id: Some(other), ..record }.to_string().into_bytes(),
    ];
    let refused = || {
        b.refuses(libc::EIO, || store.restore(base, &name("a")));
        b.refuses(libc::EIO, || store.list(base));
    };
    for lie in &lies {
        setx(&leaf, "trusted.fsnap.record", lie).unwrap();
        refused();
        if PayloadRecord::decode(lie).is_err() {
            b.refuses(libc::EIO, || store.base_of(gfid));
        }
    }
    removex(&leaf, "trusted.fsnap.record").unwrap();
    refused();
    setx(&leaf, "trusted.fsnap.record", &good).unwrap();
    for lie in [&other.as_bytes()[..], b"short", &[0; 16]] {
        setx(&leaf, "trusted.gfid", lie).unwrap();
        refused();
        b.refuses(libc::EIO, || store.base_of(gfid));
    }
    removex(&leaf, "trusted.gfid").unwrap();
    refused();

    // Deleting it takes the entry, and leaves alone what cannot be proved to be the payload.
    store.delete(base, &name("a")).unwrap();
    assert_eq!(fs::read(b.join(".fsnap/f@a")).unwrap(), b"old");
    assert!(leaf.exists());
    assert_eq!(listed(&store, base), [""; 0]);
}

#[test]
fn handles_that_are_something_else() {
    let b = brick(Fs::Xfs);
    let store = b.store();
    let base = b.make_file("f", b"x");
    let gfid = snap(&store, base, "a").gfid;
    let aside = b.join("aside");
    fs::rename(b.handle(gfid), &aside).unwrap();
    tool("mkfifo", &[], b.handle(gfid));
    b.refuses(libc::EIO, || store.restore(base, &name("a")));
    fs::remove_file(b.handle(gfid)).unwrap();
    symlink(&aside, b.handle(gfid)).unwrap();
    b.refuses(libc::EIO, || store.restore(base, &name("a")));
    fs::remove_file(b.handle(gfid)).unwrap();
    fs::hard_link(b.join("f"), b.handle(gfid)).unwrap();
    b.refuses(libc::EIO, || store.restore(base, &name("a")));

    // Directories: a loop, a way that leads elsewhere, shapes that are none.
    let dir = b.make_dir("d");
    let (handle, [x, y, ..]) = (b.handle(dir), dir.as_bytes());
    for target in [
        format!("../../{x:02x}/{y:02x}/{dir}/d"),
        format!("../../00/00/{}/aside", Gfid::ROOT),
        format!("../../00/00/{}/..", Gfid::ROOT),
        "../../..".into(),
        "/etc".into(),
        "x".into(),
    ] {
        fs::remove_file(&handle).unwrap();
        symlink(&target, &handle).unwrap();
        let error = store.snap_dir(dir).unwrap_err();
        assert!(matches!(error, Error::Damaged(_) | Error::Gone), "{target}: {error}");
    }
    // Another directory is not this one.
    b.make_dir("e");
    fs::remove_file(&handle).unwrap();
    symlink(format!("../../00/00/{}/e", Gfid::ROOT), &handle).unwrap();
    assert_eq!(store.snap_dir(dir).unwrap_err().errno(), libc::EIO);
    assert!(!b.join("e/.fsnap").exists());
    // No symlink in the brick's tree is followed either.
    symlink("d", b.join("l")).unwrap();
    fs::remove_file(&handle).unwrap();
    symlink(format!("../../00/00/{}/l", Gfid::ROOT), &handle).unwrap();
    assert_eq!(store.snap_dir(dir), Err(Error::Gone));
    assert!(!b.join("d/.fsnap").exists());
}

#[test]
fn leftovers_of_a_crash_go_into_quarantine() {
    on_both(|b| {
        let store = b.store();
        let base = b.make_file("f", &content(5000, 1));
        let old = snap(&store, base, "a").gfid;
        let ino = fs::metadata(b.handle(old)).unwrap().ino();
        // The crash was before the entry; then with the handle alone; then with the same gfid again.
        remove_entry_line(b.join("f"), "a").unwrap();
        fs::write(b.join("f"), b"now").unwrap();
        let new = snap(&store, base, "a").gfid;
        assert_ne!(old, new);
        assert_eq!(fs::read(b.join(".fsnap/f@a")).unwrap(), b"now");
        let [lost] = &b.lost()[..] else { panic!("{:?}", b.lost()) };
        let lost = b.join(".glusterfs/fsnap/lost").join(lost);
        assert!(fs::read(&lost).unwrap() == content(5000, 1));
        assert_eq!((fs::metadata(&lost).unwrap().ino(), fs::metadata(&lost).unwrap().nlink()), (ino, 1));
        assert!(!b.handle(old).exists());

        remove_entry_line(b.join("f"), "a").unwrap();
        fs::remove_file(b.join(".fsnap/f@a")).unwrap();
        setx(b.join("f"), "trusted.fsnap.seq", "1").unwrap();
        assert_eq!(snap(&store, base, "a").gfid, new);
        assert_eq!(b.lost().len(), 2);
        assert_eq!(listed(&store, base), ["a"]);
        assert_eq!(
            fs::metadata(b.handle(new)).unwrap().ino(),
            fs::metadata(b.join(".fsnap/f@a")).unwrap().ino()
        );

        // Heal sets xattrs one by one: the number can come after the entries.
        removex(b.join("f"), "trusted.fsnap.seq").unwrap();
        snap(&store, base, "b");
        assert_eq!(b.record(base, "b").seq, 3);
    });
}

#[test]
fn what_is_in_the_way_and_not_ours_stays() {
    let b = brick(Fs::Xfs);
    let store = b.store();
    let base = b.make_file("f", b"x");
    let before = base.payload(&name("z"), None, 1);
    assert_eq!(snap(&store, base, "z").gfid, before);
    let gfid = base.payload(&name("a"), None, 2);
    fs::create_dir_all(b.handle(gfid).parent().unwrap()).unwrap();
    for way in [b.join(".fsnap/f@a"), b.handle(gfid)] {
        fs::write(&way, b"somebody's").unwrap();
        b.refuses(libc::EIO, || store.create(base, &bare("a"), &PLENTY));
        setx(&way, "trusted.fsnap.record", b"garbage").unwrap();
        b.refuses(libc::EIO, || store.create(base, &bare("a"), &PLENTY));
        fs::remove_file(&way).unwrap();
        fs::create_dir(&way).unwrap();
        b.refuses(libc::EIO, || store.create(base, &bare("a"), &PLENTY));
        fs::remove_dir(&way).unwrap();
    }

    // The file was deleted and another has its name; the snapshots of the first still have theirs.
    snap(&store, base, "a");
    fs::remove_file(b.join("f")).unwrap();
    let second = b.make_file("f", b"y");
    b.refuses(libc::EEXIST, || store.create(second, &bare("a"), &PLENTY));
    snap(&store, second, "b");
}

#[test]
fn a_delete_takes_only_what_is_the_payload() {
    on_both(|b| {
        let store = b.store();
        let base = b.make_file("f", b"x");
        let gfid = snap(&store, base, "a").gfid;
        fs::remove_file(b.join(".fsnap/f@a")).unwrap();
        fs::write(b.join(".fsnap/f@a"), b"somebody's").unwrap();
        store.delete(base, &name("a")).unwrap();
        assert_eq!(fs::read(b.join(".fsnap/f@a")).unwrap(), b"somebody's");
        assert!(!b.handle(gfid).exists());
        assert_eq!(listed(&store, base), [""; 0]);
    });
}

#[test]
fn a_failed_create_is_taken_back() {
    on_both(|b| {
        let store = b.store();
        b.make_dir("d");
        let base = b.make_file("d/f", b"x");
        snap(&store, base, "a");
        let before = fs::metadata(b.join("d/f")).unwrap();
        // The payload can be made and linked, but not entered into the catalogue.
        tool("chattr", &["+i"], b.join("d/f"));
        let failed = store.create(base, &bare("b"), &PLENTY);
        let restored = store.restore(base, &name("a"));
        let deleted = store.delete(base, &name("a"));
        tool("chattr", &["-i"], b.join("d/f"));
        for result in [failed.map(drop), restored.map(drop), deleted] {
            assert_eq!(result.unwrap_err().errno(), libc::EPERM);
        }
        assert_eq!(names(&b.join("d/.fsnap")), ["f@a"]);
        assert!(!b.handle(base.payload(&name("b"), None, 2)).exists());
        assert!(!b.join(format!(".glusterfs/fsnap/pending/{}", base.payload(&name("b"), None, 2))).exists());
        assert_eq!(listed(&store, base), ["a"]);
        assert_eq!(getx(b.join("d/f"), "trusted.fsnap.seq").unwrap(), encode_seq(1).into_bytes());
        assert_eq!(fs::metadata(b.join("d/f")).unwrap().mtime_nsec(), before.mtime_nsec());
        assert!(b.intents().is_empty() && b.lost().is_empty());
        snap(&store, base, "b");
    });
}
