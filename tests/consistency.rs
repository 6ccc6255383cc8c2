//! A snapshot taken by the command is the file at one moment, on every brick, whoever writes meanwhile.
#![allow(missing_docs)]

mod common;

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread::JoinHandle;

use common::agree::{converges, set};
use common::stage::Stage;
use common::{MIB, fsnap, volume};
use fsnap_testbed::{VolumeType, checksum, fill};

/// Both are whole stripes of a disperse volume.
const BLOCK: usize = 4096;
const BLOCKS: u64 = 32;
/// Snapshots that are looked at once more in the end.
const KEPT: usize = 10;

/// One who writes numbers, one block after the other and again from the first, each on its own place of the file; what is
/// acknowledged is stable.
struct Writer {
    acknowledged: Arc<AtomicU64>,
    begun: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Writer {
    fn start(path: PathBuf, which: u64) -> Writer {
        let file = OpenOptions::new().write(true).custom_flags(libc::O_SYNC).open(path).unwrap();
        let (acknowledged, begun, stop) = (Arc::default(), Arc::default(), Arc::default());
        let (acked, started, end) = (Arc::clone(&acknowledged), Arc::clone(&begun), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            for number in 1u64.. {
                if AtomicBool::load(&end, SeqCst) {
                    return;
                }
                AtomicU64::store(&started, number, SeqCst);
                let block = number.to_le_bytes().repeat(BLOCK / 8);
                file.write_all_at(&block, place(which, number)).unwrap();
                AtomicU64::store(&acked, number, SeqCst);
            }
        });
        Writer { acknowledged, begun, stop, thread }
    }
}

fn place(which: u64, number: u64) -> u64 {
    (which * BLOCKS + number % BLOCKS) * BLOCK as u64
}

/// The last number of one writer in a file; panics if what is there is not all up to that one.
fn last(bytes: &[u8], which: u64) -> u64 {
    let blocks: Vec<u64> = (0..BLOCKS)
        .map(|n| {
            let from = place(which, n) as usize;
            let block = &bytes[from..from + BLOCK];
            let number = &block[..8];
            assert!(block.chunks(8).all(|other| other == number), "block {n} of writer {which} is torn");
            u64::from_le_bytes(number.try_into().unwrap())
        })
        .collect();
    let last = *blocks.iter().max().unwrap();
    for (n, found) in blocks.iter().enumerate() {
        let wanted = (0..=last).rev().take(BLOCKS as usize).find(|number| number % BLOCKS == n as u64);
        assert_eq!(
            *found,
            wanted.unwrap_or(0),
            "block {n} of writer {which}, whose last is {last}: {blocks:?}"
        );
    }
    last
}

fn one_moment(layout: VolumeType, bricks: usize, rounds: usize) {
    println!("{layout:?}");
    let stage = Stage::new(volume(layout, bricks, 1024 * MIB, |volume| volume));
    let size = 2 * BLOCKS * BLOCK as u64;
    File::create(stage.file("f")).unwrap().write_all_at(&vec![0; size as usize], 0).unwrap();
    let volume = &stage.0.volume;
    let others = [volume.mount("/run/scene/m1"), volume.mount("/run/scene/m2")];
    let writers: Vec<Writer> =
        (0..2).map(|n| Writer::start(others[n as usize].path().join("f"), n)).collect();
    let numbers =
        |of: fn(&Writer) -> &AtomicU64| writers.iter().map(|w| of(w).load(SeqCst)).collect::<Vec<_>>();
    let mut kept = Vec::new();
    for round in 0..rounds {
        let name = format!("s{round}");
        let before = numbers(|writer| &writer.acknowledged);
        stage.ok(["create", "f", "--name", &name]);
        let after = numbers(|writer| &writer.begun);
        let payload = format!(".fsnap/f@{name}");
        let copies: Vec<Vec<u8>> = match layout {
            VolumeType::Disperse { .. } => vec![std::fs::read(stage.file(&payload)).unwrap()],
            // An arbiter has none.
            _ => (0..bricks)
                .filter(|n| layout != VolumeType::Arbiter || *n < 2)
                .filter_map(|n| std::fs::read(volume.brick_path(n).join(&payload)).ok())
                .collect(),
        };
        let complete = match layout {
            VolumeType::Disperse { .. } => 1,
            VolumeType::Arbiter => 2,
            _ => set(layout),
        };
        assert_eq!(copies.len(), complete);
        for (n, copy) in copies.iter().enumerate() {
            assert!(*copy == copies[0], "round {round}: brick {n} has another content");
            for which in 0..2 {
                let (last, at) = (last(copy, which), which as usize);
                assert!(
                    (before[at]..=after[at]).contains(&last),
                    "round {round}: writer {which} has {last}, not {} to {}",
                    before[at],
                    after[at]
                );
            }
        }
        match rounds - round <= KEPT {
            true => kept.push((payload.clone(), checksum(stage.file(payload)))),
            false => fsnap(stage.file("f"), "delete", &name).unwrap(),
        }
    }
    for writer in writers {
        writer.stop.store(true, SeqCst);
        writer.thread.join().unwrap();
        assert!(writer.acknowledged.load(SeqCst) > rounds as u64, "the writers were at work");
    }
    // And nobody is locked out.
    fill(stage.file("f"), MIB, 7);
    converges(volume, layout);
    let kept: Vec<_> = kept.iter().map(|(path, sum)| (&path[..], *sum)).collect();
    stage.whole_without_any(layout, &kept);
}

/// `FSNAP_ROUNDS` says how many snapshots, 15 of each kind of volume if not set; `FSNAP_ALL=1` takes more kinds.
#[test]
fn a_snapshot_is_one_moment_on_all_bricks() {
    let rounds = std::env::var("FSNAP_ROUNDS").map_or(15, |rounds| rounds.parse().expect("a number"));
    one_moment(VolumeType::Replicate(3), 3, rounds);
    one_moment(VolumeType::Arbiter, 3, rounds);
    one_moment(VolumeType::Disperse { data: 2, redundancy: 1 }, 3, rounds);
    if std::env::var_os("FSNAP_ALL").is_some() {
        one_moment(VolumeType::Replicate(3), 6, rounds);
        one_moment(VolumeType::Disperse { data: 4, redundancy: 2 }, 6, rounds);
    }
}
