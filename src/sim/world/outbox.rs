//! The outboxes. A transaction may take its number early, so that numbers become visible out of
//! their order.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;

use super::{State, link::Link};
use crate::{
    ports::{Outbox, OutboxRow, OutboxStats, Outcome, Read},
    wire::events::Event,
};

/// A row of an outbox, as checkers see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxView {
    /// The row's number.
    pub seq: u64,
    /// The encoded event.
    pub event: Bytes,
    /// When it was committed, in milliseconds since the Unix epoch, by the writer's clock.
    pub at_ms: u64,
    /// When it was sent, if it was.
    pub sent_at_ms: Option<u64>,
    lease_until_ms: u64,
}

/// The rows of one outbox.
#[derive(Default)]
pub(super) struct Rows {
    rows: BTreeMap<u64, OutboxView>,
    last: u64,
}

impl Rows {
    /// The next number.
    pub(super) fn reserve(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Adds an event, under a number that was taken before or the next one.
    pub(super) fn add(&mut self, seq: Option<u64>, event: &Event) {
        let seq = seq.unwrap_or_else(|| self.reserve());
        let row = OutboxView {
            seq,
            event: event.encode(),
            at_ms: event.at_ms,
            sent_at_ms: None,
            lease_until_ms: 0,
        };
        self.rows.insert(seq, row);
    }

    pub(super) fn unsent(&self) -> u64 {
        self.rows.values().filter(|row| row.sent_at_ms.is_none()).count() as u64
    }

    pub(super) fn view(&self) -> Vec<OutboxView> {
        self.rows.values().cloned().collect()
    }

    fn claim(&mut self, limit: usize, now_ms: u64, lease_ms: u64) -> Vec<OutboxRow> {
        let free = |row: &&mut OutboxView| row.sent_at_ms.is_none() && row.lease_until_ms <= now_ms;
        let claimed = self.rows.values_mut().filter(free).take(limit);
        claimed
            .map(|row| {
                row.lease_until_ms = now_ms.saturating_add(lease_ms);
                OutboxRow { seq: row.seq, event: row.event.clone() }
            })
            .collect()
    }

    /// Changes those of the rows that are not sent.
    fn each_unsent(&mut self, seqs: &[u64], change: impl Fn(&mut OutboxView)) {
        for seq in seqs {
            if let Some(row) = self.rows.get_mut(seq)
                && row.sent_at_ms.is_none()
            {
                change(row);
            }
        }
    }

    fn replay(&mut self, since_ms: u64) -> u64 {
        let sent = |row: &&mut OutboxView| row.sent_at_ms.is_some() && row.at_ms >= since_ms;
        self.rows
            .values_mut()
            .filter(sent)
            .map(|row| {
                row.sent_at_ms = None;
                row.lease_until_ms = 0;
            })
            .count() as u64
    }

    fn prune(&mut self, before_ms: u64) -> u64 {
        let all = self.rows.len();
        self.rows.retain(|_, row| row.sent_at_ms.is_none_or(|at| at >= before_ms));
        (all - self.rows.len()) as u64
    }
}

/// An outbox at one node.
pub(super) struct SimOutbox {
    pub(super) link: Link,
    pub(super) rows: fn(&mut State) -> &mut Rows,
}

#[async_trait]
impl Outbox for SimOutbox {
    async fn claim(&self, limit: usize, now_ms: u64, lease: Duration) -> Outcome<Vec<OutboxRow>> {
        let rows = self.rows;
        let lease_ms = u64::try_from(lease.as_millis()).unwrap_or(u64::MAX);
        let claim = move |state: &mut State, _| Ok(rows(state).claim(limit, now_ms, lease_ms));
        self.link.write("claim", (limit, now_ms, lease_ms), claim).await
    }

    async fn mark_sent(&self, seqs: &[u64], now_ms: u64) -> Outcome<()> {
        let (rows, owned) = (self.rows, seqs.to_vec());
        let mark = move |state: &mut State, _| {
            rows(state).each_unsent(&owned, |row| row.sent_at_ms = Some(now_ms));
            Ok(())
        };
        self.link.write("mark_sent", seqs, mark).await
    }

    async fn release(&self, seqs: &[u64]) -> Outcome<()> {
        let (rows, owned) = (self.rows, seqs.to_vec());
        let release = move |state: &mut State, _| {
            rows(state).each_unsent(&owned, |row| row.lease_until_ms = 0);
            Ok(())
        };
        self.link.write("release", seqs, release).await
    }

    async fn replay(&self, since_ms: u64) -> Outcome<u64> {
        let rows = self.rows;
        let replay = move |state: &mut State, _| Ok(rows(state).replay(since_ms));
        self.link.write("replay", since_ms, replay).await
    }

    async fn prune(&self, before_ms: u64) -> Outcome<u64> {
        let rows = self.rows;
        let prune = move |state: &mut State, _| Ok(rows(state).prune(before_ms));
        self.link.write("prune", before_ms, prune).await
    }

    async fn stats(&self) -> Read<OutboxStats> {
        let rows = self.rows;
        let stats = move |state: &mut State, _| {
            let rows = &rows(state).rows;
            let unsent = rows.values().filter(|row| row.sent_at_ms.is_none());
            let oldest_ms = unsent.clone().map(|row| row.at_ms).min();
            Ok(OutboxStats { unsent: unsent.count() as u64, oldest_ms })
        };
        self.link.read("stats", (), stats).await
    }
}
