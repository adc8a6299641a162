//! The timeline role: home and author timelines, fan-out, its own copy of the graph.
//!
//! Two halves. **HTTP**: `GET /timeline` ([`page`] over [`home`]), `GET /timeline/stream`
//! ([`stream`]), `GET /users/{handle}/tweets`, and internally `POST /internal/apply` ([`apply`]).
//! **Worker**: the `ingest` and `bulk` lanes ([`worker`], [`fanout`], [`lanes`]). It owns the tables of
//! [`TimelineStore`] and never touches the stores of the other roles: what no cache and no copy has,
//! it asks of them ([`peers`]). Start with [`home`].

mod apply;
mod error;
mod fanout;
mod flights;
mod home;
mod hydrate;
mod kept;
mod lanes;
mod merge_store;
mod page;
mod peers;
mod relations;
mod routes;
mod stream;
mod worker;

use std::sync::Arc;

use axum::Router;
use tokio::sync::Semaphore;

use self::{flights::Flights, peers::Peers};
use super::kit::{Common, Kit, Service, places::Places};
use crate::{
    config,
    domain::UserId,
    ports::{
        BodyCache, Bus, Chosen, Hints, HomeStore, Queue, RelationCache, TimelineCache,
        TimelineStore,
    },
    rt::BoxFuture,
};

/// What the role needs beside [`Common`].
#[derive(Clone)]
pub struct Deps {
    /// The durable copy of tweets and graph.
    pub store: Arc<dyn TimelineStore>,
    /// Durable home timelines, which only `push` keeps.
    pub homes: Arc<dyn HomeStore>,
    /// How tweets reach home timelines.
    pub chosen: Chosen,
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

impl Halves {
    /// The whole role.
    pub const BOTH: Self = Self { http: true, worker: true };
}

/// The role's state, shared by its requests and loops.
struct Core {
    common: Common,
    config: Arc<config::Services>,
    deps: Deps,
    kit: Kit,
    peers: Peers,
    flights: Flights,
    /// Open streams of each user.
    streams: Places<UserId>,
    /// Places for rebuilds: each holds a reader's relations and a page of many partitions.
    rebuilds: Semaphore,
}

/// Builds the role.
pub fn build(common: Common, deps: Deps, halves: Halves) -> Service {
    let kit = Kit::new(common.clone());
    let config = Arc::clone(&common.config);
    let core = Arc::new(Core {
        peers: Peers::new(Arc::clone(&kit.calls)),
        flights: Flights::default(),
        streams: Places::default(),
        rebuilds: Semaphore::new(config.timeline.rebuilds_max as usize),
        kit: kit.clone(),
        common,
        config,
        deps,
    });
    let mut tasks: Vec<(&'static str, BoxFuture<'static, ()>)> = Vec::new();
    if halves.worker {
        let lanes = [
            ("ingest", Queue::Ingest, core.config.fanout.ingest_workers),
            ("bulk", Queue::Bulk, core.config.fanout.bulk_workers),
        ];
        for (name, lane, workers) in lanes {
            for _ in 0..workers {
                tasks.push((name, Box::pin(worker::run(Arc::clone(&core), lane))));
            }
        }
        let watch = lanes::watch(core.common.clone(), Arc::clone(&core.deps.bus));
        tasks.push(("lanes", Box::pin(watch)));
    }
    if !halves.http {
        return kit.service_without_tokens(Router::new(), Router::new(), tasks);
    }
    let public = routes::public(&kit, Arc::clone(&core));
    let internal = routes::internal(&kit, core);
    kit.service(public, internal, std::future::ready(()), tasks)
}
