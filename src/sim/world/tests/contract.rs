//! The ports' contract suites, on the fakes while nothing is broken.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::{paused, world};
use crate::{
    domain::{MediaId, MediaKind},
    ports::{
        GraphStore, Presigned, TweetStore,
        contract::{self, Failure, Outage},
    },
    rt::{Rt, tokio_rt::TokioRuntime},
    sim::world::{Act, Knobs, NodePorts, Part, World},
};

/// Worlds without latency, and with latency and replication lag; both without faults.
fn worlds() -> [Knobs; 2] {
    [Knobs::calm(), Knobs { latency_ms: 2, lag_ms: 3, ..Knobs::calm() }]
}

fn fresh(knobs: &Knobs) -> (World, NodePorts, Rt) {
    let (world, ports, rt) = world(1, knobs.clone());
    world.set_faults(false);
    (world, ports, rt)
}

fn outage(world: &World, what: Part) -> Outage {
    let world = world.clone();
    Outage::new(move |on| world.act(Act::Down { what, on }))
}

fn hold<C>(behaviours: &[contract::Behaviour<C>], context: impl Fn(World, NodePorts, Rt) -> C) {
    for knobs in worlds() {
        let failures: Vec<Failure> = paused(async {
            let rt = TokioRuntime::handle();
            let fresh = || {
                let (world, ports, rt) = fresh(&knobs);
                context(world, ports, rt)
            };
            contract::failures(&rt, behaviours, fresh).await
        });
        let told: Vec<String> = failures.iter().map(ToString::to_string).collect();
        assert!(told.is_empty(), "latency {}: {told:#?}", knobs.latency_ms);
    }
}

#[test]
fn the_bus_holds_its_contract() {
    hold(contract::bus::BEHAVIOURS, |world, ports, rt| contract::bus::Context {
        bus: ports.bus,
        rt,
        outage: Some(outage(&world, Part::Bus)),
    });
}

#[test]
fn tweets_hold_their_contract() {
    hold(contract::tweets::BEHAVIOURS, |world, ports, rt| contract::tweets::Context {
        tweets: ports.tweets,
        outbox: ports.tweet_outbox,
        rt,
        outage: Some(outage(&world, Part::Tweets)),
    });
}

#[test]
fn uploads_hold_their_contract() {
    hold(contract::media::BEHAVIOURS, |world, ports, rt| contract::media::Context {
        media: ports.media,
        tweets: ports.tweets,
        rt,
        outage: Some(outage(&world, Part::Tweets)),
    });
}

/// A client that keeps to what was agreed, or is told so.
struct Guest(World);

#[async_trait]
impl contract::blobs::Visitor for Guest {
    async fn sends(&self, to: &Presigned, kind: MediaKind, bytes: Bytes) -> bool {
        let (id, agreed) = to.url.trim_start_matches("up/").split_once("?bytes=").unwrap();
        let kinds = [("content-type", kind.as_str().to_owned())];
        let taken = agreed == bytes.len().to_string() && to.headers == kinds;
        if taken {
            self.0.upload(id.parse().unwrap(), bytes);
        }
        taken
    }

    async fn gets(&self, id: MediaId) -> Option<(String, Bytes)> {
        let bytes = self.0.picture(id)?;
        Some((MediaKind::of_bytes(&bytes)?.as_str().to_owned(), bytes))
    }
}

#[test]
fn pictures_hold_their_contract() {
    hold(contract::blobs::BEHAVIOURS, |world, ports, rt| contract::blobs::Context {
        blobs: ports.blobs,
        visitor: Arc::new(Guest(world.clone())),
        rt,
        outage: Some(outage(&world, Part::Tweets)),
    });
}

#[test]
fn both_outboxes_hold_their_contract() {
    hold(contract::outbox::BEHAVIOURS, |world, ports, rt| {
        let feed: Arc<dyn TweetStore> = ports.tweets;
        let outage = Some(outage(&world, Part::Tweets));
        contract::outbox::Context { outbox: ports.tweet_outbox, feed: Arc::new(feed), rt, outage }
    });
    hold(contract::outbox::BEHAVIOURS, |world, ports, rt| {
        let feed: Arc<dyn GraphStore> = ports.graph;
        let outage = Some(outage(&world, Part::Users));
        contract::outbox::Context { outbox: ports.user_outbox, feed: Arc::new(feed), rt, outage }
    });
}

#[test]
fn users_hold_their_contract() {
    hold(contract::users::BEHAVIOURS, |world, ports, rt| contract::users::Context {
        users: ports.users,
        rt,
        outage: Some(outage(&world, Part::Users)),
    });
}

#[test]
fn the_graph_holds_its_contract() {
    hold(contract::graph::BEHAVIOURS, |world, ports, rt| contract::graph::Context {
        graph: ports.graph,
        outbox: ports.user_outbox,
        rt,
        outage: Some(outage(&world, Part::Users)),
    });
}

#[test]
fn the_timeline_store_holds_its_contract() {
    hold(contract::timeline_store::BEHAVIOURS, |world, ports, rt| {
        let outage = Some(outage(&world, Part::Store));
        contract::timeline_store::Context { store: ports.store, rt, outage }
    });
}

#[test]
fn home_timelines_hold_their_contract() {
    hold(contract::home_store::BEHAVIOURS, |world, ports, rt| {
        let outage = Some(outage(&world, Part::Store));
        contract::home_store::Context { homes: ports.homes, rt, outage }
    });
}

#[test]
fn timelines_in_the_cache_hold_their_contract() {
    hold(contract::timeline_cache::BEHAVIOURS, |world, ports, rt| {
        let outage = Some(outage(&world, Part::Cache));
        let (timelines, relations) = (ports.cache, ports.relations);
        contract::timeline_cache::Context { timelines, relations, rt, outage }
    });
}

#[test]
fn relations_in_the_cache_hold_their_contract() {
    hold(contract::relation_cache::BEHAVIOURS, |world, ports, rt| {
        let outage = Some(outage(&world, Part::Cache));
        contract::relation_cache::Context { relations: ports.relations, rt, outage }
    });
}

#[test]
fn bodies_in_the_cache_hold_their_contract() {
    hold(contract::body_cache::BEHAVIOURS, |world, ports, rt| {
        let outage = Some(outage(&world, Part::Cache));
        contract::body_cache::Context { bodies: ports.bodies, rt, outage }
    });
}

#[test]
fn keys_hold_their_contract() {
    hold(contract::keys::BEHAVIOURS, |world, ports, rt| {
        let outage = Some(outage(&world, Part::Users));
        contract::keys::Context { keys: ports.keys, rt, outage }
    });
}

#[test]
fn hints_hold_their_contract() {
    hold(contract::hints::BEHAVIOURS, |_world, ports, rt| contract::hints::Context {
        hints: ports.hints,
        rt,
    });
}
