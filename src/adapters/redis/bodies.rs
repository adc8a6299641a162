//! Bodies: live (`L` and the JSON), deleted (`D`), or being filled (`F` and a token).
//!
//! A read is one `SET .. NX GET` for each tweet: it gives what is there, or takes the token in the
//! same step. A tombstone takes the place of the token, so that a fill which had begun is void
//! whether the tombstone is still there or not.

use async_trait::async_trait;
use bytes::Bytes;
use redis::Value;

use super::{BODY_LEASE, BODY_TTL, RedisCache, fault::odd, millis, node::Call, scripts::SCRIPTS};
use crate::{
    domain::{Token, TweetId},
    ports::{BodyCache, BodyRead, CachedBody, Outcome, Read, StoreError},
};

const STORE: &str = "body_cache";
const LIVE: u8 = b'L';
const DELETED: u8 = b'D';
const FILLING: u8 = b'F';

fn filling(token: Token) -> Vec<u8> {
    [&[FILLING][..], &token.0.to_be_bytes()].concat()
}

fn read_of(value: Value, token: Token) -> Result<BodyRead, StoreError> {
    let Value::BulkString(found) = value else {
        let nil = matches!(value, Value::Nil);
        return if nil { Ok(BodyRead::Miss(Some(token))) } else { Err(odd(STORE, &value)) };
    };
    Ok(match found.first() {
        Some(&LIVE) => BodyRead::Hit(CachedBody::Live(Bytes::from(found).slice(1..))),
        Some(&DELETED) => BodyRead::Hit(CachedBody::Deleted),
        // The first of two runs has left it, when the connection broke between them.
        _ if found == filling(token) => BodyRead::Miss(Some(token)),
        // Being filled: whoever asks reads the store.
        _ => BodyRead::Miss(None),
    })
}

#[async_trait]
impl BodyCache for RedisCache {
    async fn read(&self, ids: &[TweetId]) -> Read<Vec<BodyRead>> {
        // One token serves all fills of this call: it is compared per tweet.
        let token = self.redis.token();
        let call = |id: &TweetId| {
            let key = self.redis.key("tw", id.0);
            let mut cmd = redis::cmd("SET");
            cmd.arg(&key).arg(filling(token)).arg("NX").arg("GET");
            cmd.arg("PX").arg(millis(BODY_LEASE));
            Call::new(key, cmd)
        };
        let calls: Vec<Call> = ids.iter().map(call).collect();
        let found = self.redis.read(STORE, &calls).await?;
        found.into_iter().map(|value| read_of(value, token)).collect()
    }

    async fn fill(&self, bodies: &[(TweetId, Token, CachedBody)]) -> Outcome<()> {
        let call = |(id, token, body): &(TweetId, Token, CachedBody)| {
            let key = self.redis.key("tw", id.0);
            let value = match body {
                CachedBody::Live(json) => [&[LIVE][..], json].concat(),
                CachedBody::Deleted => vec![DELETED],
            };
            let mut cmd = SCRIPTS.body_fill.run(&[&key]);
            cmd.arg(filling(*token)).arg(value).arg(millis(BODY_TTL));
            Call::new(key, cmd)
        };
        let calls: Vec<Call> = bodies.iter().map(call).collect();
        self.redis.write(STORE, &calls).await.map(drop)
    }

    async fn tombstone(&self, ids: &[TweetId]) -> Outcome<()> {
        let call = |id: &TweetId| {
            let key = self.redis.key("tw", id.0);
            let mut cmd = redis::cmd("SET");
            cmd.arg(&key).arg(&[DELETED][..]).arg("PX").arg(millis(BODY_TTL));
            Call::new(key, cmd)
        };
        let calls: Vec<Call> = ids.iter().map(call).collect();
        self.redis.write(STORE, &calls).await.map(drop)
    }
}
