//! The table and the plots in a document, between two markers.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::io;
use std::path::Path;

use crate::figure::{Figure, Outcome, Unit};
use crate::plot::{Line, Plot};
use crate::results::Results;

const BEGIN: &str = "<!-- fsnap-bench: from here on it is generated -->";
const END: &str = "<!-- fsnap-bench: to here -->";
const HEAD: &str = "| what | format 1 | now | beside it, now | goal |\n|---|---|---|---|---|\n";

/// The plots: their files' names, titles, axes, and the rows whose figures with numbers are their curves.
const PLOTS: [(&str, &str, &str, &[&str]); 4] = [
    (
        "performance-snapshots.svg",
        "What grows with the snapshots of a file",
        "snapshots",
        &["list", "open", "create"],
    ),
    ("performance-extents.svg", "What grows with the extents of a file", "extents of 4 KiB", &["restore"]),
    ("performance-files.svg", "What grows with files, 10 snapshots each", "files", &["walk"]),
    ("performance-rivals.svg", "What grows with the size of a file", "MiB", &["rivals"]),
];

/// Renews the generated part of the document, and the plots beside it. The column of format 1 is of `before`; where there is
/// none it stays as it is.
pub fn write(document: &Path, results: &Results, before: Option<&Results>) -> io::Result<()> {
    let text = fs::read_to_string(document)?;
    let parts = text.split_once(BEGIN).and_then(|(head, rest)| Some((head, rest.split_once(END)?)));
    let Some((head, (old, tail))) = parts else {
        return Err(io::Error::other(format!(
            "{} has no line {BEGIN}, or none {END} behind",
            document.display()
        )));
    };
    let mut generated = String::new();
    for (name, svg) in plots(results) {
        fs::write(document.with_file_name(name), svg)?;
        writeln!(generated, "![{}]({name})\n", title(name)).expect("a string");
    }
    generated.push_str(&tables(results, before, &old_column(old)));
    fs::write(document, format!("{head}{BEGIN}\n\n{}\n{END}{tail}", generated.trim_start()))
}

/// The plots that there are figures for.
pub fn plots(results: &Results) -> Vec<(&'static str, String)> {
    let svg = |(name, title, x, rows): &(&'static str, &str, &str, &[&str])| {
        let mut curves: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
        let chosen = results.rows.iter().filter(|row| rows.contains(&row.row.as_str()));
        for figure in chosen.flat_map(|row| &row.figures).filter(|figure| figure.unit == Unit::Time) {
            let Some(at) = figure.at.filter(|at| *at > 0) else { continue };
            // The same figure against another floor.
            if figure.what.contains("(against") {
                continue;
            }
            let mut add = |name: String, seconds: f64| {
                if seconds > 0.0 {
                    curves.entry(name).or_default().push((at as f64, seconds * 1e3));
                }
            };
            add(curve(&figure.what), figure.value.median);
            if rows.contains(&"walk") {
                figure.beside.iter().for_each(|(name, value)| add(name.clone(), value.median));
            }
        }
        let lines = curves.into_iter().map(|(name, points)| Line { name, points }).collect();
        let plot = Plot { title: (*title).to_owned(), x: (*x).to_owned(), y: "ms".to_owned(), lines };
        Some((*name, plot.svg()?))
    };
    PLOTS.iter().filter_map(svg).collect()
}

fn title(name: &str) -> &'static str {
    PLOTS.iter().find(|plot| plot.0 == name).map_or("", |plot| plot.1)
}

/// A figure's name without its number.
fn curve(what: &str) -> String {
    let mut name = what.to_owned();
    for gone in [
        " of a file with {} snapshots",
        ", {} snapshots",
        " of {} snapshots",
        " of {} files",
        ", {} MiB",
        ", {} extents",
    ] {
        name = name.replace(gone, "");
    }
    name
}

/// A table for each row.
fn tables(results: &Results, before: Option<&Results>, old: &BTreeMap<String, String>) -> String {
    let mut text = format!("Measured on: {}.\n", results.machine);
    if let Some(before) = before.filter(|before| before.machine != results.machine) {
        writeln!(text, "Format 1 on: {}.", before.machine).expect("a string");
    }
    for row in &results.rows {
        let quick = if row.quick { ", with a tenth of the sizes (`--quick`)" } else { "" };
        write!(text, "\n### {}\n\nRow `{}`{quick}.\n\n{HEAD}", row.title, row.row).expect("a string");
        for figure in &row.figures {
            let earlier = match before {
                Some(before) => earlier(before, row, figure),
                None => old.get(&key(&row.row, &figure.name())).cloned().unwrap_or_default(),
            };
            let cells = [figure.name(), earlier, figure.text(), figure.beside_text(), figure.goal_text()];
            writeln!(text, "| {} |", cells.map(|cell| cell.replace('|', "\\|")).join(" | "))
                .expect("a string");
        }
        if !row.notes.is_empty() {
            text.push('\n');
        }
        row.notes.iter().for_each(|note| writeln!(text, "- {note}").expect("a string"));
    }
    text
}

/// What the figure was before.
fn earlier(before: &Results, row: &Outcome, figure: &Figure) -> String {
    before.find(&row.row, &figure.name()).map(Figure::text).unwrap_or_default()
}

fn key(row: &str, what: &str) -> String {
    format!("{row}: {what}")
}

/// The second column of the tables that the document has.
fn old_column(generated: &str) -> BTreeMap<String, String> {
    let (mut column, mut row) = (BTreeMap::new(), "");
    for line in generated.lines() {
        if let Some(rest) = line.strip_prefix("Row `") {
            row = rest.split('`').next().unwrap_or_default();
        }
        let cells: Vec<&str> = line.split(" | ").collect();
        if let [what, earlier, _, _, _] = cells[..] {
            column.insert(key(row, what.trim_start_matches("| ")), earlier.to_owned());
        }
    }
    column
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Series;

    fn results(seconds: f64) -> Results {
        let figure = |at| Figure::time("list of {} snapshots", &Series(vec![seconds * at as f64])).at(at);
        let (row, figures) = ("list".to_owned(), vec![figure(1), figure(64)]);
        let outcome = Outcome { row, figures, title: "List".to_owned(), ..Outcome::default() };
        Results { version: 1, machine: "a machine".to_owned(), rows: vec![outcome] }
    }

    #[test]
    fn what_was_before_stays_in_the_table() {
        let old = tables(&results(0.001), Some(&results(0.002)), &BTreeMap::new());
        assert!(old.contains("| list of 64 snapshots | 128 ms | 64.0 ms |  |  |"), "{old}");
        let new = tables(&results(0.003), None, &old_column(&old));
        assert!(new.contains("| list of 64 snapshots | 128 ms | 192 ms |  |  |"), "{new}");
    }

    #[test]
    fn figures_with_numbers_are_plotted() {
        let plots = plots(&results(0.001));
        assert_eq!(plots.iter().map(|plot| plot.0).collect::<Vec<_>>(), ["performance-snapshots.svg"]);
        assert!(plots[0].1.contains(">list<"));
    }
}
