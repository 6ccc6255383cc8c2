//! The groups of options that GlusterFS has (`gluster volume set VOL group NAME`): what was done by way of one mount another shows within
//! the two seconds of docs/semantics.md, whatever it has cached, and that it was not there as well.
#![allow(missing_docs)]

mod common;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::stage::Stage;
use common::{MIB, fsnap, ls, of_deleted, volume};
use fsnap_testbed::{Errno, Mount, VolumeBuilder, VolumeType, checksum, fill, try_checksum};

const LAYOUTS: [(VolumeType, usize); 2] = [(VolumeType::Distribute, 2), (VolumeType::Replicate(3), 3)];

/// What docs/semantics.md promises, and what a busy machine may add.
const SOON: Duration = Duration::from_secs(2);
const BUSY: Duration = Duration::from_millis(1500);

/// A volume with a group of options, and a second mount.
struct Two {
    stage: Stage,
    other: Mount,
}

impl Two {
    fn new(layout: VolumeType, bricks: usize, group: &str) -> Two {
        println!("{layout:?} {group}");
        // As it comes with GlusterFS. Set one by one before there is a mount, so that none has to get another graph.
        let options = fs::read_to_string(Path::new("/var/lib/glusterd/groups").join(group)).unwrap();
        let with = |builder| {
            let options = options.lines().filter_map(|line| line.split_once('='));
            options.fold(builder, |builder: VolumeBuilder, (name, value)| builder.option(name, value))
        };
        let stage = Stage::new(volume(layout, bricks, 1024 * MIB, with));
        let other = stage.0.volume.mount("/run/scene/other");
        Two { stage, other }
    }

    fn mounts(&self) -> [PathBuf; 2] {
        [self.stage.0.mount.path(), self.other.path()]
    }

    /// Both mounts show it soon.
    #[track_caller]
    fn both_show(&self, what: &str, shows: impl Fn(&Path) -> bool) {
        let begun = Instant::now();
        for mount in self.mounts() {
            while !shows(&mount) {
                // Not listed before: that would keep alive what is known of the files.
                let since = begun.elapsed();
                assert!(
                    since < SOON + BUSY,
                    "{what}: not on {} after {since:?}; there is {:?}",
                    mount.display(),
                    ls(mount.join("d/.fsnap"))
                );
                std::thread::sleep(Duration::from_millis(100));
            }
        }
        println!("    {what}: {:?}", begun.elapsed());
    }

    /// Both mounts read it.
    fn read(&self, name: &str) -> [u64; 2] {
        self.mounts().map(|mount| checksum(mount.join("d").join(name)))
    }

    /// Both mounts look at it, as somebody does who knows what he will find.
    fn look(&self, name: &str) {
        for mount in self.mounts() {
            let _ = fs::metadata(mount.join("d/.fsnap").join(name));
            let _ = try_checksum(mount.join("d/.fsnap").join(name));
        }
    }
}

fn is_there(path: PathBuf) -> bool {
    path.try_exists().is_ok_and(|there| there)
}

fn comes_and_goes(group: &str) {
    for (layout, bricks) in LAYOUTS {
        let two = Two::new(layout, bricks, group);
        let stage = &two.stage;
        let dir = stage.file("d");
        fs::create_dir(&dir).unwrap();
        let content = |n: u64| {
            fill(dir.join("f"), 100_000 + 1000 * n, n);
            checksum(dir.join("f"))
        };
        let first = content(1);
        // That there is none is known to both, and that there is no .fsnap.
        two.look("f@nightly");
        stage.ok(["create", "d/f", "--name", "nightly"]);
        two.both_show("it comes", |mount| {
            try_checksum(mount.join("d/.fsnap/f@nightly")).is_ok_and(|sum| sum == first)
        });
        two.look("f@second");
        stage.ok(["create", "d/f", "--name", "second"]);
        two.both_show("a second one comes", |mount| is_there(mount.join("d/.fsnap/f@second")));
        // A fixed name.
        for n in 2..5 {
            let sum = content(n);
            stage.ok(["delete", "d/f@nightly"]);
            if n % 2 == 0 {
                two.both_show("it goes", |mount| !is_there(mount.join("d/.fsnap/f@nightly")));
            }
            stage.ok(["create", "d/f", "--name", "nightly"]);
            two.both_show("its name has another", |mount| {
                try_checksum(mount.join("d/.fsnap/f@nightly")).is_ok_and(|shown| shown == sum)
            });
        }
        // Who may read the file.
        for mode in [0o600, 0o644] {
            fs::set_permissions(dir.join("f"), fs::Permissions::from_mode(mode)).unwrap();
            two.both_show("its rights follow", |mount| {
                let shown = fs::metadata(mount.join("d/.fsnap/f@nightly"));
                shown.is_ok_and(|shown| shown.permissions().mode() & 0o777 == mode & 0o444)
            });
        }
        two.look("g@nightly");
        fs::rename(dir.join("f"), dir.join("g")).unwrap();
        two.both_show("they follow", |mount| {
            let snaps = mount.join("d/.fsnap");
            // The former name first: who looks at the new one keeps the former one alive, as after any rename on another mount.
            !is_there(snaps.join("f@second"))
                && is_there(snaps.join("g@nightly"))
                && is_there(snaps.join("g@second"))
        });
        // A restore, as of which each mount has read the file before.
        for name in ["second", "nightly"] {
            two.read("g");
            stage.restore("d/g", name);
            let sum = checksum(dir.join(".fsnap").join(format!("g@{name}")));
            assert_eq!(checksum(dir.join("g")), sum, "the mount that it was asked on");
            two.both_show("it is restored", |mount| {
                try_checksum(mount.join("d/g")).is_ok_and(|shown| shown == sum)
            });
        }
        if layout == VolumeType::Distribute {
            two.read("g");
            fsnap(dir.join("g"), "restore", "second").unwrap();
            let sum = checksum(dir.join(".fsnap/g@second"));
            two.both_show("it is restored by setfattr", |mount| {
                try_checksum(mount.join("d/g")).is_ok_and(|shown| shown == sum)
            });
        }
        let sum = checksum(dir.join(".fsnap/g@second"));
        fs::remove_file(two.other.path().join("d/g")).unwrap();
        two.both_show("it is deleted", |mount| {
            !is_there(mount.join("d/g"))
                && !is_there(mount.join("d/.fsnap/g@second"))
                && ls(mount.join("d/.fsnap")).iter().any(|name| name.starts_with("g@second@"))
        });
        let gone = of_deleted(&dir, "g@second");
        if layout == VolumeType::Distribute && group == "samba" {
            fsnap(&gone, "restore", "second").unwrap();
        } else {
            let gone = Path::new("d/.fsnap").join(gone.file_name().unwrap());
            stage.ok([OsStr::new("restore"), "--yes".as_ref(), gone.as_ref()]);
        }
        two.both_show("it is back", |mount| {
            is_there(mount.join("d/.fsnap/g@second"))
                && try_checksum(mount.join("d/g")).is_ok_and(|shown| shown == sum)
        });
    }
}

#[test]
fn nl_cache() {
    comes_and_goes("nl-cache");
}

#[test]
fn samba() {
    comes_and_goes("samba");
}

#[test]
fn metadata_cache() {
    comes_and_goes("metadata-cache");
}

#[test]
fn db_workload() {
    comes_and_goes("db-workload");
}

/// They switch sharding on, and what is sharded is refused.
#[test]
fn virtual_machines() {
    let [distribute, replicate] = LAYOUTS;
    for (group, (layout, bricks)) in
        [("virt", replicate), ("distributed-virt", replicate), ("distributed-virt", distribute)]
    {
        let two = Two::new(layout, bricks, group);
        let file = two.stage.file("vm.img");
        fill(&file, MIB, 1);
        let sum = checksum(&file);
        assert_eq!(fsnap(&file, "create", "a"), Err(Errno::EOPNOTSUPP));
        two.stage.refused(["create", "vm.img"], "sharded");
        assert_eq!(checksum(&file), sum);
    }
}
