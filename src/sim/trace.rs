//! Everything that happens in a simulated run: always as a running 128-bit hash, on request as text.

use std::{collections::VecDeque, fmt, sync::Arc};

use parking_lot::Mutex;

use super::world::NodeId;

/// Lines that are kept at most; older ones make room. About 200 MB.
pub const LINES_MAX: usize = 1_000_000;

/// The record of a run; clones write into the same record.
#[derive(Clone)]
pub struct Trace(Arc<Mutex<Record>>);

struct Record {
    lanes: [u64; 2],
    count: u64,
    scratch: String,
    lines: Option<VecDeque<String>>,
}

impl Trace {
    /// An empty record; `keep_text` keeps the last [`LINES_MAX`] events as text too.
    #[must_use]
    pub fn new(keep_text: bool) -> Self {
        Self(Arc::new(Mutex::new(Record {
            lanes: [0x243F_6A88_85A3_08D3, 0x1319_8A2E_0370_7344],
            count: 0,
            scratch: String::new(),
            lines: keep_text.then(VecDeque::new),
        })))
    }

    /// Records that at `at_ms` of virtual time `what` happened at `node`. The detail is part of the
    /// hash: it must follow from the seed alone.
    pub fn event(&self, at_ms: u64, node: NodeId, what: &str, detail: impl fmt::Display) {
        use fmt::Write as _;
        let record = &mut *self.0.lock();
        record.scratch.clear();
        write!(record.scratch, "{at_ms:>8} {node} {what} {detail}")
            .expect("writing into a string does not fail");
        absorb(&mut record.lanes, record.scratch.as_bytes());
        record.count += 1;
        if let Some(lines) = &mut record.lines {
            if lines.len() == LINES_MAX {
                lines.pop_front();
            }
            lines.push_back(record.scratch.clone());
        }
    }

    /// The hash of all events so far, in their order.
    #[must_use]
    pub fn hash(&self) -> u128 {
        let record = self.0.lock();
        let mut lanes = record.lanes;
        absorb(&mut lanes, &record.count.to_le_bytes());
        (u128::from(lanes[0]) << 64) | u128::from(lanes[1])
    }

    /// How many events there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.lock().count
    }

    /// The events as text, oldest first; empty if no text is kept.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.0.lock().lines.iter().flatten().cloned().collect()
    }
}

/// Eight bytes at a time, as this runs for every call of every port. Guards against differences,
/// not against attackers.
fn absorb(lanes: &mut [u64; 2], bytes: &[u8]) {
    let [mut a, mut b] = *lanes;
    let mut word = |word: u64| {
        a = (a ^ word).wrapping_mul(0x9FB2_1C65_1E98_DF25).rotate_left(29);
        b = (b.rotate_left(17) ^ word).wrapping_mul(0xD6E8_FEB8_6659_FD93) ^ (a >> 32);
    };
    for chunk in bytes.chunks(8) {
        let mut padded = [0; 8];
        padded[..chunk.len()].copy_from_slice(chunk);
        word(u64::from_le_bytes(padded));
    }
    word(bytes.len() as u64);
    *lanes = [a, b];
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(events: &[(u64, &str)]) -> u128 {
        let trace = Trace::new(false);
        for (at, detail) in events {
            trace.event(*at, NodeId(1), "x", detail);
        }
        trace.hash()
    }

    #[test]
    fn the_hash_tells_order_time_and_detail_apart() {
        let base = hash(&[(1, "a"), (2, "b")]);
        assert_eq!(base, hash(&[(1, "a"), (2, "b")]));
        for other in
            [&[(2, "b"), (1, "a")][..], &[(1, "a"), (3, "b")], &[(1, "a")], &[(1, "a"), (2, "c")]]
        {
            assert_ne!(base, hash(other), "{other:?}");
        }
    }

    #[test]
    fn text_is_kept_on_request_and_does_not_change_the_hash() {
        let (with, without) = (Trace::new(true), Trace::new(false));
        for trace in [&with, &without] {
            trace.event(5, NodeId(2), "bus.publish", format_args!("{:?}", [1, 2]));
        }
        assert_eq!(with.hash(), without.hash());
        assert_eq!(with.lines(), ["       5 n2 bus.publish [1, 2]"]);
        assert!(without.lines().is_empty() && without.count() == 1);
    }
}
