//! Many seeds, side by side.
//!
//! Each seed has a runtime of its own on one thread, and nothing is shared, so the number of threads
//! changes no result.

use std::{
    fmt::Write as _,
    sync::{
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use serde::Serialize;

use super::{
    mutants::Mutant,
    run::{Outcome, Plan, run},
    violation::Violation,
};
use crate::domain::fanout::Strategy;

/// Violations that a summary lists; all are counted.
const LISTED_MAX: usize = 20;

/// Which seeds are run, and how.
#[derive(Clone, Copy, Debug)]
pub struct Campaign {
    /// The first seed.
    pub first: u64,
    /// How many.
    pub seeds: u64,
    /// Users; each seed decides if `None`.
    pub users: Option<usize>,
    /// Replicas of each role; each seed decides if `None`.
    pub replicas: Option<usize>,
    /// The fan-out strategy; that of the bug, else `hybrid`, if `None`.
    pub strategy: Option<Strategy>,
    /// The bug that is built in.
    pub mutant: Option<Mutant>,
    /// Seeds at once, at least 1.
    pub jobs: usize,
    /// End at the first violation; with a bug, at the first that it is expected to cause.
    pub until_violation: bool,
}

/// A violation with the seed that shows it.
#[derive(Clone, Debug, Serialize)]
pub struct Found {
    /// The seed.
    pub seed: u64,
    /// What is broken.
    #[serde(flatten)]
    pub violation: Violation,
    /// The command that shows it again.
    pub replay: String,
}

/// What a campaign came to.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Summary {
    /// Seeds that were run.
    pub run: u64,
    /// Seeds that broke a promise.
    pub failed: u64,
    /// Real seconds.
    pub wall_s: f64,
    /// Virtual seconds.
    pub virtual_s: f64,
    /// Requests of clients.
    pub requests: u64,
    /// Events of all kinds.
    pub events: u64,
    /// Lives of nodes that a fault ended.
    pub kills: u64,
    /// The violations of the lowest seeds.
    pub violations: Vec<Found>,
    /// The one of the lowest seed that the bug is expected to cause.
    #[serde(skip)]
    pub expected: Option<Found>,
}

impl Campaign {
    /// How one seed of it is run.
    #[must_use]
    pub fn plan(&self, seed: u64) -> Plan {
        let Self { users, replicas, mutant, .. } = *self;
        let strategy =
            self.strategy.unwrap_or_else(|| mutant.map_or(Strategy::Hybrid, Mutant::strategy));
        Plan { seed, users, replicas, strategy, mutant, keep_trace: false }
    }

    /// The command that runs one seed of it again.
    #[must_use]
    pub fn replay(&self, seed: u64) -> String {
        let mut command = format!("chirp sim faults --seed {seed}");
        for (flag, value) in [("--users", self.users), ("--replicas", self.replicas)] {
            if let Some(value) = value {
                write!(command, " {flag} {value}").expect("a string takes everything");
            }
        }
        if let Some(strategy) = self.strategy {
            write!(command, " --strategy {}", strategy.as_str())
                .expect("a string takes everything");
        }
        if let Some(mutant) = self.mutant {
            write!(command, " --mutant {}", mutant.id()).expect("a string takes everything");
        }
        command
    }

    /// Whether the bug that is built in explains this; everything does without one.
    fn expects(&self, violation: &Violation) -> bool {
        self.mutant.is_none_or(|mutant| mutant.explains(violation.invariant))
    }

    /// Runs all seeds; `progress` is told of each that has ended, in the order in which they end.
    pub fn run(&self, mut progress: impl FnMut(&Outcome, &Summary)) -> Summary {
        let started = Instant::now();
        let next = AtomicU64::new(0);
        let stop = AtomicBool::new(false);
        let mut summary = Summary::default();
        std::thread::scope(|scope| {
            let (tx, rx) = mpsc::channel();
            for _ in 0..self.jobs.max(1) {
                let (tx, next, stop) = (tx.clone(), &next, &stop);
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        let at = next.fetch_add(1, Ordering::Relaxed);
                        if at >= self.seeds {
                            return;
                        }
                        let outcome = run(self.plan(self.first + at));
                        let found = outcome.violation.as_ref().is_some_and(|v| self.expects(v));
                        if self.until_violation && found {
                            // Lower seeds have begun already, and are waited for.
                            stop.store(true, Ordering::Relaxed);
                        }
                        if tx.send(outcome).is_err() {
                            return;
                        }
                    }
                });
            }
            drop(tx);
            for outcome in rx {
                summary.add(self, &outcome, started.elapsed());
                progress(&outcome, &summary);
            }
        });
        summary
    }
}

impl Summary {
    fn add(&mut self, campaign: &Campaign, outcome: &Outcome, wall: Duration) {
        self.run += 1;
        self.wall_s = wall.as_secs_f64();
        self.virtual_s += Duration::from_millis(outcome.virtual_ms).as_secs_f64();
        self.requests += outcome.requests;
        self.events += outcome.events;
        self.kills += outcome.kills;
        if let Some(violation) = &outcome.violation {
            self.failed += 1;
            let (seed, replay) = (outcome.seed, campaign.replay(outcome.seed));
            let found = Found { seed, violation: violation.clone(), replay };
            let lowest = self.expected.as_ref().is_none_or(|other| other.seed > seed);
            if lowest && campaign.expects(violation) {
                self.expected = Some(found.clone());
            }
            self.violations.push(found);
            self.violations.sort_by_key(|found| found.seed);
            self.violations.truncate(LISTED_MAX);
        }
    }
}
