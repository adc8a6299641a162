//! A server that forgets, breaks connections, stops or runs out of memory.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use chirp::{
    config,
    domain::{TweetId, UserId, Window},
    ports::{BodyCache, BodyRead, CachedBody, HomeRead, Kind, Outcome, TimelineCache},
};

use super::{Caches, Raw, Server, entry, home, users};

async fn shown(cache: &Caches, user: u64) -> Vec<u64> {
    match cache.cache.page(UserId(user), Window::Latest, 1_000).await.unwrap() {
        HomeRead::Hit(page) => page.slice.entries.iter().map(|entry| entry.tweet.0).collect(),
        other => panic!("{user}: {other:?}"),
    }
}

/// Runs `words` at the server again and again until told to stop; gives how often.
fn repeatedly(
    mut raw: Raw,
    words: &'static str,
) -> (Arc<AtomicBool>, tokio::task::JoinHandle<u64>) {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let task = tokio::spawn(async move {
        let mut count = 0;
        while !stopped.load(Ordering::SeqCst) {
            let _: redis::Value = raw.run(words).await;
            count += 1;
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        count
    });
    (stop, task)
}

pub async fn what_a_wiped_server_held_is_absent_and_a_fill_that_ran_is_void(server: Server) {
    let cache = server.cache();
    cache.warm(1).await;
    let token = cache.begin(home(2)).await.unwrap();
    let body = cache.cache.read(&[TweetId(7)]).await.unwrap();
    let [BodyRead::Miss(Some(body))] = body[..] else { panic!("{body:?}") };
    let _: () = server.raw(server.ports[0]).await.run("FLUSHALL").await;
    let page = cache.cache.page(UserId(1), Window::Latest, 9).await;
    assert_eq!(page, Ok(HomeRead::NoRelations));
    assert_eq!(cache.finish(home(2), token, &[entry(1)]).await, Outcome::Done(false));
    let live = CachedBody::Live(Bytes::from_static(b"{}"));
    assert!(cache.cache.fill(&[(TweetId(7), body, live)]).await.is_done());
    let found = cache.cache.read(&[TweetId(7)]).await.unwrap();
    assert!(matches!(found[..], [BodyRead::Miss(Some(_))]), "{found:?}");
    let report = cache.push(1, &users([1, 2])).await.certain().unwrap();
    assert_eq!((report.delivered, report.absent), (0, 2));
}

pub async fn scripts_that_are_forgotten_in_a_fan_out_are_loaded_again(server: Server) {
    let cache = server.cache();
    let readers = users(1..=700);
    for user in &readers {
        cache.warm(user.0).await;
    }
    let raw = server.raw(server.ports[0]).await;
    let (stop, flushing) = repeatedly(raw.clone(), "SCRIPT FLUSH");
    let mut delivered = 0;
    let mut pushed = 0;
    for tweet in 1..=20 {
        // A server that forgets faster than it is taught may win; then the push is repeated.
        while pushed < tweet {
            if let Outcome::Done(report) = cache.push(tweet, &readers).await {
                delivered += report.delivered;
                pushed = tweet;
            }
        }
    }
    stop.store(true, Ordering::SeqCst);
    assert!(flushing.await.unwrap() > 0);
    assert!(delivered <= 20 * 700);
    // All at once, when nothing disturbs: one flush costs one more round.
    let _: () = raw.clone().run("SCRIPT FLUSH").await;
    let report = cache.push(21, &readers).await.certain().unwrap();
    assert_eq!(report.delivered, 700);
    let expected: Vec<u64> = (1..=21).rev().collect();
    assert_eq!(shown(&cache, 1).await, expected);
    assert_eq!(shown(&cache, 700).await, expected);
}

pub async fn connections_that_are_killed_lose_nothing_that_was_done(server: Server) {
    let cache = server.cache();
    let readers = users(1..=50);
    for user in &readers {
        cache.warm(user.0).await;
    }
    let raw = server.raw(server.ports[0]).await;
    let (stop, killing) = repeatedly(raw, "CLIENT KILL TYPE normal SKIPME yes");
    let mut done = Vec::new();
    for tweet in 1..=200 {
        if cache.push(tweet, &readers).await.is_done() {
            done.push(tweet);
        }
    }
    stop.store(true, Ordering::SeqCst);
    assert!(killing.await.unwrap() > 0);
    for user in [1, 25, 50] {
        let shown = shown(&cache, user).await;
        let lost: Vec<&u64> = done.iter().filter(|tweet| !shown.contains(tweet)).collect();
        assert!(lost.is_empty(), "done and lost: {lost:?}");
        assert!(shown.is_sorted_by(|a, b| a > b), "each once, newest first: {shown:?}");
    }
}

pub async fn a_server_that_stops_is_an_error_in_time_and_a_write_to_it_is_unknown(_: Server) {
    let server = Server::single(&[]).await;
    let config = config::Redis { read_timeout_ms: 200, write_timeout_ms: 200, ..server.config() };
    let patient = Caches::new(&server.config());
    patient.warm(1).await;
    let mut cache = Caches::new(&config::Redis { namespace: patient.namespace.clone(), ..config });
    cache.redis.ping().await.unwrap();
    assert!(cache.push(1, &users([1])).await.is_done());
    server.pause(true);
    let page = cache.cache.page(UserId(1), Window::Latest, 9).await;
    assert_eq!(page.unwrap_err().kind, Kind::Timeout);
    let Outcome::Unknown(error) = cache.push(2, &users([1])).await else {
        panic!("it may still happen")
    };
    assert_eq!(error.kind, Kind::Timeout);
    server.pause(false);
    cache = patient;
    assert!(cache.push(3, &users([1])).await.is_done());
    let shown = shown(&cache, 1).await;
    assert!(shown.starts_with(&[3]) && shown.ends_with(&[1]), "{shown:?}");
}

pub async fn a_server_short_of_memory_forgets_lists_whole(_: Server) {
    let server = Server::single(&["--maxmemory", "6mb"]).await;
    let cache = server.cache();
    for user in 1..=2_000 {
        let token = cache.begin(home(user)).await.unwrap();
        let list: Vec<_> = (1..=300).map(entry).collect();
        let stored = cache.finish(home(user), token, &list).await;
        assert!(stored.is_done(), "{stored:?}");
    }
    let report = cache.push(301, &users(1..=2_000)).await.certain().unwrap();
    assert!(report.absent > 0 && report.delivered > 0, "{report:?}");
    for user in [1, 1_000, 2_000] {
        let token = cache.begin(home(user)).await;
        let page = cache.cache.push_many(home(user), &[entry(302)], TweetId(0)).await;
        assert_eq!(page.certain().unwrap().unwrap().delivered, 1, "{token:?}");
    }
}

pub async fn a_server_that_may_not_forget_and_is_full_refuses_and_says_so(_: Server) {
    let server = Server::single(&["--maxmemory", "3mb", "--maxmemory-policy", "noeviction"]).await;
    let cache = server.cache();
    let mut user = 0;
    let error = loop {
        user += 1;
        assert!(user < 100_000, "it must be full at some time");
        match TimelineCache::begin_fill(&*cache.cache, home(user)).await {
            Outcome::Done(_) => {}
            Outcome::Failed(error) => break error,
            Outcome::Unknown(error) => panic!("{error}"),
        }
    };
    assert_eq!(error.kind, Kind::Full, "{error}");
    // What hides something works all the same.
    assert!(TimelineCache::invalidate(&*cache.cache, &[home(1)]).await.is_done());
}
