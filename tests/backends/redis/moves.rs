//! A cluster whose slots move, and whose primaries die.

use std::time::Duration;

use chirp::{
    config,
    domain::{UserId, Window},
    ports::{HomeRead, Outcome, TimelineCache},
};
use redis::Value;

use super::{Caches, PATIENCE, Raw, Server, users};

async fn shown(cache: &Caches, user: u64) -> Option<Vec<u64>> {
    match cache.cache.page(UserId(user), Window::Latest, 1_000).await.ok()? {
        HomeRead::Hit(page) => Some(page.slice.entries.iter().map(|entry| entry.tweet.0).collect()),
        _ => None,
    }
}

/// The primary of `user`: its place among the ports, and the slot.
async fn place(server: &Server, user: u64) -> (u16, u64) {
    let mut raw = server.raw(server.ports[0]).await;
    let slot: u64 = raw.run(&format!("CLUSTER KEYSLOT {user}")).await;
    let rows: Vec<(u64, u64, Vec<Value>)> = ranges(&mut raw).await;
    let row = rows.into_iter().find(|row| (row.0..=row.1).contains(&slot)).unwrap();
    (redis::from_redis_value(row.2[1].clone()).unwrap(), slot)
}

/// The ports of the replicas of the primary at `port`.
async fn replicas(server: &Server, port: u16) -> Vec<u16> {
    let state: String = server.raw(port).await.run("INFO replication").await;
    let lines = state.lines().filter(|line| line.starts_with("slave"));
    let ports = lines.filter_map(|line| line.split_once("port=")?.1.split(',').next());
    let ports: Vec<u16> = ports.map(|port| port.parse().unwrap()).collect();
    assert!(!ports.is_empty(), "{state}");
    ports
}

async fn ranges(raw: &mut Raw) -> Vec<(u64, u64, Vec<Value>)> {
    let rows: Vec<Vec<Value>> = raw.run("CLUSTER SLOTS").await;
    let number = |value: &Value| redis::from_redis_value(value.clone()).unwrap();
    let primary = |value: &Value| redis::from_redis_value(value.clone()).unwrap();
    rows.iter().map(|row| (number(&row[0]), number(&row[1]), primary(&row[2]))).collect()
}

pub async fn a_slot_that_moves_under_load_loses_nothing(_: Server) {
    let server = Server::cluster(0).await;
    let cache = server.cache();
    let reader = 17;
    let others = users(1..=100);
    for user in &others {
        cache.warm(user.0).await;
    }
    let (from, slot) = place(&server, reader).await;
    let to = *server.ports.iter().find(|&&port| port != from).unwrap();
    let (mut source, mut target) = (server.raw(from).await, server.raw(to).await);
    let source_id: String = source.run("CLUSTER MYID").await;
    let target_id: String = target.run("CLUSTER MYID").await;

    let mut next = 0;
    let mut load = async |cache: &Caches| {
        for _ in 0..10 {
            next += 1;
            let pushed = cache.push(next, &others).await;
            assert!(pushed.is_done(), "{pushed:?}");
            let expected: Vec<u64> = (1..=next).rev().collect();
            assert_eq!(shown(cache, reader).await, Some(expected));
        }
    };
    load(&cache).await;
    let _: () = target.run(&format!("CLUSTER SETSLOT {slot} IMPORTING {source_id}")).await;
    let _: () = source.run(&format!("CLUSTER SETSLOT {slot} MIGRATING {target_id}")).await;
    load(&cache).await;
    let keys: Vec<String> = source.run(&format!("CLUSTER GETKEYSINSLOT {slot} 100")).await;
    assert!(keys.len() >= 2, "{keys:?}");
    for key in keys {
        // After the first, the reader's list and relations are on different servers.
        let _: Value = source.run(&format!("MIGRATE 127.0.0.1 {to} {key} 0 5000")).await;
        load(&cache).await;
    }
    for raw in [&mut target, &mut source] {
        let _: () = raw.run(&format!("CLUSTER SETSLOT {slot} NODE {target_id}")).await;
    }
    load(&cache).await;
    load(&Caches::new(&config::Redis { namespace: cache.namespace.clone(), ..server.config() }))
        .await;
}

pub async fn a_push_that_was_done_outlives_the_primary(_: Server) {
    let server = Server::cluster(1).await;
    let cache = Caches::new(&config::Redis { wait_replicas: 1, ..server.config() });
    let reader = users([17]);
    cache.warm(17).await;
    let mut done = Vec::new();
    for tweet in 1..=100 {
        if let Outcome::Done(_) = cache.push(tweet, &reader).await {
            done.push(tweet);
        }
    }
    assert_eq!(done.len(), 100);
    let (port, _) = place(&server, 17).await;
    server.kill_node(port);
    let again = async {
        loop {
            // Whatever is refused or unknown meanwhile, what was done is there when it can be read.
            if let Some(shown) = shown(&cache, 17).await {
                return shown;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let shown = tokio::time::timeout(PATIENCE, again).await.expect("a replica takes over");
    assert_eq!(shown, done.into_iter().rev().collect::<Vec<u64>>());
    // Its only replica has become the primary: nobody can confirm a write.
    let pushed = cache.push(101, &reader).await;
    assert!(matches!(pushed, Outcome::Unknown(_)), "{pushed:?}");
}

pub async fn a_push_that_found_nothing_to_do_is_not_done_before_replicas_have_what_it_saw(
    _: Server,
) {
    let server = Server::cluster(1).await;
    let patient = config::Redis { wait_replicas: 1, ..server.config() };
    let config = config::Redis { wait_timeout_ms: 500, ..patient.clone() };
    let cache = Caches::new(&config);
    let reader = users([17]);
    // A cluster that was just made takes its time.
    Caches::new(&patient).warm(17).await;
    let (primary, _) = place(&server, 17).await;
    // The primary would say for some time that its replica is there: it only does not hear of it.
    let replicas: Vec<u16> = replicas(&server, primary).await;
    for port in &replicas {
        server.signal_node(*port, "STOP");
    }
    let first = cache.push(1, &reader).await;
    assert!(matches!(first, Outcome::Unknown(_)), "{first:?}");
    // Over connections that have written nothing, which `WAIT` alone would confirm at once.
    let again = Caches::new(&config).push(1, &reader).await;
    assert!(matches!(again, Outcome::Unknown(_)), "{again:?}");
    for port in &replicas {
        server.signal_node(*port, "CONT");
    }
    let done = async {
        while !cache.push(1, &reader).await.is_done() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, done).await.expect("the replica catches up");
    assert_eq!(shown(&cache, 17).await, Some(vec![1]));
}
