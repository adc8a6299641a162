//! The caches: one memory, its replica, and what becomes of writes when the replica takes over.
//!
//! Every write is stamped with the moment at which the replica will have it, in the order of
//! writes. A failover undoes, newest first, what the replica does not have yet. A call is done only
//! after its stamp (the fence and `WAIT` of a real server), whether it changed anything or not; if
//! the memory was lost meanwhile it is unknown.

mod bodies;
mod relations;
mod timelines;

use std::{
    collections::{BTreeMap, VecDeque},
    fmt::Debug,
    sync::Arc,
};

use rand::Rng as _;
use rand_pcg::Pcg64;

pub(super) use self::{bodies::SimBodies, relations::SimRelations, timelines::SimTimelines};
use super::{
    Knobs, State,
    link::{Chance, Link},
};
use crate::{
    domain::{Relations, Ring, Token, TweetId, UserId},
    ports::{Kind, ListKey, Outcome, Read},
    sim::seed::Seed,
};

/// Names one value of the caches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CacheKey {
    /// A home timeline.
    Home(UserId),
    /// The recent tweets of a pulled author.
    Author(UserId),
    /// A reader's relations.
    Relations(UserId),
    /// The body of a tweet.
    Body(TweetId),
}

impl From<ListKey> for CacheKey {
    fn from(key: ListKey) -> Self {
        match key {
            ListKey::Home(user) => Self::Home(user),
            ListKey::Author(author) => Self::Author(author),
        }
    }
}

#[derive(Clone)]
enum Value {
    List(Ring),
    Relations { value: Option<Arc<Relations>>, fill: Option<Token> },
    Body(bodies::Slot),
}

/// What a value was before a write that the replica has from `at_ms` on.
struct Undo {
    at_ms: u64,
    key: CacheKey,
    before: Option<Value>,
}

/// When a write is safe, and in which memory.
#[derive(Clone, Copy, Debug)]
struct Stamp {
    at_ms: u64,
    epoch: u64,
}

/// The primary's memory, and how far the replica is behind.
pub(super) struct Memory {
    values: BTreeMap<CacheKey, Value>,
    journal: VecDeque<Undo>,
    stamp_ms: u64,
    epoch: u64,
    tokens: Pcg64,
    entries_max: usize,
}

impl Default for Memory {
    fn default() -> Self {
        Self::new(Seed(0), &Knobs::calm())
    }
}

impl Memory {
    pub(super) fn new(seed: Seed, knobs: &Knobs) -> Self {
        Self {
            values: BTreeMap::new(),
            journal: VecDeque::new(),
            stamp_ms: 0,
            epoch: 0,
            tokens: seed.stream("cache/token", 0),
            entries_max: knobs.entries_max,
        }
    }

    /// Loses everything, the replica too.
    pub(super) fn wipe(&mut self) {
        self.values.clear();
        self.journal.clear();
        self.epoch += 1;
    }

    /// The replica takes over, with what it has at `now`.
    pub(super) fn fail_over(&mut self, now: u64) {
        while let Some(undo) = self.journal.pop_back_if(|undo| undo.at_ms > now) {
            match undo.before {
                Some(value) => self.values.insert(undo.key, value),
                None => self.values.remove(&undo.key),
            };
        }
        self.journal.clear();
        self.stamp_ms = now;
        self.epoch += 1;
    }

    /// Drops one value, as a server short of memory does.
    pub(super) fn evict(&mut self, key: CacheKey) {
        self.remove(key);
    }

    fn evict_any(&mut self, size: u64) {
        let key = self.values.keys().nth(size as usize % self.values.len().max(1)).copied();
        if let Some(key) = key {
            self.evict(key);
        }
    }

    /// Writes from here on reach the replica `lag_ms` from now, or when the write before them does.
    fn stamp(&mut self, now: u64, lag_ms: u64) -> Stamp {
        while self.journal.pop_front_if(|undo| undo.at_ms <= now).is_some() {}
        self.stamp_ms = self.stamp_ms.max(now + lag_ms);
        Stamp { at_ms: self.stamp_ms, epoch: self.epoch }
    }

    fn get(&self, key: CacheKey) -> Option<&Value> {
        self.values.get(&key)
    }

    /// The value, about to be changed.
    fn get_mut(&mut self, key: CacheKey) -> Option<&mut Value> {
        let value = self.values.get_mut(&key)?;
        let before = Some(value.clone());
        self.journal.push_back(Undo { at_ms: self.stamp_ms, key, before });
        Some(value)
    }

    fn insert(&mut self, key: CacheKey, value: Value) {
        let before = self.values.insert(key, value);
        self.journal.push_back(Undo { at_ms: self.stamp_ms, key, before });
    }

    fn remove(&mut self, key: CacheKey) {
        if let Some(before) = self.values.remove(&key) {
            self.journal.push_back(Undo { at_ms: self.stamp_ms, key, before: Some(before) });
        }
    }

    fn token(&mut self) -> Token {
        Token(self.tokens.next_u64().max(1))
    }
}

impl Link {
    fn lag_ms(&self) -> u64 {
        self.draw(Chance::Lag) % (self.world.knobs().lag_ms + 1)
    }

    /// Evicts something now and then.
    fn wear(&self) {
        if let Some(size) = self.hit(Chance::Evict, self.world.knobs().evict) {
            self.note("evict", size);
            self.world.with(|state, _| state.cache.evict_any(size));
        }
    }

    /// A read of the caches; it may leave marks, which are not waited for.
    async fn look<T: Debug>(
        &self,
        op: &'static str,
        args: impl Debug + Send,
        look: impl FnOnce(&mut Memory, u64) -> T + Send,
    ) -> Read<T> {
        self.wear();
        let lag_ms = self.lag_ms();
        let look = move |state: &mut State, now| {
            state.cache.stamp(now, lag_ms);
            Ok(look(&mut state.cache, now))
        };
        self.read(op, args, look).await
    }

    /// A write that is done when no failover can undo it any more.
    async fn fenced<T: Debug + Send + 'static>(
        &self,
        op: &'static str,
        args: impl Debug + Send,
        apply: impl FnOnce(&mut Memory, u64) -> T + Send + 'static,
    ) -> Outcome<T> {
        self.wear();
        let lag_ms = self.lag_ms();
        let step = move |state: &mut State, now| {
            let stamp = state.cache.stamp(now, lag_ms);
            Ok((apply(&mut state.cache, now), stamp))
        };
        let (value, stamp) = match self.write(op, args, step).await {
            Outcome::Done(done) => done,
            Outcome::Failed(error) => return Outcome::Failed(error),
            Outcome::Unknown(error) => return Outcome::Unknown(error),
        };
        self.pause(stamp.at_ms.saturating_sub(self.world.now_ms())).await;
        let epoch = self.world.with(|state, _| state.cache.epoch);
        if epoch == stamp.epoch && self.reachable() {
            return Outcome::Done(value);
        }
        self.note(op, "not confirmed by the replica");
        Outcome::Unknown(self.error(Kind::Timeout, "not confirmed by the replica"))
    }
}
