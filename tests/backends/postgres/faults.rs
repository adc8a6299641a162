//! Connections that are cut, held and frozen.

use std::time::Duration;

use chirp::{
    adapters::postgres::{TweetStores, UserStores},
    config::Postgres,
    domain::{Change, TweetId, UserId, Window},
    ports::{Created, Deleted, EdgeChange, IdempotencyKey, Kind, NewTweet, Outcome, TweetStore},
};

use super::{Server, contracts::tweet};
use crate::support::proxy::{Proxy, Rule};

fn keyed(id: u64) -> NewTweet {
    let key = Some(IdempotencyKey { key: "k".to_owned(), body_hash: [1; 32] });
    NewTweet { key, ..tweet(id, 1) }
}

fn ask(change: Change) -> EdgeChange {
    EdgeChange { actor: UserId(1), target: UserId(2), change, at_ms: 5, trace: None }
}

async fn written(store: &dyn TweetStore) -> usize {
    store.by_author(UserId(1), Window::Latest, 100).await.unwrap().len()
}

pub async fn a_commit_that_was_cut_off_is_unknown_and_may_be_repeated(server: Server) {
    for (rule, arrived) in [(Rule::CutBefore(b"COMMIT"), 0), (Rule::CutAfter(b"COMMIT"), 1)] {
        let database = server.tweet().await;
        let proxy = Proxy::before(server.config.port);
        let behind = TweetStores::over(server.pool_behind(&proxy, &database));
        let direct = TweetStores::over(server.pool(&database));
        proxy.set(rule);
        let cut = behind.tweets.create(&keyed(10)).await;
        assert!(matches!(cut, Outcome::Unknown(_)), "{rule:?}: {cut:?}");
        proxy.set(Rule::Pass);
        // Waits for the author's row, and so for the end of what was cut off.
        let again = behind.tweets.create(&keyed(20)).await.done();
        match again {
            Some(Created::Replay(body)) if arrived == 1 => assert_eq!(body.id, TweetId(10)),
            Some(Created::Fresh(body)) if arrived == 0 => assert_eq!(body.id, TweetId(20)),
            other => panic!("{rule:?}: {other:?}"),
        }
        assert_eq!(written(&*direct.tweets).await, 1, "{rule:?}");
        assert_eq!(direct.outbox.stats().await.unwrap().unsent, 1, "{rule:?}");
    }
}

pub async fn a_statement_of_its_own_that_was_cut_off_is_unknown(server: Server) {
    let database = server.tweet().await;
    let proxy = Proxy::before(server.config.port);
    let stores = TweetStores::over(server.pool_behind(&proxy, &database));
    assert!(stores.tweets.create(&tweet(10, 1)).await.is_done());
    proxy.set(Rule::CutAfter(b"deleted_at_ms"));
    let cut = stores.tweets.delete(UserId(1), TweetId(10), 5, None).await;
    assert!(matches!(cut, Outcome::Unknown(_)), "{cut:?}");
    proxy.set(Rule::Pass);
    let again = stores.tweets.delete(UserId(1), TweetId(10), 5, None).await;
    assert!(matches!(again, Outcome::Done(Deleted::Gone { .. })), "{again:?}");
}

pub async fn a_write_that_was_cut_off_before_its_commit_has_failed(server: Server) {
    let database = server.tweet().await;
    let proxy = Proxy::before(server.config.port);
    let behind = TweetStores::over(server.pool_behind(&proxy, &database));
    let direct = TweetStores::over(server.pool(&database));
    for rule in [Rule::CutAfter(b"insert into tweets"), Rule::CutBefore(b"BEGIN"), Rule::Refuse] {
        proxy.set(rule);
        let cut = behind.tweets.create(&tweet(10, 1)).await;
        assert!(matches!(cut, Outcome::Failed(_)), "{rule:?}: {cut:?}");
        proxy.set(Rule::Pass);
    }
    // Waits for the author's row, and so for the end of what was cut off.
    assert!(direct.tweets.create(&tweet(20, 1)).await.is_done());
    assert_eq!(written(&*direct.tweets).await, 1);
    assert_eq!(direct.outbox.stats().await.unwrap().unsent, 1);
}

pub async fn a_connection_that_died_before_the_commit_is_replaced(server: Server) {
    let database = server.tweet().await;
    let stores = TweetStores::over(server.pool(&database));
    assert!(stores.tweets.create(&tweet(10, 1)).await.is_done());
    assert!(written(&*stores.tweets).await == 1);
    server.end_sessions(&database).await;
    let created = stores.tweets.create(&tweet(20, 1)).await;
    assert!(created.is_done(), "{created:?}");
    server.end_sessions(&database).await;
    assert_eq!(written(&*stores.tweets).await, 2);
}

pub async fn a_commit_that_comes_late_undoes_nothing_that_came_after_it(server: Server) {
    let database = server.user().await;
    let proxy = Proxy::before(server.config.port);
    // The lock outlives the call that the client gives up, as it does with a client that is cut off.
    let config = Postgres { silence_ms: 60_000, ..server.config.clone() };
    let behind = Postgres { port: proxy.port, ..config.clone() };
    let behind = UserStores::over(server.pool_with(&behind, &database)).graph;
    let direct = UserStores::over(server.pool_with(&config, &database)).graph;
    // A pair that has its row: the first change of a pair also waits for the row's unique key.
    assert!(direct.change(&ask(Change::Mute)).await.is_done());
    proxy.set(Rule::Hold(b"COMMIT"));
    let follow = behind.change(&ask(Change::Follow)).await;
    assert!(matches!(&follow, Outcome::Unknown(e) if e.kind == Kind::Timeout), "{follow:?}");
    // Its commit has not arrived yet. Nothing later may be answered before it has, or never will.
    let unfollow = direct.change(&ask(Change::Unfollow)).await;
    assert!(matches!(&unfollow, Outcome::Failed(e) if e.kind == Kind::Timeout), "{unfollow:?}");
    proxy.set(Rule::Pass);
    let unfollow = direct.change(&ask(Change::Unfollow)).await.done().unwrap().unwrap();
    assert!(unfollow.fresh, "the late follow came before");
    assert_eq!(unfollow.now.version, 3);
    assert!(!direct.pair(UserId(1), UserId(2)).await.unwrap().low.follows);
    assert_eq!(direct.counts(UserId(2)).await.unwrap().followers, 0);
}

pub async fn a_frozen_server_is_an_error_and_thawed_it_answers(server: Server) {
    let database = server.tweet().await;
    let proxy = Proxy::before(server.config.port);
    let config = Postgres {
        port: proxy.port,
        acquire_ms: 200,
        lock_ms: 100,
        statement_ms: 200,
        call_ms: 400,
        connections_max: 2,
        ..server.config.clone()
    };
    let stores = TweetStores::over(server.pool_with(&config, &database));
    assert!(stores.tweets.create(&tweet(10, 1)).await.is_done());
    proxy.set(Rule::Freeze);
    // More calls than connections: those that hold one and those that wait for one.
    for id in [20, 30, 40] {
        let read = stores.tweets.by_author(UserId(1), Window::Latest, 9).await;
        assert_eq!(read.unwrap_err().kind, Kind::Timeout);
        let write = stores.tweets.create(&tweet(id, 1)).await;
        assert!(matches!(&write, Outcome::Failed(e) if e.kind == Kind::Timeout), "{write:?}");
        let delete = stores.tweets.delete(UserId(1), TweetId(10), 5, None).await;
        assert_eq!(delete.certain().unwrap_err().kind, Kind::Timeout);
    }
    proxy.set(Rule::Pass);
    assert_eq!(stores.tweets.create(&tweet(50, 1)).await.map(drop), Outcome::Done(()));
}

pub async fn a_silent_transaction_loses_its_locks(server: Server) {
    let database = server.user().await;
    let proxy = Proxy::before(server.config.port);
    let config = Postgres { silence_ms: 300, ..server.config.clone() };
    let behind = Postgres { port: proxy.port, ..config.clone() };
    let behind = UserStores::over(server.pool_with(&behind, &database)).graph;
    let direct = UserStores::over(server.pool_with(&config, &database)).graph;
    proxy.set(Rule::Hold(b"COMMIT"));
    let follow = behind.change(&ask(Change::Follow)).await;
    assert!(matches!(follow, Outcome::Unknown(_)), "{follow:?}");
    // The server has ended it meanwhile: nobody waits, and the commit finds nothing.
    let block = direct.change(&ask(Change::Block)).await.done().unwrap().unwrap();
    assert_eq!(block.now.version, 1);
    proxy.set(Rule::Pass);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!direct.pair(UserId(1), UserId(2)).await.unwrap().low.follows);
}

pub async fn connections_that_died_while_idle_are_not_noticed(server: Server) {
    let database = server.tweet().await;
    let stores = TweetStores::over(server.pool(&database));
    let posts: Vec<_> = (1..=8)
        .map(|author| {
            let store = stores.tweets.clone();
            tokio::spawn(async move { store.create(&tweet(author * 10, author)).await.is_done() })
        })
        .collect();
    for post in posts {
        assert!(post.await.unwrap());
    }
    server.end_sessions(&database).await;
    // Idle for longer than a connection is trusted.
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    let deleted = stores.tweets.delete(UserId(1), TweetId(10), 5, None).await;
    assert_eq!(deleted, Outcome::Done(Deleted::Gone { fresh: true }));
}
