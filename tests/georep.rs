//! What geo-replication meets of fsnap: its workers read the bricks' journals, and look by gfid at what these name.
#![allow(missing_docs)]

mod common;

use std::fs;
use std::time::{Duration, Instant};

use common::{MIB, ask, fsnap, sees, volume};
use fsnap_testbed::{Errno, VolumeType, checksum, fill, getx, wait_until};

/// The UUID of the gfid of something on a brick.
fn gfid(path: impl AsRef<std::path::Path>) -> String {
    let hex: String = getx(path, "trusted.gfid").unwrap().iter().map(|byte| format!("{byte:02x}")).collect();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

/// features/changelog journals what self-heal makes, snapshots too. To a worker (it mounts by the number -1, with gfids) they were
/// removed in the meantime, and so it leaves them out, at once: syncdaemon's `lstat` tries `ESTALE` again for seconds.
#[test]
fn snapshots_that_are_healed_are_not_replicated() {
    let setup = volume(VolumeType::Replicate(3), 3, 1024 * MIB, |volume| {
        volume.option("changelog.changelog", "on").option("changelog.rollover-time", "2")
    });
    let file = setup.mount.path().join("f");
    fill(&file, MIB, 1);
    let sum = checksum(&file);
    setup.volume.kill_brick(2);
    setup.mount.wait_connected(2);
    fsnap(&file, "create", "s").unwrap();
    let payload = ask(&file, "info.s").unwrap()["gfid"].as_str().unwrap().to_owned();
    setup.volume.restart_brick(2);
    setup.mount.wait_connected(3);
    setup.volume.await_healed(Duration::from_secs(60));
    let brick = setup.volume.brick_path(2);
    wait_until("the snapshot is healed", Duration::from_secs(20), || brick.join(".fsnap/f@s").exists());
    // This is what it is about.
    wait_until("it is in the journal", Duration::from_secs(20), || {
        fs::read_dir(brick.join(".glusterfs/changelogs")).unwrap().any(|entry| {
            let text = fs::read(entry.unwrap().path()).unwrap_or_default();
            String::from_utf8_lossy(&text).contains(&payload)
        })
    });

    let worker = setup.volume.mount_with("/run/scene/worker", &["--client-pid=-1", "--aux-gfid-mount"]);
    let by_gfid = |gfid: &str| worker.path().join(".gfid").join(gfid);
    assert_eq!(checksum(by_gfid(&gfid(brick.join("f")))), sum);
    for hidden in [payload.clone(), gfid(brick.join(".fsnap"))] {
        let start = Instant::now();
        let errno = fs::symlink_metadata(by_gfid(&hidden)).unwrap_err().raw_os_error();
        assert_eq!(errno, Some(Errno::ENOENT as i32), "{hidden}");
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    }
    // To others they are there.
    let other = setup.volume.mount_with("/run/scene/other", &["--aux-gfid-mount"]);
    assert_eq!(checksum(other.path().join(".gfid").join(&payload)), sum);
    sees(setup.mount.path().join(".fsnap/f@s"), sum);
}
