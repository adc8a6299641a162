//! Figures: histograms of a whole run and of each second, made by each worker alone and added up.

use std::{collections::BTreeMap, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use hdrhistogram::{
    Histogram,
    serialization::{Serializer, V2Serializer},
};

use super::{
    mix::Op,
    report::{Latency, Operation, Second, SecondOf},
};

/// Digits that times are kept with, in microseconds: within 0.1 %.
const DIGITS: u8 = 3;
/// The same within a second.
const DIGITS_SECOND: u8 = 2;
/// The longest time that is kept; a call ends before.
const TIME_MAX: Duration = Duration::from_mins(10);

/// Times in microseconds.
pub type Times = Histogram<u64>;

/// An empty histogram.
#[must_use]
pub fn times() -> Times {
    bounded(DIGITS)
}

fn bounded(digits: u8) -> Times {
    Histogram::new_with_bounds(1, TIME_MAX.as_micros() as u64, digits).expect("sound bounds")
}

/// Adds a time.
pub fn record(times: &mut Times, took: Duration) {
    times.saturating_record((took.as_micros() as u64).max(1));
}

/// The figures of a histogram.
#[must_use]
pub fn latency(times: &Times) -> Latency {
    if times.is_empty() {
        return Latency::default();
    }
    let at = |q: f64| times.value_at_quantile(q);
    // Twice as close to 1 with every step, as far as there are requests to tell.
    let steps = (2..=2 * 24).map(|half| 1.0 - libm::exp2(-f64::from(half) / 2.0));
    let told = 1.0 - 0.5 / as_f64(times.len());
    let mut curve: Vec<(f64, u64)> = [0.0, 0.25]
        .into_iter()
        .chain(steps.take_while(|&q| q < told))
        .map(|q| (q, at(q)))
        .collect();
    curve.push((1.0, times.max()));
    Latency {
        count: times.len(),
        mean_us: times.mean(),
        min_us: times.min(),
        p50_us: at(0.5),
        p90_us: at(0.9),
        p99_us: at(0.99),
        p999_us: at(0.999),
        max_us: times.max(),
        curve,
    }
}

/// A histogram as text that other tools read: V2, base64.
#[must_use]
pub fn exported(times: &Times) -> String {
    let mut bytes = Vec::new();
    V2Serializer::new().serialize(times, &mut bytes).expect("memory takes everything");
    STANDARD.encode(bytes)
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
const fn as_f64(count: u64) -> f64 {
    count as f64
}

/// What was measured of an operation.
#[derive(Clone, Debug)]
pub struct Measured {
    /// From when it was due.
    pub corrected: Times,
    /// From when it was sent.
    pub raw: Times,
    /// What went wrong, by kind.
    pub errors: BTreeMap<String, u64>,
    /// Pages that said that they may not be whole.
    pub degraded: u64,
    /// Bytes of the bodies of requests and of answers.
    pub bytes: (u64, u64),
}

impl Default for Measured {
    fn default() -> Self {
        Self {
            corrected: times(),
            raw: times(),
            errors: BTreeMap::new(),
            degraded: 0,
            bytes: (0, 0),
        }
    }
}

impl Measured {
    /// Adds another worker's.
    pub fn add(&mut self, other: &Self) {
        self.corrected.add(&other.corrected).expect("equal bounds");
        self.raw.add(&other.raw).expect("equal bounds");
        for (kind, count) in &other.errors {
            *self.errors.entry(kind.clone()).or_default() += count;
        }
        self.degraded += other.degraded;
        self.bytes = (self.bytes.0 + other.bytes.0, self.bytes.1 + other.bytes.1);
    }

    /// How many errors.
    #[must_use]
    pub fn errors(&self) -> u64 {
        self.errors.values().sum()
    }

    /// As it stands in the report of a run of `length_s`.
    #[must_use]
    pub fn operation(&self, op: Op, length_s: f64) -> Operation {
        Operation {
            operation: op.name().to_owned(),
            ok: self.corrected.len(),
            errors: self.errors.clone(),
            degraded: self.degraded,
            rate: as_f64(self.corrected.len()) / length_s,
            corrected: latency(&self.corrected),
            raw: latency(&self.raw),
            histogram: exported(&self.corrected),
            raw_histogram: exported(&self.raw),
            request_bytes: self.bytes.0,
            answer_bytes: self.bytes.1,
        }
    }
}

/// A second of a worker.
#[derive(Clone, Debug, Default)]
pub struct Tick {
    /// Which, from 0.
    pub second: u64,
    /// Requests that were due in it.
    pub due: u64,
    /// What ended badly in it.
    pub errors: u64,
    /// What ended well in it.
    pub times: BTreeMap<Op, Times>,
}

impl Tick {
    /// Counts an answer.
    pub fn answered(&mut self, op: Op, took: Duration) {
        record(self.times.entry(op).or_insert_with(|| bounded(DIGITS_SECOND)), took);
    }

    /// Adds another worker's.
    pub fn add(&mut self, other: &Self) {
        self.due += other.due;
        self.errors += other.errors;
        for (op, times) in &other.times {
            let own = self.times.entry(*op).or_insert_with(|| bounded(DIGITS_SECOND));
            own.add(times).expect("equal bounds");
        }
    }

    /// As it stands in the report.
    #[must_use]
    pub fn second(&self) -> Second {
        let of = |times: &Times| SecondOf {
            count: times.len(),
            mean_us: times.mean(),
            p50_us: times.value_at_quantile(0.5),
            p99_us: times.value_at_quantile(0.99),
            max_us: times.max(),
        };
        Second {
            second: self.second,
            due: self.due,
            ok: self.times.values().map(Histogram::len).sum(),
            errors: self.errors,
            operations: self.times.iter().map(|(op, t)| (op.name().to_owned(), of(t))).collect(),
        }
    }
}

/// Everything that a worker has measured.
#[derive(Clone, Debug)]
pub struct Totals {
    /// By operation.
    pub operations: BTreeMap<Op, Measured>,
    /// How much later than due requests were taken up.
    pub late: Times,
    /// Requests that were sent.
    pub sent: u64,
    /// Requests that had nothing to act on.
    pub skipped: u64,
    /// Requests that were never sent.
    pub dropped: u64,
    /// The most that waited for a connection at once.
    pub backlog_max: u64,
    /// Pages that were judged.
    pub pages: u64,
}

impl Default for Totals {
    fn default() -> Self {
        let (operations, late) = (BTreeMap::new(), times());
        Self { operations, late, sent: 0, skipped: 0, dropped: 0, backlog_max: 0, pages: 0 }
    }
}

impl Totals {
    /// Adds another worker's.
    pub fn add(&mut self, other: &Self) {
        for (op, measured) in &other.operations {
            self.operations.entry(*op).or_default().add(measured);
        }
        self.late.add(&other.late).expect("equal bounds");
        self.sent += other.sent;
        self.skipped += other.skipped;
        self.dropped += other.dropped;
        self.backlog_max += other.backlog_max;
        self.pages += other.pages;
    }
}
