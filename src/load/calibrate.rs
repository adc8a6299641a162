//! What an operation costs: each alone, at a rate that leaves the system mostly idle, after a while in which
//! nothing is asked. A capacity model takes it from there.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use hdrhistogram::serialization::Deserializer;
use serde::{Deserialize, Serialize};

use super::{
    mix::{Actors, Mix, Op},
    rates::Rates,
    report::{Environment, Report},
    run::{NoRun, Order, Progress},
    stats::Times,
    usage::{self, Parts},
    verdict::{INVALID, VIOLATED},
};
use crate::stack::client;

/// The schema of [`Calibration`].
pub const SCHEMA: &str = "chirp.calibration/1";
/// Operations that can be asked for alone.
const ALONE: [Op; 7] =
    [Op::Timeline, Op::Author, Op::Profile, Op::Post, Op::Follow, Op::Unfollow, Op::Block];
/// Quantiles of a distribution: the middle of each of so many equal parts.
const QUANTILES: u32 = 200;
/// Calls of servers that keep data, whose times are kept.
const STORE_CALLS: &str = "chirp_store_call_seconds";

/// What operations cost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// [`SCHEMA`].
    pub schema: String,
    /// The exit code: 0, 97 if a run was not quiet, 98 if a promise was broken.
    pub exit: u8,
    /// Version of the program.
    pub version: String,
    /// The command line.
    pub command: String,
    /// When it began, in milliseconds since the Unix epoch.
    pub began_at_ms: u64,
    /// Where it ran.
    pub environment: Environment,
    /// The data set.
    pub population: String,
    /// Requests per second of each run.
    pub rate: f64,
    /// Seconds of each run.
    pub length_s: f64,
    /// Processor time that each part takes while nothing is asked, in seconds per second.
    pub idle_cpu: BTreeMap<String, f64>,
    /// Each operation.
    pub operations: Vec<Cost>,
}

/// What an operation costs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Its name.
    pub operation: String,
    /// Answers that were wanted.
    pub count: u64,
    /// All others.
    pub errors: u64,
    /// From sent to answered, in microseconds: 200 quantiles, the first of 0.25 %, the last of 99.75 %.
    pub service_us: Vec<u64>,
    /// Processor time of each part for one, without what it takes while nothing is asked, in seconds. What
    /// comes after the answer, such as a fan-out, is in it.
    pub cpu_s: BTreeMap<String, f64>,
    /// Bytes of the bodies of requests, of one.
    pub request_bytes: f64,
    /// Bytes of the bodies of answers, of one.
    pub answer_bytes: f64,
    /// Followers of the author, of one post on average.
    pub followers: f64,
    /// What the system counted for one, by name of the metric: cache reads, deliveries, rows.
    pub counted: BTreeMap<String, f64>,
    /// Calls of servers that keep data for one, by server and call.
    pub store_calls: BTreeMap<String, StoreCall>,
    /// How much later than due the driver took requests up, at the 99th percentile, in microseconds.
    pub late_p99_us: u64,
    /// Share of the machine's time that its host took.
    pub steal: f64,
    /// Seconds from the last answer until nothing was on its way.
    pub drained_s: Option<f64>,
}

/// Calls of a server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StoreCall {
    /// How many for one operation.
    pub count: f64,
    /// Their mean time, in seconds.
    pub mean_s: f64,
    /// Upper bounds in seconds, and which share of the calls took no longer.
    pub within: Vec<(f64, f64)>,
}

/// Series of metrics by name and labels, as they are written.
type Series = BTreeMap<String, f64>;

/// Measures what operations cost.
///
/// # Errors
/// [`NoRun`], of any run.
pub async fn calibrate(
    order: &Order,
    stop: Arc<AtomicBool>,
    tell: &(dyn Fn(Progress) + Sync),
) -> Result<Calibration, NoRun> {
    let (rate, length_s) = (order.profile.rates.highest(), order.profile.rates.length_s());
    tell(Progress::Trial(format!("nothing is asked for {length_s:.0} s")));
    let (before, began) = (usage::usage(&order.admins, &order.containers).await, Instant::now());
    while began.elapsed().as_secs_f64() < length_s && !stop.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let used = usage::since(&before, &usage::usage(&order.admins, &order.containers).await);
    let idle_s = began.elapsed().as_secs_f64();
    let idle: BTreeMap<String, f64> =
        used.into_iter().map(|(name, used)| (name, used.cpu_s / idle_s)).collect();
    let (mut operations, mut last, mut exit) = (Vec::new(), None, 0);
    for (number, op) in (1..).zip(ALONE) {
        if stop.load(Ordering::Relaxed) {
            exit = exit.max(INVALID);
            break;
        }
        tell(Progress::Trial(format!("{}: {rate:.0} a second for {length_s:.0} s", op.name())));
        let mut order = order.again(number);
        order.profile.mix = Mix::of([(op, 1.0)], Actors::Skewed).expect("one weight");
        order.profile.rates = Rates::new(vec![(0.0, rate), (length_s, rate)]);
        order.profile.probes_per_s = 0.0;
        order.profile.streams = 0;
        // Reading everything again would be measured too.
        order.audit = false;
        order.slo = Vec::new();
        let stores = store_calls(&order.admins).await;
        let report = order.run(Arc::clone(&stop), tell).await?;
        let stores = difference(&stores, &store_calls(&order.admins).await);
        exit = exit.max(if report.verdict.exit == VIOLATED { VIOLATED } else { 0 });
        exit = exit.max(if report.verdict.exit == INVALID { INVALID } else { 0 });
        operations.extend(cost(op, &report, &idle, &stores));
        last = Some(report);
    }
    let last = last.as_ref();
    Ok(Calibration {
        schema: SCHEMA.to_owned(),
        exit,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        command: order.command.clone(),
        began_at_ms: last.map_or(0, |report| report.began_at_ms),
        environment: last.map(|report| report.environment.clone()).unwrap_or_default(),
        population: order.population.order.clone(),
        rate,
        length_s,
        idle_cpu: idle,
        operations,
    })
}

/// What one of the operations of a run of nothing else cost.
fn cost(op: Op, report: &Report, idle: &BTreeMap<String, f64>, stores: &Series) -> Option<Cost> {
    let of = report.operations.iter().find(|of| of.operation == op.name())?;
    let (count, errors) = (of.ok, of.errors.values().sum());
    let one = |sum: f64| sum / (count.max(1) as f64);
    Some(Cost {
        operation: of.operation.clone(),
        count,
        errors,
        service_us: quantiles(&of.raw_histogram),
        cpu_s: cpu(&report.usage, idle, report.used_s, count),
        request_bytes: one(of.request_bytes as f64),
        answer_bytes: one(of.answer_bytes as f64),
        followers: one(report.deliveries as f64),
        counted: counted(report).into_iter().map(|(name, sum)| (name, one(sum))).collect(),
        store_calls: calls(stores, count),
        late_p99_us: report.driver.late_p99_us,
        steal: report.driver.steal,
        drained_s: report.drained_s,
    })
}

fn quantiles(histogram: &str) -> Vec<u64> {
    let bytes = STANDARD.decode(histogram).unwrap_or_default();
    let times: Option<Times> = Deserializer::new().deserialize(&mut bytes.as_slice()).ok();
    let Some(times) = times.filter(|times| !times.is_empty()) else { return Vec::new() };
    let middle = |n: u32| (f64::from(n) + 0.5) / f64::from(QUANTILES);
    (0..QUANTILES).map(|n| times.value_at_quantile(middle(n))).collect()
}

fn cpu(
    used: &Parts,
    idle: &BTreeMap<String, f64>,
    used_s: f64,
    count: u64,
) -> BTreeMap<String, f64> {
    let of = |(name, used): (&String, &usage::Usage)| {
        let idle = idle.get(name).copied().unwrap_or(0.0) * used_s;
        (name.clone(), (used.cpu_s - idle).max(0.0) / count.max(1) as f64)
    };
    used.iter().map(of).collect()
}

fn counted(report: &Report) -> Series {
    let (Some(first), Some(last)) = (report.server.first(), report.server.last()) else {
        return Series::new();
    };
    difference(&first.counters, &last.counters)
        .into_iter()
        .filter(|(name, _)| !name.starts_with("chirp_uncounted"))
        .collect()
}

fn difference(before: &Series, after: &Series) -> Series {
    let of = |name: &str| before.get(name).copied().unwrap_or(0.0);
    after.iter().map(|(name, now)| (name.clone(), (now - of(name)).max(0.0))).collect()
}

/// The series of calls of servers of all processes, summed up.
async fn store_calls(admins: &[SocketAddr]) -> Series {
    let mut all = Series::new();
    for admin in admins {
        let Ok(metrics) = client::get(*admin, "/metrics").await else { continue };
        for line in String::from_utf8_lossy(&metrics.body).lines() {
            let Some(rest) = line.strip_prefix(STORE_CALLS) else { continue };
            let Some((name, value)) = rest.rsplit_once(' ') else { continue };
            if let Ok(value) = value.parse::<f64>() {
                *all.entry(name.to_owned()).or_default() += value;
            }
        }
    }
    all
}

fn label<'a>(series: &'a str, name: &str) -> Option<&'a str> {
    series.split_once(&format!("{name}=\""))?.1.split('"').next()
}

/// Calls by server and name, for one of `count`.
fn calls(series: &Series, count: u64) -> BTreeMap<String, StoreCall> {
    let (mut calls, mut sums) = (BTreeMap::<String, StoreCall>::new(), Series::new());
    for (name, &value) in series {
        let (Some(store), Some(call)) = (label(name, "store"), label(name, "call")) else {
            continue;
        };
        let key = format!("{store}.{call}");
        if name.starts_with("_count") {
            calls.entry(key).or_default().count = value;
        } else if name.starts_with("_sum") {
            sums.insert(key, value);
        } else if let Some(bound) = label(name, "le").and_then(|le| le.parse::<f64>().ok()) {
            calls.entry(key).or_default().within.push((bound, value));
        }
    }
    calls.retain(|_, call| call.count > 0.0);
    for (key, call) in &mut calls {
        call.mean_s = sums.get(key).copied().unwrap_or(0.0) / call.count;
        call.within.retain(|(bound, _)| bound.is_finite());
        call.within.sort_by(|a, b| a.0.total_cmp(&b.0));
        for (_, within) in &mut call.within {
            *within /= call.count;
        }
        call.count /= count.max(1) as f64;
    }
    calls
}

/// What operations cost, a line each.
#[must_use]
pub fn summary(calibration: &Calibration) -> Vec<String> {
    let mut lines = vec![format!(
        "{:<10}{:>8}{:>8}{:>11}{:>11}{:>10}  processor time of one, in ms",
        "", "count", "errors", "p50 us", "p99.75 us", "bytes"
    )];
    for of in &calibration.operations {
        let at = |n: usize| of.service_us.get(n).copied().unwrap_or(0);
        let cpu: Vec<String> =
            of.cpu_s.iter().map(|(name, cpu_s)| format!("{name} {:.3}", cpu_s * 1e3)).collect();
        lines.push(format!(
            "{:<10}{:>8}{:>8}{:>11}{:>11}{:>10.0}  {}",
            of.operation,
            of.count,
            of.errors,
            at(QUANTILES as usize / 2),
            at(QUANTILES as usize - 1),
            of.answer_bytes,
            cpu.join(", ")
        ));
    }
    let idle = calibration.idle_cpu.iter().map(|(name, s)| format!("{name} {:.1}", s * 1e3));
    lines.push(format!("idle, in ms a second: {}", idle.collect::<Vec<_>>().join(", ")));
    lines
}

#[cfg(test)]
mod tests {
    use super::{super::stats, *};

    #[test]
    fn quantiles_are_those_of_the_histogram() {
        let mut times = stats::times();
        for us in 1..=20_000 {
            stats::record(&mut times, Duration::from_micros(us));
        }
        let quantiles = quantiles(&stats::exported(&times));
        assert_eq!(quantiles.len(), 200);
        for (n, found) in (0_u32..).zip(&quantiles) {
            let wanted = (f64::from(n) + 0.5) * 100.0;
            assert!((*found as f64 / wanted - 1.0).abs() < 0.02, "{n}: {found}");
        }
        assert!(super::quantiles("nonsense").is_empty());
    }

    #[test]
    fn idle_time_is_not_counted() {
        let usage = |cpu_s| usage::Usage { cpu_s, memory_bytes: 1 };
        let used =
            Parts::from([("chirp".to_owned(), usage(3.0)), ("redis".to_owned(), usage(0.1))]);
        let idle = BTreeMap::from([("chirp".to_owned(), 0.1), ("redis".to_owned(), 0.1)]);
        let cpu = cpu(&used, &idle, 10.0, 100);
        assert!((cpu["chirp"] - 0.02).abs() < 1e-9);
        assert!(cpu["redis"].abs() < 1e-9);
    }

    #[test]
    fn calls_of_stores_are_of_one_operation() {
        let labels = "{store=\"redis\",call=\"page\"";
        let series: Series = [
            (format!("_count{labels}}}"), 200.0),
            (format!("_sum{labels}}}"), 0.1),
            (format!("_bucket{labels},le=\"0.001\"}}"), 150.0),
            (format!("_bucket{labels},le=\"+Inf\"}}"), 200.0),
            ("_count{store=\"redis\",call=\"none\"}".to_owned(), 0.0),
        ]
        .into();
        let calls = calls(&series, 100);
        assert_eq!(calls.len(), 1);
        let call = &calls["redis.page"];
        assert_eq!((call.count, call.within.as_slice()), (2.0, [(0.001, 0.75)].as_slice()));
        assert!((call.mean_s - 0.0005).abs() < 1e-12);
    }
}
