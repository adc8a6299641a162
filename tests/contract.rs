//! Which adapters are held to which contract suite, and the suites to their wrong adapters.
//!
//! The list of ports and the adapters that need no server; `tests/backends` has those that do, each beside
//! its server's scenarios. Adapters in memory show their behaviours on real time with two
//! threads, and on virtual time, where waits cost nothing and what is rejected does not depend on
//! the speed of the machine.

#![allow(missing_docs, clippy::print_stdout, clippy::unwrap_used)]

use std::{
    fmt::Debug,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use async_trait::async_trait;
use axum::body::Body;
use bytes::Bytes;
use chirp::{
    adapters::embedded::{
        Db, TimelineStores, TweetStores, UserStores,
        blobs::{FileBlobs, serve},
        cache::{EmbeddedCache, Limits},
        hints::EmbeddedHints,
        limiter::EmbeddedLimiter,
        sqlite::Options,
    },
    domain::{MediaId, MediaKind},
    ports::{
        Presigned,
        contract::{
            Behaviour, HANGS, Outage, blobs, body_cache, bus, failures, graph, hints, home_store,
            keys, limiter, media, outbox, relation_cache, timeline_cache, timeline_store, tweets,
            users, wrong,
        },
    },
    rt::{Rt, tokio_rt::TokioRuntime},
};
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;

/// An empty data folder for each context.
struct Folders {
    root: tempfile::TempDir,
    made: AtomicU32,
    rt: Rt,
}

impl Folders {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        Self { root, made: AtomicU32::new(0), rt: TokioRuntime::handle() }
    }

    fn next(&self) -> PathBuf {
        self.root.path().join(self.made.fetch_add(1, Ordering::Relaxed).to_string())
    }

    fn user(&self) -> UserStores {
        UserStores::open(&self.next(), &self.rt, Options::default()).unwrap()
    }

    fn tweet(&self) -> TweetStores {
        TweetStores::open(&self.next(), Options::default()).unwrap()
    }

    fn timeline(&self) -> TimelineStores {
        TimelineStores::open(&self.next(), &self.rt, Options::default()).unwrap()
    }

    /// Closing the file is its outage.
    fn closing(db: Db) -> Outage {
        Outage::new(move |_| db.close())
    }
}

/// Holds an adapter to a suite.
async fn hold<C>(rt: &Rt, behaviours: &[Behaviour<C>], fresh: impl Fn() -> C) {
    let found = failures(rt, behaviours, fresh).await;
    assert!(found.is_empty(), "{found:#?}");
}

/// Holds a suite to its wrong adapters: each is rejected by the behaviours that are there for it,
/// and every behaviour is there for at least one.
async fn reject<C, F: Copy + Debug>(
    rt: &Rt,
    behaviours: &[Behaviour<C>],
    faults: &[(F, &[&str])],
    fresh: impl Fn() -> C,
    broken: fn(C, F) -> C,
) {
    for &(fault, rejecting) in faults {
        for &name in rejecting {
            let named = behaviours.iter().position(|behaviour| behaviour.name == name);
            let at = named.unwrap_or_else(|| panic!("there is no behaviour {name}"));
            let found = failures(rt, &behaviours[at..=at], || broken(fresh(), fault)).await;
            println!("{fault:?}: {found:?}");
            assert!(!found.is_empty(), "{name} accepts {fault:?}");
            assert_ne!(found[0].why, HANGS, "{name} hangs on {fault:?}");
        }
    }
    let idle: Vec<_> = behaviours
        .iter()
        .map(|behaviour| behaviour.name)
        .filter(|name| !faults.iter().any(|(_, rejecting)| rejecting.contains(name)))
        .collect();
    assert!(idle.is_empty(), "behaviours that reject nothing: {idle:?}");
}

fn sqlite_bus(folders: &Folders) -> bus::Context {
    let TimelineStores { bus, db, .. } = folders.timeline();
    bus::Context { bus, rt: folders.rt.clone(), outage: Some(Folders::closing(db)) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bus_in_sqlite_keeps_its_contract() {
    let folders = Folders::new();
    hold(&folders.rt, bus::BEHAVIOURS, || sqlite_bus(&folders)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_buses_are_rejected() {
    use wrong::bus::{Fault, broken};
    let folders = Folders::new();
    reject(&folders.rt, bus::BEHAVIOURS, Fault::ALL, || sqlite_bus(&folders), broken).await;
}

fn sqlite_tweet_outbox(folders: &Folders) -> outbox::Context {
    let TweetStores { tweets, outbox, db, .. } = folders.tweet();
    let feed = Arc::new(tweets);
    outbox::Context { outbox, feed, rt: folders.rt.clone(), outage: Some(Folders::closing(db)) }
}

fn sqlite_graph_outbox(folders: &Folders) -> outbox::Context {
    let UserStores { graph, outbox, db, .. } = folders.user();
    let feed = Arc::new(graph);
    outbox::Context { outbox, feed, rt: folders.rt.clone(), outage: Some(Folders::closing(db)) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_outboxes_in_sqlite_keep_their_contract() {
    let folders = Folders::new();
    hold(&folders.rt, outbox::BEHAVIOURS, || sqlite_tweet_outbox(&folders)).await;
    hold(&folders.rt, outbox::BEHAVIOURS, || sqlite_graph_outbox(&folders)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_outboxes_are_rejected() {
    use wrong::outbox::{Fault, broken};
    let folders = Folders::new();
    let fresh = || sqlite_tweet_outbox(&folders);
    reject(&folders.rt, outbox::BEHAVIOURS, Fault::ALL, fresh, broken).await;
}

fn sqlite_tweets(folders: &Folders) -> tweets::Context {
    let TweetStores { tweets, outbox, db, .. } = folders.tweet();
    tweets::Context { tweets, outbox, rt: folders.rt.clone(), outage: Some(Folders::closing(db)) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tweets_in_sqlite_keep_their_contract() {
    let folders = Folders::new();
    hold(&folders.rt, tweets::BEHAVIOURS, || sqlite_tweets(&folders)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_stores_of_tweets_are_rejected() {
    use wrong::tweets::{Fault, broken};
    let folders = Folders::new();
    reject(&folders.rt, tweets::BEHAVIOURS, Fault::ALL, || sqlite_tweets(&folders), broken).await;
}

fn sqlite_media(folders: &Folders) -> media::Context {
    let TweetStores { tweets, media, db, .. } = folders.tweet();
    media::Context { media, tweets, rt: folders.rt.clone(), outage: Some(Folders::closing(db)) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_in_sqlite_keep_their_contract() {
    let folders = Folders::new();
    hold(&folders.rt, media::BEHAVIOURS, || sqlite_media(&folders)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_stores_of_uploads_are_rejected() {
    use wrong::media::{Fault, broken};
    let folders = Folders::new();
    reject(&folders.rt, media::BEHAVIOURS, Fault::ALL, || sqlite_media(&folders), broken).await;
}

/// A client of the routes beside the folder.
struct Guest(axum::Router);

impl Guest {
    async fn asks(&self, request: http::Request<Body>) -> http::Response<Body> {
        let Ok(answer) = self.0.clone().oneshot(request).await;
        answer
    }
}

#[async_trait]
impl blobs::Visitor for Guest {
    async fn sends(&self, to: &Presigned, kind: MediaKind, bytes: Bytes) -> bool {
        let mut request = http::Request::put(format!("/{}", to.url));
        for (name, value) in &to.headers {
            let value = if *name == "content-type" { kind.as_str() } else { value };
            request = request.header(*name, value);
        }
        let request = request.header("content-length", bytes.len());
        self.asks(request.body(Body::from(bytes)).unwrap()).await.status().is_success()
    }

    async fn gets(&self, id: MediaId) -> Option<(String, Bytes)> {
        let path = format!("/media/m/{id}");
        let answer = self.asks(http::Request::get(path).body(Body::empty()).unwrap()).await;
        if answer.status() != 200 {
            return None;
        }
        let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
        Some((kind, answer.into_body().collect().await.unwrap().to_bytes()))
    }
}

/// The folder cannot be read while a file stands in its place.
fn file_blobs(folders: &Folders) -> blobs::Context {
    let dir = folders.next();
    let store = FileBlobs::open(&dir, "a token", folders.rt.clone()).unwrap();
    let visitor = Arc::new(Guest(serve::router(store.clone())));
    let outage = Outage::new(move |_| {
        std::fs::remove_dir_all(&dir).unwrap();
        std::fs::write(&dir, b"not a folder").unwrap();
    });
    let rt = folders.rt.clone();
    blobs::Context { blobs: Arc::new(store), visitor, rt, outage: Some(outage) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pictures_in_a_folder_keep_their_contract() {
    let folders = Folders::new();
    hold(&folders.rt, blobs::BEHAVIOURS, || file_blobs(&folders)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_stores_of_pictures_are_rejected() {
    use wrong::blobs::{Fault, broken};
    let folders = Folders::new();
    reject(&folders.rt, blobs::BEHAVIOURS, Fault::ALL, || file_blobs(&folders), broken).await;
}

fn sqlite_users(folders: &Folders) -> users::Context {
    let UserStores { users, db, .. } = folders.user();
    users::Context { users, rt: folders.rt.clone(), outage: Some(Folders::closing(db)) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_in_sqlite_keep_their_contract() {
    let folders = Folders::new();
    hold(&folders.rt, users::BEHAVIOURS, || sqlite_users(&folders)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_stores_of_users_are_rejected() {
    use wrong::users::{Fault, broken};
    let folders = Folders::new();
    reject(&folders.rt, users::BEHAVIOURS, Fault::ALL, || sqlite_users(&folders), broken).await;
}

fn sqlite_graph(folders: &Folders) -> graph::Context {
    let UserStores { graph, outbox, db, .. } = folders.user();
    graph::Context { graph, outbox, rt: folders.rt.clone(), outage: Some(Folders::closing(db)) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_graph_in_sqlite_keeps_its_contract() {
    let folders = Folders::new();
    hold(&folders.rt, graph::BEHAVIOURS, || sqlite_graph(&folders)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_graphs_are_rejected() {
    use wrong::graph::{Fault, broken};
    let folders = Folders::new();
    reject(&folders.rt, graph::BEHAVIOURS, Fault::ALL, || sqlite_graph(&folders), broken).await;
}

fn sqlite_timelines(folders: &Folders) -> timeline_store::Context {
    let TimelineStores { store, db, .. } = folders.timeline();
    timeline_store::Context { store, rt: folders.rt.clone(), outage: Some(Folders::closing(db)) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_timeline_store_in_sqlite_keeps_its_contract() {
    let folders = Folders::new();
    hold(&folders.rt, timeline_store::BEHAVIOURS, || sqlite_timelines(&folders)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_timeline_stores_are_rejected() {
    use wrong::timeline_store::{Fault, broken};
    let folders = Folders::new();
    let fresh = || sqlite_timelines(&folders);
    reject(&folders.rt, timeline_store::BEHAVIOURS, Fault::ALL, fresh, broken).await;
}

fn sqlite_homes(folders: &Folders) -> home_store::Context {
    let TimelineStores { homes, db, .. } = folders.timeline();
    home_store::Context { homes, rt: folders.rt.clone(), outage: Some(Folders::closing(db)) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn home_timelines_in_sqlite_keep_their_contract() {
    let folders = Folders::new();
    hold(&folders.rt, home_store::BEHAVIOURS, || sqlite_homes(&folders)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_home_timelines_are_rejected() {
    use wrong::home_store::{Fault, broken};
    let folders = Folders::new();
    reject(&folders.rt, home_store::BEHAVIOURS, Fault::ALL, || sqlite_homes(&folders), broken)
        .await;
}

/// The folder cannot be read while a file stands in its place.
fn file_keys(folders: &Folders) -> keys::Context {
    let dir = folders.next();
    let keys = UserStores::open(&dir, &folders.rt, Options::default()).unwrap().keys;
    let outage = Outage::new(move |_| {
        std::fs::remove_dir_all(&dir).unwrap();
        std::fs::write(&dir, b"not a folder").unwrap();
    });
    keys::Context { keys, rt: folders.rt.clone(), outage: Some(outage) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_in_a_file_keep_their_contract() {
    let folders = Folders::new();
    hold(&folders.rt, keys::BEHAVIOURS, || file_keys(&folders)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_stores_of_keys_are_rejected() {
    use wrong::keys::{Fault, broken};
    let folders = Folders::new();
    reject(&folders.rt, keys::BEHAVIOURS, Fault::ALL, || file_keys(&folders), broken).await;
}

/// Memory of the process has no outage; the wrong adapters bring their own.
fn embedded_timelines(rt: &Rt) -> timeline_cache::Context {
    let cache = Arc::new(EmbeddedCache::new(rt.clone(), Limits::default()));
    let timelines = cache.clone();
    timeline_cache::Context { timelines, relations: cache, rt: rt.clone(), outage: None }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn embedded_timelines_keep_their_contract() {
    let rt = TokioRuntime::handle();
    hold(&rt, timeline_cache::BEHAVIOURS, || embedded_timelines(&rt)).await;
}

#[tokio::test(start_paused = true)]
async fn wrong_caches_of_timelines_are_rejected() {
    use wrong::timeline_cache::{Fault, broken};
    let rt = TokioRuntime::handle();
    hold(&rt, timeline_cache::BEHAVIOURS, || embedded_timelines(&rt)).await;
    reject(&rt, timeline_cache::BEHAVIOURS, Fault::ALL, || embedded_timelines(&rt), broken).await;
}

fn embedded_relations(rt: &Rt) -> relation_cache::Context {
    let relations = Arc::new(EmbeddedCache::new(rt.clone(), Limits::default()));
    relation_cache::Context { relations, rt: rt.clone(), outage: None }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn embedded_relations_keep_their_contract() {
    let rt = TokioRuntime::handle();
    hold(&rt, relation_cache::BEHAVIOURS, || embedded_relations(&rt)).await;
}

#[tokio::test(start_paused = true)]
async fn wrong_caches_of_relations_are_rejected() {
    use wrong::relation_cache::{Fault, broken};
    let rt = TokioRuntime::handle();
    hold(&rt, relation_cache::BEHAVIOURS, || embedded_relations(&rt)).await;
    reject(&rt, relation_cache::BEHAVIOURS, Fault::ALL, || embedded_relations(&rt), broken).await;
}

fn embedded_bodies(rt: &Rt) -> body_cache::Context {
    let bodies = Arc::new(EmbeddedCache::new(rt.clone(), Limits::default()));
    body_cache::Context { bodies, rt: rt.clone(), outage: None }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn embedded_bodies_keep_their_contract() {
    let rt = TokioRuntime::handle();
    hold(&rt, body_cache::BEHAVIOURS, || embedded_bodies(&rt)).await;
}

#[tokio::test(start_paused = true)]
async fn wrong_caches_of_bodies_are_rejected() {
    use wrong::body_cache::{Fault, broken};
    let rt = TokioRuntime::handle();
    hold(&rt, body_cache::BEHAVIOURS, || embedded_bodies(&rt)).await;
    reject(&rt, body_cache::BEHAVIOURS, Fault::ALL, || embedded_bodies(&rt), broken).await;
}

fn embedded_limiter(rt: &Rt) -> limiter::Context {
    let limiter = Arc::new(EmbeddedLimiter::new(rt.clone()));
    limiter::Context { limiter, rt: rt.clone(), outage: None }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_limiter_keeps_its_contract() {
    let rt = TokioRuntime::handle();
    hold(&rt, limiter::BEHAVIOURS, || embedded_limiter(&rt)).await;
}

#[tokio::test(start_paused = true)]
async fn wrong_limiters_are_rejected() {
    use wrong::limiter::{Fault, broken};
    let rt = TokioRuntime::handle();
    hold(&rt, limiter::BEHAVIOURS, || embedded_limiter(&rt)).await;
    reject(&rt, limiter::BEHAVIOURS, Fault::ALL, || embedded_limiter(&rt), broken).await;
}

fn embedded_hints(rt: &Rt) -> hints::Context {
    hints::Context { hints: Arc::new(EmbeddedHints::new()), rt: rt.clone() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn embedded_hints_keep_their_contract() {
    let rt = TokioRuntime::handle();
    hold(&rt, hints::BEHAVIOURS, || embedded_hints(&rt)).await;
}

#[tokio::test(start_paused = true)]
async fn wrong_distributors_of_hints_are_rejected() {
    use wrong::hints::{Fault, broken};
    let rt = TokioRuntime::handle();
    hold(&rt, hints::BEHAVIOURS, || embedded_hints(&rt)).await;
    reject(&rt, hints::BEHAVIOURS, Fault::ALL, || embedded_hints(&rt), broken).await;
}
