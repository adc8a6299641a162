//! A process that runs roles: background loops, listeners, readiness, and a clean end.

use std::time::Duration;

use tokio::sync::watch;

use super::{StackError, listen::Server};
use crate::{
    rt::{Rt, Shutdown, Task},
    services::kit::Service,
    wire::routes::Role,
};

/// Loops end soon after they are told to; one that does not is left behind after this time.
/// Whatever it was doing may happen again after the next start, as after a crash.
const TASKS_MAX: Duration = Duration::from_secs(5);

/// The running parts of a process.
pub(super) struct Node {
    pub(super) ready: Vec<(Role, watch::Receiver<bool>)>,
    pub(super) servers: Vec<Server>,
    /// Fires first: the process is not ready any more.
    pub(super) draining: Shutdown,
    /// Fires when no request is in work any more: loops end.
    pub(super) stop: Shutdown,
    tasks: Vec<Task>,
}

impl Node {
    /// Starts the background loops of `services`.
    pub(super) fn start(rt: &Rt, services: &mut [Service], stop: Shutdown) -> Self {
        let tasks = services.iter_mut().flat_map(|service| service.start(rt)).collect();
        let ready = services.iter().map(|service| (service.role, service.ready.clone())).collect();
        Self { ready, servers: Vec::new(), draining: Shutdown::new(), stop, tasks }
    }

    /// Waits until every role can answer.
    pub(super) async fn until_ready(&mut self, limit: Duration) -> Result<(), StackError> {
        let all = async {
            for (_, ready) in &mut self.ready {
                // A role whose readiness can no longer change is as ready as it will get.
                drop(ready.wait_for(|ready| *ready).await);
            }
        };
        drop(tokio::time::timeout(limit, all).await);
        let waiting = self.ready.iter().filter(|(_, ready)| !*ready.borrow());
        let mut roles: Vec<Role> = waiting.map(|(role, _)| *role).collect();
        roles.dedup();
        if roles.is_empty() {
            return Ok(());
        }
        let limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        Err(StackError::NotReady { limit_ms, roles })
    }

    /// Not ready, accept no more, finish what is in work, end the loops.
    pub(super) async fn stop(self, drain: Duration) {
        self.draining.cancel();
        let drains = self.servers.into_iter().map(|server| server.drain(drain));
        futures_util::future::join_all(drains).await;
        self.stop.cancel();
        let ends = async {
            for task in self.tasks {
                task.join().await;
            }
        };
        if tokio::time::timeout(TASKS_MAX, ends).await.is_err() {
            tracing::warn!("a background loop did not end in time");
        }
    }
}
