//! Many at once, and in the middle of it what happens to volumes: nothing that was acknowledged is lost, nothing hangs.
#![allow(missing_docs)]

mod common;
mod load;

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use common::distribute;
use load::audit::{audit, clear};
use load::{Book, Load};

/// Three mounts, each with hands that do this and that to the same few files.
#[test]
fn many_hands_at_the_same_files() {
    for bricks in [1, 2] {
        let setup = distribute(bricks);
        let more = ["/run/scene/m2", "/run/scene/m3"].map(|at| setup.volume.mount(at));
        let roots: Vec<PathBuf> = [&setup.mount, &more[0], &more[1]].map(|mount| mount.path()).into();
        let book = Arc::new(Book::default());
        let load = Load::start(&roots, 3, bricks as u64, &book);
        sleep(Duration::from_secs(10));
        load.finish();
        println!("{} commands: {}", book.commands(), book.summary());
        // Nobody's cache is in the way of a new mount.
        let fresh = setup.volume.mount("/run/scene/m4");
        audit(&fresh.path(), &book);
        for what in ["create", "delete", "restore", "hold", "release", "rename", "unlink", "link", "write", "read"] {
            assert!(book.answers(what) > 10, "{what}: {}", book.summary());
        }
        clear(&fresh.path(), &[&setup.volume]);
    }
}
