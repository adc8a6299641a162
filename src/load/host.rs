//! What the driver's own machine says: its processor time, what its host stole, its memory. From `/proc`;
//! where there is none, nothing is said.

use std::fs::read_to_string;

/// Ticks of `/proc` in a second, the same on every Linux that Rust runs on.
const TICKS_PER_S: f64 = 100.0;
/// Bytes of a page of `/proc/self/statm`: of the architectures that chirp is built for.
const PAGE_BYTES: u64 = 4_096;

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

/// Processor time of this process, in seconds.
#[must_use]
pub fn cpu_s() -> f64 {
    let text = read_to_string("/proc/self/stat").unwrap_or_default();
    // The name of the process may have blanks; it ends with the last bracket.
    let rest = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|n| n.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / TICKS_PER_S
}

/// Memory of this process, in bytes.
#[must_use]
pub fn resident_bytes() -> u64 {
    let text = read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok());
    pages.unwrap_or(0) * PAGE_BYTES
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
        assert!(resident_bytes() > 1_000_000);
        let (before, cpu) = (Ticks::now(), cpu_s());
        let mut sum = 0_u64;
        while cpu_s() - cpu < 0.05 {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!((0.0..=1.0).contains(&Ticks::now().steal_since(before)));
    }
}
