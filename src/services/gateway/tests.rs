//! Scenarios of the gateway.

use std::{
    convert::Infallible,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::Request,
};
use http::StatusCode;
use tower::ServiceExt;

use crate::{
    domain::SessionId,
    services::kit::{
        fakes::{Issuer, Replica, TOKEN, Take, World, ask},
        token::Claims,
    },
    wire::routes::{ROUTES, Role},
};

/// A role that takes everything and says which path was asked.
fn echo(world: &World, role: Role) -> Arc<Replica> {
    let handler = async |request: Request| {
        let path = request.uri().to_string();
        let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap();
        let headers = [("connection", "x-inner"), ("x-inner", "1"), ("keep-alive", "timeout=1")];
        (StatusCode::OK, headers, format!("{path} {}", body.len()))
    };
    world.net.add(role, Router::new().fallback(handler), Router::new())
}

fn calls(replica: &Replica) -> usize {
    replica.seen.lock().len()
}

#[tokio::test(start_paused = true)]
async fn every_route_of_the_table_reaches_its_role() {
    let world = World::new();
    let replicas = [Role::User, Role::Tweet, Role::Timeline].map(|role| echo(&world, role));
    let gateway = super::build(world.common(Role::Gateway)).public;
    for route in ROUTES {
        let path = route.path.replace("{handle}", "ada").replace("{id}", "7") + "?limit=3";
        let answer = ask(&gateway, &format!("{} {path}", route.method), &[], "").await;
        assert_eq!((answer.status, answer.text), (200, format!("{path} 0")), "{path}");
        let replica = &replicas[route.role as usize - 1];
        let line = format!("{} {path}", route.method);
        assert_eq!(replica.seen.lock().last().unwrap().0, line);
    }
}

#[tokio::test(start_paused = true)]
async fn what_may_not_be_repeated_is_sent_once_and_the_rest_twice() {
    for (line, key, take, status, attempts) in [
        ("GET /timeline", None, Take::DieAfter, 200, 2),
        ("GET /timeline", None, Take::Hang, 200, 2),
        ("DELETE /tweets/7", None, Take::DieAfter, 200, 2),
        ("POST /tweets", None, Take::DieAfter, 502, 1),
        ("POST /tweets", None, Take::Hang, 504, 1),
        ("POST /users", None, Take::DieAfter, 502, 1),
        ("POST /sessions", None, Take::DieAfter, 502, 1),
        ("POST /tweets", Some("k"), Take::DieAfter, 200, 2),
        // Dropped on the way: the role never sees it.
        ("POST /tweets", Some("for this connection only"), Take::DieAfter, 502, 1),
        // What was never sent may always be tried elsewhere; the refused call is not seen.
        ("POST /tweets", None, Take::Refuse, 200, 1),
    ] {
        let mut world = World::new();
        world.config.gateway.attempt_timeout_ms = 1_000;
        let roles = [Role::User, Role::Tweet, Role::Timeline];
        let replicas: Vec<_> =
            roles.iter().flat_map(|&role| [echo(&world, role), echo(&world, role)]).collect();
        let gateway = super::build(world.common(Role::Gateway)).public;
        // Whichever is drawn first takes it badly: the other one is told so too if it is second.
        for pair in replicas.chunks(2) {
            pair[0].takes.lock().push_back(take);
            pair[1].healthy.store(false, Ordering::Relaxed);
        }
        let mut headers: Vec<_> = key.map(|key| ("idempotency-key", key)).into_iter().collect();
        if key == Some("for this connection only") {
            headers.extend([("connection", "close"), ("connection", "Idempotency-Key")]);
        }
        let answer = ask(&gateway, line, &headers, r#"{"text":"hi"}"#).await;
        assert_eq!(answer.status, status, "{line} {key:?} {take:?}");
        let seen: usize = replicas.iter().map(|replica| calls(replica)).sum();
        assert_eq!(seen, attempts, "{line} {key:?} {take:?}");
        if status != 200 {
            assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_may_have_happened_stays_so_whatever_a_second_attempt_says() {
    for (line, first, second, status) in [
        ("DELETE /tweets/7", Take::DieAfter, Take::Refuse, 502),
        ("DELETE /tweets/7", Take::DieAfter, Take::Shed, 502),
        ("DELETE /tweets/7", Take::Hang, Take::Refuse, 504),
        ("DELETE /tweets/7", Take::Hang, Take::Shed, 504),
        // Nothing happened at the first.
        ("DELETE /tweets/7", Take::Refuse, Take::Shed, 503),
        ("DELETE /tweets/7", Take::Refuse, Take::DieAfter, 502),
        // A read changes nothing.
        ("GET /timeline", Take::DieAfter, Take::Shed, 503),
    ] {
        let mut world = World::new();
        world.config.gateway.attempt_timeout_ms = 1_000;
        for role in [Role::User, Role::Tweet, Role::Timeline] {
            let (one, other) = (echo(&world, role), echo(&world, role));
            one.takes.lock().push_back(first);
            other.takes.lock().push_back(second);
            // So that it is the second.
            other.healthy.store(false, Ordering::Relaxed);
        }
        let gateway = super::build(world.common(Role::Gateway)).public;
        let answer = ask(&gateway, line, &[], "").await;
        assert_eq!(answer.status, status, "{line} {first:?} {second:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_role_without_replicas_is_a_problem_with_a_time_to_come_back() {
    let world = World::new();
    let gateway = super::build(world.common(Role::Gateway)).public;
    let answer = ask(&gateway, "GET /timeline", &[], "").await;
    assert_eq!((answer.status, answer.code()), (503, "unavailable"));
    assert!(answer.header("retry-after").is_some());
}

#[tokio::test(start_paused = true)]
async fn an_unhealthy_replica_gets_nothing_and_healthy_ones_share() {
    let world = World::new();
    let replicas = [(); 4].map(|()| echo(&world, Role::Timeline));
    replicas[2].healthy.store(false, Ordering::Relaxed);
    let gateway = super::build(world.common(Role::Gateway)).public;
    for _ in 0..300 {
        ask(&gateway, "GET /timeline", &[], "").await;
    }
    assert_eq!(calls(&replicas[2]), 0);
    for healthy in [0, 1, 3] {
        assert!(calls(&replicas[healthy]) > 50, "{}", calls(&replicas[healthy]));
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_client_says_of_itself_does_not_pass() {
    let world = World::new();
    let timeline = echo(&world, Role::Timeline);
    let gateway = super::build(world.common(Role::Gateway)).public;
    let said = [
        ("x-chirp-service-token", "guess"),
        ("x-forwarded-for", "203.0.113.9"),
        ("forwarded", "for=203.0.113.9"),
        ("connection", "x-secret, keep-alive"),
        ("x-secret", "1"),
        ("te", "trailers"),
        ("authorization", "Bearer t"),
        ("x-request-id", "r-7"),
    ];
    let answer = ask(&gateway, "GET /timeline", &said, "").await;
    let seen = timeline.seen.lock();
    let headers = &seen[0].1;
    assert_eq!(headers["x-chirp-service-token"], TOKEN);
    for gone in ["x-forwarded-for", "forwarded", "connection", "x-secret", "te"] {
        assert!(!headers.contains_key(gone), "{gone}");
    }
    assert_eq!(headers["authorization"], "Bearer t");
    assert_eq!(headers["x-request-id"], "r-7");
    assert!(headers.contains_key("traceparent"));
    for gone in ["connection", "x-inner", "keep-alive"] {
        assert_eq!(answer.header(gone), None, "{gone}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_page_runs_nothing_but_its_own_files() {
    let world = World::new();
    let gateway = super::build(world.common(Role::Gateway)).public;
    let page = ask(&gateway, "GET /", &[], "").await;
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let csp = page.header("content-security-policy").unwrap();
    assert!(csp.starts_with("default-src 'none'; script-src 'self'; style-src 'self'"), "{csp}");
    assert!(!csp.contains("unsafe"));
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cache-control", "no-cache"),
    ] {
        assert_eq!(page.header(name), Some(value));
    }
    for file in ["/app.css", "/app.js"] {
        assert_eq!(ask(&gateway, &format!("GET {file}"), &[], "").await.status, 200);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_body_never_comes_is_not_held_for_ever() {
    let mut world = World::new();
    world.config.http.streams_max = 1;
    echo(&world, Role::Timeline);
    let gateway = super::build(world.common(Role::Gateway)).public;
    for _ in 0..2 {
        let body = Body::from_stream(futures_util::stream::pending::<Result<Bytes, Infallible>>());
        let request = http::Request::get("/timeline/stream").body(body).unwrap();
        let asked = tokio::time::timeout(Duration::from_hours(1), gateway.clone().oneshot(request));
        let Ok(answer) = asked.await.expect("it is answered");
        assert_eq!(answer.status(), 504, "and its place is free again");
    }
}

/// A gateway that lets an address make one call a minute, with its loops.
async fn strict(world: &mut World) -> Router {
    world.config.http.address_calls_per_minute = 1;
    let service = super::build(world.common(Role::Gateway));
    assert!(*service.ready.borrow(), "it is ready whoever else is");
    let gateway = service.public.clone();
    world.start(service).await;
    gateway
}

fn uncounted(issuer: &Issuer) -> String {
    let claims = Claims { uncounted: true, ..issuer.claims(1) };
    format!("Bearer {}", issuer.key.sign(&claims).unwrap())
}

async fn reads(gateway: &Router, authorization: &str) -> u16 {
    ask(gateway, "GET /timeline", &[("authorization", authorization)], "").await.status
}

#[tokio::test(start_paused = true)]
async fn keys_are_asked_for_when_a_call_first_claims_that_nobody_counts_it() {
    let mut world = World::new();
    let issuer = Issuer::start(&world);
    let timeline = echo(&world, Role::Timeline);
    let gateway = strict(&mut world).await;
    let ordinary = format!("Bearer {}", issuer.token(2));
    let asked = [reads(&gateway, &ordinary).await, reads(&gateway, &ordinary).await];
    world.rt.sleep(Duration::from_mins(1)).await;
    assert_eq!((asked, calls(&issuer.replica)), ([200, 429], 0), "nobody claimed anything");
    let claiming = uncounted(&issuer);
    for _ in 0..3 {
        assert_eq!(reads(&gateway, &claiming).await, 200);
    }
    assert_eq!(reads(&gateway, &ordinary).await, 429);
    assert_eq!(calls(&timeline), 4);
    issuer.revoked.lock().push(SessionId(1));
    world.rt.sleep(world.config.auth.revocation_poll() * 2).await;
    assert_eq!(reads(&gateway, &claiming).await, 429, "the session was ended");
}

#[tokio::test(start_paused = true)]
async fn who_claims_it_while_no_keys_can_be_had_is_counted_and_asks_for_them_no_more_than_others() {
    let mut world = World::new();
    let issuer = Issuer::start(&world);
    issuer.replica.takes.lock().extend([Take::Shed; 1_000]);
    echo(&world, Role::Timeline);
    let gateway = strict(&mut world).await;
    let claiming = uncounted(&issuer);
    let started = world.rt.now();
    assert_eq!(reads(&gateway, &claiming).await, 200, "the one call of this minute");
    for _ in 0..100 {
        assert_eq!(reads(&gateway, &claiming).await, 429);
    }
    let waited = world.rt.now().since(started);
    assert!(waited < Duration::from_secs(8), "the first thirty wait for keys: {waited:?}");
    let polls = world.config.auth.revocation_poll();
    world.rt.sleep(polls * 60).await;
    // Keys and revocations, each tried twice.
    let most = 4 * (60 + waited.as_secs() / polls.as_secs() + 2);
    let asked = calls(&issuer.replica) as u64;
    assert!((60..=most).contains(&asked), "{asked}");
    issuer.replica.takes.lock().clear();
    world.rt.sleep(Duration::from_mins(1)).await;
    assert_eq!(reads(&gateway, &claiming).await, 200);
    assert_eq!(reads(&gateway, &claiming).await, 200);
}
