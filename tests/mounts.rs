//! The command and the mount that it was given: what it may change there, and what that shows afterwards.
#![allow(missing_docs)]

mod common;

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::chown;
use std::path::Path;
use std::time::Duration;

use common::stage::{Stage, fsnap_in, install};
use common::{MIB, ask, distribute, fsnap, names, volume};
use fsnap_testbed::{Cluster, Fs, VolumeType, checksum, fill, run, translator_path, wait_until};

const REPLICA: VolumeType = VolumeType::Replicate(3);
const DISPERSE: VolumeType = VolumeType::Disperse { data: 2, redundancy: 1 };

type Options = &'static [(&'static str, &'static str)];

/// `gluster volume set VOL group metadata-cache`, as far as it has to do with what a client may show.
const METADATA_CACHE: [(&str, &str); 5] = [
    ("features.cache-invalidation", "on"),
    ("features.cache-invalidation-timeout", "600"),
    ("performance.cache-invalidation", "on"),
    ("performance.md-cache-timeout", "600"),
    ("performance.stat-prefetch", "on"),
];

/// All that keeps contents in a client.
const READ_CACHES: [(&str, &str); 4] = [
    ("performance.quick-read", "on"),
    ("performance.io-cache", "on"),
    ("performance.read-ahead", "on"),
    ("performance.cache-size", "64MB"),
];

fn all_of(mut file: &File) -> Vec<u8> {
    let mut bytes = Vec::new();
    std::io::Seek::rewind(&mut file).unwrap();
    file.read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn what_is_restored_is_what_is_read() {
    let volumes: [(VolumeType, usize, Options); 5] = [
        (VolumeType::Distribute, 2, &[]),
        (REPLICA, 3, &[]),
        (DISPERSE, 3, &[]),
        (REPLICA, 3, &READ_CACHES),
        (REPLICA, 3, &METADATA_CACHE),
    ];
    for (layout, bricks, options) in volumes {
        println!("{layout:?} {options:?}");
        let with = |volume| {
            options
                .iter()
                .fold(volume, |volume: fsnap_testbed::VolumeBuilder, (key, value)| volume.option(key, value))
        };
        let stage = Stage::new(volume(layout, bricks, 1024 * MIB, with));
        for size in [100_000, MIB] {
            let file = stage.file(format!("f{size}"));
            let name = format!("f{size}");
            let contents: Vec<_> = (0..2u64)
                .map(|n| {
                    // The one has the size of the other, so that nothing but its time tells.
                    fill(&file, size, n);
                    stage.ok(["create", &name, "--name", &format!("s{n}")]);
                    fs::read(&file).unwrap()
                })
                .collect();
            // Somebody has it open and has read all of it just now.
            let open = File::open(&file).unwrap();
            for round in 0..6 {
                let n = round % 2;
                assert_eq!(all_of(&open), contents[1 - n], "before, round {round}");
                stage.restore(&name, &format!("s{n}"));
                assert!(all_of(&open) == contents[n], "who has it open reads what it was, round {round}");
                assert!(fs::read(&file).unwrap() == contents[n], "round {round}");
                assert_eq!(fs::metadata(&file).unwrap().len(), size);
            }
        }
    }
}

/// By way of a mount that is read-only nothing is changed, also where the command goes around it.
#[test]
fn read_only_mounts() {
    for (layout, bricks) in [(VolumeType::Distribute, 1), (REPLICA, 3)] {
        println!("{layout:?}");
        let stage = Stage::new(volume(layout, bricks, 1024 * MIB, |volume| volume));
        let file = stage.file("f");
        fill(&file, MIB, 1);
        fsnap(&file, "create", "a").unwrap();
        fill(&file, MIB, 2);
        let (sum, scene) = (checksum(&file), &stage.0.scene);
        fs::create_dir(stage.file("d")).unwrap();
        fill(stage.file("d/gone"), MIB, 3);
        fsnap(stage.file("d/gone"), "create", "a").unwrap();
        fs::remove_file(stage.file("d/gone")).unwrap();
        let gone = common::of_deleted(&stage.file("d"), "gone@a");
        let gone = gone.file_name().unwrap().to_str().unwrap().to_owned();

        let _whole = stage.0.volume.mount_with("/run/scene/ro", &["--read-only"]);
        fs::create_dir(scene.path("/run/scene/bind")).unwrap();
        run(scene.command("mount").args(["--bind", "/run/scene/m", "/run/scene/bind"]));
        run(scene.command("mount").args(["-o", "remount,bind,ro", "/run/scene/bind"]));
        for mount in ["/run/scene/ro", "/run/scene/bind"] {
            for args in [
                &["create", "f", "--name", "b"][..],
                &["restore", "f@a", "--yes"],
                &["restore", "f@a", "--yes", "--no-backup"],
                &["restore", &format!("d/.fsnap/{gone}"), "--yes"],
                &["delete", "f@a"],
                &["hold", "f@a"],
            ] {
                let said = stage.fsnap_as(0, 0, mount, args);
                assert_eq!(said.code, 1, "{mount}: {args:?}");
                assert!(said.err.contains("read-only"), "{mount}: {args:?}: {}", said.err);
            }
            let said = stage.fsnap_as(0, 0, mount, ["list", "f"]);
            assert!(said.code == 0 && said.out.contains(" a "), "{}", said.out);
            // Nor from one that may be written to.
            let to = format!("{mount}/new");
            let said = stage.fsnap(["restore", &format!("d/.fsnap/{gone}"), "--yes", "--to", &to]);
            assert!(said.code == 1, "{}", said.out);
        }
        assert_eq!((names(&file), checksum(&file)), (vec!["a".to_string()], sum));
        assert_eq!(ask(&file, "info.a").unwrap()["held"], false);
        assert!(!stage.file("d/gone").exists() && !stage.file("new").exists());
        run(scene.command("umount").arg("/run/scene/bind"));
    }
}

/// Files of reproducible archives have such times.
#[test]
fn times_before_1970() {
    for (layout, bricks) in [(VolumeType::Distribute, 1), (REPLICA, 3), (DISPERSE, 3)] {
        println!("{layout:?}");
        let stage = Stage::new(volume(layout, bricks, 1024 * MIB, |volume| volume));
        let file = stage.file("f");
        fill(&file, 1000, 1);
        for (n, (touch, told, shown)) in [
            ("@0", "0.000000000", "1970-01-01 00:00:00Z"),
            ("@-86400", "-86400.000000000", "1969-12-31 00:00:00Z"),
            ("@1", "1.000000000", "1970-01-01 00:00:01Z"),
        ]
        .into_iter()
        .enumerate()
        {
            let path = format!("/run/scene/m/{}", Path::new("f").display());
            run(stage.0.scene.command("touch").args(["-d", touch, &path]));
            fsnap(&file, "create", format!("s{n};created={told};id=11111111-2222-4333-8444-00000000000{n}"))
                .unwrap();
            let info = ask(&file, &format!("info.s{n}")).unwrap();
            assert_eq!((&info["created"], &info["mtime"]), (&told.into(), &told.into()));
            let listed = stage.ok(["list", "f"]);
            let row = listed.lines().find(|line| line.contains(&format!(" s{n} "))).unwrap();
            assert_eq!(row.matches(shown).count(), 2, "{row}");
        }
    }
}

/// The mount goes on where the server that it names does not answer; so does the command.
#[test]
fn where_the_mount_works_the_command_works() {
    const OWNER: u32 = 4001;
    for (layout, bricks) in [(REPLICA, 3), (DISPERSE, 3)] {
        println!("{layout:?}");
        let stage = Stage::new(volume(layout, bricks, 1024 * MIB, |volume| volume));
        let scene = &stage.0.scene;
        for (n, (source, options)) in [
            ("192.0.2.1:/v", "backup-volfile-servers=127.1.1.1"),
            ("192.0.2.1,127.1.1.1:/v", "log-level=WARNING"),
            ("127.1.1.1:/v.tcp", "log-level=WARNING"),
        ]
        .into_iter()
        .enumerate()
        {
            println!("{source}");
            let point = format!("/run/scene/other{n}");
            fs::create_dir(scene.path(&point)).unwrap();
            run(scene.command("mount").args(["-t", "glusterfs", "-o", options, source, &point]));
            let name = format!("f{n}");
            let file = stage.file(&name);
            fill(&file, MIB, 1);
            chown(&file, Some(OWNER), Some(OWNER)).unwrap();
            let sum = checksum(&file);
            for uid in [0, OWNER] {
                let fsnap = |args: &[&str]| {
                    let said = stage.fsnap_as(uid, uid, &point, args);
                    assert_eq!((said.code, &said.err[..]), (0, ""), "{uid}: {args:?}");
                };
                let snapshot = format!("s{uid}");
                fsnap(&["create", &name, "--name", &snapshot]);
                fill(&file, MIB / 2, 2);
                fsnap(&["restore", &format!("{name}@{snapshot}"), "--yes", "--no-backup"]);
                assert_eq!(checksum(scene.path(format!("{point}/{name}"))), sum);
            }
            run(scene.command("umount").arg(&point));
        }
    }
}

/// Clients may be let into one directory of the volume alone.
#[test]
fn a_directory_that_is_mounted_alone() {
    const OWNER: u32 = 4001;
    let cluster = Cluster::new(3);
    let client = cluster.client();
    cluster.install_translator(translator_path(), "fsnap");
    client.install_translator(translator_path(), "fsnap-client");
    install(client);
    let disks = cluster.disks(2, Fs::Xfs, 1024 * MIB);
    for (layout, disks) in [(REPLICA, &disks[..3]), (VolumeType::Distribute, &disks[3..])] {
        println!("{layout:?}");
        let volume = cluster.volume("v").layout(layout).disks(disks).with_fsnap().start();
        let mount = |dir: &str, at: &str| {
            fs::create_dir_all(client.path(at)).unwrap();
            let source = format!("192.0.2.11:/v{dir}");
            client.command("mount").args(["-t", "glusterfs", &source, at]).output().unwrap().status.success()
        };
        let (all, alone) = ("/run/scene/all", "/run/scene/alone");
        assert!(mount("", all));
        for dir in ["a/b \"c", "a/b \"c/d"] {
            let dir = client.path(all).join(dir);
            fs::create_dir_all(&dir).unwrap();
            chown(&dir, Some(OWNER), Some(OWNER)).unwrap();
        }
        run(client.command("umount").arg(all));
        volume.set("auth.allow", "/a(192.0.2.*)");
        wait_until("the whole volume can't be mounted", Duration::from_secs(20), || {
            mount("", all);
            let mounted = client.path(all).join("a").exists();
            let _ = client.command("umount").arg(all).output();
            !mounted
        });
        assert!(mount("/a", alone));
        let inside = format!("{alone}/b \"c");
        for (uid, name) in [(0, "f"), (0, "d/f"), (OWNER, "f"), (OWNER, "d/f")] {
            let fsnap = |args: &[&str]| {
                let said = fsnap_in(client, uid, uid, &inside, args);
                assert_eq!((said.code, &said.err[..]), (0, ""), "{uid}: {args:?}");
                said.out
            };
            let file = client.path(&inside).join(name);
            fill(&file, MIB, 1);
            chown(&file, Some(OWNER), Some(OWNER)).unwrap();
            let sum = checksum(&file);
            fsnap(&["create", name, "--name", "s"]);
            fill(&file, MIB / 2, 2);
            fsnap(&["restore", &format!("{name}@s"), "--yes", "--no-backup"]);
            assert_eq!(checksum(&file), sum);
            fs::remove_file(&file).unwrap();
            let snapshot = common::of_deleted(file.parent().unwrap(), "f@s");
            let snapshot = snapshot.strip_prefix(client.path(&inside)).unwrap().to_str().unwrap();
            assert_eq!(fsnap(&["restore", snapshot, "--yes"]), format!("{name} is back, as of snapshot s\n"));
            assert_eq!(checksum(&file), sum);
            fsnap(&["delete", &format!("{name}@s")]);
            fs::remove_file(&file).unwrap();
        }
        run(client.command("umount").arg(alone));
        volume.stop();
        volume.gluster(["volume", "delete", "v"]).unwrap();
    }
}

/// `glusterd` on an address that has no other family.
const SIX: &str = r#"
ip address add fd00::1/64 dev lo nodad
echo 'fd00::1 six' > /run/private/hosts
mount --bind /run/private/hosts /etc/hosts
sed 's/^end-volume/    option transport.address-family inet6\n&/' /etc/glusterfs/glusterd.vol > /run/private/six.vol
mount --bind /run/private/six.vol /etc/glusterfs/glusterd.vol
"#;

/// libgfapi alone would ask for an address of IPv4.
#[test]
fn names_of_ipv6_alone() {
    let scene = common::scene_with_fsnap();
    run(scene.command("sh").args(["-ec", SIX]));
    scene.start_glusterd();
    install(&scene);
    let _disks = scene.disks(3, Fs::Xfs, 320 * MIB);
    let bricks = [1, 2, 3].map(|n| format!("six:/run/scene/b{n}/brick"));
    let create = ["volume", "create", "v", "replica", "3", &bricks[0], &bricks[1], &bricks[2], "force"];
    for args in
        [&create[..], &["volume", "set", "v", "user.xlator.fsnap", "posix"], &["volume", "start", "v"]]
    {
        scene.gluster(args).unwrap();
    }
    let mount = "/run/scene/m";
    fs::create_dir(scene.path(mount)).unwrap();
    let options = "xlator-option=transport.address-family=inet6";
    run(scene.command("mount").args(["-t", "glusterfs", "-o", options, "six:/v", mount]));
    let file = scene.path(mount).join("f");
    fill(&file, MIB, 1);
    let sum = checksum(&file);
    for args in [&["create", "f", "--name", "a"][..], &["restore", "f@a", "--yes", "--no-backup"]] {
        let said = fsnap_in(&scene, 0, 0, mount, args);
        assert_eq!((said.code, &said.err[..]), (0, ""), "{args:?}");
        fill(&file, MIB / 2, 2);
    }
    assert_eq!(fsnap_in(&scene, 0, 0, mount, ["restore", "f@a", "--yes"]).code, 0);
    assert_eq!(checksum(&file), sum);
    run(scene.command("umount").arg(mount));
}

/// A brick that was added has not got the directory until somebody looks for it.
#[test]
fn a_directory_that_a_brick_lacks() {
    let stage = Stage::new(distribute(2));
    let scene = &stage.0.scene;
    fs::create_dir(stage.file("a")).unwrap();
    fill(stage.file("a/f"), 1000, 1);
    let alone = "/run/scene/alone";
    fs::create_dir(scene.path(alone)).unwrap();
    run(scene.command("mount").args(["-t", "glusterfs", "127.1.1.1:/v/a", alone]));
    let _more = vec![scene.disk(Fs::Xfs, 1024 * MIB, "/run/scene/b3")];
    stage.0.volume.add_bricks(&_more);
    assert!(!stage.0.volume.brick_path(2).join("a").exists());
    let said = stage.fsnap_as(0, 0, alone, ["create", "f", "--name", "s"]);
    assert_eq!((&said.out[..], &said.err[..]), ("f@s\n", ""));
    assert_eq!(names(stage.file("a/f")), ["s"]);
    run(scene.command("umount").arg(alone));
}
