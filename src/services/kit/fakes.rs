//! Small fakes of the ports for the scenarios of services: a runtime whose wall clock can be moved,
//! stores in memory whose next writes can be made to fail, and roles that call each other directly.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use axum::{Router, body::Body};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use tower::ServiceExt;

use super::{
    Common, Secret, Service,
    token::{Claims, ISSUER, SigningKey},
};
use crate::{
    config::Services,
    domain::{DisplayName, Handle, SessionId, UserId},
    ports::{rpc::Door, *},
    rt::{BoxFuture, Instant, Rt, Runtime, Shutdown, Task},
    telemetry::Metrics,
    wire::{
        api::Jwks,
        internal::{REVOCATIONS, Revocations},
        routes::Role,
    },
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

/// How a replica takes the next call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::services) enum Take {
    /// It cannot be connected to.
    Refuse,
    /// It does what is asked and dies before it answers.
    DieAfter,
    /// It never answers.
    Hang,
}

/// A replica that others call.
pub(in crate::services) struct Replica {
    public: Router,
    internal: Router,
    pub(in crate::services) healthy: AtomicBool,
    pub(in crate::services) takes: Mutex<VecDeque<Take>>,
    /// Method with path, and headers, of every call that came in.
    pub(in crate::services) seen: Mutex<Vec<(String, HeaderMap)>>,
}

/// Roles that call each other without a network.
#[derive(Default)]
pub(in crate::services) struct Net(Mutex<BTreeMap<Role, Vec<Arc<Replica>>>>);

impl Net {
    pub(in crate::services) fn add(
        &self,
        role: Role,
        public: Router,
        internal: Router,
    ) -> Arc<Replica> {
        let (healthy, takes, seen) = (AtomicBool::new(true), Mutex::default(), Mutex::default());
        let replica = Arc::new(Replica { public, internal, healthy, takes, seen });
        self.0.lock().entry(role).or_default().push(Arc::clone(&replica));
        replica
    }
}

#[async_trait]
impl Rpc for Net {
    fn replicas(&self, role: Role) -> usize {
        self.0.lock().get(&role).map_or(0, Vec::len)
    }

    fn healthy(&self, role: Role, replica: usize) -> bool {
        self.0.lock()[&role][replica].healthy.load(Ordering::Relaxed)
    }

    async fn call(
        &self,
        role: Role,
        replica: usize,
        door: Door,
        request: Request<Body>,
    ) -> Outcome<Response<Body>> {
        let replica = Arc::clone(&self.0.lock()[&role][replica]);
        let error = StoreError::new(Kind::Unavailable, "rpc", "told to");
        let take = replica.takes.lock().pop_front();
        if take == Some(Take::Refuse) {
            return Outcome::Failed(error);
        }
        let line = format!("{} {}", request.method(), request.uri());
        replica.seen.lock().push((line, request.headers().clone()));
        if take == Some(Take::Hang) {
            std::future::pending::<()>().await;
        }
        let router = if door == Door::Public { &replica.public } else { &replica.internal };
        let Ok(response) = router.clone().oneshot(request).await;
        if take == Some(Take::DieAfter) { Outcome::Unknown(error) } else { Outcome::Done(response) }
    }
}

/// A limiter that allows a number of calls a key.
pub(in crate::services) struct Limiter(pub(in crate::services) Mutex<BTreeMap<String, u32>>);

#[async_trait]
impl RateLimiter for Limiter {
    async fn check(&self, name: &'static str, key: &str, limit: Limit) -> Read<Verdict> {
        let mut counts = self.0.lock();
        let used = counts.entry(format!("{name}/{key}")).or_default();
        *used += 1;
        let allowed = *used <= limit.burst;
        let wait = if allowed { Duration::ZERO } else { Duration::from_millis(1_500) };
        Ok(Verdict {
            allowed,
            remaining: limit.burst.saturating_sub(*used),
            retry_after: wait,
            reset_after: limit.period,
        })
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
        let limiter = Arc::new(Limiter(Mutex::default()));
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

impl Replica {
    pub(in crate::services) async fn ask(
        &self,
        line: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        ask(&self.public, line, headers, body).await
    }

    pub(in crate::services) async fn ask_internal(
        &self,
        line: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        ask(&self.internal, line, headers, body).await
    }

    /// Asks with an access token.
    pub(in crate::services) async fn ask_as(&self, token: &str, line: &str, body: &str) -> Answer {
        self.ask(line, &[("authorization", &format!("Bearer {token}"))], body).await
    }
}

/// A timeline role that only applies, or does not.
#[derive(Default)]
pub(in crate::services) struct Applier {
    pub(in crate::services) broken: AtomicBool,
    pub(in crate::services) applied: Mutex<Vec<String>>,
}

impl Applier {
    /// Puts it on the net.
    pub(in crate::services) fn start(net: &Net) -> Arc<Self> {
        let applier = Arc::new(Self::default());
        let shared = Arc::clone(&applier);
        let apply = async move |body: String| {
            if shared.broken.load(Ordering::Relaxed) {
                return StatusCode::SERVICE_UNAVAILABLE;
            }
            shared.applied.lock().push(body);
            StatusCode::NO_CONTENT
        };
        let internal =
            Router::new().route(crate::wire::internal::APPLY, axum::routing::post(apply));
        drop(net.add(Role::Timeline, Router::new(), internal));
        applier
    }
}

/// A user role that only publishes keys and revocations, and signs.
pub(in crate::services) struct Issuer {
    pub(in crate::services) key: SigningKey,
    pub(in crate::services) revoked: Arc<Mutex<Vec<SessionId>>>,
    pub(in crate::services) replica: Arc<Replica>,
    rt: Rt,
}

impl Issuer {
    /// Puts it on the net.
    pub(in crate::services) fn start(world: &World) -> Self {
        let key = SigningKey::new("k1", &[1; 32]).unwrap();
        let jwks = Jwks { keys: vec![key.jwk().clone()] };
        let revoked: Arc<Mutex<Vec<SessionId>>> = Arc::default();
        let (told, rt) = (Arc::clone(&revoked), world.rt.clone());
        let jwks = axum::routing::get(async move || axum::Json(jwks));
        let revocations = axum::routing::get(async move || {
            let sessions = told.lock().clone();
            axum::Json(Revocations { sessions, until_ms: rt.wall_ms() })
        });
        let replica = world.net.add(
            Role::User,
            Router::new().route("/.well-known/jwks.json", jwks),
            Router::new().route(REVOCATIONS, revocations),
        );
        Self { key, revoked, replica, rt: world.rt.clone() }
    }

    /// What a token of user `user`, in the session of the same number, says.
    pub(in crate::services) fn claims(&self, user: u64) -> Claims {
        let iat = self.rt.wall_ms() / 1_000;
        Claims {
            sub: UserId(user),
            sid: SessionId(user),
            handle: Handle::parse(&format!("user{user}")).unwrap(),
            name: DisplayName::parse("A User").unwrap(),
            iat,
            exp: iat + 300,
            iss: ISSUER.to_owned(),
            aud: ISSUER.to_owned(),
        }
    }

    /// A good token of user `user`.
    pub(in crate::services) fn token(&self, user: u64) -> String {
        self.key.sign(&self.claims(user)).unwrap()
    }
}

/// An outbox in memory.
#[derive(Default)]
pub(in crate::services) struct MemOutbox {
    /// Event, claimed until, sent at.
    pub(in crate::services) rows: Mutex<BTreeMap<u64, (Bytes, u64, Option<u64>)>>,
    pub(in crate::services) plan: Plan,
}

impl MemOutbox {
    pub(in crate::services) fn add(&self, event: Bytes) {
        let mut rows = self.rows.lock();
        let seq = rows.len() as u64 + 1;
        rows.insert(seq, (event, 0, None));
    }

    pub(in crate::services) fn unsent(&self) -> usize {
        self.rows.lock().values().filter(|row| row.2.is_none()).count()
    }
}

#[async_trait]
impl Outbox for MemOutbox {
    async fn claim(&self, limit: usize, now_ms: u64, lease: Duration) -> Outcome<Vec<OutboxRow>> {
        self.plan.write(|| {
            let mut rows = self.rows.lock();
            let free = rows.iter_mut().filter(|(_, row)| row.2.is_none() && row.1 <= now_ms);
            free.take(limit)
                .map(|(&seq, row)| {
                    row.1 = now_ms + lease.as_millis() as u64;
                    OutboxRow { seq, event: row.0.clone() }
                })
                .collect()
        })
    }

    async fn mark_sent(&self, seqs: &[u64], now_ms: u64) -> Outcome<()> {
        self.plan.write(|| {
            let mut rows = self.rows.lock();
            for seq in seqs {
                rows.get_mut(seq).unwrap().2 = Some(now_ms);
            }
        })
    }

    async fn release(&self, seqs: &[u64]) -> Outcome<()> {
        let mut rows = self.rows.lock();
        for seq in seqs {
            rows.get_mut(seq).unwrap().1 = 0;
        }
        Outcome::Done(())
    }

    async fn replay(&self, _since_ms: u64) -> Outcome<u64> {
        let mut rows = self.rows.lock();
        let count = rows.len() as u64;
        for row in rows.values_mut() {
            (row.1, row.2) = (0, None);
        }
        Outcome::Done(count)
    }

    async fn prune(&self, _before_ms: u64) -> Outcome<u64> {
        Outcome::Done(0)
    }

    async fn stats(&self) -> Read<OutboxStats> {
        Ok(OutboxStats { unsent: self.unsent() as u64, oldest_ms: None })
    }
}

/// A bus that takes messages and may refuse those that hold a text.
#[derive(Default)]
pub(in crate::services) struct MemBus {
    pub(in crate::services) messages: Mutex<Vec<Bytes>>,
    /// Messages with this text end so.
    pub(in crate::services) poison: Mutex<Option<(String, Wrong)>>,
}

#[async_trait]
impl Bus for MemBus {
    async fn publish(&self, _to: Target, messages: &[Bytes]) -> Vec<Outcome<()>> {
        let poison = self.poison.lock().clone();
        let one = |message: &Bytes| {
            let text = String::from_utf8_lossy(message);
            let plan = Plan::default();
            plan.next([poison.as_ref().filter(|(bad, _)| text.contains(bad)).map(|p| p.1)]);
            plan.write(|| self.messages.lock().push(message.clone()))
        };
        messages.iter().map(one).collect()
    }

    async fn receive(
        &self,
        _queue: Queue,
        _max: usize,
        _wait: Duration,
        _visibility: Duration,
    ) -> Read<Vec<Delivery>> {
        Ok(Vec::new())
    }

    async fn acknowledge(&self, _queue: Queue, receipts: &[Receipt]) -> Vec<Outcome<()>> {
        receipts.iter().map(|_| Outcome::Done(())).collect()
    }

    async fn extend(
        &self,
        _queue: Queue,
        receipts: &[Receipt],
        _visibility: Duration,
    ) -> Vec<Outcome<()>> {
        receipts.iter().map(|_| Outcome::Done(())).collect()
    }

    async fn redrive(&self, _queue: Queue, _max: usize) -> Outcome<u64> {
        Outcome::Done(0)
    }

    async fn stats(&self, _queue: Queue) -> Read<QueueStats> {
        Ok(QueueStats::default())
    }
}

impl MemBus {
    /// The ids in all events that were published, in their order.
    pub(in crate::services) fn ids(&self) -> Vec<u64> {
        let messages = self.messages.lock();
        let events = messages.iter().flat_map(|m| crate::wire::events::unpack(m).unwrap().events);
        let id = |raw: Box<serde_json::value::RawValue>| {
            let event: serde_json::Value = serde_json::from_str(raw.get()).unwrap();
            event["id"].as_str().unwrap().parse().unwrap()
        };
        events.map(id).collect()
    }

    /// The same without repetitions.
    pub(in crate::services) fn distinct_ids(&self) -> BTreeSet<u64> {
        self.ids().into_iter().collect()
    }
}
