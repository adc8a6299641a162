//! What every [`Outbox`] does.
//!
//! An outbox has no call that adds a row: rows come with facts. A [`Feed`] commits such facts, and
//! the suite knows the events by their `at_ms`.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use async_trait::async_trait;

use super::{
    Check, Outage, behaviours,
    kit::{Must, body, concurrently, is_error, not_done, same},
};
use crate::{
    domain::{Change, UserId},
    ports::{
        EdgeChange, GraphStore, NewTweet, Outbox, OutboxRow, Outcome, TweetStore,
        outbox::OutboxStats,
    },
    rt::{BoxFuture, Rt},
    wire::events::Event,
};

/// Commits facts, each with one event.
#[async_trait]
pub trait Feed: Send + Sync {
    /// Commits the `n`th fact (every `n` once), with `at_ms` in its event.
    async fn commit(&self, n: u64, at_ms: u64) -> Check;
}

#[async_trait]
impl Feed for Arc<dyn TweetStore> {
    async fn commit(&self, n: u64, at_ms: u64) -> Check {
        let mut body = body(n * 10, n);
        body.created_at_ms = at_ms;
        self.create(&NewTweet { body, media: Vec::new(), key: None, trace: None })
            .await
            .must("create")
            .map(drop)
    }
}

#[async_trait]
impl Feed for Arc<dyn GraphStore> {
    async fn commit(&self, n: u64, at_ms: u64) -> Check {
        let change = EdgeChange {
            actor: UserId(n + 1_000),
            target: UserId(1),
            change: Change::Follow,
            at_ms,
            trace: None,
        };
        self.change(&change).await.must("change").map(drop)
    }
}

/// An outbox that holds nothing.
#[derive(Clone)]
pub struct Context {
    /// The outbox.
    pub outbox: Arc<dyn Outbox>,
    /// What fills it: the store beside it.
    pub feed: Arc<dyn Feed>,
    /// The runtime it was made with.
    pub rt: Rt,
    /// Takes its store down.
    pub outage: Option<Outage>,
}

behaviours![
    an_empty_outbox_gives_nothing,
    rows_are_claimed_oldest_first_and_whole,
    no_more_than_asked_for_is_claimed,
    a_claimed_row_is_held_until_its_lease_ends,
    a_row_that_was_not_marked_is_claimed_after_its_lease,
    a_sent_row_is_not_claimed_again,
    only_the_named_rows_are_marked,
    a_row_is_marked_also_after_its_lease,
    a_released_row_is_claimed_at_once,
    releasing_does_not_unsend,
    replay_brings_back_what_was_committed_since,
    pruning_removes_only_what_was_sent_before,
    claimers_do_not_share_a_row,
    the_state_tells_what_waits,
    an_outage_is_an_error,
];

const LEASE: Duration = Duration::from_secs(10);
const LEASE_MS: u64 = 10_000;
const NOW: u64 = 1_000_000;

/// When a row's event was committed.
fn at(row: &OutboxRow) -> Result<u64, String> {
    Event::decode(&row.event).map(|event| event.at_ms).map_err(|error| error.to_string())
}

impl Context {
    async fn commit(&self, times: &[u64]) -> Check {
        for (n, &at_ms) in times.iter().enumerate() {
            self.feed.commit(n as u64 + 1, at_ms).await?;
        }
        Ok(())
    }

    /// Claims; the rows' numbers and times.
    async fn claim(&self, limit: usize, now_ms: u64) -> Result<(Vec<u64>, Vec<u64>), String> {
        let rows = self.outbox.claim(limit, now_ms, LEASE).await.must("claim")?;
        let seqs = rows.iter().map(|row| row.seq).collect();
        Ok((seqs, rows.iter().map(at).collect::<Result<_, _>>()?))
    }

    /// Claims, and compares when the rows were committed.
    async fn claims(
        &self,
        limit: usize,
        now_ms: u64,
        expected: &[u64],
    ) -> Result<Vec<u64>, String> {
        let (seqs, times) = self.claim(limit, now_ms).await?;
        same("rows claimed, by their time", &times, &expected.to_vec())?;
        Ok(seqs)
    }

    async fn mark(&self, seqs: &[u64], now_ms: u64) -> Check {
        self.outbox.mark_sent(seqs, now_ms).await.must("mark_sent")
    }
}

async fn an_empty_outbox_gives_nothing(context: Context) -> Check {
    context.claims(10, NOW, &[]).await?;
    let stats = context.outbox.stats().await.must("stats")?;
    same("state", &stats, &OutboxStats::default())?;
    same("replayed", &context.outbox.replay(0).await.must("replay")?, &0)?;
    same("pruned", &context.outbox.prune(NOW).await.must("prune")?, &0)?;
    context.mark(&[], NOW).await?;
    context.outbox.release(&[]).await.must("release")
}

async fn rows_are_claimed_oldest_first_and_whole(context: Context) -> Check {
    context.commit(&[101, 102, 103, 104, 105, 106, 107]).await?;
    let seqs = context.claims(10, NOW, &[101, 102, 103, 104, 105, 106, 107]).await?;
    let distinct: BTreeSet<u64> = seqs.iter().copied().collect();
    same("different numbers", &distinct.len(), &7)
}

async fn no_more_than_asked_for_is_claimed(context: Context) -> Check {
    context.commit(&[101, 102, 103, 104, 105]).await?;
    context.claims(2, NOW, &[101, 102]).await?;
    context.claims(2, NOW, &[103, 104]).await?;
    context.claims(2, NOW, &[105]).await?;
    context.claims(2, NOW, &[]).await.map(drop)
}

async fn a_claimed_row_is_held_until_its_lease_ends(context: Context) -> Check {
    context.commit(&[101, 102]).await?;
    context.claims(1, NOW, &[101]).await?;
    context.claims(9, NOW + 1, &[102]).await?;
    context.claims(9, NOW + LEASE_MS - 1, &[]).await.map(drop)
}

async fn a_row_that_was_not_marked_is_claimed_after_its_lease(context: Context) -> Check {
    context.commit(&[101, 102]).await?;
    let before = context.claims(9, NOW, &[101, 102]).await?;
    let after = context.claims(9, NOW + LEASE_MS + 1, &[101, 102]).await?;
    same("numbers", &after, &before)?;
    context.claims(9, NOW + LEASE_MS + 2, &[]).await.map(drop)
}

async fn a_sent_row_is_not_claimed_again(context: Context) -> Check {
    context.commit(&[101, 102]).await?;
    let seqs = context.claims(9, NOW, &[101, 102]).await?;
    context.mark(&seqs, NOW + 1).await?;
    // The same answer may have been lost, so the call may come again.
    context.mark(&seqs, NOW + 2).await?;
    context.claims(9, NOW + 10 * LEASE_MS, &[]).await.map(drop)
}

async fn only_the_named_rows_are_marked(context: Context) -> Check {
    context.commit(&[101, 102, 103]).await?;
    let seqs = context.claims(9, NOW, &[101, 102, 103]).await?;
    let middle = seqs.get(1).copied().unwrap_or_default();
    context.mark(&[middle], NOW + 1).await?;
    context.claims(9, NOW + LEASE_MS + 1, &[101, 103]).await.map(drop)
}

async fn a_row_is_marked_also_after_its_lease(context: Context) -> Check {
    context.commit(&[101]).await?;
    let seqs = context.claims(9, NOW, &[101]).await?;
    context.claims(9, NOW + LEASE_MS + 1, &[101]).await?;
    // It was published by whoever was late: nobody needs to send it again.
    context.mark(&seqs, NOW + LEASE_MS + 2).await?;
    context.claims(9, NOW + 10 * LEASE_MS, &[]).await.map(drop)
}

async fn a_released_row_is_claimed_at_once(context: Context) -> Check {
    context.commit(&[101, 102, 103]).await?;
    let seqs = context.claims(9, NOW, &[101, 102, 103]).await?;
    let some = seqs.get(1..).unwrap_or_default();
    context.outbox.release(some).await.must("release")?;
    context.claims(9, NOW + 1, &[102, 103]).await.map(drop)
}

async fn releasing_does_not_unsend(context: Context) -> Check {
    context.commit(&[101]).await?;
    let seqs = context.claims(9, NOW, &[101]).await?;
    context.mark(&seqs, NOW + 1).await?;
    context.outbox.release(&seqs).await.must("release")?;
    context.claims(9, NOW + 10 * LEASE_MS, &[]).await.map(drop)
}

async fn replay_brings_back_what_was_committed_since(context: Context) -> Check {
    context.commit(&[101, 102, 103]).await?;
    let seqs = context.claims(9, NOW, &[101, 102, 103]).await?;
    context.mark(&seqs, NOW + 1).await?;
    same("replayed", &context.outbox.replay(102).await.must("replay")?, &2)?;
    // At once: nobody holds what was sent, however long its lease was.
    context.claims(9, NOW + 2, &[102, 103]).await?;
    same("unsent", &context.outbox.stats().await.must("stats")?.unsent, &2)
}

async fn pruning_removes_only_what_was_sent_before(context: Context) -> Check {
    context.commit(&[101, 102, 103]).await?;
    let seqs = context.claims(2, NOW, &[101, 102]).await?;
    let (first, second) = seqs.split_at(seqs.len().min(1));
    context.mark(first, NOW + 5).await?;
    context.mark(second, NOW + 9).await?;
    same("pruned", &context.outbox.prune(NOW + 5).await.must("prune")?, &0)?;
    same("pruned", &context.outbox.prune(NOW + 6).await.must("prune")?, &1)?;
    context.outbox.replay(0).await.must("replay")?;
    context.claims(9, NOW + 10, &[102, 103]).await.map(drop)
}

async fn claimers_do_not_share_a_row(context: Context) -> Check {
    context.commit(&(101..=120).collect::<Vec<u64>>()).await?;
    let claimer = |_| -> BoxFuture<'static, Outcome<Vec<OutboxRow>>> {
        let outbox = context.outbox.clone();
        Box::pin(async move { outbox.claim(5, NOW, LEASE).await })
    };
    let mut times = Vec::new();
    for rows in concurrently(&context.rt, (0..5).map(claimer)).await? {
        for row in rows.must("claim")? {
            times.push(at(&row)?);
        }
    }
    times.extend(context.claim(20, NOW).await?.1);
    times.sort_unstable();
    same("rows claimed, by their time", &times, &(101..=120).collect())
}

async fn the_state_tells_what_waits(context: Context) -> Check {
    context.commit(&[101, 102, 103]).await?;
    let stats = || async { context.outbox.stats().await.must("stats") };
    same("state", &stats().await?, &OutboxStats { unsent: 3, oldest_ms: Some(101) })?;
    let seqs = context.claims(1, NOW, &[101]).await?;
    // A claimed row is not sent yet.
    same("state", &stats().await?, &OutboxStats { unsent: 3, oldest_ms: Some(101) })?;
    context.mark(&seqs, NOW).await?;
    same("state", &stats().await?, &OutboxStats { unsent: 2, oldest_ms: Some(102) })
}

async fn an_outage_is_an_error(context: Context) -> Check {
    let Some(outage) = &context.outage else { return Ok(()) };
    context.commit(&[101, 102]).await?;
    let seqs = context.claims(1, NOW, &[101]).await?;
    outage.begin();
    let outbox = &context.outbox;
    not_done("claim", &outbox.claim(9, NOW, LEASE).await)?;
    not_done("mark_sent", &outbox.mark_sent(&seqs, NOW).await)?;
    not_done("release", &outbox.release(&seqs).await)?;
    not_done("replay", &outbox.replay(0).await)?;
    not_done("prune", &outbox.prune(0).await)?;
    is_error("stats", &outbox.stats().await)
}
