//! The three fan-out strategies on the same graph and history, each on a data set of its own.
//!
//! `chirp seed` fills it. Readers who have come once are warm: their first page is what a miss
//! costs. Then for some seconds authors post at a fixed rate, by their share of the seeded tweets, while
//! warm readers read one page after another on a few connections, and some posts are followed to one of
//! their readers.

use std::{
    collections::VecDeque,
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use chirp::{
    domain::fanout::Strategy,
    stack::seed::{Order, Plan},
};
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use rand::{RngExt, seq::IndexedRandom};
use serde::Deserialize;

use crate::{
    containers::Servers,
    driver::Connection,
    follow::{Posted, SEEN_MAX, post, seen},
    report::{Part, Series},
    server::Server,
    stack::Backends,
    world::{random, read},
};

/// Readers who come: one of twenty, spread over all ranks.
const READERS_EVERY: usize = 20;
/// Connections that read one page after another.
const CONNECTIONS: usize = 8;
/// Posts per second: of the embedded backends a small part, so that waits show what a strategy costs.
const POSTS_PER_S: f64 = 40.0;
/// The same over servers.
const POSTS_PER_S_SERVERS: f64 = 10.0;

/// What runs share.
struct Run {
    plan: Plan,
    tokens: Vec<String>,
    /// Users who read.
    readers: Vec<usize>,
    server: Server,
    reads: Mutex<Histogram<u64>>,
    seen: Mutex<Histogram<u64>>,
    lost: AtomicU64,
    /// Pages that were answered with something else than a page.
    refused: AtomicU64,
}

#[derive(Deserialize)]
struct Credential {
    token: String,
}

/// Measures each, for `length`.
pub(crate) async fn run(backends: Backends, profile: &str, length: Duration) -> Vec<Part> {
    let mut parts = Vec::new();
    for strategy in Strategy::ALL {
        parts.push(measure(backends, strategy, profile, length).await);
    }
    parts
}

async fn measure(backends: Backends, strategy: Strategy, profile: &str, length: Duration) -> Part {
    let mut part = Part::new(name(strategy));
    let folder = tempfile::tempdir().unwrap();
    let filled = Instant::now();
    let run = Arc::new(filled_and_up(folder.path(), backends, strategy, profile).await);
    part.note(format!("filled and ready after {:.0} s", filled.elapsed().as_secs_f64()));
    let memory = |run: &Run| match backends {
        Backends::Embedded => run.server.resident_bytes(),
        Backends::Containers => Servers::of(folder.path()).redis_bytes(),
    };

    let before = memory(&run);
    let cold = first_reads(&run).await;
    let cached = memory(&run) - before;
    run.reads.lock().reset();
    let counted = ["chirp_deliveries_total", "chirp_writes_saved_total", "chirp_home_rows_total"];
    let counts = run.server.metrics(&counted).await;
    let cpu = run.server.cpu_s();
    let rate = match backends {
        Backends::Embedded => POSTS_PER_S,
        Backends::Containers => POSTS_PER_S_SERVERS,
    };
    let posts = live(&run, rate, length).await;
    let drained = run.server.drained().await;
    let after = run.server.metrics(&counted).await;
    let by = |at: usize| (after[at] - counts[at]) / posts;
    let quantile = |all: &Histogram<u64>, q: f64| all.value_at_quantile(q) as f64 / 1e3;
    let reads = run.reads.lock().clone();
    let seen = run.seen.lock().clone();
    for (name, unit, value) in [
        ("posts", "1/s", posts / length.as_secs_f64()),
        ("reads", "1/s", reads.len() as f64 / length.as_secs_f64()),
        ("deliveries into lists per post", "", by(0)),
        ("deliveries that were spared per post", "", by(1)),
        // The tweet, its place in the author's list and the author's latest.
        ("rows of the store per post", "", 3.0 + by(2)),
        ("first page of a reader, p50", "ms", quantile(&cold, 0.5)),
        ("first page of a reader, p99", "ms", quantile(&cold, 0.99)),
        ("memory per reader that came", "B", cached / run.readers.len() as f64),
        ("page, p50", "ms", quantile(&reads, 0.5)),
        ("page, p99", "ms", quantile(&reads, 0.99)),
        ("201 to seen, p50", "ms", quantile(&seen, 0.5)),
        ("201 to seen, p99", "ms", quantile(&seen, 0.99)),
        ("until nothing waited", "s", drained),
        ("pages that were not answered", "", run.refused.load(Ordering::Relaxed) as f64),
    ] {
        part.chirp.push(Series::new(name, unit, vec![value]));
    }
    for ((name, before), (_, after)) in cpu.iter().zip(run.server.cpu_s()) {
        let share = (after - before) * 1e3 / posts;
        part.chirp.push(Series::new(
            &format!("CPU of {name} per post, reads and all"),
            "ms",
            vec![share],
        ));
    }
    part.note(format!("{} posts followed to a reader; {posts} posts in all", seen.len()));
    let lost = run.lost.load(Ordering::Relaxed);
    if lost > 0 {
        part.broken = Some(format!("{lost} tweets were not seen within {SEEN_MAX:?}"));
    }
    part
}

const fn name(strategy: Strategy) -> &'static str {
    match strategy {
        Strategy::Hybrid => "strategy hybrid",
        Strategy::Push => "strategy push",
        Strategy::Pull => "strategy pull",
    }
}

async fn filled_and_up(dir: &Path, backends: Backends, strategy: Strategy, profile: &str) -> Run {
    if backends == Backends::Embedded {
        seed(dir, profile);
    }
    let first = (backends == Backends::Containers).then_some(profile);
    let chosen = [("CHIRP_FANOUT_STRATEGY", strategy.as_str())];
    let server = Server::with(dir, backends, &chosen, first).await;
    let plan = Plan::new(&Order::of(profile)).unwrap();
    let lines = std::fs::read_to_string(dir.join("credentials.jsonl")).unwrap();
    let token = |line: &str| serde_json::from_str::<Credential>(line).unwrap().token;
    let tokens: Vec<String> = lines.lines().skip(1).map(token).collect();
    let readers = (0..plan.users() as usize).step_by(READERS_EVERY).collect();
    let (reads, seen) = (histogram(), histogram());
    Run {
        plan,
        tokens,
        readers,
        server,
        reads,
        seen,
        lost: AtomicU64::new(0),
        refused: AtomicU64::new(0),
    }
}

fn histogram() -> Mutex<Histogram<u64>> {
    Mutex::new(Histogram::new(3).unwrap())
}

/// Fills a folder, as anybody would.
fn seed(dir: &Path, profile: &str) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chirp"));
    command.args(["seed", profile, "--data-dir"]).arg(dir);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    assert!(command.status().unwrap().success());
}

/// Every reader reads once; how long each took, in microseconds.
async fn first_reads(run: &Arc<Run>) -> Histogram<u64> {
    let waiting: VecDeque<usize> = run.readers.iter().copied().collect();
    let waiting = Arc::new(Mutex::new(waiting));
    let readers = (0..CONNECTIONS).map(|_| {
        let (run, waiting) = (Arc::clone(run), Arc::clone(&waiting));
        tokio::spawn(async move {
            let mut connection = Connection::open(run.server.address).await;
            loop {
                let Some(reader) = waiting.lock().pop_front() else { return };
                page(&run, &mut connection, reader).await;
            }
        })
    });
    for reader in readers.collect::<Vec<_>>() {
        reader.await.unwrap();
    }
    run.reads.lock().clone()
}

async fn page(run: &Run, connection: &mut Connection, reader: usize) {
    let began = Instant::now();
    let answer = connection.call(&read(&run.tokens[reader], "")).await;
    if answer.status != 200 {
        // Time is up when servers that were just filled are still busy with it; it says what it cost.
        run.refused.fetch_add(1, Ordering::Relaxed);
        return;
    }
    run.reads.lock().record(began.elapsed().as_micros() as u64).unwrap();
}

/// Posts at a rate beside readers who read; gives how many posts.
async fn live(run: &Arc<Run>, rate: f64, length: Duration) -> f64 {
    let end = Instant::now() + length;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..CONNECTIONS {
        let run = Arc::clone(run);
        tasks.spawn(async move {
            let (mut random, mut connection) =
                (random(number as u64), Connection::open(run.server.address).await);
            while Instant::now() < end {
                let reader = *run.readers.choose(&mut random).unwrap();
                page(&run, &mut connection, reader).await;
            }
        });
    }
    let mut probes = tokio::task::JoinSet::new();
    let (mut random, mut connection) = (random(99), Connection::open(run.server.address).await);
    let (began, mut posts) = (Instant::now(), 0_u32);
    loop {
        let due = began + Duration::from_secs_f64(f64::from(posts) / rate);
        if due >= end {
            break;
        }
        tokio::time::sleep_until(due.into()).await;
        let author = run.plan.author(random.random_range(0..run.plan.tweets()));
        let posted = post(&mut connection, &run.tokens[author as usize], posts).await;
        posts += 1;
        let followers = run.plan.graph().followers.of(author);
        let warm = followers.iter().filter(|&&f| (f as usize).is_multiple_of(READERS_EVERY));
        let warm: Vec<u32> = warm.copied().collect();
        if let Some(&reader) = warm.choose(&mut random) {
            probes.spawn(probe(Arc::clone(run), reader as usize, posted));
        }
    }
    tasks.join_all().await;
    probes.join_all().await;
    f64::from(posts)
}

/// Reads as `reader` until the tweet shows.
async fn probe(run: Arc<Run>, reader: usize, posted: Posted) {
    match seen(run.server.address, &read(&run.tokens[reader], "?limit=100"), &posted).await {
        Some(took) => run.seen.lock().record(took.as_micros() as u64).unwrap(),
        None => drop(run.lost.fetch_add(1, Ordering::Relaxed)),
    }
}
