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

use std::{fmt, time::Duration};

use super::{
    mix::Op,
    report::Objective,
    stats::{Times, Totals},
};

/// The longest time that an objective names, in seconds: a day.
const TIME_MAX_S: f64 = 86_400.0;
/// The highest rate or count.
const COUNT_MAX: f64 = 1e9;

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
        let most = match metric {
            Metric::Time(..) => TIME_MAX_S,
            Metric::Errors(_) => 1.0,
            Metric::Rate(_) | Metric::Violations => COUNT_MAX,
        };
        if bound > most {
            return Err(wrong(format!("`{value}` is more than can be measured")));
        }
        let may_be_none =
            matches!(metric, Metric::Errors(_) | Metric::Violations) && sign != Sign::Below;
        if bound <= 0.0 && !may_be_none {
            return Err(wrong(format!("`{value}` is a bound that nothing meets, or everything")));
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
        let seconds = |us: u64| Duration::from_micros(us).as_secs_f64();
        let all = times.len() + unseen;
        let bound_us = Duration::from_secs_f64(self.bound).as_micros() as u64;
        let slow = as_f64(times.len() - times.count_between(0, bound_us) + unseen) / as_f64(all);
        match figure {
            Figure::Mean => (Some(times.mean() / 1e6), None),
            Figure::Max if unseen > 0 => (Some(f64::INFINITY), None),
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
            None => format!("there is no `{name}`; {}", known()),
        })
    };
    match parts[..] {
        ["errors"] => Ok(Metric::Errors(None)),
        ["rate"] => Ok(Metric::Rate(None)),
        ["audit", "violations"] => Ok(Metric::Violations),
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
            "there is no `{name}`; there are p50 to p99, p999, p9999, mean, max, errors and rate"
        )
    })
}

fn bound(value: &str, metric: Metric) -> Result<f64, String> {
    let unit = value.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let number = value[..value.len() - unit.len()].parse::<f64>();
    let number = number.map_err(|_| format!("`{value}` does not begin with a number"))?;
    let factor = match (metric, unit.trim()) {
        (Metric::Time(..), "us") => 1e-6,
        (Metric::Time(..), "ms") => 1e-3,
        (Metric::Errors(_), "%") => 1e-2,
        (Metric::Time(..), "s") | (Metric::Rate(_), "/s") | (Metric::Violations, "") => 1.0,
        (Metric::Time(..), _) => return Err(format!("`{value}` needs a unit: us, ms or s")),
        (Metric::Errors(_), _) => return Err(format!("`{value}` needs a unit: %")),
        (Metric::Rate(_), _) => return Err(format!("`{value}` needs a unit: /s")),
        (Metric::Violations, _) => return Err(format!("`{value}` is no count")),
    };
    Ok(number * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPS: [Op; 3] = [Op::Timeline, Op::Author, Op::Post];

    /// A thousand pages of 1 to 1,000 ms, ten posts, one error.
    fn totals() -> Totals {
        let mut totals = Totals::default();
        let pages = totals.operations.entry(Op::Timeline).or_default();
        for ms in 1..=1_000 {
            super::super::stats::record(&mut pages.corrected, Duration::from_millis(ms));
        }
        let posts = totals.operations.entry(Op::Post).or_default();
        for _ in 0..10 {
            super::super::stats::record(&mut posts.corrected, Duration::from_millis(5));
        }
        posts.errors.insert("timeout".to_owned(), 1);
        totals
    }

    fn judged(text: &str, unseen: u64) -> Objective {
        let mut poll = super::super::stats::times();
        for ms in 1..=99 {
            super::super::stats::record(&mut poll, Duration::from_millis(ms));
        }
        let (totals, stream) = (totals(), super::super::stats::times());
        let of =
            Measured { totals: &totals, poll, stream, unseen, length_s: 10.0, violations: Some(2) };
        Slo::parse(text, &OPS).unwrap().judge(&of)
    }

    #[test]
    fn an_objective_is_met_or_not_and_says_what_it_used() {
        for (text, met, used) in [
            ("timeline.p99 < 1s", true, Some(0.0)),
            ("timeline.p99 < 980ms", false, Some(2.0)),
            ("timeline.p50 <= 510ms", true, Some(0.98)),
            ("timeline.mean < 600ms", true, None),
            ("timeline.max < 900ms", false, None),
            ("post.p999<=6ms", true, Some(0.0)),
            ("errors < 0.1%", true, Some(0.989)),
            ("errors < 0.05%", false, Some(1.98)),
            ("post.errors < 1%", false, Some(9.09)),
            ("rate >= 101/s", true, None),
            ("post.rate > 1/s", false, None),
            ("audit.violations == 0", false, None),
            ("audit.violations <= 4", true, Some(0.5)),
        ] {
            let Objective { met: found, budget_used, measured, .. } = judged(text, 0);
            assert_eq!(found, met, "{text}: {measured:?}");
            match (budget_used, used) {
                (Some(found), Some(used)) => {
                    assert!((found - used).abs() < 0.02, "{text}: {found}");
                }
                other => assert_eq!(other.0, other.1, "{text}"),
            }
        }
    }

    #[test]
    fn what_was_not_measured_is_not_met_and_what_was_not_seen_was_slow() {
        let stream = judged("freshness.stream.p99 < 10s", 0);
        assert_eq!((stream.met, stream.measured), (false, None));
        assert!(judged("freshness.p99 < 100ms", 0).met);
        let unseen = judged("freshness.p99 < 100ms", 3);
        assert_eq!((unseen.met, unseen.measured.as_deref()), (false, Some("not seen")));
        assert!(judged("freshness.p50 < 60ms", 3).met);
    }

    #[test]
    fn what_cannot_be_understood_is_said() {
        for (text, why) in [
            ("timeline.p99", "compares nothing"),
            ("timeline.p99 < 50", "needs a unit: us, ms or s"),
            ("timeline.p99 < fast", "does not begin with a number"),
            ("timeline.p99 > 50ms", "with < or <="),
            ("timeline.p9x < 50ms", "there is no `p9x`"),
            ("timeline.p00 < 50ms", "there is no `p00`"),
            ("timeline < 50ms", "needs a figure"),
            ("timelime.p99 < 50ms", "there is no `timelime`"),
            ("delete.p99 < 50ms", "`delete` is not in the mix"),
            ("errors < 1", "needs a unit: %"),
            ("rate >= 5", "needs a unit: /s"),
            ("rate < 5/s", "with > or >="),
            ("audit.violations == 0%", "is no count"),
            ("freshness.poll.p99 < 1s", "there is no `freshness.poll`"),
            ("a.b.c.d < 1s", "of this mix are timeline"),
            ("timeline.p99 < 99999999999999999999s", "more than can be measured"),
            ("errors < 200%", "more than can be measured"),
            ("timeline.p99 < 0ms", "nothing meets"),
            ("rate >= 0/s", "nothing meets"),
            ("audit.violations < 0", "nothing meets"),
        ] {
            let error = Slo::parse(text, &OPS).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
