//! `timeline.db`: the timeline role's copy of tweets and graph. The bus beside it is in
//! [`super::bus`].
//!
//! A pair's version stands in its two `relations` rows; `followers` is their index for the fan-out
//! and changes only in the same transaction, when they do.

use async_trait::async_trait;
use rusqlite::{Connection, params};

use super::{
    bus, homes, media,
    sqlite::{Db, Fault, Schema, Statements, bound, from_key, key},
    tweets::body,
};
use crate::{
    adapters::sql::bounds,
    domain::{
        Body, PairChange, TweetId, UserId, Window,
        fanout::{Class, bucket_of},
        relations::Relation,
    },
    ports::{
        AuthorRow, FollowerPage, Kind, Outcome, Read, StoreError, StoredBody, TimelineStore,
        timeline_store::IDS_MAX,
    },
    wire::{events::FollowerCursor, media::to_column},
};

const STORE: &str = "timeline_store";
/// The most followers of one page.
pub const FOLLOWERS_MAX: usize = 100_000;

const TABLES: &str = "
-- A row without an author is a deletion that came before its tweet.
create table tweets (
    id integer primary key,
    author_id integer,
    handle text,
    name text,
    text text,
    created_at_ms integer,
    deleted integer not null default 0
);
create table author_tweets (
    author_id integer not null,
    tweet_id integer not null,
    primary key (author_id, tweet_id)
) without rowid;
create table authors (
    author_id integer primary key,
    class text not null default 'push',
    latest integer not null default 0
);
create table relations (
    user_id integer not null,
    other_id integer not null,
    version integer not null,
    follows integer not null,
    blocked integer not null,
    mutes integer not null,
    primary key (user_id, other_id)
) without rowid;
create table followers (
    followee_id integer not null,
    bucket integer not null,
    follower_id integer not null,
    follows integer not null,
    primary key (followee_id, bucket, follower_id)
) without rowid;
";

/// What `timeline.db` must be.
#[must_use]
pub const fn schema() -> Schema {
    /// The tables of version 1. What is written is never changed: a later version is another step.
    const STEPS: &[&[&str]] = &[&[TABLES, bus::TABLES], &[media::COLUMN], &[homes::TABLES]];
    Schema { name: "timeline", application_id: 0x6368_526c, steps: STEPS }
}

/// The timeline store in `timeline.db`.
#[derive(Clone, Debug)]
pub struct SqlTimelines(Db);

impl SqlTimelines {
    /// The store over `timeline.db`.
    #[must_use]
    pub const fn new(db: Db) -> Self {
        Self(db)
    }
}

pub(super) fn put_tweet(conn: &Connection, body: &Body) -> Result<(), Fault> {
    let sql = "
        insert into tweets (id, author_id, handle, name, text, created_at_ms, media)
        values (?1, ?2, ?3, ?4, ?5, ?6, ?7)
        on conflict (id) do update set
            author_id = excluded.author_id,
            handle = excluded.handle,
            name = excluded.name,
            text = excluded.text,
            created_at_ms = excluded.created_at_ms,
            media = excluded.media
        where tweets.author_id is null";
    let (id, author) = (key(body.id.0), key(body.author.0));
    let (handle, name, text) = (body.handle.as_str(), body.name.as_str(), body.text.as_str());
    let (at, media) = (bound(body.created_at_ms), to_column(&body.media));
    conn.run(sql, params![id, author, handle, name, text, at, media])?;
    let sql = "
        insert into author_tweets (author_id, tweet_id) values (?1, ?2)
        on conflict (author_id, tweet_id) do nothing";
    conn.run(sql, [author, id])?;
    let sql = "
        insert into authors (author_id, latest) values (?1, ?2)
        on conflict (author_id) do update set latest = excluded.latest
        where excluded.latest > authors.latest";
    conn.run(sql, [author, id])?;
    Ok(())
}

/// Writes both users' copies of pairs. Rows go in the order of their tables, which makes a large
/// load several times faster than the order of the pairs.
pub(super) fn write_pairs(conn: &Connection, changes: &[PairChange]) -> Result<(), Fault> {
    let sides = |at: usize| [(at, changes[at].pair.low), (at, changes[at].pair.high)];
    let mut rows: Vec<(UserId, Relation, usize)> = (0..changes.len())
        .flat_map(sides)
        .map(|(at, user)| (user, Relation::of(user, changes[at].pair, &changes[at].state), at))
        .filter(|(_, row, at)| row.is_kept(changes[*at].version))
        .collect();
    // Stable, so that of two changes of one pair the later comes later.
    rows.sort_by_key(|(user, row, _)| (*user, row.other));
    let mut relations = conn.prepare_cached(
        "insert into relations (user_id, other_id, version, follows, blocked, mutes)
         values (?1, ?2, ?3, ?4, ?5, ?6)
         on conflict (user_id, other_id) do update set
             version = excluded.version,
             follows = excluded.follows,
             blocked = excluded.blocked,
             mutes = excluded.mutes
         where excluded.version > relations.version",
    )?;
    let mut edges = Vec::with_capacity(rows.len());
    for (user, row, at) in rows {
        let (user_key, other_key) = (key(user.0), key(row.other.0));
        let version = key(changes[at].version);
        let values = params![user_key, other_key, version, row.follows, row.blocked, row.mutes];
        if relations.execute(values)? == 1 {
            // Who never followed has no row, so that a fan-out reads followers only; before the
            // first version nobody did.
            if row.follows || version > 1 {
                edges.push((other_key, bucket_of(user), user_key, row.follows));
            }
        }
    }
    edges.sort_by_key(|&(followee, bucket, follower, _)| (followee, bucket, follower));
    let mut follow = conn.prepare_cached(
        "insert into followers (followee_id, bucket, follower_id, follows) values (?1, ?2, ?3, 1)
         on conflict (followee_id, bucket, follower_id) do update set follows = 1",
    )?;
    let mut unfollow = conn.prepare_cached(
        "update followers set follows = 0
         where followee_id = ?1 and bucket = ?2 and follower_id = ?3",
    )?;
    for (followee, bucket, follower, follows) in edges {
        let statement = if follows { &mut follow } else { &mut unfollow };
        statement.execute(params![followee, bucket, follower])?;
    }
    Ok(())
}

/// Reads one row more than asked for, to know whether the range goes on.
fn follower_page(
    conn: &Connection,
    author: UserId,
    from: (u16, i64),
    end: u16,
    limit: usize,
) -> Result<FollowerPage, Fault> {
    let mut statement = conn.prepare_cached(
        "select bucket, follower_id, follows from followers
         where followee_id = ?1 and (bucket, follower_id) > (?2, ?3) and bucket < ?4
         order by bucket, follower_id limit ?5",
    )?;
    let scan = bound(limit as u64 + 1);
    let mut rows = statement.query(params![key(author.0), from.0, from.1, end, scan])?;
    let mut page = FollowerPage { followers: Vec::with_capacity(limit), next: None };
    let (mut scanned, mut last) = (0, (0, 0));
    while let Some(row) = rows.next()? {
        if scanned == limit {
            let (bucket, follower) = last;
            let bucket = u16::try_from(bucket)
                .map_err(|_| Fault::Corrupt("followers.bucket is not a bucket"))?;
            page.next = Some(FollowerCursor { bucket, follower: UserId(from_key(follower)) });
            break;
        }
        scanned += 1;
        last = (row.get::<_, i64>(0)?, row.get(1)?);
        if row.get::<_, i64>(2)? != 0 {
            page.followers.push(UserId(from_key(last.1)));
        }
    }
    Ok(page)
}

/// Looks each id up, in the order of `ids`.
async fn each<T: Send + 'static>(
    db: &Db,
    ids: Vec<u64>,
    find: impl Fn(&Connection, i64) -> Result<T, Fault> + Send + 'static,
) -> Read<Vec<T>> {
    if ids.len() > IDS_MAX {
        return Err(StoreError::new(Kind::Unavailable, STORE, "more ids than one call may have"));
    }
    db.read(STORE, move |conn| ids.into_iter().map(|id| find(conn, key(id))).collect()).await
}

fn stored_body(conn: &Connection, id: i64) -> Result<Option<StoredBody>, Fault> {
    let sql = "
        select id, author_id, handle, name, text, created_at_ms, media, deleted
        from tweets where id = ?1";
    conn.one(sql, [id], |row| {
        let deleted: bool = row.get(7)?;
        if deleted { Ok(StoredBody::Deleted) } else { body(row).map(StoredBody::Live) }
    })
}

fn author_row(conn: &Connection, author: i64) -> Result<AuthorRow, Fault> {
    let sql = "select class, latest from authors where author_id = ?1";
    let found = conn.one(sql, [author], |row| {
        let class = Class::parse(row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?);
        let class = class.ok_or(Fault::Corrupt("authors.class is not a class"))?;
        Ok(AuthorRow { class, latest: TweetId(from_key(row.get(1)?)) })
    })?;
    Ok(found.unwrap_or_default())
}

#[async_trait]
impl TimelineStore for SqlTimelines {
    async fn put_tweets(&self, bodies: &[Body]) -> Outcome<()> {
        let bodies = bodies.to_vec();
        let put = move |conn: &Connection| bodies.iter().try_for_each(|body| put_tweet(conn, body));
        self.0.write(STORE, put).await
    }

    async fn delete_tweets(&self, ids: &[TweetId]) -> Outcome<()> {
        let ids = ids.to_vec();
        let delete = move |conn: &Connection| {
            let sql = "
                insert into tweets (id, deleted) values (?1, 1)
                on conflict (id) do update set deleted = 1";
            ids.iter().try_for_each(|id| conn.run(sql, [key(id.0)]).map(drop))
        };
        self.0.write(STORE, delete).await
    }

    async fn bodies(&self, ids: &[TweetId]) -> Read<Vec<Option<StoredBody>>> {
        each(&self.0, ids.iter().map(|id| id.0).collect(), stored_body).await
    }

    async fn author_tweets(
        &self,
        author: UserId,
        window: Window,
        limit: usize,
    ) -> Read<Vec<TweetId>> {
        let find = move |conn: &Connection| {
            let (above, below, nearest_first) = bounds(window);
            let order = if nearest_first { "asc" } else { "desc" };
            let sql = format!(
                "select tweet_id from author_tweets
                 where author_id = ?1 and tweet_id > ?2 and tweet_id < ?3
                 order by tweet_id {order} limit ?4"
            );
            let row = params![key(author.0), above, below, bound(limit as u64)];
            let mut ids = conn.all(&sql, row, |row| Ok(TweetId(from_key(row.get(0)?))))?;
            if nearest_first {
                ids.reverse();
            }
            Ok(ids)
        };
        self.0.read(STORE, find).await
    }

    async fn authors(&self, ids: &[UserId]) -> Read<Vec<AuthorRow>> {
        each(&self.0, ids.iter().map(|id| id.0).collect(), author_row).await
    }

    async fn set_class(&self, author: UserId, class: Class) -> Outcome<()> {
        let set = move |conn: &Connection| {
            let sql = "
                insert into authors (author_id, class) values (?1, ?2)
                on conflict (author_id) do update set class = excluded.class
                where authors.class = 'push'
                    or (authors.class = 'both' and excluded.class = 'pull')";
            conn.run(sql, params![key(author.0), class.as_str()])?;
            Ok(())
        };
        self.0.write(STORE, set).await
    }

    async fn put_pairs(&self, changes: &[PairChange]) -> Outcome<()> {
        let changes = changes.to_vec();
        self.0.write(STORE, move |conn| write_pairs(conn, &changes)).await
    }

    async fn relations(
        &self,
        user: UserId,
        after: Option<UserId>,
        limit: usize,
    ) -> Read<Vec<Relation>> {
        let from = after.map_or(i64::MIN, |other| key(other.0));
        let limit = bound(limit.clamp(1, IDS_MAX) as u64);
        let find = move |conn: &Connection| {
            let sql = "
                select other_id, follows, blocked, mutes from relations
                where user_id = ?1 and other_id > ?2 order by other_id limit ?3";
            conn.all(sql, [key(user.0), from, limit], |row| {
                Ok(Relation {
                    other: UserId(from_key(row.get(0)?)),
                    follows: row.get(1)?,
                    blocked: row.get(2)?,
                    mutes: row.get(3)?,
                })
            })
        };
        self.0.read(STORE, find).await
    }

    async fn followers(
        &self,
        author: UserId,
        buckets: (u16, u16),
        after: Option<FollowerCursor>,
        limit: usize,
    ) -> Read<FollowerPage> {
        let (first, end) = buckets;
        // Before the first bucket's first follower, unless the cursor lies beyond it.
        let begin = (first, i64::MIN);
        let from = after.map_or(begin, |at| begin.max((at.bucket, key(at.follower.0))));
        let limit = limit.clamp(1, FOLLOWERS_MAX);
        self.0.read(STORE, move |conn| follower_page(conn, author, from, end, limit)).await
    }
}
