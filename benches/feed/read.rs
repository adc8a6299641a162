//! Part 1: `GET /timeline` of 20 tweets out of warm caches, with one post in a hundred, beside a bare
//! handler that answers with the bytes of one such page.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use chirp::{
    domain::TweetId,
    wire::api::{Page, Tweet},
};
use rand::{RngExt, seq::IndexedRandom};
use rand_distr::Zipf;
use rand_pcg::Pcg64;

use crate::{
    driver::{Answer, Connection, Load, Slice, slice},
    report::{Part, Ratio, Series},
    server::Server,
    world::{self, USERS, World},
};

/// Connections; enough to keep both cores busy.
const CONNECTIONS: usize = 32;
/// Seconds of a slice.
const SLICE_S: u64 = 3;
/// One request in so many is a post.
const POST_ONE_IN: u32 = 100;
/// One page in so many is read as JSON and looked through.
const LOOK_ONE_IN: u32 = 512;
/// Times that everybody reads before the first slice: both replicas learn most tokens.
const WARM_ROUNDS: usize = 3;
/// Readers whose whole timelines are looked through at the end.
const AUDITED: usize = 300;
const GOAL: f64 = 0.7;

/// Readers and, seldom, writers of the real thing.
struct Readers {
    world: Arc<World>,
    random: Pcg64,
    zipf: Zipf<f64>,
    /// Who posts with the request that is open.
    posting: Option<usize>,
    posted: Vec<(usize, TweetId)>,
}

impl Load for Readers {
    fn next(&mut self, request: &mut Vec<u8>) {
        let user = World::draw(&self.zipf, &mut self.random);
        self.posting = self.random.random_ratio(1, POST_ONE_IN).then_some(user);
        if self.posting.is_some() {
            self.world.post(user, &mut self.random, request);
        } else {
            request.extend_from_slice(&self.world.reads[user]);
        }
    }

    fn check(&mut self, answer: &Answer<'_>) {
        if let Some(author) = self.posting {
            assert_eq!(answer.status, 201, "{}", String::from_utf8_lossy(answer.body));
            let tweet: Tweet = serde_json::from_slice(answer.body).unwrap();
            self.posted.push((author, tweet.id));
            return;
        }
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(answer.body));
        assert!(answer.body.len() >= self.world.page_bytes_min, "the page is too short");
        assert!(answer.body.ends_with(b"\"}"), "the page is degraded");
        if self.random.random_ratio(1, LOOK_ONE_IN) {
            let page: Page = serde_json::from_slice(answer.body).unwrap();
            assert_eq!(page.tweets.len(), 20);
            assert!(page.tweets.is_sorted_by(|a, b| a.id > b.id), "not newest first");
        }
    }
}

/// The same requests for a server that does not look at them.
struct Bare {
    world: Arc<World>,
    random: Pcg64,
    zipf: Zipf<f64>,
    length: usize,
}

impl Load for Bare {
    fn next(&mut self, request: &mut Vec<u8>) {
        let user = World::draw(&self.zipf, &mut self.random);
        request.extend_from_slice(&self.world.reads[user]);
    }

    fn check(&mut self, answer: &Answer<'_>) {
        assert_eq!((answer.status, answer.body.len()), (200, self.length));
    }
}

pub(crate) async fn run(length: Duration) -> Part {
    let folder = tempfile::tempdir().unwrap();
    let world = World::load(folder.path()).await;
    let chirp = Server::chirp(folder.path()).await;
    let page = warm(&chirp, &world).await;
    let path = folder.path().join("page.json");
    std::fs::write(&path, &page).unwrap();
    let bare = Server::reference("page", &[path.to_str().unwrap()]);

    let zipf = World::zipf();
    let mut readers: Vec<Readers> = (0..CONNECTIONS as u64)
        .map(|n| {
            let (world, random) = (Arc::clone(&world), world::random(100 + n));
            Readers { world, random, zipf, posting: None, posted: Vec::new() }
        })
        .collect();
    let mut others: Vec<Bare> = (0..CONNECTIONS as u64)
        .map(|n| {
            let (world, random) = (Arc::clone(&world), world::random(200 + n));
            Bare { world, random, zipf, length: page.len() }
        })
        .collect();
    let (mut a, mut b) = (Vec::new(), Vec::new());
    let slice_length = Duration::from_secs(SLICE_S);
    for _ in 0..length.as_secs().div_ceil(SLICE_S) {
        let (found, back) = slice(&bare, others, slice_length).await;
        others = back;
        b.push(found);
        let (found, back) = slice(&chirp, readers, slice_length).await;
        readers = back;
        a.push(found);
    }
    let mut part = compare("read", &a, &b, GOAL, GOAL);
    let posted: Vec<_> = readers.into_iter().flat_map(|reader| reader.posted).collect();
    part.note(format!(
        "{USERS} Zipf readers, {CONNECTIONS} connections, 1 % posts, pages of {} bytes, auth, limits \
         and metrics on; the reference answers these bytes",
        page.len(),
    ));
    match audit(&chirp, &world, &posted).await {
        Ok(note) => part.note(note),
        Err(why) => part.broken = Some(why),
    }
    part
}

/// Everybody reads; gives a page of the usual length.
pub(crate) async fn warm(chirp: &Server, world: &Arc<World>) -> Vec<u8> {
    let mut pages = Vec::new();
    for _ in 0..WARM_ROUNDS {
        let connections = (0..CONNECTIONS).map(|first| {
            let (world, address) = (Arc::clone(world), chirp.address);
            tokio::spawn(async move {
                let mut connection = Connection::open(address).await;
                let mut pages = Vec::new();
                for user in (first..USERS).step_by(CONNECTIONS) {
                    let answer = connection.call(&world.reads[user]).await;
                    assert_eq!(answer.status, 200);
                    pages.push(answer.body.to_vec());
                }
                pages
            })
        });
        pages.clear();
        for connection in connections.collect::<Vec<_>>() {
            pages.extend(connection.await.unwrap());
        }
    }
    pages.sort_unstable_by_key(Vec::len);
    pages.swap_remove(pages.len() / 2)
}

/// Both sides of a part that drives servers over HTTP.
pub(crate) fn compare(
    name: &'static str,
    chirp: &[Slice],
    reference: &[Slice],
    goal_rate: f64,
    goal_cpu: f64,
) -> Part {
    let mut part = Part::new(name);
    let rate = |all: &[Slice]| all.iter().map(|s| s.requests_per_s).collect();
    let cpu = |all: &[Slice]| all.iter().map(|s| s.cpu_us).collect();
    let quantile = |all: &[Slice], q| {
        all.iter().map(|s| s.latency.value_at_quantile(q) as f64 / 1_000.0).collect()
    };
    for (side, slices) in [(&mut part.chirp, chirp), (&mut part.reference, reference)] {
        side.push(Series::new("requests", "1/s", rate(slices)));
        side.push(Series::new("server cpu per request", "us", cpu(slices)));
    }
    let ratio = |at: usize| (part.chirp[at].median(), part.reference[at].median());
    let ((rate, bare_rate), (cpu, bare_cpu)) = (ratio(0), ratio(1));
    part.ratios = vec![
        Ratio {
            name: "ratio of requests/s",
            value: rate / bare_rate,
            goal: Some(goal_rate),
            at_most: false,
        },
        Ratio {
            name: "ratio of cpu (reference / chirp)",
            value: bare_cpu / cpu,
            goal: Some(goal_cpu),
            at_most: false,
        },
    ];
    part.chirp.push(Series::new("latency p50", "ms", quantile(chirp, 0.5)));
    part.chirp.push(Series::new("latency p99", "ms", quantile(chirp, 0.99)));
    part
}

/// Every tweet that was posted is in the timelines of its author and followers once, newest first.
pub(crate) async fn audit(
    chirp: &Server,
    world: &World,
    posted: &[(usize, TweetId)],
) -> Result<String, String> {
    chirp.drained().await;
    let mut by_author: BTreeMap<usize, Vec<TweetId>> = BTreeMap::new();
    for &(author, tweet) in posted {
        by_author.entry(author).or_default().push(tweet);
    }
    let mut random = world::random(300);
    let concerned: Vec<usize> = by_author
        .keys()
        .flat_map(|&author| world.followers[author].iter().copied().chain([author]))
        .collect();
    let mut deliveries = 0;
    let mut connection = Connection::open(chirp.address).await;
    for &reader in concerned.sample(&mut random, AUDITED) {
        let mut expected: Vec<TweetId> = world.followees[reader]
            .iter()
            .chain([&reader])
            .filter_map(|author| by_author.get(author))
            .flatten()
            .copied()
            .collect();
        expected.sort_unstable_by(|a, b| b.cmp(a));
        let whole = timeline(&mut connection, &world.tokens[reader]).await;
        if !whole.is_sorted_by(|a, b| a > b) {
            return Err(format!("the timeline of user {reader} is out of order or repeats itself"));
        }
        let oldest = expected.last().copied().unwrap_or(TweetId::MAX);
        let ours: Vec<TweetId> = whole.into_iter().take_while(|&id| id >= oldest).collect();
        let missing = expected.iter().filter(|id| !ours.contains(id)).count();
        if missing > 0 || ours.len() != expected.len() {
            return Err(format!(
                "user {reader} sees {} tweets instead of {}, {missing} are missing",
                ours.len(),
                expected.len()
            ));
        }
        deliveries += expected.len();
    }
    Ok(format!(
        "audit: {} posts; {deliveries} deliveries in {AUDITED} whole timelines, each once, in order",
        posted.len()
    ))
}

/// The ids of a whole timeline, as its pages give them.
async fn timeline(connection: &mut Connection, token: &str) -> Vec<TweetId> {
    let (mut ids, mut query) = (Vec::new(), "?limit=100".to_owned());
    loop {
        let answer = connection.call(&world::read(token, &query)).await;
        assert_eq!(answer.status, 200);
        let page: Page = serde_json::from_slice(answer.body).unwrap();
        ids.extend(page.tweets.iter().map(|tweet| tweet.id));
        match page.next {
            Some(next) => query = format!("?limit=100&before={next}"),
            None => return ids,
        }
    }
}
