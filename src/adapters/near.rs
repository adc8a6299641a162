//! A near-cache in front of a body cache: one per replica.
//!
//! **A body is shown at most `ttl` after [`BodyCache::tombstone`] returned done, on whatever
//! replica.** What is kept came out of a read of the shared cache, and expires `ttl` after the
//! moment *before* that read was asked. The shared cache gives no body in a read that begins after
//! the tombstone is done, so that moment is not later than the tombstone; neither, then, is the
//! expiry later than the tombstone plus `ttl`. Whoever must hide a body from everybody writes the
//! tombstone, waits `ttl`, and answers.
//!
//! For the same reason a **fill keeps nothing near**: its outcome does not tell which tokens still
//! stood, and a body whose token was voided by a tombstone must not come back. The next read
//! brings it. Tombstones are kept until they make room, as a deletion is never undone.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;

use super::clock_map::Shards;
use crate::{
    domain::{Token, TweetId},
    ports::{BodyCache, BodyRead, CachedBody, Outcome, Read},
    rt::{Instant, Rt},
};

/// Bodies that this replica read a moment ago.
pub struct NearBodies {
    shared: Arc<dyn BodyCache>,
    rt: Rt,
    ttl: Duration,
    near: Shards<Near>,
}

enum Near {
    Live { body: Bytes, until: Instant },
    Deleted,
}

impl Near {
    fn is_stale(&self, now: Instant) -> bool {
        matches!(self, Self::Live { until, .. } if *until <= now)
    }
}

impl NearBodies {
    /// Keeps bodies of `shared` for `ttl` (`timeline.near_ttl_ms`; zero keeps none), about
    /// `bodies_max` of them (`timeline.near_bodies_max`).
    #[must_use]
    pub fn new(shared: Arc<dyn BodyCache>, rt: Rt, ttl: Duration, bodies_max: usize) -> Self {
        Self { shared, rt, ttl, near: Shards::new(bodies_max) }
    }

    fn find(&self, id: TweetId, now: Instant) -> Option<CachedBody> {
        match self.near.lock(id.0).get(id.0)? {
            Near::Live { body, until } if *until > now => Some(CachedBody::Live(body.clone())),
            Near::Live { .. } => None,
            Near::Deleted => Some(CachedBody::Deleted),
        }
    }

    /// Keeps what a read that was asked at `asked` brought.
    fn keep(&self, id: TweetId, body: &CachedBody, asked: Instant) {
        let mut shard = self.near.lock(id.0);
        let near = match (body, shard.peek(id.0)) {
            (CachedBody::Deleted, _) => Near::Deleted,
            // A tombstone came while the read was on its way.
            (CachedBody::Live(_), Some(Near::Deleted)) => return,
            (CachedBody::Live(body), _) => {
                Near::Live { body: body.clone(), until: asked.plus(self.ttl) }
            }
        };
        shard.insert(id.0, near, |kept| kept.is_stale(asked));
    }
}

#[async_trait]
impl BodyCache for NearBodies {
    async fn read(&self, ids: &[TweetId]) -> Read<Vec<BodyRead>> {
        let asked = self.rt.now();
        let mut reads = Vec::with_capacity(ids.len());
        let mut missing = Vec::new();
        for (at, &id) in ids.iter().enumerate() {
            let near = self.find(id, asked);
            if near.is_none() {
                missing.push((at, id));
            }
            reads.push(near.map_or(BodyRead::Miss(None), BodyRead::Hit));
        }
        if missing.is_empty() {
            return Ok(reads);
        }
        let asked_for: Vec<TweetId> = missing.iter().map(|&(_, id)| id).collect();
        let brought = self.shared.read(&asked_for).await?;
        for ((at, id), read) in missing.into_iter().zip(brought) {
            if let BodyRead::Hit(body) = &read {
                self.keep(id, body, asked);
            }
            reads[at] = read;
        }
        Ok(reads)
    }

    async fn fill(&self, bodies: &[(TweetId, Token, CachedBody)]) -> Outcome<()> {
        self.shared.fill(bodies).await
    }

    async fn tombstone(&self, ids: &[TweetId]) -> Outcome<()> {
        let now = self.rt.now();
        // Whatever becomes of the shared tombstone: a tweet for which one is asked is deleted.
        for id in ids {
            self.near.lock(id.0).insert(id.0, Near::Deleted, |kept| kept.is_stale(now));
        }
        self.shared.tombstone(ids).await
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;
    use crate::{
        adapters::embedded::cache::{EmbeddedCache, Limits},
        rt::tokio_rt::TokioRuntime,
    };

    const TTL: Duration = Duration::from_millis(250);
    const TWEET: TweetId = TweetId(7);

    /// A shared cache that answers `delay` after it has looked, and counts its reads.
    struct Shared {
        cache: EmbeddedCache,
        rt: Rt,
        delay: Duration,
        reads: Mutex<usize>,
    }

    #[async_trait]
    impl BodyCache for Shared {
        async fn read(&self, ids: &[TweetId]) -> Read<Vec<BodyRead>> {
            *self.reads.lock() += 1;
            let answer = self.cache.read(ids).await;
            self.rt.sleep(self.delay).await;
            answer
        }

        async fn fill(&self, bodies: &[(TweetId, Token, CachedBody)]) -> Outcome<()> {
            self.cache.fill(bodies).await
        }

        async fn tombstone(&self, ids: &[TweetId]) -> Outcome<()> {
            self.cache.tombstone(ids).await
        }
    }

    struct World {
        shared: Arc<Shared>,
        here: Arc<NearBodies>,
        there: NearBodies,
    }

    /// Two replicas before one shared cache, which holds the body of [`TWEET`].
    async fn world(delay_ms: u64) -> World {
        let rt = TokioRuntime::handle();
        let cache = EmbeddedCache::new(rt.clone(), Limits::default());
        let BodyRead::Miss(Some(token)) = cache.read(&[TWEET]).await.unwrap().remove(0) else {
            panic!("nothing is there yet");
        };
        assert!(cache.fill(&[(TWEET, token, live())]).await.is_done());
        let delay = Duration::from_millis(delay_ms);
        let shared = Arc::new(Shared { cache, rt: rt.clone(), delay, reads: Mutex::default() });
        let near = || NearBodies::new(Arc::clone(&shared) as Arc<_>, rt.clone(), TTL, 1_000);
        World { here: Arc::new(near()), there: near(), shared }
    }

    fn live() -> CachedBody {
        CachedBody::Live(Bytes::from_static(b"{}"))
    }

    async fn read(near: &NearBodies) -> BodyRead {
        near.read(&[TWEET]).await.unwrap().remove(0)
    }

    async fn pass(ms: u64) {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_is_read_from_afar_once_per_ttl() {
        let world = world(0).await;
        for _ in 0..5 {
            assert_eq!(read(&world.here).await, BodyRead::Hit(live()));
            pass(50).await;
        }
        assert_eq!(*world.shared.reads.lock(), 1);
        read(&world.here).await;
        assert_eq!(*world.shared.reads.lock(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn no_replica_shows_a_body_longer_than_the_ttl_after_the_tombstone() {
        let world = world(0).await;
        assert_eq!(read(&world.here).await, BodyRead::Hit(live()));
        assert!(world.there.tombstone(&[TWEET]).await.is_done());
        assert_eq!(
            read(&world.there).await,
            BodyRead::Hit(CachedBody::Deleted),
            "its own, at once"
        );
        pass(250).await;
        assert_eq!(read(&world.here).await, BodyRead::Hit(CachedBody::Deleted));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_answer_does_not_lengthen_the_life_of_what_it_brings() {
        let world = world(200).await;
        let here = Arc::clone(&world.here);
        let slow = tokio::spawn(async move { read(&here).await });
        pass(10).await;
        assert!(world.there.tombstone(&[TWEET]).await.is_done());
        assert_eq!(slow.await.unwrap(), BodyRead::Hit(live()), "it was looked up before");
        pass(60).await;
        // 270 ms in, 260 ms after the tombstone.
        assert_eq!(read(&world.here).await, BodyRead::Hit(CachedBody::Deleted));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_answer_does_not_undo_a_tombstone_that_came_meanwhile() {
        let world = world(100).await;
        let here = Arc::clone(&world.here);
        let slow = tokio::spawn(async move { read(&here).await });
        pass(10).await;
        assert!(world.here.tombstone(&[TWEET]).await.is_done());
        slow.await.unwrap();
        assert_eq!(read(&world.here).await, BodyRead::Hit(CachedBody::Deleted));
    }

    #[tokio::test(start_paused = true)]
    async fn a_fill_keeps_nothing_near() {
        let world = world(0).await;
        let other = TweetId(8);
        let BodyRead::Miss(Some(token)) = world.here.read(&[other]).await.unwrap().remove(0) else {
            panic!("nothing is there yet");
        };
        assert!(world.there.tombstone(&[other]).await.is_done());
        assert!(world.here.fill(&[(other, token, live())]).await.is_done());
        let read = world.here.read(&[other]).await.unwrap();
        assert_eq!(read, [BodyRead::Hit(CachedBody::Deleted)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_page_that_is_near_in_parts_comes_in_the_order_asked_for() {
        let world = world(0).await;
        read(&world.here).await;
        assert!(world.there.tombstone(&[TweetId(9)]).await.is_done());
        let page = world.here.read(&[TweetId(9), TWEET, TweetId(8)]).await.unwrap();
        assert_eq!(page[..2], [BodyRead::Hit(CachedBody::Deleted), BodyRead::Hit(live())]);
        assert!(matches!(page[2], BodyRead::Miss(Some(_))));
    }
}
