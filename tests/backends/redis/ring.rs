//! A list that scripts wrote is the list that `domain::Ring` would have made.

use std::sync::Arc;

use chirp::{
    domain::{Entry, Relations, Ring, TweetId, UserId, Window},
    ports::{HomeRead, ListKey, Outcome, Push, RelationCache, TimelineCache},
};
use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, TestRunner},
};

use super::{Caches, Raw, Server, home};

/// Random lists; each is some hundred calls.
const CASES: u32 = 40;

#[derive(Clone, Debug)]
enum Step {
    Push(u64),
    Backfill(Vec<u64>, u64),
    Restart,
    Finish(Vec<u64>, u64),
}

fn step() -> impl Strategy<Value = Step> {
    let id = || 1_u64..500;
    // Ids beyond 2^53 are there to find a script that takes them for numbers.
    let far = |id: u64| if id.is_multiple_of(3) { id + (1 << 60) } else { id };
    let ids = move |max| vec(id().prop_map(far), 0..max);
    prop_oneof![
        12 => id().prop_map(move |id| Step::Push(far(id))),
        2 => (ids(40), 0_u64..200).prop_map(|(ids, above)| Step::Backfill(ids, above)),
        1 => Just(Step::Restart),
        1 => (ids(150), 0_u64..100).prop_map(|(ids, floor)| Step::Finish(ids, floor)),
    ]
}

fn entry(id: u64) -> Entry {
    Entry { tweet: TweetId(id), author: UserId(id % 7) }
}

fn entries(ids: &[u64]) -> Vec<Entry> {
    ids.iter().copied().map(entry).collect()
}

/// The list in the server, and the one that it has to equal.
struct Pair {
    cache: Caches,
    raw: Raw,
    ring: Ring,
    limit: usize,
}

const KEY: ListKey = ListKey::Home(UserId(1));

impl Pair {
    async fn take(&mut self, step: &Step) {
        let cache = &self.cache.cache;
        match step {
            Step::Push(id) => {
                let push = Push { entry: entry(*id), homes: &[UserId(1)], author_list: false };
                let report = cache.push(&[push]).await.certain().unwrap();
                let added = self.ring.push(entry(*id)) == chirp::domain::ring::Pushed::Added;
                assert_eq!((report.delivered, report.absent), (u64::from(added), 0), "{step:?}");
            }
            Step::Backfill(ids, above) => {
                let found = cache.push_many(KEY, &entries(ids), TweetId(*above)).await;
                let reaches = self.ring.floor() >= TweetId(*above);
                assert_eq!(found.certain().unwrap().is_some(), reaches, "{step:?}");
                for id in ids.iter().filter(|_| reaches) {
                    self.ring.push(entry(*id));
                }
            }
            Step::Restart => {
                let token = self.cache.begin(KEY).await;
                assert_eq!(token.is_none(), self.ring.is_ready());
                if let Some(token) = token {
                    self.ring.restart_fill(token);
                }
            }
            Step::Finish(ids, floor) => {
                let (token, floor) = (self.ring.token(), TweetId(*floor));
                let cache: &dyn TimelineCache = &**cache;
                let stored = cache.finish_fill(KEY, token, &entries(ids), floor).await;
                assert_eq!(stored, Outcome::Done(!self.ring.is_ready()));
                if !self.ring.is_ready() {
                    self.ring.finish_fill(&entries(ids), floor);
                }
            }
        }
    }

    async fn compare(&mut self) {
        let get = format!("GET {}:tl:{{1}}", self.cache.namespace);
        let bytes: Vec<u8> = self.raw.run(&get).await;
        let found = Ring::from_bytes(bytes, self.limit).unwrap();
        let all = |ring: &Ring| ring.slice(Window::Latest, 1_000, |_| true);
        let size = |ring: &Ring| ring.as_bytes().len();
        assert_eq!(all(&found), all(&self.ring));
        assert_eq!((found.is_ready(), size(&found)), (self.ring.is_ready(), size(&self.ring)));
        assert_eq!(found.token(), self.ring.token());
        if !self.ring.is_ready() {
            return;
        }
        let seen = |entry: Entry| entry.author.0 % 2 == 1;
        for bound in [0, 1, 250, 1 << 60, (1 << 60) + 250, u64::MAX] {
            for window in
                [Window::Latest, Window::Before(TweetId(bound)), Window::After(TweetId(bound))]
            {
                let page = self.cache.cache.page(UserId(1), window, 7).await.unwrap();
                let HomeRead::Hit(page) = page else { panic!("{page:?}") };
                assert_eq!(page.slice, self.ring.slice(window, 7, seen), "{window:?}");
            }
        }
    }
}

async fn play(server: &Server, raw: Raw, limit: usize, steps: &[Step]) {
    let cache = Caches::with(&server.config(), limit);
    let visible = [1, 3, 5].into_iter().map(UserId).collect();
    let relations = Relations { visible, ..Relations::default() };
    let of = RelationCache::begin_fill(&*cache.cache, UserId(1)).await.certain().unwrap();
    let relate: &dyn RelationCache = &*cache.cache;
    let stored = relate.finish_fill(UserId(1), of, Arc::new(relations)).await;
    assert_eq!(stored, Outcome::Done(true));
    let token = cache.begin(home(1)).await.unwrap();
    let ring = Ring::filling(token, limit);
    let mut pair = Pair { cache, raw, ring, limit };
    for (at, step) in steps.iter().enumerate() {
        pair.take(step).await;
        if at % 16 == 0 {
            pair.compare().await;
        }
    }
    pair.compare().await;
}

pub async fn a_list_in_redis_is_the_ring_of_the_domain(server: Server) {
    let raw = server.raw(server.ports[0]).await;
    let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
    let runtime = tokio::runtime::Handle::current();
    let cases = (1_usize..200, vec(step(), 0..200));
    tokio::task::block_in_place(|| {
        TestRunner::new(config).run(&cases, |(limit, steps)| {
            runtime.block_on(play(&server, raw.clone(), limit, &steps));
            Ok(())
        })
    })
    .unwrap();
}
