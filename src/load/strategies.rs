//! The same load against each fan-out strategy, side by side.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::{
    report::{Report, text::time},
    usage::CHIRP,
    verdict::{INVALID, MET, MISSED, VIOLATED},
};
use crate::domain::fanout::Strategy;

/// The schema of [`Compared`].
pub const SCHEMA: &str = "chirp.load.compare/1";

/// What a strategy did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Side {
    /// `hybrid`, `push` or `pull`.
    pub strategy: String,
    /// Its run.
    pub report: Report,
}

/// Strategies, side by side.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Compared {
    /// [`SCHEMA`].
    pub schema: String,
    /// The exit code: 98 a promise was broken or timelines differ, 97, 99, 0.
    pub exit: u8,
    /// Whether the final home timelines that were read are the same under each.
    pub equal: bool,
    /// Why they may differ although nothing is wrong: requests that failed, under one and not another.
    pub differ_for: Vec<String>,
    /// Each strategy.
    pub sides: Vec<Side>,
}

/// Strategies of a list such as `push,pull,hybrid`.
///
/// # Errors
/// What is wrong with it.
pub fn parse(text: &str) -> Result<Vec<Strategy>, String> {
    let mut all: Vec<Strategy> = Vec::new();
    for word in text.split(',').map(str::trim) {
        let strategy = Strategy::parse(word).ok_or_else(|| {
            format!("there is no strategy `{word}`; there are hybrid, push, pull")
        })?;
        if all.contains(&strategy) {
            return Err(format!("`{word}` is named twice"));
        }
        all.push(strategy);
    }
    if all.len() < 2 {
        return Err("two strategies at least are compared, such as `push,pull,hybrid`".to_owned());
    }
    Ok(all)
}

impl Compared {
    /// Compares runs.
    #[must_use]
    pub fn new(sides: Vec<Side>) -> Self {
        let hash = |side: &Side| side.report.audit.as_ref().map(|audit| audit.sha256.clone());
        let first = sides.first().and_then(hash);
        let equal = first.is_some() && sides.iter().all(|side| hash(side) == first);
        let failed: Vec<String> = sides.iter().filter_map(failed).collect();
        let ended = |exit: u8| sides.iter().any(|side| side.report.verdict.exit == exit);
        let exit = match () {
            () if ended(VIOLATED) || (!equal && failed.is_empty() && first.is_some()) => VIOLATED,
            () if ended(INVALID) || (!equal && first.is_some()) => INVALID,
            () if ended(MISSED) => MISSED,
            () => MET,
        };
        let differ_for = if equal { Vec::new() } else { failed };
        Self { schema: SCHEMA.to_owned(), exit, equal, differ_for, sides }
    }
}

/// Why the timelines of a run may differ from another's: a write of it failed, or was cut off.
fn failed(side: &Side) -> Option<String> {
    let Side { strategy, report } = side;
    if let Some(why) = &report.cut_short {
        return Some(format!("{strategy}: {why}"));
    }
    let reads = ["timeline", "scroll", "author", "profile"];
    let writes = report.operations.iter().filter(|of| !reads.contains(&of.operation.as_str()));
    let errors: u64 = writes.flat_map(|of| of.errors.values()).sum();
    (errors > 0).then(|| format!("{strategy}: {errors} writes failed"))
}

/// A figure of a run, by name.
type Row = (&'static str, fn(&Report) -> Option<String>);

/// What is told of each strategy.
const ROWS: [Row; 16] = [
    ("timeline p50", |report| of(report, "timeline", |latency| latency.p50_us)),
    ("timeline p99", |report| of(report, "timeline", |latency| latency.p99_us)),
    ("scroll p99", |report| of(report, "scroll", |latency| latency.p99_us)),
    ("post p50", |report| of(report, "post", |latency| latency.p50_us)),
    ("post p99", |report| of(report, "post", |latency| latency.p99_us)),
    ("freshness p50 (worst bucket)", |report| freshness(report, |latency| latency.p50_us)),
    ("freshness p99 (worst bucket)", |report| freshness(report, |latency| latency.p99_us)),
    ("followers per post", |report| per_post(report, report.deliveries as f64)),
    ("deliveries into lists per post", |report| counted(report, "chirp_deliveries_total")),
    ("spared per post", |report| counted(report, "chirp_writes_saved_total")),
    ("home rows of the store per post", |report| counted(report, "chirp_home_rows_total")),
    ("until nothing waited", |report| Some(format!("{:.2} s", report.audit.as_ref()?.drained_s?))),
    ("processor time per request", |report| {
        let all: f64 = report.usage.values().map(|usage| usage.cpu_s).sum();
        let requests: u64 = report.operations.iter().map(|of| of.ok).sum();
        (!report.usage.is_empty() && requests > 0)
            .then(|| format!("{:.2} ms", all * 1e3 / requests as f64))
    }),
    ("memory of chirp", |report| memory(report, CHIRP)),
    ("memory of redis", |report| memory(report, "redis")),
    ("violations", |report| Some(report.audit.as_ref()?.kinds.values().sum::<u64>().to_string())),
];

fn of(report: &Report, op: &str, figure: fn(&super::report::Latency) -> u64) -> Option<String> {
    let of = report.operations.iter().find(|of| of.operation == op)?;
    (of.corrected.count > 0).then(|| time(figure(&of.corrected)))
}

fn freshness(report: &Report, figure: fn(&super::report::Latency) -> u64) -> Option<String> {
    let polled = report.freshness.iter().filter(|of| of.way == "poll" && of.latency.count >= 20);
    polled.map(|of| figure(&of.latency)).max().map(time)
}

fn per_post(report: &Report, count: f64) -> Option<String> {
    let posts = report.operations.iter().find(|of| of.operation == "post")?.ok;
    (posts > 0).then(|| format!("{:.1}", count / posts as f64))
}

fn counted(report: &Report, name: &str) -> Option<String> {
    let at = |sample: Option<&super::report::Sample>| {
        sample.map(|sample| sample.counters.get(name).copied().unwrap_or(0.0))
    };
    per_post(report, at(report.server.last())? - at(report.server.first())?)
}

fn memory(report: &Report, part: &str) -> Option<String> {
    let bytes = report.usage.get(part)?.memory_bytes;
    Some(format!("{:.1} MB", bytes as f64 / 1e6))
}

/// Strategies side by side, a line each.
#[must_use]
pub fn summary(compared: &Compared) -> Vec<String> {
    let mut head = format!("{:<34}", "");
    for side in &compared.sides {
        let _ = write!(head, "{:>14}", side.strategy);
    }
    let mut lines = vec![head];
    for (name, figure) in ROWS {
        let figures: Vec<_> = compared.sides.iter().map(|side| figure(&side.report)).collect();
        if figures.iter().all(Option::is_none) {
            continue;
        }
        let mut line = format!("{name:<34}");
        for figure in figures {
            let _ = write!(line, "{:>14}", figure.unwrap_or_else(|| "-".to_owned()));
        }
        lines.push(line);
    }
    for side in &compared.sides {
        lines.push(format!("{}: {}", side.strategy, side.report.verdict.outcome));
        let missed = side.report.verdict.objectives.iter().filter(|one| !one.met);
        for one in missed {
            let measured = one.measured.as_deref().unwrap_or("nothing was measured");
            lines.push(format!("  missed {} ({measured})", one.objective));
        }
        lines.extend(side.report.verdict.invalid.iter().map(|why| format!("  invalid: {why}")));
    }
    let audited = compared.sides.iter().filter_map(|side| side.report.audit.as_ref());
    let (readers, share) = audited.fold((0, 0.0), |_, audit| (audit.readers, audit.sample));
    lines.push(match compared.equal {
        true => format!(
            "the final home timelines of {readers} readers ({:.0} % of all) are the same under each",
            share * 100.0
        ),
        false if compared.differ_for.is_empty() => "FINAL HOME TIMELINES DIFFER".to_owned(),
        false => format!("final home timelines differ, as {}", compared.differ_for.join(", ")),
    });
    lines
}

#[cfg(test)]
mod tests {
    use super::{
        super::report::{Audit, tests::report},
        *,
    };

    fn side(strategy: &str, sha256: &str, exit: u8) -> Side {
        let mut report = report();
        report.verdict.exit = exit;
        report.audit =
            Some(Audit { sha256: sha256.to_owned(), readers: 5, sample: 1.0, ..Audit::default() });
        Side { strategy: strategy.to_owned(), report }
    }

    #[test]
    fn a_list_of_strategies_is_read() {
        assert_eq!(parse("push, pull").unwrap(), [Strategy::Push, Strategy::Pull]);
        for (text, wanted) in [
            ("push", "two strategies"),
            ("push,push", "twice"),
            ("push,fan", "no strategy `fan`"),
            ("", "no strategy ``"),
        ] {
            assert!(parse(text).unwrap_err().contains(wanted), "{text}");
        }
    }

    #[test]
    fn timelines_that_differ_are_a_broken_promise_unless_writes_failed() {
        let two = |a, b| Compared::new(vec![side("push", a, 0), side("pull", b, 0)]);
        assert_eq!((two("x", "x").exit, two("x", "x").equal), (0, true));
        assert_eq!((two("x", "y").exit, two("x", "y").equal), (98, false));
        assert!(summary(&two("x", "y")).last().unwrap().contains("DIFFER"));
        assert!(summary(&two("x", "x")).last().unwrap().contains("5 readers (100 % of all)"));
        let mut failed = side("pull", "y", 0);
        failed.report.operations[0].operation = "post".to_owned();
        let compared = Compared::new(vec![side("push", "x", 0), failed]);
        assert_eq!((compared.exit, compared.differ_for.len()), (97, 1));
        assert!(summary(&compared).last().unwrap().contains("pull: 2 writes failed"));
    }

    #[test]
    fn the_worst_run_is_what_all_come_to() {
        let three = |exits: [u8; 3]| {
            Compared::new(exits.into_iter().map(|exit| side("push", "x", exit)).collect()).exit
        };
        assert_eq!(three([0, 99, 0]), 99);
        assert_eq!(three([97, 99, 0]), 97);
        assert_eq!(three([97, 99, 98]), 98);
    }
}
