//! Scenarios of the guard, the relay and the check of tokens.

use std::{sync::Arc, time::Duration};

use axum::body::Bytes;

use super::{
    Call, Code, Fault, Json, Kit, Relay,
    answers::empty,
    fakes::{MemBus, MemOutbox, TOKEN, World, Wrong, ask},
    relay::Step,
};
use crate::{
    domain::{TweetId, UserId},
    ports::{Bus, Outbox, Topic},
    wire::{
        api::Follow,
        events::{Event, Fact},
        routes::Role,
    },
};

fn deleted(id: u64) -> Bytes {
    let fact = Fact::TweetDeleted { id: TweetId(id), author: UserId(1) };
    Event { at_ms: 0, trace: None, fact }.encode()
}

struct Sending {
    outbox: Arc<MemOutbox>,
    bus: Arc<MemBus>,
    relay: Arc<Relay>,
}

fn sending(world: &World, rows: std::ops::Range<u64>) -> Sending {
    let (outbox, bus): (Arc<MemOutbox>, Arc<MemBus>) = Default::default();
    rows.for_each(|id| outbox.add(deleted(id)));
    let relay = Relay::new(
        world.common(Role::Tweet),
        Arc::clone(&outbox) as Arc<dyn Outbox>,
        Arc::clone(&bus) as Arc<dyn Bus>,
        Topic::TweetEvents,
    );
    Sending { outbox, bus, relay }
}

#[tokio::test(start_paused = true)]
async fn the_relay_sends_every_row_once_in_order_when_all_is_well() {
    let Sending { outbox, bus, relay } = sending(&World::new(), 100..2_000);
    while relay.try_step().await != Step::Idle {}
    assert_eq!(bus.ids(), (100..2_000).collect::<Vec<_>>());
    assert_eq!(outbox.unsent(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_row_that_cannot_be_sent_holds_back_nobody_else() {
    let world = World::new();
    let Sending { outbox, bus, relay } = sending(&world, 1..1_000);
    *bus.poison.lock() = Some((r#""id":"7""#.to_owned(), Wrong::Failed));
    tokio::spawn(Arc::clone(&relay).run());
    world.rt.sleep(Duration::from_secs(5)).await;
    assert_eq!(outbox.unsent(), 1, "only the failing row waits");
    assert!(!bus.ids().contains(&7));
    outbox.add(deleted(5_000));
    relay.wake();
    world.rt.sleep(Duration::from_millis(5)).await;
    assert!(bus.ids().contains(&5_000), "a new row does not wait for the failing one");
    *bus.poison.lock() = None;
    world.rt.sleep(Duration::from_secs(15)).await;
    assert_eq!(bus.distinct_ids(), (1..1_000).chain([5_000]).collect());
    assert_eq!(outbox.unsent(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_row_that_failed_travels_alone_and_is_no_sign_of_a_broken_bus() {
    let world = World::new();
    let Sending { outbox, bus, relay } = sending(&world, 1..5);
    *bus.poison.lock() = Some((r#""id":"3""#.to_owned(), Wrong::Failed));
    assert_eq!(relay.try_step().await, Step::Trouble, "they were packed together");
    world.rt.sleep(Duration::from_secs(1)).await;
    (10..20).for_each(|id| outbox.add(deleted(id)));
    assert!(matches!(relay.try_step().await, Step::Sent { rows: 13, .. }));
    assert_eq!(outbox.unsent(), 1);
    world.rt.sleep(Duration::from_secs(1)).await;
    assert_eq!(relay.try_step().await, Step::Idle, "it fails once more, alone");
    assert_eq!(bus.distinct_ids().len(), 13);
}

#[tokio::test(start_paused = true)]
async fn rows_of_unknown_fate_are_sent_again_and_never_marked() {
    let world = World::new();
    for wrong in [Wrong::Lost, Wrong::Applied] {
        let Sending { outbox, bus, relay } = sending(&world, 1..5);
        *bus.poison.lock() = Some((r#""id":"3""#.to_owned(), wrong));
        assert_eq!(relay.try_step().await, Step::Trouble, "{wrong:?}");
        assert_eq!(outbox.unsent(), 4, "{wrong:?}");
        *bus.poison.lock() = None;
        tokio::spawn(Arc::clone(&relay).run());
        world.rt.sleep(Duration::from_secs(15)).await;
        assert_eq!(bus.distinct_ids(), (1..5).collect(), "{wrong:?}");
        assert_eq!(outbox.unsent(), 0, "{wrong:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn rows_that_could_not_be_marked_are_sent_again_after_the_lease() {
    let world = World::new();
    let Sending { outbox, bus, relay } = sending(&world, 1..4);
    outbox.plan.next([None, Some(Wrong::Lost)]);
    assert_eq!(relay.try_step().await, Step::Trouble);
    assert_eq!(relay.try_step().await, Step::Idle, "the lease still holds");
    world.rt.sleep(world.config.relay.lease()).await;
    assert!(matches!(relay.try_step().await, Step::Sent { rows: 3, .. }));
    assert_eq!(bus.ids(), [1, 2, 3, 1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn an_idle_relay_sends_at_once_and_a_busy_one_gathers() {
    let world = World::new();
    let gather = world.config.relay.gather();
    let Sending { outbox, bus, relay } = sending(&world, 1..2);
    tokio::spawn(Arc::clone(&relay).run());
    world.rt.sleep(Duration::from_millis(1)).await;
    assert_eq!(bus.ids(), [1]);
    for id in [2, 3] {
        outbox.add(deleted(id));
        relay.wake();
        world.rt.sleep(gather / 4).await;
        assert_eq!(bus.ids(), [1], "it gathers");
    }
    world.rt.sleep(gather / 2).await;
    assert_eq!(bus.ids(), [1, 2, 3]);
    world.rt.sleep(gather * 2).await;
    outbox.add(deleted(4));
    relay.wake();
    world.rt.sleep(Duration::from_millis(1)).await;
    assert_eq!(bus.ids(), [1, 2, 3, 4], "it was idle");
}

async fn handler(
    call: Call,
    Json(follow): Json<Follow>,
) -> Result<axum::response::Response, Fault> {
    match follow.handle.as_str() {
        "panic" => panic!("told to"),
        "slow" => std::future::pending().await,
        "stranger" => Err(Code::NotFound.into()),
        _ => Ok(super::answers::json(http::StatusCode::OK, &call.address_key())),
    }
}

fn guarded(world: &World) -> (axum::Router, axum::Router) {
    // The user role's sign-up is public and takes a body: any handler will do behind it.
    let kit = Kit::new(world.common(Role::User));
    let public = kit.public(()).on("POST", "/users", handler).finish();
    let internal = kit
        .internal(())
        .on("GET", "/internal/x", async || empty(http::StatusCode::NO_CONTENT))
        .finish();
    (public, internal)
}

#[tokio::test(start_paused = true)]
async fn every_error_is_a_problem_that_names_the_request() {
    let (public, internal) = guarded(&World::new());
    let body = |handle: &str| format!(r#"{{"handle":"{handle}"}}"#);
    let large = format!(r#"{{"handle":"{}"}}"#, "x".repeat(20_000));
    for (router, line, body, status, code) in [
        (&public, "GET /nowhere", String::new(), 404, "not-found"),
        (&public, "PUT /users", String::new(), 405, "method-not-allowed"),
        (&public, "POST /users", "{".to_owned(), 400, "malformed-json"),
        (&public, "POST /users", "{}".to_owned(), 422, "invalid-field"),
        (&public, "POST /users", String::new(), 415, "unsupported-media-type"),
        (&public, "POST /users", large, 413, "body-too-large"),
        (&public, "POST /users", body("stranger"), 404, "not-found"),
        (&public, "POST /users", body("panic"), 500, "internal"),
        (&public, "POST /users", body("slow"), 504, "timeout"),
        (&internal, "GET /internal/x", String::new(), 403, "forbidden"),
        (&internal, "GET /internal/nowhere", String::new(), 403, "forbidden"),
    ] {
        let answer = ask(router, line, &[("x-request-id", "r-1")], &body).await;
        assert_eq!((answer.status, answer.code()), (status, code), "{line} {body}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{line}");
        assert_eq!(answer.json["request_id"], "r-1", "{line}");
        assert_eq!(answer.json["status"], status, "{line}");
        assert_eq!(answer.header("x-request-id"), Some("r-1"), "{line}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{line}");
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{line}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_id_that_could_spoil_a_log_is_replaced() {
    let (public, _) = guarded(&World::new());
    let long = "x".repeat(65);
    for bad in ["a b", "a\"b", "", long.as_str()] {
        let answer = ask(&public, "GET /nowhere", &[("x-request-id", bad)], "").await;
        let id = answer.header("x-request-id").unwrap();
        assert!(id.len() == 16 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{bad:?} -> {id}");
    }
}

#[tokio::test(start_paused = true)]
async fn only_a_role_of_this_system_is_believed() {
    let (public, internal) = guarded(&World::new());
    let body = r#"{"handle":"a"}"#;
    for (token, address) in
        [(None, "addr:local"), (Some("guess"), "addr:local"), (Some(TOKEN), "addr:203.0.113.9")]
    {
        let mut headers = vec![("x-forwarded-for", "203.0.113.9")];
        headers.extend(token.map(|token| ("x-chirp-service-token", token)));
        let answer = ask(&public, "POST /users", &headers, body).await;
        assert_eq!(answer.json, address, "{token:?}");
        let status = ask(&internal, "GET /internal/x", &headers, "").await.status;
        assert_eq!(status, if token == Some(TOKEN) { 204 } else { 403 }, "{token:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_address_that_calls_too_often_is_told_when_to_come_back() {
    let mut world = World::new();
    world.config.http.address_calls_per_minute = 2;
    let (public, _) = guarded(&world);
    let body = r#"{"handle":"a"}"#;
    for _ in 0..2 {
        assert_eq!(ask(&public, "POST /users", &[], body).await.status, 200);
    }
    let refused = ask(&public, "POST /users", &[], body).await;
    assert_eq!((refused.status, refused.code()), (429, "rate-limited"));
    assert_eq!(refused.header("retry-after"), Some("2"));
    assert_eq!(refused.header("ratelimit-limit"), Some("2"));
    assert_eq!(refused.header("ratelimit-remaining"), Some("0"));
    let vouched = [("x-chirp-service-token", TOKEN)];
    assert_eq!(ask(&public, "POST /users", &vouched, body).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_full_role_sheds_and_recovers() {
    let mut world = World::new();
    world.config.http.concurrency_max = 1;
    let (public, _) = guarded(&world);
    let slow = tokio::spawn({
        let public = public.clone();
        async move { ask(&public, "POST /users", &[], r#"{"handle":"slow"}"#).await.status }
    });
    tokio::task::yield_now().await;
    let shed = ask(&public, "POST /users", &[], r#"{"handle":"a"}"#).await;
    assert_eq!((shed.status, shed.code()), (503, "overloaded"));
    assert!(shed.header("retry-after").is_some());
    assert_eq!(slow.await.unwrap(), 504);
    assert_eq!(ask(&public, "POST /users", &[], r#"{"handle":"a"}"#).await.status, 200);
}
