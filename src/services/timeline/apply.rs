//! What an event does to the role's own copy and caches. One code for the call that comes before an
//! answer and for the event that follows on the bus; every part may be repeated.

use super::{Core, merge_store::Found};
use crate::{
    domain::{
        Body, Entry, PairChange, TweetId, UserId, Window,
        fanout::{Class, Strategy},
        relations::Relation,
    },
    ports::{Hint, ListKey, Push, Read},
    wire::events::{Event, Fact},
};

impl Core {
    /// Honours events before their cause is acknowledged: from here on no read shows what they
    /// hide, and the author of a new tweet sees it.
    ///
    /// # Errors
    /// The store that could not confirm its part; everything may then be repeated.
    pub(super) async fn apply(&self, events: &[Event]) -> Read<()> {
        let mut deleted = Vec::new();
        let mut changes = Vec::new();
        let mut own = Vec::new();
        for event in events {
            match &event.fact {
                Fact::TweetDeleted { id, .. } => deleted.push(*id),
                Fact::TweetCreated { .. } => own.extend(event.fact.entry()),
                Fact::GraphChanged { .. } => changes.extend(event.fact.pair_change()),
                // Jobs of the bulk lane: nobody waits for them.
                Fact::FanoutChunk { .. } | Fact::ReclassChunk { .. } => {}
            }
        }
        // With `pull` every read asks the tweet role for the reader's own tweets.
        if !own.is_empty() && self.strategy() != Strategy::Pull {
            self.show_to_authors(&own).await?;
        }
        self.put_pairs(&changes).await?;
        if !deleted.is_empty() {
            self.delete(&deleted).await?;
            // Another replica may have the body near for this long.
            self.common.rt.sleep(self.config.timeline.near_ttl()).await;
        }
        Ok(())
    }

    /// Puts new tweets into their authors' own home lists. A list that is absent needs nothing:
    /// its rebuild reads the author's tweets from the tweet role.
    async fn show_to_authors(&self, own: &[Entry]) -> Read<()> {
        let authors: Vec<[UserId; 1]> = own.iter().map(|entry| [entry.author]).collect();
        let pushes: Vec<Push<'_>> = own
            .iter()
            .zip(&authors)
            .map(|(&entry, author)| Push { entry, homes: author, author_list: false })
            .collect();
        self.deps.cache.push(&pushes).await.certain().map(drop)
    }

    /// Writes the copies of pairs, then drops what caches derived from the old ones.
    pub(super) async fn put_pairs(&self, changes: &[PairChange]) -> Read<()> {
        if changes.is_empty() {
            return Ok(());
        }
        self.deps.store.put_pairs(changes).await.certain()?;
        let users: Vec<UserId> = changes.iter().flat_map(|c| [c.pair.low, c.pair.high]).collect();
        self.deps.relations.invalidate(&users).await.certain()?;
        // Open streams look again at once, and take down what is hidden now.
        self.hint_homes(&users).await;
        Ok(())
    }

    /// Deletes tweets: the store first, so that a fill that begins later finds them deleted, then
    /// the cache, which voids every fill that began before, and then whoever shows them.
    pub(super) async fn delete(&self, ids: &[TweetId]) -> Read<()> {
        self.deps.store.delete_tweets(ids).await.certain()?;
        self.deps.bodies.tombstone(ids).await.certain()?;
        if self.deps.hints.wanted() {
            let hints: Vec<Hint> = ids.iter().map(|&id| Hint::Deleted(id)).collect();
            self.deps.hints.notify(&hints).await;
        }
        Ok(())
    }

    /// Writes new tweets to the store.
    pub(super) async fn put_tweets(&self, bodies: &[Body]) -> Read<()> {
        self.deps.store.put_tweets(bodies).await.certain()
    }

    /// Gives followers of `change`'s pair the other's tweets, down to where their lists reach.
    pub(super) async fn backfill(&self, change: &PairChange) -> Read<()> {
        let pair = change.pair;
        for (follower, author) in [(pair.low, pair.high), (pair.high, pair.low)] {
            if Relation::of(follower, pair, &change.state).shown() {
                self.backfill_one(follower, author).await?;
            }
        }
        Ok(())
    }

    async fn backfill_one(&self, follower: UserId, author: UserId) -> Read<()> {
        if self.class_of(author).await? == Class::Pull {
            return Ok(());
        }
        let most = self.config.fanout.backfill_max as usize;
        let ids = self.deps.store.author_tweets(author, Window::Latest, most).await?;
        if ids.is_empty() {
            return Ok(());
        }
        let key = ListKey::Home(follower);
        let found = Found::of_author(author, ids, most);
        self.keep_all(follower, &found).await?;
        // Also for a list that is absent: a failover may bring back one that a read found gone, and
        // only a write that is done says that it stays so.
        let pushed = self.deps.cache.push_many(key, &found.entries, found.floor()).await;
        let Some(report) = pushed.certain()? else {
            // Under the last of them the list would have a hole: it is rebuilt instead.
            return self.deps.cache.invalidate(&[key]).await.certain();
        };
        self.common.metrics.fanout(report.delivered, 0);
        self.hint_homes(&[follower]).await;
        Ok(())
    }
}

/// The body that a `tweet_created` event carries.
pub(super) fn body_of(event: &Event) -> Option<Body> {
    match &event.fact {
        Fact::TweetCreated { id, author, handle, name, text, media } => Some(Body {
            id: *id,
            author: *author,
            handle: handle.clone(),
            name: name.clone(),
            text: text.clone(),
            media: media.clone(),
            created_at_ms: event.at_ms,
        }),
        Fact::TweetDeleted { .. }
        | Fact::GraphChanged { .. }
        | Fact::FanoutChunk { .. }
        | Fact::ReclassChunk { .. } => None,
    }
}
