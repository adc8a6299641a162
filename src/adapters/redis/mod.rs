//! The shared caches, rate limits and hints on Redis 7: one server, or a cluster.
//!
//! [`Redis`] is the way there: `router` brings commands to the servers that hold their keys, `node`
//! keeps the connections to one server, `fault` says what an error means for a write. On it stand
//! [`RedisCache`] (`timelines`, `relations`, `bodies`), [`RedisLimiter`] and [`RedisHints`].
//!
//! Keys are `{namespace}:{kind}:{id}` with the id in braces, so that what belongs to one user lies on
//! one server and a page is one script. Every other script has one key: the followers of an author
//! are spread over all slots, and grouping them would batch nothing.
//!
//! | key | value | lives |
//! |---|---|---|
//! | `tl:{user}`, `at:{author}` | the bytes of [`crate::domain::Ring`] | while filled [`FILL_LEASE`], then [`IDLE_TTL`] after the last read |
//! | `rel:{user}` | header with the token of a fill, then three lists of ids | the same |
//! | `tw:{tweet}` | `F` and a token, `L` and the body, or `D` | [`BODY_LEASE`]; [`BODY_TTL`] |
//! | `limit:{name:key}` | when the full burst is there again | until then |
//! | `fence:{id}` | nothing | 1 s |
//! | `hints` | who listened last | 5 s |
//!
//! Servers should evict the least recently used key (`maxmemory-policy allkeys-lru`); the protocol in
//! [`crate::ports::cache`] allows it. A write is done when [`crate::config::Redis::wait_replicas`] of
//! its server have it. Every call ends within the timeouts of its configuration, however many servers
//! it needs: a server that did not answer in time is not asked again by the same call.

mod bodies;
mod fault;
mod forget;
mod hints;
mod limiter;
mod node;
mod relations;
mod router;
mod scripts;
mod slots;
mod timelines;

use std::{fmt::Display, sync::Arc, time::Duration};

use redis::Value;

use self::{
    fault::{Fault, all_read, all_written},
    node::{Call, Door, Purpose},
    router::Router,
};
pub use self::{hints::RedisHints, limiter::RedisLimiter};
use super::endpoint::Endpoint;
use crate::{
    config,
    domain::{Token, ring::CAPACITY_MAX},
    ports::{Outcome, Read},
    rt::Rt,
};

/// What is cached of a user or a pulled author is dropped when it was not read for this long: the
/// reader has left, and need not be written for. As in the embedded cache.
pub const IDLE_TTL: Duration = Duration::from_hours(30 * 24);
/// A read renews the time to live when this much of it has gone: a write for each read would go to
/// the replicas.
pub const RENEWED_AFTER: Duration = Duration::from_hours(1);
/// A fill of a list or of relations that has not ended after this long is void: far above a read of
/// the largest timeline from a store in trouble, and what a dead filler leaves costs 1 kB as long.
pub const FILL_LEASE: Duration = Duration::from_mins(1);
/// A fill of a body that has not ended after this long is void, and the next reader may fill: far
/// above a read of the store, far below what a hot tweet could bear without a cache.
pub const BODY_LEASE: Duration = Duration::from_secs(1);
/// Bodies and tombstones are kept so long after they were filled: older tweets are read rarely. A
/// reader who comes after a tombstone has gone fills from the store, which has the deletion.
pub const BODY_TTL: Duration = Duration::from_hours(7 * 24);

/// The way to the servers. Connections are made when they are needed.
pub struct Redis {
    rt: Rt,
    config: Arc<config::Redis>,
    door: Arc<Door>,
    router: Router,
}

impl Redis {
    /// Nothing is asked of a server yet.
    #[must_use]
    pub fn new(rt: Rt, endpoint: Endpoint<config::Redis>) -> Arc<Self> {
        let config = Arc::clone(&endpoint.config);
        let door = Arc::new(Door::new(&rt, endpoint));
        let router = Router::new(rt.clone(), Arc::clone(&door));
        Arc::new(Self { rt, config, door, router })
    }

    /// Asks a server whether it is there.
    pub async fn ping(&self) -> Read<()> {
        let call = Call::new(self.key("ping", "ping"), redis::cmd("PING"));
        self.read("redis", &[call]).await.map(drop)
    }

    fn key(&self, kind: &str, id: impl Display) -> String {
        format!("{}:{kind}:{{{id}}}", self.config.namespace)
    }

    fn token(&self) -> Token {
        Token(self.rt.random_u64().max(1))
    }

    async fn answers(&self, purpose: Purpose, calls: &[Call]) -> Vec<Result<Value, Fault>> {
        self.router.run(purpose, calls).await
    }

    async fn read(&self, store: &'static str, calls: &[Call]) -> Read<Vec<Value>> {
        all_read(store, self.answers(Purpose::Read, calls).await)
    }

    async fn write(&self, store: &'static str, calls: &[Call]) -> Outcome<Vec<Value>> {
        all_written(store, self.answers(Purpose::Write, calls).await)
    }
}

/// Home timelines, author lists, relations and bodies.
pub struct RedisCache {
    redis: Arc<Redis>,
    entries_max: usize,
}

impl RedisCache {
    /// `entries_max`: the most entries of a list, 1 to [`CAPACITY_MAX`].
    #[must_use]
    pub fn new(redis: Arc<Redis>, entries_max: usize) -> Self {
        Self { redis, entries_max: entries_max.clamp(1, CAPACITY_MAX) }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Takes the answers of one command.
fn only(values: Vec<Value>) -> Value {
    values.into_iter().next().unwrap_or_default()
}
