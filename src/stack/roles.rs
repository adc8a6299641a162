//! From configuration and backends to built roles: the one place that knows both.

use std::sync::Arc;

use super::{StackError, pictures};
use crate::{
    adapters::near::NearBodies,
    config::Config,
    ports::{
        BlobStore, BodyCache, Bus, Chosen, GraphStore, Hints, HomeStore, KeyStore, MediaStore,
        Outbox, RateLimiter, RelationCache, Rpc, TimelineCache, TimelineStore, TweetStore,
        UserStore,
    },
    rt::{Rt, Shutdown},
    services::{
        gateway,
        kit::{Common, Secret, Service},
        timeline::{self, Halves},
        tweet, user,
    },
    telemetry::Metrics,
    wire::routes::Role,
};

/// What the user role keeps.
#[derive(Clone)]
pub(super) struct UserBackend {
    pub(super) users: Arc<dyn UserStore>,
    pub(super) graph: Arc<dyn GraphStore>,
    pub(super) keys: Arc<dyn KeyStore>,
    pub(super) outbox: Arc<dyn Outbox>,
}

/// What the tweet role keeps.
#[derive(Clone)]
pub(super) struct TweetBackend {
    pub(super) tweets: Arc<dyn TweetStore>,
    pub(super) media: Arc<dyn MediaStore>,
    pub(super) outbox: Arc<dyn Outbox>,
}

/// What the timeline role keeps.
#[derive(Clone)]
pub(super) struct TimelineBackend {
    pub(super) store: Arc<dyn TimelineStore>,
    pub(super) homes: Arc<dyn HomeStore>,
    /// The strategy of the data set.
    pub(super) chosen: Chosen,
    pub(super) cache: Arc<dyn TimelineCache>,
    pub(super) relations: Arc<dyn RelationCache>,
    pub(super) bodies: Arc<dyn BodyCache>,
}

/// What fills the ports of a process; a role that it does not run is absent.
#[derive(Clone)]
pub(super) struct Backends {
    pub(super) user: Option<UserBackend>,
    pub(super) tweet: Option<TweetBackend>,
    pub(super) timeline: Option<TimelineBackend>,
    /// Pictures, if they are not in the data folder.
    pub(super) pictures: Option<Arc<dyn BlobStore>>,
    /// Absent in a process that runs the gateway only.
    pub(super) bus: Option<Arc<dyn Bus>>,
    pub(super) limiter: Arc<dyn RateLimiter>,
    pub(super) hints: Arc<dyn Hints>,
}

impl Backends {
    /// The outboxes that this process relays.
    pub(super) fn outboxes(&self) -> Vec<(Role, Arc<dyn Outbox>)> {
        let user = self.user.as_ref().map(|user| (Role::User, Arc::clone(&user.outbox)));
        let tweet = self.tweet.as_ref().map(|tweet| (Role::Tweet, Arc::clone(&tweet.outbox)));
        user.into_iter().chain(tweet).collect()
    }
}

/// What every role of a process shares.
pub(super) struct Shared {
    pub(super) rt: Rt,
    pub(super) rpc: Arc<dyn Rpc>,
    pub(super) metrics: Metrics,
    pub(super) config: Arc<Config>,
    pub(super) token: Secret,
    /// The bytes of pictures; a tweet role needs them.
    pub(super) blobs: Option<Arc<dyn BlobStore>>,
    /// What a timeline role of this process does.
    pub(super) halves: Halves,
    pub(super) stop: Shutdown,
}

impl Shared {
    /// Builds one replica of `role`.
    pub(super) fn build(
        &self,
        role: Role,
        replica: usize,
        backends: &Backends,
    ) -> Result<Service, StackError> {
        let service = self.try_build(role, replica, backends);
        service.ok_or_else(|| StackError::other("build a role", "its stores are not open"))
    }

    fn try_build(&self, role: Role, replica: usize, backends: &Backends) -> Option<Service> {
        let common = self.common(role, replica, backends);
        let hints = Arc::clone(&backends.hints);
        match role {
            Role::Gateway => Some(gateway::build(common)),
            Role::User => {
                let UserBackend { users, graph, keys, outbox } = backends.user.clone()?;
                let bus = backends.bus.clone()?;
                Some(user::build(common, user::Deps { users, graph, keys, outbox, bus }))
            }
            Role::Tweet => {
                let TweetBackend { tweets, media, outbox } = backends.tweet.clone()?;
                let bus = backends.bus.clone()?;
                let blobs = self.blobs.clone()?;
                let deps = tweet::Deps { tweets, media, blobs, outbox, bus, hints };
                Some(tweet::build(common, deps))
            }
            Role::Timeline => {
                let TimelineBackend { store, homes, chosen, cache, relations, bodies } =
                    backends.timeline.clone()?;
                let bodies = self.near(bodies);
                let bus = backends.bus.clone()?;
                let deps =
                    timeline::Deps { store, homes, chosen, cache, relations, bodies, bus, hints };
                Some(timeline::build(common, deps, self.halves))
            }
        }
    }

    /// A near-cache of the replica's own, so that replicas race as they would apart.
    fn near(&self, bodies: Arc<dyn BodyCache>) -> Arc<dyn BodyCache> {
        let timeline = &self.config.services.timeline;
        let bodies_max = usize::try_from(timeline.near_bodies_max).unwrap_or(usize::MAX);
        Arc::new(NearBodies::new(bodies, self.rt.clone(), timeline.near_ttl(), bodies_max))
    }

    pub(super) fn common(&self, role: Role, replica: usize, backends: &Backends) -> Common {
        Common {
            rt: self.rt.clone(),
            role,
            replica,
            rpc: Arc::clone(&self.rpc),
            limiter: Arc::clone(&backends.limiter),
            metrics: self.metrics.clone(),
            config: Arc::new(pictures::placed(&self.config)),
            service_token: self.token.clone(),
            shutdown: self.stop.clone(),
        }
    }
}
