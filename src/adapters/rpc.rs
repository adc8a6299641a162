//! Calls between roles: within the process, and over HTTP.
//!
//! [`Peers`] is the list of who can be called. A replica in this process is its routers, and a call
//! runs in the caller's task without a hop; any other is two addresses. The list is filled after
//! the services have been built with it, because they need it to be built.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use async_trait::async_trait;
use axum::{Router, body::Body};
use http::{
    HeaderName, Request, Response, StatusCode, Uri,
    uri::{Authority, PathAndQuery, Scheme},
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use parking_lot::RwLock;
use tokio::net::TcpStream;
use tower::ServiceExt;

use super::proof::Proof;

use crate::{
    ports::{
        Kind, Outcome, Rpc, StoreError,
        rpc::{Door, Origin},
    },
    rt::{BoxFuture, Rt, Shutdown},
    wire::routes::Role,
};

/// What a replica answers 200 to on its internal door when it may be called.
pub const READYZ: &str = "/readyz";
/// Stands in an answer that was given instead of any work on the request: the role behind the
/// listener is not there yet. The request may be sent elsewhere, whatever it is.
pub const NOT_BEGUN: HeaderName = HeaderName::from_static("x-chirp-not-begun");
/// A peer is asked for its health this often.
const HEALTH_EVERY: Duration = Duration::from_secs(1);
/// A health check that takes longer has failed.
const HEALTH_LIMIT: Duration = Duration::from_secs(1);
/// A connection that takes longer to make, or then to prove itself, has failed: nothing was sent.
const CONNECT_LIMIT: Duration = Duration::from_secs(1);
/// An idle connection is closed after this long. Well below the 30 s after which hyper's server
/// closes it, so that a request seldom meets a connection that is just being closed.
const IDLE_LIMIT: Duration = Duration::from_secs(10);
/// Idle connections kept per address.
const IDLE_MAX: usize = 64;

/// The replicas of all roles that can be called.
pub struct Peers {
    rt: Rt,
    replicas: [RwLock<Vec<Arc<Replica>>>; Role::ALL.len()],
    names: Names,
    client: Client<Proven, Body>,
}

/// Where a replica elsewhere is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// Its public listener.
    pub public: SocketAddr,
    /// Its admin listener.
    pub internal: SocketAddr,
    /// The name that gave both addresses, if one did.
    pub host: Option<String>,
}

/// Under which name an address was found, as `host:port`.
type Names = Arc<RwLock<BTreeMap<SocketAddr, String>>>;

/// Makes connections, and keeps only those whose other end proves to be of this system.
#[derive(Clone)]
struct Proven {
    connector: HttpConnector,
    proof: Proof,
    names: Names,
    rt: Rt,
}

impl tower::Service<Uri> for Proven {
    type Response = TokioIo<TcpStream>;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.connector.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let (proof, names, rt) = (self.proof.clone(), Arc::clone(&self.names), self.rt.clone());
        let connecting = self.connector.call(to);
        Box::pin(async move {
            let mut stream = connecting.await?.into_inner();
            let at = stream.peer_addr()?;
            let name = names.read().get(&at).cloned();
            let proven = proof.demand(&mut stream, at, name.as_deref());
            let proven = rt.timeout(CONNECT_LIMIT, proven).await;
            proven.unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into()))?;
            Ok(TokioIo::new(stream))
        })
    }
}

enum Replica {
    Local { public: Router, internal: Router },
    Remote { at: Remote, public: Authority, internal: Authority, healthy: AtomicBool },
}

impl Replica {
    fn remote(at: Remote, healthy: bool) -> Arc<Self> {
        let authority = |address: SocketAddr| {
            Authority::try_from(address.to_string()).expect("an address with a port is one")
        };
        let (public, internal) = (authority(at.public), authority(at.internal));
        Arc::new(Self::Remote { at, public, internal, healthy: AtomicBool::new(healthy) })
    }

    fn is_at(&self, place: &Remote) -> bool {
        matches!(self, Self::Remote { at, .. } if at == place)
    }
}

impl Peers {
    /// A list without anybody. Whoever is put on it must prove what `proof` demands, on every new
    /// connection.
    #[must_use]
    pub fn new(rt: Rt, proof: Proof) -> Arc<Self> {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_LIMIT));
        connector.set_nodelay(true);
        let names = Names::default();
        let proven = Proven { connector, proof, names: Arc::clone(&names), rt: rt.clone() };
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_LIMIT)
            .pool_max_idle_per_host(IDLE_MAX)
            .build(proven);
        Arc::new(Self { rt, replicas: Default::default(), names, client })
    }

    /// Adds a replica in this process. Gives its number among the replicas of `role`.
    pub fn add_local(&self, role: Role, public: Router, internal: Router) -> usize {
        self.add(role, Replica::Local { public, internal })
    }

    /// Makes the replica at these addresses the only one of `role`: it came back elsewhere, and its
    /// old port may be somebody else's by now. It counts as healthy until a call or a health check
    /// shows otherwise.
    pub fn set_remote(&self, role: Role, public: SocketAddr, internal: SocketAddr) {
        let only = Replica::remote(Remote { public, internal, host: None }, true);
        *self.replicas[role as usize].write() = vec![only];
    }

    /// Makes the replicas at `places` the only ones of `role`. Those that were known keep what is known
    /// of their health; new ones are called only if there is no better one, until a health check.
    pub fn set_remotes(&self, role: Role, places: &[Remote]) {
        for place in places {
            let Some(host) = &place.host else { continue };
            let mut names = self.names.write();
            for at in [place.public, place.internal] {
                names.insert(at, format!("{host}:{}", at.port()));
            }
        }
        let mut replicas = self.replicas[role as usize].write();
        // Who stays keeps its place before newcomers: callers count what is open by place.
        replicas.retain(|replica| places.iter().any(|place| replica.is_at(place)));
        for place in places {
            if !replicas.iter().any(|replica| replica.is_at(place)) {
                replicas.push(Replica::remote(place.clone(), false));
            }
        }
        drop(replicas);
        let is_used = |at: &SocketAddr| {
            let uses = |replica: &Arc<Replica>| match &**replica {
                Replica::Local { .. } => false,
                Replica::Remote { at: place, .. } => [place.public, place.internal].contains(at),
            };
            self.replicas.iter().any(|role| role.read().iter().any(uses))
        };
        self.names.write().retain(|at, _| is_used(at));
    }

    /// The admin listeners of the replicas of `role` that are elsewhere.
    #[must_use]
    pub fn internal_addresses(&self, role: Role) -> Vec<SocketAddr> {
        let replicas = self.replicas[role as usize].read();
        let remote = |replica: &Arc<Replica>| match &**replica {
            Replica::Local { .. } => None,
            Replica::Remote { at, .. } => Some(at.internal),
        };
        replicas.iter().filter_map(remote).collect()
    }

    fn add(&self, role: Role, replica: Replica) -> usize {
        let mut replicas = self.replicas[role as usize].write();
        replicas.push(Arc::new(replica));
        replicas.len() - 1
    }

    fn find(&self, role: Role, replica: usize) -> Option<Arc<Replica>> {
        self.replicas[role as usize].read().get(replica).cloned()
    }

    /// Asks every replica elsewhere for its health, once a second, until `shutdown`.
    pub async fn watch_health(self: Arc<Self>, shutdown: Shutdown) {
        while !shutdown.is_cancelled() {
            self.check_health().await;
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = self.rt.sleep(HEALTH_EVERY) => {}
            }
        }
    }

    /// One round of health checks, all at once; takes a second at most.
    pub async fn check_health(&self) {
        let all: Vec<Arc<Replica>> =
            self.replicas.iter().flat_map(|role| role.read().clone()).collect();
        let checks = all.iter().map(|replica| async {
            if let Replica::Remote { internal, healthy, .. } = &**replica {
                let answer = self.rt.timeout(HEALTH_LIMIT, self.is_ready(internal)).await;
                healthy.store(answer.unwrap_or(false), Ordering::Relaxed);
            }
        });
        futures_util::future::join_all(checks).await;
    }

    async fn is_ready(&self, internal: &Authority) -> bool {
        let mut request = Request::new(Body::empty());
        *request.uri_mut() = absolute(internal, Some(PathAndQuery::from_static(READYZ)));
        let answer = self.client.request(request).await;
        answer.is_ok_and(|answer| answer.status() == StatusCode::OK)
    }

    async fn send(
        &self,
        to: &Authority,
        healthy: &AtomicBool,
        mut request: Request<Body>,
    ) -> Outcome<Response<Body>> {
        Origin::write_down(&mut request);
        *request.uri_mut() = absolute(to, request.uri().path_and_query().cloned());
        *request.version_mut() = http::Version::HTTP_11;
        match self.client.request(request).await {
            Ok(answer) if answer.headers().contains_key(NOT_BEGUN) => {
                healthy.store(false, Ordering::Relaxed);
                Outcome::Failed(unavailable(format!("{to} is not ready yet")))
            }
            Ok(answer) => Outcome::Done(answer.map(Body::new)),
            Err(error) if error.is_connect() => {
                // Only a health check brings it back: one that drains still takes connections.
                healthy.store(false, Ordering::Relaxed);
                Outcome::Failed(unavailable(format!("cannot connect to {to}: {error}")))
            }
            Err(error) => Outcome::Unknown(unavailable(format!("no answer from {to}: {error}"))),
        }
    }
}

fn absolute(to: &Authority, path: Option<PathAndQuery>) -> Uri {
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(to.clone());
    parts.path_and_query = Some(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
    Uri::from_parts(parts).expect("scheme, authority and path make a URI")
}

fn unavailable(message: String) -> StoreError {
    StoreError::new(Kind::Unavailable, "rpc", message)
}

#[async_trait]
impl Rpc for Peers {
    fn replicas(&self, role: Role) -> usize {
        self.replicas[role as usize].read().len()
    }

    fn healthy(&self, role: Role, replica: usize) -> bool {
        self.replicas[role as usize].read().get(replica).is_some_and(|replica| match &**replica {
            Replica::Local { .. } => true,
            Replica::Remote { healthy, .. } => healthy.load(Ordering::Relaxed),
        })
    }

    fn is_here(&self, role: Role, replica: usize) -> bool {
        let replicas = self.replicas[role as usize].read();
        replicas.get(replica).is_some_and(|replica| matches!(**replica, Replica::Local { .. }))
    }

    async fn call(
        &self,
        role: Role,
        replica: usize,
        door: Door,
        request: Request<Body>,
    ) -> Outcome<Response<Body>> {
        let Some(found) = self.find(role, replica) else {
            return Outcome::Failed(unavailable(format!("there is no {role} replica {replica}")));
        };
        match (&*found, door) {
            (Replica::Local { public: router, .. }, Door::Public)
            | (Replica::Local { internal: router, .. }, Door::Internal) => {
                match router.clone().oneshot(request).await {
                    Ok(answer) => Outcome::Done(answer),
                    Err(never) => match never {},
                }
            }
            (Replica::Remote { public: to, healthy, .. }, Door::Public)
            | (Replica::Remote { internal: to, healthy, .. }, Door::Internal) => {
                self.send(to, healthy, request).await
            }
        }
    }
}

#[cfg(test)]
mod tests;
