//! What the API promises, one scenario per promise, over one process and over one per role.

use chirp::{
    domain::TweetId,
    wire::api::{PostedTweet, Session},
};
use serde_json::{Value, json};

use crate::support::{Shape, TestApp, eventually, in_both_shapes, nothing_waits};

in_both_shapes! {
    async fn a_tweet_is_seen_at_once_by_its_author_and_then_by_every_follower(app: TestApp) {
        let ada = app.signs_up("ada").await;
        let bob = app.signs_up("bob").await;
        let eve = app.signs_up("eve").await;
        bob.follows("ada").await;
        let tweet = ada.tweets("hello, world").await;
        assert_eq!(ada.reads().await, ["hello, world"]);
        bob.eventually_sees(tweet.id).await;
        assert_eq!(bob.reads().await, ["hello, world"], "once, and nothing else");
        assert_eq!(eve.reads().await, [""; 0], "who does not follow sees nothing");
        assert_eq!(ada.page("/users/ada/tweets").await.tweets, [tweet]);
    }

    async fn a_new_follower_is_given_what_was_written_before(app: TestApp) {
        let ada = app.signs_up("ada").await;
        let bob = app.signs_up("bob").await;
        for text in ["one", "two", "three"] {
            ada.tweets(text).await;
        }
        assert_eq!(bob.reads().await, [""; 0]);
        bob.follows("ada").await;
        eventually("bob sees all three", || async {
            (bob.reads().await == ["three", "two", "one"]).then_some(())
        })
        .await;
        assert_eq!(bob.profile("ada").await.followers, 1);
        assert!(bob.profile("ada").await.viewer.unwrap().following);
    }

    async fn a_deleted_tweet_is_gone_from_every_read_that_starts_after_the_answer(app: TestApp) {
        let ada = app.signs_up("ada").await;
        let bob = app.signs_up("bob").await;
        bob.follows("ada").await;
        let kept = ada.tweets("kept").await;
        for n in 0..5 {
            let tweet = ada.tweets(&format!("gone {n}")).await;
            bob.eventually_sees(tweet.id).await;
            ada.deletes(tweet.id).await;
            assert!(!bob.sees(tweet.id).await);
            assert!(!ada.sees(tweet.id).await);
            let page = bob.page("/users/ada/tweets").await;
            assert!(page.tweets.iter().all(|other| other.id != tweet.id));
        }
        ada.deletes(kept.id).await;
        ada.deletes(kept.id).await;
        let others = bob.call("DELETE", &format!("/tweets/{}", kept.id), None).await;
        assert!(matches!(others.status, 403 | 404), "{others:?}");
    }

    async fn an_unfollow_is_honoured_at_once_and_a_second_follow_brings_all_back(app: TestApp) {
        let ada = app.signs_up("ada").await;
        let bob = app.signs_up("bob").await;
        bob.follows("ada").await;
        let first = ada.tweets("first").await;
        bob.eventually_sees(first.id).await;
        bob.unfollows("ada").await;
        assert!(!bob.sees(first.id).await);
        let second = ada.tweets("second").await;
        assert!(!bob.sees(second.id).await);
        bob.follows("ada").await;
        bob.eventually_sees(second.id).await;
        bob.eventually_sees(first.id).await;
    }

    async fn a_block_hides_both_ways_and_ends_and_forbids_following(app: TestApp) {
        let ada = app.signs_up("ada").await;
        let bob = app.signs_up("bob").await;
        bob.follows("ada").await;
        ada.follows("bob").await;
        let hers = ada.tweets("by ada").await;
        let his = bob.tweets("by bob").await;
        bob.eventually_sees(hers.id).await;
        ada.eventually_sees(his.id).await;
        ada.blocks("bob").await;
        assert!(!bob.sees(hers.id).await);
        assert!(!ada.sees(his.id).await);
        let refused = bob.call("POST", "/follow", Some(json!({ "handle": "ada" }))).await;
        assert_eq!(refused.status, 403, "{refused:?}");
        ada.unblocks("bob").await;
        bob.follows("ada").await;
        bob.eventually_sees(hers.id).await;
    }

    async fn cursors_lead_through_the_timeline_both_ways(app: TestApp) {
        let ada = app.signs_up("ada").await;
        let mut ids = Vec::new();
        for n in 0..7 {
            ids.push(ada.tweets(&format!("tweet {n}")).await.id);
        }
        ids.reverse();
        let mut found: Vec<TweetId> = Vec::new();
        let mut path = "/timeline?limit=3".to_owned();
        loop {
            let page = ada.page(&path).await;
            assert!(page.tweets.len() <= 3);
            found.extend(page.tweets.iter().map(|tweet| tweet.id));
            let Some(next) = page.next else { break };
            path = format!("/timeline?limit=3&before={next}");
        }
        assert_eq!(found, ids);
        // Upwards from the oldest: the nearest above, newest first within a page.
        let page = ada.page(&format!("/timeline?limit=3&after={}", ids[6])).await;
        assert_eq!(page.tweets.iter().map(|t| t.id).collect::<Vec<_>>(), ids[3..6]);
        let page = ada.page(&format!("/timeline?limit=3&after={}", page.prev.unwrap())).await;
        assert_eq!(page.tweets.iter().map(|t| t.id).collect::<Vec<_>>(), ids[0..3]);
        let page = ada.page(&format!("/timeline?limit=3&after={}", ids[0])).await;
        assert_eq!(page.tweets, []);
        for bad in ["limit=0", "limit=1000000", "before=x", "after=-1", "unknown=1"] {
            let answer = ada.call("GET", &format!("/timeline?{bad}"), None).await;
            assert!(matches!(answer.status, 400 | 422), "{bad}: {answer:?}");
            answer.problem();
        }
    }

    async fn a_stream_tells_of_new_tweets_and_of_deleted_ones(app: TestApp) {
        let ada = app.signs_up("ada").await;
        let bob = app.signs_up("bob").await;
        bob.follows("ada").await;
        let seen = ada.tweets("before the stream").await;
        bob.eventually_sees(seen.id).await;
        let mut stream = bob.streams().await;
        let tweet = ada.tweets("while it streams").await;
        let event = loop {
            let event = stream.next("tweet").await;
            if event.id == tweet.id.to_string() {
                break event;
            }
        };
        assert_eq!(event.data["text"], "while it streams");
        assert_eq!(event.data["id"], tweet.id.to_string());
        ada.deletes(tweet.id).await;
        assert_eq!(stream.next("removed").await.data["id"], tweet.id.to_string());
    }

    async fn an_idempotency_key_posts_once(app: TestApp) {
        let ada = app.signs_up("ada").await;
        let key = [("idempotency-key", "attempt-1")];
        let body = json!({ "text": "only once" });
        let post = || ada.call_with("POST", "/tweets", &key, Some(body.clone()));
        let (a, b, c) = tokio::join!(post(), post(), post());
        let answers = [a.expect(201), b.expect(201), c.expect(201), post().await.expect(201)];
        let ids = answers.each_ref().map(|answer| answer.json::<PostedTweet>().tweet.id);
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        assert_eq!(answers[3].header("idempotency-replayed"), "true");
        assert_eq!(ada.reads().await, ["only once"]);
        let other = Some(json!({ "text": "something else" }));
        let refused = ada.call_with("POST", "/tweets", &key, other).await;
        assert_eq!(refused.status, 422, "{refused:?}");
        refused.problem();
    }

    async fn an_idempotency_key_is_its_owners_and_outlives_a_crash(app: TestApp) {
        let mut app = app;
        let mut ada = app.signs_up("ada").await;
        let bob = app.signs_up("bob").await;
        let key = [("idempotency-key", "the-same-for-both")];
        let body = Some(json!({ "text": "mine" }));
        let first = ada.call_with("POST", "/tweets", &key, body.clone()).await.expect(201);
        assert_eq!(first.header("idempotency-replayed"), "");
        let his = bob.call_with("POST", "/tweets", &key, body.clone()).await.expect(201);
        assert_eq!(his.header("idempotency-replayed"), "");
        app.crashes_and_comes_back().await;
        ada.moves_to(&app);
        let again = ada.call_with("POST", "/tweets", &key, body).await.expect(201);
        assert_eq!(again.header("idempotency-replayed"), "true");
        assert_eq!(again.json::<PostedTweet>(), first.json::<PostedTweet>());
        assert_eq!(ada.reads().await, ["mine"]);
        // Not even after the tweet has been deleted does the key post anew.
        ada.deletes(first.json::<PostedTweet>().tweet.id).await;
        let body = Some(json!({ "text": "mine" }));
        ada.call_with("POST", "/tweets", &key, body).await.expect(201);
        assert_eq!(ada.reads().await, [""; 0]);
    }

    async fn who_waits_is_answered_when_every_follower_has_the_tweet(app: TestApp) {
        let ada = app.signs_up("ada").await;
        let bob = app.signs_up("bob").await;
        bob.follows("ada").await;
        bob.reads().await;
        // Hints do not cross processes: there the wait ends by its time-out, with the plain answer.
        let seconds = if app.shape == Shape::OneProcess { 10 } else { 1 };
        let prefer = format!("wait={seconds}");
        let body = Some(json!({ "text": "all of you" }));
        let answer = ada.call_with("POST", "/tweets", &[("prefer", &prefer)], body).await;
        let tweet = answer.clone().expect(201).json::<PostedTweet>().tweet;
        if app.shape == Shape::OneProcess {
            assert_eq!(answer.header("preference-applied"), prefer);
            // A replica may show what it has near for `timeline.near_ttl_ms`.
            tokio::time::sleep(std::time::Duration::from_millis(250)).await;
            assert!(bob.sees(tweet.id).await);
        }
        bob.eventually_sees(tweet.id).await;
    }

    async fn a_session_is_refreshed_once_per_token_and_ends_when_told(app: TestApp) {
        let ada = app.signs_up("ada").await;
        let refresh = json!({ "refresh_token": ada.session.refresh_token });
        let first = ada.call("POST", "/sessions", Some(refresh.clone())).await.expect(201);
        let session: Session = first.json();
        assert_ne!(session.refresh_token, ada.session.refresh_token);
        ada.call("GET", "/me", None).await.expect(200);
        ada.call("DELETE", "/sessions", None).await.expect(204);
        eventually("the token is refused everywhere", || async {
            let mut refused = true;
            for path in ["/me", "/timeline"] {
                refused &= ada.call("GET", path, None).await.status == 401;
            }
            refused.then_some(())
        })
        .await;
        let again = ada.call("POST", "/sessions", Some(refresh)).await.expect(401);
        again.problem();
    }

    async fn what_is_wrong_is_named_and_changes_nothing(app: TestApp) {
        let ada = app.signs_up("ada").await;
        let long = "x".repeat(281);
        for (method, path, body, status) in [
            ("POST", "/tweets", Some(json!({ "text": "" })), 422),
            ("POST", "/tweets", Some(json!({ "text": long })), 422),
            ("POST", "/tweets", Some(json!({ "text": "x", "extra": 1 })), 422),
            ("POST", "/tweets", Some(json!("x")), 422),
            ("POST", "/follow", Some(json!({ "handle": "nobody" })), 404),
            ("POST", "/follow", Some(json!({ "handle": "ada" })), 409),
            ("POST", "/users", Some(json!({ "handle": "ada", "password": "long enough" })), 409),
            ("POST", "/users", Some(json!({ "handle": "A B", "password": "long enough" })), 422),
            ("POST", "/users", Some(json!({ "handle": "bob", "password": "short" })), 422),
            ("GET", "/users/nobody", None, 404),
            ("DELETE", "/tweets/17", None, 404),
            ("GET", "/nothing/here", None, 404),
            ("PUT", "/timeline", None, 405),
        ] {
            let answer = ada.call(method, path, body.clone()).await;
            assert_eq!(answer.status, status, "{method} {path} {body:?}: {answer:?}");
            assert_ne!(answer.problem(), "");
            assert_ne!(answer.header("x-request-id"), "");
            assert_eq!(answer.header("x-content-type-options"), "nosniff");
        }
        assert_eq!(ada.reads().await, [""; 0]);
        let stranger = app.client.get(app.address, "/timeline").await.unwrap().expect(401);
        assert!(stranger.header("www-authenticate").starts_with("Bearer"));
    }

    async fn the_page_comes_with_a_strict_policy_and_without_anything_inline(app: TestApp) {
        for (path, kind) in
            [("/", "text/html"), ("/app.css", "text/css"), ("/app.js", "text/javascript")]
        {
            let answer = app.client.get(app.address, path).await.unwrap().expect(200);
            assert!(answer.header("content-type").starts_with(kind), "{answer:?}");
            assert_eq!(answer.header("x-content-type-options"), "nosniff");
        }
        let page = app.client.get(app.address, "/").await.unwrap();
        let policy = page.header("content-security-policy");
        for part in ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"] {
            assert!(policy.contains(part), "{policy} lacks {part}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        let page = String::from_utf8(page.body.to_vec()).unwrap();
        for inline in ["<style", " style=", " onclick", " onload", "javascript:"] {
            assert!(!page.contains(inline), "{inline}");
        }
    }

    async fn the_admin_listener_tells_and_lets_repair_only_who_has_the_token(app: TestApp) {
        let ada = app.signs_up("ada").await;
        ada.tweets("counted").await;
        let get = async |path| app.client.get(app.admin, path).await.unwrap().expect(200);
        get("/healthz").await;
        let metrics = String::from_utf8(get("/metrics").await.body.to_vec()).unwrap();
        assert!(metrics.contains("chirp_http_request_seconds_bucket"), "{metrics}");
        assert!(metrics.ends_with("# EOF\n"));
        let config: Value = get("/config").await.json();
        assert_eq!(config["up"]["port"], 0);
        let replay = "/replay?since_ms=0";
        let refused = app.client.call(app.admin, "POST", replay, &[], None).await.unwrap();
        assert_eq!(refused.expect(403).problem(), "service-token");
        nothing_waits(&app).await;
        let done = app.runs(&["replay", "--since", "1h"]);
        assert!(done.status.success(), "{done:?}");
        assert_eq!(String::from_utf8(done.stdout).unwrap(), "1\n");
        nothing_waits(&app).await;
        assert_eq!(ada.reads().await, ["counted"]);
        assert!(app.runs(&["doctor"]).status.success(), "{:?}", app.runs(&["doctor"]));
    }

    async fn what_was_acknowledged_survives_a_kill(app: TestApp) {
        let mut app = app;
        let mut ada = app.signs_up("ada").await;
        let mut bob = app.signs_up("bob").await;
        bob.follows("ada").await;
        let mut wanted = Vec::new();
        for n in 0..10 {
            wanted.insert(0, ada.tweets(&format!("tweet {n}")).await.text.as_str().to_owned());
        }
        app.crashes_and_comes_back().await;
        ada.moves_to(&app);
        bob.moves_to(&app);
        assert_eq!(ada.reads().await, wanted);
        eventually("bob has every tweet once", || async {
            (bob.reads().await == wanted).then_some(())
        })
        .await;
    }
}
