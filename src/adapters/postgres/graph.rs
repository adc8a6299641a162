//! The follow graph: the whole state of each pair, and the counts.
//!
//! A change locks the pair, then the counts of both users, the smaller id first. No change holds
//! counts while it waits for a pair, and counts are taken in one order, so changes never wait in a
//! circle. The counts come last because every follow of a celebrity waits for the same row: it is
//! held for one statement and the commit. Their sum over shards would wait for nothing, and tell of
//! two follows at once the same number, which no later change may ever correct.

use async_trait::async_trait;
use futures_util::FutureExt as _;
use sqlx_core::{query::query, query_as::query_as};
use sqlx_postgres::{PgConnection, Postgres};

use super::{Pg, fault::Fault, outbox, pool::End};
use crate::{
    adapters::sql::{from_key, key},
    domain::{
        Pair, PairChange, PairState, UserId,
        edge::{Blocked, Side},
    },
    ports::{Changed, Counts, EdgeChange, GraphStore, Outcome, Read},
    wire::events::Event,
};

const STORE: &str = "graph";

/// The follow graph in the user database.
#[derive(Clone, Debug)]
pub struct PgGraph(Pg);

impl PgGraph {
    /// The store over the user database.
    #[must_use]
    pub const fn new(db: Pg) -> Self {
        Self(db)
    }
}

type PairRow = (i64, bool, bool, bool, bool, bool, bool);

macro_rules! find_pair {
    ($lock:literal) => {
        concat!(
            "select version, low_follows, low_blocks, low_mutes,
                high_follows, high_blocks, high_mutes
            from edges where low = $1 and high = $2 ",
            $lock
        )
    };
}

async fn find(
    conn: &mut PgConnection,
    sql: &'static str,
    pair: Pair,
) -> Result<Option<PairChange>, Fault> {
    let found = query_as::<Postgres, PairRow>(sql).bind(key(pair.low.0)).bind(key(pair.high.0));
    let found = found.fetch_optional(conn).await?;
    Ok(found.map(|row| {
        let low = Side { follows: row.1, blocks: row.2, mutes: row.3 };
        let high = Side { follows: row.4, blocks: row.5, mutes: row.6 };
        PairChange { pair, version: from_key(row.0), state: PairState { low, high } }
    }))
}

/// The pair as it is, and nobody else changes it until the transaction ends. A pair that nothing
/// happened to gets its row, with version 0: there is nothing else to lock.
async fn locked(conn: &mut PgConnection, pair: Pair) -> Result<PairChange, Fault> {
    const FIND: &str = find_pair!("for update");
    if let Some(found) = find(conn, FIND, pair).await? {
        return Ok(found);
    }
    let sql = "insert into edges (low, high) values ($1, $2) on conflict (low, high) do nothing";
    let new = query::<Postgres>(sql).bind(key(pair.low.0)).bind(key(pair.high.0));
    new.execute(&mut *conn).await?;
    find(conn, FIND, pair).await?.ok_or(Fault::Corrupt("a pair was deleted"))
}

async fn followers(conn: &mut PgConnection, pair: Pair) -> Result<(u64, u64), Fault> {
    let sql = "
        select coalesce((select followers from counts where user_id = $1), 0),
            coalesce((select followers from counts where user_id = $2), 0)";
    let counts = query_as::<Postgres, (i64, i64)>(sql);
    let counts = counts.bind(key(pair.low.0)).bind(key(pair.high.0)).fetch_one(conn).await?;
    Ok((from_key(counts.0), from_key(counts.1)))
}

/// Writes the pair and moves the counts; the followers of both.
async fn write(
    conn: &mut PgConnection,
    before: PairState,
    now: &PairChange,
) -> Result<(u64, u64), Fault> {
    let PairChange { pair, version, state: PairState { low, high } } = now;
    let sql = "
        update edges set version = $3,
            low_follows = $4, low_blocks = $5, low_mutes = $6,
            high_follows = $7, high_blocks = $8, high_mutes = $9
        where low = $1 and high = $2";
    let edge = query::<Postgres>(sql).bind(key(pair.low.0)).bind(key(pair.high.0));
    let edge = edge.bind(key(*version)).bind(low.follows).bind(low.blocks).bind(low.mutes);
    let edge = edge.bind(high.follows).bind(high.blocks).bind(high.mutes);
    edge.execute(&mut *conn).await?;
    let by = |was: bool, is: bool| i64::from(is) - i64::from(was);
    let forth = by(before.low.follows, low.follows);
    let back = by(before.high.follows, high.follows);
    if (forth, back) == (0, 0) {
        return followers(conn, *pair).await;
    }
    // One row after the other, the smaller id first.
    let sql = "
        insert into counts (user_id, followers, following) values ($1, $2, $3), ($4, $3, $2)
        on conflict (user_id) do update set
            followers = counts.followers + excluded.followers,
            following = counts.following + excluded.following
        returning user_id, followers";
    let counts = query_as::<Postgres, (i64, i64)>(sql);
    let counts = counts.bind(key(pair.low.0)).bind(back).bind(forth).bind(key(pair.high.0));
    let counts = counts.fetch_all(conn).await?;
    let of = |user: UserId| {
        let row = counts.iter().find(|row| row.0 == key(user.0));
        let followers = row.and_then(|row| u64::try_from(row.1).ok());
        followers.ok_or(Fault::Corrupt("counts.followers is below zero"))
    };
    Ok((of(pair.low)?, of(pair.high)?))
}

async fn change(
    conn: &mut PgConnection,
    asked: &EdgeChange,
) -> Result<End<Result<Changed, Blocked>>, Fault> {
    let pair = Pair::new(asked.actor, asked.target)
        .ok_or(Fault::Refused("a user has no edge to themselves"))?;
    let before = locked(conn, pair).await?;
    let Ok(state) = before.state.apply(pair, asked.actor, asked.change) else {
        return Ok(End::Undo(Err(Blocked)));
    };
    if state == before.state {
        let (low_followers, high_followers) = followers(conn, pair).await?;
        let changed = Changed { now: before, fresh: false, low_followers, high_followers };
        return Ok(End::Undo(Ok(changed)));
    }
    let now = PairChange { pair, version: before.version + 1, state };
    let (low_followers, high_followers) = write(conn, before.state, &now).await?;
    let trace = asked.trace.clone();
    let event = Event::graph_changed(&now, low_followers, high_followers, asked.at_ms, trace);
    outbox::add(conn, &event).await?;
    Ok(End::Commit(Ok(Changed { now, fresh: true, low_followers, high_followers })))
}

async fn counts(conn: &mut PgConnection, user: UserId) -> Result<Counts, Fault> {
    let sql = "select followers, following from counts where user_id = $1";
    let found =
        query_as::<Postgres, (i64, i64)>(sql).bind(key(user.0)).fetch_optional(conn).await?;
    let (followers, following) = found.unwrap_or_default();
    Ok(Counts { followers: from_key(followers), following: from_key(following) })
}

async fn pair(conn: &mut PgConnection, pair: Pair) -> Result<PairState, Fault> {
    let found = find(conn, find_pair!(""), pair).await?;
    Ok(found.map(|found| found.state).unwrap_or_default())
}

#[async_trait]
impl GraphStore for PgGraph {
    async fn change(&self, asked: &EdgeChange) -> Outcome<Result<Changed, Blocked>> {
        self.0.write(STORE, asked, |conn, asked| change(conn, asked).boxed()).await
    }

    async fn pair(&self, a: UserId, b: UserId) -> Read<PairState> {
        let Some(asked) = Pair::new(a, b) else { return Ok(PairState::default()) };
        self.0.read(STORE, &asked, |conn, asked| pair(conn, *asked).boxed()).await
    }

    async fn counts(&self, user: UserId) -> Read<Counts> {
        self.0.read(STORE, &user, |conn, user| counts(conn, *user).boxed()).await
    }
}
