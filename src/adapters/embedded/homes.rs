//! Durable home timelines in `timeline.db`, and the strategy of the data set.

use async_trait::async_trait;
use futures_util::future::join_all;
use rusqlite::{Connection, params};

use super::sqlite::{Db, Fault, Statements, bound, from_key, key};
use crate::{
    adapters::sql::bounds,
    domain::{Entry, TweetId, UserId, Window, fanout::Strategy, ring::Slice},
    ports::{Chosen, HomeStore, Kind, Outcome, Read, StoreError, home_store::HOMES_MAX},
};

const STORE: &str = "home_store";
/// Rows that are written at once: more are written in pieces that wait for other writers, so that a tweet of
/// somebody whom many follow does not hold up those of others.
const PIECE: usize = 64;

pub(super) const TABLES: &str = "
create table home_timelines (
    user_id integer not null,
    tweet_id integer not null,
    author_id integer not null,
    primary key (user_id, tweet_id)
) without rowid;
create table home_floors (
    user_id integer primary key,
    floor integer not null
);
-- The highest version counts.
create table strategies (
    version integer primary key,
    strategy text not null,
    since integer not null
);
";

/// Home timelines in `timeline.db`.
#[derive(Clone, Debug)]
pub struct SqlHomes(Db);

impl SqlHomes {
    /// The store over `timeline.db`.
    #[must_use]
    pub const fn new(db: Db) -> Self {
        Self(db)
    }
}

/// Puts rows, which are few.
fn put(
    rows: Vec<(UserId, Entry)>,
) -> impl FnOnce(&Connection) -> Result<(), Fault> + Send + 'static {
    move |conn| {
        let sql = "insert or ignore into home_timelines (user_id, tweet_id, author_id)
                   values (?1, ?2, ?3)";
        rows.iter().try_for_each(|(user, Entry { tweet, author })| {
            conn.run(sql, [key(user.0), key(tweet.0), key(author.0)]).map(drop)
        })
    }
}

fn slice(conn: &Connection, user: UserId, window: Window, limit: usize) -> Result<Slice, Fault> {
    let sql = "select floor from home_floors where user_id = ?1";
    let floor = conn.one(sql, [key(user.0)], |row| Ok(row.get::<_, i64>(0)?))?.unwrap_or(0);
    let (above, below, nearest_first) = bounds(window);
    let order = if nearest_first { "asc" } else { "desc" };
    let sql = format!(
        "select tweet_id, author_id from home_timelines
         where user_id = ?1 and tweet_id > ?2 and tweet_id < ?3
         order by tweet_id {order} limit ?4"
    );
    // One more than is asked for tells whether there are more.
    let row = params![key(user.0), above.max(floor), below, bound(limit as u64 + 1)];
    let mut entries = conn.all(&sql, row, |row| {
        let (tweet, author) = (TweetId(from_key(row.get(0)?)), UserId(from_key(row.get(1)?)));
        Ok(Entry { tweet, author })
    })?;
    let exhausted = entries.len() <= limit;
    entries.truncate(limit);
    if nearest_first {
        entries.reverse();
    }
    Ok(Slice { entries, floor: TweetId(from_key(floor)), exhausted })
}

#[async_trait]
impl HomeStore for SqlHomes {
    async fn put_homes(&self, rows: &[(UserId, Entry)]) -> Outcome<()> {
        if rows.len() > HOMES_MAX {
            let why = "more rows than one call may have";
            return Outcome::Failed(StoreError::new(Kind::Unavailable, STORE, why));
        }
        let mut rows = rows.to_vec();
        // In the order of the table.
        rows.sort_unstable();
        if rows.len() <= PIECE {
            return self.0.write(STORE, put(rows)).await;
        }
        let pieces = rows.chunks(PIECE).map(|rows| self.0.write_bulk(STORE, put(rows.to_vec())));
        let ended = join_all(pieces).await;
        // A piece of which nothing is known may be there as well.
        let done = ended.iter().any(|outcome| !matches!(outcome, Outcome::Failed(_)));
        ended.into_iter().find(|outcome| !outcome.is_done()).map_or(Outcome::Done(()), |outcome| {
            match outcome {
                // Some rows are there and some are not.
                Outcome::Failed(error) if done => Outcome::Unknown(error),
                outcome => outcome,
            }
        })
    }

    async fn raise_floor(&self, user: UserId, floor: TweetId) -> Outcome<()> {
        let raise = move |conn: &Connection| {
            let sql = "insert into home_floors (user_id, floor) values (?1, ?2)
                       on conflict (user_id) do update set floor = max(floor, excluded.floor)";
            conn.run(sql, [key(user.0), key(floor.0)]).map(drop)
        };
        self.0.write(STORE, raise).await
    }

    async fn home(&self, user: UserId, window: Window, limit: usize) -> Read<Slice> {
        self.0.read(STORE, move |conn| slice(conn, user, window, limit)).await
    }

    async fn chosen(&self) -> Read<Chosen> {
        let find = |conn: &Connection| {
            let sql = "select version, strategy, since from strategies
                       order by version desc limit 1";
            conn.one(sql, [], |row| {
                let word = row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?;
                let strategy = Strategy::parse(word);
                Ok(Chosen {
                    version: from_key(row.get(0)?),
                    strategy: strategy.ok_or(Fault::Corrupt("strategies.strategy is not one"))?,
                    since: TweetId(from_key(row.get(2)?)),
                })
            })
        };
        Ok(self.0.read(STORE, find).await?.unwrap_or_default())
    }

    async fn choose(&self, chosen: Chosen) -> Outcome<()> {
        let choose = move |conn: &Connection| {
            let Chosen { version, strategy, since } = chosen;
            let sql = "insert or ignore into strategies (version, strategy, since)
                       values (?1, ?2, ?3)";
            conn.run(sql, params![key(version), strategy.as_str(), key(since.0)]).map(drop)
        };
        self.0.write(STORE, choose).await
    }
}
