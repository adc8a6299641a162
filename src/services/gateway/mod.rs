//! The gateway role: routing and load balancing over replicas, and the page.

use super::kit::{Common, Service};

/// Builds the role.
pub fn build(common: Common) -> Service {
    let _ = common;
    unimplemented!()
}
