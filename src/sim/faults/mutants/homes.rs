//! MP1 and MP2: a wrapper of durable home timelines.

use async_trait::async_trait;

use super::{Mutant, Wrapped};
use crate::{
    domain::{Entry, TweetId, UserId, Window, ring::Slice},
    ports::{Chosen, HomeStore, Outcome, Read},
};

/// MP2: the users of whom one delivery in so many is lost: by a mix of user and tweet, so that a repeated
/// delivery is lost again.
const LOST_OF: u64 = 8;

#[async_trait]
impl HomeStore for Wrapped<dyn HomeStore> {
    async fn put_homes(&self, rows: &[(UserId, Entry)]) -> Outcome<()> {
        if self.mutant != Mutant::MP2 {
            return self.inner.put_homes(rows).await;
        }
        // The high bits of a product hang on all bits of its factors.
        let mix = |user: u64, tweet: u64| (user ^ tweet).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let kept = |(user, entry): &&(UserId, Entry)| {
            !(mix(user.0, entry.tweet.0) >> 48).is_multiple_of(LOST_OF)
        };
        let rows: Vec<(UserId, Entry)> = rows.iter().filter(kept).copied().collect();
        self.inner.put_homes(&rows).await
    }

    async fn raise_floor(&self, user: UserId, floor: TweetId) -> Outcome<()> {
        if self.mutant == Mutant::MP1 {
            return Outcome::Done(());
        }
        self.inner.raise_floor(user, floor).await
    }

    async fn home(&self, user: UserId, window: Window, limit: usize) -> Read<Slice> {
        self.inner.home(user, window, limit).await
    }

    async fn chosen(&self) -> Read<Chosen> {
        self.inner.chosen().await
    }

    async fn choose(&self, chosen: Chosen) -> Outcome<()> {
        self.inner.choose(chosen).await
    }
}
