//! Relations: a value and, beside it, the token of the fill that runs.

use std::sync::Arc;

use async_trait::async_trait;

use super::{CacheKey, Memory, Value};
use crate::{
    domain::{Relations, Token, UserId},
    ports::{Outcome, Read, RelationCache},
    sim::world::link::Link,
};

impl Memory {
    fn relations(&self, user: UserId) -> (Option<Arc<Relations>>, Option<Token>) {
        match self.get(CacheKey::Relations(user)) {
            Some(Value::Relations { value, fill }) => (value.clone(), *fill),
            _ => (None, None),
        }
    }
}

/// Relations at one node.
pub(in crate::sim::world) struct SimRelations(pub(in crate::sim::world) Link);

#[async_trait]
impl RelationCache for SimRelations {
    async fn get(&self, user: UserId) -> Read<Option<Arc<Relations>>> {
        self.0.look("get", user, move |memory, _| memory.relations(user).0).await
    }

    async fn begin_fill(&self, user: UserId) -> Outcome<Token> {
        let begin = move |memory: &mut Memory, _| {
            let token = memory.token();
            let (value, _) = memory.relations(user);
            let begun = Value::Relations { value, fill: Some(token) };
            memory.insert(CacheKey::Relations(user), begun);
            token
        };
        self.0.fenced("begin_fill", user, begin).await
    }

    async fn finish_fill(
        &self,
        user: UserId,
        token: Token,
        relations: Arc<Relations>,
    ) -> Outcome<bool> {
        let args = format!("{user} {token:?} {relations:?}");
        let finish = move |memory: &mut Memory, _| {
            let stands = memory.relations(user).1 == Some(token);
            if stands {
                let value = Value::Relations { value: Some(relations), fill: None };
                memory.insert(CacheKey::Relations(user), value);
            }
            stands
        };
        self.0.fenced("finish_fill", args, finish).await
    }

    async fn invalidate(&self, users: &[UserId]) -> Outcome<()> {
        let owned = users.to_vec();
        let drop_all = move |memory: &mut Memory, _| {
            for user in owned {
                memory.remove(CacheKey::Relations(user));
            }
        };
        self.0.fenced("invalidate", users, drop_all).await
    }
}
