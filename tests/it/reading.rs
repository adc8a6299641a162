//! Reading: cursors over long timelines, blocks on every read route, streams and polling.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use chirp::domain::TweetId;
use futures_util::{StreamExt, stream};
use serde_json::json;

use crate::support::{Actor, Stream, TestApp, eventually, in_both_shapes, nothing_waits};

/// Posts `count` tweets, many at once; gives their ids, newest first.
async fn posts(author: &Actor, count: usize) -> Vec<TweetId> {
    let texts = (0..count).map(|n| format!("{} {n}", author.handle));
    let posts = stream::iter(texts).map(|text| async move { author.tweets(&text).await.id });
    let ids: BTreeSet<TweetId> = posts.buffer_unordered(16).collect().await;
    assert_eq!(ids.len(), count, "ids are unique");
    ids.into_iter().rev().collect()
}

in_both_shapes! {
    async fn a_long_timeline_is_walked_both_ways_without_gap_or_repeat(app: TestApp) {
        let ada = app.signs_up("ada").await;
        let bob = app.signs_up("bob").await;
        let eve = app.signs_up("eve").await;
        eve.follows("ada").await;
        eve.follows("bob").await;
        // Warm before, so that the cached part is pushed, and reaches its bound of 800.
        eve.reads().await;
        let (hers, his) = tokio::join!(posts(&ada, 450), posts(&bob, 450));
        let mut all: Vec<TweetId> = hers.iter().chain(&his).copied().collect();
        all.sort_unstable_by(|a, b| b.cmp(a));
        eventually("eve has all", || async {
            (eve.walks_down("/timeline", 100).await == all).then_some(())
        })
        .await;
        assert_eq!(eve.walks_down("/timeline", 37).await, all);
        assert_eq!(eve.walks_up("/timeline", 100, TweetId(0)).await, all);
        assert_eq!(eve.walks_up("/timeline", 37, all[850]).await, all[..850]);
        assert_eq!(eve.walks_down("/users/ada/tweets", 100).await, hers);
        assert_eq!(eve.walks_up("/users/bob/tweets", 100, TweetId(0)).await, his);
        assert_eq!(bob.walks_down("/timeline", 100).await, his);
        // Late readers get all of it too.
        let late = app.signs_up("late").await;
        late.follows("ada").await;
        late.follows("bob").await;
        eventually("a late follower has all", || async {
            (late.walks_down("/timeline", 100).await == all).then_some(())
        })
        .await;
    }

    async fn a_walk_beside_new_tweets_finds_each_once(app: TestApp) {
        let ada = app.signs_up("ada").await;
        let bob = app.signs_up("bob").await;
        bob.follows("ada").await;
        bob.reads().await;
        let old = posts(&ada, 120).await;
        bob.eventually_sees(old[0]).await;
        eventually("bob has all", || async {
            (bob.walks_down("/timeline", 100).await == old).then_some(())
        })
        .await;
        let stop = Arc::new(AtomicBool::new(false));
        let writer = tokio::spawn({
            let (ada, stop) = (ada.clone(), Arc::clone(&stop));
            async move {
                let mut new = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    new.insert(0, ada.tweets("meanwhile").await.id);
                }
                new
            }
        });
        for _ in 0..5 {
            let found = bob.walks_down("/timeline", 7).await;
            let ids: BTreeSet<_> = found.iter().collect();
            assert_eq!(ids.len(), found.len(), "none twice");
            assert!(found.is_sorted_by(|a, b| a > b), "newest first");
            assert_eq!(found[found.len() - old.len()..], old, "no gap");
        }
        // The author reads her own at once: going up from any of them misses none.
        let mut up = Vec::new();
        for _ in 0..20 {
            let from = up.first().copied().unwrap_or(old[0]);
            up.splice(0..0, ada.walks_up("/timeline", 5, from).await);
        }
        stop.store(true, Ordering::Relaxed);
        let new = writer.await.unwrap();
        let from = up.first().copied().unwrap_or(old[0]);
        up.splice(0..0, ada.walks_up("/timeline", 5, from).await);
        assert_eq!(up, new);
        let all = [new, old].concat();
        eventually("bob has all of it", || async {
            (bob.walks_down("/timeline", 50).await == all).then_some(())
        })
        .await;
    }

    async fn an_author_reads_every_own_tweet_at_once_whoever_else_writes(app: TestApp) {
        let ada = app.signs_up("ada").await;
        let writers: Vec<_> = (0..4)
            .map(|_| {
                let ada = ada.clone();
                tokio::spawn(async move {
                    for n in 0..25 {
                        let id = ada.tweets(&format!("number {n}")).await.id;
                        assert!(ada.sees(id).await, "home at {n}");
                        let page = ada.page("/users/ada/tweets").await;
                        assert!(page.tweets.iter().any(|t| t.id == id), "own list at {n}");
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.await.unwrap();
        }
        assert_eq!(ada.walks_down("/timeline", 30).await.len(), 100);
    }

    async fn a_block_hides_both_ways_on_every_read_route(app: TestApp) {
        let ada = app.signs_up("ada").await;
        let bob = app.signs_up("bob").await;
        let carl = app.signs_up("carl").await;
        for (who, whom) in [(&ada, "bob"), (&bob, "ada"), (&carl, "ada"), (&carl, "bob")] {
            who.follows(whom).await;
        }
        let hers = ada.tweets("by ada").await.id;
        let his = bob.tweets("by bob").await.id;
        bob.eventually_sees(hers).await;
        ada.eventually_sees(his).await;
        let mut hers_live = ada.streams().await;
        let mut his_live = bob.streams().await;
        hers_live.next_with("tweet", his).await;
        his_live.next_with("tweet", hers).await;
        ada.blocks("bob").await;
        for (who, other, hidden, own) in [(&ada, "bob", his, hers), (&bob, "ada", hers, his)] {
            assert_eq!(ids(who, "/timeline").await, [own], "{}", who.handle);
            assert_eq!(ids(who, "/timeline?after=0").await, [own], "{}", who.handle);
            let top = hers.max(his).0 + 1;
            assert_eq!(ids(who, &format!("/timeline?before={top}")).await, [own]);
            let refused = who.call("GET", &format!("/users/{other}/tweets"), None).await;
            assert_eq!(refused.expect(403).problem(), "blocked");
            let follow = who.call("POST", "/follow", Some(json!({ "handle": other }))).await;
            assert_eq!(follow.expect(403).problem(), "blocked");
            let begun = who.streams().await.next("tweet").await;
            assert_eq!(begun.id, own.to_string(), "a fresh stream has not {hidden}");
            let profile = who.profile(other).await;
            assert_eq!((profile.followers, profile.following), (1, 0), "only carl is left");
            let viewer = profile.viewer.unwrap();
            assert!(!viewer.following && !viewer.followed_by);
            assert_eq!((viewer.blocking, viewer.blocked_by), (other == "bob", other == "ada"));
        }
        hers_live.next_with("removed", his).await;
        his_live.next_with("removed", hers).await;
        let later = bob.tweets("after the block").await.id;
        carl.eventually_sees(later).await;
        assert!(!ada.sees(later).await);
        // Twice is once; what was followed before does not come back by itself.
        ada.blocks("bob").await;
        ada.unblocks("bob").await;
        ada.unblocks("bob").await;
        assert!(!ada.sees(later).await && !bob.sees(hers).await);
        eventually("what is shown again may lag", || async {
            let answer = bob.call("GET", "/users/ada/tweets", None).await;
            (answer.status == 200).then_some(())
        })
        .await;
        ada.follows("bob").await;
        ada.eventually_sees(later).await;
        ada.eventually_sees(his).await;
    }

    async fn following_again_brings_back_what_came_and_went_meanwhile(app: TestApp) {
        let ada = app.signs_up("ada").await;
        let bob = app.signs_up("bob").await;
        bob.reads().await;
        for round in 0..3 {
            let before = posts(&ada, 30).await;
            bob.follows("ada").await;
            let all = ada.walks_down("/users/ada/tweets", 100).await;
            eventually("bob has all", || async {
                (bob.walks_down("/timeline", 100).await == all).then_some(())
            })
            .await;
            ada.deletes(before[3]).await;
            assert_eq!(bob.walks_down("/timeline", 100).await.len(), all.len() - 1, "{round}");
            bob.unfollows("ada").await;
            assert_eq!(bob.walks_down("/timeline", 100).await, []);
            // Not following, and saying so again, is no mistake.
            bob.unfollows("ada").await;
            assert_eq!(ada.profile("bob").await.following, 0);
        }
        bob.follows("ada").await;
        bob.follows("ada").await;
        assert_eq!(bob.profile("ada").await.followers, 1, "twice is once");
    }

    async fn a_deleted_tweet_is_gone_from_every_page_and_stream(app: TestApp) {
        let ada = app.signs_up("ada").await;
        let bob = app.signs_up("bob").await;
        let cold = app.signs_up("cold").await;
        bob.follows("ada").await;
        cold.follows("ada").await;
        let mine = posts(&ada, 9).await;
        eventually("bob has all", || async {
            (bob.walks_down("/timeline", 4).await == mine).then_some(())
        })
        .await;
        let mut live = bob.streams().await;
        live.next_with("tweet", mine[0]).await;
        for gone in [mine[0], mine[4], mine[8]] {
            ada.deletes(gone).await;
            for list in ["/timeline", "/users/ada/tweets"] {
                for who in [&ada, &bob, &cold] {
                    // Replicas take turns, and none may show it.
                    for _ in 0..3 {
                        let down = who.walks_down(list, 4).await;
                        assert!(!down.contains(&gone), "{} {list}", who.handle);
                    }
                    let up = who.walks_up(list, 4, TweetId(0)).await;
                    assert!(!up.contains(&gone), "{} {list}", who.handle);
                }
            }
            live.next_with("removed", gone).await;
        }
        let late = app.signs_up("late").await;
        late.follows("ada").await;
        eventually("who comes late gets the rest", || async {
            (late.walks_down("/timeline", 4).await.len() == 6).then_some(())
        })
        .await;
    }

    async fn a_stream_and_one_who_polls_see_the_same(app: TestApp) {
        let ada = app.signs_up("ada").await;
        let bob = app.signs_up("bob").await;
        bob.follows("ada").await;
        bob.reads().await;
        let mut stream = bob.streams().await;
        let mut newest = TweetId(0);
        for n in 0..12 {
            let tweet = ada.tweets(&format!("number {n}")).await;
            let event = stream.next("tweet").await;
            assert_eq!(event.id, tweet.id.to_string(), "in order, once, and nothing else");
            assert_eq!(event.data["author"]["handle"], "ada");
            // What the page does where streams do not work.
            let page = bob.page(&format!("/timeline?after={newest}")).await;
            assert_eq!(page.tweets.iter().map(|t| t.id).collect::<Vec<_>>(), [tweet.id]);
            newest = page.prev.unwrap();
        }
        // The other end has gone; a stream that comes back begins with the newest page.
        drop(stream);
        let tweet = ada.tweets("while nobody listened").await;
        bob.eventually_sees(tweet.id).await;
        bob.streams().await.next_with("tweet", tweet.id).await;
    }
}

/// The streams poll too seldom for a test: what they are told, a hint told them.
mod without_polling {
    use super::*;

    in_both_shapes! {
        with [("CHIRP_TIMELINE_STREAM_POLL_MS", "60000")]

        async fn a_stream_is_told_at_once_of_a_delete(app: TestApp) {
            let (bob, authors) = a_follower_of(&app, ["ada"]).await;
            let ada = &authors[0];
            let (first, second) = (ada.tweets("first").await.id, ada.tweets("second").await.id);
            bob.eventually_sees(second).await;
            let mut live = quiet_stream(&app, &bob, &[first, second]).await;
            ada.deletes(first).await;
            live.next_with("removed", first).await;
        }

        async fn a_stream_is_told_at_once_of_an_unfollow_and_a_block(app: TestApp) {
            let (bob, authors) = a_follower_of(&app, ["ada", "eve"]).await;
            let (hers, others) =
                (authors[0].tweets("by ada").await.id, authors[1].tweets("by eve").await.id);
            bob.eventually_sees(hers).await;
            bob.eventually_sees(others).await;
            let mut live = quiet_stream(&app, &bob, &[hers, others]).await;
            bob.unfollows("ada").await;
            live.next_with("removed", hers).await;
            nothing_waits(&app).await;
            authors[1].blocks("bob").await;
            live.next_with("removed", others).await;
        }
    }

    async fn a_follower_of<const N: usize>(
        app: &TestApp,
        handles: [&str; N],
    ) -> (Actor, Vec<Actor>) {
        let bob = app.signs_up("bob").await;
        let mut authors = Vec::new();
        for handle in handles {
            authors.push(app.signs_up(handle).await);
            bob.follows(handle).await;
        }
        (bob, authors)
    }

    /// A stream that has told `ids`, when no hint of what came before is on its way any more.
    async fn quiet_stream(app: &TestApp, who: &Actor, ids: &[TweetId]) -> Stream {
        nothing_waits(app).await;
        let mut live = who.streams().await;
        for &id in ids {
            live.next_with("tweet", id).await;
        }
        live
    }
}

async fn ids(who: &Actor, path: &str) -> Vec<TweetId> {
    who.page(path).await.tweets.iter().map(|tweet| tweet.id).collect()
}
