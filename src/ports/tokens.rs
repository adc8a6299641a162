//! What logs a connection in.

use async_trait::async_trait;

use super::Read;
use crate::config::Secret;

/// Gives the password, or the short-lived token in its place, of a connection to a server.
///
/// Adapters ask when a connection is about to be made, and again when a server refuses what they
/// know. What is expensive to make is kept here, for as long as it is good. Callers have limits of
/// time and drop the future: what takes longer goes on in a task.
#[async_trait]
pub trait TokenProvider: Send + Sync {
    /// What logs in now; empty if there is no password.
    async fn token(&self) -> Read<Secret>;
}
