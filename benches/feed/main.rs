//! Throughput of chirp, each figure beside its reference in the same run.
//!
//! `just bench [--backends embedded|containers] [--only PART] [--seconds N] [--json FILE]`. Servers and
//! driver share the machine, so three things keep the figures honest: chirp and reference take turns
//! in short slices (A B A B ...), the server's own processor time is counted beside requests per
//! second, and a part whose reference drifts by more than a fifth between slices is `INVALID` (exit
//! code 97).
//!
//! [`read`], [`post`] and [`freshness`] drive the real `chirp up` over HTTP through [`driver`];
//! [`fanout`] runs the real workers over the real stores in a process of its own. What they are
//! compared with is in [`reference`] over files, and in [`redis_client`], [`pgbench`] and [`ping`] over
//! the servers of [`containers`]. [`strategies`], [`bulk`] and [`celebrity`] have data sets of their
//! own, and run only when they are named. [`world`] has the users, edges and tweets, [`load`] stores
//! them, and [`stack`] is all of it, running.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a bench prints its tables")]
#![allow(clippy::disallowed_methods, reason = "a bench measures the real world")]
#![allow(clippy::cast_precision_loss, reason = "figures are shown with three digits")]
#![allow(clippy::cast_sign_loss, reason = "ranks and counts that were drawn are not negative")]
#![allow(clippy::similar_names, reason = "followers and followees are the words of the house")]
#![allow(clippy::unwrap_used, reason = "whatever fails here ends the run, and says where")]

mod bulk;
mod celebrity;
mod containers;
mod cpu;
mod driver;
mod fanout;
mod follow;
mod freshness;
mod load;
mod pgbench;
mod ping;
mod post;
mod read;
mod redis_client;
mod reference;
mod report;
mod server;
mod stack;
mod strategies;
mod world;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use report::Report;
use stack::{Backends, Stack};

/// As the program has it, for the servers to compare with as well.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Exit code of a run in which a reference drifted, so that its ratio says nothing.
const INVALID: u8 = 97;
/// How many followers a celebrity may have.
const FOLLOWERS: std::ops::RangeInclusive<usize> = 10_000..=10_000_000;
const USAGE: &str = "usage: feed [--backends embedded|containers] [--only \
    read|post|fanout|freshness|strategies|bulk|celebrity] [--seconds N] [--profile NAME] \
    [--followers N] [--json FILE]";

/// What is asked for.
struct Args {
    backends: Backends,
    only: Option<String>,
    /// Seconds that each side of a part is measured, over all its slices.
    seconds: u64,
    /// Of the celebrity.
    followers: usize,
    /// What the strategies are compared over.
    profile: String,
    json: Option<PathBuf>,
}

impl Args {
    fn wanted(&self, part: &str) -> bool {
        self.only.as_deref().is_none_or(|only| only == part)
    }
}

fn parse(mut words: impl Iterator<Item = String>) -> Option<Args> {
    let mut args = Args {
        backends: Backends::Embedded,
        only: None,
        seconds: 15,
        followers: 1_000_000,
        profile: "100k".to_owned(),
        json: None,
    };
    while let Some(word) = words.next() {
        match word.as_str() {
            // Cargo says so to every bench.
            "--bench" => {}
            "--backends" => args.backends = Backends::parse(&words.next()?)?,
            "--only" => args.only = Some(words.next()?),
            "--seconds" => args.seconds = words.next()?.parse().ok().filter(|&n| n > 0)?,
            "--followers" => {
                args.followers = words.next()?.parse().ok().filter(|n| FOLLOWERS.contains(n))?;
            }
            "--profile" => args.profile = words.next().filter(|name| is_profile(name))?,
            "--json" => args.json = Some(words.next()?.into()),
            _ => return None,
        }
    }
    let known = ["read", "post", "fanout", "freshness", "strategies", "bulk", "celebrity"];
    args.only.as_deref().is_none_or(|only| known.contains(&only)).then_some(args)
}

/// Whether `chirp seed` knows it.
fn is_profile(name: &str) -> bool {
    chirp::graph::PRESETS.iter().any(|(known, ..)| *known == name)
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let Some(role) = words.first().and_then(|word| word.strip_prefix("serve-")) {
        reference::serve(role, &words[1..]);
        return ExitCode::SUCCESS;
    }
    if words.first().is_some_and(|word| word == "fan-out") {
        fanout::child(&words[1..]);
        return ExitCode::SUCCESS;
    }
    let Some(args) = parse(words.into_iter()) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let report = runtime.block_on(async {
        match args.backends {
            Backends::Embedded => Box::pin(embedded(&args)).await,
            Backends::Containers => Box::pin(containers(&args)).await,
        }
    });
    if let Some(path) = &args.json {
        std::fs::write(path, report.json()).unwrap();
    }
    if report.is_valid() { ExitCode::SUCCESS } else { ExitCode::from(INVALID) }
}

/// Runs the parts, each over a stack of its own, and prints each as it ends.
async fn embedded(args: &Args) -> Report {
    let length = Duration::from_secs(args.seconds);
    let start = || Stack::start(Backends::Embedded);
    let mut report = Report::new(args.backends, args.seconds);
    if args.wanted("read") {
        report.add(read::run(&start().await, length).await);
    }
    let mut posts_per_s = None;
    if args.wanted("post") {
        let part = post::run(&start().await, length).await;
        posts_per_s = part.chirp_rate();
        report.add(part);
    }
    if args.wanted("fanout") {
        report.add(fanout::embedded());
    }
    if args.wanted("freshness") {
        report.add(freshness::run(&start().await, length, posts_per_s).await);
    }
    named(args, &mut report).await;
    report
}

/// Parts that run only when they are named, as their data sets take minutes. Tells whether one was.
async fn named(args: &Args, report: &mut Report) -> bool {
    let length = Duration::from_secs(args.seconds);
    match args.only.as_deref() {
        Some("strategies") => {
            for part in strategies::run(args.backends, &args.profile, length).await {
                report.add(part);
            }
        }
        Some("bulk") => report.add(bulk::run(args.backends).await),
        Some("celebrity") => {
            for way in celebrity::WAYS {
                report.add(celebrity::run(args.backends, &way, args.followers, length).await);
            }
        }
        _ => return false,
    }
    true
}

/// Runs the parts over one stack, as filling servers takes long; the last one holds it still.
async fn containers(args: &Args) -> Report {
    let length = Duration::from_secs(args.seconds);
    let mut report = Report::new(args.backends, args.seconds);
    if named(args, &mut report).await {
        return report;
    }
    let stack = Stack::start(Backends::Containers).await;
    if args.wanted("read") {
        report.add(read::run(&stack, length).await);
    }
    let mut posts_per_s = None;
    if args.wanted("post") {
        let part = post::run(&stack, length).await;
        posts_per_s = part.chirp_rate();
        report.add(part);
    }
    if args.wanted("freshness") {
        report.add(freshness::run(&stack, length, posts_per_s).await);
    }
    if args.wanted("fanout") {
        report.add(fanout::containers(&stack));
    }
    report
}
