//! Restores by way of the private client graph, on every kind of volume.
#![allow(missing_docs)]

mod common;
mod load;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, chown};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use common::agree::{converges, set};
use common::stage::Stage;
use common::{MIB, Setup, ask, client, fsnap, names, sees, volume};
use fsnap_testbed::{Disk, Errno, VolumeType, checksum, content, fill, getx, try_checksum, wait_until};
use load::Rng;
use load::versions::Writer;

const REPLICA: VolumeType = VolumeType::Replicate(3);
const DISPERSE: VolumeType = VolumeType::Disperse { data: 2, redundancy: 1 };
const WIDE: VolumeType = VolumeType::Disperse { data: 4, redundancy: 2 };
const ALL: [(VolumeType, usize); 6] = [
    (VolumeType::Distribute, 2),
    (REPLICA, 3),
    (VolumeType::Arbiter, 3),
    (DISPERSE, 3),
    (WIDE, 6),
    (REPLICA, 6),
];

fn stage(layout: VolumeType, bricks: usize) -> Stage {
    Stage::new(volume(layout, bricks, 1024 * MIB, |volume| volume))
}

/// All bricks have the same, and nothing is left to heal.
fn settled(stage: &Stage, layout: VolumeType) {
    if layout != VolumeType::Distribute {
        converges(&stage.0.volume, layout);
    }
}

#[test]
fn sizes() {
    sizes_on(&ALL[..3]);
}

#[test]
fn sizes_on_more_bricks() {
    sizes_on(&ALL[3..]);
}

fn sizes_on(all: &[(VolumeType, usize)]) {
    for &(layout, bricks) in all {
        println!("{layout:?} on {bricks}");
        let stage = stage(layout, bricks);
        let file = stage.file("f");
        let mut sums = Vec::new();
        let sizes = [5 * MIB + 123, 0, 1, 512, 9 * MIB + 4097, 5 * MIB + 123];
        for (n, size) in sizes.into_iter().enumerate() {
            match n {
                SPARSE => nearly_all_hole(&file, size),
                _ => fill(&file, size, n as u64),
            }
            stage.ok(["create", "f", "--name", &format!("s{n}")]);
            sums.push((checksum(&file), size));
        }
        for n in [0, SPARSE, 1, 3, 2, 0, 5] {
            println!("snapshot {n}");
            stage.restore("f", &format!("s{n}"));
            sees(&file, sums[n].0);
            assert_eq!(fs::metadata(&file).unwrap().len(), sums[n].1);
            for brick in (0..bricks).filter(|_| n == SPARSE) {
                let blocks =
                    fs::metadata(stage.0.volume.brick_path(brick).join("f")).map_or(0, |f| f.blocks());
                assert!(blocks * 512 < MIB, "brick {brick}: a hole was filled, {blocks} blocks");
            }
        }
        // One that was never written to.
        let untouched = stage.file("untouched");
        fs::File::create(&untouched).unwrap();
        stage.ok(["create", "untouched", "--name", "s"]);
        fill(&untouched, MIB, 1);
        stage.restore("untouched", "s");
        wait_until("it is empty", Duration::from_secs(10), || fs::metadata(&untouched).unwrap().len() == 0);
        settled(&stage, layout);
        assert_eq!(names(&file).len(), sizes.len());
    }
}

/// Which of the contents of `sizes_on` has a hole.
const SPARSE: usize = 4;

fn nearly_all_hole(file: &Path, size: u64) {
    let file = fs::File::create(file).unwrap();
    file.set_len(size).unwrap();
    file.write_all_at(&content(100_000, 1), 3 * MIB).unwrap();
    file.sync_all().unwrap();
}

/// The kinds of volume to try something on: the first so many, or with `FSNAP_ALL=1` all where bricks share a file.
fn shared(first: usize) -> impl Iterator<Item = (VolumeType, usize)> {
    let all = [(REPLICA, 3), (DISPERSE, 3), (VolumeType::Arbiter, 3), (WIDE, 6), (REPLICA, 6)];
    let count = if std::env::var_os("FSNAP_ALL").is_some() { all.len() } else { first };
    all.into_iter().take(count)
}

#[test]
fn with_a_brick_down() {
    for (n, (layout, bricks)) in shared(3).enumerate() {
        let stage = stage(layout, bricks);
        let Setup { volume, mount, .. } = &stage.0;
        let file = stage.file("f");
        let taken = |size: u64, seed: u64, name: &str| {
            fill(&file, size, seed);
            stage.ok(["create", "f", "--name", name]);
            checksum(&file)
        };
        let first = taken(3 * MIB + 77, 1, "first");
        let second = taken(5 * MIB, 2, "second");
        let having: Vec<usize> = (0..bricks).filter(|n| volume.brick_path(*n).join("f").exists()).collect();
        assert_eq!(having.len(), set(layout));
        let down = having[2 * n % having.len()];
        println!("{layout:?} on {bricks}, brick {down} is down");
        volume.kill_brick(down);
        mount.wait_connected(bricks - 1);
        stage.restore("f", "first");
        sees(&file, first);
        let missed = taken(MIB + 5, 3, "missed");
        fill(&file, 2 * MIB, 4);
        volume.restart_brick(down);
        mount.wait_connected(bricks);
        // It has missed data, a snapshot and a restore; the command waits for what it has to, and says so.
        let said = stage.fsnap(["restore", "f@missed", "--yes", "--no-backup"]);
        assert!(said.code == 0 && (said.err.is_empty() || said.err.contains("healed now")), "{}", said.err);
        sees(&file, missed);
        settled(&stage, layout);
        stage.restore("f", "second");
        sees(&file, second);
        settled(&stage, layout);
        sees(&file, second);
        stage.whole_without_any(layout, &[("f", second)]);
    }
}

const PIECE: usize = 4096;

#[test]
fn under_a_writer_on_another_mount() {
    for (layout, bricks) in shared(2) {
        println!("{layout:?} on {bricks}");
        let stage = stage(layout, bricks);
        let volume = &stage.0.volume;
        let other = volume.mount("/run/scene/m2");
        let pieces = |bytes: &[u8]| bytes.chunks(PIECE).map(<[u8]>::to_vec).collect::<Vec<_>>();
        let size = 256 * PIECE;
        for (name, byte) in [("a", b'a'), ("b", b'b')] {
            fs::write(stage.file("f"), vec![byte; size]).unwrap();
            stage.ok(["create", "f", "--name", name]);
        }
        let stop = Arc::new(AtomicBool::new(false));
        // Nothing between it and the bricks.
        let third = volume.mount_with("/run/scene/m3", &["--direct-io-mode=enable"]);
        let (path, end) = (third.path().join("f"), Arc::clone(&stop));
        let reader = std::thread::spawn(move || {
            let file = fs::File::open(path).unwrap();
            let (mut rng, mut seen) = (Rng::new(2), BTreeMap::new());
            while !end.load(Relaxed) {
                let mut piece = [0; PIECE];
                file.read_exact_at(&mut piece, rng.below(256) * PIECE as u64).unwrap();
                assert!(piece.iter().all(|byte| *byte == piece[0]), "a mix: {:?}", &piece[..16]);
                *seen.entry(char::from(piece[0])).or_insert(0) += 1;
            }
            seen
        });
        let (path, end) = (other.path().join("f"), Arc::clone(&stop));
        let writer = std::thread::spawn(move || {
            let file = fs::File::options().write(true).open(path).unwrap();
            let mut rng = Rng::new(1);
            let mut count = 0;
            while !end.load(Relaxed) {
                file.write_all_at(&[b'w'; PIECE], rng.below(256) * PIECE as u64).unwrap();
                count += 1;
            }
            count
        });
        for name in ["a", "b", "a", "b", "a", "b"] {
            stage.restore("f", name);
        }
        stop.store(true, Relaxed);
        assert!(writer.join().unwrap() > 10);
        let seen = reader.join().unwrap();
        println!("read: {seen:?}");
        assert!(seen.keys().all(|byte| "abw".contains(*byte)) && seen.len() > 1, "{seen:?}");
        drop(third);
        settled(&stage, layout);
        let fresh = volume.mount("/run/scene/fresh");
        let bytes = fs::read(fresh.path().join("f")).unwrap();
        assert_eq!(bytes.len(), size);
        for (n, piece) in pieces(&bytes).iter().enumerate() {
            let whole = piece.iter().all(|byte| *byte == piece[0]);
            assert!(whole && b"bw".contains(&piece[0]), "piece {n}: {:?}", &piece[..16]);
        }
        drop(fresh);
        stage.whole_without_any(layout, &[("f", checksum(stage.file("f")))]);
    }
}

/// `FSNAP_SEED` repeats the choices, `FSNAP_ROUNDS` makes it longer.
#[test]
fn killed_at_random_moments() {
    let number =
        |name: &str, default| std::env::var(name).ok().map_or(default, |n| n.parse().expect("a number"));
    let (seed, rounds) = (number("FSNAP_SEED", 1), number("FSNAP_ROUNDS", 3));
    for (layout, bricks) in [(REPLICA, 3), (DISPERSE, 3)] {
        println!("{layout:?}, seed {seed}");
        let stage = stage(layout, bricks);
        let Setup { volume, mount, scene, .. } = &stage.0;
        let file = stage.file("f");
        let mut rng = Rng::new(seed);
        let mut sums = Vec::new();
        for (n, size) in [3 * MIB, 5 * MIB + 1].into_iter().enumerate() {
            fill(&file, size, n as u64);
            stage.ok(["create", "f", "--name", &format!("s{n}")]);
            sums.push(checksum(&file));
        }
        for round in 0..rounds {
            let (name, pause) = (format!("f@s{}", round % 2), 20 + rng.below(200));
            let limit = format!("{}", pause as f64 / 1000.0);
            let brick = rng.below(2) == 0;
            let mut command = scene.command("env");
            command.arg("--chdir=/run/scene/m");
            if !brick {
                command.args(["timeout", "-s", "KILL", &limit]);
            }
            command.args(["/run/scene/fsnap", "restore", &name, "--yes", "--no-backup"]);
            let running = std::thread::spawn(move || command.output().unwrap());
            if brick {
                std::thread::sleep(Duration::from_millis(pause));
                volume.kill_brick((round % bricks as u64) as usize);
            }
            let said = running.join().unwrap();
            println!(
                "{name}, {} after {pause} ms: {}",
                if brick { "a brick" } else { "the command" },
                said.status
            );
            if brick {
                volume.restart_brick((round % bricks as u64) as usize);
                mount.wait_connected(bricks);
            }
            if layout == REPLICA {
                settled(&stage, layout);
                let fresh = volume.mount("/run/scene/fresh");
                let seen = checksum(fresh.path().join("f"));
                assert!(sums.contains(&seen), "neither old nor new");
            }
            // The next command ends what this one has begun, and no lock stays.
            let begun = Instant::now();
            stage.restore("f", &format!("s{}", (round + 1) % 2));
            assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
            sees(&file, sums[(round as usize + 1) % 2]);
            settled(&stage, layout);
        }
        stage.whole_without_any(layout, &[("f", sums[rounds as usize % 2])]);
    }
}

/// What its command says of the end counts for nothing on a disperse volume: disperse may not have noted it yet.
#[test]
fn a_restore_that_is_settled_before_disperse_has_noted_its_end() {
    let stage = stage(DISPERSE, 3);
    let (file, sums) = (stage.file("f"), stage.two_contents());
    for (old, new) in [(1, 0), (0, 1)] {
        for carried in 1..=3 {
            stage.restore("f", &format!("s{old}"));
            let (snapshot, bricks) = (format!("s{new}"), carried.to_string());
            let args = ["v", "127.1.1.1", "/var/log/glusterfs/raw.log", "carry", "f", &snapshot, &bricks];
            let results = client(&stage.0, "raw", &args);
            assert_eq!(results.len(), 6 + 3 * carried);
            assert!(results.iter().all(|(_, errno)| *errno == Errno::UnknownErrno), "{results:?}");
            let fresh = stage.0.volume.mount("/run/scene/fresh");
            let seen = try_checksum(fresh.path().join("f")).ok();
            // The two others suffice.
            assert_eq!(seen, (carried == 1).then_some(sums[old]), "{carried} bricks have done it");
            drop(fresh);
            stage.restore("f", &snapshot);
            sees(&file, sums[new]);
            settled(&stage, DISPERSE);
        }
    }
}

/// Of all bricks at once, as soon as the command says that it is done.
#[test]
fn a_power_cut() {
    for (layout, bricks) in [(VolumeType::Distribute, 1), (REPLICA, 3), (DISPERSE, 3)] {
        let stage = stage(layout, bricks);
        let Setup { volume, disks, mount, .. } = &stage.0;
        let sums = stage.two_contents();
        for new in [0, 1, 0] {
            stage.restore("f", &format!("s{new}"));
            (0..bricks).for_each(|brick| volume.kill_brick(brick));
            disks.iter().for_each(Disk::power_cut);
            (0..bricks).for_each(|brick| volume.restart_brick(brick));
            mount.wait_connected(bricks);
            let fresh = volume.mount("/run/scene/fresh");
            assert_eq!(checksum(fresh.path().join("f")), sums[new], "{layout:?}");
            drop(fresh);
            settled(&stage, layout);
        }
    }
}

/// For whoever watches a brick's changes it is one of data: clients that keep attributes until they are told otherwise, the
/// changelog, the file's times.
#[test]
fn it_is_told_as_any_change_of_data() {
    let stage = Stage::new(volume(REPLICA, 3, 1024 * MIB, |volume| {
        let forever = volume.option("performance.md-cache-timeout", "600");
        let told = forever.option("features.cache-invalidation-timeout", "600");
        let told =
            told.option("features.cache-invalidation", "on").option("performance.cache-invalidation", "on");
        told.option("changelog.changelog", "on").option("changelog.rollover-time", "2")
    }));
    let Setup { volume, scene, .. } = &stage.0;
    let file = stage.file("f");
    fill(&file, 3 * MIB + 5, 1);
    stage.ok(["create", "f", "--name", "s"]);
    let restored = checksum(&file);
    fill(&file, 5 * MIB, 2);
    let changed = checksum(&file);
    let other = volume.mount("/run/scene/other");
    sees(other.path().join("f"), changed);
    let before = fs::metadata(other.path().join("f")).unwrap().modified().unwrap();

    let gfid = getx(&file, "glusterfs.gfid.string").unwrap();
    let record = [b"D", gfid.strip_suffix(b"\0").unwrap_or(&gfid)].concat();
    let has_it = |path: &Path| {
        let bytes = fs::read(path).unwrap_or_default();
        bytes.windows(record.len()).any(|part| part == record)
    };
    // What the file's changes are noted in, of each brick: one for every two seconds in which there are any.
    let logs = |brick: usize| {
        let found = scene.command("find").arg(volume.brick(brick).dir).args(["-name", "CHANGELOG*"]).output();
        let found = String::from_utf8(found.unwrap().stdout).unwrap();
        found.lines().map(|path| scene.path(path)).filter(|path| has_it(path)).collect::<Vec<_>>()
    };
    let counts = || [0, 1, 2].map(|brick| logs(brick).len());
    wait_until("what was written is in changelogs that are closed", Duration::from_secs(30), || {
        (0..3).all(|brick| logs(brick).iter().all(|path| !path.ends_with("CHANGELOG")))
    });
    let written = counts();
    assert!(written.iter().all(|count| *count > 0), "{written:?}");

    stage.restore("f", "s");
    sees(other.path().join("f"), restored);
    let now = fs::metadata(other.path().join("f")).unwrap();
    assert!(now.len() == 3 * MIB + 5 && now.modified().unwrap() > before, "{now:?}");
    wait_until("it is in the changelogs", Duration::from_secs(30), || {
        counts().iter().zip(&written).all(|(now, before)| now > before)
    });
    settled(&stage, REPLICA);
}

#[test]
fn an_armed_file_is_not_truncated() {
    let stage = stage(REPLICA, 3);
    let file = stage.file("f");
    fill(&file, MIB, 1);
    let sum = checksum(&file);
    fsnap(&file, "create", "a").unwrap();
    let (one, other) = ("11111111-2222-4333-8444-555555555555", "21111111-2222-4333-8444-555555555555");
    for bad in ["a", "a;id=1", ";id=11111111-2222-4333-8444-555555555555", "a;id=x;id=x"] {
        assert_eq!(fsnap(&file, "arm", bad), Err(Errno::EINVAL), "{bad}");
    }
    assert_eq!(fsnap(&file, "arm", format!("b;id={one}")), Err(Errno::ENODATA));
    assert_eq!(fsnap(stage.file(".fsnap/f@a"), "arm", format!("a;id={one}")), Err(Errno::EROFS));
    fsnap(&file, "arm", format!("a;id={one}")).unwrap();
    for id in [other, one] {
        assert_eq!(fsnap(&file, "arm", format!("a;id={id}")), Err(Errno::EBUSY));
    }
    let truncated =
        || fs::File::options().write(true).open(&file).unwrap().set_len(5).map_err(|e| e.raw_os_error());
    assert_eq!(truncated(), Err(Some(libc::EBUSY)));
    assert_eq!(checksum(&file), sum);
    // By somebody else's id it stays as it is.
    fsnap(&file, "settle", other).unwrap();
    assert_eq!(truncated(), Err(Some(libc::EBUSY)));
    fsnap(&file, "settle", one).unwrap();
    truncated().unwrap();
    assert_eq!(fsnap(&file, "arm", format!("a;id={one}")), Err(Errno::EINVAL));
    // Who armed it and went away does not keep it.
    let second = stage.0.volume.mount("/run/scene/m2");
    fsnap(second.path().join("f"), "arm", format!("a;id={other}")).unwrap();
    drop(second);
    stage.restore("f", "a");
    sees(&file, sum);
    assert_eq!(fsnap(&file, "arm", format!("a;id={other}")), Err(Errno::EINVAL));
}

/// Where there is but one copy nothing can take a carrier's id from it.
#[test]
fn on_a_distribute_volume_an_armed_file_is_truncated() {
    let stage = stage(VolumeType::Distribute, 1);
    let file = stage.file("f");
    fill(&file, MIB, 1);
    fsnap(&file, "create", "a").unwrap();
    let id = "11111111-2222-4333-8444-555555555555";
    fsnap(&file, "arm", format!("a;id={id}")).unwrap();
    fs::File::options().write(true).open(&file).unwrap().set_len(5).unwrap();
    assert_eq!(fsnap(&file, "delete", "a"), Err(Errno::EBUSY));
    fsnap(&file, "settle", id).unwrap();
    assert_eq!(fs::metadata(&file).unwrap().len(), 5);
}

/// What anybody may do who may write to a file keeps others from it for half of the time at most.
#[test]
fn who_had_a_file_armed_leaves_it_to_others_for_as_long() {
    const USER: u32 = 4001;
    const TRY: Duration = Duration::from_millis(100);
    let stage = stage(REPLICA, 3);
    let [file, renewed] = ["f", "renewed"].map(|name| {
        let file = stage.file(name);
        fill(&file, MIB, 1);
        fsnap(&file, "create", "a").unwrap();
        chown(&file, Some(USER), Some(USER)).unwrap();
        file
    });
    let by_user = |name: &str, verb: &str, value: &str| {
        let mut command = stage.0.scene.command_as(USER, USER, "setfattr");
        command.args(["-n", &format!("glusterfs.fsnap.{verb}"), "-v", value]);
        command.arg(format!("/run/scene/m/{name}")).output().unwrap().status.success()
    };
    let id = |n: u64| format!("11111111-2222-4333-8444-{n:012}");
    let truncated = |file: &Path| {
        let file = fs::File::options().write(true).open(file).unwrap();
        file.set_len(5).map_err(|error| error.raw_os_error())
    };
    // With one id, and with ever new ones, as fast as it can.
    let begun = Instant::now();
    assert!(by_user("renewed", "arm", &format!("a;id={}", id(0))));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Not for ever, if something fails below.
            for n in 1.. {
                if done.load(Relaxed) || begun.elapsed() > Duration::from_secs(110) {
                    break;
                }
                for id in [id(0), id(n)] {
                    by_user("renewed", "arm", &format!("a;id={id}"));
                }
            }
        });
        let held = Duration::from_secs(4);
        let since = Instant::now();
        assert!(by_user("f", "arm", &format!("a;id={}", id(1))));
        assert_eq!(truncated(&file), Err(Some(libc::EBUSY)));
        std::thread::sleep(held);
        assert!(by_user("f", "settle", &id(1)));
        // Others come to it.
        assert!(!by_user("f", "arm", &format!("a;id={}", id(2))));
        truncated(&file).unwrap();
        stage.restore("f", "a");
        let mut n = 3;
        while !by_user("f", "arm", &format!("a;id={}", id(n))) {
            n += 1;
            std::thread::sleep(TRY);
        }
        assert!(since.elapsed() >= 2 * held, "{:?}", since.elapsed());
        assert!(by_user("f", "settle", &id(n)));

        while truncated(&renewed) == Err(Some(libc::EBUSY)) {
            assert!(begun.elapsed() < Duration::from_secs(90));
            std::thread::sleep(TRY);
        }
        assert!(begun.elapsed() >= Duration::from_secs(59), "{:?}", begun.elapsed());
        for _ in 0..50 {
            truncated(&renewed).unwrap();
            std::thread::sleep(TRY);
        }
        done.store(true, Relaxed);
    });
    settled(&stage, REPLICA);
}

/// Who armed a file and does nothing more, but does not go either.
#[test]
fn a_restore_that_nobody_ends_is_over_after_a_minute() {
    let stage = stage(REPLICA, 3);
    let arm = |name: &str| {
        let file = stage.file(name);
        fill(&file, MIB, 1);
        fsnap(&file, "create", "a").unwrap();
        fsnap(&file, "arm", "a;id=11111111-2222-4333-8444-555555555555").unwrap();
        file
    };
    let begun = Instant::now();
    let files = ["f", "g"].map(arm);
    let truncated = |file: &Path| {
        let file = fs::File::options().write(true).open(file).unwrap();
        file.set_len(5).map_err(|error| error.raw_os_error())
    };
    for file in &files {
        assert_eq!(truncated(file), Err(Some(libc::EBUSY)));
    }
    let sum = checksum(&files[0]);
    // The next command waits for that.
    stage.restore("f", "a");
    let taken = begun.elapsed().as_secs();
    assert!((60..120).contains(&taken), "{taken}");
    truncated(&files[1]).unwrap();
    sees(&files[0], sum);
    settled(&stage, REPLICA);
}

/// Quota, switched on when there are snapshots already, counts a restored file as one that was written.
#[test]
fn quota_counts_it() {
    for (layout, bricks) in [(VolumeType::Distribute, 1), (REPLICA, 3), (DISPERSE, 3)] {
        println!("{layout:?}");
        let stage = stage(layout, bricks);
        let volume = &stage.0.volume;
        fs::create_dir(stage.file("d")).unwrap();
        let [file, other] = ["d/f", "d/other"].map(|name| stage.file(name));
        let sizes = [8 * MIB, 2 * MIB, 5 * MIB];
        for (n, size) in sizes.into_iter().enumerate() {
            fill(&file, size, n as u64);
            stage.ok(["create", "d/f", "-n", &format!("s{n}")]);
        }
        fill(&other, MIB, 3);
        let quota = |args: &[&str]| volume.gluster([&["volume", "quota", "v"], args].concat());
        quota(&["enable"]).unwrap();
        // A limit does not stop it.
        quota(&["limit-usage", "/d", "7MB"]).unwrap();
        let used = || {
            let xml = quota(&["list", "/d", "--xml"]).unwrap_or_default();
            let (_, rest) = xml.split_once("<used_space>")?;
            rest.split_once('<')?.0.parse::<u64>().ok()
        };
        let uses = |size: u64| {
            wait_until(&format!("{size} bytes are counted"), Duration::from_secs(60), || {
                used() == Some(size)
            });
        };
        uses(sizes[2] + MIB);
        assert_eq!(fsnap(&file, "create", "s3"), Err(Errno::EOPNOTSUPP));
        stage.refused(["restore", "-y", "d/f@s0"], "--no-backup");
        assert_eq!(fsnap(&file, "restore", "s0"), Err(Errno::EOPNOTSUPP));
        for n in [0, 1, 2, 0] {
            if n == 1 && layout == DISPERSE {
                stage.refused(["restore", "-y", "--no-backup", "d/f@s1"], "under quota on a disperse volume");
                // GlusterFS's own truncate says that the limit forbids it, and has done it.
                let _ = fs::File::options().write(true).open(&file).unwrap().set_len(MIB);
                uses(2 * MIB);
            }
            stage.restore("d/f", &format!("s{n}"));
            uses(sizes[n] + MIB);
        }
        settled(&stage, layout);
    }
}

/// The bricks of a replica set do not take it at the same moment, if a bare setfattr has. The self-heal daemon would look for that
/// within ten minutes.
#[test]
fn a_snapshot_that_is_not_the_same_on_all_bricks() {
    let stage = Stage::new(volume(REPLICA, 3, 1024 * MIB, |volume| volume));
    let file = stage.file("f");
    let writer = Writer::start(file.clone());
    let taken = |n: &u32| {
        fsnap(&file, "create", n.to_string()).unwrap();
        ask(&file, &format!("info.{n}")).unwrap()["unsettled"] == true
    };
    let unsettled = (0..100).find(taken).expect("one is unsettled").to_string();
    writer.stop();
    fill(&file, MIB, 1);
    let begun = Instant::now();
    let said = stage.fsnap(["restore", "--yes", "--no-backup", &format!("f@{unsettled}")]);
    println!("{} after {:?}", said.err, begun.elapsed());
    assert!(said.code == 0 && said.err.contains("it is healed now"), "{}", said.err);
    assert!(begun.elapsed() < Duration::from_secs(30));
    assert_eq!(checksum(&file), checksum(stage.file(format!(".fsnap/f@{unsettled}"))));
    settled(&stage, REPLICA);
}
