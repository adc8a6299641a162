//! The outbox: events that were committed with their facts and wait to be published.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::{Outcome, Read};

/// How long sent rows are kept for [`Outbox::replay`]: a day longer than a message can live.
pub const RETAIN: Duration = Duration::from_hours(15 * 24);

/// An event that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxRow {
    /// The row's number. Numbers may become visible out of order: never skip by number.
    pub seq: u64,
    /// The encoded event.
    pub event: Bytes,
}

/// The state of an outbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutboxStats {
    /// Rows not yet sent.
    pub unsent: u64,
    /// When the oldest of them was committed, in milliseconds since the Unix epoch.
    pub oldest_ms: Option<u64>,
}

/// An outbox of one service.
#[async_trait]
pub trait Outbox: Send + Sync {
    /// Takes up to `limit` unsent rows that nobody holds, oldest first, under a lease that ends at
    /// `now_ms` + `lease`. Rows are found by their flag, so a row that commits late is found too.
    async fn claim(&self, limit: usize, now_ms: u64, lease: Duration) -> Outcome<Vec<OutboxRow>>;

    /// Marks rows as sent. Repeating the call changes nothing.
    async fn mark_sent(&self, seqs: &[u64], now_ms: u64) -> Outcome<()>;

    /// Gives claimed rows back at once, so that another relay need not wait for the lease.
    async fn release(&self, seqs: &[u64]) -> Outcome<()>;

    /// Marks rows that were committed at or after `since_ms` as unsent again. Gives their number.
    async fn replay(&self, since_ms: u64) -> Outcome<u64>;

    /// Removes rows that were sent before `before_ms`. Gives their number.
    async fn prune(&self, before_ms: u64) -> Outcome<u64>;

    /// How much waits.
    async fn stats(&self) -> Read<OutboxStats>;
}
