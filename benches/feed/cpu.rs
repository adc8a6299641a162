//! Processor time of processes, as the kernel counts it.

use std::{collections::BTreeMap, fs};

/// Ticks per second in `/proc/<pid>/stat` (`USER_HZ`), the same on every Linux.
const TICKS: f64 = 100.0;

/// What `/proc/<pid>/stat` says behind the name, which may hold blanks; `None` if it has ended.
fn stat(pid: &str) -> Option<Vec<f64>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields = text.rsplit(')').next()?.split_whitespace();
    // The first is a letter.
    Some(fields.map(|field| field.parse().unwrap_or(0.0)).collect())
}

/// Processor seconds of the process `pid` (or `self`): user and system time are the 12th and 13th
/// field.
pub(crate) fn cpu_s(pid: &str) -> f64 {
    let fields = stat(pid).expect("it runs");
    (fields[11] + fields[12]) / TICKS
}

/// Processor seconds of the process `root` and all below it, with those that have ended: their time
/// went to whoever waited for them, in the two fields behind.
pub(crate) fn tree_cpu_s(root: u32) -> f64 {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    let mut used = BTreeMap::new();
    for entry in fs::read_dir("/proc").unwrap().map(Result::unwrap) {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        let Some(fields) = stat(&format!("{pid}")) else { continue };
        children.entry(fields[1] as u32).or_default().push(pid);
        used.insert(pid, fields[11..15].iter().sum::<f64>() / TICKS);
    }
    let (mut tree, mut sum) = (vec![root], 0.0);
    while let Some(pid) = tree.pop() {
        sum += used.get(&pid).copied().unwrap_or(0.0);
        tree.extend(children.remove(&pid).unwrap_or_default());
    }
    sum
}
