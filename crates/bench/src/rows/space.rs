//! What snapshots of small files take of a file system.

use std::path::PathBuf;

use fsnap_testbed::{VolumeType, df_used};

use super::Scale;
use crate::figure::{Figure, Goal, Outcome, Unit};
use crate::stage::{Caches, MIB, Medium, Stage, create_many};
use crate::stats::Spread;

/// What mkfs.xfs makes inodes of.
const INODE: f64 = 512.0;

pub fn run(scale: Scale, outcome: &mut Outcome) {
    on_brick(scale, outcome, false);
    on_brick(scale, outcome, true);
    outcome.note(format!(
        "{} snapshots; inodes of XFS are counted when their chunk of 64 is made",
        scale.of(1000)
    ));
    outcome.note("a brick has one of GlusterFS's directories for each value of the first two bytes of a gfid that a file on it has had: 65,536 in the end");
}

/// On a new brick, or on one that has had so many files that all of GlusterFS's own directories are there.
fn on_brick(scale: Scale, outcome: &mut Outcome, old: bool) {
    let stage = Stage::new(Medium::Ram, 1, 1024 * MIB);
    let v = stage.volume("v", VolumeType::Distribute, 1, true, Caches::On);
    v.allow_many();
    let disk = stage.disks[0].path();
    let inodes = || {
        let stat = rustix::fs::statvfs(&disk).expect("a file system");
        stat.f_files - stat.f_ffree
    };
    let count = scale.of(1000);
    // The directory, its `.fsnap` and the reserve are there before.
    create_many(&v.file("first", 4096), 1);
    if old {
        let handles = v.on_brick(0, ".glusterfs");
        for n in 0..1 << 16 {
            std::fs::create_dir_all(handles.join(format!("{:02x}/{:02x}", n >> 8, n & 0xff)))
                .expect("a directory");
        }
    }
    let age = if old { ", old brick" } else { "" };
    let mut measure = |what: &str, files: u64, each: u64, goals: bool| {
        let what = format!("{what}{age}");
        let all: Vec<PathBuf> = (0..files).map(|n| v.file(&format!("f{files}-{n}"), 4096)).collect();
        let (used, made) = (df_used(&disk), inodes());
        let taken: u64 = all.iter().map(|file| create_many(file, each)).sum();
        if taken < files * each {
            outcome.note(format!("{what}: refused after {taken} snapshots"));
        }
        let per = |total: f64| Spread::of(&[total / taken as f64]);
        let bytes = (df_used(&disk) as f64 - used as f64) - INODE * (inodes() - made) as f64;
        let mut space =
            Figure::new(&format!("{what}: space of each, beside the inode"), Unit::Bytes, per(bytes));
        let mut inode =
            Figure::new(&format!("{what}: inodes of each"), Unit::Count, per((inodes() - made) as f64));
        if goals {
            space = space.goal(Goal::most(1536.0, "1.5 KiB"));
            // Of a thousand, some stand for the directory's.
            inode = inode.goal(Goal::most(1.02, "1 (2 % more for directories)"));
        }
        outcome.add(space);
        outcome.add(inode);
    };
    measure("snapshots of one file of 4 KiB", 1, count, true);
    measure("one snapshot of each file of 4 KiB", count, 1, false);
}
