//! Throughput of chirp, each figure beside its reference in the same run.
//!
//! `just bench [--only read|post|fanout|freshness] [--seconds N] [--json FILE]`. Server and driver
//! share the machine, so three things keep the figures honest: chirp and reference take turns in
//! short slices (A B A B ...), the server's own processor time is counted beside requests per second,
//! and a part whose reference drifts by more than a fifth between slices is `INVALID` (exit code 97).
//!
//! [`read`], [`post`] and [`freshness`] drive the real `chirp up` over HTTP through [`driver`];
//! [`fanout`] runs the real workers over the real stores in a process of its own. [`reference`] has
//! the servers to compare with, [`world`] the users, edges and tweets.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a bench prints its tables")]
#![allow(clippy::disallowed_methods, reason = "a bench measures the real world")]
#![allow(clippy::cast_precision_loss, reason = "figures are shown with three digits")]
#![allow(clippy::cast_sign_loss, reason = "ranks and counts that were drawn are not negative")]
#![allow(clippy::similar_names, reason = "followers and followees are the words of the house")]
#![allow(clippy::unwrap_used, reason = "whatever fails here ends the run, and says where")]

mod driver;
mod fanout;
mod freshness;
mod post;
mod read;
mod reference;
mod report;
mod server;
mod world;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use report::Report;

/// As the program has it, for the servers to compare with as well.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Exit code of a run in which a reference drifted, so that its ratio says nothing.
const INVALID: u8 = 97;
const USAGE: &str = "usage: feed [--only read|post|fanout|freshness] [--seconds N] [--json FILE]";

/// What is asked for.
struct Args {
    only: Option<String>,
    /// Seconds that each side of a part is measured, over all its slices.
    seconds: u64,
    json: Option<PathBuf>,
}

fn parse(mut words: impl Iterator<Item = String>) -> Option<Args> {
    let mut args = Args { only: None, seconds: 15, json: None };
    while let Some(word) = words.next() {
        match word.as_str() {
            // Cargo says so to every bench.
            "--bench" => {}
            "--only" => args.only = Some(words.next()?),
            "--seconds" => args.seconds = words.next()?.parse().ok().filter(|&n| n > 0)?,
            "--json" => args.json = Some(words.next()?.into()),
            _ => return None,
        }
    }
    let known = ["read", "post", "fanout", "freshness"];
    args.only.as_deref().is_none_or(|only| known.contains(&only)).then_some(args)
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
    let report = run(&args);
    if let Some(path) = &args.json {
        std::fs::write(path, report.json()).unwrap();
    }
    if report.is_valid() { ExitCode::SUCCESS } else { ExitCode::from(INVALID) }
}

/// Runs the parts, one after the other, and prints each as it ends.
fn run(args: &Args) -> Report {
    let wanted = |part: &str| args.only.as_deref().is_none_or(|only| only == part);
    let length = Duration::from_secs(args.seconds);
    let mut report = Report::new(args.seconds);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    if wanted("read") {
        report.add(runtime.block_on(read::run(length)));
    }
    let mut posts_per_s = None;
    if wanted("post") {
        let part = runtime.block_on(post::run(length));
        posts_per_s = part.chirp_rate();
        report.add(part);
    }
    if wanted("fanout") {
        report.add(fanout::run());
    }
    if wanted("freshness") {
        report.add(runtime.block_on(freshness::run(length, posts_per_s)));
    }
    report
}
