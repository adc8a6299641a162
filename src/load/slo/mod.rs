//! Objectives: what a run is held to, as it is written in a profile. Pure.
//!
//! ```text
//! timeline.p99 < 50ms        freshness.stream.p99 < 1s      errors < 0.1%
//! post.mean <= 20ms          audit.violations == 0          rate >= 950/s
//! ```
//!
//! An objective allows something: `p99 < 50ms` that one request of a hundred takes longer, `errors < 0.1%`
//! that one of a thousand fails. That is its *error budget*, and what happened is told as a share of it
//! (Beyer et al., *Site Reliability Engineering*, 2016, chapter 4).

use std::fmt;

use super::{
    mix::Op,
    report::Objective,
    stats::{Times, Totals},
};
use crate::config::nearest;

#[cfg(test)]
mod tests;

/// The largest bound, in the unit that it is kept in.
const BOUND_MAX: f64 = 1e9;

/// What is wrong with an objective.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the objective `{text}` cannot be understood: {why}")]
pub struct Invalid {
    text: String,
    why: String,
}

/// Whose times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Series {
    Of(Op),
    Poll,
    Stream,
}

/// Which figure of them.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Figure {
    Quantile(f64),
    Mean,
    Max,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Metric {
    Time(Series, Figure),
    Errors(Option<Op>),
    Rate(Option<Op>),
    Violations,
}

/// How it is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sign {
    Below,
    AtMost,
    Equal,
    AtLeast,
    Above,
}

impl Sign {
    const ALL: [(&'static str, Self); 5] = [
        // Those of two letters come first, as the others are their beginnings.
        ("<=", Self::AtMost),
        (">=", Self::AtLeast),
        ("==", Self::Equal),
        ("<", Self::Below),
        (">", Self::Above),
    ];

    #[expect(clippy::float_cmp, reason = "equality is asked of counts only")]
    fn holds(self, measured: f64, bound: f64) -> bool {
        match self {
            Self::Below => measured < bound,
            Self::AtMost => measured <= bound,
            Self::Equal => measured == bound,
            Self::AtLeast => measured >= bound,
            Self::Above => measured > bound,
        }
    }
}

/// An objective.
#[derive(Clone, Debug, PartialEq)]
pub struct Slo {
    text: String,
    metric: Metric,
    sign: Sign,
    /// Seconds, a share, requests per second, or a count.
    bound: f64,
}

impl fmt::Display for Slo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What was measured.
pub struct Measured<'a> {
    /// By operation.
    pub totals: &'a Totals,
    /// Freshness by polling.
    pub poll: Times,
    /// Freshness over streams.
    pub stream: Times,
    /// Posts that no poll has seen in time.
    pub unseen: u64,
    /// Length of the schedule, in seconds.
    pub length_s: f64,
    /// Violations; `None` if nothing was audited.
    pub violations: Option<u64>,
}

impl Slo {
    /// Reads an objective of a run with the operations of `ops`.
    ///
    /// # Errors
    /// [`Invalid`].
    pub fn parse(text: &str, ops: &[Op]) -> Result<Self, Invalid> {
        let wrong = |why: String| Invalid { text: text.to_owned(), why };
        let (at, sign, length) = Sign::ALL
            .iter()
            .filter_map(|&(word, sign)| Some((text.find(word)?, sign, word.len())))
            .min_by_key(|&(at, _, length)| (at, std::cmp::Reverse(length)))
            .ok_or_else(|| {
                wrong("it compares nothing; there are <, <=, ==, >= and >".to_owned())
            })?;
        let (name, value) = (text[..at].trim(), text[at + length..].trim());
        let metric = metric(name, ops).map_err(&wrong)?;
        let bound = bound(value, metric).map_err(&wrong)?;
        let fits = match metric {
            Metric::Time(..) | Metric::Errors(_) => matches!(sign, Sign::Below | Sign::AtMost),
            Metric::Rate(_) => matches!(sign, Sign::AtLeast | Sign::Above),
            Metric::Violations => !matches!(sign, Sign::AtLeast | Sign::Above),
        };
        if !fits {
            let wanted = if matches!(metric, Metric::Rate(_)) { "> or >=" } else { "< or <=" };
            return Err(wrong(format!("`{name}` is held to a bound with {wanted}")));
        }
        if let Some(why) = pointless(metric, sign, bound) {
            return Err(wrong(why.to_owned()));
        }
        Ok(Self { text: text.trim().to_owned(), metric, sign, bound })
    }

    /// Holds it against what was measured. What was not measured is not met.
    #[must_use]
    pub fn judge(&self, of: &Measured<'_>) -> Objective {
        let (measured, used) = match self.metric {
            Metric::Time(series, figure) => self.time(of, series, figure),
            Metric::Errors(op) => {
                let (bad, all) = errors(of.totals, op);
                let share = (all > 0).then(|| as_f64(bad) / as_f64(all));
                (share, share.map(|share| over(share, self.bound)))
            }
            Metric::Rate(op) => {
                let mut ops =
                    of.totals.operations.iter().filter(|(of, _)| op.is_none_or(|o| o == **of));
                let count: u64 = ops.by_ref().map(|(_, measured)| measured.corrected.len()).sum();
                (Some(as_f64(count) / of.length_s), None)
            }
            Metric::Violations => {
                let count = of.violations.map(as_f64);
                (count, count.map(|count| over(count, self.bound)))
            }
        };
        Objective {
            objective: self.text.clone(),
            measured: measured.map(|measured| shown(measured, self.metric)),
            met: measured.is_some_and(|measured| self.sign.holds(measured, self.bound)),
            budget_used: used.filter(|used| used.is_finite()),
        }
    }

    fn time(
        &self,
        of: &Measured<'_>,
        series: Series,
        figure: Figure,
    ) -> (Option<f64>, Option<f64>) {
        let empty = super::stats::times();
        let (times, unseen) = match series {
            Series::Of(op) => {
                let measured = of.totals.operations.get(&op);
                (measured.map_or(&empty, |measured| &measured.corrected), 0)
            }
            Series::Poll => (&of.poll, of.unseen),
            Series::Stream => (&of.stream, 0),
        };
        if times.is_empty() {
            return (None, None);
        }
        let seconds = |us: u64| as_f64(us) / 1e6;
        let all = times.len() + unseen;
        #[expect(clippy::cast_sign_loss, reason = "a bound is above 0")]
        let bound_us = (self.bound * 1e6).round() as u64;
        let slow = as_f64(times.len() - times.count_between(0, bound_us) + unseen) / as_f64(all);
        match figure {
            // What was never seen took for ever.
            Figure::Mean | Figure::Max if unseen > 0 => (Some(f64::INFINITY), None),
            Figure::Mean => (Some(times.mean() / 1e6), None),
            Figure::Max => (Some(seconds(times.max())), None),
            Figure::Quantile(q) => {
                // What was never seen took longer than everything that was.
                let rank = q * as_f64(all) / as_f64(times.len());
                let value =
                    if rank > 1.0 { f64::INFINITY } else { seconds(times.value_at_quantile(rank)) };
                (Some(value), Some(over(slow, 1.0 - q)))
            }
        }
    }
}

/// What was used of what is allowed; nothing of nothing is nothing.
fn over(used: f64, allowed: f64) -> f64 {
    if used == 0.0 { 0.0 } else { used / allowed }
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
const fn as_f64(count: u64) -> f64 {
    count as f64
}

fn errors(totals: &Totals, op: Option<Op>) -> (u64, u64) {
    let of = totals.operations.iter().filter(|(known, _)| op.is_none_or(|op| op == **known));
    of.fold((0, 0), |(bad, all), (_, measured)| {
        (bad + measured.errors(), all + measured.errors() + measured.corrected.len())
    })
}

fn shown(measured: f64, metric: Metric) -> String {
    match metric {
        Metric::Time(..) if measured.is_infinite() => "not seen".to_owned(),
        Metric::Time(..) if measured >= 1.0 => format!("{measured:.2} s"),
        Metric::Time(..) => format!("{:.2} ms", measured * 1e3),
        Metric::Errors(_) => format!("{:.3} %", measured * 1e2),
        Metric::Rate(_) => format!("{measured:.1} /s"),
        Metric::Violations => format!("{measured}"),
    }
}

fn metric(name: &str, ops: &[Op]) -> Result<Metric, String> {
    let name = whole(name);
    let parts: Vec<&str> = name.split('.').collect();
    let known = || {
        let names: Vec<&str> = ops.iter().map(|op| op.name()).collect();
        format!(
            "of this mix are {}; beside them freshness, errors, rate and audit.violations",
            names.join(", ")
        )
    };
    let op = |name: &str| {
        let found = ops.iter().copied().find(|op| op.name() == name);
        found.ok_or_else(|| match Op::parse(name) {
            Some(_) => format!("`{name}` is not in the mix; {}", known()),
            None => unknown(name, ops.iter().map(|op| op.name()), &known()),
        })
    };
    match parts[..] {
        ["errors"] => Ok(Metric::Errors(None)),
        ["rate"] => Ok(Metric::Rate(None)),
        ["audit", "violations"] => Ok(Metric::Violations),
        ["audit", of] => Err(format!("there is no `audit.{of}`; there is `audit.violations`")),
        ["freshness", "errors" | "rate"] => {
            Err("`freshness` has times only, such as `freshness.p99`".to_owned())
        }
        ["freshness", of] => Ok(Metric::Time(Series::Poll, figure(of)?)),
        ["freshness", "stream", of] => Ok(Metric::Time(Series::Stream, figure(of)?)),
        ["freshness", way, _] => {
            Err(format!("there is no `freshness.{way}`; there is `freshness.stream`"))
        }
        [name, "errors"] => Ok(Metric::Errors(Some(op(name)?))),
        [name, "rate"] => Ok(Metric::Rate(Some(op(name)?))),
        [name, of] => {
            let op = op(name)?;
            Ok(Metric::Time(Series::Of(op), figure(of)?))
        }
        [name] => {
            op(name)?;
            Err(format!("`{name}` needs a figure, such as `{name}.p99`"))
        }
        _ => Err(known()),
    }
}

/// The name with a percentile in one piece: `p99.9` is `p999`.
fn whole(name: &str) -> String {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if let Some((before, fraction)) = name.rsplit_once('.')
        && let Some((_, percent)) = before.rsplit_once(".p")
        && percent.len() == 2
        && digits(percent)
        && digits(fraction)
    {
        return format!("{before}{fraction}");
    }
    name.to_owned()
}

fn unknown<'a>(name: &str, ops: impl Iterator<Item = &'a str>, known: &str) -> String {
    let others = ["freshness", "errors", "rate", "audit"].into_iter();
    match nearest(name, ops.chain(others).map(str::to_owned)) {
        Some(near) => format!("there is no `{name}`; did you mean `{near}`?"),
        None => format!("there is no `{name}`; {known}"),
    }
}

fn figure(name: &str) -> Result<Figure, String> {
    match name {
        "mean" => return Ok(Figure::Mean),
        "max" => return Ok(Figure::Max),
        _ => {}
    }
    // The digits stand behind the point: p999 is 0.999.
    let digits = name.strip_prefix('p').filter(|digits| {
        (2..=4).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit())
    });
    let quantile = digits.and_then(|digits| format!("0.{digits}").parse::<f64>().ok());
    quantile.filter(|&q| q > 0.0).map(Figure::Quantile).ok_or_else(|| {
        format!(
            "there is no `{name}`; there are p50 to p99, p99.9, p99.99, mean, max, errors and rate"
        )
    })
}

fn bound(value: &str, metric: Metric) -> Result<f64, String> {
    let unit = value.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let number = &value[..value.len() - unit.len()];
    // With its exponent, as 0.7 times 0.01 is less than 7 of 1,000.
    let read = |exponent: i32| format!("{number}e{exponent}").parse::<f64>();
    let whole = read(0).map_err(|_| format!("`{value}` does not begin with a number"))?;
    let exponent = match (metric, unit.trim()) {
        (Metric::Time(..), "us") => -6,
        (Metric::Time(..), "ms") => -3,
        (Metric::Errors(_), "%") => -2,
        (Metric::Time(..), "s") | (Metric::Rate(_), "/s") => 0,
        (Metric::Violations, "") if whole.fract() == 0.0 => 0,
        (Metric::Time(..), _) => return Err(format!("`{value}` needs a unit: us, ms or s")),
        (Metric::Errors(_), _) => return Err(format!("`{value}` needs a unit: %")),
        (Metric::Rate(_), _) => return Err(format!("`{value}` needs a unit: /s")),
        (Metric::Violations, _) => return Err(format!("`{value}` is no count")),
    };
    let bound = read(exponent).ok().filter(|bound| *bound <= BOUND_MAX);
    bound.ok_or_else(|| format!("`{value}` is too large"))
}

/// Why no run could meet the bound, or none could miss it.
fn pointless(metric: Metric, sign: Sign, bound: f64) -> Option<&'static str> {
    let (never, always) = match metric {
        // No request takes no time.
        Metric::Time(..) => (bound <= 0.0, false),
        Metric::Errors(_) => {
            let all = bound > 1.0 || (bound >= 1.0 && sign == Sign::AtMost);
            (bound <= 0.0 && sign == Sign::Below, all)
        }
        Metric::Rate(_) => (false, bound <= 0.0 && sign == Sign::AtLeast),
        Metric::Violations => (bound <= 0.0 && sign == Sign::Below, false),
    };
    match (never, always) {
        (true, _) => Some("no run can meet it"),
        (_, true) => Some("no run can miss it"),
        _ => None,
    }
}
