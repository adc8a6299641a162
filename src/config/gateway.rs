//! `[gateway]`: routing to replicas.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Invalid, within};

/// Routing to replicas.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Gateway {
    /// One attempt at a replica may take this many milliseconds, streams apart. Default 8,000.
    pub attempt_timeout_ms: u64,
}

impl Default for Gateway {
    fn default() -> Self {
        Self { attempt_timeout_ms: 8_000 }
    }
}

impl Gateway {
    /// Time limit of one attempt.
    #[must_use]
    pub const fn attempt_timeout(&self) -> Duration {
        Duration::from_millis(self.attempt_timeout_ms)
    }

    pub(crate) fn validate(&self) -> Result<(), Invalid> {
        within("gateway.attempt_timeout_ms", self.attempt_timeout_ms, 10, 120_000)
    }
}
