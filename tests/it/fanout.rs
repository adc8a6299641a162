//! Fan-out: chunk jobs for authors with many followers, the change of class, repair by replay.

use chirp::{
    domain::{DisplayName, Handle, UserId},
    ports::Account,
};
use serde_json::json;

use crate::support::{
    Actor, Shape, TestApp, eventually, in_both_shapes, nothing_waits, tokens::Signer,
};

/// The followers of a seeded author: above `fanout.inline_followers`.
const FOLLOWERS: u64 = 1_500;
const STAR: UserId = UserId(1);

/// A folder in which `star` has [`FOLLOWERS`] followers, `f2` and on, and its stack.
async fn with_a_star(shape: Shape) -> TestApp {
    // How many are spared is a matter of the strategy.
    let mut app = TestApp::prepare(shape, &[("CHIRP_FANOUT_STRATEGY", "hybrid")]);
    let account = |id: u64| {
        let handle = if id == STAR.0 { "star".to_owned() } else { format!("f{id}") };
        let name = DisplayName::parse(&handle).unwrap();
        Account { id: UserId(id), handle: Handle::parse(&handle).unwrap(), name, created_at_ms: 1 }
    };
    let accounts: Vec<Account> = (STAR.0..=STAR.0 + FOLLOWERS).map(account).collect();
    app.is_seeded(&accounts).await;
    app.launch().await;
    nothing_waits(&app).await;
    app
}

/// Everybody with a warm timeline gets a tweet of an author with many followers once.
async fn many_followers(app: TestApp) {
    let signer = Signer::of(&app).await;
    let star = signer.acts(&app, STAR, "star");
    let follower = |n: u64| signer.acts(&app, UserId(STAR.0 + n), &format!("f{}", STAR.0 + n));
    // Spread over the whole range, so that every chunk has some.
    let warm: Vec<Actor> = (1..=FOLLOWERS).step_by(61).map(follower).collect();
    for reader in &warm {
        assert_eq!(reader.reads().await, [""; 0]);
    }
    assert_eq!(star.profile("star").await.followers, FOLLOWERS);
    let delivered = app.metric("chirp_deliveries_total").await;
    let saved = app.metric("chirp_writes_saved_total").await;
    let first = star.tweets("to all of you").await.id;
    assert!(star.sees(first).await);
    for reader in &warm {
        reader.eventually_sees(first).await;
    }
    let second = star.tweets("and again").await.id;
    star.deletes(second).await;
    let third = star.tweets("once more").await.id;
    for reader in &warm {
        reader.eventually_sees(third).await;
        assert_eq!(reader.reads().await, ["once more", "to all of you"], "{}", reader.handle);
    }
    nothing_waits(&app).await;
    // Warm timelines were pushed to and no others; the star's own is filled by itself.
    let pushed = app.metric("chirp_deliveries_total").await - delivered;
    let spared = app.metric("chirp_writes_saved_total").await - saved;
    let warm_homes = warm.len() as u64;
    assert!((2 * warm_homes..=3 * (warm_homes + 1)).contains(&pushed), "{pushed}");
    assert!(spared >= 2 * (FOLLOWERS - warm_homes), "{spared}");
    // Cold ones find the same by themselves, and keep it from then on.
    let cold: Vec<Actor> = (2..=FOLLOWERS).step_by(500).map(follower).collect();
    for reader in &cold {
        assert_eq!(reader.reads().await, ["once more", "to all of you"], "{}", reader.handle);
    }
    star.deletes(first).await;
    for reader in warm.iter().chain(&cold) {
        assert_eq!(reader.reads().await, ["once more"], "{}", reader.handle);
    }
    warm[0].unfollows("star").await;
    assert_eq!(warm[0].reads().await, [""; 0]);
    // Whom the star follows stands behind her followers, past a page of them.
    let late = app.signs_up("late").await;
    star.follows("late").await;
    let his = late.tweets("by late").await.id;
    star.eventually_sees(his).await;
    // `Prefer: wait` waits for every chunk, where hints can be heard.
    if app.shape == Shape::OneProcess {
        let body = Some(json!({ "text": "waited for" }));
        let answer = star.call_with("POST", "/tweets", &[("prefer", "wait=10")], body).await;
        assert_eq!(answer.expect(201).header("preference-applied"), "wait=10");
        for reader in warm[1..].iter().chain(&cold) {
            assert_eq!(reader.reads().await[0], "waited for", "{}", reader.handle);
        }
    }
}

#[tokio::test]
async fn one_process_an_author_with_many_followers_reaches_each_once_by_chunk_jobs() {
    many_followers(with_a_star(Shape::OneProcess).await).await;
}

#[tokio::test]
async fn one_process_per_role_an_author_with_many_followers_reaches_each_once_by_chunk_jobs() {
    many_followers(with_a_star(Shape::PerRole).await).await;
}

in_both_shapes! {
    with [("CHIRP_FANOUT_CELEBRITY_FOLLOWERS", "4"), ("CHIRP_FANOUT_STRATEGY", "hybrid")]

    async fn an_author_who_outgrows_pushing_is_pulled_and_nobody_notices(app: TestApp) {
        let ada = app.signs_up("ada").await;
        let id = ada.session.user.id;
        let mut readers = Vec::new();
        for n in 0..3 {
            let reader = app.signs_up(&format!("r{n}")).await;
            reader.follows("ada").await;
            readers.push(reader);
        }
        let mut wanted = vec!["pushed".to_owned()];
        let pushed = ada.tweets("pushed").await.id;
        for reader in &readers {
            reader.eventually_sees(pushed).await;
        }
        assert_eq!(app.class_of(id).await, "push");
        // While the class changes, tweets go on, and every reader has each once, all the time.
        for n in 3..7 {
            let reader = app.signs_up(&format!("r{n}")).await;
            reader.follows("ada").await;
            readers.push(reader);
            let text = format!("beside follower {n}");
            let tweet = ada.tweets(&text).await.id;
            wanted.insert(0, text);
            for reader in &readers {
                reader.eventually_sees(tweet).await;
            }
            assert_eq!(ada.reads().await, wanted);
        }
        eventually("the class is pull", || async {
            (app.class_of(id).await == "pull").then_some(())
        })
        .await;
        nothing_waits(&app).await;
        let before = app.metric("chirp_deliveries_total").await;
        let pulled = ada.tweets("pulled").await.id;
        wanted.insert(0, "pulled".to_owned());
        for reader in &readers {
            reader.eventually_sees(pulled).await;
            assert_eq!(reader.reads().await, wanted, "{}", reader.handle);
            assert_eq!(reader.walks_down("/timeline", 2).await.len(), wanted.len());
        }
        nothing_waits(&app).await;
        let after = app.metric("chirp_deliveries_total").await - before;
        assert!(after <= 1, "no follower was pushed to: {after}");
        // Every promise holds for a pulled author too.
        ada.deletes(pulled).await;
        wanted.remove(0);
        for reader in &readers {
            assert_eq!(reader.reads().await, wanted, "{}", reader.handle);
        }
        readers[0].unfollows("ada").await;
        assert_eq!(readers[0].reads().await, [""; 0]);
        ada.blocks("r1").await;
        assert_eq!(readers[1].reads().await, [""; 0]);
        let mut stream = readers[2].streams().await;
        let streamed = ada.tweets("streamed").await.id;
        stream.next_with("tweet", streamed).await;
        assert!(!readers[0].sees(streamed).await && !readers[1].sees(streamed).await);
        readers[0].follows("ada").await;
        readers[0].eventually_sees(streamed).await;
        // Never back, however few are left.
        for reader in &readers[2..] {
            reader.unfollows("ada").await;
        }
        nothing_waits(&app).await;
        assert_eq!(app.class_of(id).await, "pull");
        let last = ada.tweets("still pulled").await.id;
        readers[0].eventually_sees(last).await;
    }
}

mod repair {
    use super::*;

    in_both_shapes! {
        async fn a_replay_doubles_nothing_and_brings_back_nothing_that_was_hidden(app: TestApp) {
            let ada = app.signs_up("ada").await;
            let bob = app.signs_up("bob").await;
            let carl = app.signs_up("carl").await;
            for reader in [&bob, &carl] {
                reader.follows("ada").await;
            }
            let kept = ada.tweets("kept").await.id;
            let gone = ada.tweets("gone").await.id;
            bob.eventually_sees(gone).await;
            ada.deletes(gone).await;
            carl.unfollows("ada").await;
            nothing_waits(&app).await;
            for _ in 0..2 {
                let done = app.runs(&["replay", "--since", "1h"]);
                assert!(done.status.success(), "{done:?}");
                // Two follows, an unfollow, two tweets, a delete.
                assert_eq!(String::from_utf8(done.stdout).unwrap(), "6\n");
                nothing_waits(&app).await;
                assert_eq!(bob.reads().await, ["kept"]);
                assert_eq!(carl.reads().await, [""; 0]);
                assert_eq!(ada.reads().await, ["kept"]);
            }
            assert!(bob.sees(kept).await);
        }

        async fn a_replay_restores_what_the_timeline_role_has_lost(app: TestApp) {
            let mut app = app;
            let mut ada = app.signs_up("ada").await;
            let mut bob = app.signs_up("bob").await;
            bob.follows("ada").await;
            let gone = ada.tweets("gone").await.id;
            ada.tweets("kept").await;
            ada.deletes(gone).await;
            nothing_waits(&app).await;
            app.asks_to_stop();
            app.has_stopped().await;
            app.loses_its_timelines().await;
            let mut replay = vec!["replay", "--since", "1h"];
            if !app.over_servers() {
                let refused = app.runs(&replay);
                assert_eq!(refused.status.code(), Some(12), "{refused:?}");
                let told = String::from_utf8_lossy(&refused.stderr).contains("--rebuild");
                assert!(told, "{refused:?}");
                replay.push("--rebuild");
            }
            let done = app.runs(&replay);
            assert!(done.status.success(), "{done:?}");
            app.launch().await;
            ada.moves_to(&app);
            bob.moves_to(&app);
            eventually("bob has it again", || async {
                (bob.reads().await == ["kept"]).then_some(())
            })
            .await;
            assert_eq!(ada.reads().await, ["kept"]);
            app.asks_to_stop();
            app.has_stopped().await;
            if app.over_servers() {
                return;
            }
            let whole = app.runs(&["replay", "--since", "1h", "--rebuild"]);
            assert_eq!(whole.status.code(), Some(1), "what is there is not thrown away: {whole:?}");
        }
    }
}
