//! Tweets: the tweet role's truth.

use async_trait::async_trait;

use super::{Outcome, Read, Unfit};
use crate::{
    domain::{Body, MediaId, TweetId, UserId, Window},
    wire::trace::TraceContext,
};

/// How long an idempotency key is kept, in milliseconds.
pub const KEY_TTL_MS: u64 = 24 * 3600 * 1000;
/// Expired keys that a store removes with every new one: more than one, so that a backlog shrinks.
pub const KEYS_SWEPT: i64 = 2;

/// A client's name for one attempt to post.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// The client's key, 1 to 128 visible ASCII characters.
    pub key: String,
    /// SHA-256 of the request body.
    pub body_hash: [u8; 32],
}

/// A tweet that is asked for.
#[derive(Clone, Debug)]
pub struct NewTweet {
    /// The tweet; its id is a candidate, and its pictures are those of `media`, whatever it says.
    pub body: Body,
    /// Uploads that the tweet shows, in this order: at most 4, none twice.
    pub media: Vec<MediaId>,
    /// The client's key, if it gave one.
    pub key: Option<IdempotencyKey>,
    /// The request's trace, for the event.
    pub trace: Option<TraceContext>,
}

/// How a post ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Created {
    /// It was written now, under the id in the body.
    Fresh(Body),
    /// The same key wrote it before.
    Replay(Body),
    /// The key was used for another body. Nothing was written.
    KeyReused,
    /// The candidate id is taken: try again with another.
    IdTaken,
    /// The tweet cannot show this upload, the first of them. Nothing was written.
    Unfit(MediaId, Unfit),
}

/// How a delete ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deleted {
    /// It is deleted, by this call (`true`) or before.
    Gone {
        /// Whether this call deleted it, and so wrote an event.
        fresh: bool,
    },
    /// Another user wrote it. Nothing was written.
    NotOwner,
    /// There is no such tweet.
    Missing,
}

/// Tweets.
#[async_trait]
pub trait TweetStore: Send + Sync {
    /// Writes tweet, outbox row (`tweet_created`) and idempotency row in one transaction. The
    /// transaction locks the author's row and takes the larger of the candidate and the id above
    /// the author's last, so that an author's ids increase in the order of commits. A key is kept
    /// for 24 hours after `body.created_at_ms`; a duplicate that is in flight is waited for.
    ///
    /// The same transaction gives the tweet its uploads, which must be the author's, checked, not
    /// expired at `body.created_at_ms` and not another tweet's. A key that was used is looked at
    /// before them.
    async fn create(&self, tweet: &NewTweet) -> Outcome<Created>;

    /// Marks a tweet of `author` deleted and writes `tweet_deleted` to the outbox, in one
    /// transaction. Its uploads are due from `now_ms` on.
    async fn delete(
        &self,
        author: UserId,
        id: TweetId,
        now_ms: u64,
        trace: Option<TraceContext>,
    ) -> Outcome<Deleted>;

    /// An author's live tweets inside `window`, newest first, at most `limit`; for
    /// [`Window::After`] the nearest above.
    async fn by_author(&self, author: UserId, window: Window, limit: usize) -> Read<Vec<Body>>;
}
