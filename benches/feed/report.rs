//! What a part found, as a table and as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::stack::Backends;

/// A reference that differs by more than this between slices makes its part invalid.
const DRIFT_MAX: f64 = 0.20;

/// One measured quantity, a value per slice.
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    pub(crate) values: Vec<f64>,
}

impl Series {
    pub(crate) fn new(name: &str, unit: &'static str, values: Vec<f64>) -> Self {
        Self { name: name.to_owned(), unit, values }
    }

    /// Smallest, median and largest value.
    pub(crate) fn spread(&self) -> (f64, f64, f64) {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len() - 1;
        (sorted[0], f64::midpoint(sorted[last / 2], sorted[last.div_ceil(2)]), sorted[last])
    }

    pub(crate) fn median(&self) -> f64 {
        self.spread().1
    }

    /// Distance of the extremes as a share of the median.
    fn drift(&self) -> f64 {
        let (low, middle, high) = self.spread();
        (high - low) / middle
    }
}

/// A ratio of two medians, with what it should reach.
pub(crate) struct Ratio {
    pub(crate) name: &'static str,
    pub(crate) value: f64,
    pub(crate) goal: Option<f64>,
    /// The goal is an upper bound.
    pub(crate) at_most: bool,
}

/// One part of the bench.
pub(crate) struct Part {
    pub(crate) name: &'static str,
    pub(crate) chirp: Vec<Series>,
    pub(crate) reference: Vec<Series>,
    pub(crate) ratios: Vec<Ratio>,
    /// What was done and what was checked, in sentences.
    pub(crate) notes: Vec<String>,
    /// Why the part is invalid whatever the reference did.
    pub(crate) broken: Option<String>,
}

impl Part {
    pub(crate) fn new(name: &'static str) -> Self {
        let (chirp, reference, ratios, notes) = Default::default();
        Self { name, chirp, reference, ratios, notes, broken: None }
    }

    pub(crate) fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// Requests per second that chirp reached.
    pub(crate) fn chirp_rate(&self) -> Option<f64> {
        self.chirp.first().map(Series::median)
    }

    /// Why the figures say nothing, if so.
    fn invalid(&self) -> Option<String> {
        let drifted = self.reference.iter().find(|series| series.drift() > DRIFT_MAX);
        let why = |s: &Series| {
            format!("{} of the reference drifts by {:.0} %", s.name, s.drift() * 100.0)
        };
        self.broken.clone().or_else(|| drifted.map(why))
    }

    fn table(&self) -> String {
        let mut out = format!("\n== {}\n", self.name);
        let head = ["", "min", "median", "max"];
        let _ = writeln!(out, "{:<46}{:>12}{:>12}{:>12}", head[0], head[1], head[2], head[3]);
        for (side, all) in [("chirp", &self.chirp), ("reference", &self.reference)] {
            for series in all {
                let (low, middle, high) = series.spread();
                let name = format!("{side}: {} ({})", series.name, series.unit);
                let _ = writeln!(out, "{name:<46}{low:>12.1}{middle:>12.1}{high:>12.1}");
            }
        }
        for ratio in &self.ratios {
            let _ = write!(out, "{:<46}{:>24.3}", ratio.name, ratio.value);
            let _ = match ratio.goal {
                Some(goal) => {
                    let bound = if ratio.at_most { "at most" } else { "at least" };
                    let verdict = if ratio.reached() { "reached" } else { "missed" };
                    writeln!(out, "  (goal {bound} {goal}: {verdict})")
                }
                None => writeln!(out),
            };
        }
        for note in &self.notes {
            let _ = writeln!(out, "  {note}");
        }
        if let Some(why) = self.invalid() {
            let _ = writeln!(out, "INVALID: {why}");
        }
        out
    }

    fn json(&self) -> Value {
        let all = |series: &[Series]| -> Vec<Value> {
            let one = |s: &Series| json!({"name": s.name, "unit": s.unit, "values": s.values});
            series.iter().map(one).collect()
        };
        let ratio = |r: &Ratio| json!({"name": r.name, "value": r.value, "goal": r.goal, "reached": r.reached()});
        json!({
            "part": self.name,
            "chirp": all(&self.chirp),
            "reference": all(&self.reference),
            "ratios": self.ratios.iter().map(ratio).collect::<Vec<_>>(),
            "notes": self.notes,
            "invalid": self.invalid(),
        })
    }
}

impl Ratio {
    fn reached(&self) -> bool {
        self.goal
            .is_none_or(|goal| if self.at_most { self.value <= goal } else { self.value >= goal })
    }
}

/// All parts of a run.
pub(crate) struct Report {
    backends: Backends,
    seconds: u64,
    parts: Vec<Part>,
}

impl Report {
    pub(crate) const fn new(backends: Backends, seconds: u64) -> Self {
        Self { backends, seconds, parts: Vec::new() }
    }

    /// Prints a part and keeps it.
    pub(crate) fn add(&mut self, part: Part) {
        println!("{}", part.table());
        self.parts.push(part);
    }

    pub(crate) fn is_valid(&self) -> bool {
        self.parts.iter().all(|part| part.invalid().is_none())
    }

    pub(crate) fn json(&self) -> String {
        let parts: Vec<Value> = self.parts.iter().map(Part::json).collect();
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let backends = self.backends.as_str();
        json!({"backends": backends, "seconds": self.seconds, "cores": cores, "parts": parts})
            .to_string()
    }
}
