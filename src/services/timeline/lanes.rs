//! The lanes as a whole: they are measured, and what is parked gets another chance now and then.
//!
//! What is parked was not understood by this build, came too often, or could not be delivered. A newer
//! build understands it, and the cause of the rest passes; so it goes back into its lane, rarely and
//! little at a time. What is still not understood is parked again, told of again, and so never
//! outlives its time in the parked queue unseen.

use std::sync::Arc;

use crate::{
    ports::{Bus, Outcome, Queue, StoreError},
    services::kit::Common,
};

/// Parked messages of a lane that are moved at once: with the pause between, far less than a lane
/// carries.
const REDRIVE_MAX: usize = 100;

/// Watches until the shutdown.
pub(super) async fn watch(common: Common, bus: Arc<dyn Bus>) {
    let fanout = &common.config.fanout;
    let every = fanout.redrive_every();
    let mut redrive_at = common.rt.now().plus(every);
    while !common.shutdown.is_cancelled() {
        let due = !every.is_zero() && redrive_at.since(common.rt.now()).is_zero();
        for lane in Queue::ALL {
            match bus.stats(lane).await {
                Ok(stats) => {
                    common.metrics.queue(lane, stats);
                    if due && stats.parked > 0 {
                        redrive(&common, &*bus, lane).await;
                    }
                }
                Err(error) => note(&common, &error),
            }
        }
        if due {
            redrive_at = common.rt.now().plus(every);
        }
        tokio::select! {
            biased;
            () = common.shutdown.cancelled() => return,
            () = common.rt.sleep(fanout.measure()) => {}
        }
    }
}

async fn redrive(common: &Common, bus: &dyn Bus, lane: Queue) {
    match bus.redrive(lane, REDRIVE_MAX).await {
        Outcome::Done(messages) => {
            tracing::info!(lane = lane.as_str(), messages, "parked messages get another chance");
        }
        // What was not moved is parked still, or will be again.
        Outcome::Failed(error) | Outcome::Unknown(error) => note(common, &error),
    }
}

fn note(common: &Common, error: &StoreError) {
    common.metrics.store_error(error);
    tracing::warn!(store = error.store, kind = error.kind.as_str(), %error, "a lane is not watched");
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        services::kit::fakes::{MemBus, World},
        wire::routes::Role,
    };

    /// Which lanes were redriven, and how many messages at most, within so many seconds.
    async fn redriven(redrive_every_ms: u64, seconds: u64) -> Vec<(Queue, usize)> {
        let mut world = World::new();
        world.config.fanout.redrive_every_ms = redrive_every_ms;
        let common = world.common(Role::Timeline);
        let bus = Arc::new(MemBus::default());
        bus.parked.lock().insert(Queue::Bulk, 150);
        let watching = watch(common.clone(), Arc::clone(&bus) as Arc<dyn Bus>);
        let _ = world.rt.timeout(Duration::from_secs(seconds), watching).await;
        let calls = bus.redriven.lock();
        calls.clone()
    }

    #[tokio::test(start_paused = true)]
    async fn parked_messages_get_another_chance_now_and_then_and_not_all_at_once() {
        assert_eq!(redriven(60_000, 59).await, []);
        assert_eq!(redriven(60_000, 110).await, [(Queue::Bulk, 100)]);
        // The third time there is nothing left.
        assert_eq!(redriven(60_000, 300).await, [(Queue::Bulk, 100); 2]);
        assert_eq!(redriven(0, 3_600).await, [], "it was turned off");
    }
}
