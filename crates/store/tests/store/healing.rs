//! Self-heal: what a brick that was away learns, loses and gets.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::PathBuf;

use fsnap_core::catalogue::Page;
use fsnap_core::gfid2path::Link;
use fsnap_core::record::{PayloadRecord, Record};
use fsnap_core::{Error, Gfid};
use fsnap_store::{Catalogue, Store, check};
use fsnap_testbed::{Fs, content, df_used, entry_line, getx, remove_entry_line, set_entry_line, setx};

use crate::common::*;

/// A brick with a file `d/f` that has the snapshots `a` and `b`.
pub fn scene(b: &TestBrick) -> (Store, Gfid) {
    let store = b.store();
    b.make_dir("d");
    b.make_dir("e");
    let base = b.make_file("d/f", &content(20_000, 1));
    snap(&store, base, "a");
    snap(&store, base, "b");
    (store, base)
}

pub fn note(b: &TestBrick, dir: &str, payload: Gfid) -> PathBuf {
    b.join(".glusterfs/fsnap").join(dir).join(payload.to_string())
}

/// What `awaited` says.
pub fn noted(b: &TestBrick, payload: Gfid) -> Option<String> {
    fs::read_link(note(b, "awaited", payload)).ok().map(|text| text.to_str().unwrap().to_owned())
}

/// A place that tells nothing.
pub fn nowhere(b: &TestBrick) -> Link {
    Link { parent: b.gfid("d").snap_dir(), name: b"x".to_vec() }
}

/// Asserts that nothing tells of the payload any more.
#[track_caller]
pub fn gone(b: &TestBrick, at: &str, payload: Gfid) {
    assert!(!b.join(at).exists() && !b.handle(payload).exists());
    assert!(noted(b, payload).is_none() && fs::symlink_metadata(note(b, "pending", payload)).is_err());
}

/// Asserts that the checker finds nothing that is worse than information.
#[track_caller]
pub fn sound(b: &TestBrick) {
    let options = check::Options { pause: std::time::Duration::ZERO, ..check::Options::default() };
    let report = check::run(&b.path, &options).unwrap();
    assert!(report.is_clean(), "{:#?}", report.problems);
}

pub fn bury(b: &TestBrick, store: &Store, base: Gfid, at: &str) {
    store.bury(base).unwrap();
    b.unlink(at);
    store.follow(base).unwrap();
    store.empty_grave(base).unwrap();
}

pub fn mark(counts: [u32; 3]) -> Vec<u8> {
    counts.map(u32::to_be_bytes).concat()
}

#[test]
fn snapshots_that_were_deleted_elsewhere_go() {
    on_both(|b| {
        let (store, base) = scene(&b);
        let (a, kept) = (b.record(base, "a"), b.record(base, "b"));
        let lost = || names(&b.join(".glusterfs/fsnap/lost"));
        let outstanding = heal(&b, &store, base, 2, &[("b", kept.clone())]).unwrap();
        assert!(outstanding.missing.is_empty() && outstanding.unsettled.is_empty());
        assert_eq!(listed(&store, base), ["b"]);
        assert!(lost().is_empty());
        gone(&b, "d/.fsnap/f@a", a.gfid);
        assert_eq!(noted(&b, kept.gfid), None);
        assert!(fs::read(b.join("d/.fsnap/f@b")).unwrap() == content(20_000, 1));
        sound(&b);

        // All of them, and the number too. The other bricks never had any: they can't know that these were deleted.
        store.adopt(base, &Catalogue::default()).unwrap();
        gone(&b, "d/.fsnap/f@b", kept.gfid);
        let found = lost();
        assert!(found.len() == 1 && found[0].starts_with(&format!("snapshot-{}", kept.gfid)), "{found:?}");
        assert!(fs::read(b.join(".glusterfs/fsnap/lost").join(&found[0])).unwrap() == content(20_000, 1));
        fs::remove_file(b.join(".glusterfs/fsnap/lost").join(&found[0])).unwrap();
        assert!(getx(b.handle(base), "trusted.fsnap.seq").is_err() && !store.has_snapshots(base).unwrap());
        assert!(names(&b.join("d/.fsnap")).is_empty());
        assert_eq!(store.outstanding(base).unwrap(), Default::default());
        let before = b.tree();
        store.adopt(base, &Catalogue::default()).unwrap();
        assert!(b.tree() == before);
        sound(&b);
    });
}

/// What the other bricks can't be known to have deleted is kept aside.
#[test]
fn snapshots_that_others_may_not_know() {
    on_both(|b| {
        let (store, base) = scene(&b);
        let (one, two) = (b.record(base, "a"), b.record(base, "b"));
        // Held here; of a number that another snapshot has there.
        store.hold(base, &name("a"), true).unwrap();
        let other = Record { seq: two.seq, ..taken(base, "x", 9) };
        heal(&b, &store, base, 2, &[("x", other)]).unwrap();
        assert_eq!(listed(&store, base), ["x"]);
        for (gone_one, leaf) in [(one.gfid, "f@a"), (two.gfid, "f@b")] {
            gone(&b, &format!("d/.fsnap/{leaf}"), gone_one);
            let lost = names(&b.join(".glusterfs/fsnap/lost"));
            assert!(lost.iter().any(|name| name.starts_with(&format!("snapshot-{gone_one}"))), "{lost:?}");
        }
    });
}

#[test]
fn what_is_the_same_stays() {
    on_both(|b| {
        let (store, base) = scene(&b);
        let (one, two) = (b.record(base, "a"), b.record(base, "b"));
        let held = Record { held: true, ..one.clone() };
        let before = b.tree();
        store.adopt(base, &catalogue(2, &[("a", one), ("b", two.clone())])).unwrap();
        assert!(b.tree() == before);
        let outstanding = heal(&b, &store, base, 2, &[("a", held), ("b", two)]).unwrap();
        assert_eq!(outstanding, Default::default());
        assert!(store.info(base, &name("a")).unwrap().held);
        assert_eq!(names(&b.join("d/.fsnap")), ["f@a", "f@b"]);
        sound(&b);
    });
}

#[test]
fn deleted_and_taken_again_elsewhere() {
    on_both(|b| {
        let (store, base) = scene(&b);
        let (old, two) = (b.record(base, "a"), b.record(base, "b"));
        let again = taken(base, "a", 4);
        let outstanding = heal(&b, &store, base, 4, &[("a", again.clone()), ("b", two)]).unwrap();
        gone(&b, "d/.fsnap/f@a", old.gfid);
        let snap_dir = b.gfid("d").snap_dir();
        assert_eq!(outstanding.missing, [(snap_dir, [b"f@a".to_vec()].into())].into());
        assert_eq!(store.info(base, &name("a")).unwrap().size, None);
        assert_eq!(store.wanted(again.gfid, &nowhere(&b)), Ok(base));
        b.make_as("d/.fsnap/f@a", again.gfid);
        store.seed(again.gfid, base).unwrap();
        // Until it is filled, and its attributes are set, others know more of it.
        assert_eq!(store.info(base, &name("a")).unwrap().size, None);
        store.healed(again.gfid).unwrap();
        assert_eq!(store.info(base, &name("a")).unwrap().size, Some(20_000));
        sound(&b);

        // The same id was given again: only the number tells that it is another.
        let id = Some(next_gfid());
        let gfid = base.payload(&name("c"), id, 0);
        let create = fsnap_core::command::Create { name: name("c"), created: None, id };
        assert_eq!(store.create(base, &create, &PLENTY).unwrap().gfid, gfid);
        let here = b.record(base, "c");
        let there = Record { seq: here.seq + 2, ..here };
        let outstanding = heal(&b, &store, base, there.seq, &[("c", there)]).unwrap();
        assert_eq!(outstanding.missing, [(snap_dir, [b"f@c".to_vec()].into())].into());
        assert!(!b.handle(gfid).exists() && store.wanted(gfid, &nowhere(&b)) == Ok(base));
    });
}

#[test]
fn a_snapshot_without_data_here_goes() {
    on_both(|b| {
        let (store, base) = scene(&b);
        let (one, two) = (b.record(base, "a"), b.record(base, "b"));
        let missed = taken(base, "c", 3);
        let all = [("a", one.clone()), ("b", two.clone()), ("c", missed.clone())];
        heal(&b, &store, base, 3, &all).unwrap();
        assert_eq!(noted(&b, missed.gfid), Some(base.to_string()));
        heal(&b, &store, base, 3, &all[..2]).unwrap();
        gone(&b, "d/.fsnap/f@c", missed.gfid);
        assert_eq!(store.wanted(missed.gfid, &nowhere(&b)).unwrap_err().errno(), libc::EIO);
        sound(&b);
    });
}

#[test]
fn what_is_damaged_here() {
    on_both(|b| {
        let (store, base) = scene(&b);
        let (one, two) = (b.record(base, "a"), b.record(base, "b"));
        let missed = taken(base, "c", 3);
        let damage = |what: &str| set_entry_line(b.handle(base), what, b"x").unwrap();
        // It comes again.
        damage("a");
        damage("\u{1b}[31m");
        let truth = [("a", one.clone()), ("b", two.clone()), ("c", missed.clone())];
        let outstanding = heal(&b, &store, base, 3, &truth).unwrap();
        assert_eq!(outstanding.missing, [(b.gfid("d").snap_dir(), [b"f@c".to_vec()].into())].into());
        assert_eq!(listed(&store, base), ["a", "b", "c"]);
        // It goes. What its payload was nobody can tell: that is left to the checker.
        damage("a");
        heal(&b, &store, base, 3, &truth[1..]).unwrap();
        assert_eq!(listed(&store, base), ["b", "c"]);
        assert!(b.handle(one.gfid).exists() && b.join("d/.fsnap/f@a").exists());
        store.delete_by(one.gfid, &name("a")).unwrap();
        gone(&b, "d/.fsnap/f@a", one.gfid);

        // A payload that is damaged is here all the same: its own xattrs are healed.
        setx(b.handle(two.gfid), "trusted.fsnap.record", b"x").unwrap();
        let outstanding = heal(&b, &store, base, 3, &truth[1..]).unwrap();
        assert_eq!(outstanding.missing, [(b.gfid("d").snap_dir(), [b"f@c".to_vec()].into())].into());
    });
}

#[test]
fn what_is_damaged_on_the_others() {
    on_both(|b| {
        let (store, base) = scene(&b);
        let missed = taken(base, "c", 3);
        let two = b.record(base, "b");
        let adopt = |text: String| {
            let pages = [(0, Page::new(text.into_bytes()))].into();
            store.adopt(base, &Catalogue { seq: Some(9), pages, ..Catalogue::default() })
        };
        // Any snapshot may be what can't be told: all stays as it is.
        let before = (listed(&store, base), entry_line(b.handle(base), "a"), names(&b.join("d/.fsnap")));
        for what in ["", "\n\n", &format!("b {two}\n\u{1b}[31m x\n"), &format!("a {two}\nb"), "a\0 1 - - -\n"]
        {
            b.refuses(libc::EIO, || adopt(what.into()));
            let now = (listed(&store, base), entry_line(b.handle(base), "a"), names(&b.join("d/.fsnap")));
            assert_eq!(now, before, "{what:?}");
        }
        adopt(format!("a x\nb {two}\nc {missed}\n")).unwrap();
        assert_eq!(names(&b.join("d/.fsnap")), ["f@a", "f@b"], "it may be the same");
        // All else is healed.
        let outstanding = store.outstanding(base).unwrap();
        assert_eq!(outstanding.missing, [(b.gfid("d").snap_dir(), [b"f@c".to_vec()].into())].into());
        assert_eq!(store.wanted(missed.gfid, &nowhere(&b)), Ok(base));
        b.make_as("d/.fsnap/f@c", missed.gfid);
        store.seed(missed.gfid, base).unwrap();
        assert!(fs::read(b.join("d/.fsnap/f@c")).unwrap() == content(20_000, 1));
        assert_eq!(names(&b.join("d/.fsnap")), ["f@a", "f@b", "f@c"]);
    });
}

#[test]
fn what_is_missing_is_told_and_may_be_made() {
    on_both(|b| {
        let store = b.store();
        b.make_dir("d");
        let base = b.make_file("d/f", &content(20_000, 1));
        let other = b.make_file("d/other", b"x");
        let (one, two) = (taken(base, "a", 1), Record { held: true, ..taken(base, "b", 2) });
        for payload in [one.gfid, next_gfid()] {
            b.refuses(libc::EIO, || store.wanted(payload, &nowhere(&b)));
        }
        // A brick that fsnap was never used on.
        let outstanding = heal(&b, &store, base, 2, &[("a", one.clone()), ("b", two.clone())]).unwrap();
        let snap_dir = b.gfid("d").snap_dir();
        assert_eq!(outstanding.missing, [(snap_dir, [b"f@a".to_vec(), b"f@b".to_vec()].into())].into());
        assert!(!outstanding.dispersed && outstanding.unsettled.is_empty());
        assert_eq!((b.gfid("d/.fsnap"), names(&b.join("d/.fsnap")).len()), (snap_dir, 0));
        for record in [&one, &two] {
            assert_eq!(noted(&b, record.gfid), Some(base.to_string()));
            assert_eq!(store.wanted(record.gfid, &nowhere(&b)), Ok(base));
        }
        sound(&b);
        let again = store.outstanding(base).unwrap();
        assert_eq!(again, outstanding);

        // What no catalogue has, whatever a note says, what is here, and what is something else.
        for payload in [taken(base, "a", 3).gfid, base.payload(&name("z"), None, 1), other] {
            symlink(base.to_string(), note(&b, "awaited", payload)).unwrap();
            b.refuses(libc::EIO, || store.wanted(payload, &nowhere(&b)));
            fs::remove_file(note(&b, "awaited", payload)).unwrap();
        }
        for lie in [other, b.gfid("d"), next_gfid()] {
            fs::remove_file(note(&b, "awaited", one.gfid)).unwrap();
            symlink(lie.to_string(), note(&b, "awaited", one.gfid)).unwrap();
            b.refuses(libc::EIO, || store.wanted(one.gfid, &nowhere(&b)));
        }
        fs::remove_file(note(&b, "awaited", one.gfid)).unwrap();
        for lie in ["garbage", &base.to_string()[1..], &format!(" {base}")] {
            symlink(lie, note(&b, "awaited", one.gfid)).unwrap();
            b.refuses(libc::EIO, || store.wanted(one.gfid, &nowhere(&b)));
            fs::remove_file(note(&b, "awaited", one.gfid)).unwrap();
        }
        tool("mkfifo", &[], note(&b, "awaited", one.gfid));
        b.refuses(libc::EIO, || store.wanted(one.gfid, &nowhere(&b)));
        assert_eq!(store.outstanding(base).unwrap(), outstanding);
        assert_eq!(store.wanted(one.gfid, &nowhere(&b)), Ok(base));
        fs::create_dir_all(b.handle(one.gfid).parent().unwrap()).unwrap();
        tool("mkfifo", &[], b.handle(one.gfid));
        b.refuses(libc::EINVAL, || store.wanted(one.gfid, &nowhere(&b)));
        fs::remove_file(b.handle(one.gfid)).unwrap();

        b.refuses(libc::ESTALE, || store.seed(one.gfid, base));
        for (record, at) in [(&one, "d/.fsnap/f@a"), (&two, "d/.fsnap/f@b")] {
            b.make_as(at, record.gfid);
            b.refuses(libc::EIO, || store.wanted(record.gfid, &nowhere(&b)));
            b.refuses(libc::ESTALE, || store.seed(record.gfid, other));
            b.refuses(libc::ESTALE, || store.seed(record.gfid, next_gfid()));
            store.seed(record.gfid, base).unwrap();
            assert!(fs::read(b.join(at)).unwrap() == content(20_000, 1));
            assert_eq!(noted(&b, record.gfid), None);
        }
        let first = Record { held: false, ..two };
        assert_eq!(
            b.payload_record(first.gfid),
            PayloadRecord::of(base, name("b"), &first),
            "as it was at first"
        );
        assert_eq!(listed(&store, base), ["a", "b"]);
        assert_eq!(store.outstanding(base).unwrap(), Default::default());
        sound(&b);
        assert_eq!(store.delete(base, &name("b")), Err(Error::Held("b".into())));
        store.delete(base, &name("a")).unwrap();
        gone(&b, "d/.fsnap/f@a", one.gfid);
        snap(&store, base, "c");
        assert_eq!(b.record(base, "c").seq, 3);
    });
}

#[test]
fn refusals() {
    let b = brick(Fs::Xfs);
    let (store, base) = scene(&b);
    let none = Catalogue::default();
    b.refuses(libc::ESTALE, || store.adopt(next_gfid(), &none));
    b.refuses(libc::EINVAL, || store.adopt(b.gfid("d"), &none));
    b.refuses(libc::ESTALE, || store.outstanding(next_gfid()));
    b.refuses(libc::EINVAL, || store.outstanding(b.gfid("d")));
    fs::remove_file(b.handle(base)).unwrap();
    fs::write(b.handle(base), b"another").unwrap();
    b.refuses(libc::EIO, || store.adopt(base, &none));
    b.refuses(libc::EIO, || store.outstanding(base));
}

#[test]
fn where_the_others_may_have_it() {
    on_both(|b| {
        let (store, base) = scene(&b);
        let truth = || [("a", b.record(base, "a")), ("b", b.record(base, "b")), ("c", taken(base, "c", 3))];
        let missing = || heal(&b, &store, base, 3, &truth()).unwrap().missing;
        let snap_dirs = ["d", "e"].map(|dir| b.gfid(dir).snap_dir());
        // Renamed since.
        b.rename("d/f", "e/g");
        store.follow(base).unwrap();
        assert_eq!(missing(), [(snap_dirs[1], [b"g@c".to_vec()].into())].into());
        // Several names in one directory, and in others that have a `.fsnap`.
        b.link("e/g", "e/h");
        assert_eq!(missing(), [(snap_dirs[1], [b"g@c".to_vec(), b"h@c".to_vec()].into())].into());
        b.link("e/g", "d/i");
        b.make_dir("x");
        b.link("e/g", "x/j");
        let found = missing();
        assert_eq!(found[&snap_dirs[0]], [b"i@c".to_vec()].into());
        assert_eq!(found[&snap_dirs[1]].len(), 2);
        sound(&b);
    });
}

/// Without any `.fsnap` it is the one where a snapshot would be made.
#[test]
fn the_first_of_several_names() {
    on_both(|b| {
        let store = b.store();
        b.make_dir("d");
        b.make_dir("e");
        let base = b.make_file("d/f", b"x");
        b.link("d/f", "e/g");
        let missing = heal(&b, &store, base, 1, &[("a", taken(base, "a", 1))]).unwrap().missing;
        let [(snap_dir, _)] = &missing.iter().collect::<Vec<_>>()[..] else { panic!("{missing:?}") };
        let payload = snap(&store, base, "b").gfid;
        let there = ["d/.fsnap/f@b", "e/.fsnap/g@b"].into_iter().find(|at| b.join(at).exists()).unwrap();
        assert_eq!((b.gfid(there), b.gfid(&there[..8])), (payload, **snap_dir));
        assert_eq!(["d/.fsnap", "e/.fsnap"].iter().filter(|at| b.join(at).exists()).count(), 1);
    });
}

#[test]
fn names_that_are_too_long() {
    on_both(|b| {
        let store = b.store();
        b.make_dir("d");
        let file = "n".repeat(252);
        let base = b.make_file(format!("d/{file}"), b"x");
        let (long, short) = (taken(base, "long", 1), taken(base, "s", 2));
        let outstanding = heal(&b, &store, base, 2, &[("long", long.clone()), ("s", short.clone())]).unwrap();
        let name = format!("{file}@s").into_bytes();
        assert_eq!(outstanding.missing, [(b.gfid("d").snap_dir(), [name].into())].into());
        // It may be made, wherever the others have it.
        for record in [&long, &short] {
            assert_eq!(store.wanted(record.gfid, &nowhere(&b)), Ok(base));
        }
    });
}

#[test]
fn a_foreign_snap_dir_is_in_the_way() {
    on_both(|b| {
        let store = b.store();
        b.make_dir("d");
        b.make_dir("d/.fsnap");
        let base = b.make_file("d/f", b"x");
        let missed = taken(base, "a", 1);
        let outstanding = heal(&b, &store, base, 1, &[("a", missed.clone())]).unwrap();
        assert!(outstanding.missing.is_empty());
        assert_eq!(store.wanted(missed.gfid, &nowhere(&b)), Ok(base));
    });
}

#[test]
fn deleted_files() {
    on_both(|b| {
        let (store, base) = scene(&b);
        let digits = &base.to_string()[..8];
        bury(&b, &store, base, "d/f");
        let (one, missed) = (b.record(base, "a"), taken(base, "c", 3));
        let outstanding = heal(&b, &store, base, 3, &[("a", one), ("c", missed.clone())]).unwrap();
        let leaf = format!("f@c@{digits}");
        assert_eq!(
            outstanding.missing,
            [(b.gfid("d").snap_dir(), [leaf.clone().into_bytes()].into())].into()
        );
        assert_eq!(listed(&store, base), ["a", "c"]);
        b.make_as(format!("d/.fsnap/{leaf}"), missed.gfid);
        store.seed(missed.gfid, base).unwrap();
        fs::write(b.handle(missed.gfid), b"healed").unwrap();
        sound(&b);
        let unfilled = store.revive(base, &name("c"), |_, _| Ok(()));
        assert_eq!(unfilled.unwrap_err().errno(), libc::EIO, "self-heal is not done with it");
        store.healed(missed.gfid).unwrap();
        store.revive(base, &name("c"), |_, _| Ok(())).unwrap();
        assert_eq!(fs::read(b.join("d/f")).unwrap(), b"healed");
        assert_eq!(names(&b.join("d/.fsnap")), ["f@a", "f@c"]);

        // Its last snapshots were deleted: it goes as well.
        bury(&b, &store, base, "d/f");
        assert_eq!(heal(&b, &store, base, 3, &[]).unwrap(), Default::default());
        assert!(!b.handle(base).exists() && b.buried().is_empty() && !store.is_buried(base));
        assert!(names(&b.join("d/.fsnap")).is_empty());
        assert_eq!(store.outstanding(base), Err(Error::Gone));
        sound(&b);

        // With too long a name for a deleted file's its snapshots have kept theirs.
        let file = "n".repeat(250);
        let base = b.make_file(format!("d/{file}"), b"x");
        snap(&store, base, "a");
        bury(&b, &store, base, &format!("d/{file}"));
        let missed = taken(base, "c", 2);
        let outstanding = heal(&b, &store, base, 2, &[("a", b.record(base, "a")), ("c", missed)]).unwrap();
        let leaf = format!("{file}@c").into_bytes();
        assert_eq!(outstanding.missing, [(b.gfid("d").snap_dir(), [leaf].into())].into());
    });
}

/// The number goes with the entries when heal is cut short: then the file stays, and heal comes again.
#[test]
fn a_deleted_file_whose_heal_was_cut_short() {
    on_both(|b| {
        let (store, base) = scene(&b);
        bury(&b, &store, base, "d/f");
        store.adopt(base, &Catalogue::default()).unwrap();
        drop(store);
        let store = b.store();
        assert!(store.is_buried(base) && b.handle(base).exists());
        let missed = taken(base, "c", 3);
        let outstanding = heal(&b, &store, base, 3, &[("c", missed.clone())]).unwrap();
        assert_eq!((outstanding.missing.len(), store.wanted(missed.gfid, &nowhere(&b))), (1, Ok(base)));
    });
}

#[test]
fn marks_are_told() {
    let b = brick(Fs::Xfs);
    let (store, base) = scene(&b);
    let (one, two) = (b.record(base, "a"), b.record(base, "b"));
    let set = |record: &Record, name: &str, counts| setx(b.handle(record.gfid), name, mark(counts)).unwrap();
    set(&one, "trusted.afr.v-client-1", [0; 3]);
    set(&one, "trusted.afr.dirty", [0; 3]);
    let truth = [("a", one.clone()), ("b", two.clone())];
    assert_eq!(heal(&b, &store, base, 2, &truth).unwrap(), Default::default());
    set(&one, "trusted.afr.v-client-1", [1, 0, 0]);
    set(&two, "trusted.afr.dirty", [0, 1, 0]);
    let mut unsettled = heal(&b, &store, base, 2, &truth).unwrap().unsettled;
    unsettled.sort();
    let mut expected = [
        (one.gfid, vec!["trusted.afr.v-client-1".to_owned()]),
        (two.gfid, vec!["trusted.afr.dirty".to_owned()]),
    ];
    expected.sort();
    assert_eq!(unsettled, expected);
}

#[test]
fn seeds_share_blocks() {
    for fs in reflink() {
        let (_disk, b) = own_disk(fs, 400 << 20);
        let store = b.store();
        let base = b.make_file("big", &content(32 * MIB, 1));
        let (one, two) = (taken(base, "a", 1), taken(base, "b", 2));
        heal(&b, &store, base, 2, &[("a", one.clone()), ("b", two.clone())]).unwrap();
        b.sync();
        let before = df_used(&b.path);
        b.make_as(".fsnap/big@a", one.gfid);
        store.seed(one.gfid, base).unwrap();
        b.sync();
        let grown = df_used(&b.path).saturating_sub(before);
        assert!(grown < 8 * MIB as u64, "{grown} bytes for a seed of 32 MiB");
        assert!(tool("filefrag", &["-v"], b.join(".fsnap/big@a")).contains("shared"));
        assert!(fs::read(b.join(".fsnap/big@a")).unwrap() == content(32 * MIB, 1));

        // What has a content has it from heal.
        b.make_as(".fsnap/big@b", two.gfid);
        fs::write(b.join(".fsnap/big@b"), b"healed").unwrap();
        store.seed(two.gfid, base).unwrap();
        assert_eq!(fs::read(b.join(".fsnap/big@b")).unwrap(), b"healed");
        assert_eq!(b.payload_record(two.gfid), PayloadRecord::of(base, name("b"), &two));
        sound(&b);
    }
}

#[test]
fn fragments_are_not_seeded() {
    on_both(|b| {
        let store = b.store();
        let base = b.make_file("f", &content(20_000, 1));
        setx(b.join("f"), "trusted.ec.size", 40_000u64.to_be_bytes()).unwrap();
        let missed = taken(base, "a", 1);
        let outstanding = heal(&b, &store, base, 1, &[("a", missed.clone())]).unwrap();
        assert!(outstanding.dispersed && outstanding.missing.len() == 1);
        b.make_as(".fsnap/f@a", missed.gfid);
        store.seed(missed.gfid, base).unwrap();
        assert_eq!(fs::metadata(b.join(".fsnap/f@a")).unwrap().len(), 0);
        assert_eq!(b.payload_record(missed.gfid), PayloadRecord::of(base, name("a"), &missed));
        sound(&b);
    });
}

/// Nobody awaits it, but its name tells whose it was: a full heal makes it.
#[test]
fn what_got_lost_may_be_made_by_its_name() {
    on_both(|b| {
        let (store, base) = scene(&b);
        let one = b.record(base, "a");
        let snap_dir = b.gfid("d").snap_dir();
        let at = |leaf: &str| Link { parent: snap_dir, name: leaf.as_bytes().to_vec() };
        let lose = |leaf: &str| {
            fs::remove_file(b.join("d/.fsnap").join(leaf)).unwrap();
            fs::remove_file(b.handle(one.gfid)).unwrap();
        };
        b.refuses(libc::EIO, || store.wanted(one.gfid, &at("f@a")));
        lose("f@a");
        assert_eq!(store.wanted(one.gfid, &at("f@a")), Ok(base));
        for lie in ["f@b@a", "f", "@a", "", "f@a@00000000"] {
            b.refuses(libc::EIO, || store.wanted(one.gfid, &at(lie)));
        }
        b.refuses(libc::EIO, || store.wanted(taken(base, "z", 9).gfid, &at("f@z")));
        b.make_as("d/.fsnap/f@a", one.gfid);
        store.seed(one.gfid, base).unwrap();
        store.healed(one.gfid).unwrap();

        bury(&b, &store, base, "d/f");
        let leaf = format!("f@a@{}", &base.to_string()[..8]);
        lose(&leaf);
        assert_eq!(store.wanted(one.gfid, &at(&leaf)), Ok(base));
    });
}

/// The brick died after storage/posix had made the file: it is empty and has no record.
#[test]
fn what_heal_had_begun_to_make() {
    on_both(|b| {
        let (mut store, base) = scene(&b);
        let truth = || [("a", b.record(base, "a")), ("b", b.record(base, "b")), ("c", taken(base, "c", 3))];
        let payload = taken(base, "c", 3).gfid;
        let begin = |store: &Store| {
            heal(&b, store, base, 3, &truth()).unwrap();
            b.make_as("d/.fsnap/f@c", payload);
        };
        begin(&store);
        assert_eq!(heal(&b, &store, base, 3, &truth()).unwrap(), Default::default(), "it is here");
        store.delete(base, &name("c")).unwrap();
        gone(&b, "d/.fsnap/f@c", payload);
        begin(&store);
        heal(&b, &store, base, 3, &truth()[..2]).unwrap();
        gone(&b, "d/.fsnap/f@c", payload);
        sound(&b);

        // The deletion was cut short.
        begin(&store);
        for deleted in [false, true] {
            drop(store);
            symlink(base.to_string(), note(&b, "pending", payload)).unwrap();
            if deleted {
                remove_entry_line(b.handle(base), "c").unwrap();
            }
            store = b.store();
            assert_eq!(b.handle(payload).exists(), !deleted);
            assert!(!note(&b, "pending", payload).is_symlink());
        }
        gone(&b, "d/.fsnap/f@c", payload);
        sound(&b);

        // What has a content may be worth it, and a link file of DHT is none.
        begin(&store);
        fs::write(b.handle(payload), b"data").unwrap();
        let inode = fs::metadata(b.handle(payload)).unwrap().ino();
        store.delete(base, &name("c")).unwrap();
        assert_eq!(fs::metadata(b.join("d/.fsnap/f@c")).unwrap().ino(), inode);
        fs::remove_file(b.handle(payload)).unwrap();
        fs::remove_file(b.join("d/.fsnap/f@c")).unwrap();
        heal(&b, &store, base, 3, &truth()).unwrap();
        b.make_link_file("d/.fsnap/f@c", payload);
        store.delete(base, &name("c")).unwrap();
        assert!(b.handle(payload).exists());
    });
}
