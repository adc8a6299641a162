//! The runtime facade: the only way to time, tasks, threads and randomness.
//!
//! Services and adapters hold an [`Rt`] and never call tokio's clock, `spawn` or an entropy source
//! themselves. In a pod the facade is [`tokio_rt::TokioRuntime`]; in the simulator it is a virtual
//! node whose clock, tasks and random numbers follow from the seed. Nothing here knows which.

pub mod tokio_rt;

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

pub use tokio_util::sync::CancellationToken as Shutdown;

/// A boxed future that may move between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A monotonic instant: time since the runtime was made. Only differences have a meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Instant(Duration);

impl Instant {
    /// The instant that lies `since_start` after the runtime was made.
    #[must_use]
    pub const fn from_start(since_start: Duration) -> Self {
        Self(since_start)
    }

    /// Time from `earlier` to this instant; zero if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// This instant plus `by`.
    #[must_use]
    pub const fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(by))
    }
}

/// What a runtime gives. Implemented for tokio and for the simulator's nodes.
pub trait Runtime: Send + Sync + 'static {
    /// The monotonic clock.
    fn now(&self) -> Instant;
    /// The wall clock, in milliseconds since the Unix epoch. May jump, also backwards.
    fn wall_ms(&self) -> u64;
    /// Completes after `duration` of the monotonic clock.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;
    /// Runs `task` to its end in the background; it dies with its node.
    fn spawn(&self, name: &'static str, task: BoxFuture<'static, ()>) -> Task;
    /// Runs CPU-heavy or blocking work away from the async threads (inline in the simulator).
    fn blocking(&self, job: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()>;
    /// Fills `bytes` with random bytes (cryptographic in production).
    fn fill(&self, bytes: &mut [u8]);
    /// Called at a named place in a flow. Does nothing in production unless crash marks are on;
    /// the simulator may pause or kill the node there.
    fn point(&self, name: &'static str) -> Option<BoxFuture<'static, ()>>;
}

/// A handle to the runtime; cheap to clone.
#[derive(Clone)]
pub struct Rt(Arc<dyn Runtime>);

impl std::fmt::Debug for Rt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Rt")
    }
}

/// Names of the points that flows pass; see [`Runtime::point`].
pub mod points {
    /// A transaction with its outbox row is about to be, or was just, committed.
    pub const COMMIT: &str = "commit";
    /// The relay has claimed, published or marked rows.
    pub const RELAY: &str = "relay";
    /// A worker has received, stored or pushed.
    pub const WORKER: &str = "worker";
    /// A worker is about to acknowledge, or just did.
    pub const ACK: &str = "ack";
    /// A cold timeline is about to be read for the cache.
    pub const FILL: &str = "fill";
    /// The process has started and is not ready yet.
    pub const RECOVERY: &str = "recovery";
}

/// The time allowed for an operation ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("timed out")]
pub struct Elapsed;

/// A background task. Dropping the handle leaves the task running.
#[derive(Debug)]
pub struct Task(tokio::task::JoinHandle<()>);

impl Task {
    /// Wraps a tokio task; for implementations of [`Runtime`].
    #[must_use]
    pub const fn new(handle: tokio::task::JoinHandle<()>) -> Self {
        Self(handle)
    }

    /// Stops the task at its next await point.
    pub fn abort(&self) {
        self.0.abort();
    }

    /// Waits until the task has ended; `false` if it panicked or was aborted.
    pub async fn join(self) -> bool {
        self.0.await.is_ok()
    }
}

impl Rt {
    /// A handle to `runtime`.
    pub fn new(runtime: impl Runtime) -> Self {
        Self(Arc::new(runtime))
    }

    /// The monotonic clock.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.0.now()
    }

    /// The wall clock, in milliseconds since the Unix epoch. May jump, also backwards.
    #[must_use]
    pub fn wall_ms(&self) -> u64 {
        self.0.wall_ms()
    }

    /// Completes after `duration`.
    pub async fn sleep(&self, duration: Duration) {
        self.0.sleep(duration).await;
    }

    /// Completes at `deadline`; at once if it has passed.
    pub async fn sleep_until(&self, deadline: Instant) {
        self.0.sleep(deadline.since(self.now())).await;
    }

    /// Runs `work` for at most `limit`.
    ///
    /// # Errors
    /// [`Elapsed`] if `work` was not done in time; it is dropped at its last await point, so what
    /// it had asked of others may still happen.
    pub async fn timeout<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = T>,
    ) -> Result<T, Elapsed> {
        let mut work = std::pin::pin!(work);
        let mut alarm = None;
        std::future::poll_fn(|cx| {
            // The work is polled first, so that an answer that is there is never thrown away; and
            // what never waits, such as a warm read, needs no alarm.
            if let std::task::Poll::Ready(value) = work.as_mut().poll(cx) {
                return std::task::Poll::Ready(Ok(value));
            }
            let alarm = alarm.get_or_insert_with(|| self.0.sleep(limit));
            alarm.as_mut().poll(cx).map(|()| Err(Elapsed))
        })
        .await
    }

    /// Runs `task` in the background.
    pub fn spawn(
        &self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> Task {
        self.0.spawn(name, Box::pin(task))
    }

    /// Runs `job` away from the async threads and gives its result; `None` if it panicked.
    pub async fn blocking<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let (tx, rx) = tokio::sync::oneshot::channel();
        let run = Box::new(move || drop(tx.send(job())));
        self.0.blocking(run).await;
        rx.await.ok()
    }

    /// Fills `bytes` with random bytes.
    pub fn fill(&self, bytes: &mut [u8]) {
        self.0.fill(bytes);
    }

    /// A random 64-bit number.
    #[must_use]
    pub fn random_u64(&self) -> u64 {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// A random number in `0..bound`; 0 if `bound` is 0. The bias is below 2^-32 for bounds under 2^32.
    #[must_use]
    pub fn random_below(&self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.random_u64() % bound }
    }

    /// `base` plus up to half of it at random, so that retries of many callers spread.
    #[must_use]
    pub fn jitter(&self, base: Duration) -> Duration {
        let half = u64::try_from(base.as_micros() / 2).unwrap_or(u64::MAX);
        base + Duration::from_micros(self.random_below(half.saturating_add(1)))
    }

    /// Marks a named place in a flow (commit, publish, push, ack); see [`Runtime::point`].
    pub async fn point(&self, name: &'static str) {
        if let Some(pause) = self.0.point(name) {
            pause.await;
        }
    }
}
