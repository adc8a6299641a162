//! `chirp seed`: a data set that looks lived in.

use std::{path::PathBuf, time::Duration};

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
/// The data set must be empty, or hold a part of the same seed, which is then finished. Users, edges and
/// tweets are the same for ever for the same profile and seed; the history ends with the year 2025.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many users: 962 (`demo`), ten thousand, a hundred thousand, a million
    #[arg(value_name = "PROFILE", value_parser = PossibleValuesParser::new(PRESETS.map(|p| p.0)))]
    profile: String,
    /// Everything random follows from it
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// About so many tweets per user, 0 to 100; who has more followers wrote more of them
    #[arg(long, value_name = "N", default_value_t = TWEETS, value_parser = clap::value_parser!(u32).range(0..=100))]
    tweets: u32,
    /// Where ready access tokens go, good for a day [default: credentials.jsonl in the data folder]
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
    line("credentials", format!("{path}  ({} tokens, the password of all)", report.tokens))?;
    Ok(Exit::Ok)
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
    let seeded = target.fill(rt, config, (order, &plan), &show, &never).await?;
    let path = args.credentials.clone().unwrap_or_else(|| dir.root().join(FILE));
    if args.credentials.is_none() {
        dir.create()?;
    }
    let password = seeded.password.as_ref().map(|(text, _)| text.clone());
    let written =
        credentials::write(rt, &path, (order, &plan), target.keys(), password, args.tokens);
    let tokens = written.await?;
    target.finish(&seeded).await?;
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
