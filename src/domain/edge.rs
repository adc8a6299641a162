//! Edges between two users, always told as the whole state of the pair.
//!
//! Every change to a pair takes the pair's next version under its lock and writes the whole state.
//! A copy of the graph therefore needs no order: of two versions the higher one is the truth.

use super::UserId;

/// Two different users, the smaller id first, so that both directions share one lock and version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pair {
    /// The user with the smaller id.
    pub low: UserId,
    /// The user with the larger id.
    pub high: UserId,
}

impl Pair {
    /// The pair of `a` and `b`; `None` if they are the same user.
    #[must_use]
    pub fn new(a: UserId, b: UserId) -> Option<Self> {
        match a.cmp(&b) {
            std::cmp::Ordering::Less => Some(Self { low: a, high: b }),
            std::cmp::Ordering::Greater => Some(Self { low: b, high: a }),
            std::cmp::Ordering::Equal => None,
        }
    }
}

/// What one user of a pair does to the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Side {
    /// Follows the other.
    pub follows: bool,
    /// Blocks the other.
    pub blocks: bool,
    /// Mutes the other.
    pub mutes: bool,
}

/// The whole state of a pair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct PairState {
    /// What the user with the smaller id does.
    pub low: Side,
    /// What the user with the larger id does.
    pub high: Side,
}

/// One requested change, by `actor` towards `target`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// Follow the target; refused while either blocks the other.
    Follow,
    /// Stop following.
    Unfollow,
    /// Block: also ends both follow edges.
    Block,
    /// Lift the block; the follow edges stay ended.
    Unblock,
    /// Hide the target's tweets from one's own home timeline.
    Mute,
    /// Lift the mute.
    Unmute,
}

impl Change {
    /// Whether honouring the change means that something must no longer be shown.
    #[must_use]
    pub const fn hides(self) -> bool {
        matches!(self, Self::Unfollow | Self::Block | Self::Mute)
    }
}

/// A change was refused because one of the two blocks the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("one of the two users blocks the other")]
pub struct Blocked;

/// The state of a pair after a change, as it is told to every copy of the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PairChange {
    /// Whose pair.
    pub pair: Pair,
    /// Increases by one with every change of this pair.
    pub version: u64,
    /// The whole state at this version.
    pub state: PairState,
}

impl PairState {
    /// What `user` of `pair` does to the other.
    #[must_use]
    pub fn side(&self, pair: Pair, user: UserId) -> Side {
        if user == pair.low { self.low } else { self.high }
    }

    /// The state after `actor` asked for `change`.
    ///
    /// # Errors
    /// [`Blocked`] for a follow while either blocks the other.
    pub fn apply(mut self, pair: Pair, actor: UserId, change: Change) -> Result<Self, Blocked> {
        let blocked = self.low.blocks || self.high.blocks;
        let (own, other) = if actor == pair.low {
            (&mut self.low, &mut self.high)
        } else {
            (&mut self.high, &mut self.low)
        };
        match change {
            Change::Follow if blocked => return Err(Blocked),
            Change::Follow => own.follows = true,
            Change::Unfollow => own.follows = false,
            Change::Block => {
                own.blocks = true;
                own.follows = false;
                other.follows = false;
            }
            Change::Unblock => own.blocks = false,
            Change::Mute => own.mutes = true,
            Change::Unmute => own.mutes = false,
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAIR: Pair = Pair { low: UserId(1), high: UserId(2) };

    #[test]
    fn a_block_ends_both_follows_and_refuses_new_ones() {
        let start = PairState::default();
        let both = start.apply(PAIR, UserId(1), Change::Follow).unwrap();
        let both = both.apply(PAIR, UserId(2), Change::Follow).unwrap();
        let blocked = both.apply(PAIR, UserId(2), Change::Block).unwrap();
        assert!(!blocked.low.follows && !blocked.high.follows && blocked.high.blocks);
        assert_eq!(blocked.apply(PAIR, UserId(1), Change::Follow), Err(Blocked));
        assert_eq!(blocked.apply(PAIR, UserId(2), Change::Follow), Err(Blocked));
        let lifted = blocked.apply(PAIR, UserId(2), Change::Unblock).unwrap();
        assert!(!lifted.low.follows, "lifting a block does not bring a follow back");
    }

    #[test]
    fn every_change_is_idempotent() {
        for change in [
            Change::Follow,
            Change::Unfollow,
            Change::Block,
            Change::Unblock,
            Change::Mute,
            Change::Unmute,
        ] {
            let once = PairState::default().apply(PAIR, UserId(1), change).unwrap();
            let twice = once.apply(PAIR, UserId(1), change);
            assert_eq!(twice, Ok(once), "{change:?}");
        }
    }

    #[test]
    fn a_pair_is_the_same_from_both_sides() {
        assert_eq!(Pair::new(UserId(2), UserId(1)), Pair::new(UserId(1), UserId(2)));
        assert_eq!(Pair::new(UserId(1), UserId(1)), None);
    }
}
