//! Doubled, delayed, reordered, half-failed messages.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;

use super::{paused, world};
use crate::{
    ports::{Bus, Outcome, Queue, Target},
    sim::world::Knobs,
};

const INGEST: Target = Target::Queue(Queue::Ingest);
const ALWAYS: u32 = 10_000;

fn message(n: u64) -> Bytes {
    n.to_string().into()
}

/// Receives and acknowledges until nothing comes for ten seconds; gives how often each came, and in
/// which order they came first.
async fn drain(bus: &dyn Bus) -> (BTreeMap<Bytes, u32>, Vec<Bytes>) {
    let (mut times, mut order) = (BTreeMap::new(), Vec::new());
    let second = Duration::from_secs(1);
    loop {
        let got = bus.receive(Queue::Ingest, 10, second * 10, second).await.unwrap();
        if got.is_empty() {
            return (times, order);
        }
        for delivery in got {
            let count = times.entry(delivery.body.clone()).or_insert(0);
            *count += 1;
            if *count == 1 {
                order.push(delivery.body);
            }
            assert!(bus.acknowledge(Queue::Ingest, &[delivery.receipt]).await[0].is_done());
        }
    }
}

#[test]
fn messages_come_twice_late_and_in_any_order_but_all_of_them_come() {
    paused(async {
        let knobs = Knobs {
            duplicate: 1_000,
            delay: 3_000,
            delay_ms: 5_000,
            reorder: 5_000,
            ..Knobs::calm()
        };
        let (world, ports, _) = world(2, knobs);
        let all: Vec<Bytes> = (0..100).map(message).collect();
        for batch in all.chunks(10) {
            assert!(ports.bus.publish(INGEST, batch).await.iter().all(Outcome::is_done));
        }
        let (times, order) = drain(&*ports.bus).await;
        assert_eq!(times.len(), 100);
        assert!(times.values().filter(|n| **n > 1).count() > 10, "{times:?}");
        assert_ne!(order, all);
        assert!(world.pending().is_quiet());
    });
}

#[test]
fn an_acknowledged_message_may_come_again_until_the_world_heals() {
    paused(async {
        let (world, ports, rt) = world(2, Knobs { duplicate: ALWAYS, ..Knobs::calm() });
        assert!(ports.bus.publish(INGEST, &[message(1)]).await[0].is_done());
        let second = Duration::from_secs(1);
        for _ in 0..3 {
            let got = ports.bus.receive(Queue::Ingest, 10, second * 5, second).await.unwrap();
            let receipts: Vec<_> = got.into_iter().map(|d| d.receipt).collect();
            let acked = ports.bus.acknowledge(Queue::Ingest, &receipts).await;
            assert!(!acked.is_empty() && acked.iter().all(Outcome::is_done));
        }
        world.set_faults(false);
        rt.sleep(second).await;
        assert_eq!(drain(&*ports.bus).await.0, BTreeMap::from([(message(1), 2)]));
        assert!(world.pending().is_quiet());
    });
}

#[test]
fn single_entries_fail_or_are_unclear_and_the_failed_ones_did_not_happen() {
    paused(async {
        let (world, ports, _) = world(2, Knobs { entry: 4_000, ..Knobs::calm() });
        let (mut done, mut failed, mut unclear) = (0, 0, 0);
        let mut sure = Vec::new();
        for batch in 0..30 {
            let batch: Vec<Bytes> = (batch * 10..batch * 10 + 10).map(message).collect();
            let outcomes = ports.bus.publish(INGEST, &batch).await;
            for (message, outcome) in batch.into_iter().zip(outcomes) {
                match outcome {
                    Outcome::Done(()) => done += 1,
                    Outcome::Failed(_) => failed += 1,
                    Outcome::Unknown(_) => unclear += 1,
                }
                sure.extend(
                    (!matches!(outcome, Outcome::Unknown(_))).then_some((message, outcome)),
                );
            }
        }
        assert!(done > 50 && failed > 20 && unclear > 20, "{done} {failed} {unclear}");
        world.set_faults(false);
        let (times, _) = drain(&*ports.bus).await;
        for (message, outcome) in sure {
            assert_eq!(times.contains_key(&message), outcome.is_done(), "{message:?}");
        }
        assert!(times.len() > done && times.len() < done + unclear, "some unclear ones happened");
    });
}

#[test]
fn a_receiver_sleeps_until_a_delayed_message_arrives() {
    paused(async {
        let knobs = Knobs { delay: ALWAYS, delay_ms: 4_000, ..Knobs::calm() };
        let (world, ports, _) = world(5, knobs);
        let bus = ports.bus.clone();
        let minute = Duration::from_mins(1);
        let receive = async {
            let got = bus.receive(Queue::Ingest, 1, minute, minute).await.unwrap();
            (got.len(), world.now_ms())
        };
        let messages = [message(1)];
        let publish = ports.bus.publish(INGEST, &messages);
        let ((got, at), sent) = tokio::join!(receive, publish);
        assert!(sent[0].is_done() && got == 1 && (1..=4_000).contains(&at), "{got} {at}");
    });
}
