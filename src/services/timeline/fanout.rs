//! Fan-out: a tweet into its followers' warm timelines, at once for small authors and in chunk jobs
//! on the bulk lane for big ones, so that the small never wait behind the big.

use std::time::Duration;

use bytes::Bytes;

use super::Core;
use crate::{
    domain::{
        Entry, UserId,
        fanout::{BUCKETS, Class, Strategy, outgrows_push, split_buckets},
    },
    ports::{Hint, Push, Queue, Read, Target, bus::BATCH_MAX},
    rt::points,
    wire::events::{Event, Fact, FollowerCursor, pack},
};

/// Every bucket of an author's followers.
const ALL_BUCKETS: (u16, u16) = (0, BUCKETS);

/// A chunk job of one tweet, taken out of its event.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunk {
    pub(super) entry: Entry,
    pub(super) buckets: (u16, u16),
    pub(super) after: Option<FollowerCursor>,
    pub(super) part: u16,
    pub(super) parts: u16,
}

impl Core {
    /// Delivers a stored tweet to whoever should see it, or leaves it to chunk jobs.
    pub(super) async fn fan_out(&self, event: &Event, entry: Entry, class: Class) -> Read<()> {
        let author = [entry.author];
        if !class.is_pushed() {
            if self.strategy() == Strategy::Hybrid {
                self.push(entry, &author, true).await?;
            } else {
                // There are no lists of anybody; streams of the author look at once.
                self.hint_homes(&author).await;
            }
            self.projected(event, entry, 0, 1, 0).await;
            return Ok(());
        }
        let most = self.config.fanout.inline_followers as usize;
        let page = self.deps.store.followers(entry.author, ALL_BUCKETS, None, most).await?;
        if page.next.is_some() {
            self.push(entry, &author, class.is_pulled()).await?;
            return self.start_chunks(event, entry).await;
        }
        let mut homes = page.followers;
        homes.push(entry.author);
        self.push(entry, &homes, class.is_pulled()).await?;
        self.projected(event, entry, 0, 1, homes.len() as u64 - 1).await;
        Ok(())
    }

    async fn start_chunks(&self, event: &Event, entry: Entry) -> Read<()> {
        let ranges = split_buckets(self.config.fanout.chunk_parts as u16);
        let parts = ranges.len() as u16;
        let jobs: Vec<Bytes> = ranges
            .into_iter()
            .zip(0..)
            .map(|(buckets, part)| {
                Chunk { entry, buckets, after: None, part, parts }.event(event).encode()
            })
            .collect();
        self.send_jobs(&jobs).await
    }

    /// Does one chunk: pages of followers, each pushed before the next is read; then the rest is a
    /// job of its own, so that a worker is never held for long.
    pub(super) async fn run_chunk(&self, event: &Event, chunk: Chunk) -> Read<()> {
        let Chunk { entry, part, parts, .. } = chunk;
        let mut followers = 0;
        // A class that has become `pull` meanwhile needs no more pushes.
        if self.class_of(entry.author).await?.is_pushed() {
            let (done, rest) = self.push_pages(chunk).await?;
            if let Some(after) = rest {
                let rest = Chunk { after: Some(after), ..chunk };
                return self.send_jobs(&[rest.event(event).encode()]).await;
            }
            followers = done.saturating_mul(u64::from(parts));
        }
        let followers = followers.max(self.config.fanout.inline_followers + 1);
        self.projected(event, entry, part, parts, followers).await;
        Ok(())
    }

    /// Pushes to a chunk's followers. Gives their number, and where the chain goes on.
    async fn push_pages(&self, chunk: Chunk) -> Read<(u64, Option<FollowerCursor>)> {
        let Chunk { entry, buckets, mut after, .. } = chunk;
        let mut done = 0;
        loop {
            let most = self.config.fanout.page_followers as usize;
            let page = self.deps.store.followers(entry.author, buckets, after, most).await?;
            done += page.followers.len() as u64;
            self.push(entry, &page.followers, false).await?;
            self.common.rt.point(points::WORKER).await;
            after = page.next;
            if after.is_none() || done >= self.config.fanout.chunk_followers {
                return Ok((done, after));
            }
        }
    }

    /// Begins the change of an author's class if the followers have become too many. The job comes
    /// before the class, so that a class without its job cannot be.
    pub(super) async fn maybe_reclass(&self, author: UserId, followers: u64) -> Read<()> {
        let limit = self.config.fanout.celebrity_followers;
        if self.strategy() != Strategy::Hybrid {
            return Ok(());
        }
        if followers < limit || !outgrows_push(self.class_of(author).await?, followers, limit) {
            return Ok(());
        }
        let fact = Fact::ReclassChunk { author, after: None };
        let event = Event { at_ms: self.common.rt.wall_ms(), trace: None, fact };
        self.send_jobs(&[event.encode()]).await
    }

    /// Does one chunk of a change of class: `both` first, then every follower is made to read the
    /// author at read time too, and only then the pushes may end.
    pub(super) async fn run_reclass(
        &self,
        event: &Event,
        author: UserId,
        after: Option<FollowerCursor>,
    ) -> Read<()> {
        // Also a job that was begun before the data set was switched.
        if self.strategy() != Strategy::Hybrid || self.class_of(author).await? == Class::Pull {
            return Ok(());
        }
        self.deps.store.set_class(author, Class::Both).await.certain()?;
        let mut after = after;
        let mut done = 0;
        loop {
            let most = self.config.fanout.page_followers as usize;
            let page = self.deps.store.followers(author, ALL_BUCKETS, after, most).await?;
            done += page.followers.len() as u64;
            if !page.followers.is_empty() {
                self.deps.relations.invalidate(&page.followers).await.certain()?;
            }
            self.common.rt.point(points::WORKER).await;
            after = page.next;
            if after.is_none() {
                return self.deps.store.set_class(author, Class::Pull).await.certain();
            }
            if done >= self.config.fanout.chunk_followers {
                let fact = Fact::ReclassChunk { author, after };
                let rest = Event { at_ms: event.at_ms, trace: event.trace.clone(), fact };
                return self.send_jobs(&[rest.encode()]).await;
            }
        }
    }

    pub(super) async fn class_of(&self, author: UserId) -> Read<Class> {
        if self.strategy() != Strategy::Hybrid {
            return Ok(self.strategy().class(Class::Push));
        }
        let rows = self.deps.store.authors(&[author]).await?;
        Ok(rows.first().map_or(Class::Push, |row| row.class))
    }

    /// How tweets of this data set reach home timelines.
    pub(super) const fn strategy(&self) -> Strategy {
        self.deps.chosen.strategy
    }

    async fn push(&self, entry: Entry, homes: &[UserId], author_list: bool) -> Read<()> {
        if homes.is_empty() && !author_list {
            return Ok(());
        }
        self.keep(entry, homes).await?;
        let report = self.deps.cache.push(&[Push { entry, homes, author_list }]).await.certain()?;
        self.common.metrics.fanout(report.delivered, report.absent);
        self.hint_homes(homes).await;
        Ok(())
    }

    /// Tells streams that a home timeline has changed.
    pub(super) async fn hint_homes(&self, users: &[UserId]) {
        if self.deps.hints.wanted() {
            let hints: Vec<Hint> = users.iter().map(|&user| Hint::Home(user)).collect();
            self.deps.hints.notify(&hints).await;
        }
    }

    /// One chain of a tweet's fan-out has ended.
    async fn projected(&self, event: &Event, entry: Entry, part: u16, parts: u16, followers: u64) {
        let took = self.common.rt.wall_ms().saturating_sub(event.at_ms);
        self.common.metrics.freshness(followers, Duration::from_millis(took));
        if self.deps.hints.wanted() {
            let Entry { tweet, author } = entry;
            self.deps.hints.notify(&[Hint::Projected { author, tweet, part, parts }]).await;
        }
    }

    async fn send_jobs(&self, jobs: &[Bytes]) -> Read<()> {
        // Each job is a message of its own, so that workers share them.
        let messages: Vec<Bytes> =
            jobs.iter().flat_map(|job| pack(std::slice::from_ref(job))).map(|(m, _)| m).collect();
        for batch in messages.chunks(BATCH_MAX) {
            for outcome in self.deps.bus.publish(Target::Queue(Queue::Bulk), batch).await {
                outcome.certain()?;
            }
        }
        Ok(())
    }
}

impl Chunk {
    /// The chunk that `fact` asks for, if it is one.
    pub(super) fn of(fact: &Fact) -> Option<Self> {
        match *fact {
            Fact::FanoutChunk { tweet, author, first_bucket, end_bucket, after, part, parts } => {
                let entry = Entry { tweet, author };
                Some(Self { entry, buckets: (first_bucket, end_bucket), after, part, parts })
            }
            Fact::TweetCreated { .. }
            | Fact::TweetDeleted { .. }
            | Fact::GraphChanged { .. }
            | Fact::ReclassChunk { .. } => None,
        }
    }

    /// The job, caused by `cause`.
    fn event(self, cause: &Event) -> Event {
        let Self { entry: Entry { tweet, author }, buckets, after, part, parts } = self;
        let (first_bucket, end_bucket) = buckets;
        let fact =
            Fact::FanoutChunk { tweet, author, first_bucket, end_bucket, after, part, parts };
        Event { at_ms: cause.at_ms, trace: cause.trace.clone(), fact }
    }
}
