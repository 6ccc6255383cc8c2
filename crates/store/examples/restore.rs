//! How long a restore takes, as a multiple of what the kernel needs for the same: ftruncate, FICLONE and fsync of the same file, in
//! turn with it. Needs root: it makes a disk of its own, which goes with it.
//!
//! `cargo run --release -p fsnap-store --example restore [ROUNDS] [xfs|exchange|btrfs]`

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

use fsnap_core::command::Create;
use fsnap_core::gfid2path::Link;
use fsnap_core::{Gfid, SnapName};
use fsnap_store::{Limits, Store};
use fsnap_testbed::{Fs, Scene, content, run, setx};

const BLOCK: u64 = 4096;

/// A file of `extents` blocks with holes between them, or in one piece for few.
struct Case {
    name: &'static str,
    extents: u64,
    /// Every so many of them is written to after the snapshot.
    stride: u64,
    /// Bytes of one.
    size: u64,
}

const CASES: [Case; 3] = [
    Case { name: "4 extents, all differ", extents: 4, stride: 1, size: 64 * BLOCK },
    Case { name: "10,000 extents, 3 differ", extents: 10_000, stride: 3_400, size: BLOCK },
    Case { name: "10,000 extents, all differ", extents: 10_000, stride: 1, size: BLOCK },
];

fn main() {
    let mut args = std::env::args().skip(1);
    let rounds: usize = args.next().map_or(11, |n| n.parse().expect("ROUNDS is a number"));
    let kind = match args.next().as_deref() {
        None | Some("xfs") => Fs::Xfs,
        Some("exchange") => Fs::XfsExchange,
        Some("btrfs") => Fs::Btrfs,
        Some(other) => panic!("not a file system: {other}"),
    };
    let disk = Scene::new().disk(kind, 8 << 30, "/run/scene/disk");
    let brick = disk.path().join("brick");
    fs::create_dir_all(brick.join(".glusterfs/00/00")).unwrap();
    setx(&brick, "trusted.gfid", Gfid::ROOT.as_bytes()).unwrap();
    symlink("../../..", brick.join(Gfid::ROOT.handle())).unwrap();
    let store = Store::open(&brick).unwrap();
    let limits = Limits { max_snapshots: 256, min_free: 0 };
    for (n, case) in CASES.iter().enumerate() {
        let path = brick.join(format!("f{n}"));
        let file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
        case.write(&file, 1, 1);
        let base = adopt(&brick, &path, n as u8 + 1);
        let name = SnapName::parse(b"a").unwrap();
        let create = Create { name: name.clone(), created: None, id: None };
        store.create(base, &create, &limits).unwrap();
        let snapshot = File::open(brick.join(format!(".fsnap/f{n}@a"))).unwrap();
        let (mut raw, mut ours, mut floor) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..rounds as u64 {
            for raw_first in [round % 2 == 0, round % 2 != 0] {
                case.write(&file, case.stride, round);
                run(std::process::Command::new("sync").arg("-f").arg(&brick));
                // XFS frees in the background what the last one has left.
                std::thread::sleep(Duration::from_millis(20 + case.extents / 20));
                let start = Instant::now();
                if raw_first {
                    file.set_len(case.end()).unwrap();
                    rustix::fs::ioctl_ficlone(&file, &snapshot).unwrap();
                    file.sync_all().unwrap();
                    raw.push(start.elapsed());
                } else {
                    store.restore(base, &name).unwrap();
                    ours.push(start.elapsed());
                }
            }
            // What a restore must do besides: something small is to be durable.
            let start = Instant::now();
            file.set_permissions(fs::Permissions::from_mode(0o600 + round as u32 % 2 * 0o40)).unwrap();
            file.sync_all().unwrap();
            floor.push(start.elapsed());
        }
        let ratio = median(&mut ours).as_secs_f64() / median(&mut raw).as_secs_f64();
        println!(
            "{:27} restore / raw {ratio:5.2}   restore {}   raw {}   an fsync of one change {}",
            case.name,
            spread(&mut ours),
            spread(&mut raw),
            spread(&mut floor)
        );
    }
}

impl Case {
    fn end(&self) -> u64 {
        self.extents * self.size * 2
    }

    fn write(&self, file: &File, stride: u64, seed: u64) {
        let bytes = content(self.size as usize, seed);
        for n in (0..self.extents).step_by(stride as usize) {
            file.write_all_at(&bytes, n * self.size * 2).unwrap();
        }
        file.set_len(self.end()).unwrap();
    }
}

/// Gives the file what storage/posix gives it.
fn adopt(brick: &Path, path: &Path, n: u8) -> Gfid {
    let gfid = Gfid::from_bytes([n; 16]);
    let handle = brick.join(gfid.handle());
    setx(path, "trusted.gfid", gfid.as_bytes()).unwrap();
    fs::create_dir_all(handle.parent().unwrap()).unwrap();
    fs::hard_link(path, handle).unwrap();
    let name = path.file_name().unwrap().as_encoded_bytes().to_vec();
    let link = Link { parent: Gfid::ROOT, name };
    setx(path, link.key(), link.encode()).unwrap();
    gfid
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// The median, and between what the middle half lies.
fn spread(times: &mut [Duration]) -> String {
    let middle = median(times);
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let (low, high) = (times[times.len() / 4], times[times.len() * 3 / 4]);
    format!("{:.2} ({:.2} to {:.2}) ms", ms(middle), ms(low), ms(high))
}
