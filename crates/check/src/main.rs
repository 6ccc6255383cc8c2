//! `fsnap-check`: is everything on a brick as fsnap left it?

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use fsnap_check::{Flags, NOT_CHECKED, check};

const EXIT_CODES: &str = "Exit codes:
  0  nothing is wrong (what is merely worth knowing does not count)
  1  there are problems, or some are left after the repair
  2  wrong arguments
  3  could not check: no brick, not root, another version of fsnap, or in use (--repair,
     --empty-quarantine)

All kinds of problems are in docs/check.md.";

/// Checks the snapshots on a brick.
///
/// The brick may be in use, unless it is to be repaired or its quarantine emptied. A check changes nothing.
#[derive(Parser)]
#[command(name = "fsnap-check", version, after_help = EXIT_CODES)]
struct Args {
    /// The brick's directory on this server
    brick: PathBuf,
    #[command(flatten)]
    flags: Flags,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match check(&args.brick, &args.flags) {
        Ok(clean) => ExitCode::from(u8::from(!clean)),
        Err(why) => {
            eprintln!("fsnap-check: {why}");
            ExitCode::from(NOT_CHECKED)
        }
    }
}
