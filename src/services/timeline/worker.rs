//! The queue half: receive, apply, acknowledge. A step and a loop per lane.
//!
//! Order inside a step: bodies, then deletes and edges, then the pushes that make them seen; a
//! message is acknowledged after all of it. What cannot be decoded is parked at once. What fails is
//! given back, and a message that has come too often is sent anew, so that no outage, however long,
//! parks anything.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, stream};

use super::{Core, apply::body_of, fanout::Chunk};
use crate::{
    domain::{
        Body, PairChange, TweetId, UserId,
        fanout::{Class, Strategy},
    },
    ports::{
        Bus, Queue, Read, Receipt, Received, StoreError, Target, bus::RECEIVES_MAX,
        timeline_store::IDS_MAX,
    },
    rt::{Rt, Shutdown, points},
    wire::events::{Event, Fact, pack, unpack},
};

/// Events of one step whose fan-out runs side by side.
const FANOUTS_AT_ONCE: usize = 8;
/// A message received more often than this is sent anew, long before the bus would park it.
const RESEND_AFTER: u32 = RECEIVES_MAX / 10;
/// The pause after failures doubles up to this many times.
const BACKOFF_DOUBLINGS: u32 = 6;
/// Tweets or edges written to the store in one call.
const WRITE_BATCH: usize = 100;

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing was waiting.
    Idle,
    /// This many messages were dealt with.
    Worked(usize),
    /// Something did not do its part; what is not done comes again.
    Failed,
}

/// A received message, decoded.
struct Message {
    received: Received,
    /// Which of the step's events are its.
    events: std::ops::Range<usize>,
}

/// How often more time is asked for: ten minutes with the default of 30 s. Work that lasts longer is
/// taken for lost, and its messages come to somebody else.
const EXTENSIONS_MAX: usize = 60;

/// Messages that nobody else is to be given while they are worked on.
struct Hidden<'a> {
    lane: Queue,
    receipts: &'a [Receipt],
    visibility: Duration,
}

impl Hidden<'_> {
    /// Does `work`, and asks for more time as long as it lasts. Beside it, not between its steps: the
    /// call may wait for something that a fan-out holds, and nobody would then let that one go on.
    async fn during<T>(&self, rt: &Rt, bus: &dyn Bus, work: impl Future<Output = T>) -> T {
        let ended = Shutdown::new();
        let work = async {
            let out = work.await;
            ended.cancel();
            out
        };
        let extend = async {
            for _ in 0..EXTENSIONS_MAX {
                if rt.timeout(self.visibility / 3, ended.cancelled()).await.is_ok() {
                    return;
                }
                // Not extended only means that somebody else does the same again.
                let _ = bus.extend(self.lane, self.receipts, self.visibility).await;
            }
        };
        futures_util::join!(work, extend).0
    }
}

/// Runs steps of `lane` until the shutdown.
pub(super) async fn run(core: Arc<Core>, lane: Queue) {
    let mut failures: u32 = 0;
    while !core.common.shutdown.is_cancelled() {
        let step = tokio::select! {
            biased;
            () = core.common.shutdown.cancelled() => return,
            received = core.receive(lane) => match received {
                Ok(batch) if batch.is_empty() => Step::Idle,
                // A batch that was received is finished even if the shutdown comes meanwhile.
                Ok(batch) => core.work(lane, batch, failures).await,
                Err(error) => {
                    core.note(&error);
                    Step::Failed
                }
            },
        };
        if step == Step::Failed {
            let pause = core.pause(failures);
            failures = failures.saturating_add(1);
            tokio::select! {
                biased;
                () = core.common.shutdown.cancelled() => return,
                () = core.common.rt.sleep(pause) => {}
            }
        } else {
            failures = 0;
        }
    }
}

impl Core {
    async fn receive(&self, lane: Queue) -> Read<Vec<Received>> {
        let config = &self.config.fanout;
        let most = config.receive_max as usize;
        self.deps.bus.receive(lane, most, config.receive_wait(), config.visibility()).await
    }

    /// Deals with received messages.
    pub(super) async fn work(&self, lane: Queue, batch: Vec<Received>, failures: u32) -> Step {
        self.common.rt.point(points::WORKER).await;
        let count = batch.len();
        let (messages, events) = match self.decode(lane, batch).await {
            Ok(decoded) => decoded,
            Err(error) => {
                self.note(&error);
                return Step::Failed;
            }
        };
        let receipts: Vec<Receipt> = messages.iter().map(|m| m.received.receipt.clone()).collect();
        let hidden =
            Hidden { lane, receipts: &receipts, visibility: self.config.fanout.visibility() };
        let work = self.process(&events);
        let done = hidden.during(&self.common.rt, &*self.deps.bus, work).await;
        let mut finished = Vec::new();
        let mut again = Vec::new();
        for message in messages {
            if done[message.events.clone()].iter().all(|&ok| ok)
                || self.resend(lane, &message, &events, &done).await
            {
                finished.push(message.received.receipt);
            } else {
                again.push(message.received.receipt);
            }
        }
        self.common.rt.point(points::ACK).await;
        if !finished.is_empty() {
            // An acknowledgement that fails only means that the messages come again.
            let _ = self.deps.bus.acknowledge(lane, &finished).await;
        }
        self.common.rt.point(points::ACK).await;
        if again.is_empty() {
            return Step::Worked(count);
        }
        let _ = self.deps.bus.extend(lane, &again, self.pause(failures)).await;
        Step::Failed
    }

    /// Decodes messages. What this build does not understand is parked, apart from its neighbours.
    async fn decode(&self, lane: Queue, batch: Vec<Received>) -> Read<(Vec<Message>, Vec<Event>)> {
        let mut messages = Vec::with_capacity(batch.len());
        let mut events = Vec::new();
        let mut unknown = Vec::new();
        for received in batch {
            let first = events.len();
            match unpack(&received.body) {
                Ok(envelope) => {
                    for raw in envelope.events {
                        match Event::decode(raw.get().as_bytes()) {
                            Ok(event) => events.push(event),
                            Err(error) => {
                                tracing::error!(lane = lane.as_str(), %error, "event parked");
                                unknown.extend(pack(&[Bytes::from(raw.get().to_owned())]));
                            }
                        }
                    }
                }
                Err(error) => {
                    tracing::error!(lane = lane.as_str(), %error, "message parked");
                    unknown.push((received.body.clone(), 1));
                }
            }
            messages.push(Message { received, events: first..events.len() });
        }
        for (message, _) in unknown {
            for outcome in self.deps.bus.publish(Target::Parked(lane), &[message]).await {
                outcome.certain()?;
            }
        }
        Ok((messages, events))
    }

    /// Applies events; one answer each, whether all of it is certain.
    async fn process(&self, events: &[Event]) -> Vec<bool> {
        let mut done = vec![true; events.len()];
        self.store_tweets(events, &mut done).await;
        self.store_changes(events, &mut done).await;
        let classes = self.classes(events, &mut done).await;
        // An event whose write is not certain waits for its next coming.
        let stored: Vec<usize> = (0..events.len()).filter(|&at| done[at]).collect();
        let mut steps = stream::iter(stored)
            .map(|at| (at, classes[at]))
            .map(|(at, class)| async move { (at, self.finish(&events[at], class).await) })
            .buffer_unordered(FANOUTS_AT_ONCE);
        while let Some((at, result)) = steps.next().await {
            if let Err(error) = result {
                self.note(&error);
                done[at] = false;
            }
        }
        done
    }

    /// Bodies first: whoever gets a delivery can read the tweet.
    async fn store_tweets(&self, events: &[Event], done: &mut [bool]) {
        let (places, bodies): (Vec<usize>, Vec<Body>) =
            events.iter().enumerate().filter_map(|(at, event)| Some((at, body_of(event)?))).unzip();
        for (places, bodies) in places.chunks(WRITE_BATCH).zip(bodies.chunks(WRITE_BATCH)) {
            let result = self.put_tweets(bodies).await;
            self.mark(places, result, done);
        }
        self.common.rt.point(points::WORKER).await;
    }

    async fn store_changes(&self, events: &[Event], done: &mut [bool]) {
        let (places, changes): (Vec<usize>, Vec<PairChange>) = events
            .iter()
            .enumerate()
            .filter_map(|(at, event)| Some((at, event.fact.pair_change()?)))
            .unzip();
        for (places, changes) in places.chunks(WRITE_BATCH).zip(changes.chunks(WRITE_BATCH)) {
            let result = self.put_pairs(changes).await;
            self.mark(places, result, done);
        }
        let deleted = |event: &Event| match event.fact {
            Fact::TweetDeleted { id, .. } => Some(id),
            Fact::TweetCreated { .. }
            | Fact::GraphChanged { .. }
            | Fact::FanoutChunk { .. }
            | Fact::ReclassChunk { .. } => None,
        };
        let (places, ids): (Vec<usize>, Vec<TweetId>) =
            events.iter().enumerate().filter_map(|(at, event)| Some((at, deleted(event)?))).unzip();
        for (places, ids) in places.chunks(WRITE_BATCH).zip(ids.chunks(WRITE_BATCH)) {
            let result = self.delete(ids).await;
            self.mark(places, result, done);
        }
    }

    /// The class of the author of every new tweet, at the place of its event. Read once for all, and
    /// after the tweets are stored: whoever reads an author at read time by then finds them there.
    async fn classes(&self, events: &[Event], done: &mut [bool]) -> Vec<Class> {
        let mut classes = vec![self.strategy().class(Class::Push); events.len()];
        if self.strategy() != Strategy::Hybrid {
            return classes;
        }
        let author = |event: &Event| match event.fact {
            Fact::TweetCreated { author, .. } => Some(author),
            Fact::TweetDeleted { .. }
            | Fact::GraphChanged { .. }
            | Fact::FanoutChunk { .. }
            | Fact::ReclassChunk { .. } => None,
        };
        let (places, authors): (Vec<usize>, Vec<UserId>) = (0..events.len())
            .filter(|&at| done[at])
            .filter_map(|at| Some((at, author(&events[at])?)))
            .unzip();
        for (places, authors) in places.chunks(IDS_MAX).zip(authors.chunks(IDS_MAX)) {
            match self.deps.store.authors(authors).await {
                Ok(rows) => {
                    for (&at, row) in places.iter().zip(rows) {
                        classes[at] = row.class;
                    }
                }
                Err(error) => self.mark(places, Err(error), done),
            }
        }
        classes
    }

    /// What comes after the stores are written; `class` is that of a new tweet's author.
    async fn finish(&self, event: &Event, class: Class) -> Read<()> {
        if let Some(chunk) = Chunk::of(&event.fact) {
            return self.run_chunk(event, chunk).await;
        }
        match &event.fact {
            Fact::TweetCreated { id, author, .. } => {
                let entry = crate::domain::Entry { tweet: *id, author: *author };
                self.fan_out(event, entry, class).await
            }
            Fact::GraphChanged { low, high, low_followers, high_followers, .. } => {
                if let Some(change) = event.fact.pair_change() {
                    self.backfill(&change).await?;
                }
                self.maybe_reclass(*low, *low_followers).await?;
                self.maybe_reclass(*high, *high_followers).await
            }
            Fact::ReclassChunk { author, after } => self.run_reclass(event, *author, *after).await,
            Fact::TweetDeleted { .. } | Fact::FanoutChunk { .. } => Ok(()),
        }
    }

    /// Sends the undone events of a message anew, each alone, so that the message can be
    /// acknowledged: if others of it are done, or if it has come too often. `false` if not.
    async fn resend(
        &self,
        lane: Queue,
        message: &Message,
        events: &[Event],
        done: &[bool],
    ) -> bool {
        let own = message.events.clone();
        let tired = message.received.receives > RESEND_AFTER;
        if !tired && !done[own.clone()].iter().any(|&ok| ok) {
            return false;
        }
        for at in own.filter(|&at| !done[at]) {
            for (alone, _) in pack(&[events[at].encode()]) {
                let outcomes = self.deps.bus.publish(Target::Queue(lane), &[alone]).await;
                if !outcomes.iter().all(crate::ports::Outcome::is_done) {
                    return false;
                }
            }
        }
        true
    }

    fn mark(&self, places: &[usize], result: Read<()>, done: &mut [bool]) {
        if let Err(error) = result {
            self.note(&error);
            for &at in places {
                done[at] = false;
            }
        }
    }

    /// The pause after `failures` failed steps in a row.
    fn pause(&self, failures: u32) -> Duration {
        let factor = 1 << failures.min(BACKOFF_DOUBLINGS);
        self.common.rt.jitter(self.config.fanout.retry() * factor)
    }

    fn note(&self, error: &StoreError) {
        self.common.metrics.store_error(error);
        tracing::warn!(store = error.store, kind = error.kind.as_str(), %error, "worker step failed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::kit::fakes::{MemBus, World};

    #[tokio::test(start_paused = true)]
    async fn work_goes_on_while_the_call_for_more_time_waits_for_it() {
        let (rt, bus) = (World::new().rt, MemBus::default());
        let visibility = Duration::from_secs(30);
        let receipts = [Receipt("a".to_owned()), Receipt("b".to_owned())];
        let hidden = Hidden { lane: Queue::Ingest, receipts: &receipts, visibility };
        let work = async {
            let held = bus.extended.lock().await;
            rt.sleep(visibility / 2).await;
            drop(held);
            rt.sleep(visibility).await;
            "done"
        };
        let done = rt.timeout(visibility * 9, hidden.during(&rt, &bus, work)).await;
        assert_eq!(done, Ok("done"));
        assert_eq!(*bus.extended.lock().await, [2, 2, 2], "after 15, 25 and 35 s of 45");
    }
}
