//! How many requests a second the driver carries, beside tools that do nothing else.

use std::{collections::BTreeMap, path::Path, process::Command};

use chirp::load::report::Report;

use crate::{Args, Bare, load, profile, spread};

/// Connections of each.
const CONNECTIONS: usize = 64;
/// What is asked of the driver beyond what it did the last time: more than it can do, but not so much that
/// it is busy with what it drops.
const BEYOND: f64 = 1.2;
/// What it is asked for at first.
const RATE: f64 = 60_000.0;

pub(crate) fn run(folder: &Path, args: &Args) {
    let bare = Bare::start(&[]);
    let (seconds, mut rate) = (args.seconds, RATE);
    let mut all: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    let mut driver = None;
    for _ in 0..args.slices {
        if let Some(found) = oha(&bare.address, seconds) {
            all.entry("oha").or_default().push(found);
        }
        let profile = profile(folder, rate, seconds, CONNECTIONS);
        let report = load(folder, &bare, &profile, &["--workers", "2"]);
        let own = middle(&report);
        rate = own * BEYOND;
        all.entry("chirp").or_default().push(own);
        driver = Some(report.driver);
        if let Some(found) = wrk(&bare.address, seconds) {
            all.entry("wrk").or_default().push(found);
        }
    }
    println!("speed: {CONNECTIONS} connections, slices of {seconds} s in turn");
    let own = spread(all["chirp"].clone()).0;
    for (name, figures) in all {
        let (middle, low, high) = spread(figures);
        println!(
            "  {name:<6} {middle:>8.0} requests/s ({low:.0} to {high:.0})   chirp / {name} {:.2}",
            own / middle
        );
    }
    println!("  {:?}", driver.unwrap());
}

/// Answers per second, without the first and the last.
fn middle(report: &Report) -> f64 {
    let end = report.plan.length_s as u64 - 1;
    let of: Vec<u64> = report
        .seconds
        .iter()
        .filter(|second| (1..end).contains(&second.second))
        .map(|second| second.ok)
        .collect();
    of.iter().sum::<u64>() as f64 / of.len() as f64
}

fn oha(address: &str, seconds: u64) -> Option<f64> {
    let (length, connections) = (format!("{seconds}s"), CONNECTIONS.to_string());
    let words = ["--no-tui", "--output-format", "json", "-z", &length, "-c", &connections];
    let output =
        Command::new("oha").args(words).arg(format!("{address}/timeline")).output().ok()?;
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
    report["summary"]["requestsPerSec"].as_f64()
}

fn wrk(address: &str, seconds: u64) -> Option<f64> {
    let (length, connections) = (format!("-d{seconds}s"), format!("-c{CONNECTIONS}"));
    let url = format!("{address}/timeline");
    let output = Command::new("wrk").args(["-t2", &connections, &length, &url]).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find_map(|line| line.strip_prefix("Requests/sec:"))?;
    line.trim().parse().ok()
}
