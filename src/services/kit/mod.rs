//! What every role shares: authentication, rate limits, shedding, body limits, request ids, errors.
//!
//! Start with [`Kit`], which builds a role: [`Kit::public`] and [`Kit::internal`] make routers whose
//! every route has the guard around it. Handlers take the extractors [`Call`], [`Caller`], [`Json`],
//! [`Path`] and [`Query`], and give a [`Fault`] for every error.

pub mod answers;
pub mod apply;
pub mod auth;
#[cfg(test)]
mod auth_tests;
pub mod call;
pub mod calls;
pub mod extract;
#[cfg(test)]
pub(in crate::services) mod fakes;
mod guard;
pub mod limits;
pub mod places;
pub mod relay;
pub mod routes;
#[cfg(test)]
mod tests;
pub mod token;
mod uncounted;
#[cfg(test)]
mod uncounted_tests;

pub use answers::{Code, Fault};
pub use call::{Call, Caller};
pub use calls::{CallError, Calls, Outgoing, Way};
pub use extract::{Json, Path, Query};
pub use relay::Relay;
pub use routes::{Kit, Routes};

use std::sync::Arc;

use axum::Router;
use tokio::sync::watch;

use crate::{
    config,
    ports::{RateLimiter, Rpc},
    rt::{BoxFuture, Rt, Shutdown, Task},
    telemetry::Metrics,
    wire::routes::Role,
};

/// What every role needs.
#[derive(Clone)]
pub struct Common {
    /// Time, tasks, randomness.
    pub rt: Rt,
    /// Which role this is.
    pub role: Role,
    /// Which replica, from 0.
    pub replica: usize,
    /// Calls to other roles.
    pub rpc: Arc<dyn Rpc>,
    /// Counts calls.
    pub limiter: Arc<dyn RateLimiter>,
    /// Where measurements go.
    pub metrics: Metrics,
    /// Configuration of all services.
    pub config: Arc<config::Services>,
    /// Shared by all roles; proves that an internal call comes from one of them.
    pub service_token: Secret,
    /// Fires when the role must stop.
    pub shutdown: Shutdown,
}

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub Arc<str>);

impl Secret {
    /// Compares in a time that does not depend on where the texts differ.
    #[must_use]
    pub fn is(&self, given: &[u8]) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(self.0.as_bytes(), given).is_ok()
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// A built role: what its listeners serve, and what runs in the background.
pub struct Service {
    /// Which role.
    pub role: Role,
    /// The public routes, with all layers.
    pub public: Router,
    /// The internal routes, guarded by the service token; mounted on the admin listener.
    pub internal: Router,
    /// Background loops; each ends soon after the shutdown fires.
    pub tasks: Vec<(&'static str, BoxFuture<'static, ()>)>,
    /// `true` once the role can answer every request: it holds the keys that tokens are signed with.
    pub ready: watch::Receiver<bool>,
}

impl Service {
    /// Starts the background loops, and takes them out.
    pub fn start(&mut self, rt: &Rt) -> Vec<Task> {
        self.tasks.drain(..).map(|(name, task)| rt.spawn(name, task)).collect()
    }
}
