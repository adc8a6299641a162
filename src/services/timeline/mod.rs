//! The timeline role: home and author timelines, fan-out, its own copy of the graph.

use std::sync::Arc;

use super::kit::{Common, Service};
use crate::ports::{BodyCache, Bus, Hints, RelationCache, TimelineCache, TimelineStore};

/// What the role needs beside [`Common`].
#[derive(Clone)]
pub struct Deps {
    /// The durable copy of tweets and graph.
    pub store: Arc<dyn TimelineStore>,
    /// Home timelines and lists of pulled authors.
    pub cache: Arc<dyn TimelineCache>,
    /// Whom readers may see.
    pub relations: Arc<dyn RelationCache>,
    /// Bodies of tweets.
    pub bodies: Arc<dyn BodyCache>,
    /// Where events and chunk jobs come from.
    pub bus: Arc<dyn Bus>,
    /// Tells streams and waiting posts that something is new.
    pub hints: Arc<dyn Hints>,
}

/// Which halves of the role a process runs, so that they scale apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Halves {
    /// The HTTP half.
    pub http: bool,
    /// The queue workers.
    pub worker: bool,
}

/// Builds the role.
pub fn build(common: Common, deps: Deps, halves: Halves) -> Service {
    let _ = (common, deps, halves);
    unimplemented!()
}
