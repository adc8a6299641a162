//! What a run has to show: where the kills fell, and what came of it.

use std::{collections::BTreeMap, time::Duration};

use chirp::rt::points;

/// The places that kills are aimed at, each of which must get a tenth of them at least.
pub const PLACES: [&str; 5] =
    [points::COMMIT, points::RELAY, points::WORKER, points::ACK, points::RECOVERY];

/// Figures of a run.
#[derive(Debug, Default)]
pub struct Figures {
    /// Where kills fell.
    pub fell: BTreeMap<String, usize>,
    /// Kills while a fan-out to the star's followers was in flight.
    pub in_flight: usize,
    /// Kills under load, the others fell into a start.
    pub under_load: usize,
    /// From spawn to ready.
    pub starts: Vec<Duration>,
    /// From ready to drained.
    pub drains: Vec<Duration>,
    /// Pages read by audits, and tweets that were expected and found on them.
    pub pages: usize,
    pub tweets: usize,
    /// Reads that were right only the second time, as additions may lag by the near-cache time.
    pub reread: usize,
}

impl Figures {
    pub fn kills(&self) -> usize {
        self.fell.values().sum()
    }

    /// Of the places that kills under load are aimed at: the one that has the fewest.
    pub fn gap(&self) -> &'static str {
        let under_load = PLACES.iter().filter(|place| **place != points::RECOVERY);
        let of = |place: &&&str| self.fell.get(**place).copied().unwrap_or_default();
        under_load.min_by_key(of).copied().unwrap_or(points::COMMIT)
    }

    /// Whether the starts have had less than their share.
    pub fn wants_recovery(&self) -> bool {
        let recovery = self.fell.get(points::RECOVERY).copied().unwrap_or_default();
        recovery * PLACES.len() < self.kills()
    }

    /// Lines of the histogram.
    pub fn histogram(&self) -> String {
        let kills = self.kills().max(1);
        let mut lines = String::new();
        let others = self.fell.keys().map(String::as_str).filter(|place| !PLACES.contains(place));
        for place in PLACES.into_iter().chain(others) {
            let count = self.fell.get(place).copied().unwrap_or_default();
            let bar = "#".repeat(count * 50 / kills);
            let tenths = count * 1_000 / kills;
            let (whole, tenth) = (tenths / 10, tenths % 10);
            let line = format!("  {place:<10}{count:>6}  {whole:>3}.{tenth} %  {bar}\n");
            lines.push_str(&line);
        }
        lines
    }
}

/// The value below which `percent` of a hundred lie, in milliseconds.
pub fn percentile(values: &[Duration], percent: usize) -> u128 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(at).copied().unwrap_or_default().as_millis()
}
