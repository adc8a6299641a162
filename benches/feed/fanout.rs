//! Part 3: deliveries per second and core, from envelopes on the bus to their acknowledgement.
//!
//! The real workers over the real stores, in a process of their own without HTTP: 51,000 warm and
//! full timelines, 2,000 authors with 403 followers on average, the first followed by a third of all.
//! A round enqueues tweets while no worker runs, and then lets the workers do them all. Beside it the
//! bare pushes of as many deliveries, with the followers in memory: what is left if store, bus and
//! everything else cost nothing. At the end every list is compared with what it should hold.

use std::{
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use chirp::{
    adapters::{
        embedded::{
            Stores,
            cache::{EmbeddedCache, Limits},
            hints::EmbeddedHints,
            limiter::EmbeddedLimiter,
            sqlite::Options,
        },
        rpc::Peers,
    },
    config::Services,
    domain::{
        Body, DisplayName, Entry, Handle, MediaList, Relations, TweetId, TweetText, UserId, Window,
        ring::CAPACITY_MAX, snowflake::Snowflake,
    },
    ports::{
        HomeRead, ListKey, Push, Queue, RelationCache, Target, TimelineCache, Topic,
        bus::BATCH_MAX, cache::PUSH_OWNERS_MAX,
    },
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
use rand::{RngExt, seq::SliceRandom};
use serde_json::{Value, json};

use crate::{
    report::{Part, Ratio, Series},
    server::cpu_s,
    world::{random, wall_ms},
};

const USERS: usize = 51_000;
const AUTHORS: usize = 2_000;
/// Followers of an author on average, as in the published run that this is compared with.
const FOLLOWERS: usize = 403;
/// How fast the number of followers falls with the author's rank.
const FALL: f64 = 0.6;
/// Tweets of each author in a round.
const TWEETS: usize = 4;
const ROUNDS: usize = 3;
/// Rows that the relay claims, and so packs, at once.
const RELAYED: usize = 500;
/// Writes what fills the lists at the start; nobody sees it.
const NOBODY: UserId = UserId(1);
const ROUND_MAX: Duration = Duration::from_mins(5);
const GOAL: f64 = 1e6;
/// Rama, "How we reduced the cost of building Twitter at Twitter-scale by 100x", 2023.
const PUBLISHED: f64 = 31_000.0;

/// Runs the part in a process of its own, so that its memory and processor time are its own.
pub(crate) fn run() -> Part {
    let own = std::env::current_exe().unwrap();
    let child = Command::new(own).arg("fan-out").stdout(Stdio::piped()).spawn().unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "the fan-out process failed");
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let values = |name: &str| -> Vec<f64> { serde_json::from_value(found[name].clone()).unwrap() };
    let mut part = Part::new("fanout");
    part.chirp.push(Series::new("deliveries per core", "1/s", values("per_core")));
    part.chirp.push(Series::new("deliveries", "1/s", values("per_s")));
    part.reference.push(Series::new("bare pushes per core", "1/s", values("bare")));
    let (ours, bare) = (part.chirp[0].median(), part.reference[0].median());
    part.ratios = vec![
        Ratio {
            name: "deliveries per second and core",
            value: ours,
            goal: Some(GOAL),
            at_most: false,
        },
        Ratio { name: "of bare pushes", value: ours / bare, goal: None, at_most: false },
        Ratio {
            name: "of Rama's 31,000 per vCPU",
            value: ours / PUBLISHED,
            goal: None,
            at_most: false,
        },
    ];
    part.note(
        "Rama's figure is of a cluster with a replicated durable store and a network between;",
    );
    part.note("here one process pushes into lists in memory over a durable source");
    match found["wrong"].as_str() {
        Some(why) => part.broken = Some(why.to_owned()),
        None => part.note(found["checked"].as_str().unwrap()),
    }
    part
}

/// The process of the part: prints what it found as JSON.
pub(crate) fn child(_args: &[String]) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    println!("{}", runtime.block_on(measure()));
}

/// Who follows whom; authors are the first users.
struct Graph {
    users: Vec<UserId>,
    /// Of each author, by position.
    followers: Vec<Vec<usize>>,
}

impl Graph {
    fn new() -> Self {
        let mut random = random(11);
        let mut ids = Snowflake::new(5);
        let day_ago = wall_ms() - 24 * 3_600_000;
        let users = (0..USERS as u64).map(|n| UserId(ids.next(day_ago + n * 17))).collect();
        let weight = |rank: usize| (rank as f64).powf(-FALL);
        let third = USERS / 3;
        let scale = (FOLLOWERS * AUTHORS - third) as f64 / (1..AUTHORS).map(weight).sum::<f64>();
        let followers = (0..AUTHORS).map(|rank| {
            let count = if rank == 0 { third } else { (scale * weight(rank)) as usize };
            let drawn = rand::seq::index::sample(&mut random, USERS, count + 1);
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
    stores: Stores,
    cache: Arc<EmbeddedCache>,
    metrics: Metrics,
    ids: Snowflake,
    /// What every list should have got, oldest first.
    expected: Vec<Vec<TweetId>>,
}

async fn measure() -> Value {
    let folder = tempfile::tempdir().unwrap();
    let rt = TokioRuntime::handle();
    let stores = Stores::open(folder.path(), &rt, Options::default()).unwrap();
    let graph = Graph::new();
    stores.seeder().follows(&graph.edges()).await.certain().unwrap();
    let cache = Arc::new(EmbeddedCache::new(rt.clone(), Limits::default()));
    fill(&*cache, &graph).await;
    let mut bench = Bench {
        rt,
        graph,
        stores,
        cache,
        metrics: Metrics::new(),
        ids: Snowflake::new(6),
        expected: vec![Vec::new(); USERS],
    };
    let (mut per_core, mut per_s, mut bare) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        bare.push(bench.bare().await);
        let deliveries = bench.enqueue(round).await;
        let (cpu, wall) = bench.work().await;
        per_core.push(deliveries / cpu);
        per_s.push(deliveries / wall);
    }
    let checked = bench.check().await;
    json!({
        "per_core": per_core,
        "per_s": per_s,
        "bare": bare,
        "wrong": checked.as_ref().err(),
        "checked": checked.as_ref().ok(),
    })
}

/// Makes every timeline warm and full.
async fn fill(cache: &dyn TimelineCache, graph: &Graph) {
    let old: Vec<Entry> =
        (1..=CAPACITY_MAX as u64).map(|id| Entry { tweet: TweetId(id), author: NOBODY }).collect();
    for &user in &graph.users {
        let key = ListKey::Home(user);
        let token = cache.begin_fill(key).await.certain().unwrap().unwrap();
        assert!(cache.finish_fill(key, token, &old, TweetId(0)).await.certain().unwrap());
    }
}

impl Bench {
    fn next_id(&mut self) -> TweetId {
        TweetId(self.ids.next(wall_ms()))
    }

    /// As many deliveries as a round has, straight into the lists. Gives deliveries per
    /// processor second.
    async fn bare(&mut self) -> f64 {
        let homes: Vec<Vec<UserId>> = self
            .graph
            .followers
            .iter()
            .map(|all| all.iter().map(|&user| self.graph.users[user]).collect())
            .collect();
        let (mut deliveries, cpu) = (0, cpu_s("self"));
        for _ in 0..TWEETS {
            for homes in &homes {
                let entry = Entry { tweet: self.next_id(), author: NOBODY };
                for homes in homes.chunks(PUSH_OWNERS_MAX) {
                    let push = Push { entry, homes, author_list: false };
                    deliveries += self.cache.push(&[push]).await.certain().unwrap().delivered;
                }
            }
        }
        deliveries as f64 / (cpu_s("self") - cpu)
    }

    /// Puts a round of tweets on the bus, packed as the relay packs them. Gives their deliveries.
    async fn enqueue(&mut self, round: usize) -> f64 {
        let mut random = random(20 + round as u64);
        let mut authors: Vec<usize> = (0..AUTHORS).cycle().take(AUTHORS * TWEETS).collect();
        authors.shuffle(&mut random);
        let mut deliveries = 0;
        let mut events = Vec::with_capacity(authors.len());
        for author in authors {
            let id = self.next_id();
            let body = Body {
                id,
                author: self.graph.users[author],
                handle: Handle::parse(&format!("user_{author}")).unwrap(),
                name: DisplayName::parse(&format!("User Number {author}")).unwrap(),
                text: TweetText::parse(&"word ".repeat(random.random_range(12..40))).unwrap(),
                media: MediaList::default(),
                created_at_ms: wall_ms(),
            };
            events.push(Event::tweet_created(&body, None).encode());
            for &reader in self.graph.followers[author].iter().chain([&author]) {
                self.expected[reader].push(id);
                deliveries += 1;
            }
        }
        let messages: Vec<Bytes> =
            events.chunks(RELAYED).flat_map(pack).map(|(message, _)| message).collect();
        for batch in messages.chunks(BATCH_MAX) {
            for sent in
                self.stores.timeline.bus.publish(Target::Topic(Topic::TweetEvents), batch).await
            {
                sent.certain().unwrap();
            }
        }
        f64::from(deliveries)
    }

    /// Runs the workers until every message is acknowledged. Gives processor and wall seconds.
    async fn work(&self) -> (f64, f64) {
        let stop = Shutdown::new();
        let timeline = &self.stores.timeline;
        let deps = Deps {
            store: Arc::clone(&timeline.store),
            cache: self.cache.clone(),
            relations: self.cache.clone(),
            bodies: self.cache.clone(),
            bus: Arc::clone(&timeline.bus),
            hints: Arc::new(EmbeddedHints::new()),
        };
        let common = Common {
            rt: self.rt.clone(),
            role: Role::Timeline,
            replica: 0,
            rpc: Peers::new(self.rt.clone(), chirp::adapters::proof::Proof::new("nobody calls")),
            limiter: Arc::new(EmbeddedLimiter::new(self.rt.clone())),
            metrics: self.metrics.clone(),
            config: Arc::new(Services::default()),
            service_token: Secret("nobody calls".into()),
            shutdown: stop.clone(),
        };
        let mut service = timeline::build(common, deps, Halves { http: false, worker: true });
        let (cpu, began) = (cpu_s("self"), Instant::now());
        let tasks = service.start(&self.rt);
        for lane in [Queue::Ingest, Queue::Bulk] {
            loop {
                let stats = timeline.bus.stats(lane).await.unwrap();
                if stats.depth + stats.in_flight == 0 {
                    break;
                }
                assert!(began.elapsed() < ROUND_MAX, "the workers do not come to an end");
                self.rt.sleep(Duration::from_millis(10)).await;
            }
        }
        let found = (cpu_s("self") - cpu, began.elapsed().as_secs_f64());
        stop.cancel();
        for task in tasks {
            task.join().await;
        }
        found
    }

    /// Compares every list with what it should hold.
    async fn check(&self) -> Result<String, String> {
        let mut followees = vec![Vec::new(); USERS];
        for (author, followers) in self.graph.followers.iter().enumerate() {
            followees[author].push(self.graph.users[author]);
            for &follower in followers {
                followees[follower].push(self.graph.users[author]);
            }
        }
        let mut all = 0;
        for (user, mut visible) in followees.into_iter().enumerate() {
            visible.sort_unstable();
            let relations = Relations { visible: visible.into(), ..Relations::default() };
            let id = self.graph.users[user];
            let token = RelationCache::begin_fill(&*self.cache, id).await.certain().unwrap();
            let relations = Arc::new(relations);
            let filled = RelationCache::finish_fill(&*self.cache, id, token, relations).await;
            assert!(filled.certain().unwrap());
            let read = self.cache.page(id, Window::Latest, CAPACITY_MAX).await.unwrap();
            let HomeRead::Hit(hit) = read else { return Err(format!("user {user} is cold")) };
            let found = hit.slice.entries.iter().rev().map(|entry| entry.tweet);
            if !found.eq(self.expected[user].iter().copied()) {
                return Err(format!("the list of user {user} is not what it should be"));
            }
            all += self.expected[user].len();
        }
        let counted = self.metrics.render();
        let line = format!("chirp_deliveries_total {all}");
        if !counted.lines().any(|own| own == line) {
            return Err(format!("the metrics do not say {all} deliveries"));
        }
        Ok(format!("checked: {all} deliveries in all {USERS} lists, each once, in order"))
    }
}
