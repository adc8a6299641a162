//! `tweet.db`: tweets, their idempotency keys and their outbox.

use async_trait::async_trait;
use rusqlite::{Connection, Row, params};

use super::{
    media, outbox,
    sqlite::{Db, Fault, Schema, Statements, bound, from_key, key},
};
use crate::{
    adapters::sql::bounds,
    domain::{Body, DisplayName, Handle, TweetId, TweetText, UserId, Window},
    ports::{
        Created, Deleted, IdempotencyKey, NewTweet, Outcome, Read, TweetStore,
        tweets::{KEY_TTL_MS, KEYS_SWEPT},
    },
    wire::{
        events::{Event, Fact},
        media::to_column,
        trace::TraceContext,
    },
};

const STORE: &str = "tweets";

const TABLES: &str = "
-- Never deleted: a deletion is a mark.
create table tweets (
    id integer primary key,
    author_id integer not null,
    handle text not null,
    name text not null,
    text text not null,
    created_at_ms integer not null,
    deleted_at_ms integer
);
create index tweets_author on tweets (author_id, id);
create table idempotency (
    author_id integer not null,
    key text not null,
    body_hash blob not null,
    tweet_id integer not null,
    created_at_ms integer not null,
    primary key (author_id, key)
) without rowid;
create index idempotency_created on idempotency (created_at_ms);
";

/// What `tweet.db` must be.
#[must_use]
pub const fn schema() -> Schema {
    /// The tables of version 1. What is written is never changed: a later version is another step.
    const STEPS: &[&[&str]] = &[&[TABLES, outbox::TABLES], &[media::COLUMN, media::TABLES]];
    Schema { name: "tweet", application_id: 0x6368_5274, steps: STEPS }
}

/// Tweets in `tweet.db`.
#[derive(Clone, Debug)]
pub struct SqlTweets(Db);

impl SqlTweets {
    /// The store over `tweet.db`.
    #[must_use]
    pub const fn new(db: Db) -> Self {
        Self(db)
    }
}

/// Reads a body out of the columns id, author, handle, name, text, created, media.
pub(super) fn body(row: &Row<'_>) -> Result<Body, Fault> {
    let text_of = |at: usize| row.get_ref(at)?.as_str().map_err(rusqlite::Error::from);
    let handle = Handle::parse(text_of(2)?);
    let name = DisplayName::parse(text_of(3)?);
    let text = TweetText::parse(text_of(4)?);
    Ok(Body {
        id: TweetId(from_key(row.get(0)?)),
        author: UserId(from_key(row.get(1)?)),
        handle: handle.map_err(|_| Fault::Corrupt("tweets.handle is not a handle"))?,
        name: name.map_err(|_| Fault::Corrupt("tweets.name is not a name"))?,
        text: text.map_err(|_| Fault::Corrupt("tweets.text is not a text"))?,
        created_at_ms: from_key(row.get(5)?),
        media: media::list(row, 6)?,
    })
}

/// What an earlier call with the same key did, if it is not too old.
fn earlier(
    conn: &Connection,
    author: UserId,
    asked: &IdempotencyKey,
    now_ms: u64,
) -> Result<Option<Created>, Fault> {
    let sql = "
        select id, tweets.author_id, handle, name, text, tweets.created_at_ms, media, body_hash
        from idempotency join tweets on id = tweet_id
        where idempotency.author_id = ?1 and key = ?2 and idempotency.created_at_ms > ?3";
    let oldest = bound(now_ms) - bound(KEY_TTL_MS);
    conn.one(sql, params![key(author.0), asked.key, oldest], |row| {
        if row.get::<_, [u8; 32]>(7)? == asked.body_hash {
            Ok(Created::Replay(body(row)?))
        } else {
            Ok(Created::KeyReused)
        }
    })
}

fn remember(conn: &Connection, asked: &IdempotencyKey, body: &Body) -> Result<(), Fault> {
    let sql = "
        insert into idempotency (author_id, key, body_hash, tweet_id, created_at_ms)
        values (?1, ?2, ?3, ?4, ?5)
        on conflict (author_id, key) do update set
            body_hash = excluded.body_hash,
            tweet_id = excluded.tweet_id,
            created_at_ms = excluded.created_at_ms";
    let (author, tweet, at) = (key(body.author.0), key(body.id.0), bound(body.created_at_ms));
    conn.run(sql, params![author, asked.key, asked.body_hash, tweet, at])?;
    let sql = "
        delete from idempotency where (author_id, key) in (
            select author_id, key from idempotency
            where created_at_ms <= ?1 order by created_at_ms limit ?2
        )";
    conn.run(sql, [at - bound(KEY_TTL_MS), KEYS_SWEPT])?;
    Ok(())
}

/// The larger of the candidate and the id above the author's last. The single writer is the lock.
fn above_last(conn: &Connection, body: &Body) -> Result<TweetId, Fault> {
    let sql = "select max(id) from tweets where author_id = ?1";
    let last: Option<i64> = conn.one(sql, [key(body.author.0)], |row| Ok(row.get(0)?))?.flatten();
    Ok(last.map_or(body.id, |last| body.id.max(TweetId(from_key(last) + 1))))
}

/// The statements of [`TweetStore::create`], inside the caller's transaction.
pub fn insert(conn: &Connection, tweet: &NewTweet) -> Result<Created, Fault> {
    let author = tweet.body.author;
    if let Some(asked) = &tweet.key
        && let Some(created) = earlier(conn, author, asked, tweet.body.created_at_ms)?
    {
        return Ok(created);
    }
    let media = match media::take(conn, tweet)? {
        Ok(media) => media,
        Err((id, why)) => return Ok(Created::Unfit(id, why)),
    };
    let body = Body { id: above_last(conn, &tweet.body)?, media, ..tweet.body.clone() };
    let sql = "
        insert into tweets (id, author_id, handle, name, text, created_at_ms, media)
        values (?1, ?2, ?3, ?4, ?5, ?6, ?7)
        on conflict (id) do nothing";
    let (handle, name, text) = (body.handle.as_str(), body.name.as_str(), body.text.as_str());
    let (at, media) = (bound(body.created_at_ms), to_column(&body.media));
    if conn.run(sql, params![key(body.id.0), key(author.0), handle, name, text, at, media])? == 0 {
        return Ok(Created::IdTaken);
    }
    media::give(conn, &body)?;
    outbox::add(conn, &Event::tweet_created(&body, tweet.trace.clone()))?;
    if let Some(asked) = &tweet.key {
        remember(conn, asked, &body)?;
    }
    Ok(Created::Fresh(body))
}

fn mark_deleted(
    conn: &Connection,
    author: UserId,
    id: TweetId,
    now_ms: u64,
    trace: Option<TraceContext>,
) -> Result<Deleted, Fault> {
    let sql = "select author_id, deleted_at_ms is not null from tweets where id = ?1";
    let found = conn
        .one(sql, [key(id.0)], |row| Ok((UserId(from_key(row.get(0)?)), row.get::<_, bool>(1)?)))?;
    match found {
        None => Ok(Deleted::Missing),
        Some((owner, _)) if owner != author => Ok(Deleted::NotOwner),
        Some((_, true)) => Ok(Deleted::Gone { fresh: false }),
        Some((_, false)) => {
            let sql = "update tweets set deleted_at_ms = ?2 where id = ?1";
            conn.run(sql, params![key(id.0), bound(now_ms)])?;
            let sql = "update media set due_at_ms = ?2 where tweet_id = ?1";
            conn.run(sql, params![key(id.0), bound(now_ms)])?;
            let fact = Fact::TweetDeleted { id, author };
            outbox::add(conn, &Event { at_ms: now_ms, trace, fact })?;
            Ok(Deleted::Gone { fresh: true })
        }
    }
}

#[async_trait]
impl TweetStore for SqlTweets {
    async fn create(&self, tweet: &NewTweet) -> Outcome<Created> {
        let tweet = tweet.clone();
        self.0.write(STORE, move |conn| insert(conn, &tweet)).await
    }

    async fn delete(
        &self,
        author: UserId,
        id: TweetId,
        now_ms: u64,
        trace: Option<TraceContext>,
    ) -> Outcome<Deleted> {
        self.0.write(STORE, move |conn| mark_deleted(conn, author, id, now_ms, trace)).await
    }

    async fn by_author(&self, author: UserId, window: Window, limit: usize) -> Read<Vec<Body>> {
        let find = move |conn: &Connection| {
            let (above, below, nearest_first) = bounds(window);
            let order = if nearest_first { "asc" } else { "desc" };
            let sql = format!(
                "select id, author_id, handle, name, text, created_at_ms, media from tweets
                 where author_id = ?1 and id > ?2 and id < ?3 and deleted_at_ms is null
                 order by id {order} limit ?4"
            );
            let row = params![key(author.0), above, below, bound(limit as u64)];
            let mut bodies = conn.all(&sql, row, body)?;
            if nearest_first {
                bodies.reverse();
            }
            Ok(bodies)
        };
        self.0.read(STORE, find).await
    }
}
