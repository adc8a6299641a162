//! Roles that call each other without a network, and stand-ins for some of them.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use axum::{Router, body::Body};
use http::{HeaderMap, Request, Response, StatusCode};
use parking_lot::Mutex;
use tower::ServiceExt;

use super::{Answer, World, ask};
use crate::{
    domain::{DisplayName, Handle, SessionId, UserId},
    ports::{
        Kind, Outcome, Rpc, StoreError,
        rpc::{Door, Origin},
    },
    rt::Rt,
    services::kit::token::{Claims, ISSUER, SigningKey},
    wire::{
        api::Jwks,
        internal::{APPLY, REVOCATIONS, Revocations},
        routes::Role,
    },
};

/// How a replica takes the next call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::services) enum Take {
    /// It cannot be connected to.
    Refuse,
    /// It does what is asked and dies before it answers.
    DieAfter,
    /// It never answers.
    Hang,
    /// It does nothing, and says so.
    Shed,
}

/// A replica that others call.
pub(in crate::services) struct Replica {
    public: Router,
    internal: Router,
    pub(in crate::services) healthy: AtomicBool,
    pub(in crate::services) takes: Mutex<VecDeque<Take>>,
    /// Method with path, and headers, of every call that came in.
    pub(in crate::services) seen: Mutex<Vec<(String, HeaderMap)>>,
}

/// Roles that call each other without a network.
#[derive(Default)]
pub(in crate::services) struct Net(Mutex<BTreeMap<Role, Vec<Arc<Replica>>>>);

impl Net {
    pub(in crate::services) fn add(
        &self,
        role: Role,
        public: Router,
        internal: Router,
    ) -> Arc<Replica> {
        let (healthy, takes, seen) = (AtomicBool::new(true), Mutex::default(), Mutex::default());
        let replica = Arc::new(Replica { public, internal, healthy, takes, seen });
        self.0.lock().entry(role).or_default().push(Arc::clone(&replica));
        replica
    }
}

#[async_trait]
impl Rpc for Net {
    fn replicas(&self, role: Role) -> usize {
        self.0.lock().get(&role).map_or(0, Vec::len)
    }

    fn healthy(&self, role: Role, replica: usize) -> bool {
        self.0.lock()[&role][replica].healthy.load(Ordering::Relaxed)
    }

    async fn call(
        &self,
        role: Role,
        replica: usize,
        door: Door,
        mut request: Request<Body>,
    ) -> Outcome<Response<Body>> {
        Origin::write_down(&mut request);
        let replica = Arc::clone(&self.0.lock()[&role][replica]);
        let error = StoreError::new(Kind::Unavailable, "rpc", "told to");
        let take = replica.takes.lock().pop_front();
        if take == Some(Take::Refuse) {
            return Outcome::Failed(error);
        }
        let line = format!("{} {}", request.method(), request.uri());
        replica.seen.lock().push((line, request.headers().clone()));
        if take == Some(Take::Shed) {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            return Outcome::Done(response);
        }
        if take == Some(Take::Hang) {
            std::future::pending::<()>().await;
        }
        let router = if door == Door::Public { &replica.public } else { &replica.internal };
        let Ok(response) = router.clone().oneshot(request).await;
        if take == Some(Take::DieAfter) { Outcome::Unknown(error) } else { Outcome::Done(response) }
    }
}

impl Replica {
    pub(in crate::services) async fn ask(
        &self,
        line: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        ask(&self.public, line, headers, body).await
    }

    pub(in crate::services) async fn ask_internal(
        &self,
        line: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        ask(&self.internal, line, headers, body).await
    }

    /// Asks with an access token.
    pub(in crate::services) async fn ask_as(&self, token: &str, line: &str, body: &str) -> Answer {
        self.ask(line, &[("authorization", &format!("Bearer {token}"))], body).await
    }
}

/// A timeline role that only applies, or does not.
#[derive(Default)]
pub(in crate::services) struct Applier {
    pub(in crate::services) broken: AtomicBool,
    pub(in crate::services) applied: Mutex<Vec<String>>,
}

impl Applier {
    /// Puts it on the net.
    pub(in crate::services) fn start(net: &Net) -> Arc<Self> {
        let applier = Arc::new(Self::default());
        let shared = Arc::clone(&applier);
        let apply = async move |body: String| {
            if shared.broken.load(Ordering::Relaxed) {
                return StatusCode::SERVICE_UNAVAILABLE;
            }
            shared.applied.lock().push(body);
            StatusCode::NO_CONTENT
        };
        let internal = Router::new().route(APPLY, axum::routing::post(apply));
        drop(net.add(Role::Timeline, Router::new(), internal));
        applier
    }
}

/// A user role that only publishes keys and revocations, and signs.
pub(in crate::services) struct Issuer {
    pub(in crate::services) key: SigningKey,
    pub(in crate::services) revoked: Arc<Mutex<Vec<SessionId>>>,
    pub(in crate::services) replica: Arc<Replica>,
    rt: Rt,
}

impl Issuer {
    /// Puts it on the net.
    pub(in crate::services) fn start(world: &World) -> Self {
        let key = SigningKey::new("k1", &[1; 32]).unwrap();
        let jwks = Jwks { keys: vec![key.jwk().clone()] };
        let revoked: Arc<Mutex<Vec<SessionId>>> = Arc::default();
        let (told, rt) = (Arc::clone(&revoked), world.rt.clone());
        let jwks = axum::routing::get(async move || axum::Json(jwks));
        let revocations = axum::routing::get(async move || {
            let sessions = told.lock().clone();
            axum::Json(Revocations { sessions, until_ms: rt.wall_ms(), more: false })
        });
        let replica = world.net.add(
            Role::User,
            Router::new().route("/.well-known/jwks.json", jwks),
            Router::new().route(REVOCATIONS, revocations),
        );
        Self { key, revoked, replica, rt: world.rt.clone() }
    }

    /// What a token of user `user`, in the session of the same number, says.
    pub(in crate::services) fn claims(&self, user: u64) -> Claims {
        let iat = self.rt.wall_ms() / 1_000;
        Claims {
            sub: UserId(user),
            sid: SessionId(user),
            handle: Handle::parse(&format!("user{user}")).unwrap(),
            name: DisplayName::parse("A User").unwrap(),
            iat,
            exp: iat + 300,
            iss: ISSUER.to_owned(),
            aud: ISSUER.to_owned(),
            uncounted: false,
        }
    }

    /// A good token of user `user`.
    pub(in crate::services) fn token(&self, user: u64) -> String {
        self.key.sign(&self.claims(user)).unwrap()
    }
}
