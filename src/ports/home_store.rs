//! Durable home timelines, which the strategy `push` keeps, and the strategy of the data set.
//!
//! Shaped for Cassandra, as [`super::TimelineStore`] is: a call writes rows of many partitions, each for
//! itself, or reads a part of one; **nothing is ever deleted**, and rows follow from their keys, so any
//! order and repetition of writes gives the same. What a reader does not follow any more is among the
//! entries: whoever reads filters by relations, as with every list.

use async_trait::async_trait;

use super::{Outcome, Read};
use crate::domain::{Entry, TweetId, UserId, Window, fanout::Strategy, ring::Slice};

/// The most rows of one [`HomeStore::put_homes`].
pub const HOMES_MAX: usize = 4_096;

/// The strategy of a data set, as it was chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chosen {
    /// Each choice has a higher one; 0 before the first.
    pub version: u64,
    /// What was chosen.
    pub strategy: Strategy,
    /// Tweets up to this id may have been written under another strategy: no durable home timeline
    /// is complete down to below it.
    pub since: TweetId,
}

/// Durable home timelines and the strategy.
#[async_trait]
pub trait HomeStore: Send + Sync {
    /// Puts deliveries into home timelines, at most [`HOMES_MAX`]; those that are there stay.
    async fn put_homes(&self, rows: &[(UserId, Entry)]) -> Outcome<()>;

    /// The home timeline of `user` is not complete at or below `floor`. Never lowers one.
    async fn raise_floor(&self, user: UserId, floor: TweetId) -> Outcome<()>;

    /// Entries of `user` inside `window` above the floor, newest first, at most `limit`; for
    /// [`Window::After`] the nearest above. It is `exhausted` if there are no more of them.
    async fn home(&self, user: UserId, window: Window, limit: usize) -> Read<Slice>;

    /// The choice with the highest version; the default, of version 0, before the first.
    async fn chosen(&self) -> Read<Chosen>;

    /// Chooses. Of several choices the one with the highest version counts, in whatever order they come.
    async fn choose(&self, chosen: Chosen) -> Outcome<()>;
}
