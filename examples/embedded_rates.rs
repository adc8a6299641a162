//! Rates of the embedded stores on this machine: posts per second at several concurrencies,
//! followers read per second, edges seeded per second.
//!
//! `cargo run --example embedded_rates [FOLDER]`; the folder decides which disk is measured.
#![allow(clippy::print_stdout, clippy::cast_precision_loss, clippy::unwrap_used)]

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use chirp::{
    adapters::embedded::{Stores, sqlite::Options},
    domain::{Body, DisplayName, Handle, TweetId, TweetText, UserId, fanout::BUCKETS},
    ports::{Account, NewTweet, PasswordHash},
    rt::tokio_rt::TokioRuntime,
};

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let dir = tempfile::TempDir::new_in(
        std::env::args().nth(1).map_or_else(std::env::temp_dir, PathBuf::from),
    )
    .unwrap();
    let stores =
        Stores::open(&dir.path().join("data"), &TokioRuntime::handle(), Options::default())
            .unwrap();
    for writers in [1, 8, 50, 200] {
        posts(&stores, writers).await;
    }
    seed(&stores).await;
    for page in [1_000, 4_096] {
        followers(&stores, page).await;
    }
    tokio::task::spawn_blocking(move || stores.close()).await.unwrap();
}

async fn posts(stores: &Stores, writers: u64) {
    let before = stores.tweet.db.stats();
    let next = Arc::new(AtomicU64::new(1 << 40));
    let (begin, end) = (Instant::now(), Instant::now() + Duration::from_secs(3));
    let tasks: Vec<_> = (0..writers)
        .map(|author| {
            let (tweets, next) = (stores.tweet.tweets.clone(), next.clone());
            tokio::spawn(async move {
                let mut times = Vec::new();
                while Instant::now() < end {
                    let body = Body {
                        id: TweetId(next.fetch_add(1, Ordering::Relaxed) + (author << 45)),
                        author: UserId(author + 1),
                        handle: Handle::parse("somebody").unwrap(),
                        name: DisplayName::parse("Somebody").unwrap(),
                        text: TweetText::parse(&"a text of usual length ".repeat(4)).unwrap(),
                        created_at_ms: 1_800_000_000_000,
                    };
                    let start = Instant::now();
                    let tweet = NewTweet { body, key: None, trace: None };
                    assert!(tweets.create(&tweet).await.is_done());
                    times.push(start.elapsed());
                }
                times
            })
        })
        .collect();
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await.unwrap());
    }
    let took = begin.elapsed().as_secs_f64();
    times.sort_unstable();
    let after = stores.tweet.db.stats();
    let (jobs, commits) = (after.jobs - before.jobs, after.commits - before.commits);
    println!(
        "posts, {writers} writers: {:.0}/s, {:.1} a commit, p50 {:?}, p99 {:?}",
        times.len() as f64 / took,
        jobs as f64 / commits as f64,
        times[times.len() / 2],
        times[times.len() * 99 / 100],
    );
}

const USERS: u64 = 100_000;
const EDGES: u64 = 1_000_000;

async fn seed(stores: &Stores) {
    let id = |n: u64| UserId((n + 1) << 30);
    let accounts: Vec<_> = (0..USERS)
        .map(|n| Account {
            id: id(n),
            handle: Handle::parse(&format!("user_{n}")).unwrap(),
            name: DisplayName::parse("Somebody").unwrap(),
            created_at_ms: 1,
        })
        .collect();
    let start = Instant::now();
    let password = PasswordHash("phc".into());
    assert!(stores.seeder().users(&accounts, &password).await.is_done());
    println!("seeding users: {:.0}/s", USERS as f64 / start.elapsed().as_secs_f64());
    // Everybody follows the first, and a pseudo-random rest.
    let mut state = 1_u64;
    let mut edges: Vec<_> = (1..USERS).map(|n| (id(n), id(0))).collect();
    while edges.len() < EDGES as usize {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (a, b) = ((state >> 33) % USERS, (state >> 11) % USERS);
        if a != b {
            edges.push((id(a), id(b)));
        }
    }
    let start = Instant::now();
    let fresh = stores.seeder().follows(&edges).await.done().unwrap();
    println!("seeding edges: {:.0}/s", fresh as f64 / start.elapsed().as_secs_f64());
}

async fn followers(stores: &Stores, page: usize) {
    let start = Instant::now();
    let mut read = 0;
    for _ in 0..20 {
        let mut after = None;
        loop {
            let author = UserId(1 << 30);
            let found =
                stores.timeline.store.followers(author, (0, BUCKETS), after, page).await.unwrap();
            read += found.followers.len();
            after = found.next;
            if after.is_none() {
                break;
            }
        }
    }
    let rate = read as f64 / start.elapsed().as_secs_f64();
    println!("followers, pages of {page}: {rate:.0} rows/s");
}
