//! The file of results: what was measured last of each row, and on what.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::figure::{Figure, Outcome};
use crate::rows::ROWS;

/// What the file has.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Results {
    /// Of the file's format.
    pub version: u32,
    /// What it was measured on, when a row was measured last.
    pub machine: String,
    /// The rows, in the order of the table.
    pub rows: Vec<Outcome>,
}

impl Results {
    /// What the file has; nothing if it is not there.
    pub fn read(path: &Path) -> io::Result<Results> {
        if !path.exists() {
            return Ok(Results { version: 1, ..Results::default() });
        }
        Results::of_file(path)
    }

    /// What the file has, which has to be there.
    pub fn of_file(path: &Path) -> io::Result<Results> {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let bytes = fs::read(path).map_err(named)?;
        serde_json::from_slice(&bytes).map_err(|error| named(error.into()))
    }

    /// Writes it.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        let text = serde_json::to_string_pretty(self).map_err(io::Error::other)?;
        fs::write(path, text + "\n")
    }

    /// A row was measured (again).
    pub fn put(&mut self, outcome: Outcome) {
        self.machine = machine();
        self.rows.retain(|row| row.row != outcome.row);
        self.rows.push(outcome);
        self.rows.sort_by_key(|row| ROWS.iter().position(|known| known.name == row.row));
    }

    /// The row of that name, if it was measured.
    pub fn row(&self, name: &str) -> Option<&Outcome> {
        self.rows.iter().find(|outcome| outcome.row == name)
    }

    /// The figure of that row and name, if it was measured.
    pub fn find(&self, row: &str, name: &str) -> Option<&Figure> {
        self.row(row)?.figures.iter().find(|figure| figure.name() == name)
    }
}

/// Processors, kernel and GlusterFS.
fn machine() -> String {
    let first_line = |program: &str, arg: &str| {
        let output = Command::new(program).arg(arg).output().ok();
        let text =
            output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        text.lines().next().unwrap_or_default().to_owned()
    };
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cores = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = meminfo.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0);
    let (release, gluster) = (first_line("uname", "-r"), first_line("glusterfs", "--version"));
    format!("{cores} cores, {} GiB of memory, Linux {release}, {gluster}", kib >> 20)
}
