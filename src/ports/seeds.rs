//! Filling an empty data set in bulk, as if everything in it had been made long ago by calls whose
//! events were consumed.

use async_trait::async_trait;

use super::{Account, Outcome, PasswordHash, Read};
use crate::domain::{Body, PairChange, TweetId, UserId};

/// What a data set was filled with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeedMark {
    /// As the command line says it.
    pub what: String,
    /// Whether all of it is there.
    pub done: bool,
}

/// A user, with everything that is kept by user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeedUser {
    /// The account.
    pub account: Account,
    /// Whom the user follows, each with the version of the pair, in the order of ids.
    pub following: Vec<(UserId, u64)>,
    /// Who follows the user, likewise.
    pub followers: Vec<(UserId, u64)>,
    /// The pairs in which the user is the lower one, in the order of the others.
    pub pairs: Vec<PairChange>,
    /// The ids of the user's tweets, in their order.
    pub tweets: Vec<TweetId>,
}

/// Stores of all roles that can be filled.
///
/// A batch is written to the copy first and to the truth last, there in one transaction: one whose last
/// row is there is there whole, and is left out when the same is filled in again.
#[async_trait]
pub trait SeedStore: Send + Sync {
    /// What the data set was filled with; `None` if it never was.
    async fn mark(&self) -> Read<Option<SeedMark>>;

    /// Whether there is nobody and nothing.
    async fn is_empty(&self) -> Read<bool>;

    /// Notes what is about to be filled in.
    async fn begin(&self, what: &str) -> Outcome<()>;

    /// Users in the order of their ids.
    async fn users(&self, batch: Vec<SeedUser>) -> Outcome<()>;

    /// Tweets, the oldest first.
    async fn tweets(&self, batch: Vec<Body>) -> Outcome<()>;

    /// These authors have so many followers that the strategy `hybrid` reads them at read time.
    async fn pulled(&self, authors: &[UserId]) -> Outcome<()>;

    /// Notes that all of it is there, and gives everybody this password who has none.
    async fn finish(&self, password: &PasswordHash) -> Outcome<()>;
}
