//! A bare writer of files: each in one transaction, in the order of its tables.

use std::{path::Path, time::Instant};

use chirp::{
    adapters::embedded::{
        Stores,
        sqlite::{Options, bound, key},
    },
    domain::fanout::bucket_of,
    rt::tokio_rt::TokioRuntime,
    stack::seed::Plan,
};
use rusqlite::{Connection, Params, params};

/// Tables that are counted, by their files.
const TABLES: [(&str, &[&str]); 3] = [
    ("user.db", &["users", "counts", "edges"]),
    ("timeline.db", &["relations", "followers", "tweets", "author_tweets", "authors"]),
    ("tweet.db", &["tweets"]),
];

/// Writes the rows of `plan` into files in `dir`, and gives the seconds that it took.
pub(super) fn fill(dir: &Path, plan: &Plan) -> f64 {
    Stores::open(dir, &TokioRuntime::handle(), Options::default()).unwrap().close();
    let began = Instant::now();
    in_file(dir, "timeline.db", |conn| copy(conn, plan));
    in_file(dir, "user.db", |conn| users(conn, plan));
    in_file(dir, "tweet.db", |conn| {
        let sql = "insert into tweets (id, author_id, handle, name, text, created_at_ms)
                   values (?1, ?2, ?3, ?4, ?5, ?6)";
        tweets(conn, sql, plan);
    });
    began.elapsed().as_secs_f64()
}

/// Rows that a data set has in the tables that are compared.
pub(super) fn rows(dir: &Path) -> u64 {
    let count = |(file, tables): &(&str, &[&str])| -> i64 {
        let conn = Connection::open(dir.join(file)).unwrap();
        let rows = |table: &&str| -> i64 {
            conn.query_row(&format!("select count(*) from {table}"), [], |row| row.get(0)).unwrap()
        };
        tables.iter().map(rows).sum()
    };
    TABLES.iter().map(count).sum::<i64>().cast_unsigned()
}

fn in_file(dir: &Path, file: &str, work: impl FnOnce(&Connection)) {
    let mut conn = Connection::open(dir.join(file)).unwrap();
    // As the stores have it.
    conn.execute_batch("pragma synchronous = full; pragma cache_size = -65536;").unwrap();
    let transaction = conn.transaction().unwrap();
    work(&transaction);
    transaction.commit().unwrap();
}

fn insert<R: Params>(conn: &Connection, sql: &str, rows: impl IntoIterator<Item = R>) {
    let mut statement = conn.prepare(sql).unwrap();
    for row in rows {
        statement.execute(row).unwrap();
    }
}

fn users(conn: &Connection, plan: &Plan) {
    let mut add = conn
        .prepare("insert into users (id, handle, name, created_at_ms) values (?1, ?2, ?3, ?4)")
        .unwrap();
    for account in (0..plan.users()).map(|user| plan.account(user)) {
        let (handle, name) = (account.handle.as_str(), account.name.as_str());
        let at = bound(account.created_at_ms);
        add.execute(params![key(account.id.0), handle, name, at]).unwrap();
    }
    let graph = plan.graph();
    let counts = (0..plan.users()).flat_map(|user| {
        let id = plan.id(user);
        let (followers, following) = (graph.followers.of(user), graph.following.of(user));
        [("followers", followers.len()), ("following", following.len())]
            .map(|(kind, n)| (key(id.0), kind, bucket_of(id) % 16, bound(n as u64)))
    });
    insert(conn, "insert into counts (user_id, kind, shard, n) values (?1, ?2, ?3, ?4)", counts);
    let pairs = (0..plan.users()).flat_map(|user| plan.pairs(user));
    let edges = pairs.map(|change| {
        let (pair, state) = (change.pair, change.state);
        let version = key(change.version);
        (key(pair.low.0), key(pair.high.0), version, state.low.follows, state.high.follows)
    });
    let sql = "
        insert into edges (low, high, version, low_follows, low_blocks, low_mutes,
            high_follows, high_blocks, high_mutes)
        values (?1, ?2, ?3, ?4, 0, 0, ?5, 0, 0)";
    insert(conn, sql, edges);
}

fn copy(conn: &Connection, plan: &Plan) {
    let relations = (0..plan.users()).flat_map(|user| {
        let id = key(plan.id(user).0);
        let row =
            move |(other, version): (chirp::domain::UserId, u64)| (id, key(other.0), key(version));
        plan.following(user).into_iter().map(row)
    });
    let sql = "
        insert into relations (user_id, other_id, version, follows, blocked, mutes)
        values (?1, ?2, ?3, 1, 0, 0)";
    insert(conn, sql, relations);
    let followers = (0..plan.users()).flat_map(|user| {
        let id = key(plan.id(user).0);
        let row = |(follower, _)| (id, bucket_of(follower), key(follower.0));
        let mut rows: Vec<_> = plan.followers(user).into_iter().map(row).collect();
        rows.sort_unstable();
        rows
    });
    let sql = "
        insert into followers (followee_id, bucket, follower_id, follows) values (?1, ?2, ?3, 1)";
    insert(conn, sql, followers);
    let sql = "
        insert into tweets (id, author_id, handle, name, text, created_at_ms)
        values (?1, ?2, ?3, ?4, ?5, ?6)";
    tweets(conn, sql, plan);
    let all = plan.by_author();
    let by_author = || (0..plan.users()).zip(&all).filter(|(_, ids)| !ids.is_empty());
    let places = by_author().flat_map(|(user, ids)| {
        let author = key(plan.id(user).0);
        ids.iter().map(move |id| (author, key(id.0)))
    });
    insert(conn, "insert into author_tweets (author_id, tweet_id) values (?1, ?2)", places);
    let latest = by_author().map(|(user, ids)| (key(plan.id(user).0), key(ids[ids.len() - 1].0)));
    insert(conn, "insert into authors (author_id, latest) values (?1, ?2)", latest);
}

fn tweets(conn: &Connection, sql: &str, plan: &Plan) {
    let mut add = conn.prepare(sql).unwrap();
    for body in plan.bodies(0..plan.tweets()) {
        let (id, author) = (key(body.id.0), key(body.author.0));
        let (handle, name) = (body.handle.as_str(), body.name.as_str());
        let (text, at) = (body.text.as_str(), bound(body.created_at_ms));
        add.execute(params![id, author, handle, name, text, at]).unwrap();
    }
}
