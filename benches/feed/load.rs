//! Stores a world in bulk, as if everything in it had been posted and fanned out long ago.

use std::{collections::BTreeMap, fmt::Write as _, path::Path};

use chirp::{
    adapters::{
        cassandra::CassandraTimelineStore,
        embedded::{
            Stores,
            sqlite::{Fault, Options},
            tweets::insert,
        },
        endpoint::Endpoint,
        postgres,
    },
    domain::{Body, Change, Pair, PairChange, PairState, UserId},
    ports::{NewTweet, StoredKey, TimelineStore, users::PasswordHash},
    rt::tokio_rt::TokioRuntime,
};
use futures_util::{StreamExt, stream};

use crate::{
    containers::Servers,
    world::{Plan, wall_ms},
};

/// Tweets of one transaction over files.
const BATCH: usize = 5_000;
/// Tweets or pairs of one call over Cassandra, as workers write them.
const CALL: usize = 100;
/// Such calls at once.
const CALLS_AT_ONCE: usize = 8;

/// Into the stores of the data folder `dir`, which nobody uses yet. Gives the key that signs.
pub(crate) async fn into_folder(plan: &Plan, dir: &Path) -> StoredKey {
    let rt = TokioRuntime::handle();
    let stores = Stores::open(dir, &rt, Options::default()).unwrap();
    let seeder = stores.seeder();
    let password = PasswordHash("nobody logs in".to_owned());
    seeder.users(&plan.accounts, &password).await.certain().unwrap();
    seeder.follows(&plan.edges()).await.certain().unwrap();
    for batch in plan.bodies.chunks(BATCH) {
        stores.timeline.store.put_tweets(batch).await.certain().unwrap();
        let batch = batch.to_vec();
        let write = move |conn: &rusqlite::Connection| {
            for body in batch {
                insert(conn, &NewTweet { body, media: Vec::new(), key: None, trace: None })?;
            }
            conn.execute("update outbox set sent_at_ms = at_ms where sent_at_ms is null", [])?;
            Ok::<(), Fault>(())
        };
        stores.tweet.db.write("bench", write).await.certain().unwrap();
    }
    let key = new_key(&stores).await;
    stores.close();
    key
}

/// Makes the key that signs.
pub(crate) async fn new_key(stores: &Stores) -> StoredKey {
    let key = StoredKey { kid: "bench".to_owned(), seed: [9; 32], created_at_ms: wall_ms() };
    stores.user.keys.replace(&[], std::slice::from_ref(&key)).await.certain().unwrap();
    key
}

/// Into the servers of a stack that runs: its tweets and its copy of tweets and graph. The accounts
/// stay out, as nobody looks them up. Gives the key that signs.
pub(crate) async fn into_servers(plan: &Plan, servers: &Servers) -> StoredKey {
    let rt = TokioRuntime::handle();
    let config = servers.patient();
    into_postgres(servers, &config.postgres.tweet_database, &plan.bodies);
    let cassandra = Endpoint::configured(&rt, &config.cassandra);
    let store = CassandraTimelineStore::open(&rt, &cassandra).await.unwrap();
    pairs(&store, &plan.edges()).await;
    stream::iter(plan.bodies.chunks(CALL))
        .for_each_concurrent(CALLS_AT_ONCE, |batch| async {
            store.put_tweets(batch).await.certain().unwrap();
        })
        .await;
    key_of(servers).await
}

/// The key that signs the tokens of a stack that runs.
pub(crate) async fn key_of(servers: &Servers) -> StoredKey {
    let (rt, config) = (TokioRuntime::handle(), &servers.config);
    let endpoint = Endpoint::configured(&rt, &config.postgres);
    let users = postgres::Pg::new(&rt, &endpoint, &config.postgres.user_database);
    let keys = postgres::UserStores::over(users).keys.load().await.unwrap();
    keys.into_iter().next().expect("a stack that is ready has a key")
}

/// Tweets and authors into the tables of `database`.
pub(crate) fn into_postgres(servers: &Servers, database: &str, bodies: &[Body]) {
    let mut rows = String::new();
    for Body { id, author, handle, name, text, created_at_ms, .. } in bodies {
        // Neither names nor texts of the bench have tabs, line ends or backslashes.
        let (handle, name, text) = (handle.as_str(), name.as_str(), text.as_str());
        writeln!(rows, "{}\t{}\t{handle}\t{name}\t{text}\t{created_at_ms}", id.0, author.0)
            .unwrap();
    }
    let tweets = "copy tweets (id, author_id, handle, name, text, created_at_ms) from stdin";
    servers.sql(database, tweets, rows.as_bytes());
    let authors = "insert into authors select author_id, max(id) from tweets group by author_id";
    servers.sql(database, authors, &[]);
    servers.sql(database, "vacuum analyze", &[]);
}

/// Makes each first user follow the second, in the timeline role's copy of the graph.
pub(crate) async fn pairs(store: &dyn TimelineStore, edges: &[(UserId, UserId)]) {
    let mut states: BTreeMap<Pair, PairState> = BTreeMap::new();
    for &(follower, followee) in edges {
        let pair = Pair::new(follower, followee).expect("nobody follows themselves");
        let state = states.entry(pair).or_default();
        *state = state.apply(pair, follower, Change::Follow).expect("nobody blocks");
    }
    let change = |(pair, state)| PairChange { pair, version: 1, state };
    let changes: Vec<PairChange> = states.into_iter().map(change).collect();
    stream::iter(changes.chunks(CALL))
        .for_each_concurrent(CALLS_AT_ONCE, |batch| async {
            store.put_pairs(batch).await.certain().unwrap();
        })
        .await;
}
