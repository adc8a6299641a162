//! Each port's contract, on one server and on a cluster with replicas that are waited for.

use std::sync::Arc;

use chirp::{
    adapters::redis::{RedisHints, RedisLimiter},
    config,
    ports::contract::{Outage, body_cache, hints, limiter, relation_cache, timeline_cache},
    rt::tokio_rt::TokioRuntime,
};

use super::{Caches, Server};
use crate::support::run::hold;

/// Caches that hold nothing, on a server that is up.
fn fresh(server: &Server, config: impl Fn(config::Redis) -> config::Redis) -> (Caches, Outage) {
    server.pause(false);
    (Caches::new(&config(server.config())), Outage::new(server.pauser()))
}

async fn hold_all(server: &Server, config: impl Fn(config::Redis) -> config::Redis + Copy) {
    let rt = TokioRuntime::handle();
    hold(&rt, timeline_cache::BEHAVIOURS, || {
        let (Caches { rt, cache, .. }, outage) = fresh(server, config);
        let timelines = cache.clone();
        timeline_cache::Context { timelines, relations: cache, rt, outage: Some(outage) }
    })
    .await;
    hold(&rt, relation_cache::BEHAVIOURS, || {
        let (Caches { rt, cache, .. }, outage) = fresh(server, config);
        relation_cache::Context { relations: cache, rt, outage: Some(outage) }
    })
    .await;
    hold(&rt, body_cache::BEHAVIOURS, || {
        let (Caches { rt, cache, .. }, outage) = fresh(server, config);
        body_cache::Context { bodies: cache, rt, outage: Some(outage) }
    })
    .await;
    hold(&rt, limiter::BEHAVIOURS, || {
        let (Caches { rt, redis, .. }, outage) = fresh(server, config);
        let limiter = Arc::new(RedisLimiter::new(redis));
        limiter::Context { limiter, rt, outage: Some(outage) }
    })
    .await;
    hold(&rt, hints::BEHAVIOURS, || {
        let (Caches { rt, redis, .. }, _) = fresh(server, config);
        hints::Context { hints: Arc::new(RedisHints::new(redis)), rt }
    })
    .await;
}

pub async fn one_server_keeps_the_contracts(_: Server) {
    let server = Server::single(&[]).await;
    hold_all(&server, |config| config).await;
}

pub async fn a_cluster_with_replicas_keeps_the_contracts(_: Server) {
    let server = Server::cluster(1).await;
    hold_all(&server, |config| config::Redis { wait_replicas: 1, ..config }).await;
}
