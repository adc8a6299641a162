//! The users, edges and tweets that a part works on, made from a seed; [`crate::load`] stores them.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use chirp::{
    domain::{
        Body, DisplayName, Handle, MediaList, SessionId, TweetId, TweetText, UserId,
        snowflake::Snowflake,
    },
    ports::{StoredKey, users::Account},
    services::kit::token::{Claims, ISSUER, SigningKey},
    wire::api::tweet_json,
};
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, Zipf};
use rand_pcg::Pcg64;

/// Whom each follows: enough for a full first page, and so the mean fan-out of a post.
const FOLLOWS: usize = 20;
/// Tweets that everybody wrote before.
const TWEETS: u64 = 5;
/// Exponent of the popularity of authors and of how often readers read.
pub(crate) const ZIPF: f64 = 1.0;
/// Life of the tokens.
const TOKEN_S: u64 = 6 * 3_600;

/// What the driver knows of the data.
pub(crate) struct World {
    pub(crate) users: Vec<UserId>,
    /// Whom each follows, by position.
    pub(crate) followees: Vec<Vec<usize>>,
    /// Who follows each, by position.
    pub(crate) followers: Vec<Vec<usize>>,
    /// `GET /timeline` of each user.
    pub(crate) reads: Vec<Vec<u8>>,
    /// The access token of each user.
    pub(crate) tokens: Vec<String>,
    /// Texts to post, 60 to 200 characters.
    texts: Vec<String>,
    /// A page of 20 of the shortest tweets has at least this many bytes.
    pub(crate) page_bytes_min: usize,
}

/// Milliseconds since the Unix epoch.
pub(crate) fn wall_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

/// A random number generator that gives the same in every run.
pub(crate) fn random(seed: u64) -> Pcg64 {
    Pcg64::seed_from_u64(seed)
}

fn text(random: &mut Pcg64) -> String {
    const WORDS: [&str; 12] = [
        "a", "tweet", "about", "nothing", "much", "but", "long", "enough", "to", "be", "one", "of",
    ];
    let length = random.random_range(60..200);
    let mut text = String::with_capacity(length + 8);
    while text.len() < length {
        text.push_str(WORDS[random.random_range(0..WORDS.len())]);
        text.push(' ');
    }
    text.truncate(length);
    text
}

/// A world before it is stored anywhere.
pub(crate) struct Plan {
    pub(crate) accounts: Vec<Account>,
    /// Tweets of everybody, oldest first.
    pub(crate) bodies: Vec<Body>,
    followees: Vec<Vec<usize>>,
    followers: Vec<Vec<usize>>,
    texts: Vec<String>,
}

impl Plan {
    /// A world of so many users.
    pub(crate) fn new(users: usize) -> Self {
        let mut random = random(7);
        let now = wall_ms();
        // Ids as they would have been given out over the last day.
        let mut ids = Snowflake::new(3);
        let day_ago = now - 24 * 3_600_000;
        let accounts: Vec<Account> = (0..users)
            .map(|n| account(n, UserId(ids.next(day_ago + n as u64 * 17)), now))
            .collect();
        let (followees, followers) = graph(users, &mut random);
        let texts: Vec<String> = (0..1_000).map(|_| text(&mut random)).collect();
        let mut bodies = Vec::with_capacity(users * TWEETS as usize);
        let mut ids = Snowflake::new(4);
        for round in 0..TWEETS {
            for (n, account) in accounts.iter().enumerate() {
                let at = day_ago + 3_600_000 * (round + 1) + n as u64 * 200;
                let text = &texts[random.random_range(0..texts.len())];
                bodies.push(body(TweetId(ids.next(at)), account, text, at));
            }
        }
        Self { accounts, bodies, followees, followers, texts }
    }

    /// Who follows whom.
    pub(crate) fn edges(&self) -> Vec<(UserId, UserId)> {
        let id = |n: usize| self.accounts[n].id;
        self.followees
            .iter()
            .enumerate()
            .flat_map(|(n, all)| all.iter().map(move |&other| (id(n), id(other))))
            .collect()
    }

    /// What the driver needs once it is stored; `key` signs the tokens.
    pub(crate) fn stored(self, key: &StoredKey) -> Arc<World> {
        let tokens = tokens(key, &self.accounts);
        let shortest = self.bodies.iter().map(|body| tweet_json(body, "").len()).min().unwrap();
        Arc::new(World {
            users: self.accounts.iter().map(|account| account.id).collect(),
            followees: self.followees,
            followers: self.followers,
            reads: tokens.iter().map(|token| read(token, "")).collect(),
            tokens,
            texts: self.texts,
            page_bytes_min: shortest * 20,
        })
    }
}

impl World {
    /// How many users there are.
    pub(crate) fn len(&self) -> usize {
        self.users.len()
    }

    /// Popularity of users: which is read, or reads, next.
    pub(crate) fn zipf(&self) -> Zipf<f64> {
        Zipf::new(self.len() as f64, ZIPF).unwrap()
    }

    /// Draws a user.
    pub(crate) fn draw(zipf: &Zipf<f64>, random: &mut Pcg64) -> usize {
        zipf.sample(random) as usize - 1
    }

    /// Writes a `POST /tweets` of `user` with a text of the usual length.
    pub(crate) fn post(&self, user: usize, random: &mut Pcg64, request: &mut Vec<u8>) {
        let text = &self.texts[random.random_range(0..self.texts.len())];
        let (id, token) = (self.users[user], &self.tokens[user]);
        // The reference has no tokens: it is told who writes.
        let head = format!(
            "POST /tweets HTTP/1.1\r\nhost: chirp\r\nauthorization: Bearer {token}\r\n\
             x-user: {id}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n\
             {{\"text\":\"{text}\"}}",
            text.len() + 11,
        );
        request.extend_from_slice(head.as_bytes());
    }
}

/// A `GET /timeline` with `query` (such as `?limit=100`).
pub(crate) fn read(token: &str, query: &str) -> Vec<u8> {
    format!("GET /timeline{query} HTTP/1.1\r\nhost: chirp\r\nauthorization: Bearer {token}\r\n\r\n")
        .into_bytes()
}

/// Everybody follows [`FOLLOWS`] others, the popular ones more often.
fn graph(users: usize, random: &mut Pcg64) -> (Vec<Vec<usize>>, Vec<Vec<usize>>) {
    // Flatter than the readers, so that nobody is followed by everybody.
    let popular = Zipf::new(users as f64, 0.5).unwrap();
    let mut followers = vec![Vec::new(); users];
    let followees = (0..users).map(|reader| {
        let mut chosen = BTreeSet::new();
        while chosen.len() < FOLLOWS {
            let other = World::draw(&popular, random);
            if other != reader && chosen.insert(other) {
                followers[other].push(reader);
            }
        }
        chosen.into_iter().collect()
    });
    (followees.collect(), followers)
}

pub(crate) fn account(n: usize, id: UserId, now: u64) -> Account {
    let handle = Handle::parse(&format!("user_{n}")).unwrap();
    let name = DisplayName::parse(&format!("User Number {n}")).unwrap();
    Account { id, handle, name, created_at_ms: now }
}

/// A tweet of `account`.
pub(crate) fn body(id: TweetId, account: &Account, text: &str, at_ms: u64) -> Body {
    Body {
        id,
        author: account.id,
        handle: account.handle.clone(),
        name: account.name.clone(),
        text: TweetText::parse(text).unwrap(),
        media: MediaList::default(),
        created_at_ms: at_ms,
    }
}

/// A token for everybody.
pub(crate) fn tokens(key: &StoredKey, accounts: &[Account]) -> Vec<String> {
    let key = SigningKey::new(&key.kid, &key.seed).unwrap();
    let now = wall_ms() / 1_000;
    let token = |(n, account): (usize, &Account)| {
        let claims = Claims {
            sub: account.id,
            sid: SessionId(n as u64 + 1),
            handle: account.handle.clone(),
            name: account.name.clone(),
            iat: now,
            exp: now + TOKEN_S,
            iss: ISSUER.to_owned(),
            aud: ISSUER.to_owned(),
            uncounted: false,
        };
        key.sign(&claims).unwrap()
    };
    accounts.iter().enumerate().map(token).collect()
}
