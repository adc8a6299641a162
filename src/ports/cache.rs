//! The caches of the timeline role. All of them may lose anything at any time.
//!
//! One protocol for every cached collection:
//!
//! 1. **absent is a miss, never "empty"**;
//! 2. whoever fills it begins with a random token, reads the store *after* that, and ends the fill
//!    with the same token; if the token no longer stands (wiped, invalidated, another fill), nothing
//!    is stored;
//! 3. a write while the fill runs is united with what the fill brings;
//! 4. a write or an invalidation is `Done` only when it cannot be undone by a failover, **also if it
//!    found nothing to do**.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::{Outcome, Read};
use crate::domain::{Entry, Relations, Token, TweetId, UserId, Window, ring::Slice};

/// The most owners of one [`Push`].
pub const PUSH_OWNERS_MAX: usize = 4096;

/// A cached list of deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ListKey {
    /// A reader's home timeline (`tl:{user}`).
    Home(UserId),
    /// Recent tweets of a pulled author (`at:{author}`).
    Author(UserId),
}

/// What one read of a home timeline found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HomeRead {
    /// The reader's relations are not cached.
    NoRelations,
    /// The relations are cached, the timeline is not.
    NoTimeline,
    /// Both are.
    Hit(HomeSlice),
}

/// A part of a home timeline, already filtered by the reader's relations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HomeSlice {
    /// The deliveries that the reader may see.
    pub slice: Slice,
    /// Authors that have to be merged in.
    pub pulled: Vec<UserId>,
}

/// One tweet for many lists of one kind.
#[derive(Clone, Debug)]
pub struct Push<'a> {
    /// The delivery.
    pub entry: Entry,
    /// Home timelines it belongs into, at most [`PUSH_OWNERS_MAX`].
    pub homes: &'a [UserId],
    /// Put it into the author's own list (`at:{author}`) too.
    pub author_list: bool,
}

/// What a push did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PushReport {
    /// Deliveries made now.
    pub delivered: u64,
    /// Lists that had it already, or do not reach down to it.
    pub repeated: u64,
    /// Lists that are not cached, and so cost no write.
    pub absent: u64,
}

/// Home timelines and recent tweets of pulled authors.
#[async_trait]
pub trait TimelineCache: Send + Sync {
    /// A page of `user`'s home timeline, filtered by the user's cached relations, in one round trip.
    /// Renews the timeline's time to live.
    async fn page(&self, user: UserId, window: Window, limit: usize) -> Read<HomeRead>;

    /// Lists of several authors; `None` for those that are not cached and ready.
    async fn author_lists(
        &self,
        authors: &[UserId],
        window: Window,
        limit: usize,
    ) -> Read<Vec<Option<Slice>>>;

    /// Puts entries into every list that exists. Lists that do not exist stay absent.
    async fn push(&self, pushes: &[Push<'_>]) -> Outcome<PushReport>;

    /// Puts entries into one list that may exist: a follower's backfill. They are all that belongs
    /// into it above `above`. A list that reaches below that would have a gap: then nothing is
    /// written and it is `None`, and the caller drops the list. The look at the list and the write
    /// are one step, because a failover between them may bring an older list back.
    async fn push_many(
        &self,
        key: ListKey,
        entries: &[Entry],
        above: TweetId,
    ) -> Outcome<Option<PushReport>>;

    /// Begins a fill. `None` if the list is ready already.
    async fn begin_fill(&self, key: ListKey) -> Outcome<Option<Token>>;

    /// Ends a fill: `entries` are complete above `floor`. `false` if the token no longer stands.
    async fn finish_fill(
        &self,
        key: ListKey,
        token: Token,
        entries: &[Entry],
        floor: TweetId,
    ) -> Outcome<bool>;

    /// Drops lists.
    async fn invalidate(&self, keys: &[ListKey]) -> Outcome<()>;
}

/// Whom a reader may see.
#[async_trait]
pub trait RelationCache: Send + Sync {
    /// The relations of `user`; `None` if they are not cached.
    async fn get(&self, user: UserId) -> Read<Option<Arc<Relations>>>;

    /// Begins a fill; a fill that runs already is overruled.
    async fn begin_fill(&self, user: UserId) -> Outcome<Token>;

    /// Ends a fill. `false` if the token no longer stands.
    async fn finish_fill(
        &self,
        user: UserId,
        token: Token,
        relations: Arc<Relations>,
    ) -> Outcome<bool>;

    /// Drops relations: from `Done` on, no read sees what was there.
    async fn invalidate(&self, users: &[UserId]) -> Outcome<()>;
}

/// A tweet as a cache holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CachedBody {
    /// The JSON of the tweet, ready to be put into a page.
    Live(Bytes),
    /// It was deleted.
    Deleted,
}

/// What a cache knows of a tweet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyRead {
    /// It is there.
    Hit(CachedBody),
    /// It is not there. With a token, the caller may fill it; without, somebody else does.
    Miss(Option<Token>),
}

/// Bodies of tweets.
#[async_trait]
pub trait BodyCache: Send + Sync {
    /// Looks tweets up, in the order of `ids`, and takes a token for each that is missing and that
    /// nobody fills.
    async fn read(&self, ids: &[TweetId]) -> Read<Vec<BodyRead>>;

    /// Ends fills; those whose token no longer stands are skipped.
    async fn fill(&self, bodies: &[(TweetId, Token, CachedBody)]) -> Outcome<()>;

    /// Marks tweets deleted: from `Done` on, no read of the shared cache gives a body, and every
    /// fill that had begun is void.
    async fn tombstone(&self, ids: &[TweetId]) -> Outcome<()>;
}
