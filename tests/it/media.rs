//! Pictures, from their upload to their end.

use std::net::SocketAddr;

use chirp::{
    domain::MediaId,
    wire::api::{Media, PostedTweet, Tweet},
};
use serde_json::{Value, json};

use crate::support::{
    Actor, Answer, GIF, Shape, TestApp, eventually, in_both_shapes, nothing_waits,
};

/// Asks for an upload of this many bytes.
async fn asks(actor: &Actor, bytes: usize) -> Media {
    let body = json!({ "content_type": "image/gif", "bytes": bytes });
    actor.call("POST", "/media", Some(body)).await.expect(201).json()
}

/// Does what the answer to `POST /media` says, with these bytes.
async fn sends(app: &TestApp, media: &Media, bytes: &[u8]) -> Answer {
    let (at, path) = place(app, &media.upload.url);
    let headers: Vec<(&str, &str)> =
        media.upload.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let method = media.upload.method.as_str();
    app.client.call_raw(at, method, &path, &headers, bytes.to_vec()).await.unwrap()
}

async fn uploads(app: &TestApp, actor: &Actor, bytes: &[u8]) -> MediaId {
    let media = asks(actor, bytes.len()).await;
    let answer = sends(app, &media, bytes).await;
    assert!(is_taken(&answer), "{answer:?}");
    media.media_id
}

fn post(text: &str, media: &[MediaId]) -> Value {
    json!({ "text": text, "media": media })
}

async fn shows(actor: &Actor, text: &str, media: &[MediaId]) -> Tweet {
    let answer = actor.call("POST", "/tweets", Some(post(text, media))).await;
    answer.expect(201).json::<PostedTweet>().tweet
}

async fn gets(app: &TestApp, url: &str) -> Answer {
    let (at, path) = place(app, url);
    app.client.get(at, &path).await.unwrap()
}

/// Where a URL of an answer leads: to the stack itself, or to the server of its bucket.
fn place(app: &TestApp, url: &str) -> (SocketAddr, String) {
    let elsewhere = url.strip_prefix("http://").and_then(|rest| rest.split_once('/'));
    elsewhere.map_or_else(
        || (app.address, format!("/{url}")),
        |(at, path)| (at.parse().unwrap(), format!("/{path}")),
    )
}

/// Whether bytes were taken.
fn is_taken(answer: &Answer) -> bool {
    matches!(answer.status, 200 | 204)
}

in_both_shapes! {
    with [("CHIRP_MEDIA_SWEEP_MS", "100"), ("CHIRP_MEDIA_GRACE_MS", "100")]

    async fn a_picture_is_seen_by_its_author_and_every_follower_and_by_those_who_come_later(app: TestApp) {
        let ada = app.signs_up("ada").await;
        let bob = app.signs_up("bob").await;
        bob.follows("ada").await;
        let (one, two) = (uploads(&app, &ada, GIF).await, uploads(&app, &ada, GIF).await);
        let tweet = shows(&ada, "look", &[two, one]).await;
        assert_eq!(tweet.media.len(), 2);
        assert!(tweet.media[0].url.ends_with(&format!("m/{two}")), "{}", tweet.media[0].url);
        assert_eq!(
            (tweet.media[1].kind.as_str(), tweet.media[1].width, tweet.media[1].height),
            ("image/gif", 1, 1)
        );
        bob.eventually_sees(tweet.id).await;
        for reader in [&ada, &bob] {
            assert_eq!(reader.timeline().await.tweets, std::slice::from_ref(&tweet));
        }
        let carl = app.signs_up("carl").await;
        carl.follows("ada").await;
        carl.eventually_sees(tweet.id).await;
        assert_eq!(carl.page("/users/ada/tweets").await.tweets, std::slice::from_ref(&tweet));
        let picture = gets(&app, &tweet.media[0].url).await.expect(200);
        assert_eq!(picture.body, GIF);
        assert_eq!(picture.header("content-type"), "image/gif");
        if !app.over_servers() {
            assert_eq!(picture.header("x-content-type-options"), "nosniff");
            assert_eq!(picture.header("content-security-policy"), "sandbox; default-src 'none'");
        }
    }

    async fn what_cannot_be_shown_is_told_and_changes_nothing(app: TestApp) {
        let ada = app.signs_up("ada").await;
        let eve = app.signs_up("eve").await;
        let good = uploads(&app, &ada, GIF).await;
        let page = uploads(&app, &ada, b"<script>alert(1)</script>").await;
        let mut bomb = GIF.to_vec();
        bomb[6..10].copy_from_slice(&[0xff; 4]);
        let bomb = uploads(&app, &ada, &bomb).await;
        let silent = asks(&ada, 9).await.media_id;
        let others = uploads(&app, &eve, GIF).await;
        for (media, status, problem) in [
            (page, 422, "media-refused"),
            (bomb, 422, "media-refused"),
            (silent, 409, "media-not-uploaded"),
            (others, 422, "media-unknown"),
            (MediaId(7), 422, "media-unknown"),
        ] {
            let answer = ada.call("POST", "/tweets", Some(post("look", &[good, media]))).await;
            assert_eq!(answer.expect(status).problem(), problem);
        }
        for many in [vec![good, good], (0..5).map(MediaId).collect()] {
            let answer = ada.call("POST", "/tweets", Some(post("look", &many))).await;
            assert_eq!(answer.expect(422).problem(), "invalid-field");
        }
        assert_eq!(ada.reads().await, [""; 0]);
        assert_eq!(gets(&app, &format!("media/m/{page}")).await.expect(404).problem(), "not-found");
        shows(&ada, "look", &[good]).await;
        let again = ada.call("POST", "/tweets", Some(post("once more", &[good]))).await;
        assert_eq!(again.expect(409).problem(), "media-used");
        shows(&eve, "hers is untouched", &[others]).await;
    }

    async fn an_upload_takes_what_was_agreed_and_a_published_picture_stays_what_it_is(app: TestApp) {
        let ada = app.signs_up("ada").await;
        let media = asks(&ada, GIF.len()).await;
        let fresh = sends(&app, &media, &[GIF, b"!"].concat()).await;
        if app.over_servers() {
            // The length is signed.
            fresh.expect(403);
        } else {
            assert_eq!(fresh.expect(422).problem(), "media-size");
        }
        assert!(is_taken(&sends(&app, &media, GIF).await));
        let tweet = shows(&ada, "look", &[media.media_id]).await;
        let mut other = GIF.to_vec();
        other[13] = 0xaa;
        // The URL is still good, and of no more use.
        assert!(is_taken(&sends(&app, &media, &other).await));
        let again = ada.call("POST", "/tweets", Some(post("again", &[media.media_id]))).await;
        assert_eq!(again.expect(409).problem(), "media-used");
        assert_eq!(gets(&app, &tweet.media[0].url).await.expect(200).body, GIF);
        for (body, field) in [
            (json!({ "content_type": "image/svg+xml", "bytes": 9 }), "content_type"),
            (json!({ "content_type": "image/png", "bytes": 6_000_000 }), "bytes"),
        ] {
            let refused = ada.call("POST", "/media", Some(body)).await.expect(422);
            assert_eq!(refused.json::<Value>()["field"], field);
        }
    }

    async fn a_post_that_is_repeated_under_its_key_shows_its_picture_once(app: TestApp) {
        let ada = app.signs_up("ada").await;
        let media = uploads(&app, &ada, GIF).await;
        let key = [("idempotency-key", "k")];
        let call = async |body| ada.call_with("POST", "/tweets", &key, Some(body)).await;
        let first = call(post("look", &[media])).await.expect(201);
        let second = call(post("look", &[media])).await.expect(201);
        assert_eq!(first.json::<PostedTweet>().tweet, second.json::<PostedTweet>().tweet);
        assert_eq!(second.header("idempotency-replayed"), "true");
        assert_eq!(call(post("look", &[])).await.expect(422).problem(), "idempotency-key-reused");
        assert_eq!(ada.reads().await, ["look"]);
    }

    async fn the_picture_of_a_deleted_tweet_goes_and_that_of_another_stays(app: TestApp) {
        let ada = app.signs_up("ada").await;
        let (gone, kept) = (uploads(&app, &ada, GIF).await, uploads(&app, &ada, GIF).await);
        let deleted = shows(&ada, "gone", &[gone]).await;
        let other = shows(&ada, "kept", &[kept]).await;
        ada.deletes(deleted.id).await;
        eventually("the picture is gone", || async {
            (gets(&app, &deleted.media[0].url).await.status == 404).then_some(())
        })
        .await;
        gets(&app, &other.media[0].url).await.expect(200);
        assert_eq!(ada.timeline().await.tweets, [other]);
    }

    async fn pictures_survive_a_kill_and_an_empty_cache(app: TestApp) {
        let mut app = app;
        let mut ada = app.signs_up("ada").await;
        let tweet = shows(&ada, "look", &[uploads(&app, &ada, GIF).await]).await;
        let pending = uploads(&app, &ada, GIF).await;
        nothing_waits(&app).await;
        app.crashes_and_comes_back().await;
        ada.moves_to(&app);
        assert_eq!(ada.timeline().await.tweets, std::slice::from_ref(&tweet));
        assert_eq!(gets(&app, &tweet.media[0].url).await.expect(200).body, GIF);
        shows(&ada, "sent before the kill", &[pending]).await;
    }
}

#[tokio::test]
async fn an_upload_that_no_tweet_used_expires_and_is_swept() {
    let settings = [
        ("CHIRP_MEDIA_UPLOAD_TTL_S", "2"),
        ("CHIRP_MEDIA_SWEEP_MS", "100"),
        ("CHIRP_MEDIA_GRACE_MS", "500"),
    ];
    let app = TestApp::start_with(Shape::OneProcess, &settings).await;
    let ada = app.signs_up("ada").await;
    let used = uploads(&app, &ada, GIF).await;
    let tweet = shows(&ada, "look", &[used]).await;
    let media = asks(&ada, GIF.len()).await;
    sends(&app, &media, GIF).await.expect(204);
    let uploaded = app.data_dir().join("media/up").join(media.media_id.to_string());
    assert!(uploaded.exists());
    eventually("it is swept", || async { (!uploaded.exists()).then_some(()) }).await;
    let late = ada.call("POST", "/tweets", Some(post("late", &[media.media_id]))).await;
    assert!(matches!(late.problem().as_str(), "media-expired" | "media-unknown"), "{late:?}");
    assert_eq!(sends(&app, &media, GIF).await.expect(403).problem(), "forbidden");
    gets(&app, &tweet.media[0].url).await.expect(200);
}

#[tokio::test]
async fn a_user_who_only_promises_is_stopped() {
    let settings = [("CHIRP_MEDIA_UPLOADS_PER_USER", "2")];
    let app = TestApp::start_with(Shape::OneProcess, &settings).await;
    let ada = app.signs_up("ada").await;
    let first = uploads(&app, &ada, GIF).await;
    asks(&ada, 9).await;
    let body = json!({ "content_type": "image/gif", "bytes": 9 });
    let refused = ada.call("POST", "/media", Some(body)).await;
    assert_eq!(refused.expect(429).problem(), "rate-limited");
    shows(&ada, "look", &[first]).await;
    asks(&ada, 9).await;
}
