//! Small fakes of the ports for the scenarios of services: a runtime whose wall clock can be moved,
//! stores in memory whose next writes can be made to fail, and roles that call each other directly.

mod bus;
mod net;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use axum::{Router, body::Body};
use http::{HeaderMap, Request};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use tower::ServiceExt;

pub(in crate::services) use self::{
    bus::{MemBus, MemOutbox},
    net::{Applier, Issuer, Net, Replica, Take},
};
use super::{Common, Secret, Service};
use crate::{
    config::Services,
    ports::{Counted, Kind, Outcome, RateLimiter, Read, Rpc, StoreError, Verdict},
    rt::{BoxFuture, Instant, Rt, Runtime, Shutdown, Task},
    telemetry::Metrics,
    wire::routes::Role,
};

/// The token that roles show each other in tests.
pub(in crate::services) const TOKEN: &str = "service-token-of-tests";

/// How a write ends that was told to go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::services) enum Wrong {
    /// It does not happen.
    Failed,
    /// It happens, and nobody hears of it.
    Applied,
    /// It does not happen, and nobody knows.
    Lost,
}

/// Decides how the next writes end; `None` is well.
#[derive(Default)]
pub(in crate::services) struct Plan(Mutex<VecDeque<Option<Wrong>>>);

impl Plan {
    pub(in crate::services) fn next(&self, steps: impl IntoIterator<Item = Option<Wrong>>) {
        self.0.lock().extend(steps);
    }

    pub(in crate::services) fn write<T>(&self, apply: impl FnOnce() -> T) -> Outcome<T> {
        let error = StoreError::new(Kind::Unavailable, "fake", "told to");
        match self.0.lock().pop_front().flatten() {
            None => Outcome::Done(apply()),
            Some(Wrong::Failed) => Outcome::Failed(error),
            Some(Wrong::Lost) => Outcome::Unknown(error),
            Some(Wrong::Applied) => {
                drop(apply());
                Outcome::Unknown(error)
            }
        }
    }
}

/// Tokio's paused clock, a wall clock that can be moved, and random numbers that repeat.
#[derive(Default)]
pub(in crate::services) struct Clock {
    pub(in crate::services) ahead_ms: AtomicU64,
    random: AtomicU64,
}

struct TestRuntime(Arc<Clock>, tokio::time::Instant);

/// Where the wall clock of tests begins.
pub(in crate::services) const START_MS: u64 = 1_800_000_000_000;

impl Runtime for TestRuntime {
    fn now(&self) -> Instant {
        Instant::from_start(self.1.elapsed())
    }

    fn wall_ms(&self) -> u64 {
        START_MS + self.1.elapsed().as_millis() as u64 + self.0.ahead_ms.load(Ordering::Relaxed)
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }

    fn spawn(&self, _name: &'static str, task: BoxFuture<'static, ()>) -> Task {
        Task::new(tokio::spawn(task))
    }

    fn blocking(&self, job: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        job();
        Box::pin(std::future::ready(()))
    }

    fn fill(&self, bytes: &mut [u8]) {
        for byte in bytes {
            let step = self.0.random.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
            *byte = (step.wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 56) as u8;
        }
    }

    fn point(&self, _name: &'static str) -> Option<BoxFuture<'static, ()>> {
        None
    }
}

/// A limiter that allows a number of calls a key.
#[derive(Default)]
pub(in crate::services) struct Limiter {
    /// Calls by limit and key.
    pub(in crate::services) counts: Mutex<BTreeMap<String, u32>>,
    /// How often it was asked, for one call or several.
    pub(in crate::services) asked: AtomicU64,
}

#[async_trait]
impl RateLimiter for Limiter {
    async fn check(&self, calls: &[Counted<'_>]) -> Read<Vec<Verdict>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let mut counts = self.counts.lock();
        let count = |&Counted { name, key, limit }: &Counted<'_>| {
            let used = counts.entry(format!("{name}/{key}")).or_default();
            *used += 1;
            let allowed = *used <= limit.burst;
            let wait = if allowed { Duration::ZERO } else { Duration::from_millis(1_500) };
            Verdict {
                allowed,
                remaining: limit.burst.saturating_sub(*used),
                retry_after: wait,
                reset_after: limit.period,
            }
        };
        Ok(calls.iter().map(count).collect())
    }
}

/// Everything that services of one test share.
pub(in crate::services) struct World {
    pub(in crate::services) clock: Arc<Clock>,
    pub(in crate::services) rt: Rt,
    pub(in crate::services) net: Arc<Net>,
    pub(in crate::services) limiter: Arc<Limiter>,
    pub(in crate::services) config: Services,
}

impl World {
    pub(in crate::services) fn new() -> Self {
        let clock = Arc::new(Clock::default());
        let rt = Rt::new(TestRuntime(Arc::clone(&clock), tokio::time::Instant::now()));
        let limiter = Arc::new(Limiter::default());
        Self { clock, rt, net: Arc::default(), limiter, config: Services::for_tests() }
    }

    pub(in crate::services) fn common(&self, role: Role) -> Common {
        Common {
            rt: self.rt.clone(),
            role,
            replica: self.net.replicas(role),
            rpc: Arc::clone(&self.net) as Arc<dyn Rpc>,
            limiter: Arc::clone(&self.limiter) as Arc<dyn RateLimiter>,
            metrics: Metrics::new(),
            config: Arc::new(self.config.clone()),
            service_token: Secret(TOKEN.into()),
            shutdown: Shutdown::new(),
        }
    }

    /// Puts a service on the net, starts its loops and waits until it is ready.
    pub(in crate::services) async fn start(&self, mut service: Service) -> Arc<Replica> {
        let replica = self.net.add(service.role, service.public.clone(), service.internal.clone());
        drop(service.start(&self.rt));
        let ready = service.ready.wait_for(|ready| *ready);
        drop(tokio::time::timeout(Duration::from_secs(30), ready).await.unwrap().unwrap());
        replica
    }
}

/// An answer, read to its end.
#[derive(Debug)]
pub(in crate::services) struct Answer {
    pub(in crate::services) status: u16,
    pub(in crate::services) headers: HeaderMap,
    pub(in crate::services) json: serde_json::Value,
    pub(in crate::services) text: String,
}

impl Answer {
    pub(in crate::services) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The code of a problem.
    pub(in crate::services) fn code(&self) -> &str {
        let kind = self.json["type"].as_str().unwrap_or_default();
        kind.strip_prefix("urn:chirp:problem:").unwrap_or_default()
    }
}

/// Asks a router: `"METHOD /path"`, headers, body (sent as JSON if not empty).
pub(in crate::services) async fn ask(
    router: &Router,
    line: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    let (method, path) = line.split_once(' ').unwrap();
    let mut request = Request::builder().method(method).uri(path);
    if !body.is_empty() {
        request = request.header("content-type", "application/json");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Body::from(body.to_owned())).unwrap();
    let Ok(response) = router.clone().oneshot(request).await;
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let json = serde_json::from_str(&text).unwrap_or_default();
    Answer { status: parts.status.as_u16(), headers: parts.headers, json, text }
}
