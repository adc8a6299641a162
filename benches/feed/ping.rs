//! A bare ping over the emulator of SNS and SQS: what a message needs that nobody works on.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use aws_sdk_sns::config::Credentials;
use aws_sdk_sqs::types::DeleteMessageBatchRequestEntry;
use chirp::{adapters::sns_sqs::SnsSqsBus, config, rt::tokio_rt::TokioRuntime};
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use tokio::task::JoinSet;

/// Topics and queues of its own.
const NAMESPACE: &str = "bench-ping";
/// Bytes of a message: an envelope of two tweets.
const BODY_BYTES: usize = 800;
/// Seconds that a consumer asks the server to wait.
const WAIT_S: i32 = 2;

/// Both clients, and where they send and listen.
pub(crate) struct Ping {
    sns: aws_sdk_sns::Client,
    sqs: aws_sdk_sqs::Client,
    topic: String,
    queue: String,
    consumers: u64,
}

impl Ping {
    /// Makes topic and queue as chirp makes its own.
    pub(crate) async fn new(config: &config::Aws, consumers: u64) -> Self {
        let own = config::Aws { namespace: NAMESPACE.to_owned(), ..config.clone() };
        SnsSqsBus::open(&own, TokioRuntime::handle()).await.unwrap();
        let (id, secret) = (own.access_key_id, own.access_key_secret.0);
        let sdk = aws_config::defaults(aws_config::BehaviorVersion::latest())
            .endpoint_url(own.endpoint)
            .region(aws_config::Region::new(own.region))
            .credentials_provider(Credentials::new(id, secret, None, None, "bench"))
            .load()
            .await;
        let (sns, sqs) = (aws_sdk_sns::Client::new(&sdk), aws_sdk_sqs::Client::new(&sdk));
        let topic = sns.create_topic().name(format!("{NAMESPACE}-tweet-events")).send().await;
        let topic = topic.unwrap().topic_arn.unwrap();
        let queue = sqs.get_queue_url().queue_name(format!("{NAMESPACE}-ingest")).send().await;
        Self { sns, sqs, topic, queue: queue.unwrap().queue_url.unwrap(), consumers }
    }

    /// Publishes `per_s` messages a second for `length`. Gives the microseconds from before each was
    /// published until a consumer had it.
    pub(crate) async fn slice(self: &Arc<Self>, per_s: f64, length: Duration) -> Histogram<u64> {
        let (began, stop) = (Instant::now(), Arc::new(AtomicBool::new(false)));
        let found = Arc::new(Mutex::new(Histogram::new(3).unwrap()));
        let mut consumers = JoinSet::new();
        for _ in 0..self.consumers {
            let (ping, found, stop) = (Arc::clone(self), Arc::clone(&found), Arc::clone(&stop));
            consumers.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    ping.receive(began, &found).await;
                }
            });
        }
        let mut publishers = JoinSet::new();
        for turn in 0..(per_s * length.as_secs_f64()) as u64 {
            let due = began + Duration::from_secs_f64(turn as f64 / per_s);
            tokio::time::sleep_until(due.into()).await;
            let ping = Arc::clone(self);
            publishers.spawn(async move { ping.publish(began).await });
        }
        publishers.join_all().await;
        // Consumers notice once their wait has ended without a message.
        stop.store(true, Ordering::Relaxed);
        consumers.join_all().await;
        std::mem::replace(&mut *found.lock(), Histogram::new(3).unwrap())
    }

    async fn publish(&self, began: Instant) {
        let body = format!("{:<BODY_BYTES$}", began.elapsed().as_micros());
        self.sns.publish().topic_arn(&self.topic).message(body).send().await.unwrap();
    }

    async fn receive(&self, began: Instant, found: &Mutex<Histogram<u64>>) {
        let asked = self.sqs.receive_message().queue_url(&self.queue);
        let asked = asked.max_number_of_messages(10).wait_time_seconds(WAIT_S);
        let messages = asked.send().await.unwrap().messages.unwrap_or_default();
        let now = began.elapsed().as_micros() as u64;
        if messages.is_empty() {
            return;
        }
        let mut done = self.sqs.delete_message_batch().queue_url(&self.queue);
        for (at, message) in messages.into_iter().enumerate() {
            // One that was left by an earlier slice has a later time than now.
            let sent: u64 = message.body.unwrap().trim().parse().unwrap();
            found.lock().record(now.saturating_sub(sent)).unwrap();
            let entry = DeleteMessageBatchRequestEntry::builder().id(at.to_string());
            let entry = entry.receipt_handle(message.receipt_handle.unwrap()).build().unwrap();
            done = done.entries(entry);
        }
        done.send().await.unwrap();
    }
}
