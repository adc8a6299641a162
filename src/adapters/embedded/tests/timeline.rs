use super::{body, fixture};
use crate::{
    domain::{
        Pair, PairChange, PairState, TweetId, UserId, Window,
        edge::Side,
        fanout::{BUCKETS, Class, bucket_of},
        relations::Relation,
    },
    ports::{StoredBody, TimelineStore, timeline_store::IDS_MAX},
    wire::events::FollowerCursor,
};

const ALL: (u16, u16) = (0, BUCKETS);

/// The pair in which `follower` follows `author`, or does not any more.
fn pair(follower: u64, author: u64, version: u64, follows: bool) -> PairChange {
    let pair = Pair::new(UserId(follower), UserId(author)).unwrap();
    let side = Side { follows, ..Side::default() };
    let mut state = PairState::default();
    if pair.low == UserId(follower) {
        state.low = side;
    } else {
        state.high = side;
    }
    PairChange { pair, version, state }
}

async fn followers(store: &dyn TimelineStore, author: u64) -> Vec<u64> {
    let page = store.followers(UserId(author), ALL, None, 1_000).await.unwrap();
    assert_eq!(page.next, None);
    let mut ids: Vec<u64> = page.followers.iter().map(|id| id.0).collect();
    ids.sort_unstable();
    ids
}

#[tokio::test]
async fn a_deletion_stands_whichever_comes_first() {
    let f = fixture();
    let store = &*f.stores.timeline.store;
    let ids = [TweetId(7), TweetId(8), TweetId(9)];
    assert!(store.delete_tweets(&ids[..1]).await.is_done());
    assert!(store.put_tweets(&[body(7, 1), body(8, 1)]).await.is_done());
    assert!(store.delete_tweets(&ids[1..2]).await.is_done());
    assert!(store.put_tweets(&[body(8, 1), body(7, 1)]).await.is_done());
    let deleted = Some(StoredBody::Deleted);
    assert_eq!(store.bodies(&ids).await.unwrap(), [deleted.clone(), deleted, None]);
    let listed = store.author_tweets(UserId(1), Window::Latest, 9).await.unwrap();
    assert_eq!(listed, [TweetId(8), TweetId(7)], "deleted ones included");
}

#[tokio::test]
async fn an_authors_row_only_moves_up() {
    let f = fixture();
    let store = &*f.stores.timeline.store;
    assert!(store.put_tweets(&[body(9, 1)]).await.is_done());
    assert!(store.put_tweets(&[body(4, 1), body(5, 2)]).await.is_done());
    for (set, is) in [
        (Class::Both, Class::Both),
        (Class::Push, Class::Both),
        (Class::Pull, Class::Pull),
        (Class::Both, Class::Pull),
        (Class::Push, Class::Pull),
    ] {
        assert!(store.set_class(UserId(1), set).await.is_done());
        assert_eq!(store.authors(&[UserId(1)]).await.unwrap()[0].class, is);
    }
    assert!(store.set_class(UserId(3), Class::Pull).await.is_done());
    let rows = store.authors(&[UserId(2), UserId(1), UserId(3), UserId(4)]).await.unwrap();
    let latest: Vec<u64> = rows.iter().map(|row| row.latest.0).collect();
    assert_eq!(latest, [5, 9, 0, 0]);
    assert_eq!((rows[2].class, rows[3].class), (Class::Pull, Class::Push));
    assert!(store.authors(&vec![UserId(1); IDS_MAX + 1]).await.is_err());
}

#[tokio::test]
async fn author_tweets_give_the_nearest_of_a_window_newest_first() {
    let f = fixture();
    let store = &*f.stores.timeline.store;
    let bodies: Vec<_> = (1..=6).map(|id| body(id, 1)).collect();
    assert!(store.put_tweets(&bodies).await.is_done());
    let page = async |window, limit| -> Vec<u64> {
        let page = store.author_tweets(UserId(1), window, limit).await.unwrap();
        page.iter().map(|id| id.0).collect()
    };
    assert_eq!(page(Window::Latest, 2).await, [6, 5]);
    assert_eq!(page(Window::Before(TweetId(4)), 2).await, [3, 2]);
    assert_eq!(page(Window::After(TweetId(2)), 2).await, [4, 3]);
    assert_eq!(page(Window::Before(TweetId(u64::MAX)), 1).await, [6]);
}

#[tokio::test]
async fn the_highest_version_of_a_pair_counts_in_any_order() {
    let f = fixture();
    let store = &*f.stores.timeline.store;
    // 5 follows 1 up to version 3 and not at 4; 6 the other way round.
    let facts = [
        pair(5, 1, 4, false),
        pair(5, 1, 3, true),
        pair(6, 1, 8, true),
        pair(6, 1, 7, false),
        pair(7, 1, 1, true),
        pair(7, 1, 2, false),
        pair(7, 1, 3, true),
        pair(1, 9, 1, true),
    ];
    for fact in facts {
        assert!(store.put_pairs(&[fact]).await.is_done());
    }
    assert_eq!(followers(store, 1).await, [6, 7]);
    assert!(store.put_pairs(&facts).await.is_done(), "all again, in one call");
    assert_eq!(followers(store, 1).await, [6, 7]);
    assert_eq!(followers(store, 9).await, [1]);
    let row =
        |other, follows| Relation { other: UserId(other), follows, blocked: false, mutes: false };
    assert_eq!(
        store.relations(UserId(1), None, 100).await.unwrap(),
        [row(5, false), row(6, false), row(7, false), row(9, true)]
    );
    assert_eq!(store.relations(UserId(6), None, 100).await.unwrap(), [row(1, true)]);
}

#[tokio::test]
async fn followers_come_in_order_of_buckets_then_ids_and_pages_join_without_gap() {
    let f = fixture();
    let store = &*f.stores.timeline.store;
    let ids: Vec<u64> = (1..=3_000).map(|n| n << 22).collect();
    let author = 1_u64 << 60;
    let facts: Vec<_> = ids.iter().map(|&id| pair(id, author, 1, true)).collect();
    assert!(store.put_pairs(&facts).await.is_done());
    let gone: Vec<_> = ids.iter().step_by(3).map(|&id| pair(id, author, 2, false)).collect();
    assert!(store.put_pairs(&gone).await.is_done());
    let whole = store.followers(UserId(author), ALL, None, ids.len()).await.unwrap();
    assert_eq!((whole.followers.len(), whole.next), (2_000, None), "it ends where the rows end");
    for buckets in [ALL, (100, 101), (3, 700), (5, 5)] {
        let mut expected: Vec<_> = (ids.iter().enumerate())
            .filter(|(at, _)| at % 3 != 0)
            .map(|(_, &id)| (bucket_of(UserId(id)), UserId(id)))
            .filter(|(bucket, _)| (buckets.0..buckets.1).contains(bucket))
            .collect();
        expected.sort_unstable();
        let (mut found, mut after): (Vec<UserId>, Option<FollowerCursor>) = (Vec::new(), None);
        loop {
            let page = store.followers(UserId(author), buckets, after, 64).await.unwrap();
            assert!(page.followers.len() <= 64);
            found.extend(page.followers);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(found, expected.into_iter().map(|(_, id)| id).collect::<Vec<_>>());
    }
}
