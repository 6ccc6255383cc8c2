//! Panics on purpose: the request is answered EIO, and the brick serves on.
//!
//! Needs a translator built with the feature `fault-injection`.
#![cfg(feature = "fault-injection")]
#![allow(missing_docs)]

mod common;

use std::fs;

use common::{MIB, distribute, fsnap, ls, names, sees};
use fsnap_testbed::{Errno, checksum, fill};

#[test]
fn a_panic_is_answered_and_the_brick_serves_on() {
    let setup = distribute(1);
    let (root, pid) = (setup.mount.path(), setup.volume.brick_pid(0));
    let file = root.join("f");
    fill(&file, MIB, 1);
    let sum = checksum(&file);
    fsnap(&file, "create", "s").unwrap();
    // More often than there are workers: none of them is lost.
    for _ in 0..10 {
        assert_eq!(fsnap(&file, "panic", "fop"), Err(Errno::EIO));
        assert_eq!(fsnap(&file, "panic", "worker"), Err(Errno::EIO));
        fsnap(&file, "panic", "listing").unwrap();
        let listed =
            fs::read_dir(&root).and_then(|mut entries| entries.try_for_each(|entry| entry.map(drop)));
        assert_eq!(listed.unwrap_err().raw_os_error(), Some(Errno::EIO as i32));
    }
    assert_eq!(setup.volume.brick_pid(0), pid);
    assert_eq!(ls(&root), ["f"]);
    assert_eq!(names(&file), ["s"]);
    fill(&file, MIB, 2);
    fsnap(&file, "restore", "s").unwrap();
    sees(&file, sum);
}
