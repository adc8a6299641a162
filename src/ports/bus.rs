//! The message bus, with the semantics of SNS and SQS standard queues.
//!
//! At least once, in any order, with an outcome per entry. A received message is invisible for a
//! time and comes again if it is not acknowledged by then. A message received more than
//! [`RECEIVES_MAX`] times goes to its parked queue; that is a last resort, as consumers park what
//! they cannot decode themselves and an outage must not dead-letter.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::{Outcome, Read};

/// The most messages of one publish, receive or acknowledge call (a limit of SNS and SQS).
pub const BATCH_MAX: usize = 10;
/// The most bytes of a message (a limit of SNS). A larger one is refused, and its neighbours are not.
pub const MESSAGE_BYTES_MAX: usize = 256 * 1024;
/// Receives after which a message is parked (the largest value SQS takes).
pub const RECEIVES_MAX: u32 = 1000;

/// Where facts are published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// Tweets created and deleted.
    TweetEvents,
    /// Edges changed.
    GraphEvents,
}

impl Topic {
    /// All topics.
    pub const ALL: [Self; 2] = [Self::TweetEvents, Self::GraphEvents];

    /// The topic's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TweetEvents => "tweet-events",
            Self::GraphEvents => "graph-events",
        }
    }

    /// The queues that subscribe to it.
    #[must_use]
    pub const fn queues(self) -> &'static [Queue] {
        match self {
            Self::TweetEvents | Self::GraphEvents => &[Queue::Ingest],
        }
    }
}

/// Where messages are consumed: one lane each. Both topics feed [`Queue::Ingest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Queue {
    /// Facts, and the fan-out of small authors.
    Ingest,
    /// Chunk jobs of big authors.
    Bulk,
}

impl Queue {
    /// Both lanes.
    pub const ALL: [Self; 2] = [Self::Ingest, Self::Bulk];

    /// The lane's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Bulk => "bulk",
        }
    }
}

/// Where a message is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// A topic, and so every queue that subscribes to it.
    Topic(Topic),
    /// A queue directly.
    Queue(Queue),
    /// The parked messages of a queue.
    Parked(Queue),
}

/// Names one receipt of one message. Good until the message is received again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Receipt(pub String);

/// A received message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Acknowledge or extend with this.
    pub receipt: Receipt,
    /// The message.
    pub body: Bytes,
    /// How often it has been received, this time included.
    pub receives: u32,
}

/// The state of a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueStats {
    /// Messages that wait.
    pub depth: u64,
    /// Messages that were received and neither acknowledged nor given back.
    pub in_flight: u64,
    /// Age of the oldest message that waits or is in flight, in milliseconds, as far as this process
    /// can know: SQS tells only of what was received. 0 if it knows of none.
    pub oldest_ms: u64,
    /// Messages in the parked queue.
    pub parked: u64,
}

/// The bus.
#[async_trait]
pub trait Bus: Send + Sync {
    /// Sends messages; one outcome each, in their order. At most [`BATCH_MAX`].
    async fn publish(&self, to: Target, messages: &[Bytes]) -> Vec<Outcome<()>>;

    /// Receives up to `max` messages, waiting up to `wait` for the first. They are invisible to
    /// others for `visibility`.
    async fn receive(
        &self,
        queue: Queue,
        max: usize,
        wait: Duration,
        visibility: Duration,
    ) -> Read<Vec<Received>>;

    /// Removes messages; one outcome each. A stale receipt may be answered with done.
    async fn acknowledge(&self, queue: Queue, receipts: &[Receipt]) -> Vec<Outcome<()>>;

    /// Makes messages invisible for `visibility` from now; zero gives them back at once.
    async fn extend(
        &self,
        queue: Queue,
        receipts: &[Receipt],
        visibility: Duration,
    ) -> Vec<Outcome<()>>;

    /// Moves up to `max` parked messages back into their queue. Gives their number.
    async fn redrive(&self, queue: Queue, max: usize) -> Outcome<u64>;

    /// The state of a queue.
    async fn stats(&self, queue: Queue) -> Read<QueueStats>;
}
