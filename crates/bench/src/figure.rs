//! What a row says: figures, as they are kept in the file of results.

use serde::{Deserialize, Serialize};

use crate::stats::{Series, Spread};

/// One measured thing, with what it is held against.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Figure {
    /// What was measured; with `at` it is unique.
    pub what: String,
    /// The number that it may grow with, such as that of snapshots.
    pub at: Option<u64>,
    /// Of the value.
    pub unit: Unit,
    /// The value.
    pub value: Spread,
    /// The floor or rival of the same run, and its value.
    pub beside: Option<(String, Spread)>,
    /// How many times the floor or rival, round by round.
    pub ratio: Option<Spread>,
    /// What it should be.
    pub goal: Option<Goal>,
}

/// Of a value. Times are kept in seconds.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Seconds.
    Time,
    /// Each second.
    Rate,
    /// Bytes.
    Bytes,
    /// A number.
    Count,
    /// MiB in each second.
    Throughput,
}

/// What a figure should be at most, or at least.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Goal {
    /// As people say it.
    pub text: String,
    /// The limit.
    pub limit: f64,
    /// Whether the limit is the least that will do.
    pub at_least: bool,
    /// Whether it is about the ratio, and not about the value.
    pub of_ratio: bool,
}

impl Goal {
    /// The ratio is at most so much.
    pub fn ratio(limit: f64) -> Goal {
        Goal { text: format!("≤ {limit}×"), limit, at_least: false, of_ratio: true }
    }

    /// The value is at most so much.
    pub fn most(limit: f64, text: &str) -> Goal {
        Goal { text: format!("≤ {text}"), limit, at_least: false, of_ratio: false }
    }

    /// The value is at least so much.
    pub fn least(limit: f64, text: &str) -> Goal {
        Goal { text: format!("≥ {text}"), limit, at_least: true, of_ratio: false }
    }
}

impl Figure {
    /// Of a value without anything beside it.
    pub fn new(what: &str, unit: Unit, value: Spread) -> Figure {
        Figure { what: what.to_owned(), at: None, unit, value, beside: None, ratio: None, goal: None }
    }

    /// Of times in seconds.
    pub fn time(what: &str, times: &Series) -> Figure {
        Figure::new(what, Unit::Time, times.spread())
    }

    /// Holds it against what was measured in the same rounds.
    pub fn beside(mut self, name: &str, own: &Series, other: &Series) -> Figure {
        self.beside = Some((name.to_owned(), other.spread()));
        self.ratio = Some(own.over(other));
        self
    }

    /// The number that it may grow with.
    pub fn at(mut self, number: u64) -> Figure {
        self.at = Some(number);
        self
    }

    /// What it should be.
    pub fn goal(mut self, goal: Goal) -> Figure {
        self.goal = Some(goal);
        self
    }

    /// What was measured, with its number.
    pub fn name(&self) -> String {
        match self.at {
            Some(number) => self.what.replace("{}", &number.to_string()),
            None => self.what.clone(),
        }
    }

    /// Whether the goal is met, if there is one.
    pub fn meets(&self) -> Option<bool> {
        let goal = self.goal.as_ref()?;
        let value = if goal.of_ratio { self.ratio?.median } else { self.value.median };
        Some(if goal.at_least { value >= goal.limit } else { value <= goal.limit })
    }

    /// The value as people read it, and how many times the floor it is.
    pub fn text(&self) -> String {
        let value = self.unit.text(self.value);
        match self.ratio {
            Some(ratio) => format!("{value}, {}×", spread(ratio)),
            None => value,
        }
    }

    /// The floor or rival, with its value.
    pub fn beside_text(&self) -> String {
        let text = |(name, value): &(String, Spread)| format!("{name}: {}", self.unit.text(*value));
        self.beside.as_ref().map(text).unwrap_or_default()
    }

    /// The goal, and whether it is met.
    pub fn goal_text(&self) -> String {
        let Some(goal) = &self.goal else { return String::new() };
        let met = if self.meets() == Some(true) { "met" } else { "missed" };
        format!("{} ({met})", goal.text)
    }
}

impl Unit {
    /// A spread in the unit that fits its size.
    pub fn text(self, value: Spread) -> String {
        let (factor, unit) = match self {
            Unit::Time if value.median.abs() < 1e-3 => (1e6, " µs"),
            Unit::Time if value.median.abs() < 1.0 => (1e3, " ms"),
            Unit::Time => (1.0, " s"),
            Unit::Rate => (1.0, " /s"),
            Unit::Bytes if value.median.abs() >= 1024.0 => (1.0 / 1024.0, " KiB"),
            Unit::Bytes => (1.0, " bytes"),
            Unit::Count => (1.0, ""),
            Unit::Throughput => (1.0, " MiB/s"),
        };
        format!("{}{unit}", spread(value.scaled(factor)))
    }
}

/// The median, and between which values most lie, if there are several.
fn spread(value: Spread) -> String {
    match value.count {
        1 => number(value.median),
        _ => format!("{} ({}–{})", number(value.median), number(value.p10), number(value.p90)),
    }
}

/// Three digits that count.
fn number(value: f64) -> String {
    let digits = match value.abs() {
        v if v >= 99.95 => 0,
        v if v >= 9.995 => 1,
        v if (0.9..1.1).contains(&v) => 3,
        v if v >= 0.0995 || v == 0.0 => 2,
        _ => 3,
    };
    format!("{value:.digits$}")
}

/// What one row has measured.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Outcome {
    /// The row's name on the command line.
    pub row: String,
    /// What it is about.
    pub title: String,
    /// Whether sizes were cut to a tenth.
    pub quick: bool,
    /// How long it took.
    pub seconds: f64,
    /// How many processes wanted to run when it began, in the minute before.
    #[serde(default)]
    pub load: f64,
    /// The figures.
    pub figures: Vec<Figure>,
    /// What else is to be known.
    pub notes: Vec<String>,
}

impl Outcome {
    /// Adds a figure.
    pub fn add(&mut self, figure: Figure) {
        self.figures.push(figure);
    }

    /// Adds a word.
    pub fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_by_people() {
        let (own, floor) = (Series(vec![0.002, 0.002, 0.002]), Series(vec![0.001, 0.001, 0.001]));
        let figure =
            Figure::time("create at {}", &own).at(7).beside("raw", &own, &floor).goal(Goal::ratio(1.3));
        assert_eq!(figure.name(), "create at 7");
        assert_eq!(figure.text(), "2.00 (2.00–2.00) ms, 2.00 (2.00–2.00)×");
        assert_eq!(figure.beside_text(), "raw: 1.000 (1.000–1.000) ms");
        assert_eq!(figure.goal_text(), "≤ 1.3× (missed)");
        let rate =
            Figure::new("creates", Unit::Rate, Spread::of(&[2500.0])).goal(Goal::least(2000.0, "2,000 /s"));
        assert_eq!((rate.text().as_str(), rate.meets()), ("2500 /s", Some(true)));
        assert_eq!(Unit::Bytes.text(Spread::of(&[1536.0])), "1.50 KiB");
    }
}
