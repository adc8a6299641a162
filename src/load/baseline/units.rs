//! What is counted as one observation: a run, a pair of runs, or a batch of windows of a run.

use super::{Run, Statistic, Window};

/// How many standard deviations from the median are usual for a window.
const CLIP: f64 = 1.5;
/// The least standard deviation: values that a histogram has rounded may all be one.
const SCALE_MIN: f64 = 0.01;
/// Steps towards the middle; it is exact to a thousandth of the edge long before.
const STEPS: u32 = 10;
/// Batches that the windows of a run are put into.
const BATCHES: usize = 8;
/// The fewest windows of a batch.
const BATCH_MIN: usize = 4;
/// The fewest batches of a run.
const BATCHES_MIN: usize = 5;
/// The fewest windows of a run that is one observation.
const RUN_MIN: usize = 5;
/// The most that neighbouring batches are taken to be alike.
const LIKENESS_MAX: f64 = 0.6;

/// The logarithms of what each usable window of `run` says of `series`, in order.
fn logs(run: &Run, series: &str, statistic: Statistic) -> Vec<f64> {
    let windows = run.series.get(series).map(Vec::as_slice).unwrap_or_default();
    let usable = |window: &Window| {
        let value = statistic.of(window);
        (window.count >= statistic.requests_min() && value.is_finite() && value > 0.0)
            .then(|| libm::log(value))
    };
    usual(&windows.iter().filter_map(usable).collect::<Vec<_>>())
}

/// Brings values that are far from the middle to the edge of what is usual: a pause of the machine then
/// weighs as one bad window, however long it was. The middle is Huber's M-estimator with the median
/// distance from the median as scale; values are stretched again by the share that was usual, so that
/// their mean is the estimate and their scatter is its own (Huber, "Robust Statistics", 1981, 6.4).
fn usual(values: &[f64]) -> Vec<f64> {
    let mut middle = median(values.to_vec());
    let off = median(values.iter().map(|value| (value - middle).abs()).collect());
    // 1.4826 makes it the standard deviation of normal values.
    let edge = CLIP * (1.4826 * off).max(SCALE_MIN);
    let inside = |middle: f64| {
        count(values.iter().filter(|value| (*value - middle).abs() <= edge).count().max(1))
            / count(values.len())
    };
    let held = |value: &f64, middle: f64| (value - middle).clamp(-edge, edge);
    for _ in 0..STEPS {
        let off: Vec<f64> = values.iter().map(|value| held(value, middle)).collect();
        middle += mean(&off) / inside(middle);
    }
    values.iter().map(|value| middle + held(value, middle) / inside(middle)).collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let half = values.len() / 2;
    match values.len() {
        0 => 0.0,
        length if length % 2 == 1 => values[half],
        _ => f64::midpoint(values[half - 1], values[half]),
    }
}

/// One value per run; `None` of a run that has too few windows.
pub(super) fn of_runs(runs: &[Run], series: &str, statistic: Statistic) -> Vec<Option<f64>> {
    let one = |run: &Run| {
        let logs = logs(run, series, statistic);
        (logs.len() >= RUN_MIN).then(|| mean(&logs))
    };
    runs.iter().map(one).collect()
}

/// The batches of each run, in order; runs that have too few windows are left out.
pub(super) fn of_batches(runs: &[Run], series: &str, statistic: Statistic) -> Vec<Vec<f64>> {
    let one = |run: &Run| {
        let logs = logs(run, series, statistic);
        let batches = BATCHES.min(logs.len() / BATCH_MIN);
        let bound = |batch: usize| batch * logs.len() / batches;
        (batches >= BATCHES_MIN).then(|| {
            (0..batches).map(|batch| mean(&logs[bound(batch)..bound(batch + 1)])).collect()
        })
    };
    runs.iter().filter_map(one).collect()
}

/// How much less than as many independent ones the batches say, at least 1: by the correlation of
/// neighbours, as if each depended on the one before (an autoregression of order one).
pub(super) fn repetition<'a>(runs: impl Iterator<Item = &'a Vec<f64>>) -> f64 {
    let (mut alike, mut all, mut batches_max) = (0.0, 0.0, 1);
    for batches in runs {
        let middle = mean(batches);
        let off = |value: &f64| value - middle;
        alike += batches.windows(2).map(|two| off(&two[0]) * off(&two[1])).sum::<f64>();
        all += batches.iter().map(|value| off(value) * off(value)).sum::<f64>();
        batches_max = batches_max.max(batches.len());
    }
    if all <= 0.0 {
        return 1.0;
    }
    // Measured from their own mean, few numbers look less alike than they are, by about 1 / n.
    let likeness = (alike / all + 1.0 / count(batches_max)).clamp(0.0, LIKENESS_MAX);
    (1.0 + likeness) / (1.0 - likeness)
}

#[expect(clippy::cast_precision_loss, reason = "windows, batches and runs are few")]
pub(super) fn count(items: usize) -> f64 {
    items as f64
}

pub(super) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / count(values.len())
}

/// The sum of squared distances from the mean.
pub(super) fn scatter(values: &[f64]) -> f64 {
    let middle = mean(values);
    values.iter().map(|value| (value - middle) * (value - middle)).sum()
}
