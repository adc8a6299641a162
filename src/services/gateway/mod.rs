//! The gateway role: routing and load balancing over the replicas of the other three, and the page.
//!
//! Tokens are the business of the roles. The gateway vouches for the client's address with the
//! service token, after it has thrown away whatever the client itself says about that.
//!
//! There is one exception: a token that claims that no limit counts its owner's calls is checked here
//! too, as addresses are counted here. It is ready without keys all the same, as ordinary calls need none
//! and whoever claims is counted until they are there; and it asks for none before somebody claims, so
//! that it costs nothing where nobody does.

mod forward;
mod page;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::extract::{Request, State};

use super::kit::{Call, Common, Kit, Service};
use crate::wire::routes::ROUTES;

/// Builds the role.
pub fn build(common: Common) -> Service {
    let kit = Kit::new(common);
    let mut routes = kit.public(Arc::new(kit.clone()));
    for route in ROUTES {
        let handler = async move |State(kit): State<Arc<Kit>>, call: Call, request: Request| {
            forward::forward(&kit, route, &call, request).await
        };
        routes = routes.forward(route, handler);
    }
    let public = page::mount(routes, &kit.common.config.media).finish();
    let internal = kit.internal(()).finish();
    kit.service_without_tokens(public, internal, Vec::new())
}
