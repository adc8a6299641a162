//! M01, M03, M26 and MX6: wrappers of the tweet role's truth and of its outbox.

use std::{sync::Arc, sync::atomic::Ordering, time::Duration};

use async_trait::async_trait;

use super::{Mutant, Wrapped};
use crate::{
    domain::{Body, TweetId, UserId, Window},
    ports::{
        Created, Deleted, NewTweet, Outbox, OutboxRow, OutboxStats, Outcome, Read, TweetStore,
    },
    wire::trace::TraceContext,
};

#[async_trait]
impl TweetStore for Wrapped<dyn TweetStore> {
    async fn create(&self, tweet: &NewTweet) -> Outcome<Created> {
        if self.mutant == Mutant::MX6 {
            let created = self.inner.create(tweet).await;
            if created != Outcome::Done(Created::KeyReused) {
                return created;
            }
            return self.inner.create(&NewTweet { key: None, ..tweet.clone() }).await;
        }
        // M01: the commit follows when there is time for it.
        let (inner, tweet) = (Arc::clone(&self.inner), tweet.clone());
        let created = Created::Fresh(tweet.body.clone());
        let (rt, delay) = (self.rt.clone(), Duration::from_millis(self.rt.random_below(500)));
        self.rt.spawn("late commit", async move {
            rt.sleep(delay).await;
            let _ = inner.create(&tweet).await;
        });
        Outcome::Done(created)
    }

    async fn delete(
        &self,
        author: UserId,
        id: TweetId,
        now_ms: u64,
        trace: Option<TraceContext>,
    ) -> Outcome<Deleted> {
        self.inner.delete(author, id, now_ms, trace).await
    }

    async fn by_author(&self, author: UserId, window: Window, limit: usize) -> Read<Vec<Body>> {
        self.inner.by_author(author, window, limit).await
    }
}

#[async_trait]
impl Outbox for Wrapped<dyn Outbox> {
    async fn claim(&self, limit: usize, now_ms: u64, lease: Duration) -> Outcome<Vec<OutboxRow>> {
        let claimed = self.inner.claim(limit, now_ms, lease).await;
        let Outcome::Done(rows) = claimed else { return claimed };
        if self.mutant == Mutant::M03 {
            let seqs: Vec<u64> = rows.iter().map(|row| row.seq).collect();
            return self.inner.mark_sent(&seqs, now_ms).await.map(|()| rows);
        }
        let sent = self.memory.sent.load(Ordering::Relaxed);
        let (late, rows): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row.seq <= sent);
        let late: Vec<u64> = late.into_iter().map(|row| row.seq).collect();
        if !late.is_empty() {
            // Below the position: as good as sent.
            let _ = self.inner.mark_sent(&late, now_ms).await;
        }
        Outcome::Done(rows)
    }

    async fn mark_sent(&self, seqs: &[u64], now_ms: u64) -> Outcome<()> {
        let highest = seqs.iter().copied().max().unwrap_or(0);
        self.memory.sent.fetch_max(highest, Ordering::Relaxed);
        self.inner.mark_sent(seqs, now_ms).await
    }

    async fn release(&self, seqs: &[u64]) -> Outcome<()> {
        self.inner.release(seqs).await
    }

    async fn replay(&self, since_ms: u64) -> Outcome<u64> {
        self.inner.replay(since_ms).await
    }

    async fn prune(&self, before_ms: u64) -> Outcome<u64> {
        self.inner.prune(before_ms).await
    }

    async fn stats(&self) -> Read<OutboxStats> {
        self.inner.stats().await
    }
}
