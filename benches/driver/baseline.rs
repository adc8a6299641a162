//! How often `--baseline` finds a tenth, and how often nothing.

use std::path::Path;

use chirp::load::{report::Report, runs::Runs};

use crate::{Args, Bare, load, profile};

/// Requests a second: a hundred in every second, that a 99th percentile says something.
const RATE: f64 = 300.0;
const CONNECTIONS: usize = 64;
/// What a page takes, and what it takes when it is a tenth slower.
const DELAYS_US: [u64; 2] = [5_000, 5_500];
/// Runs of a side of a comparison.
const RUNS: usize = 5;

/// Compares `slices` times: five runs with five that are alike, and with five that are slower.
pub(crate) fn run(folder: &Path, args: &Args) {
    let profile = profile(folder, RATE, args.seconds, CONNECTIONS);
    let runs = |delay: u64| -> Vec<Report> {
        let bare = Bare::start(&["--delay-us", &delay.to_string()]);
        (0..RUNS)
            .map(|seed| load(folder, &bare, &profile, &["--seed", &seed.to_string()]))
            .collect()
    };
    let (mut alarms, mut found) = (0, 0);
    let mut old = runs(DELAYS_US[0]);
    for _ in 0..args.slices {
        let slower = runs(DELAYS_US[1]);
        found += usize::from(slow(slower, &old));
        let same = runs(DELAYS_US[0]);
        alarms += usize::from(slow(same.clone(), &old));
        old = same;
    }
    println!(
        "baseline: {} comparisons of {RUNS} with {RUNS} runs of {} s: {alarms} alarms over equal ones \
         (goal at most 1 of 20), {found} over those that were a tenth slower (goal at least 19 of 20)",
        args.slices, args.seconds
    );
}

fn slow(runs: Vec<Report>, old: &[Report]) -> bool {
    Runs::new(runs, Some(old)).comparison.unwrap().slower()
}
