//! The user role: accounts, sessions and keys, the follow graph.
//!
//! `routes` is HTTP in and out; `accounts` and `graph` decide; `passwords` and `keys` keep secrets.

mod accounts;
mod graph;
mod keys;
mod passwords;
mod routes;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use super::kit::{Common, Kit, Relay, Service};
use crate::{
    config::Auth,
    ports::{Bus, GraphStore, KeyStore, Outbox, PasswordHash, Topic, UserStore},
    rt::{BoxFuture, Rt},
};

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

/// The hash of a password, as a sign-up keeps it; `None` if the library refuses.
pub async fn hash_password(rt: &Rt, auth: &Auth, password: String) -> Option<PasswordHash> {
    passwords::Passwords::new(rt.clone(), auth).hash(password).await.ok()
}

/// Builds the role.
pub fn build(common: Common, deps: Deps) -> Service {
    let kit = Kit::new(common);
    let keys = Arc::new(keys::Keys::new(kit.common.clone(), deps.keys));
    let relay = Relay::new(kit.common.clone(), deps.outbox, deps.bus, Topic::GraphEvents);
    let accounts = accounts::Accounts::new(&kit, Arc::clone(&deps.users), Arc::clone(&keys));
    let graph = graph::Graph::new(&kit, deps.graph, Arc::clone(&relay));
    let state = Arc::new(routes::Users { store: deps.users, accounts, graph, kit: kit.clone() });
    let public = routes::public(&kit, &state, &keys);
    let internal = routes::internal(&kit, &state);
    let first = {
        let keys = Arc::clone(&keys);
        async move { keys.ensure().await }
    };
    let tasks: Vec<(&'static str, BoxFuture<'static, ()>)> = vec![
        ("graph relay", Box::pin(relay.run())),
        ("keys", Box::pin(async move { keys.run().await })),
    ];
    kit.service(public, internal, first, tasks)
}
