//! Scenes come and go, and leave nothing behind, whatever ends them.

mod common;

use std::fs;
use std::io::Read;
use std::process::Command;
use std::time::{Duration, Instant};

use common::{Trace, await_end, await_scene, helper, report};
use fsnap_testbed::{Fs, Scene, VOLFILE_POSIX, run, wait_until};

const MIB: u64 = 1 << 20;

/// A scene with one of each: a disk, a FUSE mount, an orphan.
fn busy_scene() -> (Scene, impl Sized) {
    let scene = Scene::new();
    let disk = scene.disk(Fs::Xfs, 300 * MIB, "/run/scene/b");
    let mount = scene.mount_volfile(VOLFILE_POSIX, "/run/scene/b/brick", "/run/scene/m");
    run(scene.command("sh").args(["-c", "sleep 1000 >/dev/null 2>&1 &"]));
    (scene, (disk, mount))
}

#[test]
fn a_scene_leaves_nothing_behind() {
    let (scene, guards) = busy_scene();
    let trace = Trace::of(&scene);
    assert_eq!(trace.loops().len(), 1, "the trace must see what is there");
    assert!(trace.processes().len() >= 4, "unshare, holder, glusterfs, sleep: {:?}", trace.processes());
    assert!(trace.images().is_empty(), "the image is unlinked at once: {:?}", trace.images());
    drop(guards);
    drop(scene);
    assert_eq!(trace.left(), Vec::<String>::new());
}

#[test]
#[ignore = "runs in a process of its own, for the tests of its end"]
fn helper_waits_in_a_busy_scene() {
    let (scene, _guards) = busy_scene();
    report(&scene);
    let _ = std::io::stdin().read(&mut [0]);
}

#[test]
fn a_killed_test_leaves_nothing_behind() {
    let mut owner = helper("helper_waits_in_a_busy_scene").env_remove("FSNAP_KEEP").spawn().expect("helper");
    let (trace, _) = await_scene(&mut owner);
    assert!(!trace.left().is_empty());
    owner.kill().expect("SIGKILL");
    owner.wait().expect("the helper's end");
    trace.wait_gone();
}

#[test]
#[ignore = "runs in a process of its own, for the test of what it leaves"]
fn helper_leaves_a_scene() {
    let (scene, _guards) = busy_scene();
    report(&scene);
}

/// Ends a kept scene the way it told its user to, also when the test fails.
struct Kept(u32);

impl Drop for Kept {
    fn drop(&mut self) {
        run(Command::new("kill").args(["-9", &self.0.to_string()]));
    }
}

#[test]
fn a_kept_scene_survives_its_test() {
    let mut owner = helper("helper_leaves_a_scene").env("FSNAP_KEEP", "1").spawn().expect("helper");
    let (trace, pid) = await_scene(&mut owner);
    let kept = Kept(pid);
    let output = owner.wait_with_output().expect("the helper's end");
    assert!(output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains(&format!("nsenter -t {pid}")) && said.contains(&format!("kill -9 {pid}")),
        "{said}"
    );
    run(Command::new("nsenter").args(["-t", &pid.to_string(), "-a", "test", "-d", "/run/scene/b/brick"]));
    assert_eq!(trace.loops().len(), 1);
    drop(kept);
    await_end(pid);
    trace.wait_gone();
}

#[test]
#[ignore = "runs in a process of its own, and fails"]
fn helper_panics_in_a_scene() {
    let (scene, _guards) = busy_scene();
    report(&scene);
    panic!("as it should");
}

#[test]
fn a_failed_test_shows_the_logs() {
    let mut owner = helper("helper_panics_in_a_scene").env_remove("FSNAP_KEEP").spawn().expect("helper");
    let (trace, _) = await_scene(&mut owner);
    let output = owner.wait_with_output().expect("the helper's end");
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("---- /var/log/glusterfs/run-scene-m.log, last "), "{said}");
    trace.wait_gone();
}

#[test]
fn a_scene_starts_quickly_and_reaps_its_orphans() {
    let start = Instant::now();
    let scene = Scene::new();
    let boot = start.elapsed();
    println!("scene up in {boot:?}");
    assert!(boot < Duration::from_secs(5), "{boot:?}");
    run(scene.command("sh").args(["-c", "for i in 1 2 3 4 5; do sleep 0.1 >/dev/null 2>&1 & done"]));
    // A zombie has no namespaces but still a pid: ask the scene's own process table.
    let table = || fs::read_dir(scene.path("/proc")).expect("proc").flatten();
    let numbers = || table().filter(|e| e.file_name().to_string_lossy().parse::<u32>().is_ok()).count();
    wait_until("no zombie is left", Duration::from_secs(10), || numbers() == 2);
    run(&mut scene.command("true"));
}

#[test]
fn commands_run_inside_as_whom_one_likes() {
    let scene = Scene::new();
    fs::write(scene.path("/run/scene/file"), "text").expect("write");
    let said = run(scene.command("cat").arg("/run/scene/file")).stdout;
    assert_eq!(said, b"text");
    let id = run(scene.command_as(1234, 2345, "sh").args(["-c", "id -u; id -g; id -G"])).stdout;
    assert_eq!(String::from_utf8_lossy(&id), "1234\n2345\n2345\n");
    let refused =
        scene.command_as(1234, 2345, "sh").args(["-c", ": >>/run/scene/file"]).output().expect("sh");
    assert!(!refused.status.success());
}

#[test]
fn a_killed_command_takes_its_process_along() {
    let scene = Scene::new();
    let trace = Trace::of(&scene);
    let idle = 3;
    let what = "unshare, the holder and its cat run";
    wait_until(what, Duration::from_secs(10), || trace.processes().len() == idle);
    let mut child = scene.command("sleep").arg("1000").spawn().expect("sleep");
    // By then it has asked for its parent's death; before, nothing could kill it.
    wait_until("sleep runs", Duration::from_secs(10), || {
        trace.processes().iter().any(|p| p.ends_with(" sleep"))
    });
    child.kill().expect("SIGKILL");
    child.wait().expect("its end");
    wait_until("sleep is gone", Duration::from_secs(10), || trace.processes().len() == idle);
}

#[test]
fn scenes_side_by_side_do_not_see_each_other() {
    let (one, other) = (Scene::new(), Scene::new());
    let disk = one.disk(Fs::Ext4, 16 * MIB, "/run/scene/b");
    fs::write(disk.path().join("here"), "").expect("write");
    assert!(!other.path("/run/scene/b").exists());
    let device = disk.device().display().to_string();
    let mounts = fs::read_to_string(format!("/proc/{}/mounts", other.pid())).expect("mount table");
    assert!(!mounts.contains(&device), "{mounts}");
}
