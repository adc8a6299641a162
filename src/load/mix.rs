//! What is asked for, and how often: operations, and mixes of them by name.

use std::collections::BTreeMap;

/// An operation of the public API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Op {
    /// The first page of a home timeline.
    Timeline,
    /// The page below the one that the reader saw last; the first one if there is none.
    Scroll,
    /// The first page of an author's own timeline.
    Author,
    /// A profile.
    Profile,
    /// A tweet.
    Post,
    /// The end of one of this run's tweets.
    Delete,
    /// Follow somebody who was not followed.
    Follow,
    /// Unfollow somebody.
    Unfollow,
    /// Block somebody who was followed.
    Block,
    /// End a block.
    Unblock,
}

impl Op {
    /// Every operation.
    pub const ALL: [Self; 10] = [
        Self::Timeline,
        Self::Scroll,
        Self::Author,
        Self::Profile,
        Self::Post,
        Self::Delete,
        Self::Follow,
        Self::Unfollow,
        Self::Block,
        Self::Unblock,
    ];

    /// Its name in profiles, objectives and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Timeline => "timeline",
            Self::Scroll => "scroll",
            Self::Author => "author",
            Self::Profile => "profile",
            Self::Post => "post",
            Self::Delete => "delete",
            Self::Follow => "follow",
            Self::Unfollow => "unfollow",
            Self::Block => "block",
            Self::Unblock => "unblock",
        }
    }

    /// The operation of a name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|op| op.name() == name)
    }
}

/// Who acts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Actors {
    /// A tenth of the users does four fifths of everything; who is followed more does more.
    #[default]
    Skewed,
    /// Authors are the ten most followed, readers as with [`Actors::Skewed`].
    Celebrities,
    /// Everybody alike, so that most readers come for the first time.
    Everybody,
}

/// Operations with their weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Mix {
    /// Each operation that is in it with its share; shares add up to 1.
    pub shares: Vec<(Op, f64)>,
    /// Who acts.
    pub actors: Actors,
}

/// A mix by name.
pub struct Named {
    /// The name.
    pub name: &'static str,
    /// What it is for.
    pub about: &'static str,
    weights: &'static [(Op, f64)],
    actors: Actors,
}

/// The mixes that have a name. The first is that of the social network of `DeathStarBench` (Gan et al.,
/// ASPLOS 2019): 60 % home timelines, 30 % author timelines, 10 % posts.
pub const NAMED: [Named; 8] = [
    Named {
        name: "deathstar",
        about: "60 % home timelines, 30 % author timelines, 10 % posts (DeathStarBench)",
        weights: &[(Op::Timeline, 60.0), (Op::Author, 30.0), (Op::Post, 10.0)],
        actors: Actors::Skewed,
    },
    Named {
        name: "90/10",
        about: "nine pages read for one post",
        weights: &[(Op::Timeline, 80.0), (Op::Scroll, 10.0), (Op::Post, 10.0)],
        actors: Actors::Skewed,
    },
    Named {
        name: "99/1",
        about: "ninety-nine pages read for one post",
        weights: &[(Op::Timeline, 89.0), (Op::Scroll, 10.0), (Op::Post, 1.0)],
        actors: Actors::Skewed,
    },
    Named {
        name: "follow-storm",
        about: "every second request changes who follows whom",
        weights: &[
            (Op::Timeline, 40.0),
            (Op::Follow, 30.0),
            (Op::Unfollow, 15.0),
            (Op::Block, 3.0),
            (Op::Unblock, 2.0),
            (Op::Post, 10.0),
        ],
        actors: Actors::Skewed,
    },
    Named {
        name: "celebrity-post",
        about: "the ten most followed post, everybody reads",
        weights: &[(Op::Timeline, 95.0), (Op::Post, 5.0)],
        actors: Actors::Celebrities,
    },
    Named {
        name: "delete-storm",
        about: "nearly every post is deleted seconds later",
        weights: &[(Op::Timeline, 40.0), (Op::Post, 32.0), (Op::Delete, 28.0)],
        actors: Actors::Skewed,
    },
    Named {
        name: "cold-start",
        about: "readers who mostly come for the first time",
        weights: &[(Op::Timeline, 99.0), (Op::Post, 1.0)],
        actors: Actors::Everybody,
    },
    Named {
        name: "cache-wipe",
        about: "pages of readers who come again; `--chaos fixtures/load/wipe.toml` empties the cache",
        weights: &[(Op::Timeline, 90.0), (Op::Scroll, 5.0), (Op::Post, 5.0)],
        actors: Actors::Skewed,
    },
];

impl Mix {
    /// The mix of a name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let found = NAMED.iter().find(|named| named.name == name)?;
        Self::of(found.weights.iter().copied(), found.actors)
    }

    /// A mix of weights; `None` if one is not a number above 0, or none is there.
    #[must_use]
    pub fn of(weights: impl IntoIterator<Item = (Op, f64)>, actors: Actors) -> Option<Self> {
        let weights: BTreeMap<Op, f64> = weights.into_iter().collect();
        let sum: f64 = weights.values().sum();
        let sound = weights.values().all(|&weight| weight > 0.0) && sum.is_finite() && sum > 0.0;
        let shares = weights.into_iter().map(|(op, weight)| (op, weight / sum));
        sound.then(|| Self { shares: shares.collect(), actors })
    }

    /// The operation at `unit`, which lies above 0 and is at most 1.
    #[must_use]
    pub fn at(&self, unit: f64) -> Op {
        let mut sum = 0.0;
        for &(op, share) in &self.shares {
            sum += share;
            if unit <= sum {
                return op;
            }
        }
        // Rounding may leave the last sum just below 1.
        self.shares.last().expect("a mix has an operation").0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_named_mix_can_be_had_and_gives_its_shares() {
        for named in &NAMED {
            let mix = Mix::named(named.name).unwrap();
            let sum: f64 = mix.shares.iter().map(|(_, share)| share).sum();
            assert!((sum - 1.0).abs() < 1e-9, "{}", named.name);
        }
        let mix = Mix::named("deathstar").unwrap();
        let posts = (1..=1_000).filter(|n| mix.at(f64::from(*n) / 1_000.0) == Op::Post).count();
        assert!((99..=101).contains(&posts), "{posts}");
        assert!(Mix::named("nothing").is_none());
        assert!(Mix::of([(Op::Post, 0.0)], Actors::Skewed).is_none());
        assert!(Mix::of([], Actors::Skewed).is_none());
    }
}
