//! The driver of `chirp load`, held to account.
//!
//! `just bench-driver [--only stall|speed|baseline] [--seconds N] [--slices N]`. Behind each part stands
//! [`bare`], a server that does next to nothing, in a process of its own:
//!
//! - `stall`: it stands still for the first second of every ten. What a client must see of that is computed,
//!   and the corrected 99th percentile is held against it.
//! - `speed`: as many requests as it takes, from `oha`, `wrk` and `chirp load` in turn, over as many
//!   connections, for the same page. A tool that is not installed is left out.
//! - `baseline`: runs of equal builds, and of one that is a tenth slower, compared as `--baseline` does.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a bench prints its tables")]
#![allow(clippy::disallowed_methods, reason = "a bench measures the real world")]
#![allow(clippy::cast_precision_loss, reason = "figures are shown with three digits")]
#![allow(clippy::cast_sign_loss, reason = "counts and times are not negative")]
#![allow(clippy::unwrap_used, reason = "whatever fails here ends the run, and says where")]

mod bare;
mod baseline;
mod speed;
mod stall;

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
};

use chirp::load::report::Report;

const USAGE: &str = "usage: driver [--only stall|speed|baseline] [--seconds N] [--slices N]";

/// What is asked for.
struct Args {
    only: Option<String>,
    /// Seconds of a slice.
    seconds: u64,
    /// How often tools take turns, or runs are compared.
    slices: usize,
}

fn parse(mut words: impl Iterator<Item = String>) -> Option<Args> {
    let mut args = Args { only: None, seconds: 6, slices: 5 };
    while let Some(word) = words.next() {
        match word.as_str() {
            // Cargo says so to every bench.
            "--bench" => {}
            "--only" => args.only = Some(words.next()?),
            "--seconds" => args.seconds = words.next()?.parse().ok().filter(|&n| n >= 4)?,
            "--slices" => args.slices = words.next()?.parse().ok().filter(|&n| n > 0)?,
            _ => return None,
        }
    }
    Some(args)
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.first().is_some_and(|word| word == "bare") {
        bare::run(&words[1..]);
        return ExitCode::SUCCESS;
    }
    let Some(args) = parse(words.into_iter()) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let folder = tempfile::tempdir().unwrap();
    let mut seed = Command::new(env!("CARGO_BIN_EXE_chirp"));
    seed.args(["seed", "demo", "--data-dir"]).arg(folder.path()).stderr(Stdio::null());
    assert!(seed.stdout(Stdio::null()).status().unwrap().success());
    let wanted = |part: &str| args.only.as_deref().is_none_or(|only| only == part);
    if wanted("stall") {
        stall::run(folder.path());
    }
    if wanted("speed") {
        speed::run(folder.path(), &args);
    }
    if wanted("baseline") {
        baseline::run(folder.path(), &args);
    }
    ExitCode::SUCCESS
}

/// A bare server in a process of its own.
struct Bare {
    child: Child,
    address: String,
}

impl Bare {
    fn start(flags: &[&str]) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .arg("bare")
            .args(flags)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut address = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut address).unwrap();
        Self { child, address: address.trim().to_owned() }
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A profile of pages at a fixed rate, as a file.
fn profile(folder: &Path, rate: f64, seconds: u64, connections: usize) -> PathBuf {
    let path = folder.join("profile.toml");
    let text = format!(
        "connections = {connections}\nmix = {{ timeline = 1 }}\n[arrivals]\nshape = \"constant\"\n\
         process = \"fixed\"\nrate = {rate}\nlength = \"{seconds}s\"\n[freshness]\nprobes_per_s = 0\n\
         streams = 0\n"
    );
    std::fs::write(&path, text).unwrap();
    path
}

/// Drives `bare` with `chirp load`, audit and all.
fn load(folder: &Path, bare: &Bare, profile: &Path, flags: &[&str]) -> Report {
    let json = folder.join("report.json");
    let mut command = Command::new(env!("CARGO_BIN_EXE_chirp"));
    command.args(["load", "--quiet", "--target", &bare.address, "--profile"]).arg(profile);
    command.args(["--audit-sample", "10", "--json"]).arg(&json).arg("--data-dir").arg(folder);
    let output = command.args(flags).output().unwrap();
    let text = std::fs::read_to_string(&json).unwrap_or_else(|_| panic!("{output:?}"));
    serde_json::from_str(&text).unwrap()
}

/// The middle of some figures, with the least and the greatest.
fn spread(mut all: Vec<f64>) -> (f64, f64, f64) {
    all.sort_unstable_by(f64::total_cmp);
    (all[all.len() / 2], all[0], all[all.len() - 1])
}
