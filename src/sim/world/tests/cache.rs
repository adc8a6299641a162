//! Wipes, failovers, evictions.

use std::{sync::Arc, time::Duration};

use super::{paused, world};
use crate::{
    domain::{Entry, Relations, TweetId, UserId, Window},
    ports::{BodyRead, CachedBody, HomeRead, ListKey, Outcome, Push},
    sim::world::{Act, CacheKey, Knobs, NodePorts, World},
};

const READER: UserId = UserId(1);
const HOME: ListKey = ListKey::Home(READER);

async fn warm(ports: &NodePorts, entries: &[Entry]) {
    let token = ports.relations.begin_fill(READER).await.done().unwrap();
    let relations = Arc::new(Relations::new(READER, &[], |_| unreachable!()));
    assert_eq!(ports.relations.finish_fill(READER, token, relations).await, Outcome::Done(true));
    if let Some(token) = ports.cache.begin_fill(HOME).await.done().unwrap() {
        let stored = ports.cache.finish_fill(HOME, token, entries, TweetId(0)).await;
        assert_eq!(stored, Outcome::Done(true));
    }
}

/// The ids on the first page; `None` if the timeline is not cached.
async fn page(ports: &NodePorts) -> Option<Vec<u64>> {
    match ports.cache.page(READER, Window::Latest, 1000).await.unwrap() {
        HomeRead::Hit(hit) => Some(hit.slice.entries.iter().map(|e| e.tweet.0).collect()),
        HomeRead::NoRelations | HomeRead::NoTimeline => None,
    }
}

fn entry(id: u64) -> Entry {
    Entry { tweet: TweetId(id), author: READER }
}

async fn push(ports: &NodePorts, id: u64) -> Outcome<crate::ports::PushReport> {
    let push = Push { entry: entry(id), homes: &[READER], author_list: false };
    ports.cache.push(&[push]).await
}

#[test]
fn a_wipe_leaves_nothing_and_voids_a_fill_that_runs() {
    paused(async {
        let (world, ports, _) = world(1, Knobs::calm());
        warm(&ports, &[entry(3)]).await;
        assert_eq!(page(&ports).await, Some(vec![3]));
        let author = ListKey::Author(READER);
        let token = ports.cache.begin_fill(author).await.done().unwrap().unwrap();
        world.act(Act::CacheWipe);
        assert_eq!(page(&ports).await, None);
        let again = ports.cache.begin_fill(author).await.done().unwrap().unwrap();
        let stored = async |token| ports.cache.finish_fill(author, token, &[], TweetId(0)).await;
        assert_eq!(stored(token).await, Outcome::Done(false));
        assert_eq!(stored(again).await, Outcome::Done(true));
    });
}

#[test]
fn single_keys_are_evicted() {
    paused(async {
        let (world, ports, _) = world(1, Knobs::calm());
        warm(&ports, &[entry(3)]).await;
        world.act(Act::CacheEvict { keys: vec![CacheKey::Home(READER)] });
        let read = ports.cache.page(READER, Window::Latest, 9).await.unwrap();
        assert_eq!(read, HomeRead::NoTimeline);
        world.act(Act::CacheEvict { keys: vec![CacheKey::Relations(READER)] });
        let read = ports.cache.page(READER, Window::Latest, 9).await.unwrap();
        assert_eq!(read, HomeRead::NoRelations);
    });
}

/// Runs `call` beside a failover after `sleep`.
async fn during_failover<T>(
    world: &World,
    call: impl Future<Output = T>,
    sleep: impl Future<Output = ()>,
) -> T {
    let fail_over = async {
        sleep.await;
        world.act(Act::CacheFailover);
    };
    tokio::join!(call, fail_over).0
}

#[test]
fn a_failover_takes_back_what_was_not_confirmed_and_nothing_else() {
    paused(async {
        let (mut lost, mut kept) = (0, 0);
        for seed in 0..100 {
            let (world, ports, rt) = world(seed, Knobs { lag_ms: 30, ..Knobs::calm() });
            warm(&ports, &[entry(1)]).await;
            assert!(push(&ports, 2).await.is_done());
            let sleep = rt.sleep(Duration::from_millis(10));
            let outcome = during_failover(&world, push(&ports, 3), sleep).await;
            let shown = page(&ports).await.unwrap();
            assert!(shown.ends_with(&[2, 1]), "{shown:?}");
            if outcome.is_done() {
                kept += 1;
                assert_eq!(shown, [3, 2, 1]);
            } else {
                // Not confirmed says nothing: it may have reached the replica in this millisecond.
                lost += u32::from(shown == [2, 1]);
            }
        }
        assert!(lost > 20 && kept > 10, "{lost} {kept}");
    });
}

#[test]
fn a_push_that_found_nothing_is_not_done_when_the_list_comes_back() {
    paused(async {
        let mut back = 0;
        for seed in 0..100 {
            let (world, ports, rt) = world(seed, Knobs { lag_ms: 30, ..Knobs::calm() });
            warm(&ports, &[entry(1)]).await;
            let calls = async {
                // Dropped by the primary; the push behind it finds no list.
                let dropping = ports.cache.invalidate(&[HOME]);
                tokio::join!(dropping, push(&ports, 2))
            };
            let sleep = rt.sleep(Duration::from_millis(5));
            let (dropped, pushed) = during_failover(&world, calls, sleep).await;
            if let Some(shown) = page(&ports).await {
                back += 1;
                assert_eq!(shown, [1]);
                assert!(!dropped.is_done() && !pushed.is_done(), "{dropped:?} {pushed:?}");
            }
        }
        assert!(back > 20, "{back}");
    });
}

#[test]
fn a_tombstone_that_is_done_survives_every_failover_and_voids_fills() {
    paused(async {
        let id = TweetId(7);
        let mut unknown = 0;
        for seed in 0..100 {
            let (world, ports, rt) = world(seed, Knobs { lag_ms: 30, ..Knobs::calm() });
            let reads = ports.bodies.read(&[id]).await.unwrap();
            let [BodyRead::Miss(Some(token))] = reads[..] else { panic!("{reads:?}") };
            let sleep = rt.sleep(Duration::from_millis(10));
            let marked = during_failover(&world, ports.bodies.tombstone(&[id]), sleep).await;
            if seed % 2 == 0 {
                world.act(Act::CacheEvict { keys: vec![CacheKey::Body(id)] });
            }
            let live = CachedBody::Live(b"x".as_slice().into());
            let _ = ports.bodies.fill(&[(id, token, live)]).await;
            let shown = &ports.bodies.read(&[id]).await.unwrap()[0];
            if marked.is_done() {
                assert!(!matches!(shown, BodyRead::Hit(CachedBody::Live(_))), "{shown:?}");
            } else {
                unknown += 1;
            }
        }
        assert!(unknown > 20, "{unknown}");
    });
}

#[test]
fn a_partial_push_is_unknown_and_reaches_the_first_lists_only() {
    paused(async {
        let (world, ports, _) = world(1, Knobs { partial: 10_000, ..Knobs::calm() });
        world.set_faults(false);
        warm(&ports, &[]).await;
        world.set_faults(true);
        let homes = [READER, UserId(2), UserId(3), UserId(4)];
        let mut reached = 0;
        for id in 1..=20 {
            let push = Push { entry: entry(id), homes: &homes, author_list: false };
            assert!(matches!(ports.cache.push(&[push]).await, Outcome::Unknown(_)));
            reached = page(&ports).await.unwrap().len();
        }
        assert!((5..20).contains(&reached), "{reached}");
    });
}
