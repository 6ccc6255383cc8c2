//! A disk on which nothing is left: what makes room works, and so does what takes a name from a file.

use std::fs;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fsnap_core::Gfid;
use fsnap_store::{Store, check};
use fsnap_testbed::{Disk, Fs, Full, content, wait_until};

use crate::common::*;

const SIZE: usize = 40_000;

/// A brick with files, which have a content and a snapshot `a` of another.
struct Scene {
    disk: Disk,
    b: TestBrick,
    fs: Fs,
    full: Full,
}

fn on_each(test: impl Fn(&Scene)) {
    for fs in [Fs::Xfs, Fs::Btrfs] {
        for full in [Full::Blocks, Full::Inodes] {
            eprintln!("on {fs:?} without {full:?}");
            let (disk, b) = own_disk(fs, 320 << 20);
            test(&Scene::new(disk, b, full));
        }
    }
}

impl Scene {
    fn new(disk: Disk, b: TestBrick, full: Full) -> Self {
        for dir in ["d", "e", "later"] {
            b.make_dir(dir);
        }
        Scene { fs: disk.fs(), disk, b, full }
    }

    fn file(&self, at: &str, seed: u64) -> Gfid {
        let base = self.b.make_file(at, &content(SIZE, seed));
        let store = self.b.store();
        snap(&store, base, "a");
        fs::write(self.b.join(at), content(SIZE / 2, seed + 1000)).unwrap();
        base
    }

    fn sees(&self, at: &str, seed: u64) {
        assert!(fs::read(self.b.join(at)).unwrap() == content(SIZE, seed), "{at}");
    }

    /// Whether storage/posix itself can rename here: btrfs without space for metadata does not let it.
    fn can_rename(&self) -> bool {
        (self.fs, self.full) != (Fs::Btrfs, Full::Inodes)
    }

    fn is_clean(&self) {
        let options = check::Options { pause: Duration::ZERO, ..check::Options::default() };
        let report = check::run(&self.b.path, &options).unwrap();
        assert!(report.is_clean(), "{:#?}", report.problems);
    }

    fn reserve(&self) -> usize {
        names(&self.b.join(".glusterfs/fsnap/reserve")).len()
    }

    fn remove(&self, store: &Store, base: Gfid, at: &str) {
        store.bury(base).unwrap();
        self.b.unlink(at);
        store.follow(base).unwrap();
        store.empty_grave(base).unwrap();
    }
}

/// The name of snapshot `a` of the deleted file that had this name.
fn of_deleted(base: Gfid, at: &str) -> String {
    let (dir, file) = at.rsplit_once('/').unwrap();
    format!("{dir}/.fsnap/{file}@a@{}", &base.to_string()[..8])
}

#[test]
fn what_makes_room_works() {
    on_each(|s| {
        let b = &s.b;
        let f = s.file("d/f", 1);
        let victims: Vec<Gfid> = (0..12).map(|n| s.file(&format!("d/v{n}"), 10 + n)).collect();
        let (old, new) = (s.file("d/old", 30), s.file("e/new", 31));
        let moved = s.file("d/moved", 40);
        let store = b.store();
        snap(&store, f, "b");
        let whole = s.reserve();
        // To where there is no `.fsnap` yet; its snapshots are still where they were.
        b.rename("d/moved", "later/moved");
        b.sync();
        let filler = s.disk.fill(s.full);
        // What takes room finds none, and leaves the reserve alone. (Btrfs has space for metadata yet.)
        if (s.fs, s.full) != (Fs::Btrfs, Full::Blocks) {
            b.refuses(libc::ENOSPC, || store.create(f, &bare("c"), &PLENTY));
        }

        store.hold(f, &name("a"), true).unwrap();
        assert!(store.info(f, &name("a")).unwrap().held);
        store.hold(f, &name("a"), false).unwrap();
        store.follow(moved).unwrap();
        s.sees("later/.fsnap/moved@a", 40);
        for (n, &victim) in victims.iter().enumerate() {
            let at = format!("d/v{n}");
            s.remove(&store, victim, &at);
            s.sees(&of_deleted(victim, &at), 10 + n as u64);
        }
        if s.can_rename() {
            store.bury(new).unwrap();
            b.rename("d/old", "e/new");
            store.follow(new).unwrap();
            store.follow(old).unwrap();
            store.empty_grave(new).unwrap();
            s.sees("e/.fsnap/new@a", 30);
            s.sees(&of_deleted(new, "e/new"), 31);
        }
        drop(store);
        let store = b.store();
        s.is_clean();
        assert_eq!(listed(&store, f), ["a", "b"]);
        store.delete(f, &name("b")).unwrap();
        store.delete(victims[0], &name("a")).unwrap();
        store.purge(f).unwrap();
        assert!(listed(&store, f).is_empty() && !b.handle(victims[0]).exists());
        s.is_clean();

        fs::remove_dir_all(filler).unwrap();
        b.sync();
        wait_until("there is room again", Duration::from_secs(10), || {
            store.create(f, &bare("again"), &PLENTY).is_ok() || store.delete(f, &name("again")).is_ok()
        });
        drop(store);
        drop(b.store());
        assert_eq!(s.reserve(), whole);
        s.is_clean();
    });
}

/// A brick that an earlier version has used, which kept no reserve.
#[test]
fn a_brick_without_a_reserve() {
    on_each(|s| {
        let b = &s.b;
        let (f, g) = (s.file("d/f", 1), s.file("d/g", 2));
        fs::remove_dir_all(b.join(".glusterfs/fsnap/reserve")).unwrap();
        b.sync();
        let filler = s.disk.fill(s.full);
        let store = b.store();
        if s.fs == Fs::Xfs {
            b.refuses(libc::ENOSPC, || store.bury(g));
            store.delete(f, &name("a")).unwrap();
            store.delete(g, &name("a")).unwrap();
        }
        s.is_clean();
        fs::remove_dir_all(filler).unwrap();
        drop(store);
        b.sync();
        wait_until("the reserve is made", Duration::from_secs(10), || {
            drop(b.store());
            s.reserve() > 0
        });
        s.is_clean();
    });
}

struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Whatever is given up, somebody else may be faster to take it.
#[test]
fn a_writer_who_takes_what_is_given_up() {
    let (disk, b) = own_disk(Fs::Xfs, 320 << 20);
    let s = Scene::new(disk, b, Full::Blocks);
    let files: Vec<Gfid> = (0..8).map(|n| s.file(&format!("d/f{n}"), n)).collect();
    let store = s.b.store();
    let filler = s.disk.fill(s.full);
    let stop = AtomicBool::new(false);
    std::thread::scope(|threads| {
        // Also when an assertion fails: the scope waits for the writer.
        let _stop = StopAtEnd(&stop);
        threads.spawn(|| {
            let file = fs::File::options().write(true).open(filler.join("blocks")).unwrap();
            let (mut at, block) = (file.metadata().unwrap().len(), [1; 4096]);
            while !stop.load(Ordering::Relaxed) {
                at += file.write_all_at(&block, at).map_or(0, |()| 4096);
                std::thread::sleep(Duration::from_micros(200));
            }
        });
        for (n, &file) in files.iter().enumerate() {
            store.hold(file, &name("a"), true).unwrap();
            store.hold(file, &name("a"), false).unwrap();
            if n % 2 == 0 {
                store.delete(file, &name("a")).unwrap();
            } else {
                s.remove(&store, file, &format!("d/f{n}"));
            }
        }
    });
    s.is_clean();
}

/// What is no piece of it in there is told, and a reserve that is none keeps nobody from work.
#[test]
fn things_in_the_place_of_the_reserve() {
    let b = brick(Fs::Xfs);
    let f = b.make_file("f", &content(SIZE, 1));
    let store = b.store();
    snap(&store, f, "a");
    drop(store);
    let reserve = b.join(".glusterfs/fsnap/reserve");
    fs::write(reserve.join("mine"), b"x").unwrap();
    fs::remove_file(reserve.join("inode-1")).unwrap();
    fs::create_dir(reserve.join("inode-1")).unwrap();
    let aliens = || {
        let options = check::Options { pause: Duration::ZERO, ..check::Options::default() };
        let problems = check::run(&b.path, &options).unwrap().problems;
        problems
            .iter()
            .filter(|p| p.kind == check::ProblemKind::Alien || p.kind == check::ProblemKind::Unreadable)
            .count()
    };
    assert_eq!(aliens(), 2);
    snap(&b.store(), f, "b");
    fs::remove_dir_all(&reserve).unwrap();
    fs::write(&reserve, b"x").unwrap();
    let store = b.store();
    snap(&store, f, "c");
    store.delete(f, &name("b")).unwrap();
    assert_eq!(aliens(), 1);
}
