//! A restore over a file that has much in common with the snapshot, or nothing, and over what is not on the disk yet.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use fsnap_testbed::{Fs, content};

use crate::common::*;

const BLOCK: u64 = 4096;
const BLOCKS: u64 = 300;

/// What is done to a file after a snapshot was taken.
type Change = fn(&File, &Path);

/// Each in the cache, not on the disk, unless it says otherwise.
const CHANGES: [(&str, Change); 14] = [
    ("nothing", |_, _| ()),
    ("three blocks", |file, _| [1, 150, 298].into_iter().for_each(|at| block(file, at, 7))),
    ("three blocks, on the disk", |file, _| {
        [1, 150, 298].into_iter().for_each(|at| block(file, at, 8));
        file.sync_all().unwrap();
    }),
    ("every block", |file, _| (0..BLOCKS).for_each(|at| block(file, at, 9))),
    ("in one piece", |file, _| file.write_all_at(&content(2 * MIB, 10), 0).unwrap()),
    ("empty", |file, _| file.set_len(0).unwrap()),
    ("emptied, then longer", |file, _| {
        file.set_len(0).unwrap();
        file.write_all_at(&content(3 * MIB + 5, 11), 0).unwrap();
    }),
    ("one byte shorter", |file, _| file.set_len(size() - 1).unwrap()),
    ("one byte longer", |file, _| file.write_all_at(b"x", size()).unwrap()),
    ("cut within a block", |file, _| file.set_len(70 * BLOCK + 3).unwrap()),
    ("a hole behind the end", |file, _| file.set_len(64 * MIB as u64).unwrap()),
    ("space without content", |_, path| drop(tool("fallocate", &["-l", "3MiB"], path))),
    ("holes", |_, path| drop(tool("fallocate", &["-p", "-o", "40960", "-l", "409600"], path))),
    ("what was not there", |_, path| drop(tool("fallocate", &["-z", "-o", "0", "-l", "900000"], path))),
];

fn block(file: &File, at: u64, seed: u64) {
    file.write_all_at(&content(BLOCK as usize, seed + at), at * BLOCK).unwrap();
}

/// Ends within a block.
fn size() -> u64 {
    BLOCKS * BLOCK - 100
}

#[test]
fn whatever_has_become_of_the_file() {
    for fs in reflink() {
        let b = brick(fs);
        let store = b.store();
        for (n, (what, change)) in CHANGES.iter().enumerate() {
            let at = format!("f{n}");
            let base = b.make_file(&at, b"");
            let file = File::options().write(true).open(b.join(&at)).unwrap();
            // Holes, and a piece of space that has no content.
            (0..BLOCKS).filter(|at| at % 3 > 0).for_each(|at| block(&file, at, 1));
            tool("fallocate", &["-o", "819200", "-l", "65536"], b.join(&at));
            file.set_len(size()).unwrap();
            let old = fs::read(b.join(&at)).unwrap();
            snap(&store, base, "a");
            change(&file, &b.join(&at));
            let changed = fs::read(b.join(&at)).unwrap();
            snap(&store, base, "b");
            change(&file, &b.join(&at));
            store.restore(base, &name("a")).unwrap();
            assert!(fs::read(b.join(&at)).unwrap() == old, "{what} on {fs:?}");
            store.restore(base, &name("b")).unwrap();
            assert!(fs::read(b.join(&at)).unwrap() == changed, "{what}, back, on {fs:?}");
            store.restore(base, &name("a")).unwrap();
            store.restore(base, &name("a")).unwrap();
            assert!(fs::read(b.join(&at)).unwrap() == old, "{what}, again, on {fs:?}");
            assert!(fs::read(b.join(format!(".fsnap/{at}@a"))).unwrap() == old);
        }
        assert!(b.intents().is_empty() && b.lost().is_empty());
    }
}

/// What was acknowledged is there after a power cut, whatever was in the cache.
#[test]
fn a_power_cut_right_behind_it() {
    let (disk, b) = own_disk(Fs::Xfs, 400 << 20);
    for (n, (what, change)) in CHANGES.iter().enumerate() {
        let at = format!("f{n}");
        let base = b.make_file(&at, b"");
        let file = File::options().write(true).open(b.join(&at)).unwrap();
        (0..BLOCKS).filter(|at| at % 3 > 0).for_each(|at| block(&file, at, 1));
        file.set_len(size()).unwrap();
        let old = fs::read(b.join(&at)).unwrap();
        b.sync();
        let store = b.store();
        snap(&store, base, "a");
        change(&file, &b.join(&at));
        store.restore(base, &name("a")).unwrap();
        drop((store, file));
        disk.power_cut();
        assert!(b.intents().is_empty(), "{what}");
        assert!(fs::read(b.join(&at)).unwrap() == old, "{what}");
    }
}
