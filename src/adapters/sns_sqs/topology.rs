//! Topics, queues and subscriptions: how they are called, made and found.
//!
//! | what | name | is |
//! |---|---|---|
//! | topics | `{namespace}-tweet-events`, `-graph-events` | standard |
//! | queues | `{namespace}-ingest`, `-bulk` | standard, 14 days, parked after [`RECEIVES_MAX`] receives |
//! | parked | `{namespace}-ingest-dlq`, `-bulk-dlq` | standard, 14 days |
//! | subscriptions | both topics to `ingest` | raw; what SNS cannot deliver is parked |
//!
//! With `aws.ensure` they are made, and made again when a call says that one is gone; any number of
//! processes may do so at once, as every step only brings about a state. Without it they are another's
//! (a template of `CloudFormation`) and only looked for.
//!
//! A topic is there a moment before its subscriptions. What another process publishes in between goes
//! nowhere, as does all that was in a queue that is gone: `chirp replay` publishes it again.

use std::{sync::Arc, time::Duration};

use aws_sdk_sns::Client as Sns;
use aws_sdk_sqs::{Client as Sqs, types::QueueAttributeName};
use futures_util::future::try_join_all;
use parking_lot::RwLock;
use serde_json::json;
use tokio::sync::Mutex;

use super::fault::Fault;
use crate::{
    ports::{Kind, Queue, Target, Topic, bus::RECEIVES_MAX},
    rt::{Instant, Rt},
};

/// Messages are kept so long, the most that SQS allows: an outage of the workers loses nothing.
const RETENTION_SECONDS: u64 = 14 * 24 * 60 * 60;
/// Steps that follow one another when everything is made.
const STEPS: u32 = 6;
/// After a renewal that failed nobody tries for so long; doubles with each that fails.
const RENEW_PAUSE: Duration = Duration::from_millis(100);
/// After everything was made anew nobody does it again for so long, though calls may still say that
/// something is gone: what was made may take a while to be seen everywhere.
const RENEWED_PAUSE: Duration = Duration::from_secs(1);
/// Doublings of that time: up to 6.4 s and jitter.
const DOUBLINGS_MAX: u32 = 6;

/// A queue: how calls name it, and how policies do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) url: String,
    arn: String,
}

/// Where everything is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Addresses {
    queues: [Address; Queue::ALL.len()],
    parked: [Address; Queue::ALL.len()],
    topics: [String; Topic::ALL.len()],
}

/// How a call names what it publishes to.
#[derive(Clone, Copy, Debug)]
pub(super) enum To<'a> {
    /// The ARN of a topic.
    Topic(&'a str),
    /// The address of a queue.
    Queue(&'a str),
}

impl Addresses {
    pub(super) fn queue(&self, queue: Queue) -> &str {
        &self.queues[queue as usize].url
    }

    pub(super) fn parked(&self, queue: Queue) -> &str {
        &self.parked[queue as usize].url
    }

    pub(super) fn target(&self, target: Target) -> To<'_> {
        match target {
            Target::Topic(topic) => To::Topic(&self.topics[topic as usize]),
            Target::Queue(queue) => To::Queue(self.queue(queue)),
            Target::Parked(queue) => To::Queue(self.parked(queue)),
        }
    }
}

/// Knows where everything is, and finds it again.
pub(super) struct Topology {
    rt: Rt,
    sns: Sns,
    sqs: Sqs,
    namespace: String,
    ensure: bool,
    /// How long a renewal may take in all.
    limit: Duration,
    known: RwLock<Option<Arc<Addresses>>>,
    renewing: Mutex<Renewals>,
}

/// The renewals so far.
#[derive(Default)]
struct Renewals {
    /// Until then nobody tries; and why, if the last one failed.
    not_before: Option<Instant>,
    trouble: Option<Fault>,
    failures: u32,
}

impl Topology {
    /// Nothing is asked of a server yet. `attempt`: how long one call may take.
    pub(super) fn new(
        rt: Rt,
        sns: Sns,
        sqs: Sqs,
        (namespace, ensure): (&str, bool),
        attempt: Duration,
    ) -> Self {
        let (known, renewing) = Default::default();
        let namespace = namespace.to_owned();
        Self { rt, sns, sqs, namespace, ensure, limit: attempt * STEPS, known, renewing }
    }

    /// Where everything is. Asks only if that is not known.
    pub(super) async fn addresses(&self) -> Result<Arc<Addresses>, Fault> {
        let known = self.known.read().clone();
        match known {
            Some(known) => Ok(known),
            None => self.renew(None).await,
        }
    }

    /// Where everything is, after something at `old` was not. One caller at a time makes or looks;
    /// those who waited for it take what it found. After a failure nobody does for a while.
    pub(super) async fn renew(
        &self,
        old: Option<&Arc<Addresses>>,
    ) -> Result<Arc<Addresses>, Fault> {
        let renewing = self.rt.timeout(self.limit, self.renewing.lock()).await;
        let mut renewals = renewing.map_err(|_| {
            Fault::refused(Kind::Timeout, "topics and queues were being looked for by others")
        })?;
        let known = self.known.read().clone();
        if let Some(known) = known
            && old.is_none_or(|old| !Arc::ptr_eq(old, &known))
        {
            return Ok(known);
        }
        if renewals.not_before.is_some_and(|at| !at.since(self.rt.now()).is_zero()) {
            return Err(renewals.trouble.clone().unwrap_or_else(|| {
                Fault::refused(Kind::Unavailable, "topics and queues were renewed a moment ago")
            }));
        }
        let found = self.rt.timeout(self.limit, self.find(old.is_some())).await;
        let found = found.unwrap_or_else(|_| {
            let text = "topics and queues were not found in time";
            Err(Fault::refused(Kind::Timeout, text))
        });
        // Whatever became of it, what it was for did not happen.
        let found = found.map_err(|fault| Fault { maybe: false, ..fault });
        renewals.failures = if found.is_ok() { 0 } else { renewals.failures.saturating_add(1) };
        renewals.trouble = found.as_ref().err().cloned();
        let pause = match &found {
            Ok(_) if old.is_none() => Duration::ZERO,
            Ok(_) => RENEWED_PAUSE,
            Err(_) => RENEW_PAUSE * (1 << (renewals.failures - 1).min(DOUBLINGS_MAX)),
        };
        renewals.not_before = Some(self.rt.now().plus(self.rt.jitter(pause)));
        let found = Arc::new(found?);
        *self.known.write() = Some(Arc::clone(&found));
        Ok(found)
    }

    async fn find(&self, again: bool) -> Result<Addresses, Fault> {
        if !self.ensure {
            return self.look().await;
        }
        let made = self.make().await?;
        if again {
            tracing::warn!(
                namespace = %self.namespace,
                "topics or queues were gone and are made anew; `chirp replay` publishes again what \
                 was in them"
            );
        }
        Ok(made)
    }

    fn name(&self, of: &str) -> String {
        format!("{}-{of}", self.namespace)
    }

    fn parked_name(&self, queue: Queue) -> String {
        format!("{}-dlq", self.name(queue.as_str()))
    }

    /// Looks for the queues. A topic cannot be looked for: it lies beside the queues.
    async fn look(&self) -> Result<Addresses, Fault> {
        let found = |name: String| async move {
            let asked = self.sqs.get_queue_url().queue_name(&name).send().await;
            let call = || format!("GetQueueUrl of `{name}`");
            let url = asked.map_err(|error| Fault::of(&call(), &error))?.queue_url;
            self.address(&name, url).await
        };
        let queues = try_join_all(Queue::ALL.map(|queue| found(self.name(queue.as_str()))));
        let parked = try_join_all(Queue::ALL.map(|queue| found(self.parked_name(queue))));
        let (queues, parked) = futures_util::future::try_join(queues, parked).await?;
        let beside = queues[0].arn.clone();
        let topics = Topic::ALL.map(|topic| self.topic_beside(&beside, topic));
        Ok(Addresses { queues: both(queues), parked: both(parked), topics })
    }

    /// The ARN of a topic of the same account and region as a queue.
    fn topic_beside(&self, queue_arn: &str, topic: Topic) -> String {
        let place = queue_arn.rsplit_once(':').map_or(queue_arn, |(place, _)| place);
        format!("{}:{}", place.replacen(":sqs:", ":sns:", 1), self.name(topic.as_str()))
    }

    /// Parked queues first, as the others name them; subscriptions last, when messages may come.
    async fn make(&self) -> Result<Addresses, Fault> {
        let parked = Queue::ALL.map(|queue| self.make_queue(self.parked_name(queue)));
        let queues = Queue::ALL.map(|queue| self.make_queue(self.name(queue.as_str())));
        let (parked, queues) =
            futures_util::future::try_join(try_join_all(parked), try_join_all(queues)).await?;
        let senders: Vec<String> =
            Topic::ALL.iter().map(|&topic| self.topic_beside(&queues[0].arn, topic)).collect();
        let settled = queues.iter().zip(&parked).flat_map(|(queue, parked)| {
            [self.settle(queue, &senders, Some(parked)), self.settle(parked, &senders, None)]
        });
        try_join_all(settled).await?;
        let topics = try_join_all(Topic::ALL.map(|topic| self.make_topic(topic))).await?;
        let subscribed = Topic::ALL.iter().zip(&topics).flat_map(|(topic, arn)| {
            topic
                .queues()
                .iter()
                .map(|&queue| self.subscribe(arn, &queues[queue as usize], &parked[queue as usize]))
        });
        try_join_all(subscribed).await?;
        Ok(Addresses { queues: both(queues), parked: both(parked), topics: both(topics) })
    }

    /// Without attributes, so that a queue that is there is found whatever its attributes are.
    async fn make_queue(&self, name: String) -> Result<Address, Fault> {
        let made = self.sqs.create_queue().queue_name(&name).send().await;
        let url = made.map_err(|error| Fault::of("CreateQueue", &error))?.queue_url;
        self.address(&name, url).await
    }

    async fn address(&self, name: &str, url: Option<String>) -> Result<Address, Fault> {
        let odd = || Fault::refused(Kind::Corrupt, format!("`{name}` has no address or ARN"));
        let url = url.ok_or_else(odd)?;
        let arn = QueueAttributeName::QueueArn;
        let asked = self.sqs.get_queue_attributes().queue_url(&url).attribute_names(arn.clone());
        let asked = asked.send().await;
        let told = asked.map_err(|error| Fault::of("GetQueueAttributes", &error))?.attributes;
        let arn = told.and_then(|told| told.get(&arn).cloned()).ok_or_else(odd)?;
        Ok(Address { url, arn })
    }

    /// Gives a queue its attributes.
    async fn settle(
        &self,
        queue: &Address,
        senders: &[String],
        parked: Option<&Address>,
    ) -> Result<(), Fault> {
        let policy = json!({
            "Version": "2012-10-17",
            "Statement": [{
                "Effect": "Allow",
                "Principal": { "Service": "sns.amazonaws.com" },
                "Action": "sqs:SendMessage",
                "Resource": queue.arn,
                "Condition": { "ArnEquals": { "aws:SourceArn": senders } },
            }],
        });
        let mut set = self
            .sqs
            .set_queue_attributes()
            .queue_url(&queue.url)
            .attributes(QueueAttributeName::Policy, policy.to_string())
            .attributes(QueueAttributeName::MessageRetentionPeriod, RETENTION_SECONDS.to_string());
        if let Some(parked) = parked {
            let redrive =
                json!({ "deadLetterTargetArn": parked.arn, "maxReceiveCount": RECEIVES_MAX });
            set = set.attributes(QueueAttributeName::RedrivePolicy, redrive.to_string());
        }
        let set = set.send().await;
        set.map(drop).map_err(|error| Fault::of("SetQueueAttributes", &error))
    }

    async fn make_topic(&self, topic: Topic) -> Result<String, Fault> {
        let name = self.name(topic.as_str());
        let made = self.sns.create_topic().name(&name).send().await;
        let arn = made.map_err(|error| Fault::of("CreateTopic", &error))?.topic_arn;
        arn.ok_or_else(|| Fault::refused(Kind::Corrupt, format!("`{name}` has no ARN")))
    }

    async fn subscribe(&self, topic: &str, queue: &Address, parked: &Address) -> Result<(), Fault> {
        let redrive = json!({ "deadLetterTargetArn": parked.arn });
        let subscribed = self
            .sns
            .subscribe()
            .topic_arn(topic)
            .protocol("sqs")
            .endpoint(&queue.arn)
            .attributes("RawMessageDelivery", "true")
            .attributes("RedrivePolicy", redrive.to_string())
            .send()
            .await;
        subscribed.map(drop).map_err(|error| Fault::of("Subscribe", &error))
    }
}

/// One for each lane or topic, of which there are two.
fn both<T>(made: Vec<T>) -> [T; 2] {
    made.try_into().ok().expect("as many as were asked for")
}
