//! `chirp sim`: graphs ([`graph`]), and `chirp sim faults`: the real services on a virtual clock, with
//! everything failing, everything checked. Progress on stderr, the summary on stdout.

use std::{
    io::IsTerminal,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use clap::{Subcommand, builder::PossibleValuesParser, value_parser};
use serde::Serialize;

use super::{
    context::Context,
    exit::{Exit, Failure},
    graph,
    printer::Printer,
};
use crate::{
    domain::fanout::Strategy,
    sim::faults::{
        campaign::{Campaign, Found, Summary},
        mutants::Mutant,
        run::{self, Outcome},
    },
};

/// Version of what `--json` prints.
const SCHEMA: &str = "chirp.sim.faults/1";
/// Each bug must be found within this many seeds, unless told otherwise.
const MUTANT_SEEDS: u64 = 300;
/// Seeds of a run that does not say how many.
const SEEDS: u64 = 100;
/// Progress is told this often.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// Flags of `sim`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Run seeds of faults and check every promise
    Faults(Faults),
    /// Make or read a graph of followers, and say what it is like
    Graph(graph::Args),
}

/// Flags of `sim faults`.
#[derive(Debug, clap::Args)]
struct Faults {
    /// Run this seed; with `--seeds`, begin with it
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Run so many seeds [default: 1 with `--seed`, else 300 with `--mutant`, else 100]
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..))]
    seeds: Option<u64>,
    /// So many users, 2 to 50, in every seed [default: each seed decides]
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(2..=50))]
    users: Option<u64>,
    /// So many replicas of each role, 1 to 8 [default: each seed decides]
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..=8))]
    replicas: Option<u64>,
    /// The fan-out strategy [default: hybrid, or the one that shows the bug]
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(Strategy::ALL.map(Strategy::as_str)))]
    strategy: Option<String>,
    /// Build in a bug, by its id, or `all` in turn: exit code 0 if each is found, by a promise that
    /// it is expected to break. With one `--seed` that seed is run with the bug, and a violation is
    /// exit code 1 as ever
    #[arg(long, value_name = "ID")]
    mutant: Option<String>,
    /// Run so many seeds twice, each in two fresh processes, and compare their hashes
    #[arg(long, value_name = "N", conflicts_with = "mutant",
          value_parser = value_parser!(u64).range(1..))]
    check_determinism: Option<u64>,
    /// So many seeds at once [default: one per core]
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..=256))]
    jobs: Option<u64>,
    /// Write every event of the one `--seed` to this file
    #[arg(long, value_name = "FILE", requires = "seed")]
    trace: Option<std::path::PathBuf>,
    /// One JSON object on stdout
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    schema: &'static str,
    version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    seeds: Option<Summary>,
    /// Each seed's hash, if it is only one.
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<Outcome>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    mutants: Vec<Hunt>,
    #[serde(skip_serializing_if = "Option::is_none")]
    determinism: Option<Determinism>,
}

/// How the hunt for one bug ended.
#[derive(Debug, Serialize)]
struct Hunt {
    id: &'static str,
    text: &'static str,
    /// Names of the promises that it is expected to break.
    expected: Vec<&'static str>,
    /// One of these was seen broken.
    caught: bool,
    seeds: u64,
    wall_s: f64,
    /// That violation, or else an unexpected one.
    #[serde(skip_serializing_if = "Option::is_none")]
    found: Option<Found>,
}

/// How two runs of one seed compare.
#[derive(Debug, Default, Serialize)]
struct Determinism {
    pairs: u64,
    mismatches: Vec<u64>,
}

/// Runs the verb.
pub(crate) fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    match &args.what {
        What::Faults(args) => faults(context.printer, args),
        What::Graph(args) => graph::run(context.printer, args),
    }
}

fn faults(printer: Printer, faults: &Faults) -> Result<Exit, Failure> {
    let mut report = Report {
        schema: SCHEMA,
        version: env!("CARGO_PKG_VERSION"),
        seeds: None,
        outcome: None,
        mutants: Vec::new(),
        determinism: None,
    };
    let ok = if let Some(seeds) = faults.check_determinism {
        let found = faults.compare(printer, seeds)?;
        let ok = found.mismatches.is_empty();
        report.determinism = Some(found);
        ok
    } else if faults.seed.is_some() && faults.seeds.unwrap_or(1) == 1 {
        let outcome = faults.one(printer)?;
        let ok = outcome.violation.is_none();
        report.outcome = Some(outcome);
        ok
    } else if let Some(mutant) = &faults.mutant {
        report.mutants = faults.hunt(printer, &mutants(mutant)?)?;
        report.mutants.iter().all(|hunt| hunt.caught)
    } else {
        let summary = faults.many(printer)?;
        let ok = summary.failed == 0;
        report.seeds = Some(summary);
        ok
    };
    if faults.json {
        let json = serde_json::to_string(&report).expect("a report has only string keys");
        printer.data(&json)?;
    }
    Ok(if ok { Exit::Ok } else { Exit::Failure })
}

fn mutants(id: &str) -> Result<Vec<Mutant>, Failure> {
    if id.eq_ignore_ascii_case("all") {
        return Ok(Mutant::ALL.to_vec());
    }
    let mutant = Mutant::parse(id).ok_or_else(|| {
        let ids: Vec<&str> = Mutant::ALL.iter().map(|mutant| mutant.id()).collect();
        let sentence = format!("there is no bug named `{id}`");
        Failure::new(Exit::Usage, sentence, format!("these are there: {}", ids.join(", ")))
    })?;
    Ok(vec![mutant])
}

impl Faults {
    fn campaign(&self, mutant: Option<Mutant>, seeds: u64) -> Campaign {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Campaign {
            first: self.seed.unwrap_or(1),
            seeds: self.seeds.unwrap_or(seeds),
            users: self.users.map(|n| n as usize),
            replicas: self.replicas.map(|n| n as usize),
            strategy: self.strategy.as_deref().and_then(Strategy::parse),
            mutant,
            jobs: self.jobs.map_or(cores, |n| n as usize),
            until_violation: mutant.is_some(),
        }
    }

    /// Runs one seed.
    fn one(&self, printer: Printer) -> Result<Outcome, Failure> {
        let mutant = match self.mutant.as_deref().map(mutants).transpose()?.as_deref() {
            None => None,
            Some([mutant]) => Some(*mutant),
            Some(_) => {
                let sentence = "one seed can be run with one bug";
                let hint = "name the bug, or leave `--seed` out";
                return Err(Failure::new(Exit::Usage, sentence, hint));
            }
        };
        let campaign = self.campaign(mutant, 1);
        let mut plan = campaign.plan(campaign.first);
        plan.keep_trace = self.trace.is_some();
        let outcome = run::run(plan);
        if let Some(path) = &self.trace {
            std::fs::write(path, outcome.trace.join("\n")).map_err(|error| {
                let sentence = format!("cannot write `{}`: {error}", path.display());
                Failure::new(Exit::Unwritable, sentence, "name another file with `--trace`")
            })?;
        }
        if let Some(violation) = &outcome.violation {
            let (seed, replay) = (outcome.seed, campaign.replay(outcome.seed));
            tell(printer, &Found { seed, violation: violation.clone(), replay });
        }
        self.say(
            printer,
            &format!(
                "seed {}  hash {}  {} events  {} requests  {:.1} virtual s  {} kills",
                outcome.seed,
                outcome.hash,
                outcome.events,
                outcome.requests,
                Duration::from_millis(outcome.virtual_ms).as_secs_f64(),
                outcome.kills,
            ),
        )?;
        Ok(outcome)
    }

    /// Runs many seeds.
    fn many(&self, printer: Printer) -> Result<Summary, Failure> {
        let campaign = self.campaign(None, SEEDS);
        let mut told = Instant::now();
        let summary = campaign.run(|_, so_far| {
            if told.elapsed() >= PROGRESS_EVERY {
                told = Instant::now();
                let Summary { run, failed, wall_s, .. } = so_far;
                let all = campaign.seeds;
                printer.talk(&format!("{run} of {all} seeds, {failed} failed, {wall_s:.0} s"));
            }
        });
        for found in &summary.violations {
            tell(printer, found);
        }
        let Summary { run, failed, wall_s, virtual_s, requests, events, kills, .. } = &summary;
        let passed = run - failed;
        self.say(
            printer,
            &format!(
                "{passed} passed, {failed} failed  ({:.2} virtual h in {wall_s:.1} s, {requests} \
             requests, {events} events, {kills} kills)",
                virtual_s / 3_600.0,
            ),
        )?;
        Ok(summary)
    }

    /// Looks for bugs that are built in.
    fn hunt(&self, printer: Printer, mutants: &[Mutant]) -> Result<Vec<Hunt>, Failure> {
        let mut hunts = Vec::new();
        for &mutant in mutants {
            let summary = self.campaign(Some(mutant), MUTANT_SEEDS).run(|_, _| ());
            let caught = summary.expected.is_some();
            let found = summary.expected.or_else(|| summary.violations.into_iter().next());
            let (id, text) = (mutant.id(), mutant.text());
            let expected: Vec<&str> =
                mutant.breaks().iter().map(|broken| broken.as_str()).collect();
            let Summary { run: seeds, wall_s, .. } = summary;
            let line = match &found {
                Some(Found { seed, violation, .. }) if caught => {
                    format!("{id}  found by {} in seed {seed}", violation.invariant)
                }
                Some(Found { seed, violation, .. }) => format!(
                    "{id}  NOT FOUND by {} in {seeds} seeds, only by {} in seed {seed}",
                    expected.join(" or "),
                    violation.invariant
                ),
                None => format!("{id}  NOT FOUND in {seeds} seeds"),
            };
            self.say(printer, &format!("{line}  {wall_s:.1} s  ({text})"))?;
            hunts.push(Hunt { id, text, expected, caught, seeds, wall_s, found });
        }
        let found = hunts.iter().filter(|hunt| hunt.caught).count();
        self.say(printer, &format!("{found} of {} bugs found", hunts.len()))?;
        Ok(hunts)
    }

    /// Runs every seed in two fresh processes.
    fn compare(&self, printer: Printer, seeds: u64) -> Result<Determinism, Failure> {
        let campaign = self.campaign(None, seeds);
        let mut found = Determinism::default();
        for seed in campaign.first..campaign.first + seeds {
            let (one, two) = (self.start(seed)?, self.start(seed)?);
            let (one, two) = (hash_of(one)?, hash_of(two)?);
            found.pairs += 1;
            if one != two {
                printer.talk(&format!("seed {seed}: hash {one} in one process, {two} in another"));
                found.mismatches.push(seed);
            }
        }
        let Determinism { pairs, mismatches } = &found;
        self.say(printer, &format!("{pairs} pairs of processes, {} mismatches", mismatches.len()))?;
        Ok(found)
    }

    fn start(&self, seed: u64) -> Result<std::process::Child, Failure> {
        let mut command = Command::new(std::env::current_exe().map_err(|e| not_started(&e))?);
        command.args(["sim", "faults", "--json", "--seed", &seed.to_string()]);
        for (flag, value) in [("--users", self.users), ("--replicas", self.replicas)] {
            if let Some(value) = value {
                command.args([flag, &value.to_string()]);
            }
        }
        if let Some(strategy) = &self.strategy {
            command.args(["--strategy", strategy]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        command.spawn().map_err(|error| not_started(&error))
    }

    /// The summary: on stdout for a person, on stderr beside `--json`.
    fn say(&self, printer: Printer, line: &str) -> Result<(), Failure> {
        if !self.json {
            return printer.data(line);
        }
        if std::io::stderr().is_terminal() {
            printer.talk(line);
        }
        Ok(())
    }
}

fn hash_of(child: std::process::Child) -> Result<String, Failure> {
    let output = child.wait_with_output().map_err(|error| not_started(&error))?;
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    if let Some(hash) = report["outcome"]["hash"].as_str() {
        return Ok(hash.to_owned());
    }
    let sentence = format!("a run in a process of its own ended with {}", output.status);
    Err(Failure::new(Exit::Failure, sentence, "run the same seed without the comparison"))
}

fn not_started(error: &std::io::Error) -> Failure {
    let sentence = format!("this program cannot be started anew: {error}");
    Failure::new(Exit::Failure, sentence, "run it by its full path")
}

fn tell(printer: Printer, found: &Found) {
    let Found { seed, violation, replay } = found;
    printer.talk(&format!("{} seed {seed}  {violation}", printer.red("VIOLATION")));
    let mut who = Vec::new();
    if let Some(tweet) = &violation.tweet {
        who.push(format!("tweet {tweet}"));
    }
    if let Some(author) = violation.author {
        who.push(format!("author u{author}"));
    }
    if let Some(acked) = violation.acked_ms {
        let acked = Duration::from_millis(acked).as_secs_f64();
        who.push(format!("acknowledged at {acked:.3}s"));
    }
    if let Some(user) = violation.user {
        who.push(format!("seen by u{user}"));
    }
    if !who.is_empty() {
        printer.talk(&format!("  {}", who.join(", ")));
    }
    printer.talk(&format!("  replay: {replay}"));
}
