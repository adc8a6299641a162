//! Bodies: live, deleted, or being filled.
//!
//! A tombstone may be evicted at any time. It takes the place of the token of a fill that had
//! begun, so that fill is void whether the tombstone is still there or not: an absent token does
//! not stand. A fill that begins after the eviction reads the store after the deletion was written
//! there, and so brings the deletion.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::EmbeddedCache;
use crate::{
    domain::{Token, TweetId},
    ports::{BodyCache, BodyRead, CachedBody, Outcome, Read},
    rt::Instant,
};

/// A fill that has not ended after this long is taken to be dead, and the next reader may fill.
/// Far above a read of the store, far below what a hot tweet could bear without a cache.
const FILL_LEASE: Duration = Duration::from_secs(1);

pub(super) enum Slot {
    Filling { token: Token, until: Instant },
    Live(Bytes),
    Deleted,
}

impl Slot {
    pub(super) const fn bytes(&self) -> usize {
        match self {
            Self::Live(body) => body.len(),
            Self::Filling { .. } | Self::Deleted => 0,
        }
    }

    fn is_dead_fill(&self, now: Instant) -> bool {
        matches!(self, Self::Filling { until, .. } if *until <= now)
    }
}

#[async_trait]
impl BodyCache for EmbeddedCache {
    async fn read(&self, ids: &[TweetId]) -> Read<Vec<BodyRead>> {
        let now = self.rt.now();
        // One token serves all fills of this call: it is compared per tweet.
        let mut fresh = None;
        let mut look_up = |id: &TweetId| {
            let mut shard = self.bodies.lock(id.0);
            match shard.get(id.0) {
                Some(Slot::Live(body)) => BodyRead::Hit(CachedBody::Live(body.clone())),
                Some(Slot::Deleted) => BodyRead::Hit(CachedBody::Deleted),
                Some(Slot::Filling { until, .. }) if *until > now => BodyRead::Miss(None),
                Some(Slot::Filling { .. }) | None => {
                    let token = *fresh.get_or_insert_with(|| self.token());
                    let slot = Slot::Filling { token, until: now.plus(FILL_LEASE) };
                    shard.insert(id.0, slot, |slot| slot.is_dead_fill(now));
                    BodyRead::Miss(Some(token))
                }
            }
        };
        Ok(ids.iter().map(&mut look_up).collect())
    }

    async fn fill(&self, bodies: &[(TweetId, Token, CachedBody)]) -> Outcome<()> {
        for (id, token, body) in bodies {
            let mut shard = self.bodies.lock(id.0);
            let Some(slot) = shard.get(id.0) else { continue };
            if matches!(slot, Slot::Filling { token: standing, .. } if standing == token) {
                *slot = match body {
                    CachedBody::Live(json) => Slot::Live(json.clone()),
                    CachedBody::Deleted => Slot::Deleted,
                };
            }
        }
        Outcome::Done(())
    }

    async fn tombstone(&self, ids: &[TweetId]) -> Outcome<()> {
        let now = self.rt.now();
        for id in ids {
            self.bodies.lock(id.0).insert(id.0, Slot::Deleted, |slot| slot.is_dead_fill(now));
        }
        Outcome::Done(())
    }
}
