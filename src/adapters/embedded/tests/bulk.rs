use super::{account, fixture};
use crate::{
    domain::{Change, UserId, fanout::BUCKETS},
    ports::{Counts, EdgeChange, Outcome, PasswordHash},
};

fn edge(follower: u64, author: u64) -> (UserId, UserId) {
    (UserId(follower), UserId(author))
}

#[tokio::test]
async fn a_seeded_graph_is_as_if_its_users_had_made_it() {
    let f = fixture();
    let seeder = f.stores.seeder();
    let accounts: Vec<_> = (1..=50).map(|id| account(id, &format!("user_{id}"))).collect();
    let password = PasswordHash("phc".into());
    assert!(seeder.users(&accounts, &password).await.is_done());
    assert!(seeder.users(&accounts, &password).await.is_done(), "again");
    let thief = [account(99, "user_1")];
    assert!(matches!(seeder.users(&thief, &password).await, Outcome::Failed(_)));

    // Everybody follows 1, 1 follows 2 and 3, one edge comes twice, one was made by hand before.
    let graph = &f.stores.user.graph;
    let by_hand = EdgeChange {
        actor: UserId(7),
        target: UserId(1),
        change: Change::Follow,
        at_ms: 1,
        trace: None,
    };
    assert!(graph.change(&by_hand).await.is_done());
    let mut edges: Vec<_> = (2..=50).map(|id| edge(id, 1)).collect();
    edges.extend([edge(1, 2), edge(1, 3), edge(1, 3)]);
    assert_eq!(seeder.follows(&edges).await, Outcome::Done(50));
    assert_eq!(seeder.follows(&edges).await, Outcome::Done(0));

    assert_eq!(graph.counts(UserId(1)).await, Ok(Counts { followers: 49, following: 2 }));
    assert_eq!(graph.counts(UserId(3)).await, Ok(Counts { followers: 1, following: 1 }));
    let pair = graph.pair(UserId(2), UserId(1)).await.unwrap();
    assert!(pair.low.follows && pair.high.follows);
    let store = &f.stores.timeline.store;
    let page = store.followers(UserId(1), (0, BUCKETS), None, 100).await.unwrap();
    assert_eq!(page.followers.len(), 49);
    let relations = store.relations(UserId(1), None, 100).await.unwrap();
    let followed: Vec<_> = relations.iter().filter(|r| r.follows).map(|r| r.other.0).collect();
    assert_eq!((relations.len(), followed), (2, vec![2, 3]), "who only follows is no relation");
    assert!(matches!(seeder.follows(&[edge(4, 4)]).await, Outcome::Failed(_)));

    let unfollow = EdgeChange { change: Change::Unfollow, ..by_hand };
    let changed = graph.change(&unfollow).await.done().unwrap().unwrap();
    assert_eq!((changed.now.version, changed.low_followers), (2, 48));
}
