//! The contract suites, and what they cannot ask of a store that one process owns.

use std::{sync::Arc, time::Duration};

use chirp::{
    adapters::postgres::{Pg, TweetStores, UserStores},
    domain::{Body, DisplayName, Handle, MediaList, TweetId, TweetText, UserId},
    ports::{
        Created, NewTweet, Outcome, TweetStore,
        contract::{Outage, graph, keys, media, outbox, tweets, users},
    },
    wire::events::Event,
};
use parking_lot::Mutex;
use tokio::{runtime, task::block_in_place};

use super::Server;
use crate::support::{
    proxy::{Proxy, Rule},
    run::hold,
};

/// Makes a database for each context, and drops that of the one before.
struct Databases {
    server: Server,
    last: Mutex<Option<String>>,
}

impl Databases {
    fn of(server: Server) -> Self {
        Self { server, last: Mutex::new(None) }
    }

    /// A pool over a fresh database, whose outage is a server that cuts everybody off.
    fn fresh(&self, user: bool) -> (Pg, Option<Outage>) {
        let server = &self.server;
        let last = self.last.lock().take();
        let database = block_in_place(|| {
            runtime::Handle::current().block_on(async {
                if let Some(last) = last {
                    server.run("postgres", &format!("drop database {last} with (force)")).await;
                }
                if user { server.user().await } else { server.tweet().await }
            })
        });
        let proxy = Proxy::before(server.config.port);
        let pool = server.pool_behind(&proxy, &database);
        *self.last.lock() = Some(database);
        (pool, Some(Outage::new(move |_| proxy.set(Rule::Refuse))))
    }

    fn user(&self) -> (UserStores, Option<Outage>) {
        let (pool, outage) = self.fresh(true);
        (UserStores::over(pool), outage)
    }

    fn tweet(&self) -> (TweetStores, Option<Outage>) {
        let (pool, outage) = self.fresh(false);
        (TweetStores::over(pool), outage)
    }
}

pub async fn users_keep_their_contract(server: Server) {
    let (rt, databases) = (server.rt.clone(), Databases::of(server));
    hold(&rt, users::BEHAVIOURS, || {
        let (UserStores { users, .. }, outage) = databases.user();
        users::Context { users, rt: rt.clone(), outage }
    })
    .await;
}

pub async fn the_graph_keeps_its_contract(server: Server) {
    let (rt, databases) = (server.rt.clone(), Databases::of(server));
    hold(&rt, graph::BEHAVIOURS, || {
        let (UserStores { graph, outbox, .. }, outage) = databases.user();
        graph::Context { graph, outbox, rt: rt.clone(), outage }
    })
    .await;
}

pub async fn keys_keep_their_contract(server: Server) {
    let (rt, databases) = (server.rt.clone(), Databases::of(server));
    hold(&rt, keys::BEHAVIOURS, || {
        let (UserStores { keys, .. }, outage) = databases.user();
        keys::Context { keys, rt: rt.clone(), outage }
    })
    .await;
}

pub async fn tweets_keep_their_contract(server: Server) {
    let (rt, databases) = (server.rt.clone(), Databases::of(server));
    hold(&rt, tweets::BEHAVIOURS, || {
        let (TweetStores { tweets, outbox, .. }, outage) = databases.tweet();
        tweets::Context { tweets, outbox, rt: rt.clone(), outage }
    })
    .await;
}

pub async fn uploads_keep_their_contract(server: Server) {
    let (rt, databases) = (server.rt.clone(), Databases::of(server));
    hold(&rt, media::BEHAVIOURS, || {
        let (TweetStores { media, tweets, .. }, outage) = databases.tweet();
        media::Context { media, tweets, rt: rt.clone(), outage }
    })
    .await;
}

pub async fn the_outboxes_keep_their_contract(server: Server) {
    let (rt, databases) = (server.rt.clone(), Databases::of(server));
    hold(&rt, outbox::BEHAVIOURS, || {
        let (TweetStores { tweets, outbox, .. }, outage) = databases.tweet();
        outbox::Context { outbox, feed: Arc::new(tweets), rt: rt.clone(), outage }
    })
    .await;
    hold(&rt, outbox::BEHAVIOURS, || {
        let (UserStores { graph, outbox, .. }, outage) = databases.user();
        outbox::Context { outbox, feed: Arc::new(graph), rt: rt.clone(), outage }
    })
    .await;
}

pub fn tweet(id: u64, author: u64) -> NewTweet {
    let body = Body {
        id: TweetId(id),
        author: UserId(author),
        handle: Handle::parse(&format!("user_{author}")).unwrap(),
        name: DisplayName::parse("Somebody").unwrap(),
        text: TweetText::parse(&format!("tweet {id}")).unwrap(),
        media: MediaList::default(),
        created_at_ms: 1_800_000_000_000,
    };
    NewTweet { body, media: Vec::new(), key: None, trace: None }
}

async fn post_many(store: Arc<dyn TweetStore>, candidates: Vec<u64>) -> Vec<TweetId> {
    let mut ids = Vec::new();
    for candidate in candidates {
        let created = store.create(&tweet(candidate, 1)).await;
        let Outcome::Done(Created::Fresh(body)) = created else { panic!("{created:?}") };
        ids.push(body.id);
    }
    ids
}

pub async fn two_processes_give_an_authors_tweets_increasing_ids(server: Server) {
    let database = server.tweet().await;
    let here = TweetStores::over(server.pool(&database));
    let there = TweetStores::over(server.pool(&database));
    // Each process counts down, so that every candidate but the first is below the last id.
    let posting: Vec<_> = (0..8)
        .map(|task| {
            let store = if task % 2 == 0 { here.tweets.clone() } else { there.tweets.clone() };
            tokio::spawn(post_many(store, (0..10).map(|n| 1_000 - task * 100 - n).collect()))
        })
        .collect();
    let mut answered = Vec::new();
    for task in posting {
        let ids = task.await.unwrap();
        assert!(ids.is_sorted(), "one after another: {ids:?}");
        answered.extend(ids);
    }
    answered.sort_unstable();
    let rows = here.outbox.claim(1_000, 0, Duration::ZERO).await.done().unwrap();
    let told: Vec<TweetId> = rows
        .iter()
        .map(|row| Event::decode(&row.event).unwrap().fact.entry().unwrap().tweet)
        .collect();
    assert_eq!(told, answered, "the order of the events is that of the ids");
}

pub async fn two_relays_replay_and_prune_more_than_a_batch(server: Server) {
    const ROWS: u64 = 4_500;
    let database = server.tweet().await;
    let fill = format!(
        "insert into outbox (event, at_ms, sent_at_ms)
        select '{{}}', 1000 + n / 3, 5000 from generate_series(1, {ROWS}) n"
    );
    server.run(&database, &fill).await;
    let stores = TweetStores::over(server.pool(&database));
    let since = 1_000 + 1_000 / 3;
    let expected = (1..=ROWS).filter(|n| 1_000 + n / 3 >= since).count() as u64;
    assert_eq!(stores.outbox.replay(since).await, Outcome::Done(expected));
    assert_eq!(stores.outbox.stats().await.unwrap().unsent, expected);
    assert_eq!(stores.outbox.replay(since).await, Outcome::Done(0));
    let other = TweetStores::over(server.pool(&database));
    let claimers = [stores.outbox.clone(), other.outbox.clone()].map(|outbox| {
        tokio::spawn(async move { outbox.claim(3_000, 0, Duration::from_secs(9)).await })
    });
    let mut seqs = Vec::new();
    for claimer in claimers {
        seqs.extend(claimer.await.unwrap().done().unwrap().iter().map(|row| row.seq));
    }
    let claimed = seqs.len();
    seqs.sort_unstable();
    seqs.dedup();
    assert_eq!(seqs.len(), claimed, "no row is claimed twice");
    assert!(stores.outbox.mark_sent(&seqs, 6_000).await.is_done());
    let sent = ROWS - expected + claimed as u64;
    assert_eq!(stores.outbox.prune(6_001).await, Outcome::Done(sent));
}
