//! Connections that are cut and fall silent; a server that is frozen and killed.

use chirp::{
    adapters::cassandra::migrate,
    config::Cassandra,
    domain::{TweetId, UserId, Window},
    ports::{Kind, Outcome, StoredBody, TimelineStore},
};

use super::{ASKS_MAX, Server, behind, heals, tweet};
use crate::support::{
    proxy::{Proxy, Rule},
    run::{Backend, answers},
    server::docker_does,
    servers::endpoint,
};

/// With bounds that a scenario can wait for.
fn impatient(config: &Cassandra) -> Cassandra {
    Cassandra { connect_timeout_ms: 500, call_ms: 500, ..config.clone() }
}

pub async fn a_write_that_was_cut_off_is_unknown(server: Server) {
    let cut = b"text of 77";
    for (rule, arrived) in [(Rule::CutBefore(cut), false), (Rule::CutAfter(cut), true)] {
        // Its tries use up all connections, or leave some over which more could be written.
        for connections in [2, 8] {
            let config = Cassandra { connections, ..server.empty().await };
            let proxy = Proxy::before(server.port());
            let store = server.open(&behind(&proxy, &config)).await;
            let direct = server.open(&config).await;
            proxy.set(rule);
            let outcome = store.put_tweets(&[tweet(77, 1)]).await;
            let unknown = matches!(&outcome, Outcome::Unknown(e) if e.kind == Kind::Unavailable);
            assert!(unknown, "{rule:?}: {outcome:?}");
            let found = direct.bodies(&[TweetId(77)]).await.unwrap();
            assert_eq!(found[0].is_some(), arrived, "{rule:?}");
            let listed = direct.author_tweets(UserId(1), Window::Latest, 9).await.unwrap();
            assert!(listed.is_empty(), "nothing follows what is not certain");
            assert_eq!(direct.authors(&[UserId(1)]).await.unwrap()[0].latest, TweetId(0));
            proxy.set(Rule::Pass);
            heals(&server, &store).await;
            assert!(store.put_tweets(&[tweet(77, 1)]).await.is_done());
            let found = direct.bodies(&[TweetId(77)]).await.unwrap();
            assert_eq!(found, [Some(StoredBody::Live(tweet(77, 1)))], "{rule:?}");
        }
    }
}

pub async fn a_write_without_a_connection_has_failed(server: Server) {
    let config = server.empty().await;
    let proxy = Proxy::before(server.port());
    let store = server.open(&behind(&proxy, &config)).await;
    proxy.set(Rule::Refuse);
    // Once the driver has noticed.
    let mut asks = 0;
    let failed = loop {
        match store.delete_tweets(&[TweetId(5), TweetId(6)]).await {
            Outcome::Failed(error) => break error,
            other => assert!(asks < ASKS_MAX && !other.is_done(), "{other:?}"),
        }
        asks += 1;
    };
    assert_eq!(failed.kind, Kind::Unavailable);
    assert!(store.ping().await.is_err());
}

pub async fn a_silent_connection_is_an_error_and_a_new_one_is_made(server: Server) {
    let config = server.empty().await;
    let proxy = Proxy::before(server.port());
    let store = server.open(&behind(&proxy, &impatient(&config))).await;
    proxy.set(Rule::HalfOpen);
    let silent = store.delete_tweets(&[TweetId(5)]).await;
    assert!(matches!(&silent, Outcome::Unknown(e) if e.kind == Kind::Timeout), "{silent:?}");
    proxy.set(Rule::Pass);
    heals(&server, &store).await;
    assert!(store.delete_tweets(&[TweetId(5)]).await.is_done());
}

pub async fn a_frozen_server_is_an_error_and_thawed_it_answers(server: Server) {
    let container = Server::order().start().await.unwrap();
    let address = format!("127.0.0.1:{}", container.port);
    let config = Cassandra { addresses: address.clone(), ..server.config.clone() };
    answers(&container, async || migrate(&server.rt, &endpoint(&config)).await).await;
    let store = server.open(&impatient(&config)).await;
    docker_does(&["pause", container.id()]);
    for id in [20, 30, 40] {
        let read = store.bodies(&[TweetId(id)]).await;
        assert_eq!(read.unwrap_err().kind, Kind::Timeout);
        let write = store.put_tweets(&[tweet(id, 1)]).await;
        assert!(matches!(&write, Outcome::Unknown(e) if e.kind == Kind::Timeout), "{write:?}");
    }
    let many: Vec<TweetId> = (0..1_000).map(TweetId).collect();
    assert!(store.bodies(&many).await.is_err(), "the first error ends it");
    // Its kernel still accepts connections.
    let silent =
        chirp::adapters::cassandra::check(&server.rt, &endpoint(&impatient(&config))).await;
    assert!(silent.unwrap_err().to_string().contains(&address));
    docker_does(&["unpause", container.id()]);
    heals(&server, &store).await;
    assert!(store.put_tweets(&[tweet(50, 1)]).await.is_done());
}

pub async fn a_server_that_was_killed_is_found_again_with_all_it_acknowledged(server: Server) {
    let container = Server::order().start().await.unwrap();
    let address = format!("127.0.0.1:{}", container.port);
    let config = Cassandra { addresses: address, ..server.config.clone() };
    answers(&container, async || migrate(&server.rt, &endpoint(&config)).await).await;
    let store = server.open(&Cassandra { call_ms: 2_000, ..config.clone() }).await;
    let mut written = Vec::new();
    for id in 1..=200 {
        if store.put_tweets(&[tweet(id, 1)]).await.is_done() {
            written.push(TweetId(id));
        }
    }
    docker_does(&["kill", container.id()]);
    assert!(!store.put_tweets(&[tweet(300, 1)]).await.is_done());
    docker_does(&["start", container.id()]);
    heals(&server, &store).await;
    written.reverse();
    let found = store.author_tweets(UserId(1), Window::Latest, 1_000).await.unwrap();
    let kept: Vec<TweetId> = found.into_iter().filter(|id| id.0 <= 200).collect();
    assert_eq!(kept, written);
}
