//! The user role: accounts, sessions and keys, the follow graph.

use std::sync::Arc;

use super::kit::{Common, Service};
use crate::ports::{Bus, GraphStore, KeyStore, Outbox, UserStore};

/// What the role needs beside [`Common`].
#[derive(Clone)]
pub struct Deps {
    /// Accounts and sessions.
    pub users: Arc<dyn UserStore>,
    /// The follow graph.
    pub graph: Arc<dyn GraphStore>,
    /// Signing keys.
    pub keys: Arc<dyn KeyStore>,
    /// Events of the graph that wait for the bus.
    pub outbox: Arc<dyn Outbox>,
    /// Where the relay publishes.
    pub bus: Arc<dyn Bus>,
}

/// Builds the role.
pub fn build(common: Common, deps: Deps) -> Service {
    let _ = (common, deps);
    unimplemented!()
}
