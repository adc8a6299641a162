//! What is known of uploads: who may use one, what its bytes were found to be, which tweet uses it,
//! and when it is to be removed. The bytes themselves are in [`super::BlobStore`].

use async_trait::async_trait;

use super::{Outcome, Read};
use crate::domain::{MediaId, MediaShape, TweetId, UserId};

/// The promise of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewUpload {
    /// Its name.
    pub id: MediaId,
    /// Who may send and use it.
    pub owner: UserId,
    /// When it was asked for, in milliseconds since the Unix epoch.
    pub now_ms: u64,
    /// No tweet may use it from then on, in milliseconds since the Unix epoch.
    pub expires_at_ms: u64,
}

/// How a promise ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begun {
    /// It is kept.
    Begun,
    /// The owner has as many unused ones as allowed. Nothing was written.
    TooMany,
}

/// What is known of one upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UploadRow {
    /// Who may use it.
    pub owner: UserId,
    /// No tweet may use it from then on, in milliseconds since the Unix epoch.
    pub expires_at_ms: u64,
    /// What its bytes are; `None` until they were checked and published.
    pub shape: Option<MediaShape>,
    /// The tweet that uses it.
    pub tweet: Option<TweetId>,
}

impl UploadRow {
    /// What the bytes are, if a new tweet of `author` can use the upload.
    ///
    /// # Errors
    /// [`Unfit`]; nobody is told of another's upload.
    pub fn fit(row: Option<&Self>, author: UserId, now_ms: u64) -> Result<MediaShape, Unfit> {
        let row = row.filter(|row| row.owner == author).ok_or(Unfit::Unknown)?;
        if row.tweet.is_some() {
            return Err(Unfit::Used);
        }
        if row.expires_at_ms <= now_ms {
            return Err(Unfit::Expired);
        }
        row.shape.ok_or(Unfit::Unchecked)
    }
}

/// Why a tweet cannot use an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// There is none of its author's by that name.
    Unknown,
    /// It came too late.
    Expired,
    /// Its bytes were not checked.
    Unchecked,
    /// Another tweet uses it.
    Used,
}

/// An upload whose time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// Its name.
    pub id: MediaId,
    /// Whether no tweet shows it (any more), so that the published bytes go too. Otherwise only what
    /// was uploaded goes; the published bytes stay.
    pub unused: bool,
}

/// Uploads, in the same database as the tweets: [`super::TweetStore::create`] gives them to a tweet in
/// the tweet's transaction, and a deletion makes them due.
#[async_trait]
pub trait MediaStore: Send + Sync {
    /// Writes a promise down, unless the owner has `unused_max` that no tweet uses and that have not
    /// expired. Repeating it changes nothing.
    async fn begin(&self, new: &NewUpload, unused_max: u64) -> Outcome<Begun>;

    /// What is known of each, in the order of `ids`; `None` for one that is not there, or that
    /// [`Self::due`] has given up.
    async fn find(&self, ids: &[MediaId]) -> Read<Vec<Option<UploadRow>>>;

    /// Writes down what the bytes are; the first word stands. `false` if it is not there, or was given
    /// up.
    async fn checked(&self, id: MediaId, shape: MediaShape) -> Outcome<bool>;

    /// Those whose time came at or before `before_ms`: that expired, or whose tweet was deleted. At
    /// most `limit`, the oldest first. Those that no tweet uses are given up: none ever will. They
    /// are given again until [`Self::settle`].
    async fn due(&self, before_ms: u64, limit: usize) -> Outcome<Vec<Due>>;

    /// Their bytes are gone. Rows that nothing can use any more are removed; a deleted tweet's upload
    /// that has not expired by `before_ms` is due once more when it does, as it may be sent again.
    async fn settle(&self, done: &[Due], before_ms: u64) -> Outcome<()>;
}
