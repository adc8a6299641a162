//! The one layer around every route: who calls, whether there is room, how long it may take, what
//! is measured and what an error looks like.
//!
//! One hand-written layer instead of a stack of eight: a warm read is to cost little more than its
//! handler. It is laid around each route on its own, so that it knows the route without a look-up.

use std::{
    convert::Infallible,
    future::Future,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    body::Body,
    extract::Request,
    response::{IntoResponse, Response},
};
use futures_util::{FutureExt, StreamExt};
use http::{HeaderName, HeaderValue, StatusCode, header};
use http_body_util::Limited;

use super::{
    Common,
    answers::{Code, Fault},
    auth::{Verified, Verifier},
    call::{Call, Ids, Info, REQUEST_ID},
    limits::{self, Standing},
    places::{Place, Places},
};
use crate::{config::Http, ports::Counted, telemetry::metrics::RouteMeter, wire::routes::Access};

const NOSNIFF: HeaderName = header::X_CONTENT_TYPE_OPTIONS;

/// What the guard needs to know of a route.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spot {
    /// The method, for metrics.
    pub(super) method: &'static str,
    /// The path pattern, for metrics.
    pub(super) path: &'static str,
    /// Who may call it; the gateway leaves that to the roles.
    pub(super) access: Access,
    /// The answer is endless.
    pub(super) stream: bool,
    /// Only roles of this system may call it.
    pub(super) internal: bool,
}

impl Spot {
    /// Where requests end that match no route.
    pub(super) const fn unmatched(internal: bool) -> Self {
        Self { method: "any", path: "unmatched", access: Access::Public, stream: false, internal }
    }
}

/// What all routes of a listener share.
pub(super) struct Shared {
    common: Common,
    verifier: Arc<Verifier>,
    ids: Ids,
    /// Requests in work (`false`) and open streams (`true`).
    places: Places<bool>,
}

impl Shared {
    pub(super) fn new(common: Common, verifier: Arc<Verifier>) -> Self {
        let ids = Ids::new(&common.rt);
        Self { common, verifier, ids, places: Places::default() }
    }

    /// A place for one request; `None` if the role is full.
    fn admit(&self, spot: Spot) -> Option<Place<bool>> {
        let http = &self.common.config.http;
        let max = if spot.stream { http.streams_max } else { http.concurrency_max };
        self.places.take(spot.stream, usize::try_from(max).unwrap_or(usize::MAX))
    }

    /// Everything that may refuse a request before its handler runs.
    async fn authorize(&self, spot: Spot, head: &Head<'_>, info: &mut Info) -> Ruling {
        if spot.internal && !info.vouched {
            return Ruling::refuse(Code::Forbidden.into());
        }
        if head.length > self.common.config.http.body_bytes_max {
            return Ruling::refuse(Code::BodyTooLarge.into());
        }
        // The address comes first, so that whoever calls too often costs no check of a token. The
        // owner of one that was checked before is counted with it: a round trip less.
        let public = spot.access == Access::Public;
        let mut caller = if public { None } else { self.verifier.recall(head.authorization) };
        // Nor does whoever claims not to be counted cost more than a few.
        if caller.is_none() && !info.vouched {
            caller = self.verifier.uncounted(head.authorization, info.address).await;
        }
        let uncounted = caller.as_deref().is_some_and(|caller| caller.uncounted);
        let (address, user) = (info.address_key(), caller.as_deref().and_then(user_key));
        let of_address = (!info.vouched && !uncounted).then(|| self.of_address(&address));
        let of_user = user.as_deref().map(|user| self.of_user(user));
        let calls: Vec<Counted<'_>> = of_address.into_iter().chain(of_user).collect();
        let mut standings = limits::count(&self.common, &calls).await.into_iter();
        if of_address.is_some()
            && let Some(standing) = standings.next()
            && let Err(fault) = standing.check()
        {
            return Ruling { standing: Some(standing), fault: Some(fault) };
        }
        if uncounted {
            self.common.metrics.uncounted(self.common.role);
        }
        if public {
            return Ruling { standing: None, fault: None };
        }
        let standing = if let Some(caller) = caller {
            info.caller = Some(caller);
            standings.next()
        } else {
            let caller = match self.verifier.authenticate(head.authorization).await {
                Ok(caller) => caller,
                Err(fault) => return Ruling::refuse(fault),
            };
            let standing = self.count_user(&caller).await;
            info.caller = Some(caller);
            standing
        };
        Ruling { standing, fault: standing.and_then(|standing| standing.check().err()) }
    }

    /// Counts a call of one whose token was not known before.
    async fn count_user(&self, caller: &Verified) -> Option<Standing> {
        let Some(user) = user_key(caller) else {
            self.common.metrics.uncounted(self.common.role);
            return None;
        };
        limits::count(&self.common, &[self.of_user(&user)]).await.pop()
    }

    fn of_address<'a>(&self, key: &'a str) -> Counted<'a> {
        let limit = Http::per_minute(self.common.config.http.address_calls_per_minute);
        Counted { name: "address", key, limit }
    }

    fn of_user<'a>(&self, key: &'a str) -> Counted<'a> {
        let limit = Http::per_minute(self.common.config.http.user_calls_per_minute);
        Counted { name: "user", key, limit }
    }
}

/// The key under which a user's calls are counted; `None` if they are not.
fn user_key(caller: &Verified) -> Option<String> {
    (!caller.uncounted).then(|| format!("user:{}", caller.user))
}

/// What [`Shared::authorize`] looks at.
struct Head<'a> {
    authorization: Option<&'a HeaderValue>,
    length: u64,
}

/// What comes of [`Shared::authorize`].
struct Ruling {
    standing: Option<Standing>,
    fault: Option<Fault>,
}

impl Ruling {
    const fn refuse(fault: Fault) -> Self {
        Self { standing: None, fault: Some(fault) }
    }
}

/// One guarded route.
struct Site {
    shared: Arc<Shared>,
    spot: Spot,
    meter: RouteMeter,
}

/// Lays the guard around one route.
#[derive(Clone)]
pub(super) struct GuardLayer(Arc<Site>);

impl GuardLayer {
    pub(super) fn new(shared: Arc<Shared>, spot: Spot) -> Self {
        let common = &shared.common;
        let meter = common.metrics.route(common.role, spot.method, spot.path);
        Self(Arc::new(Site { shared, spot, meter }))
    }
}

impl<S> tower::Layer<S> for GuardLayer {
    type Service = Guard<S>;

    fn layer(&self, inner: S) -> Guard<S> {
        Guard { site: Arc::clone(&self.0), inner }
    }
}

/// A guarded route.
#[derive(Clone)]
pub(super) struct Guard<S> {
    site: Arc<Site>,
    inner: S,
}

impl<S> tower::Service<Request> for Guard<S>
where
    S: tower::Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        // The inner service was polled ready, its clone was not.
        let inner = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, inner);
        Box::pin(guarded(Arc::clone(&self.site), inner, request).map(Ok))
    }
}

async fn guarded<S>(site: Arc<Site>, inner: S, mut request: Request) -> Response
where
    S: tower::Service<Request, Response = Response, Error = Infallible>,
{
    let Site { shared, spot, meter } = &*site;
    let (spot, common) = (*spot, &shared.common);
    let started = common.rt.now();
    let token = &common.service_token;
    // The extensions have their own life: headers are only read.
    let mut extensions = std::mem::take(request.extensions_mut());
    let mut info = shared.ids.identify(request.headers(), &mut extensions, token);
    *request.extensions_mut() = extensions;
    let (mut response, call) = match shared.admit(spot) {
        None => {
            common.metrics.shed(common.role);
            (Fault::from(Code::Overloaded).into_response(), info.shared())
        }
        Some(place) => {
            let head = Head {
                authorization: request.headers().get(header::AUTHORIZATION),
                length: content_length(&request),
            };
            let ruling = shared.authorize(spot, &head, &mut info).await;
            let call = info.shared();
            let mut response = match ruling.fault {
                Some(fault) => fault.into_response(),
                None => run(shared, spot, inner, request, call.clone()).await,
            };
            if let Some(standing) = ruling.standing {
                standing.show(response.headers_mut());
            }
            if spot.stream && response.status().is_success() {
                response = hold(response, place);
            }
            (response, call)
        }
    };
    finish(&mut response, &call);
    let took = common.rt.now().since(started);
    let status = response.status().as_u16();
    meter.answered(status, took);
    log(spot, status, took, &call);
    response
}

/// Runs the handler with its time limit; a panic is an answer, not a torn connection.
async fn run<S>(shared: &Shared, spot: Spot, inner: S, request: Request, call: Call) -> Response
where
    S: tower::Service<Request, Response = Response, Error = Infallible>,
{
    let common = &shared.common;
    let mut request = bounded(request, common.config.http.body_bytes_max);
    request.extensions_mut().insert(call);
    let mut inner = inner;
    let handled = AssertUnwindSafe(async move {
        let Ok(response) = inner.call(request).await;
        response
    })
    .catch_unwind();
    let limit = common.config.http.request_timeout();
    // A stream is endless in its body, not in its head.
    match common.rt.timeout(limit, handled).await {
        Ok(Ok(response)) => response,
        Ok(Err(_panic)) => {
            tracing::error!(method = spot.method, route = spot.path, "a handler panicked");
            Fault::from(Code::Internal).into_response()
        }
        Err(_elapsed) => Fault::from(Code::Timeout).into_response(),
    }
}

fn content_length(request: &Request) -> u64 {
    let length = request.headers().get(header::CONTENT_LENGTH);
    length.and_then(|length| length.to_str().ok()?.parse().ok()).unwrap_or(0)
}

/// Bounds the body of a request that has one.
fn bounded(request: Request, max: u64) -> Request {
    if axum::body::HttpBody::is_end_stream(request.body()) {
        return request;
    }
    let max = usize::try_from(max).unwrap_or(usize::MAX);
    request.map(|body| Body::new(Limited::new(body, max)))
}

/// Keeps the stream's place until its body ends or is dropped.
fn hold(response: Response, place: Place<bool>) -> Response {
    response.map(|body| {
        Body::from_stream(body.into_data_stream().map(move |chunk| {
            let _held = &place;
            chunk
        }))
    })
}

/// What every answer carries.
fn finish(response: &mut Response, call: &Call) {
    if let Some(fault) = response.extensions_mut().remove::<Fault>() {
        let named = fault.into_named_response(Some(call.request_id())).into_body();
        *response.body_mut() = named;
    }
    if call.handed {
        return;
    }
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, call.request_id.clone());
    headers.insert(NOSNIFF, HeaderValue::from_static("nosniff"));
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
}

fn log(spot: Spot, status: u16, took: std::time::Duration, call: &Call) {
    let Spot { method, path: route, .. } = spot;
    let (request_id, trace_id) = (call.request_id(), call.trace.trace_id());
    let took_us = took.as_micros() as u64;
    if status >= StatusCode::INTERNAL_SERVER_ERROR.as_u16() {
        tracing::warn!(method, route, status, took_us, request_id, trace_id, "answered");
    } else {
        tracing::debug!(method, route, status, took_us, request_id, trace_id, "answered");
    }
}
