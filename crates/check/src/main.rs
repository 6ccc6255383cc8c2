//! `fsnap-check`: is everything on a brick as fsnap left it?

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use fsnap_store::check::{self, Options, Problem, Report, escaped};
use serde_json::{Value, json};

const EXIT_CODES: &str = "Exit codes:
  0  nothing is wrong (what is merely worth knowing does not count)
  1  there are problems, or some are left after the repair
  2  wrong arguments
  3  could not check: no brick, not root, another version of fsnap, or in use (--repair)

All kinds of problems are in docs/check.md.";

/// Checks the snapshots on a brick.
///
/// The brick may be in use, unless it is to be repaired. A check changes nothing.
#[derive(Parser)]
#[command(name = "fsnap-check", version, after_help = EXIT_CODES)]
struct Args {
    /// The brick's directory on this server
    brick: PathBuf,
    /// Set right what can be set right without guessing; the brick must be stopped. What may be data goes into
    /// quarantine, .glusterfs/fsnap/lost, and from there when it is older than a day
    #[arg(long)]
    repair: bool,
    /// Report as JSON
    #[arg(long)]
    json: bool,
    /// Report nothing but problems
    #[arg(long, short)]
    quiet: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let options = Options { repair: args.repair, ..Options::default() };
    let report = match check::run(&args.brick, &options) {
        Ok(report) => report,
        Err(why) => {
            eprintln!("fsnap-check: {}: {why}", escaped(&args.brick));
            return ExitCode::from(3);
        }
    };
    let told = if args.json { tell_json(&args.brick, &report) } else { tell(&report, args.quiet) };
    match told {
        // Whoever reads it may have read enough.
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("fsnap-check: cannot write the report: {e}");
            ExitCode::from(3)
        }
        _ => ExitCode::from(u8::from(!report.is_clean())),
    }
}

fn tell(report: &Report, quiet: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for problem in report.repaired.iter().filter(|_| !quiet) {
        writeln!(out, "repaired: {problem}")?;
    }
    for problem in report.problems.iter().filter(|p| !quiet || p.kind.severity() > check::Severity::Info) {
        let hint = if problem.repairable { " [--repair]" } else { "" };
        writeln!(out, "{problem}{hint}")?;
    }
    if quiet {
        return Ok(());
    }
    let Report { files, snapshots, repaired, .. } = report;
    let [errors, warnings] = [check::Severity::Error, check::Severity::Warning]
        .map(|severity| report.problems.iter().filter(|p| p.kind.severity() == severity).count());
    let in_use = if report.in_use { "; the brick is in use" } else { "" };
    writeln!(
        out,
        "{files} files with {snapshots} snapshots; {errors} errors, {warnings} warnings, {} repaired{in_use}",
        repaired.len()
    )
}

fn tell_json(brick: &Path, report: &Report) -> io::Result<()> {
    let all = |problems: &[Problem]| problems.iter().map(as_json).collect::<Vec<_>>();
    let report = json!({
        "version": 1,
        "brick": escaped(brick),
        "in_use": report.in_use,
        "files": report.files,
        "snapshots": report.snapshots,
        "problems": all(&report.problems),
        "repaired": all(&report.repaired),
    });
    writeln!(io::stdout().lock(), "{report}")
}

fn as_json(problem: &Problem) -> Value {
    json!({
        "kind": problem.kind.as_str(),
        "severity": problem.kind.severity().as_str(),
        "path": escaped(&problem.path),
        "gfid": problem.gfid.map(|gfid| gfid.to_string()),
        "text": problem.text,
        "repairable": problem.repairable,
    })
}
