//! Where signing keys are kept.

use async_trait::async_trait;

use super::{Outcome, Read};
use crate::rt::Rt;

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
