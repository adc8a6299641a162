//! What can go wrong with any call, and that chance is the seed's alone.

use std::time::Duration;

use super::{NODE, paused, tweet, world};
use crate::{
    domain::{Change, Entry, TweetId, UserId, Window},
    ports::{EdgeChange, Kind, ListKey, NewTweet, Outcome, Push, Queue, Target, Topic},
    rt::tokio_rt::TokioRuntime,
    sim::{
        seed::Seed,
        trace::Trace,
        world::{Act, Knobs, NodeId, Part, World},
    },
};

const ALWAYS: u32 = 10_000;

#[test]
fn a_refused_call_did_not_happen_and_says_so() {
    paused(async {
        let (world, ports, _) = world(1, Knobs { refuse: ALWAYS, ..Knobs::calm() });
        let outcome = ports.tweets.create(&tweet(5, 1)).await;
        assert!(
            matches!(&outcome, Outcome::Failed(e) if e.kind == Kind::Unavailable),
            "{outcome:?}"
        );
        assert!(world.tweet_rows().is_empty() && world.tweet_events().is_empty());
    });
}

#[test]
fn a_lost_request_is_unknown_and_did_not_happen() {
    paused(async {
        let (world, ports, _) = world(1, Knobs { lose_request: ALWAYS, ..Knobs::calm() });
        assert!(matches!(ports.tweets.create(&tweet(5, 1)).await, Outcome::Unknown(_)));
        assert!(world.tweet_rows().is_empty() && world.tweet_events().is_empty());
    });
}

#[test]
fn a_lost_answer_is_unknown_and_did_happen_with_its_event() {
    paused(async {
        let (world, ports, _) = world(1, Knobs { lose_answer: ALWAYS, ..Knobs::calm() });
        assert!(matches!(ports.tweets.create(&tweet(5, 1)).await, Outcome::Unknown(_)));
        assert_eq!((world.tweet_rows().len(), world.tweet_events().len()), (1, 1));
    });
}

#[test]
fn a_late_call_happens_after_its_caller_gave_up() {
    paused(async {
        let (world, ports, rt) = world(1, Knobs { late: ALWAYS, late_ms: 900, ..Knobs::calm() });
        assert!(matches!(ports.tweets.create(&tweet(5, 1)).await, Outcome::Unknown(_)));
        assert_eq!((world.tweet_rows().len(), world.pending().late), (0, 1));
        rt.sleep(Duration::from_millis(900)).await;
        assert_eq!((world.tweet_rows().len(), world.pending().late), (1, 0));
    });
}

#[test]
fn a_part_that_is_down_is_down_for_all_and_a_cut_is_for_one_node() {
    paused(async {
        let (world, ports, rt) = world(1, Knobs::calm());
        let other = world.node(NodeId(2), &rt);
        let reads = async || {
            let latest = Window::Latest;
            let one = ports.tweets.by_author(UserId(1), latest, 1).await.is_ok();
            (one, other.tweets.by_author(UserId(1), latest, 1).await.is_ok())
        };
        world.act(Act::Down { what: Part::Tweets, on: true });
        assert_eq!(reads().await, (false, false));
        assert!(
            ports.tweet_outbox.stats().await.is_err()
                && ports.graph.counts(UserId(1)).await.is_ok()
        );
        world.act(Act::Down { what: Part::Tweets, on: false });
        world.act(Act::Isolate { node: NODE, what: Part::Tweets, on: true });
        assert_eq!(reads().await, (false, true));
        world.set_faults(false);
        assert_eq!(reads().await, (true, true));
    });
}

#[test]
fn a_call_that_its_caller_drops_on_the_way_does_not_happen() {
    paused(async {
        let (world, ports, rt) = world(1, Knobs::calm());
        world.act(Act::Slow { what: Part::Tweets, by_ms: 50 });
        let limit = Duration::from_millis(20);
        let new = tweet(5, 1);
        assert!(rt.timeout(limit, ports.tweets.create(&new)).await.is_err());
        rt.sleep(Duration::from_millis(100)).await;
        assert!(world.tweet_rows().is_empty());
        assert!(ports.tweets.create(&new).await.is_done());
    });
}

/// A little of everything, by two nodes at the same time.
async fn life(seed: u64, knobs: Knobs) -> World {
    let world = World::new(Seed(seed), Trace::new(true), knobs);
    let rt = TokioRuntime::handle();
    let mut tasks = Vec::new();
    for node in 0..2 {
        let ports = world.node(NodeId(node), &rt);
        let node = u64::from(node);
        tasks.push(rt.spawn("life", async move {
            for step in 0..60 {
                let id = step * 2 + node + 1;
                let new: NewTweet = tweet(id, node + 1);
                let _ = ports.tweets.create(&new).await;
                let _ = ports.store.put_tweets(std::slice::from_ref(&new.body)).await;
                let change = if step % 2 == 0 { Change::Follow } else { Change::Unfollow };
                let (actor, target) = (UserId(node + 1), UserId(2 - node));
                let edge = EdgeChange { actor, target, change, at_ms: step, trace: None };
                let _ = ports.graph.change(&edge).await;
                let rows = ports.tweet_outbox.claim(4, step * 10, Duration::from_millis(5)).await;
                for row in rows.done().unwrap_or_default() {
                    let to = Target::Topic(Topic::TweetEvents);
                    drop(ports.bus.publish(to, std::slice::from_ref(&row.event)).await);
                    let _ = ports.tweet_outbox.mark_sent(&[row.seq], step).await;
                }
                let wait = Duration::from_millis(20);
                let got = ports.bus.receive(Queue::Ingest, 10, wait, wait * 3).await;
                for delivery in got.unwrap_or_default() {
                    drop(ports.bus.acknowledge(Queue::Ingest, &[delivery.receipt]).await);
                }
                let key = ListKey::Home(actor);
                if let Some(Some(token)) = ports.cache.begin_fill(key).await.done() {
                    let _ = ports.cache.finish_fill(key, token, &[], TweetId(0)).await;
                }
                let entry = Entry { tweet: new.body.id, author: new.body.author };
                let push = Push { entry, homes: &[actor, target], author_list: false };
                let _ = ports.cache.push(&[push]).await;
                drop(ports.bodies.read(&[new.body.id]).await);
            }
        }));
    }
    for task in tasks {
        assert!(task.join().await);
    }
    world
}

fn told(seed: u64, knobs: Knobs) -> Vec<String> {
    paused(async { life(seed, knobs).await.trace().lines() })
}

#[test]
fn the_same_seed_lives_the_same_life_and_another_one_another() {
    let (one, same) = (told(7, Knobs::rough()), told(7, Knobs::rough()));
    let first = one.iter().zip(&same).find(|(a, b)| a != b);
    assert_eq!((first, one.len()), (None, same.len()));
    assert_ne!(one, told(8, Knobs::rough()));
    assert!(one.len() > 1_000, "{}", one.len());
}

#[test]
fn every_kind_of_fault_happens_in_a_rough_life() {
    let all: Vec<String> = (0..12).flat_map(|seed| told(seed, Knobs::rough())).collect();
    for sign in [
        "refused",
        "lost on the way",
        "answer lost",
        "ms late",
        "happens now",
        "only in part",
        "evict",
        "statements",
    ] {
        assert!(all.iter().any(|line| line.contains(sign)), "{sign}");
    }
}

#[test]
fn one_kind_of_fault_switched_off_does_not_shift_another() {
    // Which calls of one node to one port lose their answer, by number.
    let lost = |knobs: Knobs| {
        paused(async move {
            let (_, ports, _) = world(3, knobs);
            let mut lost = Vec::new();
            for n in 0..2_000_u64 {
                let before = ports.users.by_id(UserId(n)).await;
                lost.extend(before.is_err().then_some(n));
            }
            lost
        })
    };
    let only = Knobs { lose_answer: 200, ..Knobs::calm() };
    let lonely = lost(only.clone());
    let crowd = lost(Knobs { refuse: 200, spike: 200, spike_ms: 9, lose_request: 100, ..only });
    assert!(lonely.len() > 10 && crowd.len() > lonely.len());
    assert!(lonely.iter().all(|n| crowd.contains(n)));
}

#[test]
fn a_healed_world_keeps_every_promise() {
    paused(async {
        let (world, ports, _) = world(1, Knobs::rough());
        world.set_faults(false);
        for id in 1..500 {
            assert!(ports.tweets.create(&tweet(id, 1)).await.is_done());
            assert!(ports.store.put_tweets(&[tweet(id, 1).body]).await.is_done());
            let push = Push {
                entry: Entry { tweet: TweetId(id), author: UserId(1) },
                homes: &[UserId(1), UserId(2)],
                author_list: true,
            };
            assert!(ports.cache.push(&[push]).await.is_done());
        }
    });
}

#[test]
fn a_call_is_cheap() {
    let (calls, start) = (20_000_u64, std::time::Instant::now());
    paused(async {
        let (_, ports, _) = world(1, Knobs::rough());
        for n in 0..calls {
            drop(ports.store.authors(&[UserId(n)]).await);
        }
    });
    let each = start.elapsed() / u32::try_from(calls).unwrap();
    // 4 us on an idle core; the bound is for a busy one. A seed makes some 20,000 calls.
    assert!(each < Duration::from_micros(100), "{each:?}");
}
