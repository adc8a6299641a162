//! The report of a run, and what it comes to.

use super::{
    admin,
    ledger::{Ledger, Posted},
    live,
    population::Population,
    probe,
    report::{Audit, Driver, Environment, Plan, Report, SCHEMA, Verdict},
    run::{Gathered, Order},
    slo::Measured,
    stats::Totals,
};
use crate::telemetry::process;

/// A driver that takes requests up later than this, at the 99th percentile, measures itself.
pub const LATE_MAX_US: u64 = 5_000;
/// A host that takes more of the machine's time than this measures its other guests.
pub const STEAL_MAX: f64 = 0.02;

/// All objectives are met.
pub const MET: u8 = 0;
/// The figures say nothing of the target.
pub const INVALID: u8 = 97;
/// A promise was broken.
pub const VIOLATED: u8 = 98;
/// An objective was missed.
pub const MISSED: u8 = 99;

/// Makes the report.
pub(super) async fn report(order: &Order, gathered: Gathered) -> Report {
    let length_s = order.profile.rates.length_s();
    let facts = admin::facts(&order.admins).await;
    let audit = audit(order, &gathered);
    let totals = &gathered.totals;
    let mut report = Report {
        schema: SCHEMA.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        command: order.command.clone(),
        began_at_ms: gathered.began_at_ms,
        took_s: gathered.took_s,
        cut_short: gathered.cut_short.clone(),
        verdict: Verdict::default(),
        plan: plan(order, &gathered),
        environment: Environment {
            target: order.named.clone(),
            admins: order.admins.iter().map(ToString::to_string).collect(),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            load_before: gathered.load_before,
            facts,
        },
        driver: Driver {
            sent: totals.sent,
            skipped: totals.skipped,
            dropped: totals.dropped,
            backlog_max: totals.backlog_max,
            late_p99_us: totals.late.value_at_quantile(0.99),
            late_max_us: totals.late.max(),
            cpu_s: gathered.cpu_s,
            steal: gathered.steal,
            resident_bytes: process::resident_bytes(),
        },
        operations: totals.operations.iter().map(|(op, m)| m.operation(*op, length_s)).collect(),
        seconds: gathered.seconds.values().map(super::stats::Tick::second).collect(),
        freshness: gathered.freshness.report(),
        server: gathered.samples.clone(),
        drained_s: gathered.drained_s,
        used_s: gathered.used_s,
        usage: gathered.usage.clone(),
        marks: gathered.marks.clone(),
        deliveries: deliveries(&gathered),
        audit,
    };
    judge(order, &gathered, &mut report);
    report
}

/// Followers of the authors of all posts that were acknowledged, summed.
fn deliveries(gathered: &Gathered) -> u64 {
    let ledger: &Ledger = &gathered.ledger;
    let posts = ledger.posts().into_iter().filter(|post| post.state == Posted::Acknowledged);
    posts.map(|post| ledger.population.audience(post.author) as u64).sum()
}

fn plan(order: &Order, gathered: &Gathered) -> Plan {
    let profile = &order.profile;
    let shares = profile.mix.shares.iter();
    Plan {
        profile: profile.name.clone(),
        seed: profile.seed,
        mix: shares.map(|(op, share)| (op.name().to_owned(), *share)).collect(),
        process: profile.process.as_str().to_owned(),
        rate: profile.rates.points().to_vec(),
        length_s: profile.rates.length_s(),
        arrivals: gathered.sums.arrivals,
        connections: profile.connections.div_ceil(order.workers) * order.workers,
        workers: order.workers,
        population: order.population.order.clone(),
        users: order.population.users.len(),
        exempt: order.population.exempt,
    }
}

fn audit(order: &Order, gathered: &Gathered) -> Option<Audit> {
    let audited = gathered.audited.as_ref()?;
    let ledger: &Ledger = &gathered.ledger;
    let (kinds, violations) = ledger.violations();
    let tally = ledger.tally();
    let population: &Population = &order.population;
    let sums = &gathered.sums;
    let done = audited.as_ref().ok().cloned().unwrap_or_default();
    let read = |count: usize| if audited.is_ok() { count as u64 } else { 0 };
    Some(Audit {
        posts: tally.posts,
        unknown: tally.unknown,
        deletes: tally.deletes,
        edges: tally.edges,
        pages_live: gathered.totals.pages,
        near_ms: live::NEAR_US / 1_000,
        drained_s: gathered.drained_s,
        readers: read(gathered.scope.readers.len()),
        authors: read(gathered.scope.authors.len()),
        counted: done.counted,
        deliveries: done.deliveries,
        sample: gathered.scope.readers.len() as f64 / population.users.len() as f64,
        kinds: kinds.into_iter().map(|(kind, count)| (kind.name().to_owned(), count)).collect(),
        violations,
        sha256: done.sha256,
        memory_max_bytes: Ledger::memory_max(sums.posts, population.users.len(), sums.changes),
    })
}

/// Why the figures of a run say nothing of its target.
fn invalid(order: &Order, gathered: &Gathered) -> Vec<String> {
    let totals: &Totals = &gathered.totals;
    let mut why = Vec::new();
    why.extend(gathered.cut_short.clone());
    if let Some(Err(error)) = &gathered.audited {
        why.push(format!("the audit could not be made: {error}"));
    }
    for mark in &gathered.marks {
        let failed = mark.failed.iter();
        why.extend(failed.map(|failed| format!("`{}` could not be done: {failed}", mark.what)));
    }
    let taken = totals.sent + totals.skipped + totals.dropped;
    if gathered.cut_short.is_none() && taken != gathered.sums.arrivals {
        let all = gathered.sums.arrivals;
        why.push(format!("the driver has lost requests: of {all} it knows the end of {taken}"));
    }
    let late = totals.late.value_at_quantile(0.99);
    if late > LATE_MAX_US {
        why.push(format!(
            "the driver was late: a hundredth of the requests was taken up more than {:.1} ms after they \
             were due; allowed are {} ms (fewer requests, more `--workers`, or a quieter machine)",
            late as f64 / 1e3,
            LATE_MAX_US / 1_000
        ));
    }
    if gathered.steal > STEAL_MAX {
        let steal = gathered.steal * 100.0;
        let most = STEAL_MAX * 100.0;
        why.push(format!("the machine's host took {steal:.1} % of its time; allowed are {most} %"));
    }
    if totals.operations.values().all(|measured| measured.corrected.is_empty()) {
        why.push(format!("{} gave no answer that was wanted", order.named));
    }
    why
}

fn judge(order: &Order, gathered: &Gathered, report: &mut Report) {
    let invalid = invalid(order, gathered);
    let measured = Measured {
        totals: &gathered.totals,
        poll: gathered.freshness.of(probe::POLL),
        stream: gathered.freshness.of(probe::STREAM),
        unseen: gathered.freshness.unseen_of(probe::POLL),
        length_s: order.profile.rates.length_s(),
        violations: matches!(gathered.audited, Some(Ok(_)))
            .then(|| gathered.ledger.violations_count()),
    };
    let objectives: Vec<_> = order.slo.iter().map(|slo| slo.judge(&measured)).collect();
    let violated = gathered.ledger.violations_count() > 0;
    let missed = objectives.iter().any(|objective| !objective.met);
    let (outcome, exit) = match () {
        // Whatever else went wrong: a broken promise is one.
        () if violated => ("audit violated", VIOLATED),
        () if !invalid.is_empty() => ("invalid", INVALID),
        () if missed => ("slo missed", MISSED),
        () => ("met", MET),
    };
    report.verdict = Verdict { outcome: outcome.to_owned(), exit, invalid, objectives };
}
