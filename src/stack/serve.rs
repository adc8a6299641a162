//! `chirp serve`: single roles in a process of their own.
//!
//! Every role has a public listener, and an admin listener that carries its internal routes too.
//! Where they are is written to the data folder, where every process looks for the others, again and
//! again, so that they may start in any order and come back elsewhere; or configuration says where the
//! others are, and no folder is touched ([`super::home`], [`super::find`]).
//!
//! Embedded stores have one owner: a role runs in one process per data folder. The bus is the
//! exception; it lies in `timeline.db`, which the user and tweet roles open for publishing only. Over
//! servers a role may run in any number of processes. Their listeners are served before the servers
//! are there: the process lives, is not ready, and says at `/readyz` what it waits for; whatever else
//! it is asked it answers with 503, marked as not begun, so that other roles ask elsewhere.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{
    Json, Router,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use tokio::sync::watch;

use super::{
    StackError,
    admin::Admin,
    backends::Opened,
    data_dir::RunFile,
    find::Search,
    home::Home,
    listen::{Bound, Bounds, Late, Server, bind},
    node::Node,
    pictures::Pictures,
    roles::{Backends, Shared},
    waits::{Patience, Waits},
};
use crate::{
    adapters::{
        proof::Proof,
        rpc::{NOT_BEGUN, Peers},
    },
    config::Config,
    rt::{Rt, Shutdown},
    services::{
        kit::{Secret, Service},
        timeline::Halves,
    },
    telemetry::Metrics,
    wire::{
        problem::{PROBLEM_JSON, Problem},
        routes::Role,
    },
};

/// Where another role is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Which role.
    pub role: Role,
    /// Its public listener.
    pub public: SocketAddr,
    /// Its admin listener.
    pub internal: SocketAddr,
}

/// What a process is told on the command line.
#[derive(Clone, Debug)]
pub struct Told {
    /// Which roles it runs.
    pub roles: Vec<Role>,
    /// What a timeline role of it does.
    pub halves: Halves,
    /// Where other roles are.
    pub peers: Vec<Peer>,
}

/// A process that runs some roles.
pub struct Process {
    rt: Rt,
    node: Node,
    opened: Opened,
    runs: Vec<(Role, RunFile)>,
    /// How long it works on after it has been told to stop.
    delay: Duration,
    drain: Duration,
    /// Last, so that nobody can take the roles before everything above is closed.
    home: Home,
}

/// Listeners that are served, of roles that are not built yet.
struct Front {
    metrics: Metrics,
    rpc: Arc<Peers>,
    token: Secret,
    waits: Waits,
    draining: Shutdown,
    servers: Vec<Server>,
    /// What the public and the admin listener of each role serve.
    doors: Vec<(Role, Late, Late)>,
    runs: Vec<(Role, RunFile)>,
}

impl Process {
    /// Binds, opens what the roles own, builds and serves them. They are not ready yet. Servers that
    /// are not there yet are waited for, until `stopped`.
    ///
    /// # Errors
    /// [`StackError`].
    pub async fn start(
        config: Arc<Config>,
        rt: Rt,
        told: Told,
        stopped: &Shutdown,
    ) -> Result<Self, StackError> {
        let mut listeners = Vec::new();
        for role in &told.roles {
            listeners.push((*role, listen(&config, *role, &told.roles).await?));
        }
        let home = Home::take(&config, &told.roles)?;
        let opening = async {
            home.check_token(&config)?;
            if config.backends.external() {
                let token = home.token(&config, &rt)?;
                let front = Front::new(&config, &rt, listeners, token);
                let opened = front.wait_for_stores(&home, &rt, &config, &told.roles, stopped).await;
                return match opened {
                    Ok(opened) => Ok((front, opened)),
                    Err(error) => {
                        front.close().await;
                        Err(error)
                    }
                };
            }
            let (metrics, once) = (Metrics::new(), Patience::Once);
            let opened =
                Opened::open(&home.dir, &rt, &config, &metrics, &told.roles, &once).await?;
            let (opened, token) = opened.or_close(&rt, home.token(&config, &rt)).await?;
            Ok((Front::new(&config, &rt, listeners, token), opened))
        };
        match opening.await {
            Ok((front, opened)) => Self::run(config, rt, told, home, front, opened).await,
            Err(error) => {
                home.undo();
                Err(error)
            }
        }
    }

    async fn run(
        config: Arc<Config>,
        rt: Rt,
        told: Told,
        home: Home,
        front: Front,
        opened: Opened,
    ) -> Result<Self, StackError> {
        let Front { metrics, rpc, token, waits, draining, servers, doors, runs } = front;
        let pictures = Pictures::open(&config, &opened, &home.dir, &rt, &token).await;
        let (opened, pictures) = opened.or_close(&rt, pictures).await?;
        let stop = Shutdown::new();
        let shared = Shared {
            rt: rt.clone(),
            rpc: rpc.clone(),
            metrics: metrics.clone(),
            config: Arc::clone(&config),
            token: token.clone(),
            blobs: pictures.blobs,
            halves: told.halves,
            stop: stop.clone(),
        };
        let one = |role: &Role| shared.build(*role, home.replica(&rt, *role), &opened.backends);
        let built: Result<Vec<Service>, StackError> = told.roles.iter().map(one).collect();
        let (opened, mut services) = opened.or_close(&rt, built).await?;
        for (role, service) in told.roles.iter().zip(&services) {
            rpc.add_local(*role, service.public.clone(), service.internal.clone());
        }
        let mut node = Node::start(&rt, &mut services, stop.clone());
        (node.draining, node.servers) = (draining, servers);
        let search = Search {
            rt: rt.clone(),
            list: rpc.clone(),
            own: told.roles.clone(),
            fixed: told.peers,
            places: config.peers.clone(),
            folder: home.folder(),
        };
        let found = search.start(&stop);
        // A gateway has nothing of its own to wait for, but is of no use without the others.
        for (role, ready) in &mut node.ready {
            if *role == Role::Gateway {
                *ready = found.clone();
            }
        }
        for ((role, public, admin), service) in doors.iter().zip(&services) {
            let Backends { bus, .. } = &opened.backends;
            let state = Admin {
                rt: rt.clone(),
                metrics: metrics.clone(),
                bus: bus.clone(),
                outboxes: opened.backends.outboxes(),
                peers: rpc.clone(),
                ready: node.ready.clone(),
                waits: waits.clone(),
                draining: node.draining.clone(),
                config: Arc::clone(&config),
                token: token.clone(),
            };
            let mut routes = service.public.clone();
            if *role == Role::Gateway {
                routes = routes.merge(pictures.router.clone());
            }
            admin.set(state.router().fallback_service(service.internal.clone()));
            public.set(routes);
        }
        let written = home.announce(&runs);
        let (delay, drain) = (delay(&config), config.up.drain());
        let process = Self { rt, node, opened, runs, delay, drain, home };
        if let Err(error) = written {
            process.stop().await;
            return Err(error);
        }
        Ok(process)
    }

    /// Where the roles are reached.
    #[must_use]
    pub fn run_files(&self) -> &[(Role, RunFile)] {
        &self.runs
    }

    /// Waits until every role can answer, however long the others take to come.
    pub async fn until_ready(&mut self) {
        while let Err(error) = self.node.until_ready(Duration::from_secs(10)).await {
            tracing::info!(%error, "waiting for other roles");
        }
    }

    /// Stops the process: it is not ready and nobody finds it any more; over servers, whose roles have
    /// other replicas, it works on until callers know that; then as [`super::up::Stack::stop`].
    pub async fn stop(self) {
        self.node.draining.cancel();
        self.home.withdraw();
        self.opened.stop_receiving();
        if !self.delay.is_zero() {
            self.rt.sleep(self.delay).await;
        }
        self.node.stop(self.drain).await;
        self.opened.close(&self.rt).await;
    }
}

impl Front {
    fn new(
        config: &Arc<Config>,
        rt: &Rt,
        listeners: Vec<(Role, (Bound, Bound))>,
        token: Secret,
    ) -> Self {
        let proof = Proof::new(&token.0).of_names(config.serve.names());
        let mut front = Self {
            metrics: Metrics::new(),
            rpc: Peers::new(rt.clone(), proof.clone()),
            token,
            waits: Waits::default(),
            draining: Shutdown::new(),
            servers: Vec::new(),
            doors: Vec::new(),
            runs: Vec::new(),
        };
        let bounds = Bounds::of(&config.up);
        for (role, (public, admin)) in listeners {
            front.runs.push((role, run_file(rt, role, &public, &admin)));
            let state = Admin {
                rt: rt.clone(),
                metrics: front.metrics.clone(),
                bus: None,
                outboxes: Vec::new(),
                peers: front.rpc.clone(),
                ready: vec![(role, watch::channel(false).1)],
                waits: front.waits.clone(),
                draining: front.draining.clone(),
                config: Arc::clone(config),
                token: front.token.clone(),
            };
            let admin_door = Late::new(state.router().fallback(not_begun));
            let public_door = Late::new(Router::new().fallback(not_begun));
            // The gateway is called by clients only.
            let called = (role != Role::Gateway).then(|| proof.clone());
            front.servers.push(public.serve(public_door.clone(), bounds, called));
            front.servers.push(admin.serve(admin_door.clone(), bounds, Some(proof.clone())));
            front.doors.push((role, public_door, admin_door));
        }
        front
    }

    async fn wait_for_stores(
        &self,
        home: &Home,
        rt: &Rt,
        config: &Config,
        roles: &[Role],
        stopped: &Shutdown,
    ) -> Result<Opened, StackError> {
        let patience = Patience::Wait(self.waits.clone());
        let opened = Opened::open(&home.dir, rt, config, &self.metrics, roles, &patience);
        stopped.run_until_cancelled(opened).await.unwrap_or(Err(StackError::Stopped))
    }

    async fn close(self) {
        self.draining.cancel();
        let closing = self.servers.into_iter().map(|server| server.drain(Duration::ZERO));
        futures_util::future::join_all(closing).await;
    }
}

/// What is answered while a role waits for its stores.
async fn not_begun() -> Response {
    let detail = Some("the process waits for its stores; try again".to_owned());
    let problem = Problem { detail, ..Problem::new(503, "not-ready", "Service Unavailable") };
    let headers = [
        (NOT_BEGUN, HeaderValue::from_static("1")),
        (header::RETRY_AFTER, HeaderValue::from_static("1")),
        (header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON)),
    ];
    (StatusCode::SERVICE_UNAVAILABLE, headers, Json(problem)).into_response()
}

/// How long the process works on after it has been told to stop: over embedded stores nobody else can
/// take its place.
fn delay(config: &Config) -> Duration {
    if config.backends.external() { config.serve.drain_delay() } else { Duration::ZERO }
}

/// Listeners of `role`. The configured ports go to the gateway if it is here, else to the first.
async fn listen(config: &Config, role: Role, roles: &[Role]) -> Result<(Bound, Bound), StackError> {
    let chosen = roles.first() == Some(&role);
    let port = |port: u64| if chosen { u16::try_from(port).unwrap_or(u16::MAX) } else { 0 };
    let public = bind(SocketAddr::new(config.up.address, port(config.up.port))).await?;
    let admin = SocketAddr::new(config.serve.admin_address, port(config.up.admin_port));
    Ok((public, bind(admin).await?))
}

fn run_file(rt: &Rt, role: Role, public: &Bound, admin: &Bound) -> RunFile {
    RunFile {
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at_ms: rt.wall_ms(),
        address: reachable(public.address),
        admin: reachable(admin.address),
        replicas: vec![(role.as_str().to_owned(), 1)],
    }
}

/// Where this machine reaches a listener: one of all addresses is on loopback too.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        ip if !ip.is_unspecified() => address,
        IpAddr::V4(_) => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), address.port()),
        IpAddr::V6(_) => SocketAddr::new(Ipv6Addr::LOCALHOST.into(), address.port()),
    }
}
