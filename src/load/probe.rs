//! Freshness: how long after its 201 a tweet is seen by a follower, by polling and over streams.
//!
//! Probes have connections of their own and are no part of the schedule. Some posts a second are followed
//! to one reader each, in turn from buckets of authors by how many followers they have, so that the few
//! big authors and the many small ones are both seen. Pollers and listeners are told the post by the
//! driver that wrote it; what a poller waits is known to within one read of it.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::{net::TcpStream, sync::mpsc};

use super::{
    connection::{Call, Connection, Target},
    ledger::{Deleted, Ledger, Sees},
    live,
    report::Freshness,
    seen::{List, Origin, Page, Read, Tweet},
    stats::{Times, latency, record, times},
    worker::Posted,
};
use crate::graph::Random;

/// Posts that are followed at once; more are let go.
const AT_ONCE: usize = 64;
/// The pause between two looks for a tweet, at first; it doubles up to [`LOOK_MAX`].
const LOOK_MIN: Duration = Duration::from_millis(1);
/// The longest pause between two looks.
const LOOK_MAX: Duration = Duration::from_millis(20);
/// A tweet that is not seen by then counts as unseen.
pub const SEEN_MAX: Duration = Duration::from_mins(1);
/// A stream that broke is opened again after this.
const STREAM_PAUSE: Duration = Duration::from_millis(500);
/// The longest event of a stream.
const EVENT_BYTES_MAX: usize = 64 * 1024;

/// What freshness was found, by way and by power of ten of the author's followers.
#[derive(Default)]
pub struct Found(Mutex<BTreeMap<(&'static str, u32), Bucket>>);

/// What was seen, and how many were not.
type Bucket = (Option<Times>, u64);

/// Polls.
pub const POLL: &str = "poll";
/// Streams.
pub const STREAM: &str = "stream";

fn bucket(followers: usize) -> u32 {
    followers.checked_ilog10().unwrap_or(0)
}

impl Found {
    fn seen(&self, way: &'static str, followers: usize, took: Duration) {
        let mut all = self.0.lock();
        let (kept, _) = all.entry((way, bucket(followers))).or_default();
        record(kept.get_or_insert_with(times), took);
    }

    fn unseen(&self, way: &'static str, followers: usize) {
        self.0.lock().entry((way, bucket(followers))).or_default().1 += 1;
    }

    /// All of one way.
    #[must_use]
    pub fn of(&self, way: &str) -> Times {
        let mut sum = times();
        for ((known, _), (kept, _)) in self.0.lock().iter() {
            if *known == way
                && let Some(kept) = kept
            {
                sum.add(kept).expect("equal bounds");
            }
        }
        sum
    }

    /// How many were not seen in time.
    #[must_use]
    pub fn unseen_of(&self, way: &str) -> u64 {
        self.0.lock().iter().filter(|((known, _), _)| *known == way).map(|(_, (_, n))| n).sum()
    }

    /// As it stands in the report.
    #[must_use]
    pub fn report(&self) -> Vec<Freshness> {
        let all = self.0.lock();
        let row =
            |(&(way, bucket), (kept, unseen)): (&(&'static str, u32), &(Option<Times>, u64))| {
                Freshness {
                    way: way.to_owned(),
                    followers_from: if bucket == 0 { 0 } else { 10_u64.pow(bucket) },
                    latency: kept.as_ref().map(latency).unwrap_or_default(),
                    unseen: *unseen,
                }
            };
        all.iter().map(row).collect()
    }
}

/// Takes every post that was acknowledged, and follows `per_s` of them a second, until the sender is gone
/// and the last one was seen.
pub async fn follow(
    ledger: Arc<Ledger>,
    target: Target,
    found: Arc<Found>,
    (per_s, judges): (f64, bool),
    mut posted: mpsc::UnboundedReceiver<Posted>,
) {
    let mut random = Random::new(ledger.first.0);
    let began = Instant::now();
    let mut taken: BTreeMap<u32, f64> = BTreeMap::new();
    let mut probes = tokio::task::JoinSet::new();
    while let Some(post) = posted.recv().await {
        while probes.try_join_next().is_some() {}
        let followers = ledger.population.followers(post.author);
        let audience = ledger.population.audience(post.author);
        if followers.is_empty() || probes.len() == AT_ONCE {
            continue;
        }
        // Every bucket has the same share of the rate.
        let buckets = f64::from(bucket(ledger.population.audience(0)) + 1);
        let due = began.elapsed().as_secs_f64() * per_s / buckets;
        let count = taken.entry(bucket(audience)).or_default();
        if *count > due {
            continue;
        }
        // What was not taken is not made up for in a burst.
        *count = (*count + 1.0).max(due);
        let reader = followers[random.below(followers.len() as u64) as usize];
        let (ledger, target, found) = (Arc::clone(&ledger), target.clone(), Arc::clone(&found));
        probes.spawn(async move {
            let mut connection = Connection::new(target);
            poll(&ledger, &mut connection, (&found, judges), post, reader).await;
        });
    }
    probes.join_all().await;
}

/// Reads as `reader` until the tweet shows.
async fn poll(
    ledger: &Ledger,
    connection: &mut Connection,
    (found, judges): (&Found, bool),
    post: Posted,
    reader: u32,
) {
    let path = format!("/timeline?limit=1&after={}", post.id.0 - 1);
    let bearer = &ledger.population.users[reader as usize].bearer;
    let audience = ledger.population.audience(post.author);
    let mut pause = LOOK_MIN;
    while post.at.elapsed() < SEEN_MAX {
        let call = Call { method: Method::GET, path: &path, bearer, body: None };
        let asked_us = ledger.us(Instant::now());
        if let Ok(answer) = connection.call(&call).await
            && answer.status == 200
            && let Ok(page) = Page::read(&answer.body)
        {
            let (took, came_us) = (post.at.elapsed(), ledger.us(Instant::now()));
            let shows = page.tweets.first().is_some_and(|tweet| tweet.id == post.id);
            if judges {
                let list = List::Home;
                let read = Read { reader, list, before: None, asked_us, came_us, page };
                live::judge_shown(ledger, &read);
            }
            if shows {
                return found.seen(POLL, audience, took);
            }
        }
        let gone = ledger.sees(reader, post.author).0 != Sees::Yes
            || ledger.post(post.post).is_none_or(|now| now.deleted != Deleted::No);
        if gone {
            return;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LOOK_MAX);
    }
    found.unseen(POLL, audience);
}

/// Listens to the stream of `reader` until it is dropped.
pub async fn listen(ledger: Arc<Ledger>, target: Target, found: Arc<Found>, reader: u32) {
    loop {
        // A stream that breaks shows in the errors of the schedule as well.
        let _broken = stream(&ledger, &target, &found, reader).await;
        tokio::time::sleep(STREAM_PAUSE).await;
    }
}

async fn stream(ledger: &Ledger, target: &Target, found: &Found, reader: u32) -> Option<()> {
    let socket = TcpStream::connect(target.address).await.ok()?;
    let (mut sender, connection) = handshake(TokioIo::new(socket)).await.ok()?;
    tokio::spawn(connection);
    let request = Request::builder()
        .uri(format!("{}/timeline/stream", target.base))
        .header(header::HOST, &target.host)
        .header(header::AUTHORIZATION, &ledger.population.users[reader as usize].bearer)
        .body(Empty::<Bytes>::new())
        .ok()?;
    let opened_us = ledger.us(Instant::now());
    let answer = sender.send_request(request).await.ok()?;
    let (open, mut body) = (answer.status() == 200, answer.into_body());
    let mut text = Vec::new();
    while open && let Some(Ok(frame)) = body.frame().await {
        text.extend_from_slice(frame.data_ref()?);
        let now = Instant::now();
        while let Some(end) = text.windows(2).position(|two| two == b"\n\n") {
            heard(ledger, found, &text[..end], (opened_us, ledger.us(now)));
            text.drain(..end + 2);
        }
        if text.len() > EVENT_BYTES_MAX {
            return None;
        }
    }
    None
}

/// An event of a stream: the tweets of this run count that were written while it was open, as one begins
/// with what was there before.
fn heard(ledger: &Ledger, found: &Found, event: &[u8], (opened_us, now_us): (u64, u64)) {
    let Ok(event) = std::str::from_utf8(event) else { return };
    let mut lines = event.lines();
    if !lines.any(|line| line == "event: tweet") {
        return;
    }
    let data = event.lines().find_map(|line| line.strip_prefix("data: "));
    let Some(tweet) = data.and_then(|data| serde_json::from_str::<Tweet<'_>>(data).ok()) else {
        return;
    };
    if let Origin::Post(number) = ledger.tag.origin(&tweet.text)
        && let Some(post) = ledger.post(number)
    {
        // Heard before its author was answered: at once.
        let us = if post.id.is_some() { now_us.saturating_sub(post.at_us) } else { 0 };
        let old = post.id.is_some() && post.at_us < opened_us;
        if !old && post.deleted == Deleted::No {
            let audience = ledger.population.audience(post.author);
            found.seen(STREAM, audience, Duration::from_micros(us));
        }
    }
}
