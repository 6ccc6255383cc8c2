//! The checker as the programs `fsnap-check` and `fsnap check` have it: arguments, text, JSON.

use std::cell::Cell;
use std::io::{self, Write};
use std::path::Path;

use fsnap_store::check::{self, Options, Problem, Report};
use serde_json::{Value, json};

pub use fsnap_store::check::{escaped, unescaped};
pub use progress::Progress;

mod progress;

/// The exit code if a brick could not be checked.
pub const NOT_CHECKED: u8 = 3;

/// How to check.
#[derive(clap::Args)]
pub struct Flags {
    /// Set right what can be set right without guessing; the brick must be stopped. What may be data goes into
    /// quarantine, .glusterfs/fsnap/lost
    #[arg(long)]
    pub repair: bool,
    /// Remove for good what is in quarantine for longer than a day; the brick must be stopped. It may be the only copy of
    /// something: look at it first
    #[arg(long)]
    pub empty_quarantine: bool,
    /// Report as JSON
    #[arg(long)]
    pub json: bool,
    /// Report nothing but problems
    #[arg(long, short)]
    pub quiet: bool,
}

/// Checks a brick and prints what was found: whether nothing is wrong, or why it could not be checked.
pub fn check(brick: &Path, flags: &Flags) -> Result<bool, String> {
    let options =
        Options { repair: flags.repair, empty_quarantine: flags.empty_quarantine, ..Options::default() };
    let (progress, met) = (Progress::new(), Cell::new(0u64));
    let meets = || {
        met.set(met.get() + 1);
        progress.tells(|| format!("{}: {} files and directories", escaped(brick), met.get()));
    };
    let checked = check::run_telling(brick, &options, &meets);
    drop(progress);
    let report = checked.map_err(|why| format!("{}: {why}", escaped(brick)))?;
    match if flags.json { tell_json(brick, &report) } else { tell(&report, flags.quiet) } {
        // Whoever reads it may have read enough.
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(format!("cannot write the report: {e}")),
        _ => Ok(report.is_clean()),
    }
}

fn tell(report: &Report, quiet: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for problem in report.repaired.iter().filter(|_| !quiet) {
        writeln!(out, "repaired: {problem}")?;
    }
    for problem in report.discarded.iter().filter(|_| !quiet) {
        writeln!(out, "discarded: {problem}")?;
    }
    for problem in report.problems.iter().filter(|p| !quiet || p.kind.severity() > check::Severity::Info) {
        let hint = if problem.repairable { " [--repair]" } else { "" };
        writeln!(out, "{problem}{hint}")?;
    }
    if quiet {
        return Ok(());
    }
    let Report { files, snapshots, repaired, discarded, .. } = report;
    let [errors, warnings] = [check::Severity::Error, check::Severity::Warning]
        .map(|severity| report.problems.iter().filter(|p| p.kind.severity() == severity).count());
    let in_use = if report.in_use { "; the brick is in use" } else { "" };
    let gone = if discarded.is_empty() { String::new() } else { format!(", {} discarded", discarded.len()) };
    writeln!(
        out,
        "{files} files with {snapshots} snapshots; {errors} errors, {warnings} warnings, {} repaired{gone}{in_use}",
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
        "discarded": all(&report.discarded),
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
