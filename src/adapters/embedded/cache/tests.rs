//! The protocol of [`crate::ports::cache`], as scenarios.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;

use super::*;
use crate::{
    domain::{Entry, TweetId, Window, ring::Slice},
    ports::{
        BodyCache, BodyRead, CachedBody, HomeRead, ListKey, Outcome, Push, PushReport,
        RelationCache, TimelineCache,
    },
    rt::tokio_rt::TokioRuntime,
};

const ADA: UserId = UserId(1);
const BOB: UserId = UserId(2);
const HOME: ListKey = ListKey::Home(ADA);

fn cache_with(limits: Limits) -> EmbeddedCache {
    EmbeddedCache::new(TokioRuntime::handle(), limits)
}

fn cache() -> EmbeddedCache {
    cache_with(Limits::default())
}

/// A tweet of an author whose id is the tweet's last digit.
fn entry(id: u64) -> Entry {
    Entry { tweet: TweetId(id), author: UserId(id % 10) }
}

fn entries(ids: &[u64]) -> Vec<Entry> {
    ids.iter().map(|&id| entry(id)).collect()
}

fn ids(slice: &Slice) -> Vec<u64> {
    slice.entries.iter().map(|e| e.tweet.0).collect()
}

fn sees(authors: &[u64]) -> Arc<Relations> {
    let visible = authors.iter().map(|&id| UserId(id)).collect();
    Arc::new(Relations { visible, ..Relations::default() })
}

async fn begin(cache: &EmbeddedCache, key: ListKey) -> Option<Token> {
    TimelineCache::begin_fill(cache, key).await.done().unwrap()
}

async fn finish(cache: &EmbeddedCache, key: ListKey, token: Token, of: &[u64], floor: u64) -> bool {
    let done =
        TimelineCache::finish_fill(cache, key, token, &entries(of), TweetId(floor)).await.done();
    done.unwrap()
}

async fn warm(cache: &EmbeddedCache, key: ListKey, of: &[u64], floor: u64) {
    let token = begin(cache, key).await.unwrap();
    assert!(finish(cache, key, token, of, floor).await);
}

async fn relate(cache: &EmbeddedCache, user: UserId, relations: Arc<Relations>) {
    let token = RelationCache::begin_fill(cache, user).await.done().unwrap();
    let stored = RelationCache::finish_fill(cache, user, token, relations).await;
    assert_eq!(stored, Outcome::Done(true));
}

async fn push(cache: &EmbeddedCache, id: u64, homes: &[UserId]) -> PushReport {
    let push = Push { entry: entry(id), homes, author_list: false };
    cache.push(&[push]).await.done().unwrap()
}

async fn page(cache: &EmbeddedCache, window: Window, limit: usize) -> Vec<u64> {
    match cache.page(ADA, window, limit).await.unwrap() {
        HomeRead::Hit(home) => ids(&home.slice),
        other => panic!("{other:?}"),
    }
}

/// A cache in which Ada sees the authors 1, 3 and 5.
async fn ada_sees_odd_authors() -> EmbeddedCache {
    let cache = cache();
    relate(&cache, ADA, sees(&[1, 3, 5])).await;
    cache
}

#[tokio::test]
async fn what_is_absent_is_a_miss_and_never_an_empty_page() {
    let cache = cache();
    let read = || async { cache.page(ADA, Window::Latest, 20).await.unwrap() };
    assert_eq!(read().await, HomeRead::NoRelations);
    relate(&cache, ADA, sees(&[1])).await;
    assert_eq!(read().await, HomeRead::NoTimeline);
    let token = begin(&cache, HOME).await.unwrap();
    assert_eq!(read().await, HomeRead::NoTimeline, "a list that is being filled is not read");
    assert!(finish(&cache, HOME, token, &[], 0).await);
    assert!(page(&cache, Window::Latest, 20).await.is_empty());
    let lists = cache.author_lists(&[BOB], Window::Latest, 20).await.unwrap();
    assert_eq!(lists, [None]);
}

#[tokio::test]
async fn a_page_has_only_authors_whom_the_reader_sees() {
    let cache = ada_sees_odd_authors().await;
    warm(&cache, HOME, &[11, 12, 13, 14, 15, 21, 22], 0).await;
    assert_eq!(page(&cache, Window::Latest, 3).await, [21, 15, 13]);
    relate(&cache, ADA, sees(&[2, 4])).await;
    assert_eq!(page(&cache, Window::Latest, 3).await, [22, 14, 12]);
}

#[tokio::test]
async fn pages_follow_one_another_downwards_and_upwards() {
    let cache = ada_sees_odd_authors().await;
    warm(&cache, HOME, &[11, 13, 15, 21, 23, 25, 31], 5).await;
    assert_eq!(page(&cache, Window::Latest, 3).await, [31, 25, 23]);
    assert_eq!(page(&cache, Window::Before(TweetId(23)), 3).await, [21, 15, 13]);
    assert_eq!(page(&cache, Window::Before(TweetId(13)), 3).await, [11]);
    assert_eq!(page(&cache, Window::After(TweetId(13)), 2).await, [21, 15], "the nearest above");
    assert!(page(&cache, Window::After(TweetId(31)), 2).await.is_empty());
    let HomeRead::Hit(home) = cache.page(ADA, Window::Latest, 20).await.unwrap() else {
        panic!("both are cached");
    };
    assert_eq!((home.slice.floor, home.slice.exhausted), (TweetId(5), true));
}

#[tokio::test]
async fn pulled_authors_come_with_the_page() {
    let cache = cache();
    let relations = Relations { pulled: Box::new([BOB]), ..(*sees(&[1, 2])).clone() };
    relate(&cache, ADA, Arc::new(relations)).await;
    warm(&cache, HOME, &[], 0).await;
    let HomeRead::Hit(home) = cache.page(ADA, Window::Latest, 20).await.unwrap() else {
        panic!("both are cached");
    };
    assert_eq!(home.pulled, [BOB]);
}

#[tokio::test]
async fn a_fill_with_a_stale_token_stores_nothing() {
    let cache = ada_sees_odd_authors().await;
    let old = begin(&cache, HOME).await.unwrap();
    let new = begin(&cache, HOME).await.unwrap();
    assert!(!finish(&cache, HOME, old, &[11], 0).await, "another fill overruled it");
    assert!(finish(&cache, HOME, new, &[13], 0).await);
    assert_eq!(page(&cache, Window::Latest, 9).await, [13]);
    assert!(!finish(&cache, HOME, new, &[15], 0).await, "a token ends one fill");
    assert_eq!(begin(&cache, HOME).await, None, "it is ready");
    assert_eq!(page(&cache, Window::Latest, 9).await, [13]);
}

#[tokio::test]
async fn an_invalidation_voids_the_fill_that_runs() {
    let cache = ada_sees_odd_authors().await;
    for key in [HOME, ListKey::Author(BOB)] {
        let token = begin(&cache, key).await.unwrap();
        assert_eq!(TimelineCache::invalidate(&cache, &[key]).await, Outcome::Done(()));
        assert!(!finish(&cache, key, token, &[11], 0).await);
        let absent = PushReport { absent: 1, ..PushReport::default() };
        let pushed = cache.push_many(key, &[], TweetId(0)).await;
        assert_eq!(pushed, Outcome::Done(Some(absent)));
    }
    let read = RelationCache::get(&cache, ADA).await.unwrap();
    assert!(read.is_some(), "the relations beside the timeline stay");
}

#[tokio::test]
async fn a_push_while_the_list_is_filled_survives_the_fill() {
    let cache = ada_sees_odd_authors().await;
    let token = begin(&cache, HOME).await.unwrap();
    assert_eq!(push(&cache, 25, &[ADA]).await.delivered, 1);
    let overruling = begin(&cache, HOME).await.unwrap();
    assert_eq!(push(&cache, 23, &[ADA]).await.delivered, 1);
    assert!(!finish(&cache, HOME, token, &[], 0).await);
    assert!(finish(&cache, HOME, overruling, &[11, 25], 0).await);
    assert_eq!(page(&cache, Window::Latest, 9).await, [25, 23, 11]);
}

#[tokio::test]
async fn a_push_tells_what_it_did_and_changes_nothing_twice() {
    let cache = ada_sees_odd_authors().await;
    warm(&cache, HOME, &[11], 10).await;
    warm(&cache, ListKey::Home(BOB), &[], 0).await;
    let homes = [ADA, BOB, UserId(3)];
    let first = push(&cache, 21, &homes).await;
    assert_eq!(first, PushReport { delivered: 2, repeated: 0, absent: 1 });
    let again = push(&cache, 21, &homes).await;
    assert_eq!(again, PushReport { delivered: 0, repeated: 2, absent: 1 });
    let under = push(&cache, 9, &homes).await;
    assert_eq!(under, PushReport { delivered: 1, repeated: 1, absent: 1 }, "Ada's floor is 10");
    assert_eq!(page(&cache, Window::Latest, 9).await, [21, 11]);
}

#[tokio::test]
async fn a_backfill_goes_into_its_place_and_not_under_the_floor() {
    let cache = ada_sees_odd_authors().await;
    let absent = cache.push_many(HOME, &entries(&[11]), TweetId(10)).await;
    assert_eq!(absent, Outcome::Done(Some(PushReport { absent: 1, ..PushReport::default() })));
    warm(&cache, HOME, &[21, 31], 10).await;
    let gap = cache.push_many(HOME, &entries(&[15, 25, 31]), TweetId(14)).await;
    assert_eq!(gap, Outcome::Done(None));
    let report = cache.push_many(HOME, &entries(&[5, 15, 25, 31]), TweetId(4)).await;
    let pushed = PushReport { delivered: 2, repeated: 2, absent: 0 };
    assert_eq!(report, Outcome::Done(Some(pushed)));
    assert_eq!(page(&cache, Window::Latest, 9).await, [31, 25, 21, 15]);
}

#[tokio::test]
async fn lists_of_authors_are_pushed_to_and_read_in_the_order_asked_for() {
    let cache = cache();
    warm(&cache, ListKey::Author(UserId(3)), &[13], 0).await;
    warm(&cache, ListKey::Author(UserId(5)), &[5, 15], 2).await;
    let one = Push { entry: entry(23), homes: &[], author_list: true };
    let not_asked_for = Push { entry: entry(25), homes: &[], author_list: false };
    assert!(cache.push(&[one, not_asked_for]).await.is_done());
    let authors = [UserId(5), BOB, UserId(3)];
    let lists = cache.author_lists(&authors, Window::Latest, 9).await.unwrap();
    let read: Vec<Option<Vec<u64>>> = lists.iter().map(|l| l.as_ref().map(ids)).collect();
    assert_eq!(read, [Some(vec![15, 5]), None, Some(vec![23, 13])]);
    assert_eq!(lists[0].as_ref().map(|list| list.floor), Some(TweetId(2)));
}

#[tokio::test]
async fn a_batch_for_thousands_of_homes_reaches_each_exactly_once() {
    let cache = cache();
    let homes: Vec<UserId> = (0..6_000).map(|id| UserId(id << 22)).collect();
    for &home in &homes {
        warm(&cache, ListKey::Home(home), &[], 0).await;
    }
    let push = |id| Push { entry: entry(id), homes: &homes, author_list: false };
    let report = cache.push(&[push(1), push(2), push(3)]).await.done().unwrap();
    assert_eq!(report, PushReport { delivered: 18_000, ..PushReport::default() });
    for &home in &homes {
        relate(&cache, home, sees(&[1, 2, 3])).await;
        let HomeRead::Hit(read) = cache.page(home, Window::Latest, 9).await.unwrap() else {
            panic!("both are cached");
        };
        assert_eq!(ids(&read.slice), [3, 2, 1]);
    }
}

#[tokio::test(start_paused = true)]
async fn who_does_not_read_for_thirty_days_is_written_to_no_more() {
    let cache = ada_sees_odd_authors().await;
    let almost = IDLE_TTL.checked_sub(Duration::from_secs(2)).unwrap();
    warm(&cache, HOME, &[], 0).await;
    for id in [11, 21] {
        tokio::time::advance(almost).await;
        assert_eq!(push(&cache, id, &[ADA]).await.delivered, 1);
        page(&cache, Window::Latest, 9).await;
    }
    tokio::time::advance(almost).await;
    assert_eq!(push(&cache, 31, &[ADA]).await.delivered, 1, "a push does not renew");
    tokio::time::advance(Duration::from_secs(4)).await;
    assert_eq!(push(&cache, 41, &[ADA]).await.absent, 1);
    assert_eq!(cache.page(ADA, Window::Latest, 9).await, Ok(HomeRead::NoRelations));
    assert!(begin(&cache, HOME).await.is_some(), "what has expired is not ready");
}

#[tokio::test]
async fn users_beyond_the_bound_become_misses() {
    let cache = cache_with(Limits { users_max: 640, ..Limits::default() });
    for id in 0..5_000 {
        warm(&cache, ListKey::Home(UserId(id)), &[], 0).await;
    }
    let usage = cache.usage();
    assert!((500..=640).contains(&usage.users), "{usage:?}");
    assert_eq!(usage.users_bytes, usage.users * (32 + 64 * 16));
}

#[tokio::test]
async fn relations_are_what_the_last_fill_brought_until_they_are_invalidated() {
    let cache = cache();
    let get = || async { RelationCache::get(&cache, ADA).await.unwrap() };
    let old = RelationCache::begin_fill(&cache, ADA).await.done().unwrap();
    let new = RelationCache::begin_fill(&cache, ADA).await.done().unwrap();
    let overruled = RelationCache::finish_fill(&cache, ADA, old, sees(&[1])).await;
    assert_eq!((overruled, get().await), (Outcome::Done(false), None));
    let stood = RelationCache::finish_fill(&cache, ADA, new, sees(&[2])).await;
    assert_eq!((stood, get().await), (Outcome::Done(true), Some(sees(&[2]))));
    let running = RelationCache::begin_fill(&cache, ADA).await.done().unwrap();
    assert_eq!(get().await, Some(sees(&[2])), "a refill does not hide what still holds");
    assert!(RelationCache::invalidate(&cache, &[ADA, BOB]).await.is_done());
    let void = RelationCache::finish_fill(&cache, ADA, running, sees(&[3])).await;
    assert_eq!((void, get().await), (Outcome::Done(false), None));
    assert_eq!(cache.usage().users, 0);
}

async fn read_body(cache: &EmbeddedCache, id: u64) -> BodyRead {
    cache.read(&[TweetId(id)]).await.unwrap().remove(0)
}

async fn body_token(cache: &EmbeddedCache, id: u64) -> Token {
    match read_body(cache, id).await {
        BodyRead::Miss(Some(token)) => token,
        other => panic!("{other:?}"),
    }
}

fn live(text: &'static str) -> CachedBody {
    CachedBody::Live(Bytes::from_static(text.as_bytes()))
}

#[tokio::test]
async fn one_reader_fills_a_body_and_the_others_do_not() {
    let cache = cache();
    let token = body_token(&cache, 7).await;
    assert_eq!(read_body(&cache, 7).await, BodyRead::Miss(None));
    let wrong = Token(token.0 ^ 1);
    assert!(cache.fill(&[(TweetId(7), wrong, live("wrong"))]).await.is_done());
    assert_eq!(read_body(&cache, 7).await, BodyRead::Miss(None));
    assert!(cache.fill(&[(TweetId(7), token, live("{}"))]).await.is_done());
    assert_eq!(read_body(&cache, 7).await, BodyRead::Hit(live("{}")));
    assert!(cache.fill(&[(TweetId(7), token, live("late"))]).await.is_done());
    assert_eq!(read_body(&cache, 7).await, BodyRead::Hit(live("{}")));
}

#[tokio::test]
async fn a_tombstone_voids_the_fill_that_runs_and_hides_what_was_there() {
    let cache = cache();
    let token = body_token(&cache, 7).await;
    assert!(cache.tombstone(&[TweetId(7), TweetId(8)]).await.is_done());
    assert!(cache.fill(&[(TweetId(7), token, live("{}"))]).await.is_done());
    for id in [7, 8] {
        assert_eq!(read_body(&cache, id).await, BodyRead::Hit(CachedBody::Deleted));
    }
    let token = body_token(&cache, 9).await;
    assert!(cache.fill(&[(TweetId(9), token, live("{}"))]).await.is_done());
    assert!(cache.tombstone(&[TweetId(9)]).await.is_done());
    assert_eq!(read_body(&cache, 9).await, BodyRead::Hit(CachedBody::Deleted));
}

#[tokio::test]
async fn a_fill_stays_void_when_the_tombstone_has_been_evicted() {
    let cache = cache_with(Limits { bodies_max: 32, ..Limits::default() });
    let token = body_token(&cache, 7).await;
    assert!(cache.tombstone(&[TweetId(7)]).await.is_done());
    for id in 1_000..3_000 {
        body_token(&cache, id).await;
    }
    assert!(cache.fill(&[(TweetId(7), token, live("{}"))]).await.is_done());
    assert!(matches!(read_body(&cache, 7).await, BodyRead::Miss(Some(_))));
}

#[tokio::test(start_paused = true)]
async fn a_fill_whose_reader_died_is_taken_over() {
    let cache = cache();
    let dead = body_token(&cache, 7).await;
    tokio::time::advance(Duration::from_secs(2)).await;
    let token = body_token(&cache, 7).await;
    assert!(cache.fill(&[(TweetId(7), dead, live("dead"))]).await.is_done());
    assert_eq!(read_body(&cache, 7).await, BodyRead::Miss(None));
    assert!(cache.fill(&[(TweetId(7), token, live("{}"))]).await.is_done());
    assert_eq!(read_body(&cache, 7).await, BodyRead::Hit(live("{}")));
}

/// About as long as what the others do, so that all orders occur.
async fn pause() {
    tokio::time::sleep(Duration::from_micros(100)).await;
}

/// Ada's timeline, what the store has, and what was acknowledged after its push.
struct Race {
    cache: EmbeddedCache,
    stored: Mutex<BTreeSet<u64>>,
    acknowledged: Mutex<BTreeSet<u64>>,
}

impl Race {
    async fn write(&self, id: u64) {
        self.stored.lock().unwrap().insert(id);
        pause().await;
        push(&self.cache, id, &[ADA]).await;
        self.acknowledged.lock().unwrap().insert(id);
    }

    async fn rebuild(&self) {
        if let Some(token) = begin(&self.cache, HOME).await {
            let read: Vec<u64> = self.stored.lock().unwrap().iter().copied().collect();
            pause().await;
            finish(&self.cache, HOME, token, &read, 0).await;
        }
    }

    async fn check(&self) {
        let before = self.acknowledged.lock().unwrap().clone();
        if let HomeRead::Hit(home) = self.cache.page(ADA, Window::Latest, 800).await.unwrap() {
            let shown: BTreeSet<u64> = ids(&home.slice).into_iter().collect();
            let lost: Vec<u64> = before.difference(&shown).copied().collect();
            assert!(lost.is_empty(), "{lost:?} had been acknowledged");
        }
    }
}

/// Writers store and push, readers fill and invalidate and look, all at once on real threads.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whatever_was_acknowledged_is_on_every_page_that_begins_later() {
    let race = Arc::new(Race {
        cache: ada_sees_odd_authors().await,
        stored: Mutex::default(),
        acknowledged: Mutex::default(),
    });
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..2 {
        let race = Arc::clone(&race);
        tasks.spawn(async move {
            for n in 0..300 {
                race.write(n * 20 + writer * 10 + 1).await;
            }
        });
    }
    for reader in 0..3 {
        let race = Arc::clone(&race);
        tasks.spawn(async move {
            for n in 0..300 {
                if n % 5 == reader {
                    assert!(TimelineCache::invalidate(&race.cache, &[HOME]).await.is_done());
                }
                race.rebuild().await;
                race.check().await;
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    assert_eq!(race.acknowledged.lock().unwrap().len(), 600);
}
