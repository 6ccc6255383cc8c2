//! Many at once, and in the middle of it what happens to volumes: nothing that was acknowledged is lost, nothing hangs.
#![allow(missing_docs)]

mod common;
mod load;

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::{MIB, Setup, distribute, fsnap, names};
use fsnap_testbed::wait_until;
use load::audit::{audit, clear, rename_all};
use load::latency::{self, Hammer, Probe, check_written};
use load::versions::{self, Readers, State, Writer};
use load::{Book, Excuse, Load, events};

#[test]
fn many_hands_at_the_same_files() {
    many_hands(1, false);
    // Without renames: clients that rename the same names on several bricks hang in GlusterFS 10.3 itself, within a second
    // (a rename waits in features/locks for who has locked the file that it replaces, and he for a lock of the rename's).
    many_hands(2, false);
}

#[test]
fn many_hands_that_rename_too() {
    many_hands(1, true);
}

/// Three mounts, each with hands that do this and that to the same few files.
fn many_hands(bricks: usize, renames: bool) {
    let setup = distribute(bricks);
    let more = ["/run/scene/m2", "/run/scene/m3"].map(|at| setup.volume.mount(at));
    let roots: Vec<PathBuf> = [&setup.mount, &more[0], &more[1]].map(|mount| mount.path()).into();
    let book = Arc::new(Book::default());
    let load = Load::start(&roots, 3, bricks as u64, renames, &book);
    sleep(Duration::from_secs(8));
    load.finish();
    println!("{} commands: {}", book.commands(), book.summary());
    // Nobody's cache is in the way of a new mount.
    let fresh = setup.volume.mount("/run/scene/m4");
    audit(&fresh.path(), &book);
    for what in ["create", "delete", "restore", "hold", "release", "unlink", "link", "write", "read"] {
        assert!(book.answers(what) > 0, "{what}: {}", book.summary());
    }
    clear(&fresh.path(), &[&setup.volume]);
}

/// A snapshot has what was synced before, nothing that was begun after, and no block of two versions; it never changes; and
/// who reads it while it is deleted sees it whole or not at all.
#[test]
fn a_snapshot_is_of_one_moment() {
    const ROUNDS: usize = 60;
    let setup = distribute(1);
    let second = setup.volume.mount("/run/scene/m2");
    let (file, there) = (setup.mount.path().join("f"), second.path().join("f"));
    let writer = Writer::start(file);
    let readers = Readers::start(&second.path().join(".fsnap"), 3);
    let mut kept: Vec<(String, PathBuf, State)> = Vec::new();
    let mut mixed = 0;
    for n in 0..ROUNDS {
        let (name, synced) = (format!("n{n}"), writer.synced());
        fsnap(&there, "create", &name).unwrap();
        let begun = writer.begun();
        let snapshot = setup.mount.path().join(format!(".fsnap/f@{name}"));
        let state = versions::read(&snapshot).unwrap();
        versions::check(&state, &synced, &begun);
        mixed += usize::from(state.iter().any(|version| *version != state[0]));
        readers.watch(&name, &state);
        kept.push((name, snapshot, state));
        if kept.len() > 8 {
            let (name, snapshot, state) = kept.remove(n % 8);
            assert_eq!(versions::read(&snapshot).unwrap(), state, "{name} has changed");
            fsnap(&there, "delete", &name).unwrap();
        }
    }
    let rounds = writer.stop();
    // From the disk, and not from anybody's cache.
    drop(setup.scene.command("sh").args(["-c", "echo 3 >/proc/sys/vm/drop_caches"]).output());
    for (name, snapshot, state) in &kept {
        assert_eq!(versions::read(snapshot).unwrap(), *state, "{name} has changed");
    }
    let (whole, gone) = readers.stop();
    println!("{rounds} rounds written, {mixed} snapshots amid one; {whole} read whole, {gone} gone");
    assert!(rounds > 50 && mixed > 5 && whole > 100 && gone > 5, "{rounds} {mixed} {whole} {gone}");
}

/// How many extents make a clone take long.
const EXTENTS: u64 = 100_000;

/// A file that takes long to clone, through the first mount.
fn long_file(setup: &Setup, name: &str, extents: u64) -> PathBuf {
    let file = setup.mount.path().join(name);
    fs::write(&file, b"").unwrap();
    latency::fragment(&setup.scene, &setup.volume.bricks()[0].dir.join(name), extents);
    file
}

/// While a file is cloned for long, commands on it wait, in order, and those on others do not.
#[test]
fn commands_wait_for_their_own_file_only() {
    let setup = distribute(1);
    let long = long_file(&setup, "long", EXTENTS);
    let other = setup.mount.path().join("other");
    fs::write(&other, b"y").unwrap();
    let clone = {
        let start = Instant::now();
        fsnap(&long, "create", "first").unwrap();
        start.elapsed()
    };
    let done = Mutex::new(Vec::new());
    let longest_of_others = std::thread::scope(|scope| {
        let (long, done) = (&long, &done);
        for (n, name) in ["a", "b", "c"].into_iter().enumerate() {
            scope.spawn(move || {
                // One after the other, while the first is at work.
                sleep(clone / 10 * n as u32);
                fsnap(long, "create", name).unwrap();
                done.lock().unwrap().push(name);
            });
        }
        sleep(clone / 10 * 4);
        let mut longest = Duration::ZERO;
        let mut count = 0;
        while done.lock().unwrap().len() < 3 {
            let start = Instant::now();
            fsnap(&other, "create", format!("n{count}")).unwrap();
            names(&other);
            fsnap(&other, "delete", format!("n{count}")).unwrap();
            longest = longest.max(start.elapsed());
            count += 1;
        }
        println!(
            "a clone takes {clone:?}; {count} times three commands on another file, {longest:?} at most"
        );
        assert!(count >= 3, "{count} rounds while three clones ran");
        longest
    });
    assert_eq!(names(&long), ["first", "a", "b", "c"], "in the order in which they were asked");
    assert!(longest_of_others < clone * 2, "{longest_of_others:?}; a clone takes {clone:?}");
}

/// While as many files as there are workers are cloned without end, questions are answered at once, about those files as well: by
/// what is done, and nothing half done.
#[test]
fn questions_wait_for_no_clone() {
    let setup = distribute(1);
    let long: Vec<PathBuf> = (0..4).map(|n| long_file(&setup, &format!("long{n}"), EXTENTS / 2)).collect();
    let other = setup.mount.path().join("other");
    fs::write(&other, b"y").unwrap();
    fsnap(&other, "create", "s").unwrap();
    let stop = AtomicBool::new(false);
    let timed = |question: &dyn Fn()| {
        let start = Instant::now();
        question();
        start.elapsed()
    };
    let (clones, mut asked) = std::thread::scope(|scope| {
        let hands: Vec<_> = (0..4)
            .map(|n| {
                let (file, stop) = (&long[n], &stop);
                scope.spawn(move || {
                    let mut clones = Vec::new();
                    while !stop.load(Ordering::Relaxed) {
                        let start = Instant::now();
                        fsnap(file, "create", "s").unwrap();
                        clones.push(start.elapsed());
                        fsnap(file, "delete", "s").unwrap();
                    }
                    clones
                })
            })
            .collect();
        sleep(Duration::from_millis(300));
        let (mut asked, mut seen) = (Vec::new(), [0; 2]);
        let until = Instant::now() + Duration::from_secs(10);
        while Instant::now() < until {
            asked.push(timed(&|| assert_eq!(names(&other), ["s"])));
            asked.push(timed(&|| drop(common::ask(&other, "info.s").unwrap())));
            let file = &long[asked.len() / 3 % 4];
            let start = Instant::now();
            let list = common::ask(file, "list").unwrap();
            asked.push(start.elapsed());
            let list = list["snapshots"].as_array().unwrap();
            assert!(list.iter().all(|snapshot| snapshot["size"] == EXTENTS / 2 * 4096), "{list:?}");
            seen[list.len()] += 1;
            sleep(Duration::from_millis(5));
        }
        stop.store(true, Ordering::Relaxed);
        println!("the files that are cloned have had no snapshot {} times, and one {}", seen[0], seen[1]);
        (hands.into_iter().flat_map(|hand| hand.join().unwrap()).collect::<Vec<_>>(), asked)
    });
    asked.sort();
    let (shortest, longest) = (clones.iter().min().unwrap(), asked.last().unwrap());
    println!(
        "{} clones, {shortest:?} at least; {} questions, {:?} in the middle, {longest:?} at most",
        clones.len(),
        asked.len(),
        asked[asked.len() / 2]
    );
    assert!(asked.len() > 60 && *longest < *shortest / 2, "{} {longest:?} {shortest:?}", asked.len());
}

/// Many at one file: each gets its turn.
#[test]
fn nobody_starves() {
    let setup = distribute(1);
    let second = setup.volume.mount("/run/scene/m2");
    let file = long_file(&setup, "f", 500);
    let there = second.path().join("f");
    let until = Instant::now() + Duration::from_secs(6);
    let turns: Vec<(u32, Duration)> = std::thread::scope(|scope| {
        let hands: Vec<_> = (0..8)
            .map(|who| {
                let file = if who % 2 == 0 { &file } else { &there };
                scope.spawn(move || {
                    let (mut turns, mut longest) = (0, Duration::ZERO);
                    while Instant::now() < until {
                        let start = Instant::now();
                        fsnap(file, "create", format!("w{who}")).unwrap();
                        fsnap(file, "delete", format!("w{who}")).unwrap();
                        longest = longest.max(start.elapsed());
                        turns += 1;
                    }
                    (turns, longest)
                })
            })
            .collect();
        hands.into_iter().map(|hand| hand.join().unwrap()).collect()
    });
    println!("{turns:?}");
    let (least, most) = (turns.iter().map(|t| t.0).min().unwrap(), turns.iter().map(|t| t.0).max().unwrap());
    assert!(least >= 5 && least * 4 >= most, "{turns:?}");
    assert!(turns.iter().all(|turn| turn.1 < Duration::from_secs(3)), "{turns:?}");
}

/// A clone of 100,000 extents holds up nobody who is at work on other files of the brick.
#[test]
fn a_long_clone_holds_up_no_other_file() {
    let setup = distribute(1);
    let long = long_file(&setup, "long", EXTENTS);
    let mut probe = Probe::new(&setup.mount.path().join("probe"));
    let until = Instant::now() + Duration::from_secs(3);
    let quiet = probe.run(|| Instant::now() >= until);
    let (busy, clone) = probe.during(|| fsnap(&long, "create", "s"));
    println!("clone: {clone:?}\n{}", latency::table(&quiet, &busy));
    assert!(clone > Duration::from_millis(200), "{clone:?} is no long clone");
    for (quiet, busy) in [(&quiet.writes, &busy.writes), (&quiet.reads, &busy.reads)] {
        assert!(busy.count() >= 3, "{} while the clone ran", busy.count());
        let bound = (clone / 2).max(quiet.max() * 5);
        assert!(
            busy.max() < bound,
            "{:?} while the clone ran, for {clone:?}; else {:?}",
            busy.max(),
            quiet.max()
        );
    }
}

/// Neither does one of a file that is written to with a long queue, whether it is cloned or restored; and what is written meanwhile
/// is all there afterwards.
#[test]
fn a_busy_file_that_is_cloned_holds_up_no_other_file() {
    let setup = distribute(1);
    let long = long_file(&setup, "long", EXTENTS);
    let [writing, probing] = ["/run/scene/m2", "/run/scene/m3"].map(|at| setup.volume.mount(at));
    let mut probe = Probe::new(&probing.path().join("probe"));
    // The first one makes what the others find.
    fsnap(&long, "create", "first").unwrap();
    let writer = Hammer::start(writing.path().join("long"), EXTENTS);
    sleep(Duration::from_secs(1));
    let until = Instant::now() + Duration::from_secs(4);
    let quiet = probe.run(|| Instant::now() >= until);
    let held = || common::counter(&setup.volume.statedump(0), "fops.held");
    let before = held();
    let (cloning, clone) = probe.during(|| fsnap(&long, "create", "s"));
    let held_in_clone = held() - before;
    println!("clone: {clone:?}, {held_in_clone} fops held\n{}", latency::table(&quiet, &cloning));
    let written = writer.stop();
    assert!(written.len() > 1000, "{}", written.len());
    let fresh = setup.volume.mount("/run/scene/m4");
    check_written(&fresh.path().join("long"), &written);

    // A restore takes the longer the more it has to bring back.
    fs::OpenOptions::new().write(true).open(&long).and_then(|file| file.set_len(0)).unwrap();
    let writer = Hammer::start(writing.path().join("long"), EXTENTS);
    let before = held();
    let (restoring, restore) = probe.during(|| fsnap(&long, "restore", "s"));
    let held_in_restore = held() - before;
    println!("restore: {restore:?}, {held_in_restore} fops held\n{}", latency::table(&quiet, &restoring));
    writer.stop();
    for (busy, took) in [(&cloning, clone), (&restoring, restore)] {
        assert!(took > Duration::from_millis(400), "{took:?} is not long");
        for (quiet, busy) in [(&quiet.writes, &busy.writes), (&quiet.reads, &busy.reads)] {
            assert!(busy.count() >= 3, "{} meanwhile", busy.count());
            let bound = (took / 4).max(quiet.max() * 3);
            assert!(busy.max() < bound, "{:?} in {took:?}; else {:?}", busy.max(), quiet.max());
        }
    }
    assert!(held_in_clone > 0 && held_in_restore > 0, "{held_in_clone} {held_in_restore}");
    drop(fresh);
    common::sound(&setup.volume);
}

/// A volume that is stopped amid such a clone has ended when that is done, whoever waits for it.
#[test]
fn a_volume_is_stopped_amid_the_clone_of_a_busy_file() {
    let setup = distribute(1);
    let long = long_file(&setup, "long", EXTENTS);
    let writing = setup.volume.mount("/run/scene/m2");
    let file = fs::OpenOptions::new().write(true).open(writing.path().join("long")).unwrap();
    let stop = AtomicBool::new(false);
    let created = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut rng = load::Rng::new(1);
            while !stop.load(Ordering::Relaxed) {
                // Refused while there is no brick.
                let _ = file.write_at(&[1; 4096], rng.below(EXTENTS) * 4096);
            }
        });
        sleep(Duration::from_millis(500));
        let create = scope.spawn(|| fsnap(&long, "create", "s"));
        let held = || common::counter(&setup.volume.statedump(0), "fops.held");
        wait_until("fops wait", Duration::from_secs(20), || held() > 0);
        setup.volume.stop();
        setup.volume.start();
        [&setup.mount, &writing].iter().for_each(|mount| mount.wait_connected(1));
        stop.store(true, Ordering::Relaxed);
        create.join().unwrap()
    });
    println!("create: {created:?}");
    let fresh = setup.volume.mount("/run/scene/m3");
    let there = names(fresh.path().join("long"));
    assert!(there == ["s"] || created.is_err() && there.is_empty(), "{created:?} {there:?}");
    fsnap(fresh.path().join("long"), "create", "t").unwrap();
    common::sound(&setup.volume);
}

/// Directories change places while files in one of them are renamed and removed: nobody is stuck, and the files in the other one, which
/// have the same names, stay. Deep ones storage/posix can't find by gfid.
#[test]
fn directories_that_change_places() {
    let setup = distribute(1);
    for depth in [0, 40] {
        let [a, b] = ["a", "b"].map(|side| setup.mount.path().join(format!("{side}{depth}")));
        let inside = |side: &Path| (0..depth).fold(side.to_owned(), |dir, _| dir.join("d"));
        for dir in [&a, &b].map(|side| inside(side)) {
            fs::create_dir_all(&dir).unwrap();
        }
        for name in ["x", "y"] {
            fs::write(inside(&b).join(name), "kept").unwrap();
            fsnap(inside(&b).join(name), "create", "s").unwrap();
        }
        let (own, second) = (fs::File::open(inside(&a)).unwrap(), setup.volume.mount("/run/scene/m2"));
        let stop = AtomicBool::new(false);
        let (swaps, removals) = std::thread::scope(|scope| {
            let swapping = scope.spawn(|| {
                let [a, b] = [&a, &b].map(|side| second.path().join(side.file_name().unwrap()));
                let aside = second.path().join("aside");
                let mut swaps = 0;
                while !stop.load(Ordering::Relaxed) {
                    for (from, to) in [(&a, &aside), (&b, &a), (&aside, &b)] {
                        fs::rename(from, to).unwrap();
                    }
                    swaps += 1;
                }
                swaps
            });
            // In the directory that is open, wherever that is.
            let working = scope.spawn(|| {
                let at = |name: &str| PathBuf::from(format!("/proc/self/fd/{}/{name}", own.as_raw_fd()));
                // The client may look for it where its directory was.
                let tried = |result: std::io::Result<()>| match result.map_err(|e| e.raw_os_error()) {
                    Ok(()) => 1,
                    Err(Some(libc::ENOENT | libc::ESTALE | libc::EEXIST)) => 0,
                    Err(e) => panic!("{e:?}"),
                };
                let mut removals = 0;
                while !stop.load(Ordering::Relaxed) {
                    tried(fs::File::create_new(at("y")).map(drop));
                    removals += tried(fs::rename(at("y"), at("x"))) + tried(fs::remove_file(at("x")));
                }
                removals
            });
            sleep(Duration::from_secs(4));
            stop.store(true, Ordering::Relaxed);
            (swapping.join().unwrap(), working.join().unwrap())
        });
        println!("{swaps} times, {removals} renames and removals beside");
        assert!(swaps > 20 && removals > 20, "{swaps} {removals}");
        drop((own, second));
        let fresh = setup.volume.mount("/run/scene/m3");
        let now = if swaps % 2 == 0 { &b } else { &a };
        let kept = inside(&fresh.path().join(now.file_name().unwrap()));
        for name in ["x", "y"] {
            assert_eq!(fs::read_to_string(kept.join(name)).unwrap(), "kept");
            assert_eq!(fs::read_to_string(kept.join(format!(".fsnap/{name}@s"))).unwrap(), "kept");
        }
        drop(fresh);
        common::sound(&setup.volume);
    }
}

/// In the middle of a load, one after the other: what happens to volumes.
#[test]
fn nothing_is_lost_whatever_happens_to_the_volume() {
    let setup = distribute(1);
    let (volume, scene) = (&setup.volume, &setup.scene);
    let second = volume.mount("/run/scene/m2");
    let mounts = [&setup.mount, &second];
    let roots = mounts.map(|mount| mount.path());
    let book = Arc::new(Book::default());
    let happen: [(&str, &dyn Fn()); 4] = [
        ("the clients' graphs are switched", &|| events::switch_graph(volume, &mounts, &book)),
        ("options get nonsense", &|| events::set_nonsense(scene, volume, &book)),
        ("the volume is stopped and started", &|| events::restart(volume, &mounts, &book)),
        ("the brick is killed", &|| events::kill(volume, 0, &mounts, &book)),
    ];
    for (n, (what, happens)) in happen.into_iter().enumerate() {
        let load = Load::start(&roots, 2, 10 + n as u64, true, &book);
        sleep(Duration::from_millis(1500));
        happens();
        sleep(Duration::from_millis(1000));
        load.finish();
        book.excuse(None);
        println!("{what}: {} commands: {}", book.commands(), book.summary());
        let fresh = volume.mount(format!("/run/scene/fresh{n}"));
        audit(&fresh.path(), &book);
    }
    assert!(book.answers("create ENOTCONN") > 0 && book.answers("create") > 100, "{}", book.summary());
    let last = volume.mount("/run/scene/last");
    rename_all(&last.path());
    clear(&last.path(), &[volume]);
}

/// Two bricks in one process: one is detached and attached again while the other works; then the process is killed.
#[test]
fn bricks_that_share_a_process() {
    let scene = common::scene_with_fsnap();
    scene.start_glusterd();
    scene.gluster(["volume", "set", "all", "cluster.brick-multiplex", "on"]).unwrap();
    let disks = scene.disks(2, fsnap_testbed::Fs::Xfs, 1024 * MIB);
    let volumes =
        [("v", 0), ("w", 1)].map(|(name, n)| scene.volume(name).disks(&disks[n..=n]).with_fsnap().start());
    let pid = volumes[0].brick_pid(0);
    assert_eq!(volumes[1].brick_pid(0), pid, "one process");
    let mounts = [0, 1].map(|n| volumes[n].mount(format!("/run/scene/m{n}")));
    let books = [0, 1].map(|_| Arc::new(Book::default()));
    let check = |n: usize, at: &str| {
        let fresh = volumes[n].mount(at);
        audit(&fresh.path(), &books[n]);
        fresh
    };
    let start = |n: usize, seed| Load::start(&[mounts[n].path()], 3, seed, true, &books[n]);

    let loads = [start(0, 1), start(1, 2)];
    sleep(Duration::from_millis(1500));
    events::outage(&volumes[1], &[&mounts[1]], &books[1], || {
        volumes[1].detach();
        sleep(Duration::from_millis(500));
        volumes[1].start();
    });
    assert_eq!((volumes[0].brick_pid(0), volumes[1].brick_pid(0)), (pid, pid));
    sleep(Duration::from_millis(1000));
    loads.into_iter().for_each(Load::finish);
    (0..2).for_each(|n| drop(check(n, &format!("/run/scene/fresh{n}"))));
    assert_eq!(books[0].answers("create ENOTCONN"), 0, "the other was not disturbed: {}", books[0].summary());

    let loads = [start(0, 3), start(1, 4)];
    sleep(Duration::from_millis(1500));
    books.iter().for_each(|book| book.excuse(Some(Excuse::Outage)));
    volumes[0].kill_brick(0);
    for volume in &volumes {
        volume.restart_brick(0);
    }
    mounts.iter().for_each(|mount| mount.wait_connected(1));
    books.iter().for_each(|book| book.excuse(None));
    sleep(Duration::from_millis(1000));
    loads.into_iter().for_each(Load::finish);
    for n in 0..2 {
        println!("{} commands: {}", books[n].commands(), books[n].summary());
        let fresh = check(n, &format!("/run/scene/last{n}"));
        assert!(books[n].answers("create") > 50, "{}", books[n].summary());
        rename_all(&fresh.path());
        clear(&fresh.path(), &[&volumes[n]]);
    }
}
