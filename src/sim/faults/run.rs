//! One run of one seed: setup, epochs of faults, healing, draining and looking, and its result.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use http::StatusCode;
use parking_lot::Mutex;
use serde::Serialize;

use super::{
    audit,
    bounds::{Op, Tally},
    client::{Answer, Client},
    cluster::Cluster,
    history::{Ask, History, Stamp, Who},
    knobs::Knobs,
    mutants::Mutant,
    nemesis::Nemesis,
    violation::{Invariant, Violation},
    workload,
};
use crate::{
    domain::fanout::Strategy,
    sim::{runtime::Shared, seed::Seed, trace::Trace},
};

/// After healing, everything must have drained within this virtual time.
const DRAIN_MAX: Duration = Duration::from_mins(5);
/// The state of the queues is looked at this often while they drain.
const DRAIN_POLL: Duration = Duration::from_millis(500);
/// Clients that have stopped end their last request within this time.
const LAST_REQUESTS: Duration = Duration::from_mins(1);
/// A replica that was booted in a healed world is ready within this time.
const READY_MAX: Duration = Duration::from_mins(1);
/// A run takes no more virtual time than this, whatever happens.
const RUN_MAX: Duration = Duration::from_hours(2);

/// What is run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// Users; the seed decides if `None`.
    pub users: Option<usize>,
    /// Replicas of each role; the seed decides if `None`.
    pub replicas: Option<usize>,
    /// The fan-out strategy.
    pub strategy: Strategy,
    /// The bug that is built in.
    pub mutant: Option<Mutant>,
    /// Keep the text of every event.
    pub keep_trace: bool,
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// A hash of everything that happened, in hexadecimal.
    pub hash: String,
    /// Events that went into the hash.
    pub events: u64,
    /// Requests that clients made.
    pub requests: u64,
    /// Virtual milliseconds.
    pub virtual_ms: u64,
    /// Lives of nodes that were ended by a fault.
    pub kills: u64,
    /// The first broken promise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub violation: Option<Violation>,
    /// The last events, if they were kept.
    #[serde(skip)]
    pub trace: Vec<String>,
}

/// State that clients, nemesis and audit share.
pub struct Run {
    /// Virtual time and the record.
    pub shared: Shared,
    /// How this seed is set up.
    pub knobs: Knobs,
    /// What clients know.
    pub history: Mutex<History>,
    /// The users.
    pub clients: Vec<Arc<Client>>,
    violation: Mutex<Option<Violation>>,
    tally: Mutex<Tally>,
    epoch: AtomicU32,
    requests: AtomicU64,
    /// Clients begin nothing new.
    stopped: AtomicBool,
    /// The world is whole, so every request must succeed.
    healed: AtomicBool,
}

impl Run {
    /// The next moment.
    pub fn stamp(&self) -> Stamp {
        self.history.lock().stamp(self.shared.now_ms())
    }

    /// Whether clients should end.
    pub fn is_over(&self) -> bool {
        self.stopped.load(Ordering::Relaxed) || self.violation.lock().is_some()
    }

    /// Whether this is the last epoch.
    pub fn is_last(&self) -> bool {
        self.epoch.load(Ordering::Relaxed) == self.knobs.epochs
    }

    /// Counts a request.
    pub fn count_request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Keeps the first violation.
    pub fn report(&self, result: Result<(), Violation>) {
        if let Err(mut violation) = result {
            let mut kept = self.violation.lock();
            if kept.is_none() {
                violation.epoch = self.epoch.load(Ordering::Relaxed);
                *kept = Some(violation);
            }
        }
    }

    /// A request succeeded; `whole`: in everything that it asked for, as a healed world has to.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn judge_answer(&self, who: Who, op: Op, what: &str, whole: bool) -> Result<(), Violation> {
        if !self.healed.load(Ordering::Relaxed) {
            self.tally.lock().add(op, whole);
        } else if !whole {
            let detail = format!("{what} was answered in part in a healed world");
            return Err(Violation::new(Invariant::Healed, self.shared.now_ms(), detail).user(who));
        }
        Ok(())
    }

    /// A request was not answered with what it asked for: whether that may be.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn judge_failure(
        &self,
        who: Who,
        op: Op,
        what: &str,
        answer: &Answer,
    ) -> Result<(), Violation> {
        let fault = |invariant| {
            let detail = format!("{what} was answered with {}", answer.describe());
            Violation::new(invariant, self.shared.now_ms(), detail).user(who)
        };
        if answer.is(StatusCode::INTERNAL_SERVER_ERROR) {
            return Err(fault(Invariant::Panic));
        }
        if self.healed.load(Ordering::Relaxed) {
            return Err(fault(Invariant::Healed));
        }
        match answer.status {
            Some(StatusCode::FORBIDDEN | StatusCode::NOT_FOUND) => return Ok(()),
            Some(StatusCode::UNAUTHORIZED) | None => {}
            Some(status) if status.is_client_error() => return Err(fault(Invariant::Healed)),
            Some(_) => {}
        }
        self.tally.lock().add(op, false);
        Ok(())
    }
}

/// Runs one seed to its end or its first violation.
///
/// # Panics
/// If tokio's runtime cannot be built.
#[must_use]
pub fn run(plan: Plan) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without sockets can always be built");
    runtime.block_on(drive(plan))
}

async fn drive(plan: Plan) -> Outcome {
    let seed = Seed(plan.seed);
    let trace = Trace::new(plan.keep_trace);
    let mut knobs = Knobs::draw(&seed, plan.users, plan.replicas);
    plan.strategy.as_str().clone_into(&mut knobs.services.fanout.strategy);
    let shared = Shared::new(seed, trace.clone(), knobs.points);
    let mut cluster = Cluster::new(&shared, &knobs, plan.mutant);
    cluster.boot_all();
    let clients = (0..knobs.users)
        .map(|who| {
            Client::new(who, cluster.client_rpc(who), seed.stream("client.route", who as u64))
        })
        .collect();
    let run = Arc::new(Run {
        shared: shared.clone(),
        knobs,
        history: Mutex::default(),
        clients,
        violation: Mutex::default(),
        tally: Mutex::default(),
        epoch: AtomicU32::new(0),
        requests: AtomicU64::new(0),
        stopped: AtomicBool::new(false),
        healed: AtomicBool::new(true),
    });
    let all = tokio::time::timeout(RUN_MAX, epochs(&run, &mut cluster, &seed)).await;
    let result = all.unwrap_or_else(|_| {
        let detail = format!("the run did not end within {} s", RUN_MAX.as_secs());
        Err(Violation::new(Invariant::Drain, shared.now_ms(), detail))
    });
    run.report(result);
    if let Some(panic) = shared.panics().into_iter().next() {
        run.report(Err(Violation::new(Invariant::Panic, shared.now_ms(), panic)));
    }
    cluster.end();
    let violation = run.violation.lock().clone();
    Outcome {
        seed: plan.seed,
        hash: format!("{:032x}", trace.hash()),
        events: trace.count(),
        requests: run.requests.load(Ordering::Relaxed),
        virtual_ms: shared.now_ms(),
        kills: cluster.kills(),
        violation,
        trace: trace.lines(),
    }
}

async fn epochs(run: &Arc<Run>, cluster: &mut Cluster, seed: &Seed) -> Result<(), Violation> {
    wait_ready(run, cluster).await?;
    sign_up(run).await?;
    let mut nemesis = Nemesis::new(seed, &run.knobs);
    for epoch in 1..=run.knobs.epochs {
        run.epoch.store(epoch, Ordering::Relaxed);
        run.healed.store(false, Ordering::Relaxed);
        run.stopped.store(false, Ordering::Relaxed);
        cluster.set_faults(true);
        let clients = workload::start(run, seed, epoch);
        let end = run.shared.now_ms() + run.knobs.epoch_ms;
        while run.shared.now_ms() < end && !run.is_over() {
            nemesis.step(cluster).await;
        }
        run.stopped.store(true, Ordering::Relaxed);
        cluster.set_faults(false);
        nemesis.heal(cluster);
        let ended = async {
            for client in clients {
                drop(client.await);
            }
        };
        let ended = tokio::time::timeout(LAST_REQUESTS, ended).await;
        if run.violation.lock().is_some() {
            return Ok(());
        }
        if ended.is_err() {
            let detail = "a client's last request did not end in a healed world";
            return Err(Violation::new(Invariant::Drain, run.shared.now_ms(), detail));
        }
        let tally = *run.tally.lock();
        tally.check(run.shared.now_ms())?;
        wait_ready(run, cluster).await?;
        drain(run, cluster).await?;
        run.healed.store(true, Ordering::Relaxed);
        audit::audit(run).await?;
        workload::probe(run, seed, epoch).await?;
    }
    Ok(())
}

async fn wait_ready(run: &Run, cluster: &Cluster) -> Result<(), Violation> {
    let ready = tokio::time::timeout(READY_MAX, cluster.all_ready()).await;
    ready.map_err(|_| {
        let detail = "a replica is not ready in a healed world";
        Violation::new(Invariant::Drain, run.shared.now_ms(), detail)
    })
}

/// Sign-ups and the first follows, in a whole world: everybody follows some, more often the first
/// users, so that these outgrow the threshold of the pulled authors.
async fn sign_up(run: &Run) -> Result<(), Violation> {
    for client in &run.clients {
        let answer = client.sign_up().await;
        if !answer.is(StatusCode::CREATED) {
            let detail = format!("a sign-up was answered with {}", answer.describe());
            return Err(Violation::new(Invariant::Healed, run.shared.now_ms(), detail));
        }
    }
    for (actor, target) in run.knobs.first_follows.clone() {
        workload::change_edge(run, &run.clients[actor], target, Ask::Follow).await?;
    }
    Ok(())
}

async fn drain(run: &Run, cluster: &Cluster) -> Result<(), Violation> {
    let mut left = BTreeMap::new();
    let mut quiet = 0;
    let polls = DRAIN_MAX.as_millis() / DRAIN_POLL.as_millis();
    for _ in 0..polls {
        tokio::time::sleep(DRAIN_POLL).await;
        left = cluster.left();
        quiet = if left.is_empty() { quiet + 1 } else { 0 };
        // Twice, so that what was on the way between two queues is seen.
        if quiet == 2 {
            return Ok(());
        }
    }
    let detail = format!("still left after {} s: {left:?}", DRAIN_MAX.as_secs());
    Err(Violation::new(Invariant::Drain, run.shared.now_ms(), detail))
}
