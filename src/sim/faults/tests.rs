//! Seeds as tests: whole runs hold, bugs are found, a seed is always the same run.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{
    campaign::Campaign,
    mutants::Mutant,
    run::{Outcome, Plan, run},
};
use crate::domain::fanout::Strategy;

/// A bug must be found within so many seeds.
const WITHIN: u64 = 300;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fixture {
    regression: Vec<Regression>,
    mutants: BTreeMap<String, u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Regression {
    seed: u64,
    found: String,
}

fn fixture() -> Fixture {
    toml::from_str(include_str!("../../../fixtures/sim/regressions.toml")).unwrap()
}

fn plan(seed: u64) -> Plan {
    let strategy = Strategy::Hybrid;
    Plan { seed, users: None, replicas: None, strategy, mutant: None, keep_trace: false }
}

fn holds(outcome: &Outcome) {
    assert_eq!(outcome.violation, None, "seed {}", outcome.seed);
    assert!(outcome.requests > 50, "seed {} did next to nothing", outcome.seed);
}

#[test]
fn every_promise_holds_through_some_seeds_of_faults() {
    for seed in 1..=12 {
        holds(&run(plan(seed)));
    }
}

#[test]
fn every_promise_holds_whatever_the_strategy() {
    for strategy in [Strategy::Push, Strategy::Pull] {
        for seed in 1..=8 {
            holds(&run(Plan { strategy, ..plan(seed) }));
        }
    }
}

#[test]
fn seeds_that_once_broke_a_promise_break_none() {
    for Regression { seed, found } in fixture().regression {
        let outcome = run(plan(seed));
        assert_eq!(outcome.violation, None, "seed {seed} once showed {found}");
    }
}

#[test]
fn every_bug_that_is_built_in_is_found() {
    let first = fixture().mutants;
    let mut missed = Vec::new();
    for &mutant in Mutant::ALL {
        let campaign = Campaign {
            first: first[mutant.id()],
            seeds: WITHIN,
            users: None,
            replicas: None,
            strategy: None,
            mutant: Some(mutant),
            jobs: 2,
            until_violation: true,
        };
        let summary = campaign.run(|_, _| ());
        if summary.expected.is_none() {
            let others: Vec<&str> =
                summary.violations.iter().map(|found| found.violation.invariant).collect();
            missed.push(format!("{mutant:?}: expected {:?}, saw {others:?}", mutant.breaks()));
        }
    }
    assert_eq!(missed, [""; 0]);
}

#[test]
fn a_seed_is_the_same_run_each_time_and_another_seed_is_another() {
    let (one, two, other) = (run(plan(3)), run(plan(3)), run(plan(4)));
    assert_eq!((&one.hash, one.events), (&two.hash, two.events));
    assert_ne!(one.hash, other.hash);
}

#[test]
fn a_violation_names_what_it_takes_to_look_for_its_cause() {
    let campaign = Campaign {
        first: 1,
        seeds: WITHIN,
        users: Some(5),
        replicas: Some(2),
        strategy: None,
        mutant: Some(Mutant::M09),
        jobs: 1,
        until_violation: true,
    };
    let found = &campaign.run(|_, _| ()).expected.unwrap();
    assert_eq!(found.violation.invariant, "S5.delete_honoured");
    assert!(found.violation.user.is_some() && found.violation.author.is_some());
    assert!(found.violation.tweet.is_some() && found.violation.epoch > 0);
    let replay =
        format!("chirp sim faults --seed {} --users 5 --replicas 2 --mutant M09", found.seed);
    assert_eq!(found.replay, replay);
    // The command is believed: the seed alone shows it again.
    let again = run(campaign.plan(found.seed));
    assert_eq!(again.violation.as_ref(), Some(&found.violation));
}
