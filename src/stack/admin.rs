//! The admin listener: health, metrics, queues, configuration, repair. On loopback, unless
//! configuration says otherwise; what changes something needs the service token. No gateway routes
//! here.
//!
//! Who calls from this machine, by a name of this machine, may read everything. Who calls from
//! elsewhere, or by a name that configuration allows, may ask whether the process lives, is ready and
//! finds its peers; all else takes the service token.
//!
//! | route | answer |
//! |---|---|
//! | `GET /healthz` | 200 while the process lives |
//! | `GET /readyz` | 200 while every role of the process can answer, else 503 with what it waits for |
//! | `GET /peers` | 200 while every role can be called from here, else 503; both say which |
//! | `GET /metrics` | `OpenMetrics` |
//! | `GET /queues` | depth, in flight, age of oldest, parked per lane; unsent rows per outbox |
//! | `GET /config` | effective configuration, secrets masked |
//! | `POST /replay?since_ms=` | publishes again what was committed since then |
//! | `POST /redrive` | puts parked messages back into their lanes |

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::{
    Json, Router,
    extract::{ConnectInfo, Query, Request, State},
    http::{HeaderMap, StatusCode, header, uri::Authority},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::waits::Waits;
use crate::{
    config::Config,
    ports::{Bus, Outbox, Outcome, Queue, Rpc, StoreError},
    rt::{Rt, Shutdown},
    services::kit::{Secret, call::SERVICE_TOKEN},
    telemetry::Metrics,
    wire::{
        problem::{PROBLEM_JSON, Problem},
        routes::Role,
    },
};

/// Roles that are called by others.
pub const PEERS: [Role; 3] = [Role::User, Role::Tweet, Role::Timeline];
/// Parked messages that one `POST /redrive` moves per lane.
const REDRIVE_MAX: usize = 10_000;

/// What the admin listener looks at.
#[derive(Clone)]
pub struct Admin {
    /// Time.
    pub rt: Rt,
    /// The process's measurements.
    pub metrics: Metrics,
    /// The bus, if this process holds it open.
    pub bus: Option<Arc<dyn Bus>>,
    /// Outboxes that this process relays.
    pub outboxes: Vec<(Role, Arc<dyn Outbox>)>,
    /// Calls to the other roles.
    pub peers: Arc<dyn Rpc>,
    /// Readiness of every role and replica in the process.
    pub ready: Vec<(Role, watch::Receiver<bool>)>,
    /// Stores that are not there yet.
    pub waits: Waits,
    /// Fires when the process begins to stop: it is not ready from then on.
    pub draining: Shutdown,
    /// Effective configuration.
    pub config: Arc<Config>,
    /// What a caller must show who wants to change something.
    pub token: Secret,
}

/// `GET /queues`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queues {
    /// Every lane of the bus.
    pub lanes: Vec<Lane>,
    /// Every outbox of the process.
    pub outboxes: Vec<OutboxState>,
}

/// A lane of the bus.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lane {
    /// Its name.
    pub lane: String,
    /// Messages that wait.
    pub depth: u64,
    /// Messages that were received and are open.
    pub in_flight: u64,
    /// Age of the oldest of both, in milliseconds.
    pub oldest_ms: u64,
    /// Messages set aside.
    pub parked: u64,
}

/// An outbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxState {
    /// Whose.
    pub role: String,
    /// Rows that were not sent yet.
    pub unsent: u64,
    /// Age of the oldest of them, in milliseconds.
    pub lag_ms: u64,
}

/// `POST /replay` and `POST /redrive`: how much was put on its way again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// Events, or messages.
    pub moved: u64,
}

#[derive(Deserialize)]
struct Since {
    since_ms: u64,
}

impl Admin {
    /// The routes.
    pub fn router(self) -> Router {
        Router::new()
            .route("/healthz", get(|| async { "alive\n" }))
            .route("/readyz", get(readyz))
            .route("/peers", get(peers))
            .route("/metrics", get(metrics))
            .route("/queues", get(queues))
            .route("/config", get(show_config))
            .route("/replay", post(replay))
            .route("/redrive", post(redrive))
            .layer(from_fn_with_state(self.clone(), only_friends))
            .with_state(self)
    }

    /// What is waited for: roles that cannot answer yet, or no more, and stores.
    fn unready(&self) -> Vec<String> {
        if self.draining.is_cancelled() {
            return vec!["stopping".to_owned()];
        }
        let roles = self.ready.iter().filter(|(_, ready)| !*ready.borrow());
        let stores = self.waits.names().into_iter().map(|store| format!("waits for {store}"));
        roles.map(|(role, _)| role.as_str().to_owned()).chain(stores).collect()
    }

    /// The state of lanes and outboxes, which also goes to the metrics.
    async fn queues(&self) -> Result<Queues, StoreError> {
        let mut queues = Queues::default();
        // Outboxes first: an event is on the bus before it leaves its outbox, so that none is
        // looked for in both places while it is in the other.
        for (role, outbox) in &self.outboxes {
            let stats = outbox.stats().await?;
            let lag_ms = stats.oldest_ms.map_or(0, |at| self.rt.wall_ms().saturating_sub(at));
            self.metrics.outbox(*role, stats.unsent, lag_ms);
            let role = role.as_str().to_owned();
            queues.outboxes.push(OutboxState { role, unsent: stats.unsent, lag_ms });
        }
        if let Some(bus) = &self.bus {
            for queue in Queue::ALL {
                let stats = bus.stats(queue).await?;
                self.metrics.queue(queue, stats);
                queues.lanes.push(Lane {
                    lane: queue.as_str().to_owned(),
                    depth: stats.depth,
                    in_flight: stats.in_flight,
                    oldest_ms: stats.oldest_ms,
                    parked: stats.parked,
                });
            }
        }
        Ok(queues)
    }

    fn allow(&self, headers: &HeaderMap) -> Result<(), Box<Response>> {
        if headers.get(SERVICE_TOKEN).is_some_and(|shown| self.token.is(shown.as_bytes())) {
            return Ok(());
        }
        let detail = format!("send the service token as {SERVICE_TOKEN}");
        Err(Box::new(problem(StatusCode::FORBIDDEN, "service-token", &detail)))
    }
}

/// What anybody may ask who reaches the listener.
const OPEN: [&str; 3] = ["/healthz", "/readyz", "/peers"];

/// Refuses who calls this machine by another name. A stranger's page may point its own name at
/// 127.0.0.1 (DNS rebinding), and would read here through the browser of whoever opened it.
async fn only_friends(State(admin): State<Admin>, request: Request, next: Next) -> Response {
    let header = || request.headers().get(header::HOST)?.to_str().ok();
    let named = request.uri().authority().map(Authority::as_str).or_else(header);
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let near = peer.is_none_or(|peer| peer.0.ip().to_canonical().is_loopback());
    if near && named.is_some_and(is_local) {
        return next.run(request).await;
    }
    let advertised = named.is_some_and(|name| admin.config.serve.names().any(|own| own == name));
    if near && !advertised {
        let detail = "call the admin listener as 127.0.0.1, [::1] or localhost";
        return problem(StatusCode::MISDIRECTED_REQUEST, "foreign-host", detail);
    }
    if !OPEN.contains(&request.uri().path())
        && let Err(refusal) = admin.allow(request.headers())
    {
        return *refusal;
    }
    next.run(request).await
}

/// Whether `host[:port]` names this machine, whatever anybody's name server says.
fn is_local(authority: &str) -> bool {
    let Ok(authority) = authority.parse::<Authority>() else { return false };
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || host.parse().is_ok_and(|address: IpAddr| address.to_canonical().is_loopback())
}

async fn readyz(State(admin): State<Admin>) -> Response {
    let unready = admin.unready();
    if unready.is_empty() {
        return "ready\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {}\n", unready.join(", ")))
        .into_response()
}

/// Readiness cannot ask this of everybody: two roles that need each other would wait for ever.
async fn peers(State(admin): State<Admin>) -> Response {
    let healthy = |role| {
        let replicas = admin.peers.replicas(role);
        (0..replicas).any(|replica| admin.peers.healthy(role, replica))
    };
    let all = PEERS.map(|role| (role.as_str(), healthy(role)));
    let every = all.iter().all(|(_, healthy)| *healthy);
    let status = if every { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(BTreeMap::from(all))).into_response()
}

async fn metrics(State(admin): State<Admin>) -> Response {
    if let Err(error) = admin.queues().await {
        // The other measurements are worth having most when a store is in trouble.
        admin.metrics.store_error(&error);
    }
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], admin.metrics.render()).into_response()
}

async fn queues(State(admin): State<Admin>) -> Response {
    match admin.queues().await {
        Ok(queues) => Json(queues).into_response(),
        Err(error) => store_trouble(&error),
    }
}

async fn show_config(State(admin): State<Admin>) -> Response {
    Json(admin.config.to_masked_table()).into_response()
}

async fn replay(
    State(admin): State<Admin>,
    headers: HeaderMap,
    Query(since): Query<Since>,
) -> Response {
    if let Err(refusal) = admin.allow(&headers) {
        return *refusal;
    }
    let mut moved = 0;
    for (_, outbox) in &admin.outboxes {
        match outbox.replay(since.since_ms).await {
            Outcome::Done(count) => moved += count,
            Outcome::Failed(error) | Outcome::Unknown(error) => return store_trouble(&error),
        }
    }
    Json(Moved { moved }).into_response()
}

async fn redrive(State(admin): State<Admin>, headers: HeaderMap) -> Response {
    if let Err(refusal) = admin.allow(&headers) {
        return *refusal;
    }
    let mut moved = 0;
    if let Some(bus) = &admin.bus {
        for queue in Queue::ALL {
            match bus.redrive(queue, REDRIVE_MAX).await {
                Outcome::Done(count) => moved += count,
                Outcome::Failed(error) | Outcome::Unknown(error) => return store_trouble(&error),
            }
        }
    }
    Json(Moved { moved }).into_response()
}

/// Both repairs may be repeated without harm, so "perhaps" is answered like "no".
fn store_trouble(error: &StoreError) -> Response {
    tracing::warn!(store = error.store, kind = error.kind.as_str(), %error, "a store failed");
    problem(StatusCode::SERVICE_UNAVAILABLE, "store-unavailable", "a store failed; try again")
}

fn problem(status: StatusCode, code: &str, detail: &str) -> Response {
    let title = status.canonical_reason().unwrap_or("Error");
    let detail = Some(detail.to_owned());
    let body = Problem { detail, ..Problem::new(status.as_u16(), code, title) };
    (status, [(header::CONTENT_TYPE, PROBLEM_JSON)], Json(body)).into_response()
}

#[cfg(test)]
mod tests {
    use tower::ServiceExt as _;

    use super::*;
    use crate::{
        adapters::{proof::Proof, rpc::Peers},
        rt::tokio_rt::TokioRuntime,
    };

    #[test]
    fn only_names_that_no_name_server_decides_are_local() {
        for name in ["127.0.0.1:8081", "127.0.0.1", "127.1.2.3", "[::1]:80", "LocalHost:1"] {
            assert!(is_local(name), "{name}");
        }
        for name in [
            "",
            "evil.example:8081",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "0.0.0.0",
            "192.168.0.1",
            "[fe80::1]",
            "a@b:c",
        ] {
            assert!(!is_local(name), "{name}");
        }
    }

    fn admin(advertised: &str) -> Admin {
        let mut config = Config::for_tests();
        config.serve.advertised = advertised.to_owned();
        let rt = TokioRuntime::handle();
        Admin {
            metrics: Metrics::new(),
            bus: None,
            outboxes: Vec::new(),
            peers: Peers::new(rt.clone(), Proof::new("the token")),
            rt,
            ready: vec![(Role::User, watch::channel(false).1)],
            waits: Waits::default(),
            draining: Shutdown::new(),
            config: Arc::new(config),
            token: Secret("the token".into()),
        }
    }

    async fn asked(admin: &Admin, from: &str, host: &str, path: &str, token: &str) -> u16 {
        let peer: SocketAddr = from.parse().unwrap();
        let request = Request::get(path).header("host", host).header(SERVICE_TOKEN, token);
        let mut request = request.body(axum::body::Body::empty()).unwrap();
        request.extensions_mut().insert(ConnectInfo(peer));
        admin.clone().router().oneshot(request).await.unwrap().status().as_u16()
    }

    #[tokio::test]
    async fn who_calls_from_elsewhere_learns_of_health_and_nothing_else_without_the_token() {
        let admin = admin("user.chirp:8081");
        let (near, far) = ("127.0.0.1:5", "10.0.0.9:5");
        for (from, host, path, token, wanted) in [
            (near, "localhost:8081", "/config", "", 200),
            (near, "evil.example", "/healthz", "", 421),
            (far, "10.0.0.1:8081", "/healthz", "", 200),
            (far, "10.0.0.1:8081", "/readyz", "", 503),
            (far, "10.0.0.1:8081", "/config", "", 403),
            (far, "10.0.0.1:8081", "/metrics", "guess", 403),
            (far, "10.0.0.1:8081", "/config", "the token", 200),
            // What it claims to be called is not where it is.
            (far, "127.0.0.1", "/config", "", 403),
            (near, "user.chirp:8081", "/readyz", "", 503),
            (near, "user.chirp:8081", "/config", "", 403),
        ] {
            let status = asked(&admin, from, host, path, token).await;
            assert_eq!(status, wanted, "{path} as {host} from {from} with {token:?}");
        }
    }
}
