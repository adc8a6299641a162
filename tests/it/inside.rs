//! What only the system itself and its operator may call: internal routes, the admin listener.

use chirp::{stack::data_dir::RunFile, wire::routes::Role};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Shape, TestApp, eventually, in_both_shapes, patience};

in_both_shapes! {
    async fn a_message_that_nobody_understands_is_parked_and_can_be_sent_again(app: TestApp) {
        let mut app = app;
        app.may_park();
        app.is_sent_rubbish().await;
        is_parked(&app).await;
        let admin = app.listeners(Role::Timeline).1;
        let token = std::fs::read_to_string(app.data_dir().join("service.token")).unwrap();
        let token = [("x-chirp-service-token", token.as_str())];
        let again = app.client.call(admin, "POST", "/redrive", &token, None).await.unwrap();
        assert_eq!(again.expect(200).json::<Value>(), json!({ "moved": 1 }));
        // Nobody understands it now either.
        is_parked(&app).await;
    }

    async fn what_roles_say_to_each_other_is_closed_to_everybody_else(app: TestApp) {
        let ada = app.signs_up("ada").await;
        let bearer = format!("Bearer {}", ada.session.access_token);
        let own = [("authorization", bearer.as_str())];
        let guess = [("x-chirp-service-token", "0".repeat(64))];
        let guess = guess.each_ref().map(|(name, value)| (*name, value.as_str()));
        let token = std::fs::read_to_string(app.data_dir().join("service.token")).unwrap();
        let right = [("x-chirp-service-token", token.as_str())];
        let calls = [
            ("POST", "/internal/apply", Some(json!({ "events": [] })), Role::Timeline, 204),
            ("GET", "/internal/authors/1/tweets", None, Role::Tweet, 200),
            ("GET", "/internal/users/ada", None, Role::User, 200),
            ("GET", "/internal/revocations?since=0", None, Role::User, 200),
        ];
        for (method, path, body, role, status) in calls {
            // No public listener knows them, not even with the token.
            for door in app.doors(role) {
                for headers in [&[][..], &own, &guess, &right] {
                    let call = app.client.call(door, method, path, headers, body.as_ref());
                    let answer = call.await.unwrap();
                    assert_eq!(answer.status, 404, "{method} {path} at {door}");
                }
            }
            if app.shape == Shape::OneProcess {
                continue;
            }
            let admin = app.listeners(role).1;
            for headers in [&[][..], &own, &guess] {
                let call = app.client.call(admin, method, path, headers, body.as_ref());
                let answer = call.await.unwrap();
                assert!(matches!(answer.status, 401 | 403), "{method} {path}: {answer:?}");
                answer.problem();
            }
            let call = app.client.call(admin, method, path, &right, body.as_ref());
            call.await.unwrap().expect(status);
        }
    }

    async fn a_stranger_at_the_address_of_a_role_is_told_no_secret(app: TestApp) {
        if app.shape == Shape::OneProcess {
            return;
        }
        // As after kill -9: the file names a port that is somebody else's by now.
        let stranger = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = stranger.local_addr().unwrap();
        let file = app.data_dir().join("run/user.json");
        let before = std::fs::read(&file).unwrap();
        let mut run: RunFile = serde_json::from_slice(&before).unwrap();
        (run.address, run.admin) = (port, port);
        std::fs::write(&file, serde_json::to_vec(&run).unwrap()).unwrap();
        let listens = async {
            let mut heard = String::new();
            // The caller hangs up after the answer, and calls again for its next request.
            for _ in 0..3 {
                let (mut caller, _) = stranger.accept().await.unwrap();
                let mut bytes = vec![0; 4_096];
                let count = caller.read(&mut bytes).await.unwrap();
                caller.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
                let more = caller.read(&mut bytes[count..]).await.unwrap_or(0);
                heard.push_str(std::str::from_utf8(&bytes[..count + more]).unwrap());
            }
            heard
        };
        let asks = async {
            let body = json!({ "handle": "ada", "password": "correct horse" });
            loop {
                let _ = app.client.call(app.address, "POST", "/users", &[], Some(&body)).await;
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        let heard = tokio::select! {
            biased;
            heard = tokio::time::timeout(patience(), listens) => heard.unwrap(),
            () = asks => unreachable!(),
        };
        let token = std::fs::read_to_string(app.data_dir().join("service.token")).unwrap();
        for secret in [token.as_str(), "correct horse"] {
            assert!(!heard.contains(secret), "{heard}");
        }
        // Once it is found again it is believed again.
        std::fs::write(&file, &before).unwrap();
        eventually("the role is found", || async {
            let body = json!({ "handle": "bob", "password": "correct horse" });
            let call = app.client.call(app.address, "POST", "/users", &[], Some(&body));
            (call.await.ok()?.status == 201).then_some(())
        })
        .await;
    }

    async fn repairs_of_the_admin_listener_need_the_service_token(app: TestApp) {
        let token = std::fs::read_to_string(app.data_dir().join("service.token")).unwrap();
        for admin in app.admins() {
            for path in ["/replay?since_ms=9000000000000", "/redrive"] {
                let wrong = "0".repeat(64);
                for headers in [&[][..], &[("x-chirp-service-token", wrong.as_str())]] {
                    let answer = app.client.call(admin, "POST", path, headers, None).await.unwrap();
                    assert_eq!(answer.expect(403).problem(), "service-token");
                }
                let right = [("x-chirp-service-token", token.as_str())];
                let answer = app.client.call(admin, "POST", path, &right, None).await.unwrap();
                assert_eq!(answer.expect(200).json::<Value>()["moved"], 0);
                assert_eq!(app.client.get(admin, path).await.unwrap().status, 405);
            }
            let config = app.client.get(admin, "/config").await.unwrap().expect(200);
            assert!(!String::from_utf8_lossy(&config.body).contains(&token));
        }
        for path in ["/healthz", "/readyz", "/metrics", "/queues", "/config", "/replay"] {
            let public = app.client.get(app.address, path).await.unwrap();
            assert_eq!(public.status, 404, "{path} is not public");
        }
    }

    async fn a_strangers_name_for_this_machine_is_refused_at_the_admin_listener(app: TestApp) {
        let token = std::fs::read_to_string(app.data_dir().join("service.token")).unwrap();
        for admin in app.admins() {
            let port = admin.port();
            for path in ["/healthz", "/readyz", "/peers", "/metrics", "/queues", "/config"] {
                // As after a name server was made to say that it is 127.0.0.1.
                for name in [format!("evil.example:{port}"), "localhost.evil.example".to_owned()] {
                    let host = [("host", name.as_str())];
                    let answer = app.client.call(admin, "GET", path, &host, None).await.unwrap();
                    assert_eq!(answer.expect(421).problem(), "foreign-host", "{path}");
                }
                for name in [format!("localhost:{port}"), format!("127.0.0.1:{port}")] {
                    let host = [("host", name.as_str())];
                    app.client.call(admin, "GET", path, &host, None).await.unwrap().expect(200);
                }
            }
            let both = [("host", "evil.example"), ("x-chirp-service-token", token.as_str())];
            let redrive = app.client.call(admin, "POST", "/redrive", &both, None).await.unwrap();
            assert_eq!(redrive.expect(421).problem(), "foreign-host");
        }
    }
}

/// Waits until one message is parked in the ingest lane, as the timeline role sees it.
async fn is_parked(app: &TestApp) {
    let admin = app.listeners(Role::Timeline).1;
    eventually("a message is parked", || async {
        let queues: Value = app.client.get(admin, "/queues").await.ok()?.expect(200).json();
        let lanes = queues["lanes"].as_array()?.clone();
        lanes.iter().any(|l| l["lane"] == "ingest" && l["parked"] == 1).then_some(())
    })
    .await;
}
