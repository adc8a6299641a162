//! Who calls: request id, trace, address, and whether a role of this system vouches for it.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::extract::{ConnectInfo, FromRequestParts};
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, request::Parts};

use super::{
    Secret,
    answers::{Code, Fault},
    auth::Verified,
    limits::counted_as,
};
pub use crate::ports::rpc::{FORWARDED_FOR, REQUEST_ID};
use crate::{
    ports::rpc::Origin,
    rt::Rt,
    wire::trace::{TRACEPARENT, TraceContext, hex},
};

/// Proves that a call comes from a role of this system.
pub const SERVICE_TOKEN: HeaderName = HeaderName::from_static("x-chirp-service-token");
/// The longest request id that is taken over from a client.
const REQUEST_ID_MAX: usize = 64;

/// Facts about one request, found by the guard; an extractor.
#[derive(Clone, Debug)]
pub struct Call(Arc<Info>);

/// See [`Call`].
#[derive(Debug)]
pub struct Info {
    /// The request's id.
    pub request_id: HeaderValue,
    /// The trace that this request is part of.
    pub trace: TraceContext,
    /// The client's address; `None` inside a process.
    pub address: Option<IpAddr>,
    /// A role of this system made or forwarded the call.
    pub vouched: bool,
    /// That role runs in this process, and finishes the answer itself.
    pub(super) handed: bool,
    /// Who calls, on routes that need an access token.
    pub(super) caller: Option<Arc<Verified>>,
}

impl std::ops::Deref for Call {
    type Target = Info;

    fn deref(&self) -> &Info {
        &self.0
    }
}

impl Info {
    /// The request's id as text.
    #[must_use]
    pub fn request_id(&self) -> &str {
        self.request_id.to_str().unwrap_or_default()
    }

    /// The key under which the address' calls are counted.
    #[must_use]
    pub fn address_key(&self) -> String {
        match self.address {
            Some(address) => format!("addr:{}", counted_as(address)),
            None => "addr:local".to_owned(),
        }
    }

    /// For whom a call is made that follows from this one.
    #[must_use]
    pub fn origin(&self) -> Origin {
        let (request_id, trace) = (self.request_id.clone(), self.trace.clone());
        Origin { request_id, trace, address: self.address }
    }

    /// Makes it an extractor.
    pub(super) fn shared(self) -> Call {
        Call(Arc::new(self))
    }
}

impl<S: Sync> FromRequestParts<S> for Call {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Fault> {
        // Missing only if a route was mounted without the guard.
        parts.extensions.get::<Self>().cloned().ok_or_else(|| Code::Internal.into())
    }
}

/// Who calls: the owner of a valid access token. An extractor for routes with `Access::Bearer`.
#[derive(Clone, Debug)]
pub struct Caller(Arc<Verified>);

impl std::ops::Deref for Caller {
    type Target = Verified;

    fn deref(&self) -> &Verified {
        &self.0
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Fault> {
        let caller = parts.extensions.get::<Call>().and_then(|call| call.caller.clone());
        caller.map(Self).ok_or_else(|| Code::Unauthorized.into())
    }
}

/// Makes request and trace ids, and draws replicas: unique, not secret, and without a system call
/// each.
pub(super) struct Ids {
    seed: u64,
    count: AtomicU64,
}

impl Ids {
    pub(super) fn new(rt: &Rt) -> Self {
        Self { seed: rt.random_u64(), count: AtomicU64::new(0) }
    }

    /// The next of a sequence that does not repeat within 2^64 (splitmix64; Steele et al. 2014).
    pub(super) fn next(&self) -> u64 {
        const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
        let step = self.count.fetch_add(1, Ordering::Relaxed).wrapping_mul(GOLDEN);
        let mut z = self.seed.wrapping_add(step);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn request_id(&self) -> HeaderValue {
        let mut text = [0; 16];
        hex(&self.next().to_be_bytes(), &mut text);
        HeaderValue::from_bytes(&text).expect("hex is a header value")
    }

    fn trace(&self) -> TraceContext {
        let mut bytes = [0; 24];
        for chunk in bytes.chunks_exact_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes());
        }
        TraceContext::new(bytes)
    }

    /// Reads who calls: what a role of this process says, or else the headers.
    pub(super) fn identify(
        &self,
        headers: &HeaderMap,
        extensions: &mut Extensions,
        token: &Secret,
    ) -> Info {
        if let Some(Origin { request_id, trace, address }) = extensions.remove() {
            return Info { request_id, trace, address, vouched: true, handed: true, caller: None };
        }
        let vouched = headers.get(SERVICE_TOKEN).is_some_and(|given| token.is(given.as_bytes()));
        let address = if vouched {
            headers.get(FORWARDED_FOR).and_then(|v| v.to_str().ok()?.trim().parse().ok())
        } else {
            extensions.get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip())
        };
        let request_id = headers
            .get(REQUEST_ID)
            .filter(|id| sane_request_id(id.as_bytes()))
            .cloned()
            .unwrap_or_else(|| self.request_id());
        let trace = headers
            .get(TRACEPARENT)
            .and_then(|parent| TraceContext::parse(parent.to_str().ok()?))
            .map_or_else(|| self.trace(), |parent| parent.child(self.next()));
        Info { request_id, trace, address, vouched, handed: false, caller: None }
    }
}

/// Letters, digits, `-`, `_` and `.`: what is safe in logs and headers.
fn sane_request_id(id: &[u8]) -> bool {
    (1..=REQUEST_ID_MAX).contains(&id.len())
        && id.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}
