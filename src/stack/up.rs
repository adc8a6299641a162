//! `chirp up`: every role in one process, over the embedded backends or over containers.
//!
//! Phases, in this order: the data folder is made and locked (so that of two starts at the same
//! instant the later one finds the earlier), listeners are bound, containers started if they are
//! wanted, the stores are opened, the roles built and started, the listeners served, and readiness
//! awaited. A start that fails takes back
//! what it made. Replicas are task groups with near-caches of their own.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    DataDir, StackError,
    admin::Admin,
    backends::Opened,
    containers::{self, Containers},
    data_dir::{Found, Lock, RunFile},
    listen::{Bound, Bounds, bind},
    node::Node,
    pictures::Pictures,
    roles::Shared,
    waits::{Patience, Waits},
};
use crate::{
    adapters::{embedded::folder, proof::Proof, rpc::Peers},
    config::Config,
    rt::{Rt, Shutdown},
    services::{kit::Service, timeline::Halves},
    telemetry::Metrics,
    wire::routes::Role,
};

/// A finished phase of a start.
#[derive(Clone, Debug)]
pub struct Phase {
    /// What it is called.
    pub name: &'static str,
    /// What was done.
    pub about: String,
    /// How long it took.
    pub took: Duration,
}

/// Told of every finished phase.
pub type Progress<'a> = dyn Fn(Phase) + 'a;

/// The data folder is ours and listeners are bound. Dropping it undoes what was made.
#[derive(Debug)]
pub struct Prepared {
    config: Arc<Config>,
    dir: DataDir,
    undo: Undo,
    lock: Lock,
    public: Bound,
    admin: Bound,
}

/// A whole stack that can answer.
pub struct Stack {
    rt: Rt,
    node: Node,
    opened: Opened,
    containers: Option<Containers>,
    dir: DataDir,
    run: RunFile,
    drain: Duration,
    /// Last, so that nobody can take the folder before everything above is closed.
    _lock: Lock,
}

/// Takes back what a start made, unless it succeeds.
#[derive(Debug)]
struct Undo {
    dir: DataDir,
    found: Found,
}

impl Drop for Undo {
    fn drop(&mut self) {
        self.dir.undo(self.found);
    }
}

impl Prepared {
    /// Makes the data folder, locks it, and binds the listeners.
    ///
    /// # Errors
    /// [`StackError`]; nothing is left behind.
    pub async fn new(config: Arc<Config>, progress: &Progress<'_>) -> Result<Self, StackError> {
        let began = Instant::now();
        let dir = DataDir::at(&config.up.data_dir);
        let found = dir.create()?;
        let lock = dir.lock_all()?;
        let undo = Undo { dir: dir.clone(), found: dir.still(found) };
        dir.check_kind(&config.backends.kind)?;
        let new = if undo.found == Found::Used { "" } else { " (new)" };
        let about = format!("{}{new}", dir.root().display());
        progress(Phase { name: "data folder", about, took: began.elapsed() });

        let began = Instant::now();
        let port = |port: u64| u16::try_from(port).unwrap_or(u16::MAX);
        let public = bind(SocketAddr::new(config.up.address, port(config.up.port))).await?;
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let admin = bind(SocketAddr::new(loopback, port(config.up.admin_port))).await?;
        let about = format!("{} and {}", public.address, admin.address);
        progress(Phase { name: "listeners", about, took: began.elapsed() });
        Ok(Self { config, dir, undo, lock, public, admin })
    }

    /// The data folder.
    #[must_use]
    pub fn dir(&self) -> &DataDir {
        &self.dir
    }

    /// Starts containers if they are wanted, opens the stores, builds and starts the roles, serves,
    /// and waits until all are ready, or until `told` says that it shall stop. It must not be dropped:
    /// a thread may be making files. `program` is this one.
    ///
    /// # Errors
    /// [`StackError`]; nothing runs any more, and a data folder that was made for this is removed.
    pub async fn start(
        mut self,
        rt: Rt,
        program: &PathBuf,
        progress: &Progress<'_>,
        told: &Shutdown,
    ) -> Result<Stack, StackError> {
        let kind = &self.config.backends.kind;
        if kind == "embedded" {
            return self.start_roles(rt, progress, told).await;
        }
        let known = self.dir.claim_kind(&rt, kind, self.config.up.reuse)?;
        if kind == "external" {
            return self.start_roles(rt, progress, told).await;
        }
        let (containers, config) =
            containers::start(&self.config, &self.dir, known, program, progress, told).await?;
        self.config = Arc::new(config);
        match self.start_roles(rt, progress, told).await {
            Ok(stack) => Ok(Stack { containers: Some(containers), ..stack }),
            Err(error) => {
                containers.end().await;
                Err(error)
            }
        }
    }

    async fn start_roles(
        self,
        rt: Rt,
        progress: &Progress<'_>,
        told: &Shutdown,
    ) -> Result<Stack, StackError> {
        // Dropped from the last to the first: the folder is undone before it is unlocked.
        let Self { config, dir, lock, mut undo, public, admin } = self;
        let began = Instant::now();
        let metrics = Metrics::new();
        // A damaged token is told before any store is touched.
        dir.read_token()?;
        let opened =
            Opened::open(&dir, &rt, &config, &metrics, &Role::ALL, &Patience::Once).await?;
        let about = if config.backends.external() {
            "PostgreSQL, Redis, Cassandra, SNS and SQS".to_owned()
        } else {
            folder::STORES.join(", ")
        };
        progress(Phase { name: "stores", about, took: began.elapsed() });

        let began = Instant::now();
        let token = dir.service_token(&rt);
        let (opened, token) = opened.or_close(&rt, token).await?;
        let pictures = Pictures::open(&config, &opened, &dir, &rt, &token).await;
        let (opened, pictures) = opened.or_close(&rt, pictures).await?;
        let proof = Proof::new(&token.0);
        let rpc = Peers::new(rt.clone(), proof.clone());
        let stop = Shutdown::new();
        let shared = Shared {
            rt: rt.clone(),
            rpc: rpc.clone(),
            metrics: metrics.clone(),
            config: Arc::clone(&config),
            token,
            blobs: pictures.blobs,
            halves: Halves::BOTH,
            stop: stop.clone(),
        };
        let built = build(&shared, &rpc, &opened);
        let (opened, built) = opened.or_close(&rt, built).await?;
        let Built { mut services, page, internal } = built;
        let mut node = Node::start(&rt, &mut services, stop);
        let counts = Role::ALL.map(|role| format!("{role} {}", config.up.replicas(role)));
        progress(Phase { name: "roles", about: counts.join(", "), took: began.elapsed() });

        let began = Instant::now();
        let run = run_file(&rt, &config, &public, &admin);
        let admin_state = Admin {
            rt: rt.clone(),
            metrics,
            bus: opened.backends.bus.clone(),
            outboxes: opened.backends.outboxes(),
            peers: rpc,
            ready: node.ready.clone(),
            waits: Waits::default(),
            draining: node.draining.clone(),
            config: Arc::clone(&config),
            token: shared.token.clone(),
        };
        let bounds = Bounds::of(&config.up);
        node.servers.push(public.serve(page.merge(pictures.router), bounds, None));
        let admin_router = admin_state.router().merge(internal);
        node.servers.push(admin.serve(admin_router, bounds, Some(proof)));
        let ready = told.run_until_cancelled(node.until_ready(config.up.ready_timeout())).await;
        let ready = ready.unwrap_or(Err(StackError::Stopped));
        if let Err(error) = ready.and_then(|()| dir.write_run(None, &run)) {
            node.stop(Duration::ZERO).await;
            opened.close(&rt).await;
            return Err(error);
        }
        undo.found = Found::Used;
        let about = "every replica holds keys and revocations".to_owned();
        progress(Phase { name: "ready", about, took: began.elapsed() });
        let (drain, containers) = (config.up.drain(), None);
        Ok(Stack { rt, node, opened, containers, dir, run, drain, _lock: lock })
    }
}

/// The roles of a stack, and what its two listeners serve.
struct Built {
    services: Vec<Service>,
    page: axum::Router,
    internal: axum::Router,
}

fn build(shared: &Shared, rpc: &Peers, opened: &Opened) -> Result<Built, StackError> {
    let mut built =
        Built { services: Vec::new(), page: axum::Router::new(), internal: axum::Router::new() };
    for role in Role::ALL {
        for replica in 0..shared.config.up.replicas(role) {
            let service = shared.build(role, replica, &opened.backends)?;
            rpc.add_local(role, service.public.clone(), service.internal.clone());
            match role {
                Role::Gateway => built.page = service.public.clone(),
                _ if replica == 0 => {
                    let (path, internal) = (format!("/{role}"), service.internal.clone());
                    built.internal = built.internal.nest(&path, internal);
                }
                _ => {}
            }
            built.services.push(service);
        }
    }
    Ok(built)
}

fn run_file(rt: &Rt, config: &Config, public: &Bound, admin: &Bound) -> RunFile {
    let replicas = |role: Role| (role.as_str().to_owned(), config.up.replicas(role));
    RunFile {
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at_ms: rt.wall_ms(),
        address: public.address,
        admin: admin.address,
        replicas: Role::ALL.map(replicas).to_vec(),
    }
}

impl Stack {
    /// Where it is reached.
    #[must_use]
    pub fn run_file(&self) -> &RunFile {
        &self.run
    }

    /// Its data folder.
    #[must_use]
    pub fn dir(&self) -> &DataDir {
        &self.dir
    }

    /// The containers that it runs over.
    #[must_use]
    pub fn containers(&self) -> Option<&Containers> {
        self.containers.as_ref()
    }

    /// Stops it: not ready, no new connections, requests in work finish, loops end, stores close,
    /// containers go.
    pub async fn stop(self) {
        self.opened.stop_receiving();
        self.node.stop(self.drain).await;
        self.opened.close(&self.rt).await;
        if let Some(containers) = self.containers {
            containers.end().await;
        }
        self.dir.remove_run(None);
    }
}
