//! Late commits, and calls of several statements.

use std::time::Duration;

use super::{body, paused, tweet, world};
use crate::{
    domain::{Pair, PairChange, PairState, TweetId, UserId, Window},
    ports::{Hint, Outcome, StoredKey},
    sim::world::{Act, Knobs, NodeId, Part},
};

const ALWAYS: u32 = 10_000;

#[test]
fn outbox_numbers_become_visible_out_of_order_and_are_found_by_their_flag() {
    paused(async {
        let knobs = Knobs { commit: 5_000, commit_ms: 50, ..Knobs::calm() };
        let (world, ports, rt) = world(4, knobs);
        let mut tasks = Vec::new();
        for id in 1..=40 {
            let tweets = ports.tweets.clone();
            tasks.push(rt.spawn("create", async move {
                let _ = tweets.create(&tweet(id, id)).await;
            }));
        }
        // A relay that looks every 5 ms and counts the numbers that it sees late.
        let (mut highest, mut overtaken, mut seen) = (0, 0, 0);
        for now in 0..20 {
            let lease = Duration::from_mins(1);
            let claimed = ports.tweet_outbox.claim(100, now, lease).await.done().unwrap();
            overtaken += claimed.iter().filter(|row| row.seq < highest).count();
            highest = claimed.iter().map(|row| row.seq).max().unwrap_or(0).max(highest);
            seen += claimed.len();
            rt.sleep(Duration::from_millis(5)).await;
        }
        assert_eq!((seen, world.tweet_rows().len()), (40, 40));
        assert!(overtaken > 5, "{overtaken}");
    });
}

#[test]
fn an_interrupted_put_is_unknown_and_a_repetition_makes_it_whole() {
    paused(async {
        let mut shapes = std::collections::BTreeSet::new();
        for seed in 0..60 {
            let knobs = Knobs { partial: ALWAYS, ..Knobs::calm() };
            let (world, ports, _) = world(seed, knobs);
            let author = UserId(3);
            assert!(matches!(ports.store.put_tweets(&[body(9, 3)]).await, Outcome::Unknown(_)));
            world.set_faults(false);
            let looks = async || {
                let stored = world.stored_body(TweetId(9)).is_some();
                let listed = ports.store.author_tweets(author, Window::Latest, 9).await.unwrap();
                let latest = ports.store.authors(&[author]).await.unwrap()[0].latest;
                (stored, listed.len(), latest.0)
            };
            shapes.insert(looks().await);
            assert!(ports.store.put_tweets(&[body(9, 3)]).await.is_done());
            assert_eq!(looks().await, (true, 1, 9));
        }
        assert_eq!(
            shapes.into_iter().collect::<Vec<_>>(),
            [(false, 0, 0), (true, 0, 0), (true, 1, 0),]
        );
    });
}

#[test]
fn others_may_look_between_two_statements() {
    paused(async {
        let knobs = Knobs { split: ALWAYS, split_ms: 100, ..Knobs::calm() };
        let (mut seen_half, pair) = (0, Pair::new(UserId(1), UserId(2)).unwrap());
        for seed in 0..40 {
            let (_, ports, rt) = world(seed, knobs.clone());
            let mut state = PairState::default();
            state.low.follows = true;
            let change = PairChange { pair, version: 1, state };
            let store = ports.store.clone();
            let put = rt.spawn("put", async move {
                assert!(store.put_pairs(&[change]).await.is_done());
            });
            rt.sleep(Duration::from_millis(1)).await;
            let relations = ports.store.relations(UserId(1), None, 100).await.unwrap();
            let page = ports.store.followers(UserId(2), (0, 1024), None, 9).await.unwrap();
            seen_half += u32::from(relations.len() != page.followers.len());
            assert!(put.join().await);
        }
        assert!(seen_half > 3, "{seen_half}");
    });
}

#[test]
fn keys_are_replaced_only_if_they_are_still_what_they_were() {
    paused(async {
        let (_, ports, _) = world(1, Knobs::calm());
        let key = |kid: &str| StoredKey { kid: kid.into(), seed: [1; 32], created_at_ms: 1 };
        let (first, other) = ([key("a")], [key("b")]);
        assert_eq!(ports.keys.load().await.unwrap(), []);
        assert_eq!(ports.keys.replace(&[], &first).await, Outcome::Done(first.to_vec()));
        assert_eq!(ports.keys.replace(&[], &other).await, Outcome::Done(first.to_vec()));
        assert_eq!(ports.keys.load().await.unwrap(), first);
    });
}

#[test]
fn hints_reach_subscribers_at_every_node_until_the_cache_is_down() {
    paused(async {
        let (world, ports, rt) = world(1, Knobs::calm());
        let other = world.node(NodeId(2), &rt);
        assert!(!other.hints.wanted());
        let mut stream = ports.hints.subscribe(UserId(1)).await;
        assert!(other.hints.wanted());
        other.hints.notify(&[Hint::Home(UserId(2)), Hint::Home(UserId(1))]).await;
        assert_eq!(stream.next().await, Some(Hint::Home(UserId(1))));
        other.hints.notify(&[Hint::Deleted(TweetId(3))]).await;
        assert_eq!(stream.next().await, Some(Hint::Deleted(TweetId(3))));
        world.act(Act::Down { what: Part::Cache, on: true });
        other.hints.notify(&[Hint::Home(UserId(1))]).await;
        let next = rt.timeout(Duration::from_secs(9), stream.next()).await;
        assert!(next.is_err(), "{next:?}");
        drop(stream);
        assert!(!other.hints.wanted());
    });
}
