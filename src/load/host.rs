//! What the driver's own machine says: what its host stole, how busy it is. From `/proc`; where there is
//! none, nothing is said.

use std::fs::read_to_string;

/// Processor time of all processors since the machine began, in ticks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ticks {
    stolen: u64,
    all: u64,
}

impl Ticks {
    /// Now.
    #[must_use]
    pub fn now() -> Self {
        let text = read_to_string("/proc/stat").unwrap_or_default();
        let first = text.lines().next().unwrap_or_default();
        // user nice system idle iowait irq softirq steal; what follows is part of user and nice.
        let ticks: Vec<u64> =
            first.split_whitespace().skip(1).take(8).filter_map(|n| n.parse().ok()).collect();
        Self { stolen: ticks.get(7).copied().unwrap_or(0), all: ticks.iter().sum() }
    }

    /// Share of the time since `earlier` that the host took for others, 0 to 1.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a share")]
    pub fn steal_since(self, earlier: Self) -> f64 {
        let all = self.all.saturating_sub(earlier.all).max(1);
        self.stolen.saturating_sub(earlier.stolen) as f64 / all as f64
    }
}

/// Load average over a minute.
#[must_use]
pub fn load() -> f64 {
    let text = read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn the_machine_says_something() {
        let before = Ticks::now();
        assert!(before.all > 0);
        assert!((0.0..=1.0).contains(&Ticks::now().steal_since(before)));
    }
}
