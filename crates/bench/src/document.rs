//! The table and the plots in a document, between two markers.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::io;
use std::path::Path;

use crate::figure::{Figure, Outcome, Unit};
use crate::plot::{Line, Plot};
use crate::results::Results;
use crate::rows::ROWS;

const BEGIN: &str = "<!-- fsnap-bench: from here on it is generated -->";
const END: &str = "<!-- fsnap-bench: to here -->";
/// From this load on it is told of.
const BUSY: f64 = 1.0;
const SECTION: &str = "### ";
const NOW_ON: &str = "Measured on";
const BEFORE_ON: &str = "Format 1 on";
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

/// Renews the generated part of the document, and the plots beside it. The column of format 1 is of `before`; where a row is not in that it
/// stays as it is, and so do the tables and plots of rows that were not measured.
pub fn write(document: &Path, results: &Results, before: Option<&Results>) -> io::Result<()> {
    let text = fs::read_to_string(document)?;
    let parts = text.split_once(BEGIN).and_then(|(head, rest)| Some((head, rest.split_once(END)?)));
    let Some((head, (old, tail))) = parts else {
        return Err(io::Error::other(format!(
            "{} has no line {BEGIN}, or none {END} behind",
            document.display()
        )));
    };
    let drawn = drawn(&with_rows_of(results, before));
    for (name, _, svg) in &drawn {
        fs::write(document.with_file_name(name), svg)?;
    }
    let mut generated = String::new();
    for (name, title, ..) in PLOTS {
        let shown = format!("![{title}]({name})\n\n");
        if drawn.iter().any(|plot| plot.0 == name) || old.contains(&shown) {
            generated.push_str(&shown);
        }
    }
    generated.push_str(&tables(results, before, &Old::read(old)));
    fs::write(document, format!("{head}{BEGIN}\n\n{}\n{END}{tail}", generated.trim()))
}

/// The results, with those of before where a row was not measured again.
fn with_rows_of(results: &Results, before: Option<&Results>) -> Results {
    let mut all = results.clone();
    let measured = |name: &str| results.rows.iter().any(|row| row.row == name);
    let more = before.iter().flat_map(|before| &before.rows).filter(|row| !measured(&row.row));
    all.rows.extend(more.cloned());
    all
}

/// The plots that there are figures for.
pub fn plots(results: &Results) -> Vec<(&'static str, String)> {
    drawn(results).into_iter().map(|(name, _, svg)| (name, svg)).collect()
}

/// The same, with their titles.
fn drawn(results: &Results) -> Vec<(&'static str, &'static str, String)> {
    let svg = |(name, title, x, rows): &(&'static str, &'static str, &str, &[&str])| {
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
        let lines =
            curves.into_iter().map(|(name, points)| Line { name: name + &law(&points), points }).collect();
        let plot = Plot { title: (*title).to_owned(), x: (*x).to_owned(), y: "ms".to_owned(), lines };
        Some((*name, *title, plot.svg()?))
    };
    PLOTS.iter().filter_map(svg).collect()
}

/// The power of x by which a curve grows in the end, between its last two points.
fn law(points: &[(f64, f64)]) -> String {
    let [.., (x, y), (next_x, next_y)] = points else { return String::new() };
    let power = (next_y / y).ln() / (next_x / x).ln();
    format!(" (power {power:.1})")
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
fn tables(results: &Results, before: Option<&Results>, old: &Old) -> String {
    let mut text = String::new();
    let mut machine = |what: &str, of: Option<&str>| {
        let line = of.filter(|machine| !machine.is_empty()).map(|machine| format!("{what}: {machine}.\n\n"));
        text.push_str(&line.unwrap_or_default());
    };
    machine(NOW_ON, Some(&results.machine));
    machine(BEFORE_ON, before.map(|before| before.machine.as_str()).or(old.machine.as_deref()));
    for row in ROWS {
        let [now, earlier] = [Some(results), before].map(|of| of.and_then(|of| of.row(row.name)));
        match (now, earlier, old.rows.get(row.name)) {
            (Some(now), earlier, _) => text.push_str(&table(now, true, |figure| match (before, earlier) {
                (Some(before), Some(_)) => {
                    before.find(&now.row, &figure.name()).map(Figure::text).unwrap_or_default()
                }
                _ => old.column.get(&key(&now.row, &figure.name())).cloned().unwrap_or_default(),
            })),
            (None, Some(earlier), _) => text.push_str(&table(earlier, false, Figure::text)),
            (None, None, Some(section)) => text.push_str(section),
            (None, None, None) => {}
        }
    }
    text
}

/// The table of a row; if nothing was measured now, that column is empty.
fn table(row: &Outcome, now: bool, earlier: impl Fn(&Figure) -> String) -> String {
    let quick = if row.quick { ", with a tenth of the sizes (`--quick`)" } else { "" };
    let mut text = format!("{SECTION}{}\n\nRow `{}`{quick}.\n\n{HEAD}", row.title, row.row);
    for figure in &row.figures {
        let goal = figure.goal.as_ref().map(|goal| goal.text.clone()).unwrap_or_default();
        let of_now = [figure.text(), figure.beside_text(), figure.goal_text()];
        let [value, beside, goal] = if now { of_now } else { [String::new(), String::new(), goal] };
        let cells =
            [figure.name(), earlier(figure), value, beside, goal].map(|cell| cell.replace('|', "\\|"));
        writeln!(text, "| {} |", cells.join(" | ")).expect("a string");
    }
    text.push('\n');
    if row.load >= BUSY {
        writeln!(
            text,
            "- the machine's load was {:.1} before: others were at work, or the row before",
            row.load
        )
        .expect("a string");
    }
    row.notes.iter().for_each(|note| writeln!(text, "- {note}").expect("a string"));
    format!("{}\n\n", text.trim_end())
}

fn key(row: &str, what: &str) -> String {
    format!("{row}: {what}")
}

/// What the document has.
#[derive(Default)]
struct Old {
    /// What format 1 was measured on.
    machine: Option<String>,
    /// The column of format 1, by row and figure.
    column: BTreeMap<String, String>,
    /// The tables of the rows, with all that belongs to them.
    rows: BTreeMap<String, String>,
}

impl Old {
    fn read(generated: &str) -> Old {
        let mut old = Old::default();
        let machine =
            |line: &str| Some(line.strip_prefix(BEFORE_ON)?.trim_matches([':', ' ', '.']).to_owned());
        old.machine = generated.lines().find_map(machine);
        for section in generated.split(SECTION).skip(1) {
            let name = section.lines().find_map(|line| line.strip_prefix("Row `")?.split('`').next());
            let Some(name) = name else { continue };
            for line in section.lines() {
                if let [what, earlier, _, _, _] = line.split(" | ").collect::<Vec<_>>()[..] {
                    old.column.insert(key(name, what.trim_start_matches("| ")), earlier.to_owned());
                }
            }
            old.rows.insert(name.to_owned(), format!("{SECTION}{}\n\n", section.trim_end()));
        }
        old
    }
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
        let old = tables(&results(0.001), Some(&results(0.002)), &Old::default());
        assert!(old.contains("| list of 64 snapshots | 128 ms | 64.0 ms |  |  |"), "{old}");
        let new = tables(&results(0.003), None, &Old::read(&old));
        assert!(new.contains("| list of 64 snapshots | 128 ms | 192 ms |  |  |"), "{new}");
        assert!(new.contains("Format 1 on: a machine."));
        let kept = tables(&Results::default(), None, &Old::read(&old));
        assert_eq!(
            kept.split_once(SECTION).map(|parts| parts.1),
            old.split_once(SECTION).map(|parts| parts.1)
        );
        let other = tables(&results(0.003), Some(&Results::default()), &Old::read(&old));
        assert!(other.contains("| list of 64 snapshots | 128 ms | 192 ms |  |  |"), "{other}");
        let first = tables(&Results::default(), Some(&results(0.002)), &Old::default());
        assert!(first.contains("| list of 64 snapshots | 128 ms |  |  |  |"), "{first}");
    }

    #[test]
    fn figures_with_numbers_are_plotted() {
        let plots = plots(&results(0.001));
        assert_eq!(plots.iter().map(|plot| plot.0).collect::<Vec<_>>(), ["performance-snapshots.svg"]);
        assert!(plots[0].1.contains(">list (power 1.0)<"));
    }
}
