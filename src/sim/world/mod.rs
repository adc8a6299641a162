//! Fakes of every port that model faults. The state of all stores is one [`World`]; each simulated
//! node has handles of its own to it, so that faults can hit one node or all.
//!
//! A call's order is in `link`: latency, is the port down, fault before, **one** atomic step, fault
//! after, latency. What only one kind of store does is in its file: late commits in `outbox`, rows
//! written one by one in `store`, lost and doubled messages in `bus`, wipes and failovers in `cache`.
//!
//! Why two runs of one seed are equal:
//!
//! - all chance comes from [`Seed::stream`]: one stream per kind of fault, port and node, drawn at
//!   every call whether the fault is on or not, so that one kind switched off shifts no other;
//! - all time is tokio's paused clock in whole milliseconds; nothing reads a real one;
//! - all collections are ordered; there is no hash map whose order could reach anything;
//! - no threads and no process-wide state: two worlds in one process do not see each other;
//! - nothing holds a lock across an await, so the one executor thread decides every order.

mod bus;
mod cache;
mod graph;
mod keys;
mod knobs;
mod limit;
mod link;
mod media;
mod outbox;
mod store;
mod tweets;
mod users;
mod view;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

pub use self::{
    cache::CacheKey, knobs::Knobs, outbox::OutboxView, tweets::TweetRow, view::Pending,
};
use self::{
    link::{Dice, Link},
    outbox::{Rows, SimOutbox},
};
use super::{seed::Seed, trace::Trace};
use crate::{
    domain::MediaId,
    ports::{
        BlobStore, BodyCache, Bus, GraphStore, Hints, HomeStore, KeyStore, MediaStore, Outbox,
        RateLimiter, RelationCache, StoredKey, TimelineCache, TimelineStore, TweetStore, UserStore,
    },
    rt::Rt,
};

/// A simulated node. Numbers are given by whoever builds the cluster and survive restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u16);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.0)
    }
}

/// What fails together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// Accounts, graph, keys and their outbox.
    Users,
    /// Tweets, their outbox, uploads and pictures.
    Tweets,
    /// The bus.
    Bus,
    /// The timeline store.
    Store,
    /// All caches, and hints.
    Cache,
}

impl Part {
    /// All parts.
    pub const ALL: [Self; 5] = [Self::Users, Self::Tweets, Self::Bus, Self::Store, Self::Cache];
}

/// Something that is done to the world from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// All caches lose everything.
    CacheWipe,
    /// The cache's replica takes over: writes that have not reached it are lost.
    CacheFailover,
    /// Single keys are evicted.
    CacheEvict {
        /// Which.
        keys: Vec<CacheKey>,
    },
    /// A part goes down for every node, or comes back.
    Down {
        /// Which.
        what: Part,
        /// Down, or back.
        on: bool,
    },
    /// One node cannot reach a part, or can again.
    Isolate {
        /// The node.
        node: NodeId,
        /// What it cannot reach.
        what: Part,
        /// Cut off, or back.
        on: bool,
    },
    /// Every call to a part takes this much longer, in milliseconds; 0 ends it.
    Slow {
        /// Which.
        what: Part,
        /// How much.
        by_ms: u64,
    },
}

/// The ports of one node.
#[derive(Clone)]
#[allow(missing_docs)] // each is named like its port
pub struct NodePorts {
    pub users: Arc<dyn UserStore>,
    pub graph: Arc<dyn GraphStore>,
    pub keys: Arc<dyn KeyStore>,
    pub user_outbox: Arc<dyn Outbox>,
    pub tweets: Arc<dyn TweetStore>,
    pub tweet_outbox: Arc<dyn Outbox>,
    pub media: Arc<dyn MediaStore>,
    pub blobs: Arc<dyn BlobStore>,
    pub bus: Arc<dyn Bus>,
    pub store: Arc<dyn TimelineStore>,
    pub homes: Arc<dyn HomeStore>,
    pub cache: Arc<dyn TimelineCache>,
    pub relations: Arc<dyn RelationCache>,
    pub bodies: Arc<dyn BodyCache>,
    pub limiter: Arc<dyn RateLimiter>,
    pub hints: Arc<dyn Hints>,
}

/// A call that takes effect after its caller gave up.
type Late = Box<dyn FnOnce(&mut State, u64) + Send>;
/// Port and node.
type Way = (&'static str, NodeId);

/// What all stores hold.
#[derive(Default)]
struct State {
    users: users::Users,
    graph: graph::Graph,
    keys: Vec<StoredKey>,
    user_outbox: Rows,
    tweets: tweets::Tweets,
    tweet_outbox: Rows,
    uploads: media::Uploads,
    blobs: media::Blobs,
    bus: bus::Lanes,
    store: store::Tables,
    cache: cache::Memory,
    hub: limit::Hub,
    late: BTreeMap<(u64, u64), (NodeId, String, Late)>,
    late_count: u64,
    down: BTreeSet<Part>,
    cut: BTreeSet<(NodeId, Part)>,
    slow: BTreeMap<Part, u64>,
}

struct Inner {
    seed: Seed,
    trace: Trace,
    knobs: Knobs,
    faults: AtomicBool,
    start: OnceLock<Instant>,
    dice: Mutex<BTreeMap<Way, Arc<Mutex<Dice>>>>,
    state: Mutex<State>,
}

/// The state of all stores. Clones are handles to the same world. Must be used inside one tokio
/// runtime; deterministic if that has one thread and a paused clock.
#[derive(Clone)]
pub struct World(Arc<Inner>);

impl World {
    /// An empty world, with faults on.
    #[must_use]
    pub fn new(seed: Seed, trace: Trace, knobs: Knobs) -> Self {
        let state = State { cache: cache::Memory::new(seed, &knobs), ..State::default() };
        Self(Arc::new(Inner {
            seed,
            trace,
            knobs,
            faults: AtomicBool::new(true),
            start: OnceLock::new(),
            dice: Mutex::default(),
            state: Mutex::new(state),
        }))
    }

    /// The ports of `node`, which waits by `rt`. After a restart the node asks again; its streams of
    /// chance go on where they were.
    #[must_use]
    pub fn node(&self, node: NodeId, rt: &Rt) -> NodePorts {
        let link = |part, port| Link::new(self, rt, node, part, port);
        let (user_link, tweet_link) =
            (link(Part::Users, "user_outbox"), link(Part::Tweets, "tweet_outbox"));
        NodePorts {
            users: Arc::new(users::SimUsers(link(Part::Users, "users"))),
            graph: Arc::new(graph::SimGraph(link(Part::Users, "graph").never_late())),
            keys: Arc::new(keys::SimKeys(link(Part::Users, "keys"))),
            user_outbox: Arc::new(SimOutbox { link: user_link, rows: |s| &mut s.user_outbox }),
            tweets: Arc::new(tweets::SimTweets(link(Part::Tweets, "tweets"))),
            tweet_outbox: Arc::new(SimOutbox { link: tweet_link, rows: |s| &mut s.tweet_outbox }),
            media: Arc::new(media::SimMedia(link(Part::Tweets, "media"))),
            blobs: Arc::new(media::SimBlobs(link(Part::Tweets, "blobs"))),
            bus: Arc::new(bus::SimBus(link(Part::Bus, "bus"))),
            store: Arc::new(store::SimStore(link(Part::Store, "timeline_store"))),
            homes: Arc::new(store::SimStore(link(Part::Store, "home_store"))),
            cache: Arc::new(cache::SimTimelines(link(Part::Cache, "timeline_cache"))),
            relations: Arc::new(cache::SimRelations(link(Part::Cache, "relation_cache"))),
            bodies: Arc::new(cache::SimBodies(link(Part::Cache, "body_cache"))),
            limiter: Arc::new(limit::AllowAll),
            hints: Arc::new(limit::SimHints(link(Part::Cache, "hints"))),
        }
    }

    /// Switches faults on, or off: off is healed, with every part up and reachable. What was already
    /// under way (late calls, delayed messages, leases) still takes its course.
    pub fn set_faults(&self, on: bool) {
        self.0.faults.store(on, Ordering::Relaxed);
        if !on {
            let mut state = self.0.state.lock();
            state.down.clear();
            state.cut.clear();
            state.slow.clear();
        }
        self.trace().event(self.now_ms(), WORLD, "faults", on);
    }

    /// Does something to the world.
    pub fn act(&self, act: Act) {
        self.trace().event(self.now_ms(), WORLD, "act", format_args!("{act:?}"));
        self.with(|state, now| match act {
            Act::CacheWipe => state.cache.wipe(),
            Act::CacheFailover => state.cache.fail_over(now),
            Act::CacheEvict { keys } => keys.into_iter().for_each(|key| state.cache.evict(key)),
            Act::Down { what, on } => set(&mut state.down, what, on),
            Act::Isolate { node, what, on } => set(&mut state.cut, (node, what), on),
            Act::Slow { what, by_ms } => drop(state.slow.insert(what, by_ms)),
        });
    }

    /// A client sends the bytes of a picture by its signed URL.
    pub fn upload(&self, id: MediaId, bytes: Bytes) {
        self.trace().event(self.now_ms(), WORLD, "upload", id);
        self.with(|state, _| state.blobs.upload(id, bytes));
    }

    /// What everybody gets of a picture.
    #[must_use]
    pub fn picture(&self, id: MediaId) -> Option<Bytes> {
        self.with(|state, _| state.blobs.picture(id))
    }

    /// Virtual time since the world was first used, in milliseconds.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        let now = Instant::now();
        let since = now.duration_since(*self.0.start.get_or_init(|| now));
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    /// The record that the world writes into.
    #[must_use]
    pub fn trace(&self) -> &Trace {
        &self.0.trace
    }

    /// How rough the world is.
    #[must_use]
    pub fn knobs(&self) -> &Knobs {
        &self.0.knobs
    }

    fn faulty(&self) -> bool {
        self.0.faults.load(Ordering::Relaxed)
    }

    fn dice(&self, port: &'static str, node: NodeId) -> Arc<Mutex<Dice>> {
        let mut all = self.0.dice.lock();
        let fresh = || Arc::new(Mutex::new(Dice::new(self.0.seed, port, node)));
        all.entry((port, node)).or_insert_with(fresh).clone()
    }

    fn reachable(&self, node: NodeId, part: Part) -> bool {
        let state = self.0.state.lock();
        !state.down.contains(&part) && !state.cut.contains(&(node, part))
    }

    fn slowness(&self, part: Part) -> u64 {
        self.0.state.lock().slow.get(&part).copied().unwrap_or(0)
    }

    /// One step on the state, at this moment; calls that were due before it go first.
    fn with<T>(&self, step: impl FnOnce(&mut State, u64) -> T) -> T {
        let now = self.now_ms();
        let mut state = self.0.state.lock();
        while let Some(entry) = state.late.first_entry().filter(|entry| entry.key().0 <= now) {
            let (node, what, apply) = entry.remove();
            self.trace().event(now, node, &what, "happens now");
            apply(&mut state, now);
        }
        step(&mut state, now)
    }

    /// Lets a call happen `after_ms` from now.
    fn later(
        &self,
        after_ms: u64,
        node: NodeId,
        port: &str,
        op: &str,
        apply: impl FnOnce(&mut State, u64) + Send + 'static,
    ) {
        let what = format!("{port}.{op}");
        self.with(|state, now| {
            state.late_count += 1;
            let key = (now + after_ms, state.late_count);
            state.late.insert(key, (node, what, Box::new(apply)));
        });
    }
}

/// Stands for the world itself in the trace.
const WORLD: NodeId = NodeId(u16::MAX);

fn set<T: Ord>(all: &mut BTreeSet<T>, one: T, on: bool) {
    if on {
        all.insert(one);
    } else {
        all.remove(&one);
    }
}
