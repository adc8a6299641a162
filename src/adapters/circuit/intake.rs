//! Receives from a bus only what will be worked on.
//!
//! - While a store that workers need has its circuit open nothing is received: every message would
//!   only come back, and count as received once more.
//! - After [`Intake::stop`] nothing is received any more, and what a poll that is under way still
//!   brings is given back at once, as is what comes for a receiver that has gone. Without that a
//!   server that has handed messages out hides them from the other processes until their visibility
//!   ends.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use super::Circuit;
use crate::{
    ports::{Bus, Outcome, Queue, QueueStats, Read, Receipt, Received, Target},
    rt::{Rt, Shutdown},
};

/// How often circuits that are open are looked at.
const LOOK: Duration = Duration::from_millis(100);

/// A bus whose messages are received only to be worked on.
pub struct Intake {
    bus: Arc<dyn Bus>,
    rt: Rt,
    /// The circuits of the stores that workers need.
    needs: Vec<Arc<Circuit>>,
    /// The longest poll: a stop waits for the one that is under way.
    poll_max: Duration,
    stopped: Shutdown,
    polls: TaskTracker,
}

impl Intake {
    /// Receives from `bus` while the circuits `needs` are closed, in polls of at most `poll_max`.
    #[must_use]
    pub fn new(
        bus: Arc<dyn Bus>,
        rt: &Rt,
        needs: Vec<Arc<Circuit>>,
        poll_max: Duration,
    ) -> Arc<Self> {
        let (stopped, polls) = Default::default();
        Arc::new(Self { bus, rt: rt.clone(), needs, poll_max, stopped, polls })
    }

    /// From now on nothing is received.
    pub fn stop(&self) {
        self.stopped.cancel();
        self.polls.close();
    }

    /// After [`Intake::stop`]: until every poll has ended and given back what it brought.
    pub async fn idle(&self) {
        self.polls.wait().await;
    }

    /// Whether what is received can be worked on, at the latest after `wait`.
    async fn may_receive(&self, wait: Duration) -> bool {
        let deadline = self.rt.now().plus(wait);
        loop {
            if self.stopped.is_cancelled() {
                // Whoever asks has nothing to do until it is told to end.
                self.rt.sleep(wait.max(LOOK)).await;
                return false;
            }
            if !self.needs.iter().any(|store| store.is_open()) {
                return true;
            }
            let left = deadline.since(self.rt.now());
            if left.is_zero() {
                return false;
            }
            self.rt.sleep(left.min(LOOK)).await;
        }
    }
}

#[async_trait]
impl Bus for Intake {
    async fn receive(
        &self,
        queue: Queue,
        max: usize,
        wait: Duration,
        visibility: Duration,
    ) -> Read<Vec<Received>> {
        let wait = wait.min(self.poll_max);
        if !self.may_receive(wait).await {
            return Ok(Vec::new());
        }
        let (bus, stopped) = (Arc::clone(&self.bus), self.stopped.clone());
        let (told, mut batch) = oneshot::channel();
        let poll = self.polls.track_future(async move {
            let received = bus.receive(queue, max, wait, visibility).await;
            let unwanted = if stopped.is_cancelled() {
                received
            } else {
                match told.send(received) {
                    Ok(()) => return,
                    Err(back) => back,
                }
            };
            give_back(&*bus, queue, unwanted).await;
        });
        drop(self.rt.spawn("receive", poll));
        tokio::select! {
            biased;
            received = &mut batch => received.unwrap_or_else(|_ended| Ok(Vec::new())),
            () = self.stopped.cancelled() => {
                // Closed, so that the poll either has given its batch to us by now, or keeps it.
                batch.close();
                batch.try_recv().unwrap_or_else(|_kept| Ok(Vec::new()))
            }
        }
    }

    async fn publish(&self, to: Target, messages: &[Bytes]) -> Vec<Outcome<()>> {
        self.bus.publish(to, messages).await
    }

    async fn acknowledge(&self, queue: Queue, receipts: &[Receipt]) -> Vec<Outcome<()>> {
        self.bus.acknowledge(queue, receipts).await
    }

    async fn extend(
        &self,
        queue: Queue,
        receipts: &[Receipt],
        visibility: Duration,
    ) -> Vec<Outcome<()>> {
        self.bus.extend(queue, receipts, visibility).await
    }

    async fn redrive(&self, queue: Queue, max: usize) -> Outcome<u64> {
        self.bus.redrive(queue, max).await
    }

    async fn stats(&self, queue: Queue) -> Read<QueueStats> {
        self.bus.stats(queue).await
    }
}

async fn give_back(bus: &dyn Bus, queue: Queue, received: Read<Vec<Received>>) {
    let Ok(batch) = received else { return };
    if batch.is_empty() {
        return;
    }
    let receipts: Vec<Receipt> = batch.into_iter().map(|message| message.receipt).collect();
    let outcomes = bus.extend(queue, &receipts, Duration::ZERO).await;
    let given = outcomes.iter().filter(|outcome| outcome.is_done()).count();
    tracing::info!(lane = queue.as_str(), given, of = receipts.len(), "gave messages back");
}
