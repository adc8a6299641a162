//! The simulated deployment: replicas of the four roles over one world.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{
    history::Who,
    knobs::Knobs,
    mutants::{Mutant, Mutation},
};
use crate::{
    adapters::near::NearBodies,
    config,
    domain::TweetId,
    ports::{Chosen, Rpc},
    rt::Shutdown,
    services::{
        gateway,
        kit::{Common, Secret, Service},
        timeline::{self, Halves},
        tweet, user,
    },
    sim::{
        net::{Served, SimNet},
        runtime::{Loss, Machine, Shared},
        world::{Act, NodeId, World},
    },
    telemetry::Metrics,
    wire::routes::Role,
};

/// Node numbers of a role begin at this multiple of its place in [`Role::ALL`].
const NODES_PER_ROLE: u16 = 32;
/// Node numbers of clients begin here.
const CLIENTS_FROM: u16 = 1_000;

/// A loss comes at most this long after the point that it follows.
const LOSS_AFTER_MS: u64 = 60;

/// One replica: which, and its present life.
struct Replica {
    role: Role,
    index: usize,
    machine: Option<Arc<Machine>>,
    ready: Option<tokio::sync::watch::Receiver<bool>>,
    lives: u64,
    skew_ms: i64,
}

/// The deployment.
pub struct Cluster {
    shared: Shared,
    world: World,
    net: SimNet,
    config: Arc<config::Services>,
    mutation: Mutation,
    replicas: BTreeMap<NodeId, Replica>,
    kills: u64,
}

/// Caches lose everything, or what their replica lacks, a moment after a fill has passed a point.
fn losing(world: &World) -> Loss {
    let world = world.clone();
    Box::new(move |random| {
        let act = if random % 2 == 0 { Act::CacheWipe } else { Act::CacheFailover };
        let (world, after) = (world.clone(), Duration::from_millis((random >> 1) % LOSS_AFTER_MS));
        // Not a task of a node: the cache is nobody's.
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            world.act(act);
        });
    })
}

impl Cluster {
    /// Gives the memory of every replica back.
    pub fn end(&self) {
        self.net.forget_all();
    }

    /// A deployment of which nothing runs yet.
    #[must_use]
    pub fn new(shared: &Shared, knobs: &Knobs, mutant: Option<Mutant>) -> Self {
        let world = World::new(*shared.seed(), shared.trace().clone(), knobs.world.clone());
        world.set_faults(false);
        shared.on_loss(losing(&world));
        let net = SimNet::new(shared, knobs.net, knobs.replicas.clone());
        let mut replicas = BTreeMap::new();
        for (place, role) in (0..).zip(Role::ALL) {
            for index in 0..knobs.replicas.get(&role).copied().unwrap_or(1) {
                let id = NodeId(place * NODES_PER_ROLE + index as u16);
                let (machine, ready) = (None, None);
                let replica = Replica { role, index, machine, ready, lives: 0, skew_ms: 0 };
                replicas.insert(id, replica);
            }
        }
        Self {
            shared: shared.clone(),
            world,
            net,
            config: Arc::new(knobs.services.clone()),
            mutation: Mutation::new(mutant),
            replicas,
            kills: 0,
        }
    }

    /// Every node, in a fixed order.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeId> {
        self.replicas.keys().copied().collect()
    }

    /// The nodes of a role.
    #[must_use]
    pub fn nodes_of(&self, role: Role) -> Vec<NodeId> {
        let of = self.replicas.iter().filter(|(_, replica)| replica.role == role);
        of.map(|(id, _)| *id).collect()
    }

    /// The network as user `who` has it.
    #[must_use]
    pub fn client_rpc(&self, who: Who) -> Arc<dyn Rpc> {
        self.net.rpc(NodeId(CLIENTS_FROM + who as u16))
    }

    /// Virtual time and the record.
    #[must_use]
    pub fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Lives that were ended.
    #[must_use]
    pub fn kills(&self) -> u64 {
        self.kills
    }

    /// Whether anything may go wrong by itself.
    pub fn set_faults(&self, on: bool) {
        self.world.set_faults(on);
        self.net.set_faults(on);
        self.shared.set_points(on);
    }

    /// Does something to the world.
    pub fn act(&self, act: Act) {
        self.world.act(act);
    }

    /// Slows the calls of a node down; 0 ends it.
    pub fn set_slow(&self, node: NodeId, ms: u64) {
        if let Some(replica) = self.replicas.get(&node) {
            self.net.set_slow(replica.role, replica.index, ms);
        }
    }

    /// Sets a node's wall clock off by `ms`, for this life and those after it.
    pub fn set_skew(&mut self, node: NodeId, ms: i64) {
        if let Some(replica) = self.replicas.get_mut(&node) {
            replica.skew_ms = ms;
            if let Some(machine) = &replica.machine {
                machine.set_skew_ms(ms);
            }
        }
    }

    /// Ends a node's life, if it has one.
    pub fn kill(&mut self, node: NodeId) {
        if let Some(machine) = self.replicas.get(&node).and_then(|r| r.machine.as_ref())
            && machine.is_alive()
        {
            machine.kill();
            self.kills += 1;
        }
    }

    /// Nodes that died at a point since the last call.
    pub fn take_died(&mut self) -> Vec<NodeId> {
        let died = self.shared.take_died();
        self.kills += died.len() as u64;
        died
    }

    /// Boots every node that does not run.
    pub fn boot_all(&mut self) {
        for node in self.nodes() {
            self.boot(node);
        }
    }

    /// Boots a node unless it runs.
    pub fn boot(&mut self, node: NodeId) {
        let Some(replica) = self.replicas.get_mut(&node) else { return };
        if replica.machine.as_ref().is_some_and(|machine| machine.is_alive()) {
            return;
        }
        replica.lives += 1;
        let machine = Machine::boot(&self.shared, node, replica.lives, replica.skew_ms);
        replica.machine = Some(Arc::clone(&machine));
        let (role, index) = (replica.role, replica.index);
        let mut service = self.build(node, role, index, &machine);
        // The tasks belong to the life and end with it.
        drop(service.start(&machine.rt()));
        let ready = service.ready.clone();
        let Service { public, internal, .. } = service;
        let served = Served { machine, public, internal, ready: ready.clone() };
        self.net.serve(role, index, served);
        if let Some(replica) = self.replicas.get_mut(&node) {
            replica.ready = Some(ready);
        }
        let at = self.shared.now_ms();
        self.shared.trace().event(at, node, "node.boot", role);
    }

    fn build(&self, node: NodeId, role: Role, index: usize, machine: &Arc<Machine>) -> Service {
        let rt = machine.rt();
        let mut ports = self.mutation.ports(self.world.node(node, &rt), &rt);
        let timeline = &self.config.timeline;
        ports.bodies = Arc::new(NearBodies::new(
            ports.bodies,
            rt.clone(),
            timeline.near_ttl(),
            timeline.near_bodies_max as usize,
        ));
        let rpc = self.mutation.rpc(self.net.rpc(node), &rt);
        let common = Common {
            rt,
            role,
            replica: index,
            rpc,
            limiter: ports.limiter,
            metrics: Metrics::default(),
            config: Arc::clone(&self.config),
            service_token: Secret("simulated-service-token".into()),
            shutdown: Shutdown::new(),
        };
        match role {
            Role::Gateway => gateway::build(common),
            Role::User => {
                let (users, graph, keys) = (ports.users, ports.graph, ports.keys);
                let (outbox, bus) = (ports.user_outbox, ports.bus);
                user::build(common, user::Deps { users, graph, keys, outbox, bus })
            }
            Role::Tweet => {
                let (tweets, outbox) = (ports.tweets, ports.tweet_outbox);
                let (media, blobs) = (ports.media, ports.blobs);
                let (bus, hints) = (ports.bus, ports.hints);
                tweet::build(common, tweet::Deps { tweets, media, blobs, outbox, bus, hints })
            }
            Role::Timeline => {
                let deps = timeline::Deps {
                    store: ports.store,
                    homes: ports.homes,
                    chosen: Chosen {
                        version: 1,
                        strategy: self.config.fanout.wanted().unwrap_or_default(),
                        since: TweetId(0),
                    },
                    cache: ports.cache,
                    relations: ports.relations,
                    bodies: ports.bodies,
                    bus: ports.bus,
                    hints: ports.hints,
                };
                timeline::build(common, deps, Halves { http: true, worker: true })
            }
        }
    }

    /// Waits until every node runs and is ready.
    pub async fn all_ready(&self) {
        for replica in self.replicas.values() {
            if let Some(mut ready) = replica.ready.clone() {
                // An error means that the life ended: then the wait is for the one after it.
                drop(ready.wait_for(|ready| *ready).await);
            }
        }
    }

    /// What has not drained, by name; empty once everything has.
    #[must_use]
    pub fn left(&self) -> BTreeMap<&'static str, u64> {
        let pending = self.world.pending();
        let all = [
            ("user outbox", pending.user_outbox),
            ("tweet outbox", pending.tweet_outbox),
            ("waiting", pending.depth),
            ("in flight", pending.in_flight),
            ("parked", pending.parked),
            ("late calls", pending.late),
        ];
        all.into_iter().filter(|(_, count)| *count > 0).collect()
    }
}
