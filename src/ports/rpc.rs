//! Calls to other roles over HTTP.

use async_trait::async_trait;
use axum::body::Body;
use http::{Request, Response};

use super::Outcome;
use crate::wire::routes::Role;

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
