//! How two sets of runs are compared: Student's test of logarithms, corrected for the family.

use std::collections::BTreeSet;

use super::{
    Change, Compared, Comparison, Layout, Rules, Run, Scope, Statistic, Verdict, student, units,
};

/// The fewest degrees of freedom by which anything is judged.
const FREEDOM_MIN: usize = 3;
/// The least standard error, as a share.
const ERROR_MIN: f64 = 0.001;

/// A difference of logarithms.
#[derive(Clone, Copy, Debug)]
struct Difference {
    baseline: f64,
    by: f64,
    error: f64,
    freedom: f64,
}

pub(super) fn compare(baseline: &[Run], candidate: &[Run], rules: &Rules) -> Comparison {
    let scope = scope(baseline.len(), candidate.len(), rules.layout);
    let names: BTreeSet<&String> =
        baseline.iter().chain(candidate).flat_map(|run| run.series.keys()).collect();
    let mut found = Vec::new();
    for name in names {
        for &statistic in &rules.statistics {
            found.push((name, statistic, difference(baseline, candidate, name, statistic, scope)));
        }
    }
    let family = found.iter().filter(|(.., difference)| difference.is_some()).count();
    let compared = found
        .into_iter()
        .map(|(series, statistic, difference)| {
            let change = difference.map(|difference| change(difference, family, rules));
            let verdict = change.as_ref().map_or(Verdict::TooFew, |change| verdict(change, rules));
            Compared { series: series.clone(), statistic, change, verdict }
        })
        .collect();
    Comparison { scope, compared }
}

fn scope(baseline: usize, candidate: usize, layout: Layout) -> Scope {
    let pairs = layout == Layout::Alternated && baseline == candidate;
    if pairs && baseline > FREEDOM_MIN {
        return Scope::Pairs;
    }
    let enough = baseline >= 2 && candidate >= 1 && baseline + candidate >= FREEDOM_MIN + 2;
    if enough { Scope::Runs } else { Scope::Windows }
}

fn difference(
    baseline: &[Run],
    candidate: &[Run],
    series: &str,
    statistic: Statistic,
    scope: Scope,
) -> Option<Difference> {
    match scope {
        Scope::Windows => {
            let old = units::of_batches(baseline, series, statistic);
            let new = units::of_batches(candidate, series, statistic);
            let repetition = units::repetition(old.iter().chain(&new));
            let mut found = apart(&old.concat(), &new.concat())?;
            found.error *= libm::sqrt(repetition);
            found.freedom /= repetition;
            Some(found)
        }
        Scope::Runs => {
            let of = |runs| -> Vec<f64> {
                units::of_runs(runs, series, statistic).into_iter().flatten().collect()
            };
            apart(&of(baseline), &of(candidate))
        }
        Scope::Pairs => {
            let old = units::of_runs(baseline, series, statistic);
            let new = units::of_runs(candidate, series, statistic);
            let pairs: Vec<(f64, f64)> =
                old.into_iter().zip(new).filter_map(|(old, new)| Some((old?, new?))).collect();
            alternated(&pairs)
        }
    }
}

/// Student's test of two samples that scatter alike.
fn apart(old: &[f64], new: &[f64]) -> Option<Difference> {
    let freedom = (old.len() + new.len()).saturating_sub(2);
    if old.is_empty() || new.is_empty() || freedom < FREEDOM_MIN {
        return None;
    }
    let freedom = units::count(freedom);
    let variance = (units::scatter(old) + units::scatter(new)) / freedom;
    let share = 1.0 / units::count(old.len()) + 1.0 / units::count(new.len());
    let by = units::mean(new) - units::mean(old);
    Some(Difference {
        baseline: units::mean(old),
        by,
        error: libm::sqrt(variance * share),
        freedom,
    })
}

/// Student's test of pairs.
fn alternated(pairs: &[(f64, f64)]) -> Option<Difference> {
    let freedom = pairs.len().saturating_sub(1);
    if freedom < FREEDOM_MIN {
        return None;
    }
    let differences: Vec<f64> = pairs.iter().map(|(old, new)| new - old).collect();
    let old: Vec<f64> = pairs.iter().map(|(old, _)| *old).collect();
    let freedom = units::count(freedom);
    let variance = units::scatter(&differences) / freedom;
    let error = libm::sqrt(variance / units::count(pairs.len()));
    Some(Difference { baseline: units::mean(&old), by: units::mean(&differences), error, freedom })
}

fn change(found: Difference, family: usize, rules: &Rules) -> Change {
    let family = units::count(family);
    let error = found.error.max(ERROR_MIN);
    let p = (student::two_sided(found.by / error, found.freedom) * family).min(1.0);
    let half = student::critical(rules.alpha / family, found.freedom) * error;
    Change {
        baseline_us: libm::exp(found.baseline),
        ratio: libm::exp(found.by),
        low: libm::exp(found.by - half),
        high: libm::exp(found.by + half),
        p,
    }
}

fn verdict(change: &Change, rules: &Rules) -> Verdict {
    let beyond = |ratio: f64, share: f64| {
        let far = ratio >= 1.0 + share || ratio <= 1.0 / (1.0 + share);
        far && (ratio - 1.0).abs() * change.baseline_us >= rules.noise_us
    };
    if change.p <= rules.alpha && beyond(change.ratio, rules.effect) {
        return if change.ratio > 1.0 { Verdict::Slower } else { Verdict::Faster };
    }
    if beyond(change.low, rules.find) || beyond(change.high, rules.find) {
        return Verdict::TooNoisy;
    }
    Verdict::Same
}
