//! The runtime of a simulated node: virtual time, tasks that die with the node, seeded randomness.
//!
//! Everything runs in one thread on a tokio `current_thread` runtime whose clock is paused, so time
//! moves only when nobody can do anything, and straight to the next timer. The ways in which real
//! chance could leak in, and what closes each:
//!
//! | leak | closed by |
//! |---|---|
//! | monotonic and wall clock | [`Runtime::now`], [`Runtime::wall_ms`] read the paused clock only |
//! | order of tasks | one thread, a first-in-first-out run queue, timers of whole milliseconds |
//! | `tokio::select!` | used with `biased` only (clippy and review); nothing else of tokio draws |
//! | random numbers, ids, keys, salts | [`Runtime::fill`], a stream of the seed per node and boot |
//! | order of hash maps | never iterated (`clippy::iter_over_hash_type`); fakes use ordered maps |
//! | threads, blocking pools | [`Runtime::blocking`] runs inline |
//! | sockets, files, environment | services have no way to them: ports are fakes, calls go by `SimNet` |
//! | process-wide state | none is behaviour: metrics and limits are handed down per node |
//! | what a dead node had begun | its tasks are dropped at once, with the timers that they wait for |

use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt;
use parking_lot::Mutex;
use rand::{Rng, RngExt};
use rand_pcg::Pcg64;
use tokio::task::AbortHandle;

use super::{seed::Seed, trace::Trace, world::NodeId};
use crate::rt::{BoxFuture, Instant, Rt, Runtime, Task, points};

/// The wall clock at virtual time zero: 2026-01-01T00:00:00Z in milliseconds since the Unix epoch.
pub const WALL_START_MS: u64 = 1_767_225_600_000;
/// Finished tasks are forgotten whenever this many more are kept.
const SWEEP_EVERY: usize = 256;

/// What may happen to a node at the points that flows pass.
#[derive(Clone, Copy, Debug, Default)]
pub struct PointFaults {
    /// Chance of a pause.
    pub pause: f64,
    /// The longest pause, in milliseconds.
    pub pause_max_ms: u64,
    /// Chance that the node dies there.
    pub kill: f64,
    /// Chance that the caches lose something while one of them is being filled.
    pub loss: f64,
}

/// Called with a random number when the caches are to lose something.
pub type Loss = Box<dyn Fn(u64) + Send + Sync>;

/// Things that nodes of one run share.
#[derive(Clone)]
pub struct Shared(Arc<Inner>);

struct Inner {
    seed: Seed,
    trace: Trace,
    start: tokio::time::Instant,
    /// Whether points may do anything: off while the cluster is healed.
    points_on: AtomicBool,
    faults: PointFaults,
    loss: OnceLock<Loss>,
    /// Nodes that died at a point, for whoever boots them again.
    died: Mutex<Vec<NodeId>>,
    panics: Mutex<Vec<String>>,
}

impl Shared {
    /// Must be called inside the paused runtime; virtual time begins here.
    #[must_use]
    pub fn new(seed: Seed, trace: Trace, faults: PointFaults) -> Self {
        Self(Arc::new(Inner {
            seed,
            trace,
            start: tokio::time::Instant::now(),
            points_on: AtomicBool::new(false),
            faults,
            loss: OnceLock::new(),
            died: Mutex::default(),
            panics: Mutex::default(),
        }))
    }

    /// Virtual milliseconds since the start.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.0.start.elapsed().as_millis() as u64
    }

    /// The seed.
    #[must_use]
    pub fn seed(&self) -> &Seed {
        &self.0.seed
    }

    /// The record of what happens.
    #[must_use]
    pub fn trace(&self) -> &Trace {
        &self.0.trace
    }

    /// Whether points may pause or kill.
    pub fn set_points(&self, on: bool) {
        self.0.points_on.store(on, Ordering::Relaxed);
    }

    /// Says how the caches lose something; the first caller counts.
    pub fn on_loss(&self, loss: Loss) {
        drop(self.0.loss.set(loss));
    }

    /// Nodes that died at a point since the last call.
    #[must_use]
    pub fn take_died(&self) -> Vec<NodeId> {
        std::mem::take(&mut self.0.died.lock())
    }

    /// What panicked, in the order in which it did.
    #[must_use]
    pub fn panics(&self) -> Vec<String> {
        self.0.panics.lock().clone()
    }
}

/// One life of a node: from a boot to its death.
pub struct Machine {
    id: NodeId,
    shared: Shared,
    alive: AtomicBool,
    tasks: Mutex<Vec<AbortHandle>>,
    random: Mutex<Pcg64>,
    points: Mutex<Pcg64>,
    /// How far the wall clock is off, in milliseconds. Survives a restart as the caller says.
    skew_ms: AtomicI64,
}

impl Machine {
    /// Boots node `id` for the `life`-th time.
    #[must_use]
    pub fn boot(shared: &Shared, id: NodeId, life: u64, skew_ms: i64) -> Arc<Self> {
        let seed = shared.seed();
        // Half a million lives are more than any run has.
        let index = (u64::from(id.0) << 20) | life;
        Arc::new(Self {
            id,
            shared: shared.clone(),
            alive: AtomicBool::new(true),
            tasks: Mutex::default(),
            random: Mutex::new(seed.stream("node.random", index)),
            points: Mutex::new(seed.stream("node.points", index)),
            skew_ms: AtomicI64::new(skew_ms),
        })
    }

    /// The runtime facade of this life.
    #[must_use]
    pub fn rt(self: &Arc<Self>) -> Rt {
        Rt::new(SimRuntime(Arc::clone(self)))
    }

    /// Whether it still runs.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Relaxed)
    }

    /// Ends this life at once: every task is dropped where it waits.
    pub fn kill(&self) {
        if self.alive.swap(false, Ordering::Relaxed) {
            self.shared.trace().event(self.shared.now_ms(), self.id, "node.killed", "");
            for task in self.tasks.lock().drain(..) {
                task.abort();
            }
        }
    }

    /// Sets the wall clock off by `ms`.
    pub fn set_skew_ms(&self, ms: i64) {
        self.skew_ms.store(ms, Ordering::Relaxed);
    }

    /// Runs `task` until its end or the node's.
    pub fn spawn(&self, name: &'static str, task: BoxFuture<'static, ()>) -> Task {
        let (shared, id) = (self.shared.clone(), self.id);
        let handle = tokio::spawn(async move {
            if let Err(panic) = AssertUnwindSafe(task).catch_unwind().await {
                let text = panic_text(&*panic);
                shared.0.panics.lock().push(format!("node {} task {name}: {text}", id.0));
            }
        });
        if self.is_alive() {
            let mut tasks = self.tasks.lock();
            if tasks.len() % SWEEP_EVERY == SWEEP_EVERY - 1 {
                tasks.retain(|task| !task.is_finished());
            }
            tasks.push(handle.abort_handle());
        } else {
            handle.abort();
        }
        Task::new(handle)
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "panicked".into())
}

/// [`Runtime`] for one life of one node.
struct SimRuntime(Arc<Machine>);

impl Runtime for SimRuntime {
    fn now(&self) -> Instant {
        Instant::from_start(self.0.shared.0.start.elapsed())
    }

    fn wall_ms(&self) -> u64 {
        let skew = self.0.skew_ms.load(Ordering::Relaxed);
        (WALL_START_MS + self.0.shared.now_ms()).saturating_add_signed(skew)
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }

    fn spawn(&self, name: &'static str, task: BoxFuture<'static, ()>) -> Task {
        self.0.spawn(name, task)
    }

    fn blocking(&self, job: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        Box::pin(async move { job() })
    }

    fn fill(&self, bytes: &mut [u8]) {
        self.0.random.lock().fill_bytes(bytes);
    }

    fn point(&self, name: &'static str) -> Option<BoxFuture<'static, ()>> {
        let machine = &self.0;
        let inner = &machine.shared.0;
        if !inner.points_on.load(Ordering::Relaxed) {
            return None;
        }
        let mut random = machine.points.lock();
        // Always the same number of draws, so that one kind of fault does not shift the other.
        let [kill, pause, loss]: [f64; 3] = std::array::from_fn(|_| random.random());
        let what = random.next_u64();
        let pause_ms = random.random_range(1..=inner.faults.pause_max_ms.max(1));
        drop(random);
        if kill < inner.faults.kill && machine.is_alive() {
            let at = machine.shared.now_ms();
            inner.trace.event(at, machine.id, "point.kill", name);
            machine.kill();
            inner.died.lock().push(machine.id);
        }
        if !machine.is_alive() {
            // The task is dropped before it could go on.
            return Some(Box::pin(std::future::pending()));
        }
        if name == points::FILL
            && loss < inner.faults.loss
            && let Some(lose) = inner.loss.get()
        {
            lose(what);
        }
        (pause < inner.faults.pause).then(|| -> BoxFuture<'static, ()> {
            let at = machine.shared.now_ms();
            inner.trace.event(at, machine.id, "point.pause", format_args!("{name} {pause_ms} ms"));
            Box::pin(tokio::time::sleep(Duration::from_millis(pause_ms)))
        })
    }
}
