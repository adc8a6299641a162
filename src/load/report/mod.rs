//! What a run found: one JSON of a versioned schema, and one page that shows it.
//!
//! [`Report`] is the JSON. Fields are only ever added under the same schema; times are in the unit that
//! their name ends with. [`html`] draws a page out of it, and of nothing else; [`text`] the lines of a
//! terminal.

pub mod chart;
pub mod html;
pub mod text;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{chaos::Mark, usage::Parts};

/// The schema of [`Report`].
pub const SCHEMA: &str = "chirp.load/1";

/// A run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: String,
    /// Version of the program that drove.
    pub version: String,
    /// The command line, as a shell takes it.
    pub command: String,
    /// When the first request was due, in milliseconds since the Unix epoch.
    pub began_at_ms: u64,
    /// From then until the audit had ended.
    pub took_s: f64,
    /// Why it ended before its schedule did; absent if it did not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cut_short: Option<String>,
    /// What came of it.
    pub verdict: Verdict,
    /// What was asked for.
    pub plan: Plan,
    /// Where it ran.
    pub environment: Environment,
    /// The driver itself.
    pub driver: Driver,
    /// What was measured of each operation, in the order of the mix.
    pub operations: Vec<Operation>,
    /// The time series, a second each.
    pub seconds: Vec<Second>,
    /// From a post's 201 to when a follower saw it.
    pub freshness: Vec<Freshness>,
    /// What the admin listeners said meanwhile, some times a second; empty if there is none.
    pub server: Vec<Sample>,
    /// What `--chaos` broke, in order.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub marks: Vec<Mark>,
    /// Seconds from the last answer until nothing was on its way; absent if that could not be asked.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub drained_s: Option<f64>,
    /// Seconds over which `usage` was counted.
    #[serde(default)]
    pub used_s: f64,
    /// What the parts of the target have used until nothing was on its way, by name: `chirp`, and each
    /// server that runs in a container of the data folder; empty if nobody tells.
    #[serde(default)]
    pub usage: Parts,
    /// Followers of the authors of all posts that were acknowledged, summed: the deliveries of a fan-out on
    /// write that spares nobody.
    #[serde(default)]
    pub deliveries: u64,
    /// Whether all was right; absent if nobody looked.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub audit: Option<Audit>,
}

/// What came of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// `met`, `slo missed`, `audit violated` or `invalid`.
    pub outcome: String,
    /// The exit code that says the same.
    pub exit: u8,
    /// Why the figures say nothing of the target; empty if they do.
    pub invalid: Vec<String>,
    /// Each objective.
    pub objectives: Vec<Objective>,
}

/// An objective and how it went.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Objective {
    /// As it was written.
    pub objective: String,
    /// What was measured, with its unit; absent if nothing was.
    pub measured: Option<String>,
    /// Whether it holds.
    pub met: bool,
    /// What happened as a share of what the objective allows: 1 is all of it.
    pub budget_used: Option<f64>,
}

/// What was asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Name of the profile.
    pub profile: String,
    /// Everything random of the schedule follows from it.
    pub seed: u64,
    /// Weight of each operation.
    pub mix: BTreeMap<String, f64>,
    /// `poisson` or `fixed`.
    pub process: String,
    /// The rate over time: seconds and requests per second, straight lines between.
    pub rate: Vec<(f64, f64)>,
    /// Length of the schedule.
    pub length_s: f64,
    /// Requests of the schedule.
    pub arrivals: u64,
    /// Connections, each a virtual client that has one request at a time.
    pub connections: usize,
    /// Threads that drive.
    pub workers: usize,
    /// The data set, as `chirp seed` is asked for it.
    pub population: String,
    /// Users who have a token and act.
    pub users: usize,
    /// Whether their tokens are exempt from rate limits.
    pub exempt: bool,
}

/// Where a run happened.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    /// The public listener that was driven.
    pub target: String,
    /// Admin listeners that were asked.
    pub admins: Vec<String>,
    /// Operating system and architecture of the driver.
    pub system: String,
    /// Cores of the driver's machine.
    pub cores: usize,
    /// Load average of the driver's machine before the run, over a minute.
    pub load_before: f64,
    /// What the target says of itself: backends, strategy, replicas.
    pub facts: BTreeMap<String, String>,
}

/// The driver itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Driver {
    /// Requests that were sent.
    pub sent: u64,
    /// Requests of the schedule that had nothing to act on, such as a delete of a tweet that was refused.
    pub skipped: u64,
    /// Requests that were never sent, as too many waited for a connection.
    pub dropped: u64,
    /// The most that waited for a connection at once.
    pub backlog_max: u64,
    /// How much later than due requests were taken up, which is the driver's fault.
    pub late_p99_us: u64,
    /// The worst of them.
    pub late_max_us: u64,
    /// Processor time of the driver, in seconds.
    pub cpu_s: f64,
    /// Share of all processor time of the machine that was stolen by its host during the run.
    pub steal: f64,
    /// Memory of the process at its end, in bytes.
    pub resident_bytes: u64,
}

/// What was measured of an operation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Operation {
    /// Its name.
    pub operation: String,
    /// Answers that were wanted.
    pub ok: u64,
    /// All others by kind: a problem's code, `unknown`, `unreachable`, `dropped`.
    pub errors: BTreeMap<String, u64>,
    /// Of them, pages that said that they may not be whole.
    #[serde(default)]
    pub degraded: u64,
    /// Answers per second of the schedule.
    pub rate: f64,
    /// From when the request was due to the end of its answer.
    pub corrected: Latency,
    /// From when it was sent.
    pub raw: Latency,
    /// The histogram of `corrected` in microseconds: `HdrHistogram` V2, base64.
    pub histogram: String,
    /// That of `raw`, likewise.
    #[serde(default)]
    pub raw_histogram: String,
    /// Bytes of the bodies of all requests.
    #[serde(default)]
    pub request_bytes: u64,
    /// Bytes of the bodies of all answers.
    #[serde(default)]
    pub answer_bytes: u64,
}

/// A distribution of times.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// How many.
    pub count: u64,
    /// Their mean.
    pub mean_us: f64,
    /// The shortest.
    pub min_us: u64,
    /// Half are not longer.
    pub p50_us: u64,
    /// 90 % are not longer.
    pub p90_us: u64,
    /// 99 % are not longer.
    pub p99_us: u64,
    /// 99.9 % are not longer.
    pub p999_us: u64,
    /// The longest.
    pub max_us: u64,
    /// Quantiles (0 to 1) and times in microseconds, closer to each other towards 1.
    pub curve: Vec<(f64, u64)>,
}

/// A second of the run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Second {
    /// Which, from 0.
    pub second: u64,
    /// Requests that were due in it.
    pub due: u64,
    /// Answers that were wanted and came in it.
    pub ok: u64,
    /// Everything else that ended in it.
    pub errors: u64,
    /// By operation, of the answers that were wanted and came in it.
    pub operations: BTreeMap<String, SecondOf>,
}

/// An operation within a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SecondOf {
    /// Answers that were wanted.
    pub count: u64,
    /// Mean of the corrected latency.
    pub mean_us: f64,
    /// Half are not longer.
    pub p50_us: u64,
    /// 99 % are not longer.
    pub p99_us: u64,
    /// The longest.
    pub max_us: u64,
}

/// Freshness by how many followers the author has.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Freshness {
    /// `poll` or `stream`.
    pub way: String,
    /// The fewest followers of the bucket; the next one's are its end.
    pub followers_from: u64,
    /// How long it took.
    pub latency: Latency,
    /// Posts that were not seen in time.
    pub unseen: u64,
}

/// What the admin listeners said at an instant.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Seconds since the first request was due.
    pub at_s: f64,
    /// Waiting and received messages by lane.
    pub lanes: BTreeMap<String, u64>,
    /// Unsent rows of all outboxes.
    pub unsent: u64,
    /// Counters since the process began, by name of the metric, labels summed up.
    pub counters: BTreeMap<String, f64>,
}

/// Whether everything was right.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Audit {
    /// Posts that were acknowledged and are on record.
    pub posts: u64,
    /// Posts whose end is unknown: they may be shown, once, or not.
    pub unknown: u64,
    /// Deletes that were acknowledged.
    pub deletes: u64,
    /// Follows, unfollows, blocks and ends of blocks that were acknowledged.
    pub edges: u64,
    /// Pages that were checked as they came.
    pub pages_live: u64,
    /// What one read showed may be missing in another for this long.
    pub near_ms: u64,
    /// Seconds until nothing was on its way any more; absent if that could not be asked.
    pub drained_s: Option<f64>,
    /// Readers whose home timelines were read to the run's beginning.
    pub readers: u64,
    /// Authors whose own timelines were read likewise.
    pub authors: u64,
    /// Users whose counts were compared.
    pub counted: u64,
    /// Deliveries that were held against the record.
    pub deliveries: u64,
    /// Share of all who act whose home timelines were read, 0 to 1.
    pub sample: f64,
    /// How many of each kind.
    pub kinds: BTreeMap<String, u64>,
    /// The first of them.
    pub violations: Vec<Violation>,
    /// SHA-256 over the posts of the home timelines that were read, without ids, times and order: equal for
    /// equal schedules.
    pub sha256: String,
    /// The most memory that the record may take, in bytes.
    pub memory_max_bytes: u64,
}

/// Evidence.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// Which promise was broken.
    pub kind: String,
    /// The tweet, if it is about one.
    pub tweet: Option<String>,
    /// Its author's handle.
    pub author: Option<String>,
    /// Who read, or whose count it is.
    pub reader: Option<String>,
    /// When the tweet or the change was acknowledged, in milliseconds since the run began.
    pub acknowledged_ms: Option<u64>,
    /// When it was seen, likewise.
    pub seen_ms: u64,
    /// The rest in words.
    pub about: String,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A run in which much went wrong, with names that would break a page.
    pub(crate) fn report() -> Report {
        let latency = Latency {
            count: 3,
            mean_us: 5_000.0,
            p50_us: 5_000,
            p99_us: 10_000,
            max_us: 10_000,
            curve: vec![(0.5, 5_000), (0.9, 9_000), (1.0, 10_000)],
            ..Latency::default()
        };
        let errors = BTreeMap::from([("timeout".to_owned(), 2)]);
        let second = |second| {
            let of =
                SecondOf { count: 3, p50_us: 5_000, p99_us: 10_000, max_us: 10_000, mean_us: 5e3 };
            let operations = BTreeMap::from([("timeline".to_owned(), of)]);
            Second { second, due: 5, ok: 3, errors: 2, operations }
        };
        let mut report = empty();
        report.operations = vec![Operation {
            operation: "timeline".to_owned(),
            ok: 3,
            rate: 60.0,
            errors,
            corrected: latency.clone(),
            raw: latency.clone(),
            ..Operation::default()
        }];
        report.seconds = vec![second(0), second(1), second(2)];
        report.freshness =
            vec![Freshness { way: "poll".to_owned(), followers_from: 10, latency, unseen: 1 }];
        let violation = Violation {
            kind: "missing".to_owned(),
            tweet: Some("17".to_owned()),
            author: Some("<b>ada</b>".to_owned()),
            reader: Some("bob".to_owned()),
            seen_ms: 9,
            about: "home timeline".to_owned(),
            ..Violation::default()
        };
        let kinds = BTreeMap::from([("missing".to_owned(), 1)]);
        report.audit = Some(Audit { kinds, violations: vec![violation], ..Audit::default() });
        let lanes = BTreeMap::from([("<ingest>".to_owned(), 7)]);
        report.server = vec![
            Sample { lanes: lanes.clone(), ..Sample::default() },
            Sample { at_s: 1.0, lanes, ..Sample::default() },
        ];
        report.marks = vec![Mark {
            what: "freeze <redis>".to_owned(),
            from_s: 0.5,
            until_s: 1.5,
            failed: None,
        }];
        report.verdict = Verdict {
            outcome: "audit violated".to_owned(),
            exit: 98,
            invalid: vec!["the driver was late".to_owned()],
            objectives: vec![Objective {
                objective: "timeline.p99 < 5ms".to_owned(),
                measured: Some("10.00 ms".to_owned()),
                met: false,
                budget_used: Some(3.0),
            }],
        };
        report
    }

    /// A run in which nothing happened.
    pub(crate) fn empty() -> Report {
        Report {
            schema: SCHEMA.to_owned(),
            version: "0".to_owned(),
            command: "chirp load --target '<script>'".to_owned(),
            began_at_ms: 0,
            took_s: 0.0,
            cut_short: None,
            verdict: Verdict::default(),
            plan: Plan::default(),
            environment: Environment::default(),
            driver: Driver::default(),
            operations: Vec::new(),
            seconds: Vec::new(),
            freshness: Vec::new(),
            server: Vec::new(),
            marks: Vec::new(),
            drained_s: None,
            used_s: 0.0,
            usage: Parts::new(),
            deliveries: 0,
            audit: None,
        }
    }

    #[test]
    fn a_report_is_read_as_it_was_written() {
        for report in [report(), empty()] {
            let json = serde_json::to_string(&report).unwrap();
            assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
        }
    }
}
