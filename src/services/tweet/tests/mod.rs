//! Scenarios of the tweet role; those about pictures are in [`pictures`].

mod pictures;

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::broadcast;

use self::pictures::Album;
use super::Deps;
use crate::{
    domain::{Body, TweetId, UserId, Window},
    ports::{
        BlobStore, Bus, Created, Deleted, Hint, HintStream, Hints, MediaStore, NewTweet, Outbox,
        Outcome, Read, TweetStore,
    },
    services::kit::fakes::{
        Answer, Applier, Issuer, MemBus, MemOutbox, Plan, Replica, TOKEN, World, Wrong,
    },
    wire::{
        events::{Event, Fact},
        routes::Role,
        trace::TraceContext,
    },
};

/// What a key stands for: the hash of a body, and the tweet it made.
type Keyed = ([u8; 32], TweetId);

/// Tweets in memory.
#[derive(Default)]
struct Mem {
    tweets: Mutex<BTreeMap<TweetId, (Body, bool)>>,
    keys: Mutex<BTreeMap<(UserId, String), Keyed>>,
    ids_taken: Mutex<u32>,
    uploads: pictures::Table,
    plan: Plan,
    outbox: Arc<MemOutbox>,
}

#[async_trait]
impl TweetStore for Mem {
    async fn create(&self, new: &NewTweet) -> Outcome<Created> {
        let mut ids_taken = self.ids_taken.lock();
        if *ids_taken > 0 {
            *ids_taken -= 1;
            return Outcome::Done(Created::IdTaken);
        }
        self.plan.write(|| {
            let mut tweets = self.tweets.lock();
            let key = new.key.as_ref().map(|key| ((new.body.author, key.key.clone()), key));
            if let Some((name, key)) = &key
                && let Some((hash, id)) = self.keys.lock().get(name)
            {
                let same = *hash == key.body_hash;
                return if same {
                    Created::Replay(tweets[id].0.clone())
                } else {
                    Created::KeyReused
                };
            }
            let mut body = new.body.clone();
            body.media = match self.uploads.take(new) {
                Ok(media) => media,
                Err((id, why)) => return Created::Unfit(id, why),
            };
            if let Some((name, key)) = key {
                self.keys.lock().insert(name, (key.body_hash, new.body.id));
            }
            tweets.insert(body.id, (body.clone(), false));
            self.outbox.add(Event::tweet_created(&body, new.trace.clone()).encode());
            Created::Fresh(body)
        })
    }

    async fn delete(
        &self,
        author: UserId,
        id: TweetId,
        now_ms: u64,
        trace: Option<TraceContext>,
    ) -> Outcome<Deleted> {
        self.plan.write(|| {
            let mut tweets = self.tweets.lock();
            let Some((body, deleted)) = tweets.get_mut(&id) else { return Deleted::Missing };
            if body.author != author {
                return Deleted::NotOwner;
            }
            let fresh = !std::mem::replace(deleted, true);
            if fresh {
                let fact = Fact::TweetDeleted { id, author };
                self.outbox.add(Event { at_ms: now_ms, trace, fact }.encode());
            }
            Deleted::Gone { fresh }
        })
    }

    async fn by_author(&self, author: UserId, window: Window, limit: usize) -> Read<Vec<Body>> {
        let tweets = self.tweets.lock();
        let live = tweets.values().filter(|(body, deleted)| body.author == author && !deleted);
        let mut bodies: Vec<_> =
            live.map(|(body, _)| body.clone()).filter(|body| window.holds(body.id)).collect();
        if let Window::After(_) = window {
            bodies.truncate(limit);
        }
        bodies.reverse();
        bodies.truncate(limit);
        Ok(bodies)
    }
}

struct Waves(broadcast::Sender<Hint>);

struct Wave(broadcast::Receiver<Hint>);

#[async_trait]
impl HintStream for Wave {
    async fn next(&mut self) -> Option<Hint> {
        self.0.recv().await.ok()
    }
}

#[async_trait]
impl Hints for Waves {
    async fn notify(&self, hints: &[Hint]) {
        for hint in hints {
            drop(self.0.send(*hint));
        }
    }

    async fn subscribe(&self, _user: UserId) -> Box<dyn HintStream> {
        Box::new(Wave(self.0.subscribe()))
    }

    fn wanted(&self) -> bool {
        self.0.receiver_count() > 0
    }
}

struct Tweets {
    world: World,
    mem: Arc<Mem>,
    album: Arc<Album>,
    bus: Arc<MemBus>,
    hints: Arc<Waves>,
    applier: Arc<Applier>,
    issuer: Issuer,
    replica: Arc<Replica>,
}

impl Tweets {
    async fn start() -> Self {
        Self::start_in(World::new()).await
    }

    async fn start_in(world: World) -> Self {
        let (mem, bus): (Arc<Mem>, Arc<MemBus>) = Default::default();
        let album = Arc::<Album>::default();
        let hints = Arc::new(Waves(broadcast::Sender::new(64)));
        let (applier, issuer) = (Applier::start(&world.net), Issuer::start(&world));
        let deps = Deps {
            tweets: Arc::clone(&mem) as Arc<dyn TweetStore>,
            media: Arc::clone(&mem) as Arc<dyn MediaStore>,
            blobs: Arc::clone(&album) as Arc<dyn BlobStore>,
            outbox: Arc::clone(&mem.outbox) as Arc<dyn Outbox>,
            bus: Arc::clone(&bus) as Arc<dyn Bus>,
            hints: Arc::clone(&hints) as Arc<dyn Hints>,
        };
        let replica = world.start(super::build(world.common(Role::Tweet), deps)).await;
        Self { world, mem, album, bus, hints, applier, issuer, replica }
    }

    /// Posts as user 1.
    async fn post(&self, text: &str, headers: &[(&str, &str)]) -> Answer {
        let bearer = format!("Bearer {}", self.issuer.token(1));
        let mut all = vec![("authorization", bearer.as_str())];
        all.extend_from_slice(headers);
        self.replica.ask("POST /tweets", &all, &json!({"text": text}).to_string()).await
    }

    async fn delete(&self, user: u64, id: &str) -> Answer {
        let token = self.issuer.token(user);
        self.replica.ask_as(&token, &format!("DELETE /tweets/{id}"), "").await
    }
}

fn id(answer: &Answer) -> String {
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.json["id"].as_str().unwrap().to_owned()
}

#[tokio::test(start_paused = true)]
async fn a_post_is_safe_shown_to_its_author_and_told_to_the_bus() {
    let tweets = Tweets::start().await;
    *tweets.mem.ids_taken.lock() = 2;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let answer = tweets.post("<b>hi</b>", &[("traceparent", trace)]).await;
    let id = id(&answer);
    assert_eq!(answer.json["text"], "<b>hi</b>");
    assert_eq!(answer.json["author"]["handle"], "user1");
    assert_eq!(answer.json.get("degraded"), None);
    assert_eq!(answer.header("idempotency-replayed"), None);
    let applied = tweets.applier.applied.lock().clone();
    assert!(applied[0].contains(&id) && applied[0].contains("0af7651916cd43dd8448eb211c80319c"));
    tweets.world.rt.sleep(Duration::from_millis(5)).await;
    assert_eq!(tweets.bus.ids(), [id.parse::<u64>().unwrap()], "the relay was woken");
}

#[tokio::test(start_paused = true)]
async fn a_post_succeeds_while_the_timeline_role_is_down_and_says_so() {
    let tweets = Tweets::start().await;
    tweets.applier.broken.store(true, Ordering::Relaxed);
    let before = tweets.world.rt.now();
    let answer = tweets.post("hi", &[]).await;
    assert_eq!((answer.status, &answer.json["degraded"]), (201, &json!(true)));
    let took = tweets.world.rt.now().since(before);
    assert!(took <= Duration::from_millis(1_050), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn the_same_key_gives_the_same_answer_and_one_tweet() {
    let tweets = Tweets::start().await;
    let key = [("idempotency-key", "k-1")];
    let first = tweets.post("hi", &key).await;
    let second = tweets.post("hi", &key).await;
    assert_eq!((first.status, &first.text), (201, &second.text));
    assert_eq!(first.header("idempotency-replayed"), None);
    assert_eq!(second.header("idempotency-replayed"), Some("true"));
    let other = tweets.post("other", &key).await;
    assert_eq!((other.status, other.code()), (422, "idempotency-key-reused"));
    assert_eq!(tweets.mem.tweets.lock().len(), 1);
    assert_eq!(tweets.post("hi", &[("idempotency-key", "")]).await.status, 422);
}

#[tokio::test(start_paused = true)]
async fn a_post_of_unknown_fate_is_repeated_only_under_a_key() {
    let tweets = Tweets::start().await;
    tweets.mem.plan.next([Some(Wrong::Applied)]);
    let keyed = tweets.post("one", &[("idempotency-key", "k")]).await;
    assert_eq!(keyed.status, 201);
    assert_eq!(keyed.header("idempotency-replayed"), None, "the client asked once");
    // Whatever is known of the second attempt, the first may have happened.
    for second in [Wrong::Lost, Wrong::Failed] {
        tweets.mem.plan.next([Some(Wrong::Applied), Some(second)]);
        let lost = tweets.post("two", &[("idempotency-key", "l")]).await;
        assert_eq!((lost.status, lost.code()), (503, "unknown-outcome"), "{second:?}");
    }
    assert_eq!(tweets.post("two", &[("idempotency-key", "l")]).await.status, 201);
    tweets.mem.plan.next([Some(Wrong::Applied)]);
    let bare = tweets.post("three", &[]).await;
    assert_eq!((bare.status, bare.code()), (503, "unknown-outcome"));
    assert_eq!(tweets.mem.tweets.lock().len(), 3, "nothing was posted twice");
    tweets.mem.plan.next([Some(Wrong::Failed)]);
    let failed = tweets.post("four", &[]).await;
    assert_eq!((failed.status, failed.code()), (503, "unavailable"));
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_when_every_part_of_the_tweet_is_projected() {
    let tweets = Arc::new(Tweets::start().await);
    let projector = tokio::spawn({
        let tweets = Arc::clone(&tweets);
        async move {
            while tweets.mem.tweets.lock().is_empty() {
                tweets.world.rt.sleep(Duration::from_millis(1)).await;
            }
            let tweet = *tweets.mem.tweets.lock().keys().next().unwrap();
            let author = UserId(1);
            for (tweet, part) in [(TweetId(5), 1), (tweet, 0), (tweet, 0), (tweet, 1)] {
                tweets.world.rt.sleep(Duration::from_millis(300)).await;
                tweets.hints.notify(&[Hint::Projected { author, tweet, part, parts: 2 }]).await;
            }
        }
    });
    let before = tweets.world.rt.now();
    let answer = tweets.post("hi", &[("prefer", "wait=3")]).await;
    assert_eq!(answer.header("preference-applied"), Some("wait=3"));
    assert_eq!(tweets.world.rt.now().since(before).as_millis() / 100, 12);
    projector.await.unwrap();
    let before = tweets.world.rt.now();
    let plain = tweets.post("nobody projects this", &[("prefer", "wait=3")]).await;
    assert_eq!((plain.status, plain.header("preference-applied")), (201, None));
    assert_eq!(tweets.world.rt.now().since(before).as_secs(), 3);
    let plain = tweets.post("nobody projects this", &[("prefer", "wait=30")]).await;
    assert_eq!(plain.status, 201, "a long wait ends before the gateway gives up");
}

#[tokio::test(start_paused = true)]
async fn a_delete_is_answered_204_only_once_it_is_hidden() {
    let tweets = Tweets::start().await;
    let id = id(&tweets.post("hi", &[]).await);
    tweets.applier.applied.lock().clear();
    let other = tweets.delete(2, &id).await;
    assert_eq!((other.status, other.code()), (403, "not-owner"));
    for missing in ["7", "x", "-1", "99999999999999999999"] {
        assert_eq!(tweets.delete(1, missing).await.status, 404, "{missing}");
    }
    assert!(tweets.applier.applied.lock().is_empty());
    tweets.applier.broken.store(true, Ordering::Relaxed);
    let pending = tweets.delete(1, &id).await;
    assert_eq!((pending.status, &pending.json), (202, &json!({"pending": true})));
    tweets.applier.broken.store(false, Ordering::Relaxed);
    assert_eq!(tweets.delete(1, &id).await.status, 204);
    assert_eq!(tweets.delete(1, &id).await.status, 204, "it is idempotent");
    assert!(tweets.applier.applied.lock()[0].contains("tweet_deleted"));
    for second in [Wrong::Lost, Wrong::Failed] {
        tweets.mem.plan.next([Some(Wrong::Applied), Some(second)]);
        assert_eq!(tweets.delete(1, &id).await.code(), "unknown-outcome", "{second:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn bad_texts_and_bodies_are_refused() {
    let tweets = Tweets::start().await;
    for text in ["", "  ", &"x".repeat(281), "a\u{0}b"] {
        let answer = tweets.post(text, &[]).await;
        assert_eq!((answer.status, &answer.json["field"]), (422, &json!("text")), "{text:?}");
    }
    assert!(tweets.mem.tweets.lock().is_empty());
    let bare = tweets.replica.ask("POST /tweets", &[], r#"{"text":"hi"}"#).await;
    assert_eq!(bare.status, 401);
    assert_eq!(tweets.replica.ask("DELETE /tweets/1", &[], "").await.status, 401);
}

#[tokio::test(start_paused = true)]
async fn an_authors_tweets_are_read_in_pages_both_ways() {
    let tweets = Tweets::start().await;
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(id(&tweets.post(&n.to_string(), &[]).await));
    }
    tweets.delete(1, &ids[1]).await;
    ids.remove(1);
    let page = async |query: &str| {
        let line = format!("GET /internal/authors/1/tweets?{query}");
        let token = [("x-chirp-service-token", TOKEN)];
        let answer = tweets.replica.ask_internal(&line, &token, "").await;
        let list = answer.json["tweets"].as_array().cloned().unwrap_or_default();
        let got: Vec<_> = list.iter().map(|t| t["id"].as_str().unwrap().to_owned()).collect();
        (answer.status, got, answer.json["exhausted"].as_bool().unwrap_or_default())
    };
    let at = |n: &[usize]| n.iter().map(|&n| ids[n].clone()).collect::<Vec<_>>();
    assert_eq!(page("limit=3").await, (200, at(&[3, 2, 1]), false));
    assert_eq!(page(&format!("limit=3&before={}", ids[1])).await, (200, at(&[0]), true));
    assert_eq!(page(&format!("limit=2&after={}", ids[0])).await, (200, at(&[2, 1]), false));
    assert_eq!(page(&format!("limit=2&after={}", ids[2])).await, (200, at(&[3]), true));
    assert_eq!(page("").await, (200, at(&[3, 2, 1, 0]), true));
    for bad in ["limit=0", "limit=201", "before=1&after=2", "since=1"] {
        assert_eq!(page(bad).await.0, 422, "{bad}");
    }
}
