//! The embedded caches: what a Redis would hold, in the process.
//!
//! One [`EmbeddedCache`] is shared by all replicas of the timeline role and fills three ports:
//! home timelines and author lists (`timelines`, `fanout`), relations (`relations`), bodies (`bodies`).
//! Nothing here survives the process, which the protocol in [`crate::ports::cache`] allows.
//!
//! A user's timeline and relations share a slot, so a page is read and filtered under one short
//! lock. A fill's token lives in the very slot that the fill would write: whatever removes the slot
//! (eviction, expiry, invalidation, a tombstone) voids the fill with it, and since tokens are
//! random, none ever stands again.

mod bodies;
mod fanout;
mod relations;
mod timelines;

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use self::{bodies::Slot, timelines::AuthorList};
use super::super::clock_map::{ClockMap, Shards};
use crate::{
    domain::{Relations, Ring, Token, UserId},
    rt::{Instant, Rt},
};

/// What is cached of a user or a pulled author is dropped when it was not read for this long:
/// the reader has left, and need not be written for.
pub const IDLE_TTL: Duration = Duration::from_hours(30 * 24);

/// How much is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Users with timeline, relations or both. Default 200,000: 2.6 GB if every timeline is full.
    pub users_max: usize,
    /// Lists of pulled authors. Default 10,000: 130 MB if every list is full.
    pub author_lists_max: usize,
    /// Bodies. Default 500,000: about 250 MB.
    pub bodies_max: usize,
    /// Entries of a list, 1 to [`crate::domain::ring::CAPACITY_MAX`]. Default 800.
    pub entries_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            users_max: 200_000,
            author_lists_max: 10_000,
            bodies_max: 500_000,
            entries_max: crate::domain::ring::CAPACITY_MAX,
        }
    }
}

/// What is held now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Users with timeline, relations or both.
    pub users: usize,
    /// Bytes of home timelines and relations.
    pub users_bytes: usize,
    /// Lists of pulled authors.
    pub author_lists: usize,
    /// Bytes of lists of pulled authors.
    pub author_lists_bytes: usize,
    /// Bodies, tombstones and running fills.
    pub bodies: usize,
    /// Bytes of bodies.
    pub bodies_bytes: usize,
}

/// Home timelines, author lists, relations and bodies in the memory of this process.
pub struct EmbeddedCache {
    rt: Rt,
    users: Shards<User>,
    authors: Shards<AuthorList>,
    bodies: Shards<Slot>,
    entries_max: usize,
}

/// What is cached of one user.
#[derive(Default)]
struct User {
    timeline: Option<Ring>,
    relations: Option<Arc<Relations>>,
    /// The fill of `relations` that runs.
    fill: Option<Token>,
    expires: Second,
}

impl EmbeddedCache {
    /// Empty caches.
    #[must_use]
    pub fn new(rt: Rt, limits: Limits) -> Self {
        Self {
            rt,
            users: Shards::new(limits.users_max),
            authors: Shards::new(limits.author_lists_max),
            bodies: Shards::new(limits.bodies_max),
            entries_max: limits.entries_max,
        }
    }

    /// What is held now. Walks over everything, a shard at a time: for gauges, not for hot paths.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let ring = |ring: &Ring| ring.as_bytes().len();
        let (users, users_bytes) = self.users.usage(|user| {
            user.timeline.as_ref().map_or(0, ring)
                + user.relations.as_deref().map_or(0, relations::bytes)
        });
        let (author_lists, author_lists_bytes) = self.authors.usage(|list| ring(&list.ring));
        let (bodies, bodies_bytes) = self.bodies.usage(Slot::bytes);
        Usage { users, users_bytes, author_lists, author_lists_bytes, bodies, bodies_bytes }
    }

    fn token(&self) -> Token {
        Token(self.rt.random_u64().max(1))
    }

    fn now(&self) -> Second {
        Second::of(self.rt.now())
    }

    /// Runs `change` on the slot of a user who reads; it is made if it is not there.
    fn with_user<T>(&self, user: UserId, change: impl FnOnce(&mut User) -> T) -> T {
        let now = self.now();
        let mut shard = self.users.lock(user.0);
        if let Some(slot) = live_user(&mut shard, user, now, true) {
            return change(slot);
        }
        let fresh = User { expires: now.renewed(), ..User::default() };
        change(shard.insert(user.0, fresh, |slot| slot.expires <= now))
    }
}

impl User {
    /// Whether nothing is left that is worth a slot.
    const fn is_empty(&self) -> bool {
        self.timeline.is_none() && self.relations.is_none() && self.fill.is_none()
    }
}

/// The slot of `user` unless it has expired. A read renews it and keeps it from being evicted.
fn live_user(
    shard: &mut ClockMap<User>,
    user: UserId,
    now: Second,
    read: bool,
) -> Option<&mut User> {
    let slot = if read { shard.get(user.0) } else { shard.peek(user.0) };
    let slot = slot.filter(|slot| slot.expires > now)?;
    if read {
        slot.expires = now.renewed();
    }
    Some(slot)
}

/// Seconds since the runtime was made: coarse, so that a slot stays small.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Second(u32);

impl Second {
    fn of(instant: Instant) -> Self {
        let since_start = instant.since(Instant::default()).as_secs();
        Self(u32::try_from(since_start).unwrap_or(u32::MAX))
    }

    /// When something that is read now expires.
    const fn renewed(self) -> Self {
        Self(self.0.saturating_add(IDLE_TTL.as_secs() as u32))
    }
}
