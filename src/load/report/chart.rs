//! Charts as SVG: lines over an axis. Bounded in size, and readable without a script.

use std::fmt::Write as _;

use super::html::escaped;

/// Points of a line; of more the highest of each group is drawn, so that a spike is never lost.
const POINTS_MAX: usize = 600;
/// Width of the drawing, in units.
const WIDTH: f64 = 760.0;
/// Its height.
const HEIGHT: f64 = 200.0;
/// Room for the numbers of the axis.
const LEFT: f64 = 64.0;
/// Room below for the numbers of the other.
const BELOW: f64 = 22.0;
/// Colours of the style sheet, `l0` and so on.
const COLOURS: usize = 6;
/// Dashes, so that lines can be told without colours too. Their number shares no factor with
/// [`COLOURS`]: thirty lines are all different.
const DASHES: [&str; 5] = ["", "7 3", "2 3", "9 3 2 3", "12 4"];

/// A line.
pub struct Line {
    /// What it is.
    pub name: String,
    /// Points, from left to right.
    pub points: Vec<(f64, f64)>,
}

/// What is drawn.
pub struct Chart<'a> {
    /// The title.
    pub title: &'a str,
    /// What the numbers of the upright axis are.
    pub unit: &'a str,
    /// What the numbers below are.
    pub below: &'a str,
    /// Whether the upright axis is in powers of ten.
    pub log: bool,
    /// What is marked below the lines: from, until, and what it is.
    pub bands: &'a [(f64, f64, String)],
    /// The lines.
    pub lines: Vec<Line>,
}

/// At most [`POINTS_MAX`] points, the highest of each group.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let group = points.len().div_ceil(POINTS_MAX).max(1);
    let highest = |group: &[(f64, f64)]| group.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1));
    points.chunks(group).filter_map(highest).collect()
}

/// Round numbers from 0 to `most`: at most six.
fn ticks(most: f64) -> Vec<f64> {
    let raw = most / 5.0;
    let power = libm::pow(10.0, libm::floor(libm::log10(raw)));
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|n| n * power).find(|&step| step >= raw);
    let step = step.unwrap_or(raw);
    (0..=5)
        .map(|n| (f64::from(n) * step / power).round() * power)
        .filter(|&at| at <= most * 1.001)
        .collect()
}

fn number(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{}M", v / 1e6),
        v if v >= 1e4 => format!("{}k", v / 1e3),
        v => format!("{}", (v * 1e4).round() / 1e4),
    }
}

impl Chart<'_> {
    /// The figure, or a sentence if there is nothing to draw.
    #[must_use]
    pub fn drawn(&self) -> String {
        let finite = |point: &&(f64, f64)| point.0.is_finite() && point.1.is_finite();
        let all = || self.lines.iter().flat_map(|line| &line.points).filter(finite);
        let title = escaped(self.title);
        let most = all().map(|point| point.1).fold(0.0, f64::max);
        let right = all().map(|point| point.0).fold(0.0, f64::max);
        if all().count() < 2 || most <= 0.0 || right <= 0.0 {
            return format!(
                "<figure><figcaption>{title}</figcaption><p>Nothing was measured.</p></figure>"
            );
        }
        let least = all().map(|point| point.1).filter(|&y| y > 0.0).fold(f64::MAX, f64::min);
        let floor = libm::floor(libm::log10(least));
        let span = (libm::ceil(libm::log10(most)) - floor).max(1.0);
        let height = |value: f64| {
            let share = if self.log {
                (libm::log10(value.max(least)) - floor) / span
            } else {
                value / most
            };
            HEIGHT - share.clamp(0.0, 1.0) * (HEIGHT - 10.0)
        };
        let along = |at: f64| LEFT + at / right * (WIDTH - LEFT - 10.0);
        let mut svg = format!(
            "<figure><figcaption>{title} <small>{}</small></figcaption>\
             <svg viewBox=\"0 0 {WIDTH} {}\" role=\"img\"><title>{title}</title>",
            escaped(self.unit),
            HEIGHT + BELOW
        );
        let upright: Vec<f64> = if self.log {
            (0..=span as i32).map(|n| libm::pow(10.0, floor + f64::from(n))).collect()
        } else {
            ticks(most)
        };
        for at in upright {
            let y = height(at);
            let _ = write!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{WIDTH}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 6.0,
                y + 4.0,
                number(at)
            );
        }
        for at in ticks(right) {
            let (x, y) = (along(at), HEIGHT + 16.0);
            let _ = write!(
                svg,
                "<text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\">{}</text>",
                number(at)
            );
        }
        svg.push_str(&self.marked(right, along));
        for (n, line) in self.lines.iter().enumerate() {
            let points = thinned(&line.points).into_iter().filter(|point| finite(&point));
            let points = points.fold(String::new(), |mut text, (x, y)| {
                let _ = write!(text, "{:.1},{:.1} ", along(x), height(y));
                text
            });
            let (style, points) = (n % COLOURS, points.trim_end());
            let _ = write!(
                svg,
                "<polyline class=\"l{style}\" stroke-dasharray=\"{}\" points=\"{points}\">\
                 <title>{}</title></polyline>",
                DASHES[n % DASHES.len()],
                escaped(&line.name)
            );
        }
        svg.push_str(&self.legend());
        svg
    }

    /// What is marked, up to the end of the axis.
    fn marked(&self, right: f64, along: impl Fn(f64) -> f64) -> String {
        let mut svg = String::new();
        for (from, until, what) in self.bands {
            let (x, end) = (along(from.min(right)), along(until.min(right)));
            let _ = write!(
                svg,
                "<rect class=\"band\" x=\"{x:.1}\" y=\"10\" width=\"{:.1}\" height=\"{}\">\
                 <title>{what}</title></rect>\
                 <text class=\"band\" x=\"{x:.1}\" y=\"9\">{what}</text>",
                (end - x).max(2.0),
                HEIGHT - 10.0,
                what = escaped(what)
            );
        }
        svg
    }

    fn legend(&self) -> String {
        let mut svg = String::new();
        svg.push_str("</svg><p class=\"legend\">");
        for (n, line) in self.lines.iter().enumerate() {
            let style = n % COLOURS;
            let _ = write!(
                svg,
                "<span><svg viewBox=\"0 0 28 8\" class=\"key\"><line class=\"l{style}\" \
                 stroke-dasharray=\"{}\" x1=\"0\" x2=\"28\" y1=\"4\" y2=\"4\"/></svg> {}</span> ",
                DASHES[n % DASHES.len()],
                escaped(&line.name)
            );
        }
        let _ = write!(svg, "<span>{}</span></p></figure>", escaped(self.below));
        svg
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinning_keeps_the_highest() {
        let mut points: Vec<(f64, f64)> = (0..10_000).map(|n| (f64::from(n), 1.0)).collect();
        points[7_777].1 = 99.0;
        let thin = thinned(&points);
        assert!(thin.len() <= POINTS_MAX);
        assert!(thin.contains(&(7_777.0, 99.0)));
        assert_eq!(thinned(&points[..5]), points[..5]);
    }

    #[test]
    fn ticks_are_round_and_few() {
        assert_eq!(ticks(10.0), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(ticks(37.0), [0.0, 10.0, 20.0, 30.0]);
        let close = |a: &f64, b: &f64| (a - b).abs() < 1e-9;
        assert!(ticks(0.7).iter().zip(&[0.0, 0.2, 0.4, 0.6]).all(|(a, b)| close(a, b)));
        assert_eq!(ticks(0.7).len(), 4);
    }

    #[test]
    fn nothing_is_a_sentence() {
        let line = |points: Vec<(f64, f64)>| Line { name: "a".to_owned(), points };
        for lines in
            [vec![], vec![line(vec![])], vec![line(vec![(0.0, f64::NAN), (1.0, f64::NAN)])]]
        {
            let chart = Chart { title: "t", unit: "ms", below: "s", log: true, bands: &[], lines };
            assert!(chart.drawn().contains("Nothing was measured."));
        }
    }
}
