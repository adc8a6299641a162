//! `tweet.db`: what is known of uploads, beside the tweets that use them.

use async_trait::async_trait;
use rusqlite::{Connection, Row, params};

use super::sqlite::{Db, Fault, Statements, bound, from_key, key};
use crate::{
    domain::{
        Body, MediaId, MediaKind, MediaList, MediaRef, MediaShape, TweetId, UserId,
        media::MEDIA_MAX,
    },
    ports::{Begun, Due, MediaStore, NewTweet, NewUpload, Outcome, Read, Unfit, UploadRow},
    wire::media::from_column,
};

const STORE: &str = "media";

/// The pictures of a tweet, in both tables of tweets; null for none.
pub(super) const COLUMN: &str = "alter table tweets add column media text";
/// Uploads. What is given up is used by no tweet any more; `due_at_ms` is null while there is nothing
/// to remove.
pub(super) const TABLES: &str = "
create table media (
    id text primary key,
    owner_id integer not null,
    expires_at_ms integer not null,
    kind text,
    width integer,
    height integer,
    tweet_id integer,
    given_up integer not null default 0,
    due_at_ms integer
) without rowid;
create index media_owner on media (owner_id) where tweet_id is null;
create index media_tweet on media (tweet_id) where tweet_id is not null;
create index media_due on media (due_at_ms) where due_at_ms is not null;
";

/// Uploads in `tweet.db`.
#[derive(Clone, Debug)]
pub struct SqlMedia(Db);

impl SqlMedia {
    /// The store over `tweet.db`.
    #[must_use]
    pub const fn new(db: Db) -> Self {
        Self(db)
    }
}

/// The pictures in column `at` of a tweet.
pub(super) fn list(row: &Row<'_>, at: usize) -> Result<MediaList, Fault> {
    let text = row.get_ref(at)?.as_str_or_null().map_err(rusqlite::Error::from)?;
    from_column(text).ok_or(Fault::Corrupt("tweets.media is not a list of pictures"))
}

/// Owner, expiry, kind, width, height, tweet.
fn upload(row: &Row<'_>) -> Result<UploadRow, Fault> {
    let kind = match row.get_ref(2)?.as_str_or_null().map_err(rusqlite::Error::from)? {
        None => None,
        Some(kind) => {
            Some(MediaKind::parse(kind).ok_or(Fault::Corrupt("media.kind is not a kind"))?)
        }
    };
    let shape = match kind {
        None => None,
        Some(kind) => Some(MediaShape { kind, width: row.get(3)?, height: row.get(4)? }),
    };
    let tweet: Option<i64> = row.get(5)?;
    Ok(UploadRow {
        owner: UserId(from_key(row.get(0)?)),
        expires_at_ms: from_key(row.get(1)?),
        shape,
        tweet: tweet.map(|tweet| TweetId(from_key(tweet))),
    })
}

fn find(conn: &Connection, id: MediaId) -> Result<Option<UploadRow>, Fault> {
    let sql = "
        select owner_id, expires_at_ms, kind, width, height, tweet_id from media
        where id = ?1 and given_up = 0";
    conn.one(sql, [id.to_string()], upload)
}

/// The pictures that a new tweet shows, or the first upload that it cannot.
pub(super) fn take(
    conn: &Connection,
    tweet: &NewTweet,
) -> Result<Result<MediaList, (MediaId, Unfit)>, Fault> {
    let mut pictures = Vec::with_capacity(tweet.media.len().min(MEDIA_MAX));
    for &id in &tweet.media {
        let row = find(conn, id)?;
        match UploadRow::fit(row.as_ref(), tweet.body.author, tweet.body.created_at_ms) {
            Ok(shape) => pictures.push(MediaRef { id, shape }),
            Err(why) => return Ok(Err((id, why))),
        }
    }
    let list = MediaList::new(pictures);
    list.map(Ok).map_err(|_| Fault::Refused("a tweet has at most 4 pictures, each once"))
}

/// Gives a tweet that was just written its uploads.
pub(super) fn give(conn: &Connection, body: &Body) -> Result<(), Fault> {
    let sql = "update media set tweet_id = ?2 where id = ?1";
    body.media.iter().try_for_each(|picture| {
        conn.run(sql, params![picture.id.to_string(), key(body.id.0)]).map(drop)
    })
}

fn begin(conn: &Connection, new: &NewUpload, unused_max: u64) -> Result<Begun, Fault> {
    let sql = "
        select count(*) from media
        where owner_id = ?1 and tweet_id is null and given_up = 0 and expires_at_ms > ?2 and id <> ?3";
    let (id, owner) = (new.id.to_string(), key(new.owner.0));
    let count = |row: &Row<'_>| Ok(row.get(0)?);
    let unused: Option<i64> = conn.one(sql, params![owner, bound(new.now_ms), id], count)?;
    if unused.unwrap_or(0) >= bound(unused_max) {
        return Ok(Begun::TooMany);
    }
    let sql = "
        insert into media (id, owner_id, expires_at_ms, due_at_ms) values (?1, ?2, ?3, ?3)
        on conflict (id) do nothing";
    conn.run(sql, params![id, owner, bound(new.expires_at_ms)])?;
    Ok(Begun::Begun)
}

fn checked(conn: &Connection, id: MediaId, shape: MediaShape) -> Result<bool, Fault> {
    let sql = "
        update media set kind = coalesce(kind, ?2), width = coalesce(width, ?3),
            height = coalesce(height, ?4)
        where id = ?1 and given_up = 0";
    let MediaShape { kind, width, height } = shape;
    Ok(conn.run(sql, params![id.to_string(), kind.as_str(), width, height])? == 1)
}

fn due(conn: &Connection, before_ms: u64, limit: usize) -> Result<Vec<Due>, Fault> {
    let sql = "
        select media.id, tweet_id is null, tweet_id is null or deleted_at_ms is not null
        from media left join tweets on tweets.id = tweet_id
        where due_at_ms <= ?1 order by due_at_ms limit ?2";
    let rows = conn.all(sql, [bound(before_ms), bound(limit as u64)], |row| {
        let id = row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?.parse();
        let id = id.map_err(|_| Fault::Corrupt("media.id is not an id"))?;
        Ok((Due { id, unused: row.get(2)? }, row.get::<_, bool>(1)?))
    })?;
    let give_up = "update media set given_up = 1 where id = ?1";
    for (due, without_tweet) in &rows {
        if *without_tweet {
            conn.run(give_up, [due.id.to_string()])?;
        }
    }
    Ok(rows.into_iter().map(|(due, _)| due).collect())
}

fn settle(conn: &Connection, done: &[Due], before_ms: u64) -> Result<(), Fault> {
    let ended = "delete from media where id = ?1 and expires_at_ms <= ?2";
    let again = "update media set due_at_ms = expires_at_ms where id = ?1 and expires_at_ms > ?2";
    // A tweet that was deleted meanwhile has made it due again.
    let rest = "
        update media set due_at_ms = null where id = ?1 and not exists (
            select 1 from tweets where tweets.id = tweet_id and deleted_at_ms is not null
        )";
    for due in done {
        let id = due.id.to_string();
        if due.unused {
            conn.run(ended, params![id, bound(before_ms)])?;
            conn.run(again, params![id, bound(before_ms)])?;
        } else {
            conn.run(rest, [id])?;
        }
    }
    Ok(())
}

#[async_trait]
impl MediaStore for SqlMedia {
    async fn begin(&self, new: &NewUpload, unused_max: u64) -> Outcome<Begun> {
        let new = *new;
        self.0.write(STORE, move |conn| begin(conn, &new, unused_max)).await
    }

    async fn find(&self, ids: &[MediaId]) -> Read<Vec<Option<UploadRow>>> {
        let ids = ids.to_vec();
        self.0.read(STORE, move |conn| ids.iter().map(|id| find(conn, *id)).collect()).await
    }

    async fn checked(&self, id: MediaId, shape: MediaShape) -> Outcome<bool> {
        self.0.write(STORE, move |conn| checked(conn, id, shape)).await
    }

    async fn due(&self, before_ms: u64, limit: usize) -> Outcome<Vec<Due>> {
        self.0.write(STORE, move |conn| due(conn, before_ms, limit)).await
    }

    async fn settle(&self, done: &[Due], before_ms: u64) -> Outcome<()> {
        let done = done.to_vec();
        self.0.write(STORE, move |conn| settle(conn, &done, before_ms)).await
    }
}
