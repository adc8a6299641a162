//! Bodies: live, deleted, or being filled. A tombstone takes the place of the token of a fill that
//! had begun, so that fill is void even when the tombstone has been evicted.

use async_trait::async_trait;

use super::{CacheKey, Memory, Value};
use crate::{
    domain::{Token, TweetId},
    ports::{BodyCache, BodyRead, CachedBody, Outcome, Read},
    sim::world::link::Link,
};

/// A fill that has not ended after this long is taken to be dead, and the next reader may fill.
const FILL_LEASE_MS: u64 = 1_000;

#[derive(Clone)]
pub(super) enum Slot {
    Filling { token: Token, until_ms: u64 },
    Held(CachedBody),
}

impl Memory {
    fn read_body(&mut self, id: TweetId, now: u64) -> BodyRead {
        match self.get(CacheKey::Body(id)) {
            Some(Value::Body(Slot::Held(body))) => return BodyRead::Hit(body.clone()),
            Some(Value::Body(Slot::Filling { until_ms, .. })) if *until_ms > now => {
                return BodyRead::Miss(None);
            }
            _ => {}
        }
        let token = self.token();
        let slot = Slot::Filling { token, until_ms: now + FILL_LEASE_MS };
        self.insert(CacheKey::Body(id), Value::Body(slot));
        BodyRead::Miss(Some(token))
    }

    fn fill_body(&mut self, id: TweetId, token: Token, body: CachedBody) {
        let key = CacheKey::Body(id);
        if let Some(Value::Body(Slot::Filling { token: standing, .. })) = self.get(key)
            && *standing == token
        {
            self.insert(key, Value::Body(Slot::Held(body)));
        }
    }
}

/// Bodies at one node.
pub(in crate::sim::world) struct SimBodies(pub(in crate::sim::world) Link);

#[async_trait]
impl BodyCache for SimBodies {
    async fn read(&self, ids: &[TweetId]) -> Read<Vec<BodyRead>> {
        let read =
            |memory: &mut Memory, now| ids.iter().map(|id| memory.read_body(*id, now)).collect();
        self.0.look("read", ids, read).await
    }

    async fn fill(&self, bodies: &[(TweetId, Token, CachedBody)]) -> Outcome<()> {
        let owned = bodies.to_vec();
        let fill = move |memory: &mut Memory, _| {
            for (id, token, body) in owned {
                memory.fill_body(id, token, body);
            }
        };
        self.0.fenced("fill", bodies, fill).await
    }

    async fn tombstone(&self, ids: &[TweetId]) -> Outcome<()> {
        let owned = ids.to_vec();
        let mark = move |memory: &mut Memory, _| {
            for id in owned {
                let tombstone = Value::Body(Slot::Held(CachedBody::Deleted));
                memory.insert(CacheKey::Body(id), tombstone);
            }
        };
        self.0.fenced("tombstone", ids, mark).await
    }
}
