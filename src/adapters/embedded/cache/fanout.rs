//! Fan-out: one tweet into many home timelines, the hottest write of all.
//!
//! Deliveries are sorted by shard first, so that a lock is taken once per shard and round, and the
//! rings of a shard are touched before they are written, so that the waits for memory overlap (a
//! full ring is 12.8 kB: with many users no cache of the processor holds them).

use super::{
    super::super::clock_map::{ClockMap, SHARDS, Shards},
    EmbeddedCache, Second, User,
};
use crate::{
    domain::{Entry, UserId, ring::Pushed},
    ports::{Push, PushReport, cache::PUSH_OWNERS_MAX},
};

/// Rings touched ahead of being written. Measured with 60,000 full rings on one core: 2 M pushes/s
/// without touching, 6 M/s with one pass of touching, 8 M/s with places looked up ahead of that.
const STRIDE: usize = 32;
/// Deliveries between two chances for other tasks to run: about half a millisecond.
const ROUND_MAX: usize = PUSH_OWNERS_MAX;

/// One delivery of a round.
#[derive(Clone, Copy)]
struct Delivery {
    owner: UserId,
    entry: Entry,
}

impl EmbeddedCache {
    /// Pushes to the home timelines. Other tasks get their turn between rounds.
    pub(super) async fn push_homes(&self, pushes: &[Push<'_>]) -> PushReport {
        let now = self.now();
        let mut report = PushReport::default();
        let (mut round, mut sorted) = (Vec::new(), Vec::new());
        for push in pushes {
            for homes in push.homes.chunks(ROUND_MAX) {
                if round.len() + homes.len() > ROUND_MAX {
                    self.push_round(&round, &mut sorted, now, &mut report);
                    round.clear();
                    tokio::task::yield_now().await;
                }
                round.extend(homes.iter().map(|&owner| Delivery { owner, entry: push.entry }));
            }
        }
        self.push_round(&round, &mut sorted, now, &mut report);
        report
    }

    /// Pushes one round of deliveries to home timelines; `sorted` is room to sort them in.
    fn push_round(
        &self,
        round: &[Delivery],
        sorted: &mut Vec<Delivery>,
        now: Second,
        report: &mut PushReport,
    ) {
        let starts = sort_by_shard(round, sorted);
        for shard in 0..SHARDS {
            let group = &sorted[starts[shard]..starts[shard + 1]];
            if !group.is_empty() {
                push_group(&mut self.users.lock_at(shard), group, now, report);
            }
        }
    }
}

/// Adds what one push did to the report.
pub(super) const fn count(report: &mut PushReport, pushed: Pushed) {
    match pushed {
        Pushed::Added => report.delivered += 1,
        Pushed::Duplicate | Pushed::UnderFloor => report.repeated += 1,
    }
}

/// Counting sort: the deliveries of shard `s` are `sorted[starts[s]..starts[s + 1]]`, in the order
/// in which they came.
fn sort_by_shard(round: &[Delivery], sorted: &mut Vec<Delivery>) -> [usize; SHARDS + 1] {
    let mut starts = [0; SHARDS + 1];
    for delivery in round {
        starts[Shards::<User>::shard_of(delivery.owner.0) + 1] += 1;
    }
    for shard in 0..SHARDS {
        starts[shard + 1] += starts[shard];
    }
    sorted.clear();
    sorted.extend_from_slice(round);
    let mut next = starts;
    for delivery in round {
        let at = &mut next[Shards::<User>::shard_of(delivery.owner.0)];
        sorted[*at] = *delivery;
        *at += 1;
    }
    starts
}

/// Pushes into one shard, a stride at a time: find the slots, touch the rings, then write them. The
/// steps of a loop do not wait for one another, so neither do their reads of memory.
fn push_group(
    shard: &mut ClockMap<User>,
    group: &[Delivery],
    now: Second,
    report: &mut PushReport,
) {
    let mut places = [None; STRIDE];
    for group in group.chunks(STRIDE) {
        for (place, delivery) in places.iter_mut().zip(group) {
            *place = shard.find(delivery.owner.0);
        }
        let mut touched = 0;
        for place in places[..group.len()].iter().flatten() {
            if let Some(ring) = shard.at(*place).and_then(|slot| slot.timeline.as_ref()) {
                touched ^= ring.floor().0;
            }
        }
        std::hint::black_box(touched);
        for (place, delivery) in places.iter().zip(group) {
            let slot = place.and_then(|place| shard.at(place)).filter(|slot| slot.expires > now);
            match slot.and_then(|slot| slot.timeline.as_mut()) {
                Some(ring) => count(report, ring.push(delivery.entry)),
                None => report.absent += 1,
            }
        }
    }
}
