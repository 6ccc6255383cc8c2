//! Measures fsnap: each row of the table in docs/performance.md, beside its floor or rival in the same run.
//!
//! Needs root, and the release builds of the library, the command and the checker beside it (`make bench`).

mod bare;
mod document;
mod figure;
mod plot;
mod results;
mod rows;
mod stage;
mod stats;

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use clap::builder::PossibleValuesParser;

use figure::Outcome;
use results::Results;
use rows::{ROWS, Row, Scale};

/// Measures fsnap, each row beside its floor or rival in the same run.
#[derive(Parser)]
#[command(name = "fsnap-bench")]
struct Args {
    /// Which rows to measure [default: all]
    #[arg(value_name = "ROW", value_parser = PossibleValuesParser::new(ROWS.iter().map(|row| row.name)))]
    rows: Vec<String>,
    /// Sizes and rounds are cut to a tenth: a few minutes, for a first look
    #[arg(long)]
    quick: bool,
    /// The file of results: what is measured replaces its rows there, the others stay
    #[arg(long, value_name = "FILE", default_value = "target/bench/results.json")]
    results: PathBuf,
    /// Measures nothing: shows, or writes, what the file of results has
    #[arg(long, conflicts_with_all = ["rows", "quick"])]
    show: bool,
    /// Renews the tables between the markers of a document, and the plots beside it, by the file of results
    #[arg(long, value_name = "DOCUMENT")]
    write: Option<PathBuf>,
    /// A file of results of an earlier fsnap, for the column of format 1; without it that column stays as it is
    #[arg(long, value_name = "FILE", requires = "write")]
    before: Option<PathBuf>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if !args.show && fs::metadata("/proc/self").is_ok_and(|own| own.uid() != 0) {
        eprintln!("fsnap-bench: makes namespaces and loop devices: it needs root");
        return ExitCode::FAILURE;
    }
    match measure(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("fsnap-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all rows could be measured.
fn measure(args: &Args) -> io::Result<bool> {
    let mut results = Results::read(&args.results)?;
    let mut all = true;
    if args.show {
        results.rows.iter().for_each(tell);
    }
    let chosen = |row: &&Row| args.rows.is_empty() || args.rows.iter().any(|name| name == row.name);
    for row in ROWS.iter().filter(|_| !args.show).filter(chosen) {
        match one(row, Scale { quick: args.quick }) {
            Some(outcome) => {
                results.put(outcome);
                results.write(&args.results)?;
            }
            None => all = false,
        }
    }
    for (name, svg) in document::plots(&results) {
        fs::write(args.results.with_file_name(name), svg)?;
    }
    if let Some(document) = &args.write {
        let before = args.before.as_ref().map(|file| Results::of_file(file.as_path())).transpose()?;
        document::write(document, &results, before.as_ref())?;
    }
    Ok(all)
}

/// Measures and shows a row, unless it panics.
fn one(row: &Row, scale: Scale) -> Option<Outcome> {
    let (name, title) = (row.name.to_owned(), row.title.to_owned());
    let mut outcome = Outcome { row: name, title, quick: scale.quick, load: load(), ..Outcome::default() };
    let start = Instant::now();
    let ran = catch_unwind(AssertUnwindSafe(|| (row.run)(scale, &mut outcome)));
    outcome.seconds = start.elapsed().as_secs_f64();
    tell(&outcome);
    if ran.is_err() {
        eprintln!("fsnap-bench: {} could not be measured to its end", row.name);
        return None;
    }
    Some(outcome)
}

/// How many processes wanted to run in the last minute.
fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(0.0)
}

/// Shows a row.
fn tell(outcome: &Outcome) {
    let size = if outcome.quick { ", quick: a tenth of the sizes" } else { "" };
    println!(
        "\n{} ({}{size}; {:.0} s, load before: {:.1})",
        outcome.title, outcome.row, outcome.seconds, outcome.load
    );
    for figure in &outcome.figures {
        println!("  {:<66} {}", figure.name(), figure.text());
        for more in [figure.beside_text(), figure.goal_text()].iter().filter(|text| !text.is_empty()) {
            println!("  {:<66}   {more}", "");
        }
    }
    outcome.notes.iter().for_each(|note| println!("  {note}"));
}
