//! Calls between roles. They live on the admin listener, which no gateway routes, and carry the
//! service token.

use serde::{Deserialize, Serialize};

use super::events::{Event, no_media};
use crate::domain::{Body, DisplayName, Handle, MediaList, SessionId, TweetId, TweetText, UserId};

/// `POST` at the timeline role: apply these events now, before the caller is answered. 204 once every
/// read honours them: what they hide is hidden from everybody, what they show is shown to its author.
/// 503 if that is not certain; the events themselves follow on the bus and repair it.
pub const APPLY: &str = "/internal/apply";
/// `GET` at the tweet role: an author's own tweets, straight from the truth. Path with `{author}`;
/// query `before`, `after`, `limit` (at most 200).
pub const AUTHOR_TWEETS: &str = "/internal/authors/{author}/tweets";
/// `GET` at the user role: an account by handle ([`super::api::User`]); 404 if there is none.
pub const USER_BY_HANDLE: &str = "/internal/users/{handle}";
/// `GET` at the user role: sessions revoked since `since` (milliseconds since the Unix epoch).
pub const REVOCATIONS: &str = "/internal/revocations";

/// Body of [`APPLY`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Apply {
    /// What to honour.
    pub events: Vec<Event>,
}

/// Answer of [`AUTHOR_TWEETS`]; newest first, deleted ones left out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AuthorTweets {
    /// The tweets.
    pub tweets: Vec<AuthorTweet>,
    /// There is nothing more in this direction.
    pub exhausted: bool,
}

/// A tweet of [`AuthorTweets`]. Not the public API's, so that what one grows does not reach the other.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AuthorTweet {
    /// The tweet.
    pub id: TweetId,
    /// Who wrote it.
    pub author: UserId,
    /// The author's handle.
    pub handle: Handle,
    /// The author's display name when the tweet was written.
    pub name: DisplayName,
    /// The text.
    pub text: TweetText,
    /// The pictures.
    #[serde(skip_serializing_if = "no_media", default)]
    pub media: MediaList,
    /// When it was accepted, in milliseconds since the Unix epoch.
    pub created_at_ms: u64,
}

impl From<Body> for AuthorTweet {
    fn from(body: Body) -> Self {
        let Body { id, author, handle, name, text, media, created_at_ms } = body;
        Self { id, author, handle, name, text, media, created_at_ms }
    }
}

impl From<AuthorTweet> for Body {
    fn from(tweet: AuthorTweet) -> Self {
        let AuthorTweet { id, author, handle, name, text, media, created_at_ms } = tweet;
        Self { id, author, handle, name, text, media, created_at_ms }
    }
}

/// Answer of [`REVOCATIONS`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Revocations {
    /// Sessions whose access tokens must no longer be accepted.
    pub sessions: Vec<SessionId>,
    /// Pass as the next `since`.
    pub until_ms: u64,
    /// There are more already: ask again at once.
    #[serde(default)]
    pub more: bool,
}
