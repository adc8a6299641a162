//! A whole data set in bulk, into databases that are empty: by `COPY`, a transaction per batch.

use std::{fmt::Write as _, time::Duration};

use sqlx_core::{
    connection::Connection as _, error::Error, query::query, query_as::query_as,
    query_scalar::query_scalar,
};
use sqlx_postgres::{PgConnection, Postgres};
use tokio::sync::Mutex;

use super::{super::endpoint::Endpoint, Pg, fault::Fault, server::open, stores::OpenError};
use crate::{
    adapters::sql::{bound, key},
    config,
    domain::{Body, PairChange, UserId},
    ports::{Account, Outcome, PasswordHash, Read, SeedMark, SeedUser},
    rt::Rt,
    wire::media::to_column,
};

const STORE: &str = "seeds";
/// The longest that a batch may take; some 10 s are usual on a busy machine.
const BATCH_MAX: Duration = Duration::from_mins(2);
/// As [`BATCH_MAX`], for the server, so that it does not go on when this process has given up.
const SERVER_LIMITS: [(&str, &str); 3] = [
    ("statement_timeout", "115s"),
    ("lock_timeout", "10s"),
    ("idle_in_transaction_session_timeout", "60s"),
];
/// Rows are sent in pieces of about so many bytes.
const PIECE: usize = 1 << 20;

/// What a data set was filled with, out of the user role's database, whose schema is up to date.
pub async fn mark(user: &Pg) -> Read<Option<SeedMark>> {
    user.read(STORE, &(), |conn, ()| Box::pin(async move { Ok(marked(conn).await?) })).await
}

async fn marked(conn: &mut PgConnection) -> Result<Option<SeedMark>, Error> {
    let sql = "select what, done from seeds";
    let row = query_as::<Postgres, (String, bool)>(sql).fetch_optional(conn).await?;
    Ok(row.map(|(what, done)| SeedMark { what, done }))
}

/// Fills the databases of the user and the tweet role, over a connection each.
pub struct PgSeeds {
    rt: Rt,
    user: Mutex<PgConnection>,
    tweet: Mutex<PgConnection>,
}

/// Rows in the text form of `COPY`.
#[derive(Default)]
struct Rows(String);

impl Rows {
    fn number(&mut self, number: i64) -> &mut Self {
        let _ = write!(self.0, "{number}\t");
        self
    }

    fn truth(&mut self, truth: bool) -> &mut Self {
        self.0.push_str(if truth { "t\t" } else { "f\t" });
        self
    }

    fn text(&mut self, text: Option<&str>) -> &mut Self {
        match text {
            None => self.0.push_str("\\N"),
            Some(text) => {
                for c in text.chars() {
                    match c {
                        '\\' => self.0.push_str("\\\\"),
                        '\n' => self.0.push_str("\\n"),
                        '\r' => self.0.push_str("\\r"),
                        '\t' => self.0.push_str("\\t"),
                        c => self.0.push(c),
                    }
                }
            }
        }
        self.0.push('\t');
        self
    }

    fn end(&mut self) {
        self.0.pop();
        self.0.push('\n');
    }

    async fn copy(self, conn: &mut PgConnection, table: &str) -> Result<(), Error> {
        let mut copy = conn.copy_in_raw(&format!("copy {table} from stdin")).await?;
        for piece in self.0.as_bytes().chunks(PIECE) {
            copy.send(piece).await?;
        }
        copy.finish().await.map(drop)
    }
}

impl PgSeeds {
    /// Connects to both databases, whose schemas are up to date. The caller bounds the time.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(rt: &Rt, endpoint: &Endpoint<config::Postgres>) -> Result<Self, OpenError> {
        let config = &endpoint.config;
        let user = open(endpoint, &config.user_database, &SERVER_LIMITS).await?;
        let tweet = open(endpoint, &config.tweet_database, &SERVER_LIMITS).await?;
        Ok(Self { rt: rt.clone(), user: Mutex::new(user), tweet: Mutex::new(tweet) })
    }

    /// See [`crate::ports::SeedStore::mark`].
    pub async fn mark(&self) -> Read<Option<SeedMark>> {
        let mark = async { marked(&mut *self.user.lock().await).await };
        self.ends(mark).await.map_err(|fault| fault.to_error(STORE))
    }

    /// See [`crate::ports::SeedStore::is_empty`].
    pub async fn is_empty(&self) -> Read<bool> {
        let empty = async {
            for (conn, sql) in [
                (&self.user, "select exists(select 1 from users)"),
                (&self.tweet, "select exists(select 1 from tweets)"),
            ] {
                if query_scalar::<Postgres, bool>(sql).fetch_one(&mut *conn.lock().await).await? {
                    return Ok(false);
                }
            }
            Ok(true)
        };
        self.ends(empty).await.map_err(|fault| fault.to_error(STORE))
    }

    /// See [`crate::ports::SeedStore::begin`].
    pub async fn begin(&self, what: &str) -> Outcome<()> {
        self.write(async {
            let sql = "insert into seeds (id, what) values (1, $1)";
            query::<Postgres>(sql).bind(what).execute(&mut *self.user.lock().await).await?;
            Ok(())
        })
        .await
    }

    /// Whether the user's batch is there.
    pub async fn has_user(&self, last: UserId) -> Read<bool> {
        self.has(&self.user, "select exists(select 1 from users where id = $1)", last.0).await
    }

    /// Whether the tweet's batch is there.
    pub async fn has_tweet(&self, last: &Body) -> Read<bool> {
        self.has(&self.tweet, "select exists(select 1 from tweets where id = $1)", last.id.0).await
    }

    /// Accounts, counts and pairs.
    pub async fn users(&self, batch: &[SeedUser]) -> Outcome<()> {
        let (mut users, mut counts, mut edges) =
            (Rows::default(), Rows::default(), Rows::default());
        for SeedUser { account, following, followers, pairs, .. } in batch {
            let Account { id, handle, name, created_at_ms } = account;
            let row = users.number(key(id.0)).text(Some(handle.as_str()));
            row.text(Some(name.as_str())).number(bound(*created_at_ms)).end();
            let row = counts.number(key(id.0)).number(bound(followers.len() as u64));
            row.number(bound(following.len() as u64)).end();
            for PairChange { pair, version, state } in pairs {
                let row = edges.number(key(pair.low.0)).number(key(pair.high.0));
                let row = row.number(key(*version));
                row.truth(state.low.follows).truth(state.high.follows).end();
            }
        }
        self.write(async {
            let mut conn = self.user.lock().await;
            let mut transaction = conn.begin().await?;
            let table = "users (id, handle, name, created_at_ms)";
            users.copy(&mut transaction, table).await?;
            counts.copy(&mut transaction, "counts (user_id, followers, following)").await?;
            let table = "edges (low, high, version, low_follows, high_follows)";
            edges.copy(&mut transaction, table).await?;
            transaction.commit().await
        })
        .await
    }

    /// Tweets, and the last of each of their authors.
    pub async fn tweets(&self, batch: &[Body]) -> Outcome<()> {
        let mut rows = Rows::default();
        for Body { id, author, handle, name, text, media, created_at_ms } in batch {
            let row = rows.number(key(id.0)).number(key(author.0)).text(Some(handle.as_str()));
            let row = row.text(Some(name.as_str())).text(Some(text.as_str()));
            row.number(bound(*created_at_ms)).text(to_column(media).as_deref()).end();
        }
        let (first, last) = (batch.first().map(|b| b.id.0), batch.last().map(|b| b.id.0));
        self.write(async {
            let mut conn = self.tweet.lock().await;
            let mut transaction = conn.begin().await?;
            let table = "tweets (id, author_id, handle, name, text, created_at_ms, media)";
            rows.copy(&mut transaction, table).await?;
            let sql = "
                insert into authors (id, last_tweet_id)
                select author_id, max(id) from tweets where id between $1 and $2 group by author_id
                on conflict (id) do update set last_tweet_id =
                    greatest(authors.last_tweet_id, excluded.last_tweet_id)";
            let bounds = (key(first.unwrap_or(0)), key(last.unwrap_or(0)));
            let authors = query::<Postgres>(sql).bind(bounds.0).bind(bounds.1);
            authors.execute(&mut *transaction).await?;
            transaction.commit().await
        })
        .await
    }

    /// See [`crate::ports::SeedStore::finish`].
    pub async fn finish(&self, password: &PasswordHash) -> Outcome<()> {
        self.write(async {
            for conn in [&self.user, &self.tweet] {
                query::<Postgres>("analyze").execute(&mut *conn.lock().await).await?;
            }
            let mut conn = self.user.lock().await;
            let mut transaction = conn.begin().await?;
            let sql = "insert into credentials (user_id, password) select id, $1 from users
                       on conflict (user_id) do nothing";
            let given = query::<Postgres>(sql).bind(&password.0);
            given.execute(&mut *transaction).await?;
            query::<Postgres>("update seeds set done = true").execute(&mut *transaction).await?;
            transaction.commit().await
        })
        .await
    }

    async fn has(&self, conn: &Mutex<PgConnection>, sql: &'static str, id: u64) -> Read<bool> {
        let has = async {
            let has = query_scalar::<Postgres, bool>(sql).bind(key(id));
            has.fetch_one(&mut *conn.lock().await).await
        };
        self.ends(has).await.map_err(|fault| fault.to_error(STORE))
    }

    /// A write that did not end well may have happened; whoever fills again finds out.
    async fn write(&self, work: impl Future<Output = Result<(), Error>>) -> Outcome<()> {
        match self.ends(work).await {
            Ok(()) => Outcome::Done(()),
            Err(fault) => Outcome::Unknown(fault.to_error(STORE)),
        }
    }

    async fn ends<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Fault> {
        let ended = self.rt.timeout(BATCH_MAX, work).await;
        ended.map_or_else(|_| Err(Fault::Late(BATCH_MAX.as_millis())), |done| Ok(done?))
    }
}
