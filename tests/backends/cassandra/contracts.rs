//! The contract suite, and what it cannot ask of a store without partitions.

use std::{collections::BTreeSet, sync::Arc};

use chirp::{
    adapters::cassandra::{
        CassandraTimelineStore,
        migrate::{STEPS, Step},
    },
    domain::{
        TweetId, UserId, Window,
        fanout::{BUCKETS, Class},
        relations::Relation,
        snowflake::first_at,
    },
    ports::{
        Outcome, TimelineStore,
        contract::{Outage, home_store, timeline_store},
        timeline_store::IDS_MAX,
    },
};
use tokio::{runtime, task::block_in_place};

use super::{Server, behind, follow, tweet};
use crate::support::{
    proxy::{Proxy, Rule},
    run::hold,
};

/// Stores over tables that are emptied for each.
async fn stores(server: &Server) -> impl Fn() -> (Arc<CassandraTimelineStore>, Outage) {
    let config = server.empty().await;
    let session = Arc::new(server.session().await);
    let tables: BTreeSet<String> =
        STEPS.iter().flat_map(Step::columns).map(|(table, ..)| table).collect();
    move || {
        let proxy = Proxy::before(server.port());
        // A keyspace for each behaviour would take minutes.
        let store = block_in_place(|| {
            runtime::Handle::current().block_on(async {
                for table in &tables {
                    let cql = format!("truncate {}.{table}", config.keyspace);
                    session.query_unpaged(cql, ()).await.unwrap();
                }
                server.open(&behind(&proxy, &config)).await
            })
        });
        (Arc::new(store), Outage::new(move |_| proxy.set(Rule::Refuse)))
    }
}

pub async fn the_timeline_store_keeps_its_contract(server: Server) {
    let fresh = stores(&server).await;
    hold(&server.rt, timeline_store::BEHAVIOURS, || {
        let (store, outage) = fresh();
        timeline_store::Context { store, rt: server.rt.clone(), outage: Some(outage) }
    })
    .await;
}

pub async fn home_timelines_keep_their_contract(server: Server) {
    let fresh = stores(&server).await;
    hold(&server.rt, home_store::BEHAVIOURS, || {
        let (homes, outage) = fresh();
        home_store::Context { homes, rt: server.rt.clone(), outage: Some(outage) }
    })
    .await;
}

/// Milliseconds of a year of 365 days.
const YEAR_MS: u64 = 365 * 86_400_000;
/// 2025-06-01.
const SUMMER_2025_MS: u64 = 1_748_736_000_000;

pub async fn an_authors_list_goes_on_over_years_without_tweets(server: Server) {
    let store = server.open(&server.empty().await).await;
    // Two tweets each in 2025, 2026, 2029, 2031 and 2060, written in no order.
    let id = |years: u64, n: u64| TweetId(first_at(SUMMER_2025_MS + years * YEAR_MS) + n);
    let years = [4, 0, 35, 1, 6];
    let bodies: Vec<_> =
        years.iter().flat_map(|&y| [tweet(id(y, 1).0, 1), tweet(id(y, 0).0, 1)]).collect();
    assert!(store.put_tweets(&bodies).await.is_done());
    let mut all: Vec<TweetId> = bodies.iter().map(|body| body.id).collect();
    all.sort_unstable_by(|a, b| b.cmp(a));
    let find = async |window, limit| store.author_tweets(UserId(1), window, limit).await.unwrap();
    for limit in 1..=all.len() + 1 {
        let most = limit.min(all.len());
        assert_eq!(find(Window::Latest, limit).await, all[..most], "latest {limit}");
        for (at, &bound) in all.iter().enumerate() {
            let below = &all[at + 1..];
            let found = find(Window::Before(bound), limit).await;
            assert_eq!(found, below[..limit.min(below.len())], "before {bound}, {limit}");
            let above = &all[..at];
            let found = find(Window::After(bound), limit).await;
            assert_eq!(found, above[at - limit.min(at)..], "after {bound}, {limit}");
        }
    }
    let between = Window::Before(id(20, 0));
    assert_eq!(find(between, 9).await, all[2..], "from a year without tweets");
    assert_eq!(find(Window::After(id(20, 0)), 9).await, all[..2], "from a year without tweets");
    assert_eq!(store.authors(&[UserId(1)]).await.unwrap()[0].latest, all[0]);
}

pub async fn a_user_who_comes_and_goes_is_one_relation_and_one_follower(server: Server) {
    const VERSIONS: u64 = 301;
    let store = server.open(&server.empty().await).await;
    let changes: Vec<_> = (1..=VERSIONS).map(|v| follow(7, 1, v, v % 2 == 1)).collect();
    assert!(store.put_pairs(&changes).await.is_done());
    assert!(store.put_pairs(&[follow(5, 1, 2, true), follow(9, 1, 2, true)]).await.is_done());
    let others: Vec<Relation> = store.relations(UserId(1), None, 10).await.unwrap();
    assert_eq!(others.iter().map(|row| row.other.0).collect::<Vec<_>>(), [5, 7, 9]);
    let first = store.relations(UserId(1), None, 2).await.unwrap();
    assert_eq!(first.len(), 2, "versions do not make a page short");
    let rest = store.relations(UserId(1), Some(UserId(7)), 2).await.unwrap();
    assert_eq!(rest.len(), 1);
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = store.followers(UserId(1), (0, BUCKETS), after, 2).await.unwrap();
        found.extend(page.followers.iter().map(|user| user.0));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    found.sort_unstable();
    assert_eq!(found, [5, 7, 9]);
}

pub async fn more_ids_than_a_call_may_have_are_refused(server: Server) {
    let store = server.open(&server.empty().await).await;
    let ids: Vec<u64> = (0..=IDS_MAX as u64).collect();
    let tweets: Vec<TweetId> = ids.iter().copied().map(TweetId).collect();
    let users: Vec<UserId> = ids.iter().copied().map(UserId).collect();
    assert!(store.bodies(&tweets).await.is_err());
    assert!(store.authors(&users).await.is_err());
    assert_eq!(store.set_class(UserId(1), Class::Push).await, Outcome::Done(()));
}
