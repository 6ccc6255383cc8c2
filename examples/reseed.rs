//! What it costs to heal a snapshot that a brick has missed, of a file of which 1 % has changed meanwhile: the brick makes it
//! from the file that it has, so that only what differs is sent.
//!
//! `reseed [MIB]`: how large the file is, 1024 if not given. Needs root. A copy of the file, made while the brick is away, shows
//! what the same heal costs without the file to begin with. The bricks and the self-heal daemon talk through the loopback device:
//! each byte that is healed passes it twice, from the source to the daemon and on to the brick.

#[path = "../tests/common/mod.rs"]
mod common;

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use common::{MIB, Setup, fsnap, received};
use fsnap_testbed::{VolumeType, checksum, content, df_used, fill};

const HEALED_WITHIN: Duration = Duration::from_secs(900);
/// The brick that is away.
const AWAY: usize = 2;

/// What is made while the brick is away, beside the changes to the file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missed {
    Nothing,
    Snapshot,
    Copy,
}

/// What a heal has cost.
#[derive(Clone, Copy)]
struct Cost {
    sent: u64,
    blocks: u64,
    time: Duration,
}

impl Cost {
    /// Without what the file itself has cost.
    fn beyond(self, file: Cost) -> Cost {
        Cost {
            sent: self.sent.saturating_sub(file.sent),
            blocks: self.blocks.saturating_sub(file.blocks),
            time: self.time.saturating_sub(file.time),
        }
    }

    fn line(self, what: &str) {
        println!(
            "  {what:<9} {:>9.1} MiB sent  {:>8.1} MiB of new blocks  {:>6.1} s",
            self.sent as f64 / MIB as f64,
            self.blocks as f64 / MIB as f64,
            self.time.as_secs_f64()
        );
    }
}

fn main() -> ExitCode {
    let size = std::env::args().nth(1).map_or(Ok(1024), |arg| arg.parse());
    let Ok(size @ 16..=16384) = size else {
        eprintln!("usage: reseed [MIB], from 16 to 16384");
        return ExitCode::from(2);
    };
    println!("a file of {size} MiB, 1 % of it changed");
    // How long each change is, and cluster.self-heal-window-size: so many times 128 KiB are compared and sent at a time.
    for (change, window) in [(MIB, 8), (128 << 10, 8), (128 << 10, 1), (4 << 10, 8), (4 << 10, 1)] {
        println!("changes of {} KiB, compared by {} KiB", change >> 10, window * 128);
        let cost = |missed| heal(size * MIB, change, window, missed);
        let file = cost(Missed::Nothing);
        file.line("the file");
        let snapshot = cost(Missed::Snapshot).beyond(file);
        snapshot.line("snapshot");
        let copy = cost(Missed::Copy).beyond(file);
        copy.line("copy");
        let part = |of: fn(Cost) -> u64| 100.0 * of(snapshot) as f64 / of(copy).max(1) as f64;
        println!(
            "  the snapshot costs {:.1} % of the bytes and {:.1} % of the blocks",
            part(|cost| cost.sent),
            part(|cost| cost.blocks)
        );
    }
    ExitCode::SUCCESS
}

fn heal(size: u64, change: u64, window: u64, missed: Missed) -> Cost {
    let Setup { mount, volume, disks, scene } =
        common::volume(VolumeType::Replicate(3), 3, 3 * size + 512 * MIB, |volume| {
            volume.option("cluster.self-heal-window-size", &window.to_string())
        });
    let file = mount.path().join("f");
    fill(&file, size, 1);
    volume.kill_brick(AWAY);
    mount.wait_connected(2);
    alter(&file, size, change);
    let copy = mount.path().join("copy");
    match missed {
        Missed::Nothing => {}
        Missed::Snapshot => fsnap(&file, "create", "s").expect("a snapshot"),
        Missed::Copy => drop(std::fs::copy(&file, &copy).expect("a copy")),
    }
    let (used, start) = (df_used(disks[AWAY].path()), Instant::now());
    let before = received(&scene);
    volume.restart_brick(AWAY);
    volume.await_healed(HEALED_WITHIN);
    let (sent, time) = (received(&scene) - before, start.elapsed());
    let blocks = df_used(disks[AWAY].path()).saturating_sub(used);
    let brick = volume.brick_path(AWAY);
    let right = checksum(volume.brick_path(0).join("f"));
    let made = match missed {
        Missed::Nothing => brick.join("f"),
        Missed::Snapshot => brick.join(".fsnap/f@s"),
        Missed::Copy => brick.join("copy"),
    };
    assert_eq!(checksum(made), right, "healed");
    Cost { sent, blocks, time }
}

/// Changes 1 % of the file, spread over all of it.
fn alter(path: &Path, size: u64, change: u64) {
    let file = OpenOptions::new().write(true).open(path).expect("the file");
    let count = (size / 100 / change).max(1);
    for n in 0..count {
        let at = n * (size / count) / change * change;
        file.write_all_at(&content(change as usize, 1000 + n), at).expect("a write");
    }
    file.sync_all().expect("a sync");
}
