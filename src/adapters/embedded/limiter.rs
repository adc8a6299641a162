//! Rate limits within one process: the generic cell rate algorithm, on the runtime's clock.
//!
//! The crate `governor` has the same algorithm, but its clock cannot be virtual, so a simulated or
//! paused run would not be reproducible; and its map keeps keys until it is told to shrink. Here a
//! key is one number: the time at which its full burst will be there again. A key whose time has
//! passed is worth nothing and makes room for the next.
//!
//! Keys are not stored but hashed to 64 bits behind a random prefix, so that nobody can choose
//! addresses that share a limit; by chance two of 262,144 keys do with a probability below 2e-9.

use std::{
    hash::{DefaultHasher, Hasher},
    time::Duration,
};

use async_trait::async_trait;

use super::super::clock_map::Shards;
use crate::{
    ports::{Counted, Limit, RateLimiter, Read, Verdict},
    rt::{Instant, Rt},
};

/// Keys remembered: 10 MB. A flood of more keys within their periods makes limits generous, not
/// wrong: what was forgotten starts with a full burst.
pub const KEYS_MAX: usize = 1 << 18;

/// Counts calls of this process.
pub struct EmbeddedLimiter {
    rt: Rt,
    prefix: u64,
    full_at: Shards<Nanos>,
}

/// Nanoseconds since the runtime was made.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Nanos(u64);

impl EmbeddedLimiter {
    /// A limiter that has counted nothing yet.
    #[must_use]
    pub fn new(rt: Rt) -> Self {
        let prefix = rt.random_u64();
        Self { rt, prefix, full_at: Shards::new(KEYS_MAX) }
    }

    fn hash(&self, name: &str, key: &str) -> u64 {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.prefix);
        hasher.write(name.as_bytes());
        // No name has this byte, so a name and a key cannot run into one another.
        hasher.write_u8(0xff);
        hasher.write(key.as_bytes());
        hasher.finish()
    }

    fn count(&self, &Counted { name, key, limit }: &Counted<'_>, now: u64) -> Verdict {
        let hash = self.hash(name, key);
        let mut shard = self.full_at.lock(hash);
        if let Some(full_at) = shard.get(hash) {
            let (next, verdict) = judge(full_at.0, now, limit);
            *full_at = Nanos(next.unwrap_or(full_at.0));
            return verdict;
        }
        let (next, verdict) = judge(now, now, limit);
        let full_at = Nanos(next.unwrap_or(now));
        shard.insert(hash, full_at, |full_at| full_at.0 <= now);
        verdict
    }
}

/// Counts one call at `now` of a key whose burst is full at `full_at`. Gives the new time if the
/// call is allowed.
fn judge(full_at: u64, now: u64, limit: Limit) -> (Option<u64>, Verdict) {
    let burst = u64::from(limit.burst.max(1));
    let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    let interval = (nanos(limit.period) / burst).max(1);
    let window = interval.saturating_mul(burst);
    // A forgotten clock or a shorter limit must not lock a key out for longer than its window.
    let full_at = full_at.clamp(now, now.saturating_add(window));
    let next = full_at.saturating_add(interval);
    let used = next - now;
    let allowed = used <= window;
    let after = if allowed { next } else { full_at };
    let room = window - (after - now);
    let verdict = Verdict {
        allowed,
        remaining: u32::try_from(room / interval).unwrap_or(u32::MAX),
        retry_after: Duration::from_nanos(interval.saturating_sub(room)),
        reset_after: Duration::from_nanos(after - now),
    };
    (allowed.then_some(next), verdict)
}

#[async_trait]
impl RateLimiter for EmbeddedLimiter {
    async fn check(&self, calls: &[Counted<'_>]) -> Read<Vec<Verdict>> {
        let since_start = self.rt.now().since(Instant::default());
        let now = u64::try_from(since_start.as_nanos()).unwrap_or(u64::MAX);
        Ok(calls.iter().map(|call| self.count(call, now)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// Ten calls at once, ten per second.
    const TEN: Limit = Limit { burst: 10, period: Duration::from_secs(1) };

    fn calls(full_at: &mut u64, now: u64, n: usize) -> Vec<Verdict> {
        (0..n)
            .map(|_| {
                let (next, verdict) = judge(*full_at, now, TEN);
                *full_at = next.unwrap_or(*full_at);
                verdict
            })
            .collect()
    }

    #[test]
    fn a_burst_goes_through_and_then_one_call_per_interval() {
        let mut full_at = 0;
        let verdicts = calls(&mut full_at, SECOND, 11);
        let remaining: Vec<u32> = verdicts.iter().map(|v| v.remaining).collect();
        assert_eq!(remaining, [9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 0]);
        assert!(verdicts[..10].iter().all(|v| v.allowed) && !verdicts[10].allowed);
        assert_eq!(verdicts[8].retry_after, Duration::ZERO);
        assert_eq!(verdicts[9].retry_after, Duration::from_millis(100));
        assert_eq!(verdicts[10].retry_after, Duration::from_millis(100));
        assert_eq!(verdicts[10].reset_after, Duration::from_secs(1));
        let later = SECOND + 100_000_000;
        let verdicts = calls(&mut full_at, later, 2);
        assert!(verdicts[0].allowed && !verdicts[1].allowed);
    }

    #[test]
    fn after_the_period_the_whole_burst_is_there_again() {
        let mut full_at = 0;
        calls(&mut full_at, 0, 50);
        assert!(calls(&mut full_at, SECOND, 10).iter().all(|v| v.allowed));
    }

    #[test]
    fn waiting_as_long_as_the_verdict_says_is_enough_and_less_is_not() {
        let odd = Limit { burst: 7, period: Duration::from_micros(1) };
        let mut full_at = 0;
        let mut verdict = judge(full_at, 5, odd).1;
        while verdict.allowed {
            let (next, now) = judge(full_at, 5, odd);
            (full_at, verdict) = (next.unwrap_or(full_at), now);
        }
        let wait = u64::try_from(verdict.retry_after.as_nanos()).unwrap();
        assert!(!judge(full_at, 5 + wait - 1, odd).1.allowed);
        assert!(judge(full_at, 5 + wait, odd).1.allowed);
    }

    #[tokio::test(start_paused = true)]
    async fn names_and_keys_are_counted_apart() {
        let limiter = EmbeddedLimiter::new(crate::rt::tokio_rt::TokioRuntime::handle());
        let one = Limit { burst: 1, period: Duration::from_secs(1) };
        let calls = [("calls", "user:1"), ("calls", "user:2"), ("logins", "user:1")];
        let calls = calls.map(|(name, key)| Counted { name, key, limit: one });
        let allowed = async || -> Vec<bool> {
            let verdicts = limiter.check(&calls).await.unwrap();
            verdicts.iter().map(|verdict| verdict.allowed).collect()
        };
        assert_eq!(allowed().await, [true; 3]);
        assert_eq!(allowed().await, [false; 3]);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(allowed().await, [true; 3]);
    }
}
