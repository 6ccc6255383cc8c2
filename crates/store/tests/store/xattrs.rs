//! Files with more xattrs than listxattr(2) lists: 64 KiB of names, in all namespaces together.

use std::fs;

use fsnap_core::{Error, Gfid};
use fsnap_store::check::{self, Options};
use fsnap_store::{Catalogue, DirEntry, Store};
use fsnap_testbed::{Errno, Fs, getx, listx, removex, setx};

use crate::common::*;

/// So many, with names as long as any.
const MANY: usize = 300;

fn key(n: usize) -> String {
    format!("user.{n:0250}")
}

fn fill(b: &TestBrick, file: Gfid) {
    (0..MANY).for_each(|n| setx(b.handle(file), key(n), format!("value {n}")).unwrap());
    assert_eq!(listx(b.handle(file)).err(), Some(Errno::E2BIG));
}

fn has_all(b: &TestBrick, file: Gfid) {
    for n in 0..MANY {
        assert_eq!(getx(b.handle(file), key(n)).unwrap(), format!("value {n}").as_bytes());
    }
}

#[track_caller]
fn sound(b: &TestBrick) {
    let report = check::run(&b.path, &Options { repair: false, ..Options::default() }).unwrap();
    assert!(report.is_clean(), "{:#?}", report.problems);
}

/// All that there is to do with snapshots of `file`, which is `d/f` and has snapshot `a`.
fn live(b: &TestBrick, store: &Store, file: Gfid) {
    assert!(store.has_snapshots(file).unwrap() && store.is_last_name(file).unwrap());
    assert_eq!(store.entry(b.gfid("d"), b"f"), Ok(DirEntry::File(file)));
    let b_gfid = snap(store, file, "b").gfid;
    has_all(b, b_gfid);
    assert_eq!(listed(store, file), ["a", "b"]);
    assert_eq!(store.info(file, &name("b")).unwrap().size, Some(3));
    store.hold(file, &name("b"), true).unwrap();
    fs::write(b.handle(file), b"later").unwrap();
    store.restore(file, &name("b")).unwrap();
    assert_eq!(fs::read(b.join("d/f")).unwrap(), b"one");
    store.arm(file, &name("a"), id(1)).unwrap();
    store.carry(file, id(1)).unwrap();
    store.settle(file, id(1)).unwrap();
    assert!(!store.is_dispersed(file).unwrap());
    sound(b);

    b.link("d/f", "d/g");
    b.unlink("d/f");
    store.follow(file).unwrap();
    b.rename("d/g", "d/h");
    store.follow(file).unwrap();
    assert_eq!(names(&b.join("d/.fsnap")), ["h@a", "h@b"]);

    store.bury(file).unwrap();
    b.unlink("d/h");
    store.follow(file).unwrap();
    store.empty_grave(file).unwrap();
    sound(b);
    store.revive(file, &name("b"), |_, _| Ok(())).unwrap();
    has_all(b, file);
    assert_eq!(fs::read(b.join("d/h")).unwrap(), b"one");

    let truth = [("a", b.record(file, "a")), ("b", b.record(file, "b"))];
    assert!(heal(b, store, file, 2, &truth).unwrap().missing.is_empty());
    store.hold(file, &name("b"), false).unwrap();
    store.delete(file, &name("a")).unwrap();
    assert_eq!(names(&b.join("d/.fsnap")), ["h@b"]);
    store.bury(file).unwrap();
    b.unlink("d/h");
    store.adopt(file, &Catalogue::default()).unwrap();
    store.disown(file).unwrap();
    assert!(!b.handle(file).exists() && !b.handle(b_gfid).exists());
    sound(b);
}

#[test]
fn what_has_too_many_from_the_beginning() {
    on_both(|b| {
        b.make_dir("d");
        let file = b.make_file("d/f", b"one");
        fill(&b, file);
        let store = b.store();
        assert!(!store.has_snapshots(file).unwrap());
        snap(&store, file, "a");
        live(&b, &store, file);
    });
}

#[test]
fn what_got_too_many_later() {
    on_both(|b| {
        b.make_dir("d");
        let file = b.make_file("d/f", b"one");
        snap(&b.store(), file, "a");
        fill(&b, file);
        // It is met at the start as well.
        live(&b, &b.store(), file);
    });
}

/// Of what fsnap itself looks for there may be more than fits into one answer of the kernel.
#[test]
fn names_that_come_in_several_pieces() {
    on_both(|b| {
        let file = b.make_file("f", b"one");
        let store = b.store();
        for n in 0..MANY {
            setx(b.handle(file), format!("trusted.{n:0240}"), vec![b'x'; 50]).unwrap();
            if n % 30 == 0 {
                snap(&store, file, &format!("n{n}"));
            }
        }
        assert_eq!(listx(b.handle(file)).err(), Some(Errno::E2BIG));
        assert_eq!(listed(&store, file).len(), MANY / 30);
        store.purge(file).unwrap();
        assert!(!store.has_snapshots(file).unwrap());
    });
}

/// Where there is no way to list them all it is said so.
#[test]
fn a_file_system_without_a_list_of_its_own() {
    let scene = fsnap_testbed::Scene::new();
    let disk = scene.disk(Fs::Ext4, 64 << 20, "/run/scene/small");
    let b = TestBrick::at(disk.path().join("brick"));
    let file = b.make_file("f", b"one");
    // Ext4 has no room for so many: nothing there is ever refused for that.
    let full = (0..MANY).find_map(|n| setx(b.handle(file), key(n), b"").err());
    assert_eq!(full, Some(Errno::ENOSPC));
    assert!(matches!(b.store().create(file, &bare("a"), &PLENTY), Err(Error::Unsupported(_))));
}

/// They are copied into each snapshot: so many, and no more.
#[test]
fn what_a_snapshot_has_no_room_for() {
    const MOST: usize = 256 << 10;
    on_both(|b| {
        let file = b.make_file("f", b"x");
        let store = b.store();
        snap(&store, file, "before");
        // Each counts its name, its value and 32 bytes.
        let value = |size: usize| vec![7; size - "user.0".len() - 32];
        // As large as btrfs takes them with 16 KiB for a node.
        let each = MOST / 32;
        for n in 0..32 {
            setx(b.handle(file), format!("user.{}", char::from(b'0' + n)), value(each)).unwrap();
        }
        let full = snap(&store, file, "full").gfid;
        assert_eq!(
            listx(b.handle(full))
                .unwrap()
                .iter()
                .filter(|name| name.to_string_lossy().starts_with("user."))
                .count(),
            32
        );
        setx(b.handle(file), "user.0", value(each + 1)).unwrap();
        let refused = b.refuses(libc::E2BIG, || store.create(file, &bare("more"), &PLENTY));
        assert_eq!(refused, Error::TooManyXattrs(MOST));
        // What there is goes on.
        for name in ["full", "before"].map(name) {
            store.hold(file, &name, true).unwrap();
            store.hold(file, &name, false).unwrap();
            store.restore(file, &name).unwrap();
            store.delete(file, &name).unwrap();
        }
        b.refuses(libc::E2BIG, || store.create(file, &bare("more"), &PLENTY));
        removex(b.handle(file), "user.1").unwrap();
        snap(&store, file, "more");
        sound(&b);
        // Many small ones as well.
        let many = b.make_file("g", b"x");
        for n in 0..MOST / (9 + 32) + 1 {
            setx(b.handle(many), format!("user.{n:04}"), b"").unwrap();
        }
        b.refuses(libc::E2BIG, || store.create(many, &bare("more"), &PLENTY));
    });
}
