//! The bus: messages come twice, late, in any order, and again after they were acknowledged.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Notify;

use super::{
    State,
    link::{Chance, Link},
};
use crate::ports::{
    Bus, Kind, Outcome, Queue, QueueStats, Read, Receipt, Received, StoreError, Target,
    bus::{BATCH_MAX, MESSAGE_BYTES_MAX, RECEIVES_MAX},
};

struct Message {
    body: Bytes,
    receives: u32,
    visible_at_ms: u64,
    sent_at_ms: u64,
    /// Received, and neither acknowledged nor given back.
    held: bool,
}

#[derive(Default)]
struct Lane {
    messages: BTreeMap<u64, Message>,
    parked: BTreeMap<u64, Bytes>,
    arrived: Arc<Notify>,
}

/// Both lanes.
#[derive(Default)]
pub(super) struct Lanes {
    ingest: Lane,
    bulk: Lane,
    last: u64,
}

impl Lanes {
    fn lane(&mut self, queue: Queue) -> &mut Lane {
        match queue {
            Queue::Ingest => &mut self.ingest,
            Queue::Bulk => &mut self.bulk,
        }
    }

    fn put(&mut self, to: Target, body: &Bytes, now: u64, delay_ms: u64) {
        self.last += 1;
        let id = self.last;
        let queue = match to {
            Target::Topic(_) => Queue::Ingest,
            Target::Queue(queue) => queue,
            Target::Parked(queue) => {
                self.lane(queue).parked.insert(id, body.clone());
                return;
            }
        };
        let message = Message {
            body: body.clone(),
            receives: 0,
            visible_at_ms: now + delay_ms,
            sent_at_ms: now,
            held: false,
        };
        let lane = self.lane(queue);
        lane.messages.insert(id, message);
        lane.arrived.notify_waiters();
    }

    fn take(&mut self, queue: Queue, ask: &Ask, now: u64) -> Vec<Received> {
        let lane = self.lane(queue);
        let mut ready: Vec<(u64, u64)> = lane
            .messages
            .iter()
            .filter(|(_, m)| m.visible_at_ms <= now)
            .map(|(id, m)| (m.visible_at_ms, *id))
            .collect();
        ready.sort_unstable();
        if let Some(turn) = ask.reorder
            && !ready.is_empty()
        {
            let by = turn as usize % ready.len();
            ready.rotate_left(by);
        }
        let mut taken = Vec::new();
        for (_, id) in ready {
            if taken.len() == ask.max {
                break;
            }
            let Some(message) = lane.messages.get_mut(&id) else { continue };
            if message.receives >= RECEIVES_MAX {
                let body = message.body.clone();
                lane.messages.remove(&id);
                lane.parked.insert(id, body);
                continue;
            }
            message.receives += 1;
            message.visible_at_ms = now + if ask.twice { 0 } else { ask.visibility_ms };
            message.held = true;
            let receipt = Receipt(format!("{id}.{}", message.receives));
            let (body, receives) = (message.body.clone(), message.receives);
            taken.push(Received { receipt, body, receives });
        }
        taken
    }

    /// When the next message becomes visible.
    fn next_at(&mut self, queue: Queue) -> Option<u64> {
        self.lane(queue).messages.values().map(|m| m.visible_at_ms).min()
    }

    /// The message that a receipt names, if it was not received again since.
    fn named(&mut self, queue: Queue, receipt: &Receipt) -> Option<(u64, &mut Message)> {
        let (id, receives) = parse(receipt)?;
        let message = self.lane(queue).messages.get_mut(&id)?;
        (message.receives == receives).then_some((id, message))
    }

    fn redrive(&mut self, queue: Queue, max: usize, now: u64) -> u64 {
        let mut moved = 0;
        while moved < max as u64
            && let Some((_, body)) = self.lane(queue).parked.pop_first()
        {
            // A new message: receipts of the old one must not fit it.
            self.put(Target::Queue(queue), &body, now, 0);
            moved += 1;
        }
        moved
    }

    pub(super) fn stats(&mut self, queue: Queue, now: u64) -> QueueStats {
        let lane = self.lane(queue);
        let in_flight = lane.messages.values().filter(|m| m.held && m.visible_at_ms > now).count();
        let oldest = lane.messages.values().map(|m| m.sent_at_ms).min();
        QueueStats {
            depth: (lane.messages.len() - in_flight) as u64,
            in_flight: in_flight as u64,
            oldest_ms: oldest.map_or(0, |at| now - at),
            parked: lane.parked.len() as u64,
        }
    }
}

fn parse(receipt: &Receipt) -> Option<(u64, u32)> {
    let (id, receives) = receipt.0.split_once('.')?;
    Some((id.parse().ok()?, receives.parse().ok()?))
}

/// How a receive goes.
struct Ask {
    max: usize,
    visibility_ms: u64,
    reorder: Option<u64>,
    /// The messages stay visible, and so are received twice.
    twice: bool,
}

/// What becomes of one entry of a call, decided before it.
#[derive(Clone, Copy)]
enum Fate {
    Fine,
    /// It does not happen, and the caller knows.
    Fails,
    /// It happens or not, and the caller does not know.
    Unclear {
        happens: bool,
    },
}

/// The bus at one node.
pub(super) struct SimBus(pub(super) Link);

impl SimBus {
    fn fates(&self, count: usize) -> Vec<Fate> {
        let p = self.0.world.knobs().entry;
        let fate = |_| match self.0.hit(Chance::Entry, p) {
            None => Fate::Fine,
            Some(size) if size % 2 == 0 => Fate::Fails,
            Some(size) => Fate::Unclear { happens: size % 4 == 1 },
        };
        (0..count).map(fate).collect()
    }

    /// A call with an outcome per entry; `apply` is told which entries happen and says how each
    /// ended.
    async fn each<A>(
        &self,
        op: &'static str,
        args: impl std::fmt::Debug + Send,
        count: usize,
        apply: A,
    ) -> Vec<Outcome<()>>
    where
        A: FnOnce(&mut State, u64, &[bool]) -> Vec<Read<()>> + Send + 'static,
    {
        if count > BATCH_MAX {
            let error = self.0.error(Kind::Unavailable, "more messages than one call may have");
            return vec![Outcome::Failed(error); count];
        }
        let fates = self.fates(count);
        let happens: Vec<bool> = fates
            .iter()
            .map(|f| matches!(f, Fate::Fine | Fate::Unclear { happens: true }))
            .collect();
        let step = move |state: &mut State, now| Ok(apply(state, now, &happens));
        let results = match self.0.write(op, args, step).await {
            Outcome::Done(results) => results,
            Outcome::Failed(error) => return vec![Outcome::Failed(error); count],
            Outcome::Unknown(error) => return vec![Outcome::Unknown(error); count],
        };
        let judge = |(fate, result): (Fate, Read<()>)| match (fate, result) {
            (Fate::Fine, Ok(())) => Outcome::Done(()),
            (Fate::Fine, Err(error)) => Outcome::Failed(error),
            (Fate::Fails, _) => Outcome::Failed(self.0.error(Kind::Unavailable, "entry refused")),
            (Fate::Unclear { .. }, _) => {
                Outcome::Unknown(self.0.error(Kind::Timeout, "no answer for the entry"))
            }
        };
        fates.into_iter().zip(results).map(judge).collect()
    }

    /// Delay of a message; of two numbers if it is there twice.
    fn delays(&self) -> Vec<u64> {
        let knobs = self.0.world.knobs();
        let delay = || {
            let late = self.0.hit(Chance::Delay, knobs.delay);
            late.map_or(0, |size| size % (knobs.delay_ms + 1))
        };
        let mut delays = vec![delay()];
        if let Some(size) = self.0.hit(Chance::Duplicate, knobs.duplicate) {
            delays.push(size % (knobs.delay_ms + 1));
        }
        delays
    }

    fn ask(&self, max: usize, visibility: Duration) -> Ask {
        let knobs = self.0.world.knobs();
        Ask {
            max: max.clamp(1, BATCH_MAX),
            visibility_ms: millis(visibility),
            reorder: self.0.hit(Chance::Reorder, knobs.reorder),
            twice: self.0.hit(Chance::Duplicate, knobs.duplicate).is_some(),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX / 2)
}

fn refused(message: &str) -> StoreError {
    StoreError::new(Kind::Unavailable, "bus", message)
}

#[async_trait]
impl Bus for SimBus {
    async fn publish(&self, to: Target, messages: &[Bytes]) -> Vec<Outcome<()>> {
        let bodies = messages.to_vec();
        let delays: Vec<Vec<u64>> = messages.iter().map(|_| self.delays()).collect();
        let put = move |state: &mut State, now, happens: &[bool]| {
            let entries = bodies.iter().zip(&delays).zip(happens);
            let one = |((body, delays), happens): ((&Bytes, &Vec<u64>), &bool)| {
                if body.len() > MESSAGE_BYTES_MAX {
                    return Err(refused("the message is too large"));
                }
                if *happens {
                    for &delay in delays {
                        state.bus.put(to, body, now, delay);
                    }
                }
                Ok(())
            };
            entries.map(one).collect()
        };
        self.each("publish", (to, messages), messages.len(), put).await
    }

    async fn receive(
        &self,
        queue: Queue,
        max: usize,
        wait: Duration,
        visibility: Duration,
    ) -> Read<Vec<Received>> {
        let deadline = self.0.world.now_ms() + millis(wait);
        let arrived = self.0.world.with(|state, _| state.bus.lane(queue).arrived.clone());
        loop {
            // Listens before it looks, so that no message arrives unheard between the two.
            let mut arrival = std::pin::pin!(arrived.notified());
            arrival.as_mut().enable();
            let now = self.0.world.now_ms();
            let next_at = self.0.world.with(|state, _| state.bus.next_at(queue));
            if next_at.is_some_and(|at| at <= now) || now >= deadline || !self.0.reachable() {
                let ask = self.ask(max, visibility);
                let take = move |state: &mut State, now| Ok(state.bus.take(queue, &ask, now));
                let taken = self.0.write("receive", (queue, max), take).await.certain()?;
                if !taken.is_empty() || self.0.world.now_ms() >= deadline {
                    return Ok(taken);
                }
                continue;
            }
            let wake_at = next_at.unwrap_or(deadline).min(deadline);
            let pause = Duration::from_millis(wake_at - now);
            // An arrival and the end of the pause mean the same: look again.
            let _ = self.0.rt.timeout(pause, arrival).await;
        }
    }

    async fn acknowledge(&self, queue: Queue, receipts: &[Receipt]) -> Vec<Outcome<()>> {
        let owned = receipts.to_vec();
        let p = self.0.world.knobs().duplicate;
        let again: Vec<bool> =
            receipts.iter().map(|_| self.0.hit(Chance::Duplicate, p).is_some()).collect();
        let remove = move |state: &mut State, _, happens: &[bool]| {
            let entries = owned.iter().zip(again).zip(happens);
            let one = |((receipt, again), happens): ((&Receipt, bool), &bool)| {
                parse(receipt).ok_or_else(|| refused("not a receipt"))?;
                // A message that "comes again" simply stays, as in SQS, until it is visible again.
                if *happens
                    && !again
                    && let Some((id, _)) = state.bus.named(queue, receipt)
                {
                    state.bus.lane(queue).messages.remove(&id);
                }
                Ok(())
            };
            entries.map(one).collect()
        };
        self.each("acknowledge", (queue, receipts), receipts.len(), remove).await
    }

    async fn extend(
        &self,
        queue: Queue,
        receipts: &[Receipt],
        visibility: Duration,
    ) -> Vec<Outcome<()>> {
        let owned = receipts.to_vec();
        let visibility_ms = millis(visibility);
        let extend = move |state: &mut State, now, happens: &[bool]| {
            let one = |(receipt, happens): (&Receipt, &bool)| {
                let (_, message) = state
                    .bus
                    .named(queue, receipt)
                    .ok_or_else(|| refused("the receipt is stale"))?;
                if *happens {
                    message.visible_at_ms = now + visibility_ms;
                    message.held = visibility_ms > 0;
                }
                Ok(())
            };
            let results = owned.iter().zip(happens).map(one).collect();
            state.bus.lane(queue).arrived.notify_waiters();
            results
        };
        self.each("extend", (queue, receipts, visibility_ms), receipts.len(), extend).await
    }

    async fn redrive(&self, queue: Queue, max: usize) -> Outcome<u64> {
        let redrive = move |state: &mut State, now| Ok(state.bus.redrive(queue, max, now));
        self.0.write("redrive", (queue, max), redrive).await
    }

    async fn stats(&self, queue: Queue) -> Read<QueueStats> {
        self.0.read("stats", queue, move |state, now| Ok(state.bus.stats(queue, now))).await
    }
}
