//! Who may call what: every route of the table, at every listener that serves it, with every kind of
//! token. A route without a row here fails.

use std::{collections::BTreeSet, net::SocketAddr};

use chirp::{
    domain::TweetId,
    wire::{
        api::{Page, PostedTweet, Profile, Viewer},
        routes::{Access, ROUTES, Role, Route},
    },
};
use serde_json::{Value, json};

use crate::support::{
    Actor, Answer, Shape, TestApp, in_both_shapes, patience,
    tokens::{Signer, claims},
};

/// How one route is called, and what a right token gets from it.
struct Row {
    method: &'static str,
    path: &'static str,
    /// The path as it is called by `eve`; `{tweet}` is a tweet of `ada`'s.
    call: &'static str,
    body: fn() -> Option<Value>,
    /// The answer to `eve`, and without any token on public routes.
    status: u16,
}

const fn row(
    method: &'static str,
    path: &'static str,
    call: &'static str,
    body: fn() -> Option<Value>,
    status: u16,
) -> Row {
    Row { method, path, call, body, status }
}

/// In this order `eve` can make every call; the last one ends her session.
const ROWS: &[Row] = &[
    row("POST", "/users", "/users", || Some(json!({ "handle": "A B", "password": "x" })), 422),
    row("POST", "/sessions", "/sessions", || Some(json!({ "refresh_token": "x" })), 401),
    row("GET", "/.well-known/jwks.json", "/.well-known/jwks.json", || None, 200),
    row("GET", "/me", "/me", || None, 200),
    row("GET", "/users/{handle}", "/users/ada", || None, 200),
    row("POST", "/follow", "/follow", || Some(json!({ "handle": "carl" })), 201),
    row("DELETE", "/follow/{handle}", "/follow/carl", || None, 204),
    row("PUT", "/blocks/{handle}", "/blocks/dan", || None, 204),
    row("DELETE", "/blocks/{handle}", "/blocks/dan", || None, 204),
    row("POST", "/tweets", "/tweets", || Some(json!({ "text": "by eve" })), 201),
    row("DELETE", "/tweets/{id}", "/tweets/{tweet}", || None, 403),
    row("POST", "/media", "/media", || Some(json!({ "content_type": "x", "bytes": 1 })), 422),
    row("GET", "/timeline", "/timeline", || None, 200),
    row("GET", "/timeline/stream", "/timeline/stream", || None, 200),
    row("GET", "/users/{handle}/tweets", "/users/ada/tweets", || None, 200),
    row("DELETE", "/sessions", "/sessions", || None, 204),
];

/// The rows with their routes, after a check that they are all of them.
fn table() -> Vec<(&'static Row, &'static Route)> {
    let rows: BTreeSet<_> = ROWS.iter().map(|row| (row.method, row.path)).collect();
    let routes: BTreeSet<_> = ROUTES.iter().map(|route| (route.method, route.path)).collect();
    assert_eq!(rows, routes, "every route has a row, and every row a route");
    let route_of = |row: &Row| ROUTES.iter().find(|r| (r.method, r.path) == (row.method, row.path));
    ROWS.iter().map(|row| (row, route_of(row).unwrap())).collect()
}

/// What eve does at one listener. Streams are read to their first event only.
struct Eve<'a> {
    app: &'a TestApp,
    door: SocketAddr,
    tweet: TweetId,
}

impl Eve<'_> {
    async fn calls(&self, row: &Row, headers: &[(&str, &str)]) -> Answer {
        let path = row.call.replace("{tweet}", &self.tweet.to_string());
        let (client, body) = (&self.app.client, (row.body)());
        let open = client.open(self.door, row.method, &path, headers, body.as_ref());
        let answer = open.await.unwrap();
        let (parts, mut body) = answer.into_parts();
        let endless = parts.headers.get("content-type").is_some_and(|k| k == "text/event-stream");
        let read = async {
            let mut bytes = Vec::new();
            while let Some(frame) = http_body_util::BodyExt::frame(&mut body).await {
                bytes.extend_from_slice(&frame.unwrap().into_data().unwrap_or_default());
                if endless {
                    break;
                }
            }
            bytes.into()
        };
        let body = tokio::time::timeout(patience(), read).await.expect("an answer has a body");
        Answer { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    async fn with_token(&self, row: &Row, token: &str) -> Answer {
        self.calls(row, &[("authorization", &format!("Bearer {token}"))]).await
    }
}

/// Eve at the gateway.
fn eve_at(app: &TestApp, tweet: TweetId) -> Eve<'_> {
    Eve { app, door: app.address, tweet }
}

/// Everything of ada's that somebody else might have changed.
async fn state(ada: &Actor) -> (Profile, [Option<Viewer>; 2], Page, Page) {
    (
        ada.call("GET", "/me", None).await.expect(200).json(),
        [ada.profile("carl").await.viewer, ada.profile("dan").await.viewer],
        ada.timeline().await,
        ada.page("/users/ada/tweets").await,
    )
}

/// Ada follows carl, blocks dan and has a tweet; carl and dan are there.
async fn cast(app: &TestApp) -> (Actor, TweetId) {
    let ada = app.signs_up("ada").await;
    app.signs_up("carl").await;
    app.signs_up("dan").await;
    ada.follows("carl").await;
    ada.blocks("dan").await;
    let tweet = ada.tweets("by ada").await.id;
    (ada, tweet)
}

in_both_shapes! {
    with [("CHIRP_TIMELINE_STREAM_POLL_MS", "1000")]

    async fn no_route_takes_a_token_that_is_missing_forged_expired_or_revoked(app: TestApp) {
        let (ada, tweet) = cast(&app).await;
        let before = state(&ada).await;
        let gone = Actor::logs_in(&app, "ada").await;
        gone.call("DELETE", "/sessions", None).await.expect(204);
        // The stated bound: twice `auth.revocation_poll_ms`.
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        let mut bad = Signer::of(&app).await.forged(&ada);
        bad.push(("revoked", gone.session.access_token.clone()));
        let mut headers: Vec<(&str, Option<String>)> =
            bad.into_iter().map(|(name, token)| (name, Some(format!("Bearer {token}")))).collect();
        let right = &ada.session.access_token;
        headers.push(("none", None));
        headers.push(("an empty one", Some("Bearer ".to_owned())));
        headers.push(("another scheme", Some(format!("Basic {right}"))));
        headers.push(("no scheme", Some(right.clone())));
        for (row, route) in table() {
            for door in app.doors(route.role) {
                let eve = Eve { app: &app, door, tweet };
                for (name, header) in &headers {
                    let sent: Vec<_> =
                        header.iter().map(|text| ("authorization", text.as_str())).collect();
                    let answer = eve.calls(row, &sent).await;
                    let case = format!("{} {} at {door} with {name}", row.method, row.path);
                    if route.access == Access::Public {
                        assert_eq!(answer.status, row.status, "{case}: {answer:?}");
                    } else {
                        assert_eq!(answer.status, 401, "{case}: {answer:?}");
                        assert_eq!(answer.problem(), "unauthorized", "{case}");
                        assert_eq!(answer.header("www-authenticate"), "Bearer", "{case}");
                    }
                }
            }
        }
        assert_eq!(state(&ada).await, before);
    }

    async fn a_token_acts_as_its_owner_only_whatever_else_is_said(app: TestApp) {
        let (ada, tweet) = cast(&app).await;
        let eve_user = app.signs_up("eve").await.session.user;
        let me = ada.session.user.id.to_string();
        let before = state(&ada).await;
        for (row, route) in table() {
            for door in app.doors(route.role) {
                // A session of her own for each call, as one of the calls ends it.
                let token = Actor::logs_in(&app, "eve").await.session.access_token;
                let bearer = format!("Bearer {token}");
                let forged = [
                    ("authorization", bearer.as_str()),
                    ("x-user-id", &me),
                    ("x-chirp-user", &me),
                    ("x-chirp-user-id", &me),
                    ("x-authenticated-user", "ada"),
                    ("x-chirp-service-token", "guess"),
                ];
                let eve = Eve { app: &app, door, tweet };
                let answer = eve.calls(row, &forged).await;
                let case = format!("{} {} at {door}", row.method, row.path);
                assert_eq!(answer.status, row.status, "{case}: {answer:?}");
                match (row.method, row.path) {
                    ("GET", "/me") => {
                        assert_eq!(answer.json::<Profile>().user, eve_user, "{case}");
                    }
                    ("GET", "/users/{handle}") => {
                        assert_eq!(answer.json::<Profile>().user.id, ada.session.user.id);
                        assert!(!answer.json::<Profile>().viewer.unwrap().following);
                    }
                    ("POST", "/tweets") => {
                        let author = answer.json::<PostedTweet>().tweet.author;
                        assert_eq!(author.id, eve_user.id, "{case}");
                    }
                    ("DELETE", "/tweets/{id}") => assert_eq!(answer.problem(), "not-owner"),
                    ("GET", "/timeline") => {
                        let tweets = answer.json::<Page>().tweets;
                        assert!(!tweets.is_empty(), "{case}");
                        assert!(tweets.iter().all(|t| t.author.id == eve_user.id), "{case}");
                    }
                    ("GET", "/timeline/stream") => {
                        let text = String::from_utf8(answer.body.to_vec()).unwrap();
                        assert!(text.contains("by eve") && !text.contains("by ada"), "{text}");
                    }
                    _ => {}
                }
                assert_eq!(state(&ada).await, before, "{case}");
                if row.path == "/follow" {
                    // Back, so that it is new at the next door as well.
                    let back = &ROWS[6];
                    assert_eq!(eve_at(&app, tweet).with_token(back, &token).await.status, 204);
                }
            }
        }
    }

    async fn a_log_out_ends_the_token_everywhere_within_the_bound_and_no_other(app: TestApp) {
        let ada = app.signs_up("ada").await;
        let tweet = ada.tweets("by ada").await.id;
        let other = Actor::logs_in(&app, "ada").await;
        let signer = Signer::of(&app).await;
        // Warm everywhere, so that what is refused later was accepted before.
        for door in Role::ALL.iter().flat_map(|role| app.doors(*role)) {
            let eve = Eve { app: &app, door, tweet };
            for row in [&ROWS[3], &ROWS[12]] {
                let answer = eve.with_token(row, &ada.session.access_token).await;
                assert!(matches!(answer.status, 200 | 404), "{answer:?}");
            }
        }
        let mut stream = ada.streams().await;
        stream.next("tweet").await;
        ada.call("DELETE", "/sessions", None).await.expect(204);
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        for (row, route) in table().into_iter().filter(|(_, r)| r.access == Access::Bearer) {
            for door in app.doors(route.role) {
                // Several times, as replicas take turns.
                for _ in 0..4 {
                    let eve = Eve { app: &app, door, tweet };
                    let answer = eve.with_token(row, &ada.session.access_token).await;
                    assert_eq!(answer.status, 401, "{} {} at {door}", row.method, row.path);
                }
            }
        }
        stream.ends().await;
        other.call("GET", "/me", None).await.expect(200);
        assert!(other.sees(tweet).await);
        // The session is what was ended: a fresh token of it is refused too.
        let mut again = claims(&ada.session.user);
        again.sid = session_of(&ada.session.access_token);
        let eve = Eve { app: &app, door: app.address, tweet };
        assert_eq!(eve.with_token(&ROWS[3], &signer.sign(&again)).await.status, 401);
    }
}

/// The session that a token names.
fn session_of(token: &str) -> chirp::domain::SessionId {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    let body = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap();
    body["sid"].as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn one_process_per_role_a_role_serves_its_own_routes_and_no_others() {
    let app = TestApp::start(Shape::PerRole).await;
    let ada = app.signs_up("ada").await;
    let bearer = format!("Bearer {}", ada.session.access_token);
    for (row, route) in table() {
        for role in [Role::User, Role::Tweet, Role::Timeline] {
            if role == route.role {
                continue;
            }
            let eve = Eve { app: &app, door: app.listeners(role).0, tweet: TweetId(1) };
            let answer = eve.calls(row, &[("authorization", &bearer)]).await;
            // A path may have other methods there.
            let case = format!("{} {} at {role}: {answer:?}", row.method, row.path);
            assert!(matches!(answer.status, 404 | 405), "{case}");
            answer.problem();
        }
    }
}
