//! The tweet database: what is known of uploads, beside the tweets that use them.

use async_trait::async_trait;
use futures_util::FutureExt as _;
use sqlx_core::{query::query, query_as::query_as, query_scalar::query_scalar};
use sqlx_postgres::{PgConnection, Postgres};

use super::{Pg, fault::Fault, pool::End, tweets::lock_author};
use crate::{
    adapters::sql::{bound, from_key, key},
    domain::{Body, MediaId, MediaKind, MediaList, MediaRef, MediaShape, TweetId, UserId},
    ports::{Begun, Due, MediaStore, NewTweet, NewUpload, Outcome, Read, Unfit, UploadRow},
    wire::media::from_column,
};

const STORE: &str = "media";

/// Uploads in the tweet database.
#[derive(Clone, Debug)]
pub struct PgMedia(Pg);

impl PgMedia {
    /// The store over the tweet database.
    #[must_use]
    pub const fn new(db: Pg) -> Self {
        Self(db)
    }
}

/// Id, owner, expiry, kind, width, height, tweet.
type Row = (String, i64, i64, Option<String>, Option<i64>, Option<i64>, Option<i64>);

fn upload(row: Row) -> Result<(MediaId, UploadRow), Fault> {
    let (id, owner, expires, kind, width, height, tweet) = row;
    let wrong = || Fault::Corrupt("media holds no upload");
    let pixels =
        |side: Option<i64>| side.and_then(|side| u32::try_from(side).ok()).ok_or_else(wrong);
    let shape = match kind {
        None => None,
        Some(kind) => Some(MediaShape {
            kind: MediaKind::parse(&kind).ok_or_else(wrong)?,
            width: pixels(width)?,
            height: pixels(height)?,
        }),
    };
    let row = UploadRow {
        owner: UserId(from_key(owner)),
        expires_at_ms: from_key(expires),
        shape,
        tweet: tweet.map(|tweet| TweetId(from_key(tweet))),
    };
    Ok((id.parse().map_err(|_| wrong())?, row))
}

fn texts(ids: impl Iterator<Item = MediaId>) -> Vec<String> {
    ids.map(|id| id.to_string()).collect()
}

/// The pictures in the column of a tweet.
pub(super) fn list(text: Option<&str>) -> Result<MediaList, Fault> {
    from_column(text).ok_or(Fault::Corrupt("tweets.media is not a list of pictures"))
}

/// What is known of each upload that was not given up, in the order of `ids`.
async fn find(
    conn: &mut PgConnection,
    ids: &[MediaId],
    locked: bool,
) -> Result<Vec<Option<UploadRow>>, Fault> {
    // In the order of ids, as whoever waits for one must not hold the next.
    let sql = if locked {
        "select id, owner_id, expires_at_ms, kind, width, height, tweet_id from media
        where id = any($1) and not given_up order by id for update"
    } else {
        "select id, owner_id, expires_at_ms, kind, width, height, tweet_id from media
        where id = any($1) and not given_up"
    };
    let rows = query_as::<Postgres, Row>(sql).bind(texts(ids.iter().copied()));
    let rows = rows.fetch_all(conn).await?;
    let rows = rows.into_iter().map(upload).collect::<Result<Vec<_>, _>>()?;
    let of = |id: &MediaId| rows.iter().find(|(found, _)| found == id).map(|(_, row)| *row);
    Ok(ids.iter().map(of).collect())
}

/// The pictures that a new tweet shows, or the first upload that it cannot. They are locked.
pub(super) async fn take(
    conn: &mut PgConnection,
    tweet: &NewTweet,
) -> Result<Result<MediaList, (MediaId, Unfit)>, Fault> {
    let (author, now_ms) = (tweet.body.author, tweet.body.created_at_ms);
    let mut pictures = Vec::new();
    if !tweet.media.is_empty() {
        let rows = find(conn, &tweet.media, true).await?;
        for (&id, row) in tweet.media.iter().zip(&rows) {
            match UploadRow::fit(row.as_ref(), author, now_ms) {
                Ok(shape) => pictures.push(MediaRef { id, shape }),
                Err(why) => return Ok(Err((id, why))),
            }
        }
    }
    let list = MediaList::new(pictures);
    list.map(Ok).map_err(|_| Fault::Refused("a tweet has at most 4 pictures, each once"))
}

/// Gives a tweet that was just written its uploads.
pub(super) async fn give(conn: &mut PgConnection, body: &Body) -> Result<(), Fault> {
    if body.media.is_empty() {
        return Ok(());
    }
    let sql = "update media set tweet_id = $2 where id = any($1)";
    let ids = texts(body.media.iter().map(|picture| picture.id));
    query::<Postgres>(sql).bind(ids).bind(key(body.id.0)).execute(conn).await?;
    Ok(())
}

async fn begin(
    conn: &mut PgConnection,
    (new, unused_max): &(NewUpload, u64),
) -> Result<End<Begun>, Fault> {
    // So that of two promises at once the later one counts the earlier.
    lock_author(conn, new.owner).await?;
    let sql = "
        select count(*) from media
        where owner_id = $1 and tweet_id is null and not given_up and expires_at_ms > $2
            and id <> $3";
    let (id, owner) = (new.id.to_string(), key(new.owner.0));
    let count = query_scalar::<Postgres, i64>(sql).bind(owner).bind(bound(new.now_ms)).bind(&id);
    if count.fetch_one(&mut *conn).await? >= bound(*unused_max) {
        return Ok(End::Undo(Begun::TooMany));
    }
    let sql = "
        insert into media (id, owner_id, expires_at_ms, due_at_ms) values ($1, $2, $3, $3)
        on conflict (id) do nothing";
    let row = query::<Postgres>(sql).bind(&id).bind(owner).bind(bound(new.expires_at_ms));
    row.execute(conn).await?;
    Ok(End::Commit(Begun::Begun))
}

async fn checked(
    conn: &mut PgConnection,
    (id, shape): &(MediaId, MediaShape),
) -> Result<bool, Fault> {
    let sql = "
        update media set kind = coalesce(kind, $2), width = coalesce(width, $3),
            height = coalesce(height, $4)
        where id = $1 and not given_up";
    let row = query::<Postgres>(sql).bind(id.to_string()).bind(shape.kind.as_str());
    let row = row.bind(i64::from(shape.width)).bind(i64::from(shape.height));
    Ok(row.execute(conn).await?.rows_affected() == 1)
}

async fn due(
    conn: &mut PgConnection,
    (before_ms, limit): &(u64, usize),
) -> Result<Vec<Due>, Fault> {
    // Whoever gives one to a tweet holds its row: it is left for the next time.
    let sql = "
        with due as (
            select id, tweet_id from media where due_at_ms <= $1
            order by due_at_ms limit $2 for update skip locked
        ), given_up as (
            update media set given_up = true
            where id in (select id from due where tweet_id is null) and not given_up
        )
        select due.id, tweet_id is null or deleted_at_ms is not null
        from due left join tweets on tweets.id = tweet_id";
    let rows = query_as::<Postgres, (String, bool)>(sql);
    let rows = rows.bind(bound(*before_ms)).bind(bound(*limit as u64)).fetch_all(conn).await?;
    rows.into_iter()
        .map(|(id, unused)| {
            let id = id.parse().map_err(|_| Fault::Corrupt("media.id is not an id"))?;
            Ok(Due { id, unused })
        })
        .collect()
}

async fn settle(conn: &mut PgConnection, (done, before_ms): &(Vec<Due>, u64)) -> Result<(), Fault> {
    let of = |unused: bool| texts(done.iter().filter(|d| d.unused == unused).map(|due| due.id));
    // A tweet that was deleted meanwhile has made its uploads due again, at another time: the row itself
    // tells, also if it was changed while this waited for it, and `tweets` is seen as it was before.
    let sql = "
        with ended as (
            delete from media where id = any($1) and expires_at_ms <= $3
        ), again as (
            update media set due_at_ms = expires_at_ms where id = any($1) and expires_at_ms > $3
        )
        update media set due_at_ms = null
        where id = any($2) and due_at_ms = expires_at_ms and not exists (
            select from tweets where tweets.id = tweet_id and deleted_at_ms is not null
        )";
    let rows = query::<Postgres>(sql).bind(of(true)).bind(of(false)).bind(bound(*before_ms));
    rows.execute(conn).await?;
    Ok(())
}

#[async_trait]
impl MediaStore for PgMedia {
    async fn begin(&self, new: &NewUpload, unused_max: u64) -> Outcome<Begun> {
        let asked = (*new, unused_max);
        self.0.write(STORE, &asked, |conn, asked| begin(conn, asked).boxed()).await
    }

    async fn find(&self, ids: &[MediaId]) -> Read<Vec<Option<UploadRow>>> {
        let asked = ids.to_vec();
        self.0.read(STORE, &asked, |conn, asked| find(conn, asked, false).boxed()).await
    }

    async fn checked(&self, id: MediaId, shape: MediaShape) -> Outcome<bool> {
        let asked = (id, shape);
        self.0.write_at_once(STORE, &asked, |conn, asked| checked(conn, asked).boxed()).await
    }

    async fn due(&self, before_ms: u64, limit: usize) -> Outcome<Vec<Due>> {
        let asked = (before_ms, limit);
        self.0.write_at_once(STORE, &asked, |conn, asked| due(conn, asked).boxed()).await
    }

    async fn settle(&self, done: &[Due], before_ms: u64) -> Outcome<()> {
        let asked = (done.to_vec(), before_ms);
        self.0.write_at_once(STORE, &asked, |conn, asked| settle(conn, asked).boxed()).await
    }
}
