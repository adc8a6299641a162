//! Broken promises, by name.

use std::fmt;

use super::{ledger::Ledger, report::Violation};
use crate::domain::TweetId;

/// Which promise was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// An acknowledged tweet is not where it must be.
    Missing,
    /// A tweet is twice in one list.
    Duplicate,
    /// A list is not newest first.
    Order,
    /// A tweet that nobody wrote.
    Phantom,
    /// A tweet is shown after its delete was acknowledged.
    DeletedShown,
    /// Somebody's tweet is shown after the end of the follow was acknowledged.
    UnfollowedShown,
    /// Somebody's tweet is shown after a block was acknowledged.
    BlockedShown,
    /// A tweet of somebody whom the reader never followed.
    Leaked,
    /// An author's own tweet is not in the own timeline right after its acknowledgement.
    OwnUnseen,
    /// A tweet that the reader has seen is gone from the first page, without a reason.
    WentBack,
    /// A walk by cursors repeats something, or goes up.
    CursorRepeat,
    /// A count of followers or followees is wrong.
    Counter,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 12] = [
        Self::Missing,
        Self::Duplicate,
        Self::Order,
        Self::Phantom,
        Self::DeletedShown,
        Self::UnfollowedShown,
        Self::BlockedShown,
        Self::Leaked,
        Self::OwnUnseen,
        Self::WentBack,
        Self::CursorRepeat,
        Self::Counter,
    ];

    /// Its name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Duplicate => "duplicate",
            Self::Order => "order",
            Self::Phantom => "phantom",
            Self::DeletedShown => "deleted_shown",
            Self::UnfollowedShown => "unfollowed_shown",
            Self::BlockedShown => "blocked_shown",
            Self::Leaked => "leaked",
            Self::OwnUnseen => "own_unseen",
            Self::WentBack => "went_back",
            Self::CursorRepeat => "cursor_repeat",
            Self::Counter => "counter",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a check has found.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// Which promise was broken.
    pub kind: Kind,
    /// The post that it is about.
    pub post: Option<u32>,
    /// The tweet that it is about.
    pub tweet: Option<TweetId>,
    /// Its author, by rank.
    pub author: Option<u32>,
    /// Who read, by rank.
    pub reader: u32,
    /// When it was seen, in microseconds since the run began.
    pub seen_us: u64,
    /// The rest in words.
    pub about: String,
}

impl Evidence {
    /// With names in the place of ranks.
    #[must_use]
    pub fn violation(&self, ledger: &Ledger) -> Violation {
        let handle = |rank: u32| {
            ledger.population.users.get(rank as usize).map(|user| user.handle.to_string())
        };
        let known = self.post.and_then(|post| ledger.post(post));
        let acknowledged = known.filter(|known| known.at_us > 0).map(|known| known.at_us / 1_000);
        Violation {
            kind: self.kind.name().to_owned(),
            tweet: self.tweet.or(known.and_then(|known| known.id)).map(|id| id.to_string()),
            author: self.author.or(known.map(|known| known.author)).and_then(handle),
            reader: handle(self.reader),
            acknowledged_ms: acknowledged,
            seen_ms: self.seen_us / 1_000,
            about: self.about.clone(),
        }
    }
}
