//! What every [`Bus`] does.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;

use super::{
    Check, Outage, behaviours,
    kit::{LONG, Must, SHORT, SOON, concurrently, is_error, not_done, same, that},
};
use crate::{
    ports::{
        Bus, Queue, QueueStats, Receipt, Received, Target, Topic,
        bus::{BATCH_MAX, RECEIVES_MAX},
    },
    rt::{BoxFuture, Rt},
};

/// A bus that holds nothing.
#[derive(Clone)]
pub struct Context {
    /// The bus.
    pub bus: Arc<dyn Bus>,
    /// The runtime it was made with.
    pub rt: Rt,
    /// Takes its store down.
    pub outage: Option<Outage>,
}

behaviours![
    an_empty_queue_gives_nothing,
    every_published_message_is_received,
    a_healthy_bus_rarely_doubles,
    every_entry_has_its_outcome,
    an_outcome_is_true_also_in_too_large_a_batch,
    topics_and_queues_reach_their_own_lane,
    no_more_than_asked_for_is_received,
    a_received_message_is_invisible,
    a_message_that_was_not_acknowledged_comes_again,
    an_acknowledged_message_never_comes_again,
    only_the_acknowledged_entries_are_removed,
    a_stale_receipt_removes_nothing,
    extending_keeps_a_message_invisible,
    extending_by_nothing_gives_a_message_back,
    a_waiting_receiver_is_woken,
    receivers_do_not_share_a_message,
    parked_messages_wait_until_they_are_redriven,
    a_message_is_parked_after_too_many_receives,
    the_state_tells_what_waits_and_what_is_in_flight,
    an_outage_is_an_error,
];

const INGEST: Target = Target::Queue(Queue::Ingest);

fn message(n: u64) -> Bytes {
    format!("{{\"v\":1,\"events\":[{n}]}}").into()
}

fn messages(numbers: std::ops::Range<u64>) -> Vec<Bytes> {
    numbers.map(message).collect()
}

impl Context {
    async fn publish(&self, to: Target, messages: &[Bytes]) -> Check {
        for batch in messages.chunks(BATCH_MAX) {
            for outcome in self.bus.publish(to, batch).await {
                outcome.must("publish")?;
            }
        }
        Ok(())
    }

    async fn receive(
        &self,
        queue: Queue,
        max: usize,
        wait: Duration,
        visibility: Duration,
    ) -> Result<Vec<Received>, String> {
        self.bus.receive(queue, max, wait, visibility).await.must("receive")
    }

    /// Receives one message, which has to come soon.
    async fn one(&self, queue: Queue, visibility: Duration) -> Result<Received, String> {
        let mut found = self.receive(queue, 1, SOON, visibility).await?;
        found.pop().ok_or_else(|| "the message does not come".to_owned())
    }

    async fn acknowledge(&self, queue: Queue, receipts: &[Receipt]) -> Check {
        for outcome in self.bus.acknowledge(queue, receipts).await {
            outcome.must("acknowledge")?;
        }
        Ok(())
    }

    async fn extend(&self, receipt: &Receipt, visibility: Duration) -> Check {
        let receipts = std::slice::from_ref(receipt);
        for outcome in self.bus.extend(Queue::Ingest, receipts, visibility).await {
            outcome.must("extend")?;
        }
        Ok(())
    }

    /// Receives and acknowledges until nothing comes; how often each message came.
    async fn drain(&self, queue: Queue) -> Result<BTreeMap<Bytes, usize>, String> {
        let mut seen = BTreeMap::new();
        // Bounds a bus that never forgets a message.
        for _ in 0..200 {
            let found = self.receive(queue, BATCH_MAX, SHORT, LONG).await?;
            if found.is_empty() {
                return Ok(seen);
            }
            let receipts: Vec<Receipt> = found.iter().map(|d| d.receipt.clone()).collect();
            for received in found {
                *seen.entry(received.body).or_insert(0) += 1;
            }
            self.acknowledge(queue, &receipts).await?;
        }
        Err("the queue does not become empty".to_owned())
    }

    async fn drained(&self, queue: Queue, expected: &[Bytes]) -> Check {
        let found: Vec<Bytes> = self.drain(queue).await?.into_keys().collect();
        let mut expected = expected.to_vec();
        expected.sort();
        same(&format!("what {} gave", queue.as_str()), &found, &expected)
    }

    async fn stats(&self, queue: Queue) -> Result<QueueStats, String> {
        self.bus.stats(queue).await.must("stats")
    }
}

async fn an_empty_queue_gives_nothing(context: Context) -> Check {
    for queue in Queue::ALL {
        for wait in [Duration::ZERO, SHORT] {
            let found = context.receive(queue, 1, wait, LONG).await?;
            same("received", &found, &Vec::new())?;
        }
        same("state", &context.stats(queue).await?, &QueueStats::default())?;
    }
    Ok(())
}

async fn every_published_message_is_received(context: Context) -> Check {
    let sent = messages(0..25);
    context.publish(INGEST, &sent).await?;
    context.drained(Queue::Ingest, &sent).await
}

async fn a_healthy_bus_rarely_doubles(context: Context) -> Check {
    context.publish(INGEST, &messages(0..40)).await?;
    let seen = context.drain(Queue::Ingest).await?;
    let total: usize = seen.values().sum();
    that(total <= 44, &format!("40 messages come about 40 times ({total})"))
}

async fn every_entry_has_its_outcome(context: Context) -> Check {
    same("outcomes of no message", &context.bus.publish(INGEST, &[]).await.len(), &0)?;
    let published = context.bus.publish(INGEST, &messages(0..7)).await;
    same("outcomes of publish", &published.len(), &7)?;
    let mut receipts = Vec::new();
    while receipts.len() < 7 {
        let found = context.receive(Queue::Ingest, 7, SOON, LONG).await?;
        that(!found.is_empty(), "all messages come")?;
        receipts.extend(found.into_iter().map(|received| received.receipt));
    }
    let receipts = &receipts[..7];
    let extended = context.bus.extend(Queue::Ingest, receipts, LONG).await;
    same("outcomes of extend", &extended.len(), &7)?;
    let acknowledged = context.bus.acknowledge(Queue::Ingest, receipts).await;
    same("outcomes of acknowledge", &acknowledged.len(), &7)
}

async fn an_outcome_is_true_also_in_too_large_a_batch(context: Context) -> Check {
    let sent = messages(0..BATCH_MAX as u64 + 3);
    let outcomes = context.bus.publish(INGEST, &sent).await;
    same("outcomes", &outcomes.len(), &sent.len())?;
    let seen = context.drain(Queue::Ingest).await?;
    for (message, outcome) in sent.iter().zip(outcomes) {
        if outcome.is_done() {
            that(seen.contains_key(message), "what was published is received")?;
        } else if matches!(outcome, crate::ports::Outcome::Failed(_)) {
            that(!seen.contains_key(message), "what failed is not received")?;
        }
    }
    Ok(())
}

async fn topics_and_queues_reach_their_own_lane(context: Context) -> Check {
    let topics = messages(0..2);
    context.publish(Target::Topic(Topic::TweetEvents), &topics[..1]).await?;
    context.publish(Target::Topic(Topic::GraphEvents), &topics[1..]).await?;
    let bulk = messages(2..4);
    context.publish(Target::Queue(Queue::Bulk), &bulk).await?;
    context.drained(Queue::Ingest, &topics).await?;
    context.drained(Queue::Bulk, &bulk).await
}

async fn no_more_than_asked_for_is_received(context: Context) -> Check {
    context.publish(INGEST, &messages(0..12)).await?;
    let found = context.receive(Queue::Ingest, 2, SOON, LONG).await?;
    that(!found.is_empty() && found.len() <= 2, "one or two are received if two are asked for")?;
    let found = context.receive(Queue::Ingest, 1000, SOON, LONG).await?;
    that(found.len() <= BATCH_MAX, "never more than one batch is received")
}

async fn a_received_message_is_invisible(context: Context) -> Check {
    context.publish(INGEST, &messages(0..1)).await?;
    context.one(Queue::Ingest, LONG).await?;
    let found = context.receive(Queue::Ingest, 1, SHORT, LONG).await?;
    same("received meanwhile", &found, &Vec::new())
}

async fn a_message_that_was_not_acknowledged_comes_again(context: Context) -> Check {
    context.publish(INGEST, &messages(0..1)).await?;
    let mut before = Vec::new();
    for receives in 1..=3 {
        let received = context.one(Queue::Ingest, SHORT).await?;
        same("body", &received.body, &message(0))?;
        same("receives", &received.receives, &receives)?;
        that(!before.contains(&received.receipt), "each receive has a receipt of its own")?;
        before.push(received.receipt);
    }
    Ok(())
}

async fn an_acknowledged_message_never_comes_again(context: Context) -> Check {
    context.publish(INGEST, &messages(0..1)).await?;
    let received = context.one(Queue::Ingest, SHORT).await?;
    let receipts = [received.receipt];
    context.acknowledge(Queue::Ingest, &receipts).await?;
    // The same answer may have been lost, so the call may come again.
    context.acknowledge(Queue::Ingest, &receipts).await?;
    let found = context.receive(Queue::Ingest, 1, SHORT * 2, LONG).await?;
    same("received afterwards", &found, &Vec::new())?;
    same("state", &context.stats(Queue::Ingest).await?, &QueueStats::default())
}

async fn only_the_acknowledged_entries_are_removed(context: Context) -> Check {
    context.publish(INGEST, &messages(0..6)).await?;
    let mut kept = Vec::new();
    for n in 0..6 {
        let received = context.one(Queue::Ingest, LONG).await?;
        if n % 2 == 0 {
            context.acknowledge(Queue::Ingest, &[received.receipt]).await?;
        } else {
            context.extend(&received.receipt, LONG).await?;
            kept.push(received);
        }
    }
    for received in &kept {
        context.extend(&received.receipt, Duration::ZERO).await?;
    }
    let kept: Vec<Bytes> = kept.into_iter().map(|received| received.body).collect();
    context.drained(Queue::Ingest, &kept).await
}

async fn a_stale_receipt_removes_nothing(context: Context) -> Check {
    context.publish(INGEST, &messages(0..1)).await?;
    let first = context.one(Queue::Ingest, SHORT).await?;
    let second = context.one(Queue::Ingest, LONG).await?;
    // Done or not: both are allowed, as long as nothing happens.
    drop(context.bus.acknowledge(Queue::Ingest, &[first.receipt]).await);
    context.extend(&second.receipt, Duration::ZERO).await?;
    context.drained(Queue::Ingest, &messages(0..1)).await
}

async fn extending_keeps_a_message_invisible(context: Context) -> Check {
    context.publish(INGEST, &messages(0..1)).await?;
    let received = context.one(Queue::Ingest, SHORT).await?;
    context.extend(&received.receipt, LONG).await?;
    let found = context.receive(Queue::Ingest, 1, SHORT * 2, LONG).await?;
    same("received after the first time", &found, &Vec::new())
}

async fn extending_by_nothing_gives_a_message_back(context: Context) -> Check {
    context.publish(INGEST, &messages(0..1)).await?;
    let received = context.one(Queue::Ingest, LONG).await?;
    context.extend(&received.receipt, Duration::ZERO).await?;
    context.one(Queue::Ingest, LONG).await.map(drop)
}

async fn a_waiting_receiver_is_woken(context: Context) -> Check {
    let (publisher, receiver) = (context.clone(), context.clone());
    let publish: BoxFuture<'static, Result<Duration, String>> = Box::pin(async move {
        publisher.rt.sleep(SHORT).await;
        publisher.publish(INGEST, &messages(0..1)).await?;
        Ok(Duration::ZERO)
    });
    let receive: BoxFuture<'static, Result<Duration, String>> = Box::pin(async move {
        let start = receiver.rt.now();
        let found = receiver.receive(Queue::Ingest, 1, SOON * 2, LONG).await?;
        same("received", &found.len(), &1)?;
        Ok(receiver.rt.now().since(start))
    });
    for waited in concurrently(&context.rt, [publish, receive]).await? {
        that(waited? < SOON, "a receiver does not wait on when a message is there")?;
    }
    Ok(())
}

async fn receivers_do_not_share_a_message(context: Context) -> Check {
    context.publish(INGEST, &messages(0..20)).await?;
    let receiver = |_| -> BoxFuture<'static, Result<BTreeMap<Bytes, usize>, String>> {
        let context = context.clone();
        Box::pin(async move { context.drain(Queue::Ingest).await })
    };
    let mut total = 0;
    for seen in concurrently(&context.rt, (0..4).map(receiver)).await? {
        total += seen?.values().sum::<usize>();
    }
    // A healthy bus doubles rarely, and never loses.
    that((20..=22).contains(&total), &format!("20 messages come about 20 times ({total})"))
}

async fn parked_messages_wait_until_they_are_redriven(context: Context) -> Check {
    let sent = messages(0..3);
    context.publish(Target::Parked(Queue::Ingest), &sent).await?;
    let found = context.receive(Queue::Ingest, 1, SHORT, LONG).await?;
    same("received before", &found, &Vec::new())?;
    same("parked", &context.stats(Queue::Ingest).await?.parked, &3)?;
    same("parked in the other lane", &context.stats(Queue::Bulk).await?.parked, &0)?;
    same("redriven", &context.bus.redrive(Queue::Ingest, 2).await.must("redrive")?, &2)?;
    same("parked then", &context.stats(Queue::Ingest).await?.parked, &1)?;
    same("redriven", &context.bus.redrive(Queue::Ingest, 9).await.must("redrive")?, &1)?;
    same("redriven", &context.bus.redrive(Queue::Ingest, 9).await.must("redrive")?, &0)?;
    context.drained(Queue::Ingest, &sent).await
}

async fn a_message_is_parked_after_too_many_receives(context: Context) -> Check {
    context.publish(INGEST, &messages(0..1)).await?;
    for receives in 1..=RECEIVES_MAX {
        let received = context.one(Queue::Ingest, Duration::ZERO).await?;
        same("receives", &received.receives, &receives)?;
    }
    let found = context.receive(Queue::Ingest, 1, SHORT, Duration::ZERO).await?;
    same("received too often", &found, &Vec::new())?;
    same("parked", &context.stats(Queue::Ingest).await?.parked, &1)?;
    // What comes back from there has its receives before it.
    same("redriven", &context.bus.redrive(Queue::Ingest, 9).await.must("redrive")?, &1)?;
    same("receives", &context.one(Queue::Ingest, LONG).await?.receives, &1)
}

async fn the_state_tells_what_waits_and_what_is_in_flight(context: Context) -> Check {
    context.publish(INGEST, &messages(0..3)).await?;
    context.rt.sleep(SHORT).await;
    let received = context.one(Queue::Ingest, LONG).await?;
    let stats = context.stats(Queue::Ingest).await?;
    same("depth and in flight", &(stats.depth, stats.in_flight), &(2, 1))?;
    that(stats.oldest_ms >= 40, "the oldest has waited for a while")?;
    that(stats.oldest_ms < 60_000, "the oldest has not waited for long")?;
    same("the other lane", &context.stats(Queue::Bulk).await?, &QueueStats::default())?;
    context.acknowledge(Queue::Ingest, &[received.receipt]).await?;
    let stats = context.stats(Queue::Ingest).await?;
    same("depth and in flight", &(stats.depth, stats.in_flight), &(2, 0))
}

async fn an_outage_is_an_error(context: Context) -> Check {
    let Some(outage) = &context.outage else { return Ok(()) };
    context.publish(INGEST, &messages(0..1)).await?;
    let receipts = [context.one(Queue::Ingest, LONG).await?.receipt];
    outage.begin();
    let bus = &context.bus;
    let mut outcomes = bus.publish(INGEST, &messages(0..2)).await;
    same("outcomes of publish", &outcomes.len(), &2)?;
    outcomes.extend(bus.acknowledge(Queue::Ingest, &receipts).await);
    outcomes.extend(bus.extend(Queue::Ingest, &receipts, LONG).await);
    same("outcomes", &outcomes.len(), &4)?;
    outcomes.iter().try_for_each(|outcome| not_done("an entry", outcome))?;
    not_done("redrive", &bus.redrive(Queue::Ingest, 1).await)?;
    is_error("receive", &bus.receive(Queue::Ingest, 1, Duration::ZERO, LONG).await)?;
    is_error("stats", &bus.stats(Queue::Ingest).await)
}
