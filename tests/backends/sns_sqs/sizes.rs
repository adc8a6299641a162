//! Odd bytes, large messages, large batches.

use bytes::Bytes;
use chirp::ports::{
    Bus as _, Kind, Outcome, Queue, Target, Topic,
    bus::{BATCH_MAX, MESSAGE_BYTES_MAX},
};

use super::{INGEST, Server, once, text};

const TOPIC: Target = Target::Topic(Topic::TweetEvents);

/// A message of so many bytes, which begins with its number.
fn sized(n: usize, bytes: usize) -> Bytes {
    format!("{n}{}", "x".repeat(bytes - 1)).into()
}

pub async fn every_byte_comes_through_a_topic_and_through_a_queue(server: Server) {
    let process = server.open(&server.config()).await;
    let messages = [
        text(1),
        Bytes::from((0..=255).collect::<Vec<u8>>()),
        "&<>\"' \t\r\n %20+=é\u{10FFFF}".into(),
        "\u{FFFF}".into(),
        Bytes::new(),
    ];
    for to in [TOPIC, INGEST] {
        for outcome in process.bus.publish(to, &messages).await {
            assert_eq!(outcome, Outcome::Done(()));
        }
        assert_eq!(process.drain(Queue::Ingest).await, once(messages.clone()), "{to:?}");
    }
}

pub async fn a_batch_that_is_too_large_in_all_is_sent_in_several_calls(server: Server) {
    let process = server.open(&server.config()).await;
    let messages: Vec<Bytes> =
        (0..BATCH_MAX).map(|n| sized(n, MESSAGE_BYTES_MAX - 1_000 * n)).collect();
    for to in [TOPIC, INGEST] {
        for outcome in process.bus.publish(to, &messages).await {
            assert_eq!(outcome, Outcome::Done(()), "{to:?}");
        }
        assert_eq!(process.drain(Queue::Ingest).await, once(messages.clone()), "{to:?}");
    }
}

pub async fn a_message_that_is_too_large_fails_alone(server: Server) {
    let process = server.open(&server.config()).await;
    let messages = [text(0), sized(1, MESSAGE_BYTES_MAX + 1), text(2)];
    for to in [TOPIC, INGEST, Target::Parked(Queue::Ingest)] {
        let outcomes = process.bus.publish(to, &messages).await;
        let [Outcome::Done(()), Outcome::Failed(error), Outcome::Done(())] = &outcomes[..] else {
            panic!("{to:?}: {outcomes:?}")
        };
        assert_eq!(error.kind, Kind::Unavailable);
    }
    assert_eq!(process.bus.redrive(Queue::Ingest, 9).await, Outcome::Done(2));
    let seen = process.drain(Queue::Ingest).await;
    assert_eq!(seen, [(text(0), 3), (text(2), 3)].into());
}
