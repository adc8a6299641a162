//! How one seed is set up: sizes, configuration and which kinds of fault it has.
//!
//! Small limits make rare paths common: a handful of followers make a pulled author, a page of
//! followers is a chunk, a timeline is full after a few tweets. Every value lies inside its legal
//! range, and each kind of fault is on in half of the seeds (swarm testing: Groce et al. 2012).

use std::collections::BTreeMap;

use rand::{RngExt, seq::IndexedRandom};
use rand_pcg::Pcg64;

use super::history::Who;
use crate::{
    config,
    sim::{net::NetFaults, runtime::PointFaults, seed::Seed, world},
    wire::routes::Role,
};

/// What the nemesis does in this seed, as chances per second of virtual time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rates {
    /// A node dies (each).
    pub kill: f64,
    /// All replicas of one role die.
    pub kill_role: f64,
    /// The caches lose everything.
    pub wipe: f64,
    /// The cache fails over.
    pub failover: f64,
    /// A part of the world goes down for some seconds.
    pub down: f64,
    /// A node is cut off from a part for some seconds.
    pub isolate: f64,
    /// A part or a node becomes slow for some seconds.
    pub slow: f64,
    /// A node's wall clock jumps.
    pub clock: f64,
}

/// How one seed is set up.
#[derive(Clone, Debug)]
pub struct Knobs {
    /// Users.
    pub users: usize,
    /// Replicas of each role.
    pub replicas: BTreeMap<Role, usize>,
    /// Epochs of faults, each with a look at everything after it.
    pub epochs: u32,
    /// Virtual length of the faults of one epoch, in milliseconds.
    pub epoch_ms: u64,
    /// Longest pause of a user between requests, in milliseconds.
    pub think_ms: u64,
    /// The largest page that users ask for.
    pub page: usize,
    /// Who follows whom from the start.
    pub first_follows: Vec<(Who, Who)>,
    /// Configuration of the services.
    pub services: config::Services,
    /// The stores, the bus and the caches.
    pub world: world::Knobs,
    /// The network.
    pub net: NetFaults,
    /// The points that flows pass.
    pub points: PointFaults,
    /// The nemesis.
    pub rates: Rates,
}

struct Draw(Pcg64);

impl Draw {
    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        *choices.choose(&mut self.0).expect("choices are never empty")
    }

    /// `value` in half of the seeds, with a random intensity; otherwise nothing.
    fn chance(&mut self, value: f64) -> f64 {
        let (on, intensity) = (self.0.random_bool(0.5), self.0.random_range(0.25..1.5));
        if on { value * intensity } else { 0.0 }
    }
}

impl Draw {
    /// The same in 1/10,000.
    fn chance_of_10_000(&mut self, value: u32) -> u32 {
        let (on, percent) = (self.0.random_bool(0.5), self.0.random_range(25..150));
        if on { value * percent / 100 } else { 0 }
    }
}

impl Knobs {
    /// The knobs of `seed`; `users` and `replicas` overrule what it would draw.
    ///
    /// # Panics
    /// If a drawn configuration is not legal, which a test rules out.
    #[must_use]
    pub fn draw(seed: &Seed, users: Option<usize>, replicas: Option<usize>) -> Self {
        let draw = &mut Draw(seed.stream("knobs", 0));
        let drawn = draw.0.random_range(4..=8);
        let users = users.unwrap_or(drawn);
        let replicas = Role::ALL
            .into_iter()
            .map(|role| {
                let most = if role == Role::Gateway { 2 } else { 3 };
                let drawn = draw.0.random_range(1..=most);
                (role, replicas.unwrap_or(drawn))
            })
            .collect();
        let services = services(draw);
        services.validate().expect("knobs stay inside the legal ranges");
        let entries_max = services.timeline.entries_max as usize;
        Self {
            users,
            replicas,
            epochs: 4,
            epoch_ms: draw.of(&[6_000, 10_000, 16_000]),
            think_ms: draw.of(&[700, 1_400, 2_400]),
            page: draw.of(&[3, 7, 20, 50]),
            first_follows: first_follows(draw, users),
            services,
            world: world_knobs(draw, entries_max),
            net: net_faults(draw),
            points: point_faults(draw),
            rates: rates(draw),
        }
    }
}

fn services(draw: &mut Draw) -> config::Services {
    let mut services = config::Services::for_tests();
    services.auth.access_ttl_s = draw.of(&[60, 600, 3_600]);
    services.auth.revocation_poll_ms = draw.of(&[2_000, 5_000]);
    services.gateway.attempt_timeout_ms = draw.of(&[3_000, 8_000]);
    let relay = &mut services.relay;
    relay.batch_max = draw.of(&[1, 10, 100]);
    relay.lease_ms = draw.of(&[500, 2_000, 10_000]);
    relay.idle_ms = draw.of(&[100, 500, 1_000]);
    relay.gather_ms = draw.of(&[0, 20, 200]);
    relay.retry_ms = draw.of(&[10, 50]);
    let timeline = &mut services.timeline;
    timeline.near_ttl_ms = draw.of(&[0, 50, 250]);
    timeline.near_bodies_max = 1_000;
    timeline.page_max = 50;
    timeline.candidates_max = draw.of(&[50, 2_000]);
    timeline.entries_max = draw.of(&[8, 20, 100, 800]);
    timeline.rebuild_entries = draw.of(&[4, 10, 50, 200]).min(timeline.entries_max);
    let fanout = &mut services.fanout;
    fanout.celebrity_followers = draw.of(&[3, 4, 6, 1_000_000]);
    fanout.inline_followers = draw.of(&[1, 2, 4, 8]);
    fanout.page_followers = draw.of(&[1, 2, 3, 1_000]);
    fanout.chunk_followers = draw.of(&[1, 3, 1_000]);
    fanout.chunk_parts = draw.of(&[1, 2, 4]);
    fanout.receive_max = draw.of(&[1, 3, 10]);
    fanout.ingest_workers = draw.of(&[1, 2]);
    fanout.bulk_workers = draw.of(&[1, 2]);
    fanout.visibility_ms = draw.of(&[1_000, 5_000, 30_000]);
    fanout.receive_wait_ms = draw.of(&[1_000, 5_000]);
    fanout.retry_ms = draw.of(&[20, 50]);
    fanout.backfill_max = draw.of(&[3, 20, 800]);
    services
}

/// Everybody follows about a third of the others, and the first two users more often: some authors
/// outgrow the threshold later, under load.
fn first_follows(draw: &mut Draw, users: usize) -> Vec<(Who, Who)> {
    let mut follows = Vec::new();
    for actor in 0..users {
        for target in (0..users).filter(|&target| target != actor) {
            let chance = if target < 2 { 0.4 } else { 0.3 };
            if draw.0.random_bool(chance) {
                follows.push((actor, target));
            }
        }
    }
    follows
}

fn world_knobs(draw: &mut Draw, entries_max: usize) -> world::Knobs {
    let mut p = |base| draw.chance_of_10_000(base);
    let (spike, refuse, lose_request) = (p(60), p(100), p(80));
    let (lose_answer, late, partial) = (p(150), p(80), p(300));
    let (split, commit, short_page) = (p(400), p(800), p(800));
    let (entry, duplicate, delay) = (p(300), p(500), p(600));
    let (reorder, evict, hint_loss) = (p(5_000), p(60), p(2_000));
    world::Knobs {
        latency_ms: draw.of(&[1, 3, 8]),
        spike,
        spike_ms: draw.of(&[200, 2_000]),
        refuse,
        lose_request,
        lose_answer,
        late,
        late_ms: draw.of(&[500, 4_000]),
        timeout_ms: 500,
        partial,
        split,
        split_ms: draw.of(&[20, 400]),
        commit,
        commit_ms: draw.of(&[50, 1_000]),
        short_page,
        entry,
        duplicate,
        delay,
        delay_ms: draw.of(&[1_000, 8_000]),
        reorder,
        lag_ms: draw.of(&[2, 30]),
        evict,
        hint_loss,
        entries_max,
    }
}

fn net_faults(draw: &mut Draw) -> NetFaults {
    NetFaults {
        latency_ms: draw.of(&[1, 3]),
        drop_request: draw.chance(0.01),
        drop_answer: draw.chance(0.01),
        duplicate: draw.chance(0.02),
        delay: draw.chance(0.02),
        delay_max_ms: draw.of(&[100, 1_500]),
    }
}

fn point_faults(draw: &mut Draw) -> PointFaults {
    PointFaults {
        pause: draw.chance(0.06),
        pause_max_ms: draw.of(&[50, 500, 3_000]),
        kill: draw.chance(0.003),
        loss: draw.chance(0.08),
    }
}

fn rates(draw: &mut Draw) -> Rates {
    Rates {
        kill: draw.chance(0.02),
        kill_role: draw.chance(0.02),
        wipe: draw.chance(0.1),
        failover: draw.chance(0.15),
        down: draw.chance(0.06),
        isolate: draw.chance(0.06),
        slow: draw.chance(0.06),
        clock: draw.chance(0.1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_drawn_configuration_is_legal_and_seeds_differ() {
        let mut replicas = std::collections::BTreeSet::new();
        for seed in 0..500 {
            let knobs = Knobs::draw(&Seed(seed), None, None);
            assert_eq!(knobs.services.validate(), Ok(()));
            replicas.insert(knobs.replicas.into_values().collect::<Vec<_>>());
        }
        assert!(replicas.len() > 20);
    }

    #[test]
    fn a_number_of_users_that_was_asked_for_changes_no_other_knob() {
        let (a, b) = (Knobs::draw(&Seed(1), None, None), Knobs::draw(&Seed(1), Some(3), Some(2)));
        assert_eq!(b.users, 3);
        assert!(b.replicas.values().all(|&n| n == 2));
        assert_eq!(a.services, b.services);
    }
}
