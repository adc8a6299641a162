//! What the fakes promise: the ports' contracts while nothing is broken, and each kind of fault.

mod bus;
mod cache;
mod calls;
mod contract;
mod stores;

use std::future::Future;

use super::{Knobs, NodeId, NodePorts, World};
use crate::{
    domain::{Body, DisplayName, Handle, MediaList, TweetId, TweetText, UserId},
    ports::NewTweet,
    rt::{Rt, tokio_rt::TokioRuntime},
    sim::{seed::Seed, trace::Trace},
};

const NODE: NodeId = NodeId(1);

/// Runs on a paused clock: only waiting passes time.
fn paused<T>(work: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build();
    runtime.expect("a runtime of one thread").block_on(work)
}

/// A world, and one node's ports to it.
fn world(seed: u64, knobs: Knobs) -> (World, NodePorts, Rt) {
    let rt = TokioRuntime::handle();
    let world = World::new(Seed(seed), Trace::new(false), knobs);
    let ports = world.node(NODE, &rt);
    (world, ports, rt)
}

fn body(id: u64, author: u64) -> Body {
    Body {
        id: TweetId(id),
        author: UserId(author),
        handle: Handle::parse(&format!("u{author}")).unwrap(),
        name: DisplayName::parse("U").unwrap(),
        text: TweetText::parse("t").unwrap(),
        media: MediaList::default(),
        created_at_ms: 1,
    }
}

fn tweet(id: u64, author: u64) -> NewTweet {
    NewTweet { body: body(id, author), media: Vec::new(), key: None, trace: None }
}
