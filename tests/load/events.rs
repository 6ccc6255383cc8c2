//! What happens to volumes in the middle of their work.

use std::path::PathBuf;
use std::time::Duration;

use fsnap_testbed::{Mount, Scene, Volume, wait_until};

use super::{Book, Excuse};

/// The clients' graphs are built anew, and all that is open moves to them. The excuse is the caller's to take back.
pub fn switch_graph(volume: &Volume, mounts: &[&Mount], book: &Book) {
    book.excuse(Some(Excuse::Switch));
    for value in ["off", "on"] {
        let graphs: Vec<_> = mounts.iter().map(|mount| active(mount)).collect();
        volume.set("performance.write-behind", value);
        wait_until("the clients' graphs are switched", Duration::from_secs(20), || {
            mounts
                .iter()
                .zip(&graphs)
                .all(|(mount, graph)| active(mount).is_some_and(|now| Some(now) != *graph))
        });
    }
}

fn active(mount: &Mount) -> Option<PathBuf> {
    std::fs::read_link(mount.path().join(".meta/graphs/active")).ok()
}

/// Every option gets values that can't be read (the defaults are used then), and good ones in the end. Bricks learn of them
/// in their own time: the excuse is the caller's to take back.
pub fn set_nonsense(scene: &Scene, volume: &Volume, book: &Book) {
    book.excuse(Some(Excuse::NoRestore));
    for (option, good) in [
        ("enabled", "on"),
        ("max-snapshots", "256"),
        ("min-free", "5"),
        ("browse", "on"),
        ("on-unlink", "keep"),
        ("direct-restore", "auto"),
        ("volume-type", "distribute"),
    ] {
        for value in ["banana", "-1", "99999999999999999999", "ä%s%n", good] {
            let key = format!("user.xlator.fsnap.{option}");
            // glusterd itself may refuse some.
            let set = scene.gluster(["volume", "set", volume.name(), &key, value]);
            assert!(set.is_ok() || value != good, "{set:?}");
        }
    }
}

/// Stopped and started.
pub fn restart(volume: &Volume, mounts: &[&Mount], book: &Book) {
    outage(volume, mounts, book, || {
        volume.stop();
        volume.start();
    });
}

/// Brick `n` dies and comes back.
pub fn kill(volume: &Volume, n: usize, mounts: &[&Mount], book: &Book) {
    outage(volume, mounts, book, || {
        volume.kill_brick(n);
        volume.restart_brick(n);
    });
}

/// Runs what takes bricks away for a while, and waits until all mounts have them back.
pub fn outage(volume: &Volume, mounts: &[&Mount], book: &Book, run: impl FnOnce()) {
    book.excuse(Some(Excuse::Outage));
    run();
    mounts.iter().for_each(|mount| mount.wait_connected(volume.bricks().len()));
    book.excuse(None);
}
