//! Hints between processes, over publish and subscribe.
//!
//! Inside a process hints go as without Redis ([`EmbeddedHints`]); what other processes may wait for
//! is published besides, on one of [`SHARDS`] channels by user, or on the one for everybody. A process
//! listens to the channels of users who have streams here, on one connection.
//!
//! Lossy by design: hints are dropped while a server is away or the queue is full, and nobody waits
//! for them. A process whose streams are open says so once a second under one key, and others publish
//! only while somebody does; so the first second of a stream may pass without hints from elsewhere.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures_util::StreamExt as _;
use redis::{Msg, Value, aio::PubSubSink};
use tokio::sync::{mpsc, watch};

use super::{
    super::embedded::hints::EmbeddedHints,
    Redis, millis,
    node::{Call, PIPELINE_MAX, Purpose},
    only,
};
use crate::{
    domain::{TweetId, UserId},
    ports::{Hint, HintStream, Hints},
    rt::Shutdown,
};

/// Channels that users are spread over: enough that a process with few streams hears little of
/// others, few enough to subscribe to all of them.
const SHARDS: u64 = 256;
/// Hints that wait to be published; more are dropped. Far above the chunks of one post.
const QUEUE_MAX: usize = 4_096;
/// How often a process says that it has streams, and asks whether others have.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// What a process said of its streams holds so long: it may miss a few times.
const WANTED_FOR: Duration = Duration::from_secs(5);
/// The longest that opening a stream waits for its channel; it is opened all the same.
const SUBSCRIBE_MAX: Duration = Duration::from_millis(500);
/// A silent connection is asked whether it still is one after this long.
const SILENT_MAX: Duration = Duration::from_secs(5);
/// Pause between two attempts to connect.
const RETRY: Duration = Duration::from_millis(200);

/// The streams of this process.
#[derive(Default)]
struct Streams {
    by_shard: BTreeMap<u64, usize>,
    /// Counts the changes of the shards that have any.
    change: u64,
}

/// The channels that streams of this process need.
#[derive(Default)]
struct Wishes {
    /// Told when a shard gets its first stream or loses its last. The only lock here: what looks at
    /// it does so under it.
    wished: watch::Sender<Streams>,
    /// The last change that has been done.
    served: watch::Sender<u64>,
}

impl Wishes {
    /// Counts a stream; gives the change to wait for.
    fn add(&self, shard: u64) -> u64 {
        let mut last = 0;
        self.wished.send_if_modified(|streams| {
            let count = streams.by_shard.entry(shard).or_default();
            *count += 1;
            let first = *count == 1;
            streams.change += u64::from(first);
            last = streams.change;
            first
        });
        last
    }

    fn remove(&self, shard: u64) {
        self.wished.send_if_modified(|streams| {
            let left = streams.by_shard.get(&shard).map_or(0, |count| count - 1);
            if left > 0 {
                streams.by_shard.insert(shard, left);
                return false;
            }
            let last = streams.by_shard.remove(&shard).is_some();
            streams.change += u64::from(last);
            last
        });
    }
}

/// Waits until there is a stream; `None` if there will be none any more.
async fn any(wished: &mut watch::Receiver<Streams>) -> Option<()> {
    wished.wait_for(|streams| !streams.by_shard.is_empty()).await.ok().map(drop)
}

/// The shards that are needed, and the change they belong to.
fn needed(wished: &mut watch::Receiver<Streams>) -> (BTreeSet<u64>, u64) {
    let streams = wished.borrow_and_update();
    (streams.by_shard.keys().copied().collect(), streams.change)
}

/// Distributes hints to the streams of this process and of others.
pub struct RedisHints {
    redis: Arc<Redis>,
    local: Arc<EmbeddedHints>,
    wishes: Arc<Wishes>,
    elsewhere: Arc<AtomicBool>,
    queue: mpsc::Sender<Hint>,
    closed: Shutdown,
}

impl RedisHints {
    /// Hints nobody listens to yet. Its tasks end with it.
    #[must_use]
    pub fn new(redis: Arc<Redis>) -> Self {
        let (queue, queued) = mpsc::channel(QUEUE_MAX);
        let (local, wishes, elsewhere, closed) = Default::default();
        let hints = Self { redis, local, wishes, elsewhere, queue, closed };
        let rt = &hints.redis.rt;
        let origin = rt.random_u64();
        let listener = Listener {
            redis: Arc::clone(&hints.redis),
            local: Arc::clone(&hints.local),
            wishes: Arc::clone(&hints.wishes),
            origin,
            closed: hints.closed.clone(),
        };
        let publisher = Publisher {
            redis: Arc::clone(&hints.redis),
            local: Arc::clone(&hints.local),
            elsewhere: Arc::clone(&hints.elsewhere),
            origin,
            closed: hints.closed.clone(),
        };
        // Both end with `closed`, and nobody needs to wait for that.
        drop(rt.spawn("redis_hints_listen", listener.run()));
        drop(rt.spawn("redis_hints_publish", publisher.run(queued)));
        hints
    }
}

impl Drop for RedisHints {
    fn drop(&mut self) {
        self.closed.cancel();
    }
}

#[async_trait]
impl Hints for RedisHints {
    async fn notify(&self, hints: &[Hint]) {
        self.local.notify(hints).await;
        if self.elsewhere.load(Ordering::Relaxed) {
            for hint in hints {
                // A full queue drops the hint: a hint may be lost, and the caller must not wait.
                self.queue.try_send(*hint).ok();
            }
        }
    }

    async fn subscribe(&self, user: UserId) -> Box<dyn HintStream> {
        let hints = self.local.subscribe(user).await;
        let shard = user.0 % SHARDS;
        let wished = self.wishes.add(shard);
        let stream = Stream { hints, shard, wishes: Arc::clone(&self.wishes) };
        let mut served = self.wishes.served.subscribe();
        let wait = served.wait_for(|served| *served >= wished);
        // In vain while no server is there; the listener goes on trying.
        drop(self.redis.rt.timeout(SUBSCRIBE_MAX, wait).await);
        Box::new(stream)
    }

    fn wanted(&self) -> bool {
        self.local.wanted() || self.elsewhere.load(Ordering::Relaxed)
    }
}

struct Stream {
    hints: Box<dyn HintStream>,
    shard: u64,
    wishes: Arc<Wishes>,
}

#[async_trait]
impl HintStream for Stream {
    async fn next(&mut self) -> Option<Hint> {
        self.hints.next().await
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.wishes.remove(self.shard);
    }
}

/// Hears what other processes publish.
struct Listener {
    redis: Arc<Redis>,
    local: Arc<EmbeddedHints>,
    wishes: Arc<Wishes>,
    origin: u64,
    closed: Shutdown,
}

impl Listener {
    async fn run(self) {
        let closed = self.closed.clone();
        tokio::select! {
            biased;
            () = closed.cancelled() => {}
            () = self.sessions() => {}
        }
    }

    async fn sessions(&self) {
        let mut wished = self.wishes.wished.subscribe();
        for turn in 0_usize.. {
            if any(&mut wished).await.is_none() {
                return;
            }
            if self.session(turn, &mut wished).await.is_none() {
                self.redis.rt.sleep(RETRY).await;
            }
        }
    }

    /// Listens until nobody needs it; `None` if the connection failed.
    async fn session(&self, turn: usize, wished: &mut watch::Receiver<Streams>) -> Option<()> {
        let rt = &self.redis.rt;
        let addresses = self.redis.router.addresses();
        let address = addresses.get(turn % addresses.len().max(1))?;
        let connect = async {
            let client = self.redis.door.client(address).await.ok()?;
            client.get_async_pubsub().await.ok()
        };
        let pubsub = rt.timeout(self.redis.config.connect_timeout(), connect).await.ok()??;
        let (mut sink, mut messages) = pubsub.split();
        let mut have = BTreeSet::new();
        loop {
            let (need, change) = needed(wished);
            self.switch(&mut sink, &have, &need).await?;
            self.wishes.served.send_replace(change);
            if need.is_empty() {
                return Some(());
            }
            have = need;
            while !wished.has_changed().ok()? {
                tokio::select! {
                    biased;
                    changed = wished.changed() => { changed.ok()?; wished.mark_changed(); }
                    message = messages.next() => self.hear(&message?).await,
                    () = rt.sleep(SILENT_MAX) => self.ping(&mut sink).await?,
                }
            }
        }
    }

    /// Subscribes to what is needed now, and gives up what is not.
    async fn switch(
        &self,
        sink: &mut PubSubSink,
        have: &BTreeSet<u64>,
        need: &BTreeSet<u64>,
    ) -> Option<()> {
        let mut new: Vec<String> = need.difference(have).map(|&shard| self.shard(shard)).collect();
        if have.is_empty() && !need.is_empty() {
            new.push(everybody(&self.redis));
        }
        let old: Vec<String> = have.difference(need).map(|&shard| self.shard(shard)).collect();
        let limit = self.redis.config.read_timeout();
        if !new.is_empty() {
            self.redis.rt.timeout(limit, sink.subscribe(new)).await.ok()?.ok()?;
        }
        if !old.is_empty() {
            self.redis.rt.timeout(limit, sink.unsubscribe(old)).await.ok()?.ok()?;
        }
        Some(())
    }

    fn shard(&self, shard: u64) -> String {
        channel(&self.redis, shard)
    }

    async fn hear(&self, message: &Msg) {
        if let Some((origin, hint)) = decode(message.get_payload_bytes())
            && origin != self.origin
        {
            self.local.notify(&[hint]).await;
        }
    }

    async fn ping(&self, sink: &mut PubSubSink) -> Option<()> {
        let limit = self.redis.config.read_timeout();
        self.redis.rt.timeout(limit, sink.ping::<Value>()).await.ok()?.ok().map(drop)
    }
}

/// Tells other processes.
struct Publisher {
    redis: Arc<Redis>,
    local: Arc<EmbeddedHints>,
    elsewhere: Arc<AtomicBool>,
    origin: u64,
    closed: Shutdown,
}

impl Publisher {
    async fn run(self, mut queue: mpsc::Receiver<Hint>) {
        let mut asked = None;
        let mut hints = Vec::new();
        loop {
            let now = self.redis.rt.now();
            if asked.is_none_or(|at| now.since(at) >= ASK_EVERY) {
                asked = Some(now);
                self.ask().await;
            }
            hints.clear();
            tokio::select! {
                biased;
                () = self.closed.cancelled() => return,
                count = queue.recv_many(&mut hints, PIPELINE_MAX) => if count == 0 { return },
                () = self.redis.rt.sleep(ASK_EVERY) => continue,
            }
            let calls: Vec<Call> = hints.iter().map(|hint| self.call(hint)).collect();
            // What could not be published is lost, as hints may be.
            drop(self.redis.answers(Purpose::Read, &calls).await);
        }
    }

    fn call(&self, hint: &Hint) -> Call {
        let channel = match hint.user() {
            Some(user) => channel(&self.redis, user.0 % SHARDS),
            None => everybody(&self.redis),
        };
        let mut cmd = redis::cmd("PUBLISH");
        cmd.arg(&channel).arg(encode(self.origin, hint));
        Call::new(channel, cmd)
    }

    /// Says whether streams are open here, and learns whether they are elsewhere. One key is enough:
    /// of several processes that write it each sees another's name, or has streams itself.
    async fn ask(&self) {
        let key = self.redis.key("hints", "all");
        let mut cmd = redis::cmd(if self.local.wanted() { "SET" } else { "GET" });
        cmd.arg(&key);
        if self.local.wanted() {
            cmd.arg(self.origin).arg("PX").arg(millis(WANTED_FOR)).arg("GET");
        }
        let Ok(found) = self.redis.read("hints", &[Call::new(key, cmd)]).await else { return };
        let own = self.origin.to_string();
        let elsewhere = matches!(only(found), Value::BulkString(name) if name != own.as_bytes());
        self.elsewhere.store(elsewhere, Ordering::Relaxed);
    }
}

fn channel(redis: &Redis, shard: u64) -> String {
    format!("{}:hint:{shard}", redis.config.namespace)
}

fn everybody(redis: &Redis) -> String {
    format!("{}:hint:all", redis.config.namespace)
}

/// Who publishes (8 bytes), what kind (1), two ids (8 each), part and parts (2 each), big-endian.
fn encode(origin: u64, hint: &Hint) -> Vec<u8> {
    let (kind, first, second, part, parts) = match *hint {
        Hint::Home(user) => (1, user.0, 0, 0, 0),
        Hint::Deleted(tweet) => (2, tweet.0, 0, 0, 0),
        Hint::Projected { author, tweet, part, parts } => (3, author.0, tweet.0, part, parts),
    };
    let mut bytes = origin.to_be_bytes().to_vec();
    bytes.push(kind);
    bytes.extend([first.to_be_bytes(), second.to_be_bytes()].concat());
    bytes.extend([u16::to_be_bytes(part), u16::to_be_bytes(parts)].concat());
    bytes
}

/// `None` for what another version published.
fn decode(bytes: &[u8]) -> Option<(u64, Hint)> {
    let (origin, rest) = bytes.split_first_chunk::<8>()?;
    let (&kind, rest) = rest.split_first()?;
    let (first, rest) = rest.split_first_chunk::<8>()?;
    let (second, rest) = rest.split_first_chunk::<8>()?;
    let (part, parts) = rest.split_first_chunk::<2>()?;
    let parts = u16::from_be_bytes(parts.try_into().ok()?);
    let (first, second) = (u64::from_be_bytes(*first), u64::from_be_bytes(*second));
    let hint = match kind {
        1 => Hint::Home(UserId(first)),
        2 => Hint::Deleted(TweetId(first)),
        3 => Hint::Projected {
            author: UserId(first),
            tweet: TweetId(second),
            part: u16::from_be_bytes(*part),
            parts,
        },
        _ => return None,
    };
    Some((u64::from_be_bytes(*origin), hint))
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn hints_come_back_as_they_went_and_what_is_foreign_is_left() {
        let projected =
            Hint::Projected { author: UserId(u64::MAX), tweet: TweetId(3), part: 7, parts: 900 };
        for hint in [Hint::Home(UserId(5)), Hint::Deleted(TweetId(6)), projected] {
            let bytes = encode(9, &hint);
            assert_eq!(decode(&bytes), Some((9, hint)));
            assert_eq!(decode(&bytes[1..]), None);
        }
        let mut foreign = encode(9, &projected);
        foreign[8] = 200;
        assert_eq!(decode(&foreign), None);
    }

    #[test]
    fn streams_come_and_go_while_the_listener_looks_for_some() {
        let wishes = Arc::new(Wishes::default());
        let ended = Arc::new(AtomicBool::new(false));
        let looks = {
            let (mut streams, ended) = (wishes.wished.subscribe(), Arc::clone(&ended));
            move || {
                while !ended.load(Ordering::Relaxed) {
                    any(&mut streams).now_or_never();
                }
            }
        };
        let (done, ends) = std::sync::mpsc::channel();
        let open_and_close = move || {
            for n in 0..100_000 {
                wishes.add(n % 3);
                wishes.remove(n % 3);
            }
            done.send(())
        };
        // Threads, not tasks: two that wait for each other's lock would keep the runtime from ending.
        std::thread::spawn(looks);
        std::thread::spawn(open_and_close);
        let changed = ends.recv_timeout(Duration::from_mins(1));
        ended.store(true, Ordering::Relaxed);
        assert!(changed.is_ok(), "one waits for a lock that the other holds");
    }
}
