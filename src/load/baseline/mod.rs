//! Is this build slower than that one? Two sets of runs, compared series by series.
//!
//! Start with [`compare`]. A [`Run`] has for each series (operation) its [`Window`]s; a baseline is
//! **several runs** of one build, the candidate one or more of the other. Runs must be alike in all but
//! the build: profile, rate, duration, data set, machine. Nothing here can see that they were not.
//!
//! # What is observed
//!
//! The runs of one build on one machine differ as a whole: by what else the machine does, by where
//! memory and files came to lie (Mytkowicz et al., "Producing wrong data without doing anything
//! obviously wrong!", ASPLOS 2009; Kalibera and Jones, "Rigorous benchmarking in reasonable time", ISMM
//! 2013). So a run is one observation, however many windows it has, and [`Scope`] says what was counted:
//!
//! - [`Scope::Pairs`]: runs were alternated (old, new, old, new), at least four pairs. What the machine
//!   does over minutes cancels out. The best that can be had.
//! - [`Scope::Runs`]: at least five runs, two of them or more of the baseline. The scatter between runs
//!   is in the test; but what changed between the two *times* is taken for the build.
//! - [`Scope::Windows`]: fewer. Then the windows are all there is, and the verdict is about *these two
//!   runs*: it says that they differ more than their windows explain, not why. Where runs differ as a
//!   whole by 1 % it errs in 9 of 100 comparisons, by 3 % in 31: do not fail a build on it.
//!
//! # How
//!
//! 1. Of each window the logarithm of a [`Statistic`]: shifts become ratios, and tails short.
//! 2. Windows far from the middle (pauses, stolen processor time) are brought to the edge of the usual by
//!    Huber's M-estimator. Hence **a change that is only in few windows is not found**: pauses that a
//!    build brings are the matter of objectives ([`super::slo`]) over all of its requests.
//! 3. A run becomes its mean. With [`Scope::Windows`] it becomes eight batches of neighbouring windows,
//!    as neighbours are alike, and a mean of a few batches has an honest t (Ibragimov and Mueller,
//!    "t-statistic based correlation and heterogeneity robust inference", JBES 2010); what likeness is
//!    left between batches widens the error.
//! 4. Student's t-test: of two samples that scatter alike, which a build and itself do, or of pairs.
//! 5. Probabilities and intervals are Bonferroni's for all series and statistics together, so that
//!    [`Rules::alpha`] holds for the *comparison*.
//! 6. An alarm is a change that is significant, and at least [`Rules::effect`], and at least
//!    [`Rules::noise_us`]. [`Verdict::Same`] is claimed only if a change of [`Rules::find`] is excluded
//!    (Schuirmann 1987); what is neither is [`Verdict::TooNoisy`].
//!
//! There is no randomness: the same runs give the same comparison.
//!
//! # What it withstands
//!
//! Simulated, 200 comparisons each (`tests.rs`): four series, the median and the 99th percentile of each;
//! lognormal latencies (sigma 0.5), 100 requests a window; between windows a drift of 3 % that keeps half
//! of itself from window to window (AR(1), 0.5); pauses of 1 to 3 windows of 1.5 to 3.3 times the latency
//! beginning in 3 % of windows. Where several runs are compared, they have 30 windows each. "Runs 2 %" is
//! the standard deviation between runs, "walk 3 %" a random walk of the machine from pair to pair.
//! Percent of comparisons with an alarm, if the candidate is slower by
//!
//! | runs | 0 % | 5 % | 10 % | 20 % |
//! |---|---|---|---|---|
//! | 1 and 1 of 30 windows | 3.5 | 32.5 | 88.0 | 98.5 |
//! | 1 and 1 of 60 windows | 2.5 | 61.0 | 99.5 | 100.0 |
//! | 1 and 1 of 120 windows | 2.0 | 88.0 | 100.0 | 100.0 |
//! | 1 and 1, drift 5 % (0.7) | 3.0 | 32.0 | 78.0 | 100.0 |
//! | 1 and 1, drift 3 % (0.9) | 7.0 | 47.0 | 87.0 | 100.0 |
//! | 1 and 1, pauses 10 % | 3.0 | 20.5 | 70.0 | 94.0 |
//! | 1 and 1, runs 1 % | 9.0 | 55.5 | 99.0 | 100.0 |
//! | 1 and 1, runs 3 % | 31.0 | 55.5 | 83.5 | 99.5 |
//! | 5 and 1, runs 2 % | 6.0 | 19.0 | 46.0 | 92.0 |
//! | 5 and 3, runs 2 % | 2.5 | 40.5 | 91.0 | 100.0 |
//! | 5 and 5, runs 2 % | 4.5 | 55.5 | 99.0 | 100.0 |
//! | 8 and 8, runs 2 % | 6.5 | 82.5 | 100.0 | 100.0 |
//! | 6 and 6, runs 2 %, walk 3 % | 0.5 | 29.5 | 86.5 | 99.5 |
//! | 6 pairs, runs 2 %, walk 3 % | 4.5 | 50.0 | 97.0 | 100.0 |
//! | 8 pairs, runs 2 %, walk 3 % | 7.0 | 70.5 | 100.0 | 100.0 |
//! | 8 pairs, runs 3 %, walk 3 % | 7.0 | 45.5 | 95.5 | 100.0 |
//!
//! Of 200 comparisons, 5 % have a standard deviation of 1.5 points. One candidate run is not enough, even
//! against five; and six alternated pairs find what six and six apart do not. Drift that lasts tens of
//! seconds (0.9) cannot be told from a change within 60 windows: more runs are worth more than longer ones.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

mod compare;
mod student;
mod units;

#[cfg(test)]
mod tests;

/// What was measured of one operation in one stretch of time, the same of all: 1 s for example.
///
/// Windows of the warm-up are left out by whoever measures. Histograms should be finer than 1 %.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// Requests that were answered. A window of fewer than 20 says nothing, of the 99th percentile one
    /// of fewer than 100.
    pub count: u64,
    /// The mean of their latencies, in microseconds.
    pub mean_us: f64,
    /// The median, in microseconds.
    pub p50_us: f64,
    /// The 99th percentile, in microseconds.
    pub p99_us: f64,
}

/// One run: of each series (operation) its windows, in the order of time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// By name of the series.
    pub series: BTreeMap<String, Vec<Window>>,
}

/// What is compared of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Statistic {
    /// The median.
    P50,
    /// The 99th percentile.
    P99,
    /// The mean.
    Mean,
}

impl Statistic {
    const fn of(self, window: &Window) -> f64 {
        match self {
            Self::P50 => window.p50_us,
            Self::P99 => window.p99_us,
            Self::Mean => window.mean_us,
        }
    }

    /// The fewest requests of a window that says something of it.
    const fn requests_min(self) -> u64 {
        match self {
            Self::P50 | Self::Mean => 20,
            Self::P99 => 100,
        }
    }
}

/// How the runs of the two builds lay in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// Those of the one, then those of the other.
    #[default]
    Apart,
    /// In turn: the n-th of the one beside the n-th of the other, and as many of both.
    Alternated,
}

/// When a difference is an alarm.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    /// Which share of the comparisons of a build with itself may end with slower or faster, above 0 and
    /// below 1. Default 0.05.
    pub alpha: f64,
    /// A change below this share is no alarm, however certain. Default 0.03.
    pub effect: f64,
    /// [`Verdict::Same`] means that a change of this share is excluded. Default 0.10.
    pub find: f64,
    /// A change below so many microseconds is no alarm, however certain. Default 20: what a timer, a
    /// scheduler and a histogram make of the same latency.
    pub noise_us: f64,
    /// What is compared of each series. Default the median and the 99th percentile.
    pub statistics: Vec<Statistic>,
    /// How the runs lay in time. Default apart.
    pub layout: Layout,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            alpha: 0.05,
            effect: 0.03,
            find: 0.10,
            noise_us: 20.0,
            statistics: vec![Statistic::P50, Statistic::P99],
            layout: Layout::Apart,
        }
    }
}

/// What was counted as one observation, and so what the verdicts are about: see the head of the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Batches of windows: the verdicts are about these runs, not about the builds.
    Windows,
    /// Runs.
    Runs,
    /// Pairs of runs.
    Pairs,
}

/// What came of one statistic of one series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// A change of [`Rules::find`] is excluded, and none is certain.
    Same,
    /// The candidate is slower: an alarm.
    Slower,
    /// The candidate is faster.
    Faster,
    /// One side has too few usable windows or runs, or none.
    TooFew,
    /// No change is certain, and one of [`Rules::find`] is not excluded.
    TooNoisy,
}

/// A change, as estimated.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// What the baseline takes, in microseconds.
    pub baseline_us: f64,
    /// What the candidate takes as a share of it: above 1 is slower.
    pub ratio: f64,
    /// The low end of the confidence interval of the ratio: all of a comparison's intervals hold at once
    /// with the probability 1 - [`Rules::alpha`].
    pub low: f64,
    /// Its high end.
    pub high: f64,
    /// How probable it is that builds that are alike differ so much in any series of the comparison
    /// (Bonferroni's bound, at most 1).
    pub p: f64,
}

/// One statistic of one series, compared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Compared {
    /// The series.
    pub series: String,
    /// The statistic.
    pub statistic: Statistic,
    /// The change; `None` if there is too little.
    pub change: Option<Change>,
    /// What came of it.
    pub verdict: Verdict,
}

/// Two builds, compared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// What the verdicts are about.
    pub scope: Scope,
    /// Every statistic of every series that any run has, by name.
    pub compared: Vec<Compared>,
}

impl Comparison {
    /// Whether anything became slower: the one alarm of the comparison.
    #[must_use]
    pub fn slower(&self) -> bool {
        self.any(Verdict::Slower)
    }

    /// Whether anything became faster.
    #[must_use]
    pub fn faster(&self) -> bool {
        self.any(Verdict::Faster)
    }

    /// Whether there is a verdict on everything, and anything at all.
    #[must_use]
    pub fn conclusive(&self) -> bool {
        let open = self.any(Verdict::TooFew) || self.any(Verdict::TooNoisy);
        !self.compared.is_empty() && !open
    }

    fn any(&self, verdict: Verdict) -> bool {
        self.compared.iter().any(|one| one.verdict == verdict)
    }
}

/// Compares the runs of a candidate with those of a baseline.
///
/// Never fails: what cannot be judged is [`Verdict::TooFew`] or [`Verdict::TooNoisy`], and a series that
/// only one side has is there.
#[must_use]
pub fn compare(baseline: &[Run], candidate: &[Run], rules: &Rules) -> Comparison {
    compare::compare(baseline, candidate, rules)
}
