//! What every client was told: the model that reads are held against.
//!
//! Ordinary users are numbered from 0, [`STAR`] comes after them, and then come the passive
//! followers of the star, who only read. Each ordinary user and each pair inside a group of
//! [`GROUP`] belongs to one writer, which acts in sequence; so the model is exact but for the calls
//! that were open when the process died ([`Doubt`]).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use chirp::{
    domain::{DisplayName, Handle, SessionId, TweetId, UserId},
    services::kit::token::{Claims, ISSUER, SigningKey},
};

use super::violation::Violation;

/// Users of one writer.
pub const GROUP: usize = 4;
/// Concurrent writers beside the star's own.
pub const WRITERS: usize = 60;
/// Ordinary users.
pub const ORDINARY: usize = GROUP * WRITERS;
/// The account whose followers make every fan-out a job of many parts.
pub const STAR: usize = ORDINARY;
/// Followers of the star that only read.
pub const PASSIVE: usize = 30_000;
/// Life of the tokens, in seconds: longer than any run.
const TOKEN_LIFE_S: u64 = 7 * 24 * 3600;

/// What is known of a tweet. Lists show those that are [`State::Shown`] only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The post is open, or its end is unknown.
    Doubtful,
    /// It certainly was never posted.
    Absent,
    /// Acknowledged.
    Shown,
    /// The delete is open, was answered 202, or its end is unknown.
    Fading,
    /// The delete was acknowledged.
    Deleted,
}

/// A tweet that somebody tried to post.
#[derive(Clone, Debug)]
pub struct Posted {
    pub id: Option<TweetId>,
    pub state: State,
    /// During which kill's load, and when (milliseconds since the Unix epoch) it was last answered.
    pub kill: usize,
    pub answered_ms: u64,
}

/// Somebody.
#[derive(Clone, Debug)]
pub struct User {
    pub id: UserId,
    pub handle: String,
    pub token: String,
    pub tweets: Vec<Posted>,
}

/// What is between an actor and a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "four independent facts")]
pub struct Between {
    pub follows: bool,
    pub followed: bool,
    pub blocks: bool,
    pub blocked: bool,
}

/// A call whose end its client does not know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Doubt {
    Post { user: usize, n: usize },
    Delete { user: usize, n: usize },
    Pair { actor: usize, target: usize, before: Between, after: Between },
}

/// Something that was answered 200 or 204 and must not be seen by any read from then on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hide {
    Tweet {
        user: usize,
        n: usize,
    },
    /// The first no longer sees the second.
    Author {
        reader: usize,
        author: usize,
    },
}

/// How many calls ended how.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub posts: u64,
    pub star_posts: u64,
    pub deletes: u64,
    pub edges: u64,
    pub pending: u64,
    /// Answered 4xx.
    pub refused: u64,
    /// Not sent, shed, or answered that a part cannot be reached: certainly not done.
    pub unavailable: u64,
    pub unknown: u64,
    /// Of the posts whose end was unknown, those that were found to be there, or not.
    pub there: u64,
    pub not_there: u64,
    pub reads: u64,
}

impl Tally {
    /// A call was certainly not done.
    pub fn refused(&mut self, status: u16) {
        if status >= 500 || matches!(status, 0 | 429) {
            self.unavailable += 1;
        } else {
            self.refused += 1;
        }
    }
}

/// The model, as everybody holds it.
pub type Shared = Arc<Mutex<World>>;

/// The model.
pub struct World {
    pub users: Vec<User>,
    pub passive: Vec<(UserId, String)>,
    pub follows: BTreeSet<(usize, usize)>,
    pub blocks: BTreeSet<(usize, usize)>,
    pub doubts: Vec<Doubt>,
    pub hides: Vec<Hide>,
    pub tally: Tally,
    pub violations: Vec<Violation>,
    /// Kills so far.
    pub kill: usize,
    pub mark: String,
    numbers: BTreeMap<UserId, usize>,
    mint: SigningKey,
}

/// The text of a user's `n`-th tweet: it says which one it is, whatever id it gets.
pub fn text_of(user: usize, n: usize) -> String {
    format!("u{user} n{n} the quick brown fox jumps over the lazy dog")
}

/// Which tweet a text says that it is.
pub fn named(text: &str) -> Option<(usize, usize)> {
    let mut words = text.split(' ');
    let user = words.next()?.strip_prefix('u')?.parse().ok()?;
    let n = words.next()?.strip_prefix('n')?.parse().ok()?;
    Some((user, n))
}

/// The key of a user's `n`-th post.
pub fn key_of(user: usize, n: usize) -> String {
    format!("key-{user}-{n}")
}

/// Whom `user` may follow: some of everybody, their group, and the star.
pub fn candidates(user: usize) -> Vec<usize> {
    let far = (1..=12).map(|step| (user + step * 19) % ORDINARY);
    let first = user / GROUP * GROUP;
    let all: BTreeSet<usize> = far.chain(first..first + GROUP).chain([STAR]).collect();
    all.into_iter().filter(|&other| other != user).collect()
}

pub fn now_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    now.as_millis() as u64
}

impl World {
    pub fn new(
        people: Vec<(UserId, String)>,
        passive: Vec<(UserId, String)>,
        mint: SigningKey,
    ) -> Self {
        let numbers = people.iter().enumerate().map(|(n, (id, _))| (*id, n)).collect();
        let users = people.into_iter().map(|(id, handle)| User {
            token: token(&mint, id, &handle),
            id,
            handle,
            tweets: Vec::new(),
        });
        Self {
            users: users.collect(),
            passive,
            follows: BTreeSet::new(),
            blocks: BTreeSet::new(),
            doubts: Vec::new(),
            hides: Vec::new(),
            tally: Tally::default(),
            violations: Vec::new(),
            kill: 0,
            mark: String::new(),
            numbers,
            mint,
        }
    }

    /// Everybody's number, the passive followers' too.
    pub fn number_of(&self, id: UserId) -> Option<usize> {
        self.numbers.get(&id).copied()
    }

    pub fn handle(&self, reader: usize) -> &str {
        match self.users.get(reader) {
            Some(user) => &user.handle,
            None => &self.passive[reader - self.users.len()].1,
        }
    }

    pub fn token(&self, reader: usize) -> String {
        if let Some(user) = self.users.get(reader) {
            return user.token.clone();
        }
        let (id, handle) = &self.passive[reader - self.users.len()];
        token(&self.mint, *id, handle)
    }

    /// The numbers of the passive followers.
    pub fn passive_numbers(&self) -> std::ops::Range<usize> {
        self.users.len()..self.users.len() + self.passive.len()
    }

    pub fn between(&self, actor: usize, target: usize) -> Between {
        Between {
            follows: self.follows.contains(&(actor, target)),
            followed: self.follows.contains(&(target, actor)),
            blocks: self.blocks.contains(&(actor, target)),
            blocked: self.blocks.contains(&(target, actor)),
        }
    }

    pub fn set_between(&mut self, actor: usize, target: usize, now: Between) {
        let set = |all: &mut BTreeSet<(usize, usize)>, pair, holds| {
            if holds {
                all.insert(pair)
            } else {
                all.remove(&pair)
            };
        };
        set(&mut self.follows, (actor, target), now.follows);
        set(&mut self.follows, (target, actor), now.followed);
        set(&mut self.blocks, (actor, target), now.blocks);
        set(&mut self.blocks, (target, actor), now.blocked);
    }

    /// Whom `reader` sees in their home timeline.
    pub fn visible(&self, reader: usize) -> Vec<usize> {
        if reader >= self.users.len() {
            return vec![STAR];
        }
        let follows = self.follows.range((reader, 0)..=(reader, usize::MAX));
        let follows =
            follows.map(|(_, author)| *author).filter(|&author| !self.apart(reader, author));
        follows.chain([reader]).collect()
    }

    /// Somebody who follows `author`.
    pub fn follower(&self, author: usize) -> Option<usize> {
        self.follows.iter().find(|(_, target)| *target == author).map(|(follower, _)| *follower)
    }

    /// A call of any of `users` whose end is not known.
    pub fn doubt_of(&self, users: std::ops::Range<usize>) -> Option<Doubt> {
        let of = |doubt: &&Doubt| match doubt {
            Doubt::Post { user, .. } | Doubt::Delete { user, .. } => users.contains(user),
            Doubt::Pair { actor, .. } => users.contains(actor),
        };
        self.doubts.iter().find(of).cloned()
    }

    /// The end of a call is known.
    pub fn settled(&mut self, known: &Doubt) {
        self.doubts.retain(|doubt| doubt != known);
    }

    /// One of the two blocks the other.
    pub fn apart(&self, a: usize, b: usize) -> bool {
        self.blocks.contains(&(a, b)) || self.blocks.contains(&(b, a))
    }

    /// Followers and followees.
    pub fn counts(&self, user: usize) -> (u64, u64) {
        let followers = self.follows.iter().filter(|(_, target)| *target == user).count();
        let following = self.follows.range((user, 0)..=(user, usize::MAX)).count();
        let passive = if user == STAR { self.passive.len() } else { 0 };
        ((followers + passive) as u64, following as u64)
    }

    /// What a list of `authors` shows in `low..high`, newest first: id, author and number.
    pub fn expected(
        &self,
        authors: &[usize],
        low: TweetId,
        high: Option<TweetId>,
    ) -> Vec<(TweetId, usize, usize)> {
        let mut all = Vec::new();
        for &author in authors {
            for (n, tweet) in self.users[author].tweets.iter().enumerate().rev() {
                let Some(id) = tweet.id else { continue };
                if id < low {
                    break;
                }
                if tweet.state == State::Shown && high.is_none_or(|high| id < high) {
                    all.push((id, author, n));
                }
            }
        }
        all.sort_unstable_by_key(|&(id, ..)| std::cmp::Reverse(id));
        all
    }

    /// Writes an acknowledged post down. Ids of an author must increase.
    pub fn posted(&mut self, user: usize, n: usize, id: TweetId) {
        let newest = self.users[user].tweets.iter().rev().find_map(|tweet| tweet.id);
        let (kill, answered_ms) = (self.kill, now_ms());
        if newest.is_some_and(|newest| newest >= id) {
            let about = format!("tweet {n} has id {id}, an earlier one has {newest:?}");
            self.violation("ids increase", Some(id), user, user, about);
        }
        self.users[user].tweets[n] =
            Posted { id: Some(id), state: State::Shown, kill, answered_ms };
    }

    pub fn violation(
        &mut self,
        rule: &'static str,
        tweet: Option<TweetId>,
        author: usize,
        reader: usize,
        about: String,
    ) {
        let (author, reader) = (self.handle(author).to_owned(), self.handle(reader).to_owned());
        let (kill, mark, at_ms) = (self.kill, self.mark.clone(), now_ms());
        self.violations.push(Violation { rule, tweet, author, reader, about, kill, mark, at_ms });
    }
}

fn token(mint: &SigningKey, id: UserId, handle: &str) -> String {
    let now = now_ms() / 1_000;
    let claims = Claims {
        sub: id,
        sid: SessionId(id.0),
        handle: Handle::parse(handle).unwrap(),
        name: DisplayName::parse(handle).unwrap(),
        iat: now,
        exp: now + TOKEN_LIFE_S,
        iss: ISSUER.to_owned(),
        aud: ISSUER.to_owned(),
        uncounted: false,
    };
    mint.sign(&claims).unwrap()
}
