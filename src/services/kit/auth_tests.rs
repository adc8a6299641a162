//! Which tokens are accepted, and until when.

use std::sync::{Arc, atomic::Ordering};

use axum::Router;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;

use super::{
    Caller, Kit,
    answers::json as answer,
    fakes::{Answer, Issuer, Take, World, ask},
    token::{Claims, SigningKey},
};
use crate::{domain::SessionId, wire::routes::Role};

async fn who(caller: Caller) -> axum::response::Response {
    answer(http::StatusCode::OK, &caller.user)
}

/// A role with one route that needs a token.
async fn role(world: &World) -> (Router, Kit) {
    let kit = Kit::new(world.common(Role::Tweet));
    let public = kit.public(()).on("DELETE", "/tweets/{id}", who).finish();
    let service =
        kit.clone().service(public.clone(), Router::new(), std::future::ready(()), Vec::new());
    world.start(service).await;
    (public, kit)
}

async fn ask_with(router: &Router, authorization: Option<&str>) -> Answer {
    let headers: Vec<_> = authorization.map(|value| ("authorization", value)).into_iter().collect();
    ask(router, "DELETE /tweets/1", &headers, "").await
}

async fn status(router: &Router, token: &str) -> u16 {
    ask_with(router, Some(&format!("Bearer {token}"))).await.status
}

fn part(value: &serde_json::Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

#[tokio::test(start_paused = true)]
async fn only_a_token_that_the_user_role_signed_is_accepted() {
    let world = World::new();
    let issuer = Issuer::start(&world);
    let (router, _) = role(&world).await;
    let good = issuer.token(17);
    let claims = issuer.claims(17);
    let answer = ask_with(&router, Some(&format!("Bearer {good}"))).await;
    assert_eq!((answer.status, &answer.json), (200, &json!("17")));
    assert_eq!(answer.header("ratelimit-limit"), Some("1000000"));

    let body = part(&serde_json::to_value(&claims).unwrap());
    let none = format!("{}.{body}.", part(&json!({"alg": "none", "kid": "k1"})));
    // The classic confusion: the public key used as the secret of a symmetric signature.
    let public_key = EncodingKey::from_secret(issuer.key.jwk().x.as_bytes());
    let header = Header { kid: Some("k1".to_owned()), ..Header::new(Algorithm::HS256) };
    let confused = jsonwebtoken::encode(&header, &claims, &public_key).unwrap();
    let another_key = SigningKey::new("k1", &[2; 32]).unwrap().sign(&claims).unwrap();
    let unknown_key = SigningKey::new("k9", &[1; 32]).unwrap().sign(&claims).unwrap();
    let sign = |change: fn(&mut Claims)| {
        let mut claims = claims.clone();
        change(&mut claims);
        issuer.key.sign(&claims).unwrap()
    };
    let [head, _, signature] = good.split('.').collect::<Vec<_>>()[..] else { unreachable!() };
    let other = part(&serde_json::to_value(issuer.claims(18)).unwrap());
    for (name, token) in [
        ("alg none", none),
        ("hs256 with the public key", confused),
        ("another key under the same name", another_key),
        ("a key that nobody published", unknown_key),
        ("expired", sign(|claims| claims.exp = claims.iat - 1)),
        ("ends now", sign(|claims| claims.exp = claims.iat)),
        ("another issuer", sign(|claims| "evil".clone_into(&mut claims.iss))),
        ("another audience", sign(|claims| "evil".clone_into(&mut claims.aud))),
        ("another's claims under this signature", format!("{head}.{other}.{signature}")),
        ("cut", good[..good.len() - 4].to_owned()),
        ("too long", format!("{good}{}", "x".repeat(3_000))),
        ("noise", "a.b.c".to_owned()),
    ] {
        let answer = ask_with(&router, Some(&format!("Bearer {token}"))).await;
        assert_eq!((answer.status, answer.code()), (401, "unauthorized"), "{name}");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{name}");
    }
    for missing in [None, Some(""), Some("Bearer"), Some("Bearer "), Some("Basic YTpi")] {
        assert_eq!(ask_with(&router, missing).await.status, 401, "{missing:?}");
    }
    assert_eq!(status(&router, &good).await, 200, "a good token is still good");
}

#[tokio::test(start_paused = true)]
async fn a_token_that_was_accepted_before_ends_on_time() {
    let world = World::new();
    let issuer = Issuer::start(&world);
    let (router, _) = role(&world).await;
    let token = issuer.token(1);
    assert_eq!(status(&router, &token).await, 200);
    world.clock.ahead_ms.fetch_add(299_000, Ordering::Relaxed);
    assert_eq!(status(&router, &token).await, 200);
    world.clock.ahead_ms.fetch_add(2_000, Ordering::Relaxed);
    assert_eq!(status(&router, &token).await, 401);
}

#[tokio::test(start_paused = true)]
async fn a_revoked_session_is_refused_within_two_polls_and_at_once_where_it_was_revoked() {
    let world = World::new();
    let issuer = Issuer::start(&world);
    let (router, kit) = role(&world).await;
    let (first, second) = (issuer.token(1), issuer.token(2));
    assert_eq!((status(&router, &first).await, status(&router, &second).await), (200, 200));
    issuer.revoked.lock().push(SessionId(1));
    world.rt.sleep(world.config.auth.revocation_poll() * 2).await;
    assert_eq!((status(&router, &first).await, status(&router, &second).await), (401, 200));
    kit.verifier.revoke(SessionId(2));
    assert_eq!(status(&router, &second).await, 401);
    // The poll does not know of the second one: it stays refused.
    world.rt.sleep(world.config.auth.revocation_poll() * 3).await;
    assert_eq!(status(&router, &second).await, 401);
}

#[tokio::test(start_paused = true)]
async fn unknown_keys_do_not_make_a_role_ask_more_than_once_a_second() {
    let world = World::new();
    let issuer = Issuer::start(&world);
    let (router, _) = role(&world).await;
    let asked = |issuer: &Issuer| {
        let seen = issuer.replica.seen.lock();
        seen.iter().filter(|(line, _)| line.contains("jwks")).count()
    };
    let before = asked(&issuer);
    for kid in 0..50 {
        let key = SigningKey::new(&format!("x{kid}"), &[3; 32]).unwrap();
        assert_eq!(status(&router, &key.sign(&issuer.claims(1)).unwrap()).await, 401);
    }
    assert_eq!(asked(&issuer) - before, 1);
}

#[tokio::test(start_paused = true)]
async fn tokens_are_checked_while_the_user_role_is_down_and_it_is_not_ready_before_it_was_up() {
    let world = World::new();
    let issuer = Issuer::start(&world);
    issuer.replica.takes.lock().extend([Take::Refuse; 40]);
    let kit = Kit::new(world.common(Role::Tweet));
    let ready = kit.verifier.ready();
    let verifier = Arc::clone(&kit.verifier);
    tokio::spawn(async move { verifier.run().await });
    world.rt.sleep(std::time::Duration::from_millis(50)).await;
    assert!(!*ready.borrow());
    world.rt.sleep(std::time::Duration::from_secs(2)).await;
    assert!(*ready.borrow());
    issuer.replica.takes.lock().extend([Take::Refuse; 1_000]);
    let public = kit.public(()).on("DELETE", "/tweets/{id}", who).finish();
    assert_eq!(status(&public, &issuer.token(5)).await, 200);
}

#[tokio::test(start_paused = true)]
async fn a_user_who_calls_too_often_is_told_when_to_come_back() {
    let mut world = World::new();
    world.config.http.user_calls_per_minute = 1;
    let issuer = Issuer::start(&world);
    let (router, _) = role(&world).await;
    assert_eq!(status(&router, &issuer.token(1)).await, 200);
    let refused = ask_with(&router, Some(&format!("Bearer {}", issuer.token(1)))).await;
    assert_eq!((refused.status, refused.code()), (429, "rate-limited"));
    assert_eq!(refused.header("ratelimit-remaining"), Some("0"));
    assert!(refused.header("retry-after").is_some());
    assert_eq!(status(&router, &issuer.token(2)).await, 200, "another user is not touched");
}

#[tokio::test(start_paused = true)]
async fn a_caller_is_counted_with_their_address_and_nobody_else_for_them() {
    let world = World::new();
    let issuer = Issuer::start(&world);
    let (router, kit) = role(&world).await;
    let token = issuer.token(1);
    let user = format!("user/user:{}", issuer.claims(1).sub);
    let counts = || {
        let counts = world.limiter.counts.lock();
        ["address/addr:local", &user].map(|key| counts.get(key).copied().unwrap_or(0))
    };
    assert_eq!(status(&router, &token).await, 200);
    assert_eq!(counts(), [1, 1]);
    let asked = world.limiter.asked.load(Ordering::Relaxed);
    assert_eq!(status(&router, &token).await, 200);
    assert_eq!(counts(), [2, 2]);
    assert_eq!(world.limiter.asked.load(Ordering::Relaxed), asked + 1, "one round trip for both");
    assert_eq!(status(&router, &format!("{token}x")).await, 401);
    assert_eq!(counts(), [3, 2], "a token that nobody signed counts for its address only");
    kit.verifier.revoke(SessionId(1));
    assert_eq!(status(&router, &token).await, 401);
    assert_eq!(counts(), [4, 2], "as does one whose session was ended");
}
