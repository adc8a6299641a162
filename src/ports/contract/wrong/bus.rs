//! Wrong buses.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;

use super::{Every, Hushed, faults};
use crate::{
    ports::{
        Bus, Outcome, Queue, QueueStats, Read, Receipt, Received, Target, bus::BATCH_MAX,
        contract::bus::Context,
    },
    rt::Rt,
};

faults! {
    /// One message in five is not sent.
    DropsOneInFive: [every_published_message_is_received],
    /// Each message is sent twice.
    Doubles: [a_healthy_bus_rarely_doubles, receivers_do_not_share_a_message],
    /// Some message comes when there is none.
    InventsMessages: [an_empty_queue_gives_nothing],
    /// One outcome is given for all entries.
    GivesOneOutcome: [every_entry_has_its_outcome],
    /// Too large a batch is cut, and all of it is done.
    CutsLargeBatches: [an_outcome_is_true_also_in_too_large_a_batch],
    /// What is meant for one lane goes to the other.
    MixesLanes: [topics_and_queues_reach_their_own_lane],
    /// As many are received as there are.
    IgnoresTheMost: [no_more_than_asked_for_is_received],
    /// A received message stays visible.
    IgnoresVisibility: [a_received_message_is_invisible],
    /// A message is acknowledged when it is received.
    AcknowledgesOnReceive: [a_message_that_was_not_acknowledged_comes_again],
    /// Acknowledging does nothing.
    ForgetsAcknowledgements: [an_acknowledged_message_never_comes_again],
    /// Acknowledging one removes all that is in flight.
    AcknowledgesAll: [only_the_acknowledged_entries_are_removed],
    /// Any receipt of a message removes it.
    TakesStaleReceipts: [a_stale_receipt_removes_nothing],
    /// Extending does nothing.
    ForgetsExtensions: [extending_keeps_a_message_invisible, extending_by_nothing_gives_a_message_back],
    /// A receiver looks once, at the end of its wait.
    SleepsThroughArrivals: [a_waiting_receiver_is_woken],
    /// Parked messages go on being received.
    NeverParks: [a_message_is_parked_after_too_many_receives],
    /// Redriving does nothing.
    ForgetsToRedrive: [parked_messages_wait_until_they_are_redriven],
    /// What is in flight is not counted.
    CountsNoFlight: [the_state_tells_what_waits_and_what_is_in_flight],
    /// An outage is not told.
    SwallowsErrors: [an_outage_is_an_error],
}

struct Wrong {
    inner: Arc<dyn Bus>,
    rt: Rt,
    fault: Fault,
    every: Every,
    hushed: Hushed,
    receipts: Mutex<BTreeMap<Receipt, Bytes>>,
    latest: Mutex<BTreeMap<Bytes, Receipt>>,
}

/// The bus of `context` with `fault`.
#[must_use]
pub fn broken(context: Context, fault: Fault) -> Context {
    let Context { bus: inner, rt, outage } = context;
    let (hushed, outage) = Hushed::new(fault == Fault::SwallowsErrors, outage);
    let bus = Arc::new(Wrong {
        inner,
        rt: rt.clone(),
        fault,
        every: Every::default(),
        hushed,
        receipts: Mutex::default(),
        latest: Mutex::default(),
    });
    Context { bus, rt, outage }
}

fn all_done(entries: usize) -> Vec<Outcome<()>> {
    vec![Outcome::Done(()); entries]
}

impl Wrong {
    fn remember(&self, found: &[Received]) {
        for received in found {
            self.receipts.lock().insert(received.receipt.clone(), received.body.clone());
            self.latest.lock().insert(received.body.clone(), received.receipt.clone());
        }
    }

    fn latest_of(&self, receipt: &Receipt) -> Receipt {
        let latest =
            self.receipts.lock().get(receipt).and_then(|b| self.latest.lock().get(b).cloned());
        latest.unwrap_or_else(|| receipt.clone())
    }
}

#[async_trait]
impl Bus for Wrong {
    async fn publish(&self, to: Target, messages: &[Bytes]) -> Vec<Outcome<()>> {
        if self.hushed.is_down() {
            return all_done(messages.len());
        }
        match self.fault {
            Fault::DropsOneInFive => {
                let kept: Vec<Bytes> =
                    messages.iter().filter(|_| !self.every.nth(5)).cloned().collect();
                drop(self.inner.publish(to, &kept).await);
                all_done(messages.len())
            }
            Fault::Doubles => {
                drop(self.inner.publish(to, messages).await);
                self.inner.publish(to, messages).await
            }
            Fault::GivesOneOutcome => {
                self.inner.publish(to, messages).await.into_iter().take(1).collect()
            }
            Fault::CutsLargeBatches => {
                let kept = messages.len().min(BATCH_MAX);
                drop(self.inner.publish(to, &messages[..kept]).await);
                all_done(messages.len())
            }
            Fault::MixesLanes => self.inner.publish(Target::Queue(Queue::Ingest), messages).await,
            _ => self.inner.publish(to, messages).await,
        }
    }

    async fn receive(
        &self,
        queue: Queue,
        max: usize,
        wait: Duration,
        visibility: Duration,
    ) -> Read<Vec<Received>> {
        if self.hushed.is_down() {
            return Ok(Vec::new());
        }
        let (mut max, mut wait, mut visibility) = (max, wait, visibility);
        match self.fault {
            Fault::IgnoresTheMost => max = BATCH_MAX,
            Fault::IgnoresVisibility => visibility = Duration::ZERO,
            Fault::SleepsThroughArrivals => {
                self.rt.sleep(wait).await;
                wait = Duration::ZERO;
            }
            _ => {}
        }
        let mut found = self.inner.receive(queue, max, wait, visibility).await?;
        if self.fault == Fault::NeverParks && found.is_empty() {
            drop(self.inner.redrive(queue, BATCH_MAX).await);
            found = self.inner.receive(queue, max, wait, visibility).await?;
        }
        self.remember(&found);
        if self.fault == Fault::AcknowledgesOnReceive {
            let receipts: Vec<Receipt> = found.iter().map(|d| d.receipt.clone()).collect();
            drop(self.inner.acknowledge(queue, &receipts).await);
        }
        if self.fault == Fault::InventsMessages && found.is_empty() {
            let receipt = Receipt("0.1".to_owned());
            found.push(Received { receipt, body: Bytes::from_static(b"{}"), receives: 1 });
        }
        Ok(found)
    }

    async fn acknowledge(&self, queue: Queue, receipts: &[Receipt]) -> Vec<Outcome<()>> {
        if self.hushed.is_down() || self.fault == Fault::ForgetsAcknowledgements {
            return all_done(receipts.len());
        }
        let named: Vec<Receipt> = match self.fault {
            Fault::AcknowledgesAll => self.latest.lock().values().cloned().collect(),
            Fault::TakesStaleReceipts => receipts.iter().map(|r| self.latest_of(r)).collect(),
            _ => return self.inner.acknowledge(queue, receipts).await,
        };
        for batch in named.chunks(BATCH_MAX) {
            drop(self.inner.acknowledge(queue, batch).await);
        }
        all_done(receipts.len())
    }

    async fn extend(
        &self,
        queue: Queue,
        receipts: &[Receipt],
        visibility: Duration,
    ) -> Vec<Outcome<()>> {
        if self.hushed.is_down() || self.fault == Fault::ForgetsExtensions {
            return all_done(receipts.len());
        }
        let outcomes = self.inner.extend(queue, receipts, visibility).await;
        if self.fault == Fault::AcknowledgesAll { all_done(receipts.len()) } else { outcomes }
    }

    async fn redrive(&self, queue: Queue, max: usize) -> Outcome<u64> {
        if self.hushed.is_down() {
            return Outcome::Done(0);
        }
        if self.fault == Fault::ForgetsToRedrive {
            let parked = self.inner.stats(queue).await.map_or(0, |stats| stats.parked);
            return Outcome::Done(parked.min(max as u64));
        }
        self.inner.redrive(queue, max).await
    }

    async fn stats(&self, queue: Queue) -> Read<QueueStats> {
        if self.hushed.is_down() {
            return Ok(QueueStats::default());
        }
        let mut stats = self.inner.stats(queue).await?;
        if self.fault == Fault::CountsNoFlight {
            stats.in_flight = 0;
        }
        Ok(stats)
    }
}
