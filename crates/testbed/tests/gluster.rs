//! Stock GlusterFS in a scene: a volfile mount, volumes, a translator of its own.

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use common::Trace;
use fsnap_testbed::{Fs, Scene, VOLFILE_POSIX, VolumeType, checksum, content, fill, getx, run, setx};

const MIB: u64 = 1 << 20;

#[test]
fn posix_alone_is_mounted_from_a_volfile() {
    let scene = Scene::new();
    let disk = scene.disk(Fs::Xfs, 300 * MIB, "/run/scene/b");
    let start = Instant::now();
    let mount = scene.mount_volfile(VOLFILE_POSIX, "/run/scene/b/brick", "/run/scene/m");
    println!("volfile mounted in {:?}", start.elapsed());
    let file = mount.path().join("dir/file");
    fs::create_dir(mount.path().join("dir")).expect("mkdir");
    fill(&file, MIB, 3);
    setx(&file, "user.a", b"1").expect("setxattr");
    assert_eq!(fs::read(mount.brick().join("dir/file")).expect("read below"), content(MIB as usize, 3));
    assert_eq!(getx(mount.brick().join("dir/file"), "trusted.gfid").expect("gfid").len(), 16);
    assert!(scene.statedump(mount.pid()).contains("storage/posix"));
    assert!(Path::new(&format!("/proc/{}/fd", mount.pid())).exists());
    let pid = mount.pid();
    drop(mount);
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
    let again = scene.mount_volfile(VOLFILE_POSIX, "/run/scene/b/brick", "/run/scene/m");
    assert_eq!(fs::read(again.path().join("dir/file")).expect("read"), content(MIB as usize, 3));
    assert_eq!(disk.at(), Path::new("/run/scene/b"));
}

#[test]
fn a_distributed_volume_is_served_by_two_bricks() {
    let scene = Scene::new();
    let trace = Trace::of(&scene);
    let start = Instant::now();
    scene.start_glusterd();
    println!("glusterd up in {:?}", start.elapsed());
    let disks = scene.disks(2, Fs::Xfs, 300 * MIB);
    let volume = scene.volume("plain").disks(&disks).option("performance.stat-prefetch", "off").start();
    println!("volume started after {:?}", start.elapsed());
    let mount = volume.mount("/run/scene/m");
    println!("volume mounted after {:?}", start.elapsed());
    assert_eq!(mount.connected(), 2);
    for seed in 0..20 {
        fill(mount.path().join(format!("f{seed}")), 100_000, seed);
    }
    for seed in 0..20 {
        assert_eq!(fs::read(mount.path().join(format!("f{seed}"))).expect("read"), content(100_000, seed));
    }
    let on = |n: usize| fs::read_dir(volume.brick_path(n)).expect("brick").flatten().count() - 1;
    assert_eq!(on(0) + on(1), 20, "all files but .glusterfs");
    assert!(on(0) > 0 && on(1) > 0);
    for n in 0..2 {
        let pid = volume.brick_pid(n);
        let cmdline = fs::read_to_string(format!("/proc/{pid}/cmdline")).expect("a brick's command line");
        assert!(cmdline.contains(&format!("/run/scene/b{}/brick", n + 1)), "{cmdline}");
        assert!(volume.statedump(n).contains("plain-posix"));
    }
    let info = scene.gluster(["volume", "info", "plain"]).expect("info");
    assert!(info.contains("127.1.1.2:/run/scene/b2/brick"), "{info}");
    let error = scene.gluster(["volume", "info", "absent"]).expect_err("no such volume");
    assert!(error.to_string().contains("absent"), "{error}");
    drop((mount, volume, disks));
    drop(scene);
    assert_eq!(trace.left(), Vec::<String>::new());
}

#[test]
fn a_killed_brick_comes_back() {
    let scene = Scene::new();
    scene.start_glusterd();
    let disks = scene.disks(3, Fs::Xfs, 300 * MIB);
    let volume = scene.volume("rep").disks(&disks).layout(VolumeType::Replicate(3)).start();
    let mount = volume.mount("/run/scene/m");
    let killed = volume.brick_pid(1);
    volume.kill_brick(1);
    assert_eq!(volume.try_brick_pid(1), None);
    assert_eq!(volume.running(), 2);
    mount.wait_connected(2);
    fill(mount.path().join("file"), MIB, 9);
    volume.restart_brick(1);
    assert_ne!(volume.brick_pid(1), killed);
    mount.wait_connected(3);
    assert_eq!(fs::read(mount.path().join("file")).expect("read"), content(MIB as usize, 9));
    volume.stop();
    assert_eq!(volume.running(), 0);
    volume.start();
    assert_eq!(volume.running(), 3);
}

#[test]
fn a_brick_that_was_away_is_healed() {
    let scene = Scene::new();
    scene.start_glusterd();
    let disks = scene.disks(3, Fs::Xfs, 300 * MIB);
    let volume = scene.volume("rep").disks(&disks).layout(VolumeType::Replicate(3)).start();
    let mount = volume.mount("/run/scene/m");
    volume.kill_brick(1);
    mount.wait_connected(2);
    fill(mount.path().join("file"), MIB, 9);
    assert_eq!(volume.pending_heals(), None, "a brick does not answer");
    volume.restart_brick(1);
    mount.wait_connected(3);
    volume.heal();
    volume.await_healed(Duration::from_secs(60));
    assert_eq!(volume.pending_heals(), Some(0));
    assert_eq!(volume.split_brain(), Vec::<String>::new());
    assert_eq!(checksum(volume.brick_path(1).join("file")), checksum(volume.brick_path(0).join("file")));
    volume.heal_full();
}

#[test]
fn new_and_emptied_bricks_are_healed() {
    let scene = Scene::new();
    scene.start_glusterd();
    let disks = scene.disks(4, Fs::Xfs, 300 * MIB);
    let volume = scene.volume("rep").disks(&disks[..3]).layout(VolumeType::Replicate(3)).start();
    let mount = volume.mount("/run/scene/m");
    fill(mount.path().join("file"), MIB, 9);
    volume.replace_brick(1, &disks[3]);
    volume.reset_brick(2);
    mount.wait_connected(3);
    volume.await_healed(Duration::from_secs(60));
    for n in 1..3 {
        assert_eq!(checksum(volume.brick_path(n).join("file")), checksum(volume.brick_path(0).join("file")));
    }
}

#[test]
fn other_layouts_start() {
    let scene = Scene::new();
    scene.start_glusterd();
    let disks = scene.disks(3, Fs::Xfs, 300 * MIB);
    for (name, layout) in
        [("arb", VolumeType::Arbiter), ("ec", VolumeType::Disperse { data: 2, redundancy: 1 })]
    {
        let builder = scene.volume(name).layout(layout);
        let builder = disks.iter().fold(builder, |volume, disk| volume.brick(disk.at().join(name)));
        let volume = builder.start();
        let mount = volume.mount(format!("/run/scene/{name}"));
        fill(mount.path().join("file"), MIB, 4);
        assert_eq!(fs::read(mount.path().join("file")).expect("read"), content(MIB as usize, 4));
    }
}

/// GlusterFS's own pass-through translator takes the place of fsnap.
#[test]
fn a_translator_is_installed_in_the_scene_only() {
    let scene = Scene::new();
    let printed = run(Command::new("glusterfs").arg("--print-xlatordir")).stdout;
    let dir = String::from_utf8_lossy(&printed).trim().to_owned();
    let so = Path::new(&dir).join("debug/trace.so");
    scene.install_translator(&so, "fsnap");
    scene.install_translator(&so, "fsnap");
    let place = Path::new(&dir).join("user/fsnap.so");
    assert!(scene.path(&place).is_file());
    assert!(!place.exists(), "the machine's installation is untouched");
    let list = |of: &Path| {
        let found = Command::new("find")
            .arg(".")
            .args(["-path", "./user", "-prune", "-o", "-print"])
            .current_dir(of)
            .output();
        let mut names: Vec<String> =
            String::from_utf8_lossy(&found.expect("find").stdout).lines().map(str::to_owned).collect();
        names.sort();
        names
    };
    assert_eq!(list(&scene.path(&dir)), list(Path::new(&dir)));

    scene.start_glusterd();
    let disks = scene.disks(2, Fs::Xfs, 300 * MIB);
    let volume = scene.volume("vol").disks(&disks).with_fsnap().start();
    let mount = volume.mount("/run/scene/m");
    fill(mount.path().join("file"), MIB, 5);
    for n in 0..2 {
        let maps = fs::read_to_string(format!("/proc/{}/maps", volume.brick_pid(n))).expect("maps");
        assert!(maps.contains("/user/fsnap.so"), "brick {n} did not load the translator");
    }
}
