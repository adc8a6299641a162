//! The timeline role's durable copy of tweets and graph.
//!
//! Shaped for Cassandra: one partition per call or a bounded list of them, no transaction over
//! rows, and **no row of truth is ever deleted**, so that the same facts give the same rows in any
//! order, however often they are told.

use async_trait::async_trait;

use super::{Outcome, Read};
use crate::{
    domain::{Body, PairChange, TweetId, UserId, Window, fanout::Class, relations::Relation},
    wire::events::FollowerCursor,
};

/// The most ids of one [`TimelineStore::bodies`] or [`TimelineStore::authors`] call.
pub const IDS_MAX: usize = 1000;

/// A tweet in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoredBody {
    /// It may be shown.
    Live(Body),
    /// It was deleted; its body may never have arrived.
    Deleted,
}

/// An author in the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AuthorRow {
    /// How the author's tweets travel.
    pub class: Class,
    /// No stored tweet of the author is above this id.
    pub latest: TweetId,
}

/// A page of followers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FollowerPage {
    /// Users who follow the author now.
    pub followers: Vec<UserId>,
    /// Where the next page begins; `None` at the end of the range.
    pub next: Option<FollowerCursor>,
}

/// Tweets, authors, followers and relations.
#[async_trait]
pub trait TimelineStore: Send + Sync {
    /// Writes tweets: the body, its place in the author's timeline and the author's `latest`, in
    /// this order. Never clears a deletion. One outcome for all.
    async fn put_tweets(&self, bodies: &[Body]) -> Outcome<()>;

    /// Marks tweets deleted, whether they have arrived or not.
    async fn delete_tweets(&self, ids: &[TweetId]) -> Outcome<()>;

    /// Bodies in the order of `ids`, at most [`IDS_MAX`]; `None` for those that never arrived.
    async fn bodies(&self, ids: &[TweetId]) -> Read<Vec<Option<StoredBody>>>;

    /// Ids of an author's tweets inside `window`, deleted ones included, newest first, at most
    /// `limit`; for [`Window::After`] the nearest above.
    async fn author_tweets(
        &self,
        author: UserId,
        window: Window,
        limit: usize,
    ) -> Read<Vec<TweetId>>;

    /// Rows of authors in the order of `ids`, at most [`IDS_MAX`]; the default row for unknown ones.
    async fn authors(&self, ids: &[UserId]) -> Read<Vec<AuthorRow>>;

    /// Moves an author to `class`; never back to an earlier one.
    async fn set_class(&self, author: UserId, class: Class) -> Outcome<()>;

    /// Writes both users' copies of pairs: relations of both, followers of both. Of several
    /// versions the highest counts, whatever the order of writes.
    async fn put_pairs(&self, changes: &[PairChange]) -> Outcome<()>;

    /// Others about whom `user` has a row ([`Relation::is_kept`]), in the order of their ids, after
    /// `after`, at most `limit` (up to [`IDS_MAX`]); fewer only at the end. Who only follows `user` is
    /// none of them.
    async fn relations(
        &self,
        user: UserId,
        after: Option<UserId>,
        limit: usize,
    ) -> Read<Vec<Relation>>;

    /// Followers of `author` in the buckets `first..end`, after `after`, about `limit` of them (a
    /// page may be short before the end). In the order of buckets, then of ids.
    async fn followers(
        &self,
        author: UserId,
        buckets: (u16, u16),
        after: Option<FollowerCursor>,
        limit: usize,
    ) -> Read<FollowerPage>;
}
