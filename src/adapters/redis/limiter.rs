//! Rate limits that all replicas share: the generic cell rate algorithm on the server's clock.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use redis::Value;

use super::{Redis, fault::odd, node::Call, scripts::SCRIPTS};
use crate::ports::{Counted, RateLimiter, Read, Verdict};

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
    async fn check(&self, calls: &[Counted<'_>]) -> Read<Vec<Verdict>> {
        let call = |&Counted { name, key, limit }: &Counted<'_>| {
            let key = self.redis.key("limit", format_args!("{name}:{key}"));
            let burst = limit.burst.max(1);
            let interval = (limit.period.as_micros() / u128::from(burst)).max(1);
            let mut cmd = SCRIPTS.limit.run(&[&key]);
            cmd.arg(u64::try_from(interval).unwrap_or(u64::MAX)).arg(burst);
            Call::new(key, cmd)
        };
        let calls: Vec<Call> = calls.iter().map(call).collect();
        let found = self.redis.read(STORE, &calls).await?;
        found.iter().map(|value| verdict_of(value).ok_or_else(|| odd(STORE, value))).collect()
    }
}
