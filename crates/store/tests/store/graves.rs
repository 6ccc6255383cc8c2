//! Snapshots that outlive their file, and files that come back.

use std::cell::RefCell;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::Instant;

use fsnap_core::gfid2path::Link;
use fsnap_core::record::Intent;
use fsnap_core::{Error, Gfid, Result};
use fsnap_store::{InodeKind, Store};
use fsnap_testbed::{Fs, content, getx, remove_entry_line, removex, set_entry_line, setx};

use crate::common::*;

pub fn anywhere(_: Gfid, _: &[u8]) -> Result<()> {
    Ok(())
}

/// A brick with a file `d/f` that has the snapshots `a` and `b`.
pub fn scene(b: &TestBrick) -> (Store, Gfid) {
    let store = b.store();
    b.make_dir("d");
    let base = b.make_file("d/f", &content(20_000, 1));
    snap(&store, base, "a");
    fs::write(b.join("d/f"), content(30_000, 2)).unwrap();
    snap(&store, base, "b");
    (store, base)
}

/// The whole of an unlink, as the translator does it.
pub fn delete_file(b: &TestBrick, store: &Store, base: Gfid, at: &str) {
    assert!(store.is_last_name(base).unwrap());
    store.bury(base).unwrap();
    b.unlink(at);
    store.empty_grave(base).unwrap();
}

fn tombstone(base: Gfid) -> String {
    format!("f@.{base}")
}

#[test]
fn a_file_is_deleted_and_comes_back() {
    on_both(|b| {
        let (store, base) = scene(&b);
        fs::set_permissions(b.join("d/f"), fs::Permissions::from_mode(0o640)).unwrap();
        setx(b.join("d/f"), "user.x", b"y").unwrap();
        let inode = fs::metadata(b.join("d/f")).unwrap().ino();
        assert!(!store.is_buried(base));
        delete_file(&b, &store, base, "d/f");

        assert_eq!(names(&b.join("d")), [".fsnap"]);
        let mut all = ["f@a".into(), "f@b".into(), tombstone(base)];
        all.sort();
        assert_eq!(names(&b.join("d/.fsnap")), all);
        let meta = fs::metadata(b.handle(base)).unwrap();
        assert_eq!((meta.ino(), meta.len(), meta.nlink()), (inode, 0, 2));
        assert_eq!(b.names_of(base, &["d/.fsnap"]), [format!("d/.fsnap/{}", tombstone(base))]);
        let note = fs::read_link(b.join(format!(".glusterfs/fsnap/buried/{base}"))).unwrap();
        assert_eq!(note.to_str().unwrap(), format!("{}/f", b.gfid("d")));
        assert!(
            store.is_buried(base) && store.has_snapshots(base).unwrap() && !store.is_last_name(base).unwrap()
        );
        assert_eq!(store.what_is(base), InodeKind::Tombstone);

        // What still works, and what does not.
        assert_eq!(listed(&store, base), ["a", "b"]);
        assert_eq!(store.info(base, &name("a")).unwrap().size, Some(20_000));
        store.hold(base, &name("a"), true).unwrap();
        store.hold(base, &name("a"), false).unwrap();
        b.refuses(libc::ESTALE, || store.create(base, &bare("c"), &PLENTY));
        b.refuses(libc::EOPNOTSUPP, || store.restore(base, &name("a")));
        // Its snapshots make room for those of the next file of the name.
        store.follow(base).unwrap();
        let digits = &base.to_string()[..8];
        let renamed = [tombstone(base), format!("f@a@{digits}"), format!("f@b@{digits}")];
        assert_eq!(names(&b.join("d/.fsnap")), renamed);
        assert_eq!(b.names_of(b.record(base, "a").gfid, &["d/.fsnap"]), [format!("d/.fsnap/f@a@{digits}")]);
        let before = b.tree();
        for call in [Store::follow, Store::bury, Store::empty_grave] {
            call(&store, base).unwrap();
            assert_eq!(b.tree(), before);
        }
        assert_eq!(store.unbury(base), Ok(false), "its only name");
        drop(store);
        let store = b.store();
        assert_eq!(b.tree(), before, "nothing to do at the next start");
        assert!(store.is_buried(base));

        let asked = RefCell::new(None);
        store
            .revive(base, &name("a"), |parent, file| {
                *asked.borrow_mut() = Some((parent, file.to_vec()));
                Ok(())
            })
            .unwrap();
        assert_eq!(asked.into_inner(), Some((b.gfid("d"), b"f".to_vec())));
        assert!(fs::read(b.join("d/f")).unwrap() == content(20_000, 1));
        let meta = fs::metadata(b.join("d/f")).unwrap();
        assert_eq!((meta.ino(), meta.mode() & 0o7777, meta.nlink()), (inode, 0o640, 2));
        assert_eq!(getx(b.join("d/f"), "user.x").unwrap(), b"y");
        assert_eq!(b.names_of(base, &["d"]), ["d/f"]);
        assert_eq!(names(&b.join("d/.fsnap")), ["f@a", "f@b"]);
        assert!(b.buried().is_empty() && b.intents().is_empty() && b.lost().is_empty());
        assert!(!store.is_buried(base) && store.is_last_name(base).unwrap());
        assert_eq!(store.what_is(base), InodeKind::Other);
        snap(&store, base, "c");
        store.restore(base, &name("b")).unwrap();
        assert!(fs::read(b.join("d/f")).unwrap() == content(30_000, 2));
        delete_file(&b, &store, base, "d/f");
        store.revive(base, &name("c"), anywhere).unwrap();
        assert!(fs::read(b.join("d/f")).unwrap() == content(20_000, 1));
    });
}

#[test]
fn revivals_that_are_refused() {
    on_both(|b| {
        let (store, base) = scene(&b);
        let error = b.refuses(libc::EOPNOTSUPP, || store.revive(base, &name("a"), anywhere));
        assert!(error.to_string().contains("not deleted"), "{error}");
        store.bury(base).unwrap();
        b.refuses(libc::EOPNOTSUPP, || store.revive(base, &name("a"), anywhere));
        b.unlink("d/f");
        store.empty_grave(base).unwrap();
        b.refuses(libc::ENODATA, || store.revive(base, &name("x"), anywhere));
        b.refuses(libc::ESTALE, || store.revive(next_gfid(), &name("a"), anywhere));
        b.refuses(libc::EINVAL, || store.revive(b.gfid("d"), &name("a"), anywhere));
        b.refuses(libc::EBUSY, || store.revive(base, &name("a"), |_, _| Err(Error::Migrating)));
        setx(b.handle(base), QUOTA, [0; 24]).unwrap();
        b.refuses(libc::EOPNOTSUPP, || store.revive(base, &name("a"), anywhere));
        removex(b.handle(base), QUOTA).unwrap();
        let other = b.make_file("d/f", b"another");
        let error = b.refuses(libc::EEXIST, || store.revive(base, &name("a"), anywhere));
        assert_eq!(error, Error::FileExists("f".into()));
        b.unlink("d/f");
        assert!(!b.handle(other).exists());

        // It comes while the question is asked.
        let late = |_: Gfid, _: &[u8]| {
            b.make_file("d/f", b"another");
            Ok(())
        };
        assert_eq!(store.revive(base, &name("a"), late), Err(Error::FileExists("f".into())));
        assert_eq!(fs::read(b.join("d/f")).unwrap(), b"another");
        assert_eq!(fs::metadata(b.handle(base)).unwrap().len(), 0);
    });
}

#[test]
fn a_revival_that_fails_leaves_the_file_deleted() {
    on_both(|b| {
        let (store, base) = scene(&b);
        delete_file(&b, &store, base, "d/f");
        let before = fs::read_link(b.join(format!(".glusterfs/fsnap/buried/{base}"))).unwrap();
        // The content can be restored, but the directory takes no new name.
        tool("chattr", &["+i"], b.join("d"));
        let failed = store.revive(base, &name("a"), anywhere);
        tool("chattr", &["-i"], b.join("d"));
        assert_eq!(failed.unwrap_err().errno(), libc::EPERM);
        assert_eq!(fs::metadata(b.handle(base)).unwrap().len(), 0);
        assert_eq!(b.names_of(base, &["d/.fsnap"]), [format!("d/.fsnap/{}", tombstone(base))]);
        assert_eq!(fs::read_link(b.join(format!(".glusterfs/fsnap/buried/{base}"))).unwrap(), before);
        store.revive(base, &name("b"), anywhere).unwrap();
        assert!(fs::read(b.join("d/f")).unwrap() == content(30_000, 2));
    });
}

#[test]
fn the_last_snapshot_takes_the_file_along() {
    on_both(|b| {
        let (store, base) = scene(&b);
        delete_file(&b, &store, base, "d/f");
        store.delete(base, &name("b")).unwrap();
        assert!(b.handle(base).exists());
        store.delete(base, &name("a")).unwrap();
        assert!(!b.handle(base).exists() && names(&b.join("d/.fsnap")).is_empty() && b.buried().is_empty());
        assert!(!store.is_buried(base) && store.has_snapshots(base) == Err(Error::Gone));
        assert_eq!(store.list(base), Err(Error::Gone));
        store.clear_snap_dir(b.gfid("d")).unwrap();
        assert!(names(&b.join("d")).is_empty());

        // One that has its name again, or still, is left alone.
        let base = b.make_file("d/g", b"x");
        snap(&store, base, "a");
        store.bury(base).unwrap();
        store.delete(base, &name("a")).unwrap();
        assert_eq!(fs::read(b.join("d/g")).unwrap(), b"x");
        drop(store);
        b.store();
        assert_eq!((fs::metadata(b.join("d/g")).unwrap().nlink(), b.buried().len()), (2, 0));
    });
}

#[test]
fn purge() {
    on_both(|b| {
        let (store, base) = scene(&b);
        store.hold(base, &name("b"), true).unwrap();
        assert_eq!(b.refuses(libc::EBUSY, || store.purge(base)), Error::Held("b".into()));
        store.hold(base, &name("b"), false).unwrap();
        set_entry_line(b.join("d/f"), "z", b"garbage").unwrap();
        b.refuses(libc::EIO, || store.purge(base));
        remove_entry_line(b.join("d/f"), "z").unwrap();
        store.purge(base).unwrap();
        assert!(names(&b.join("d/.fsnap")).is_empty() && !store.has_snapshots(base).unwrap());
        assert_eq!(fs::read(b.join("d/f")).unwrap().len(), 30_000);
        store.purge(base).unwrap();
        snap(&store, base, "c");
        delete_file(&b, &store, base, "d/f");
        store.purge(base).unwrap();
        assert!(!b.handle(base).exists() && b.buried().is_empty());
    });
}

#[test]
fn last_names() {
    let b = brick(Fs::Xfs);
    let (store, base) = scene(&b);
    assert!(store.is_last_name(base).unwrap());
    b.link("d/f", "g");
    assert!(!store.is_last_name(base).unwrap());
    b.unlink("d/f");
    assert!(store.is_last_name(base).unwrap());
    store.bury(base).unwrap();
    assert!(store.is_last_name(base).unwrap(), "a tombstone is no name");
    store.unbury(base).unwrap();
    assert!(!store.is_last_name(b.gfid("d")).unwrap());
    assert_eq!(store.is_last_name(next_gfid()), Err(Error::Gone));
    let payload = b.record(base, "a").gfid;
    b.refuses(libc::EROFS, || store.bury(payload));
    b.refuses(libc::EINVAL, || store.bury(b.gfid("d")));
}

#[test]
fn an_unlink_that_failed() {
    on_both(|b| {
        let (store, base) = scene(&b);
        let before = b.names_of(base, &["d"]);
        for loses_its_xattr in [false, true] {
            store.bury(base).unwrap();
            store.bury(base).unwrap();
            assert_eq!(fs::metadata(b.join("d/f")).unwrap().nlink(), 3);
            b.refuses(libc::EOPNOTSUPP, || store.revive(base, &name("a"), anywhere));
            // With its name it is a file as any other.
            snap(&store, base, "c");
            store.delete(base, &name("c")).unwrap();
            store.empty_grave(base).unwrap();
            assert_eq!(fs::metadata(b.join("d/f")).unwrap().len(), 30_000);
            if loses_its_xattr {
                removex(b.join("d/f"), b.link_of("d/f".as_ref()).key()).unwrap();
            }
            store.unbury(base).unwrap();
            assert_eq!(b.names_of(base, &["d"]), before);
            assert_eq!(names(&b.join("d/.fsnap")), ["f@a", "f@b"]);
            assert!(b.buried().is_empty() && !store.is_buried(base));
            let tree = b.tree();
            store.unbury(base).unwrap();
            assert_eq!(b.tree(), tree);
        }
    });
}

#[test]
fn a_rename_over_the_file() {
    on_both(|b| {
        let (store, base) = scene(&b);
        let key = format!("trusted.pgfid.{}", b.gfid("d"));
        setx(b.join("d/f"), &key, 1u32.to_be_bytes()).unwrap();
        b.make_file("d/new", b"new");
        store.bury(base).unwrap();
        assert_eq!(
            getx(b.handle(base), format!("trusted.pgfid.{}", b.gfid("d/.fsnap"))).unwrap(),
            [0, 0, 0, 1]
        );
        b.rename("d/new", "d/f");
        store.empty_grave(base).unwrap();
        // storage/posix has left the xattrs of the name that is lost.
        assert_eq!(b.names_of(base, &["d/.fsnap"]), [format!("d/.fsnap/{}", tombstone(base))]);
        assert!(getx(b.handle(base), &key).is_err());
        assert_eq!(fs::read(b.join("d/f")).unwrap(), b"new");
        b.refuses(libc::EEXIST, || store.revive(base, &name("a"), anywhere));
        b.rename("d/f", "d/new");
        store.revive(base, &name("a"), anywhere).unwrap();
        assert!(fs::read(b.join("d/f")).unwrap() == content(20_000, 1));
        assert_eq!(getx(b.handle(base), &key).unwrap(), [0, 0, 0, 1]);
        assert!(getx(b.handle(base), format!("trusted.pgfid.{}", b.gfid("d/.fsnap"))).is_err());
    });
}

#[test]
fn names_of_all_lengths_come_back() {
    on_both(|b| {
        let store = b.store();
        b.make_dir("d");
        for length in [1, 217, 218, 253] {
            let file = "n".repeat(length);
            let at = format!("d/{file}");
            let base = b.make_file(&at, b"x");
            snap(&store, base, "a");
            delete_file(&b, &store, base, &at);
            let stone = if length > 217 { format!("@.{base}") } else { format!("{file}@.{base}") };
            assert!(b.join("d/.fsnap").join(stone).exists(), "{length}");
            store.revive(base, &name("a"), anywhere).unwrap();
            assert_eq!(fs::read(b.join(&at)).unwrap(), b"x");
        }
        // Its directory has another name by then.
        let base = b.make_file("d/f", b"x");
        snap(&store, base, "a");
        delete_file(&b, &store, base, "d/f");
        b.rename_dir("d", "e");
        store.revive(base, &name("a"), anywhere).unwrap();
        assert_eq!(fs::read(b.join("e/f")).unwrap(), b"x");
    });
}

#[test]
fn a_burial_that_fails_is_taken_back() {
    on_both(|b| {
        let (store, base) = scene(&b);
        let stone = b.join("d/.fsnap").join(tombstone(base));
        fs::write(&stone, b"somebody's").unwrap();
        assert_eq!(store.bury(base).unwrap_err().errno(), libc::EIO);
        assert_eq!(fs::read(&stone).unwrap(), b"somebody's");
        assert!(b.buried().is_empty() && !store.is_buried(base));
        assert_eq!(b.names_of(base, &["d"]), ["d/f"]);
        fs::remove_file(stone).unwrap();
        store.bury(base).unwrap();
    });
}

/// What the next start makes of each state that a crash can leave.
#[test]
fn crashes_between_the_steps() {
    on_both(|b| {
        let (store, base) = scene(&b);
        store.bury(base).unwrap();
        let note = b.join(format!(".glusterfs/fsnap/buried/{base}"));
        let (text, stone) = (fs::read_link(&note).unwrap(), b.join("d/.fsnap").join(tombstone(base)));
        drop(store);
        let unharmed = |what: &str| {
            let store = b.store();
            assert!(fs::read(b.join("d/f")).unwrap() == content(30_000, 2), "{what}");
            assert_eq!(names(&b.join("d/.fsnap")), ["f@a", "f@b"], "{what}");
            assert_eq!(b.names_of(base, &["d"]), ["d/f"], "{what}");
            assert!(b.buried().is_empty() && !store.is_buried(base), "{what}");
            assert_eq!(listed(&store, base), ["a", "b"]);
        };
        unharmed("buried, but not unlinked");
        std::os::unix::fs::symlink(&text, &note).unwrap();
        unharmed("no more than the note");
        let link = Link { parent: b.gfid("d/.fsnap"), name: tombstone(base).into_bytes() };
        std::os::unix::fs::symlink(&text, &note).unwrap();
        setx(b.handle(base), link.key(), link.encode()).unwrap();
        unharmed("the note and the xattr; also a file that came back whose note did not go");
        std::os::unix::fs::symlink(&text, &note).unwrap();
        setx(b.handle(base), link.key(), link.encode()).unwrap();
        fs::hard_link(b.handle(base), &stone).unwrap();
        removex(b.handle(base), b.link_of("d/f".as_ref()).key()).unwrap();
        unharmed("in the midst of the unlink");

        // Unlinked, but not emptied; or filled again by a revival that did not get to its end.
        let store = b.store();
        store.bury(base).unwrap();
        b.unlink("d/f");
        drop(store);
        let deleted = |what: &str| {
            let store = b.store();
            assert_eq!(fs::metadata(&stone).unwrap().len(), 0, "{what}");
            assert_eq!(b.names_of(base, &["d/.fsnap"]), [format!("d/.fsnap/{}", tombstone(base))], "{what}");
            assert!(store.is_buried(base) && b.intents().is_empty() && b.lost().is_empty(), "{what}");
            assert_eq!(listed(&store, base), ["a", "b"]);
        };
        deleted("not emptied");
        let payload = b.record(base, "a").gfid;
        let intent = Intent { base, payload, name: name("a") };
        fs::write(b.join(format!(".glusterfs/fsnap/intents/{base}")), intent.to_string()).unwrap();
        deleted("a restore begun");
        let was = Link { parent: b.gfid("d"), name: b"f".to_vec() };
        setx(b.handle(base), was.key(), was.encode()).unwrap();
        fs::write(&stone, b"restored").unwrap();
        deleted("restored, and the xattr set");

        // Renamed, but the rest not done.
        setx(b.handle(base), was.key(), was.encode()).unwrap();
        fs::write(&stone, content(30_000, 2)).unwrap();
        fs::rename(&stone, b.join("d/f")).unwrap();
        let digits = &base.to_string()[..8];
        assert!(b.join(format!("d/.fsnap/f@a@{digits}")).exists(), "they have the names of a deleted file's");
        unharmed("brought back");
    });
}

#[test]
fn crashes_at_the_end_of_a_deleted_file() {
    on_both(|b| {
        for step in 0..3 {
            let at = format!("f{step}");
            let store = b.store();
            let base = b.make_file(&at, b"x");
            snap(&store, base, "a");
            delete_file(&b, &store, base, &at);
            store.hold(base, &name("a"), true).unwrap();
            drop(store);
            remove_entry_line(b.handle(base), "a").unwrap();
            if step > 0 {
                fs::remove_file(b.join(format!(".fsnap/{at}@.{base}"))).unwrap();
            }
            if step > 1 {
                fs::remove_file(b.handle(base)).unwrap();
            }
            let store = b.store();
            assert!(!b.handle(base).exists() && b.buried().is_empty() && !store.is_buried(base), "{step}");
            assert!(!b.join(format!(".fsnap/{at}@.{base}")).exists(), "{step}");
        }
        // A metadata heal that was cut short has taken the number away as well: that is no deletion.
        let store = b.store();
        let base = b.make_file("f", b"x");
        snap(&store, base, "a");
        delete_file(&b, &store, base, "f");
        drop(store);
        remove_entry_line(b.handle(base), "a").unwrap();
        removex(b.handle(base), "trusted.fsnap.seq").unwrap();
        assert!(b.store().is_buried(base) && b.handle(base).exists());
    });
}

/// A brick with many deleted files is opened as quickly as one with few; what there is to do with them comes later, for each by
/// itself, and until then the file is what it was.
#[test]
fn opening_looks_at_no_deleted_file() {
    const MANY: usize = 400;
    let b = brick(Fs::Xfs);
    b.make_dir("d");
    let timed_open = || {
        let start = Instant::now();
        let store = Store::open_in_time(&b.path, || true).unwrap();
        (store, start.elapsed())
    };
    let store = b.store();
    let graves: Vec<Gfid> = (0..MANY)
        .map(|n| {
            let at = format!("d/f{n}");
            let base = b.make_file(&at, b"x");
            snap(&store, base, "a");
            delete_file(&b, &store, base, &at);
            base
        })
        .collect();
    // One whose unlink did not come, and one whose snapshots did not follow.
    let stays = b.make_file("d/stays", b"here");
    let gone = b.make_file("d/gone", b"gone");
    snap(&store, stays, "a");
    snap(&store, gone, "a");
    store.bury(stays).unwrap();
    store.bury(gone).unwrap();
    b.unlink("d/gone");
    drop(store);

    let (store, took) = timed_open();
    assert_eq!(store.untidied().len(), MANY + 2);
    assert!(
        graves.iter().all(|&grave| store.is_deleted(grave) && store.what_is(grave) == InodeKind::Tombstone)
    );
    assert!(store.is_buried(stays) && !store.is_deleted(stays) && listed(&store, stays) == ["a"]);
    assert!(store.is_deleted(gone) && listed(&store, gone) == ["a"]);
    let mut beside = store.untidied_beside(stays);
    beside.sort();
    beside.dedup();
    assert_eq!((beside.len(), store.untidied_in(b.gfid("d")).len()), (MANY + 2, MANY + 2));
    assert!(store.untidied_in(Gfid::ROOT).is_empty());

    // What is in the way of a new file's snapshot goes out of it.
    let new = b.make_file("d/gone", b"new");
    b.refuses(libc::EEXIST, || store.create(new, &bare("a"), &PLENTY));
    store.tidy(gone);
    snap(&store, new, "a");
    store.tidy(stays);
    assert!(!store.is_buried(stays) && fs::read(b.join("d/stays")).unwrap() == b"here");
    assert!(fs::read(b.handle(gone)).unwrap().is_empty());
    assert_eq!(store.untidied().len(), MANY);

    let start = Instant::now();
    store.untidied().into_iter().for_each(|grave| store.tidy(grave));
    let all = start.elapsed();
    assert!(!store.any_untidied());
    println!("{MANY} deleted files: opened in {took:?}; looking at all of them takes {all:?}");
    assert!(took < all / 3, "{took:?} {all:?}");

    // Whose brick it is no more leaves them to the next.
    let (left, _) = timed_open();
    let (next, _) = timed_open();
    left.tidy(graves[0]);
    assert_eq!((left.untidied().len(), next.untidied().len()), (MANY + 1, MANY + 1));
}

#[test]
fn notes_that_make_no_sense() {
    let b = brick(Fs::Xfs);
    let (store, base) = scene(&b);
    delete_file(&b, &store, base, "d/f");
    let live = b.make_file("d/live", &content(5000, 5));
    let dir = b.gfid("d");
    drop(store);
    let at = |name: &str| b.join(".glusterfs/fsnap/buried").join(name);
    let note = |name: &str, text: &str| std::os::unix::fs::symlink(text, at(name)).unwrap();
    note("garbage", "x");
    note(&live.to_string(), &format!("{dir}/live"));
    note(&next_gfid().to_string(), &format!("{dir}/f"));
    note(&dir.to_string(), &format!("{dir}/f"));
    let odd = [b.make_file("d/odd", b"odd"), b.make_file("d/pipe", b"pipe")];
    note(&odd[0].to_string(), "../../etc/passwd");
    tool("mkfifo", &[], at(&odd[1].to_string()));
    let store = b.store();
    assert!(fs::read(b.join("d/live")).unwrap() == content(5000, 5));
    assert_eq!(b.names_of(live, &["d"]), ["d/live"]);
    assert!(!at(&live.to_string()).is_symlink(), "its note is a leftover");
    assert_eq!(fs::read(b.join("d/odd")).unwrap(), b"odd");
    assert!(store.is_buried(base) && listed(&store, base) == ["a", "b"]);
    store.revive(base, &name("a"), anywhere).unwrap();
    for gfid in odd {
        b.refuses(libc::EIO, || store.empty_grave(gfid));
    }

    // A grave whose tombstone somebody has removed keeps what its handle still holds.
    delete_file(&b, &store, base, "d/f");
    fs::write(b.handle(base), b"x").unwrap();
    fs::remove_file(b.join("d/.fsnap").join(tombstone(base))).unwrap();
    drop(store);
    let store = b.store();
    assert_eq!(fs::read(b.handle(base)).unwrap(), b"x");
    assert_eq!(listed(&store, base), ["a", "b"]);
}
