//! Doing and undoing what a row says.

use std::time::{Duration, Instant};

use crate::{
    judge::world::now_ms,
    stack::Stack,
    support::{proxy::Rule, server::docker_does},
    table::{Fault, Store},
};

/// A server that is told to end gets so many seconds.
const STOP_SECONDS: &str = "10";
/// Redis is emptied this often.
const FLUSH_EVERY: Duration = Duration::from_millis(500);
/// Everything is published again this often.
const REPLAY_EVERY: Duration = Duration::from_secs(1);
/// Less than Redis takes when it is empty: nothing more is stored at once.
const FULL: &str = "1mb";
/// What of the room that is in use is left to a Redis that may forget, in percent: it has to forget at
/// once, and to go on.
const EVICTING_PERCENT: u64 = 90;

async fn docker(args: &[&str]) -> String {
    let args: Vec<String> = args.iter().map(|word| (*word).to_owned()).collect();
    let does = move || docker_does(&args.iter().map(String::as_str).collect::<Vec<_>>());
    tokio::task::spawn_blocking(does).await.unwrap()
}

async fn redis(stack: &Stack, words: &[&str]) -> String {
    let id = stack.container(Store::Redis).id();
    docker(&[&["exec", id, "redis-cli"], words].concat()).await
}

/// Does it. Some take a while, in which some calls fail already.
pub async fn begin(stack: &mut Stack, fault: Fault) {
    match fault {
        Fault::Stopped(store) => {
            docker(&["stop", "--time", STOP_SECONDS, stack.container(store).id()]).await;
        }
        Fault::Killed(store) => drop(docker(&["kill", stack.container(store).id()]).await),
        Fault::Frozen(store) => drop(docker(&["pause", stack.container(store).id()]).await),
        Fault::Restarted(store) => {
            docker(&["restart", "--time", STOP_SECONDS, stack.container(store).id()]).await;
        }
        Fault::Disconnected(store) => {
            docker(&["network", "disconnect", "bridge", stack.container(store).id()]).await;
        }
        Fault::HalfOpen(store) => stack.proxy(store).set(Rule::HalfOpen),
        Fault::Slow(store, ms) => {
            stack.proxy(store).set(Rule::Delay(Duration::from_millis(ms)));
        }
        Fault::Full => {
            redis(stack, &["config", "set", "maxmemory-policy", "noeviction"]).await;
            redis(stack, &["config", "set", "maxmemory", FULL]).await;
        }
        Fault::Evicting => {
            let info = redis(stack, &["info", "memory"]).await;
            let used = info.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap();
            let room = used.trim().parse::<u64>().unwrap() * EVICTING_PERCENT / 100;
            redis(stack, &["config", "set", "maxmemory", &room.to_string()]).await;
        }
        Fault::RoleKilled(role) => stack.kill(role),
        Fault::Flushed | Fault::Duplicated => {}
    }
}

/// Lets it last.
pub async fn last(stack: &Stack, fault: Fault, lasts: Duration) {
    let (began, since_ms) = (Instant::now(), now_ms());
    while began.elapsed() < lasts {
        match fault {
            Fault::Flushed => {
                redis(stack, &["flushall"]).await;
                tokio::time::sleep(FLUSH_EVERY).await;
            }
            Fault::Duplicated => {
                stack.replay(since_ms.saturating_sub(60_000)).await.unwrap();
                tokio::time::sleep(REPLAY_EVERY).await;
            }
            _ => tokio::time::sleep(lasts.saturating_sub(began.elapsed())).await,
        }
    }
}

/// Undoes it.
pub async fn end(stack: &mut Stack, fault: Fault) {
    match fault {
        Fault::Stopped(store) | Fault::Killed(store) => {
            docker(&["start", stack.container(store).id()]).await;
        }
        Fault::Frozen(store) => drop(docker(&["unpause", stack.container(store).id()]).await),
        Fault::Disconnected(store) => {
            docker(&["network", "connect", "bridge", stack.container(store).id()]).await;
        }
        Fault::HalfOpen(store) | Fault::Slow(store, _) => stack.proxy(store).set(Rule::Pass),
        Fault::Full | Fault::Evicting => {
            redis(stack, &["config", "set", "maxmemory", "0"]).await;
            redis(stack, &["config", "set", "maxmemory-policy", "allkeys-lru"]).await;
        }
        Fault::RoleKilled(role) => stack.spawn(role),
        Fault::Restarted(_) | Fault::Flushed | Fault::Duplicated => {}
    }
}
