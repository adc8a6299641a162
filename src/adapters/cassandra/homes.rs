//! Durable home timelines, and the strategy of the data set.
//!
//! A home timeline is a partition per user and year. The newest year that can have entries is that of
//! the day after today, which leaves room for a clock of another node that is ahead; so what this
//! process's clock says may be wrong by a day, and by no more, or new entries stay unseen.

use async_trait::async_trait;

use super::{
    cql::Work,
    fault::{Fault, Tally},
    store::CassandraTimelineStore,
    years::{self, year_of},
};
use crate::{
    adapters::sql::{bounds, from_key, key},
    domain::{Entry, TweetId, UserId, Window, fanout::Strategy, ring::Slice, snowflake::first_at},
    ports::{Chosen, HomeStore, Outcome, Read, home_store::HOMES_MAX},
};

const STORE: &str = "home_store";
const DAY_MS: u64 = 86_400_000;
/// The only partition of choices.
const NAME: &str = "fanout";

impl CassandraTimelineStore {
    async fn put_home(&self, user: UserId, Entry { tweet, author }: Entry) -> Result<(), Fault> {
        let values = (key(user.0), year_of(tweet), key(tweet.0), key(author.0));
        self.cql.write(&self.cql.statements.put_home, values).await
    }

    async fn floor(&self, user: UserId) -> Result<TweetId, Fault> {
        let found = self.cql.one::<(i64,)>(&self.cql.statements.home_floor, (key(user.0),)).await?;
        Ok(found.map_or(TweetId(0), |(floor,)| TweetId(from_key(floor))))
    }

    /// At most `limit` entries of one year, the first in the order that is asked for.
    async fn home_of_year(
        &self,
        user: UserId,
        year: i16,
        (above, below, nearest_first): (i64, i64, bool),
        limit: usize,
    ) -> Result<Vec<Entry>, Fault> {
        let statements = &self.cql.statements;
        let statement =
            if nearest_first { &statements.home_nearest } else { &statements.home_newest };
        let values = (key(user.0), year, above, below, i32::try_from(limit).unwrap_or(i32::MAX));
        let rows = self.cql.rows::<(i64, i64)>(statement, values).await?;
        let entry = |(tweet, author)| Entry {
            tweet: TweetId(from_key(tweet)),
            author: UserId(from_key(author)),
        };
        Ok(rows.into_iter().map(entry).collect())
    }

    async fn home_slice(&self, user: UserId, window: Window, limit: usize) -> Result<Slice, Fault> {
        let floor = self.floor(user).await?;
        let (above, below, nearest_first) = bounds(window);
        let bounds = (above.max(key(floor.0)), below, nearest_first);
        let newest = TweetId(first_at(self.cql.wall_ms() + DAY_MS));
        let last = year_of(window.below().map_or(newest, |bound| bound.min(newest)));
        let first = year_of(TweetId(from_key(bounds.0.max(0)))).max(years::FIRST);
        // One more than is asked for tells whether there are more.
        let most = limit + 1;
        let mut entries = Vec::new();
        let count = usize::try_from(last - first + 1).unwrap_or(0);
        for step in (0..).take(count) {
            let year = if nearest_first { first + step } else { last - step };
            let missing = most - entries.len();
            if missing == 0 {
                break;
            }
            entries.extend(self.home_of_year(user, year, bounds, missing).await?);
        }
        let exhausted = entries.len() <= limit;
        entries.truncate(limit);
        if nearest_first {
            entries.reverse();
        }
        Ok(Slice { entries, floor, exhausted })
    }

    async fn last_choice(&self) -> Result<Chosen, Fault> {
        let statement = &self.cql.statements.strategy;
        let found = self.cql.one::<(i64, String, Option<i64>)>(statement, (NAME,)).await?;
        let Some((version, word, since)) = found else { return Ok(Chosen::default()) };
        let strategy = Strategy::parse(&word);
        Ok(Chosen {
            version: from_key(version),
            strategy: strategy.ok_or_else(|| Fault::corrupt("a strategy that is not one"))?,
            since: TweetId(since.map_or(0, from_key)),
        })
    }
}

#[async_trait]
impl HomeStore for CassandraTimelineStore {
    async fn put_homes(&self, rows: &[(UserId, Entry)]) -> Outcome<()> {
        if rows.len() > HOMES_MAX {
            let fault = Fault::refused("more rows than one call may have");
            return Outcome::Failed(fault.into_error(STORE));
        }
        let mut tally = Tally::default();
        let puts =
            rows.iter().map(|&(user, entry)| Box::pin(self.put_home(user, entry)) as Work<'_, ()>);
        self.cql.write_all(&mut tally, puts.collect()).await;
        tally.outcome(STORE)
    }

    async fn raise_floor(&self, user: UserId, floor: TweetId) -> Outcome<()> {
        let mut tally = Tally::default();
        let values = (key(user.0), key(floor.0));
        tally.add(self.cql.write(&self.cql.statements.put_floor, values).await);
        tally.outcome(STORE)
    }

    async fn home(&self, user: UserId, window: Window, limit: usize) -> Read<Slice> {
        self.home_slice(user, window, limit).await.map_err(|fault| fault.into_error(STORE))
    }

    async fn chosen(&self) -> Read<Chosen> {
        self.last_choice().await.map_err(|fault| fault.into_error(STORE))
    }

    async fn choose(&self, chosen: Chosen) -> Outcome<()> {
        let Chosen { version, strategy, since } = chosen;
        let mut tally = Tally::default();
        let values = (NAME, key(version), strategy.as_str(), key(since.0));
        tally.add(self.cql.write(&self.cql.statements.put_strategy, values).await);
        tally.outcome(STORE)
    }
}
