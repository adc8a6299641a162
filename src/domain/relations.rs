//! Whom one reader may see, derived from the reader's edges: the cached collection `rel:{user}`.

use super::{PairState, UserId, edge::Pair, fanout::Class};

/// Sorted id lists that decide what a reader is shown. Small, immutable, shared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Relations {
    /// Authors whose tweets belong into the home timeline: the reader, plus followees, less blocked
    /// either way, less muted. Sorted.
    pub visible: Box<[UserId]>,
    /// The visible authors that are read at read time (class `both` or `pull`). Sorted.
    pub pulled: Box<[UserId]>,
    /// Users of whom no read route shows anything: blocked either way. Sorted.
    pub hidden: Box<[UserId]>,
}

/// One row of a reader's edges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relation {
    /// The other user.
    pub other: UserId,
    /// The reader follows the other.
    pub follows: bool,
    /// The reader blocks the other, or the other way round.
    pub blocked: bool,
    /// The reader mutes the other.
    pub mutes: bool,
}

impl Relation {
    /// The row of `reader` about the other user of `pair`.
    #[must_use]
    pub fn of(reader: UserId, pair: Pair, state: &PairState) -> Self {
        let other = if reader == pair.low { pair.high } else { pair.low };
        let own = state.side(pair, reader);
        let theirs = state.side(pair, other);
        Self { other, follows: own.follows, blocked: own.blocks || theirs.blocks, mutes: own.mutes }
    }

    /// Whether a copy of the graph keeps the row, which is that of its pair's `version`. What says
    /// nothing is kept if it may replace what said something, and before the first version there is
    /// nothing: else each of a celebrity's followers would be a row of hers.
    #[must_use]
    pub const fn is_kept(&self, version: u64) -> bool {
        version > 1 || self.follows || self.blocked || self.mutes
    }

    /// Whether the other's tweets belong into the reader's home timeline.
    #[must_use]
    pub const fn shown(&self) -> bool {
        self.follows && !self.blocked && !self.mutes
    }
}

impl Relations {
    /// The lists of `reader`; `class` tells how a followee's tweets travel.
    #[must_use]
    pub fn new(reader: UserId, rows: &[Relation], class: impl Fn(UserId) -> Class) -> Self {
        let mut visible: Vec<UserId> =
            rows.iter().filter(|row| row.shown()).map(|row| row.other).collect();
        visible.push(reader);
        visible.sort_unstable();
        visible.dedup();
        // One's own tweets are written into the own timeline before the answer, at any class.
        let pulled =
            visible.iter().copied().filter(|&a| a != reader && class(a).is_pulled()).collect();
        let mut hidden: Vec<UserId> =
            rows.iter().filter(|row| row.blocked).map(|row| row.other).collect();
        hidden.sort_unstable();
        Self { visible: visible.into(), pulled, hidden: hidden.into() }
    }

    /// Whether tweets of `author` belong into the home timeline.
    #[must_use]
    pub fn sees(&self, author: UserId) -> bool {
        self.visible.binary_search(&author).is_ok()
    }

    /// Whether nothing of `author` may be shown on any route.
    #[must_use]
    pub fn blocks_reading(&self, author: UserId) -> bool {
        self.hidden.binary_search(&author).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocked_and_muted_followees_are_not_visible_and_the_reader_is() {
        let row = |other, follows, blocked, mutes| Relation {
            other: UserId(other),
            follows,
            blocked,
            mutes,
        };
        let rows = [
            row(9, true, false, false),
            row(3, true, false, true),
            row(4, false, true, false),
            row(7, true, false, false),
            row(8, false, false, false),
        ];
        let class = |id| if id == UserId(7) { Class::Pull } else { Class::Push };
        let relations = Relations::new(UserId(5), &rows, class);
        assert_eq!(*relations.visible, [UserId(5), UserId(7), UserId(9)]);
        assert_eq!(*relations.pulled, [UserId(7)]);
        assert!(relations.blocks_reading(UserId(4)) && !relations.blocks_reading(UserId(3)));
    }
}
