//! What is done to the cluster from outside: deaths, boots, lost caches, parts that are down or slow,
//! clocks that jump.

use std::{collections::BTreeMap, time::Duration};

use rand::{RngExt, seq::IndexedRandom};
use rand_pcg::Pcg64;

use super::{
    cluster::Cluster,
    knobs::{Knobs, Rates},
};
use crate::{
    sim::{
        seed::Seed,
        world::{Act, NodeId, Part},
    },
    wire::routes::Role,
};

/// The nemesis acts this often.
const STEP: Duration = Duration::from_millis(250);
/// Steps per second: rates are per second.
const STEPS: f64 = 4.0;
/// A dead node is booted again after this at most.
const DEAD_MAX_MS: u64 = 8_000;
/// What is down or slow is so for this long at most.
const DOWN_MAX_MS: u64 = 6_000;
/// A wall clock is off by this at most.
const SKEW_MAX_MS: i64 = 2_000;

/// Something that will be undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Broken {
    Dead(NodeId),
    Down(Part),
    Cut(NodeId, Part),
    SlowPart(Part),
    SlowNode(NodeId),
}

/// The nemesis of one run.
pub struct Nemesis {
    rates: Rates,
    random: Pcg64,
    /// What is broken, and when it is mended.
    broken: BTreeMap<Broken, u64>,
}

impl Nemesis {
    /// The nemesis of `seed`.
    #[must_use]
    pub fn new(seed: &Seed, knobs: &Knobs) -> Self {
        let random = seed.stream("nemesis", 0);
        Self { rates: knobs.rates, random, broken: BTreeMap::new() }
    }

    /// Lets a quarter of a second pass, with what happens in it.
    pub async fn step(&mut self, cluster: &mut Cluster) {
        tokio::time::sleep(STEP).await;
        for node in cluster.take_died() {
            self.breaks(cluster, Broken::Dead(node), DEAD_MAX_MS);
        }
        self.mend(cluster, false);
        self.kills(cluster);
        let rates = self.rates;
        if self.happens(rates.wipe) {
            cluster.act(Act::CacheWipe);
        }
        if self.happens(rates.failover) {
            cluster.act(Act::CacheFailover);
        }
        let part = self.part();
        if self.happens(rates.down) {
            cluster.act(Act::Down { what: part, on: true });
            self.breaks(cluster, Broken::Down(part), DOWN_MAX_MS);
        }
        let node = self.node(cluster);
        if self.happens(rates.isolate) {
            cluster.act(Act::Isolate { node, what: part, on: true });
            self.breaks(cluster, Broken::Cut(node, part), DOWN_MAX_MS);
        }
        if self.happens(rates.slow) {
            let by_ms = self.random.random_range(10..800);
            if self.random.random_bool(0.5) {
                cluster.act(Act::Slow { what: part, by_ms });
                self.breaks(cluster, Broken::SlowPart(part), DOWN_MAX_MS);
            } else {
                cluster.set_slow(node, by_ms);
                self.breaks(cluster, Broken::SlowNode(node), DOWN_MAX_MS);
            }
        }
        if self.happens(rates.clock) {
            let skew = self.random.random_range(-SKEW_MAX_MS..=SKEW_MAX_MS);
            cluster.set_skew(node, skew);
        }
    }

    /// Boots every dead node. What else was broken was healed with the faults.
    pub fn heal(&mut self, cluster: &mut Cluster) {
        drop(cluster.take_died());
        self.mend(cluster, true);
        cluster.boot_all();
    }

    fn kills(&mut self, cluster: &mut Cluster) {
        for node in cluster.nodes() {
            if self.happens(self.rates.kill) {
                cluster.kill(node);
                self.breaks(cluster, Broken::Dead(node), DEAD_MAX_MS);
            }
        }
        let role = *Role::ALL.choose(&mut self.random).expect("there are roles");
        if self.happens(self.rates.kill_role) {
            for node in cluster.nodes_of(role) {
                cluster.kill(node);
                self.breaks(cluster, Broken::Dead(node), DEAD_MAX_MS);
            }
        }
    }

    fn happens(&mut self, per_second: f64) -> bool {
        self.random.random::<f64>() < per_second / STEPS
    }

    fn part(&mut self) -> Part {
        *Part::ALL.choose(&mut self.random).expect("there are parts")
    }

    fn node(&mut self, cluster: &Cluster) -> NodeId {
        *cluster.nodes().choose(&mut self.random).expect("there are nodes")
    }

    fn breaks(&mut self, cluster: &Cluster, broken: Broken, most_ms: u64) {
        let until = cluster.shared().now_ms() + self.random.random_range(0..most_ms);
        self.broken.insert(broken, until);
    }

    fn mend(&mut self, cluster: &mut Cluster, all: bool) {
        let now = cluster.shared().now_ms();
        let due: Vec<Broken> =
            self.broken.iter().filter(|(_, at)| all || **at <= now).map(|(b, _)| *b).collect();
        for broken in due {
            self.broken.remove(&broken);
            match broken {
                Broken::Dead(node) => cluster.boot(node),
                Broken::Down(what) => cluster.act(Act::Down { what, on: false }),
                Broken::Cut(node, what) => cluster.act(Act::Isolate { node, what, on: false }),
                Broken::SlowPart(what) => cluster.act(Act::Slow { what, by_ms: 0 }),
                Broken::SlowNode(node) => cluster.set_slow(node, 0),
            }
        }
    }
}
