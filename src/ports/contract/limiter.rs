//! What every [`RateLimiter`] does.

use std::{sync::Arc, time::Duration};

use super::{
    Check, Outage, behaviours,
    kit::{LONG, Must, concurrently, is_error, same, that},
};
use crate::{
    ports::{Counted, Limit, RateLimiter, Read, Verdict},
    rt::{BoxFuture, Rt},
};

/// A limiter that has counted nothing.
#[derive(Clone)]
pub struct Context {
    /// The limiter.
    pub limiter: Arc<dyn RateLimiter>,
    /// The runtime it was made with.
    pub rt: Rt,
    /// Takes its store down.
    pub outage: Option<Outage>,
}

behaviours![
    a_burst_is_allowed_and_no_more,
    what_remains_is_told,
    a_refusal_tells_when_to_come_back,
    calls_come_back_one_by_one,
    refused_calls_cost_nothing,
    a_pause_gives_no_more_than_the_burst,
    callers_are_apart,
    limits_are_apart,
    calls_that_are_asked_together_are_counted_each,
    calls_at_once_are_all_counted,
    an_outage_is_an_error,
];

/// Three at once, and in the run of a suite no more.
const SLOW: Limit = Limit { burst: 3, period: LONG };
const ONE: Counted<'_> = Counted { name: "post", key: "user:1", limit: SLOW };
/// Four at once, and one more every 50 ms.
const QUICK: Limit = Limit { burst: 4, period: Duration::from_millis(200) };
/// Between two calls of [`QUICK`].
const INTERVAL: Duration = Duration::from_millis(50);

impl Context {
    async fn together(&self, calls: &[Counted<'_>]) -> Result<Vec<Verdict>, String> {
        self.limiter.check(calls).await.must("check")
    }

    async fn check(&self, name: &'static str, key: &str, limit: Limit) -> Result<Verdict, String> {
        self.together(&[Counted { name, key, limit }]).await?.pop().ok_or("no verdict".to_owned())
    }

    /// Counts `calls` and gives how many were allowed.
    async fn allowed(
        &self,
        name: &'static str,
        key: &str,
        limit: Limit,
        calls: usize,
    ) -> Result<usize, String> {
        let mut allowed = 0;
        for _ in 0..calls {
            allowed += usize::from(self.check(name, key, limit).await?.allowed);
        }
        Ok(allowed)
    }
}

async fn a_burst_is_allowed_and_no_more(context: Context) -> Check {
    same("allowed at once", &context.allowed("post", "user:1", SLOW, 3).await?, &3)?;
    same("allowed then", &context.allowed("post", "user:1", SLOW, 3).await?, &0)
}

async fn what_remains_is_told(context: Context) -> Check {
    for remaining in [2, 1, 0, 0] {
        let verdict = context.check("post", "user:1", SLOW).await?;
        same("remaining", &verdict.remaining, &remaining)?;
    }
    Ok(())
}

async fn a_refusal_tells_when_to_come_back(context: Context) -> Check {
    let first = context.check("post", "user:1", SLOW).await?;
    same("wait while calls remain", &first.retry_after, &Duration::ZERO)?;
    that(first.reset_after <= LONG / 3, "one call comes back in its share of the period")?;
    that(first.reset_after > LONG / 4, "a call takes its share of the period to come back")?;
    context.allowed("post", "user:1", SLOW, 2).await?;
    let refused = context.check("post", "user:1", SLOW).await?;
    let one = refused.retry_after;
    that(one <= LONG / 3 && one > LONG / 4, "a refused caller waits for one call")?;
    let all = refused.reset_after;
    that(all <= LONG && all > LONG / 4 * 3, "the full burst is there after the period")
}

async fn calls_come_back_one_by_one(context: Context) -> Check {
    // On real time a call may come back between two lines, so this counts over a while.
    let start = context.rt.now();
    let mut allowed = context.allowed("post", "user:1", QUICK, 20).await?;
    for _ in 0..4 {
        context.rt.sleep(INTERVAL + INTERVAL / 5).await;
        allowed += context.allowed("post", "user:1", QUICK, 5).await?;
    }
    let intervals = context.rt.now().since(start).as_millis() / INTERVAL.as_millis();
    let most = 4 + usize::try_from(intervals).unwrap_or(usize::MAX);
    that(allowed >= 8, &format!("one call comes back in each interval ({allowed} allowed)"))?;
    that(allowed <= most, &format!("no more than that come back ({allowed} of {most} allowed)"))
}

async fn refused_calls_cost_nothing(context: Context) -> Check {
    context.allowed("post", "user:1", QUICK, 200).await?;
    context.rt.sleep(INTERVAL * 2).await;
    let verdict = context.check("post", "user:1", QUICK).await?;
    that(verdict.allowed, "whoever was refused is allowed after a wait")
}

async fn a_pause_gives_no_more_than_the_burst(context: Context) -> Check {
    context.check("post", "user:1", QUICK).await?;
    context.rt.sleep(QUICK.period * 2).await;
    let verdict = context.check("post", "user:1", QUICK).await?;
    that(verdict.allowed, "a call is allowed after a pause")?;
    same("remaining", &verdict.remaining, &3)
}

async fn callers_are_apart(context: Context) -> Check {
    for key in ["user:1", "user:2", "addr:127.0.0.1"] {
        let allowed = context.allowed("post", key, SLOW, 9).await?;
        same(&format!("allowed to {key}"), &allowed, &3)?;
    }
    Ok(())
}

async fn limits_are_apart(context: Context) -> Check {
    for name in ["post", "read"] {
        let allowed = context.allowed(name, "user:1", SLOW, 9).await?;
        same(&format!("allowed to {name}"), &allowed, &3)?;
    }
    Ok(())
}

async fn calls_that_are_asked_together_are_counted_each(context: Context) -> Check {
    let wide = Limit { burst: 5, ..SLOW };
    let calls = [
        Counted { name: "read", key: "addr:127.0.0.1", limit: SLOW },
        Counted { name: "post", key: "user:1", limit: wide },
    ];
    for remaining in [[2, 4], [1, 3], [0, 2], [0, 1], [0, 0]] {
        let verdicts = context.together(&calls).await?;
        let found: Vec<u32> = verdicts.iter().map(|verdict| verdict.remaining).collect();
        same("remaining of both", &found.as_slice(), &remaining.as_slice())?;
    }
    let refused = context.together(&calls).await?.iter().all(|verdict| !verdict.allowed);
    that(refused, "both are refused at the end")?;
    same("verdicts for no call", &context.together(&[]).await?, &Vec::new())
}

async fn calls_at_once_are_all_counted(context: Context) -> Check {
    let check = |_| -> BoxFuture<'static, Read<Vec<Verdict>>> {
        let limiter = context.limiter.clone();
        Box::pin(async move { limiter.check(&[ONE]).await })
    };
    let mut allowed = 0;
    for verdict in concurrently(&context.rt, (0..24).map(check)).await? {
        let verdicts = verdict.must("check")?;
        allowed += verdicts.iter().filter(|verdict| verdict.allowed).count();
    }
    same("allowed of those at once", &allowed, &3)
}

async fn an_outage_is_an_error(context: Context) -> Check {
    let Some(outage) = &context.outage else { return Ok(()) };
    context.check("post", "user:1", SLOW).await?;
    outage.begin();
    is_error("check", &context.limiter.check(&[ONE]).await)
}
