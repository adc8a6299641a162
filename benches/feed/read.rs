//! Part 1: `GET /timeline` of 20 tweets out of warm caches, with few posts between, beside the least
//! that could give such a page: over files a bare handler that answers with its bytes, over servers
//! clients of Redis that send its script.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use chirp::{
    domain::TweetId,
    wire::api::{Page, Tweet},
};
use rand::{RngExt, seq::IndexedRandom};
use rand_distr::Zipf;
use rand_pcg::Pcg64;

use crate::{
    containers::Servers,
    driver::{Answer, Connection, Load, SLICE, Turns, slice, turns},
    redis_client::{Commands, Pages},
    report::{Part, Ratio, Series},
    server::Server,
    stack::{Side, Stack},
    world::{self, World},
};

/// Connections; enough to keep both cores busy.
const CONNECTIONS: usize = 32;
/// One request in so many is a post.
const POST_ONE_IN: u32 = 100;
/// The same over servers, where a post costs as much as many pages, and the reference has none.
const POST_ONE_IN_CONTAINERS: u32 = 1_000;
/// One page in so many is read as JSON and looked through.
const LOOK_ONE_IN: u32 = 512;
/// Times that everybody reads before the first slice: both replicas learn most tokens.
const WARM_ROUNDS: usize = 3;
/// Readers whose whole timelines are looked through at the end.
const AUDITED: usize = 300;
const GOAL: f64 = 0.7;
const GOAL_CONTAINERS: f64 = 0.5;

/// Readers and, seldom, writers of the real thing.
struct Readers {
    world: Arc<World>,
    random: Pcg64,
    zipf: Zipf<f64>,
    post_one_in: u32,
    /// Pages so far, those that are not counted included.
    pages: u64,
    /// Who posts with the request that is open.
    posting: Option<usize>,
    posted: Vec<(usize, TweetId)>,
}

impl Load for Readers {
    fn next(&mut self, request: &mut Vec<u8>) {
        let user = World::draw(&self.zipf, &mut self.random);
        self.posting = self.random.random_ratio(1, self.post_one_in).then_some(user);
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
        self.pages += 1;
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

pub(crate) async fn run(stack: &Stack, length: Duration) -> Part {
    let Stack { chirp, world, page, side, folder } = stack;
    let zipf = world.zipf();
    let post_one_in = match side {
        Side::Twin(_) => POST_ONE_IN,
        Side::Servers(_) => POST_ONE_IN_CONTAINERS,
    };
    let reader = |n| {
        let (world, random) = (Arc::clone(world), world::random(100 + n));
        Readers { world, random, zipf, post_one_in, pages: 0, posting: None, posted: Vec::new() }
    };
    let mut ours: Vec<Readers> = (0..CONNECTIONS as u64).map(reader).collect();
    let mut part = match side {
        Side::Twin(_) => {
            let path = folder.path().join("page.json");
            std::fs::write(&path, page).unwrap();
            let bare = Server::reference("page", &[path.to_str().unwrap()]);
            let other = |n| {
                let (world, random) = (Arc::clone(world), world::random(200 + n));
                Bare { world, random, zipf, length: page.len() }
            };
            let mut others: Vec<Bare> = (0..CONNECTIONS as u64).map(other).collect();
            let reference = async || slice(&bare, &mut others, SLICE).await;
            let turns = turns(chirp, &mut ours, length, reference).await;
            let mut part = compare("read", &turns, GOAL, Some(GOAL));
            part.note("the reference answers the bytes of one page");
            part
        }
        Side::Servers(servers) => {
            let redis = Server::container(servers.get("redis"));
            let mut others = Pages::new(servers, world, CONNECTIONS);
            let reference = async || slice(&redis, &mut others, SLICE).await;
            let turns = turns(chirp, &mut ours, length, reference).await;
            let mut part = compare("read", &turns, GOAL_CONTAINERS, None);
            part.note(
                "the reference sends the script of the page to the same Redis and no body, as if all \
                 were near; the figures count processor time of chirp and of each server apart",
            );
            part.note(commands_per_page(servers, chirp, &mut ours).await);
            part
        }
    };
    let posted: Vec<_> = ours.into_iter().flat_map(|reader| reader.posted).collect();
    part.note(format!(
        "{} Zipf readers, {CONNECTIONS} connections, one post in {post_one_in} requests, pages of {} \
         bytes, auth, limits and metrics on",
        world.len(),
        page.len(),
    ));
    match audit(chirp, world, &posted).await {
        Ok(note) => part.note(note),
        Err(why) => part.broken = Some(why),
    }
    part
}

/// What chirp really sends to Redis for a page, in a slice that is not counted.
async fn commands_per_page(servers: &Servers, chirp: &Server, ours: &mut Vec<Readers>) -> String {
    let pages = |ours: &[Readers]| ours.iter().map(|reader| reader.pages).sum::<u64>();
    let (before, first) = (Commands::count(servers).await, pages(ours));
    slice(chirp, ours, SLICE).await;
    let sent = Commands::count(servers).await.since(&before);
    let pages = (pages(ours) - first) as f64;
    format!("commands that Redis got for each of chirp's pages: {}", sent.per(pages))
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
                for user in (first..world.len()).step_by(CONNECTIONS) {
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

/// Both sides of a part that drives servers; without a goal for the processor time of the server it is
/// not compared.
pub(crate) fn compare(
    name: &'static str,
    turns: &Turns,
    goal_rate: f64,
    goal_cpu: Option<f64>,
) -> Part {
    let mut part = Part::new(name);
    let sides = [(&mut part.chirp, &turns.chirp), (&mut part.reference, &turns.reference)];
    for (side, slices) in sides {
        side.push(Series::new(
            "requests",
            "1/s",
            slices.iter().map(|s| s.requests_per_s).collect(),
        ));
        for (at, (name, _)) in slices[0].cpu_us.iter().enumerate() {
            let cpu = slices.iter().map(|slice| slice.cpu_us[at].1).collect();
            side.push(Series::new(&format!("{name} cpu per request"), "us", cpu));
        }
    }
    let ratio = |at: usize| (part.chirp[at].median(), part.reference[at].median());
    let ((rate, bare_rate), (cpu, bare_cpu)) = (ratio(0), ratio(1));
    let name = "ratio of requests/s";
    let goal = Some(goal_rate);
    part.ratios.push(Ratio { name, value: rate / bare_rate, goal, at_most: false });
    if goal_cpu.is_some() {
        let name = "ratio of cpu (reference / chirp)";
        part.ratios.push(Ratio { name, value: bare_cpu / cpu, goal: goal_cpu, at_most: false });
    }
    let quantile = |q| {
        let of = turns.chirp.iter().map(|s| s.latency.value_at_quantile(q) as f64 / 1_000.0);
        of.collect()
    };
    part.chirp.push(Series::new("latency p50", "ms", quantile(0.5)));
    part.chirp.push(Series::new("latency p99", "ms", quantile(0.99)));
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
