//! One store at a time has a brick.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::{Scope, sleep};
use std::time::Duration;

use fsnap_core::Result;
use fsnap_store::check::{self, Options};
use fsnap_store::{Catalogue, Store};
use fsnap_testbed::Fs;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::common::*;

/// Time enough for what is to happen, and for what must not.
const LONG: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(200);

/// Opens one more store of the brick, on a thread of its own.
fn open<'s>(scope: &'s Scope<'s, '_>, b: &'s TestBrick) -> Receiver<Result<Store>> {
    let (tell, told) = mpsc::channel();
    scope.spawn(move || drop(tell.send(Store::open(&b.path))));
    told
}

fn waits(opening: &Receiver<Result<Store>>) -> bool {
    matches!(opening.recv_timeout(SHORT), Err(RecvTimeoutError::Timeout))
}

/// Locks the brick as another process would.
fn lock(b: &TestBrick) -> std::result::Result<Flock<File>, Errno> {
    let dir = File::open(b.join(".glusterfs")).unwrap();
    Flock::lock(dir, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| errno)
}

#[test]
fn the_later_one_waits_for_the_earlier_one_which_then_does_nothing() {
    on_both(|b| {
        let (file, other) = (b.make_file("f", b"one"), b.make_file("other", b"y"));
        let first = b.store();
        snap(&first, file, "a");
        std::thread::scope(|scope| {
            let change = first.begin().unwrap();
            let opening = open(scope, &b);
            assert!(waits(&opening));
            assert_eq!(first.begin().err().map(|e| e.errno()), Some(libc::ENOTCONN), "no further one");
            // What is a part of it.
            first.bury(file).unwrap();
            b.unlink("f");
            assert!(waits(&opening));
            first.follow(file).unwrap();
            drop(change);
            let second = opening.recv_timeout(LONG).unwrap().unwrap();
            assert!(second.is_deleted(file), "it found the burial whole");

            b.refuses(libc::ENOTCONN, || first.create(other, &bare("b"), &PLENTY));
            b.refuses(libc::ENOTCONN, || first.revive(file, &name("a"), |_, _| Ok(())));
            b.refuses(libc::ENOTCONN, || first.delete(file, &name("a")));
            b.refuses(libc::ENOTCONN, || first.hold(file, &name("a"), true));
            b.refuses(libc::ENOTCONN, || first.adopt(file, &Catalogue::default()));
            b.refuses(libc::ENOTCONN, || first.empty_grave(file));
            assert_eq!(listed(&first, file), ["a"], "what changes nothing goes on");

            second.revive(file, &name("a"), |_, _| Ok(())).unwrap();
            snap(&second, other, "b");
            drop(first);
            assert_eq!(lock(&b).err(), Some(Errno::EWOULDBLOCK), "the brick is the second one's");
            drop(second);
            lock(&b).unwrap();
        });
    });
}

/// What is written when the brick is open again is not what an earlier restore, which went on, overwrites.
#[test]
fn a_restore_under_way_takes_nothing_that_is_written_later() {
    const EXTENTS: u64 = 20_000;
    let b = brick(Fs::Xfs);
    let file = b.make_file("f", b"");
    let live = File::options().write(true).open(b.join("f")).unwrap();
    let fill = |byte: u8| {
        (0..EXTENTS).for_each(|n| live.write_all_at(&[byte; 4096], n * 8192).unwrap());
        live.sync_all().unwrap();
    };
    fill(b'a');
    let first = b.store();
    let clone = snap(&first, file, "a").clone_time;
    for part in [1, 3, 5, 7, 9] {
        fill(b'b');
        std::thread::scope(|scope| {
            let restore = scope.spawn(|| first.begin().and_then(|_change| first.restore(file, &name("a"))));
            // At first it clones what is there.
            sleep(clone * part / 10);
            let second = b.store();
            live.write_all_at(b"acknowledged", 0).unwrap();
            live.sync_all().unwrap();
            let restored = restore.join().unwrap();
            let content = fs::read(b.join("f")).unwrap();
            assert_eq!(&content[..12], b"acknowledged", "restored: {restored:?}, at {part} tenths");
            assert_eq!(content[8192], if restored.is_ok() { b'a' } else { b'b' });
            drop(second);
        });
        // For the next round.
        let again = b.store();
        assert_eq!(b.intents(), [""; 0]);
        drop(again);
    }
}

#[test]
fn a_store_waits_until_another_process_has_left() {
    let b = brick(Fs::Xfs);
    let file = b.make_file("f", b"one");
    std::thread::scope(|scope| {
        let other = lock(&b).unwrap();
        let opening = open(scope, &b);
        assert!(waits(&opening));
        drop(other);
        let store = opening.recv_timeout(LONG).unwrap().unwrap();

        assert!(check::run(&b.path, &Options::default()).unwrap().in_use, "looking at it needs no lock");
        let change = store.begin().unwrap();
        store.leave();
        b.refuses(libc::ENOTCONN, || store.begin().map(drop));
        store.snap_dir(fsnap_core::Gfid::ROOT).unwrap();
        assert_eq!(lock(&b).err(), Some(Errno::EWOULDBLOCK));
        drop(change);
        drop(lock(&b).unwrap());
        b.refuses(libc::ENOTCONN, || store.create(file, &bare("a"), &PLENTY));
    });
}

/// Of those that open it at the same time one has it in the end.
#[test]
fn many_open_it_at_once() {
    let b = brick(Fs::Xfs);
    let file = b.make_file("f", b"one");
    let stores: Vec<Store> = std::thread::scope(|scope| {
        let opening: Vec<_> = (0..8).map(|_| open(scope, &b)).collect();
        opening.iter().filter_map(|told| told.recv_timeout(LONG).unwrap().ok()).collect()
    });
    let may: Vec<&Store> = stores.iter().filter(|store| store.begin().is_ok()).collect();
    assert_eq!(may.len(), 1, "of {}", stores.len());
    snap(may[0], file, "a");
}
