//! Whose calls no limit counts, and who only says so.

use std::time::Duration;

use axum::Router;

use super::{
    Call, Kit,
    answers::empty,
    fakes::{Issuer, World, ask},
    token::{Claims, SigningKey, claims_uncounted},
};
use crate::{
    domain::SessionId,
    wire::routes::{ROUTES, Role},
};

async fn nothing(_: Call) -> axum::response::Response {
    empty(http::StatusCode::NO_CONTENT)
}

/// Limits of one call a minute, for a user and for an address.
fn strict() -> World {
    let mut world = World::new();
    world.config.http.user_calls_per_minute = 1;
    world.config.http.address_calls_per_minute = 1;
    world
}

/// A role that checks tokens.
async fn role(world: &World) -> (Router, Kit) {
    let kit = Kit::new(world.common(Role::Tweet));
    let public = kit.public(()).on("DELETE", "/tweets/{id}", nothing).finish();
    let service =
        kit.clone().service(public.clone(), Router::new(), std::future::ready(()), Vec::new());
    world.start(service).await;
    (public, kit)
}

/// A role that leaves tokens to others.
async fn gateway(world: &World) -> Router {
    let kit = Kit::new(world.common(Role::Gateway));
    let route = ROUTES.iter().find(|r| (r.method, r.path) == ("DELETE", "/tweets/{id}")).unwrap();
    let public = kit.public(()).forward(route, nothing).finish();
    let service = kit.clone().service_without_tokens(public.clone(), Router::new(), Vec::new());
    world.start(service).await;
    public
}

fn uncounted(issuer: &Issuer, change: fn(&mut Claims)) -> String {
    let mut claims = Claims { uncounted: true, ..issuer.claims(1) };
    change(&mut claims);
    issuer.key.sign(&claims).unwrap()
}

async fn asked(router: &Router, token: &str) -> (u16, bool) {
    let authorization = format!("Bearer {token}");
    let answer = ask(router, "DELETE /tweets/1", &[("authorization", &authorization)], "").await;
    (answer.status, answer.header("ratelimit-limit").is_some())
}

#[tokio::test(start_paused = true)]
async fn no_limit_counts_whom_the_operator_exempts_and_the_others_are_counted() {
    let world = strict();
    let issuer = Issuer::start(&world);
    for router in [role(&world).await.0, gateway(&world).await] {
        let token = uncounted(&issuer, |_| ());
        for _ in 0..5 {
            assert_eq!(asked(&router, &token).await, (204, false));
        }
        world.limiter.counts.lock().clear();
        assert_eq!(asked(&router, &issuer.token(2)).await.0, 204);
        assert_eq!(asked(&router, &issuer.token(2)).await.0, 429);
        assert_eq!(asked(&router, &token).await, (204, false), "others' calls are not theirs");
        world.limiter.counts.lock().clear();
    }
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_nobody_signed_or_that_has_ended_exempts_nobody() {
    let world = strict();
    let issuer = Issuer::start(&world);
    let claims = Claims { uncounted: true, ..issuer.claims(1) };
    for token in [
        SigningKey::new("k1", &[2; 32]).unwrap().sign(&claims).unwrap(),
        SigningKey::new("k9", &[1; 32]).unwrap().sign(&claims).unwrap(),
        uncounted(&issuer, |claims| claims.exp = claims.iat - 1),
    ] {
        assert!(claims_uncounted(&token));
        for router in [role(&world).await.0, gateway(&world).await] {
            world.limiter.counts.lock().clear();
            asked(&router, &token).await;
            assert_eq!(asked(&router, &token).await.0, 429);
        }
    }
    let (router, kit) = role(&world).await;
    let token = uncounted(&issuer, |claims| claims.sid = SessionId(77));
    world.limiter.counts.lock().clear();
    for _ in 0..3 {
        assert_eq!(asked(&router, &token).await.0, 204);
    }
    kit.verifier.revoke(SessionId(77));
    assert_eq!(asked(&router, &token).await.0, 401);
    assert_eq!(asked(&router, &token).await.0, 429, "a session that was ended is counted");
}

#[tokio::test(start_paused = true)]
async fn strangers_who_claim_it_cost_a_bounded_number_of_checks() {
    let world = strict();
    let issuer = Issuer::start(&world);
    let router = role(&world).await.0;
    let claims = Claims { uncounted: true, ..issuer.claims(1) };
    for seed in 10..60 {
        let forged = SigningKey::new("k1", &[seed; 32]).unwrap().sign(&claims).unwrap();
        asked(&router, &forged).await;
    }
    let good = uncounted(&issuer, |_| ());
    assert_eq!(asked(&router, &good).await.0, 429, "the address has used up its checks");
    world.rt.sleep(Duration::from_secs(61)).await;
    assert_eq!(asked(&router, &good).await, (204, false));
}

#[test]
fn the_claim_is_seen_in_tokens_of_every_length_and_in_no_other() {
    let key = SigningKey::new("k1", &[1; 32]).unwrap();
    let world = World::new();
    let issuer = Issuer::start(&world);
    for iat in [1, 10, 100, 1_000] {
        let claims = Claims { iat, uncounted: true, ..issuer.claims(1) };
        assert!(claims_uncounted(&key.sign(&claims).unwrap()));
        let claims = Claims { uncounted: false, ..claims };
        assert!(!claims_uncounted(&key.sign(&claims).unwrap()));
    }
    for noise in ["", "a", "a.b.c", "..", &"x".repeat(3_000)] {
        assert!(!claims_uncounted(noise), "{noise}");
    }
}
