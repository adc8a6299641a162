//! Which part of a timeline is asked for.

use super::TweetId;

/// A window on a list that is ordered newest first. Bounds are exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// The newest entries.
    Latest,
    /// The nearest entries below the id: the next older page.
    Before(TweetId),
    /// The nearest entries above the id: the next newer page.
    After(TweetId),
}

impl Window {
    /// Whether `id` lies inside.
    #[must_use]
    pub fn holds(self, id: TweetId) -> bool {
        match self {
            Self::Latest => true,
            Self::Before(bound) => id < bound,
            Self::After(bound) => id > bound,
        }
    }

    /// Exclusive upper bound of the ids inside, if there is one.
    #[must_use]
    pub const fn below(self) -> Option<TweetId> {
        match self {
            Self::Before(bound) => Some(bound),
            Self::Latest | Self::After(_) => None,
        }
    }
}
