//! Calls to other roles over HTTP.

use std::net::IpAddr;

use async_trait::async_trait;
use axum::body::Body;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};

use super::Outcome;
use crate::wire::{
    routes::Role,
    trace::{TRACEPARENT, TraceContext},
};

/// Carries the request's id, in and out.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The client's address, believed only of a role of this system.
pub const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// For whom a role calls another one. It travels among the request's extensions, which nobody
/// outside the process can set: who finds it there believes it.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The request's id.
    pub request_id: HeaderValue,
    /// The trace that the request is part of.
    pub trace: TraceContext,
    /// The client's address; `None` if the request came from inside.
    pub address: Option<IpAddr>,
}

impl Origin {
    /// Puts what `request` carries of its origin into its headers, and takes it out of the
    /// extensions: for whoever sends it out of the process.
    pub fn write_down(request: &mut Request<Body>) {
        if let Some(origin) = request.extensions_mut().remove::<Self>() {
            origin.write_to(request.headers_mut());
        }
    }

    fn write_to(self, headers: &mut HeaderMap) {
        let value = |text: &str| HeaderValue::from_str(text).expect("visible ascii");
        headers.insert(TRACEPARENT, value(self.trace.as_str()));
        if let Some(address) = self.address {
            headers.insert(FORWARDED_FOR, value(&address.to_string()));
        }
        headers.insert(REQUEST_ID, self.request_id);
    }
}

/// Which listener of a role is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Door {
    /// The public routes; what the gateway calls.
    Public,
    /// The internal routes of the admin listener; what roles call of each other.
    Internal,
}

/// Reaches the replicas of other roles.
#[async_trait]
pub trait Rpc: Send + Sync {
    /// How many replicas of `role` there are now.
    fn replicas(&self, role: Role) -> usize;

    /// Whether `replica` answered its last health check or call.
    fn healthy(&self, role: Role, replica: usize) -> bool;

    /// Whether `replica` runs in this process: a call of it is never lost, so nobody need be able to
    /// repeat it.
    fn is_here(&self, _role: Role, _replica: usize) -> bool {
        false
    }

    /// Sends `request` to one replica. `Failed` means that it was never sent; `Unknown` that it was
    /// sent and no answer came. The time limit is the caller's.
    async fn call(
        &self,
        role: Role,
        replica: usize,
        door: Door,
        request: Request<Body>,
    ) -> Outcome<Response<Body>>;
}
