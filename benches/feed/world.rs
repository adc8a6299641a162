//! The users, edges and tweets that a part works on, made from a seed and loaded in bulk.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use chirp::{
    adapters::embedded::{
        Stores,
        sqlite::{Fault, Options},
        tweets::insert,
    },
    domain::{
        Body, DisplayName, Handle, MediaList, SessionId, TweetId, TweetText, UserId,
        snowflake::Snowflake,
    },
    ports::{
        NewTweet, StoredKey,
        users::{Account, PasswordHash},
    },
    rt::tokio_rt::TokioRuntime,
    services::kit::token::{Claims, ISSUER, SigningKey},
    wire::api::tweet_json,
};
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, Zipf};
use rand_pcg::Pcg64;

/// Users of the read, post and freshness parts.
pub(crate) const USERS: usize = 12_000;
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

impl World {
    /// Makes the world and loads it into the data folder `dir`, which nobody uses yet.
    pub(crate) async fn load(dir: &Path) -> Arc<Self> {
        let mut random = random(7);
        let now = wall_ms();
        // Ids as they would have been given out over the last day.
        let mut ids = Snowflake::new(3);
        let day_ago = now - 24 * 3_600_000;
        let users: Vec<UserId> =
            (0..USERS as u64).map(|n| UserId(ids.next(day_ago + n * 17))).collect();
        let (followees, followers) = graph(&mut random);
        let texts: Vec<String> = (0..1_000).map(|_| text(&mut random)).collect();

        let rt = TokioRuntime::handle();
        let stores = Stores::open(dir, &rt, Options::default()).unwrap();
        let accounts: Vec<Account> = (0..USERS).map(|n| account(n, users[n], now)).collect();
        let seeder = stores.seeder();
        seeder
            .users(&accounts, &PasswordHash("nobody logs in".to_owned()))
            .await
            .certain()
            .unwrap();
        let edges: Vec<(UserId, UserId)> = followees
            .iter()
            .enumerate()
            .flat_map(|(n, all)| all.iter().map(move |&other| (n, other)))
            .map(|(n, other)| (users[n], users[other]))
            .collect();
        seeder.follows(&edges).await.certain().unwrap();

        let mut bodies = Vec::with_capacity(USERS * TWEETS as usize);
        let mut ids = Snowflake::new(4);
        for round in 0..TWEETS {
            for (n, account) in accounts.iter().enumerate() {
                let at = day_ago + 3_600_000 * (round + 1) + n as u64 * 200;
                bodies.push(Body {
                    id: TweetId(ids.next(at)),
                    author: account.id,
                    handle: account.handle.clone(),
                    name: account.name.clone(),
                    text: TweetText::parse(&texts[random.random_range(0..texts.len())]).unwrap(),
                    media: MediaList::default(),
                    created_at_ms: at,
                });
            }
        }
        let shortest = bodies.iter().map(|body| tweet_json(body).len()).min().unwrap();
        store(&stores, bodies).await;
        let tokens = tokens(&stores, &accounts).await;
        stores.close();
        let reads = tokens.iter().map(|token| read(token, "")).collect();
        let page_bytes_min = shortest * 20;
        Arc::new(Self { users, followees, followers, reads, tokens, texts, page_bytes_min })
    }

    /// Popularity of users: which is read, or reads, next.
    pub(crate) fn zipf() -> Zipf<f64> {
        Zipf::new(USERS as f64, ZIPF).unwrap()
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
fn graph(random: &mut Pcg64) -> (Vec<Vec<usize>>, Vec<Vec<usize>>) {
    // Flatter than the readers, so that nobody is followed by everybody.
    let popular = Zipf::new(USERS as f64, 0.5).unwrap();
    let mut followers = vec![Vec::new(); USERS];
    let followees = (0..USERS).map(|reader| {
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

fn account(n: usize, id: UserId, now: u64) -> Account {
    let handle = Handle::parse(&format!("user_{n}")).unwrap();
    let name = DisplayName::parse(&format!("User Number {n}")).unwrap();
    Account { id, handle, name, created_at_ms: now }
}

/// Writes tweets as if they had been posted and fanned out long ago.
async fn store(stores: &Stores, bodies: Vec<Body>) {
    for batch in bodies.chunks(5_000) {
        stores.timeline.store.put_tweets(batch).await.certain().unwrap();
        let batch = batch.to_vec();
        let write = move |conn: &rusqlite::Connection| {
            for body in batch {
                insert(conn, &NewTweet { body, media: Vec::new(), key: None, trace: None })?;
            }
            conn.execute("update outbox set sent_at_ms = at_ms where sent_at_ms is null", [])?;
            Ok::<(), Fault>(())
        };
        stores.tweet.db.write("bench", write).await.certain().unwrap();
    }
}

/// A token for everybody, signed with the key of the data folder.
async fn tokens(stores: &Stores, accounts: &[Account]) -> Vec<String> {
    let key = StoredKey { kid: "bench".to_owned(), seed: [9; 32], created_at_ms: wall_ms() };
    stores.user.keys.replace(&[], std::slice::from_ref(&key)).await.certain().unwrap();
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
        };
        key.sign(&claims).unwrap()
    };
    accounts.iter().enumerate().map(token).collect()
}
