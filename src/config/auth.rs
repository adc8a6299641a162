//! `[auth]`: passwords, tokens and sessions.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Invalid, within};

/// Passwords, tokens and sessions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Auth {
    /// Life of an access token, in seconds: also how long a revoked one lives at most if the user
    /// role cannot be reached. Default 300.
    pub access_ttl_s: u64,
    /// Life of a session from its log-in, in seconds; refreshing does not extend it. Default 2,592,000
    /// (30 days).
    pub session_ttl_s: u64,
    /// How often every role asks for revoked sessions, in milliseconds. A revoked token is refused
    /// everywhere after twice this time at most. Default 1,000.
    pub revocation_poll_ms: u64,
    /// Age at which the signing key is replaced, in seconds. Default 2,592,000 (30 days).
    pub key_rotation_s: u64,
    /// argon2id memory, in KiB. Default 19,456 (OWASP Password Storage Cheat Sheet).
    pub argon2_memory_kib: u64,
    /// argon2id passes. Default 2 (same source).
    pub argon2_passes: u64,
    /// Hashes at once: bounds memory as well as cores. Default 2.
    pub argon2_concurrency: u64,
    /// Hashes waiting for their turn; above it 503. Default 64.
    pub argon2_queue_max: u64,
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            access_ttl_s: 300,
            session_ttl_s: 30 * 24 * 3600,
            revocation_poll_ms: 1_000,
            key_rotation_s: 30 * 24 * 3600,
            argon2_memory_kib: 19_456,
            argon2_passes: 2,
            argon2_concurrency: 2,
            argon2_queue_max: 64,
        }
    }
}

impl Auth {
    /// How often every role asks for revoked sessions.
    #[must_use]
    pub const fn revocation_poll(&self) -> Duration {
        Duration::from_millis(self.revocation_poll_ms)
    }

    pub(crate) fn validate(&self) -> Result<(), Invalid> {
        within("auth.access_ttl_s", self.access_ttl_s, 1, 3_600)?;
        within("auth.session_ttl_s", self.session_ttl_s, 60, 366 * 24 * 3600)?;
        within("auth.revocation_poll_ms", self.revocation_poll_ms, 10, 60_000)?;
        within("auth.key_rotation_s", self.key_rotation_s, 3_600, 366 * 24 * 3600)?;
        within("auth.argon2_memory_kib", self.argon2_memory_kib, 8, 1 << 20)?;
        within("auth.argon2_passes", self.argon2_passes, 1, 100)?;
        within("auth.argon2_concurrency", self.argon2_concurrency, 1, 64)?;
        within("auth.argon2_queue_max", self.argon2_queue_max, 1, 10_000)
    }

    /// Hashing that costs nothing.
    #[must_use]
    pub fn for_tests() -> Self {
        Self { argon2_memory_kib: 8, argon2_passes: 1, ..Self::default() }
    }
}
