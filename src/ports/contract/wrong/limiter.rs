//! Wrong limiters.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use super::{Every, Hushed, faults};
use crate::ports::{Counted, Limit, RateLimiter, Read, Verdict, contract::limiter::Context};

faults! {
    /// Everything is allowed.
    AllowsAll: [a_burst_is_allowed_and_no_more],
    /// One call more than the burst is allowed.
    AllowsOneMore: [a_burst_is_allowed_and_no_more],
    /// What remains before the call is told, not after it.
    TellsWhatWas: [what_remains_is_told],
    /// A refusal tells nothing.
    TellsNoWait: [a_refusal_tells_when_to_come_back],
    /// A caller once refused is refused for the rest of the hour.
    NeverGivesBack: [calls_come_back_one_by_one],
    /// Calls come back twice as fast.
    GivesBackTooFast: [calls_come_back_one_by_one],
    /// A refused call has to be waited for like an allowed one.
    ChargesRefusals: [refused_calls_cost_nothing],
    /// A pause is saved up.
    SavesUp: [a_pause_gives_no_more_than_the_burst],
    /// All callers share one count.
    SharesCallers: [callers_are_apart],
    /// All limits share one count.
    SharesLimits: [limits_are_apart],
    /// What comes after a call that is refused is allowed, and not counted.
    EndsAtARefusal: [calls_that_are_asked_together_are_counted_each],
    /// Verdicts come in another order than the calls.
    TurnsAround: [calls_that_are_asked_together_are_counted_each],
    /// One call in two is not counted.
    LosesCalls: [calls_at_once_are_all_counted],
    /// An outage is not told.
    SwallowsErrors: [an_outage_is_an_error],
}

struct Wrong {
    inner: Arc<dyn RateLimiter>,
    fault: Fault,
    every: Every,
    hushed: Hushed,
}

/// The limiter of `context` with `fault`.
#[must_use]
pub fn broken(context: Context, fault: Fault) -> Context {
    let (hushed, outage) = Hushed::new(fault == Fault::SwallowsErrors, context.outage);
    let every = Every::default();
    let limiter = Arc::new(Wrong { inner: context.limiter, fault, every, hushed });
    Context { limiter, outage, ..context }
}

const ALLOWED: Verdict = Verdict {
    allowed: true,
    remaining: 1,
    retry_after: Duration::ZERO,
    reset_after: Duration::ZERO,
};

impl Wrong {
    /// What is asked of the limiter below instead.
    fn bend(&self, limit: Limit) -> Limit {
        let Limit { burst, period } = limit;
        match self.fault {
            Fault::AllowsOneMore => Limit { burst: burst + 1, period },
            Fault::NeverGivesBack => Limit { burst, period: Duration::from_hours(1) },
            Fault::GivesBackTooFast => Limit { burst, period: period / 2 },
            // Twice the burst in twice the time comes back as fast.
            Fault::SavesUp => Limit { burst: burst * 2, period: period * 2 },
            // A refusal is paid for: as if each call took far longer to come back.
            Fault::ChargesRefusals => Limit { burst, period: period * 50 },
            _ => limit,
        }
    }
}

#[async_trait]
impl RateLimiter for Wrong {
    async fn check(&self, calls: &[Counted<'_>]) -> Read<Vec<Verdict>> {
        if self.hushed.is_down() || self.fault == Fault::AllowsAll {
            return Ok(vec![ALLOWED; calls.len()]);
        }
        if self.fault == Fault::LosesCalls && self.every.nth(2) {
            return Ok(vec![ALLOWED; calls.len()]);
        }
        let mut verdicts = Vec::with_capacity(calls.len());
        for &Counted { name, key, limit } in calls {
            let key = if self.fault == Fault::SharesCallers { "all" } else { key };
            let name = if self.fault == Fault::SharesLimits { "all" } else { name };
            let bent = Counted { name, key, limit: self.bend(limit) };
            verdicts.extend(self.inner.check(&[bent]).await?);
            let refused = verdicts.last().is_some_and(|verdict| !verdict.allowed);
            if refused && self.fault == Fault::EndsAtARefusal {
                break;
            }
        }
        verdicts.resize(calls.len(), ALLOWED);
        for verdict in &mut verdicts {
            match self.fault {
                Fault::TellsWhatWas => verdict.remaining += u32::from(verdict.allowed),
                Fault::TellsNoWait => verdict.retry_after = Duration::ZERO,
                _ => {}
            }
        }
        if self.fault == Fault::TurnsAround {
            verdicts.reverse();
        }
        Ok(verdicts)
    }
}
