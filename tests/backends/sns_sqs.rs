//! The bus over SNS and SQS, as an emulator has them: one server, which scenarios share, each with a
//! namespace of its own, and servers of their own for those who kill or stop one.

mod contract;
mod faults;
mod redrive;
mod sizes;
mod topology;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use aws_sdk_sqs::config::{BehaviorVersion, Credentials, Region};
use bytes::Bytes;
use chirp::{
    adapters::sns_sqs::SnsSqsBus,
    config::{Aws, Secret},
    ports::{Bus, Outcome, Queue, Receipt, Target, bus::BATCH_MAX},
    rt::{Rt, tokio_rt::TokioRuntime},
};

use crate::support::{
    run::{Backend, Scenario, answers, scenarios},
    server::{Container, Order, docker_does, free_ports},
};

pub const SCENARIOS: &[Scenario<Server>] = scenarios![
    contract::topics_and_queues_that_are_made_keep_the_contract,
    contract::topics_and_queues_that_are_found_keep_the_contract,
    faults::a_call_that_was_cut_off_is_unknown_unless_another_attempt_is_done,
    faults::what_may_have_happened_stays_unknown_when_the_next_attempt_cannot_connect,
    faults::what_was_never_sent_has_failed,
    faults::a_server_that_stops_is_an_error_in_time_and_a_write_to_it_is_unknown,
    faults::a_receive_may_wait_longer_than_an_attempt_may_take,
    faults::neither_errors_nor_debug_texts_show_the_secret,
    redrive::a_process_that_dies_between_sending_and_removing_loses_nothing,
    redrive::what_cannot_be_sent_stays_parked,
    redrive::what_is_parked_again_at_once_is_moved_once,
    sizes::every_byte_comes_through_a_topic_and_through_a_queue,
    sizes::a_batch_that_is_too_large_in_all_is_sent_in_several_calls,
    sizes::a_message_that_is_too_large_fails_alone,
    topology::processes_that_start_at_once_make_one_topology,
    topology::a_process_that_may_only_use_what_is_there_says_what_is_missing,
    topology::a_queue_that_is_gone_is_made_anew_under_those_who_use_it,
    topology::a_topic_that_is_gone_is_made_anew_and_its_messages_arrive,
    topology::a_server_that_was_killed_gets_everything_again,
];

/// The longest that anything eventual may take; a busy machine takes its time.
pub const PATIENCE: Duration = Duration::from_mins(1);
/// Longer than any scenario.
pub const LONG: Duration = Duration::from_mins(10);
/// The least that SQS waits.
pub const SHORT: Duration = Duration::from_secs(1);
pub const INGEST: Target = Target::Queue(Queue::Ingest);

/// An emulator.
#[derive(Clone)]
pub struct Server {
    /// Where it is a server of the scenario's own: removed with the last that knows it.
    _own: Option<Arc<Container>>,
    id: String,
    pub port: u16,
    pub rt: Rt,
}

impl Backend for Server {
    const NAME: &'static str = "ministack";

    fn order() -> Order {
        // Addresses of queues carry the port.
        let port = free_ports(1)[0];
        Order::of(Self::NAME).on(&[port]).with("GATEWAY_PORT", port.to_string())
    }

    async fn begin(container: &Container) -> Self {
        let (id, rt) = (container.id().to_owned(), TokioRuntime::handle());
        let server = Self { _own: None, id, port: container.port, rt };
        let sqs = server.sqs();
        answers(container, async || sqs.list_queues().send().await).await;
        server
    }
}

impl Server {
    /// A server of the scenario's own.
    pub async fn single() -> Self {
        let container = Self::order().start().await.unwrap();
        let server = Self::begin(&container).await;
        Self { _own: Some(Arc::new(container)), ..server }
    }

    /// Settings with a namespace of their own; patient, as the machine may be busy.
    pub fn config(&self) -> Aws {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let config = Aws {
            endpoint: format!("http://127.0.0.1:{}", self.port),
            access_key_id: "test".to_owned(),
            access_key_secret: Secret("test".to_owned()),
            namespace: format!("t{}", NEXT.fetch_add(1, Ordering::Relaxed)),
            attempt_ms: 10_000,
            ..Aws::default()
        };
        config.validate().unwrap();
        config
    }

    /// The same through a port of another's.
    pub fn config_behind(&self, port: u16) -> Aws {
        Aws { endpoint: format!("http://127.0.0.1:{port}"), ..self.config() }
    }

    /// A bus whose topics and queues are there.
    pub async fn open(&self, config: &Aws) -> Process {
        let bus = SnsSqsBus::open(config, self.rt.clone()).await.unwrap();
        Process { bus: Arc::new(bus), namespace: config.namespace.clone() }
    }

    /// The queues past the adapter.
    pub fn sqs(&self) -> aws_sdk_sqs::Client {
        aws_sdk_sqs::Client::from_conf(
            aws_sdk_sqs::Config::builder()
                .behavior_version(BehaviorVersion::latest())
                .region(Region::new("us-east-1"))
                .endpoint_url(format!("http://127.0.0.1:{}", self.port))
                .credentials_provider(Credentials::new("test", "test", None, None, "test"))
                .build(),
        )
    }

    /// The topics past the adapter.
    pub fn sns(&self) -> aws_sdk_sns::Client {
        aws_sdk_sns::Client::from_conf(
            aws_sdk_sns::Config::builder()
                .behavior_version(BehaviorVersion::latest())
                .region(Region::new("us-east-1"))
                .endpoint_url(format!("http://127.0.0.1:{}", self.port))
                .credentials_provider(Credentials::new("test", "test", None, None, "test"))
                .build(),
        )
    }

    /// Does `verb` to the container.
    pub fn docker(&self, verb: &[&str]) {
        docker_does(&[verb, &[self.id.as_str()]].concat());
    }
}

/// One process' bus.
#[derive(Clone)]
pub struct Process {
    pub bus: Arc<SnsSqsBus>,
    pub namespace: String,
}

pub fn text(n: usize) -> Bytes {
    format!("{{\"v\":1,\"events\":[{n}]}}").into()
}

impl Process {
    /// The outcome of one message.
    pub async fn publish(&self, to: Target, message: Bytes) -> Outcome<()> {
        self.bus.publish(to, &[message]).await.pop().unwrap()
    }

    /// Receives and acknowledges until nothing comes for a second; how often each message came.
    pub async fn drain(&self, queue: Queue) -> BTreeMap<Bytes, usize> {
        let mut seen = BTreeMap::new();
        loop {
            let found = self.bus.receive(queue, BATCH_MAX, SHORT, LONG).await.unwrap();
            if found.is_empty() {
                return seen;
            }
            let receipts: Vec<Receipt> = found.iter().map(|d| d.receipt.clone()).collect();
            for received in found {
                *seen.entry(received.body).or_default() += 1;
            }
            for outcome in self.bus.acknowledge(queue, &receipts).await {
                assert_eq!(outcome, Outcome::Done(()));
            }
        }
    }
}

/// Each of the messages once.
pub fn once(messages: impl IntoIterator<Item = Bytes>) -> BTreeMap<Bytes, usize> {
    messages.into_iter().map(|message| (message, 1)).collect()
}
