//! Scenarios of the user role.

mod mem;

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use serde_json::json;

use self::mem::Mem;
use super::Deps;
use crate::{
    ports::{
        Bus, GraphStore, KeyStore, Kind, Outbox, Outcome, Read, StoreError, StoredKey, UserStore,
    },
    services::kit::{
        fakes::{Answer, Applier, MemBus, Replica, TOKEN, World, Wrong},
        token::{Claims, SigningKey, VerifyingKeys},
    },
    wire::{api::Jwks, routes::Role},
};

struct Users {
    world: World,
    mem: Arc<Mem>,
    bus: Arc<MemBus>,
    applier: Arc<Applier>,
    replica: Arc<Replica>,
}

impl Users {
    async fn start() -> Self {
        Self::start_in(World::new()).await
    }

    async fn start_in(world: World) -> Self {
        let (mem, bus): (Arc<Mem>, Arc<MemBus>) = Default::default();
        let applier = Applier::start(&world.net);
        let deps = Deps {
            users: Arc::clone(&mem) as Arc<dyn UserStore>,
            graph: Arc::clone(&mem) as Arc<dyn GraphStore>,
            keys: Arc::clone(&mem) as Arc<dyn KeyStore>,
            outbox: Arc::clone(&mem.outbox) as Arc<dyn Outbox>,
            bus: Arc::clone(&bus) as Arc<dyn Bus>,
        };
        let replica = world.start(super::build(world.common(Role::User), deps)).await;
        Self { world, mem, bus, applier, replica }
    }

    async fn sign_up(&self, handle: &str) -> Answer {
        let body = json!({"handle": handle, "password": "correct horse"}).to_string();
        self.replica.ask("POST /users", &[], &body).await
    }

    /// A new user's access token.
    async fn user(&self, handle: &str) -> String {
        let answer = self.sign_up(handle).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.json["access_token"].as_str().unwrap().to_owned()
    }

    async fn log_in(&self, body: serde_json::Value) -> Answer {
        self.replica.ask("POST /sessions", &[], &body.to_string()).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_sign_up_logs_in_and_the_handle_is_taken_from_then_on() {
    let users = Users::start().await;
    *users.mem.ids_taken.lock() = 3;
    let answer = users.sign_up("Ada").await;
    assert_eq!((answer.status, &answer.json["user"]["handle"]), (201, &json!("ada")));
    let token = answer.json["access_token"].as_str().unwrap();
    let me = users.replica.ask_as(token, "GET /me", "").await;
    assert_eq!((me.status, &me.json["id"]), (200, &answer.json["user"]["id"]));
    assert_eq!((&me.json["followers"], &me.json["following"]), (&json!(1), &json!(2)));
    let again = users.sign_up("ADA").await;
    assert_eq!((again.status, again.code()), (409, "handle-taken"));
    let stored = users.mem.users.lock().values().next().unwrap().password.0.clone();
    assert!(stored.starts_with("$argon2id$v=19$m=8,t=1,p=1$"), "{stored}");
}

#[tokio::test(start_paused = true)]
async fn bad_sign_ups_name_the_field_and_change_nothing() {
    let users = Users::start().await;
    for (body, field) in [
        (json!({"handle": "a b", "password": "12345678"}), "handle"),
        (json!({"handle": "ada", "password": "1234567"}), "password"),
        (json!({"handle": "ada", "password": "x".repeat(257)}), "password"),
        (json!({"handle": "ada", "password": "12345678", "name": " "}), "name"),
        (json!({"handle": "ada", "password": "12345678", "admin": true}), "admin"),
    ] {
        let answer = users.replica.ask("POST /users", &[], &body.to_string()).await;
        assert_eq!((answer.status, answer.code()), (422, "invalid-field"), "{body}");
        assert_eq!(answer.json["field"], field, "{body}");
    }
    assert!(users.mem.users.lock().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_sign_up_whose_commit_is_uncertain_succeeds_or_says_so() {
    let users = Users::start().await;
    users.mem.plan.next([Some(Wrong::Applied)]);
    assert_eq!(users.sign_up("ada").await.status, 201, "the repetition finds it");
    for second in [Wrong::Lost, Wrong::Failed] {
        users.mem.plan.next([Some(Wrong::Lost), Some(second)]);
        let answer = users.sign_up("bob").await;
        assert_eq!((answer.status, answer.code()), (503, "unknown-outcome"), "{second:?}");
    }
    users.mem.plan.next([Some(Wrong::Failed)]);
    let answer = users.sign_up("cy").await;
    assert_eq!((answer.status, answer.code()), (503, "unavailable"));
    assert_eq!(users.mem.users.lock().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_wrong_password_and_an_unknown_handle_look_the_same() {
    let users = Users::start().await;
    users.user("ada").await;
    let right = users.log_in(json!({"handle": "@ADA", "password": "correct horse"})).await;
    assert_eq!(right.status, 201);
    let wrong = users.log_in(json!({"handle": "ada", "password": "wrong horse"})).await;
    for handle in ["nobody", "not a handle"] {
        let unknown = users.log_in(json!({"handle": handle, "password": "wrong horse"})).await;
        assert_eq!((unknown.status, unknown.code()), (401, "wrong-credentials"));
        assert_eq!(unknown.json["title"], wrong.json["title"]);
        assert_eq!(unknown.json["detail"], wrong.json["detail"]);
    }
    for body in [
        json!({}),
        json!({"handle": "ada"}),
        json!({"password": "correct horse"}),
        json!({"handle": "ada", "password": "correct horse", "refresh_token": "x"}),
    ] {
        assert_eq!(users.log_in(body.clone()).await.status, 422, "{body}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refresh_token_works_once_and_its_reuse_ends_the_session() {
    let users = Users::start().await;
    let first = users.sign_up("ada").await.json;
    let refresh = |token: &serde_json::Value| users.log_in(json!({"refresh_token": token}));
    let second = refresh(&first["refresh_token"]).await;
    assert_eq!(second.status, 201);
    let access = second.json["access_token"].as_str().unwrap();
    assert_eq!(users.replica.ask_as(access, "GET /me", "").await.status, 200);
    let reused = refresh(&first["refresh_token"]).await;
    assert_eq!((reused.status, reused.code()), (401, "session-ended"));
    assert_eq!(users.replica.ask_as(access, "GET /me", "").await.status, 401, "at once, here");
    assert_eq!(refresh(&second.json["refresh_token"]).await.status, 401);
    assert_eq!(refresh(&json!("guess")).await.status, 401);
}

#[tokio::test(start_paused = true)]
async fn no_route_gives_a_token_that_is_not_counted_whatever_token_the_caller_has() {
    let mut world = World::new();
    world.config.http.address_logins_per_minute = 3;
    let users = Users::start_in(world).await;
    let first = users.sign_up("ada").await.json;
    let stored = users.mem.keys.lock()[0].clone();
    let key = SigningKey::new(&stored.kid, &stored.seed).unwrap();
    let claims = |token: &serde_json::Value| -> Claims {
        let keys = VerifyingKeys::new(&Jwks { keys: vec![key.jwk().clone()] });
        keys.verify(token.as_str().unwrap()).unwrap()
    };
    let own = claims(&first["access_token"]);
    let uncounted = key.sign(&Claims { uncounted: true, ..own.clone() }).unwrap();
    let asks = async |line: &str, body: serde_json::Value| {
        let answer = users.replica.ask_as(&uncounted, line, &body.to_string()).await;
        (answer.status, answer.json)
    };
    let (status, second) =
        asks("POST /sessions", json!({"refresh_token": first["refresh_token"]})).await;
    assert_eq!(status, 201);
    let log_in = json!({"handle": "ada", "password": "correct horse"});
    let (status, third) = asks("POST /sessions", log_in.clone()).await;
    assert_eq!(status, 201);
    let sign_up = json!({"handle": "bob", "password": "correct horse"});
    let (status, fourth) = asks("POST /users", sign_up).await;
    assert_eq!(status, 201);
    for session in [&first, &second, &third, &fourth] {
        assert!(!claims(&session["access_token"]).uncounted, "{session}");
    }
    // And what costs a hash is counted for everybody.
    assert_eq!(asks("POST /sessions", log_in).await.0, 429);
}

#[tokio::test(start_paused = true)]
async fn an_uncertain_refresh_is_not_repeated_by_the_service() {
    let users = Users::start().await;
    let first = users.sign_up("ada").await.json;
    users.mem.plan.next([Some(Wrong::Applied)]);
    let answer = users.log_in(json!({"refresh_token": first["refresh_token"]})).await;
    assert_eq!((answer.status, answer.code()), (503, "unknown-outcome"));
    assert!(users.mem.revoked.lock().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_log_out_is_final_here_at_once_and_told_to_others() {
    let users = Users::start().await;
    let (ada, other) = (users.user("ada").await, users.user("bob").await);
    assert_eq!(users.replica.ask_as(&ada, "DELETE /sessions", "").await.status, 204);
    assert_eq!(users.replica.ask_as(&ada, "GET /me", "").await.status, 401);
    assert_eq!(users.replica.ask_as(&other, "GET /me", "").await.status, 200);
    let token = [("x-chirp-service-token", TOKEN)];
    let told = users.replica.ask_internal("GET /internal/revocations?since=0", &token, "").await;
    assert_eq!(told.json["sessions"].as_array().unwrap().len(), 1);
    assert_eq!(
        users.replica.ask_internal("GET /internal/revocations", &token, "").await.status,
        422
    );
}

#[tokio::test(start_paused = true)]
async fn too_many_log_ins_of_an_address_are_refused_before_they_cost_a_hash() {
    let mut world = World::new();
    world.config.http.address_logins_per_minute = 2;
    let users = Users::start_in(world).await;
    users.user("ada").await;
    users.user("bob").await;
    let answer = users.log_in(json!({"handle": "ada", "password": "correct horse"})).await;
    assert_eq!((answer.status, answer.code()), (429, "rate-limited"));
    assert_eq!(answer.header("ratelimit-limit"), Some("2"), "as every 429");
    assert_eq!(answer.header("ratelimit-remaining"), Some("0"));
}

#[tokio::test(start_paused = true)]
async fn a_follow_is_made_once_told_to_the_bus_and_shown_in_the_profile() {
    let users = Users::start().await;
    let (ada, bob) = (users.user("ada").await, users.user("bob").await);
    let follow = async |who: &str| {
        let body = json!({"handle": who}).to_string();
        users.replica.ask_as(&ada, "POST /follow", &body).await
    };
    assert_eq!(follow("bob").await.status, 201);
    assert_eq!(follow("@Bob").await.status, 200);
    assert_eq!((follow("ada").await.status, follow("nobody").await.status), (409, 404));
    assert_eq!(follow("no handle").await.status, 422);
    let profile = users.replica.ask_as(&bob, "GET /users/ada", "").await;
    let viewer = &profile.json["viewer"];
    assert_eq!((&viewer["followed_by"], &viewer["following"]), (&json!(true), &json!(false)));
    users.world.rt.sleep(Duration::from_secs(1)).await;
    assert_eq!(users.mem.outbox.unsent(), 0);
    assert_eq!(users.bus.messages.lock().len(), 1, "one change is one event");
}

#[tokio::test(start_paused = true)]
async fn a_block_ends_follows_refuses_new_ones_and_leaves_the_profile_visible() {
    let users = Users::start().await;
    let (ada, bob) = (users.user("ada").await, users.user("bob").await);
    let bob_follows = || users.replica.ask_as(&bob, "POST /follow", r#"{"handle":"ada"}"#);
    assert_eq!(bob_follows().await.status, 201);
    assert_eq!(users.replica.ask_as(&ada, "PUT /blocks/bob", "").await.status, 204);
    let refused = bob_follows().await;
    assert_eq!((refused.status, refused.code()), (403, "blocked"));
    let profile = users.replica.ask_as(&bob, "GET /users/ada", "").await;
    assert_eq!((profile.status, &profile.json["viewer"]["blocked_by"]), (200, &json!(true)));
    assert_eq!(users.replica.ask_as(&ada, "DELETE /blocks/bob", "").await.status, 204);
    assert_eq!(bob_follows().await.status, 201);
}

#[tokio::test(start_paused = true)]
async fn what_hides_is_answered_204_only_once_it_is_hidden() {
    let users = Users::start().await;
    let ada = users.user("ada").await;
    users.user("bob").await;
    let unfollow = || users.replica.ask_as(&ada, "DELETE /follow/bob", "");
    assert_eq!(unfollow().await.status, 204, "there was never anything to hide");
    assert!(users.applier.applied.lock().is_empty());
    users.replica.ask_as(&ada, "POST /follow", r#"{"handle":"bob"}"#).await;
    users.applier.broken.store(true, Ordering::Relaxed);
    let before = users.world.rt.now();
    let pending = unfollow().await;
    assert_eq!((pending.status, &pending.json), (202, &json!({"pending": true})));
    let took = users.world.rt.now().since(before);
    assert!(took >= Duration::from_millis(1_900) && took <= Duration::from_millis(2_100));
    users.applier.broken.store(false, Ordering::Relaxed);
    assert_eq!(unfollow().await.status, 204, "asking again hides what is still pending");
    let applied = users.applier.applied.lock();
    assert_eq!(applied.len(), 1);
    assert!(applied[0].contains(r#""version":2"#), "{}", applied[0]);
}

#[tokio::test(start_paused = true)]
async fn a_change_of_unknown_fate_is_repeated_and_answered_for_what_it_was() {
    let users = Users::start().await;
    let ada = users.user("ada").await;
    users.user("bob").await;
    let follow = || users.replica.ask_as(&ada, "POST /follow", r#"{"handle":"bob"}"#);
    users.mem.plan.next([Some(Wrong::Applied)]);
    assert_eq!(follow().await.status, 201);
    for second in [Wrong::Lost, Wrong::Failed] {
        users.mem.plan.next([Some(Wrong::Applied), Some(second)]);
        let answer = users.replica.ask_as(&ada, "DELETE /follow/bob", "").await;
        assert_eq!((answer.status, answer.code()), (503, "unknown-outcome"), "{second:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_key_is_published_before_it_signs_and_the_old_one_stays_published() {
    let mut world = World::new();
    world.config.auth.key_rotation_s = 3_600;
    let users = Users::start_in(world).await;
    let kid = |token: &str| jsonwebtoken::decode_header(token).unwrap().kid.unwrap();
    let published = async || -> Vec<String> {
        let jwks = users.replica.ask("GET /.well-known/jwks.json", &[], "").await;
        assert_eq!(jwks.header("cache-control"), Some("public, max-age=60"));
        let keys = jwks.json["keys"].as_array().unwrap().clone();
        keys.iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
    };
    let old = kid(&users.user("ada").await);
    assert_eq!(published().await, std::slice::from_ref(&old));
    users.world.rt.sleep(Duration::from_mins(62)).await;
    let keys = published().await;
    assert_eq!((keys.len(), &keys[1]), (2, &old));
    let between = users.user("bob").await;
    assert_eq!(kid(&between), old);
    users.world.rt.sleep(Duration::from_mins(5)).await;
    let new = users.user("cy").await;
    assert_eq!(kid(&new), keys[0]);
    assert_eq!(users.replica.ask_as(&new, "GET /me", "").await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn no_route_but_sign_up_log_in_and_keys_works_without_a_token() {
    let users = Users::start().await;
    let open: BTreeSet<_> =
        [("POST", "/users"), ("POST", "/sessions"), ("GET", "/.well-known/jwks.json")].into();
    for route in crate::wire::routes::ROUTES.iter().filter(|route| route.role == Role::User) {
        let path = route.path.replace("{handle}", "ada");
        let answer = users.replica.ask(&format!("{} {path}", route.method), &[], "").await;
        let expected = !open.contains(&(route.method, route.path));
        assert_eq!(answer.status == 401, expected, "{} {path}: {}", route.method, answer.status);
        assert_ne!(answer.status, 404, "{} {path} is served", route.method);
    }
    for line in ["GET /internal/users/ada", "GET /internal/revocations?since=0"] {
        let guess = [("x-chirp-service-token", "guess")];
        assert_eq!(users.replica.ask_internal(line, &guess, "").await.status, 403, "{line}");
    }
}

/// Keys that cannot be read at first.
struct Late {
    mem: Arc<Mem>,
    readable: AtomicBool,
}

#[async_trait]
impl KeyStore for Late {
    async fn load(&self) -> Read<Vec<StoredKey>> {
        if self.readable.load(Ordering::Relaxed) {
            self.mem.load().await
        } else {
            Err(StoreError::new(Kind::Unavailable, "keys", "not yet"))
        }
    }

    async fn replace(&self, before: &[StoredKey], after: &[StoredKey]) -> Outcome<Vec<StoredKey>> {
        self.mem.replace(before, after).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_question_for_keys_waits_a_moment_for_the_first_ones() {
    for (readable_after_ms, status) in [(50, 200), (10_000, 503)] {
        let world = World::new();
        let mem: Arc<Mem> = Arc::default();
        let keys = Arc::new(Late { mem: Arc::clone(&mem), readable: AtomicBool::new(false) });
        let deps = Deps {
            users: Arc::clone(&mem) as Arc<dyn UserStore>,
            graph: Arc::clone(&mem) as Arc<dyn GraphStore>,
            keys: Arc::clone(&keys) as Arc<dyn KeyStore>,
            outbox: Arc::clone(&mem.outbox) as Arc<dyn Outbox>,
            bus: Arc::new(MemBus::default()) as Arc<dyn Bus>,
        };
        let mut service = super::build(world.common(Role::User), deps);
        let replica = world.net.add(Role::User, service.public.clone(), service.internal.clone());
        drop(service.start(&world.rt));
        let opens = async {
            world.rt.sleep(Duration::from_millis(readable_after_ms)).await;
            keys.readable.store(true, Ordering::Relaxed);
        };
        let ask = replica.ask("GET /.well-known/jwks.json", &[], "");
        let (answer, ()) = tokio::join!(ask, opens);
        assert_eq!(answer.status, status, "readable after {readable_after_ms} ms");
    }
}
