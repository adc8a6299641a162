//! Where signing keys are kept.

use std::time::Duration;

use async_trait::async_trait;

use super::{Outcome, Read};
use crate::rt::Rt;

/// A key is published this long before it signs: a replica learns of it within a reload, a verifier
/// soon after that, and clocks differ by seconds.
pub const PUBLISH_LEAD: Duration = Duration::from_mins(5);

/// Which of `keys`, the newest first, signs at `now_ms`: the newest that was published long enough, and
/// before that of the first the oldest, as only that can be known to verifiers.
#[must_use]
pub fn signs(keys: &[StoredKey], now_ms: u64) -> Option<&StoredKey> {
    let lead = PUBLISH_LEAD.as_millis() as u64;
    keys.iter().find(|key| key.created_at_ms + lead <= now_ms).or(keys.last())
}

/// An Ed25519 signing key. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredKey {
    /// Its name in tokens.
    pub kid: String,
    /// The 32-byte seed.
    pub seed: [u8; 32],
    /// When it was made, in milliseconds since the Unix epoch.
    pub created_at_ms: u64,
}

impl StoredKey {
    /// A new key.
    #[must_use]
    pub fn new(rt: &Rt) -> Self {
        let mut seed = [0; 32];
        rt.fill(&mut seed);
        Self { kid: format!("{:016x}", rt.random_u64()), seed, created_at_ms: rt.wall_ms() }
    }
}

impl std::fmt::Debug for StoredKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoredKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

/// Keeps at most two keys: the one that signs, and the one before it.
#[async_trait]
pub trait KeyStore: Send + Sync {
    /// The keys, the signing one first; empty before the first start.
    async fn load(&self) -> Read<Vec<StoredKey>>;

    /// Replaces the keys if they still are `before`. Gives the keys in force, which are others'
    /// if somebody was faster.
    async fn replace(&self, before: &[StoredKey], after: &[StoredKey]) -> Outcome<Vec<StoredKey>>;
}
