use std::time::Duration;

use super::fixture;
use crate::{
    domain::{Change, UserId, edge::Blocked},
    ports::{Changed, Counts, EdgeChange, GraphStore, Outcome},
    wire::events::Event,
};

fn asks(actor: u64, change: Change, target: u64) -> EdgeChange {
    EdgeChange { actor: UserId(actor), target: UserId(target), change, at_ms: 7, trace: None }
}

async fn done(graph: &dyn GraphStore, change: EdgeChange) -> Changed {
    graph.change(&change).await.done().expect("done").expect("not blocked")
}

#[tokio::test]
async fn a_change_moves_pair_counts_and_outbox_together_and_a_repeat_moves_nothing() {
    let f = fixture();
    let graph = &*f.stores.user.graph;
    let nothing = done(graph, asks(2, Change::Unfollow, 1)).await;
    assert_eq!((nothing.fresh, nothing.now.version), (false, 0));
    let first = done(graph, asks(2, Change::Follow, 1)).await;
    assert_eq!((first.fresh, first.now.version, first.low_followers), (true, 1, 1));
    let repeat = done(graph, asks(2, Change::Follow, 1)).await;
    assert_eq!(repeat, Changed { fresh: false, ..first.clone() });
    let back = done(graph, asks(1, Change::Follow, 2)).await;
    assert_eq!((back.now.version, back.low_followers, back.high_followers), (2, 1, 1));
    let one = Counts { followers: 1, following: 1 };
    assert_eq!(graph.counts(UserId(1)).await, Ok(one));

    let rows = f.stores.user.outbox.claim(10, 8, Duration::ZERO).await.done().unwrap();
    let events: Vec<_> = rows.iter().map(|row| Event::decode(&row.event).unwrap()).collect();
    let told: Vec<_> = events.iter().map(|event| event.fact.pair_change()).collect();
    assert_eq!(told, [Some(first.now), Some(back.now)]);
}

#[tokio::test]
async fn a_block_ends_both_follows_and_refuses_the_next() {
    let f = fixture();
    let graph = &*f.stores.user.graph;
    done(graph, asks(1, Change::Follow, 2)).await;
    done(graph, asks(2, Change::Follow, 1)).await;
    let blocked = done(graph, asks(2, Change::Block, 1)).await;
    assert_eq!((blocked.low_followers, blocked.high_followers), (0, 0));
    assert_eq!(graph.change(&asks(1, Change::Follow, 2)).await, Outcome::Done(Err(Blocked)));
    let state = graph.pair(UserId(2), UserId(1)).await.unwrap();
    assert!(state.high.blocks && !state.low.follows && !state.high.follows);
    assert_eq!(graph.counts(UserId(1)).await, Ok(Counts::default()));
    assert_eq!(f.stores.user.outbox.stats().await.unwrap().unsent, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_follows_of_one_user_are_all_counted() {
    let f = fixture();
    let tasks: Vec<_> = (2..102)
        .map(|follower| {
            let graph = f.stores.user.graph.clone();
            tokio::spawn(async move { done(&*graph, asks(follower, Change::Follow, 1)).await })
        })
        .collect();
    let mut seen = Vec::new();
    for task in tasks {
        seen.push(task.await.unwrap().low_followers);
    }
    seen.sort_unstable();
    assert_eq!(seen, (1..101).collect::<Vec<_>>(), "each saw the count of its own commit");
    assert!(matches!(
        f.stores.user.graph.change(&asks(1, Change::Follow, 1)).await,
        Outcome::Failed(_)
    ));
}
