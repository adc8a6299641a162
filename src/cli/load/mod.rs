//! `chirp load`: drives a running chirp as the public would, and says how fast and how fresh it was and
//! whether anything was lost, doubled, misordered or leaked.

mod at;
mod live;
mod out;
mod strategies;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use at::{At, faults, order, parts, population, target};
use clap::builder::PossibleValuesParser;
use live::Live;
use out::{may_be_written, told, told_calibration, told_found, told_runs};

use super::{
    context::{Context, block_on, block_on_all_cores},
    exit::{Exit, Failure},
};
use crate::{
    graph::PRESETS,
    load::{
        calibrate::calibrate,
        find_max::{Search, find_max},
        population::NoPopulation,
        prices::Prices,
        profile::{self, Profile},
        report::Report,
        run::{NoRun, Order, Progress},
        runs::{self, RUNS_MAX},
        slo::Slo,
    },
    stack::{containers::Containers, seed::credentials::FILE, signals::Signals},
};

/// The shortest trial: a second has too few requests to tell a percentile.
const TRIAL_MIN: Duration = Duration::from_secs(2);
/// The most searches.
const SEARCHES_MAX: u32 = 20;
/// The most threads that drive.
const WORKERS_MAX: usize = 64;

/// Flags of `load`.
///
/// The data set must have been filled by `chirp seed`, whose tokens are used, and nobody else may write to
/// it meanwhile. What is tweeted stays; who follows whom is put back at the end.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(crate) struct Args {
    /// A profile: a file of TOML, or the name of one that is built in (`steady`)
    #[arg(long, value_name = "FILE", default_value = "steady")]
    profile: String,
    /// Root of the API, such as `http://127.0.0.1:8080` [default: what runs on the data folder]
    #[arg(long, value_name = "URL")]
    target: Option<String>,
    /// An admin listener, such as 127.0.0.1:8081; may be repeated [default: those of the data folder]
    #[arg(long, value_name = "ADDRESS")]
    admin: Vec<SocketAddr>,
    /// Access tokens that `chirp seed` wrote [default: credentials.jsonl in the data folder]
    #[arg(long, value_name = "FILE")]
    credentials: Option<PathBuf>,
    /// Threads that drive
    #[arg(long, value_name = "N", default_value_t = 1)]
    workers: usize,
    /// Hold every rate of the profile so many times as high
    #[arg(long, value_name = "FACTOR")]
    times: Option<f64>,
    /// Another mix than the profile's, by name
    #[arg(long, value_name = "NAME")]
    mix: Option<String>,
    /// Another seed than the profile's
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Other connections than the profile's
    #[arg(long, value_name = "N")]
    connections: Option<usize>,
    /// One more objective, such as `timeline.p99 < 50ms`; may be repeated
    #[arg(long, value_name = "OBJECTIVE")]
    slo: Vec<String>,
    /// Audit the home timelines of so many readers, the most followed and some of all
    #[arg(long, value_name = "N", conflicts_with = "no_audit")]
    audit_sample: Option<usize>,
    /// Judge nothing that is read
    #[arg(long)]
    no_audit: bool,
    /// Look for the highest rate at which all objectives hold, beginning with the profile's highest, and
    /// hold it
    #[arg(long)]
    find_max: bool,
    /// How often it is looked for
    #[arg(long, value_name = "N", default_value_t = 3, requires = "find_max")]
    searches: u32,
    /// How long a rate is tried
    #[arg(long, value_name = "TIME", default_value = "15s", requires = "find_max")]
    trial: String,
    /// How long the rate that was found is held
    #[arg(long, value_name = "TIME", default_value = "60s", requires = "find_max")]
    hold: String,
    /// Prices of the target, a file of TOML, for what a million deliveries cost
    #[arg(long, value_name = "FILE", requires = "find_max")]
    prices: Option<PathBuf>,
    /// Stop, freeze or restart containers and processes of the data folder on a timetable, a file of TOML
    #[arg(long, value_name = "FILE", conflicts_with_all = ["target", "find_max", "compare"])]
    chaos: Option<PathBuf>,
    /// Run the profile so often, with another seed each time
    #[arg(long, value_name = "N", default_value_t = 1)]
    runs: u32,
    /// Compare with an earlier run, or several: a file that `--json` wrote. What is slower counts as a
    /// missed objective
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Drive data sets of these strategies, such as `push,pull,hybrid`: each is made for it, with a stack of
    /// its own, and removed
    #[arg(long, value_name = "LIST", conflicts_with_all = ["target", "admin", "credentials", "find_max", "runs", "baseline", "no_audit"])]
    compare: Option<String>,
    /// What data sets are filled with that are compared: see `chirp seed`
    #[arg(long, value_name = "PROFILE", default_value = "demo", requires = "compare",
          value_parser = PossibleValuesParser::new(PRESETS.map(|p| p.0)))]
    fill: String,
    /// Backends of stacks that are compared
    #[arg(long, value_name = "KIND", default_value = "embedded", requires = "compare",
          value_parser = ["embedded", "containers"])]
    backends: String,
    /// Measure what each operation costs, alone, at the profile's highest rate for its length, and write it
    /// to a file of JSON
    #[arg(long, value_name = "FILE", conflicts_with_all = ["find_max", "compare", "runs", "baseline", "chaos", "json", "html", "slo"])]
    calibrate: Option<PathBuf>,
    /// Where the report goes as JSON; `-` is stdout
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Where the report goes as one page of HTML
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// No live line, but one every 5 s
    #[arg(long)]
    no_tui: bool,
    /// No progress at all
    #[arg(long, short)]
    quiet: bool,
}

/// Runs the verb.
pub(crate) fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let profile = profile(args)?;
    let ops: Vec<_> = profile.mix.shares.iter().map(|&(op, _)| op).collect();
    let slo = profile.slo.iter().map(|text| Slo::parse(text, &ops)).collect::<Result<Vec<_>, _>>();
    let slo = slo.map_err(|error| {
        Failure::new(
            Exit::Usage,
            error.to_string(),
            "such as `timeline.p99 < 50ms`; see docs/load.md",
        )
    })?;
    for path in [&args.json, &args.html, &args.calibrate].into_iter().flatten() {
        may_be_written(path)?;
    }
    let live = Live::new(context.printer, args);
    if let Some(list) = &args.compare {
        return strategies::run(context, args, list, (profile, slo), &live);
    }
    let search = if args.find_max { Some(search(args, &slo)?) } else { None };
    let prices = args.prices.as_deref().map(prices).transpose()?;
    let baseline = args.baseline.as_deref().map(baseline).transpose()?;
    let dir = context.data_dir()?;
    let (named, target, admins) = target(args, &dir)?;
    let containers = match args.target {
        None => block_on(Containers::list(&dir))??,
        Some(_) => Vec::new(),
    };
    let credentials = args.credentials.clone().unwrap_or_else(|| dir.root().join(FILE));
    let length = search.map_or_else(
        || Duration::from_secs_f64(profile.rates.length_s()) * args.runs,
        |search| search.trial + search.hold,
    );
    let population = Arc::new(population(&credentials, length)?);
    let at = At { named, target, admins, containers, population };
    let mut order = order(args, (profile, slo), at);
    if let Some(path) = &args.chaos {
        order.parts = parts(&dir, &order.containers);
        let length = Duration::from_secs_f64(order.profile.rates.length_s());
        order.faults = faults(path, length, &order.parts)?;
    }
    if let Some(search) = search {
        let found = block_on_all_cores(async {
            let show = |progress| live.show(&progress);
            find_max(&order, search, prices.as_ref(), stopper()?, &show).await
        })??;
        live.end();
        return told_found(context.printer, args, &found);
    }
    if let Some(path) = &args.calibrate {
        let calibration = block_on_all_cores(async {
            calibrate(&order, stopper()?, &|progress| live.show(&progress)).await
        })??;
        live.end();
        return told_calibration(context.printer, path, &calibration);
    }
    if args.runs == 1 && baseline.is_none() {
        let report = block_on_all_cores(async {
            order.run(stopper()?, &|progress| live.show(&progress)).await
        })??;
        live.end();
        return told(context.printer, args, &report);
    }
    let reports = block_on_all_cores(several(&order, args.runs, &live))??;
    live.end();
    told_runs(context.printer, args, reports, baseline.as_deref())
}

/// Runs a profile several times; ends early if a run was cut short.
async fn several(order: &Order, runs: u32, live: &Live) -> Result<Vec<Report>, NoRun> {
    let (stop, mut reports) = (stopper()?, Vec::new());
    for number in 0..runs {
        live.show(&Progress::Trial(format!("run {} of {runs}", number + 1)));
        let order = order.again(u64::from(number));
        let report = order.run(Arc::clone(&stop), &|progress| live.show(&progress)).await?;
        let cut = report.cut_short.is_some();
        reports.push(report);
        if cut {
            break;
        }
    }
    Ok(reports)
}

fn baseline(path: &Path) -> Result<Vec<Report>, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string());
    text.and_then(|text| runs::read(&text)).map_err(|error| {
        let sentence = format!("the baseline `{}` cannot be used: {error}", path.display());
        Failure::new(Exit::Usage, sentence, "name a file that `chirp load --json` wrote")
    })
}

/// Becomes true when a signal comes; the next one kills.
fn stopper() -> Result<Arc<AtomicBool>, NoRun> {
    let stop = Arc::new(AtomicBool::new(false));
    let interrupted = Arc::clone(&stop);
    let mut signals = Signals::catch().map_err(NoRun::System)?;
    tokio::spawn(async move {
        signals.next().await;
        interrupted.store(true, Ordering::Relaxed);
        signals.next_one_kills();
    });
    Ok(stop)
}

/// How the highest rate is looked for.
fn search(args: &Args, slo: &[Slo]) -> Result<Search, Failure> {
    let usage = |sentence: String| Failure::new(Exit::Usage, sentence, "see docs/load.md");
    let time = |name: &str, text: &str| {
        let time = profile::time(text).map_err(|error| usage(format!("`{name}`: {}", error.0)))?;
        if time < TRIAL_MIN {
            return Err(usage(format!("`{name} {text}` is less than {} s", TRIAL_MIN.as_secs())));
        }
        Ok(time)
    };
    if slo.is_empty() {
        return Err(usage(
            "`--find-max` needs an objective that may be missed: `--slo`".to_owned(),
        ));
    }
    if !(1..=SEARCHES_MAX).contains(&args.searches) {
        let of = args.searches;
        return Err(usage(format!("`--searches` is {of}; allowed are 1 to {SEARCHES_MAX}")));
    }
    let (trial, hold) = (time("--trial", &args.trial)?, time("--hold", &args.hold)?);
    Ok(Search { times: args.searches, trial, hold })
}

fn prices(path: &Path) -> Result<Prices, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string());
    text.and_then(|text| Prices::parse(&text)).map_err(|error| {
        let sentence = format!("the prices `{}` cannot be used: {error}", path.display());
        Failure::new(Exit::Usage, sentence, "docs/load.md says what stands in it")
    })
}

/// The profile with what flags say.
fn profile(args: &Args) -> Result<Profile, Failure> {
    let usage = |sentence: String| {
        let names: Vec<&str> = profile::BUILT_IN.iter().map(|(name, _)| *name).collect();
        let hint = format!("built in are {}; docs/load.md explains a profile", names.join(", "));
        Failure::new(Exit::Usage, sentence, hint)
    };
    let mut found = if let Some(found) = Profile::built_in(&args.profile) {
        found
    } else {
        let path = Path::new(&args.profile);
        let text = std::fs::read_to_string(path).map_err(|error| {
            usage(format!("cannot read the profile `{}`: {error}", path.display()))
        })?;
        let name = path.file_stem().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
        Profile::parse(&text, &name)
            .map_err(|error| usage(format!("the profile `{}`: {error}", path.display())))?
    };
    if let Some(times) = args.times {
        if !(times.is_finite() && times > 0.0) {
            return Err(usage(format!("`--times {times}` is no factor above 0")));
        }
        found.rates = found.rates.scaled(times);
    }
    if let Some(name) = &args.mix {
        found.mix = profile::named_mix(name).map_err(|error| usage(error.0))?;
    }
    found.seed = args.seed.unwrap_or(found.seed);
    found.connections = args.connections.unwrap_or(found.connections);
    found.audit_readers = args.audit_sample.unwrap_or(found.audit_readers);
    found.slo.extend(args.slo.iter().cloned());
    found.check().map_err(|error| usage(error.0))?;
    if !(1..=RUNS_MAX).contains(&args.runs) {
        return Err(usage(format!("`--runs` is {}; allowed are 1 to {RUNS_MAX}", args.runs)));
    }
    if !(1..=WORKERS_MAX).contains(&args.workers) {
        return Err(usage(format!(
            "`--workers` is {}; allowed are 1 to {WORKERS_MAX}",
            args.workers
        )));
    }
    Ok(found)
}

impl From<NoPopulation> for Failure {
    fn from(error: NoPopulation) -> Self {
        let hint = "`chirp seed PROFILE` writes them anew, while nothing runs on the data folder; name the \
            file with `--credentials`";
        Self::new(Exit::Usage, error.to_string(), hint)
    }
}

impl From<NoRun> for Failure {
    fn from(error: NoRun) -> Self {
        let (exit, hint) = match &error {
            NoRun::Unreachable { .. } => {
                (Exit::NotRunning, "`chirp up` starts one; `--target` names another")
            }
            NoRun::Refused { .. } => (
                Exit::Failure,
                "the tokens must be of the data set that runs: see `--credentials`; `chirp logs` may say more",
            ),
            NoRun::TooLong(_) => (Exit::Usage, "make the run shorter, or post less"),
            NoRun::System(_) => {
                (Exit::Resources, "raise the limit of open files: `ulimit -n 20000`")
            }
            NoRun::Begin(_) => (Exit::Failure, "`chirp doctor` looks at what runs"),
        };
        Self::new(exit, error.to_string(), hint)
    }
}
