//! The tweet role: tweets.

use std::sync::Arc;

use super::kit::{Common, Service};
use crate::ports::{Bus, Hints, Outbox, TweetStore};

/// What the role needs beside [`Common`].
#[derive(Clone)]
pub struct Deps {
    /// Tweets.
    pub tweets: Arc<dyn TweetStore>,
    /// Events of tweets that wait for the bus.
    pub outbox: Arc<dyn Outbox>,
    /// Where the relay publishes.
    pub bus: Arc<dyn Bus>,
    /// Tells when a tweet is projected, for `Prefer: wait`.
    pub hints: Arc<dyn Hints>,
}

/// Builds the role.
pub fn build(common: Common, deps: Deps) -> Service {
    let _ = (common, deps);
    unimplemented!()
}
