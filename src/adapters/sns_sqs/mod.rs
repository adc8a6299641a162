//! The bus over SNS and SQS, of AWS or of an emulator.
//!
//! [`SnsSqsBus`] is the port. `topology` says what topics and queues there are, `batch` how calls of
//! several entries end, `fault` what an error means for a write, `text` how a message is put into
//! words, `redrive` how parked messages come back, `seen` how old the oldest message is.
//!
//! SQS counts in whole seconds: a wait and a visibility are rounded up, so that a message is never
//! visible too early. A receive that is given up may have taken messages: they come again when their
//! visibility ends. The clients do not repeat calls themselves, since only `batch` knows that what
//! may have happened at the first attempt is not undone by a second that is refused.

mod batch;
mod fault;
mod redrive;
mod seen;
mod text;
mod topology;

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use aws_config::{retry::RetryConfig, timeout::TimeoutConfig};
use aws_sdk_sns::Client as Sns;
use aws_sdk_sqs::{
    Client as Sqs,
    types::{Message, MessageSystemAttributeName, QueueAttributeName},
};
use bytes::Bytes;
use futures_util::future::{join_all, try_join};

use self::{
    batch::{Batch, Of},
    fault::{Fault, Next, STORE},
    seen::Seen,
    topology::{Addresses, Topology},
};
use crate::{
    config,
    ports::{
        Bus, Kind, Outcome, Queue, QueueStats, Read, Receipt, Received, StoreError, Target,
        bus::{BATCH_MAX, MESSAGE_BYTES_MAX},
    },
    rt::Rt,
};

/// The longest that SQS waits for a message.
const WAIT_MAX: Duration = Duration::from_secs(20);
/// The longest that SQS keeps a message invisible.
const VISIBILITY_MAX: Duration = Duration::from_hours(12);
/// The pause before a call is made again; doubles with each attempt.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// The bus over SNS and SQS.
pub struct SnsSqsBus {
    rt: Rt,
    sns: Sns,
    sqs: Sqs,
    topology: Topology,
    seen: [Seen; Queue::ALL.len()],
    /// How long one attempt may take beyond what it asks the server to wait.
    attempt_max: Duration,
    connect_max: Duration,
    attempts: u32,
}

/// The topics and queues cannot be made or found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("SNS and SQS cannot be used: {why}")]
pub struct OpenError {
    /// The server cannot be reached; that may pass.
    pub unreachable: bool,
    /// The server answers, and has not all of them.
    pub absent: bool,
    /// What came back.
    pub why: String,
}

impl std::fmt::Debug for SnsSqsBus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SnsSqsBus")
    }
}

impl SnsSqsBus {
    /// A bus whose topics and queues are there.
    ///
    /// # Errors
    /// They cannot be made or found.
    pub async fn open(config: &config::Aws, rt: Rt) -> Result<Self, OpenError> {
        let bus = Self::new(config, rt).await;
        match bus.ping().await {
            Ok(()) => Ok(bus),
            Err(fault) => {
                let unreachable = fault.kind == Kind::Timeout || fault.next == Next::Again;
                let absent = fault.next == Next::Renew;
                Err(OpenError { unreachable, absent, why: fault.text })
            }
        }
    }

    /// A bus that looks for its topics and queues when they are needed.
    pub async fn new(config: &config::Aws, rt: Rt) -> Self {
        let sdk = super::aws::sdk(config).await;
        let sns = aws_sdk_sns::config::Builder::from(&sdk).retry_config(RetryConfig::disabled());
        let sqs = aws_sdk_sqs::config::Builder::from(&sdk).retry_config(RetryConfig::disabled());
        let (sns, sqs) = (Sns::from_conf(sns.build()), Sqs::from_conf(sqs.build()));
        let topology = Topology::new(
            rt.clone(),
            sns.clone(),
            sqs.clone(),
            (&config.namespace, config.ensure),
            config.attempt(),
        );
        let seen = Default::default();
        let attempts = u32::try_from(config.attempts_max).unwrap_or(u32::MAX);
        let (attempt_max, connect_max) = (config.attempt(), config.connect_timeout());
        Self { rt, sns, sqs, topology, seen, attempt_max, connect_max, attempts }
    }

    /// Asks whether the server and its queues are there.
    ///
    /// # Errors
    /// What came back instead.
    pub async fn is_there(&self) -> Read<()> {
        self.ping().await.map_err(Fault::into_error)
    }

    async fn ping(&self) -> Result<(), Fault> {
        let known = self.topology.addresses().await?;
        let counted = self.count(known.queue(Queue::Ingest)).await;
        match counted {
            Err(fault) if fault.next == Next::Renew => {
                self.topology.renew(Some(&known)).await.map(drop)
            }
            counted => counted.map(drop),
        }
    }

    /// Makes a call that changes nothing, again if that may help.
    async fn read<T, F>(&self, call: impl Fn(Arc<Addresses>) -> F) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        let mut attempt = 0;
        loop {
            let known = self.topology.addresses().await?;
            let fault = match call(Arc::clone(&known)).await {
                Ok(value) => return Ok(value),
                Err(fault) => fault,
            };
            let gone = fault.next == Next::Renew;
            if fault.next == Next::GiveUp || attempt + 1 >= self.attempts && !gone {
                return Err(fault);
            }
            if attempt + 1 >= self.attempts {
                drop(self.topology.renew(Some(&known)).await);
                return Err(fault);
            }
            self.prepare(gone, &known, attempt).await;
            attempt += 1;
        }
    }

    async fn take(
        &self,
        url: &str,
        max: usize,
        wait: Duration,
        visibility: Duration,
    ) -> Result<Vec<Message>, Fault> {
        let wait = wait.min(WAIT_MAX);
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(self.connect_max)
            .operation_attempt_timeout(self.attempt_max + Duration::from_secs(seconds(wait)));
        let call = self
            .sqs
            .receive_message()
            .queue_url(url)
            .max_number_of_messages(i32::try_from(max.clamp(1, BATCH_MAX)).unwrap_or(1))
            .wait_time_seconds(seconds(wait) as i32)
            .visibility_timeout(seconds(visibility.min(VISIBILITY_MAX)) as i32)
            .message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount)
            .message_system_attribute_names(MessageSystemAttributeName::SentTimestamp)
            .customize()
            .config_override(aws_sdk_sqs::config::Builder::new().timeout_config(timeouts.build()));
        let received = call.send().await.map_err(|error| Fault::of("ReceiveMessage", &error))?;
        Ok(received.messages.unwrap_or_default())
    }

    /// Messages of a queue that wait, and that are in flight.
    async fn count(&self, url: &str) -> Result<(u64, u64), Fault> {
        use QueueAttributeName::{
            ApproximateNumberOfMessages as Waiting, ApproximateNumberOfMessagesDelayed as Delayed,
            ApproximateNumberOfMessagesNotVisible as InFlight,
        };
        let names = vec![Waiting, Delayed, InFlight];
        let call = self.sqs.get_queue_attributes().queue_url(url).set_attribute_names(Some(names));
        let told = call.send().await.map_err(|error| Fault::of("GetQueueAttributes", &error))?;
        let told = told.attributes.unwrap_or_default();
        let number = |name| told.get(&name).and_then(|n| n.parse().ok()).unwrap_or(0_u64);
        Ok((number(Waiting) + number(Delayed), number(InFlight)))
    }

    fn seen(&self, queue: Queue) -> &Seen {
        &self.seen[queue as usize]
    }

    /// A message for the port; what has no receipt or no body is none.
    fn received(&self, queue: Queue, message: Message, visibility: Duration) -> Option<Received> {
        let number = |name| message.attributes.as_ref()?.get(&name)?.parse::<u64>().ok();
        let receives = number(MessageSystemAttributeName::ApproximateReceiveCount).unwrap_or(1);
        let sent_ms = number(MessageSystemAttributeName::SentTimestamp);
        let receipt = Receipt(message.receipt_handle?);
        if let Some(sent_ms) = sent_ms {
            self.seen(queue).received(&receipt, sent_ms, self.rt.now().plus(visibility));
        }
        let receives = u32::try_from(receives).unwrap_or(u32::MAX);
        Some(Received { receipt, body: text::decode(&message.body?), receives })
    }
}

/// Whole seconds, none of them too few.
const fn seconds(duration: Duration) -> u64 {
    duration.as_secs() + (duration.subsec_nanos() > 0) as u64
}

fn refused<T>(message: &'static str) -> Outcome<T> {
    Outcome::Failed(StoreError::new(Kind::Unavailable, STORE, message))
}

fn too_many(count: usize) -> Option<Vec<Outcome<()>>> {
    (count > BATCH_MAX).then(|| vec![refused("more messages than one call may have"); count])
}

#[async_trait]
impl Bus for SnsSqsBus {
    async fn publish(&self, to: Target, messages: &[Bytes]) -> Vec<Outcome<()>> {
        if let Some(refused) = too_many(messages.len()) {
            return refused;
        }
        let mut outcomes = vec![refused("the message is too large"); messages.len()];
        let all = messages.iter().enumerate().map(|(at, message)| (at, text::encode(message)));
        let (places, texts): (Vec<usize>, Vec<String>) =
            all.filter(|(_, text)| text.len() <= MESSAGE_BYTES_MAX).unzip();
        for (at, outcome) in places.into_iter().zip(self.send(to, &texts).await) {
            outcomes[at] = outcome;
        }
        outcomes
    }

    async fn receive(
        &self,
        queue: Queue,
        max: usize,
        wait: Duration,
        visibility: Duration,
    ) -> Read<Vec<Received>> {
        let taken =
            self.read(
                |known| async move { self.take(known.queue(queue), max, wait, visibility).await },
            );
        let taken = taken.await.map_err(Fault::into_error)?;
        let received = |message| self.received(queue, message, visibility);
        Ok(taken.into_iter().filter_map(received).collect())
    }

    async fn acknowledge(&self, queue: Queue, receipts: &[Receipt]) -> Vec<Outcome<()>> {
        if let Some(refused) = too_many(receipts.len()) {
            return refused;
        }
        let outcomes = self.run(Batch::Remove(Of::Lane(queue), receipts)).await;
        for (receipt, _) in receipts.iter().zip(&outcomes).filter(|(_, o)| o.is_done()) {
            self.seen(queue).finished(receipt);
        }
        outcomes
    }

    async fn extend(
        &self,
        queue: Queue,
        receipts: &[Receipt],
        visibility: Duration,
    ) -> Vec<Outcome<()>> {
        if let Some(refused) = too_many(receipts.len()) {
            return refused;
        }
        let hide = seconds(visibility.min(VISIBILITY_MAX)) as i32;
        let outcomes = self.run(Batch::Hide(Of::Lane(queue), receipts, hide)).await;
        let until = self.rt.now().plus(visibility);
        for (receipt, _) in receipts.iter().zip(&outcomes).filter(|(_, o)| o.is_done()) {
            self.seen(queue).extended(receipt, until);
        }
        outcomes
    }

    async fn redrive(&self, queue: Queue, max: usize) -> Outcome<u64> {
        self.move_back(queue, max).await
    }

    async fn stats(&self, queue: Queue) -> Read<QueueStats> {
        let counted = self.read(|known| async move {
            try_join(self.count(known.queue(queue)), self.count(known.parked(queue))).await
        });
        let (lane, parked) = counted.await.map_err(Fault::into_error)?;
        let (depth, in_flight) = lane;
        let oldest = self.seen(queue).oldest(self.rt.now(), self.rt.wall_ms());
        let oldest = oldest.filter(|_| depth + in_flight > 0).unwrap_or_default();
        let oldest_ms = u64::try_from(oldest.as_millis()).unwrap_or(u64::MAX);
        Ok(QueueStats { depth, in_flight, oldest_ms, parked: parked.0 + parked.1 })
    }
}

impl SnsSqsBus {
    /// Sends texts, none of which is too large, in as many calls side by side as they need.
    async fn send(&self, to: Target, texts: &[String]) -> Vec<Outcome<()>> {
        let groups = text::groups(texts);
        let calls = groups.iter().map(|group| async move {
            let texts: Vec<&str> = group.iter().map(|&at| texts[at].as_str()).collect();
            self.run(Batch::Send(to, &texts)).await
        });
        // The groups are in the order of the texts.
        join_all(calls).await.into_iter().flatten().collect()
    }
}
