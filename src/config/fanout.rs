//! `[fanout]`: writing timelines.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Invalid, within};
use crate::domain::fanout::Strategy;

/// Writing timelines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Fanout {
    /// How tweets reach home timelines: `hybrid`, `push` or `pull`; empty: as the data set has it, and
    /// a new one `hybrid`. A data set with another one is refused; `chirp migrate strategy` switches.
    /// Default empty.
    pub strategy: String,
    /// With `hybrid`: an author with this many followers is read at read time from then on.
    /// Default 100,000.
    pub celebrity_followers: u64,
    /// Followers up to which a tweet is pushed in the ingest lane; above it the rest is chunk jobs
    /// in the bulk lane. Default 1,000.
    pub inline_followers: u64,
    /// Followers that one chunk job pushes to: at most a second of work. Default 10,000.
    pub chunk_followers: u64,
    /// Followers read and pushed to at once. Default 1,000.
    pub page_followers: u64,
    /// Chunk chains of one tweet that run side by side. Default 4.
    pub chunk_parts: u64,
    /// Messages received at once, at most 10. Default 10.
    pub receive_max: u64,
    /// Workers of the ingest lane per replica. Default 2.
    pub ingest_workers: u64,
    /// Workers of the bulk lane per replica. Default 2.
    pub bulk_workers: u64,
    /// A received message is invisible to others this long, in milliseconds. Default 30,000.
    pub visibility_ms: u64,
    /// An idle worker waits this long for a message, in milliseconds. Default 10,000. SQS bills every
    /// look, and waits whole seconds, at most 20.
    pub receive_wait_ms: u64,
    /// First pause after a failed step, in milliseconds; doubles up to 64 times this. Default 50.
    pub retry_ms: u64,
    /// How often each replica measures the lanes, in milliseconds. Default 1,000. With SQS that is four
    /// billed calls each time.
    pub measure_ms: u64,
    /// How often parked messages are put back into their lane, up to 100 each time, in milliseconds; 0:
    /// never. Default 600,000: rare enough that what is not understood costs nothing, and soon after a
    /// build that understands it has come.
    pub redrive_every_ms: u64,
    /// Most tweets of an author that a new follower's timeline is given. Default 800.
    pub backfill_max: u64,
}

impl Default for Fanout {
    fn default() -> Self {
        Self {
            strategy: String::new(),
            celebrity_followers: 100_000,
            inline_followers: 1_000,
            chunk_followers: 10_000,
            page_followers: 1_000,
            chunk_parts: 4,
            receive_max: 10,
            ingest_workers: 2,
            bulk_workers: 2,
            visibility_ms: 30_000,
            receive_wait_ms: 10_000,
            retry_ms: 50,
            measure_ms: 1_000,
            redrive_every_ms: 600_000,
            backfill_max: 800,
        }
    }
}

impl Fanout {
    /// The strategy that is asked for, if any.
    #[must_use]
    pub fn wanted(&self) -> Option<Strategy> {
        Strategy::parse(&self.strategy)
    }

    /// A received message is invisible to others this long.
    #[must_use]
    pub const fn visibility(&self) -> Duration {
        Duration::from_millis(self.visibility_ms)
    }

    /// An idle worker waits this long for a message.
    #[must_use]
    pub const fn receive_wait(&self) -> Duration {
        Duration::from_millis(self.receive_wait_ms)
    }

    /// How often the lanes are measured.
    #[must_use]
    pub const fn measure(&self) -> Duration {
        Duration::from_millis(self.measure_ms)
    }

    /// How often parked messages are put back; zero: never.
    #[must_use]
    pub const fn redrive_every(&self) -> Duration {
        Duration::from_millis(self.redrive_every_ms)
    }

    /// First pause after a failed step.
    #[must_use]
    pub const fn retry(&self) -> Duration {
        Duration::from_millis(self.retry_ms)
    }

    pub(crate) fn validate(&self) -> Result<(), Invalid> {
        if !self.strategy.is_empty() && self.wanted().is_none() {
            let problem = format!("is `{}`, allowed are hybrid, push and pull", self.strategy);
            return Err(Invalid { key: "fanout.strategy", problem });
        }
        within("fanout.celebrity_followers", self.celebrity_followers, 1, u64::MAX)?;
        within("fanout.inline_followers", self.inline_followers, 1, 4_096)?;
        within("fanout.chunk_followers", self.chunk_followers, 1, 1_000_000)?;
        within("fanout.page_followers", self.page_followers, 1, 4_096)?;
        within("fanout.chunk_parts", self.chunk_parts, 1, 1_024)?;
        within("fanout.receive_max", self.receive_max, 1, 10)?;
        within("fanout.ingest_workers", self.ingest_workers, 1, 64)?;
        within("fanout.bulk_workers", self.bulk_workers, 1, 64)?;
        within("fanout.visibility_ms", self.visibility_ms, 100, 43_200_000)?;
        // Workers that do not wait would ask without a pause.
        within("fanout.receive_wait_ms", self.receive_wait_ms, 100, 20_000)?;
        within("fanout.retry_ms", self.retry_ms, 1, 60_000)?;
        within("fanout.measure_ms", self.measure_ms, 100, 60_000)?;
        within("fanout.redrive_every_ms", self.redrive_every_ms, 0, 86_400_000)?;
        within("fanout.backfill_max", self.backfill_max, 1, 800)
    }
}
