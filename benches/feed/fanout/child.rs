//! The process that delivers: prints what it found as JSON.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use chirp::{
    adapters::{embedded::limiter::EmbeddedLimiter, proof::Proof, rpc::Peers},
    config::Services,
    domain::{Entry, Relations, TweetId, UserId, Window, ring::CAPACITY_MAX, snowflake::Snowflake},
    ports::{Bus, HomeRead, ListKey, Queue, Target, Topic, bus::BATCH_MAX},
    rt::{Rt, Shutdown, tokio_rt::TokioRuntime},
    services::{
        kit::{Common, Secret},
        timeline::{self, Deps, Halves},
    },
    telemetry::Metrics,
    wire::{
        events::{Event, pack},
        routes::Role,
    },
};
use futures_util::{StreamExt, TryStreamExt, stream};
use rand::{RngExt, seq::SliceRandom};

use super::{Found, Spent, sides::Side};
use crate::world::{account, body, random, wall_ms};

/// How much there is.
#[derive(Clone, Copy)]
pub(super) struct Size {
    users: usize,
    authors: usize,
    /// Tweets of each author in a round.
    tweets: usize,
    /// Events that share a message, if they fit: as many as the relay claims at once, or fewer so
    /// that there are messages for all workers.
    packed: usize,
    /// How often it is looked whether the queues are empty.
    look_every: Duration,
}

pub(super) const EMBEDDED: Size =
    Size { users: 51_000, authors: 2_000, tweets: 4, packed: 500, look_every: LOOK_EVERY };
/// What Redis holds in 400 MB and Cassandra takes in within a minute. An entry stays in its list of
/// 800 through all rounds.
pub(super) const CONTAINERS: Size =
    Size { users: 20_000, authors: 200, tweets: 8, packed: 40, look_every: LOOK_EVERY_CONTAINERS };
/// Followers of an author on average, as in the published run that this is compared with.
const FOLLOWERS: usize = 403;
/// How fast the number of followers falls with the author's rank.
const FALL: f64 = 0.6;
const ROUNDS: usize = 3;
/// Writes what fills the lists at the start; nobody sees it.
const NOBODY: UserId = UserId(1);
const ROUND_MAX: Duration = Duration::from_mins(5);
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Over servers each look costs the emulator some milliseconds, and a round lasts ten seconds or more.
const LOOK_EVERY_CONTAINERS: Duration = Duration::from_millis(200);
/// Lists that are filled or looked through at once.
const LISTS_AT_ONCE: usize = 32;

/// Runs the process: over the servers of the stack in the folder that is named, or over files.
pub(crate) fn child(args: &[String]) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let found = runtime.block_on(measure(args.first().map(Path::new)));
    println!("{}", serde_json::to_string(&found).unwrap());
}

/// Who follows whom; authors are the first users.
struct Graph {
    users: Vec<UserId>,
    /// Of each author, by position.
    followers: Vec<Vec<usize>>,
}

impl Graph {
    fn new(size: Size) -> Self {
        let mut random = random(11);
        let mut ids = Snowflake::new(5);
        let day_ago = wall_ms() - 24 * 3_600_000;
        let users = (0..size.users as u64).map(|n| UserId(ids.next(day_ago + n * 17))).collect();
        let weight = |rank: usize| (rank as f64).powf(-FALL);
        let third = size.users / 3;
        let scale =
            (FOLLOWERS * size.authors - third) as f64 / (1..size.authors).map(weight).sum::<f64>();
        let followers = (0..size.authors).map(|rank| {
            let count = if rank == 0 { third } else { (scale * weight(rank)) as usize };
            let drawn = rand::seq::index::sample(&mut random, size.users, count + 1);
            drawn.into_iter().filter(|&user| user != rank).take(count).collect()
        });
        Self { users, followers: followers.collect() }
    }

    fn edges(&self) -> Vec<(UserId, UserId)> {
        let of = |(author, all): (usize, &Vec<usize>)| -> Vec<(UserId, UserId)> {
            all.iter().map(|&follower| (self.users[follower], self.users[author])).collect()
        };
        self.followers.iter().enumerate().flat_map(of).collect()
    }
}

/// The process' parts.
struct Bench {
    rt: Rt,
    graph: Graph,
    side: Side,
    metrics: Metrics,
    ids: Snowflake,
    /// What every list should have got, oldest first.
    expected: Vec<Vec<TweetId>>,
}

async fn measure(stack: Option<&Path>) -> Found {
    let (rt, metrics) = (TokioRuntime::handle(), Metrics::new());
    let (graph, side) = match stack {
        None => {
            let graph = Graph::new(EMBEDDED);
            let side = Side::embedded(&rt, &graph.edges()).await;
            (graph, side)
        }
        Some(dir) => {
            let graph = Graph::new(CONTAINERS);
            let edges = graph.edges();
            let side = Box::pin(Side::servers(&rt, &metrics, dir, &edges)).await;
            (graph, side)
        }
    };
    let mut bench = Bench {
        rt,
        expected: vec![Vec::new(); graph.users.len()],
        graph,
        side,
        metrics,
        ids: Snowflake::new(6),
    };
    bench.fill().await;
    let bytes_per_entry = bench.side.bytes_per_entry(&bench.graph.users).await;
    let (mut chirp, mut bare) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        bare.push(bench.bare().await);
        let deliveries = bench.enqueue(round).await;
        chirp.push(bench.work(deliveries).await);
    }
    Found { chirp, bare, bytes_per_entry, checked: bench.check().await }
}

impl Bench {
    fn next_id(&mut self) -> TweetId {
        TweetId(self.ids.next(wall_ms()))
    }

    /// Makes every timeline warm and full.
    async fn fill(&self) {
        let old: Vec<Entry> = (1..=CAPACITY_MAX as u64)
            .map(|id| Entry { tweet: TweetId(id), author: NOBODY })
            .collect();
        let (cache, old) = (&*self.side.deps.cache, &old);
        stream::iter(&self.graph.users)
            .for_each_concurrent(LISTS_AT_ONCE, |&user| async move {
                let key = ListKey::Home(user);
                let token = cache.begin_fill(key).await.certain().unwrap().unwrap();
                assert!(cache.finish_fill(key, token, old, TweetId(0)).await.certain().unwrap());
            })
            .await;
    }

    /// As many deliveries as a round has, straight into the lists.
    async fn bare(&mut self) -> Spent {
        let homes: Vec<Vec<UserId>> = self
            .graph
            .followers
            .iter()
            .map(|all| all.iter().map(|&user| self.graph.users[user]).collect())
            .collect();
        let mut pushes = Vec::new();
        for _ in 0..self.side.size.tweets {
            for homes in &homes {
                let entry = Entry { tweet: self.next_id(), author: NOBODY };
                pushes.push((entry, homes.as_slice()));
            }
        }
        self.side.push(&pushes).await
    }

    /// Puts a round of tweets on the bus, packed as the relay packs them. Gives their deliveries.
    async fn enqueue(&mut self, round: usize) -> f64 {
        let mut random = random(20 + round as u64);
        let size = self.side.size;
        let mut authors: Vec<usize> =
            (0..size.authors).cycle().take(size.authors * size.tweets).collect();
        authors.shuffle(&mut random);
        let mut deliveries = 0;
        let mut events = Vec::with_capacity(authors.len());
        for author in authors {
            let (id, now) = (self.next_id(), wall_ms());
            let author_account = account(author, self.graph.users[author], now);
            let text = "word ".repeat(random.random_range(12..40));
            let body = body(id, &author_account, &text, now);
            events.push(Event::tweet_created(&body, None).encode());
            for &reader in self.graph.followers[author].iter().chain([&author]) {
                self.expected[reader].push(id);
                deliveries += 1;
            }
        }
        let messages: Vec<Bytes> =
            events.chunks(size.packed).flat_map(pack).map(|(message, _)| message).collect();
        for batch in messages.chunks(BATCH_MAX) {
            let topic = Target::Topic(Topic::TweetEvents);
            for sent in self.side.deps.bus.publish(topic, batch).await {
                sent.certain().unwrap();
            }
        }
        f64::from(deliveries)
    }

    /// Runs the workers until every message is acknowledged.
    async fn work(&self, deliveries: f64) -> Spent {
        let stop = Shutdown::new();
        let mut deps: Deps = self.side.deps.clone();
        let bus = Arc::clone(&deps.bus);
        let intake = self.side.intake(&self.rt);
        if let Some(intake) = &intake {
            deps.bus = Arc::clone(intake) as Arc<dyn Bus>;
        }
        let common = Common {
            rt: self.rt.clone(),
            role: Role::Timeline,
            replica: 0,
            rpc: Peers::new(self.rt.clone(), Proof::new("nobody calls")),
            limiter: Arc::new(EmbeddedLimiter::new(self.rt.clone())),
            metrics: self.metrics.clone(),
            config: Arc::new(Services::default()),
            service_token: Secret("nobody calls".into()),
            shutdown: stop.clone(),
        };
        let mut service = timeline::build(common, deps, Halves { http: false, worker: true });
        let (before, began) = (self.side.cpu_s("chirp"), Instant::now());
        let tasks = service.start(&self.rt);
        for lane in [Queue::Ingest, Queue::Bulk] {
            loop {
                let stats = bus.stats(lane).await.unwrap();
                if stats.depth + stats.in_flight == 0 {
                    break;
                }
                assert!(began.elapsed() < ROUND_MAX, "the workers do not come to an end");
                self.rt.sleep(self.side.size.look_every).await;
            }
        }
        let spent = self.side.spent(deliveries, &before, began);
        stop.cancel();
        for task in tasks {
            task.join().await;
        }
        if let Some(intake) = intake {
            intake.stop();
            intake.idle().await;
        }
        spent
    }

    /// Compares every list with what it should hold.
    async fn check(&self) -> Result<String, String> {
        let users = &self.graph.users;
        let mut visible = vec![Vec::new(); users.len()];
        for (author, followers) in self.graph.followers.iter().enumerate() {
            for &reader in followers.iter().chain([&author]) {
                visible[reader].push(users[author]);
            }
        }
        stream::iter(visible.into_iter().enumerate().map(Ok))
            .try_for_each_concurrent(LISTS_AT_ONCE, |(user, visible)| {
                self.check_list(user, visible)
            })
            .await?;
        let all: usize = self.expected.iter().map(Vec::len).sum();
        let counted = self.metrics.render();
        let line = format!("chirp_deliveries_total {all}");
        if !counted.lines().any(|own| own == line) {
            return Err(format!("the metrics do not say {all} deliveries"));
        }
        let (lists, authors) = (users.len(), self.graph.followers.len());
        Ok(format!(
            "checked: {all} deliveries of {authors} authors in all {lists} lists, each once, in order"
        ))
    }

    async fn check_list(&self, user: usize, mut visible: Vec<UserId>) -> Result<(), String> {
        let Deps { cache, relations, .. } = &self.side.deps;
        visible.sort_unstable();
        let sees = Relations { visible: visible.into(), ..Relations::default() };
        let id = self.graph.users[user];
        let token = relations.begin_fill(id).await.certain().unwrap();
        assert!(relations.finish_fill(id, token, Arc::new(sees)).await.certain().unwrap());
        let read = cache.page(id, Window::Latest, CAPACITY_MAX).await.unwrap();
        let HomeRead::Hit(hit) = read else { return Err(format!("user {user} is cold")) };
        let found = hit.slice.entries.iter().rev().map(|entry| entry.tweet);
        if found.eq(self.expected[user].iter().copied()) {
            return Ok(());
        }
        Err(format!("the list of user {user} is not what it should be"))
    }
}
