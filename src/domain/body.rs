//! What is shown of a tweet.

use super::{DisplayName, Handle, MediaList, TweetId, TweetText, UserId};

/// A live tweet as its author wrote it, with the author's names at that time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
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
    pub media: MediaList,
    /// When it was accepted, in milliseconds since the Unix epoch.
    pub created_at_ms: u64,
}
