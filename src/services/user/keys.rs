//! Signing keys: made at the first start, replaced when old, shared by all replicas.
//!
//! A new key is published for [`PUBLISH_LEAD`] before it signs, so that every verifier has it by
//! then; the one before it stays published until the next replacement, when its tokens have ended.

use std::{sync::Arc, time::Duration};

use parking_lot::RwLock;

use crate::{
    ports::{KeyStore, Outcome, StoredKey, keys::PUBLISH_LEAD},
    services::kit::{
        Code, Common, Fault,
        auth::KEYS_REFRESH,
        token::{Claims, SigningKey},
    },
    wire::api::Jwks,
};

/// Replicas of this role look for each other's keys this often.
const RELOAD: Duration = KEYS_REFRESH;
/// First pause if the keys cannot be read; doubles up to 64 times this.
const RETRY: Duration = Duration::from_millis(20);

struct Held {
    created_at_ms: u64,
    key: SigningKey,
}

/// A question for keys waits this long for the first ones.
const FIRST_KEYS: Duration = Duration::from_millis(500);
/// How often it looks.
const FIRST_KEYS_LOOK: Duration = Duration::from_millis(5);

/// The keys of this role.
pub(super) struct Keys {
    common: Common,
    store: Arc<dyn KeyStore>,
    held: RwLock<Arc<Vec<Held>>>,
}

impl Keys {
    pub(super) fn new(common: Common, store: Arc<dyn KeyStore>) -> Self {
        Self { common, store, held: RwLock::default() }
    }

    /// Waits until there is a key.
    pub(super) async fn ensure(&self) {
        let mut pause = RETRY;
        while !self.refresh().await && !self.common.shutdown.is_cancelled() {
            self.common.rt.sleep(self.common.rt.jitter(pause)).await;
            pause = (pause * 2).min(RETRY * 64);
        }
    }

    /// Looks for others' keys and replaces old ones until the shutdown.
    pub(super) async fn run(&self) {
        loop {
            tokio::select! {
                biased;
                () = self.common.shutdown.cancelled() => return,
                () = self.common.rt.sleep(RELOAD) => {}
            }
            self.refresh().await;
        }
    }

    /// The public keys, waiting a moment for the first ones: every role asks when it starts.
    pub(super) async fn published(&self) -> Option<Jwks> {
        let end = self.common.rt.now().plus(FIRST_KEYS);
        loop {
            let jwks = self.jwks();
            if jwks.is_some() || self.common.rt.now() >= end {
                return jwks;
            }
            self.common.rt.sleep(FIRST_KEYS_LOOK).await;
        }
    }

    /// The public keys, the newest first.
    pub(super) fn jwks(&self) -> Option<Jwks> {
        let held = Arc::clone(&self.held.read());
        let keys: Vec<_> = held.iter().map(|held| held.key.jwk().clone()).collect();
        (!keys.is_empty()).then_some(Jwks { keys })
    }

    /// Signs with the newest key that was published long enough.
    pub(super) fn sign(&self, claims: &Claims) -> Result<String, Fault> {
        let held = Arc::clone(&self.held.read());
        let now = self.common.rt.wall_ms();
        let lead = PUBLISH_LEAD.as_millis() as u64;
        let known = held.iter().find(|held| held.created_at_ms + lead <= now);
        // Before the first lead is over only the oldest can be known to verifiers.
        let key = known.or(held.last()).ok_or(Code::Unavailable)?;
        key.key.sign(claims).ok_or_else(|| Code::Internal.into())
    }

    async fn refresh(&self) -> bool {
        let stored = match self.store.load().await {
            Ok(stored) => stored,
            Err(error) => {
                self.complain(&error);
                return false;
            }
        };
        let stored = if self.is_due(&stored) { self.replace(stored).await } else { stored };
        self.adopt(&stored)
    }

    fn is_due(&self, stored: &[StoredKey]) -> bool {
        let auth = &self.common.config.auth;
        // Not before the tokens of the key that goes have ended.
        let life_ms = auth.access_ttl_s * 1_000 + 2 * PUBLISH_LEAD.as_millis() as u64;
        let age_ms = (auth.key_rotation_s * 1_000).max(life_ms);
        stored.first().is_none_or(|key| key.created_at_ms + age_ms <= self.common.rt.wall_ms())
    }

    /// Puts a new key before the newest of `before`; gives the keys in force.
    async fn replace(&self, before: Vec<StoredKey>) -> Vec<StoredKey> {
        let new = StoredKey::new(&self.common.rt);
        let after: Vec<_> = std::iter::once(new).chain(before.first().cloned()).collect();
        match self.store.replace(&before, &after).await {
            Outcome::Done(stored) => stored,
            // If it happened, the next look finds it.
            Outcome::Failed(error) | Outcome::Unknown(error) => {
                self.complain(&error);
                before
            }
        }
    }

    fn adopt(&self, stored: &[StoredKey]) -> bool {
        let keys = stored.iter().filter_map(|stored| {
            let key = SigningKey::new(&stored.kid, &stored.seed)?;
            Some(Held { created_at_ms: stored.created_at_ms, key })
        });
        let keys: Vec<_> = keys.collect();
        let usable = !keys.is_empty();
        if usable {
            *self.held.write() = Arc::new(keys);
        }
        usable
    }

    fn complain(&self, error: &crate::ports::StoreError) {
        self.common.metrics.store_error(error);
        tracing::warn!(%error, "signing keys could not be read or replaced");
    }
}
