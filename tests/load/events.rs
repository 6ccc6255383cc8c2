//! What happens to volumes in the middle of their work.

use fsnap_testbed::{Mount, Scene, Volume};

use super::Book;

/// The client's graph is built anew, and all that is open moves to it.
pub fn switch_graph(volume: &Volume) {
    volume.set("performance.write-behind", "off");
    volume.set("performance.write-behind", "on");
}

/// Every option gets values that can't be read (the defaults are used then), and good ones in the end.
pub fn set_nonsense(scene: &Scene, volume: &Volume) {
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
    book.set_outage(true);
    run();
    mounts.iter().for_each(|mount| mount.wait_connected(volume.bricks().len()));
    book.set_outage(false);
}
