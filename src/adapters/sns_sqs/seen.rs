//! How old the messages are that this process has received and not finished.
//!
//! SQS tells the age of its oldest message to nobody but `CloudWatch`; but it gives about the oldest
//! first, and each message says when it was sent.

use std::{collections::BTreeMap, time::Duration};

use parking_lot::Mutex;

use crate::{ports::Receipt, rt::Instant};

/// Messages that are remembered; one that is received beyond is not. Far above what the workers of a
/// process hold, which is ten each.
const SEEN_MAX: usize = 10_000;

struct Held {
    sent_ms: u64,
    /// From here on it is anybody's.
    until: Instant,
}

/// The messages of one queue that this process has in flight.
#[derive(Default)]
pub(super) struct Seen(Mutex<BTreeMap<Receipt, Held>>);

impl Seen {
    pub(super) fn received(&self, receipt: &Receipt, sent_ms: u64, until: Instant) {
        let mut held = self.0.lock();
        if held.len() < SEEN_MAX {
            held.insert(receipt.clone(), Held { sent_ms, until });
        }
    }

    pub(super) fn finished(&self, receipt: &Receipt) {
        self.0.lock().remove(receipt);
    }

    pub(super) fn extended(&self, receipt: &Receipt, until: Instant) {
        if let Some(held) = self.0.lock().get_mut(receipt) {
            held.until = until;
        }
    }

    /// The age of the oldest, if there is any.
    pub(super) fn oldest(&self, now: Instant, wall_ms: u64) -> Option<Duration> {
        let mut held = self.0.lock();
        held.retain(|_, held| !held.until.since(now).is_zero());
        let sent_ms = held.values().map(|held| held.sent_ms).min()?;
        Some(Duration::from_millis(wall_ms.saturating_sub(sent_ms)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_start(Duration::from_secs(seconds))
    }

    #[test]
    fn the_oldest_is_told_until_it_is_finished_given_back_or_anybodys() {
        let seen = Seen::default();
        let receipt = |name: &str| Receipt(name.to_owned());
        let oldest = |now| seen.oldest(now, 10_000).map(|age| age.as_millis());
        assert_eq!(oldest(at(0)), None);
        for (name, sent_ms, until) in [("a", 1_000, 30), ("b", 2_000, 30), ("c", 3_000, 30)] {
            seen.received(&receipt(name), sent_ms, at(until));
        }
        assert_eq!(oldest(at(1)), Some(9_000));
        seen.finished(&receipt("a"));
        assert_eq!(oldest(at(1)), Some(8_000));
        seen.extended(&receipt("b"), at(1));
        assert_eq!(oldest(at(1)), Some(7_000));
        seen.extended(&receipt("c"), at(60));
        assert_eq!(oldest(at(59)), Some(7_000));
        assert_eq!(oldest(at(60)), None);
    }
}
