//! A restore is a change of content: whoever forbids those forbids it, by setfattr and by the command alike, and what a write by
//! somebody takes from a file it takes as well.
#![allow(missing_docs)]

mod common;

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::time::Duration;

use common::stage::Stage;
use common::{MIB, Setup, fsnap, names, sees, volume};
use fsnap_testbed::{Errno, VolumeType, checksum, fill, getx, setx, wait_until};
use nix::fcntl::{FcntlArg, fcntl};

/// Until an option has reached the bricks.
const WITHIN: Duration = Duration::from_secs(20);

const REPLICA: VolumeType = VolumeType::Replicate(3);
const KINDS: [(VolumeType, usize); 3] =
    [(VolumeType::Distribute, 1), (REPLICA, 3), (VolumeType::Disperse { data: 2, redundancy: 1 }, 3)];

/// A file `f` that is not what its snapshot `s` is.
struct Scene {
    stage: Stage,
    layout: VolumeType,
    sum: u64,
    snapshot: u64,
}

fn scene(layout: VolumeType, bricks: usize, options: &[(&str, &str)]) -> Scene {
    let stage = Stage::new(volume(layout, bricks, 512 * MIB, |volume| {
        options.iter().fold(volume, |volume, (name, value)| volume.option(name, value))
    }));
    let file = stage.file("f");
    fill(&file, MIB, 1);
    let snapshot = checksum(&file);
    stage.ok(["create", "f", "--name", "s"]);
    fill(&file, MIB + 5, 2);
    Scene { sum: checksum(&file), stage, layout, snapshot }
}

impl Scene {
    /// Neither way does anything, and both say why.
    #[track_caller]
    fn is_forbidden(&self, errno: Errno, part: &str) {
        let file = self.stage.file("f");
        match self.layout {
            VolumeType::Distribute => assert_eq!(fsnap(&file, "restore", "s"), Err(errno), "setfattr"),
            _ => assert_eq!(fsnap(&file, "restore", "s"), Err(Errno::EOPNOTSUPP), "setfattr"),
        }
        self.stage.refused(["restore", "f@s", "--yes"], part);
        self.stage.refused(["restore", "f@s", "--yes", "--no-backup"], part);
        assert_eq!(checksum(&file), self.sum, "{:?}", self.layout);
        assert_eq!(names(&file), ["s"], "no backup is left");
        // On the bricks nothing is left of it either, and what could be done before can be done.
        let armed = (0..self.stage.0.volume.bricks().len())
            .map(|n| self.stage.0.volume.brick_path(n).join(".glusterfs/fsnap/armed"));
        for dir in armed {
            assert_eq!(fs::read_dir(&dir).unwrap().count(), 0, "{}", dir.display());
        }
    }

    #[track_caller]
    fn is_allowed(&self) {
        self.stage.restore("f", "s");
        sees(self.stage.file("f"), self.snapshot);
    }
}

#[test]
fn a_volume_that_is_write_once() {
    for (layout, bricks) in KINDS {
        let scene = scene(layout, bricks, &[]);
        fill(scene.stage.file("other"), 1, 3);
        let volume = &scene.stage.0.volume;
        volume.set("features.worm", "on");
        let other = scene.stage.file("other");
        let written = || File::options().write(true).open(&other).and_then(|file| file.set_len(1));
        wait_until("the volume is write-once", WITHIN, || written().is_err());
        scene.is_forbidden(Errno::EROFS, "write-once");
        volume.set("features.worm", "off");
        wait_until("it is not any more", WITHIN, || written().is_ok());
        scene.is_allowed();
    }
}

#[test]
fn a_file_that_is_retained() {
    // GlusterFS 10.3 retains none on a disperse volume.
    for (layout, bricks) in [KINDS[0], KINDS[1]] {
        let scene = scene(layout, bricks, &[("features.worm-file-level", "on")]);
        let file = scene.stage.file("f");
        fs::set_permissions(&file, Permissions::from_mode(0o444)).unwrap();
        let written = File::options().write(true).open(&file).and_then(|file| file.set_len(0));
        assert_eq!(written.map_err(|e| e.raw_os_error()), Err(Some(libc::EROFS)), "{layout:?}: retained");
        scene.is_forbidden(Errno::EROFS, "write-once");
        // Others are not.
        let other = scene.stage.file("other");
        fill(&other, MIB, 3);
        let sum = checksum(&other);
        scene.stage.ok(["create", "other", "--name", "s"]);
        fill(&other, MIB, 4);
        scene.stage.restore("other", "s");
        sees(&other, sum);
    }
}

#[test]
fn a_file_under_a_mandatory_lock() {
    for (layout, bricks) in KINDS {
        let scene = scene(layout, bricks, &[("locks.mandatory-locking", "forced")]);
        let other = scene.stage.0.volume.mount("/run/scene/other");
        let held = File::options().read(true).write(true).open(other.path().join("f")).unwrap();
        // The first bytes only: a restore changes all.
        let lock = libc::flock {
            l_type: libc::F_WRLCK as i16,
            l_whence: libc::SEEK_SET as i16,
            l_start: 0,
            l_len: 10,
            l_pid: 0,
        };
        fcntl(&held, FcntlArg::F_SETLK(&lock)).unwrap();
        scene.is_forbidden(Errno::EBUSY, "mandatory lock");
        drop(held);
        scene.is_allowed();
    }
}

/// Those that have nothing against it do not stand in its way.
#[test]
fn nobody_forbids_it() {
    for (layout, bricks) in KINDS {
        let options = [
            ("features.leases", "on"),
            ("features.sdfs", "on"),
            ("features.selinux", "on"),
            ("features.worm-file-level", "on"),
            ("locks.mandatory-locking", "optimal"),
            ("performance.io-thread-count", "1"),
        ];
        let scene = scene(layout, bricks, &options);
        scene.is_allowed();
        if layout == VolumeType::Distribute {
            let file = scene.stage.file("f");
            fill(&file, MIB + 5, 2);
            fsnap(&file, "restore", "s").unwrap();
            sees(&file, scene.snapshot);
            assert_eq!(fsnap(&file, "restore", "none"), Err(Errno::ENODATA));
        }
    }
}

const OWNER: u32 = 4001;
const MEMBER: u32 = 4002;
const GROUP: u32 = 4000;
/// `struct vfs_cap_data`: CAP_NET_RAW, permitted and effective.
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// What runs as somebody else may not be the content that others have made.
#[test]
fn setuid_and_capabilities_go() {
    for (layout, bricks) in KINDS {
        let stage = Stage::new(volume(layout, bricks, 512 * MIB, |volume| volume));
        let Setup { volume, mount, scene, .. } = &stage.0;
        let file = stage.file("f");
        fs::set_permissions(mount.path(), Permissions::from_mode(0o777)).unwrap();
        fill(&file, MIB, 1);
        chown(&file, Some(OWNER), Some(GROUP)).unwrap();
        let arm = |mode| {
            fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
            for n in 0..bricks {
                setx(volume.brick_path(n).join("f"), "security.capability", CAPABILITY).unwrap();
            }
        };
        let seen = |what: &str, mode: u32| {
            for n in 0..bricks {
                let brick = volume.brick_path(n).join("f");
                let found = fs::metadata(&brick).unwrap().mode() & 0o7777;
                assert_eq!(found, mode, "{what}: {found:o} on brick {n} of {layout:?}");
                assert_eq!(getx(&brick, "security.capability"), Err(Errno::ENODATA), "{what}, brick {n}");
            }
            let fresh = volume.mount("/run/scene/fresh");
            let found = fs::metadata(fresh.path().join("f")).unwrap().mode() & 0o7777;
            assert_eq!(found, mode, "{what}: {found:o} by a mount of {layout:?}");
        };
        let as_member = |args: &[&str]| {
            let said = stage.fsnap_as(MEMBER, GROUP, "/run/scene/m", args);
            assert!(said.code == 0, "{}", said.err);
        };
        let set_as_member = |verb: &str| {
            let mut command = scene.command_as(MEMBER, GROUP, "setfattr");
            command.args(["-n", &format!("glusterfs.fsnap.{verb}"), "-v", "t", "/run/scene/m/f"]);
            fsnap_testbed::run(&mut command);
        };

        // He takes a snapshot of what he has written, the owner makes it a program of his, he restores.
        arm(0o6770);
        as_member(&["create", "f", "--name", "s"]);
        as_member(&["restore", "f@s", "--yes", "--no-backup"]);
        seen("fsnap restore", 0o770);
        if layout == VolumeType::Distribute {
            set_as_member("create");
            arm(0o6770);
            set_as_member("restore");
            seen("setfattr", 0o770);
        }
        // A mark for mandatory locks is none of a program.
        arm(0o2660);
        as_member(&["restore", "f@s", "--yes", "--no-backup"]);
        seen("a member", 0o2660);
        // Root may have set them.
        arm(0o6770);
        stage.restore("f", "s");
        seen("root", 0o6770);
    }
}

/// A brick that was away does not bring them back to the others.
#[test]
fn setuid_does_not_come_back_with_a_brick() {
    let stage = Stage::new(volume(REPLICA, 3, 512 * MIB, |volume| volume));
    let Setup { volume, mount, .. } = &stage.0;
    let file = stage.file("f");
    fill(&file, MIB, 1);
    chown(&file, Some(OWNER), Some(GROUP)).unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o6770)).unwrap();
    stage.ok(["create", "f", "--name", "s"]);
    // The first: who has nothing against any of them takes what that one has.
    volume.kill_brick(0);
    mount.wait_connected(2);
    let said = stage.fsnap_as(MEMBER, GROUP, "/run/scene/m", ["restore", "f@s", "--yes", "--no-backup"]);
    assert!(said.code == 0, "{}", said.err);
    volume.restart_brick(0);
    mount.wait_connected(3);
    common::agree::converges(volume, REPLICA);
    for n in 0..3 {
        let mode = fs::metadata(volume.brick_path(n).join("f")).unwrap().mode() & 0o7777;
        assert_eq!(mode, 0o770, "{mode:o} on brick {n}");
    }
}
