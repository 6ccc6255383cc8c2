//! Plots, as SVG: small enough to be drawn by hand.

use std::fmt::Write;

/// A curve.
pub struct Line {
    /// What the legend says.
    pub name: String,
    /// In ascending order of x; all greater than zero.
    pub points: Vec<(f64, f64)>,
}

/// Several curves, with logarithms on both axes: what does not grow is flat, and the steeper, the higher the power by which it does.
pub struct Plot {
    /// Above all.
    pub title: String,
    /// Below the axis of x.
    pub x: String,
    /// Beside the axis of y.
    pub y: String,
    /// The curves.
    pub lines: Vec<Line>,
}

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 420.0;
/// The corners of where the curves are.
const LEFT: f64 = 70.0;
const RIGHT: f64 = 470.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 370.0;
/// Legible on white for all who can't tell red from green (the colours of Okabe and Ito).
const COLOURS: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000"];

/// An axis of logarithms, from a power of ten to another.
struct Axis {
    from: i32,
    to: i32,
    begin: f64,
    end: f64,
}

impl Axis {
    fn over(values: impl Iterator<Item = f64> + Clone, begin: f64, end: f64) -> Axis {
        let least = values.clone().fold(f64::INFINITY, f64::min).log10().floor() as i32;
        let most = values.fold(0.0, f64::max).log10().ceil() as i32;
        Axis { from: least, to: most.max(least + 1), begin, end }
    }

    fn place(&self, value: f64) -> f64 {
        let share = (value.log10() - f64::from(self.from)) / f64::from(self.to - self.from);
        self.begin + share * (self.end - self.begin)
    }

    fn powers(&self) -> impl Iterator<Item = (f64, f64)> {
        (self.from..=self.to).map(|power| 10_f64.powi(power)).map(|value| (value, self.place(value)))
    }
}

impl Plot {
    /// As a file; `None` if there is no curve of two points.
    pub fn svg(&self) -> Option<String> {
        let lines: Vec<&Line> = self.lines.iter().filter(|line| line.points.len() > 1).collect();
        let points = lines.iter().flat_map(|line| &line.points);
        points.clone().next()?;
        let x = Axis::over(points.clone().map(|point| point.0), LEFT, RIGHT);
        let y = Axis::over(points.map(|point| point.1), BOTTOM, TOP);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
        );
        let mut text = |x: f64, y: f64, more: &str, what: &str| {
            let what = what.replace('&', "&amp;").replace('<', "&lt;");
            writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" {more}>{what}</text>").expect("a string");
        };
        text(LEFT, 22.0, "font-size=\"14\" font-weight=\"bold\"", &self.title);
        text((LEFT + RIGHT) / 2.0, HEIGHT - 12.0, "text-anchor=\"middle\"", &self.x);
        let middle = (TOP + BOTTOM) / 2.0;
        text(
            18.0,
            middle,
            &format!("text-anchor=\"middle\" transform=\"rotate(-90 18 {middle:.1})\""),
            &self.y,
        );
        x.powers().for_each(|(value, at)| text(at, BOTTOM + 18.0, "text-anchor=\"middle\"", &plain(value)));
        y.powers().for_each(|(value, at)| text(LEFT - 6.0, at + 4.0, "text-anchor=\"end\"", &plain(value)));
        for (n, line) in lines.iter().enumerate() {
            let colour = format!("fill=\"{}\"", COLOURS[n % COLOURS.len()]);
            text(RIGHT + 14.0, TOP + 12.0 + 20.0 * n as f64, &colour, &line.name);
        }
        let mut draw = |path: &str, more: &str| {
            writeln!(svg, "<path d=\"{path}\" fill=\"none\" {more}/>").expect("a string");
        };
        x.powers().for_each(|(_, at)| draw(&format!("M{at:.1} {TOP}V{BOTTOM}"), "stroke=\"#ddd\""));
        y.powers().for_each(|(_, at)| draw(&format!("M{LEFT} {at:.1}H{RIGHT}"), "stroke=\"#ddd\""));
        for (n, line) in lines.iter().enumerate() {
            let place = |&(a, b): &(f64, f64)| format!("{:.1} {:.1}", x.place(a), y.place(b));
            let path = line.points.iter().map(place).collect::<Vec<_>>().join("L");
            draw(
                &format!("M{path}"),
                &format!("stroke=\"{}\" stroke-width=\"2\"", COLOURS[n % COLOURS.len()]),
            );
        }
        Some(svg + "</svg>\n")
    }
}

/// A power of ten in as few signs as will do.
fn plain(value: f64) -> String {
    match value {
        v if v >= 1.0 => format!("{v:.0}"),
        v => format!("{v:.7}").trim_end_matches('0').to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plot_has_its_curves() {
        let line = |points: &[(f64, f64)]| Line { name: "a < b".to_owned(), points: points.to_vec() };
        let lines = vec![line(&[(1.0, 0.01), (100.0, 1.0)]), line(&[(1.0, 1.0)])];
        let plot = Plot { title: "t".into(), x: "x".into(), y: "y".into(), lines };
        let svg = plot.svg().expect("a curve");
        assert_eq!(svg.matches("stroke-width").count(), 1);
        assert!(svg.contains("M70.0 370.0L470.0 40.0"), "{svg}");
        assert!(svg.contains("a &lt; b") && svg.contains(">0.01<"), "{svg}");
        let none = Plot { title: "t".into(), x: "x".into(), y: "y".into(), lines: Vec::new() };
        assert!(none.svg().is_none());
    }
}
