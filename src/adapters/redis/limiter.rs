//! Rate limits that all replicas share: the generic cell rate algorithm on the server's clock.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use redis::Value;

use super::{Redis, fault::odd, node::Call, only, scripts::SCRIPTS};
use crate::ports::{Limit, RateLimiter, Read, Verdict};

const STORE: &str = "limits";

/// Counts calls for all processes. A failover or an eviction forgets calls: a limit is then generous
/// for one period, and never wrong the other way. A call is counted twice, at worst, if the connection
/// breaks under it.
pub struct RedisLimiter {
    redis: Arc<Redis>,
}

impl RedisLimiter {
    /// A limiter over the servers.
    #[must_use]
    pub const fn new(redis: Arc<Redis>) -> Self {
        Self { redis }
    }
}

fn verdict_of(value: &Value) -> Option<Verdict> {
    let Value::Array(answer) = value else { return None };
    let [Value::Int(allowed), Value::Int(left), Value::Int(wait), Value::Int(all)] =
        answer.as_slice()
    else {
        return None;
    };
    Some(Verdict {
        allowed: *allowed == 1,
        remaining: u32::try_from(*left).ok()?,
        retry_after: Duration::from_micros(u64::try_from(*wait).ok()?),
        reset_after: Duration::from_micros(u64::try_from(*all).ok()?),
    })
}

#[async_trait]
impl RateLimiter for RedisLimiter {
    async fn check(&self, name: &'static str, key: &str, limit: Limit) -> Read<Verdict> {
        let key = self.redis.key("limit", format_args!("{name}:{key}"));
        let burst = limit.burst.max(1);
        let interval = (limit.period.as_micros() / u128::from(burst)).max(1);
        let mut cmd = SCRIPTS.limit.run(&[&key]);
        cmd.arg(u64::try_from(interval).unwrap_or(u64::MAX)).arg(burst);
        let found = only(self.redis.read(STORE, &[Call::new(key, cmd)]).await?);
        verdict_of(&found).ok_or_else(|| odd(STORE, &found))
    }
}
