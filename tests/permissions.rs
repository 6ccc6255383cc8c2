//! Ordinary users: the owner commands, a reader looks, a stranger can do nothing.
#![allow(missing_docs)]

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::time::Duration;

use common::{MIB, Setup, distribute, fsnap, names, sees};
use fsnap_testbed::{VolumeBuilder, VolumeType, checksum, fill, getx, run, setx, wait_until};

const OWNER: u32 = 4001;
const READER: u32 = 4002;
const STRANGER: u32 = 4003;
/// The group of the owner and the reader.
const GROUP: u32 = 4000;

struct User<'a>(&'a Setup, u32, u32);

impl User<'_> {
    fn run(&self, program: &str, args: &[&str]) -> Result<String, String> {
        let output = self.0.scene.command_as(self.1, self.2, program).args(args).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    fn set(&self, verb: &str, name: &str) -> Result<String, String> {
        self.run("setfattr", &["-n", &format!("glusterfs.fsnap.{verb}"), "-v", name, "/run/scene/m/home/f"])
    }

    fn get(&self, question: &str) -> Result<String, String> {
        let key = format!("glusterfs.fsnap.{question}");
        self.run("getfattr", &["--absolute-names", "--only-values", "-n", &key, "/run/scene/m/home/f"])
    }

    fn cat(&self, file: &str) -> Result<String, String> {
        self.run("md5sum", &[&format!("/run/scene/m/home/{file}")])
    }
}

#[track_caller]
fn denied<T: std::fmt::Debug>(result: Result<T, String>) {
    let error = result.expect_err("should be denied");
    assert!(error.contains("Permission denied"), "{error}");
}

#[test]
fn owner_reader_stranger() {
    let setup = distribute(2);
    let home = setup.mount.path().join("home");
    fs::create_dir(&home).unwrap();
    fs::set_permissions(&home, fs::Permissions::from_mode(0o755)).unwrap();
    let file = home.join("f");
    fill(&file, MIB, 1);
    chown(&home, Some(OWNER), Some(GROUP)).unwrap();
    chown(&file, Some(OWNER), Some(GROUP)).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    let sum = checksum(&file);
    let (owner, reader, stranger) =
        (User(&setup, OWNER, GROUP), User(&setup, READER, GROUP), User(&setup, STRANGER, STRANGER));

    owner.set("create", "a").unwrap();
    owner.set("create", "b").unwrap();
    owner.set("delete", "b").unwrap();
    assert!(owner.get("list").unwrap().contains("\"name\":\"a\""));
    owner.cat(".fsnap/f@a").unwrap();
    fill(&file, MIB, 2);
    owner.set("restore", "a").unwrap();
    sees(&file, sum);

    assert!(reader.get("list").unwrap().contains("\"name\":\"a\""));
    reader.get("info.a").unwrap();
    reader.cat(".fsnap/f@a").unwrap();
    for (verb, name) in [("create", "c"), ("delete", "a"), ("restore", "a"), ("hold", "a")] {
        denied(reader.set(verb, name));
    }

    for (verb, name) in [("create", "c"), ("delete", "a"), ("restore", "a"), ("hold", "a")] {
        denied(stranger.set(verb, name));
    }
    denied(stranger.get("list"));
    denied(stranger.get("info.a"));
    denied(stranger.cat(".fsnap/f@a"));
    assert_eq!(names(&file), ["a"]);
    assert_eq!(checksum(&file), sum);
}

#[test]
fn a_group_that_may_write_may_restore() {
    let setup = distribute(1);
    let home = setup.mount.path().join("home");
    fs::create_dir(&home).unwrap();
    let file = home.join("f");
    fill(&file, MIB, 1);
    chown(&file, Some(OWNER), Some(GROUP)).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o660)).unwrap();
    let sum = checksum(&file);
    fsnap(&file, "create", "a").unwrap();
    fill(&file, 2 * MIB, 2);
    let before = fs::metadata(&file).unwrap().modified().unwrap();
    User(&setup, READER, GROUP).set("restore", "a").unwrap();
    sees(&file, sum);
    let meta = fs::metadata(&file).unwrap();
    assert!(meta.modified().unwrap() > before, "caches elsewhere learn of a restore by the mtime");
    assert_eq!(meta.permissions().mode() & 0o7777, 0o660);
}

#[test]
fn who_may_not_list_a_directory_may_not_list_its_snapshots() {
    let setup = distribute(1);
    let home = setup.mount.path().join("home");
    fs::create_dir(&home).unwrap();
    fill(home.join("f"), 1000, 1);
    fsnap(home.join("f"), "create", "a").unwrap();
    chown(&home, Some(OWNER), Some(GROUP)).unwrap();
    fs::set_permissions(&home, fs::Permissions::from_mode(0o711)).unwrap();
    assert_eq!(User(&setup, OWNER, GROUP).run("ls", &["/run/scene/m/home/.fsnap"]).unwrap(), "f@a\n");
    denied(User(&setup, STRANGER, STRANGER).run("ls", &["/run/scene/m/home/.fsnap"]));
}

/// Whoever may not read the file may not read its snapshots, from the moment on that he may not.
#[test]
fn snapshots_follow_the_rights_of_their_file() {
    let setup = distribute(1);
    let (home, below) = (setup.mount.path().join("home"), setup.volume.brick_path(0).join("home/.fsnap"));
    fs::create_dir(&home).unwrap();
    fs::create_dir(home.join("elsewhere")).unwrap();
    let file = home.join("f");
    fill(&file, MIB, 1);
    chown(&file, Some(OWNER), Some(GROUP)).unwrap();
    let mode = |mode| fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
    mode(0o644);
    fsnap(&file, "create", "a").unwrap();
    fsnap(&file, "create", "b").unwrap();
    let (owner, reader) = (User(&setup, OWNER, GROUP), User(&setup, READER, GROUP));
    // Who has not looked yet is denied at once, others when their caches have looked again.
    let fresh = setup.volume.mount("/run/scene/fresh");
    let cat_there = |who: &User<'_>| who.run("md5sum", &["/run/scene/fresh/home/.fsnap/f@a"]);
    let is = |mode: u32, uid: u32| {
        for name in ["f@a", "f@b"] {
            let meta = fs::metadata(below.join(name)).unwrap();
            assert_eq!((meta.mode() & 0o7777, meta.uid()), (mode, uid), "{name} on the brick");
        }
    };
    reader.cat(".fsnap/f@a").unwrap();

    mode(0o600);
    is(0o400, OWNER);
    denied(cat_there(&reader));
    std::thread::sleep(Duration::from_secs(2));
    denied(reader.cat(".fsnap/f@a"));
    owner.cat(".fsnap/f@a").unwrap();
    chown(&file, Some(STRANGER), Some(STRANGER)).unwrap();
    is(0o400, STRANGER);
    std::thread::sleep(Duration::from_secs(2));
    denied(owner.cat(".fsnap/f@a"));
    User(&setup, STRANGER, STRANGER).cat(".fsnap/f@b").unwrap();
    // By another of its names, and by who has it open.
    fs::hard_link(&file, home.join("elsewhere/g")).unwrap();
    fs::set_permissions(home.join("elsewhere/g"), fs::Permissions::from_mode(0o644)).unwrap();
    is(0o444, STRANGER);
    fs::File::open(&file).unwrap().set_permissions(fs::Permissions::from_mode(0o640)).unwrap();
    is(0o440, STRANGER);
    chown(&file, Some(OWNER), Some(STRANGER)).unwrap();

    // By ACL, and its end.
    let acl = setup.volume.mount_with("/run/scene/acl", &["--acl"]);
    let setfacl = |args: &[&str]| {
        run(setup.scene.command("setfacl").args(args).arg("/run/scene/acl/home/f"));
    };
    let cat = |who: &User<'_>| who.run("md5sum", &["/run/scene/acl/home/.fsnap/f@a"]);
    setfacl(&["-m", &format!("u:{READER}:r")]);
    std::thread::sleep(Duration::from_secs(2));
    cat(&reader).unwrap();
    setfacl(&["-x", &format!("u:{READER}")]);
    std::thread::sleep(Duration::from_secs(2));
    denied(cat(&reader));
    drop(acl);

    // What a crash has left otherwise is right before anybody sees it.
    std::thread::sleep(Duration::from_secs(2));
    fs::set_permissions(below.join("f@a"), fs::Permissions::from_mode(0o444)).unwrap();
    denied(reader.cat(".fsnap/f@a"));
    is(0o440, OWNER);
    drop(fresh);
}

/// Where a brick has missed the change, heal brings it, to the file and to its snapshots.
#[test]
fn rights_are_healed() {
    for kind in [VolumeType::Replicate(3), VolumeType::Disperse { data: 2, redundancy: 1 }] {
        let setup = common::volume(kind, 3, 1024 * MIB, |volume| volume);
        let file = setup.mount.path().join("f");
        fill(&file, MIB, 1);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        setx(&file, "trusted.glusterfs.selinux", "some_label").unwrap();
        fsnap(&file, "create", "a").unwrap();
        setup.volume.kill_brick(0);
        setup.mount.wait_connected(2);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        setx(&file, "trusted.glusterfs.selinux", "another").unwrap();
        setup.volume.restart_brick(0);
        setup.mount.wait_connected(3);
        setup.volume.await_healed(Duration::from_secs(60));
        for n in 0..3 {
            let snapshot = setup.volume.brick_path(n).join(".fsnap/f@a");
            wait_until("the rights are healed", Duration::from_secs(20), || {
                fs::metadata(&snapshot).is_ok_and(|meta| meta.mode() & 0o7777 == 0o400)
            });
            assert_eq!(
                getx(&snapshot, "trusted.glusterfs.selinux").unwrap(),
                b"another",
                "brick {n}, {kind:?}"
            );
        }
        common::sound(&setup.volume);
    }
}

/// Who owned a file that was deleted looks after its snapshots, and brings it back where he may make files. Nobody else does.
#[test]
fn the_owner_has_the_snapshots_of_what_was_deleted() {
    for (kind, bricks) in [(VolumeType::Distribute, 2), (VolumeType::Replicate(3), 3)] {
        let setup = common::volume(kind, bricks, 1024 * MIB, |volume| volume);
        let home = setup.mount.path().join("home");
        fs::create_dir(&home).unwrap();
        chown(&home, Some(OWNER), Some(GROUP)).unwrap();
        let (owner, reader) = (User(&setup, OWNER, GROUP), User(&setup, READER, GROUP));
        let stranger = User(&setup, STRANGER, STRANGER);
        owner.run("sh", &["-c", "echo content >/run/scene/m/home/f; chmod 640 /run/scene/m/home/f"]).unwrap();
        let sum = checksum(home.join("f"));
        for name in ["a", "b", "c"] {
            owner.set("create", name).unwrap();
        }
        owner.run("rm", &["/run/scene/m/home/f"]).unwrap();
        // What was known of a name before the file was deleted is forgotten by then.
        std::thread::sleep(Duration::from_secs(2));
        let path = |name: &str| format!("/run/scene/m/home/.fsnap/{name}");
        let listed = owner.run("ls", &[&path("")]).unwrap();
        let kept: Vec<&str> = listed.lines().collect();
        assert_eq!(kept.len(), 3, "{kept:?}");
        let on = |who: &User<'_>, verb: &str, n: usize, name: &str| {
            who.run("setfattr", &["-n", &format!("glusterfs.fsnap.{verb}"), "-v", name, &path(kept[n])])
        };
        for who in [&reader, &stranger] {
            for verb in ["delete", "restore", "hold"] {
                denied(on(who, verb, 0, "a"));
            }
        }
        reader.run("cat", &[&path(kept[1])]).unwrap();
        denied(stranger.run("cat", &[&path(kept[1])]));
        owner.run("cat", &[&path(kept[1])]).unwrap();
        // The right to write is good for nothing else.
        let text = owner.run("sh", &["-c", &format!(": >{}", path(kept[1]))]).unwrap_err();
        assert!(text.contains("Read-only file system"), "{text}");
        on(&owner, "hold", 1, "b").unwrap();
        on(&owner, "release", 1, "b").unwrap();
        on(&owner, "delete", 0, "a").unwrap();
        if kind != VolumeType::Distribute {
            for (n, name) in [(1, "b"), (2, "c")] {
                on(&owner, "delete", n, name).unwrap();
            }
            assert_eq!(owner.run("ls", &[&path("")]).unwrap(), "");
            owner.run("rmdir", &["/run/scene/m/home"]).unwrap_err();
            continue;
        }
        // Where he may not make files he does not bring one back.
        chown(&home, Some(0), Some(0)).unwrap();
        std::thread::sleep(Duration::from_secs(2));
        denied(on(&owner, "restore", 1, "b"));
        chown(&home, Some(OWNER), Some(GROUP)).unwrap();
        std::thread::sleep(Duration::from_secs(2));
        on(&owner, "restore", 1, "b").unwrap();
        sees(home.join("f"), sum);
        assert_eq!(names(home.join("f")), ["b", "c"]);
        let mode = |name: &str| {
            let there = (0..bricks).map(|n| setup.volume.brick_path(n).join("home/.fsnap").join(name));
            there
                .filter_map(|path| fs::metadata(path).ok())
                .map(|meta| meta.mode() & 0o7777)
                .collect::<Vec<_>>()
        };
        assert_eq!((mode("f@b"), mode("f@c")), (vec![0o440], vec![0o440]), "it is the file's again");
        common::sound(&setup.volume);
    }
}

/// A tree of one's own goes with `rm -rf`, also where the files in it had snapshots, and nothing is lost by that.
#[test]
fn what_is_kept_of_a_tree_is_its_owners() {
    let set = [
        (VolumeType::Distribute, 1),
        (VolumeType::Distribute, 3),
        (VolumeType::Replicate(3), 3),
        (VolumeType::Disperse { data: 2, redundancy: 1 }, 6),
    ];
    for (kind, bricks) in set {
        println!("{kind:?} {bricks}");
        let squash = |volume: VolumeBuilder| volume.option("server.root-squash", "on");
        // Of every volume but one root is nobody there as well.
        let setup = match kind {
            VolumeType::Disperse { .. } => common::volume(kind, bricks, 1024 * MIB, |volume| volume),
            _ => common::volume(kind, bricks, 1024 * MIB, squash),
        };
        for n in 0..bricks {
            fs::set_permissions(setup.volume.brick_path(n), fs::Permissions::from_mode(0o1777)).unwrap();
        }
        let (owner, reader) = (User(&setup, OWNER, GROUP), User(&setup, READER, GROUP));
        let root = "/run/scene/m";
        owner
            .run(
                "sh",
                &[
                    "-c",
                    "cd /run/scene/m; mkdir -p home/private/d; chmod 755 home; chmod 700 home/private
                    for file in home/f home/private/d/f home/private/d/g; do
                        echo $file >$file; chmod 644 $file
                        setfattr -n glusterfs.fsnap.create -v a $file; echo more >>$file
                    done",
                ],
            )
            .unwrap();
        let below = |dir: &str| format!("{root}/{dir}/.fsnap");
        let ls = |who: &User<'_>, dir: &str| who.run("ls", &["-1", &below(dir)]);
        // In its own directory what was deleted can be read by who could read the file.
        owner.run("rm", &["-rf", "/run/scene/m/home/private"]).unwrap();
        owner.run("test", &["!", "-e", "/run/scene/m/home/private"]).unwrap();
        let kept = ls(&owner, "home").unwrap();
        let kept: Vec<&str> = kept.lines().filter(|name| *name != "f@a").collect();
        assert_eq!(kept.len(), 2, "{kept:?}");
        for (name, path) in kept.iter().zip(["home/private/d/f", "home/private/d/g"]) {
            assert!(
                name.starts_with(&format!("{}@a@~", path["home/".len()..].replace('/', "%2F"))),
                "{name}"
            );
            assert_eq!(
                owner.run("cat", &[&format!("{}/{name}", below("home"))]).unwrap(),
                format!("{path}\n")
            );
        }
        // Who could not look into the directory sees neither names nor contents now.
        assert_eq!(ls(&reader, "home").unwrap(), "f@a\n");
        let path = format!("{}/{}", below("home"), kept[0]);
        std::thread::sleep(Duration::from_secs(2));
        for command in ["cat", "setfattr -n glusterfs.fsnap.delete -v a", "getfattr -n glusterfs.fsnap.list"]
        {
            let error = reader.run("sh", &["-c", &format!("{command} '{path}'")]).unwrap_err();
            assert!(error.contains("No such file") || error.contains("Permission denied"), "{error}");
        }

        owner.run("rm", &["-rf", "/run/scene/m/home"]).unwrap();
        let kept = ls(&owner, "").unwrap();
        assert_eq!(kept.lines().count(), 3, "{kept}");
        assert_eq!(ls(&reader, "").unwrap(), "");
        for name in kept.lines() {
            let path = format!("{}/{name}", below(""));
            owner.run("setfattr", &["-n", "glusterfs.fsnap.delete", "-v", "a", &path]).unwrap();
        }
        assert_eq!(ls(&owner, "").unwrap(), "");
        for n in 0..bricks {
            assert!(!setup.volume.brick_path(n).join("home").exists(), "brick {n}");
        }
        common::sound(&setup.volume);
    }
}
