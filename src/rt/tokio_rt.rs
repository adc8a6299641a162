//! The runtime of a real process: tokio's clock and tasks, the system's entropy.

#![allow(clippy::disallowed_methods, reason = "this is what everybody else is sent to")]

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{BoxFuture, Instant, Rt, Runtime, Task};

/// Called with the name of every point that is passed; see [`Runtime::point`].
pub type PointHook = Arc<dyn Fn(&'static str) + Send + Sync>;

/// Tokio behind the facade. Must be used inside a tokio runtime.
pub struct TokioRuntime {
    start: tokio::time::Instant,
    on_point: Option<PointHook>,
}

impl TokioRuntime {
    /// The facade over the running tokio runtime.
    #[must_use]
    pub fn handle() -> Rt {
        Self::with_points(None)
    }

    /// As [`TokioRuntime::handle`]; `on_point` is told of every point that is passed.
    #[must_use]
    pub fn with_points(on_point: Option<PointHook>) -> Rt {
        Rt::new(Self { start: tokio::time::Instant::now(), on_point })
    }
}

impl Runtime for TokioRuntime {
    fn now(&self) -> Instant {
        Instant::from_start(self.start.elapsed())
    }

    fn wall_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }

    fn spawn(&self, _name: &'static str, task: BoxFuture<'static, ()>) -> Task {
        Task::new(tokio::spawn(task))
    }

    fn blocking(&self, job: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        let handle = tokio::task::spawn_blocking(job);
        Box::pin(async move {
            // A panic in the job shows as a missing result at the caller.
            drop(handle.await);
        })
    }

    fn fill(&self, bytes: &mut [u8]) {
        aws_lc_rs::rand::fill(bytes)
            .expect("the system's entropy source does not fail once seeded");
    }

    fn point(&self, name: &'static str) -> Option<BoxFuture<'static, ()>> {
        if let Some(hook) = &self.on_point {
            hook(name);
        }
        None
    }
}
