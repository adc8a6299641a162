//! Relations: a value and, beside it, the token of the fill that runs.

use std::sync::Arc;

use async_trait::async_trait;

use super::{EmbeddedCache, live_user};
use crate::{
    domain::{Relations, Token, UserId},
    ports::{Outcome, Read, RelationCache},
};

/// Bytes of the id lists.
pub(super) fn bytes(relations: &Relations) -> usize {
    let ids = relations.visible.len() + relations.pulled.len() + relations.hidden.len();
    ids * size_of::<UserId>()
}

#[async_trait]
impl RelationCache for EmbeddedCache {
    async fn get(&self, user: UserId) -> Read<Option<Arc<Relations>>> {
        let now = self.now();
        let mut shard = self.users.lock(user.0);
        let slot = live_user(&mut shard, user, now, true);
        Ok(slot.and_then(|slot| slot.relations.clone()))
    }

    async fn begin_fill(&self, user: UserId) -> Outcome<Token> {
        let token = self.token();
        self.with_user(user, |slot| slot.fill = Some(token));
        Outcome::Done(token)
    }

    async fn finish_fill(
        &self,
        user: UserId,
        token: Token,
        relations: Arc<Relations>,
    ) -> Outcome<bool> {
        let now = self.now();
        let mut shard = self.users.lock(user.0);
        let slot = live_user(&mut shard, user, now, true);
        let Some(slot) = slot.filter(|slot| slot.fill == Some(token)) else {
            return Outcome::Done(false);
        };
        slot.fill = None;
        slot.relations = Some(relations);
        Outcome::Done(true)
    }

    async fn invalidate(&self, users: &[UserId]) -> Outcome<()> {
        for user in users {
            let mut shard = self.users.lock(user.0);
            let Some(slot) = shard.peek(user.0) else { continue };
            slot.relations = None;
            slot.fill = None;
            if slot.is_empty() {
                shard.remove(user.0);
            }
        }
        Outcome::Done(())
    }
}
