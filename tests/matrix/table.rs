//! Every fault, and what is expected of the stack while it lasts: written before the run, never after
//! it.

use std::{fmt, time::Duration};

use chirp::wire::routes::Role;

/// What is asked of the stack all the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Post,
    Delete,
    /// Follow, unfollow, block, unblock.
    Edge,
    /// The home timeline of a reader whose timeline is cached.
    WarmHome,
    /// The home timeline of anybody: some must be built first.
    AnyHome,
    AuthorPage,
}

impl Kind {
    pub const ALL: [Self; 6] =
        [Self::Post, Self::Delete, Self::Edge, Self::WarmHome, Self::AnyHome, Self::AuthorPage];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Post => "post",
            Self::Delete => "delete",
            Self::Edge => "edge",
            Self::WarmHome => "warm home",
            Self::AnyHome => "any home",
            Self::AuthorPage => "author",
        }
    }
}

/// A server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    Postgres,
    Redis,
    Cassandra,
    /// SNS and SQS.
    Ministack,
}

/// What is done, and undone after [`Row::lasts`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `docker stop`, which lets the server end by itself, and `docker start`.
    Stopped(Store),
    /// `docker kill`, and `docker start`.
    Killed(Store),
    /// `docker pause`: it keeps what it is told, and answers nothing.
    Frozen(Store),
    /// `docker restart`: as short as it gets.
    Restarted(Store),
    /// `docker network disconnect`.
    Disconnected(Store),
    /// The proxy before it loses every connection without telling either end.
    HalfOpen(Store),
    /// The proxy before it holds everything for so many milliseconds, each way.
    Slow(Store, u64),
    /// Redis has no room, and may not forget.
    Full,
    /// Redis has little room, and forgets what was not used for long.
    Evicting,
    /// Redis forgets everything, again and again.
    Flushed,
    /// Every event since the row began is published again, again and again.
    Duplicated,
    /// SIGKILL to one process of the role; it is started again.
    RoleKilled(Role),
}

/// Who brings back what the fault destroyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heals {
    /// Nobody has to do anything.
    Alone,
    /// The emulator keeps its queues in memory: `chirp replay` publishes again what they held.
    ByReplay,
}

/// One row of the matrix.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    pub fault: Fault,
    pub lasts: Duration,
    /// What must be answered while it lasts (promise 5).
    pub answers: &'static [Kind],
    pub heals: Heals,
}

use Fault::{
    Disconnected, Duplicated, Evicting, Flushed, Frozen, Full, HalfOpen, Killed, Restarted,
    RoleKilled, Slow, Stopped,
};
use Kind::{AnyHome, AuthorPage, Delete, Edge, Post, WarmHome};
use Store::{Cassandra, Ministack, Postgres, Redis};

/// Nothing needs `PostgreSQL` but what is written there: cached timelines are read without it.
const WITHOUT_POSTGRES: &[Kind] = &[WarmHome];
/// Posts are answered as degraded: the author's own list cannot be told.
const WITHOUT_REDIS: &[Kind] = &[Post];
const WITHOUT_CASSANDRA: &[Kind] = &[Post, WarmHome];
const EVERYTHING: &[Kind] = &[Post, Delete, Edge, WarmHome, AnyHome, AuthorPage];
const NOTHING: &[Kind] = &[];

const USUAL: Duration = Duration::from_secs(8);

const fn row(fault: Fault, answers: &'static [Kind]) -> Row {
    Row { fault, lasts: USUAL, answers, heals: Heals::Alone }
}

const fn replay(fault: Fault, answers: &'static [Kind]) -> Row {
    Row { heals: Heals::ByReplay, ..row(fault, answers) }
}

/// The matrix.
pub const ROWS: &[Row] = &[
    row(Stopped(Postgres), WITHOUT_POSTGRES),
    row(Killed(Postgres), WITHOUT_POSTGRES),
    row(Frozen(Postgres), WITHOUT_POSTGRES),
    row(Restarted(Postgres), WITHOUT_POSTGRES),
    row(Disconnected(Postgres), WITHOUT_POSTGRES),
    row(HalfOpen(Postgres), WITHOUT_POSTGRES),
    row(Slow(Postgres, 20), EVERYTHING),
    row(Stopped(Redis), WITHOUT_REDIS),
    row(Killed(Redis), WITHOUT_REDIS),
    row(Frozen(Redis), WITHOUT_REDIS),
    row(Restarted(Redis), WITHOUT_REDIS),
    row(Disconnected(Redis), WITHOUT_REDIS),
    row(HalfOpen(Redis), WITHOUT_REDIS),
    row(Slow(Redis, 20), EVERYTHING),
    row(Full, &[Post, Delete, Edge]),
    row(Evicting, EVERYTHING),
    row(Flushed, EVERYTHING),
    row(Stopped(Cassandra), WITHOUT_CASSANDRA),
    row(Killed(Cassandra), WITHOUT_CASSANDRA),
    row(Frozen(Cassandra), WITHOUT_CASSANDRA),
    row(Restarted(Cassandra), WITHOUT_CASSANDRA),
    row(Disconnected(Cassandra), WITHOUT_CASSANDRA),
    row(HalfOpen(Cassandra), WITHOUT_CASSANDRA),
    row(Slow(Cassandra, 20), EVERYTHING),
    replay(Stopped(Ministack), EVERYTHING),
    replay(Killed(Ministack), EVERYTHING),
    row(Frozen(Ministack), EVERYTHING),
    replay(Restarted(Ministack), EVERYTHING),
    row(Disconnected(Ministack), EVERYTHING),
    row(HalfOpen(Ministack), EVERYTHING),
    // Messages arrive late.
    row(Slow(Ministack, 1_000), EVERYTHING),
    // Everything is slower meanwhile, and rare calls are to be seen too.
    Row { lasts: Duration::from_secs(20), ..row(Duplicated, EVERYTHING) },
    row(RoleKilled(Role::Gateway), NOTHING),
    row(RoleKilled(Role::User), EVERYTHING),
    row(RoleKilled(Role::Tweet), EVERYTHING),
    row(RoleKilled(Role::Timeline), EVERYTHING),
];

/// The rows that have one of `words` in their name; `all` names all of them.
pub fn wanted(words: &[String]) -> Vec<Row> {
    let wants = |row: &Row| words.iter().any(|word| word == "all" || row.name().contains(&**word));
    ROWS.iter().copied().filter(wants).collect()
}

impl Row {
    pub fn name(&self) -> String {
        self.fault.to_string()
    }
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Postgres => "postgres",
            Self::Redis => "redis",
            Self::Cassandra => "cassandra",
            Self::Ministack => "ministack",
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped(store) => write!(f, "{store} stopped"),
            Self::Killed(store) => write!(f, "{store} killed"),
            Self::Frozen(store) => write!(f, "{store} frozen"),
            Self::Restarted(store) => write!(f, "{store} restarted"),
            Self::Disconnected(store) => write!(f, "{store} disconnected"),
            Self::HalfOpen(store) => write!(f, "{store} half open"),
            Self::Slow(store, ms) => write!(f, "{store} slow by {ms} ms"),
            Self::Full => write!(f, "redis full"),
            Self::Evicting => write!(f, "redis evicting"),
            Self::Flushed => write!(f, "redis flushed"),
            Self::Duplicated => write!(f, "messages duplicated"),
            Self::RoleKilled(role) => write!(f, "{role} killed"),
        }
    }
}
