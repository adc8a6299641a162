//! Passwords that change while processes run.

use std::{fs, sync::Arc, time::Duration};

use chirp::{
    adapters::{
        endpoint::Endpoint,
        postgres::{OpenError, Pg, TweetStores},
    },
    config::{Postgres, Secret},
    domain::{TweetId, UserId, Window},
    ports::{Kind, Outcome, TweetStore, outcome::twice},
};

use super::{Server, contracts::tweet};
use crate::support::servers::{Stuck, endpoint};

/// Longer than an idle connection is used without being asked whether it lives.
const ASKED_AFTER: Duration = Duration::from_millis(1_200);
/// Longer than a connection takes to go back into its pool.
const RETURNED_AFTER: Duration = Duration::from_millis(300);

async fn readable(store: &dyn TweetStore) -> bool {
    store.by_author(UserId(1), Window::Latest, 10).await.is_ok()
}

pub async fn a_password_that_was_changed_is_read_for_the_next_connection(server: Server) {
    let (database, user) = (server.tweet().await, server.name());
    let sets = async |password: &str| {
        server.run("postgres", &format!("alter role {user} password '{password}'")).await;
    };
    server.run("postgres", &format!("create role {user} superuser login")).await;
    sets("hunter2hunter2").await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    fs::write(&file, "hunter2hunter2\n").unwrap();
    let config = Postgres {
        user: user.clone(),
        password: Secret::default(),
        password_file: file.clone(),
        tweet_database: database.clone(),
        ..server.config.clone()
    };
    let stores = TweetStores::over(server.pool_with(&config, &database));
    assert!(stores.tweets.create(&tweet(10, 1)).await.is_done());

    // What is connected stays so.
    sets("hunter3hunter3").await;
    assert!(stores.tweets.create(&tweet(20, 1)).await.is_done());
    fs::write(&file, "hunter3hunter3\n").unwrap();
    // The pool takes the idle connection, finds it dead, and makes another in its place.
    server.end_sessions(&database).await;
    server.rt.sleep(ASKED_AFTER).await;
    assert!(readable(&*stores.tweets).await);
    sets("hunter4hunter4").await;
    fs::write(&file, "hunter4hunter4\n").unwrap();
    server.end_sessions(&database).await;
    // A connection that was used a moment ago is not looked at before it is used again.
    let (deleted, _) = twice(|| stores.tweets.delete(UserId(1), TweetId(10), 5, None)).await;
    assert!(deleted.is_done(), "{deleted:?}");

    // While the file is away, what it held last is used.
    fs::remove_file(&file).unwrap();
    server.end_sessions(&database).await;
    assert!(readable(&*stores.tweets).await);
    sets("hunter5hunter5").await;
    server.end_sessions(&database).await;
    let away = stores.tweets.create(&tweet(30, 1)).await;
    let Outcome::Failed(away) = away else { panic!("{away:?}") };
    assert_eq!(away.kind, Kind::Unavailable, "{away}");
    let unopened =
        TweetStores::open(&server.rt, &endpoint(&config), false).await.map(drop).unwrap_err();
    assert!(matches!(unopened, OpenError::Login { .. }) && unopened.passes(), "{unopened}");
    fs::write(&file, "hunter5hunter5\n").unwrap();
    assert!(stores.tweets.create(&tweet(30, 1)).await.is_done());
    TweetStores::open(&server.rt, &endpoint(&config), false).await.map(drop).unwrap();

    let text = format!("{away} {unopened} {config:?} {:?}", stores.db);
    assert!(text.contains(file.to_str().unwrap()) && !text.contains("hunter"), "{text}");
}

pub async fn who_gives_no_password_keeps_nobody_from_what_is_connected(server: Server) {
    let database = server.tweet().await;
    let stuck = Arc::new(Stuck::new(&server.config.password.0));
    let config = Postgres { connections_max: 2, acquire_ms: 300, ..server.config.clone() };
    let endpoint = Endpoint { config: Arc::new(config), tokens: stuck.clone() };
    let stores = TweetStores::over(Pg::new(&server.rt, &endpoint, &database));
    stuck.sticks(true);
    let unasked = stores.tweets.create(&tweet(10, 1)).await;
    let Outcome::Failed(unasked) = unasked else { panic!("{unasked:?}") };
    assert_eq!(unasked.kind, Kind::Timeout, "{unasked}");
    assert!(unasked.message.contains("no password was given in time"), "{unasked}");
    stuck.sticks(false);
    assert!(stores.tweets.create(&tweet(10, 1)).await.is_done());
    stuck.sticks(true);
    server.rt.sleep(RETURNED_AFTER).await;
    assert!(stores.tweets.create(&tweet(20, 1)).await.is_done());
}
