//! A whole data set in bulk, into files that are empty: accounts, pairs and tweets, as if all of them
//! had been made long ago. No event is written.

use async_trait::async_trait;
use rusqlite::{Connection, params};

use super::{
    graph::{self, Count, add_count},
    sqlite::{Db, Fault, Statements, bound, key},
    timeline_store::{SqlTimelines, put_tweet, write_pairs},
};
use crate::{
    domain::{Body, PairChange, UserId, fanout::Class},
    ports::{Account, Outcome, PasswordHash, Read, SeedMark, SeedStore, SeedUser, TimelineStore},
};

const STORE: &str = "seeds";

pub(super) const TABLES: &str = "
-- At most one row: what the data set was filled with, as the command line says it.
create table seeds (
    id integer primary key check (id = 1),
    what text not null,
    done integer not null default 0
);
";

/// Fills the files of a data folder.
#[derive(Clone, Debug)]
pub struct Seeds {
    user: Db,
    tweet: Db,
    timeline: Db,
}

impl Seeds {
    /// Fills `user.db`, `tweet.db` and `timeline.db`.
    #[must_use]
    pub const fn new(user: Db, tweet: Db, timeline: Db) -> Self {
        Self { user, tweet, timeline }
    }
}

/// What a data set was filled with, out of its `user.db`.
pub async fn mark(user: &Db) -> Read<Option<SeedMark>> {
    let mark = |conn: &Connection| {
        conn.one("select what, done from seeds", [], |row| {
            Ok(SeedMark { what: row.get(0)?, done: row.get(1)? })
        })
    };
    user.read(STORE, mark).await
}

/// Whether the table has the row; `sql` looks it up by its id.
async fn has(db: &Db, sql: &'static str, id: u64) -> Read<bool> {
    let find = move |conn: &Connection| conn.one(sql, [key(id)], |_| Ok(()));
    Ok(db.read(STORE, find).await?.is_some())
}

fn put_user(conn: &Connection, user: &SeedUser) -> Result<(), Fault> {
    let Account { id, handle, name, created_at_ms } = &user.account;
    let sql = "insert into users (id, handle, name, created_at_ms) values (?1, ?2, ?3, ?4)";
    let row = params![key(id.0), handle.as_str(), name.as_str(), bound(*created_at_ms)];
    conn.run(sql, row)?;
    for (count, of) in [(Count::Followers, &user.followers), (Count::Following, &user.following)] {
        // Any shard will do; the sum is what counts.
        add_count(conn, *id, count, *id, bound(of.len() as u64))?;
    }
    user.pairs.iter().try_for_each(|change| graph::put_new_pair(conn, change).map(drop))
}

fn put_truth(conn: &Connection, body: &Body) -> Result<(), Fault> {
    let Body { id, author, handle, name, text, created_at_ms, .. } = body;
    let sql = "insert into tweets (id, author_id, handle, name, text, created_at_ms)
               values (?1, ?2, ?3, ?4, ?5, ?6)";
    let (handle, name, text) = (handle.as_str(), name.as_str(), text.as_str());
    let row = params![key(id.0), key(author.0), handle, name, text, bound(*created_at_ms)];
    conn.run(sql, row).map(drop)
}

#[async_trait]
impl SeedStore for Seeds {
    async fn mark(&self) -> Read<Option<SeedMark>> {
        mark(&self.user).await
    }

    async fn is_empty(&self) -> Read<bool> {
        for (db, table) in
            [(&self.user, "users"), (&self.tweet, "tweets"), (&self.timeline, "tweets")]
        {
            let sql = format!("select 1 from {table} limit 1");
            let find = move |conn: &Connection| conn.one(&sql, [], |_| Ok(()));
            if db.read(STORE, find).await?.is_some() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn begin(&self, what: &str) -> Outcome<()> {
        let what = what.to_owned();
        let begin = move |conn: &Connection| {
            conn.run("insert into seeds (id, what) values (1, ?1)", [what])?;
            Ok(())
        };
        self.user.write(STORE, begin).await
    }

    async fn users(&self, batch: Vec<SeedUser>) -> Outcome<()> {
        let Some(last) = batch.last().map(|user| user.account.id) else {
            return Outcome::Done(());
        };
        match has(&self.user, "select 1 from users where id = ?1", last.0).await {
            Ok(false) => {}
            Ok(true) => return Outcome::Done(()),
            Err(error) => return Outcome::Failed(error),
        }
        let pairs: Vec<PairChange> = batch.iter().flat_map(|user| user.pairs.clone()).collect();
        let ended = self.timeline.write(STORE, move |conn| write_pairs(conn, &pairs)).await;
        if !ended.is_done() {
            return ended;
        }
        let put = move |conn: &Connection| batch.iter().try_for_each(|user| put_user(conn, user));
        self.user.write(STORE, put).await
    }

    async fn tweets(&self, batch: Vec<Body>) -> Outcome<()> {
        let Some(last) = batch.last().map(|body| body.id) else { return Outcome::Done(()) };
        match has(&self.tweet, "select 1 from tweets where id = ?1", last.0).await {
            Ok(false) => {}
            Ok(true) => return Outcome::Done(()),
            Err(error) => return Outcome::Failed(error),
        }
        let copies = batch.clone();
        let copy = move |conn: &Connection| copies.iter().try_for_each(|b| put_tweet(conn, b));
        let ended = self.timeline.write(STORE, copy).await;
        if !ended.is_done() {
            return ended;
        }
        let put = move |conn: &Connection| batch.iter().try_for_each(|body| put_truth(conn, body));
        self.tweet.write(STORE, put).await
    }

    async fn pulled(&self, authors: &[UserId]) -> Outcome<()> {
        let copy = SqlTimelines::new(self.timeline.clone());
        for &author in authors {
            let ended = copy.set_class(author, Class::Pull).await;
            if !ended.is_done() {
                return ended;
            }
        }
        Outcome::Done(())
    }

    async fn finish(&self, password: &PasswordHash) -> Outcome<()> {
        let password = password.0.clone();
        let finish = move |conn: &Connection| {
            let sql = "insert or ignore into credentials (user_id, password)
                       select id, ?1 from users";
            conn.run(sql, [password])?;
            conn.run("update seeds set done = 1", [])?;
            Ok(())
        };
        self.user.write(STORE, finish).await
    }
}
