//! What is too much: calls, bodies, time.

use crate::support::{Answer, Shape, TestApp, eventually, in_both_shapes};
use serde_json::json;

/// A 429 says how much was allowed, and when to come back.
fn too_many(answer: &Answer, limit: u64) {
    assert_eq!(answer.status, 429, "{answer:?}");
    assert_eq!(answer.problem(), "rate-limited");
    assert_eq!(answer.header("ratelimit-limit"), limit.to_string(), "{answer:?}");
    assert_eq!(answer.header("ratelimit-remaining"), "0", "{answer:?}");
    for header in ["ratelimit-reset", "retry-after"] {
        let seconds: u64 = answer.header(header).parse().unwrap();
        assert!((1..=60).contains(&seconds), "{header}: {seconds}");
    }
}

mod by_user {
    use super::*;

    in_both_shapes! {
        with [("CHIRP_HTTP_USER_CALLS_PER_MINUTE", "5")]

        async fn who_calls_too_often_is_told_when_to_come_back_and_others_are_served(app: TestApp) {
            let ada = app.signs_up("ada").await;
            for left in (0..5).rev() {
                let answer = ada.call("GET", "/me", None).await.expect(200);
                assert_eq!(answer.header("ratelimit-limit"), "5");
                assert_eq!(answer.header("ratelimit-remaining"), left.to_string());
            }
            too_many(&ada.call("GET", "/me", None).await, 5);
            // A refused call does nothing.
            too_many(&ada.call("DELETE", "/sessions", None).await, 5);
            let bob = app.signs_up("bob").await;
            bob.call("GET", "/me", None).await.expect(200);
        }
    }
}

mod by_address {
    use super::*;

    in_both_shapes! {
        with [("CHIRP_HTTP_ADDRESS_CALLS_PER_MINUTE", "5")]

        async fn an_address_is_counted_whatever_it_says_of_itself(app: TestApp) {
            let mut refused = 0;
            for n in 0..8 {
                let other = format!("203.0.113.{n}");
                let forged = [
                    ("x-forwarded-for", other.as_str()),
                    ("x-real-ip", &other),
                    ("forwarded", &format!("for={other}")),
                    ("x-chirp-service-token", "guess"),
                ];
                let path = "/.well-known/jwks.json";
                let answer = app.client.call(app.address, "GET", path, &forged, None).await.unwrap();
                if answer.status == 429 {
                    too_many(&answer, 5);
                    refused += 1;
                }
            }
            assert_eq!(refused, 3);
        }
    }
}

mod by_nobody {
    use chirp::{services::kit::token::Claims, wire::api::Session};
    use serde_json::Value;

    use super::*;
    use crate::support::tokens::{Signer, claims};

    const SETTINGS: &[(&str, &str)] = &[
        ("CHIRP_HTTP_USER_CALLS_PER_MINUTE", "5"),
        ("CHIRP_HTTP_ADDRESS_CALLS_PER_MINUTE", "7"),
        ("CHIRP_HTTP_ADDRESS_LOGINS_PER_MINUTE", "2"),
    ];

    async fn reads(app: &TestApp, door: std::net::SocketAddr, token: &str) -> Answer {
        let bearer = format!("Bearer {token}");
        let head = [("authorization", bearer.as_str())];
        app.client.call(door, "GET", "/timeline", &head, None).await.unwrap()
    }

    async fn a_token_of_a_seed_goes_on_where_everybody_is_refused(shape: Shape) {
        let mut app = TestApp::prepare(shape, SETTINGS);
        app.has_databases().await;
        let seeded = app.runs(&["seed", "demo", "--tweets", "1", "--tokens", "2"]);
        assert!(seeded.status.success(), "{seeded:?}");
        app.launch().await;
        let file = std::fs::read_to_string(app.data_dir().join("credentials.jsonl")).unwrap();
        let lines: Vec<Value> = file.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        let token = lines[1]["token"].as_str().unwrap();

        let ada = app.signs_up("ada").await;
        for _ in 0..5 {
            ada.call("GET", "/timeline", None).await.expect(200);
        }
        too_many(&ada.call("GET", "/timeline", None).await, 5);
        // One after another, and the role's own listener as well as the gateway.
        for door in app.doors(chirp::wire::routes::Role::Timeline) {
            for _ in 0..12 {
                let answer = reads(&app, door, token).await.expect(200);
                let counted = answer.headers.keys().find(|k| k.as_str().starts_with("ratelimit"));
                assert_eq!(counted, None, "{answer:?}");
            }
        }
        too_many(&ada.call("GET", "/timeline", None).await, 7);

        // Whoever only says so is counted.
        let mine = Claims { uncounted: true, ..claims(&ada.session.user) };
        let signer = Signer::of(&app).await;
        let expired = Claims { exp: mine.iat - 1, ..mine.clone() };
        for forged in [Signer::new("k", &[7; 32]).sign(&mine), signer.sign(&expired)] {
            too_many(&reads(&app, app.address, &forged).await, 7);
        }

        // Log-ins are counted for everybody, and what comes of one is an ordinary token.
        let bearer = format!("Bearer {token}");
        let head = [("authorization", bearer.as_str())];
        let body = json!({ "handle": lines[1]["handle"], "password": lines[0]["password"] });
        let logs_in = || app.client.call(app.address, "POST", "/sessions", &head, Some(&body));
        let session: Session = logs_in().await.unwrap().expect(201).json();
        too_many(&logs_in().await.unwrap(), 2);
        too_many(&reads(&app, app.address, &session.access_token).await, 7);
        let body = json!({ "refresh_token": session.refresh_token });
        let next = app.client.call(app.address, "POST", "/sessions", &head, Some(&body)).await;
        let next: Session = next.unwrap().expect(201).json();
        too_many(&reads(&app, app.address, &next.access_token).await, 7);

        let calls = |role| app.metric(role);
        assert!(calls("chirp_uncounted_total{role=\"gateway\"}").await >= 12 + 3);
        assert!(calls("chirp_uncounted_total{role=\"timeline\"}").await >= 12);
    }

    mod one_process {
        #[tokio::test]
        async fn a_token_of_a_seed_goes_on_where_everybody_is_refused() {
            let shape = crate::support::Shape::OneProcess;
            super::a_token_of_a_seed_goes_on_where_everybody_is_refused(shape).await;
        }
    }

    mod one_process_per_role {
        #[tokio::test]
        async fn a_token_of_a_seed_goes_on_where_everybody_is_refused() {
            let shape = crate::support::Shape::PerRole;
            super::a_token_of_a_seed_goes_on_where_everybody_is_refused(shape).await;
        }
    }
}

mod by_log_ins {
    use super::*;

    in_both_shapes! {
        with [("CHIRP_HTTP_ADDRESS_LOGINS_PER_MINUTE", "3")]

        async fn passwords_cannot_be_tried_for_long(app: TestApp) {
            let ada = app.signs_up("ada").await;
            for n in 0..2 {
                let body = json!({ "handle": "ada", "password": format!("guess number {n}") });
                let forged = [("x-forwarded-for", format!("203.0.113.{n}"))];
                let forged = forged.each_ref().map(|(name, value)| (*name, value.as_str()));
                let call = app.client.call(app.address, "POST", "/sessions", &forged, Some(&body));
                call.await.unwrap().expect(401);
            }
            for (path, body) in [
                ("/sessions", json!({ "handle": "ada", "password": "guess" })),
                ("/users", json!({ "handle": "bob", "password": "long enough" })),
            ] {
                let answer = app.client.call(app.address, "POST", path, &[], Some(&body)).await;
                too_many(&answer.unwrap(), 3);
            }
            ada.call("GET", "/me", None).await.expect(200);
        }
    }
}

mod by_streams {
    use super::*;

    in_both_shapes! {
        with [("CHIRP_HTTP_USER_STREAMS_MAX", "2"), ("CHIRP_UP_TIMELINE_REPLICAS", "1")]

        async fn a_user_has_a_few_streams_and_gets_back_those_that_end(app: TestApp) {
            let ada = app.signs_up("ada").await;
            let bob = app.signs_up("bob").await;
            let first = ada.streams().await;
            let _second = ada.streams().await;
            let bearer = format!("Bearer {}", ada.session.access_token);
            let head = [("authorization", bearer.as_str())];
            // Only the head: the body of one that is opened never ends.
            let third = async || {
                let path = "/timeline/stream";
                app.client.open(app.address, "GET", path, &head, None).await.unwrap()
            };
            let refused = third().await;
            assert_eq!(refused.status(), 429);
            assert_eq!(refused.headers()["content-type"], "application/problem+json");
            assert!(refused.headers().contains_key("retry-after"));
            // It is the streams that are too many: what else one does goes on, and so do others.
            ada.call("GET", "/timeline", None).await.expect(200);
            let _his = bob.streams().await;
            drop(first);
            eventually("the place is free", || async {
                (third().await.status() == 200).then_some(())
            })
            .await;
        }
    }
}

mod by_size {
    use super::*;

    in_both_shapes! {
        async fn a_body_that_is_too_large_is_refused_however_it_comes(app: TestApp) {
            let ada = app.signs_up("ada").await;
            let bearer = format!("Bearer {}", ada.session.access_token);
            let head = [("authorization", bearer.as_str()), ("content-type", "application/json")];
            let large = format!("{{\"text\":\"{}\"}}", "x".repeat(20_000));
            for (method, path) in
                [("POST", "/tweets"), ("POST", "/follow"), ("POST", "/users"), ("POST", "/sessions")]
            {
                let call =
                    app.client.call_raw(app.address, method, path, &head, large.clone().into());
                assert_eq!(call.await.unwrap().expect(413).problem(), "body-too-large");
                // In pieces, with no length told beforehand.
                let answer = in_pieces(&app, path, &bearer, &large).await;
                assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
            }
            // The largest that may come: what is wrong with it is something else.
            let fits = format!("{{\"text\":\"{}\"}}", "x".repeat(16_384 - 11));
            let call = app.client.call_raw(app.address, "POST", "/tweets", &head, fits.into());
            assert_eq!(call.await.unwrap().expect(422).problem(), "invalid-field");
            assert_eq!(ada.reads().await, [""; 0]);
        }

        async fn headers_that_are_too_large_are_refused_and_the_stack_lives(app: TestApp) {
            let ada = app.signs_up("ada").await;
            let long = "x".repeat(200_000);
            let head = [("x-long", long.as_str())];
            // It is answered 431, but the connection may be gone before all was sent.
            if let Ok(answer) = app.client.call(app.address, "GET", "/me", &head, None).await {
                assert_eq!(answer.status, 431, "{answer:?}");
            }
            ada.call("GET", "/me", None).await.expect(200);
        }
    }

    async fn in_pieces(app: &TestApp, path: &str, bearer: &str, body: &str) -> String {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::TcpStream::connect(app.address).await.unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: {bearer}\r\n\
             content-type: application/json\r\ntransfer-encoding: chunked\r\n\
             connection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        for piece in body.as_bytes().chunks(1_000) {
            let length = format!("{:x}\r\n", piece.len());
            // The answer may come, and the connection end, before all is sent.
            if stream.write_all(length.as_bytes()).await.is_err()
                || stream.write_all(piece).await.is_err()
                || stream.write_all(b"\r\n").await.is_err()
            {
                break;
            }
        }
        drop(stream.write_all(b"0\r\n\r\n").await);
        let mut answer = Vec::new();
        drop(stream.read_to_end(&mut answer).await);
        String::from_utf8_lossy(&answer).into_owned()
    }
}

mod by_time {
    use super::*;

    in_both_shapes! {
        // About a second for a hash, as on a slow machine.
        with [("CHIRP_AUTH_ARGON2_MEMORY_KIB", "65536"), ("CHIRP_AUTH_ARGON2_PASSES", "8")]

        async fn a_stop_lets_what_is_in_work_finish(app: TestApp) {
            let mut app = app;
            let body = json!({ "handle": "ada", "password": "long enough" });
            let (client, at) = (app.client.clone(), app.address);
            let call = tokio::spawn(async move {
                client.call(at, "POST", "/users", &[], Some(&body)).await
            });
            // The request is at the role by then, and the hash is not done.
            tokio::time::sleep(std::time::Duration::from_millis(150)).await;
            assert!(!call.is_finished(), "the hash is too fast for this test");
            app.asks_to_stop();
            let answer = call.await.unwrap().expect("an answer came");
            app.has_stopped().await;
            assert_eq!(answer.status, 201, "{:?} {answer:?}", app.shape);
            app.launch().await;
            let body = json!({ "handle": "ada", "password": "long enough" });
            let again = app.client.call(app.address, "POST", "/sessions", &[], Some(&body)).await;
            again.unwrap().expect(201);
        }
    }
}

#[tokio::test]
async fn what_was_acknowledged_while_a_stack_stops_is_there_after_it() {
    for shape in [Shape::OneProcess, Shape::PerRole] {
        let mut app = TestApp::start(shape).await;
        let mut ada = app.signs_up("ada").await;
        let posts = (0..8).map(|writer| {
            let ada = ada.clone();
            tokio::spawn(async move {
                let mut kept = Vec::new();
                for n in 0..100_000 {
                    let body = json!({ "text": format!("{writer} {n}") });
                    match ada.tries("POST", "/tweets", &[], Some(body)).await {
                        Ok(answer) if answer.status == 201 => {
                            kept.push(answer.json::<chirp::wire::api::PostedTweet>().tweet.id);
                        }
                        _ => break,
                    }
                }
                kept
            })
        });
        let posts: Vec<_> = posts.collect();
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        app.asks_to_stop();
        app.has_stopped().await;
        let mut kept = Vec::new();
        for post in posts {
            kept.extend(post.await.unwrap());
        }
        assert!(kept.len() > 8, "they did write: {}", kept.len());
        app.launch().await;
        ada.moves_to(&app);
        let found = ada.walks_down("/users/ada/tweets", 100).await;
        let lost: Vec<_> = kept.iter().filter(|id| !found.contains(id)).collect();
        assert!(lost.is_empty(), "{shape:?}: {lost:?}");
    }
}
