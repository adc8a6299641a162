//! Simulated runs: how often a build differs from itself, and how often 10 % are found.

use std::slice;

use super::*;
use crate::graph::Random;

/// Seeds of a test, each a comparison.
const COMPARISONS: u64 = 200;

/// What makes two runs of one build differ.
#[derive(Clone, Copy)]
struct Noise {
    /// Of a whole run: the standard deviation of its offset, as a share.
    run: f64,
    /// From run to run the machine drifts by this share (a random walk).
    walk: f64,
    /// Between windows: the standard deviation of an AR(1), and how much of it stays after a window.
    drift: f64,
    stays: f64,
    /// How often a pause of 1 to 3 windows begins in a window; it makes requests 1.5 to 3.3 times as
    /// slow, of all series.
    pauses: f64,
    /// Of requests: the width of their lognormal distribution, and how many there are in a window.
    sigma: f64,
    requests: u64,
}

const USUAL: Noise =
    Noise { run: 0.0, walk: 0.0, drift: 0.03, stays: 0.5, pauses: 0.03, sigma: 0.5, requests: 100 };

const SERIES: [(&str, f64); 4] =
    [("follow", 900.0), ("post", 2_500.0), ("search", 7_000.0), ("timeline", 1_500.0)];

/// A run in which every latency is `factor` times what it would be.
fn simulated(random: &mut Random, noise: &Noise, windows: usize, factor: f64) -> Run {
    let offset = libm::log(factor) + noise.run * random.normal();
    let mut drift = noise.drift * random.normal();
    let mut left = 0;
    let mut run = Run::default();
    for _ in 0..windows {
        let fresh = libm::sqrt(1.0 - noise.stays * noise.stays);
        drift = noise.stays * drift + noise.drift * fresh * random.normal();
        if left == 0 && random.unit() < noise.pauses {
            left = 1 + random.below(3);
        }
        let pause = if left > 0 { 0.4 + 0.8 * random.unit() } else { 0.0 };
        left = left.saturating_sub(1);
        for (name, base_us) in SERIES {
            let middle = libm::log(base_us) + offset + drift + pause;
            let window = window(random, noise, middle);
            run.series.entry(name.to_owned()).or_default().push(window);
        }
    }
    run
}

/// The order statistics of lognormal latencies, by their asymptotic distribution (the share that lies
/// below a sample's quantile q scatters by q (1 - q) / n).
fn window(random: &mut Random, noise: &Noise, middle: f64) -> Window {
    let root = libm::sqrt(units::count(noise.requests as usize));
    let at = |normal: f64, scatter: f64, random: &mut Random| {
        libm::exp(middle + noise.sigma * (normal + scatter / root * random.normal()))
    };
    let p50_us = at(0.0, 1.2533, random);
    let p99_us = at(2.3263, 3.733, random);
    let mean_us = at(noise.sigma / 2.0, 1.066, random);
    Window { count: noise.requests, mean_us, p50_us, p99_us }
}

/// How many runs each side has, of how many windows.
#[derive(Clone, Copy)]
struct Plan {
    baseline: usize,
    candidate: usize,
    windows: usize,
    layout: Layout,
}

const ONE: Plan = Plan { baseline: 1, candidate: 1, windows: 60, layout: Layout::Apart };

/// How many comparisons found `factor` in the candidate: any change if there is none.
fn alarms(noise: &Noise, plan: Plan, factor: f64) -> u32 {
    let rules = Rules { layout: plan.layout, ..Rules::default() };
    let alarm = |seed: &u64| {
        let mut random = Random::new(*seed);
        let (mut old, mut new, mut machine) = (Vec::new(), Vec::new(), 0.0);
        for turn in 0..plan.baseline.max(plan.candidate) {
            machine += noise.walk * random.normal();
            let now = libm::exp(machine);
            if turn < plan.baseline {
                old.push(simulated(&mut random, noise, plan.windows, now));
            }
            if turn < plan.candidate {
                new.push(simulated(&mut random, noise, plan.windows, now * factor));
            }
        }
        let comparison = compare(&old, &new, &rules);
        if factor > 1.0 { comparison.slower() } else { comparison.slower() || comparison.faster() }
    };
    (0..COMPARISONS).filter(alarm).count() as u32
}

#[test]
fn one_run_against_one_like_it_gives_few_alarms_and_ten_percent_are_found() {
    // 5 % are allowed; of 200 that is 10, with a standard deviation of 3.
    let none = alarms(&USUAL, ONE, 1.0);
    assert!(none <= 10, "{none} of {COMPARISONS} comparisons of a build with itself were alarms");
    let found = alarms(&USUAL, ONE, 1.1);
    assert!(found >= 190, "10 % were found in {found} of {COMPARISONS}");
}

#[test]
fn runs_that_differ_as_a_whole_deceive_one_against_one_but_not_several() {
    let noise = Noise { run: 0.03, ..USUAL };
    // What the documentation warns of. If this fails, the warning can go.
    assert!(alarms(&noise, ONE, 1.0) > 20, "one against one has become honest");
    for plan in [
        Plan { baseline: 5, candidate: 3, windows: 30, layout: Layout::Apart },
        Plan { baseline: 6, candidate: 6, windows: 30, layout: Layout::Apart },
    ] {
        let none = alarms(&noise, plan, 1.0);
        assert!(none <= 16, "{none}: 10 and twice the standard deviation are allowed");
    }
}

#[test]
fn alternated_runs_find_ten_percent_on_a_machine_that_drifts() {
    let noise = Noise { run: 0.02, walk: 0.03, ..USUAL };
    let plan = Plan { baseline: 8, candidate: 8, windows: 30, layout: Layout::Alternated };
    let none = alarms(&noise, plan, 1.0);
    assert!(none <= 16, "{none} of {COMPARISONS} comparisons of a build with itself were alarms");
    let found = alarms(&noise, plan, 1.1);
    assert!(found >= 190, "10 % were found in {found} of {COMPARISONS}");
}

fn steady(p50_us: f64, windows: usize) -> Run {
    let window = |at: usize| {
        // Three values in turn, so that batches scatter a little.
        let p50_us = p50_us * [0.99, 1.0, 1.01][at % 3];
        Window { count: 1_000, mean_us: p50_us, p50_us, p99_us: 4.0 * p50_us }
    };
    Run { series: BTreeMap::from([("post".to_owned(), (0..windows).map(window).collect())]) }
}

fn verdicts(old: &[Run], new: &[Run]) -> Vec<Verdict> {
    compare(old, new, &Rules::default()).compared.iter().map(|one| one.verdict).collect()
}

#[test]
fn a_clear_change_is_seen_in_its_direction_and_size() {
    let (old, new) = ([steady(1_000.0, 60)], [steady(1_200.0, 60)]);
    assert_eq!(verdicts(&old, &new), [Verdict::Slower, Verdict::Slower]);
    assert_eq!(verdicts(&new, &old), [Verdict::Faster, Verdict::Faster]);
    let change = compare(&old, &new, &Rules::default()).compared[0].change.unwrap();
    assert!((change.ratio - 1.2).abs() < 0.01, "{change:?}");
    assert!(change.low < 1.2 && change.high > 1.2 && change.low > 1.1, "{change:?}");
    assert!((change.baseline_us - 1_000.0).abs() < 10.0, "{change:?}");
}

#[test]
fn what_is_certain_but_small_is_no_alarm() {
    // 2 % of 1 ms are certain here; and so are 10 % of 50 us, which nobody notices.
    for (old, new) in [(1_000.0, 1_020.0), (50.0, 55.0)] {
        let (old, new) = ([steady(old, 60)], [steady(new, 60)]);
        let rules = Rules { statistics: vec![Statistic::P50], ..Rules::default() };
        let compared = &compare(&old, &new, &rules).compared[0];
        assert!(compared.change.unwrap().p < 0.001, "{compared:?}");
        assert_eq!(compared.verdict, Verdict::Same);
    }
}

#[test]
fn a_series_of_which_one_side_has_too_little_is_not_called_the_same() {
    let old = [steady(1_000.0, 60)];
    for few in [Run::default(), steady(1_000.0, 19)] {
        assert_eq!(verdicts(&old, slice::from_ref(&few)), [Verdict::TooFew; 2]);
        assert_eq!(verdicts(&[few], &old), [Verdict::TooFew; 2]);
    }
    assert_eq!(verdicts(&old, &[steady(1_000.0, 20)]), [Verdict::Same; 2]);
    let mut thin = steady(1_000.0, 60);
    for window in thin.series.get_mut("post").unwrap() {
        window.count = 50;
    }
    assert_eq!(verdicts(&old, &[thin]), [Verdict::Same, Verdict::TooFew]);
    let mut broken = steady(1_000.0, 60);
    for window in broken.series.get_mut("post").unwrap() {
        (window.p50_us, window.p99_us) = (f64::NAN, 0.0);
    }
    assert_eq!(verdicts(&old, &[broken]), [Verdict::TooFew; 2]);
}

#[test]
fn where_ten_percent_could_hide_nothing_is_called_the_same() {
    let noise = Noise { drift: 0.3, ..USUAL };
    let mut random = Random::new(1);
    let mut run = || [simulated(&mut random, &noise, 60, 1.0)];
    let verdicts = verdicts(&run(), &run());
    assert!(verdicts.iter().all(|one| *one == Verdict::TooNoisy), "{verdicts:?}");
}

#[test]
fn the_number_of_runs_says_what_is_observed() {
    let runs = |count: usize| vec![steady(1_000.0, 20); count];
    let scope = |old, new, layout| {
        compare(&runs(old), &runs(new), &Rules { layout, ..Rules::default() }).scope
    };
    for (old, new, expected) in [
        (1, 1, Scope::Windows),
        (2, 2, Scope::Windows),
        (1, 9, Scope::Windows),
        (4, 1, Scope::Runs),
        (3, 2, Scope::Runs),
        (5, 5, Scope::Runs),
    ] {
        assert_eq!(scope(old, new, Layout::Apart), expected, "{old} and {new}");
    }
    assert_eq!(scope(4, 4, Layout::Alternated), Scope::Pairs);
    assert_eq!(scope(3, 3, Layout::Alternated), Scope::Runs);
    assert_eq!(scope(5, 4, Layout::Alternated), Scope::Runs);
}

#[test]
fn the_same_runs_give_the_same_comparison() {
    let mut random = Random::new(5);
    let mut run = || [simulated(&mut random, &USUAL, 60, 1.0)];
    let (old, new) = (run(), run());
    assert_eq!(compare(&old, &new, &Rules::default()), compare(&old, &new, &Rules::default()));
}
