//! The merge against the slow and obvious way, over a store of two methods.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use futures_util::FutureExt;
use proptest::prelude::*;

use super::*;
use crate::{
    domain::{Body, PairChange, fanout::Class, relations::Relation},
    ports::{AuthorRow, FollowerPage, Outcome, StoredBody},
    wire::events::FollowerCursor,
};

#[derive(Default)]
struct Partitions {
    tweets: BTreeMap<UserId, Vec<u64>>,
    reads: AtomicUsize,
}

#[async_trait]
impl TimelineStore for Partitions {
    async fn author_tweets(
        &self,
        author: UserId,
        window: Window,
        limit: usize,
    ) -> Read<Vec<TweetId>> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let mut ids: Vec<TweetId> = self.tweets[&author]
            .iter()
            .map(|&id| TweetId(id))
            .filter(|&id| window.holds(id))
            .collect();
        ids.sort_unstable_by(|a, b| b.cmp(a));
        if matches!(window, Window::After(_)) {
            ids.drain(..ids.len().saturating_sub(limit));
        }
        ids.truncate(limit);
        Ok(ids)
    }

    async fn authors(&self, ids: &[UserId]) -> Read<Vec<AuthorRow>> {
        let latest = |id| self.tweets.get(id).and_then(|t| t.iter().max()).copied().unwrap_or(0);
        Ok(ids
            .iter()
            .map(|id| AuthorRow { class: Class::Push, latest: TweetId(latest(id)) })
            .collect())
    }

    async fn put_tweets(&self, _: &[Body]) -> Outcome<()> {
        unreachable!("the merge only reads")
    }
    async fn delete_tweets(&self, _: &[TweetId]) -> Outcome<()> {
        unreachable!("the merge only reads")
    }
    async fn bodies(&self, _: &[TweetId]) -> Read<Vec<Option<StoredBody>>> {
        unreachable!("the merge reads ids")
    }
    async fn set_class(&self, _: UserId, _: Class) -> Outcome<()> {
        unreachable!("the merge only reads")
    }
    async fn put_pairs(&self, _: &[PairChange]) -> Outcome<()> {
        unreachable!("the merge only reads")
    }
    async fn relations(&self, _: UserId, _: Option<UserId>, _: usize) -> Read<Vec<Relation>> {
        unreachable!("the merge is told its authors")
    }
    async fn followers(
        &self,
        _: UserId,
        _: (u16, u16),
        _: Option<FollowerCursor>,
        _: usize,
    ) -> Read<FollowerPage> {
        unreachable!("the merge is told its authors")
    }
}

fn run(
    store: &Partitions,
    authors: &[UserId],
    own: Option<(UserId, Own)>,
    window: Window,
    limit: usize,
) -> Found {
    read(store, authors, own, window, limit)
        .now_or_never()
        .expect("the store answers at once")
        .expect("the store has no faults")
}

proptest! {
    #[test]
    fn a_merge_is_the_union_without_a_gap(
        lists in prop::collection::vec(prop::collection::btree_set(1_u64..500, 0..90), 1..6),
        own in prop::collection::btree_set(1_u64..500, 0..90),
        own_read in 1_usize..60,
        bound in 0_u64..510,
        kind in 0..3,
        limit in 1_usize..70,
    ) {
        let window = match kind {
            0 => Window::Latest,
            1 => Window::Before(TweetId(bound)),
            _ => Window::After(TweetId(bound)),
        };
        // Ids are unique over authors: the remainder by 8 tells whose they are.
        let unique = |ids: &std::collections::BTreeSet<u64>, at: usize| -> Vec<u64> {
            ids.iter().map(|id| id * 8 + at as u64).collect()
        };
        let window = match window {
            Window::Latest => window,
            Window::Before(b) => Window::Before(TweetId(b.0 * 8)),
            Window::After(b) => Window::After(TweetId(b.0 * 8)),
        };
        let mut store = Partitions::default();
        for (at, ids) in lists.iter().enumerate() {
            store.tweets.insert(UserId(at as u64), unique(ids, at));
        }
        let authors: Vec<UserId> = store.tweets.keys().copied().collect();
        let me = UserId(7);
        let mine = unique(&own, 7);
        let mut inside: Vec<TweetId> =
            mine.iter().rev().map(|&id| TweetId(id)).filter(|&id| window.holds(id)).collect();
        let exhausted = inside.len() <= own_read;
        if kind == 2 {
            inside.drain(..inside.len().saturating_sub(own_read));
        } else {
            inside.truncate(own_read);
        }
        let found = run(&store, &authors, Some((me, Own { ids: inside, exhausted })), window, limit);

        let mut all: Vec<u64> = store.tweets.values().flatten().copied().chain(mine)
            .filter(|&id| window.holds(TweetId(id))).collect();
        all.sort_unstable_by(|a, b| b.cmp(a));
        let got: Vec<u64> = found.entries.iter().map(|e| e.tweet.0).collect();
        prop_assert!(got.len() <= limit);
        let expected = if kind == 2 {
            &all[all.len() - got.len()..]
        } else {
            &all[..got.len()]
        };
        prop_assert_eq!(&got[..], expected);
        prop_assert!(found.entries.iter().all(|e| e.author.0 == e.tweet.0 % 8));
        if found.more {
            prop_assert!(!got.is_empty());
        } else {
            prop_assert_eq!(got.len(), all.len());
        }
    }
}

#[test]
fn only_partitions_that_matter_are_read() {
    let mut store = Partitions::default();
    for author in 0..2_000_u64 {
        store.tweets.insert(UserId(author), (0..5).map(|n| author * 1_000 + n + 1).collect());
    }
    let authors: Vec<UserId> = store.tweets.keys().copied().collect();
    let found = run(&store, &authors, None, Window::Latest, 20);
    assert_eq!(found.entries.len(), 20);
    assert!(found.more);
    let reads = store.reads.load(Ordering::Relaxed);
    assert!(reads <= 6, "{reads} partitions were read for four authors' tweets");
}
