//! What every role shares: authentication, rate limits, shedding, body limits, request ids, errors.

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
