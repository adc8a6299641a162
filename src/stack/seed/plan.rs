//! What a seed makes: accounts, edges and tweets, the same for ever for the same order.

use std::{fmt, fmt::Write as _, ops::Range};

use sha2::{Digest as _, Sha256};

use super::words;
use crate::{
    domain::{
        Body, MediaList, Pair, PairChange, PairState, TweetId, UserId,
        edge::Side,
        snowflake::{EPOCH_MS, Snowflake, made_at},
    },
    graph::{Graph, Invalid, Random, Shape, generate},
    ports::Account,
};

/// The node of ids that a seed gives out. Ids of others at the same instant may be equal, and are not:
/// a data set is empty before.
const NODE: u16 = 1_000;
const DAY_MS: u64 = 24 * 3_600_000;
/// Tweets are spread over this long before the end of the history.
const TWEETS_MS: u64 = 30 * DAY_MS;
/// Accounts are made over this long before that.
const ACCOUNTS_MS: u64 = 300 * DAY_MS;
/// The most tweets of one author.
const TWEETS_MAX: u32 = 500;
/// How activity falls with rank: with this power a tenth of the authors write four fifths of what is
/// not shared out evenly, as 0.1^(1 - 0.903) is 0.8. Of Twitter's tweets 80 % came from the most active
/// 10 % (Wojcik and Hughes, Pew Research Center 2019).
const ACTIVITY: f64 = 0.903;
/// The end of the history unless another is asked for: 2026-01-01T00:00:00Z, in the past whenever this
/// runs, so that what is tweeted later is newer.
pub const UNTIL_MS: u64 = 1_767_225_600_000;
/// Tweets per user unless another number is asked for.
pub const TWEETS: u32 = 5;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// A name of [`crate::graph::PRESETS`].
    pub profile: String,
    /// Everything random follows from it.
    pub seed: u64,
    /// Tweets per user on average, 0 to 100: each writes one, the rest goes by rank, at most 500 each; what
    /// is above that is not written by others, so they become fewer.
    pub tweets: u32,
}

impl Order {
    /// A profile with everything else as usual.
    #[must_use]
    pub fn of(profile: &str) -> Self {
        Self { profile: profile.to_owned(), seed: 1, tweets: TWEETS }
    }

    /// The order that [`fmt::Display`] wrote.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let words: Vec<&str> = text.split(' ').collect();
        let [profile, "--seed", seed, "--tweets", tweets] = words[..] else { return None };
        let (seed, tweets) = (seed.parse().ok()?, tweets.parse().ok()?);
        Some(Self { profile: profile.to_owned(), seed, tweets })
    }
}

/// How the order stands in the data set, and in sentences.
impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { profile, seed, tweets } = self;
        write!(f, "{profile} --seed {seed} --tweets {tweets}")
    }
}

/// Everything that an order makes. Texts and names are made when they are needed.
pub struct Plan {
    seed: u64,
    graph: Graph,
    /// Of each user, in the order of users.
    ids: Vec<UserId>,
    /// Every tweet with its author, the oldest first.
    tweets: Vec<(TweetId, u32)>,
}

impl Plan {
    /// Makes the graph and the ids: seconds for a million users.
    ///
    /// # Errors
    /// There is no such profile.
    pub fn new(order: &Order) -> Result<Self, Invalid> {
        let shape = Shape::preset(&order.profile, order.seed)
            .ok_or_else(|| Invalid(format!("there is no profile `{}`", order.profile)))?;
        let graph = generate(&shape)?;
        let users = graph.users();
        let first_ms = UNTIL_MS - TWEETS_MS - ACCOUNTS_MS;
        let mut ids = Snowflake::new(NODE);
        let step = |user: u32| u64::from(user) * ACCOUNTS_MS / u64::from(users);
        let ids = (0..users).map(|user| UserId(ids.next(first_ms + step(user)))).collect();
        let tweets = tweets(order, users);
        Ok(Self { seed: order.seed, graph, ids, tweets })
    }

    /// Who follows whom.
    #[must_use]
    pub const fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The graph alone.
    #[must_use]
    pub fn into_graph(self) -> Graph {
        self.graph
    }

    /// How many users.
    #[must_use]
    pub fn users(&self) -> u32 {
        self.graph.users()
    }

    /// The id of `user`. Ids increase with users.
    #[must_use]
    pub fn id(&self, user: u32) -> UserId {
        self.ids[user as usize]
    }

    /// The account of `user`.
    #[must_use]
    pub fn account(&self, user: u32) -> Account {
        let (handle, name) = words::person(self.seed, user);
        let id = self.id(user);
        Account { id, handle, name, created_at_ms: made_at(id.0) }
    }

    /// Whom `user` follows, each with the version of the pair, in the order of ids.
    #[must_use]
    pub fn following(&self, user: u32) -> Vec<(UserId, u64)> {
        self.versions(self.graph.following.of(user), self.graph.followers.of(user))
    }

    /// Who follows `user`, likewise.
    #[must_use]
    pub fn followers(&self, user: u32) -> Vec<(UserId, u64)> {
        self.versions(self.graph.followers.of(user), self.graph.following.of(user))
    }

    /// Users whom at least `limit` follow.
    #[must_use]
    pub fn followed_by(&self, limit: u64) -> Vec<UserId> {
        let many = |&user: &u32| self.graph.followers.of(user).len() as u64 >= limit;
        (0..self.users()).filter(many).map(|user| self.id(user)).collect()
    }

    /// The users of `row`, each with the version of a pair in which each had followed by a call.
    fn versions(&self, row: &[u32], back: &[u32]) -> Vec<(UserId, u64)> {
        let mut back = back.iter().copied().peekable();
        let version = |&other: &u32| {
            while back.next_if(|&known| known < other).is_some() {}
            (self.id(other), 1 + u64::from(back.peek() == Some(&other)))
        };
        row.iter().map(version).collect()
    }

    /// How many tweets.
    #[must_use]
    pub fn tweets(&self) -> usize {
        self.tweets.len()
    }

    /// The author of tweet `n`.
    #[must_use]
    pub fn author(&self, n: usize) -> u32 {
        self.tweets[n].1
    }

    /// Tweets, the oldest first.
    pub fn bodies(&self, which: Range<usize>) -> impl Iterator<Item = Body> + '_ {
        which.map(|n| {
            let (id, author) = self.tweets[n];
            let (handle, name) = words::person(self.seed, author);
            Body {
                id,
                author: self.id(author),
                handle,
                name,
                text: words::text(self.seed, n as u64),
                media: MediaList::default(),
                created_at_ms: made_at(id.0),
            }
        })
    }

    /// Of every author, the ids of all tweets, the oldest first.
    #[must_use]
    pub fn by_author(&self) -> Vec<Vec<TweetId>> {
        let mut all = vec![Vec::new(); self.ids.len()];
        for &(id, author) in &self.tweets {
            all[author as usize].push(id);
        }
        all
    }

    /// Whom `user` follows or is followed by, of those who come later: each pair is one user's only.
    pub fn pairs(&self, user: u32) -> impl Iterator<Item = PairChange> + '_ {
        let later = |row: &'_ [u32]| row.partition_point(|&other| other <= user);
        let (to, from) = (self.graph.following.of(user), self.graph.followers.of(user));
        let mut to = to[later(to)..].iter().copied().peekable();
        let mut from = from[later(from)..].iter().copied().peekable();
        std::iter::from_fn(move || {
            let other = match (to.peek(), from.peek()) {
                (Some(&a), Some(&b)) => a.min(b),
                (Some(&one), None) | (None, Some(&one)) => one,
                (None, None) => return None,
            };
            let follows = to.next_if_eq(&other).is_some();
            let followed = from.next_if_eq(&other).is_some();
            let side = |follows: bool| Side { follows, ..Side::default() };
            Some(PairChange {
                pair: Pair { low: self.id(user), high: self.id(other) },
                version: u64::from(follows) + u64::from(followed),
                state: PairState { low: side(follows), high: side(followed) },
            })
        })
    }

    /// SHA-256 of everything, as hexadecimal digits.
    #[must_use]
    pub fn sha256(&self) -> String {
        let mut hash = Sha256::new();
        let mut line = String::new();
        for user in 0..self.users() {
            let Account { id, handle, name, created_at_ms } = self.account(user);
            line.clear();
            let _ = writeln!(line, "{id}\t{handle}\t{}\t{created_at_ms}", name.as_str());
            hash.update(&line);
            for other in self.graph.following.of(user) {
                hash.update(other.to_le_bytes());
            }
        }
        for body in self.bodies(0..self.tweets()) {
            line.clear();
            let Body { id, author, text, created_at_ms, .. } = body;
            let _ = writeln!(line, "{id}\t{author}\t{}\t{created_at_ms}", text.as_str());
            hash.update(&line);
        }
        hash.finalize().iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }
}

/// Tweets at random times, more of those who have more followers.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "shares of a number of tweets"
)]
fn tweets(order: &Order, users: u32) -> Vec<(TweetId, u32)> {
    if order.tweets == 0 {
        return Vec::new();
    }
    // A sequence of its own: the graph must not depend on how many tweets there are.
    let mut random = Random::new(order.seed ^ 0x7477_6565_7473);
    let weight = |user: u32| libm::pow(f64::from(user) + 1.0, -ACTIVITY);
    let sum: f64 = (0..users).map(weight).sum();
    let shared = f64::from(users) * f64::from(order.tweets - 1);
    let mut times = Vec::new();
    for user in 0..users {
        let count = 1 + ((shared * weight(user) / sum) as u32).min(TWEETS_MAX - 1);
        for _ in 0..count {
            times.push((UNTIL_MS - TWEETS_MS + random.below(TWEETS_MS), user));
        }
    }
    times.sort_unstable();
    let mut ids = Snowflake::new(NODE);
    times.into_iter().map(|(at_ms, user)| (TweetId(ids.next(at_ms)), user)).collect()
}

const _: () = assert!(UNTIL_MS - TWEETS_MS - ACCOUNTS_MS > EPOCH_MS);

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(profile: &str, seed: u64) -> Plan {
        Plan::new(&Order { seed, ..Order::of(profile) }).unwrap()
    }

    #[test]
    fn an_order_makes_the_same_for_ever() {
        let golden = "ab478658c4206d86436df2ba63bf5637277fae523f22d902351d3d4b3d04924c";
        assert_eq!(plan("demo", 1).sha256(), golden);
        assert_ne!(plan("demo", 1).sha256(), plan("demo", 2).sha256());
        assert!(Plan::new(&Order::of("huge")).is_err());
    }

    #[test]
    fn an_order_is_read_as_it_was_written() {
        let order = Order { profile: "100k".to_owned(), seed: 7, tweets: 3 };
        assert_eq!(Order::parse(&order.to_string()), Some(order));
        for wrong in
            ["", "100k", "100k --seed x --tweets 3", "100k --tweets 3 --seed 7", "a b c d e f"]
        {
            assert_eq!(Order::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn pairs_say_what_the_graph_says_each_once() {
        let plan = plan("demo", 3);
        let mut edges = 0;
        for user in 0..plan.users() {
            for PairChange { pair, version, state } in plan.pairs(user) {
                assert_eq!(pair.low, plan.id(user));
                let other = plan.ids.binary_search(&pair.high).unwrap() as u32;
                let follows = |a: u32, b: u32| plan.graph.following.of(a).contains(&b);
                assert_eq!(state.low.follows, follows(user, other));
                assert_eq!(state.high.follows, follows(other, user));
                let both = u64::from(state.low.follows) + u64::from(state.high.follows);
                assert_eq!(version, both);
                let row = |rows: Vec<(UserId, u64)>, id: UserId| rows.contains(&(id, version));
                let (low, high) = (state.low.follows, state.high.follows);
                assert_eq!(row(plan.following(user), pair.high), low);
                assert_eq!(row(plan.followers(user), pair.high), high);
                assert_eq!(row(plan.following(other), pair.low), high);
                edges += both;
            }
        }
        assert_eq!(edges, plan.graph.edges() as u64);
    }

    #[test]
    fn tweets_are_in_order_and_most_are_of_few() {
        let plan = plan("demo", 4);
        assert!(plan.tweets.is_sorted());
        let bodies: Vec<Body> = plan.bodies(0..plan.tweets()).collect();
        assert!(bodies.iter().all(|body| body.created_at_ms < UNTIL_MS));
        assert!(bodies.iter().all(|body| body.author == plan.account(plan.index(body)).id));
        let by_author = plan.by_author();
        assert!(by_author.iter().all(|ids| !ids.is_empty() && ids.len() <= TWEETS_MAX as usize));
        let tenth: usize = by_author[..96].iter().map(Vec::len).sum();
        let percent = tenth * 100 / plan.tweets();
        assert!((55..80).contains(&percent), "{percent}");
    }

    impl Plan {
        fn index(&self, body: &Body) -> u32 {
            self.ids.binary_search(&body.author).unwrap() as u32
        }
    }
}
