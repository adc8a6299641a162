//! Scenarios of the circuit and of what is received under it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use async_trait::async_trait;
use bytes::Bytes;

use super::*;
use crate::{
    ports::{Bus, Counted, Queue, QueueStats, RateLimiter, Receipt, Received, Target, Verdict},
    rt::tokio_rt::TokioRuntime,
};

/// A server that answers, or is silent, or says no.
#[derive(Default)]
struct Server {
    trouble: Mutex<Option<Kind>>,
    calls: AtomicUsize,
}

#[async_trait]
impl RateLimiter for Server {
    async fn check(&self, _: &[Counted<'_>]) -> Read<Vec<Verdict>> {
        self.calls.fetch_add(1, Relaxed);
        match *self.trouble.lock() {
            Some(kind) => Err(StoreError::new(kind, "limits", "as it was told")),
            None => Ok(Vec::new()),
        }
    }
}

struct World {
    rt: Rt,
    metrics: Metrics,
    server: Arc<Server>,
    circuit: Arc<Circuit>,
    port: Arc<dyn RateLimiter>,
}

fn world() -> World {
    let (rt, metrics) = (TokioRuntime::handle(), Metrics::new());
    let server = Arc::new(Server::default());
    let circuit = Circuit::new("redis", &rt, &metrics);
    let port = Guarded::<dyn RateLimiter>::new(server.clone(), &circuit);
    World { rt, metrics, server, circuit, port }
}

impl World {
    fn set(&self, trouble: Option<Kind>) {
        *self.server.trouble.lock() = trouble;
    }

    async fn ask(&self) -> bool {
        self.port.check(&[]).await.is_ok()
    }

    fn calls(&self) -> usize {
        self.server.calls.load(Relaxed)
    }

    fn says(&self, line: &str) -> bool {
        self.metrics.render().contains(line)
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_silent_is_asked_seldom_and_one_that_is_back_at_once() {
    let world = world();
    world.set(Some(Kind::Timeout));
    for _ in 0..FAILURES_MAX {
        assert!(!world.circuit.is_open());
        assert!(!world.ask().await);
    }
    assert!(world.circuit.is_open());
    assert!(world.says("chirp_store_up{store=\"redis\"} 0"));
    let asked = world.calls();
    assert!(!world.ask().await);
    assert_eq!(world.calls(), asked, "it was not asked");
    // In a minute of silence it is asked every five to eight seconds, after the first few.
    for _ in 0..600 {
        world.rt.sleep(Duration::from_millis(100)).await;
        world.ask().await;
    }
    let probes = world.calls() - asked;
    assert!((8..=16).contains(&probes), "{probes}");
    world.set(None);
    world.rt.sleep(PAUSE_MAX * 2).await;
    assert!(world.ask().await && world.ask().await);
    assert!(!world.circuit.is_open());
    assert!(world.says("chirp_store_up{store=\"redis\"} 1"));
    assert!(world.says("chirp_store_call_seconds_count{store=\"redis\",call=\"check\"}"));
}

#[tokio::test(start_paused = true)]
async fn a_no_is_an_answer_and_one_answer_ends_a_row_of_failures() {
    let world = world();
    for kind in [Kind::Full, Kind::Corrupt] {
        world.set(Some(kind));
        for _ in 0..3 * FAILURES_MAX {
            world.ask().await;
        }
        assert!(!world.circuit.is_open(), "{kind:?}");
    }
    for _ in 0..5 {
        world.set(Some(Kind::Unavailable));
        for _ in 1..FAILURES_MAX {
            world.ask().await;
        }
        world.set(None);
        world.ask().await;
    }
    assert!(!world.circuit.is_open());
}

#[tokio::test(start_paused = true)]
async fn one_call_finds_out_for_all_and_one_that_goes_away_leaves_it_to_the_next() {
    let world = world();
    world.set(Some(Kind::Unavailable));
    for _ in 0..FAILURES_MAX {
        world.ask().await;
    }
    world.set(None);
    world.rt.sleep(PAUSE_MAX).await;
    let stuck = world.circuit.read("stuck", std::future::pending::<Read<()>>());
    let stuck = world.rt.timeout(Duration::from_secs(1), stuck);
    let others = async {
        world.rt.sleep(Duration::from_millis(10)).await;
        assert!(!world.ask().await, "another call is finding out");
    };
    let (stuck, ()) = tokio::join!(stuck, others);
    assert!(stuck.is_err());
    assert!(world.ask().await);
}

/// A bus whose polls bring one message each, after as long as they wait.
#[derive(Default)]
struct Wire {
    polls: AtomicUsize,
    given_back: Mutex<Vec<Receipt>>,
    quick: AtomicBool,
    rt: Option<Rt>,
}

#[async_trait]
impl Bus for Wire {
    async fn publish(&self, _: Target, messages: &[Bytes]) -> Vec<Outcome<()>> {
        messages.iter().map(|_| Outcome::Done(())).collect()
    }

    async fn receive(
        &self,
        _: Queue,
        _: usize,
        wait: Duration,
        _: Duration,
    ) -> Read<Vec<Received>> {
        let poll = self.polls.fetch_add(1, Relaxed);
        if !self.quick.load(Relaxed) {
            self.rt.as_ref().unwrap().sleep(wait).await;
        }
        let receipt = Receipt(poll.to_string());
        Ok(vec![Received { receipt, body: Bytes::new(), receives: 1 }])
    }

    async fn acknowledge(&self, _: Queue, receipts: &[Receipt]) -> Vec<Outcome<()>> {
        receipts.iter().map(|_| Outcome::Done(())).collect()
    }

    async fn extend(&self, _: Queue, receipts: &[Receipt], to: Duration) -> Vec<Outcome<()>> {
        assert!(to.is_zero());
        self.given_back.lock().extend_from_slice(receipts);
        receipts.iter().map(|_| Outcome::Done(())).collect()
    }

    async fn redrive(&self, _: Queue, _: usize) -> Outcome<u64> {
        Outcome::Done(0)
    }

    async fn stats(&self, _: Queue) -> Read<QueueStats> {
        Ok(QueueStats::default())
    }
}

const POLL_MAX: Duration = Duration::from_secs(3);

fn intake(world: &World) -> (Arc<Wire>, Arc<Intake>) {
    let wire = Arc::new(Wire { rt: Some(world.rt.clone()), ..Wire::default() });
    let needs = vec![Arc::clone(&world.circuit)];
    (wire.clone(), Intake::new(wire, &world.rt, needs, POLL_MAX))
}

async fn receive(intake: &Intake) -> usize {
    let wait = Duration::from_secs(10);
    intake.receive(Queue::Ingest, 10, wait, Duration::from_secs(30)).await.unwrap().len()
}

#[tokio::test(start_paused = true)]
async fn nothing_is_received_while_a_store_that_is_needed_does_not_answer() {
    let world = world();
    let (wire, intake) = intake(&world);
    wire.quick.store(true, Relaxed);
    assert_eq!(receive(&intake).await, 1);
    world.set(Some(Kind::Timeout));
    for _ in 0..FAILURES_MAX {
        world.ask().await;
    }
    let asked = async {
        for _ in 0..20 {
            world.rt.sleep(Duration::from_millis(20)).await;
            assert_eq!(wire.polls.load(Relaxed), 1, "nothing is received in vain");
        }
    };
    let (received, ()) = tokio::join!(receive(&intake), asked);
    assert_eq!(received, 1, "after the pause one batch finds out");
}

#[tokio::test(start_paused = true)]
async fn what_a_poll_brings_after_the_stop_is_given_back() {
    let world = world();
    let (wire, intake) = intake(&world);
    let stop = async {
        world.rt.sleep(Duration::from_secs(1)).await;
        intake.stop();
    };
    let (received, ()) = tokio::join!(receive(&intake), stop);
    assert_eq!(received, 0, "it is told at once");
    assert!(wire.given_back.lock().is_empty(), "the poll is still under way");
    let began = world.rt.now();
    intake.idle().await;
    assert!(world.rt.now().since(began) <= POLL_MAX);
    assert_eq!(*wire.given_back.lock(), [Receipt("0".to_owned())]);
    assert_eq!(receive(&intake).await, 0);
    assert_eq!(wire.polls.load(Relaxed), 1, "nothing is received any more");
}

#[tokio::test(start_paused = true)]
async fn what_comes_for_a_receiver_that_has_gone_is_given_back() {
    let world = world();
    let (wire, intake) = intake(&world);
    let gone = world.rt.timeout(Duration::from_secs(1), receive(&intake)).await;
    assert!(gone.is_err());
    world.rt.sleep(POLL_MAX).await;
    assert_eq!(*wire.given_back.lock(), [Receipt("0".to_owned())]);
}
