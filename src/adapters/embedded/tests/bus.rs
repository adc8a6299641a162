use std::time::Duration;

use bytes::Bytes;

use super::fixture;
use crate::ports::{
    Bus, Outcome, Queue, QueueStats, Receipt, Target, Topic,
    bus::{BATCH_MAX, MESSAGE_BYTES_MAX, RECEIVES_MAX},
};

const LONG: Duration = Duration::from_secs(30);
const NOW: Duration = Duration::ZERO;
const INGEST: Queue = Queue::Ingest;

async fn publish(bus: &dyn Bus, to: Target, text: &'static str) {
    let outcomes = bus.publish(to, &[Bytes::from_static(text.as_bytes())]).await;
    assert_eq!(outcomes, [Outcome::Done(())]);
}

/// What one receive without waiting brings: the bodies, the receipts.
async fn receive(bus: &dyn Bus, queue: Queue, visibility: Duration) -> (Vec<Bytes>, Vec<Receipt>) {
    let taken = bus.receive(queue, BATCH_MAX, NOW, visibility).await.unwrap();
    taken.into_iter().map(|delivery| (delivery.body, delivery.receipt)).unzip()
}

#[tokio::test]
async fn both_topics_feed_ingest_and_a_queue_only_itself() {
    let f = fixture();
    let bus = &*f.stores.timeline.bus;
    publish(bus, Target::Topic(Topic::TweetEvents), "a").await;
    publish(bus, Target::Topic(Topic::GraphEvents), "b").await;
    publish(bus, Target::Queue(Queue::Bulk), "c").await;
    assert_eq!(receive(bus, INGEST, LONG).await.0, ["a", "b"]);
    assert_eq!(receive(bus, Queue::Bulk, LONG).await.0, ["c"]);
}

#[tokio::test]
async fn a_message_is_hidden_until_its_time_runs_out_and_comes_with_its_count() {
    let f = fixture();
    let bus = &*f.stores.timeline.bus;
    publish(bus, Target::Queue(INGEST), "a").await;
    let short = Duration::from_millis(60);
    let first = bus.receive(INGEST, 1, NOW, short).await.unwrap();
    assert!(receive(bus, INGEST, short).await.0.is_empty());
    let second = bus.receive(INGEST, 1, Duration::from_secs(5), LONG).await.unwrap();
    assert_eq!((first[0].receives, second[0].receives), (1, 2));
    let stale = &[first[0].receipt.clone()];
    assert!(bus.acknowledge(INGEST, stale).await[0].is_done());
    assert!(matches!(bus.extend(INGEST, stale, NOW).await[0], Outcome::Failed(_)));
    assert_eq!(bus.stats(INGEST).await.unwrap().in_flight, 1, "a stale receipt moves nothing");
    assert!(bus.acknowledge(INGEST, &[second[0].receipt.clone()]).await[0].is_done());
    assert_eq!(bus.stats(INGEST).await.unwrap(), QueueStats::default());
}

#[tokio::test]
async fn a_receipt_is_good_after_its_time_as_long_as_nobody_received_again() {
    let f = fixture();
    let bus = &*f.stores.timeline.bus;
    publish(bus, Target::Queue(INGEST), "a").await;
    let (_, receipts) = receive(bus, INGEST, NOW).await;
    assert!(bus.acknowledge(Queue::Bulk, &receipts).await[0].is_done(), "another queue's");
    assert_eq!(bus.stats(INGEST).await.unwrap().depth, 1);
    assert!(bus.extend(INGEST, &receipts, LONG).await[0].is_done());
    assert!(receive(bus, INGEST, LONG).await.0.is_empty());
    assert!(bus.extend(INGEST, &receipts, NOW).await[0].is_done(), "given back at once");
    assert_eq!(receive(bus, INGEST, LONG).await.0, ["a"]);
}

#[tokio::test]
async fn each_entry_has_its_own_outcome() {
    let f = fixture();
    let bus = &*f.stores.timeline.bus;
    let small = Bytes::from_static(b"a");
    let large = Bytes::from(vec![0; MESSAGE_BYTES_MAX + 1]);
    let sent = bus.publish(Target::Queue(INGEST), &[small.clone(), large, small.clone()]).await;
    let done: Vec<bool> = sent.iter().map(Outcome::is_done).collect();
    assert_eq!(done, [true, false, true]);
    let refused = bus.publish(Target::Queue(INGEST), &vec![small; BATCH_MAX + 1]).await;
    assert!(refused.len() == BATCH_MAX + 1 && refused.iter().all(|o| !o.is_done()));
    let (bodies, mut receipts) = receive(bus, INGEST, LONG).await;
    assert_eq!(bodies.len(), 2);
    receipts.insert(1, Receipt("nonsense".into()));
    let acked = bus.acknowledge(INGEST, &receipts).await;
    assert_eq!(acked.iter().map(Outcome::is_done).collect::<Vec<_>>(), [true, false, true]);
}

#[tokio::test]
async fn a_message_received_too_often_is_parked_and_comes_back_by_redrive() {
    let f = fixture();
    let bus = &*f.stores.timeline.bus;
    publish(bus, Target::Queue(INGEST), "poison").await;
    let mut last = Vec::new();
    for count in 1..=RECEIVES_MAX {
        let taken = bus.receive(INGEST, 1, NOW, NOW).await.unwrap();
        assert_eq!(taken[0].receives, count);
        last = vec![taken[0].receipt.clone()];
    }
    publish(bus, Target::Queue(INGEST), "good").await;
    assert_eq!(receive(bus, INGEST, LONG).await.0, ["good"], "behind the one that is parked");
    assert_eq!(bus.stats(INGEST).await.unwrap().parked, 1);
    publish(bus, Target::Parked(INGEST), "undecodable").await;
    assert_eq!(bus.redrive(INGEST, 1).await, Outcome::Done(1));
    assert!(bus.acknowledge(INGEST, &last).await[0].is_done(), "the receipt of its old life");
    let back = bus.receive(INGEST, BATCH_MAX, NOW, LONG).await.unwrap();
    assert_eq!((&back[0].body[..], back[0].receives), (&b"poison"[..], 1));
    assert_eq!(bus.redrive(INGEST, 9).await, Outcome::Done(1));
    assert_eq!(bus.redrive(INGEST, 9).await, Outcome::Done(0));
}

#[tokio::test]
async fn a_waiting_receiver_is_woken_here_at_once_and_by_other_processes_soon() {
    let f = fixture();
    let other = f.again().timeline.bus;
    for from in [f.stores.timeline.bus.clone(), other] {
        let bus = f.stores.timeline.bus.clone();
        let waits = tokio::spawn(async move { bus.receive(INGEST, 1, LONG, LONG).await.unwrap() });
        f.rt.sleep(Duration::from_millis(30)).await;
        publish(&*from, Target::Queue(INGEST), "a").await;
        let taken = f.rt.timeout(Duration::from_secs(5), waits).await.unwrap().unwrap();
        assert_eq!(taken.len(), 1);
    }
}

#[tokio::test]
async fn stats_tell_waiting_from_in_flight_and_the_age_of_the_oldest() {
    let f = fixture();
    let bus = &*f.stores.timeline.bus;
    for _ in 0..3 {
        publish(bus, Target::Queue(INGEST), "a").await;
    }
    bus.receive(INGEST, 1, NOW, LONG).await.unwrap();
    f.rt.sleep(Duration::from_millis(20)).await;
    let stats = bus.stats(INGEST).await.unwrap();
    assert_eq!((stats.depth, stats.in_flight, stats.parked), (2, 1, 0));
    assert!((20..60_000).contains(&stats.oldest_ms), "{stats:?}");
    assert_eq!(bus.stats(Queue::Bulk).await.unwrap(), QueueStats::default());
    assert_eq!(f.stores.recover(&f.rt).await, Outcome::Done(1), "after a crash: none in flight");
    assert_eq!(receive(bus, INGEST, LONG).await.0.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_share_a_queue_and_each_message_is_received_once() {
    let f = fixture();
    let other = f.again();
    let buses = [f.stores.timeline.bus.clone(), other.timeline.bus.clone()];
    let workers: Vec<_> = buses
        .iter()
        .cloned()
        .map(|bus| {
            tokio::spawn(async move {
                let mut seen = Vec::new();
                while let Ok(taken) = bus.receive(INGEST, 3, Duration::from_millis(300), LONG).await
                    && !taken.is_empty()
                {
                    seen.extend(taken.iter().map(|d| d.body.clone()));
                    let receipts: Vec<_> = taken.into_iter().map(|d| d.receipt).collect();
                    assert!(bus.acknowledge(INGEST, &receipts).await.iter().all(Outcome::is_done));
                }
                seen
            })
        })
        .collect();
    for n in 0..100 {
        let message = Bytes::from(format!("{n:03}"));
        assert!(buses[n % 2].publish(Target::Queue(INGEST), &[message]).await[0].is_done());
    }
    let mut all = Vec::new();
    for worker in workers {
        all.extend(worker.await.unwrap());
    }
    all.sort();
    assert_eq!(all, (0..100).map(|n| Bytes::from(format!("{n:03}"))).collect::<Vec<_>>());
}
