//! What those notice who work on a brick while a file with very many extents is cloned on it.
//!
//! `latency [EXTENTS]`: how many extents the file has, 100000 if not given. Needs root.

#[path = "../tests/common/mod.rs"]
mod common;
#[path = "../tests/load/mod.rs"]
mod load;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use common::{distribute, fsnap};
use load::latency::{Probe, fragment, table};

fn main() -> ExitCode {
    let extents = std::env::args().nth(1).map_or(Ok(100_000), |arg| arg.parse());
    let Ok(extents @ 1..=1_000_000) = extents else {
        eprintln!("usage: latency [EXTENTS], from 1 to 1000000");
        return ExitCode::from(2);
    };
    let setup = distribute(1);
    let file = setup.mount.path().join("long");
    std::fs::write(&file, b"").expect("a file");
    fragment(&setup.scene, &setup.volume.bricks()[0].dir.join("long"), extents);
    let mut probe = Probe::new(&setup.mount.path().join("probe"));
    let until = Instant::now() + Duration::from_secs(10);
    let quiet = probe.run(|| Instant::now() >= until);
    let (busy, clone) = probe.during(|| fsnap(&file, "create", "s"));
    println!("clone of {extents} extents by create: {:.0} ms", clone.as_secs_f64() * 1e3);
    println!("{}", table(&quiet, &busy));
    ExitCode::SUCCESS
}
