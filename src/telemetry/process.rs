//! What the system says of this process: its processor time and its memory. From `/proc`; where there is
//! none, nothing is said.

use std::{fmt, fs::read_to_string};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};

/// Ticks of `/proc` in a second, the same on every Linux that Rust runs on.
const TICKS_PER_S: f64 = 100.0;
/// Bytes of a page of `/proc/self/statm`: of the architectures that chirp is built for.
const PAGE_BYTES: u64 = 4_096;

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

/// Asks the system whenever metrics are read.
#[derive(Debug)]
pub(super) struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let cpu = ConstCounter::new(cpu_s());
        let (about, unit) = ("Processor time of the process", Some(&Unit::Seconds));
        cpu.encode(encoder.encode_descriptor("process_cpu", about, unit, cpu.metric_type())?)?;
        let memory = ConstGauge::new(i64::try_from(resident_bytes()).unwrap_or(i64::MAX));
        let (about, unit) = ("Memory of the process", Some(&Unit::Bytes));
        let name = "process_resident_memory";
        memory.encode(encoder.encode_descriptor(name, about, unit, memory.metric_type())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn the_process_has_a_memory_and_uses_its_time() {
        assert!(resident_bytes() > 1_000_000);
        let before = cpu_s();
        let mut sum = 0_u64;
        while cpu_s() - before < 0.05 {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
    }
}
