//! Part 4: from a post's 201 to the first read of a follower that shows it, at half the rate of posts
//! that part 2 reached. Over servers a bare message over the same emulator stands beside it.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use chirp::wire::api::Tweet;
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use rand::{RngExt, seq::IndexedRandom};
use tokio::task::JoinSet;

use crate::{
    driver::{Connection, SLICE, slice, slices},
    ping::Ping,
    post::Writers,
    report::{Part, Ratio, Series},
    stack::{Side, Stack},
    world::{self, World},
};

/// Connections that post, as in part 2.
const CONNECTIONS: u64 = 64;
/// Posts per second that are followed to a reader.
const PROBES_PER_S: f64 = 100.0;
/// A follower looks this often.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// A tweet that is not seen by then is lost.
const SEEN_MAX: Duration = Duration::from_secs(20);
/// A post that begins this much after its time is late; more than one in a hundred of them means
/// that the load was not what it should be.
const LATE: Duration = Duration::from_millis(100);
const GOAL_MS: f64 = 100.0;

/// What all tasks of the part share.
struct Run {
    world: Arc<World>,
    address: SocketAddr,
    /// Idle connections of readers.
    idle: Mutex<Vec<Connection>>,
    /// Microseconds from 201 to seen, in this slice.
    seen: Mutex<Histogram<u64>>,
    lost: AtomicU64,
    late: AtomicU64,
}

pub(crate) async fn run(stack: &Stack, length: Duration, posts_per_s: Option<f64>) -> Part {
    let Stack { chirp, world, side, .. } = stack;
    let full = if let Some(rate) = posts_per_s {
        rate
    } else {
        let mut writers = (0..CONNECTIONS).map(|n| Writers::new(world, 600 + n)).collect();
        slice(chirp, &mut writers, SLICE).await.requests_per_s
    };
    let rate = full / 2.0;
    let (seen, idle) = (Mutex::new(Histogram::new(3).unwrap()), Mutex::default());
    let (lost, late) = Default::default();
    let (world, address) = (Arc::clone(world), chirp.address);
    let run = Arc::new(Run { world, address, idle, seen, lost, late });
    let (goal, ping) = match side {
        Side::Twin(_) => (Some(GOAL_MS), None),
        Side::Servers(servers) => {
            let workers = servers.config.services.fanout.ingest_workers;
            let consumers = workers * servers.config.up.timeline_replicas;
            (None, Some(Arc::new(Ping::new(&servers.config.aws, consumers).await)))
        }
    };
    let (mut all, mut ours, mut bare) = (Histogram::<u64>::new(3).unwrap(), Vec::new(), Vec::new());
    let (mut rates, mut posts) = (Vec::new(), 0);
    for number in 0..slices(length) {
        if let Some(ping) = &ping {
            bare.push(ping.slice(rate.min(PROBES_PER_S), SLICE).await);
        }
        let sent = open_loop(&run, rate, number).await;
        posts += sent;
        rates.push(sent as f64 / SLICE.as_secs_f64());
        let found = std::mem::replace(&mut *run.seen.lock(), Histogram::new(3).unwrap());
        all.add(&found).unwrap();
        ours.push(found);
        chirp.drained().await;
    }
    let mut part = Part::new("freshness");
    part.chirp.push(Series::new("posts", "1/s", rates));
    part.chirp.extend(quantiles("201 to seen", &ours));
    if ping.is_some() {
        part.reference.extend(quantiles("SNS to SQS", &bare));
        part.note(format!(
            "beside it {:.0} messages/s over SNS and SQS of the same emulator, to as many consumers \
             with long polls; it looks for messages every 100 ms",
            rate.min(PROBES_PER_S),
        ));
    }
    part.ratios = vec![
        in_all("p50 of all (ms)", all.value_at_quantile(0.5), None),
        in_all("p99 of all (ms)", all.value_at_quantile(0.99), goal),
        in_all("longest (ms)", all.max(), None),
    ];
    let late = run.late.load(Ordering::Relaxed);
    part.note(format!(
        "open loop at {rate:.0} posts/s, half of {full:.0}; {} of {posts} posts followed to a reader \
         who looks every {LOOK_EVERY:?}; {late} posts began more than {LATE:?} late",
        all.len(),
    ));
    let lost = run.lost.load(Ordering::Relaxed);
    if lost > 0 {
        part.broken = Some(format!("{lost} tweets were not seen within {SEEN_MAX:?}"));
    } else if late * 100 > posts {
        part.broken = Some(format!("{late} of {posts} posts were late: the driver fell behind"));
    }
    part
}

/// Two quantiles of each slice, in milliseconds.
fn quantiles(name: &str, slices: &[Histogram<u64>]) -> [Series; 2] {
    [("p50", 0.5), ("p99", 0.99)].map(|(word, quantile)| {
        let ms = slices.iter().map(|slice| slice.value_at_quantile(quantile) as f64 / 1_000.0);
        Series::new(&format!("{name} {word}"), "ms", ms.collect())
    })
}

fn in_all(name: &'static str, us: u64, goal: Option<f64>) -> Ratio {
    Ratio { name, value: us as f64 / 1_000.0, goal, at_most: true }
}

/// Posts at `rate` for a slice, whatever the answers take. Gives the number of posts.
async fn open_loop(run: &Arc<Run>, rate: f64, number: u64) -> u64 {
    let began = Instant::now();
    let next = Arc::new(AtomicU64::new(0));
    let mut writers = JoinSet::new();
    for writer in 0..CONNECTIONS {
        let (run, next) = (Arc::clone(run), Arc::clone(&next));
        writers.spawn(async move {
            let mut random = world::random(1_000 * number + writer);
            let mut connection = Connection::open(run.address).await;
            let mut probes = JoinSet::new();
            let (mut sent, mut request) = (0, Vec::new());
            loop {
                let turn = next.fetch_add(1, Ordering::Relaxed);
                let due = Duration::from_secs_f64(turn as f64 / rate);
                if due >= SLICE {
                    break;
                }
                tokio::time::sleep_until((began + due).into()).await;
                if began.elapsed() > due + LATE {
                    run.late.fetch_add(1, Ordering::Relaxed);
                }
                let author = random.random_range(0..run.world.len());
                request.clear();
                run.world.post(author, &mut random, &mut request);
                let answer = connection.call(&request).await;
                assert_eq!(answer.status, 201);
                let accepted = Instant::now();
                sent += 1;
                if random.random_bool((PROBES_PER_S / rate).min(1.0))
                    && let Some(&reader) = run.world.followers[author].choose(&mut random)
                {
                    let tweet: Tweet = serde_json::from_slice(answer.body).unwrap();
                    let name = format!("{{\"id\":\"{}\"", tweet.id);
                    probes.spawn(probe(Arc::clone(&run), reader, name, accepted));
                }
            }
            probes.join_all().await;
            sent
        });
    }
    writers.join_all().await.into_iter().sum()
}

/// Reads as `reader` until the tweet shows.
async fn probe(run: Arc<Run>, reader: usize, name: String, accepted: Instant) {
    let idle = run.idle.lock().pop();
    let mut connection = match idle {
        Some(connection) => connection,
        None => Connection::open(run.address).await,
    };
    loop {
        let answer = connection.call(&run.world.reads[reader]).await;
        assert_eq!(answer.status, 200);
        let shown = answer.body.windows(name.len()).any(|part| part == name.as_bytes());
        let took = accepted.elapsed();
        if shown {
            run.seen.lock().record(took.as_micros() as u64).unwrap();
            break;
        }
        if took > SEEN_MAX {
            run.lost.fetch_add(1, Ordering::Relaxed);
            break;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    run.idle.lock().push(connection);
}
