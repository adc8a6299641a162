//! `chirp up`: every role in one process, over the embedded backends or over containers.
//!
//! Phases, in this order: the data folder is made and locked (so that of two starts at the same
//! instant the later one finds the earlier), listeners are bound, containers started if they are
//! wanted, the stores are opened, the roles built and started, the listeners served, and readiness
//! awaited. A start that fails takes back what it made. Replicas are task groups with near-caches of
//! their own, or processes ([`super::processes`]).

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
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
    processes::{Processes, Program},
    roles::Shared,
    seed::{self, Order, Part, Seeded, Target, credentials},
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
pub type Progress<'a> = dyn Fn(Phase) + Sync + 'a;

/// The data folder is ours and listeners are bound. Dropping it undoes what was made.
#[derive(Debug)]
pub struct Prepared {
    config: Arc<Config>,
    dir: DataDir,
    undo: Undo,
    lock: Lock,
    /// Public and admin listener; absent if the gateway is a process of its own, which binds them.
    listeners: Option<(Bound, Bound)>,
}

/// A whole stack that can answer.
pub struct Stack {
    roles: Roles,
    containers: Option<Containers>,
    dir: DataDir,
    run: RunFile,
    /// Last, so that nobody can take the folder before everything above is closed.
    _lock: Lock,
}

/// Who runs the roles.
enum Roles {
    Here(Box<Here>),
    Apart(Processes),
}

/// Roles in this process.
struct Here {
    rt: Rt,
    node: Node,
    opened: Opened,
    drain: Duration,
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
        let apart = config.up.processes;
        let lock = if apart { dir.lock_for_processes()? } else { dir.lock_all()? };
        let undo = Undo { dir: dir.clone(), found: dir.still(found) };
        dir.check_kind(&config.backends.kind)?;
        let new = if undo.found == Found::Used { "" } else { " (new)" };
        let about = format!("{}{new}", dir.root().display());
        progress(Phase { name: "data folder", about, took: began.elapsed() });

        let listeners = if apart {
            // The gateway's process binds them, long after containers were started: they are tried now.
            listen(&config, &|_| {}).await?;
            None
        } else {
            Some(listen(&config, progress).await?)
        };
        Ok(Self { config, dir, undo, lock, listeners })
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
        program: &Program,
        seed: Option<&Order>,
        progress: &Progress<'_>,
        told: &Shutdown,
    ) -> Result<Stack, StackError> {
        let kind = &self.config.backends.kind;
        if kind == "embedded" {
            return self.start_over(rt, program, seed, progress, told).await;
        }
        let known = self.dir.claim_kind(&rt, kind, self.config.up.reuse)?;
        if kind == "external" {
            return self.start_over(rt, program, seed, progress, told).await;
        }
        let (containers, config) =
            containers::start(&self.config, &self.dir, known, &program.path, progress, told)
                .await?;
        self.config = Arc::new(config);
        match self.start_over(rt, program, seed, progress, told).await {
            Ok(stack) => Ok(Stack { containers: Some(containers), ..stack }),
            Err(error) => {
                containers.take_back().await;
                Err(error)
            }
        }
    }

    /// Starts the roles over stores that are there.
    async fn start_over(
        self,
        rt: Rt,
        program: &Program,
        seed: Option<&Order>,
        progress: &Progress<'_>,
        told: &Shutdown,
    ) -> Result<Stack, StackError> {
        // Dropped from the last to the first: the folder is undone before it is unlocked.
        let Self { config, dir, lock, mut undo, listeners } = self;
        if let Some(order) = seed {
            Box::pin(fill(&config, &dir, &rt, order, progress, told)).await?;
            // What was filled in is not taken back by a start that fails.
            undo.found = Found::Used;
        }
        let began = Instant::now();
        let (roles, run) = if let Some(listeners) = listeners {
            start_here(&config, &dir, listeners, rt, progress, told).await?
        } else {
            let (processes, run) = Processes::start(&config, &dir, program, told).await?;
            (Roles::Apart(processes), run)
        };
        if let Err(error) = dir.write_run(None, &run) {
            roles.stop_at_once().await;
            return Err(error);
        }
        undo.found = Found::Used;
        if let Roles::Apart(_) = &roles {
            let about = "every process answers".to_owned();
            progress(Phase { name: "ready", about, took: began.elapsed() });
        }
        Ok(Stack { roles, containers: None, dir, run, _lock: lock })
    }
}

/// Fills the data set, or finds it filled.
async fn fill(
    config: &Config,
    dir: &DataDir,
    rt: &Rt,
    order: &Order,
    progress: &Progress<'_>,
    told: &Shutdown,
) -> Result<(), StackError> {
    let began = Instant::now();
    let target = if config.backends.external() {
        // Schemas are made, and servers that have just begun are waited for.
        match open(dir, rt, config, &Metrics::new(), told).await {
            Ok(opened) => opened.close(rt).await,
            // The part that is there is what goes on now.
            Err(StackError::HalfSeeded(_)) => {}
            Err(error) => return Err(error),
        }
        Target::servers(rt, config).await?
    } else {
        Target::files(rt, dir).await?
    };
    let filled = async {
        let plan = seed::make(rt, order).await?;
        let part = |Part { name, done, of }| {
            if done == of {
                let about = format!("{of} {name}");
                progress(Phase { name: "seed", about, took: began.elapsed() });
            }
        };
        let path = dir.root().join(credentials::FILE);
        let (known, wanted) = ((order, &plan), (path.as_path(), credentials::TOKENS_MAX));
        let (seeded, _) = target.fill_whole(rt, config, known, wanted, &part, told).await?;
        Ok::<Seeded, StackError>(seeded)
    };
    let filled = filled.await;
    target.close(rt).await;
    let Seeded { users, edges, tweets, .. } = filled?;
    let about = format!("{}: {users} users, {edges} edges, {tweets} tweets", order.profile);
    progress(Phase { name: "seed", about, took: began.elapsed() });
    Ok(())
}

/// Binds the two listeners.
async fn listen(config: &Config, progress: &Progress<'_>) -> Result<(Bound, Bound), StackError> {
    let began = Instant::now();
    let port = |port: u64| u16::try_from(port).unwrap_or(u16::MAX);
    let public = bind(SocketAddr::new(config.up.address, port(config.up.port))).await?;
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let admin = bind(SocketAddr::new(loopback, port(config.up.admin_port))).await?;
    let about = format!("{} and {}", public.address, admin.address);
    progress(Phase { name: "listeners", about, took: began.elapsed() });
    Ok((public, admin))
}

/// Opens every store. Servers that were started for this answer, but may be slow at first.
async fn open(
    dir: &DataDir,
    rt: &Rt,
    config: &Config,
    metrics: &Metrics,
    told: &Shutdown,
) -> Result<Opened, StackError> {
    let in_containers = dir.known()?.is_some_and(|known| known.kind == "containers");
    if !in_containers {
        let once = Opened::open(dir, rt, config, metrics, &Role::ALL, &Patience::Once);
        return Box::pin(once).await;
    }
    let waits = Waits::default();
    let patience = Patience::Wait(waits.clone());
    let opening = Box::pin(Opened::open(dir, rt, config, metrics, &Role::ALL, &patience));
    let limit = config.up.containers_timeout();
    let opened = told.run_until_cancelled(tokio::time::timeout(limit, opening)).await;
    let opened = opened.ok_or(StackError::Stopped)?;
    opened.unwrap_or_else(|_| {
        let stores = waits.names().join(", ");
        Err(StackError::Store(format!("not usable after {} s: {stores}", limit.as_secs())))
    })
}

/// Starts the roles in this process.
async fn start_here(
    config: &Arc<Config>,
    dir: &DataDir,
    (public, admin): (Bound, Bound),
    rt: Rt,
    progress: &Progress<'_>,
    told: &Shutdown,
) -> Result<(Roles, RunFile), StackError> {
    let began = Instant::now();
    let metrics = Metrics::new();
    // A damaged token is told before any store is touched.
    dir.read_token()?;
    let opened = open(dir, &rt, config, &metrics, told).await?;
    let about = if config.backends.external() {
        "PostgreSQL, Redis, Cassandra, SNS and SQS".to_owned()
    } else {
        folder::STORES.join(", ")
    };
    progress(Phase { name: "stores", about, took: began.elapsed() });

    let began = Instant::now();
    let token = dir.service_token(&rt);
    let (opened, token) = opened.or_close(&rt, token).await?;
    let pictures = Pictures::open(config, &opened, dir, &rt, &token).await;
    let (opened, pictures) = opened.or_close(&rt, pictures).await?;
    let proof = Proof::new(&token.0);
    let rpc = Peers::new(rt.clone(), proof.clone());
    let stop = Shutdown::new();
    let shared = Shared {
        rt: rt.clone(),
        rpc: rpc.clone(),
        metrics: metrics.clone(),
        config: Arc::clone(config),
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
    let run = run_file(&rt, config, &public, &admin);
    let admin_state = Admin {
        rt: rt.clone(),
        metrics,
        bus: opened.backends.bus.clone(),
        outboxes: opened.backends.outboxes(),
        peers: rpc,
        ready: node.ready.clone(),
        waits: Waits::default(),
        draining: node.draining.clone(),
        config: Arc::clone(config),
        token: shared.token.clone(),
    };
    let bounds = Bounds::of(&config.up);
    node.servers.push(public.serve(page.merge(pictures.router), bounds, None));
    let admin_router = admin_state.router().merge(internal);
    node.servers.push(admin.serve(admin_router, bounds, Some(proof)));
    let ready = told.run_until_cancelled(node.until_ready(config.up.ready_timeout())).await;
    let ready = ready.unwrap_or(Err(StackError::Stopped));
    let drain = config.up.drain();
    let roles = Roles::Here(Box::new(Here { rt, node, opened, drain }));
    if let Err(error) = ready {
        roles.stop_at_once().await;
        return Err(error);
    }
    let about = "every replica holds keys and revocations".to_owned();
    progress(Phase { name: "ready", about, took: began.elapsed() });
    Ok((roles, run))
}

impl Roles {
    /// The end of a start that failed: nobody is waited for.
    async fn stop_at_once(mut self) {
        if let Self::Here(here) = &mut self {
            here.drain = Duration::ZERO;
        }
        self.stop().await;
    }

    async fn stop(self) {
        match self {
            Self::Here(here) => {
                here.opened.stop_receiving();
                here.node.stop(here.drain).await;
                here.opened.close(&here.rt).await;
            }
            Self::Apart(processes) => processes.stop().await,
        }
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

    /// Stops it: not ready, no new connections, requests in work finish, loops end, stores close,
    /// containers go.
    pub async fn stop(self) {
        self.roles.stop().await;
        if let Some(containers) = self.containers {
            containers.end().await;
        }
        self.dir.remove_run(None);
    }
}
