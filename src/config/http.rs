//! `[http]`: limits of every HTTP listener.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Invalid, within};
use crate::ports::Limit;

/// Limits of every HTTP listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    /// Largest request body, in bytes. A tweet of 280 characters is below 2 kB. Default 16,384.
    pub body_bytes_max: u64,
    /// A request is answered 504 after this many milliseconds. Default 10,000.
    pub request_timeout_ms: u64,
    /// Requests in work at once per role and replica; above it 503. Default 1,024.
    pub concurrency_max: u64,
    /// Open streams per replica; above it 503. Default 10,000.
    pub streams_max: u64,
    /// Open streams of one user per replica; above it 429. A stream holds a connection and reads for
    /// ever; this is a few tabs on a few devices. Default 8.
    pub user_streams_max: u64,
    /// Calls a user may make in a minute. Default 600.
    pub user_calls_per_minute: u64,
    /// Calls an address may make in a minute, signed in or not. Default 3,000.
    pub address_calls_per_minute: u64,
    /// Sign-ups and log-ins an address may try in a minute. Default 30.
    pub address_logins_per_minute: u64,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            body_bytes_max: 16_384,
            request_timeout_ms: 10_000,
            concurrency_max: 1_024,
            streams_max: 10_000,
            user_streams_max: 8,
            user_calls_per_minute: 600,
            address_calls_per_minute: 3_000,
            address_logins_per_minute: 30,
        }
    }
}

impl Http {
    /// Time limit of a request.
    #[must_use]
    pub const fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.request_timeout_ms)
    }

    /// The limit of `calls` per minute.
    #[must_use]
    pub fn per_minute(calls: u64) -> Limit {
        Limit { burst: u32::try_from(calls).unwrap_or(u32::MAX), period: Duration::from_mins(1) }
    }

    pub(crate) fn validate(&self) -> Result<(), Invalid> {
        within("http.body_bytes_max", self.body_bytes_max, 1_024, 1 << 20)?;
        within("http.request_timeout_ms", self.request_timeout_ms, 10, 120_000)?;
        within("http.concurrency_max", self.concurrency_max, 1, 100_000)?;
        within("http.streams_max", self.streams_max, 1, 1_000_000)?;
        within("http.user_streams_max", self.user_streams_max, 1, 10_000)?;
        let calls = 1..=1_000_000_000;
        for (key, value) in [
            ("http.user_calls_per_minute", self.user_calls_per_minute),
            ("http.address_calls_per_minute", self.address_calls_per_minute),
            ("http.address_logins_per_minute", self.address_logins_per_minute),
        ] {
            within(key, value, *calls.start(), *calls.end())?;
        }
        Ok(())
    }

    /// Limits that no test meets by accident.
    #[must_use]
    pub fn for_tests() -> Self {
        Self {
            user_calls_per_minute: 1_000_000,
            address_calls_per_minute: 1_000_000,
            address_logins_per_minute: 1_000_000,
            ..Self::default()
        }
    }
}
