//! Bricks that were away: what they have missed is healed, on replicate and disperse volumes.

mod common;
mod load;

use std::collections::BTreeMap;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::time::{Duration, Instant};
use std::{fs, io};

use common::agree::{HEALED_WITHIN, SAME_WITHIN, converges, differences};
use common::{MIB, Setup, ask, fsnap, names, of_deleted_below, received, try_names};
use fsnap_testbed::{Errno, Volume, VolumeType, checksum, content, df_used, fill, setx, try_wait_until};
use load::versions::Writer;

const UP: &str = "with all bricks up";
const REPLICA: VolumeType = VolumeType::Replicate(3);
const DISPERSE: VolumeType = VolumeType::Disperse { data: 2, redundancy: 1 };
const WIDE: VolumeType = VolumeType::Disperse { data: 4, redundancy: 2 };

fn setup(layout: VolumeType, bricks: usize) -> Setup {
    common::volume(layout, bricks, 1024 * MIB, |volume| volume)
}

#[test]
fn created_and_deleted_while_a_brick_was_away() {
    for (layout, bricks) in [(REPLICA, 3), (VolumeType::Arbiter, 3), (DISPERSE, 3), (WIDE, 6)] {
        println!("{layout:?}");
        let Setup { mount, volume, .. } = setup(layout, bricks);
        let dir = mount.path().join("d");
        fs::create_dir(&dir).unwrap();
        let file = dir.join("f");
        fill(&file, 5 * MIB + 123, 1);
        let first = checksum(&file);
        for name in ["stays", "goes", "again"] {
            fsnap(&file, "create", name).unwrap();
        }
        let refused = |when: &str| {
            assert_eq!(fsnap(&file, "restore", "stays"), Err(Errno::EOPNOTSUPP), "{when}");
            // On the snapshot's own path: replicate and disperse would note there what a brick has missed.
            let snapshot = dir.join(".fsnap/f@stays");
            for verb in ["delete", "hold", "release"] {
                let set = || fsnap(&snapshot, verb, "stays");
                let answer = if when == UP { set() } else { asked_again(layout, set) }.unwrap_err();
                assert!([Errno::EOPNOTSUPP, Errno::EROFS].contains(&answer), "{verb} {when}: {answer}");
            }
        };
        refused(UP);
        volume.kill_brick(2);
        mount.wait_connected(bricks - 1);
        refused("with one down");
        fsnap(&file, "delete", "goes").unwrap();
        fsnap(&file, "delete", "again").unwrap();
        fill(&file, 3 * MIB, 2);
        let second = checksum(&file);
        fsnap(&file, "create", "missed").unwrap();
        fsnap(&file, "create", "again").unwrap();
        fsnap(&file, "hold", "stays").unwrap();
        assert_eq!(names(&file), ["stays", "missed", "again"]);
        volume.restart_brick(2);
        mount.wait_connected(bricks);
        converges(&volume, layout);
        assert_eq!(names(&file), ["stays", "missed", "again"]);
        // Whichever are left know all.
        for down in [0, 1, 2] {
            volume.kill_brick(down);
            mount.wait_connected(bricks - 1);
            let snapshot = |name: &str| dir.join(".fsnap").join(format!("f@{name}"));
            assert_eq!(checksum(snapshot("stays")), first);
            for name in ["missed", "again"] {
                assert_eq!(checksum(snapshot(name)), second, "{name} without brick {down}");
            }
            assert_eq!(fs::metadata(snapshot("goes")).unwrap_err().raw_os_error(), Some(libc::ENOENT));
            assert_eq!(fsnap(&file, "delete", "stays"), Err(Errno::EBUSY));
            assert_eq!(ask(&file, "info.missed").unwrap()["size"], 3 * MIB);
            volume.restart_brick(down);
            mount.wait_connected(bricks);
            volume.await_healed(HEALED_WITHIN);
        }
    }
}

/// One directory for each case, with a file `f` of its own content and a snapshot `a` of it.
const CASES: [&str; 12] = [
    "unlink",
    "rename",
    "move",
    "over",
    "empty",
    "newdir",
    "rmdir",
    "renamedir",
    "link",
    "tree",
    "grave",
    "replaced",
];

#[test]
fn names_changed_while_a_brick_was_away() {
    for (layout, bricks) in [(REPLICA, 6), (DISPERSE, 6), (VolumeType::Arbiter, 3)] {
        println!("{layout:?}");
        let Setup { mount, volume, .. } = setup(layout, bricks);
        let at = |path: &str| mount.path().join(path);
        let snapshot = |path: &str| {
            let (dir, name) = path.rsplit_once('/').unwrap();
            at(&format!("{dir}/.fsnap/{name}"))
        };
        let mut sums = BTreeMap::new();
        for (seed, case) in CASES.iter().enumerate() {
            fs::create_dir(at(case)).unwrap();
            let file = at(&format!("{case}/f"));
            fill(&file, MIB + seed as u64, seed as u64);
            fsnap(&file, "create", "a").unwrap();
            sums.insert(*case, checksum(&file));
            fill(&file, MIB / 2, 100 + seed as u64);
        }
        fill(at("over/g"), 1000, 50);
        for dir in ["elsewhere", "empty-dir", "tree/d"] {
            fs::create_dir(at(dir)).unwrap();
        }
        fill(at("tree/d/f"), MIB + 200, 200);
        sums.insert("tree/d/f", checksum(at("tree/d/f")));
        fsnap(at("tree/d/f"), "create", "a").unwrap();
        for path in ["grave/f", "replaced/f"] {
            fs::remove_file(at(path)).unwrap();
        }
        // Of each set the last.
        let down: Vec<usize> = (2..bricks).step_by(3).collect();
        down.iter().for_each(|&n| volume.kill_brick(n));
        mount.wait_connected(bricks - down.len());
        fs::remove_file(at("unlink/f")).unwrap();
        fs::rename(at("rename/f"), at("rename/g")).unwrap();
        fs::rename(at("move/f"), at("elsewhere/f")).unwrap();
        fs::rename(at("over/g"), at("over/f")).unwrap();
        fsnap(at("empty/f"), "delete", "a").unwrap();
        fs::remove_file(at("empty/f")).unwrap();
        fs::create_dir(at("newdir/d")).unwrap();
        fill(at("newdir/d/f"), MIB, 60);
        fsnap(at("newdir/d/f"), "create", "n").unwrap();
        fsnap(at("rmdir/f"), "delete", "a").unwrap();
        fs::remove_file(at("rmdir/f")).unwrap();
        fs::remove_dir(at("rmdir")).unwrap();
        fs::rename(at("renamedir"), at("renameddir")).unwrap();
        fs::hard_link(at("link/f"), at("link/g")).unwrap();
        fs::remove_file(at("link/f")).unwrap();
        // What is kept moves up: of files that were deleted before, and now, and of one that the brick has never seen.
        fs::create_dir(at("tree/d/new")).unwrap();
        fill(at("tree/d/new/f"), MIB, 61);
        sums.insert("tree/d/new/f", checksum(at("tree/d/new/f")));
        fsnap(at("tree/d/new/f"), "create", "a").unwrap();
        fs::remove_dir_all(at("tree")).unwrap();
        fs::remove_dir(at("grave")).unwrap();
        fs::rename(at("empty-dir"), at("replaced")).unwrap();
        volume.restart_brick(2);
        mount.wait_connected(bricks);
        converges(&volume, layout);
        for (case, path) in [
            ("tree", "tree/f"),
            ("tree/d/f", "tree/d/f"),
            ("tree/d/new/f", "tree/d/new/f"),
            ("grave", "grave/f"),
            ("replaced", "replaced/f"),
        ] {
            assert_eq!(checksum(of_deleted_below(&mount.path(), path, "a")), sums[case], "{path}");
        }
        for (case, path) in [
            ("rename", "rename/g@a"),
            ("move", "elsewhere/f@a"),
            ("renamedir", "renameddir/f@a"),
            ("link", "link/g@a"),
        ] {
            assert_eq!(checksum(snapshot(path)), sums[case], "{path}");
        }
        for case in ["unlink", "over"] {
            let left = common::ls(at(case).join(".fsnap"));
            let [left] = &left[..] else { panic!("{case}: {left:?}") };
            assert!(left.starts_with("f@a@"));
            assert_eq!(checksum(at(case).join(".fsnap").join(left)), sums[case]);
        }
    }
}

#[test]
fn policies_while_a_brick_was_away() {
    for layout in [REPLICA, DISPERSE] {
        println!("{layout:?}");
        let Setup { mount, volume, .. } = setup(layout, 3);
        let file = |name: &str| mount.path().join(name);
        for name in ["refused", "purged", "held", "replaced"] {
            fill(file(name), MIB, 1);
            fsnap(file(name), "create", "a").unwrap();
        }
        fsnap(file("held"), "hold", "a").unwrap();
        fill(file("over"), 1000, 2);
        volume.kill_brick(0);
        mount.wait_connected(2);
        // A brick learns of an option a moment later.
        let policy = |policy: &str| {
            volume.set("user.xlator.fsnap.on-unlink", policy);
            let line = format!("option.on-unlink=\"{policy}\"");
            let all = || [1, 2].iter().all(|&n| volume.statedump(n).contains(&line));
            try_wait_until("all bricks know", SAME_WITHIN, all).unwrap();
        };
        policy("refuse");
        let busy = |result: std::io::Result<()>| result.unwrap_err().raw_os_error() == Some(libc::EBUSY);
        // The brick that was away takes the option from the volume's description when it starts.
        assert!(busy(fs::remove_file(file("refused"))));
        policy("purge");
        assert!(busy(fs::remove_file(file("held"))));
        fs::remove_file(file("purged")).unwrap();
        fs::rename(file("over"), file("replaced")).unwrap();
        volume.restart_brick(0);
        mount.wait_connected(3);
        converges(&volume, layout);
        assert_eq!(common::ls(mount.path().join(".fsnap")), ["held@a", "refused@a"]);
        assert_eq!(names(file("refused")), ["a"]);
    }
}

/// A brick is empty: everything comes from the others.
#[test]
fn replaced_and_reset() {
    for layout in [REPLICA, DISPERSE] {
        println!("{layout:?}");
        let Setup { mount, volume, scene, .. } = setup(layout, 3);
        let dir = mount.path().join("d");
        fs::create_dir(&dir).unwrap();
        let at = |name: &str| dir.join(".fsnap").join(name);
        let mut sums = BTreeMap::new();
        for name in ["f", "gone"] {
            let file = dir.join(name);
            for round in 0..3u64 {
                fill(&file, 2 * MIB + round * 1000, round);
                fsnap(&file, "create", round.to_string()).unwrap();
                sums.insert(format!("{name}@{round}"), checksum(&file));
            }
        }
        fs::remove_file(dir.join("gone")).unwrap();
        let left = common::ls(dir.join(".fsnap"));
        let right = || {
            for name in &left {
                let [file, round, ..] = name.split('@').collect::<Vec<_>>()[..] else { panic!("{name}") };
                assert_eq!(checksum(at(name)), sums[&format!("{file}@{round}")], "{name}");
            }
        };
        let fresh = scene.disk(fsnap_testbed::Fs::Xfs, 1024 * MIB, "/run/scene/fresh");
        volume.replace_brick(1, &fresh);
        mount.wait_connected(3);
        everything(&volume, layout);
        volume.reset_brick(0);
        mount.wait_connected(3);
        everything(&volume, layout);
        // What is left has it all.
        volume.kill_brick(2);
        mount.wait_connected(2);
        right();
        assert_eq!(names(dir.join("f")), ["0", "1", "2"]);
        // What the absent brick would never learn.
        let snapshot = at(left.iter().find(|name| name.starts_with("gone@1@")).expect("a snapshot of it"));
        assert_eq!(fsnap(&snapshot, "delete", "1"), Err(Errno::EROFS));
        volume.restart_brick(2);
        mount.wait_connected(3);
        volume.await_healed(HEALED_WITHIN);
        fsnap(&snapshot, "delete", "1").unwrap();
        converges(&volume, layout);
    }
}

/// A full heal, and again what it has left for later.
#[track_caller]
fn everything(volume: &Volume, layout: VolumeType) {
    // One round after the other, on a machine that may be busy.
    let same = try_wait_until("everything is healed", 3 * HEALED_WITHIN, || {
        volume.heal_full();
        std::thread::sleep(Duration::from_secs(2));
        volume.heal();
        volume.pending_heals() == Some(0) && differences(volume, layout).is_empty()
    });
    assert!(same.is_ok(), "{:?} pending; {:#?}", volume.pending_heals(), differences(volume, layout));
    converges(volume, layout);
}

/// On a disperse volume that is not whole GlusterFS now and then answers `EIO`, until it is asked again: docs/semantics.md, known
/// gaps.
fn asked_again<T>(layout: VolumeType, mut ask: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    let begun = Instant::now();
    loop {
        match ask() {
            Err(Errno::EIO)
                if matches!(layout, VolumeType::Disperse { .. }) && begun.elapsed() < SAME_WITHIN =>
            {
                std::thread::sleep(Duration::from_millis(50));
            }
            answer => return answer,
        }
    }
}

/// One brick can't take a snapshot, the others can.
#[test]
fn created_where_a_disk_was_full_or_read_only() {
    for layout in [REPLICA, DISPERSE] {
        println!("{layout:?}");
        let Setup { mount, volume, disks, scene, .. } = setup(layout, 3);
        let file = mount.path().join("f");
        fill(&file, 3 * MIB, 1);
        fsnap(&file, "create", "before").unwrap();
        let filler = disks[1].path().join("filler");
        fs::OpenOptions::new().create(true).write(true).truncate(false).open(&filler).unwrap();
        let free = fsnap_testbed::run(scene.command("df").args(["--output=avail", "-k"]).arg(disks[1].at()));
        let free = String::from_utf8(free.stdout).unwrap();
        let free: u64 = free.lines().last().unwrap().trim().parse().unwrap();
        let kib = (free - 2000).to_string();
        fsnap_testbed::run(
            scene.command("fallocate").args(["-l", &format!("{kib}KiB")]).arg(disks[1].at().join("filler")),
        );
        // A brick of a disperse volume that can't be healed may be the one that is asked, all the time (docs/semantics.md, known
        // gaps).
        let listed = |wanted: [&str; 2]| match asked_again(layout, || try_names(&file)) {
            Err(Errno::EIO) if layout == DISPERSE => {}
            answer => assert_eq!(answer.unwrap(), wanted),
        };
        fsnap(&file, "create", "full").unwrap();
        listed(["before", "full"]);
        fs::remove_file(&filler).unwrap();
        converges(&volume, layout);
        assert_eq!(names(&file), ["before", "full"]);
        // Not while somebody has a file open for writing.
        let remount = |how: &str| {
            let once = || {
                let mut mount = scene.command("mount");
                mount.args(["-o", &format!("remount,{how}")]).arg(disks[2].at());
                mount.output().is_ok_and(|output| output.status.success())
            };
            try_wait_until("it is remounted", SAME_WITHIN, once).unwrap();
        };
        remount("ro");
        fsnap(&file, "create", "read-only").unwrap();
        fsnap(&file, "delete", "before").unwrap();
        listed(["full", "read-only"]);
        remount("rw");
        converges(&volume, layout);
        assert_eq!(names(&file), ["full", "read-only"]);
    }
}

/// The bricks of a replica set do not take a snapshot at the same moment.
#[test]
fn unsettled_under_a_writer() {
    let Setup { mount, volume, .. } = setup(REPLICA, 3);
    let file = mount.path().join("f");
    let writer = Writer::start(file.clone());
    let mut unsettled = 0;
    for n in 0..20 {
        fsnap(&file, "create", n.to_string()).unwrap();
        unsettled += usize::from(ask(&file, &format!("info.{n}")).unwrap()["unsettled"] == true);
        std::thread::sleep(Duration::from_millis(50));
    }
    writer.stop();
    assert!(unsettled > 0);
    converges(&volume, REPLICA);
    let list = ask(&file, "list").unwrap();
    assert!(
        list["snapshots"].as_array().unwrap().iter().all(|snapshot| snapshot["unsettled"] == false),
        "{list}"
    );
    fsnap(&file, "create", "settled").unwrap();
    assert_eq!(ask(&file, "info.settled").unwrap()["unsettled"], false);
}

/// A brick that has missed writes takes a snapshot of what it has.
#[test]
fn of_a_stale_replica() {
    let Setup { mount, volume, .. } = setup(REPLICA, 3);
    let file = mount.path().join("f");
    fill(&file, 2 * MIB, 1);
    volume.set("cluster.self-heal-daemon", "off");
    volume.kill_brick(2);
    mount.wait_connected(2);
    fill(&file, 2 * MIB, 2);
    let right = checksum(&file);
    volume.restart_brick(2);
    mount.wait_connected(3);
    fsnap(&file, "create", "a").unwrap();
    let snapshot = |volume: &Volume, n: usize| checksum(volume.brick_path(n).join(".fsnap/f@a"));
    assert!((0..3).any(|n| snapshot(&volume, n) != right), "no brick was stale");
    // Nobody reads from that one.
    for n in 0..3 {
        let fresh = volume.mount(format!("/run/scene/m{n}"));
        assert_eq!(checksum(fresh.path().join(".fsnap/f@a")), right);
    }
    volume.set("cluster.self-heal-daemon", "on");
    converges(&volume, REPLICA);
    assert!((0..3).all(|n| snapshot(&volume, n) == right));
}

/// Their snapshots lie in one `.fsnap`, which is healed while more comes to be healed in it.
#[test]
fn many_files_of_one_directory() {
    const FILES: usize = 40;
    let layout = REPLICA;
    let Setup { mount, volume, .. } =
        common::volume(layout, 3, 1024 * MIB, |volume| volume.option("cluster.shd-max-threads", "8"));
    let file = |n: usize| mount.path().join(format!("f{n}"));
    (0..FILES).for_each(|n| fill(file(n), 200_000, n as u64));
    volume.kill_brick(1);
    mount.wait_connected(2);
    for n in 0..FILES {
        fsnap(file(n), "create", "a").unwrap();
        fsnap(file(n), "create", "b").unwrap();
    }
    volume.restart_brick(1);
    mount.wait_connected(3);
    converges(&volume, layout);
}

#[test]
fn of_a_missed_snapshot_only_what_differs_is_sent() {
    const SIZE: u64 = 64 * MIB;
    let Setup { mount, volume, disks, scene } = setup(REPLICA, 3);
    let (file, first) = (mount.path().join("f"), mount.path().join("first"));
    fill(&file, SIZE, 1);
    // With the first snapshot on a brick comes the reserve for a full disk.
    fill(&first, MIB, 3);
    fsnap(&first, "create", "s").unwrap();
    volume.kill_brick(2);
    mount.wait_connected(2);
    // 1 %, in one of the pieces of 1 MiB that self-heal compares.
    let open = fs::OpenOptions::new().write(true).open(&file).unwrap();
    open.write_all_at(&content((SIZE / 100) as usize, 2), 16 * MIB).unwrap();
    open.sync_all().unwrap();
    drop(open);
    fsnap(&file, "create", "s").unwrap();
    let (used, sent) = (df_used(disks[2].path()), received(&scene));
    volume.restart_brick(2);
    volume.await_healed(HEALED_WITHIN);
    let (used, sent) = (df_used(disks[2].path()) - used, received(&scene) - sent);
    converges(&volume, REPLICA);
    // The changes of the file itself are among them. What is sent passes the daemon, and so is counted twice.
    assert!(used < SIZE / 20, "{used} bytes of new blocks");
    assert!(sent < 2 * SIZE / 20, "{sent} bytes were sent");
}

/// The deleted file is where the absent brick has never seen it.
#[test]
fn moved_and_deleted_while_a_brick_was_away() {
    for layout in [REPLICA, DISPERSE] {
        println!("{layout:?}");
        let Setup { mount, volume, .. } = setup(layout, 3);
        let at = |path: &str| mount.path().join(path);
        fs::create_dir(at("one")).unwrap();
        fs::create_dir(at("two")).unwrap();
        fill(at("one/f"), MIB, 1);
        fsnap(at("one/f"), "create", "a").unwrap();
        let sum = checksum(at("one/f"));
        volume.kill_brick(2);
        mount.wait_connected(2);
        fs::rename(at("one/f"), at("two/g")).unwrap();
        fs::remove_file(at("two/g")).unwrap();
        volume.restart_brick(2);
        mount.wait_connected(3);
        converges(&volume, layout);
        let left = common::ls(at("two/.fsnap"));
        let [left] = &left[..] else { panic!("{left:?}") };
        assert_eq!(checksum(at("two/.fsnap").join(left)), sum);
    }
}

/// Replicate notes in the heal index what it is about to do, before a brick can refuse it.
#[test]
fn what_is_refused_while_a_brick_is_away_leaves_nothing() {
    for layout in [REPLICA, VolumeType::Arbiter, DISPERSE] {
        println!("{layout:?}");
        let Setup { mount, volume, .. } = setup(layout, 3);
        let dir = mount.path().join("d");
        fs::create_dir(&dir).unwrap();
        fill(dir.join("f"), MIB, 1);
        fsnap(dir.join("f"), "create", "a").unwrap();
        let snap_dir = dir.join(".fsnap");
        let snapshot = snap_dir.join("f@a");
        let sum = checksum(&snapshot);
        let write = || {
            let file = fs::OpenOptions::new().write(true).open(&snapshot)?;
            file.write_all_at(b"x", 0)?;
            file.sync_all()
        };
        for away in [1, 2] {
            volume.kill_brick(away);
            mount.wait_connected(2);
            let changes: [(&str, &dyn Fn() -> io::Result<()>); 8] = [
                ("setxattr", &|| setx(&snapshot, "user.x", "1").map_err(io::Error::from)),
                ("hold", &|| fsnap(&snapshot, "hold", "a").map_err(io::Error::from)),
                ("chmod", &|| fs::set_permissions(&snapshot, fs::Permissions::from_mode(0o600))),
                ("write", &write),
                ("truncate", &|| nix::unistd::truncate(&snapshot, 5).map_err(io::Error::from)),
                ("unlink", &|| fs::remove_file(&snapshot)),
                ("rename", &|| fs::rename(&snapshot, dir.join("g"))),
                ("mkdir", &|| fs::create_dir(snap_dir.join("g"))),
            ];
            for (what, change) in changes {
                let errno = |error: io::Error| Errno::from_raw(error.raw_os_error().expect("an errno"));
                assert_eq!(asked_again(layout, || change().map_err(errno)), Err(Errno::EROFS), "{what}");
            }
            volume.restart_brick(away);
            mount.wait_connected(3);
            converges(&volume, layout);
            assert_eq!(checksum(&snapshot), sum);
        }
    }
}
