//! Tweets, authors and relations. Followers are in [`super::followers`].
//!
//! A row is written whole or not at all, and its values follow from its key; or it is a flag that is
//! only ever set to true. So writes may come in any order and any number, late ones too, and neither a
//! version nor a clock of anybody has to decide.
//!
//! An author's `latest` is a row per value, of which the highest is read, because a single value that
//! is overwritten would go back when an older tweet comes late. The rows are as many as the tweets, and
//! a read touches one of them.

use async_trait::async_trait;
use scylla::value::MaybeUnset;

use super::{
    super::endpoint::Endpoint,
    cql::{AuthorColumns, Cql, Work},
    fault::{Fault, Tally},
    followers::BigAuthors,
    migrate::missing,
    open::OpenError,
    years::{self, year_of},
};
use crate::{
    adapters::sql::{bound, bounds, from_key, key},
    config,
    domain::{
        Body, DisplayName, Handle, PairChange, TweetId, TweetText, UserId, Window, fanout::Class,
        relations::Relation,
    },
    ports::{
        AuthorRow, FollowerPage, Outcome, Read, StoredBody, TimelineStore, timeline_store::IDS_MAX,
    },
    rt::Rt,
    wire::{
        events::FollowerCursor,
        media::{from_column, to_column},
    },
};

const STORE: &str = "timeline_store";

/// The timeline store in Cassandra, or in what speaks its language.
#[derive(Debug)]
pub struct CassandraTimelineStore {
    pub(super) cql: Cql,
    pub(super) big: BigAuthors,
}

/// Author, handle, name, text, when, pictures, whether it was deleted.
type BodyColumns = (
    Option<i64>,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<i64>,
    Option<String>,
    Option<bool>,
);
type RelationColumns = (i64, i64, bool, bool, bool);

impl CassandraTimelineStore {
    /// Connects, and prepares all statements. Makes no table: see [`super::migrate`].
    ///
    /// # Errors
    /// [`OpenError`], within the time of a few calls.
    pub async fn open(rt: &Rt, endpoint: &Endpoint<config::Cassandra>) -> Result<Self, OpenError> {
        let config = &endpoint.config;
        let session = super::cql::connect(rt, endpoint).await?;
        let missing = rt.timeout(config.call(), missing(&session, config));
        let missing =
            missing.await.unwrap_or_else(|_| Err(OpenError::silent(config, config.call())))?;
        if !missing.is_empty() {
            return Err(OpenError::Behind { keyspace: config.keyspace.clone(), missing });
        }
        let cql = Cql::new(rt, config, session).await?;
        Ok(Self { cql, big: BigAuthors::new(super::followers::SMALL_MAX) })
    }

    /// As if an author became big after `rows` instead of [`SMALL_MAX`](super::followers::SMALL_MAX).
    #[must_use]
    pub fn with_small_max(mut self, rows: usize) -> Self {
        self.big = BigAuthors::new(rows);
        self
    }

    /// Whether the cluster answers what needs a quorum.
    ///
    /// # Errors
    /// As every read.
    pub async fn ping(&self) -> Read<()> {
        self.cql.ping().await.map_err(|fault| fault.into_error(STORE))
    }

    pub(super) async fn put_body(&self, body: &Body) -> Result<(), Fault> {
        let (id, author) = (key(body.id.0), key(body.author.0));
        let names = (body.handle.as_str(), body.name.as_str(), body.text.as_str());
        // Null would be a tombstone.
        let media = MaybeUnset::from_option(to_column(&body.media));
        let values = (id, author, names.0, names.1, names.2, bound(body.created_at_ms), media);
        self.cql.write(&self.cql.statements.put_body, values).await
    }

    async fn put_place(&self, body: &Body) -> Result<(), Fault> {
        let values = (key(body.author.0), year_of(body.id), key(body.id.0));
        self.cql.write(&self.cql.statements.put_place, values).await
    }

    pub(super) async fn put_latest(&self, author: UserId, id: TweetId) -> Result<(), Fault> {
        self.cql.write(&self.cql.statements.put_latest, (key(author.0), key(id.0))).await
    }

    async fn put_deleted(&self, id: TweetId) -> Result<(), Fault> {
        self.cql.write(&self.cql.statements.put_deleted, (key(id.0),)).await
    }

    async fn put_relation(&self, user: UserId, row: Relation, version: u64) -> Result<(), Fault> {
        let Relation { other, follows, blocked, mutes } = row;
        let values = (key(user.0), key(other.0), key(version), follows, blocked, mutes);
        self.cql.write(&self.cql.statements.put_relation, values).await
    }

    /// One user's copy of a pair: the row about the other, and the row in the other's followers. Who
    /// never followed has none there, so that a fan-out reads followers only; before the first version
    /// nobody did.
    async fn put_side(&self, user: UserId, change: &PairChange) -> Result<(), Fault> {
        let row = Relation::of(user, change.pair, &change.state);
        if !row.is_kept(change.version) {
            return Ok(());
        }
        self.put_relation(user, row, change.version).await?;
        if row.follows || change.version > 1 {
            let put = self.put_follower(row.other, user, change.version, row.follows);
            put.await.map_err(Fault::after_another)?;
        }
        Ok(())
    }

    async fn body(&self, id: TweetId) -> Result<Option<StoredBody>, Fault> {
        let found = self.cql.one::<BodyColumns>(&self.cql.statements.body, (key(id.0),)).await?;
        let Some((author, handle, name, text, created_at_ms, media, deleted)) = found else {
            return Ok(None);
        };
        if deleted == Some(true) {
            return Ok(Some(StoredBody::Deleted));
        }
        let odd = || Fault::corrupt("a row of tweets is neither a tweet nor a deletion");
        let body = Body {
            id,
            author: UserId(from_key(author.ok_or_else(odd)?)),
            handle: handle.and_then(|handle| Handle::parse(&handle).ok()).ok_or_else(odd)?,
            name: name.and_then(|name| DisplayName::parse(&name).ok()).ok_or_else(odd)?,
            text: text.and_then(|text| TweetText::parse(&text).ok()).ok_or_else(odd)?,
            media: from_column(media.as_deref()).ok_or_else(odd)?,
            created_at_ms: from_key(created_at_ms.ok_or_else(odd)?),
        };
        Ok(Some(StoredBody::Live(body)))
    }

    /// The author's row, and whether the author is big.
    pub(super) async fn author(&self, author: UserId) -> Result<(AuthorRow, bool), Fault> {
        let statement = &self.cql.statements.author;
        let found = self.cql.one::<AuthorColumns>(statement, (key(author.0),)).await?;
        let (latest, both, pull, big) = found.unwrap_or_default();
        let class = match (both, pull) {
            (_, Some(true)) => Class::Pull,
            (Some(true), _) => Class::Both,
            _ => Class::Push,
        };
        let big = big == Some(true);
        if big {
            self.big.remember(author);
        }
        Ok((AuthorRow { class, latest: TweetId(latest.map_or(0, from_key)) }, big))
    }

    /// An author's tweets of one year, the first in the order that is asked for.
    async fn of_year(
        &self,
        author: UserId,
        year: i16,
        window: Window,
        limit: usize,
    ) -> Result<Vec<TweetId>, Fault> {
        let (above, below, nearest_first) = bounds(window);
        let statements = &self.cql.statements;
        let statement = if nearest_first { &statements.nearest } else { &statements.newest };
        let limit = i32::try_from(limit).unwrap_or(i32::MAX);
        let values = (key(author.0), year, above, below, limit);
        let rows = self.cql.rows::<(i64,)>(statement, values).await?;
        Ok(rows.into_iter().map(|(id,)| TweetId(from_key(id))).collect())
    }

    /// From the year of the window downwards. The latest tweet is asked for where it says from which
    /// year on there may be any: before the first year, or after one that did not have enough.
    async fn newest(
        &self,
        author: UserId,
        window: Window,
        limit: usize,
    ) -> Result<Vec<TweetId>, Fault> {
        let mut ids = Vec::new();
        let mut year = match window.below() {
            Some(below) => {
                let year = year_of(TweetId(below.0.saturating_sub(1)));
                ids = self.of_year(author, year, window, limit).await?;
                if ids.len() == limit || year == years::FIRST {
                    return Ok(ids);
                }
                year - 1
            }
            None => years::LAST,
        };
        year = year.min(year_of(self.author(author).await?.0.latest));
        while ids.len() < limit && year >= years::FIRST {
            let more = self.of_year(author, year, window, limit - ids.len()).await?;
            ids.extend(more);
            year -= 1;
        }
        Ok(ids)
    }

    /// From the year of `above` up to that of the latest tweet.
    async fn nearest(
        &self,
        author: UserId,
        above: TweetId,
        limit: usize,
    ) -> Result<Vec<TweetId>, Fault> {
        let latest = self.author(author).await?.0.latest;
        let mut ids = Vec::new();
        for year in year_of(TweetId(above.0.saturating_add(1)))..=year_of(latest) {
            if ids.len() == limit {
                break;
            }
            let window = Window::After(above);
            ids.extend(self.of_year(author, year, window, limit - ids.len()).await?);
        }
        ids.reverse();
        Ok(ids)
    }

    /// A user's relations. Of an other's versions the first in the partition counts.
    async fn relations_of(
        &self,
        user: UserId,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<Relation>, Fault> {
        let mut found: Vec<Relation> = Vec::with_capacity(limit);
        let mut from = after.map_or(i64::MIN, |other| key(other.0));
        while found.len() < limit {
            let most = limit - found.len();
            let values = (key(user.0), from, i32::try_from(most).unwrap_or(i32::MAX));
            let rows = self.cql.rows::<RelationColumns>(&self.cql.statements.relations, values);
            let rows = rows.await?;
            let end = rows.len() < most;
            for (other, _, follows, blocked, mutes) in rows {
                if found.last().is_none_or(|last| key(last.other.0) != other) {
                    let other = UserId(from_key(other));
                    found.push(Relation { other, follows, blocked, mutes });
                }
                from = other;
            }
            if end {
                break;
            }
        }
        Ok(found)
    }
}

/// Refuses more ids than a call may have.
fn few<T>(ids: &[T]) -> Read<()> {
    if ids.len() > IDS_MAX {
        return Err(Fault::refused("more ids than one call may have").into_error(STORE));
    }
    Ok(())
}

/// The highest id of each author of `bodies`.
fn latest_of(bodies: &[Body]) -> Vec<(UserId, TweetId)> {
    let mut latest: Vec<_> = bodies.iter().map(|body| (body.author, body.id)).collect();
    latest.sort_unstable_by(|a, b| b.cmp(a));
    latest.dedup_by_key(|(author, _)| *author);
    latest
}

#[async_trait]
impl TimelineStore for CassandraTimelineStore {
    async fn put_tweets(&self, bodies: &[Body]) -> Outcome<()> {
        let mut tally = Tally::default();
        let texts = bodies.iter().map(|body| Box::pin(self.put_body(body)) as Work<'_, ()>);
        self.cql.write_all(&mut tally, texts.collect()).await;
        let places = bodies.iter().map(|body| Box::pin(self.put_place(body)) as Work<'_, ()>);
        self.cql.write_all(&mut tally, places.collect()).await;
        let latest = latest_of(bodies).into_iter();
        let latest = latest.map(|(author, id)| Box::pin(self.put_latest(author, id)) as _);
        self.cql.write_all(&mut tally, latest.collect()).await;
        tally.outcome(STORE)
    }

    async fn delete_tweets(&self, ids: &[TweetId]) -> Outcome<()> {
        let mut tally = Tally::default();
        let deletions = ids.iter().map(|&id| Box::pin(self.put_deleted(id)) as _);
        self.cql.write_all(&mut tally, deletions.collect()).await;
        tally.outcome(STORE)
    }

    async fn bodies(&self, ids: &[TweetId]) -> Read<Vec<Option<StoredBody>>> {
        few(ids)?;
        let reads = ids.iter().map(|&id| Box::pin(self.body(id)) as _).collect();
        self.cql.read_all(reads).await.map_err(|fault| fault.into_error(STORE))
    }

    async fn author_tweets(
        &self,
        author: UserId,
        window: Window,
        limit: usize,
    ) -> Read<Vec<TweetId>> {
        let found = match window {
            Window::Latest | Window::Before(_) => self.newest(author, window, limit).await,
            Window::After(above) => self.nearest(author, above, limit).await,
        };
        found.map_err(|fault| fault.into_error(STORE))
    }

    async fn authors(&self, ids: &[UserId]) -> Read<Vec<AuthorRow>> {
        few(ids)?;
        let reads = ids.iter().map(|&id| Box::pin(self.author(id)) as _).collect();
        let rows = self.cql.read_all(reads).await;
        let rows = rows.map_err(|fault| fault.into_error(STORE))?;
        Ok(rows.into_iter().map(|(row, _)| row).collect())
    }

    async fn set_class(&self, author: UserId, class: Class) -> Outcome<()> {
        let statement = match class {
            // What an author is at first.
            Class::Push => return Outcome::Done(()),
            Class::Both => &self.cql.statements.put_both,
            Class::Pull => &self.cql.statements.put_pull,
        };
        let mut tally = Tally::default();
        tally.add(self.cql.write(statement, (key(author.0),)).await);
        tally.outcome(STORE)
    }

    async fn put_pairs(&self, changes: &[PairChange]) -> Outcome<()> {
        let mut tally = Tally::default();
        let users = changes.iter().flat_map(|c| [(c.pair.low, c), (c.pair.high, c)]);
        let sides = users.map(|(user, change)| Box::pin(self.put_side(user, change)) as _);
        self.cql.write_all(&mut tally, sides.collect()).await;
        tally.outcome(STORE)
    }

    async fn relations(
        &self,
        user: UserId,
        after: Option<UserId>,
        limit: usize,
    ) -> Read<Vec<Relation>> {
        let found = self.relations_of(user, after, limit.clamp(1, IDS_MAX)).await;
        found.map_err(|fault| fault.into_error(STORE))
    }

    async fn followers(
        &self,
        author: UserId,
        buckets: (u16, u16),
        after: Option<FollowerCursor>,
        limit: usize,
    ) -> Read<FollowerPage> {
        let page = self.follower_page(author, buckets, after, limit).await;
        page.map_err(|fault| fault.into_error(STORE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::MediaList;

    #[test]
    fn of_each_author_the_highest_id_counts() {
        let body = |id, author| Body {
            id: TweetId(id),
            author: UserId(author),
            handle: Handle::parse("somebody").unwrap(),
            name: DisplayName::parse("Somebody").unwrap(),
            text: TweetText::parse("text").unwrap(),
            media: MediaList::default(),
            created_at_ms: 5,
        };
        let bodies = [body(3, 1), body(9, 2), body(5, 1), body(4, 1)];
        let expected = vec![(UserId(2), TweetId(9)), (UserId(1), TweetId(5))];
        assert_eq!(latest_of(&bodies), expected);
    }
}
