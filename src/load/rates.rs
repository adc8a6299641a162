//! When requests are due: a rate over time, and arrivals that follow it. Pure.

use crate::graph::Random;

/// A rate over time: straight lines between points of seconds and requests per second. A step is two
/// points at one time.
#[derive(Clone, Debug, PartialEq)]
pub struct Rates(Vec<(f64, f64)>);

/// How arrivals are spread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Process {
    /// As of many people who do not know of each other: gaps are exponential.
    #[default]
    Poisson,
    /// Evenly.
    Fixed,
}

impl Process {
    /// As it is written in a profile.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Poisson => "poisson",
            Self::Fixed => "fixed",
        }
    }
}

impl Rates {
    /// The rate through `points`, whose times do not fall and begin with 0, and whose rates are not
    /// negative.
    ///
    /// # Panics
    /// If they are not so: whoever reads a profile has checked it.
    #[must_use]
    pub fn new(points: Vec<(f64, f64)>) -> Self {
        let rising = points.windows(2).all(|two| two[0].0 <= two[1].0);
        let sound = points.iter().all(|&(at, rate)| at >= 0.0 && rate >= 0.0 && rate.is_finite());
        assert!(points.first().is_some_and(|first| first.0 == 0.0) && rising && sound);
        Self(points)
    }

    /// The points.
    #[must_use]
    pub fn points(&self) -> &[(f64, f64)] {
        &self.0
    }

    /// The end, in seconds.
    #[must_use]
    pub fn length_s(&self) -> f64 {
        self.0.last().map_or(0.0, |last| last.0)
    }

    /// How many requests are due until the end, on average.
    #[must_use]
    pub fn total(&self) -> f64 {
        self.0.windows(2).map(|two| (two[1].0 - two[0].0) * f64::midpoint(two[0].1, two[1].1)).sum()
    }

    /// The highest rate, in requests per second.
    #[must_use]
    pub fn highest(&self) -> f64 {
        self.0.iter().map(|&(_, rate)| rate).fold(0.0, f64::max)
    }

    /// The same shape with every rate `by` times as high.
    #[must_use]
    pub fn scaled(&self, by: f64) -> Self {
        Self(self.0.iter().map(|&(at, rate)| (at, rate * by)).collect())
    }
}

/// Arrivals of a rate, in seconds from the beginning. The same seed gives the same ones, for ever.
///
/// A process of rate 1 is stretched by the inverse of the integral of the rate (Lewis and Shedler,
/// *Simulation of nonhomogeneous Poisson processes*, 1979).
#[derive(Clone, Debug)]
pub struct Arrivals {
    rates: Rates,
    process: Process,
    random: Random,
    /// The line that the next arrival may lie on.
    line: usize,
    /// How many were due at its beginning.
    before: f64,
    /// How many are due at the next arrival.
    due: f64,
}

impl Arrivals {
    /// Arrivals of `rates`.
    #[must_use]
    pub fn new(rates: Rates, process: Process, seed: u64) -> Self {
        // Half a gap, so that evenly spread arrivals are as many as the rate says.
        let due = if process == Process::Fixed { -0.5 } else { 0.0 };
        Self { rates, process, random: Random::new(seed), line: 0, before: 0.0, due }
    }
}

impl Iterator for Arrivals {
    type Item = f64;

    fn next(&mut self) -> Option<f64> {
        self.due += match self.process {
            Process::Poisson => -libm::log(self.random.unit()),
            Process::Fixed => 1.0,
        };
        loop {
            let &[(from, low), (to, high)] = self.rates.0.get(self.line..self.line + 2)? else {
                return None;
            };
            let length = to - from;
            let area = length * f64::midpoint(low, high);
            let wanted = self.due - self.before;
            if wanted > area || area == 0.0 {
                self.before += area;
                self.line += 1;
                continue;
            }
            // low t + slope t^2 / 2 = wanted, solved so that nothing cancels when the slope is small.
            let slope = (high - low) / length;
            let root = libm::sqrt((low * low + 2.0 * slope * wanted).max(0.0));
            return Some(from + (2.0 * wanted / (low + root)).min(length));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrivals(points: &[(f64, f64)], process: Process) -> Vec<f64> {
        Arrivals::new(Rates::new(points.to_vec()), process, 7).collect()
    }

    #[test]
    fn fixed_arrivals_are_as_many_as_the_area_and_evenly_spread() {
        let all = arrivals(&[(0.0, 10.0), (2.0, 10.0)], Process::Fixed);
        assert_eq!(all.len(), 20);
        assert!((all[0] - 0.05).abs() < 1e-9);
        assert!(all.windows(2).all(|two| (two[1] - two[0] - 0.1).abs() < 1e-9));
    }

    #[test]
    fn a_ramp_has_its_requests_where_the_rate_is() {
        let all = arrivals(&[(0.0, 0.0), (10.0, 200.0)], Process::Fixed);
        assert_eq!(all.len(), 1_000);
        // A quarter of the area lies in the first half.
        let early = all.iter().filter(|&&at| at < 5.0).count();
        assert_eq!(early, 250);
        let falling = arrivals(&[(0.0, 200.0), (10.0, 0.0)], Process::Fixed);
        assert_eq!(falling.iter().filter(|&&at| at < 5.0).count(), 750);
    }

    #[test]
    fn steps_and_silence_are_stepped_over() {
        let steps = [(0.0, 5.0), (1.0, 5.0), (1.0, 0.0), (3.0, 0.0), (3.0, 50.0), (4.0, 50.0)];
        let all = arrivals(&steps, Process::Fixed);
        assert_eq!(all.len(), 55);
        assert!(!all.iter().any(|&at| at > 1.0 && at < 3.0));
    }

    #[test]
    fn poisson_gaps_have_the_mean_and_the_spread_of_an_exponential() {
        let all = arrivals(&[(0.0, 1_000.0), (100.0, 1_000.0)], Process::Poisson);
        assert!((98_500..101_500).contains(&all.len()), "{}", all.len());
        let gaps: Vec<f64> = all.windows(2).map(|two| two[1] - two[0]).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let spread = gaps.iter().map(|gap| (gap - mean) * (gap - mean)).sum::<f64>();
        let ratio = libm::sqrt(spread / gaps.len() as f64) / mean;
        assert!((ratio - 1.0).abs() < 0.02, "{ratio}");
        assert!(all.is_sorted() && all.last().is_some_and(|&last| last <= 100.0));
    }
}
