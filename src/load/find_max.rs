//! The highest rate at which the objectives hold: searched for several times, then held for longer.

use std::{
    cell::{Cell, RefCell},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{
    mix::Op,
    prices::Prices,
    rates::Rates,
    report::Report,
    run::{NoRun, Order, Progress},
    search::{Held, STEPS, highest},
    verdict::{INVALID, LATE_MAX_US, MET, MISSED, STEAL_MAX, VIOLATED},
};

/// The schema of [`Found`].
pub const SCHEMA: &str = "chirp.load.find-max/1";
/// Readers who are audited after a trial; the hold audits as the profile says.
const TRIAL_READERS: usize = 50;
/// A trial that the machine's host has spoilt is made again so often.
const TRIES: usize = 3;
/// A rate that does not hold for longer is followed by one so much lower.
const LOWER: f64 = 0.95;
/// So often.
const HOLDS_MAX: usize = 6;

/// How it is looked for.
#[derive(Clone, Copy, Debug)]
pub struct Search {
    /// How often.
    pub times: u32,
    /// How long a rate is tried.
    pub trial: Duration,
    /// How long the rate that was found is held.
    pub hold: Duration,
}

/// A rate that was tried.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Which search it is part of, from 1; 0: the hold.
    pub search: u32,
    /// Requests per second.
    pub rate: f64,
    /// Whether all objectives were met.
    pub held: bool,
    /// What was missed; empty if nothing was.
    pub missed: Vec<String>,
    /// Whether it failed for the driver, which was late, or its machine.
    pub driver: bool,
}

/// What a second of the hold did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    /// Answers that were wanted.
    pub requests: f64,
    /// Pages and profiles read.
    pub reads: f64,
    /// Posts acknowledged.
    pub posts: f64,
    /// Followers of their authors, summed: what they would be to a fan-out on write that spares nobody.
    pub deliveries: f64,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Found {
    /// [`SCHEMA`].
    pub schema: String,
    /// The exit code: 0 found, 97 cut short, 98 a promise was broken, 99 no rate holds.
    pub exit: u8,
    /// The rate that holds, in requests per second; absent if none does.
    pub rate: Option<f64>,
    /// What each search came to.
    pub searches: Vec<f64>,
    /// The highest of them less the lowest, as a share of the lowest.
    pub spread: f64,
    /// Whether the driver gave way before the target did, so that the target may do more.
    pub driver_limits: bool,
    /// Every rate that was tried, in order.
    pub trials: Vec<Trial>,
    /// What the hold came to, a second.
    pub per_second: Rate,
    /// The same for each core of the machine, which driver and target share if they are on one.
    pub per_core: Rate,
    /// Cores of the machine.
    pub cores: usize,
    /// What deliveries and reads cost, if there are prices.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cost: Option<Cost>,
    /// The last run: the hold, or the one in which a promise was broken.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub report: Option<Report>,
}

/// What things cost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Where the prices come from.
    pub source: String,
    /// What all of the target costs an hour, in US dollars.
    pub hour: f64,
    /// A million deliveries, in US dollars.
    pub per_million_deliveries: f64,
    /// A million reads, in US dollars.
    pub per_million_reads: f64,
}

/// Everything that trials share.
struct Trials<'a> {
    order: &'a Order,
    search: Search,
    stop: Arc<AtomicBool>,
    tell: &'a (dyn Fn(Progress) + Sync),
    /// How many have been made.
    made: Cell<u64>,
    tried: RefCell<Vec<Trial>>,
    last: RefCell<Option<Report>>,
}

/// Looks for the highest rate at which the objectives of `order` hold.
///
/// # Errors
/// [`NoRun`], of any run.
pub async fn find_max(
    order: &Order,
    search: Search,
    prices: Option<&Prices>,
    stop: Arc<AtomicBool>,
    tell: &(dyn Fn(Progress) + Sync),
) -> Result<Found, NoRun> {
    let trials = Trials {
        order,
        search,
        stop,
        tell,
        made: Cell::new(0),
        tried: RefCell::default(),
        last: RefCell::default(),
    };
    let mut searches: Vec<f64> = Vec::new();
    for number in 1..=search.times {
        let (first, factor) = match searches.last() {
            None => (order.profile.rates.highest(), STEPS[0]),
            Some(&last) => (last, STEPS[1]),
        };
        let found = highest(first, factor, async |rate| trials.held(number, rate).await).await?;
        searches.extend(found);
        if trials.ended() {
            return Ok(trials.found(searches, None, prices));
        }
    }
    searches.sort_unstable_by(f64::total_cmp);
    let mut rate = searches.get(searches.len() / 2).copied();
    for _ in 0..HOLDS_MAX {
        let Some(tried) = rate else { break };
        match trials.held(0, tried).await? {
            Held::Yes => return Ok(trials.found(searches, rate, prices)),
            Held::No => rate = Some(tried * LOWER),
            Held::Ends => break,
        }
    }
    Ok(trials.found(searches, None, prices))
}

impl Trials<'_> {
    /// Whether there is no reason to go on.
    fn ended(&self) -> bool {
        let last = self.last.borrow();
        let violated = last.as_ref().is_some_and(|last| last.verdict.exit == VIOLATED);
        violated || self.stop.load(Ordering::Relaxed)
    }

    /// Tries a rate, again if the machine was not quiet.
    async fn held(&self, search: u32, rate: f64) -> Result<Held, NoRun> {
        // Nobody needs more digits, and a rate can be asked for again as it was told.
        let rate = rate.round().max(1.0);
        for tried in 1..=TRIES {
            let report = self.run(search, rate).await?;
            let (exit, driver) = (report.verdict.exit, &report.driver);
            let noisy = driver.steal > STEAL_MAX;
            let late = driver.late_p99_us > LATE_MAX_US;
            let mut missed: Vec<String> = report.verdict.invalid.clone();
            missed.extend(report.verdict.objectives.iter().filter(|one| !one.met).map(|one| {
                let measured = one.measured.as_deref().unwrap_or("nothing was measured");
                format!("{} ({measured})", one.objective)
            }));
            let own = exit == INVALID && (noisy || late);
            let trial = Trial { search, rate, held: exit == MET, missed, driver: own };
            (self.tell)(Progress::Trial(told(&trial)));
            self.tried.borrow_mut().push(trial);
            *self.last.borrow_mut() = Some(report);
            match exit {
                MET => return Ok(Held::Yes),
                _ if self.ended() => return Ok(Held::Ends),
                INVALID if noisy && !late && tried < TRIES => {}
                _ => return Ok(Held::No),
            }
        }
        Ok(Held::No)
    }

    /// One run at `rate`, with a schedule of its own.
    async fn run(&self, search: u32, rate: f64) -> Result<Report, NoRun> {
        let number = self.made.get() + 1;
        self.made.set(number);
        let mut order = self.order.again(number);
        let length = if search == 0 { self.search.hold } else { self.search.trial };
        order.profile.rates = Rates::new(vec![(0.0, rate), (length.as_secs_f64(), rate)]);
        if search != 0 {
            order.profile.audit_readers = order.profile.audit_readers.min(TRIAL_READERS);
        }
        let of = if search == 0 { "hold".to_owned() } else { format!("search {search}") };
        let text = format!("{of}: {rate:.0} requests a second for {} s", length.as_secs());
        (self.tell)(Progress::Trial(text));
        order.run(Arc::clone(&self.stop), self.tell).await
    }

    fn found(self, searches: Vec<f64>, rate: Option<f64>, prices: Option<&Prices>) -> Found {
        let trials = self.tried.into_inner();
        let report = self.last.into_inner();
        let ended = report.as_ref().map(|report| report.verdict.exit);
        let stopped = self.stop.load(Ordering::Relaxed);
        let exit = match (rate, ended) {
            (Some(_), _) => MET,
            (None, Some(VIOLATED)) => VIOLATED,
            (None, _) if stopped => INVALID,
            (None, _) => MISSED,
        };
        let per_second = report.as_ref().filter(|_| rate.is_some()).map(per_second);
        let cores = report.as_ref().map_or(1, |report| report.environment.cores);
        let per_second = per_second.unwrap_or_default();
        let low = searches.iter().copied().fold(f64::INFINITY, f64::min);
        let high = searches.iter().copied().fold(0.0, f64::max);
        let failed = || trials.iter().filter(|trial| !trial.held);
        Found {
            schema: SCHEMA.to_owned(),
            exit,
            rate: rate.map(f64::round),
            spread: if searches.is_empty() { 0.0 } else { high / low - 1.0 },
            searches,
            driver_limits: failed().count() > 0 && failed().all(|trial| trial.driver),
            per_core: per_second.divided(cores as f64),
            cost: prices.filter(|_| rate.is_some()).map(|prices| cost(prices, &per_second, cores)),
            per_second,
            cores,
            trials,
            report,
        }
    }
}

impl Rate {
    fn divided(&self, by: f64) -> Self {
        Self {
            requests: self.requests / by,
            reads: self.reads / by,
            posts: self.posts / by,
            deliveries: self.deliveries / by,
        }
    }
}

/// What a run came to, a second of its schedule.
#[must_use]
pub fn per_second(report: &Report) -> Rate {
    let of = |ops: &[Op]| {
        let named = |name: &str| ops.iter().any(|op| op.name() == name);
        report.operations.iter().filter(|of| named(&of.operation)).map(|of| of.rate).sum()
    };
    Rate {
        requests: of(&Op::ALL),
        reads: of(&[Op::Timeline, Op::Scroll, Op::Author, Op::Profile]),
        posts: of(&[Op::Post]),
        deliveries: report.deliveries as f64 / report.plan.length_s,
    }
}

fn cost(prices: &Prices, rate: &Rate, cores: usize) -> Cost {
    let hour = prices.hour(cores);
    let million = |per_s: f64| hour / 3_600.0 / per_s * 1e6;
    Cost {
        source: prices.source.clone(),
        hour,
        per_million_deliveries: million(rate.deliveries),
        per_million_reads: million(rate.reads),
    }
}

fn told(trial: &Trial) -> String {
    if trial.held {
        return format!("  {:.0}/s holds", trial.rate);
    }
    format!("  {:.0}/s does not hold: {}", trial.rate, trial.missed.join("; "))
}

/// What was found, a line each.
#[must_use]
pub fn summary(found: &Found) -> Vec<String> {
    let mut lines = Vec::new();
    let searches: Vec<String> = found.searches.iter().map(|rate| format!("{rate:.0}")).collect();
    if let Some(rate) = found.rate {
        let hold = found.report.as_ref().map_or(0.0, |report| report.plan.length_s);
        lines.push(format!("{rate:.0} requests a second hold, for {hold:.0} s"));
    } else {
        lines.push("no rate holds that was tried".to_owned());
    }
    lines.push(format!(
        "searches came to {} ({:.1} % between the lowest and the highest)",
        if searches.is_empty() { "nothing".to_owned() } else { searches.join(", ") },
        found.spread * 100.0
    ));
    for (what, rate) in [("a second", &found.per_second), ("per core", &found.per_core)] {
        if found.rate.is_some() {
            lines.push(format!(
                "{what}: {:.0} reads, {:.1} posts, {:.0} deliveries",
                rate.reads, rate.posts, rate.deliveries
            ));
        }
    }
    if let Some(cost) = &found.cost {
        lines.push(format!(
            "a million deliveries cost {:.4} US dollars, a million reads {:.4} (at {} an hour: {})",
            cost.per_million_deliveries, cost.per_million_reads, cost.hour, cost.source
        ));
    }
    let above = found.trials.iter().filter(|trial| !trial.held && Some(trial.rate) > found.rate);
    if let Some(trial) = above.min_by(|a, b| a.rate.total_cmp(&b.rate)) {
        let missed = trial.missed.join("; ");
        lines.push(format!("at {:.0} a second it was {missed}", trial.rate));
    }
    if found.driver_limits {
        lines.push(
            "the driver gave way before the target did: more `--workers`, or another machine"
                .to_owned(),
        );
    }
    lines
}
