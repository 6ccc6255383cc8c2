//! The life of a file with snapshots: renamed, linked, replaced, removed, brought back.
#![allow(missing_docs)]

mod common;

use std::fs::{self, File};
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{MIB, Setup, distribute, fsnap, ls, names, of_deleted, of_deleted_below, sees, sound};
use fsnap_core::Gfid;
use fsnap_core::gfid2path::Link;
use fsnap_testbed::{
    Errno, VolumeType, checksum, content, df_used, fill, getx, remove_entry_line, removex, setx, wait_until,
};

#[track_caller]
fn refused<T>(result: std::io::Result<T>, errno: Errno) {
    assert_eq!(result.err().and_then(|e| e.raw_os_error()).map(Errno::from_raw), Some(errno));
}

/// A file of one snapshot; the snapshot's checksum.
fn snapped(file: &Path, seed: u64) -> u64 {
    fill(file, 300_000, seed);
    fsnap(file, "create", "s").unwrap();
    let sum = checksum(file);
    fill(file, 100_000, seed + 1000);
    sum
}

/// Sees to it that `file` has the snapshot `s` under its present name, whole, and can be restored to it.
#[track_caller]
fn has_its_snapshot(file: &Path, sum: u64) {
    assert_eq!(names(file), ["s"], "{}", file.display());
    let name = file.file_name().unwrap().to_str().unwrap();
    sees(file.with_file_name(".fsnap").join(format!("{name}@s")), sum);
    fsnap(file, "restore", "s").unwrap();
    sees(file, sum);
}

fn dirs(setup: &Setup) -> (PathBuf, PathBuf) {
    let root = setup.mount.path();
    let dirs = (root.join("a"), root.join("b"));
    fs::create_dir(&dirs.0).unwrap();
    fs::create_dir(&dirs.1).unwrap();
    dirs
}

#[test]
fn snapshots_follow_renames() {
    for bricks in [1, 3] {
        let setup = distribute(bricks);
        let (a, b) = dirs(&setup);
        // Enough names that DHT renames in each of its ways: in place, with link files, with links on the data's brick.
        for n in 0..12 {
            let old = a.join(format!("old{n}"));
            let sum = snapped(&old, n);
            let new = a.join(format!("new{n}"));
            fs::rename(&old, &new).unwrap();
            has_its_snapshot(&new, sum);
            assert_eq!(ls(a.join(".fsnap")), [format!("new{n}@s")], "in its place only");
            let moved = b.join(format!("moved{n}"));
            fs::rename(&new, &moved).unwrap();
            has_its_snapshot(&moved, sum);
            assert!(ls(a.join(".fsnap")).is_empty());
            fsnap(&moved, "delete", "s").unwrap();
        }
        assert!(ls(b.join(".fsnap")).is_empty());
        // A directory takes all along.
        let sum = snapped(&a.join("f"), 50);
        fs::rename(&a, b.join("c")).unwrap();
        has_its_snapshot(&b.join("c/f"), sum);
    }
}

#[test]
fn hard_links_share_snapshots() {
    let setup = distribute(2);
    let (a, b) = dirs(&setup);
    let sum = snapped(&a.join("f"), 1);
    fs::hard_link(a.join("f"), b.join("g")).unwrap();
    assert_eq!(names(b.join("g")), ["s"]);
    // A second one, taken by the other name, is the same file's.
    fsnap(b.join("g"), "create", "t").unwrap();
    assert_eq!(names(a.join("f")), ["s", "t"]);
    fsnap(a.join("f"), "delete", "t").unwrap();
    fs::remove_file(a.join("f")).unwrap();
    has_its_snapshot(&b.join("g"), sum);
    assert!(ls(a.join(".fsnap")).is_empty());
    fs::remove_dir(&a).unwrap();
}

#[test]
fn a_file_that_is_deleted_leaves_its_snapshots() {
    for bricks in [1, 2] {
        let setup = distribute(bricks);
        let (a, _) = dirs(&setup);
        let file = a.join("f");
        let sum = snapped(&file, 1);
        fsnap(&file, "create", "t").unwrap();
        fs::remove_file(&file).unwrap();
        assert!(ls(&a).is_empty());
        let snapshot = of_deleted(&a, "f@s");
        assert_eq!(ls(a.join(".fsnap")).len(), 2, "two snapshots, and no tombstone to be seen");
        assert_eq!(checksum(&snapshot), sum);
        assert_eq!(names(&snapshot), ["s", "t"]);
        fsnap(&snapshot, "delete", "t").unwrap();
        assert_eq!(names(&snapshot), ["s"]);
        // A new file of the name has snapshots of its own, of the same names too.
        fill(&file, 1000, 9);
        assert!(names(&file).is_empty());
        fsnap(&file, "create", "s").unwrap();
        assert_eq!(fs::read(a.join(".fsnap/f@s")).unwrap().len(), 1000);
        assert_eq!(checksum(&snapshot), sum);
        assert_eq!(fsnap(&snapshot, "restore", "s"), Err(Errno::EEXIST), "the name is taken");
        fsnap(&file, "delete", "s").unwrap();
        fs::remove_file(&file).unwrap();
        // Brought back, with everything.
        fsnap(&snapshot, "restore", "s").unwrap();
        wait_until("the file is back", Duration::from_secs(20), || file.exists());
        sees(&file, sum);
        has_its_snapshot(&file, sum);
        assert_eq!(ls(&a), ["f"]);
        fsnap(&file, "delete", "s").unwrap();
        fs::remove_file(&file).unwrap();
        fs::remove_dir(&a).unwrap();
    }
}

#[test]
fn a_deleted_file_goes_with_its_last_snapshot() {
    let setup = distribute(1);
    let (a, _) = dirs(&setup);
    let free = df_used(setup.disks[0].path());
    let file = a.join("f");
    fill(&file, 64 * MIB, 1);
    fsnap(&file, "create", "s").unwrap();
    fill(&file, 64 * MIB, 2);
    fs::remove_file(&file).unwrap();
    wait_until("only the snapshot's blocks stay, not the file's own", Duration::from_secs(20), || {
        df_used(setup.disks[0].path()).saturating_sub(free) < 70 * MIB
    });
    fsnap(of_deleted(&a, "f@s"), "delete", "s").unwrap();
    wait_until("all blocks are free", Duration::from_secs(20), || {
        df_used(setup.disks[0].path()).saturating_sub(free) < 4 * MIB
    });
    let brick = setup.volume.brick_path(0);
    assert!(ls(brick.join("a/.fsnap")).is_empty());
    assert!(ls(brick.join(".glusterfs/fsnap/buried")).is_empty());
    fs::remove_dir(&a).unwrap();
}

/// Of two files, one unlinked and one renamed over, each open by more than a few.
#[test]
fn who_has_a_deleted_file_open_goes_on_reading() {
    let setup = distribute(1);
    let (a, _) = dirs(&setup);
    let (unlinked, replaced, over) = (a.join("unlinked"), a.join("replaced"), a.join("over"));
    let mut open: Vec<(u64, Vec<File>)> = Vec::new();
    for (seed, path) in [(5, &unlinked), (6, &replaced)] {
        snapped(path, 1);
        fill(path, 2 * MIB, seed);
        let mut files: Vec<File> = (0..300).map(|_| File::open(path).unwrap()).collect();
        for file in &mut files {
            // open-behind has opened it on the brick when something was read.
            file.read_exact(&mut [0; 10]).unwrap();
        }
        open.push((seed, files));
    }
    fill(&over, 10, 1);
    fs::remove_file(&unlinked).unwrap();
    fs::rename(&over, &replaced).unwrap();
    let brick = setup.volume.brick_path(0).join("a/.fsnap");
    let tombstones = || {
        let names = ls(&brick).into_iter().filter(|name| name.contains("@."));
        names.map(|name| fs::metadata(brick.join(name)).unwrap().len()).collect::<Vec<_>>()
    };
    for (_, files) in &mut open {
        files.truncate(1);
    }
    // Longer than the brick waits before it looks whether somebody has them open, and looks again.
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(tombstones(), [2 * MIB; 2]);
    run_drop_caches(&setup);
    for (seed, files) in &mut open {
        let mut all = Vec::new();
        files[0].rewind().unwrap();
        files[0].read_to_end(&mut all).unwrap();
        assert!(all == content(2 << 20, *seed));
    }
    drop(open);
    wait_until("their content goes when they are closed", Duration::from_secs(20), || tombstones() == [0; 2]);
}

fn run_drop_caches(setup: &Setup) {
    fsnap_testbed::run(setup.scene.command("sh").args(["-c", "echo 1 >/proc/sys/vm/drop_caches"]));
}

#[test]
fn a_file_that_is_replaced_leaves_its_snapshots() {
    for bricks in [1, 2] {
        let setup = distribute(bricks);
        let (a, _) = dirs(&setup);
        for n in 0..6 {
            let (old, new) = (a.join(format!("old{n}")), a.join(format!("new{n}")));
            let (old_sum, new_sum) = (snapped(&old, n), snapped(&new, 100 + n));
            fs::rename(&new, &old).unwrap();
            assert_eq!(checksum(of_deleted(&a, &format!("old{n}@s"))), old_sum);
            has_its_snapshot(&old, new_sum);
            fsnap(&old, "delete", "s").unwrap();
            fsnap(of_deleted(&a, &format!("old{n}@s")), "delete", "s").unwrap();
        }
        assert!(ls(a.join(".fsnap")).is_empty());
    }
}

#[test]
fn policies() {
    let setup = distribute(2);
    let (a, _) = dirs(&setup);
    let file = a.join("f");
    let set = |policy: &str| {
        setup.volume.set("user.xlator.fsnap.on-unlink", policy);
        wait_until("the policy is in force", Duration::from_secs(20), || {
            // Any file's brick answers; both get the option from one glusterd.
            (0..2).all(|n| setup.volume.statedump(n).contains(&format!("option.on-unlink=\"{policy}\"")))
        });
    };
    set("refuse");
    let sum = snapped(&file, 1);
    refused(fs::remove_file(&file), Errno::EBUSY);
    has_its_snapshot(&file, sum);
    // A rename over it is refused if both are on one brick; else DHT asks when it is too late, and it is kept. What a
    // second mount sees decides: under load GlusterFS 10.3 reports a rename that a brick has refused as done now and
    // then, also without fsnap, and the mount that asked believes it.
    let second = setup.volume.mount("/run/scene/m2");
    let there = second.path().join("a");
    for n in 0..8 {
        let (f, g) = (format!("f{n}"), format!("g{n}"));
        fill(a.join(&g), 1000, 3);
        let sum = snapped(&a.join(&f), n);
        let refused = fs::rename(a.join(&g), a.join(&f)).err().and_then(|error| error.raw_os_error());
        assert!([None, Some(Errno::EBUSY as i32)].contains(&refused), "{refused:?}");
        if ls(&there).contains(&g) {
            has_its_snapshot(&there.join(&f), sum);
            fsnap(there.join(&f), "delete", "s").unwrap();
            fs::remove_file(there.join(&g)).unwrap();
        } else {
            assert_eq!(refused, None);
            assert_eq!(fs::read(there.join(&f)).unwrap().len(), 1000);
            let kept = of_deleted(&there, &format!("{f}@s"));
            assert_eq!(checksum(&kept), sum);
            fsnap(&kept, "delete", "s").unwrap();
        }
        fs::remove_file(there.join(&f)).unwrap();
    }
    assert_eq!(ls(&a), ["f"]);
    fs::hard_link(&file, a.join("h")).unwrap();
    fs::remove_file(a.join("h")).unwrap();
    set("purge");
    fsnap(&file, "hold", "s").unwrap();
    refused(fs::remove_file(&file), Errno::EBUSY);
    has_its_snapshot(&file, sum);
    fsnap(&file, "release", "s").unwrap();
    fs::remove_file(&file).unwrap();
    assert!(ls(a.join(".fsnap")).is_empty());
    fs::remove_dir(&a).unwrap();
}

#[test]
fn directories_and_their_snapshots() {
    for bricks in [1, 3] {
        let setup = distribute(bricks);
        let root = setup.mount.path();
        // Looked into, or used and emptied: it goes silently with its directory.
        fs::create_dir(root.join("empty")).unwrap();
        assert!(ls(root.join("empty/.fsnap")).is_empty());
        fs::remove_dir(root.join("empty")).unwrap();
        fs::create_dir(root.join("used")).unwrap();
        for n in 0..8 {
            let file = root.join(format!("used/f{n}"));
            snapped(&file, n);
            checksum(root.join(format!("used/.fsnap/f{n}@s")));
            fsnap(&file, "delete", "s").unwrap();
        }
        fsnap_testbed::run(setup.scene.command("rm").args(["-rf", "/run/scene/m/used"]));
        assert!(!root.join("used").exists());
        for n in 0..bricks {
            assert!(!setup.volume.brick_path(n).join("used").exists(), "nothing is left on brick {n}");
        }
        // What is kept of deleted files is found further up.
        for dir in ["kept", "kept/d", "other"] {
            fs::create_dir(root.join(dir)).unwrap();
        }
        let at = |n: u64| format!("d/f{n}");
        let sums: Vec<_> = (0..6).map(|n| snapped(&root.join("kept").join(at(n)), n)).collect();
        for n in 0..6 {
            fs::remove_file(root.join("kept").join(at(n))).unwrap();
        }
        fs::remove_dir(root.join("kept/d")).unwrap();
        let all_are = |dir: &Path, above: &str| {
            for n in 0..6 {
                let snapshot = of_deleted_below(dir, &format!("{above}{}", at(n)), "s");
                assert_eq!(checksum(&snapshot), sums[n as usize], "{snapshot:?}");
            }
        };
        all_are(&root.join("kept"), "");
        // By another mount, and by a rename over it.
        let second = setup.volume.mount("/run/scene/m2");
        all_are(&second.path().join("kept"), "");
        fs::rename(root.join("other"), root.join("kept")).unwrap();
        all_are(&root, "kept/");
        fs::remove_dir(root.join("kept")).unwrap();
        all_are(&second.path(), "kept/");
        for n in 0..bricks {
            assert_eq!(ls(setup.volume.brick_path(n)), [".fsnap", ".glusterfs"], "brick {n}");
        }
        setup.volume.stop();
        setup.volume.start();
        setup.mount.wait_connected(bricks);
        all_are(&root, "kept/");
        for n in 0..6 {
            let snapshot = of_deleted_below(&root, &format!("kept/{}", at(n)), "s");
            assert_eq!(fsnap(&snapshot, "restore", "s"), Err(Errno::EOPNOTSUPP));
            fsnap(&snapshot, "hold", "s").unwrap();
            assert_eq!(fsnap(&snapshot, "delete", "s"), Err(Errno::EBUSY));
            fsnap(&snapshot, "release", "s").unwrap();
            fsnap(&snapshot, "delete", "s").unwrap();
        }
        assert_eq!(ls(root.join(".fsnap")), Vec::<String>::new());
        sound(&setup.volume);
        assert_eq!(ls(root), Vec::<String>::new());
    }
}

#[test]
fn the_log_names_the_command_that_clears_the_way() {
    let setup = distribute(1);
    let (a, b) = dirs(&setup);
    snapped(&a.join("f"), 1);
    // There its snapshot's would be too long.
    fs::rename(a.join("f"), b.join("n".repeat(254))).unwrap();
    refused(fs::remove_dir(&a), Errno::ENOTEMPTY);
    let log =
        fs::read_to_string(setup.scene.path("/var/log/glusterfs/bricks/run-scene-b1-brick.log")).unwrap();
    let line = log
        .lines()
        .find(|line| line.contains("setfattr -n glusterfs.fsnap.delete -v s"))
        .expect("such a line");
    assert!(line.contains(".fsnap/f@s"), "{line}");
}

/// Moving snapshots comes later; until then rebalance fails to move the file, and nothing is lost.
#[test]
fn rebalance_leaves_files_with_snapshots_where_they_are() {
    let setup = distribute(2);
    let (a, _) = dirs(&setup);
    let mut files = Vec::new();
    for n in 0..20 {
        let file = a.join(format!("file{n}"));
        files.push((snapped(&file, n), checksum(&file), file));
    }
    let bricks = || -> Vec<Vec<String>> {
        let on = |n: u32| {
            let dir = setup.scene.path(format!("/run/scene/b{n}/brick/a"));
            // Not the link files that rebalance makes.
            let has_data = |name: &String| fs::metadata(dir.join(name)).unwrap().len() == 100_000;
            ls(&dir).into_iter().filter(has_data).collect()
        };
        (1..=2).map(on).collect()
    };
    let before = bricks();
    let disk = setup.scene.disk(fsnap_testbed::Fs::Xfs, 1024 * MIB, "/run/scene/b3");
    let brick = format!("127.1.1.3:{}", disk.at().join("brick").display());
    setup.scene.gluster(["volume", "add-brick", "v", &brick, "force"]).unwrap();
    setup.scene.gluster(["volume", "rebalance", "v", "start", "force"]).unwrap();
    wait_until("rebalance is done", Duration::from_secs(60), || {
        let status = setup.scene.gluster(["volume", "rebalance", "v", "status"]).unwrap_or_default();
        status.contains("completed") || status.contains("failed  ")
    });
    assert_eq!(bricks(), before, "none was moved away");
    for (snapshot, content, file) in &files {
        sees(file, *content);
        has_its_snapshot(file, *snapshot);
    }
}

/// To those who come by its gfid, because their kernel remembers the name, a deleted file is gone as it ever was.
#[test]
fn a_deleted_file_is_gone_for_who_comes_late() {
    let setup = distribute(1);
    let (a, _) = dirs(&setup);
    let file = a.join("f");
    snapped(&file, 1);
    let late = setup.volume.mount_with("/run/scene/m2", &["--entry-timeout=60", "--attribute-timeout=60"]);
    let there = late.path().join("a/f");
    assert_eq!(fs::metadata(&there).unwrap().len(), 100_000);
    fs::remove_file(&file).unwrap();
    let gone = [Some(Errno::ENOENT as i32), Some(Errno::ESTALE as i32)];
    let read = fs::read(&there).map(|content| content.len());
    assert!(gone.contains(&read.as_ref().err().and_then(|e| e.raw_os_error())), "{read:?}");
    let linked = fs::hard_link(&there, late.path().join("a/linked"));
    assert!(gone.contains(&linked.as_ref().err().and_then(|e| e.raw_os_error())), "{linked:?}");
    let cut = fs::OpenOptions::new().write(true).truncate(true).open(&there).map(drop);
    assert!(gone.contains(&cut.as_ref().err().and_then(|e| e.raw_os_error())), "{cut:?}");
    assert_eq!(ls(&a), Vec::<String>::new());
}

/// Several mounts take and give one name as fast as they can. Every snapshot that a create has acknowledged is there in
/// the end, and can be deleted.
#[test]
fn no_snapshot_is_lost_when_a_name_goes_from_hand_to_hand() {
    const ROUNDS: usize = 150;
    let setup = distribute(1);
    let second = setup.volume.mount("/run/scene/m2");
    let (a, _) = dirs(&setup);
    let there = second.path().join("a");
    let (f, also_f) = (a.join("f"), there.join("f"));
    let done = AtomicBool::new(false);
    let taken = std::thread::scope(|scope| {
        let snappers: Vec<_> = [(&a, "x"), (&there, "y")]
            .into_iter()
            .map(|(dir, who)| {
                let (own, f) = (dir.join(who), dir.join("f"));
                scope.spawn(move || {
                    let mut taken = Vec::new();
                    for n in 0..ROUNDS {
                        fs::write(&own, who).unwrap();
                        for (file, name) in [(&own, format!("{who}{n}")), (&f, format!("{who}f{n}"))] {
                            if fsnap(file, "create", &name).is_ok() {
                                taken.push(name);
                            }
                        }
                        let _ = fs::rename(&own, &f);
                    }
                    taken
                })
            })
            .collect();
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let _ = fs::remove_file(&f);
                let _ = fs::write(&also_f, "z");
                let _ = fs::remove_file(&also_f);
            }
        });
        let taken: Vec<String> = snappers.into_iter().flat_map(|s| s.join().unwrap()).collect();
        done.store(true, Ordering::Relaxed);
        taken
    });
    let _ = fs::remove_file(&f);
    assert!(taken.len() > ROUNDS, "{}", taken.len());
    // Nobody's cache is in the way of a new mount.
    let third = setup.volume.mount("/run/scene/m3");
    let inside = third.path().join("a/.fsnap");
    let mut found = Vec::new();
    for entry in ls(&inside) {
        let name = entry.split('@').nth(1).unwrap().to_owned();
        assert!(names(inside.join(&entry)).contains(&name), "{entry}");
        fsnap(inside.join(&entry), "delete", &name).unwrap();
        found.push(name);
    }
    let lost: Vec<_> = taken.iter().filter(|name| !found.contains(name)).collect();
    assert!(lost.is_empty(), "{lost:?}");
    assert!(ls(&inside).is_empty());
}

/// A link and the unlink of the last name at once: the file has the new name, or it is deleted, never both.
#[test]
fn a_link_that_comes_with_the_unlink_is_before_it_or_too_late() {
    const ROUNDS: usize = 200;
    let setup = distribute(1);
    let second = setup.volume.mount_with("/run/scene/m2", &["--entry-timeout=60", "--attribute-timeout=60"]);
    let (a, _) = dirs(&setup);
    let mut linked = 0;
    for n in 0..ROUNDS {
        let (file, there) = (a.join(format!("f{n}")), second.path().join(format!("a/f{n}")));
        fs::write(&file, "x").unwrap();
        fsnap(&file, "create", "s").unwrap();
        fs::metadata(&there).unwrap();
        let late = there.with_file_name(format!("linked{n}"));
        let ends = std::sync::Barrier::new(2);
        let link = std::thread::scope(|scope| {
            let link = scope.spawn(|| {
                ends.wait();
                fs::hard_link(&there, &late)
            });
            ends.wait();
            fs::remove_file(&file).unwrap();
            link.join().unwrap()
        });
        linked += usize::from(link.is_ok());
    }
    println!("{linked} of {ROUNDS} were before the unlink");
    assert!(linked > 0 && linked < ROUNDS, "{linked}");
    sound(&setup.volume);
    assert_eq!(ls(&a).len(), linked);
}

/// What a crash has left of deleted files is put right soon after the start, and first of all for who comes for one of them.
#[test]
fn what_a_crash_leaves_of_deleted_files() {
    const MANY: usize = 40;
    let setup = distribute(1);
    let (root, brick) = (setup.mount.path(), setup.volume.brick_path(0));
    fs::create_dir(root.join("d")).unwrap();
    fs::create_dir(root.join("e")).unwrap();
    let gfid = |at: &Path| Gfid::from_xattr(&getx(at, "trusted.gfid").unwrap()).unwrap();
    let mut gfids = Vec::new();
    for n in 0..MANY {
        let file = root.join(format!("d/f{n}"));
        fs::write(&file, b"old").unwrap();
        fsnap(&file, "create", "a").unwrap();
        gfids.push(gfid(&brick.join(format!("d/f{n}"))));
        fs::remove_file(&file).unwrap();
    }
    fs::write(root.join("e/f"), b"old").unwrap();
    fsnap(root.join("e/f"), "create", "a").unwrap();
    let lost = gfid(&brick.join("e/f"));
    fs::remove_file(root.join("e/f")).unwrap();
    setup.volume.kill_brick(0);
    // As if the unlinks of the first two had not come, and the snapshot of another not been renamed.
    let tombstone = |n: usize| brick.join(format!("d/.fsnap/f{n}@.{}", gfids[n]));
    for n in 0..2 {
        fs::hard_link(tombstone(n), brick.join(format!("d/f{n}"))).unwrap();
    }
    let payload = |n: usize| common::of_deleted(&brick.join("d"), &format!("f{n}@a"));
    for n in [0, 1, 3] {
        let (was, name) = (payload(n), format!("f{n}@a"));
        let at = was.with_file_name(&name);
        fs::rename(&was, &at).unwrap();
        let place = Link { parent: gfid(&brick.join("d")).snap_dir(), name: name.into_bytes() };
        let gone = Link { name: was.file_name().unwrap().as_encoded_bytes().to_vec(), ..place.clone() };
        setx(&at, place.key(), place.encode()).unwrap();
        removex(&at, gone.key()).unwrap();
    }
    // And the last snapshot of one been deleted, but not what is left of the file.
    let data = common::of_deleted(&brick.join("e"), "f@a");
    let its = gfid(&data);
    [data, brick.join(its.handle())].into_iter().for_each(|path| fs::remove_file(path).unwrap());
    remove_entry_line(brick.join(lost.handle()), "a").unwrap();
    setup.volume.restart_brick(0);
    setup.mount.wait_connected(1);

    // At once, as if nothing had been left.
    let fresh = setup.volume.mount("/run/scene/fresh");
    let root = fresh.path();
    fs::write(root.join("d/f3"), b"new").unwrap();
    fsnap(root.join("d/f3"), "create", "a").unwrap();
    fsnap(root.join("d/f1"), "create", "b").unwrap();
    assert_eq!(
        (names(root.join("d/f1")), names(root.join("d/f3"))),
        (vec!["a".into(), "b".into()], vec!["a".into()])
    );
    fs::rename(root.join("d/f1"), root.join("d/g")).unwrap();
    fs::remove_dir(root.join("e")).unwrap();
    let note = |n: usize| brick.join(".glusterfs/fsnap/buried").join(gfids[n].to_string());
    assert!(!note(1).is_symlink() && note(2).is_symlink() && note(3).is_symlink());
    assert_eq!(fs::read(payload(3)).unwrap(), b"old");
    // And nobody has come for this one.
    let within = Duration::from_secs(20);
    wait_until("the burial is taken back", within, || !note(0).is_symlink() && !tombstone(0).exists());
    assert_eq!(names(root.join("d/f0")), ["a"]);
    wait_until("all were looked at", within, || {
        common::counter(&setup.volume.statedump(0), "deleted.to_look_at") == 0
    });
    common::sound(&setup.volume);
}

/// Their time, what a brick takes until it looks again, and what clients have cached, on a busy machine.
const GOES_WITHIN: Duration = Duration::from_secs(60);

#[test]
fn deleted_files_are_kept_for_as_long_as_the_option_says() {
    let kinds = [
        (VolumeType::Distribute, 2, "off"),
        (VolumeType::Replicate(3), 3, "on"),
        (VolumeType::Disperse { data: 2, redundancy: 1 }, 3, "on"),
    ];
    for (kind, bricks, ctime) in kinds {
        println!("{kind:?}, ctime {ctime}");
        let setup = common::volume(kind, bricks, 1024 * MIB, |volume| volume.option("features.ctime", ctime));
        let root = setup.mount.path();
        fs::create_dir_all(root.join("a/b")).unwrap();
        let files: Vec<_> = ["f", "a/f", "a/b/f", "alive", "held"].iter().map(|at| root.join(at)).collect();
        for (n, file) in files.iter().enumerate() {
            snapped(file, n as u64);
            fsnap(file, "create", "t").unwrap();
        }
        fsnap(root.join("held"), "hold", "t").unwrap();
        files.iter().filter(|file| !file.ends_with("alive")).for_each(|file| fs::remove_file(file).unwrap());
        fs::remove_dir(root.join("a/b")).unwrap();
        let kept = |dir: &Path| ls(dir.join(".fsnap")).len();
        // For ever.
        std::thread::sleep(Duration::from_secs(3));
        assert_eq!((kept(&root), kept(&root.join("a"))), (2 + 2 + 2, 2 + 2));
        setup.volume.set("user.xlator.fsnap.keep-deleted", "1h");
        std::thread::sleep(Duration::from_secs(3));
        assert_eq!((kept(&root), kept(&root.join("a"))), (2 + 2 + 2, 2 + 2));
        setup.volume.set("user.xlator.fsnap.keep-deleted", "10s");
        wait_until("what was deleted goes", GOES_WITHIN, || {
            (kept(&root), kept(&root.join("a"))) == (2 + 1, 0)
        });
        assert_eq!(names(root.join("alive")), ["s", "t"]);
        let held = of_deleted(&root, "held@t");
        fsnap(&held, "release", "t").unwrap();
        wait_until("what was held goes", GOES_WITHIN, || kept(&root) == 2);
        // A file that is deleted now has its time.
        fs::remove_file(root.join("alive")).unwrap();
        std::thread::sleep(Duration::from_secs(3));
        assert_eq!(kept(&root), 2);
        wait_until("and goes then", GOES_WITHIN, || kept(&root) == 0);
        let gone = |n| ls(setup.volume.brick_path(n).join(".glusterfs/fsnap/buried")).is_empty();
        wait_until("on all bricks", GOES_WITHIN, || (0..bricks).all(gone));
        sound(&setup.volume);
        if kind != VolumeType::Distribute {
            setup.volume.await_healed(Duration::from_secs(60));
        }
    }
}
