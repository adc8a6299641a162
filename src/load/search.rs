//! The highest rate that holds: found by doubling and then by halving the gap. Pure but for the trials.

/// What came of a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// The rate holds.
    Yes,
    /// It does not.
    No,
    /// Nobody can say, and there is no reason to go on.
    Ends,
}

/// A search is over once the lowest rate that does not hold is this much above the highest that does.
pub const PRECISE: f64 = 1.05;
/// The lowest rate that is tried, in requests per second.
pub const RATE_MIN: f64 = 1.0;
/// The highest.
pub const RATE_MAX: f64 = 500_000.0;
/// Steps of the first search, and of later ones, which begin where an earlier one ended.
pub const STEPS: [f64; 2] = [2.0, 1.1];

/// The highest rate between [`RATE_MIN`] and [`RATE_MAX`] that holds, to within [`PRECISE`]: `None` if none
/// does or the trials ended. Rates go from `start` up or down by `step` until one holds and the next does
/// not; then the middle of the two, as a ratio, is tried.
///
/// # Errors
/// Those of a trial.
pub async fn highest<E>(
    start: f64,
    step: f64,
    mut trial: impl AsyncFnMut(f64) -> Result<Held, E>,
) -> Result<Option<f64>, E> {
    let (mut low, mut high): (Option<f64>, Option<f64>) = (None, None);
    let mut rate = start.clamp(RATE_MIN, RATE_MAX);
    loop {
        match trial(rate).await? {
            Held::Ends => return Ok(None),
            Held::Yes => low = Some(rate),
            Held::No => high = Some(rate),
        }
        rate = match (low, high) {
            (Some(low), Some(high)) if high <= low * PRECISE => return Ok(Some(low)),
            (Some(low), Some(high)) => libm::sqrt(low * high),
            (Some(low), None) if low >= RATE_MAX => return Ok(Some(low)),
            (Some(low), None) => (low * step).min(RATE_MAX),
            (None, Some(high)) if high <= RATE_MIN => return Ok(None),
            (None, Some(high)) => (high / step).max(RATE_MIN),
            (None, None) => unreachable!("a trial sets one of them"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn found(limit: f64, start: f64, step: f64) -> (Option<f64>, usize) {
        let mut trials = 0;
        let trial = async |rate| {
            trials += 1;
            Ok::<_, ()>(if rate <= limit { Held::Yes } else { Held::No })
        };
        let found = highest(start, step, trial).await.unwrap();
        (found, trials)
    }

    #[tokio::test]
    async fn the_limit_is_found_from_below_and_from_above() {
        for limit in [1.0, 7.5, 999.0, 12_345.0, 400_000.0] {
            for start in [1.0, 200.0, 500_000.0] {
                for step in STEPS {
                    let (rate, _) = found(limit, start, step).await;
                    let rate = rate.unwrap();
                    assert!(
                        rate <= limit && limit < rate * PRECISE,
                        "{limit} from {start}: {rate}"
                    );
                }
            }
        }
    }

    #[tokio::test]
    async fn few_trials_are_needed() {
        assert!(found(4_000.0, 200.0, 2.0).await.1 <= 12);
        assert!(found(4_000.0, 3_900.0, 1.1).await.1 <= 4);
    }

    #[tokio::test]
    async fn there_may_be_no_such_rate_or_no_end_of_them() {
        assert_eq!(found(0.5, 200.0, 2.0).await.0, None);
        assert_eq!(found(1e9, 200.0, 2.0).await.0, Some(RATE_MAX));
    }

    #[tokio::test]
    async fn a_trial_that_ends_all_ends_the_search() {
        let mut trials = 0;
        let trial = async |_| {
            trials += 1;
            Ok::<_, ()>(if trials < 3 { Held::Yes } else { Held::Ends })
        };
        assert_eq!(highest(10.0, 2.0, trial).await, Ok(None));
        assert_eq!(trials, 3);
    }
}
