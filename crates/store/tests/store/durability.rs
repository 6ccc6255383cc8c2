//! What a power cut takes and what it leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fsnap_core::Gfid;
use fsnap_core::record::Record;
use fsnap_store::Store;
use fsnap_testbed::{Disk, Fs, content, getx, run, wait_until};
use xattr::FileExt as _;

use crate::common::*;

/// Nobody may have the disk open.
fn power_cut(disk: &Disk) {
    if disk.fs().kind() == "xfs" {
        return disk.power_cut();
    }
    // Btrfs cannot be shut down. Instead what is on the device now is put back after the unmount.
    let device = disk.device().to_str().unwrap();
    let image = format!("/tmp/fsnap-cut-{}-{}.img", std::process::id(), device.replace('/', "-"));
    let copy = |from: &str, to: &str, how: &[&str]| {
        let args = [format!("if={from}"), format!("of={to}"), "bs=1M".into(), "status=none".into()];
        run(Command::new("dd").args(args).args(how));
    };
    copy(device, &image, &["conv=sparse"]);
    disk.unmount();
    copy(&image, device, &["conv=fsync"]);
    fs::remove_file(image).unwrap();
    disk.mount("");
}

#[test]
fn what_was_acknowledged_survives_a_power_cut() {
    for fs in reflink() {
        eprintln!("on {fs:?}");
        let (disk, b) = own_disk(fs, 320 << 20);
        b.make_dir("d");
        let base = b.make_file("d/f", &content(2 * MIB, 1));
        // The application's part: what is not synced to the brick may be lost.
        b.sync();
        let store = b.store();
        snap(&store, base, "a");
        drop(store);
        power_cut(&disk);
        let store = b.store();
        assert_eq!(listed(&store, base), ["a"]);
        assert!(fs::read(b.join("d/.fsnap/f@a")).unwrap() == content(2 * MIB, 1));
        assert!(store.info(base, &name("a")).unwrap().size.is_some());
        fs::write(b.join("d/f"), content(MIB, 2)).unwrap();
        b.sync();
        snap(&store, base, "b");
        drop(store);
        power_cut(&disk);
        let store = b.store();
        assert_eq!(listed(&store, base), ["a", "b"]);
        assert!(fs::read(b.join("d/.fsnap/f@a")).unwrap() == content(2 * MIB, 1));
        assert!(fs::read(b.join("d/.fsnap/f@b")).unwrap() == content(MIB, 2));

        store.delete(base, &name("a")).unwrap();
        drop(store);
        power_cut(&disk);
        let store = b.store();
        assert_eq!(names(&b.join("d/.fsnap")), ["f@b"], "a deleted snapshot does not come back");
        assert_eq!(listed(&store, base), ["b"]);

        let gone = snap(&store, base, "c").gfid;
        fs::remove_file(b.handle(gone)).unwrap();
        fs::remove_file(b.join("d/.fsnap/f@c")).unwrap();
        b.sync();
        store.delete(base, &name("c")).unwrap();
        drop(store);
        power_cut(&disk);
        let store = b.store();
        assert_eq!(listed(&store, base), ["b"], "nor does one without data");

        store.hold(base, &name("b"), true).unwrap();
        drop(store);
        power_cut(&disk);
        let store = b.store();
        assert!(store.info(base, &name("b")).unwrap().held);

        fs::write(b.join("d/f"), content(3 * MIB, 3)).unwrap();
        store.restore(base, &name("b")).unwrap();
        drop(store);
        power_cut(&disk);
        let store = b.store();
        assert!(fs::read(b.join("d/f")).unwrap() == content(MIB, 2));
        assert!(b.intents().is_empty() && b.lost().is_empty());
        assert_eq!(listed(&store, base), ["b"]);

        fs::write(b.join("d/f"), content(3 * MIB, 3)).unwrap();
        store.restore(base, &name("b")).unwrap();
        let file = fs::File::options().write(true).open(b.join("d/f")).unwrap();
        file.write_all_at(b"later", 0).unwrap();
        file.sync_all().unwrap();
        drop((file, store));
        power_cut(&disk);
        drop(b.store());
        assert!(
            fs::read(b.join("d/f")).unwrap().starts_with(b"later"),
            "a restore that ended is not replayed"
        );
    }
}

#[test]
fn the_life_of_a_file_survives_power_cuts() {
    for fs in reflink() {
        eprintln!("on {fs:?}");
        let (disk, b) = own_disk(fs, 320 << 20);
        b.make_dir("d");
        b.make_dir("e");
        let base = b.make_file("d/f", &content(MIB, 1));
        b.sync();
        let stone = format!("f@.{base}");
        let after = |store: Store| {
            drop(store);
            power_cut(&disk);
            b.store()
        };
        let store = b.store();
        snap(&store, base, "a");
        snap(&store, base, "b");
        b.rename("d/f", "e/f");
        b.sync();
        store.follow(base).unwrap();
        let store = after(store);
        assert_eq!(
            (names(&b.join("e/.fsnap")), names(&b.join("d/.fsnap"))),
            (vec!["f@a".into(), "f@b".into()], vec![])
        );
        for n in ["a", "b"] {
            assert_eq!(b.names_of(b.record(base, n).gfid, &["e/.fsnap"]), [format!("e/.fsnap/f@{n}")]);
        }

        // The unlink reaches the disk or not: with the tombstone there all is well either way.
        store.bury(base).unwrap();
        drop(store);
        power_cut(&disk);
        assert!(b.join("e/.fsnap").join(&stone).exists() && b.buried() == [base.to_string()]);
        let store = b.store();
        assert_eq!(names(&b.join("e")), [".fsnap", "f"]);
        assert!(!store.is_buried(base) && fs::read(b.join("e/f")).unwrap() == content(MIB, 1));
        store.bury(base).unwrap();
        b.unlink("e/f");
        b.sync();
        let store = after(store);
        assert!(store.is_buried(base) && listed(&store, base) == ["a", "b"]);
        assert_eq!(fs::metadata(b.join("e/.fsnap").join(&stone)).unwrap().len(), 0, "emptied at the start");
        b.sync();

        store.revive(base, &name("a"), |_, _| Ok(())).unwrap();
        let store = after(store);
        assert!(fs::read(b.join("e/f")).unwrap() == content(MIB, 1) && !store.is_buried(base));
        assert_eq!(names(&b.join("e/.fsnap")), ["f@a", "f@b"]);
        assert_eq!(b.names_of(base, &["e"]), ["e/f"]);

        store.bury(base).unwrap();
        b.unlink("e/f");
        store.empty_grave(base).unwrap();
        let store = after(store);
        assert_eq!(names(&b.join("e")), [".fsnap"]);
        store.purge(base).unwrap();
        let store = after(store);
        assert!(names(&b.join("e/.fsnap")).is_empty() && b.buried().is_empty() && !b.handle(base).exists());
        assert!(!store.is_buried(base) && b.lost().is_empty());
    }
}

/// What one file must look like.
struct Expected {
    base: Gfid,
    path: PathBuf,
    /// The version that its content is.
    live: u64,
    /// The version of each snapshot.
    snapshots: BTreeMap<String, u64>,
    /// What a call in flight may have made of it.
    maybe: Option<(u64, BTreeMap<String, u64>)>,
}

/// Content that tells versions apart by size as well.
fn version(n: u64) -> Vec<u8> {
    content(MIB / 2 + (n as usize * 77_777) % MIB, n)
}

impl Expected {
    /// Changes the file in one way or another, by `dice`; false if the disk has failed.
    fn step(&mut self, store: &Store, dice: u64) -> bool {
        let base = self.base;
        let (mut live, mut snapshots) = (self.live, self.snapshots.clone());
        let old = snapshots.iter().nth(dice as usize % snapshots.len().max(1)).map(|(n, v)| (n.clone(), *v));
        let call: Box<dyn FnOnce() -> bool> = match (dice % 3, old) {
            (0, Some((n, _))) if snapshots.len() > 3 => {
                snapshots.remove(&n);
                Box::new(move || store.delete(base, &name(&n)).is_ok())
            }
            (1, Some((n, v))) => {
                live = v;
                Box::new(move || store.restore(base, &name(&n)).is_ok())
            }
            _ => {
                let n = format!("s{dice}");
                snapshots.insert(n.clone(), live);
                Box::new(move || store.create(base, &bare(&n), &PLENTY).is_ok())
            }
        };
        self.maybe = Some((live, snapshots.clone()));
        // An fsync that the shutdown overtakes may say that all is well: XFS forgets what it did not write any more and
        // then finds nothing left to write. What a power cut would not have answered at all counts for nothing.
        let done = call() && fs::metadata(&self.path).is_ok();
        if done {
            (self.live, self.snapshots, self.maybe) = (live, snapshots, None);
        }
        done
    }

    fn check(&self, b: &TestBrick, store: &Store) {
        let shown: BTreeSet<_> = listed(store, self.base).into_iter().collect();
        let now = fs::read(&self.path).unwrap();
        let fits = |(live, snapshots): (&u64, &BTreeMap<String, u64>)| {
            now == version(*live) && shown == snapshots.keys().cloned().collect()
        };
        let before = fits((&self.live, &self.snapshots));
        let after = self.maybe.as_ref().is_some_and(|(live, snapshots)| fits((live, snapshots)));
        assert!(
            before || after,
            "found {shown:?} and a content of {} bytes; it was version {} (of {} bytes) with {:?}, then maybe {:?}",
            now.len(),
            self.live,
            version(self.live).len(),
            self.snapshots,
            self.maybe
        );
        let versions = if before { &self.snapshots } else { &self.maybe.as_ref().unwrap().1 };
        for (n, v) in versions {
            assert!(fs::read(b.handle(b.record(self.base, n).gfid)).unwrap() == version(*v), "snapshot {n}");
            let file = self.path.file_name().unwrap().to_str().unwrap();
            assert!(fs::read(b.join(format!(".fsnap/{file}@{n}"))).unwrap() == version(*v), "snapshot {n}");
        }
    }
}

#[test]
fn whenever_the_power_goes_all_is_whole() {
    let (disk, b) = own_disk(Fs::Xfs, 400 << 20);
    let mut files: Vec<_> = (0..3u64)
        .map(|i| {
            let (at, live) = (format!("f{i}"), i + 1);
            let base = b.make_file(&at, &version(live));
            Expected { base, path: b.join(at), live, snapshots: BTreeMap::new(), maybe: None }
        })
        .collect();
    b.sync();
    let mut steps = 0;
    for round in 0..8u64 {
        let store = b.store();
        // Each file gets a new version between the rounds, so that restores change something.
        for (i, file) in files.iter_mut().enumerate() {
            file.live = 10 * (round + 1) + i as u64;
            fs::write(&file.path, version(file.live)).unwrap();
            fs::File::open(&file.path).unwrap().sync_all().unwrap();
        }
        std::thread::scope(|threads| {
            let workers: Vec<_> = files
                .iter_mut()
                .map(|file| {
                    let store = &store;
                    threads.spawn(move || {
                        let mut count = 0;
                        while file.step(store, round * 100_000 + count * 7919 % 99_991) {
                            count += 1;
                        }
                        count
                    })
                })
                .collect();
            std::thread::sleep(Duration::from_micros(60_000 + round * 1_777));
            tool("xfs_io", &["-x", "-c", "shutdown"], &b.path);
            steps += workers.into_iter().map(|w| w.join().unwrap()).sum::<u64>();
        });
        drop(store);
        disk.unmount();
        disk.mount("");
        let store = b.store();
        for file in &mut files {
            file.check(&b, &store);
            let shown = listed(&store, file.base);
            if shown.iter().ne(file.snapshots.keys()) {
                let (_, maybe) = file.maybe.take().into_iter().next().unwrap_or_default();
                if shown.iter().collect::<BTreeSet<_>>() == maybe.keys().collect() {
                    file.snapshots = maybe;
                }
            }
        }
    }
    eprintln!("{steps} steps in 8 rounds");
    assert!(steps > 50, "{steps}: the disk was hardly used");
}

/// XFS takes an xattr away and sets the new value in two transactions where that does not fit into the inode any more, and the log may be
/// written between them. What has the length of a page is never in the inode.
#[test]
fn a_page_that_grows_survives_a_power_cut() {
    const FILES: u64 = 150;
    let (disk, b) = own_disk(Fs::Xfs, 320 << 20);
    let entry = |text: &str| taken(Gfid::ROOT, text, 1);
    let page = |entries: &[(&str, Record)]| catalogue(1, entries).pages[&0].to_bytes();
    let pages = [page(&[("a", entry("a"))]), page(&[("a", entry("a")), ("b", entry("b"))])];
    let kinds = [("short", [vec![b'a'; 100], vec![b'b'; 200]]), ("page", pages)];
    let mut lost = BTreeMap::new();
    for round in 0..150u64 {
        let open = |(kind, i): (&str, u64)| {
            let file = fs::File::options()
                .create(true)
                .truncate(false)
                .write(true)
                .open(b.join(format!("{kind}{i}")));
            file.unwrap()
        };
        let all = |kind| (0..FILES).map(move |i| open((kind, i))).collect::<Vec<_>>();
        let files = kinds.each_ref().map(|(kind, values)| (all(*kind), values));
        for (file, values) in
            files.iter().flat_map(|(files, values)| files.iter().map(move |file| (file, values)))
        {
            let _ = file.remove_xattr("trusted.page");
            file.set_xattr("trusted.fill", &[b'x'; 150]).unwrap();
            file.set_xattr("trusted.page", &values[0]).unwrap();
        }
        b.sync();
        let stop = AtomicBool::new(false);
        let file = fs::File::create(b.join("forces-the-log")).unwrap();
        std::thread::scope(|threads| {
            threads.spawn(|| {
                for n in 0.. {
                    if stop.load(Ordering::Relaxed)
                        || file.set_len(n % 2).and_then(|()| file.sync_all()).is_err()
                    {
                        break;
                    }
                }
            });
            for (files, values) in &files {
                threads
                    .spawn(|| files.iter().try_for_each(|file| file.set_xattr("trusted.page", &values[1])));
            }
            std::thread::sleep(Duration::from_micros(round * 37 % 3000));
            tool("xfs_io", &["-x", "-c", "shutdown"], &b.path);
            stop.store(true, Ordering::Relaxed);
        });
        drop((file, files));
        disk.unmount();
        disk.mount("");
        for (kind, _) in &kinds {
            let gone = (0..FILES).filter(|i| getx(b.join(format!("{kind}{i}")), "trusted.page").is_err());
            *lost.entry(*kind).or_insert(0) += gone.count();
        }
        if lost["short"] > 1 {
            break;
        }
    }
    eprintln!("lost: {lost:?}");
    assert_eq!(lost["page"], 0);
}

/// The clone of a file in thousands of pieces takes long enough to cut the power in the midst of it.
#[test]
fn a_power_cut_within_a_restore() {
    let (disk, b) = own_disk(Fs::Xfs, 400 << 20);
    let base = b.make_file("f", b"");
    let file = fs::File::options().write(true).open(b.join("f")).unwrap();
    for at in 0..8192 {
        file.write_all_at(&content(4096, at), at * 8192).unwrap();
    }
    drop(file);
    let snapshot = fs::read(b.join("f")).unwrap();
    snap(&b.store(), base, "a");
    let old = content(80 * MIB, 7);
    let mut within = 0;
    for delay in [1, 8, 16, 24] {
        fs::write(b.join("f"), &old).unwrap();
        b.sync();
        let store = b.store();
        std::thread::scope(|threads| {
            let restore = threads.spawn(|| store.restore(base, &name("a")));
            let cut = threads.spawn(|| {
                wait_until("the file is truncated", Duration::from_secs(10), || {
                    fs::metadata(b.join("f")).unwrap().len() != old.len() as u64
                });
                std::thread::sleep(Duration::from_millis(delay));
                // The worst case: what is done until now is on the disk, what comes is not.
                b.sync();
                tool("xfs_io", &["-x", "-c", "shutdown"], &b.path);
            });
            within += usize::from(restore.join().unwrap().is_err());
            cut.join().unwrap();
        });
        drop(store);
        disk.unmount();
        disk.mount("");
        drop(b.store());
        let now = fs::read(b.join("f")).unwrap();
        assert!(now == snapshot || now == old, "neither old nor new after {delay} ms: {} bytes", now.len());
        assert!(b.intents().is_empty() && b.lost().is_empty());
    }
    assert!(within > 0, "no power cut came in time");
}

#[test]
fn a_full_disk() {
    let (_disk, b) = own_disk(Fs::Xfs, 310 << 20);
    let store = b.store();
    let base = b.make_file("f", &content(8 * MIB, 1));
    snap(&store, base, "a");
    fs::write(b.join("f"), content(8 * MIB, 2)).unwrap();
    let mut size = 64 * MIB;
    for i in 0.. {
        while size > 0 && fs::write(b.join(format!("fill{i}")), vec![1; size]).is_err() {
            size /= 4;
        }
        if size == 0 {
            break;
        }
    }
    // Whatever still works must work wholly, and whatever does not must change nothing.
    for n in 0..20 {
        let taken = store.create(base, &bare(&format!("full{n}")), &PLENTY);
        assert_eq!(listed(&store, base).contains(&format!("full{n}")), taken.is_ok());
        assert_eq!(b.join(format!(".fsnap/f@full{n}")).exists(), taken.is_ok());
        if let Err(e) = taken {
            assert_eq!(e.errno(), libc::ENOSPC, "{e}");
        }
    }
    match store.restore(base, &name("a")) {
        Ok(_) => assert!(fs::read(b.join("f")).unwrap() == content(8 * MIB, 1)),
        Err(e) => {
            assert_eq!(e.errno(), libc::ENOSPC, "{e}");
            assert!(fs::read(b.join("f")).unwrap() == content(8 * MIB, 2));
        }
    }
    assert!(b.intents().is_empty());
    store.delete(base, &name("a")).unwrap();
}
