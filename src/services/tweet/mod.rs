//! The tweet role: tweets.
//!
//! `routes` is HTTP in and out, `logic` decides, `media` looks after pictures, `preferences` reads the
//! headers of a post.

mod logic;
mod media;
mod preferences;
mod routes;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use super::kit::{Common, Kit, Relay, Service};
use crate::{
    ports::{BlobStore, Bus, Hints, MediaStore, Outbox, Topic, TweetStore},
    rt::BoxFuture,
};

/// What the role needs beside [`Common`].
#[derive(Clone)]
pub struct Deps {
    /// Tweets.
    pub tweets: Arc<dyn TweetStore>,
    /// What is known of uploads.
    pub media: Arc<dyn MediaStore>,
    /// The bytes of pictures.
    pub blobs: Arc<dyn BlobStore>,
    /// Events of tweets that wait for the bus.
    pub outbox: Arc<dyn Outbox>,
    /// Where the relay publishes.
    pub bus: Arc<dyn Bus>,
    /// Tells when a tweet is projected, for `Prefer: wait`.
    pub hints: Arc<dyn Hints>,
}

/// Builds the role.
pub fn build(common: Common, deps: Deps) -> Service {
    let kit = Kit::new(common);
    let relay = Relay::new(kit.common.clone(), deps.outbox, deps.bus, Topic::TweetEvents);
    let uploads = Arc::new(media::Uploads::new(kit.common.clone(), deps.media, deps.blobs));
    let tweets =
        logic::Tweets::new(&kit, deps.tweets, Arc::clone(&uploads), deps.hints, Arc::clone(&relay));
    let tweets = Arc::new(tweets);
    let public = routes::public(&kit, &tweets);
    let internal = routes::internal(&kit, &tweets);
    let tasks: Vec<(&'static str, BoxFuture<'static, ()>)> =
        vec![("tweet relay", Box::pin(relay.run())), ("media sweep", Box::pin(uploads.run()))];
    kit.service(public, internal, std::future::ready(()), tasks)
}
