//! `chirp load`: drives a running chirp as the public would, and says how fast and how fresh it was and
//! whether anything was lost, doubled, misordered or leaked.

use std::{
    io::IsTerminal,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::HeaderValue;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{
    context::{Context, block_on_all_cores, not_running},
    exit::{Exit, Failure, quoted},
    printer::Printer,
};
use crate::{
    load::{
        connection::Target,
        population::{NoPopulation, Population},
        profile::{self, Profile},
        report::{Report, html, text},
        run::{NoRun, Order, Progress},
        slo::Slo,
        stats::Tick,
    },
    rt::tokio_rt::TokioRuntime,
    stack::{DataDir, data_dir::Running, seed::credentials::FILE, signals::Signals},
    wire::routes::Role,
};

/// Without a terminal a line is printed this often, in seconds.
const LINE_EVERY_S: u64 = 5;
/// The most threads that drive.
const WORKERS_MAX: usize = 64;

/// Flags of `load`.
///
/// The data set must have been filled by `chirp seed`, whose tokens are used, and nobody else may write to
/// it meanwhile. What is tweeted stays; who follows whom is put back at the end.
#[derive(Debug, clap::Args)]
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
    let dir = context.data_dir()?;
    let (named, target, admins) = target(args, &dir)?;
    for path in [&args.json, &args.html].into_iter().flatten() {
        may_be_written(path)?;
    }
    let credentials = args.credentials.clone().unwrap_or_else(|| dir.root().join(FILE));
    let population = Population::load(&credentials)?;
    let length = Duration::from_secs_f64(profile.rates.length_s());
    let rt = TokioRuntime::handle();
    population.lasts(&credentials, rt.wall_ms(), length)?;
    let order = Order {
        profile,
        target,
        named,
        admins,
        population: Arc::new(population),
        slo,
        workers: args.workers,
        audit: !args.no_audit,
        command: std::env::args()
            .map(|word| quoted(Path::new(&word)))
            .collect::<Vec<_>>()
            .join(" "),
        tag: rt.random_u64(),
    };
    let live = Live::new(context.printer, args);
    let report = block_on_all_cores(driven(&order, &live))??;
    live.end();
    told(context.printer, args, &report)
}

async fn driven(order: &Order, live: &Live) -> Result<Report, NoRun> {
    let stop = Arc::new(AtomicBool::new(false));
    let interrupted = Arc::clone(&stop);
    let mut signals = Signals::catch().map_err(NoRun::System)?;
    tokio::spawn(async move {
        signals.next().await;
        interrupted.store(true, Ordering::Relaxed);
        signals.next_one_kills();
    });
    order.run(stop, &|progress| live.show(&progress)).await
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
    if !(1..=WORKERS_MAX).contains(&args.workers) {
        return Err(usage(format!(
            "`--workers` is {}; allowed are 1 to {WORKERS_MAX}",
            args.workers
        )));
    }
    Ok(found)
}

/// What is driven, as it is named and as it is reached, with its admin listeners.
fn target(args: &Args, dir: &DataDir) -> Result<(String, Target, Vec<SocketAddr>), Failure> {
    let Some(url) = &args.target else {
        let (address, admins) = running(dir)?;
        let host = HeaderValue::try_from(address.to_string()).expect("an address is a header");
        let target = Target { address, host, base: String::new() };
        let admins = if args.admin.is_empty() { admins } else { args.admin.clone() };
        return Ok((format!("http://{address}"), target, admins));
    };
    let wrong = |why: &str| {
        let hint = "such as `--target http://127.0.0.1:8080`, or with a path before the routes";
        Failure::new(Exit::Usage, format!("`{url}` cannot be driven: {why}"), hint)
    };
    let parsed: http::Uri = url.parse().map_err(|_| wrong("it is no URL"))?;
    match parsed.scheme_str() {
        Some("http") => {}
        Some("https") => return Err(wrong("TLS is not spoken by the driver; end it before")),
        _ => return Err(wrong("it does not begin with `http://`")),
    }
    let authority = parsed.authority().ok_or_else(|| wrong("it names no host"))?;
    if parsed.query().is_some() || authority.as_str().contains('@') {
        return Err(wrong("only a host, a port and a path may stand in it"));
    }
    let port = authority.port_u16().unwrap_or(80);
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    let mut addresses = std::net::ToSocketAddrs::to_socket_addrs(&(name, port))
        .map_err(|error| wrong(&format!("its host cannot be looked up: {error}")))?;
    let address = addresses.next().ok_or_else(|| wrong("its host has no address"))?;
    let host = HeaderValue::try_from(authority.as_str()).map_err(|_| wrong("its host is odd"))?;
    let base = parsed.path().trim_end_matches('/').to_owned();
    Ok((url.clone(), Target { address, host, base }, args.admin.clone()))
}

/// The public listener of what runs on the folder, and all admin listeners.
fn running(dir: &DataDir) -> Result<(SocketAddr, Vec<SocketAddr>), Failure> {
    match dir.running() {
        Running::Up(run) => Ok((run.address, vec![run.admin])),
        Running::Roles(roles) => {
            let gateway = roles.iter().find(|(role, _)| *role == Role::Gateway);
            let address = gateway.map(|(_, run)| run.address).ok_or_else(|| not_running(dir))?;
            Ok((address, roles.iter().map(|(_, run)| run.admin).collect()))
        }
        Running::Nothing | Running::Starting => Err(not_running(dir)),
    }
}

/// Refuses a report that could not be written after a run of hours.
fn may_be_written(path: &Path) -> Result<(), Failure> {
    if path == Path::new("-") {
        return Ok(());
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if !folder.unwrap_or(Path::new(".")).is_dir() || path.is_dir() {
        let sentence = format!("the report cannot be written to `{}`", path.display());
        return Err(Failure::new(Exit::Usage, sentence, "name a file in a folder that is there"));
    }
    Ok(())
}

/// Writes the report out.
fn told(printer: Printer, args: &Args, report: &Report) -> Result<Exit, Failure> {
    let json = serde_json::to_string_pretty(report).expect("a report has only string keys");
    let mut failed = None;
    if let Some(path) = &args.html {
        failed = written(path, &html::page(report)).err();
    }
    match &args.json {
        Some(path) if path == Path::new("-") => printer.data(&json)?,
        Some(path) => failed = written(path, &json).err().or(failed),
        None => {}
    }
    if args.json.as_deref() != Some(Path::new("-")) {
        for line in text::summary(report) {
            printer.data(&line)?;
        }
    }
    match failed {
        Some(failure) => Err(failure),
        None => Ok(Exit::of_load(report.verdict.exit)),
    }
}

fn written(path: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text).map_err(|error| {
        let sentence = format!("the report cannot be written to `{}`: {error}", path.display());
        Failure::new(Exit::Unwritable, sentence, "make room; the figures are on stdout")
    })
}

/// What is shown meanwhile.
struct Live {
    printer: Printer,
    bar: ProgressBar,
    lines: bool,
}

impl Live {
    fn new(printer: Printer, args: &Args) -> Self {
        let terminal = std::io::stderr().is_terminal() && !args.no_tui && !args.quiet;
        let bar = if terminal {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            let form = ProgressStyle::with_template("{spinner} {msg}");
            bar.set_style(form.expect("a template of the library"));
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        } else {
            ProgressBar::hidden()
        };
        Self { printer, bar, lines: !terminal && !args.quiet }
    }

    fn show(&self, progress: &Progress) {
        match progress {
            Progress::Phase(what) => {
                self.bar.set_message(*what);
                if self.lines {
                    self.printer.talk(what);
                }
            }
            Progress::Second(second, of, tick, violations) => {
                let text = line(*second, *of, tick, *violations);
                if self.lines && (second + 1) % LINE_EVERY_S == 0 {
                    self.printer.talk(&text);
                }
                self.bar.set_message(text);
            }
        }
    }

    fn end(&self) {
        self.bar.finish_and_clear();
    }
}

fn line(second: u64, of: u64, tick: &Tick, violations: u64) -> String {
    let second_of = tick.second();
    let slowest = second_of.operations.iter().max_by_key(|(_, figures)| figures.p99_us);
    let slowest = slowest.map_or_else(String::new, |(name, figures)| {
        format!(", slowest p99 {} ({name})", text::time(figures.p99_us))
    });
    format!(
        "{:>4} of {of} s: {} due, {} answered, {} errors{slowest}, {violations} violations",
        second + 1,
        second_of.due,
        second_of.ok,
        second_of.errors,
    )
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
