//! `[relay]`: from outbox to bus.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Invalid, within};

/// From outbox to bus.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Relay {
    /// Outbox rows claimed at once. Default 500.
    pub batch_max: u64,
    /// A relay that dies holds its rows this long, in milliseconds. Default 10,000.
    pub lease_ms: u64,
    /// How long an idle relay sleeps if nothing wakes it, in milliseconds. Default 200.
    pub idle_ms: u64,
    /// The least time between the begins of two steps that leave nothing behind, in milliseconds: a
    /// busy relay gathers rows for so long, an idle one sends the first row at once. Default 20.
    pub gather_ms: u64,
    /// First pause after a failed publish, in milliseconds; doubles up to 32 times this. Default 50.
    pub retry_ms: u64,
}

impl Default for Relay {
    fn default() -> Self {
        Self { batch_max: 500, lease_ms: 10_000, idle_ms: 200, gather_ms: 20, retry_ms: 50 }
    }
}

impl Relay {
    /// A relay that dies holds its rows this long.
    #[must_use]
    pub const fn lease(&self) -> Duration {
        Duration::from_millis(self.lease_ms)
    }

    /// How long an idle relay sleeps if nothing wakes it.
    #[must_use]
    pub const fn idle(&self) -> Duration {
        Duration::from_millis(self.idle_ms)
    }

    /// A busy relay gathers rows for so long.
    #[must_use]
    pub const fn gather(&self) -> Duration {
        Duration::from_millis(self.gather_ms)
    }

    /// First pause after a failed publish.
    #[must_use]
    pub const fn retry(&self) -> Duration {
        Duration::from_millis(self.retry_ms)
    }

    pub(crate) fn validate(&self) -> Result<(), Invalid> {
        within("relay.batch_max", self.batch_max, 1, 10_000)?;
        within("relay.lease_ms", self.lease_ms, 100, 600_000)?;
        within("relay.idle_ms", self.idle_ms, 1, 60_000)?;
        within("relay.gather_ms", self.gather_ms, 0, 1_000)?;
        within("relay.retry_ms", self.retry_ms, 1, 60_000)
    }
}
