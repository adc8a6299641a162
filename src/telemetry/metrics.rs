//! The metrics of one role, and their registry. Labels are bounded: roles, route patterns,
//! statuses, lanes, caches and follower buckets; never ids, handles or raw paths.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use parking_lot::Mutex;
use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use crate::{
    ports::{Queue, QueueStats},
    wire::routes::Role,
};

/// Upper bounds of request latency, in seconds: 100 us to 10 s, about three a decade.
const LATENCY_S: [f64; 16] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];
/// Upper bounds of freshness, in seconds: 1 ms to 5 minutes (Twitter's stated worst case).
const FRESHNESS_S: [f64; 16] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
];

/// The statuses of nearly all answers.
const USUAL: [u16; 3] = [200, 201, 204];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    role: &'static str,
    method: &'static str,
    route: &'static str,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CacheLabels {
    cache: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LaneLabels {
    lane: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RoleLabels {
    role: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FollowerLabels {
    followers: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StoreLabels {
    store: &'static str,
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ServerLabels {
    store: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    store: &'static str,
    call: &'static str,
}

/// A cache whose hits are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cache {
    /// Home timelines.
    Home,
    /// Relations.
    Relations,
    /// Bodies of tweets.
    Body,
    /// Lists of pulled authors.
    Author,
}

impl Cache {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Home => "home",
            Self::Relations => "relations",
            Self::Body => "body",
            Self::Author => "author",
        }
    }
}

/// The metrics of one process; cheap to clone.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Mutex<Registry>,
    requests: Family<RouteLabels, Histogram, fn() -> Histogram>,
    cache: Family<CacheLabels, Counter>,
    cache_reads: [CacheReads; 4],
    queue_depth: Family<LaneLabels, Gauge>,
    queue_in_flight: Family<LaneLabels, Gauge>,
    queue_oldest: Family<LaneLabels, Gauge>,
    queue_parked: Family<LaneLabels, Gauge>,
    outbox_unsent: Family<RoleLabels, Gauge>,
    outbox_lag: Family<RoleLabels, Gauge>,
    deliveries: Counter,
    writes_saved: Counter,
    home_rows: Counter,
    freshness: Family<FollowerLabels, Histogram, fn() -> Histogram>,
    store_errors: Family<StoreLabels, Counter>,
    store_up: Family<ServerLabels, Gauge>,
    store_calls: Family<CallLabels, Histogram, fn() -> Histogram>,
    shed: Family<RoleLabels, Counter>,
    uncounted: Family<RoleLabels, Counter>,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Metrics in a registry of their own.
    #[must_use]
    pub fn new() -> Self {
        let latency: fn() -> Histogram = || Histogram::new(LATENCY_S);
        let fresh: fn() -> Histogram = || Histogram::new(FRESHNESS_S);
        let cache = Family::default();
        let caches = [Cache::Home, Cache::Relations, Cache::Body, Cache::Author];
        let inner = Inner {
            registry: Mutex::new(Registry::with_prefix("chirp")),
            requests: Family::new_with_constructor(latency),
            cache_reads: caches.map(|one| CacheReads::of(one, &cache)),
            cache,
            queue_depth: Family::default(),
            queue_in_flight: Family::default(),
            queue_oldest: Family::default(),
            queue_parked: Family::default(),
            outbox_unsent: Family::default(),
            outbox_lag: Family::default(),
            deliveries: Counter::default(),
            writes_saved: Counter::default(),
            home_rows: Counter::default(),
            freshness: Family::new_with_constructor(fresh),
            store_errors: Family::default(),
            store_up: Family::default(),
            store_calls: Family::new_with_constructor(latency),
            shed: Family::default(),
            uncounted: Family::default(),
        };
        inner.register();
        Self(Arc::new(inner))
    }

    /// Measures the requests of one route.
    #[must_use]
    pub fn route(&self, role: Role, method: &'static str, route: &'static str) -> RouteMeter {
        RouteMeter { metrics: self.clone(), role, method, route, usual: Default::default() }
    }

    /// `hits` and `misses` of a cache.
    pub fn cache(&self, cache: Cache, hits: u64, misses: u64) {
        let reads = &self.0.cache_reads[cache as usize];
        for (result, count) in [(&reads.hits, hits), (&reads.misses, misses)] {
            if count > 0 {
                result.inc_by(count);
            }
        }
    }

    /// The state of a lane.
    pub fn queue(&self, queue: Queue, stats: QueueStats) {
        let labels = LaneLabels { lane: queue.as_str() };
        let set = |family: &Family<LaneLabels, Gauge>, value: u64| {
            family.get_or_create(&labels).set(i64::try_from(value).unwrap_or(i64::MAX));
        };
        set(&self.0.queue_depth, stats.depth);
        set(&self.0.queue_in_flight, stats.in_flight);
        set(&self.0.queue_oldest, stats.oldest_ms);
        set(&self.0.queue_parked, stats.parked);
    }

    /// The state of a role's outbox: rows unsent, and the age of the oldest in milliseconds.
    pub fn outbox(&self, role: Role, unsent: u64, lag_ms: u64) {
        let labels = RoleLabels { role: role.as_str() };
        let clamp = |value| i64::try_from(value).unwrap_or(i64::MAX);
        self.0.outbox_unsent.get_or_create(&labels).set(clamp(unsent));
        self.0.outbox_lag.get_or_create(&labels).set(clamp(lag_ms));
    }

    /// `delivered` deliveries were made, and `absent` writes were saved because the timeline is cold.
    pub fn fanout(&self, delivered: u64, absent: u64) {
        self.0.deliveries.inc_by(delivered);
        self.0.writes_saved.inc_by(absent);
    }

    /// `rows` rows of durable home timelines were written.
    pub fn kept(&self, rows: u64) {
        self.0.home_rows.inc_by(rows);
    }

    /// The fan-out of a tweet to `followers` ended `took` after it was accepted.
    pub fn freshness(&self, followers: u64, took: Duration) {
        let followers = match followers {
            0..=99 => "0-99",
            100..=999 => "100-999",
            1_000..=9_999 => "1k-10k",
            10_000..=99_999 => "10k-100k",
            _ => "100k+",
        };
        self.0.freshness.get_or_create(&FollowerLabels { followers }).observe(took.as_secs_f64());
    }

    /// A store gave an error.
    pub fn store_error(&self, error: &crate::ports::StoreError) {
        let labels = StoreLabels { store: error.store, kind: error.kind.as_str() };
        self.0.store_errors.get_or_create(&labels).inc();
    }

    /// Whether a server that keeps data answers, as far as calls have shown.
    pub fn store_up(&self, store: &'static str, up: bool) {
        self.0.store_up.get_or_create(&ServerLabels { store }).set(i64::from(up));
    }

    /// A call of a server that keeps data ended after `took`.
    pub fn store_call(&self, store: &'static str, call: &'static str, took: Duration) {
        self.0.store_calls.get_or_create(&CallLabels { store, call }).observe(took.as_secs_f64());
    }

    /// A request was turned away because the role was full.
    pub fn shed(&self, role: Role) {
        self.0.shed.get_or_create(&RoleLabels { role: role.as_str() }).inc();
    }

    /// No rate limit counted a call, as its token says.
    pub fn uncounted(&self, role: Role) {
        self.0.uncounted.get_or_create(&RoleLabels { role: role.as_str() }).inc();
    }

    /// Everything, in the `OpenMetrics` text format.
    #[must_use]
    pub fn render(&self) -> String {
        let mut out = String::new();
        text::encode(&mut out, &self.0.registry.lock()).expect("writing to a string cannot fail");
        out
    }
}

/// Measures the requests of one route. The usual answers are counted without a look-up by labels,
/// which costs as much as the rest of a warm read's measurements.
pub struct RouteMeter {
    metrics: Metrics,
    role: Role,
    method: &'static str,
    route: &'static str,
    usual: [OnceLock<Histogram>; USUAL.len()],
}

impl RouteMeter {
    /// A request was answered with `status`.
    pub fn answered(&self, status: u16, took: Duration) {
        match USUAL.iter().position(|&usual| usual == status) {
            Some(at) => {
                self.usual[at].get_or_init(|| self.histogram(status)).observe(took.as_secs_f64());
            }
            None => self.histogram(status).observe(took.as_secs_f64()),
        }
    }

    fn histogram(&self, status: u16) -> Histogram {
        let Self { role, method, route, .. } = *self;
        let labels = RouteLabels { role: role.as_str(), method, route, status };
        self.metrics.0.requests.get_or_create(&labels).clone()
    }
}

/// The counters of one cache.
struct CacheReads {
    hits: Counter,
    misses: Counter,
}

impl CacheReads {
    fn of(cache: Cache, all: &Family<CacheLabels, Counter>) -> Self {
        let result =
            |result| all.get_or_create(&CacheLabels { cache: cache.as_str(), result }).clone();
        Self { hits: result("hit"), misses: result("miss") }
    }
}

impl Inner {
    fn register(&self) {
        let mut r = self.registry.lock();
        let request = "Requests by route and status";
        r.register_with_unit("http_request", request, Unit::Seconds, self.requests.clone());
        r.register("cache_reads", "Cache look-ups by result", self.cache.clone());
        r.register("queue_depth", "Messages that wait, by lane", self.queue_depth.clone());
        r.register("queue_in_flight", "Messages received and open", self.queue_in_flight.clone());
        r.register("queue_oldest_ms", "Age of the oldest message", self.queue_oldest.clone());
        r.register("queue_parked", "Messages set aside", self.queue_parked.clone());
        r.register("outbox_unsent", "Outbox rows not yet sent", self.outbox_unsent.clone());
        r.register("outbox_lag_ms", "Age of the oldest unsent row", self.outbox_lag.clone());
        r.register("deliveries", "Tweets put into home timelines", self.deliveries.clone());
        r.register("writes_saved", "Pushes that found no warm timeline", self.writes_saved.clone());
        let rows = "Rows of durable home timelines written";
        r.register("home_rows", rows, self.home_rows.clone());
        let fresh = "Tweet accepted until its last delivery, by followers of the author";
        r.register_with_unit("freshness", fresh, Unit::Seconds, self.freshness.clone());
        r.register("store_errors", "Errors of stores by kind", self.store_errors.clone());
        r.register("store_up", "Whether a server answers", self.store_up.clone());
        let calls = "Calls of servers that keep data";
        r.register_with_unit("store_call", calls, Unit::Seconds, self.store_calls.clone());
        r.register("shed", "Requests turned away by a full role", self.shed.clone());
        r.register("uncounted", "Calls that no rate limit counted", self.uncounted.clone());
        r.register_collector(Box::new(super::process::Process));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_rendered() {
        let metrics = Metrics::new();
        let route = metrics.route(Role::Tweet, "POST", "/tweets");
        route.answered(201, Duration::from_millis(3));
        route.answered(409, Duration::from_millis(3));
        metrics.cache(Cache::Home, 2, 1);
        metrics.fanout(403, 7);
        metrics.kept(404);
        metrics.uncounted(Role::Gateway);
        metrics.queue(Queue::Bulk, QueueStats { depth: 5, ..QueueStats::default() });
        let text = metrics.render();
        for line in [
            r#"chirp_http_request_seconds_count{role="tweet",method="POST",route="/tweets",status="201"} 1"#,
            r#"chirp_http_request_seconds_count{role="tweet",method="POST",route="/tweets",status="409"} 1"#,
            r#"chirp_cache_reads_total{cache="home",result="hit"} 2"#,
            "chirp_deliveries_total 403",
            "chirp_writes_saved_total 7",
            "chirp_home_rows_total 404",
            r#"chirp_uncounted_total{role="gateway"} 1"#,
            "chirp_process_cpu_seconds_total ",
            "chirp_process_resident_memory_bytes ",
            r#"chirp_queue_depth{lane="bulk"} 5"#,
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
