use std::time::Duration;

use super::{body, fixture};
use crate::ports::{NewTweet, Outbox, Outcome};

const LEASE: Duration = Duration::from_millis(100);

async fn seqs(outbox: &dyn Outbox, limit: usize, now_ms: u64) -> Vec<u64> {
    let rows = outbox.claim(limit, now_ms, LEASE).await.done().expect("claimed");
    rows.iter().map(|row| row.seq).collect()
}

#[tokio::test]
async fn a_row_is_claimed_by_one_until_its_lease_ends_or_it_is_given_back() {
    let f = fixture();
    for id in 1..=4 {
        let tweet = NewTweet { body: body(id, id), media: Vec::new(), key: None, trace: None };
        assert!(f.stores.tweet.tweets.create(&tweet).await.is_done());
    }
    let outbox = &*f.stores.tweet.outbox;
    assert_eq!(seqs(outbox, 2, 1_000).await, [1, 2]);
    assert_eq!(seqs(outbox, 9, 1_000).await, [3, 4]);
    assert!(seqs(outbox, 9, 1_099).await.is_empty());
    assert!(outbox.release(&[4]).await.is_done());
    assert_eq!(seqs(outbox, 9, 1_050).await, [4]);
    assert!(outbox.mark_sent(&[1, 3, 77], 1_060).await.is_done());
    assert_eq!(seqs(outbox, 9, 1_100).await, [2]);
    assert_eq!(f.again().tweet.outbox.stats().await.unwrap().unsent, 2);
    assert_eq!(f.stores.recover(&f.rt).await, Outcome::Done(2), "two leases end");
    assert_eq!(seqs(outbox, 9, 1_100).await, [2, 4]);
}

#[tokio::test]
async fn sent_rows_are_replayed_by_their_time_and_pruned_by_the_time_of_sending() {
    let f = fixture();
    for id in 1..=3 {
        let tweet = NewTweet { body: body(id, id), media: Vec::new(), key: None, trace: None };
        assert!(f.stores.tweet.tweets.create(&tweet).await.is_done());
    }
    let outbox = &*f.stores.tweet.outbox;
    assert_eq!(outbox.stats().await.unwrap().oldest_ms, Some(1_000_001));
    assert!(outbox.mark_sent(&[1, 2, 3], 2_000_000).await.is_done());
    assert_eq!(outbox.stats().await.unwrap(), crate::ports::OutboxStats::default());
    assert_eq!(outbox.replay(1_000_002).await, Outcome::Done(2));
    assert_eq!(seqs(outbox, 9, 3_000_000).await, [2, 3]);
    assert!(outbox.mark_sent(&[2], 3_000_000).await.is_done());
    assert_eq!(outbox.prune(2_000_000).await, Outcome::Done(0));
    assert_eq!(outbox.prune(2_000_001).await, Outcome::Done(1), "the unsent and the later stay");
    assert_eq!(outbox.replay(0).await, Outcome::Done(1));
}

#[tokio::test]
async fn numbers_are_not_given_again_after_a_prune() {
    let f = fixture();
    let outbox = &*f.stores.tweet.outbox;
    let post = async |id| {
        let tweet = NewTweet { body: body(id, id), media: Vec::new(), key: None, trace: None };
        assert!(f.stores.tweet.tweets.create(&tweet).await.is_done());
    };
    post(1).await;
    assert!(outbox.mark_sent(&[1], 5).await.is_done());
    assert_eq!(outbox.prune(6).await, Outcome::Done(1));
    post(2).await;
    assert!(outbox.mark_sent(&[1], 7).await.is_done(), "a relay that is late");
    assert_eq!(outbox.stats().await.unwrap().unsent, 1);
}
