//! What is due when: arrivals, each with what is done and by whom. Pure: the same seed gives the same
//! schedule, however the system answers, so that two systems can be asked for the very same.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use super::{
    mix::{Actors, Mix, Op},
    population::{Population, active},
    rates::{Arrivals, Process, Rates},
};
use crate::graph::Random;

/// What was made is not undone earlier than this after it was due: then its answer has mostly come.
const SETTLED: Duration = Duration::from_secs(2);
/// Tries to find a pair that an operation can be done with; then a timeline is read instead.
const TRIES: usize = 16;
/// Users whose counts are compared.
const COUNTED_MAX: usize = 200;
/// The ten most followed, of [`Actors::Celebrities`].
const CELEBRITIES: u32 = 10;

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Read the first page of the own home timeline.
    Timeline,
    /// Read the next page of it.
    Scroll,
    /// Read the author timeline of a user.
    Author(u32),
    /// Read the profile of a user.
    Profile(u32),
    /// Write the post of this number.
    Post(u32),
    /// Delete the post of this number.
    Delete(u32),
    /// Follow a user.
    Follow(u32),
    /// Unfollow a user.
    Unfollow(u32),
    /// Block a user.
    Block(u32),
    /// End the block of a user.
    Unblock(u32),
}

impl Action {
    /// Which operation it is.
    #[must_use]
    pub const fn op(self) -> Op {
        match self {
            Self::Timeline => Op::Timeline,
            Self::Scroll => Op::Scroll,
            Self::Author(_) => Op::Author,
            Self::Profile(_) => Op::Profile,
            Self::Post(_) => Op::Post,
            Self::Delete(_) => Op::Delete,
            Self::Follow(_) => Op::Follow,
            Self::Unfollow(_) => Op::Unfollow,
            Self::Block(_) => Op::Block,
            Self::Unblock(_) => Op::Unblock,
        }
    }
}

/// A request that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// Since the beginning.
    pub at: Duration,
    /// Who does it, by rank.
    pub user: u32,
    /// What.
    pub action: Action,
}

/// Makes a schedule, in the order in which requests are due.
///
/// A pair of users is followed or unfollowed and blocked or unblocked once at most, with a pause between,
/// and the order of two calls about one pair is never left to chance: so the end of all is known.
pub struct Schedule {
    population: Arc<Population>,
    mix: Mix,
    arrivals: Arrivals,
    random: Random,
    /// Posts so far.
    posts: u32,
    /// Posts that were not deleted: when they were due, their number and their author.
    shown: VecDeque<(Duration, u32, u32)>,
    followed: VecDeque<(Duration, u32, u32)>,
    blocked: VecDeque<(Duration, u32, u32)>,
    /// Pairs that were changed, the lower rank first.
    pairs: BTreeSet<(u32, u32)>,
}

impl Schedule {
    /// The schedule of a seed.
    #[must_use]
    pub fn new(
        population: Arc<Population>,
        mix: Mix,
        (rates, process): (Rates, Process),
        seed: u64,
    ) -> Self {
        Self {
            population,
            mix,
            arrivals: Arrivals::new(rates, process, seed),
            // A sequence of its own: what is done does not depend on when.
            random: Random::new(seed ^ 0x6c6f_6164),
            posts: 0,
            shown: VecDeque::new(),
            followed: VecDeque::new(),
            blocked: VecDeque::new(),
            pairs: BTreeSet::new(),
        }
    }

    fn actor(&mut self) -> u32 {
        let users = self.population.len();
        match self.mix.actors {
            Actors::Everybody => self.random.below(u64::from(users)) as u32,
            Actors::Skewed | Actors::Celebrities => active(users, &mut self.random),
        }
    }

    fn act(&mut self, at: Duration) -> (u32, Action) {
        let op = self.mix.at(self.random.unit());
        let done = match op {
            Op::Timeline => None,
            Op::Scroll => Some((self.actor(), Action::Scroll)),
            Op::Author => {
                let user = self.actor();
                Some((user, Action::Author(active(self.population.len(), &mut self.random))))
            }
            Op::Profile => {
                let user = self.actor();
                Some((user, Action::Profile(active(self.population.len(), &mut self.random))))
            }
            Op::Post => Some(self.post(at)),
            Op::Delete => {
                let settled = take_settled(&mut self.shown, at);
                settled.map(|(author, post)| (author, Action::Delete(post)))
            }
            Op::Follow => self.follow(at),
            Op::Unfollow => match take_settled(&mut self.followed, at) {
                Some((user, other)) => Some((user, Action::Unfollow(other))),
                None => self.followee().map(|(user, other)| (user, Action::Unfollow(other))),
            },
            Op::Block => self.followee().map(|(user, other)| {
                self.blocked.push_back((at, user, other));
                (user, Action::Block(other))
            }),
            Op::Unblock => {
                let settled = take_settled(&mut self.blocked, at);
                settled.map(|(user, other)| (user, Action::Unblock(other)))
            }
        };
        done.unwrap_or_else(|| (self.actor(), Action::Timeline))
    }

    fn post(&mut self, at: Duration) -> (u32, Action) {
        let users = self.population.len();
        let author = match self.mix.actors {
            Actors::Celebrities => self.random.below(u64::from(CELEBRITIES.min(users))) as u32,
            Actors::Skewed | Actors::Everybody => active(users, &mut self.random),
        };
        let post = self.posts;
        self.posts += 1;
        if self.mix.shares.iter().any(|&(op, _)| op == Op::Delete) {
            self.shown.push_back((at, author, post));
        }
        (author, Action::Post(post))
    }

    fn follow(&mut self, at: Duration) -> Option<(u32, Action)> {
        for _ in 0..TRIES {
            let (user, other) = (self.actor(), active(self.population.len(), &mut self.random));
            let there = self.population.follows(user, other);
            if user != other && !there && self.pairs.insert(pair(user, other)) {
                self.followed.push_back((at, user, other));
                return Some((user, Action::Follow(other)));
            }
        }
        None
    }

    /// One who follows another since before the run, neither of whom did anything to the other.
    fn followee(&mut self) -> Option<(u32, u32)> {
        for _ in 0..TRIES {
            let user = self.actor();
            let row = self.population.graph.following.of(user);
            let Some(nth) = (!row.is_empty()).then(|| self.random.below(row.len() as u64)) else {
                continue;
            };
            let other = row[nth as usize];
            if other < self.population.len() && self.pairs.insert(pair(user, other)) {
                return Some((user, other));
            }
        }
        None
    }
}

/// Two users, the lower rank first.
#[must_use]
pub const fn pair(a: u32, b: u32) -> (u32, u32) {
    if a < b { (a, b) } else { (b, a) }
}

/// The first of `queue` if it has settled at `at`.
fn take_settled(queue: &mut VecDeque<(Duration, u32, u32)>, at: Duration) -> Option<(u32, u32)> {
    let settled = queue.front().is_some_and(|&(due, ..)| due + SETTLED <= at);
    settled.then(|| queue.pop_front())?.map(|(_, a, b)| (a, b))
}

impl Iterator for Schedule {
    type Item = Due;

    fn next(&mut self) -> Option<Due> {
        let at = Duration::from_secs_f64(self.arrivals.next()?);
        let (user, action) = self.act(at);
        Some(Due { at, user, action })
    }
}

/// What a schedule comes to.
#[derive(Clone, Debug, Default)]
pub struct Sums {
    /// Requests.
    pub arrivals: u64,
    /// Posts.
    pub posts: u64,
    /// Pairs that are changed.
    pub changes: u64,
    /// Some who are followed, unfollowed or blocked.
    pub counted: BTreeSet<u32>,
}

/// Adds a schedule up.
#[must_use]
pub fn sums(schedule: Schedule) -> Sums {
    let mut sums = Sums::default();
    for due in schedule {
        sums.arrivals += 1;
        match due.action {
            Action::Post(_) => sums.posts += 1,
            Action::Follow(other) | Action::Unfollow(other) | Action::Block(other) => {
                sums.changes += 1;
                for user in [due.user, other] {
                    if sums.counted.len() < COUNTED_MAX {
                        sums.counted.insert(user);
                    }
                }
            }
            _ => {}
        }
    }
    sums
}
