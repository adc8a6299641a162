//! Part "celebrity": one tweet to a million followers, and what tweets of small authors wait meanwhile.
//!
//! [`crowd`] fills a data set with a celebrity, followers of whom some are warm, and small authors whom
//! a few of the warm follow too. Small authors post at a fixed rate, first alone and then while the
//! celebrity posts one tweet after the other; each of their tweets is followed to a reader. Every way to
//! deliver has a data set of its own.

mod crowd;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use chirp::domain::fanout::{Class, Strategy};
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use rand::{RngExt, seq::IndexedRandom};
use tokio::task::JoinSet;

use self::crowd::{Crowd, SMALL_FOLLOWERS};
use crate::{
    containers::Servers,
    driver::Connection,
    follow::{Posted, SEEN_MAX, post, seen, shows},
    report::{Part, Ratio, Series},
    server::Server,
    stack::Backends,
    world::{random, read},
};

/// Connections that make readers warm.
const CONNECTIONS: usize = 16;
/// Posts of small authors per second.
const POSTS_PER_S: f64 = 40.0;
/// The same over servers.
const POSTS_PER_S_SERVERS: f64 = 10.0;
/// Small authors post so long before anything counts: what was filled in and warmed is still at work.
const SETTLE: Duration = Duration::from_secs(5);
/// Between the end of a celebrity's tweet and the next.
const PAUSE: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// A tweet that is not everywhere by then never will be.
const FAN_OUT_MAX: Duration = Duration::from_mins(10);
/// Warm readers who are asked at the end for all tweets of the celebrity.
const CHECKED: usize = 200;
/// What a small author's tweet may take of what it takes alone.
const GOAL: f64 = 2.0;
const COUNTED: [&str; 3] =
    ["chirp_deliveries_total", "chirp_writes_saved_total", "chirp_home_rows_total"];

/// A way to deliver.
pub(crate) struct Way {
    name: &'static str,
    strategy: Strategy,
    /// Of the celebrity.
    class: Class,
    /// What `fanout.celebrity_followers` is.
    limit: &'static str,
}

/// As configured a celebrity is pulled; with a limit that nobody reaches she is pushed.
pub(crate) const WAYS: [Way; 4] = [
    Way::new("celebrity: hybrid", Strategy::Hybrid, Class::Pull, "100000"),
    Way::new("celebrity: hybrid, pushed", Strategy::Hybrid, Class::Push, "1000000000"),
    Way::new("celebrity: push", Strategy::Push, Class::Push, "100000"),
    Way::new("celebrity: pull", Strategy::Pull, Class::Push, "100000"),
];

impl Way {
    const fn new(
        name: &'static str,
        strategy: Strategy,
        class: Class,
        limit: &'static str,
    ) -> Self {
        Self { name, strategy, class, limit }
    }

    /// Whether a tweet is written to every follower.
    fn delivers(&self) -> bool {
        self.strategy.class(self.class).is_pushed()
    }
}

/// What tasks share.
struct Run {
    crowd: Crowd,
    server: Server,
    /// Microseconds from 201 to seen, of small authors' tweets.
    seen: Mutex<Histogram<u64>>,
    lost: AtomicU64,
}

/// Measures a way for `length`, or as long as one tweet of the celebrity takes.
pub(crate) async fn run(backends: Backends, way: &Way, followers: usize, length: Duration) -> Part {
    let mut part = Part::new(way.name);
    let (folder, began) = (tempfile::tempdir().unwrap(), Instant::now());
    let run = Arc::new(filled_and_up(folder.path(), backends, way, followers).await);
    let filled = began.elapsed().as_secs_f64();
    let memory = || match backends {
        Backends::Embedded => run.server.resident_bytes(),
        Backends::Containers => Servers::of(folder.path()).redis_bytes(),
    };
    let cold = memory();
    warm(&run).await;
    let warmed = memory();
    let rate = match backends {
        Backends::Embedded => POSTS_PER_S,
        Backends::Containers => POSTS_PER_S_SERVERS,
    };
    small(&run, rate, SETTLE, &AtomicBool::new(false)).await;
    run.take_seen();
    small(&run, rate, length, &AtomicBool::new(false)).await;
    let idle = run.take_seen();
    run.server.drained().await;

    let (before, counts) = (memory(), run.server.metrics(&COUNTED).await);
    let over = Arc::new(AtomicBool::new(false));
    let beside = tokio::spawn({
        let (run, over) = (Arc::clone(&run), Arc::clone(&over));
        async move { small(&run, rate, FAN_OUT_MAX * 2, &over).await }
    });
    let (tweets, took) = celebrity(&run, way, length).await;
    over.store(true, Ordering::Relaxed);
    let posts = beside.await.unwrap();
    let busy = run.take_seen();
    run.server.drained().await;
    let (after, counted) = (memory(), run.server.metrics(&COUNTED).await);
    let count = tweets.len() as f64;
    let by = |at: usize| counted[at] - counts[at];
    // Tweets of small authors go to their readers' lists and rows, and to the authors' own rows.
    let readers = posts * SMALL_FOLLOWERS as f64;
    let rows = if way.strategy == Strategy::Push { by(2) - readers - posts } else { 0.0 };
    let lists = if way.strategy == Strategy::Pull { 0.0 } else { by(0) - readers };
    part.chirp = vec![
        Series::new("201 to the last delivery", "ms", took),
        Series::new("lists that a tweet is written to", "", vec![(lists / count).round()]),
        Series::new("rows of the store per tweet", "", vec![3.0 + (rows / count).round()]),
        Series::new("cache bytes per warm reader", "B", vec![(warmed - cold) / run.warm()]),
        Series::new("cache bytes per tweet, all posts' in it", "B", vec![(after - before) / count]),
    ];
    for (name, all) in [("idle", &idle), ("meanwhile", &busy)] {
        for (word, q) in [("p50", 0.5), ("p99", 0.99)] {
            let name = format!("small author {name}, 201 to seen, {word}");
            let ms = all.value_at_quantile(q) as f64 / 1e3;
            part.chirp.push(Series::new(&name, "ms", vec![ms]));
        }
    }
    let p99 = |all: &Histogram<u64>| all.value_at_quantile(0.99) as f64;
    let value = p99(&busy) / p99(&idle);
    let name = "p99 meanwhile, of the idle one";
    part.ratios = vec![Ratio { name, value, goal: Some(GOAL), at_most: true }];
    part.note(format!(
        "{followers} followers, of whom {} are warm; filled and ready after {filled:.0} s; {} tweets of \
         the celebrity; small authors post {rate}/s, {} posts of theirs followed idle and {} meanwhile",
        run.warm(),
        tweets.len(),
        idle.len(),
        busy.len(),
    ));
    part.broken = run.check(&tweets).await;
    part
}

async fn filled_and_up(dir: &Path, backends: Backends, way: &Way, followers: usize) -> Run {
    let changed = [
        ("CHIRP_FANOUT_STRATEGY", way.strategy.as_str()),
        ("CHIRP_FANOUT_CELEBRITY_FOLLOWERS", way.limit),
    ];
    let plan = crowd::Plan::new(followers, backends);
    let (server, crowd) = match backends {
        Backends::Embedded => {
            let crowd = plan.into_folder(dir, way.class).await;
            (Server::with(dir, backends, &changed, None).await, crowd)
        }
        Backends::Containers => {
            let server = Server::with(dir, backends, &changed, None).await;
            (server, plan.into_servers(&Servers::of(dir), way.class).await)
        }
    };
    let seen = Mutex::new(Histogram::new(3).unwrap());
    Run { crowd, server, seen, lost: AtomicU64::new(0) }
}

impl Run {
    fn take_seen(&self) -> Histogram<u64> {
        std::mem::replace(&mut *self.seen.lock(), Histogram::new(3).unwrap())
    }

    /// How many readers are warm.
    fn warm(&self) -> f64 {
        self.crowd.readers.len() as f64
    }

    /// Whether some warm readers see all tweets of the celebrity: what is wrong, if anything.
    async fn check(&self, tweets: &[Posted]) -> Option<String> {
        let lost = self.lost.load(Ordering::Relaxed);
        if lost > 0 {
            return Some(format!("{lost} tweets were not seen within {SEEN_MAX:?}"));
        }
        let mut connection = Connection::open(self.server.address).await;
        let every = (self.crowd.readers.len() / CHECKED).max(1);
        for token in self.crowd.readers.iter().step_by(every) {
            let request = read(token, "?limit=100");
            for posted in tweets {
                if !shows(&mut connection, &request, posted).await {
                    return Some("a warm reader does not see a tweet of the celebrity".to_owned());
                }
            }
        }
        None
    }
}

/// Small authors write something, and then every reader who shall be warm reads.
async fn warm(run: &Arc<Run>) {
    let mut connection = Connection::open(run.server.address).await;
    for (number, token) in (0..).zip(&run.crowd.small) {
        post(&mut connection, token, number).await;
    }
    run.server.drained().await;
    let mut readers = JoinSet::new();
    for first in 0..CONNECTIONS {
        let run = Arc::clone(run);
        readers.spawn(async move {
            let mut connection = Connection::open(run.server.address).await;
            for token in run.crowd.readers.iter().skip(first).step_by(CONNECTIONS) {
                assert_eq!(connection.call(&read(token, "")).await.status, 200);
            }
        });
    }
    readers.join_all().await;
}

/// Small authors post at `rate` for `length`, or until it is over; every tweet is followed to a reader.
/// Gives how many posts.
async fn small(run: &Arc<Run>, rate: f64, length: Duration, over: &AtomicBool) -> f64 {
    let mut probes = JoinSet::new();
    let (mut random, mut connection) = (random(7), Connection::open(run.server.address).await);
    let (began, mut posts) = (Instant::now(), 0_u32);
    loop {
        let due = Duration::from_secs_f64(f64::from(posts) / rate);
        if due >= length || over.load(Ordering::Relaxed) {
            break;
        }
        tokio::time::sleep_until((began + due).into()).await;
        let author = random.random_range(0..run.crowd.small.len());
        let posted = post(&mut connection, &run.crowd.small[author], posts).await;
        posts += 1;
        let reader = *run.crowd.followers_of(author).choose(&mut random).unwrap();
        let run = Arc::clone(run);
        probes.spawn(async move {
            let request = read(&run.crowd.readers[reader], "?limit=100");
            match seen(run.server.address, &request, &posted).await {
                Some(took) => run.seen.lock().record(took.as_micros() as u64).unwrap(),
                None => drop(run.lost.fetch_add(1, Ordering::Relaxed)),
            }
        });
    }
    probes.join_all().await;
    f64::from(posts)
}

/// The celebrity posts one tweet after the other for `length`. Gives them, and how long each
/// took until it was everywhere, in milliseconds.
async fn celebrity(run: &Run, way: &Way, length: Duration) -> (Vec<Posted>, Vec<f64>) {
    let mut connection = Connection::open(run.server.address).await;
    let (mut tweets, mut took) = (Vec::new(), Vec::new());
    let began = Instant::now();
    while took.is_empty() || began.elapsed() < length {
        let counts = run.server.metrics(&COUNTED).await;
        let posted = post(&mut connection, &run.crowd.celebrity, took.len() as u32).await;
        took.push(if way.delivers() {
            delivered(run, counts[0] + counts[1], &posted).await
        } else {
            let request = read(&run.crowd.readers[0], "?limit=100");
            let seen = seen(run.server.address, &request, &posted).await;
            seen.expect("who reads sees it").as_secs_f64() * 1e3
        });
        tweets.push(posted);
        tokio::time::sleep(PAUSE).await;
    }
    (tweets, took)
}

/// Waits until so many pushes were done as there are followers, and no chunk job is left.
async fn delivered(run: &Run, before: f64, posted: &Posted) -> f64 {
    let followers = run.crowd.followers as f64;
    loop {
        let counts = run.server.metrics(&COUNTED).await;
        let pushed = counts[0] + counts[1] - before;
        // Some pushes are of small authors, so the jobs are looked for too.
        if pushed >= followers && run.server.in_lane("bulk").await == 0 {
            return posted.accepted.elapsed().as_secs_f64() * 1e3;
        }
        assert!(posted.accepted.elapsed() < FAN_OUT_MAX, "a tweet is not everywhere");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
