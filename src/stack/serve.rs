//! `chirp serve`: single roles in a process of their own, over a data folder that they share.
//!
//! Every role has a public listener, and an admin listener that carries its internal routes too.
//! Where they are is written to `run/<role>.json`; every process looks there for the others, again
//! and again, so that they may start in any order and come back elsewhere. Addresses on the command
//! line are taken as they are.
//!
//! Each store has one owner: a role runs in one process per data folder. The bus is the exception;
//! it lies in `timeline.db`, which the user and tweet roles open for publishing only.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::sync::watch;

use super::{
    DataDir, StackError,
    admin::{Admin, PEERS},
    backends::Opened,
    client,
    data_dir::{Lock, RunFile},
    listen::{Bound, Bounds, bind},
    node::Node,
    pictures::Pictures,
    roles::Shared,
};
use crate::{
    adapters::{proof::Proof, rpc::Peers},
    config::Config,
    ports::Rpc,
    rt::{Rt, Shutdown},
    services::{kit::Service, timeline::Halves},
    telemetry::Metrics,
    wire::routes::Role,
};

/// How often the data folder is searched for other processes.
const LOOK: Duration = Duration::from_millis(200);

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

/// A process that runs some roles.
pub struct Process {
    rt: Rt,
    node: Node,
    opened: Opened,
    dir: DataDir,
    runs: Vec<(Role, RunFile)>,
    drain: Duration,
    /// Last, so that nobody can take the roles before everything above is closed.
    _lock: Lock,
}

impl Process {
    /// Binds, opens what the roles own, builds and serves them. They are not ready yet.
    ///
    /// # Errors
    /// [`StackError`].
    pub async fn start(
        config: Arc<Config>,
        rt: Rt,
        roles: &[Role],
        halves: Halves,
        peers: &[Peer],
    ) -> Result<Self, StackError> {
        let mut listeners = Vec::new();
        for role in roles {
            listeners.push((*role, listen(&config, *role, roles).await?));
        }
        let dir = DataDir::at(&config.up.data_dir);
        let found = dir.create()?;
        let opened = async {
            let lock = dir.lock_roles(roles)?;
            // A damaged token is told before any store is touched.
            dir.read_token()?;
            let opened = Opened::open(&dir, &rt, &config, roles).await?;
            Ok((opened.or_close(&rt, dir.service_token(&rt)).await?, lock))
        };
        let ((opened, token), lock) =
            opened.await.inspect_err(|_: &StackError| dir.undo_shared(found))?;

        let pictures = Pictures::in_folder(&dir, &rt, &token).await;
        let (opened, pictures) = opened.or_close(&rt, pictures).await?;
        let proof = Proof::new(&token.0);
        let rpc = Peers::new(rt.clone(), proof.clone());
        let stop = Shutdown::new();
        let shared = Shared {
            rt: rt.clone(),
            rpc: rpc.clone(),
            metrics: Metrics::new(),
            config: Arc::clone(&config),
            token,
            blobs: pictures.blobs,
            halves,
            stop: stop.clone(),
        };
        let built: Result<Vec<Service>, StackError> =
            roles.iter().map(|role| shared.build(*role, 0, &opened.backends)).collect();
        let (opened, mut services) = opened.or_close(&rt, built).await?;
        for (role, service) in roles.iter().zip(&services) {
            rpc.add_local(*role, service.public.clone(), service.internal.clone());
        }
        let mut node = Node::start(&rt, &mut services, stop.clone());
        let found = search(&rt, &dir, &rpc, roles, peers, &stop);
        // A gateway has nothing of its own to wait for, but is of no use without the others.
        for (role, ready) in &mut node.ready {
            if *role == Role::Gateway {
                *ready = found.clone();
            }
        }
        let bounds = Bounds::of(&config.up);
        let mut runs = Vec::new();
        for ((role, (public, admin)), service) in listeners.into_iter().zip(&services) {
            let run = run_file(&rt, role, &public, &admin);
            let state = Admin {
                rt: rt.clone(),
                metrics: shared.metrics.clone(),
                bus: opened.backends.bus.clone(),
                outboxes: opened.backends.outboxes(),
                peers: rpc.clone(),
                ready: node.ready.clone(),
                draining: node.draining.clone(),
                config: Arc::clone(&config),
                token: shared.token.clone(),
            };
            let admin_router = state.router().fallback_service(service.internal.clone());
            // The gateway is called by clients only.
            let called = (role != Role::Gateway).then(|| proof.clone());
            let mut routes = service.public.clone();
            if role == Role::Gateway {
                routes = routes.merge(pictures.router.clone());
            }
            node.servers.push(public.serve(routes, bounds, called));
            node.servers.push(admin.serve(admin_router, bounds, Some(proof.clone())));
            runs.push((role, run));
        }
        let written = runs.iter().try_for_each(|(role, run)| dir.write_run(Some(*role), run));
        let process = Self { rt, node, opened, dir, runs, drain: config.up.drain(), _lock: lock };
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

    /// Stops the process as [`super::up::Stack::stop`] does.
    pub async fn stop(self) {
        for (role, _) in &self.runs {
            // First, so that nobody is sent here any more.
            self.dir.remove_run(Some(*role));
        }
        self.node.stop(self.drain).await;
        self.opened.close(&self.rt).await;
    }
}

/// Listeners of `role`. The configured ports go to the gateway if it is here, else to the first.
async fn listen(config: &Config, role: Role, roles: &[Role]) -> Result<(Bound, Bound), StackError> {
    let chosen = roles.first() == Some(&role);
    let port = |port: u64| if chosen { u16::try_from(port).unwrap_or(u16::MAX) } else { 0 };
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let public = bind(SocketAddr::new(config.up.address, port(config.up.port))).await?;
    let admin = bind(SocketAddr::new(loopback, port(config.up.admin_port))).await?;
    Ok((public, admin))
}

fn run_file(rt: &Rt, role: Role, public: &Bound, admin: &Bound) -> RunFile {
    RunFile {
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at_ms: rt.wall_ms(),
        address: public.address,
        admin: admin.address,
        replicas: vec![(role.as_str().to_owned(), 1)],
    }
}

/// Keeps looking for the roles that this process does not run, and for their health. `true` once
/// every role can be called, from here and from each of them.
fn search(
    rt: &Rt,
    dir: &DataDir,
    rpc: &Arc<Peers>,
    own: &[Role],
    peers: &[Peer],
    stop: &Shutdown,
) -> watch::Receiver<bool> {
    let found = watch::Sender::new(false);
    let seen = found.subscribe();
    for peer in peers {
        rpc.set_remote(peer.role, peer.public, peer.internal);
    }
    let known = |role: &Role| own.contains(role) || peers.iter().any(|peer| peer.role == *role);
    let wanted: Vec<Role> = PEERS.into_iter().filter(|role| !known(role)).collect();
    let (dir, clock) = (dir.clone(), rt.clone());
    let mut here: Vec<Option<RunFile>> = vec![None; wanted.len()];
    let fixed: Vec<SocketAddr> = peers.iter().map(|peer| peer.internal).collect();
    let is_ok = |answer: client::Answer| answer.status == 200;
    let (list, ends) = (Arc::clone(rpc), stop.clone());
    rt.spawn("search", async move {
        let look = async {
            loop {
                for (role, here) in wanted.iter().zip(&mut here) {
                    let run = dir.running_role(*role);
                    if *here == run {
                        continue;
                    }
                    if let Some(run) = &run {
                        tracing::info!(%role, address = %run.address, "found a role");
                        list.set_remote(*role, run.address, run.admin);
                    } else {
                        // Whoever gets its port next is not asked in vain, again and again.
                        tracing::warn!(%role, "a role has gone");
                        list.forget(*role);
                    }
                    *here = run;
                }
                if !*found.borrow() {
                    // A replica counts as healthy until it is asked.
                    list.check_health().await;
                    let mut all =
                        PEERS.iter().all(|role| list.replicas(*role) > 0 && list.healthy(*role, 0));
                    let admins = here.iter().flatten().map(|run| run.admin);
                    for admin in fixed.iter().copied().chain(admins) {
                        all = all && client::get(admin, "/peers").await.is_ok_and(is_ok);
                    }
                    found.send_replace(all);
                }
                clock.sleep(LOOK).await;
            }
        };
        ends.run_until_cancelled(look).await;
    });
    rt.spawn("health", Arc::clone(rpc).watch_health(stop.clone()));
    seen
}
