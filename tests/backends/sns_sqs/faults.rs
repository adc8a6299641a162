//! Calls that are cut off, never sent or not answered.

use std::time::{Duration, Instant};

use chirp::{
    adapters::sns_sqs::SnsSqsBus,
    config::{Aws, Secret},
    ports::{Bus as _, Kind, Outcome, Queue, Target, Topic},
};

use super::{INGEST, LONG, Server, once, text};
use crate::support::proxy::{Proxy, Rule};

const TOPIC: Target = Target::Topic(Topic::GraphEvents);

pub async fn a_call_that_was_cut_off_is_unknown_unless_another_attempt_is_done(server: Server) {
    let calls = [(TOPIC, b"PublishBatch".as_slice()), (INGEST, b"SendMessageBatch")];
    for (to, call) in calls {
        for (rule, arrived) in [(Rule::CutBefore(call), 0), (Rule::CutAfter(call), 1)] {
            let proxy = Proxy::before(server.port);
            let config = Aws { attempts_max: 1, ..server.config_behind(proxy.port) };
            let process = server.open(&config).await;
            proxy.set(rule);
            let cut = process.publish(to, text(1)).await;
            assert!(matches!(cut, Outcome::Unknown(_)), "{rule:?}: {cut:?}");
            proxy.set(Rule::Pass);
            assert_eq!(process.publish(to, text(2)).await, Outcome::Done(()));
            let seen = process.drain(Queue::Ingest).await;
            assert_eq!(seen.get(&text(1)).copied().unwrap_or(0), arrived, "{rule:?}");
        }
    }
    // The connection has died while nobody used it; the second attempt has a new one.
    let proxy = Proxy::before(server.port);
    let process = server.open(&server.config_behind(proxy.port)).await;
    for rule in [Rule::Refuse, Rule::Pass] {
        proxy.set(rule);
    }
    assert_eq!(process.publish(TOPIC, text(3)).await, Outcome::Done(()));
    assert_eq!(process.drain(Queue::Ingest).await, once([text(3)]));
}

pub async fn what_may_have_happened_stays_unknown_when_the_next_attempt_cannot_connect(
    server: Server,
) {
    let proxy = Proxy::before(server.port);
    let process = server.open(&server.config_behind(proxy.port)).await;
    proxy.set(Rule::Hold(b"SendMessageBatch"));
    let sending = tokio::spawn({
        let process = process.clone();
        async move { process.publish(INGEST, text(1)).await }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    // What was held is gone with its connection, and so is every later one.
    proxy.set(Rule::Refuse);
    let port = proxy.port;
    drop(proxy);
    let cut = sending.await.unwrap();
    assert!(matches!(cut, Outcome::Unknown(_)), "{cut:?}");
    // The same without a first attempt that may have come through.
    let never = process.publish(INGEST, text(2)).await;
    assert!(matches!(never, Outcome::Failed(_)), "{port}: {never:?}");
}

pub async fn what_was_never_sent_has_failed(server: Server) {
    let proxy = Proxy::before(server.port);
    let process = server.open(&server.config_behind(proxy.port)).await;
    let receipt = {
        assert!(process.publish(INGEST, text(1)).await.is_done());
        let mut found = process.bus.receive(Queue::Ingest, 1, LONG, LONG).await.unwrap();
        [found.pop().unwrap().receipt]
    };
    drop(proxy);
    // Connections that were open when the server went may have carried a call.
    for to in [TOPIC, INGEST] {
        drop(process.publish(to, text(2)).await);
    }
    for to in [TOPIC, INGEST, Target::Parked(Queue::Bulk)] {
        let outcome = process.publish(to, text(2)).await;
        assert!(matches!(outcome, Outcome::Failed(_)), "{to:?}: {outcome:?}");
    }
    for outcome in process.bus.acknowledge(Queue::Ingest, &receipt).await {
        assert!(matches!(outcome, Outcome::Failed(_)), "{outcome:?}");
    }
    let redriven = process.bus.redrive(Queue::Ingest, 1).await;
    assert!(matches!(redriven, Outcome::Failed(_)), "{redriven:?}");
}

pub async fn a_server_that_stops_is_an_error_in_time_and_a_write_to_it_is_unknown(_: Server) {
    let server = Server::single().await;
    let config = Aws { attempt_ms: 1_000, ..server.config() };
    let process = server.open(&config).await;
    assert!(process.publish(INGEST, text(1)).await.is_done());
    let found = process.bus.receive(Queue::Ingest, 1, LONG, LONG).await.unwrap();
    server.docker(&["pause"]);
    let began = Instant::now();
    for to in [TOPIC, INGEST] {
        let outcome = process.publish(to, text(2)).await;
        let Outcome::Unknown(error) = outcome else { panic!("{outcome:?}") };
        assert_eq!(error.kind, Kind::Timeout);
    }
    let acknowledged = process.bus.acknowledge(Queue::Ingest, &[found[0].receipt.clone()]).await;
    assert!(matches!(acknowledged[..], [Outcome::Unknown(_)]), "{acknowledged:?}");
    let received = process.bus.receive(Queue::Ingest, 1, Duration::from_secs(1), LONG).await;
    assert_eq!(received.unwrap_err().kind, Kind::Timeout);
    assert_eq!(process.bus.stats(Queue::Ingest).await.unwrap_err().kind, Kind::Timeout);
    // Six seconds of attempts and waits, and as much for a busy machine.
    let took = began.elapsed();
    server.docker(&["unpause"]);
    assert!(took < Duration::from_secs(12), "{took:?}");
    assert!(process.publish(INGEST, text(3)).await.is_done());
}

pub async fn a_receive_may_wait_longer_than_an_attempt_may_take(server: Server) {
    let config = Aws { attempt_ms: 1_000, ..server.config() };
    let process = server.open(&config).await;
    let received = process.bus.receive(Queue::Ingest, 1, Duration::from_secs(3), LONG).await;
    assert_eq!(received, Ok(Vec::new()));
}

pub async fn neither_errors_nor_debug_texts_show_the_secret(server: Server) {
    let nobody = Aws { access_key_secret: Secret("hunter2".to_owned()), ..server.config_behind(1) };
    let absent = SnsSqsBus::open(&nobody, server.rt.clone()).await.unwrap_err();
    assert!(absent.unreachable, "{absent}");
    let bus = SnsSqsBus::new(&nobody, server.rt.clone()).await;
    let read = bus.stats(Queue::Bulk).await.unwrap_err();
    let write = bus.publish(INGEST, &[text(1)]).await;
    let texts = format!("{absent} {absent:?} {read} {read:?} {write:?} {bus:?} {nobody:?}");
    assert!(!texts.contains("hunter2"), "{texts}");
    assert!(texts.contains("onnect"), "{texts}");
}
