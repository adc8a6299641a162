//! M10 and M35: a wrapper of the timeline role's store.

use std::sync::atomic::Ordering;

use async_trait::async_trait;

use super::{Mutant, Wrapped};
use crate::{
    domain::{Body, PairChange, TweetId, UserId, Window, fanout::Class, relations::Relation},
    ports::{AuthorRow, FollowerPage, Outcome, Read, StoredBody, TimelineStore},
    wire::events::FollowerCursor,
};

/// M35: the clock of whoever deletes is behind by this, in milliseconds.
const BEHIND_MS: u64 = 2_000;

#[async_trait]
impl TimelineStore for Wrapped<dyn TimelineStore> {
    async fn put_tweets(&self, bodies: &[Body]) -> Outcome<()> {
        let now = self.rt.wall_ms();
        for body in bodies {
            self.memory.created.lock().entry(body.id).or_insert(now);
        }
        self.inner.put_tweets(bodies).await
    }

    async fn delete_tweets(&self, ids: &[TweetId]) -> Outcome<()> {
        if self.mutant != Mutant::M35 {
            return self.inner.delete_tweets(ids).await;
        }
        let at = self.rt.wall_ms().saturating_sub(BEHIND_MS);
        let wins = |id: &TweetId| {
            // What is not there yet will be created later than that.
            self.memory.created.lock().get(id).is_some_and(|created| *created <= at)
        };
        let ids: Vec<TweetId> = ids.iter().copied().filter(wins).collect();
        if ids.is_empty() { Outcome::Done(()) } else { self.inner.delete_tweets(&ids).await }
    }

    async fn bodies(&self, ids: &[TweetId]) -> Read<Vec<Option<StoredBody>>> {
        self.inner.bodies(ids).await
    }

    async fn author_tweets(
        &self,
        author: UserId,
        window: Window,
        limit: usize,
    ) -> Read<Vec<TweetId>> {
        self.inner.author_tweets(author, window, limit).await
    }

    async fn authors(&self, ids: &[UserId]) -> Read<Vec<AuthorRow>> {
        self.inner.authors(ids).await
    }

    async fn set_class(&self, author: UserId, class: Class) -> Outcome<()> {
        if self.mutant != Mutant::M10 {
            return self.inner.set_class(author, class).await;
        }
        // From `both` to `pull` no reader is told.
        self.memory.skipping.store(class == Class::Both, Ordering::Relaxed);
        self.inner.set_class(author, Class::Pull).await
    }

    async fn put_pairs(&self, changes: &[PairChange]) -> Outcome<()> {
        let users = changes.iter().flat_map(|change| [change.pair.low, change.pair.high]);
        self.memory.changed.lock().extend(users);
        self.inner.put_pairs(changes).await
    }

    async fn relations(
        &self,
        user: UserId,
        after: Option<UserId>,
        limit: usize,
    ) -> Read<Vec<Relation>> {
        self.inner.relations(user, after, limit).await
    }

    async fn followers(
        &self,
        author: UserId,
        buckets: (u16, u16),
        after: Option<FollowerCursor>,
        limit: usize,
    ) -> Read<FollowerPage> {
        self.inner.followers(author, buckets, after, limit).await
    }
}
