//! Tells the timeline role a fact before the client is answered.

use std::time::Duration;

use http::StatusCode;

use super::calls::Calls;
use crate::{
    rt::Rt,
    wire::{
        events::Event,
        internal::{APPLY, Apply},
        routes::Role,
    },
};

/// What must be hidden is answered 202 if that is not certain after this time.
pub const HIDE_BUDGET: Duration = Duration::from_secs(2);
/// The author's own view of a new tweet may delay its answer by this time.
pub const SHOW_BUDGET: Duration = Duration::from_secs(1);
/// First pause between attempts; doubles up to the end of the budget.
const RETRY: Duration = Duration::from_millis(25);

/// Has the timeline role apply `event`, trying again until `budget` is used up. `true` once every
/// read honours it; on `false` the event on the bus will see to it.
pub async fn apply(rt: &Rt, calls: &Calls, event: Event, budget: Duration) -> bool {
    let trace = event.trace.clone();
    let body = Apply { events: vec![event] };
    let end = rt.now().plus(budget);
    let mut pause = RETRY;
    loop {
        let left = end.since(rt.now());
        if left.is_zero() {
            return false;
        }
        let asked = calls.post(Role::Timeline, APPLY, &body, trace.as_ref(), left);
        match rt.timeout(left, asked).await {
            Ok(Ok(StatusCode::NO_CONTENT)) => return true,
            Ok(Ok(status)) => tracing::debug!(%status, "the timeline role could not apply yet"),
            Ok(Err(error)) => tracing::debug!(%error, "the timeline role could not be asked"),
            Err(_elapsed) => return false,
        }
        rt.sleep(rt.jitter(pause).min(end.since(rt.now()))).await;
        pause *= 2;
    }
}
