//! The record: what was asked for and what was answered, kept apart from the system that it is about.
//!
//! Every post, delete and change of a pair is written down before it is sent and again when its answer is
//! there, so that a reader who sees something knows whether it may. [`super::live`] judges pages as they
//! come, [`super::audit`] everything at the end.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use parking_lot::{Mutex, RwLock};

use super::{
    population::Population,
    report::Violation,
    schedule::pair,
    seen::Tag,
    violation::{Evidence, Kind},
};
use crate::domain::TweetId;

/// Posts that a run may have: with some 104 bytes each the record of so many takes 832 MB.
pub const POSTS_MAX: u64 = 8_000_000;
/// Violations that are kept with all that is known of them; more are only counted.
pub const VIOLATIONS_MAX: usize = 1_000;

/// Violations of which it is known that they are no others.
const KNOWN_MAX: usize = 100_000;
/// Pairs that are asked about at the end.
const SUSPECTS_MAX: usize = 10_000;

/// What is known of a post.
#[derive(Clone, Copy, Debug, Default)]
pub struct Post {
    /// Its tweet, once that is known.
    pub id: Option<TweetId>,
    /// Who wrote it, by rank.
    pub author: u32,
    /// How it went.
    pub state: Posted,
    /// How its delete went.
    pub deleted: Deleted,
    /// When the post was acknowledged, or when the delete was, in microseconds since the run began.
    pub at_us: u64,
}

/// How a post went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Posted {
    /// It was not sent yet.
    #[default]
    Unsent,
    /// Its end is not known: it may be there, once.
    Unknown,
    /// It is there.
    Acknowledged,
    /// It is not there.
    Refused,
}

/// How a delete went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Deleted {
    /// Nobody asked for it.
    #[default]
    No,
    /// It was asked for; whether it is done, or when it shows, is not known.
    Unknown,
    /// It was accepted, and will be done.
    Pending,
    /// It is done, and nobody may see the tweet any more.
    Done,
}

/// What somebody sees of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sees {
    /// The tweets of the other are in the home timeline.
    Yes,
    /// They are not.
    No,
    /// The end of a call is not known.
    Unknown,
}

/// A change of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// One follows the other.
    Follow,
    /// One unfollows the other.
    Unfollow,
    /// One blocks the other, by which neither follows the other.
    Block,
    /// One ends a block.
    Unblock,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Done, and honoured by every read from now on.
    Done,
    /// Accepted, and honoured later.
    Pending,
    /// Not done.
    Refused,
    /// Nobody knows.
    Unknown,
}

/// What is known of one who may see another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Side {
    /// Whether the tweets of the other are in the home timeline.
    pub sees: Sees,
    /// Since when they must not be, in microseconds since the run began; absent if that is not promised.
    pub hidden_us: Option<u64>,
    /// Whether an answered call of this run says so. Else the seed does, which an earlier run may have
    /// changed.
    pub told: bool,
}

impl Side {
    const UNKNOWN: Self = Self { sees: Sees::Unknown, hidden_us: None, told: true };

    const fn of(follows: bool) -> Self {
        let sees = if follows { Sees::Yes } else { Sees::No };
        Self { sees, hidden_us: None, told: false }
    }
}

/// What is known of a pair that the run has changed, the lower rank first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The first as a reader of the second, and the second of the first.
    pub sides: [Side; 2],
    /// Whether one blocks the other.
    pub blocked: Sees,
    /// Whether a block hid them, or the end of a follow.
    pub by_block: bool,
}

impl Pair {
    /// What is known once `me` of the two has changed it and the call ended so at `at_us`: what it does is
    /// all that is different from before, so nothing is assumed of how earlier calls went.
    #[must_use]
    pub fn after(self, me: usize, change: Change, end: End, at_us: u64) -> Self {
        let hidden_us = (end == End::Done).then_some(at_us);
        let seen = Side { sees: Sees::Yes, hidden_us: None, told: true };
        let unseen = Side { sees: Sees::No, hidden_us, told: true };
        let mut done = self;
        match change {
            Change::Follow => done.sides[me] = seen,
            Change::Unfollow => (done.sides[me], done.by_block) = (unseen, false),
            Change::Block => {
                done = Self { sides: [unseen; 2], blocked: Sees::Yes, by_block: true };
            }
            Change::Unblock => done.blocked = Sees::No,
        }
        match end {
            // Followed later, so what a block does is known and when is not.
            End::Pending if done.blocked != self.blocked => Self { blocked: Sees::Unknown, ..done },
            End::Done | End::Pending => done,
            End::Refused => self,
            End::Unknown => {
                let either = |n: usize| {
                    if done.sides[n].sees == self.sides[n].sees {
                        self.sides[n]
                    } else {
                        Side::UNKNOWN
                    }
                };
                let blocked =
                    if done.blocked == self.blocked { self.blocked } else { Sees::Unknown };
                Self { sides: [either(0), either(1)], blocked, by_block: done.by_block }
            }
        }
    }
}

/// The newest post that a reader has seen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Newest {
    /// Its tweet.
    pub id: TweetId,
    /// Its number.
    pub post: u32,
    /// When the page came, in microseconds since the run began.
    pub came_us: u64,
}

#[derive(Default)]
struct Facts {
    posts: Vec<Post>,
    pairs: BTreeMap<(u32, u32), Pair>,
    /// Of each user, the number of the last acknowledged post, plus one.
    own: Vec<u32>,
    /// Of each user, the newest post of the run in a first page.
    newest: Vec<Newest>,
    /// Whoever saw somebody whom they did not follow when the data set was seeded.
    suspects: BTreeSet<(u32, u32)>,
}

/// How many of what were acknowledged.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Posts.
    pub posts: u64,
    /// Posts whose end is unknown.
    pub unknown: u64,
    /// Deletes, with those that are still pending.
    pub deletes: u64,
    /// Changes of pairs.
    pub edges: u64,
}

/// The record of a run.
pub struct Ledger {
    /// Who acts.
    pub population: Arc<Population>,
    /// What the texts of this run begin with.
    pub tag: Tag,
    /// When the first request is due.
    pub began: Instant,
    /// The run's first tweet, by the clock of the system.
    pub first: TweetId,
    facts: RwLock<Facts>,
    tally: Mutex<Tally>,
    found: Mutex<Found>,
}

#[derive(Default)]
struct Found {
    kinds: BTreeMap<Kind, u64>,
    known: BTreeSet<(Kind, Option<u32>, u32)>,
    kept: Vec<Violation>,
}

impl Ledger {
    /// A record without entries.
    #[must_use]
    pub fn new(population: Arc<Population>, tag: Tag, first: TweetId, began: Instant) -> Self {
        let users = population.users.len();
        let facts = Facts {
            own: vec![0; users],
            newest: vec![Newest::default(); users],
            ..Facts::default()
        };
        let (facts, tally, found) = (RwLock::new(facts), Mutex::default(), Mutex::default());
        Self { population, tag, began, first, facts, tally, found }
    }

    /// The same record, of a run that begins at `began`.
    #[must_use]
    pub fn beginning(self, began: Instant) -> Self {
        Self { began, ..self }
    }

    /// The most memory that the record of so many posts takes, in bytes, without the population.
    #[must_use]
    pub fn memory_max(posts: u64, users: usize, changes: u64) -> u64 {
        let of = |count: u64, bytes: usize| count * bytes as u64;
        // A list has room for twice what is in it, a node of a tree is at least half full; for an audit
        // posts are copied, and their numbers are sorted by author.
        let post = 3 * size_of::<Post>() + 2 * size_of::<u32>();
        let pair = 2 * (size_of::<(u32, u32)>() + size_of::<Pair>());
        of(posts, post)
            + of(users as u64, size_of::<u32>() + size_of::<Newest>())
            + of(changes, pair)
            + of(SUSPECTS_MAX as u64, 2 * size_of::<(u32, u32)>())
            + of(KNOWN_MAX as u64, 2 * size_of::<(Kind, Option<u32>, u32)>())
            + of(VIOLATIONS_MAX as u64, 1_024)
    }

    /// Microseconds from the beginning to `at`.
    #[must_use]
    pub fn us(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.began).as_micros() as u64
    }

    /// Notes that a post is about to be sent.
    pub fn posting(&self, post: u32, author: u32) {
        let mut facts = self.facts.write();
        let wanted = post as usize + 1;
        if facts.posts.len() < wanted {
            facts.posts.resize(wanted, Post::default());
        }
        let known = &mut facts.posts[post as usize];
        (known.author, known.state) = (author, Posted::Unknown);
    }

    /// Notes how a post went; `seen` is whether its author must see it at once.
    pub fn posted(&self, post: u32, id: Option<TweetId>, end: End, at_us: u64, seen: bool) {
        let mut facts = self.facts.write();
        let known = &mut facts.posts[post as usize];
        known.at_us = at_us;
        known.id = id;
        known.state = match end {
            End::Done | End::Pending => Posted::Acknowledged,
            End::Refused => Posted::Refused,
            End::Unknown => Posted::Unknown,
        };
        let (state, author) = (known.state, known.author as usize);
        if state == Posted::Acknowledged && seen && facts.own[author] <= post {
            facts.own[author] = post + 1;
        }
        drop(facts);
        let mut tally = self.tally.lock();
        tally.posts += u64::from(state == Posted::Acknowledged);
        tally.unknown += u64::from(state == Posted::Unknown);
    }

    /// The tweet of a post that can be deleted, which is noted as being so from now on.
    pub fn deleting(&self, post: u32) -> Option<TweetId> {
        let mut facts = self.facts.write();
        let known = facts.posts.get_mut(post as usize)?;
        let id = known.id.filter(|_| known.state == Posted::Acknowledged)?;
        known.deleted = Deleted::Unknown;
        Some(id)
    }

    /// Notes how a delete went.
    pub fn deleted(&self, post: u32, end: End, at_us: u64) {
        let mut facts = self.facts.write();
        let known = &mut facts.posts[post as usize];
        known.deleted = match end {
            End::Done => Deleted::Done,
            End::Pending => Deleted::Pending,
            End::Refused => Deleted::No,
            End::Unknown => Deleted::Unknown,
        };
        if known.deleted == Deleted::Done {
            known.at_us = at_us;
        }
        drop(facts);
        self.tally.lock().deletes += u64::from(matches!(end, End::Done | End::Pending));
    }

    /// Notes that a change of a pair is about to be sent; gives what was known before.
    pub fn changing(&self, user: u32, other: u32, change: Change) -> Pair {
        let (low, high) = pair(user, other);
        let sides = [(low, high), (high, low)]
            .map(|(reader, author)| Side::of(self.population.follows(reader, author)));
        let fresh = Pair { sides, blocked: Sees::No, by_block: false };
        let mut facts = self.facts.write();
        let known = facts.pairs.entry((low, high)).or_insert(fresh);
        let before = *known;
        *known = before.after(usize::from(user > other), change, End::Unknown, 0);
        before
    }

    /// Notes how a change went, of which nothing else was under way; `before` is what was known then.
    pub fn changed(
        &self,
        (user, other): (u32, u32),
        before: Pair,
        (change, end): (Change, End),
        at_us: u64,
    ) {
        let after = before.after(usize::from(user > other), change, end, at_us);
        self.facts.write().pairs.insert(pair(user, other), after);
        self.tally.lock().edges += u64::from(matches!(end, End::Done | End::Pending));
    }

    /// What is known of a post.
    #[must_use]
    pub fn post(&self, post: u32) -> Option<Post> {
        self.facts.read().posts.get(post as usize).copied()
    }

    /// Every post, by number.
    #[must_use]
    pub fn posts(&self) -> Vec<Post> {
        self.facts.read().posts.clone()
    }

    /// What is known of a pair that the run has changed.
    #[must_use]
    pub fn pair(&self, a: u32, b: u32) -> Option<Pair> {
        self.facts.read().pairs.get(&pair(a, b)).copied()
    }

    /// Every pair that the run has changed.
    #[must_use]
    pub fn pairs(&self) -> Vec<((u32, u32), Pair)> {
        self.facts.read().pairs.iter().map(|(&pair, &known)| (pair, known)).collect()
    }

    /// Whether an answered call of this run says what a reader sees of an author.
    #[must_use]
    pub fn told(&self, reader: u32, author: u32) -> bool {
        self.pair(reader, author).is_some_and(|pair| pair.sides[usize::from(reader > author)].told)
    }

    /// What a reader may see of an author in the home timeline, and since when they must not.
    #[must_use]
    pub fn sees(&self, reader: u32, author: u32) -> (Sees, Option<u64>) {
        if reader == author {
            return (Sees::Yes, None);
        }
        match self.pair(reader, author) {
            Some(pair) => {
                let side = pair.sides[usize::from(reader > author)];
                (side.sees, side.hidden_us)
            }
            None if self.population.follows(reader, author) => (Sees::Yes, None),
            None => (Sees::No, None),
        }
    }

    /// The last post of a user that the user must see.
    #[must_use]
    pub fn own(&self, user: u32) -> Option<u32> {
        self.facts.read().own[user as usize].checked_sub(1)
    }

    /// The newest post that a reader has seen in a first page.
    #[must_use]
    pub fn newest(&self, reader: u32) -> Option<Newest> {
        let newest = self.facts.read().newest[reader as usize];
        (newest.id > TweetId::default()).then_some(newest)
    }

    /// Notes the newest post in a first page.
    pub fn saw_newest(&self, reader: u32, newest: Newest) {
        let mut facts = self.facts.write();
        let known = &mut facts.newest[reader as usize];
        if known.id <= newest.id {
            *known = newest;
        }
    }

    /// Notes that a reader saw somebody whom they did not follow when the data set was seeded: they may
    /// have followed since, before this run.
    pub fn suspect(&self, reader: u32, author: u32) {
        let known = self.facts.read().suspects.contains(&(reader, author));
        if !known {
            let mut facts = self.facts.write();
            if facts.suspects.len() < SUSPECTS_MAX {
                facts.suspects.insert((reader, author));
            }
        }
    }

    /// Everybody of [`Ledger::suspect`]: reader and author.
    #[must_use]
    pub fn suspects(&self) -> Vec<(u32, u32)> {
        self.facts.read().suspects.iter().copied().collect()
    }

    /// How much was acknowledged so far.
    #[must_use]
    pub fn tally(&self) -> Tally {
        *self.tally.lock()
    }

    /// Puts evidence down; the same of the same is counted once.
    pub fn found(&self, evidence: &Evidence) {
        let violation = evidence.violation(self);
        let mut found = self.found.lock();
        if found.known.len() < KNOWN_MAX
            && !found.known.insert((evidence.kind, evidence.post, evidence.reader))
        {
            return;
        }
        *found.kinds.entry(evidence.kind).or_default() += 1;
        if found.kept.len() < VIOLATIONS_MAX {
            found.kept.push(violation);
        }
    }

    /// How many violations of each kind were found, and the first of them.
    #[must_use]
    pub fn violations(&self) -> (BTreeMap<Kind, u64>, Vec<Violation>) {
        let found = self.found.lock();
        (found.kinds.clone(), found.kept.clone())
    }

    /// How many violations were found.
    #[must_use]
    pub fn violations_count(&self) -> u64 {
        self.found.lock().kinds.values().sum()
    }
}
