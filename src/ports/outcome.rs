//! How a call to a store ended.

use std::fmt;

/// What kind of trouble a store is in; callers branch on this only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It could not be reached, or refused the work. Trying again later is right.
    Unavailable,
    /// It did not answer in time.
    Timeout,
    /// It is full: disk, memory or a bounded queue.
    Full,
    /// What it holds cannot be read: corrupt, or of another version.
    Corrupt,
}

impl Kind {
    /// The word for it in logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::Full => "full",
            Self::Corrupt => "corrupt",
        }
    }
}

/// A store's error. The text is for logs; it never reaches a client and carries no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreError {
    /// What kind of trouble.
    pub kind: Kind,
    /// Which store, as in `architecture`: `tweets`, `bus`, `timeline_cache`, ...
    pub store: &'static str,
    /// What was attempted and what came back.
    pub message: String,
}

impl StoreError {
    /// An error of `store`.
    pub fn new(kind: Kind, store: &'static str, message: impl Into<String>) -> Self {
        Self { kind, store, message: message.into() }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.store, self.kind.as_str(), self.message)
    }
}

impl std::error::Error for StoreError {}

/// How a read ended.
pub type Read<T> = Result<T, StoreError>;

/// Writes, and if the end of that is unknown writes again; `write` may be repeated. Whether it was
/// goes with the outcome. A repetition that fails says nothing of the first attempt, which may have
/// happened or may still: then the whole is unknown.
pub async fn twice<T, F>(write: impl Fn() -> F) -> (Outcome<T>, bool)
where
    F: Future<Output = Outcome<T>>,
{
    match write().await {
        Outcome::Unknown(_) => match write().await {
            Outcome::Failed(error) => (Outcome::Unknown(error), true),
            other => (other, true),
        },
        other => (other, false),
    }
}

/// How a write ended.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<T> {
    /// It happened, and stays.
    Done(T),
    /// It did not happen and will not.
    Failed(StoreError),
    /// It may have happened, or may still.
    Unknown(StoreError),
}

impl<T> Outcome<T> {
    /// The value if it is certain that the write happened.
    pub fn done(self) -> Option<T> {
        match self {
            Self::Done(value) => Some(value),
            Self::Failed(_) | Self::Unknown(_) => None,
        }
    }

    /// Whether it is certain that the write happened.
    pub const fn is_done(&self) -> bool {
        matches!(self, Self::Done(_))
    }

    /// For callers to whom "failed" and "unknown" are the same: they will repeat the write.
    ///
    /// # Errors
    /// The error of a write that is not certain to have happened.
    pub fn certain(self) -> Result<T, StoreError> {
        match self {
            Self::Done(value) => Ok(value),
            Self::Failed(error) | Self::Unknown(error) => Err(error),
        }
    }

    /// Applies `f` to the value.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Outcome<U> {
        match self {
            Self::Done(value) => Outcome::Done(f(value)),
            Self::Failed(error) => Outcome::Failed(error),
            Self::Unknown(error) => Outcome::Unknown(error),
        }
    }
}
