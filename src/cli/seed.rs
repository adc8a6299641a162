//! `chirp seed`: a data set that looks lived in.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::builder::PossibleValuesParser;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use parking_lot::Mutex;
use serde::Serialize;

use super::{
    context::{Context, block_on_all_cores},
    exit::{Exit, Failure},
    printer::Printer,
};
use crate::{
    config::Config,
    graph::PRESETS,
    rt::{Rt, Shutdown, tokio_rt::TokioRuntime},
    stack::{
        DataDir, StackError,
        data_dir::Lock,
        migrate,
        seed::{
            self, Order, Part, Target,
            credentials::{self, FILE, TOKENS_MAX},
            plan::TWEETS,
        },
    },
    wire::routes::Role,
};

/// How often a bar is drawn when nothing moves it.
const TICK: Duration = Duration::from_millis(200);
/// Version of what `--json` prints.
const SCHEMA: &str = "chirp.seed/1";

/// Flags of `seed`.
///
/// The data set must be empty, or hold the same seed: what it lacks is added, and the tokens are new.
/// Users, edges and tweets are the same for ever for the same profile and seed; the history ends with the
/// year 2025.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many users: 962 (`demo`), ten thousand, a hundred thousand, a million
    #[arg(value_name = "PROFILE", value_parser = PossibleValuesParser::new(PRESETS.map(|p| p.0)))]
    profile: String,
    /// Everything random follows from it
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// At most so many tweets per user on average, 0 to 100; who has more followers wrote more, up to 500
    #[arg(long, value_name = "N", default_value_t = TWEETS, value_parser = clap::value_parser!(u32).range(0..=100))]
    tweets: u32,
    /// Where ready access tokens go, good for a day, whose calls no rate limit counts [default: credentials.jsonl in the data folder]
    #[arg(long, value_name = "FILE")]
    credentials: Option<PathBuf>,
    /// The most users who get a token, the most followed first
    #[arg(long, value_name = "N", default_value_t = TOKENS_MAX)]
    tokens: u32,
    /// One JSON object on stdout
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    schema: &'static str,
    version: &'static str,
    profile: String,
    seed: u64,
    users: u32,
    edges: usize,
    tweets: usize,
    sha256: String,
    credentials: PathBuf,
    tokens: u32,
    /// Whether the file has the password of all.
    password: bool,
    /// Seconds that filling took; next to none if all was there.
    wall_s: f64,
}

/// Runs the verb.
pub(crate) fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let mut config = context.load(Vec::new())?.config;
    let dir = DataDir::at(&config.up.data_dir);
    if config.backends.kind == "auto" {
        config.backends.kind = dir.kind()?.unwrap_or_else(|| "embedded".to_owned());
    }
    if config.backends.kind == "containers" {
        let sentence = "servers in containers are there only while their stack is";
        let hint = format!("`chirp up --backends containers --seed {}`", args.profile);
        return Err(Failure::new(Exit::Usage, sentence, hint));
    }
    if let Some(path) = &args.credentials {
        may_be_written(path, &dir)?;
    }
    let order = Order { profile: args.profile.clone(), seed: args.seed, tweets: args.tweets };
    let report = block_on_all_cores(fill(context.printer, args, &config, &dir, &order))??;
    if args.json {
        let json = serde_json::to_string(&report).expect("a report has only string keys");
        context.printer.data(&json)?;
        return Ok(Exit::Ok);
    }
    let line = |name: &str, value: String| context.printer.data(&format!("{name:<12} {value}"));
    line("users", report.users.to_string())?;
    line("edges", report.edges.to_string())?;
    line("tweets", report.tweets.to_string())?;
    line("sha256", report.sha256)?;
    let path = report.credentials.display();
    let password = if report.password { "the password of all" } else { "their password is lost" };
    line("credentials", format!("{path}  ({} tokens, {password})", report.tokens))?;
    Ok(Exit::Ok)
}

/// Refuses a file that should not be replaced, before anything is filled in.
fn may_be_written(path: &Path, dir: &DataDir) -> Result<(), Failure> {
    let refused = |why: &str| {
        let sentence = format!("`{}` cannot be the credentials file: {why}", path.display());
        let hint = "name a new file, or one that is to be replaced, with `--credentials`";
        Err(Failure::new(Exit::Usage, sentence, hint))
    };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new(".")).canonicalize();
    let Ok(folder) = folder else { return refused("its folder is not there") };
    let inside = dir.root().canonicalize().is_ok_and(|root| folder.starts_with(root));
    if inside && path.file_name() != Some(FILE.as_ref()) {
        return refused("it is among the files of the data folder");
    }
    match path.symlink_metadata() {
        Ok(there) if !there.is_file() => refused("it is no ordinary file"),
        _ => Ok(()),
    }
}

async fn fill(
    printer: Printer,
    args: &Args,
    config: &Config,
    dir: &DataDir,
    order: &Order,
) -> Result<Report, Failure> {
    let rt = TokioRuntime::handle();
    let (target, _lock) = open(&rt, config, dir).await?;
    let filled = filled(printer, args, config, dir, (&rt, order, &target)).await;
    target.close(&rt).await;
    filled
}

async fn open(
    rt: &Rt,
    config: &Config,
    dir: &DataDir,
) -> Result<(Target, Option<Lock>), StackError> {
    if config.backends.external() {
        if config.backends.migrate {
            migrate::take(config, rt, &Role::ALL).await?;
        }
        return Ok((Target::servers(rt, config).await?, None));
    }
    dir.create()?;
    dir.check_kind("embedded")?;
    let lock = dir.lock_all()?;
    Ok((Target::files(rt, dir).await?, Some(lock)))
}

async fn filled(
    printer: Printer,
    args: &Args,
    config: &Config,
    dir: &DataDir,
    (rt, order, target): (&Rt, &Order, &Target),
) -> Result<Report, Failure> {
    let plan = seed::make(rt, order).await?;
    let bars = Bars::new(printer);
    let never = Shutdown::new();
    let show = |part| bars.show(part);
    let path = args.credentials.clone().unwrap_or_else(|| dir.root().join(FILE));
    if args.credentials.is_none() {
        dir.create()?;
    }
    let (known, wanted) = ((order, &plan), (path.as_path(), args.tokens));
    let filled = target.fill_whole(rt, config, known, wanted, &show, &never).await;
    let (seeded, credentials::Written { tokens, password }) = filled?;
    if seeded.password.is_none() {
        printer.talk("all of it was there; the access tokens are new");
    }
    Ok(Report {
        schema: SCHEMA,
        version: env!("CARGO_PKG_VERSION"),
        profile: order.profile.clone(),
        seed: order.seed,
        users: seeded.users,
        edges: seeded.edges,
        tweets: seeded.tweets,
        sha256: seeded.sha256,
        credentials: path,
        tokens,
        password,
        wall_s: seeded.took.as_secs_f64(),
    })
}

/// A bar per part on a terminal; elsewhere a line when a part is done.
struct Bars {
    printer: Printer,
    bar: Mutex<ProgressBar>,
}

impl Bars {
    fn new(printer: Printer) -> Self {
        Self { printer, bar: Mutex::new(ProgressBar::hidden()) }
    }

    fn show(&self, part: Part) {
        let Part { name, done, of } = part;
        let mut bar = self.bar.lock();
        if bar.message() != name {
            *bar = ProgressBar::with_draw_target(Some(of), ProgressDrawTarget::stderr());
            let form = "{msg:<7} {wide_bar} {human_pos} of {human_len}, {per_sec}, {eta} left";
            bar.set_style(ProgressStyle::with_template(form).expect("a template of the library"));
            bar.set_message(name);
            bar.enable_steady_tick(TICK);
        }
        bar.set_position(done);
        if done == of {
            bar.abandon();
            if bar.is_hidden() {
                self.printer.talk(&format!("{of} {name}"));
            }
        }
    }
}
