//! A crash, an error, a disk that is gone, the power: at every step of every operation.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use fsnap_core::Gfid;
use fsnap_store::Store;
use fsnap_store::fault::{self, Crash, Fault};
use fsnap_testbed::{Errno, Fs, content};

use crate::common::*;
use crate::operations::*;
use crate::view::{discard, sound, view};

/// What there was, and what there is to be.
struct Ends {
    before: BTreeMap<String, String>,
    after: BTreeMap<String, String>,
}

impl Ends {
    fn of(operation: &Operation, b: &TestBrick) -> Self {
        let files = (operation.prepare)(b);
        let store = b.store();
        let before = view(b, &store, &files);
        (operation.run)(b, &store, &files).unwrap_or_else(|error| panic!("{}: {error}", operation.name));
        let after = view(b, &store, &files);
        drop(store);
        discard(b);
        Ends { before, after }
    }

    /// Sees to it that the brick, opened again, is as before or after, whole, and as good as new.
    fn judge(
        &self,
        operation: &Operation,
        at: u64,
        b: &TestBrick,
        files: &[Gfid],
        acknowledged: bool,
    ) -> bool {
        let what = format!("{}, step {at}", operation.name);
        let store = b.store();
        let finished = operation.finish.map_or(Ok(()), |finish| finish(b, &store, files));
        finished.unwrap_or_else(|error| panic!("{what}: finishing: {error}"));
        let now = view(b, &store, files);
        let happened = now == self.after;
        if !happened && (acknowledged || now != self.before) {
            let differs = |end: &BTreeMap<String, String>| -> Vec<String> {
                let keys: BTreeSet<_> = now.keys().chain(end.keys()).collect();
                let changed = keys.into_iter().filter(|key| now.get(*key) != end.get(*key));
                changed.map(|key| format!("{key}: {:?} not {:?}", now.get(key), end.get(key))).collect()
            };
            panic!(
                "{what}, acknowledged: {acknowledged}\nfrom before: {:#?}\nfrom after: {:#?}",
                differs(&self.before),
                differs(&self.after)
            );
        }
        assert!(b.intents().is_empty() && b.lost().is_empty(), "{what}: {:?} {:?}", b.intents(), b.lost());
        sound(b, &what);
        happened
    }
}

/// Everything still works: each file takes a snapshot and gives all of them back, and then nothing is left of any.
fn is_as_good_as_new(what: &str, b: &TestBrick, files: &[Gfid]) {
    let store = b.store();
    for &file in files.iter().filter(|&&file| b.handle(file).exists()) {
        let result = store.create(file, &bare("again"), &PLENTY);
        assert!(result.is_ok() || store.is_deleted(file), "{what}: {result:?}");
        for snapshot in store.list(file).unwrap() {
            store.hold(file, &snapshot.name, false).unwrap();
            store.delete(file, &snapshot.name).unwrap();
        }
    }
    for dir in ["d", "e"] {
        assert!(names(&b.join(dir).join(".fsnap")).is_empty(), "{what}");
    }
    for dir in ["awaited", "buried", "pending"] {
        assert!(names(&b.join(".glusterfs/fsnap").join(dir)).is_empty(), "{what}: {dir}");
    }
}

/// A restore that fails in the middle, and can't be taken back, leaves a file that is known to be torn until it is restored.
#[test]
fn what_is_torn_is_known_until_it_is_whole() {
    let whole =
        [(30_000, 30_000), (150_000, 150_000), (70_001, 70_001)].map(|(size, seed)| content(size, seed));
    let eio = Fault::FailFrom(Errno::EIO);
    for fs in reflink() {
        let mut torn = 0;
        for at in 1.. {
            let b = brick(fs);
            let file = snapped(&b, "d/f");
            let store = b.store();
            let (result, hit) = fault::with(at, eio, || store.restore(file, &name("b")));
            if !hit {
                result.unwrap();
                break;
            }
            let now = fs::read(b.join("d/f")).unwrap();
            assert!(whole.contains(&now) || store.is_torn(file), "step {at} of a restore on {fs:?}");
            if !store.is_torn(file) {
                continue;
            }
            torn += 1;
            assert!(store.create(file, &bare("new"), &PLENTY).is_err(), "a snapshot of a torn file");
            drop(store);
            // The next start, with the disk as it is; then it works again.
            let store = fault::with(1, eio, || Store::open(&b.path)).0.unwrap();
            let now = fs::read(b.join("d/f")).unwrap();
            assert!(
                whole.contains(&now) || store.is_torn(file),
                "step {at} of a restore on {fs:?}, then a start"
            );
            store.restore(file, &name("a")).unwrap();
            assert!(!store.is_torn(file));
            assert!(fs::read(b.join("d/f")).unwrap() == whole[0]);
            sound(&b, "whole again");
            drop(store);
            discard(&b);
        }
        assert!(torn > 1, "{torn} on {fs:?}");
    }
}

/// A restore that has no way back, because nothing is known that could stop it, is gone on with when it does. Where there is less
/// room it is taken back.
#[test]
fn a_restore_that_stops_once() {
    let whole = [(30_000, 30_000), (150_000, 150_000), (70_001, 70_001)];
    let [a, now, c] = whole.map(|(size, seed)| content(size, seed));
    for little_room in [false, true] {
        let (disk, first) = own_disk(Fs::Xfs, 512 << 20);
        if little_room {
            let free = tool("stat", &["-f", "-c", "%a"], disk.path()).trim().parse::<u64>().unwrap() * 4096;
            let filler = disk.path().join("filler");
            fs::write(&filler, b"").unwrap();
            tool("fallocate", &["-l", &(free - (48 << 20)).to_string()], filler);
        }
        for snapshot in ["a", "b"] {
            let (mut done, mut back) = (0, 0);
            for at in 1.. {
                let b = TestBrick::at(first.path.with_file_name(format!("{snapshot}{at}")));
                let file = snapped(&b, "d/f");
                let store = b.store();
                let before = fs::read(b.join("d/f")).unwrap();
                let restore = || store.restore(file, &name(snapshot));
                let (result, hit) = fault::with(at, Fault::Fail(Errno::EIO), restore);
                let after = fs::read(b.join("d/f")).unwrap();
                assert!([&a, &now, &c].contains(&&after), "step {at} to {snapshot}: {} bytes", after.len());
                if !hit {
                    result.unwrap();
                    break;
                }
                match result {
                    Ok(_) => done += usize::from(after != before),
                    Err(_) => back += usize::from(after == before),
                }
                store.restore(file, &name(snapshot)).unwrap();
                assert!(!store.is_torn(file) && b.intents().is_empty() && b.lost().is_empty());
                sound(&b, "whole again");
                drop(store);
                discard(&b);
            }
            eprintln!("to {snapshot}, little room: {little_room}: {done} done, {back} back");
            assert!(if little_room { done == 0 && back > 4 } else { done > 0 });
        }
    }
}

/// Runs `call`, and says whether it was left by a crash.
pub fn crashes(call: impl FnOnce()) -> bool {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(()) => false,
        Err(panic) if panic.is::<Crash>() => true,
        Err(panic) => resume_unwind(panic),
    }
}

/// Crashes are panics: they need not be told.
pub fn silence_crashes() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let others = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !info.payload().is::<Crash>() {
                others(info);
            }
        }));
    });
}

/// Every step of every operation, on bricks of `fs`, with `fault` at it. Returns how many steps there were, and how many
/// of the operations had happened all the same. On btrfs, where each step is an fsync, errors are tried at every third.
fn at_every_step(fs: Fs, fault: Fault) -> (u64, u64) {
    let stride = if fs == Fs::Btrfs && fault != Fault::Crash { 3 } else { 1 };
    silence_crashes();
    let (mut steps, mut happened) = (0, 0);
    for operation in &OPERATIONS {
        let ends = Ends::of(operation, &brick(fs));
        for at in (1..).step_by(stride) {
            let b = brick(fs);
            let files = (operation.prepare)(&b);
            let store = b.store();
            let mut acknowledged = false;
            let ((), hit) = fault::with(at, fault, || {
                crashes(|| acknowledged = (operation.run)(&b, &store, &files).is_ok());
            });
            // What failed was taken back at once: no start of the brick is needed for that.
            if matches!(fault, Fault::Fail(_)) && operation.finish.is_none() && !acknowledged {
                let now = view(&b, &store, &files);
                assert!(now == ends.before || now == ends.after, "{}, step {at}: {now:#?}", operation.name);
            }
            drop(store);
            happened += u64::from(ends.judge(operation, at, &b, &files, acknowledged));
            is_as_good_as_new(&format!("{}, step {at}", operation.name), &b, &files);
            discard(&b);
            if !hit {
                break;
            }
            steps += 1;
        }
    }
    (steps, happened)
}

#[test]
fn a_crash() {
    for fs in reflink() {
        let (steps, happened) = at_every_step(fs, Fault::Crash);
        eprintln!("{fs:?}: {steps} crashes, {happened} operations had happened");
        assert!(steps > 150 && happened > 50);
    }
}

#[test]
fn a_full_disk() {
    for fs in reflink() {
        let (steps, happened) = at_every_step(fs, Fault::Fail(Errno::ENOSPC));
        eprintln!("{fs:?}: {steps} times ENOSPC, {happened} operations had happened");
        assert!(steps > 100);
    }
}

/// Nor is there anything in reserve.
#[test]
fn a_disk_that_stays_full() {
    for fs in reflink().into_iter().filter(|fs| fs.kind() == "xfs") {
        let (steps, happened) = at_every_step(fs, Fault::FailFrom(Errno::ENOSPC));
        eprintln!("{fs:?}: {steps} times ENOSPC for good, {happened} operations had happened");
        assert!(steps > 100);
    }
}

#[test]
fn a_disk_that_is_gone() {
    for fs in reflink() {
        let (steps, happened) = at_every_step(fs, Fault::FailFrom(Errno::EIO));
        eprintln!("{fs:?}: {steps} shutdowns, {happened} operations had happened");
        assert!(steps > 100);
    }
}

/// XFS only, which can be shut down: what is not on the device then is lost.
#[test]
fn a_power_cut() {
    silence_crashes();
    let (mut cuts, mut happened) = (0, 0);
    for fs in reflink().into_iter().filter(|fs| fs.kind() == "xfs") {
        let (disk, first) = own_disk(fs, 320 << 20);
        for (n, operation) in OPERATIONS.iter().enumerate() {
            let ends = Ends::of(operation, &TestBrick::at(first.path.with_file_name(format!("ends{n}"))));
            for at in 1.. {
                let b = TestBrick::at(first.path.with_file_name(format!("brick{n}-{at}")));
                let files = (operation.prepare)(&b);
                b.sync();
                let store = b.store();
                let mut acknowledged = false;
                let ((), hit) = fault::with(at, Fault::Crash, || {
                    crashes(|| acknowledged = (operation.run)(&b, &store, &files).is_ok());
                });
                drop(store);
                disk.power_cut();
                // What storage/posix does itself it does not sync.
                let durable = acknowledged && operation.finish.is_none();
                happened += u64::from(ends.judge(operation, at, &b, &files, durable));
                is_as_good_as_new(&format!("{}, step {at}", operation.name), &b, &files);
                discard(&b);
                if !hit {
                    break;
                }
                cuts += 1;
            }
        }
    }
    eprintln!("{cuts} power cuts, {happened} operations had happened");
    assert!(cuts > 150 && happened > 20);
}

/// The points that the operations come to, and opening a brick after a crash. The list is part of the documentation;
/// `FSNAP_BLESS=1` writes it anew.
#[test]
fn the_list_of_points() {
    let list = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/faults/points.txt");
    at_every_step(Fs::Xfs, Fault::Crash);
    at_every_step(Fs::Xfs, Fault::Fail(Errno::ENOSPC));
    let visited: Vec<String> = fault::visited().into_iter().collect();
    if std::env::var_os("FSNAP_BLESS").is_some() {
        fs::write(list, visited.join("\n") + "\n").unwrap();
    }
    let known = fs::read_to_string(list).unwrap();
    let lost: Vec<&str> = known.lines().filter(|point| !visited.iter().any(|seen| seen == point)).collect();
    assert!(lost.is_empty(), "not come to any more: {lost:#?}");
}
