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

/// Posts that a run may have: 32 bytes each are 256 MB.
pub const POSTS_MAX: u64 = 8_000_000;
/// Violations that are kept with all that is known of them; more are only counted.
pub const VIOLATIONS_MAX: usize = 1_000;

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

/// What is known of a pair that the run has changed, the lower rank first.
#[derive(Clone, Copy, Debug)]
pub struct Pair {
    /// Whether the first sees the second, and the second the first.
    pub sees: [Sees; 2],
    /// Since when the one who does not see must not, in microseconds; absent if that is not promised.
    pub hidden_us: [Option<u64>; 2],
    /// Whether one blocks the other.
    pub blocked: Sees,
    /// Whether a block hid them, or the end of a follow.
    pub by_block: bool,
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
        // A node of the tree is at least half full.
        let pair = 2 * (size_of::<(u32, u32)>() + size_of::<Pair>());
        of(posts, 2 * size_of::<Post>())
            + of(users as u64, size_of::<u32>() + size_of::<Newest>())
            + of(changes, pair)
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

    /// Notes that a change of a pair is about to be sent.
    pub fn changing(&self, user: u32, other: u32) {
        self.with_pair(user, other, |pair| {
            pair.sees = [Sees::Unknown; 2];
            pair.hidden_us = [None; 2];
        });
    }

    /// Notes how a change went, of which nothing else is under way.
    pub fn changed(&self, user: u32, other: u32, change: Change, end: End, at_us: u64) {
        let before = (user, other);
        let population = &self.population;
        let (mine, theirs) = (population.follows(user, other), population.follows(other, user));
        self.with_pair(user, other, |pair| {
            let me = usize::from(before.0 > before.1);
            let sees = |follows: bool| if follows { Sees::Yes } else { Sees::No };
            // What it is like if the call was done; a pair was not changed before, or followed, or blocked.
            let done = match change {
                Change::Follow => (Sees::Yes, sees(theirs)),
                Change::Unfollow => (Sees::No, sees(theirs)),
                Change::Block | Change::Unblock => (Sees::No, Sees::No),
            };
            let undone = match change {
                Change::Follow | Change::Block => (sees(mine), sees(theirs)),
                Change::Unfollow => (Sees::Yes, sees(theirs)),
                Change::Unblock => (Sees::No, Sees::No),
            };
            let now = match end {
                End::Done | End::Pending => done,
                End::Refused => undone,
                End::Unknown => {
                    let either = |a, b| if a == b { a } else { Sees::Unknown };
                    (either(done.0, undone.0), either(done.1, undone.1))
                }
            };
            (pair.sees[me], pair.sees[1 - me]) = now;
            pair.by_block = matches!(change, Change::Block | Change::Unblock);
            if pair.by_block {
                pair.blocked = match (change, end) {
                    (_, End::Unknown | End::Pending) => Sees::Unknown,
                    (Change::Block, End::Done) | (Change::Unblock, End::Refused) => Sees::Yes,
                    _ => Sees::No,
                };
            }
            if end == End::Done {
                let hidden = |sees| (sees == Sees::No).then_some(at_us);
                pair.hidden_us = pair.sees.map(hidden);
                if !pair.by_block {
                    // The other's side was not touched.
                    pair.hidden_us[1 - me] = None;
                }
            }
        });
        self.tally.lock().edges += u64::from(matches!(end, End::Done | End::Pending));
    }

    fn with_pair(&self, user: u32, other: u32, change: impl FnOnce(&mut Pair)) {
        let (low, high) = pair(user, other);
        let of = |follows: bool| if follows { Sees::Yes } else { Sees::No };
        let (a, b) = (self.population.follows(low, high), self.population.follows(high, low));
        let fresh =
            Pair { sees: [of(a), of(b)], hidden_us: [None; 2], blocked: Sees::No, by_block: false };
        change(self.facts.write().pairs.entry((low, high)).or_insert(fresh));
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

    /// What a reader may see of an author in the home timeline, and since when they must not.
    #[must_use]
    pub fn sees(&self, reader: u32, author: u32) -> (Sees, Option<u64>) {
        if reader == author {
            return (Sees::Yes, None);
        }
        match self.pair(reader, author) {
            Some(pair) => {
                let me = usize::from(reader > author);
                (pair.sees[me], pair.hidden_us[me])
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
        if found.known.len() < VIOLATIONS_MAX * 100
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
