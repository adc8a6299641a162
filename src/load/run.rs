//! A run from its first call to its report.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use http::Method;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::{
    admin,
    api::Api,
    audit::{Audited, Counts, Scope, audit},
    chaos::{self, Fault, Mark, play},
    connection::{Call, Connection, NoAnswer, Target},
    host,
    ledger::{Ledger, POSTS_MAX},
    population::{Population, sample},
    probe,
    profile::Profile,
    report::{Report, Sample},
    restore::restore,
    schedule::{Schedule, Sums, sums},
    seen::Tag,
    slo::Slo,
    stats::{Tick, Totals},
    usage::{Parts, since, usage},
    verdict,
    worker::{Shared, drive},
};
use crate::{
    domain::TweetId, graph::Random, stack::containers::Container, telemetry::process,
    wire::api::PostedTweet,
};

/// The first request is due so long after everything has been made ready.
const LEAD: Duration = Duration::from_millis(200);
/// A target that turns the first tweet away is asked again for so long.
const BEGIN_MAX: Duration = Duration::from_secs(10);
/// The pause between.
const BEGIN_PAUSE: Duration = Duration::from_millis(200);
/// How often a run looks whether it is told to end.
const STOP_LOOK: Duration = Duration::from_millis(50);
/// With nothing but errors for so long the target is taken for dead.
const DEAD_AFTER: Duration = Duration::from_secs(10);
/// Without an admin listener, what is on its way gets this long after the last request.
const SETTLE: Duration = Duration::from_secs(5);
/// The most followed are always among those who are audited: this many of them.
const AUDIT_TOP: u32 = 100;
/// Author timelines that are audited, but no more than readers.
const AUDIT_AUTHORS: usize = 500;

/// What is run.
#[derive(Clone)]
pub struct Order {
    /// The profile.
    pub profile: Profile,
    /// Where calls go.
    pub target: Target,
    /// As the target was named.
    pub named: String,
    /// Admin listeners, if any are known.
    pub admins: Vec<SocketAddr>,
    /// Containers of the target's servers, if any are known.
    pub containers: Vec<Container>,
    /// What is broken meanwhile.
    pub faults: Vec<Fault>,
    /// What can be broken.
    pub parts: chaos::Parts,
    /// Who acts.
    pub population: Arc<Population>,
    /// What the run is held to.
    pub slo: Vec<Slo>,
    /// Threads that drive.
    pub workers: usize,
    /// Whether anything is audited.
    pub audit: bool,
    /// The command line.
    pub command: String,
    /// Names the run; random.
    pub tag: u64,
}

/// Why there is no run.
#[derive(Debug, thiserror::Error)]
pub enum NoRun {
    /// The first call was not answered.
    #[error("{target} cannot be reached")]
    Unreachable {
        /// As it was named.
        target: String,
    },
    /// The first call was refused.
    #[error("{target} refuses the first tweet: {kind}")]
    Refused {
        /// As it was named.
        target: String,
        /// The kind of the error.
        kind: String,
    },
    /// The schedule is longer than the record may be.
    #[error("the schedule has {0} posts, and the record takes {POSTS_MAX}")]
    TooLong(u64),
    /// The system gives no thread or timer.
    #[error("cannot drive: {0}")]
    System(#[from] std::io::Error),
    /// What is read before the run cannot be read.
    #[error("cannot begin: {0}")]
    Begin(String),
}

/// What is told while it runs.
#[derive(Clone, Debug)]
pub enum Progress {
    /// A second of the schedule has passed: which, of how many, and what came in it.
    Second(u64, u64, Tick, u64),
    /// Something else is being done.
    Phase(&'static str),
    /// One of several runs begins, or what came of it.
    Trial(String),
}

/// What a run has gathered, out of which its report is made.
pub struct Gathered {
    /// What the schedule comes to.
    pub sums: Sums,
    /// The record.
    pub ledger: Arc<Ledger>,
    /// What all workers have measured.
    pub totals: Totals,
    /// By second.
    pub seconds: BTreeMap<u64, Tick>,
    /// What the admin listeners said.
    pub samples: Vec<Sample>,
    /// Freshness.
    pub freshness: Arc<probe::Found>,
    /// What was audited, or why it could not be; absent if nobody asked.
    pub audited: Option<Result<Audited, String>>,
    /// Seconds until nothing was on its way, if that was asked.
    pub drained_s: Option<f64>,
    /// Whose timelines were audited.
    pub scope: Scope,
    /// Why it ended early.
    pub cut_short: Option<String>,
    /// When the first request was due, in milliseconds since the Unix epoch.
    pub began_at_ms: u64,
    /// Seconds from then until all had been done.
    pub took_s: f64,
    /// Processor time of the driver while it drove, in seconds.
    pub cpu_s: f64,
    /// Share of the machine's time that its host took meanwhile.
    pub steal: f64,
    /// What the parts of the target have used.
    pub usage: Parts,
    /// Seconds over which that was counted.
    pub used_s: f64,
    /// What was broken, and when.
    pub marks: Vec<Mark>,
    /// Load average before.
    pub load_before: f64,
}

impl Order {
    /// The same once more, as another run with another schedule.
    #[must_use]
    pub fn again(&self, number: u64) -> Self {
        let mut order = self.clone();
        order.profile.seed = order.profile.seed.wrapping_add(number);
        // Spread, as not every bit is in the name.
        order.tag = order.tag.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        order
    }

    /// The schedule, from its beginning.
    #[must_use]
    pub fn schedule(&self) -> Schedule {
        let Profile { mix, rates, process, seed, .. } = &self.profile;
        Schedule::new(Arc::clone(&self.population), mix.clone(), (rates.clone(), *process), *seed)
    }

    /// Runs it; `stop` ends it early. A run that has begun always gives a report.
    ///
    /// # Errors
    /// [`NoRun`].
    pub async fn run(
        &self,
        stop: Arc<AtomicBool>,
        tell: &(dyn Fn(Progress) + Sync),
    ) -> Result<Report, NoRun> {
        let load_before = host::load();
        tell(Progress::Phase("makes the schedule"));
        let sums = sums(self.schedule());
        if sums.posts > POSTS_MAX {
            return Err(NoRun::TooLong(sums.posts));
        }
        let tag = Tag::new(self.tag);
        let first = self.begin(&tag).await?;
        // Its own beginning is moved once everything else is ready.
        let ledger = Ledger::new(Arc::clone(&self.population), tag, first, Instant::now());
        let scope = self.scope(&ledger, &sums).await.map_err(NoRun::Begin)?;
        let began = Instant::now() + LEAD;
        let ledger = Arc::new(ledger.beginning(began));
        let began_at_ms = (SystemTime::now() + LEAD)
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_millis() as u64);
        let (ticks, cpu) = (host::Ticks::now(), process::cpu_s());
        let mut gathered = Gathered {
            sums,
            ledger: Arc::clone(&ledger),
            totals: Totals::default(),
            seconds: BTreeMap::new(),
            samples: Vec::new(),
            freshness: Arc::default(),
            audited: None,
            drained_s: None,
            scope,
            cut_short: None,
            began_at_ms,
            took_s: 0.0,
            cpu_s: 0.0,
            steal: 0.0,
            usage: Parts::new(),
            used_s: 0.0,
            marks: Vec::new(),
            load_before,
        };
        let used = (usage(&self.admins, &self.containers).await, Instant::now());
        self.drive(&mut gathered, stop, tell).await?;
        gathered.cpu_s = process::cpu_s() - cpu;
        gathered.steal = host::Ticks::now().steal_since(ticks);
        self.look(&mut gathered, &used, tell).await;
        gathered.took_s = began.elapsed().as_secs_f64();
        Ok(verdict::report(self, gathered).await)
    }

    /// Writes the tweet with which the run begins: everything of the run is newer.
    async fn begin(&self, tag: &Tag) -> Result<TweetId, NoRun> {
        let target = self.named.clone();
        let user = self.population.users.last().expect("a population has users");
        let body = Some(format!("{{\"text\":\"{}\"}}", tag.beginning()));
        let (mut connection, began) = (Connection::new(self.target.clone()), Instant::now());
        let answer = loop {
            let (method, body) = (Method::POST, body.clone());
            let call = Call { method, path: "/tweets", bearer: &user.bearer, body };
            match connection.call(&call).await {
                // An earlier run may have left it busy.
                Ok(answer) if answer.status == 503 && began.elapsed() < BEGIN_MAX => {
                    tokio::time::sleep(BEGIN_PAUSE).await;
                }
                answer => break answer,
            }
        };
        match answer {
            Err(NoAnswer::Unreachable) => Err(NoRun::Unreachable { target }),
            Err(NoAnswer::Unknown) => {
                Err(NoRun::Refused { target, kind: "it does not answer".to_owned() })
            }
            Ok(answer) if answer.status == 201 => {
                let posted = serde_json::from_slice::<PostedTweet>(&answer.body);
                let kind = "its answer is no tweet".to_owned();
                posted.map(|posted| posted.tweet.id).map_err(|_| NoRun::Refused { target, kind })
            }
            Ok(answer) => Err(NoRun::Refused { target, kind: answer.kind() }),
        }
    }

    /// Who is audited, with the counts of those whose counts may change.
    async fn scope(&self, ledger: &Ledger, sums: &Sums) -> Result<Scope, String> {
        if !self.audit {
            return Ok(Scope::default());
        }
        let users = self.population.len();
        let mut random = Random::new(self.profile.seed ^ 0x0061_7564_6974);
        let readers = sample(users, self.profile.audit_readers, AUDIT_TOP, &mut random);
        let authors = AUDIT_AUTHORS.min(self.profile.audit_readers);
        let authors = sample(users, authors, AUDIT_TOP, &mut random);
        let mut counts: BTreeMap<u32, Counts> = BTreeMap::new();
        let mut api = Api::new(ledger, self.target.clone());
        for &user in &sums.counted {
            let profile = api.profile(u32::from(user == 0), user).await?;
            let graph = &self.population.graph;
            let seeded =
                (graph.followers.of(user).len() as u64, graph.following.of(user).len() as u64);
            // Others have changed something since: what this run changes could not be told from it.
            if (profile.followers, profile.following) == seeded {
                counts.insert(user, seeded);
            }
        }
        Ok(Scope { readers, authors, counts })
    }

    /// Drives the schedule to its end, with everything that looks on meanwhile.
    async fn drive(
        &self,
        gathered: &mut Gathered,
        told: Arc<AtomicBool>,
        tell: &(dyn Fn(Progress) + Sync),
    ) -> Result<(), NoRun> {
        let ledger = Arc::clone(&gathered.ledger);
        // A flag of its own, as a run that ends for a dead target ends no others.
        let stop = &Arc::new(AtomicBool::new(false));
        let passes = tokio::spawn(pass_on(told, Arc::clone(stop)));
        let (posted, follows) = mpsc::unbounded_channel();
        let (ticks, mut seconds) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            target: self.target.clone(),
            ledger: Arc::clone(&ledger),
            judges: self.audit,
            connections: self.profile.connections.div_ceil(self.workers),
            stop: Arc::clone(stop),
            posted,
            ticks,
        });
        let mut drivers = Vec::new();
        for number in 0..self.workers {
            let (shared, schedule, of) = (Arc::clone(&shared), self.schedule(), self.workers);
            let name = format!("driver-{number}");
            let work = move || drive(&shared, schedule, number, of);
            drivers.push(std::thread::Builder::new().name(name).spawn(work)?);
        }
        drop(shared);
        let mut listeners = tokio::task::JoinSet::new();
        self.listen(&ledger, &gathered.freshness, &mut listeners);
        let follow = probe::follow(
            Arc::clone(&ledger),
            self.target.clone(),
            Arc::clone(&gathered.freshness),
            (self.profile.probes_per_s, self.audit),
            follows,
        );
        let follower = tokio::spawn(follow);
        let samples = Arc::new(Mutex::new(Vec::new()));
        let watcher = tokio::spawn(watch(self.admins.clone(), ledger.began, Arc::clone(&samples)));
        let over = Arc::new(AtomicBool::new(false));
        let (faults, parts) = (self.faults.clone(), self.parts.clone());
        let chaos = tokio::spawn(play(faults, parts, ledger.began, Arc::clone(&over)));
        gathered.cut_short = self.count(gathered, &mut seconds, stop, tell).await;
        passes.abort();
        // Whatever is still broken is mended before anything else is waited for.
        over.store(true, Ordering::Relaxed);
        gathered.marks = chaos.await.unwrap_or_default();
        for driver in drivers {
            match driver.join() {
                Ok(totals) => gathered.totals.add(&totals?),
                Err(_) => gathered.cut_short = Some("a driver's thread has panicked".to_owned()),
            }
        }
        if gathered.cut_short.is_some() {
            follower.abort();
        }
        tell(Progress::Phase("waits for the last tweets to be seen"));
        // It ends, as the drivers have dropped their ends of the channel.
        drop(follower.await);
        listeners.abort_all();
        watcher.abort();
        gathered.samples = std::mem::take(&mut *samples.lock());
        Ok(())
    }

    /// Opens streams of readers of all ranks, who follow somebody.
    fn listen(
        &self,
        ledger: &Arc<Ledger>,
        found: &Arc<probe::Found>,
        listeners: &mut tokio::task::JoinSet<()>,
    ) {
        let mut random = Random::new(self.profile.seed ^ 0x7374_7265_616d);
        for reader in sample(self.population.len(), self.profile.streams, 0, &mut random) {
            let (ledger, found) = (Arc::clone(ledger), Arc::clone(found));
            listeners.spawn(probe::listen(ledger, self.target.clone(), found, reader));
        }
    }

    /// Adds up the seconds of the workers until they have all ended; gives why that was early.
    async fn count(
        &self,
        gathered: &mut Gathered,
        seconds: &mut mpsc::UnboundedReceiver<Tick>,
        stop: &AtomicBool,
        tell: &(dyn Fn(Progress) + Sync),
    ) -> Option<String> {
        let length = Duration::from_secs_f64(self.profile.rates.length_s().ceil()).as_secs();
        let (mut alive, mut told, mut cut_short) = (Instant::now(), 0, None);
        while let Some(tick) = seconds.recv().await {
            if stop.load(Ordering::Relaxed) && cut_short.is_none() {
                cut_short = Some(format!("it was interrupted in second {}", tick.second));
            }
            let fine = !tick.times.is_empty() || tick.errors == 0;
            if fine {
                alive = Instant::now();
            } else if alive.elapsed() > DEAD_AFTER && cut_short.is_none() {
                cut_short = Some(format!(
                    "the target gave nothing but errors for {} s until second {}",
                    DEAD_AFTER.as_secs(),
                    tick.second
                ));
                stop.store(true, Ordering::Relaxed);
            }
            let second = tick.second;
            let sum = gathered
                .seconds
                .entry(second)
                .or_insert_with(|| Tick { second, ..Tick::default() });
            sum.add(&tick);
            // The one before has been sent off by every worker, or is so within a second.
            if second > told {
                let before = gathered.seconds.get(&told).cloned().unwrap_or_default();
                let violations = gathered.ledger.violations_count();
                tell(Progress::Second(told, length, before, violations));
                told = second;
            }
        }
        cut_short
    }

    /// Waits until nothing is on its way, audits, and puts back what was changed.
    async fn look(
        &self,
        gathered: &mut Gathered,
        used: &(Parts, Instant),
        tell: &(dyn Fn(Progress) + Sync),
    ) {
        tell(Progress::Phase("waits until nothing is on its way"));
        let mut drained = Ok(());
        if self.admins.is_empty() && self.audit {
            tokio::time::sleep(SETTLE).await;
        } else if !self.admins.is_empty() {
            drained = admin::drain(&self.admins).await.map(|took| gathered.drained_s = Some(took));
            gathered.samples.push(admin::sample(&self.admins, gathered.ledger.began).await);
        }
        gathered.usage = since(&used.0, &usage(&self.admins, &self.containers).await);
        gathered.used_s = used.1.elapsed().as_secs_f64();
        if self.audit {
            gathered.audited = Some(match drained {
                Ok(()) => self.audits(gathered, tell).await,
                Err(why) => Err(why),
            });
        }
        let reachable = gathered.audited.as_ref().is_none_or(Result::is_ok);
        if reachable && gathered.sums.changes > 0 {
            tell(Progress::Phase("puts back who followed whom"));
            // The graph of the next run is asked for where it does not fit.
            let _left = restore(&gathered.ledger, &self.target).await;
        }
    }

    async fn audits(
        &self,
        gathered: &Gathered,
        tell: &(dyn Fn(Progress) + Sync),
    ) -> Result<Audited, String> {
        tokio::time::sleep(Duration::from_micros(super::live::NEAR_US)).await;
        tell(Progress::Phase("reads everything again"));
        audit(&gathered.ledger, &self.target, &gathered.scope).await
    }
}

/// Tells a run to end once all runs are told to.
async fn pass_on(told: Arc<AtomicBool>, stop: Arc<AtomicBool>) {
    while !told.load(Ordering::Relaxed) {
        tokio::time::sleep(STOP_LOOK).await;
    }
    stop.store(true, Ordering::Relaxed);
}

/// Asks the admin listeners again and again.
async fn watch(admins: Vec<SocketAddr>, began: Instant, samples: Arc<Mutex<Vec<Sample>>>) {
    if admins.is_empty() {
        return;
    }
    loop {
        let sample = admin::sample(&admins, began).await;
        samples.lock().push(sample);
        tokio::time::sleep(admin::EVERY).await;
    }
}
