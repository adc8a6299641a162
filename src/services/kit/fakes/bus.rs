//! An outbox and a bus in memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;

use super::{Plan, Wrong};
use crate::ports::{
    Bus, Outbox, OutboxRow, OutboxStats, Outcome, Queue, QueueStats, Read, Receipt, Received,
    Target,
};

/// Event, claimed until, sent at.
type Row = (Bytes, u64, Option<u64>);

/// An outbox in memory.
#[derive(Default)]
pub(in crate::services) struct MemOutbox {
    pub(in crate::services) rows: Mutex<BTreeMap<u64, Row>>,
    pub(in crate::services) plan: Plan,
}

impl MemOutbox {
    pub(in crate::services) fn add(&self, event: Bytes) {
        let mut rows = self.rows.lock();
        let seq = rows.len() as u64 + 1;
        rows.insert(seq, (event, 0, None));
    }

    pub(in crate::services) fn unsent(&self) -> usize {
        self.rows.lock().values().filter(|row| row.2.is_none()).count()
    }
}

#[async_trait]
impl Outbox for MemOutbox {
    async fn claim(&self, limit: usize, now_ms: u64, lease: Duration) -> Outcome<Vec<OutboxRow>> {
        self.plan.write(|| {
            let mut rows = self.rows.lock();
            let free = rows.iter_mut().filter(|(_, row)| row.2.is_none() && row.1 <= now_ms);
            free.take(limit)
                .map(|(&seq, row)| {
                    row.1 = now_ms + lease.as_millis() as u64;
                    OutboxRow { seq, event: row.0.clone() }
                })
                .collect()
        })
    }

    async fn mark_sent(&self, seqs: &[u64], now_ms: u64) -> Outcome<()> {
        self.plan.write(|| {
            let mut rows = self.rows.lock();
            for seq in seqs {
                rows.get_mut(seq).unwrap().2 = Some(now_ms);
            }
        })
    }

    async fn release(&self, seqs: &[u64]) -> Outcome<()> {
        let mut rows = self.rows.lock();
        for seq in seqs {
            rows.get_mut(seq).unwrap().1 = 0;
        }
        Outcome::Done(())
    }

    async fn replay(&self, _since_ms: u64) -> Outcome<u64> {
        let mut rows = self.rows.lock();
        let count = rows.len() as u64;
        for row in rows.values_mut() {
            (row.1, row.2) = (0, None);
        }
        Outcome::Done(count)
    }

    async fn prune(&self, _before_ms: u64) -> Outcome<u64> {
        Outcome::Done(0)
    }

    async fn stats(&self) -> Read<OutboxStats> {
        Ok(OutboxStats { unsent: self.unsent() as u64, oldest_ms: None })
    }
}

/// A bus that takes messages and may refuse those that hold a text.
#[derive(Default)]
pub(in crate::services) struct MemBus {
    pub(in crate::services) messages: Mutex<Vec<Bytes>>,
    /// Messages with this text end so.
    pub(in crate::services) poison: Mutex<Option<(String, Wrong)>>,
    /// Parked messages, of which there is only the number.
    pub(in crate::services) parked: Mutex<BTreeMap<Queue, u64>>,
    /// The calls of redrive, with their bound.
    pub(in crate::services) redriven: Mutex<Vec<(Queue, usize)>>,
    /// How many messages each call asked more time for; held, it lets none through.
    pub(in crate::services) extended: tokio::sync::Mutex<Vec<usize>>,
}

#[async_trait]
impl Bus for MemBus {
    async fn publish(&self, _to: Target, messages: &[Bytes]) -> Vec<Outcome<()>> {
        let poison = self.poison.lock().clone();
        let one = |message: &Bytes| {
            let text = String::from_utf8_lossy(message);
            let plan = Plan::default();
            plan.next([poison.as_ref().filter(|(bad, _)| text.contains(bad)).map(|p| p.1)]);
            plan.write(|| self.messages.lock().push(message.clone()))
        };
        messages.iter().map(one).collect()
    }

    async fn receive(
        &self,
        _queue: Queue,
        _max: usize,
        _wait: Duration,
        _visibility: Duration,
    ) -> Read<Vec<Received>> {
        Ok(Vec::new())
    }

    async fn acknowledge(&self, _queue: Queue, receipts: &[Receipt]) -> Vec<Outcome<()>> {
        receipts.iter().map(|_| Outcome::Done(())).collect()
    }

    async fn extend(
        &self,
        _queue: Queue,
        receipts: &[Receipt],
        _visibility: Duration,
    ) -> Vec<Outcome<()>> {
        self.extended.lock().await.push(receipts.len());
        receipts.iter().map(|_| Outcome::Done(())).collect()
    }

    async fn redrive(&self, queue: Queue, max: usize) -> Outcome<u64> {
        self.redriven.lock().push((queue, max));
        let mut parked = self.parked.lock();
        let left = parked.entry(queue).or_default();
        let moved = (*left).min(max as u64);
        *left -= moved;
        Outcome::Done(moved)
    }

    async fn stats(&self, queue: Queue) -> Read<QueueStats> {
        let parked = self.parked.lock().get(&queue).copied().unwrap_or(0);
        Ok(QueueStats { parked, ..QueueStats::default() })
    }
}

impl MemBus {
    /// The ids in all events that were published, in their order.
    pub(in crate::services) fn ids(&self) -> Vec<u64> {
        let messages = self.messages.lock();
        let events = messages.iter().flat_map(|m| crate::wire::events::unpack(m).unwrap().events);
        let id = |raw: Box<serde_json::value::RawValue>| {
            let event: serde_json::Value = serde_json::from_str(raw.get()).unwrap();
            event["id"].as_str().unwrap().parse().unwrap()
        };
        events.map(id).collect()
    }

    /// The same without repetitions.
    pub(in crate::services) fn distinct_ids(&self) -> BTreeSet<u64> {
        self.ids().into_iter().collect()
    }
}
