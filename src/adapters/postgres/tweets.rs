//! The tweet database: tweets, their idempotency keys and their outbox.

use async_trait::async_trait;
use futures_util::FutureExt as _;
use sqlx_core::{query::query, query_as::query_as, query_scalar::query_scalar};
use sqlx_postgres::{PgConnection, Postgres};

use super::{Pg, fault::Fault, media, pool::End};
use crate::{
    adapters::sql::{bound, bounds, from_key, key},
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

/// Tweets in the tweet database.
#[derive(Clone, Debug)]
pub struct PgTweets(Pg);

impl PgTweets {
    /// The store over the tweet database.
    #[must_use]
    pub const fn new(db: Pg) -> Self {
        Self(db)
    }
}

/// Id, author, handle, name, text, created, media.
type BodyRow = (i64, i64, String, String, String, i64, Option<String>);

fn body((id, author, handle, name, text, created, pictures): BodyRow) -> Result<Body, Fault> {
    Ok(Body {
        id: TweetId(from_key(id)),
        author: UserId(from_key(author)),
        handle: Handle::parse(&handle).map_err(|_| Fault::Corrupt("tweets.handle is no handle"))?,
        name: DisplayName::parse(&name).map_err(|_| Fault::Corrupt("tweets.name is no name"))?,
        text: TweetText::parse(&text).map_err(|_| Fault::Corrupt("tweets.text is no text"))?,
        created_at_ms: from_key(created),
        media: media::list(pictures.as_deref())?,
    })
}

/// Locks the author's row, which is made if it is missing, and gives the author's last id, or 0.
/// What is read afterwards must be read by another statement: this one sees the state before its
/// wait.
pub(super) async fn lock_author(conn: &mut PgConnection, author: UserId) -> Result<TweetId, Fault> {
    let lock = "select last_tweet_id from authors where id = $1 for update";
    let find = || query_scalar::<Postgres, i64>(lock).bind(key(author.0));
    if let Some(last) = find().fetch_optional(&mut *conn).await? {
        return Ok(TweetId(from_key(last)));
    }
    let sql = "insert into authors (id, last_tweet_id) values ($1, 0) on conflict (id) do nothing";
    query::<Postgres>(sql).bind(key(author.0)).execute(&mut *conn).await?;
    Ok(TweetId(from_key(find().fetch_one(conn).await?)))
}

/// Hash of the body, then the tweet: id, author, handle, name, text, created, media.
type Keyed = (Vec<u8>, i64, i64, String, String, String, i64, Option<String>);

/// What an earlier call with the same key did, if it is not too old.
async fn earlier(
    conn: &mut PgConnection,
    author: UserId,
    asked: &IdempotencyKey,
    now_ms: u64,
) -> Result<Option<Created>, Fault> {
    let sql = "
        select body_hash, id, tweets.author_id, handle, name, text, tweets.created_at_ms, media
        from idempotency join tweets on id = tweet_id
        where idempotency.author_id = $1 and key = $2 and idempotency.created_at_ms > $3";
    let oldest = bound(now_ms) - bound(KEY_TTL_MS);
    let found = query_as::<Postgres, Keyed>(sql)
        .bind(key(author.0))
        .bind(&asked.key)
        .bind(oldest)
        .fetch_optional(conn)
        .await?;
    found
        .map(|(hash, id, author, handle, name, text, created, media)| {
            if hash == asked.body_hash {
                Ok(Created::Replay(body((id, author, handle, name, text, created, media))?))
            } else {
                Ok(Created::KeyReused)
            }
        })
        .transpose()
}

async fn remember(
    conn: &mut PgConnection,
    asked: &IdempotencyKey,
    body: &Body,
) -> Result<(), Fault> {
    // The sweep spares this key, which one statement must not change twice, and does not wait for
    // other authors.
    let sql = "
        with swept as (
            delete from idempotency where (author_id, key) in (
                select author_id, key from idempotency
                where created_at_ms <= $6 and (author_id, key) <> ($1, $2)
                order by created_at_ms limit $7
                for update skip locked
            )
        )
        insert into idempotency (author_id, key, body_hash, tweet_id, created_at_ms)
        values ($1, $2, $3, $4, $5)
        on conflict (author_id, key) do update set
            body_hash = excluded.body_hash,
            tweet_id = excluded.tweet_id,
            created_at_ms = excluded.created_at_ms";
    let at = bound(body.created_at_ms);
    let row = query::<Postgres>(sql).bind(key(body.author.0)).bind(&asked.key);
    let row = row.bind(&asked.body_hash[..]).bind(key(body.id.0)).bind(at);
    row.bind(at - bound(KEY_TTL_MS)).bind(KEYS_SWEPT).execute(conn).await?;
    Ok(())
}

async fn create(conn: &mut PgConnection, tweet: &NewTweet) -> Result<End<Created>, Fault> {
    let author = tweet.body.author;
    let last = lock_author(conn, author).await?;
    if let Some(asked) = &tweet.key
        && let Some(created) = earlier(conn, author, asked, tweet.body.created_at_ms).await?
    {
        return Ok(End::Undo(created));
    }
    let media = match media::take(conn, tweet).await? {
        Ok(media) => media,
        Err((id, why)) => return Ok(End::Undo(Created::Unfit(id, why))),
    };
    let body = Body { id: tweet.body.id.max(TweetId(last.0 + 1)), media, ..tweet.body.clone() };
    let event = Event::tweet_created(&body, tweet.trace.clone()).encode();
    let sql = "
        with tweet as (
            insert into tweets (id, author_id, handle, name, text, created_at_ms, media)
            values ($1, $2, $3, $4, $5, $6, $8)
            on conflict (id) do nothing
            returning id
        ), last as (
            update authors set last_tweet_id = $1 where id = $2 and exists (select from tweet)
        ), event as (
            insert into outbox (event, at_ms) select $7, $6 from tweet
        )
        select count(*) from tweet";
    let written = query_scalar::<Postgres, i64>(sql)
        .bind(key(body.id.0))
        .bind(key(author.0))
        .bind(body.handle.as_str())
        .bind(body.name.as_str())
        .bind(body.text.as_str())
        .bind(bound(body.created_at_ms))
        .bind(event.to_vec())
        .bind(to_column(&body.media))
        .fetch_one(&mut *conn)
        .await?;
    if written == 0 {
        return Ok(End::Undo(Created::IdTaken));
    }
    media::give(conn, &body).await?;
    if let Some(asked) = &tweet.key {
        remember(conn, asked, &body).await?;
    }
    Ok(End::Commit(Created::Fresh(body)))
}

struct Deletion {
    author: UserId,
    id: TweetId,
    now_ms: u64,
    trace: Option<TraceContext>,
}

async fn delete(conn: &mut PgConnection, asked: &Deletion) -> Result<Deleted, Fault> {
    let Deletion { author, id, now_ms, trace } = asked;
    let fact = Fact::TweetDeleted { id: *id, author: *author };
    let event = Event { at_ms: *now_ms, trace: trace.clone(), fact }.encode();
    // Who waits here for another deletion finds the mark, and marks nothing. An author never changes.
    let sql = "
        with marked as (
            update tweets set deleted_at_ms = $3
            where id = $1 and author_id = $2 and deleted_at_ms is null
            returning id
        ), due as (
            update media set due_at_ms = $3 where tweet_id in (select id from marked)
        ), event as (
            insert into outbox (event, at_ms) select $4, $3 from marked
        )
        select author_id, exists (select from marked) from tweets where id = $1";
    let row = query_as::<Postgres, (i64, bool)>(sql).bind(key(id.0)).bind(key(author.0));
    let found = row.bind(bound(*now_ms)).bind(event.to_vec()).fetch_optional(conn).await?;
    Ok(match found {
        None => Deleted::Missing,
        Some((owner, _)) if owner != key(author.0) => Deleted::NotOwner,
        Some((_, fresh)) => Deleted::Gone { fresh },
    })
}

async fn by_author(
    conn: &mut PgConnection,
    (author, window, limit): (UserId, Window, usize),
) -> Result<Vec<Body>, Fault> {
    macro_rules! page {
        ($order:literal) => {
            concat!(
                "select id, author_id, handle, name, text, created_at_ms, media from tweets
                where author_id = $1 and id > $2 and id < $3 and deleted_at_ms is null
                order by id ",
                $order,
                " limit $4"
            )
        };
    }
    let (above, below, nearest_first) = bounds(window);
    let sql = if nearest_first { page!("asc") } else { page!("desc") };
    let rows = query_as::<Postgres, BodyRow>(sql).bind(key(author.0)).bind(above).bind(below);
    let rows = rows.bind(bound(limit as u64)).fetch_all(conn).await?;
    let mut bodies = rows.into_iter().map(body).collect::<Result<Vec<_>, _>>()?;
    if nearest_first {
        bodies.reverse();
    }
    Ok(bodies)
}

#[async_trait]
impl TweetStore for PgTweets {
    async fn create(&self, tweet: &NewTweet) -> Outcome<Created> {
        self.0.write(STORE, tweet, |conn, tweet| create(conn, tweet).boxed()).await
    }

    async fn delete(
        &self,
        author: UserId,
        id: TweetId,
        now_ms: u64,
        trace: Option<TraceContext>,
    ) -> Outcome<Deleted> {
        let asked = Deletion { author, id, now_ms, trace };
        self.0.write_at_once(STORE, &asked, |conn, asked| delete(conn, asked).boxed()).await
    }

    async fn by_author(&self, author: UserId, window: Window, limit: usize) -> Read<Vec<Body>> {
        let asked = (author, window, limit);
        self.0.read(STORE, &asked, |conn, asked| by_author(conn, *asked).boxed()).await
    }
}
