//! Parked messages, while the process that moves them is cut off.

use std::time::Duration;

use chirp::ports::{Bus as _, Outcome, Queue, Target};

use super::{PATIENCE, Server, text};
use crate::support::proxy::{Proxy, Rule};

pub async fn a_process_that_dies_between_sending_and_removing_loses_nothing(server: Server) {
    let proxy = Proxy::before(server.port);
    let process = server.open(&server.config_behind(proxy.port)).await;
    for n in 0..3 {
        let parked = process.publish(Target::Parked(Queue::Ingest), text(n)).await;
        assert_eq!(parked, Outcome::Done(()));
    }
    proxy.set(Rule::CutBefore(b"DeleteMessageBatch"));
    drop(process.bus.redrive(Queue::Ingest, 9).await);
    proxy.set(Rule::Pass);
    // They are sent already, and parked still, though invisible for a while.
    let stats = process.bus.stats(Queue::Ingest).await.unwrap();
    assert_eq!((stats.depth, stats.parked), (3, 3));
    let again = async {
        while process.bus.stats(Queue::Ingest).await.unwrap().parked > 0 {
            assert!(process.bus.redrive(Queue::Ingest, 9).await.is_done());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, again).await.expect("they become visible again");
    let seen = process.drain(Queue::Ingest).await;
    assert_eq!(seen, (0..3).map(|n| (text(n), 2)).collect());
}

pub async fn what_cannot_be_sent_stays_parked(server: Server) {
    let proxy = Proxy::before(server.port);
    let process = server.open(&server.config_behind(proxy.port)).await;
    for n in 0..3 {
        let parked = process.publish(Target::Parked(Queue::Bulk), text(n)).await;
        assert_eq!(parked, Outcome::Done(()));
    }
    proxy.set(Rule::CutBefore(b"SendMessageBatch"));
    let cut = process.bus.redrive(Queue::Bulk, 9).await;
    assert!(matches!(cut, Outcome::Unknown(_)), "{cut:?}");
    proxy.set(Rule::Pass);
    // They were given back at once, and nothing of them is lost.
    assert_eq!(process.bus.redrive(Queue::Bulk, 9).await, Outcome::Done(3));
    let seen = process.drain(Queue::Bulk).await;
    assert_eq!(seen, (0..3).map(|n| (text(n), 1)).collect());
}

pub async fn what_is_parked_again_at_once_is_moved_once(server: Server) {
    let process = server.open(&server.config()).await;
    for n in 0..3 {
        let parked = process.publish(Target::Parked(Queue::Ingest), text(n)).await;
        assert_eq!(parked, Outcome::Done(()));
    }
    let (bus, wait) = (&process.bus, Duration::from_millis(100));
    let nobody_understands = async {
        loop {
            let received = bus.receive(Queue::Ingest, 9, wait, PATIENCE).await.unwrap();
            for message in received {
                let parked = process.publish(Target::Parked(Queue::Ingest), message.body).await;
                assert_eq!(parked, Outcome::Done(()));
                bus.acknowledge(Queue::Ingest, &[message.receipt]).await;
            }
        }
    };
    let moved = tokio::select! {
        biased;
        moved = tokio::time::timeout(PATIENCE, bus.redrive(Queue::Ingest, 10_000)) => moved,
        () = nobody_understands => unreachable!("it goes on"),
    };
    assert_eq!(moved.expect("it ends"), Outcome::Done(3));
}
