//! Whether the correction tells the truth of a server that stands still.

use std::path::Path;

use crate::{
    Bare,
    bare::{EVERY, STILL},
    load, profile,
};

/// Requests a second.
const RATE: f64 = 500.0;
/// Connections: fewer than come in a second of standing still, so that most wait for one.
const CONNECTIONS: usize = 64;
/// Seconds: whole turns, so that every part of one comes as often.
const SECONDS: u64 = 60;

pub(crate) fn run(folder: &Path) {
    let bare = Bare::start(&["--stalls"]);
    let report = load(folder, &bare, &profile(folder, RATE, SECONDS, CONNECTIONS), &[]);
    let of = &report.operations[0];
    println!("stall: {RATE} requests a second for {SECONDS} s; still for 1 s of every 10 s");
    // Whoever comes in the first second of ten waits for the rest of it: a tenth of all, evenly between
    // nothing and a second.
    let share = STILL.as_secs_f64() / EVERY.as_secs_f64();
    let mut worst: f64 = 0.0;
    for (name, q, found, raw) in [
        ("p95", 0.95, quantile(&of.corrected.curve, 0.95), quantile(&of.raw.curve, 0.95)),
        ("p99", 0.99, of.corrected.p99_us, of.raw.p99_us),
        ("p99.9", 0.999, of.corrected.p999_us, of.raw.p999_us),
    ] {
        let truth = STILL.as_micros() as f64 * (1.0 - (1.0 - q) / share);
        let off = found as f64 / truth - 1.0;
        if name == "p99" {
            worst = off.abs();
        }
        println!(
            "  {name:<6} computed {:>6.1} ms   corrected {:>6.1} ms ({:+.2} %)   raw {:>6.1} ms",
            truth / 1e3,
            found as f64 / 1e3,
            off * 100.0,
            raw as f64 / 1e3
        );
    }
    println!(
        "  {} sent, {} errors, late p99 {} us; goal 2 %: {}",
        report.driver.sent,
        of.errors.values().sum::<u64>(),
        report.driver.late_p99_us,
        if worst <= 0.02 { "reached" } else { "MISSED" }
    );
}

/// What a curve says of a quantile, by the line between its nearest points.
fn quantile(curve: &[(f64, u64)], q: f64) -> u64 {
    let after = curve.iter().position(|&(at, _)| at >= q).unwrap_or(curve.len() - 1).max(1);
    let ((q0, t0), (q1, t1)) = (curve[after - 1], curve[after]);
    let share = (q - q0) / (q1 - q0);
    (t0 as f64 + share * (t1 as f64 - t0 as f64)).round() as u64
}
