//! A crash, an error, a disk that is gone, the power: at every step of every operation.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use fsnap_core::acl::Caller;
use fsnap_core::record::Record;
use fsnap_core::{Gfid, Result};
use fsnap_store::Store;
use fsnap_store::check::Kind;
use fsnap_store::fault::{self, Crash, Fault};
use fsnap_testbed::{Errno, Fs, content, getx, setx};

use crate::common::*;
use crate::view::{discard, sound, sound_but, view};

type Finish = fn(&Brick, &Store, &[Gfid]) -> Result<()>;

/// What is tried: on the files that `prepare` made.
struct Operation {
    name: &'static str,
    prepare: fn(&Brick) -> Vec<Gfid>,
    run: fn(&Brick, &Store, &[Gfid]) -> Result<()>,
    /// What finishes it when it was cut short after storage/posix had done its part.
    finish: Option<Finish>,
}

const OPERATIONS: [Operation; 25] = [
    Operation {
        name: "the first snapshot of a brick",
        prepare: |b| vec![file(b, "d/f", 1)],
        run: |_, store, files| store.create(files[0], &bare("new"), &PLENTY).map(drop),
        finish: None,
    },
    Operation {
        name: "another snapshot",
        prepare: |b| vec![snapped(b, "d/f")],
        run: |_, store, files| store.create(files[0], &bare("new"), &PLENTY).map(drop),
        finish: None,
    },
    Operation {
        name: "delete",
        prepare: |b| vec![snapped(b, "d/f")],
        run: |_, store, files| store.delete(files[0], &name("a")),
        finish: None,
    },
    Operation {
        name: "hold",
        prepare: |b| vec![snapped(b, "d/f")],
        run: |_, store, files| store.hold(files[0], &name("a"), true),
        finish: None,
    },
    Operation {
        name: "restore a smaller content",
        prepare: |b| vec![snapped(b, "d/f")],
        run: |_, store, files| store.restore(files[0], &name("a")).map(drop),
        finish: None,
    },
    Operation {
        name: "restore a larger content",
        prepare: |b| vec![snapped(b, "d/f")],
        run: |_, store, files| store.restore(files[0], &name("b")).map(drop),
        finish: None,
    },
    Operation {
        name: "arm for a restore",
        prepare: |b| vec![snapped(b, "d/f")],
        run: |_, store, files| store.arm(files[0], &name("a"), id(1)),
        finish: None,
    },
    Operation {
        name: "a restore that a carrier brings",
        prepare: |b| vec![armed(b, "d/f")],
        run: |_, store, files| store.carry(files[0], id(1)).map(drop),
        finish: None,
    },
    Operation {
        name: "arm again for a fragment that is half restored",
        prepare: |b| vec![half_restored(b, "d/f")],
        run: |_, store, files| store.arm(files[0], &name("b"), id(2)),
        finish: None,
    },
    Operation {
        name: "settle",
        prepare: |b| vec![half_restored(b, "d/f")],
        run: |_, store, files| store.conclude(files[0], id(1)),
        finish: None,
    },
    Operation {
        name: "rename to another directory",
        prepare: |b| vec![snapped(b, "d/f")],
        run: |b, store, files| {
            b.rename("d/f", "e/g");
            store.follow(files[0])
        },
        finish: Some(|_, store, files| store.follow(files[0])),
    },
    Operation {
        name: "rename over a file with snapshots",
        prepare: |b| vec![snapped(b, "d/f"), snapped(b, "e/g")],
        run: |b, store, files| {
            store.bury(files[1])?;
            b.rename("d/f", "e/g");
            store.follow(files[1])?;
            store.follow(files[0])?;
            store.empty_grave(files[1])
        },
        finish: Some(|_, store, files| match store.is_deleted(files[1]) {
            true => store.follow(files[0]),
            false => Ok(()),
        }),
    },
    Operation {
        name: "unlink, kept",
        prepare: |b| vec![snapped(b, "d/f")],
        run: |b, store, files| {
            store.bury(files[0])?;
            b.unlink("d/f");
            store.follow(files[0])?;
            store.empty_grave(files[0])
        },
        finish: Some(|_, store, files| store.follow(files[0])),
    },
    Operation {
        name: "unlink of one of two names",
        prepare: |b| {
            let files = vec![snapped(b, "d/f")];
            b.link("d/f", "e/g");
            files
        },
        run: |b, store, files| {
            b.unlink("d/f");
            store.follow(files[0])
        },
        finish: Some(|_, store, files| store.follow(files[0])),
    },
    Operation {
        name: "unlink, given up by storage/posix",
        prepare: |b| vec![snapped(b, "d/f")],
        run: |_, store, files| store.bury(files[0]).and_then(|()| store.unbury(files[0])).map(drop),
        finish: Some(|_, store, files| store.unbury(files[0]).map(drop)),
    },
    Operation {
        name: "delete the last snapshot of a deleted file",
        prepare: |b| vec![deleted(b, "d/f", 1)],
        run: |_, store, files| store.delete(files[0], &name("a")),
        finish: None,
    },
    Operation {
        name: "bring a deleted file back",
        prepare: |b| vec![deleted(b, "d/f", 2)],
        run: |_, store, files| store.revive(files[0], &name("b"), |_, _| Ok(())).map(drop),
        finish: None,
    },
    Operation {
        name: "restore by somebody who must not keep what it ran with",
        prepare: |b| {
            let files = vec![snapped(b, "d/f")];
            fs::set_permissions(b.join("d/f"), fs::Permissions::from_mode(0o4755)).unwrap();
            setx(b.join("d/f"), "security.capability", CAPABILITY).unwrap();
            files
        },
        run: |_, store, files| {
            store.strip_privileges(files[0], &Caller { uid: 1, gid: 1, groups: vec![] })?;
            store.restore(files[0], &name("a")).map(drop)
        },
        finish: Some(|b, _, _| {
            let now = fs::metadata(b.join("d/f")).unwrap();
            if now.len() == 30_000 {
                assert_eq!(now.mode() & 0o7777, 0o755);
                assert_eq!(getx(b.join("d/f"), "security.capability"), Err(Errno::ENODATA));
            }
            Ok(())
        }),
    },
    Operation {
        name: "put handles back",
        prepare: |b| {
            let (whole, dir) = (file(b, "d/f", 1), b.make_dir("d/lost"));
            let inside = b.make_file("d/lost/g", b"g");
            for gfid in [whole, dir, inside] {
                fs::remove_file(b.handle(gfid)).unwrap();
            }
            vec![]
        },
        run: put_all_back,
        finish: Some(put_all_back),
    },
    Operation {
        name: "snapshots of a file that nobody can tell the place of",
        prepare: |b| vec![snapped(b, "d/f")],
        run: |b, store, files| {
            store.follow_away(files[0], b.gfid("d"), b"f")?;
            store.follow(files[0])
        },
        finish: Some(|_, store, files| store.follow(files[0])),
    },
    Operation {
        name: "look into .fsnap",
        prepare: |b| {
            file(b, "d/f", 1);
            vec![]
        },
        run: |b, store, _| store.snap_dir(b.gfid("d"), None).map(drop),
        finish: None,
    },
    Operation {
        name: "clear an empty .fsnap",
        prepare: |b| {
            file(b, "d/f", 1);
            let empty = b.make_dir("d/empty");
            b.store().snap_dir(empty, None).unwrap();
            vec![]
        },
        run: |b, store, _| store.clear_snap_dir(b.gfid("d/empty")),
        finish: None,
    },
    Operation {
        name: "adopt",
        prepare: |b| vec![away(b, "d/f")],
        run: |b, store, files| adopt(b, store, files[0]),
        finish: Some(|b, store, files| {
            // Before self-heal comes again. Of what is missing heal is not told until its note is made.
            sound_but(b, "what adopt has left", &[Kind::PayloadMissing]);
            assert_eq!(store.info(files[0], &name("a"))?.size, Some(30_000));
            for snapshot in store.list(files[0])?.iter().filter(|snapshot| snapshot.size.is_none()) {
                let now = b.record(files[0], snapshot.name.as_str());
                assert!(truth(b, files[0]).contains(&(snapshot.name.as_str(), now)), "{snapshot:?}");
            }
            adopt(b, store, files[0])
        }),
    },
    Operation {
        name: "adopt that a deleted file has no snapshots any more",
        prepare: |b| vec![deleted(b, "d/f", 2)],
        run: |b, store, files| no_snapshots(b, store, files[0]),
        finish: Some(|b, store, files| {
            // Its last snapshot may have taken it along.
            if b.handle(files[0]).exists() { no_snapshots(b, store, files[0]) } else { Ok(()) }
        }),
    },
    Operation {
        name: "make a snapshot that is missing",
        prepare: |b| {
            let file = away(b, "d/f");
            adopt(b, &b.store(), file).unwrap();
            vec![file]
        },
        run: |b, store, files| make_missing(b, store, files[0]),
        finish: Some(|b, store, files| {
            let payload = taken(files[0], "new", 7).gfid;
            if !b.handle(payload).exists() {
                return make_missing(b, store, files[0]);
            }
            // Self-heal goes on with its xattrs and its content, and with those of the file.
            store.seed(payload, files[0])?;
            fs::write(b.handle(payload), fs::read(b.join("d/f")).unwrap()).unwrap();
            store.healed(payload)?;
            adopt(b, store, files[0])
        }),
    },
];

/// `struct vfs_cap_data`: CAP_NET_RAW, permitted and effective.
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn put_all_back(_: &Brick, store: &Store, _: &[Gfid]) -> Result<()> {
    ["d/f", "d/lost/g"].into_iter().try_for_each(|path| put_back(store, path))
}

/// What the translator does before a fop that needs the handles on the way to `path`.
pub fn put_back(store: &Store, path: &str) -> Result<()> {
    store.without_handles(path.as_bytes())?.iter().try_for_each(|lost| store.put_back(lost))
}

/// A file that has missed, with its brick, what [`truth`] says: b and c are there no more, d is another, new was taken.
fn away(b: &Brick, at: &str) -> Gfid {
    let gfid = snapped(b, at);
    let store = b.store();
    for name in ["c", "d"] {
        snap(&store, gfid, name);
    }
    gfid
}

fn truth(b: &Brick, file: Gfid) -> Vec<(&'static str, Record)> {
    let held = Record { held: true, ..b.record(file, "a") };
    vec![("a", held), ("d", taken(file, "d", 6)), ("new", taken(file, "new", 7))]
}

/// All that follows when self-heal brings the catalogue.
fn adopt(b: &Brick, store: &Store, file: Gfid) -> Result<()> {
    let missing = heal(b, store, file, 7, &truth(b, file))?.missing;
    let here = |name: &str| b.handle(b.record(file, name).gfid).exists();
    let names = ["d", "new"].into_iter().filter(|name| !here(name));
    let names: BTreeSet<_> = names.map(|name| format!("f@{name}").into_bytes()).collect();
    assert_eq!(missing.into_values().next().unwrap_or_default(), names);
    Ok(())
}

fn no_snapshots(b: &Brick, store: &Store, file: Gfid) -> Result<()> {
    heal(b, store, file, 2, &[]).map(drop)
}

fn make_missing(b: &Brick, store: &Store, file: Gfid) -> Result<()> {
    let payload = taken(file, "new", 7).gfid;
    assert_eq!(store.wanted(payload), Ok(file));
    b.make_as("d/.fsnap/f@new", payload);
    store.seed(payload, file)?;
    store.healed(payload)
}

fn file(b: &Brick, at: &str, seed: u64) -> Gfid {
    for dir in ["d", "e"] {
        if !b.join(dir).exists() {
            b.make_dir(dir);
        }
    }
    b.make_file(at, &content(70_000, seed))
}

/// A file with a smaller snapshot a and a larger one b.
fn snapped(b: &Brick, at: &str) -> Gfid {
    let gfid = file(b, at, 1);
    take_both(b, at, gfid);
    gfid
}

fn take_both(b: &Brick, at: &str, gfid: Gfid) {
    let store = b.store();
    for (name, size) in [("a", 30_000), ("b", 150_000), ("", 70_001)] {
        fs::write(b.join(at), content(size, size as u64)).unwrap();
        if !name.is_empty() {
            snap(&store, gfid, name);
        }
    }
}

/// One that is armed for restore 1, to a; of a disperse volume.
fn armed(b: &Brick, at: &str) -> Gfid {
    let gfid = file(b, at, 1);
    setx(b.join(at), "trusted.ec.size", 70_001_u64.to_be_bytes()).unwrap();
    take_both(b, at, gfid);
    b.store().arm(gfid, &name("a"), id(1)).unwrap();
    gfid
}

/// One on which that restore's carrier has come, and no more.
fn half_restored(b: &Brick, at: &str) -> Gfid {
    let gfid = armed(b, at);
    b.store().carry(gfid, id(1)).unwrap();
    gfid
}

/// A deleted one with so many of these.
fn deleted(b: &Brick, at: &str, snapshots: usize) -> Gfid {
    let gfid = snapped(b, at);
    let store = b.store();
    if snapshots == 1 {
        store.delete(gfid, &name("b")).unwrap();
    }
    store.bury(gfid).unwrap();
    b.unlink(at);
    store.follow(gfid).unwrap();
    store.empty_grave(gfid).unwrap();
    gfid
}

/// What there was, and what there is to be.
struct Ends {
    before: BTreeMap<String, String>,
    after: BTreeMap<String, String>,
}

impl Ends {
    fn of(operation: &Operation, b: &Brick) -> Self {
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
    fn judge(&self, operation: &Operation, at: u64, b: &Brick, files: &[Gfid], acknowledged: bool) -> bool {
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
fn is_as_good_as_new(what: &str, b: &Brick, files: &[Gfid]) {
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
    for dir in ["by-gfid", "buried"] {
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
            let ends = Ends::of(operation, &Brick::at(first.path.with_file_name(format!("ends{n}"))));
            for at in 1.. {
                let b = Brick::at(first.path.with_file_name(format!("brick{n}-{at}")));
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
