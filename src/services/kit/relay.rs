//! The relay: from outbox to bus.
//!
//! A step claims rows under a lease, packs them, publishes, and marks exactly those rows whose
//! message was certainly sent. A row that failed, or whose fate is unknown, stays claimed for a
//! pause of its own and is then sent in a message of its own, so that it holds back nobody else.
//! Any number of relays may work on one outbox; consumers bear repetition.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::body::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Common;
use crate::{
    ports::{
        Bus, Outbox, OutboxRow, Outcome, StoreError, Target, Topic, bus::BATCH_MAX, outbox::RETAIN,
    },
    rt::{Instant, points},
    wire::events::pack,
};

/// Doublings of the pause after failures.
const DOUBLINGS_MAX: u32 = 5;
/// Rows that were sent long enough ago are removed this often.
const PRUNE_EVERY: Duration = Duration::from_mins(10);
/// Outbox gauges are read this often.
const GAUGES_EVERY: Duration = Duration::from_secs(1);

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// There was nothing to send, or nothing but rows that keep failing.
    Idle,
    /// Rows were sent.
    Sent {
        /// How many.
        rows: usize,
        /// There may be more.
        more: bool,
    },
    /// Nothing could be sent.
    Trouble,
}

/// A row that could not be sent.
struct Failing {
    attempts: u32,
    /// When it is given back; `None` once it was.
    due: Option<Instant>,
}

/// Publishes an outbox.
pub struct Relay {
    common: Common,
    outbox: Arc<dyn Outbox>,
    bus: Arc<dyn Bus>,
    topic: Topic,
    wake: Notify,
    failing: Mutex<BTreeMap<u64, Failing>>,
    /// Steps in a row that could not send anything.
    troubles: AtomicU64,
}

impl Relay {
    /// A relay of `outbox` to `topic`.
    #[must_use]
    pub fn new(
        common: Common,
        outbox: Arc<dyn Outbox>,
        bus: Arc<dyn Bus>,
        topic: Topic,
    ) -> Arc<Self> {
        let (wake, failing, troubles) = Default::default();
        Arc::new(Self { common, outbox, bus, topic, wake, failing, troubles })
    }

    /// There is something new to send.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Works until the shutdown.
    pub async fn run(self: Arc<Self>) {
        let rt = &self.common.rt;
        let (mut gauges_due, mut prune_due) = (rt.now(), rt.now().plus(PRUNE_EVERY));
        let mut gathers_until = rt.now();
        while !self.common.shutdown.is_cancelled() {
            // Rows that follow one another closely share their claim, message and mark.
            let gather = gathers_until.since(rt.now());
            if !gather.is_zero() {
                self.common.shutdown.run_until_cancelled(rt.sleep(gather)).await;
            }
            let began = rt.now();
            let pause = match self.try_step().await {
                Step::Sent { more: true, .. } => Duration::ZERO,
                Step::Sent { more: false, .. } => {
                    gathers_until = began.plus(self.common.config.relay.gather());
                    self.idle()
                }
                Step::Idle => self.idle(),
                Step::Trouble => self.backoff(self.troubles.load(Ordering::Relaxed) as u32),
            };
            if rt.now() >= gauges_due {
                self.gauges().await;
                gauges_due = rt.now().plus(GAUGES_EVERY);
            }
            if rt.now() >= prune_due {
                self.prune().await;
                prune_due = rt.now().plus(PRUNE_EVERY);
            }
            if pause.is_zero() {
                continue;
            }
            let troubled = self.troubles.load(Ordering::Relaxed) > 0;
            tokio::select! {
                biased;
                () = self.common.shutdown.cancelled() => {}
                // New rows do not make a broken bus whole.
                () = self.wake.notified(), if !troubled => {}
                () = rt.sleep(pause) => {}
            }
        }
    }

    /// One claim, publish and mark.
    pub async fn try_step(&self) -> Step {
        let step = self.step().await;
        if step == Step::Trouble {
            self.troubles.fetch_add(1, Ordering::Relaxed);
        } else {
            self.troubles.store(0, Ordering::Relaxed);
        }
        step
    }

    async fn step(&self) -> Step {
        let Common { rt, config, .. } = &self.common;
        self.give_back_due().await;
        let limit = config.relay.batch_max as usize;
        // What is put off is kept in memory: no more of it than one claim.
        let put_off = self.failing.lock().values().filter(|row| row.due.is_some()).count();
        if put_off >= limit {
            return Step::Trouble;
        }
        let claimed = self.outbox.claim(limit, rt.wall_ms(), config.relay.lease()).await;
        let rows = match claimed {
            Outcome::Done(rows) => rows,
            Outcome::Failed(error) | Outcome::Unknown(error) => {
                self.complain("rows could not be claimed", &error);
                return Step::Trouble;
            }
        };
        rt.point(points::RELAY).await;
        if rows.is_empty() {
            return Step::Idle;
        }
        let more = rows.len() == limit;
        let (messages, any_new) = self.pack(rows);
        let sent = self.publish(messages).await;
        rt.point(points::RELAY).await;
        if sent.is_empty() {
            // Rows that fail alone have pauses of their own, and are no sign of a broken bus.
            return if any_new { Step::Trouble } else { Step::Idle };
        }
        match self.outbox.mark_sent(&sent, rt.wall_ms()).await {
            Outcome::Done(()) => Step::Sent { rows: sent.len(), more },
            // They are sent once more when the lease ends: consumers bear that.
            Outcome::Failed(error) | Outcome::Unknown(error) => {
                self.complain("sent rows could not be marked", &error);
                Step::Trouble
            }
        }
    }

    /// Packs rows; those that failed before each get a message of their own. Also tells whether any
    /// did not.
    fn pack(&self, rows: Vec<OutboxRow>) -> (Vec<(Bytes, Vec<u64>)>, bool) {
        let mut failing = self.failing.lock();
        // What was given back and is not among the rows is another relay's now.
        let mine: std::collections::BTreeSet<u64> = rows.iter().map(|row| row.seq).collect();
        failing.retain(|seq, row| row.due.is_some() || mine.contains(seq));
        let (alone, together): (Vec<_>, Vec<_>) =
            rows.into_iter().partition(|row| failing.contains_key(&row.seq));
        drop(failing);
        let events: Vec<Bytes> = together.iter().map(|row| row.event.clone()).collect();
        let mut seqs = together.iter().map(|row| row.seq);
        let mut messages: Vec<_> = pack(&events)
            .into_iter()
            .map(|(message, count)| (message, seqs.by_ref().take(count).collect()))
            .collect();
        for row in alone {
            let single = pack(&[row.event]);
            messages.extend(single.into_iter().map(|(message, _)| (message, vec![row.seq])));
        }
        (messages, !events.is_empty())
    }

    /// Publishes messages; gives the rows of those that were certainly sent.
    async fn publish(&self, messages: Vec<(Bytes, Vec<u64>)>) -> Vec<u64> {
        let mut sent = Vec::new();
        for batch in messages.chunks(BATCH_MAX) {
            let bodies: Vec<Bytes> = batch.iter().map(|(message, _)| message.clone()).collect();
            let outcomes = self.bus.publish(Target::Topic(self.topic), &bodies).await;
            // A bus that answers for fewer messages than it was given has not sent the rest.
            for (at, (_, seqs)) in batch.iter().enumerate() {
                match outcomes.get(at) {
                    Some(Outcome::Done(())) => {
                        let mut failing = self.failing.lock();
                        for seq in seqs {
                            failing.remove(seq);
                        }
                        sent.extend_from_slice(seqs);
                    }
                    Some(Outcome::Failed(error) | Outcome::Unknown(error)) => {
                        self.complain("a message could not be published", error);
                        self.put_off(seqs);
                    }
                    None => self.put_off(seqs),
                }
            }
        }
        sent
    }

    /// Keeps rows claimed for a pause that grows with their attempts.
    fn put_off(&self, seqs: &[u64]) {
        let now = self.common.rt.now();
        let mut failing = self.failing.lock();
        for &seq in seqs {
            let row = failing.entry(seq).or_insert(Failing { attempts: 0, due: None });
            row.attempts = row.attempts.saturating_add(1);
            row.due = Some(now.plus(self.backoff(row.attempts)));
        }
    }

    /// Gives rows back whose pause is over.
    async fn give_back_due(&self) {
        let now = self.common.rt.now();
        let due: Vec<u64> = {
            let mut failing = self.failing.lock();
            let due = failing.iter_mut().filter(|(_, row)| row.due.is_some_and(|at| at <= now));
            due.map(|(&seq, row)| {
                row.due = None;
                seq
            })
            .collect()
        };
        if due.is_empty() {
            return;
        }
        if let Err(error) = self.outbox.release(&due).await.certain() {
            // The lease gives them back instead.
            self.complain("rows could not be given back", &error);
        }
    }

    /// How long to wait if there is nothing to send: not past the next row's pause.
    fn idle(&self) -> Duration {
        let now = self.common.rt.now();
        let failing = self.failing.lock();
        let next = failing.values().filter_map(|row| row.due).min();
        let idle = self.common.config.relay.idle();
        next.map_or(idle, |at| at.since(now).clamp(Duration::from_millis(1), idle))
    }

    fn backoff(&self, attempts: u32) -> Duration {
        let relay = &self.common.config.relay;
        let pause = relay.retry() * (1 << attempts.saturating_sub(1).min(DOUBLINGS_MAX));
        self.common.rt.jitter(pause.min(relay.lease() / 2))
    }

    async fn gauges(&self) {
        match self.outbox.stats().await {
            Ok(stats) => {
                let now = self.common.rt.wall_ms();
                let lag = stats.oldest_ms.map_or(0, |oldest| now.saturating_sub(oldest));
                self.common.metrics.outbox(self.common.role, stats.unsent, lag);
            }
            Err(error) => self.complain("the outbox could not be measured", &error),
        }
    }

    async fn prune(&self) {
        let before = self.common.rt.wall_ms().saturating_sub(RETAIN.as_millis() as u64);
        if let Err(error) = self.outbox.prune(before).await.certain() {
            self.complain("old rows could not be removed", &error);
        }
    }

    fn complain(&self, what: &'static str, error: &StoreError) {
        self.common.metrics.store_error(error);
        tracing::warn!(role = %self.common.role, %error, "{what}");
    }
}
