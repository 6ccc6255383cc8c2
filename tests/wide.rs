//! Wide volumes: `.fsnap` has the layout of its directory, so that with an option of DHT a snapshot is looked for where its file is,
//! and everything is found all the same wherever it is.
#![allow(missing_docs)]

mod common;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use common::agree::{HEALED_WITHIN, SAME_WITHIN, converges};
use common::{MIB, Setup, fsnap, of_deleted, sound, volume};
use fsnap_core::layout::XATTR as LAYOUT;
use fsnap_testbed::{
    Disk, Errno, Fs, Mount, Scene, Volume, VolumeType, checksum, fill, getx, removex, setx, wait_until,
};

const DISK: u64 = 512 * MIB;
const OPTION: &str = "cluster.extra-hash-regex";
/// What is before the first `@` of a name.
const REGEX: &str = "^([^@]+)@.+$";

/// A mount of a client that knows nothing yet, whose kernel asks for nothing again that it knows.
fn stranger(volume: &Volume) -> Mount {
    static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let n = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    volume.mount_with(format!("/run/scene/stranger{n}"), &["--entry-timeout=60", "--attribute-timeout=60"])
}

/// Whether to run what takes its time, too: `FSNAP_ALL=1`.
fn all() -> bool {
    let all = std::env::var_os("FSNAP_ALL").is_some();
    if !all {
        eprintln!("SKIPPED: runs with FSNAP_ALL=1");
    }
    all
}

/// How many lookups come to the bricks by what is done.
fn lookups(volume: &Volume, act: impl FnOnce()) -> u64 {
    let before = volume.calls("LOOKUP");
    act();
    volume.calls("LOOKUP") - before
}

/// What is the matter with the layouts of the `.fsnap` of `dir`, as it lies on the bricks: they are to be the directory's, without a
/// commit hash.
fn unlike(volume: &Volume, dir: &str) -> Vec<String> {
    let look = |n: usize| {
        let dir = volume.brick_path(n).join(dir);
        let get = |at: &Path| getx(at, LAYOUT).ok();
        let snap_dir = dir.join(".fsnap");
        if !snap_dir.exists() {
            return None;
        }
        let (above, below) = (get(&dir), get(&snap_dir));
        let wanted = above.as_ref().map(|above| match above[8..] == [0; 8] {
            true => vec![0; 16],
            false => [&[0, 0, 0, 1], &above[4..]].concat(),
        });
        (below != wanted).then(|| format!("brick {n}: {above:?} above {below:?}"))
    };
    (0..volume.bricks().len()).filter_map(look).collect()
}

/// What would tell that somebody has changed a `.fsnap`, for each brick.
fn changed(volume: &Volume, dir: &str) -> Vec<Option<(i64, i64)>> {
    let at = |n| fs::metadata(volume.brick_path(n).join(dir).join(".fsnap")).ok();
    (0..volume.bricks().len()).map(|n| at(n).map(|stat| (stat.ctime(), stat.ctime_nsec()))).collect()
}

fn disks(scene: &Scene, first: usize, count: usize) -> Vec<Disk> {
    (first..first + count).map(|n| scene.disk(Fs::Xfs, DISK, format!("/run/scene/b{n}"))).collect()
}

#[test]
fn one_brick_is_asked_for_a_snapshot() {
    let bricks = 8;
    let setup = volume(VolumeType::Distribute, bricks, DISK, |volume| volume.option(OPTION, REGEX));
    let Setup { mount, volume, .. } = &setup;
    let dir = mount.path().join("d");
    fs::create_dir(&dir).unwrap();
    let files: Vec<String> = (0..6).map(|n| format!("file{n}")).collect();
    for file in &files {
        fill(dir.join(file), 10_000, 1);
        fsnap(dir.join(file), "create", "s").unwrap();
        assert_eq!(unlike(volume, "d"), Vec::<String>::new(), "from the moment when it is made");
    }
    volume.gluster(["volume", "profile", "v", "start"]).unwrap();
    // Who looks first has `.fsnap` made where it is missing.
    fs::metadata(stranger(volume).path().join("d/.fsnap")).unwrap();
    assert!(changed(volume, "d").iter().all(Option::is_some));
    assert_eq!(unlike(volume, "d"), Vec::<String>::new());
    let before = changed(volume, "d");

    let client = stranger(volume);
    let dir = client.path().join("d");
    fs::metadata(&dir).unwrap();
    let all = lookups(volume, || assert!(dir.join(".fsnap").exists()));
    assert_eq!(all, 1 + bricks as u64, "a directory: where its name belongs, then everywhere");
    let open = |names: Vec<String>| {
        lookups(volume, || names.iter().for_each(|name| drop(File::open(dir.join(name)).unwrap())))
    };
    let own = open(files.clone());
    let snapshots = open(files.iter().map(|file| format!(".fsnap/{file}@s")).collect());
    assert_eq!((own, snapshots), (files.len() as u64, files.len() as u64));
    assert_eq!(changed(volume, "d"), before, "nobody had anything to heal");
    sound(volume);
}

/// What is to be found, by its path from the root, and what it reads.
#[derive(Default)]
struct Files(BTreeMap<PathBuf, u64>);

impl Files {
    /// Files whose snapshots are not where their names belong among others.
    fn new(root: &Path, dir: &str) -> Files {
        let mut files = Files::default();
        fs::create_dir(root.join(dir)).unwrap();
        files.more(root, dir, "f");
        files
    }

    fn more(&mut self, root: &Path, dir: &str, prefix: &str) {
        let at = root.join(dir);
        let mut names = Vec::new();
        for n in 0..8u64 {
            let file = format!("{prefix}{n}");
            fill(at.join(&file), 10_000 + n, n);
            fsnap(at.join(&file), "create", "s").unwrap();
            names.push(format!(".fsnap/{file}@s"));
        }
        // Of files that lie elsewhere than their names belong, of other names than they were taken by, with an `@` of their own.
        for n in 0..4u64 {
            let (old, new) = (at.join(format!("{prefix}old{n}")), at.join(format!("{prefix}new{n}")));
            fill(&old, 20_000 + n, n);
            fsnap(&old, "create", "s").unwrap();
            fs::rename(&old, &new).unwrap();
            names.push(format!(".fsnap/{prefix}new{n}@s"));
            let (one, two) = (at.join(format!("{prefix}one{n}")), at.join(format!("{prefix}two{n}")));
            fill(&one, 30_000 + n, n);
            fs::hard_link(&one, &two).unwrap();
            fsnap(&two, "create", "s").unwrap();
            names.extend(common::ls(at.join(".fsnap")).into_iter().filter_map(|name| {
                let of = [format!("{prefix}one{n}@s"), format!("{prefix}two{n}@s")];
                of.contains(&name).then(|| format!(".fsnap/{name}"))
            }));
            let own = at.join(format!("{prefix}user@host{n}"));
            fill(&own, 40_000 + n, n);
            fsnap(&own, "create", "s").unwrap();
            names.push(format!(".fsnap/{prefix}user@host{n}@s"));
            let gone = at.join(format!("{prefix}gone{n}"));
            fill(&gone, 50_000 + n, n);
            fsnap(&gone, "create", "s").unwrap();
            fs::remove_file(&gone).unwrap();
            names.push(
                of_deleted(&at, &format!("{prefix}gone{n}@s"))
                    .strip_prefix(&at)
                    .unwrap()
                    .display()
                    .to_string(),
            );
        }
        for name in names {
            self.0.insert(Path::new(dir).join(&name), checksum(at.join(name)));
        }
    }

    fn moved(&mut self, from: &str, to: &str) {
        let files = std::mem::take(&mut self.0).into_iter();
        self.0 = files
            .map(|(path, sum)| match path.strip_prefix(from) {
                Ok(rest) => (Path::new(to).join(rest), sum),
                Err(_) => (path, sum),
            })
            .collect();
    }

    /// All is found by name by one who knows nothing, and by one who comes next: nothing is changed for him.
    #[track_caller]
    fn are_found(&self, volume: &Volume, dir: &str) {
        for round in 0..2 {
            let client = stranger(volume);
            let before = changed(volume, dir);
            for (path, sum) in &self.0 {
                let found = fsnap_testbed::try_checksum(client.path().join(path));
                assert_eq!(found.ok(), Some(*sum), "{} {round}", path.display());
            }
            assert_eq!(unlike(volume, dir), Vec::<String>::new(), "{round}");
            if round > 0 {
                assert_eq!(changed(volume, dir), before, "healed once more");
            }
        }
    }
}

/// Gives directory `dir` a layout in which the last bricks have a part, and waits until that is over.
fn fix_layout(volume: &Volume, dir: &str) {
    volume.gluster(["volume", "rebalance", "v", "fix-layout", "start"]).unwrap();
    let last = volume.brick_path(volume.bricks().len() - 1).join(dir);
    wait_until("the layout is fixed", SAME_WITHIN * 2, || {
        let status = volume.gluster(["volume", "rebalance", "v", "status"]).unwrap_or_default();
        status.contains("fix-layout completed") && getx(&last, LAYOUT).is_ok_and(|now| now[8..] != [0; 8])
    });
}

/// Grown, renamed: on a volume of that many bricks in sets of `set`.
fn everything_is_found(layout: VolumeType, set: usize, options: &[(&str, &str)]) {
    let bricks = 2 * set;
    let setup = volume(layout, bricks, DISK, |volume| {
        options.iter().fold(volume, |volume, (name, value)| volume.option(name, value))
    });
    let Setup { mount, volume, scene, .. } = &setup;
    let root = mount.path();
    let mut files = Files::new(&root, "d");
    files.are_found(volume, "d");

    let _more = disks(scene, bricks + 1, set);
    volume.add_bricks(&_more);
    mount.wait_connected(bricks + set);
    files.are_found(volume, "d");
    files.more(&root, "d", "g");
    fix_layout(volume, "d");
    files.are_found(volume, "d");
    // One who knows the directories as they were.
    for (path, sum) in &files.0 {
        assert_eq!(checksum(root.join(path)), *sum, "{}", path.display());
    }
    let moved = volume.rebalance(&["force"]);
    assert_eq!((moved.failures, moved.status.as_str()), (0, "completed"));
    files.are_found(volume, "d");

    fs::rename(root.join("d"), root.join("e")).unwrap();
    files.moved("d", "e");
    files.are_found(volume, "e");
    files.more(&root, "e", "h");
    files.are_found(volume, "e");

    sound(volume);
}

#[test]
fn found_without_the_option() {
    everything_is_found(VolumeType::Distribute, 1, &[]);
}

#[test]
fn found_with_the_option() {
    if !all() {
        return;
    }
    everything_is_found(VolumeType::Distribute, 1, &[(OPTION, REGEX)]);
}

#[test]
fn found_without_lookup_optimize() {
    if !all() {
        return;
    }
    let off = ("cluster.lookup-optimize", "off");
    everything_is_found(VolumeType::Distribute, 1, &[(OPTION, "^(.+)@[^@]+$"), off]);
}

#[test]
fn found_on_replicate() {
    everything_is_found(VolumeType::Replicate(2), 2, &[(OPTION, REGEX)]);
}

/// A `.fsnap` of which DHT has made up the layout, as that of an earlier fsnap, or that has none on some bricks.
#[test]
fn what_was_there_before_follows() {
    let setup = volume(VolumeType::Distribute, 4, DISK, |volume| volume.option(OPTION, REGEX));
    let Setup { mount, volume, .. } = &setup;
    let root = mount.path();
    let files = Files::new(&root, "d");
    files.are_found(volume, "d");
    let snap_dir = |n: usize| volume.brick_path(n).join("d/.fsnap");
    let next: Vec<Vec<u8>> = (0..4).map(|n| getx(snap_dir((n + 1) % 4), LAYOUT).unwrap()).collect();
    (0..4).for_each(|n| setx(snap_dir(n), LAYOUT, &next[n]).unwrap());
    assert_eq!(unlike(volume, "d").len(), 4);
    // Who has seen it as it was.
    for (path, sum) in &files.0 {
        assert_eq!(checksum(root.join(path)), *sum, "{}", path.display());
    }
    files.are_found(volume, "d");
    (0..3).for_each(|n| removex(snap_dir(n), LAYOUT).unwrap());
    files.are_found(volume, "d");
    // What comes into it is enough.
    setx(snap_dir(1), LAYOUT, &next[1]).unwrap();
    for n in 0..8 {
        fsnap(root.join(format!("d/f{n}")), "create", "t").unwrap();
    }
    assert_eq!(unlike(volume, "d"), Vec::<String>::new());
    sound(volume);
}

#[test]
fn found_on_disperse() {
    if !all() {
        return;
    }
    everything_is_found(VolumeType::Disperse { data: 2, redundancy: 1 }, 3, &[(OPTION, REGEX)]);
}

/// The layouts change while a brick is away.
#[test]
fn found_when_a_brick_has_missed_the_new_layout() {
    let layout = VolumeType::Replicate(3);
    let setup = volume(layout, 6, DISK, |volume| volume.option(OPTION, REGEX));
    let Setup { mount, volume, scene, .. } = &setup;
    let root = mount.path();
    let mut files = Files::new(&root, "d");
    files.are_found(volume, "d");
    let _more = disks(scene, 7, 3);
    volume.add_bricks(&_more);
    mount.wait_connected(9);
    volume.kill_brick(0);
    fix_layout(volume, "d");
    let client = stranger(volume);
    for (path, sum) in &files.0 {
        assert_eq!(checksum(client.path().join(path)), *sum, "{}", path.display());
    }
    files.more(&root, "d", "g");
    volume.restart_brick(0);
    mount.wait_connected(9);
    volume.heal();
    volume.await_healed(HEALED_WITHIN);
    converges(volume, layout);
    files.are_found(volume, "d");
    assert_eq!(volume.pending_heals(), Some(0));
    sound(volume);
}

#[test]
fn found_when_a_brick_has_gone() {
    if !all() {
        return;
    }
    let setup = volume(VolumeType::Distribute, 3, DISK, |volume| volume.option(OPTION, REGEX));
    let Setup { mount, volume, .. } = &setup;
    let root = mount.path();
    let mut files = Files::new(&root, "d");
    files.are_found(volume, "d");
    // What is on the last one, and could not come along.
    for name in common::ls(volume.brick_path(2).join("d/.fsnap")) {
        if !name.contains("@.") {
            let snapshot = Path::new("d/.fsnap").join(&name);
            fsnap(root.join(&snapshot), "delete", "s").unwrap();
            files.0.remove(&snapshot);
        }
    }
    assert!(files.0.len() > 4);
    let emptied = volume.empty_bricks(2..3);
    assert_eq!((emptied.status.as_str(), emptied.failures), ("completed", 0));
    files.are_found(volume, "d");
    files.more(&root, "d", "g");
    files.are_found(volume, "d");
    volume.remove_bricks(2..3, "commit").unwrap();
    mount.wait_connected(2);
    files.are_found(volume, "d");
    sound(volume);
}

/// What the option costs, as docs/limits.md tells it.
#[test]
fn files_that_had_an_at_before() {
    let setup = volume(VolumeType::Distribute, 4, DISK, |volume| volume);
    let Setup { mount, volume, scene, .. } = &setup;
    let root = mount.path();
    fs::create_dir(root.join("d")).unwrap();
    let mut files = Files::default();
    let named: Vec<PathBuf> = (0..16).map(|n| Path::new("d").join(format!("user{n}@host"))).collect();
    for (n, file) in named.iter().enumerate() {
        fill(root.join(file), 10_000, n as u64);
        if n % 2 == 0 {
            fsnap(root.join(file), "create", "s").unwrap();
            let snapshot = format!("d/.fsnap/user{n}@host@s");
            files.0.insert(snapshot.clone().into(), checksum(root.join(snapshot)));
        }
    }
    let gone = root.join("d/gone");
    fill(&gone, 10_000, 1);
    fsnap(&gone, "create", "s").unwrap();
    fs::remove_file(&gone).unwrap();
    let told = |what: &str| {
        let logs = fs::read_dir(scene.path("/var/log/glusterfs/bricks")).unwrap();
        let lines = logs.map(|log| {
            let log = String::from_utf8_lossy(&fs::read(log.unwrap().path()).unwrap()).into_owned();
            log.lines().filter(|line| line.contains(what)).count()
        });
        lines.sum::<usize>()
    };
    let risk = "cluster.extra-hash-regex is set and cluster.lookup-optimize is on";
    assert_eq!(told(risk), 0);
    volume.set(OPTION, REGEX);
    // Which brick the name belongs to is not known there any more.
    assert_eq!(fsnap(of_deleted(&root.join("d"), "gone@s"), "restore", "s"), Err(Errno::EOPNOTSUPP));
    assert_eq!(told(risk), 1);
    assert_eq!(told("DHT hashes names in another way than usual"), 1);
    let missing = || {
        let client = stranger(volume);
        named.iter().filter(|file| !client.path().join(file).exists()).count()
    };
    let lost = missing();
    assert!(lost > 0 && lost < named.len(), "{lost}");
    // Of snapshots none.
    files.are_found(volume, "d");
    volume.set("cluster.lookup-optimize", "off");
    assert_eq!(missing(), 0);
    volume.set("cluster.lookup-optimize", "on");
    volume.rebalance(&["force"]);
    assert_eq!(missing(), 0);
    files.are_found(volume, "d");
    sound(volume);
}

/// What DHT looks for in one place alone, as docs/semantics.md tells it, until it has seen that some are elsewhere.
#[test]
fn lookup_unhashed_auto_finds_them_after_a_listing() {
    let setup = volume(VolumeType::Distribute, 3, DISK, |volume| {
        volume.option("cluster.lookup-optimize", "off").option("cluster.lookup-unhashed", "auto")
    });
    let Setup { mount, volume, .. } = &setup;
    let files = Files::new(&mount.path(), "d");
    let missing = |client: &Mount| files.0.keys().filter(|path| !client.path().join(path).exists()).count();
    let lost = missing(&stranger(volume));
    assert!(lost > 0 && lost < files.0.len(), "{lost}");
    let client = stranger(volume);
    common::ls(client.path().join("d/.fsnap"));
    assert_eq!(missing(&client), 0);
}
