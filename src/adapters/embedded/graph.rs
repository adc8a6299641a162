//! The follow graph in `user.db`: the whole state of each pair, and the counts.

use async_trait::async_trait;
use rusqlite::{Connection, Row, params};

use super::{
    outbox,
    sqlite::{Db, Fault, Statements, from_key, key},
};
use crate::{
    domain::{
        Pair, PairChange, PairState, UserId,
        edge::{Blocked, Side},
        fanout::bucket_of,
    },
    ports::{Changed, Counts, EdgeChange, GraphStore, Outcome, Read},
    wire::events::Event,
};

const STORE: &str = "graph";
/// A count is the sum of this many rows, so that in a store with row locks no follow waits for the
/// other follows of the same user.
const SHARDS: u16 = 16;

pub(super) const TABLES: &str = "
-- Never deleted: the version of a pair must only increase.
create table edges (
    low integer not null,
    high integer not null,
    version integer not null,
    low_follows integer not null,
    low_blocks integer not null,
    low_mutes integer not null,
    high_follows integer not null,
    high_blocks integer not null,
    high_mutes integer not null,
    primary key (low, high)
) without rowid;
create table counts (
    user_id integer not null,
    kind text not null,
    shard integer not null,
    n integer not null,
    primary key (user_id, kind, shard)
) without rowid;
";

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Count {
    Followers,
    Following,
}

impl Count {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Followers => "followers",
            Self::Following => "following",
        }
    }
}

/// The follow graph in `user.db`.
#[derive(Clone, Debug)]
pub struct SqlGraph(Db);

impl SqlGraph {
    /// The store over `user.db`.
    #[must_use]
    pub const fn new(db: Db) -> Self {
        Self(db)
    }
}

/// The pair as it is; version 0 and the default state if nothing ever happened.
pub(super) fn pair_now(conn: &Connection, pair: Pair) -> Result<PairChange, Fault> {
    let sql = "
        select version, low_follows, low_blocks, low_mutes, high_follows, high_blocks, high_mutes
        from edges where low = ?1 and high = ?2";
    let side = |row: &Row<'_>, at: usize| -> rusqlite::Result<Side> {
        Ok(Side { follows: row.get(at)?, blocks: row.get(at + 1)?, mutes: row.get(at + 2)? })
    };
    let found = conn.one(sql, [key(pair.low.0), key(pair.high.0)], |row| {
        let state = PairState { low: side(row, 1)?, high: side(row, 4)? };
        Ok(PairChange { pair, version: from_key(row.get(0)?), state })
    })?;
    Ok(found.unwrap_or(PairChange { pair, version: 0, state: PairState::default() }))
}

macro_rules! insert_pair {
    ($or:literal) => {
        concat!(
            "insert into edges (
                low, high, version,
                low_follows, low_blocks, low_mutes, high_follows, high_blocks, high_mutes
            ) values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
            on conflict (low, high) ",
            $or
        )
    };
}

/// Writes a pair that nothing happened to so far; `false` if something did.
pub(super) fn put_new_pair(conn: &Connection, change: &PairChange) -> Result<bool, Fault> {
    put(conn, insert_pair!("do nothing"), change)
}

/// Writes a pair whose version is above the stored one.
pub(super) fn put_pair(conn: &Connection, change: &PairChange) -> Result<bool, Fault> {
    let sql = insert_pair!(
        "do update set
            version = excluded.version,
            low_follows = excluded.low_follows,
            low_blocks = excluded.low_blocks,
            low_mutes = excluded.low_mutes,
            high_follows = excluded.high_follows,
            high_blocks = excluded.high_blocks,
            high_mutes = excluded.high_mutes
        where excluded.version > edges.version"
    );
    put(conn, sql, change)
}

fn put(conn: &Connection, sql: &str, change: &PairChange) -> Result<bool, Fault> {
    let PairChange { pair, version, state: PairState { low, high } } = change;
    let (key_low, key_high, version) = (key(pair.low.0), key(pair.high.0), key(*version));
    #[rustfmt::skip]
    let row = params![
        key_low, key_high, version,
        low.follows, low.blocks, low.mutes, high.follows, high.blocks, high.mutes,
    ];
    Ok(conn.run(sql, row)? == 1)
}

/// Adds `by` to one of the shards of a count; `other` chooses which.
pub(super) fn add_count(
    conn: &Connection,
    user: UserId,
    count: Count,
    other: UserId,
    by: i64,
) -> Result<(), Fault> {
    let sql = "
        insert into counts (user_id, kind, shard, n) values (?1, ?2, ?3, ?4)
        on conflict (user_id, kind, shard) do update set n = counts.n + excluded.n";
    let shard = bucket_of(other) % SHARDS;
    conn.run(sql, params![key(user.0), count.as_str(), shard, by])?;
    Ok(())
}

fn sum(conn: &Connection, user: UserId, count: Count) -> Result<u64, Fault> {
    let sql = "select coalesce(sum(n), 0) from counts where user_id = ?1 and kind = ?2";
    let sum = conn.one(sql, params![key(user.0), count.as_str()], |row| Ok(row.get(0)?))?;
    u64::try_from(sum.unwrap_or(0_i64)).map_err(|_| Fault::Corrupt("counts.n is below zero"))
}

/// How the counts move when the pair goes from `before` to `after`: user, kind, other, by.
pub(super) fn count_moves(
    pair: Pair,
    before: PairState,
    after: PairState,
) -> impl Iterator<Item = (UserId, Count, UserId, i64)> {
    let Pair { low, high } = pair;
    let by = |was: bool, is: bool| i64::from(is) - i64::from(was);
    let forth = by(before.low.follows, after.low.follows);
    let back = by(before.high.follows, after.high.follows);
    [
        (low, Count::Following, high, forth),
        (high, Count::Followers, low, forth),
        (high, Count::Following, low, back),
        (low, Count::Followers, high, back),
    ]
    .into_iter()
    .filter(|move_| move_.3 != 0)
}

fn apply(conn: &Connection, asked: &EdgeChange) -> Result<Result<Changed, Blocked>, Fault> {
    let pair = Pair::new(asked.actor, asked.target)
        .ok_or(Fault::Refused("a user has no edge to themselves"))?;
    let before = pair_now(conn, pair)?;
    let Ok(state) = before.state.apply(pair, asked.actor, asked.change) else {
        return Ok(Err(Blocked));
    };
    let fresh = state != before.state;
    let now = if fresh { PairChange { pair, version: before.version + 1, state } } else { before };
    if fresh {
        put_pair(conn, &now)?;
        for (user, count, other, by) in count_moves(pair, before.state, state) {
            add_count(conn, user, count, other, by)?;
        }
    }
    let low_followers = sum(conn, pair.low, Count::Followers)?;
    let high_followers = sum(conn, pair.high, Count::Followers)?;
    if fresh {
        let trace = asked.trace.clone();
        let event = Event::graph_changed(&now, low_followers, high_followers, asked.at_ms, trace);
        outbox::add(conn, &event)?;
    }
    Ok(Ok(Changed { now, fresh, low_followers, high_followers }))
}

#[async_trait]
impl GraphStore for SqlGraph {
    async fn change(&self, change: &EdgeChange) -> Outcome<Result<Changed, Blocked>> {
        let change = change.clone();
        self.0.write(STORE, move |conn| apply(conn, &change)).await
    }

    async fn pair(&self, a: UserId, b: UserId) -> Read<PairState> {
        let Some(pair) = Pair::new(a, b) else { return Ok(PairState::default()) };
        self.0.read(STORE, move |conn| Ok(pair_now(conn, pair)?.state)).await
    }

    async fn counts(&self, user: UserId) -> Read<Counts> {
        let counts = move |conn: &Connection| {
            let followers = sum(conn, user, Count::Followers)?;
            Ok(Counts { followers, following: sum(conn, user, Count::Following)? })
        };
        self.0.read(STORE, counts).await
    }
}
