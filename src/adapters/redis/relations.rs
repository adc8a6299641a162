//! Relations: one value that also holds the token of the fill that runs.
//!
//! Header: version (1 byte), 1 if there is a value (1), free (2), visible ids (4), token (8; 0: no
//! fill runs), pulled ids (4), hidden ids (4), free (8). Then the three lists, 8 bytes an id, sorted.
//! Numbers are big-endian.

use std::sync::Arc;

use async_trait::async_trait;
use redis::Value;

use super::{
    FILL_LEASE, IDLE_TTL, RedisCache, millis,
    node::Call,
    only,
    scripts::SCRIPTS,
    timelines::{and_then, understood, unlink, whether},
};
use crate::{
    domain::{Relations, Token, UserId},
    ports::{Outcome, Read, RelationCache},
};

const STORE: &str = "relation_cache";
const HEADER: usize = 32;
const ID: usize = 8;

/// A number of 8 bytes.
pub(super) fn id(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |id, &byte| (id << 8) | u64::from(byte))
}

/// A list of ids.
pub(super) fn ids(bytes: &[u8]) -> Vec<UserId> {
    bytes.chunks_exact(ID).map(|bytes| UserId(id(bytes))).collect()
}

fn encode(relations: Option<&Relations>) -> Vec<u8> {
    let none = Relations::default();
    let value = relations.unwrap_or(&none);
    let count = |ids: &[UserId]| u32::try_from(ids.len()).unwrap_or(u32::MAX).to_be_bytes();
    let mut bytes = vec![0; HEADER];
    bytes[..2].copy_from_slice(&[1, u8::from(relations.is_some())]);
    bytes[4..8].copy_from_slice(&count(&value.visible));
    bytes[16..20].copy_from_slice(&count(&value.pulled));
    bytes[20..24].copy_from_slice(&count(&value.hidden));
    for list in [&value.visible, &value.pulled, &value.hidden] {
        bytes.extend(list.iter().flat_map(|user| user.0.to_be_bytes()));
    }
    bytes
}

/// The relations that are there; `None` if there are none, or none of this version.
pub(super) fn decode(value: &Value) -> Option<Relations> {
    let Value::BulkString(bytes) = value else { return None };
    let (header, rest) = bytes.split_at_checked(HEADER)?;
    if header[..2] != [1, 1] {
        return None;
    }
    let count = |at: usize| id(&header[at..at + 4]) as usize;
    let (visible, rest) = rest.split_at_checked(count(4) * ID)?;
    let (pulled, hidden) = rest.split_at_checked(count(16) * ID)?;
    let whole = hidden.len() == count(20) * ID;
    whole.then(|| Relations {
        visible: ids(visible).into(),
        pulled: ids(pulled).into(),
        hidden: ids(hidden).into(),
    })
}

impl RedisCache {
    pub(super) fn relations_key(&self, user: UserId) -> String {
        self.redis.key("rel", user.0)
    }
}

#[async_trait]
impl RelationCache for RedisCache {
    async fn get(&self, user: UserId) -> Read<Option<Arc<Relations>>> {
        let key = self.relations_key(user);
        let mut cmd = redis::cmd("GET");
        cmd.arg(&key);
        let found = only(self.redis.read(STORE, &[Call::new(key, cmd)]).await?);
        Ok(decode(&found).map(Arc::new))
    }

    async fn begin_fill(&self, user: UserId) -> Outcome<Token> {
        let (key, token) = (self.relations_key(user), self.redis.token());
        let mut cmd = SCRIPTS.relations_begin.run(&[&key]);
        cmd.arg(&token.0.to_be_bytes()[..]).arg(millis(FILL_LEASE)).arg(encode(None));
        self.redis.write(STORE, &[Call::new(key, cmd)]).await.map(|_| token)
    }

    async fn finish_fill(
        &self,
        user: UserId,
        token: Token,
        relations: Arc<Relations>,
    ) -> Outcome<bool> {
        let key = self.relations_key(user);
        let mut cmd = SCRIPTS.relations_finish.run(&[&key]);
        cmd.arg(&token.0.to_be_bytes()[..]).arg(encode(Some(&relations))).arg(millis(IDLE_TTL));
        // A second run would say that the token does not stand, though the first one stored.
        let written = self.redis.write(STORE, &[Call::once(key, cmd)]).await;
        and_then(written, |values| understood(whether(STORE, &only(values))))
    }

    async fn invalidate(&self, users: &[UserId]) -> Outcome<()> {
        let calls: Vec<Call> = users.iter().map(|&user| unlink(self.relations_key(user))).collect();
        self.redis.write(STORE, &calls).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relations_come_back_as_they_went() {
        let list = |ids: &[u64]| ids.iter().copied().map(UserId).collect();
        let relations =
            Relations { visible: list(&[1, 5, u64::MAX]), pulled: list(&[5]), hidden: list(&[8]) };
        let mut bytes = encode(Some(&relations));
        assert_eq!(decode(&Value::BulkString(bytes.clone())), Some(relations));
        bytes.pop();
        assert_eq!(decode(&Value::BulkString(bytes)), None);
        assert_eq!(decode(&Value::BulkString(encode(None))), None);
        assert_eq!(decode(&Value::Nil), None);
    }
}
