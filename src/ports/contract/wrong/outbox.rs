//! Wrong outboxes.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;

use super::{Every, Hushed, faults};
use crate::ports::{
    Outbox, OutboxRow, Outcome, Read, contract::outbox::Context, outbox::OutboxStats,
};

faults! {
    /// One row in five is lost.
    DropsOneInFive: [rows_are_claimed_oldest_first_and_whole],
    /// Rows come newest first.
    Reorders: [rows_are_claimed_oldest_first_and_whole],
    /// A row comes twice.
    Doubles: [rows_are_claimed_oldest_first_and_whole],
    /// Some row comes when there is none.
    InventsRows: [an_empty_outbox_gives_nothing],
    /// As many are claimed as there are.
    IgnoresTheLimit: [no_more_than_asked_for_is_claimed],
    /// Claimed rows may be claimed by others.
    IgnoresTheLease: [a_claimed_row_is_held_until_its_lease_ends, claimers_do_not_share_a_row],
    /// A lease lasts for ever.
    LeasesForEver: [a_row_that_was_not_marked_is_claimed_after_its_lease],
    /// Marking does nothing.
    ForgetsMarks: [a_sent_row_is_not_claimed_again, a_row_is_marked_also_after_its_lease],
    /// Marking one row marks all.
    MarksAll: [only_the_named_rows_are_marked],
    /// Releasing does nothing.
    ForgetsReleases: [a_released_row_is_claimed_at_once],
    /// Releasing makes sent rows unsent.
    ReleaseUnsends: [releasing_does_not_unsend],
    /// Replays everything.
    ReplaysAll: [replay_brings_back_what_was_committed_since],
    /// Replay leaves out the instant it was asked for.
    ReplaysTooLittle: [replay_brings_back_what_was_committed_since],
    /// Prunes what was not sent.
    PrunesUnsent: [pruning_removes_only_what_was_sent_before],
    /// Prunes what was sent at the very instant.
    PrunesTooMuch: [pruning_removes_only_what_was_sent_before],
    /// What is claimed is taken for sent.
    CountsClaimedAsSent: [the_state_tells_what_waits],
    /// An outage is not told.
    SwallowsErrors: [an_outage_is_an_error],
}

struct Wrong {
    inner: Arc<dyn Outbox>,
    fault: Fault,
    every: Every,
    hushed: Hushed,
}

/// The outbox of `context` with `fault`.
#[must_use]
pub fn broken(context: Context, fault: Fault) -> Context {
    let (hushed, outage) = Hushed::new(fault == Fault::SwallowsErrors, context.outage);
    let outbox = Arc::new(Wrong { inner: context.outbox, fault, every: Every::default(), hushed });
    Context { outbox, outage, ..context }
}

const ALL: usize = 1_000;
const FOR_EVER: Duration = Duration::from_secs(1_000_000);

impl Wrong {
    /// Marks everything that is not sent yet.
    async fn mark_all(&self, now_ms: u64) -> Outcome<()> {
        match self.inner.claim(ALL, u64::MAX / 4, Duration::ZERO).await {
            Outcome::Done(rows) => {
                let seqs: Vec<u64> = rows.iter().map(|row| row.seq).collect();
                self.inner.mark_sent(&seqs, now_ms).await
            }
            other => other.map(drop),
        }
    }
}

#[async_trait]
impl Outbox for Wrong {
    async fn claim(&self, limit: usize, now_ms: u64, lease: Duration) -> Outcome<Vec<OutboxRow>> {
        if self.hushed.is_down() {
            return Outcome::Done(Vec::new());
        }
        let (limit, lease) = match self.fault {
            Fault::IgnoresTheLimit => (ALL, lease),
            Fault::IgnoresTheLease => (limit, Duration::ZERO),
            Fault::LeasesForEver => (limit, FOR_EVER),
            _ => (limit, lease),
        };
        self.inner.claim(limit, now_ms, lease).await.map(|mut rows| {
            match self.fault {
                Fault::DropsOneInFive => rows.retain(|_| !self.every.nth(5)),
                Fault::Reorders => rows.reverse(),
                Fault::Doubles => rows.extend(rows.first().cloned()),
                Fault::InventsRows if rows.is_empty() => {
                    rows.push(OutboxRow { seq: 1, event: Bytes::from_static(b"{}") });
                }
                _ => {}
            }
            rows
        })
    }

    async fn mark_sent(&self, seqs: &[u64], now_ms: u64) -> Outcome<()> {
        match self.fault {
            _ if self.hushed.is_down() => Outcome::Done(()),
            Fault::ForgetsMarks => Outcome::Done(()),
            Fault::MarksAll if !seqs.is_empty() => self.mark_all(now_ms).await,
            _ => self.inner.mark_sent(seqs, now_ms).await,
        }
    }

    async fn release(&self, seqs: &[u64]) -> Outcome<()> {
        match self.fault {
            _ if self.hushed.is_down() => Outcome::Done(()),
            Fault::ForgetsReleases => Outcome::Done(()),
            Fault::ReleaseUnsends => self.inner.replay(0).await.map(drop),
            _ => self.inner.release(seqs).await,
        }
    }

    async fn replay(&self, since_ms: u64) -> Outcome<u64> {
        match self.fault {
            _ if self.hushed.is_down() => Outcome::Done(0),
            Fault::ReplaysAll => self.inner.replay(0).await,
            Fault::ReplaysTooLittle => self.inner.replay(since_ms + 1).await,
            _ => self.inner.replay(since_ms).await,
        }
    }

    async fn prune(&self, before_ms: u64) -> Outcome<u64> {
        match self.fault {
            _ if self.hushed.is_down() => Outcome::Done(0),
            Fault::PrunesUnsent => {
                drop(self.mark_all(0).await);
                self.inner.prune(before_ms).await
            }
            Fault::PrunesTooMuch => self.inner.prune(before_ms + 1).await,
            _ => self.inner.prune(before_ms).await,
        }
    }

    async fn stats(&self) -> Read<OutboxStats> {
        if self.hushed.is_down() {
            return Ok(OutboxStats::default());
        }
        if self.fault != Fault::CountsClaimedAsSent {
            return self.inner.stats().await;
        }
        let free = self.inner.claim(ALL, 0, Duration::ZERO).await.done().unwrap_or_default();
        Ok(OutboxStats { unsent: free.len() as u64, ..self.inner.stats().await? })
    }
}
