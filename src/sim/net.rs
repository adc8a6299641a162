//! The network between simulated nodes: calls go straight into the router of the target.
//!
//! A request runs in a task of the target, so that killing the node ends it. What may happen to a
//! call: latency both ways, the request is lost, the answer is lost, the request arrives twice, the
//! target is slow, down, or dies meanwhile. Two rules keep the faults within what TCP and HTTP do:
//! a caller that gives up ends its request at the target, and a duplicate never outlives the answer
//! of the original (a later one would undo what was acknowledged in between, as no transport does).

use std::{
    collections::BTreeMap,
    fmt::Display,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use axum::{Router, body::Body};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use rand::RngExt;
use rand_pcg::Pcg64;
use tokio::sync::{oneshot, watch};
use tower::ServiceExt;

use super::{
    runtime::{Machine, Shared},
    world::NodeId,
};
use crate::{
    ports::{
        Kind, Outcome, Rpc, StoreError,
        rpc::{Door, Origin},
    },
    rt::Task,
    wire::{internal::APPLY, routes::Role},
};

/// After a call that failed a replica counts as unhealthy for this long.
const UNHEALTHY_MS: u64 = 500;
/// A lost request or answer is noticed after this long at most.
const NOTICED_MS: u64 = 3_000;

/// How calls may go wrong, as chances per call.
#[derive(Clone, Copy, Debug, Default)]
pub struct NetFaults {
    /// Usual latency of each way, in milliseconds: 0 to this.
    pub latency_ms: u64,
    /// The request is lost.
    pub drop_request: f64,
    /// The answer is lost.
    pub drop_answer: f64,
    /// The request arrives twice.
    pub duplicate: f64,
    /// A way takes up to `delay_max_ms`.
    pub delay: f64,
    /// The longest delay of a way, in milliseconds.
    pub delay_max_ms: u64,
}

/// What a node serves.
#[derive(Clone)]
pub struct Served {
    /// Its life.
    pub machine: Arc<Machine>,
    /// The public routes.
    pub public: Router,
    /// The internal routes.
    pub internal: Router,
    /// Whether it says that it is ready.
    pub ready: watch::Receiver<bool>,
}

/// The network; cheap to clone.
#[derive(Clone)]
pub struct SimNet(Arc<Inner>);

struct Inner {
    shared: Shared,
    faults: NetFaults,
    faults_on: AtomicBool,
    replicas: BTreeMap<Role, usize>,
    served: Mutex<BTreeMap<(Role, usize), Served>>,
    /// Nodes on whose every way this many milliseconds are added.
    slow: Mutex<BTreeMap<(Role, usize), u64>>,
    streams: Mutex<BTreeMap<(NodeId, Role, usize), Pcg64>>,
}

/// What happens to one call; drawn at once, so that kinds of faults do not shift one another.
struct Fate {
    there_ms: u64,
    back_ms: u64,
    drop_request: bool,
    drop_answer: bool,
    duplicate_after_ms: Option<u64>,
    noticed_ms: u64,
}

impl SimNet {
    /// A network of so many replicas per role, none of which is up yet.
    #[must_use]
    pub fn new(shared: &Shared, faults: NetFaults, replicas: BTreeMap<Role, usize>) -> Self {
        Self(Arc::new(Inner {
            shared: shared.clone(),
            faults,
            faults_on: AtomicBool::new(false),
            replicas,
            served: Mutex::default(),
            slow: Mutex::default(),
            streams: Mutex::default(),
        }))
    }

    /// Whether anything may go wrong.
    pub fn set_faults(&self, on: bool) {
        self.0.faults_on.store(on, Ordering::Relaxed);
        if !on {
            self.0.slow.lock().clear();
        }
    }

    /// Adds latency to every way of a replica; 0 ends it.
    pub fn set_slow(&self, role: Role, replica: usize, ms: u64) {
        self.0.slow.lock().insert((role, replica), ms);
    }

    /// A replica is up.
    pub fn serve(&self, role: Role, replica: usize, served: Served) {
        self.0.served.lock().insert((role, replica), served);
    }

    /// Forgets every replica. A service holds the network that holds its routers: without this the
    /// memory of a run stays as long as the process.
    pub fn forget_all(&self) {
        self.0.served.lock().clear();
    }

    /// The calls of `from`.
    #[must_use]
    pub fn rpc(&self, from: NodeId) -> Arc<dyn Rpc> {
        Arc::new(SimRpc { net: self.clone(), from, failed: Mutex::default() })
    }

    fn fate(&self, from: NodeId, role: Role, replica: usize) -> Fate {
        let inner = &self.0;
        let mut streams = inner.streams.lock();
        let random = streams.entry((from, role, replica)).or_insert_with(|| {
            let link = (u64::from(from.0) << 16) | ((role as u64) << 8) | replica as u64;
            inner.shared.seed().stream("net", link)
        });
        let faults = &inner.faults;
        let draws: [f64; 5] = std::array::from_fn(|_| random.random());
        let latency: [u64; 2] = std::array::from_fn(|_| random.random_range(0..=faults.latency_ms));
        let delay: [u64; 2] =
            std::array::from_fn(|_| random.random_range(0..=faults.delay_max_ms.max(1)));
        let duplicate_after = random.random_range(0..=50);
        let noticed_ms = random.random_range(1..=NOTICED_MS);
        drop(streams);
        let slow = inner.slow.lock().get(&(role, replica)).copied().unwrap_or(0);
        let on = inner.faults_on.load(Ordering::Relaxed);
        let happens = |draw: f64, chance: f64| on && draw < chance;
        let way = |at: usize| {
            latency[at] + slow + if happens(draws[at], faults.delay) { delay[at] } else { 0 }
        };
        Fate {
            there_ms: way(0),
            back_ms: way(1),
            drop_request: happens(draws[2], faults.drop_request),
            drop_answer: happens(draws[3], faults.drop_answer),
            duplicate_after_ms: happens(draws[4], faults.duplicate).then_some(duplicate_after),
            noticed_ms,
        }
    }

    fn target(&self, role: Role, replica: usize) -> Option<Served> {
        let served = self.0.served.lock();
        served.get(&(role, replica)).filter(|served| served.machine.is_alive()).cloned()
    }
}

struct SimRpc {
    net: SimNet,
    from: NodeId,
    /// When a call of a replica last failed, in virtual milliseconds.
    failed: Mutex<BTreeMap<(Role, usize), u64>>,
}

/// A request that can be sent twice.
struct Whole {
    parts: http::request::Parts,
    body: Bytes,
}

/// Ends the request at the target when its caller gives up.
struct Ends(Option<Task>);

impl Drop for Ends {
    fn drop(&mut self) {
        if let Some(task) = self.0.take() {
            task.abort();
        }
    }
}

impl SimRpc {
    fn error(&self, role: Role, replica: usize, kind: Kind, why: &str) -> StoreError {
        let now = self.net.0.shared.now_ms();
        self.failed.lock().insert((role, replica), now);
        StoreError::new(kind, role.as_str(), format!("replica {replica}: {why}"))
    }

    fn record(&self, role: Role, replica: usize, what: &'static str, detail: impl Display) {
        let shared = &self.net.0.shared;
        let detail = format_args!("{role}/{replica} {detail}");
        shared.trace().event(shared.now_ms(), self.from, what, detail);
    }

    /// Runs the request in a task of the target and waits for its answer.
    async fn run(served: &Served, door: Door, whole: &Whole) -> Option<Response<Body>> {
        let router = match door {
            Door::Public => served.public.clone(),
            Door::Internal => served.internal.clone(),
        };
        let request = Request::from_parts(whole.parts.clone(), Body::from(whole.body.clone()));
        let (tx, rx) = oneshot::channel();
        let task = served.machine.spawn(
            "request",
            Box::pin(async move {
                let Ok(response) = router.oneshot(request).await;
                let (parts, body) = response.into_parts();
                // The body is made by the target; a stream would never end, and is not called here.
                if let Ok(body) = body.collect().await {
                    drop(tx.send(Response::from_parts(parts, Body::from(body.to_bytes()))));
                }
            }),
        );
        let mut ends = Ends(Some(task));
        let response = rx.await.ok();
        ends.0 = None;
        response
    }
}

/// Whether a second arrival of the request may change nothing more.
fn repeatable(whole: &Whole) -> bool {
    let parts = &whole.parts;
    parts.method == http::Method::GET
        || parts.method == http::Method::DELETE
        || parts.method == http::Method::PUT
        || parts.uri.path() == APPLY
        || parts.uri.path() == "/follow"
        || parts.headers.contains_key("idempotency-key")
}

async fn pass(ms: u64) {
    if ms > 0 {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
}

#[async_trait]
impl Rpc for SimRpc {
    fn replicas(&self, role: Role) -> usize {
        self.net.0.replicas.get(&role).copied().unwrap_or(0)
    }

    fn healthy(&self, role: Role, replica: usize) -> bool {
        let now = self.net.0.shared.now_ms();
        let failed = self.failed.lock().get(&(role, replica)).copied();
        failed.is_none_or(|at| now - at >= UNHEALTHY_MS)
            && self.net.target(role, replica).is_some_and(|served| *served.ready.borrow())
    }

    async fn call(
        &self,
        role: Role,
        replica: usize,
        door: Door,
        mut request: Request<Body>,
    ) -> Outcome<Response<Body>> {
        Origin::write_down(&mut request);
        let fate = self.net.fate(self.from, role, replica);
        let (parts, body) = request.into_parts();
        let body = match body.collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => {
                let error = StoreError::new(Kind::Corrupt, role.as_str(), error.to_string());
                return Outcome::Failed(error);
            }
        };
        let whole = Whole { parts, body };
        pass(fate.there_ms).await;
        if fate.drop_request {
            pass(fate.noticed_ms).await;
            self.record(role, replica, "net.request_lost", &whole.parts.uri);
            let error = self.error(role, replica, Kind::Timeout, "no answer came");
            return Outcome::Unknown(error);
        }
        let Some(served) = self.net.target(role, replica) else {
            self.record(role, replica, "net.down", &whole.parts.uri);
            return Outcome::Failed(self.error(role, replica, Kind::Unavailable, "refused"));
        };
        let response = match fate.duplicate_after_ms.filter(|_| repeatable(&whole)) {
            None => Self::run(&served, door, &whole).await,
            Some(after) => {
                let second = async {
                    pass(after).await;
                    Self::run(&served, door, &whole).await
                };
                futures_util::future::join(Self::run(&served, door, &whole), second).await.0
            }
        };
        let status = response.as_ref().map_or(0, |response| response.status().as_u16());
        let (method, uri) = (&whole.parts.method, &whole.parts.uri);
        self.record(role, replica, "net.call", format_args!("{method} {uri} {status}"));
        pass(fate.back_ms).await;
        match response {
            Some(response) if !fate.drop_answer => Outcome::Done(response),
            Some(_) => {
                pass(fate.noticed_ms).await;
                let error = self.error(role, replica, Kind::Timeout, "the answer was lost");
                Outcome::Unknown(error)
            }
            None => {
                let error = self.error(role, replica, Kind::Unavailable, "it went away");
                Outcome::Unknown(error)
            }
        }
    }
}
