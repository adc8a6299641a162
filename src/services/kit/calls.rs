//! Calls to other roles: which replica, how often, how long.
//!
//! The replica is the less busy one of two that are drawn (power of two choices; Mitzenmacher
//! 2001), counted by what this caller has open there. There is one retry, on another replica if
//! there is one: always when the request was never sent, and otherwise only if repeating it is safe.
//! Where there are more than two replicas, what was never sent is tried on a few of them: several may
//! have gone at once.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use axum::body::{Body, Bytes};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Limited};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    Common,
    answers::Code,
    call::{Ids, SERVICE_TOKEN},
};
use crate::{
    ports::{
        Outcome, StoreError,
        rpc::{Door, Origin},
    },
    wire::{
        routes::Role,
        trace::{TRACEPARENT, TraceContext},
    },
};

/// Replicas of a role that are called; one bit each.
const REPLICAS_MAX: usize = 64;
/// Attempts at one call, of which the request was sent or may have been.
const ATTEMPTS: usize = 2;
/// Attempts at one call in all: those that end with "never sent" end soon.
const UNSENT_MAX: usize = 4;
/// The largest answer of an internal call, in bytes: 200 tweets, or 10,000 session ids.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Why a call has no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CallError {
    /// It was never sent.
    #[error("not sent: {0}")]
    NotSent(StoreError),
    /// It was sent, and the connection gave no answer. It may have happened.
    #[error("no answer: {0}")]
    NoAnswer(StoreError),
    /// It did not end in time. It may have happened.
    #[error("no answer in time")]
    TimedOut,
    /// It was answered with this status, or with a body that cannot be read.
    #[error("answered with {0}")]
    Status(StatusCode),
}

impl From<CallError> for super::answers::Fault {
    fn from(error: CallError) -> Self {
        match error {
            CallError::NotSent(_) | CallError::Status(_) => Code::Unavailable.into(),
            CallError::NoAnswer(_) => Code::BadGateway.into(),
            CallError::TimedOut => Code::Timeout.into(),
        }
    }
}

/// A request that can be sent again.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// The method.
    pub method: Method,
    /// Path and query.
    pub uri: Uri,
    /// The headers, without the service token.
    pub headers: HeaderMap,
    /// For whom; `None` if the caller calls on its own behalf.
    pub origin: Option<Origin>,
    /// The whole body.
    pub body: Bytes,
}

impl Outgoing {
    fn request(self, token: HeaderValue) -> Request<Body> {
        let mut request = Request::new(Body::from(self.body));
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        *request.headers_mut() = self.headers;
        request.headers_mut().insert(SERVICE_TOKEN, token);
        if let Some(origin) = self.origin {
            request.extensions_mut().insert(origin);
        }
        request
    }
}

/// Where a call goes, and how.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    /// Which role.
    pub role: Role,
    /// Which listener.
    pub door: Door,
    /// Repeating the request is safe.
    pub idempotent: bool,
    /// Time limit of one attempt, until the answer's head.
    pub limit: Duration,
}

/// Calls other roles.
pub struct Calls {
    common: Common,
    token: HeaderValue,
    draws: Ids,
    open: [[AtomicUsize; REPLICAS_MAX]; Role::ALL.len()],
}

/// Whether an answer says that nothing was done, for a reason that passes.
fn passes(status: StatusCode) -> bool {
    matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
}

impl Calls {
    /// Calls in the name of the role of `common`.
    ///
    /// # Panics
    /// If the service token cannot be sent as a header; configuration has checked that.
    #[must_use]
    pub fn new(common: Common) -> Self {
        let mut token = HeaderValue::from_str(&common.service_token.0)
            .expect("a service token is visible ascii");
        token.set_sensitive(true);
        let draws = Ids::new(&common.rt);
        let open = std::array::from_fn(|_| [const { AtomicUsize::new(0) }; REPLICAS_MAX]);
        Self { common, token, draws, open }
    }

    /// Sends a request and gives the answer, whatever its status. What may have happened at an earlier
    /// attempt stays so, whatever a later one says of itself: a refusal for a reason that passes, or no
    /// connection.
    pub async fn send(&self, way: Way, request: Outgoing) -> Result<Response<Body>, CallError> {
        let reads = request.method.is_safe();
        let mut request = Some(request);
        let (mut tried, mut sent) = (Replicas(0), 0);
        let (mut unsent_error, mut doubt) = (None, None);
        for attempt in 1..=UNSENT_MAX {
            let most = self.common.rpc.replicas(way.role).clamp(ATTEMPTS, UNSENT_MAX);
            let replica = if attempt > most { None } else { self.pick(way.role, tried) };
            let Some(replica) = replica else { break };
            let last = attempt == most || self.common.rpc.is_here(way.role, replica);
            let one = if last { request.take() } else { request.clone() };
            let Some(one) = one else { break };
            tried = tried.with(replica);
            match self.attempt(way, replica, one.request(self.token.clone())).await {
                Ok(response) if reads || !passes(response.status()) => return Ok(response),
                Ok(response) => return doubt.map_or(Ok(response), Err),
                Err(error) => {
                    let unsent = matches!(error, CallError::NotSent(_));
                    sent += usize::from(!unsent);
                    if unsent {
                        unsent_error = Some(error);
                    } else {
                        doubt = Some(error);
                    }
                    if last || !(unsent || way.idempotent && sent < ATTEMPTS) {
                        break;
                    }
                }
            }
        }
        let nobody = || {
            let kind = crate::ports::Kind::Unavailable;
            CallError::NotSent(StoreError::new(kind, way.role.as_str(), "there is no replica"))
        };
        Err(doubt.or(unsent_error).unwrap_or_else(nobody))
    }

    async fn attempt(
        &self,
        way: Way,
        replica: usize,
        request: Request<Body>,
    ) -> Result<Response<Body>, CallError> {
        let open = self.open(way.role, replica);
        open.fetch_add(1, Ordering::Relaxed);
        let _closes = Closes(open);
        let call = self.common.rpc.call(way.role, replica, way.door, request);
        match self.common.rt.timeout(way.limit, call).await {
            Ok(Outcome::Done(response)) => Ok(response),
            Ok(Outcome::Failed(error)) => Err(CallError::NotSent(error)),
            Ok(Outcome::Unknown(error)) => Err(CallError::NoAnswer(error)),
            Err(_elapsed) => Err(CallError::TimedOut),
        }
    }

    fn open(&self, role: Role, replica: usize) -> &AtomicUsize {
        &self.open[role as usize][replica]
    }

    /// The less busy of two healthy replicas, none of `tried` unless there is only one. If none is
    /// healthy any is tried, as health may be old news.
    fn pick(&self, role: Role, tried: Replicas) -> Option<usize> {
        let rpc = &self.common.rpc;
        let count = rpc.replicas(role).min(REPLICAS_MAX);
        if count <= 1 {
            return (count == 1).then_some(0);
        }
        let others = Replicas::all(count).except(tried);
        let healthy = Replicas::of((0..count).filter(|&replica| rpc.healthy(role, replica)));
        let healthy = healthy.except(tried);
        let known = if healthy.0 == 0 { others } else { healthy };
        let draw = self.draws.next();
        let first = known.nth(draw as u32)?;
        // What is not known to be healthy has no load that says anything.
        let second = if healthy.0 == 0 {
            None
        } else {
            known.except(Replicas(0).with(first)).nth((draw >> 32) as u32)
        };
        let load = |replica| self.open(role, replica).load(Ordering::Relaxed);
        Some(match second {
            Some(second) if load(second) < load(first) => second,
            _ => first,
        })
    }

    /// `GET` an internal route; `None` for 404. `path` carries the query.
    pub async fn get<T: DeserializeOwned>(
        &self,
        role: Role,
        path: &str,
        limit: Duration,
    ) -> Result<Option<T>, CallError> {
        let way = Way { role, door: Door::Internal, idempotent: true, limit };
        self.get_json(way, path).await
    }

    /// `GET` a public route; `None` for 404.
    pub async fn get_public<T: DeserializeOwned>(
        &self,
        role: Role,
        path: &str,
        limit: Duration,
    ) -> Result<Option<T>, CallError> {
        let way = Way { role, door: Door::Public, idempotent: true, limit };
        self.get_json(way, path).await
    }

    async fn get_json<T: DeserializeOwned>(
        &self,
        way: Way,
        path: &str,
    ) -> Result<Option<T>, CallError> {
        let request = outgoing(Method::GET, path, Bytes::new(), None)?;
        let response = self.send(way, request).await?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(None),
            status => return Err(CallError::Status(status)),
        }
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect();
        let body = self.common.rt.timeout(way.limit, body).await;
        let body = body.map_err(|_| CallError::TimedOut)?;
        let unreadable = || CallError::Status(StatusCode::BAD_GATEWAY);
        let bytes = body.map_err(|_| unreadable())?.to_bytes();
        serde_json::from_slice(&bytes).map(Some).map_err(|_| unreadable())
    }

    /// `POST` to an internal route that may be repeated; gives the status.
    ///
    /// # Panics
    /// Never: internal bodies can be written as JSON.
    pub async fn post<T: Serialize>(
        &self,
        role: Role,
        path: &str,
        body: &T,
        trace: Option<&TraceContext>,
        limit: Duration,
    ) -> Result<StatusCode, CallError> {
        let way = Way { role, door: Door::Internal, idempotent: true, limit };
        let body = serde_json::to_vec(body).expect("internal bodies have only string keys");
        let request = outgoing(Method::POST, path, body.into(), trace)?;
        Ok(self.send(way, request).await?.status())
    }
}

fn outgoing(
    method: Method,
    path: &str,
    body: Bytes,
    trace: Option<&TraceContext>,
) -> Result<Outgoing, CallError> {
    let uri = Uri::try_from(path).map_err(|_| CallError::Status(StatusCode::BAD_REQUEST))?;
    let mut headers = HeaderMap::new();
    if !body.is_empty() {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    if let Some(trace) = trace.and_then(|trace| HeaderValue::from_str(trace.as_str()).ok()) {
        headers.insert(TRACEPARENT, trace);
    }
    Ok(Outgoing { method, uri, headers, origin: None, body })
}

/// A set of replicas, one bit each.
#[derive(Clone, Copy)]
struct Replicas(u64);

impl Replicas {
    const fn all(count: usize) -> Self {
        Self(u64::MAX >> (REPLICAS_MAX - count))
    }

    fn of(replicas: impl Iterator<Item = usize>) -> Self {
        Self(replicas.fold(0, |set, replica| set | 1 << replica))
    }

    const fn with(self, replica: usize) -> Self {
        Self(self.0 | 1 << replica)
    }

    const fn except(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    /// One of them, for a random `draw`; `None` if there is none.
    fn nth(self, draw: u32) -> Option<usize> {
        let mut left = self.0;
        for _ in 0..draw.checked_rem(self.0.count_ones())? {
            left &= left - 1;
        }
        Some(left.trailing_zeros() as usize)
    }
}

struct Closes<'a>(&'a AtomicUsize);

impl Drop for Closes<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
