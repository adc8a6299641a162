//! Hints from one process to another.

use std::time::Duration;

use chirp::{
    adapters::redis::{Redis, RedisHints},
    domain::{TweetId, UserId},
    ports::{Hint, HintStream, Hints},
    rt::tokio_rt::TokioRuntime,
};

use super::{PATIENCE, Server};
use crate::support::servers::endpoint;

/// Tells until it is heard: a hint may be lost, the next one not for ever.
async fn hears(from: &RedisHints, to: &mut dyn HintStream, hint: Hint) {
    let told = async {
        loop {
            from.notify(&[hint]).await;
            let next = tokio::time::timeout(Duration::from_millis(50), to.next()).await;
            if next == Ok(Some(hint)) {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, told).await.expect("the hint must arrive");
}

async fn between_two_processes(server: &Server) {
    let config = server.config();
    let process = || RedisHints::new(Redis::new(TokioRuntime::handle(), endpoint(&config)));
    let (worker, reader) = (process(), process());
    assert!(!worker.wanted());
    let mut stream = reader.subscribe(UserId(300)).await;
    hears(&worker, &mut *stream, Hint::Home(UserId(300))).await;
    assert!(worker.wanted(), "streams elsewhere are known");
    hears(&worker, &mut *stream, Hint::Deleted(TweetId(9))).await;
    let mut second = reader.subscribe(UserId(301)).await;
    hears(&worker, &mut *second, Hint::Home(UserId(301))).await;

    // The connections break; hints come again by themselves.
    for &port in &server.ports {
        let mut raw = server.raw(port).await;
        let _: u64 = raw.run("CLIENT KILL TYPE pubsub").await;
        let _: u64 = raw.run("CLIENT KILL TYPE normal").await;
    }
    hears(&worker, &mut *second, Hint::Home(UserId(301))).await;
    hears(&worker, &mut *stream, Hint::Home(UserId(300))).await;

    drop((stream, second));
    let quiet = async {
        while worker.wanted() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, quiet).await.expect("nobody listens any more");
}

pub async fn a_process_hears_what_another_tells_over_one_server(server: Server) {
    between_two_processes(&server).await;
}

pub async fn a_process_hears_what_another_tells_over_a_cluster(_: Server) {
    between_two_processes(&Server::cluster(0).await).await;
}
