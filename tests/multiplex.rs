//! Bricks that share a process: the next instance of one comes while the last has not gone.
#![allow(missing_docs)]

mod common;
mod load;

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use common::{MIB, fsnap, names, sound};
use fsnap_testbed::{Disk, Errno, Fs, Scene, Volume};
use load::latency;
use nix::fcntl::{Flock, FlockArg};

/// How many extents make a restore take longer than it takes to stop a volume and to start it.
const EXTENTS: u64 = 120_000;
const ACKNOWLEDGED: &[u8] = b"acknowledged";

/// Two volumes whose bricks share a process: one that keeps it going, and one to stop.
fn shared_process() -> (Scene, Vec<Disk>, Volume, Volume) {
    let scene = common::scene_with_fsnap();
    scene.start_glusterd();
    scene.gluster(["volume", "set", "all", "cluster.brick-multiplex", "on"]).unwrap();
    let disks = scene.disks(2, Fs::Xfs, 2048 * MIB);
    let [keep, volume] =
        [("keep", 0), ("v", 1)].map(|(name, n)| scene.volume(name).disks(&disks[n..=n]).with_fsnap().start());
    assert_eq!(keep.brick_pid(0), volume.brick_pid(0), "one process");
    (scene, disks, keep, volume)
}

/// Starts it again without a look at whether anything of the last instance is there.
fn restart(volume: &Volume) {
    volume.gluster(["volume", "stop", volume.name(), "force"]).unwrap();
    volume.start();
}

/// GlusterFS says that a volume is stopped long before the brick's graph is taken apart. A restore that is under way then has
/// ended before the next graph lets anybody in: else it would take what is written by then. One that waits for its turn does
/// not begin.
#[test]
fn what_the_next_instance_acknowledges_stays() {
    let (scene, _disks, _keep, volume) = shared_process();
    let (mount, second) = (volume.mount("/run/scene/m"), volume.mount("/run/scene/m2"));
    let (file, there) = (mount.path().join("f"), second.path().join("f"));
    fs::write(&file, b"").unwrap();
    latency::fragment(&scene, &volume.bricks()[0].dir.join("f"), EXTENTS);
    let clone = {
        let start = Instant::now();
        fsnap(&file, "create", "a").unwrap();
        start.elapsed()
    };
    // A restore takes the longer the more it has to bring back.
    OpenOptions::new().write(true).open(&file).and_then(|file| file.set_len(0)).unwrap();
    let under_way = spawn(move || fsnap(&file, "restore", "a"));
    sleep(clone / 4);
    let waiting = spawn(move || fsnap(&there, "create", "b"));
    sleep(clone / 20);

    let start = Instant::now();
    restart(&volume);
    let fresh = volume.mount("/run/scene/fresh");
    let live = OpenOptions::new().write(true).open(fresh.path().join("f")).unwrap();
    live.write_all_at(ACKNOWLEDGED, 0).unwrap();
    live.sync_all().unwrap();
    println!("a clone takes {clone:?}; written {:?} after the stop", start.elapsed());
    for asked in [under_way, waiting] {
        assert_eq!(asked.join().unwrap(), Err(Errno::ENOTCONN));
    }
    let until = Instant::now() + clone * 3;
    while Instant::now() < until {
        let mut content = [0; ACKNOWLEDGED.len()];
        File::open(volume.brick_path(0).join("f")).unwrap().read_exact_at(&mut content, 0).unwrap();
        assert_eq!(content, ACKNOWLEDGED);
        sleep(Duration::from_millis(100));
    }
    assert_eq!(names(fresh.path().join("f")), ["a"]);
    sound(&volume);
}

struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// protocol/server takes the end of the last instance, which may come late when it has work, for that of the next one, and lets
/// nobody in any more.
#[test]
fn clients_find_the_next_instance() {
    let (_scene, _disks, _keep, volume) = shared_process();
    let mount = volume.mount("/run/scene/m");
    let end = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // However it ends.
        let _ending = Ending(&end);
        for hand in 0..4 {
            let file = mount.path().join(format!("f{hand}"));
            let end = &end;
            scope.spawn(move || {
                while !end.load(Relaxed) {
                    // The brick comes and goes.
                    let _ =
                        fs::write(&file, vec![hand; 8 << 20]).and_then(|()| File::open(&file)?.sync_all());
                    let _ = fsnap(&file, "create", "s").and_then(|()| fsnap(&file, "delete", "s"));
                }
            });
        }
        for round in 0..8 {
            volume.gluster(["volume", "stop", volume.name(), "force"]).unwrap();
            sleep(Duration::from_millis(100 * round));
            volume.start();
            let fresh = volume.mount(format!("/run/scene/fresh{round}"));
            fs::write(fresh.path().join("here"), b"x").unwrap();
            drop(fresh);
            mount.wait_connected(1);
            sleep(Duration::from_millis(300));
        }
    });
    sound(&volume);
}

/// Whoever else is at work on a brick, in another process: it waits for him, and the other bricks do not.
#[test]
fn a_brick_that_waits_holds_up_no_other() {
    let (_scene, _disks, keep, volume) = shared_process();
    let mount = volume.mount("/run/scene/m");
    volume.detach();
    let dir = File::open(volume.brick_path(0).join(".glusterfs")).unwrap();
    let lock = Flock::lock(dir, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| errno).unwrap();
    volume.start();
    let other = keep.mount("/run/scene/other");
    fs::write(other.path().join("f"), b"x").unwrap();
    fsnap(other.path().join("f"), "create", "a").unwrap();
    assert_eq!(mount.connected(), 0);
    // It need not come to its turn.
    volume.gluster(["volume", "stop", "v", "force"]).unwrap();
    volume.start();
    drop(keep.mount("/run/scene/another"));
    assert_eq!(mount.connected(), 0);
    drop(lock);
    mount.wait_connected(1);
    fs::write(mount.path().join("f"), b"x").unwrap();
    fsnap(mount.path().join("f"), "create", "a").unwrap();
}

/// A process of its own says where it can be reached when its turn has come.
#[test]
fn a_brick_with_a_process_of_its_own_waits_as_well() {
    let setup = common::distribute(1);
    let (volume, mount) = (&setup.volume, &setup.mount);
    fs::write(mount.path().join("f"), b"x").unwrap();
    volume.kill_brick(0);
    let dir = File::open(volume.brick_path(0).join(".glusterfs")).unwrap();
    let lock = Flock::lock(dir, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| errno).unwrap();
    std::thread::scope(|scope| {
        let started = scope.spawn(|| volume.gluster(["volume", "start", volume.name(), "force"]));
        sleep(Duration::from_secs(4));
        assert_eq!(mount.connected(), 0);
        drop(lock);
        started.join().unwrap().unwrap();
    });
    mount.wait_connected(1);
    fsnap(mount.path().join("f"), "create", "a").unwrap();
    assert_eq!(names(mount.path().join("f")), ["a"]);
}
