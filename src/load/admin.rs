//! What the admin listeners say: whether anything is on its way, and how the system is meanwhile.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::report::Sample;
use crate::stack::{admin::Queues, client};

/// How often they are asked during a run.
pub const EVERY: Duration = Duration::from_secs(1);
/// The longest that a run waits until nothing is on its way.
const DRAIN_MAX: Duration = Duration::from_mins(5);
/// A listener that says nothing for so long is gone.
const SILENT_MAX: Duration = Duration::from_secs(10);
/// How often it looks.
const DRAIN_LOOK: Duration = Duration::from_millis(50);
/// After that many empty looks in a row nothing is on its way: a row may move between two lists while
/// they are counted.
const EMPTY_LOOKS: u32 = 3;
/// Counters that are kept; the label that tells their kinds apart is put behind the name.
const COUNTERS: [&str; 7] = [
    "chirp_cache_reads_total",
    "chirp_deliveries_total",
    "chirp_writes_saved_total",
    "chirp_home_rows_total",
    "chirp_shed_total",
    "chirp_store_errors_total",
    "chirp_uncounted_total",
];

/// Settings that figures depend on.
const FACTS: [&str; 5] = [
    "backends.kind",
    "fanout.strategy",
    "fanout.celebrity_followers",
    "timeline.near_ttl_ms",
    "fanout.chunk_followers",
];

/// Asks all of `admins` once; what does not answer is left out.
pub async fn sample(admins: &[SocketAddr], began: Instant) -> Sample {
    let mut sample = Sample { at_s: began.elapsed().as_secs_f64(), ..Sample::default() };
    let mut lanes: BTreeMap<String, u64> = BTreeMap::new();
    for &admin in admins {
        let queues = client::get(admin, "/queues").await.ok();
        if let Some(queues) = queues.and_then(|answer| answer.json::<Queues>()) {
            // Every process that has the bus open tells of the same lanes.
            for lane in queues.lanes {
                let waits = lane.depth + lane.in_flight;
                let known = lanes.entry(lane.lane).or_default();
                *known = waits.max(*known);
            }
            sample.unsent += queues.outboxes.iter().map(|outbox| outbox.unsent).sum::<u64>();
        }
        if let Ok(metrics) = client::get(admin, "/metrics").await {
            add_counters(&mut sample.counters, &String::from_utf8_lossy(&metrics.body));
        }
    }
    sample.lanes = lanes;
    sample
}

fn add_counters(counters: &mut BTreeMap<String, f64>, text: &str) {
    for line in text.lines() {
        let Some((series, value)) = line.rsplit_once(' ') else { continue };
        let name = series.split('{').next().unwrap_or_default();
        let (true, Ok(value)) = (COUNTERS.contains(&name), value.parse::<f64>()) else { continue };
        let result = series.split_once("result=\"").and_then(|(_, rest)| rest.split('"').next());
        let key = result.map_or_else(|| name.to_owned(), |result| format!("{name}.{result}"));
        *counters.entry(key).or_default() += value;
    }
}

/// Settings that figures depend on, as the first listener tells them.
pub async fn facts(admins: &[SocketAddr]) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::new();
    let Some(&admin) = admins.first() else { return facts };
    let Ok(answer) = client::get(admin, "/config").await else { return facts };
    let Some(config) = answer.json::<serde_json::Value>() else { return facts };
    for key in FACTS {
        let (section, name) = key.split_once('.').expect("a section and a name");
        let value = &config[section][name];
        if !value.is_null() {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            facts.insert(key.to_owned(), text);
        }
    }
    facts
}

/// Waits until nothing is on its way; gives the seconds that it took.
///
/// # Errors
/// What is still on its way, or is parked.
pub async fn drain(admins: &[SocketAddr]) -> Result<f64, String> {
    let began = Instant::now();
    let (mut empty, mut heard, mut last) = (0, Instant::now(), String::new());
    while began.elapsed() < DRAIN_MAX {
        match waiting(admins).await {
            Ok(None) => (empty, heard) = (empty + 1, Instant::now()),
            Ok(Some(what)) => (empty, heard, last) = (0, Instant::now(), what),
            Err(why) if heard.elapsed() > SILENT_MAX => return Err(why),
            Err(why) => (empty, last) = (0, why),
        }
        if empty == EMPTY_LOOKS {
            return Ok(began.elapsed().as_secs_f64());
        }
        tokio::time::sleep(DRAIN_LOOK).await;
    }
    Err(format!("after {} s {last}", DRAIN_MAX.as_secs()))
}

/// What is on its way; an error: nobody says.
async fn waiting(admins: &[SocketAddr]) -> Result<Option<String>, String> {
    for &admin in admins {
        let answer = client::get(admin, "/queues").await;
        let answer = answer.map_err(|error| format!("{admin} does not answer: {error}"))?;
        let queues = answer.json::<Queues>();
        let queues = queues.ok_or_else(|| format!("{admin} answers {}", answer.status))?;
        for lane in &queues.lanes {
            if lane.depth + lane.in_flight > 0 {
                return Ok(Some(format!(
                    "{} messages wait in {}",
                    lane.depth + lane.in_flight,
                    lane.lane
                )));
            }
        }
        if let Some(outbox) = queues.outboxes.iter().find(|outbox| outbox.unsent > 0) {
            return Ok(Some(format!("{} rows of {} are unsent", outbox.unsent, outbox.role)));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_added_up_by_name_and_result() {
        let text = "# TYPE chirp_cache_reads counter\n\
            chirp_cache_reads_total{cache=\"home\",result=\"hit\"} 2\n\
            chirp_cache_reads_total{cache=\"body\",result=\"hit\"} 3\n\
            chirp_cache_reads_total{cache=\"body\",result=\"miss\"} 4\n\
            chirp_deliveries_total 403\nchirp_other_total 9\nnonsense\n";
        let mut counters = BTreeMap::new();
        add_counters(&mut counters, text);
        let told: Vec<(&str, f64)> = counters.iter().map(|(name, n)| (name.as_str(), *n)).collect();
        assert_eq!(
            told,
            [
                ("chirp_cache_reads_total.hit", 5.0),
                ("chirp_cache_reads_total.miss", 4.0),
                ("chirp_deliveries_total", 403.0),
            ]
        );
    }
}
