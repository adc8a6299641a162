//! What logs a connection in.

use async_trait::async_trait;

use super::Read;
use crate::config::Secret;

/// Gives the password, or the short-lived token in its place, of a connection that is about to be
/// made. Adapters of servers ask each time, so that what was changed or has run out is not used
/// again; what is expensive to make is kept by the provider, for as long as it is good.
#[async_trait]
pub trait TokenProvider: Send + Sync {
    /// What logs in now; empty: nothing is sent. The time limit is the caller's.
    async fn token(&self) -> Read<Secret>;
}
