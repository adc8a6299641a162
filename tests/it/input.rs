//! Bad input: what is wrong with it is told, and nothing is changed by it.

use serde_json::{Value, json};

use crate::support::{Actor, Answer, PASSWORD, TestApp, in_both_shapes};

const BAD_JSON: [&str; 6] = ["", "{", "nul", "{'text':'a'}", "\u{feff}{}", "{,}"];
const WRONG_SHAPE: [&str; 5] = ["[]", "7", "null", "\"text\"", "true"];

/// A body, the code it is answered with, and the field that is named.
type Case = (Value, u16, &'static str, &'static str);

fn field(body: Value, field: &'static str) -> Case {
    (body, 422, "invalid-field", field)
}

/// Routes with a body, with bodies that are JSON objects and still wrong.
#[expect(clippy::too_many_lines, reason = "it is one table")]
fn bodies() -> Vec<(&'static str, Vec<Case>)> {
    let (p, long) = (PASSWORD, |n: usize| "x".repeat(n));
    let sign_up = |handle: Value| json!({ "handle": handle, "password": p });
    let named = |name: &str| json!({ "handle": "zoe", "password": p, "name": name });
    let with_password = |password: Value| json!({ "handle": "zoe", "password": password });
    vec![
        (
            "/users",
            vec![
                field(json!({}), "handle"),
                field(json!({ "handle": "zoe" }), "password"),
                field(json!({ "password": p }), "handle"),
                field(sign_up(json!(7)), "handle"),
                field(sign_up(json!(null)), "handle"),
                field(sign_up(json!(["zoe"])), "handle"),
                field(sign_up(json!("")), "handle"),
                field(sign_up(json!("@")), "handle"),
                field(sign_up(json!("a b")), "handle"),
                field(sign_up(json!("zo\u{e9}")), "handle"),
                field(sign_up(json!("../ada")), "handle"),
                field(sign_up(json!("zoe\u{0}")), "handle"),
                field(sign_up(json!(long(16))), "handle"),
                field(with_password(json!(12_345_678)), "password"),
                field(with_password(json!("seven77")), "password"),
                field(with_password(json!(long(257))), "password"),
                field(named(""), "name"),
                field(named("   "), "name"),
                field(named("a\u{7}b"), "name"),
                field(named(&long(51)), "name"),
                field(json!({ "handle": "zoe", "password": p, "id": "1" }), "id"),
                field(json!({ "handle": "zoe", "password": p, "admin": true }), "admin"),
            ],
        ),
        (
            "/sessions",
            vec![
                field(json!({}), "handle"),
                field(json!({ "handle": "ada" }), "password"),
                field(json!({ "password": p }), "handle"),
                field(json!({ "handle": 7, "password": p }), "handle"),
                field(json!({ "handle": "ada", "password": true }), "password"),
                field(json!({ "refresh_token": 7 }), "refresh_token"),
                field(json!({ "refresh_token": "x", "handle": "ada" }), "refresh_token"),
                field(json!({ "handle": "ada", "password": p, "user": "1" }), "user"),
                (json!({ "refresh_token": "" }), 401, "session-ended", ""),
                (json!({ "refresh_token": "a\u{0}b" }), 401, "session-ended", ""),
                (json!({ "refresh_token": long(5_000) }), 401, "session-ended", ""),
                (json!({ "handle": "ada\u{0}", "password": p }), 401, "wrong-credentials", ""),
            ],
        ),
        (
            "/follow",
            vec![
                field(json!({}), "handle"),
                field(json!({ "handle": 7 }), "handle"),
                field(json!({ "handle": null }), "handle"),
                field(json!({ "handle": "" }), "handle"),
                field(json!({ "handle": "a b" }), "handle"),
                field(json!({ "handle": long(16) }), "handle"),
                field(json!({ "handle": "bob", "notify": true }), "notify"),
                (json!({ "handle": "nobody" }), 404, "not-found", ""),
                (json!({ "handle": "ada" }), 409, "yourself", ""),
            ],
        ),
        (
            "/tweets",
            vec![
                field(json!({}), "text"),
                field(json!({ "text": 7 }), "text"),
                field(json!({ "text": null }), "text"),
                field(json!({ "text": ["a"] }), "text"),
                field(json!({ "text": "" }), "text"),
                field(json!({ "text": " \n\t " }), "text"),
                field(json!({ "text": "\u{a0}\u{3000}" }), "text"),
                field(json!({ "text": "a\u{0}b" }), "text"),
                field(json!({ "text": "a\u{1b}[31mb" }), "text"),
                field(json!({ "text": "a\u{85}b" }), "text"),
                field(json!({ "text": "\u{1f600}".repeat(281) }), "text"),
                field(json!({ "text": long(281) }), "text"),
                field(json!({ "text": "a", "author": "1" }), "author"),
                field(json!({ "text": "a", "id": "1" }), "id"),
            ],
        ),
    ]
}

/// Calls without a body that are wrong. `{tweet}` is a tweet of bob's.
const PATHS: &[(&str, &str, u16, &str)] = &[
    ("GET", "/users/nobody", 404, "not-found"),
    ("GET", "/users/a%20b", 404, "not-found"),
    ("GET", "/users/%00", 404, "not-found"),
    ("GET", "/users/%ff", 400, "bad-request"),
    ("GET", "/users/..%2fme", 404, "not-found"),
    ("GET", "/users/abcdefghijklmnopq", 404, "not-found"),
    ("GET", "/users/", 404, "not-found"),
    ("GET", "/users/bob/", 404, "not-found"),
    ("GET", "/users/nobody/tweets", 404, "not-found"),
    ("GET", "/users/%ff/tweets", 400, "bad-request"),
    ("DELETE", "/follow/nobody", 404, "not-found"),
    ("DELETE", "/follow/ada", 409, "yourself"),
    ("DELETE", "/follow/%ff", 400, "bad-request"),
    ("PUT", "/blocks/nobody", 404, "not-found"),
    ("PUT", "/blocks/ada", 409, "yourself"),
    ("PUT", "/blocks/%ff", 400, "bad-request"),
    ("DELETE", "/blocks/nobody", 404, "not-found"),
    ("DELETE", "/blocks/ada", 409, "yourself"),
    ("DELETE", "/blocks/%ff", 400, "bad-request"),
    ("DELETE", "/tweets/17", 404, "not-found"),
    ("DELETE", "/tweets/0", 404, "not-found"),
    ("DELETE", "/tweets/-1", 404, "not-found"),
    ("DELETE", "/tweets/1.5", 404, "not-found"),
    ("DELETE", "/tweets/one", 404, "not-found"),
    ("DELETE", "/tweets/9223372036854775807", 404, "not-found"),
    ("DELETE", "/tweets/18446744073709551615", 404, "not-found"),
    ("DELETE", "/tweets/18446744073709551616", 404, "not-found"),
    ("DELETE", "/tweets/%ff", 400, "bad-request"),
    ("DELETE", "/tweets/{tweet}", 403, "not-owner"),
    ("GET", "/nothing/here", 404, "not-found"),
    ("GET", "//timeline", 404, "not-found"),
    ("PUT", "/timeline", 405, "method-not-allowed"),
    ("PATCH", "/me", 405, "method-not-allowed"),
    ("DELETE", "/tweets", 405, "method-not-allowed"),
    ("GET", "/follow", 405, "method-not-allowed"),
];

/// Queries that are wrong on both lists, with the field that is named.
const QUERIES: &[(&str, &str)] = &[
    ("limit=0", "limit"),
    ("limit=101", "limit"),
    ("limit=-1", "limit"),
    ("limit=ten", "limit"),
    ("limit=", "limit"),
    ("limit=1.5", "limit"),
    ("limit=99999999999999999999", "limit"),
    ("before=", "before"),
    ("before=x", "before"),
    ("before=-1", "before"),
    ("before=1e3", "before"),
    ("before=18446744073709551616", "before"),
    ("after=x", "after"),
    ("after=%00", "after"),
    ("before=9&after=1", "after"),
    ("limit=1&limit=2", ""),
    ("before=1&before=2", ""),
    ("cursor=1", ""),
];

#[expect(clippy::needless_pass_by_value, reason = "it is looked at only here")]
fn checked(answer: Answer, status: u16, code: &str, case: &str) -> Value {
    assert_eq!(answer.status, status, "{case}: {answer:?}");
    assert_eq!(answer.problem(), code, "{case}: {answer:?}");
    assert_ne!(answer.header("x-request-id"), "", "{case}");
    assert_eq!(answer.header("x-content-type-options"), "nosniff", "{case}");
    assert_eq!(answer.header("cache-control"), "no-store", "{case}");
    let body: Value = answer.json();
    assert_eq!(body["request_id"], answer.header("x-request-id"), "{case}");
    assert!(!body["title"].as_str().unwrap().is_empty(), "{case}");
    body
}

async fn raw(app: &TestApp, ada: &Actor, path: &str, kind: &str, body: &[u8]) -> Answer {
    let bearer = format!("Bearer {}", ada.session.access_token);
    let mut head = vec![("authorization", bearer.as_str())];
    if !kind.is_empty() {
        head.push(("content-type", kind));
    }
    app.client.call_raw(app.address, "POST", path, &head, body.to_vec()).await.unwrap()
}

in_both_shapes! {
    async fn every_bad_body_is_named_and_changes_nothing(app: TestApp) {
        let ada = app.signs_up("ada").await;
        app.signs_up("bob").await;
        let kind = "application/json";
        for (path, cases) in bodies() {
            for body in BAD_JSON {
                let answer = raw(&app, &ada, path, kind, body.as_bytes()).await;
                checked(answer, 400, "malformed-json", &format!("{path} {body}"));
            }
            for body in WRONG_SHAPE {
                let answer = raw(&app, &ada, path, kind, body.as_bytes()).await;
                checked(answer, 422, "invalid-field", &format!("{path} {body}"));
            }
            let name = if path == "/tweets" { "text" } else { "handle" };
            let torn = [format!("{{\"{name}\":\"").as_bytes(), b"\xc3\x28\"}"].concat();
            for body in [&b"\xff\xfe"[..], &torn] {
                let answer = raw(&app, &ada, path, kind, body).await;
                checked(answer, 400, "malformed-json", &format!("{path} {body:?}"));
            }
            let deep = "[".repeat(10_000);
            let answer = raw(&app, &ada, path, kind, deep.as_bytes()).await;
            assert!(matches!(answer.status, 400 | 422), "{path} deep: {answer:?}");
            for other in ["", "text/plain", "application/x-www-form-urlencoded", "application/jsonx"] {
                let answer = raw(&app, &ada, path, other, b"{}").await;
                checked(answer, 415, "unsupported-media-type", &format!("{path} {other}"));
            }
            for (body, status, code, name) in cases {
                let case = format!("{path} {body}");
                let bytes = serde_json::to_vec(&body).unwrap();
                let kind = "application/json; charset=utf-8";
                let told = checked(raw(&app, &ada, path, kind, &bytes).await, status, code, &case);
                let wanted = if name.is_empty() { Value::Null } else { json!(name) };
                assert_eq!(told["field"], wanted, "{case}: {told}");
                assert!(!told.to_string().contains(PASSWORD), "{case}: {told}");
            }
        }
        for body in ["{\"text\":\"a\"} x", "{\"text\":\"\\ud800\"}", "{\"text\":\"a\",}"] {
            let answer = raw(&app, &ada, "/tweets", kind, body.as_bytes()).await;
            checked(answer, 400, "malformed-json", body);
        }
        let doubled = br#"{"text":"a","text":"b"}"#;
        let answer = raw(&app, &ada, "/tweets", kind, doubled).await;
        checked(answer, 422, "invalid-field", "a field twice");
        assert_eq!(ada.reads().await, [""; 0]);
        assert_eq!(ada.profile("bob").await.followers, 0);
        ada.call("GET", "/users/zoe", None).await.expect(404);
    }

    async fn every_bad_path_and_query_is_named_and_changes_nothing(app: TestApp) {
        let ada = app.signs_up("ada").await;
        let bob = app.signs_up("bob").await;
        let tweet = bob.tweets("by bob").await;
        for (method, path, status, code) in PATHS {
            let path = path.replace("{tweet}", &tweet.id.to_string());
            let answer = ada.call(method, &path, None).await;
            checked(answer, *status, code, &format!("{method} {path}"));
        }
        for list in ["/timeline", "/users/bob/tweets", "/users/ada/tweets"] {
            for (query, name) in QUERIES {
                let path = format!("{list}?{query}");
                let told = checked(ada.call("GET", &path, None).await, 422, "invalid-field", &path);
                if !name.is_empty() {
                    assert_eq!(told["field"], *name, "{path}: {told}");
                }
            }
        }
        assert_eq!(bob.reads().await, ["by bob"]);
    }

    async fn what_is_at_the_edge_is_taken(app: TestApp) {
        let ada = app.signs_up("ada").await;
        for text in ["x".repeat(280), "\u{1f600}".repeat(280), "two\nlines\tand a tab".to_owned()] {
            assert_eq!(ada.tweets(&text).await.text.as_str(), text);
        }
        let max = u64::MAX;
        for list in ["/timeline", "/users/ada/tweets"] {
            for (query, count) in [
                ("limit=1".to_owned(), 1),
                ("limit=100".to_owned(), 3),
                (format!("before={max}"), 3),
                ("before=9223372036854775807".to_owned(), 3),
                ("before=0".to_owned(), 0),
                ("after=0".to_owned(), 3),
                ("after=9223372036854775807".to_owned(), 0),
                (format!("after={max}"), 0),
            ] {
                let path = format!("{list}?{query}");
                assert_eq!(ada.page(&path).await.tweets.len(), count, "{path}");
            }
        }
        for (handle, password) in [("a", "x".repeat(8)), ("abcdefghijklmno", "\u{e9}".repeat(256))] {
            let body = json!({ "handle": handle, "name": "\u{1f600}".repeat(50), "password": password });
            let answer = app.client.call(app.address, "POST", "/users", &[], Some(&body)).await;
            answer.unwrap().expect(201);
            let body = json!({ "handle": handle, "password": password });
            let answer = app.client.call(app.address, "POST", "/sessions", &[], Some(&body)).await;
            answer.unwrap().expect(201);
        }
    }

    async fn an_idempotency_key_must_be_short_and_visible(app: TestApp) {
        let ada = app.signs_up("ada").await;
        for key in [String::new(), "two words".to_owned(), "x".repeat(129), "\u{e9}".to_owned()] {
            let head = [("idempotency-key", key.as_str())];
            let body = Some(json!({ "text": "not posted" }));
            let answer = ada.call_with("POST", "/tweets", &head, body).await;
            let told = checked(answer, 422, "invalid-field", &key);
            assert_eq!(told["field"], "idempotency-key");
        }
        assert_eq!(ada.reads().await, [""; 0]);
        // A preference that is not understood is ignored, as its RFC says.
        for prefer in ["wait=0", "wait=31", "wait=soon", "return=minimal"] {
            let body = Some(json!({ "text": prefer }));
            let answer = ada.call_with("POST", "/tweets", &[("prefer", prefer)], body).await;
            assert_eq!(answer.expect(201).header("preference-applied"), "");
        }
    }

    async fn what_is_said_of_ids_and_traces_is_taken_only_if_it_is_sane(app: TestApp) {
        let ada = app.signs_up("ada").await;
        let own = [("x-request-id", "mine-7_A.b")];
        let answer = ada.call_with("GET", "/me", &own, None).await.expect(200);
        assert_eq!(answer.header("x-request-id"), "mine-7_A.b");
        for bad in ["a b", "<script>", "", &"x".repeat(65), "a\"b"] {
            let answer = ada.call_with("GET", "/me", &[("x-request-id", bad)], None).await.expect(200);
            assert_ne!(answer.header("x-request-id"), bad);
            assert_ne!(answer.header("x-request-id"), "");
        }
        ada.call_with("GET", "/me", &[("traceparent", "nonsense")], None).await.expect(200);
    }
}
