//! How many instructions each fop costs in a process that has the whole graph (FUSE, fsnap, storage/posix), and how many of them are of the
//! translator's own library. By callgrind.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use fsnap_testbed::{Fs, Scene, VOLFILE_FSNAP, getx, listx, removex, setx};

use super::{MIB, fsnap};

/// What is done to the file of a number.
type Act = fn(&Path, usize);

/// Each finds what those before it have left.
const FOPS: [(&str, Act); 17] = [
    ("mkdir", |dir, n| fs::create_dir(dir.join(format!("d{n}"))).unwrap()),
    ("create", |dir, n| drop(File::create(file(dir, n)).unwrap())),
    ("write", |dir, n| open(dir, n).write_all_at(&[7; 4096], 0).unwrap()),
    ("ftruncate", |dir, n| open(dir, n).set_len(5000).unwrap()),
    ("truncate", |dir, n| nix::unistd::truncate(&file(dir, n), 6000).unwrap()),
    ("setattr", |dir, n| fs::set_permissions(file(dir, n), fs::Permissions::from_mode(0o640)).unwrap()),
    ("setxattr", |dir, n| setx(file(dir, n), "user.colour", "red").unwrap()),
    ("getxattr", |dir, n| drop(getx(file(dir, n), "user.colour").unwrap())),
    ("listxattr", |dir, n| drop(listx(file(dir, n)).unwrap())),
    ("removexattr", |dir, n| removex(file(dir, n), "user.colour").unwrap()),
    ("lookup", |dir, n| drop(fs::metadata(dir.join(format!("none{n}"))).unwrap_err())),
    ("open, read", |dir, n| drop(fs::read(file(dir, n)).unwrap())),
    ("opendir, readdir", |dir, n| assert_eq!(fs::read_dir(dir.join(format!("d{n}"))).unwrap().count(), 0)),
    ("link", |dir, n| fs::hard_link(file(dir, n), dir.join(format!("l{n}"))).unwrap()),
    ("rename", |dir, n| fs::rename(dir.join(format!("l{n}")), dir.join(format!("m{n}"))).unwrap()),
    ("unlink", |dir, n| fs::remove_file(dir.join(format!("m{n}"))).unwrap()),
    ("rmdir", |dir, n| fs::remove_dir(dir.join(format!("d{n}"))).unwrap()),
];

fn file(dir: &Path, n: usize) -> std::path::PathBuf {
    dir.join(format!("f{n}"))
}

fn open(dir: &Path, n: usize) -> File {
    OpenOptions::new().write(true).open(file(dir, n)).unwrap()
}

/// Instructions of one fop.
#[derive(Clone, Copy)]
pub struct Costs {
    /// Of all.
    pub all: u64,
    /// Of our library alone.
    pub own: u64,
}

/// The costs of each fop, without snapshots on the brick and where other files have some: the least of so many `rounds` of `count` of
/// each. What is done now and then beside is in none of them, or in all.
pub fn measure(count: usize, rounds: usize) -> Vec<(&'static str, [Costs; 2])> {
    let scene = super::scene_with_fsnap();
    let _disk = scene.disk(Fs::Xfs, 1024 * MIB, "/run/scene/b1");
    let tool = [
        "valgrind",
        "--tool=callgrind",
        "--callgrind-out-file=/run/scene/out",
        "--dump-before=default_statfs",
    ];
    let mount = scene.mount_volfile_under(&tool, VOLFILE_FSNAP, "/run/scene/b1/brick", "/run/scene/m");
    let none = Costs { all: u64::MAX, own: u64::MAX };
    let mut measured: Vec<_> = FOPS.iter().map(|(name, _)| (*name, [none; 2])).collect();
    for state in 0..2 {
        let dir = mount.path().join(["a", "b"][state]);
        fs::create_dir(&dir).unwrap();
        if state == 1 {
            for n in 0..5 {
                fs::write(dir.join(format!("s{n}")), "x").unwrap();
                fsnap(dir.join(format!("s{n}")), "create", "s").unwrap();
            }
        }
        for round in 0..rounds {
            for ((_, act), (_, least)) in FOPS.iter().zip(&mut measured) {
                costs_of(&scene, &mount.path(), count);
                (round * count..(round + 1) * count).for_each(|n| act(&dir, n));
                let now = costs_of(&scene, &mount.path(), count);
                let least = &mut least[state];
                *least = Costs { all: least.all.min(now.all), own: least.own.min(now.own) };
            }
        }
    }
    mount.end(Duration::from_secs(60));
    measured
}

/// Costs since the last time, for each of `count`: of all, and of our library alone.
fn costs_of(scene: &Scene, root: &Path, count: usize) -> Costs {
    // Callgrind writes a profile before each statfs that comes to a translator, and begins a new one.
    nix::sys::statvfs::statvfs(root).expect("a mount");
    let dumps = fs::read_dir(scene.path("/run/scene")).unwrap().map(|entry| entry.unwrap().path());
    let dumps = dumps.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("out."));
    let each = dumps.map(|dump| {
        let text = fs::read_to_string(&dump).unwrap();
        fs::remove_file(dump).unwrap();
        costs(&text)
    });
    let (all, own) = each.reduce(|sum, each| (sum.0 + each.0, sum.1 + each.1)).expect("a profile");
    Costs { all: all / count as u64, own: own / count as u64 }
}

/// Of the lines of a callgrind profile: `ob=` says whose those after it are, by number, and at first by name too; the line after
/// `calls=` is what was called.
fn costs(text: &str) -> (u64, u64) {
    let mut objects = text.lines().filter_map(|line| line.split_once("ob=")).map(|(_, object)| object);
    let own_id =
        objects.find(|object| object.ends_with("/fsnap.so")).and_then(|object| object.split(' ').next());
    let (mut all, mut own, mut is_own, mut called) = (0, 0, false, false);
    for line in text.lines() {
        if let Some(object) = line.strip_prefix("ob=") {
            is_own = object.split(' ').next() == own_id;
        } else if line.starts_with("calls=") {
            called = true;
        } else if line.starts_with(|first: char| first.is_ascii_digit() || "+-*".contains(first)) {
            let cost: u64 = line.split(' ').nth(1).and_then(|cost| cost.parse().ok()).unwrap_or(0);
            if !std::mem::take(&mut called) {
                all += cost;
                own += if is_own { cost } else { 0 };
            }
        }
    }
    (all, own)
}
