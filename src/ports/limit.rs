//! Rate limits, and hints that something new may be read.

use std::time::Duration;

use async_trait::async_trait;

use super::Read;
use crate::domain::{TweetId, UserId};

/// How much a caller may do: `burst` at once, and `burst` per `period` in the long run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Calls at once, at least 1.
    pub burst: u32,
    /// The time in which `burst` calls come back.
    pub period: Duration,
}

/// The answer of a limiter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether the call may go on.
    pub allowed: bool,
    /// Calls that would be allowed right after this one.
    pub remaining: u32,
    /// Time until one more call is allowed (zero if allowed now).
    pub retry_after: Duration,
    /// Time until the full burst is there again.
    pub reset_after: Duration,
}

/// A call to count.
#[derive(Clone, Copy, Debug)]
pub struct Counted<'a> {
    /// Which limit it counts towards.
    pub name: &'static str,
    /// Whose call it is, such as `user:17` or `addr:127.0.0.1`.
    pub key: &'a str,
    /// How much that is.
    pub limit: Limit,
}

/// Counts calls per key.
#[async_trait]
pub trait RateLimiter: Send + Sync {
    /// Counts each of `calls` and gives a verdict for each, in order. One that is refused does not
    /// keep the others from being counted: all are asked in one round trip.
    async fn check(&self, calls: &[Counted<'_>]) -> Read<Vec<Verdict>>;
}

/// Tells somebody who waits that it is worth reading again. May be lost; never the only way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// The home timeline of `UserId` has something new, or lost something.
    Home(UserId),
    /// A tweet was deleted: whoever shows it takes it down. Followers are too many to be told one by
    /// one, so every subscriber is told.
    Deleted(TweetId),
    /// A chain of the fan-out of a tweet by `author` is done.
    Projected {
        /// Who wrote it, and so who waits.
        author: UserId,
        /// The tweet.
        tweet: TweetId,
        /// Which chain.
        part: u16,
        /// Of how many.
        parts: u16,
    },
}

impl Hint {
    /// Whose subscribers are told; `None`: everybody's.
    #[must_use]
    pub const fn user(&self) -> Option<UserId> {
        match self {
            Self::Home(user) => Some(*user),
            Self::Deleted(_) => None,
            Self::Projected { author, .. } => Some(*author),
        }
    }
}

/// The hints for one user and those for everybody, from the moment of subscription on.
#[async_trait]
pub trait HintStream: Send {
    /// The next hint; `None` when the source has gone. Old hints may be dropped.
    async fn next(&mut self) -> Option<Hint>;
}

/// Distributes hints.
#[async_trait]
pub trait Hints: Send + Sync {
    /// Tells whoever subscribes to [`Hint::user`]. Never waits for them.
    async fn notify(&self, hints: &[Hint]);

    /// The hints for `user` and for everybody, from now on.
    async fn subscribe(&self, user: UserId) -> Box<dyn HintStream>;

    /// Whether anybody subscribes at all, as far as this process knows: saves the making of hints.
    fn wanted(&self) -> bool;
}
