//! How well users are served while things are broken. Promises can be kept by answering nothing, or
//! "later" to everything: so a share of the answers has to be whole.

use super::violation::{Invariant, Violation};

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// A page. It is whole unless it says that it is degraded.
    Read,
    /// A post, a delete or a change of an edge. It is whole unless it says "not yet" (202, or a post
    /// that says it is degraded).
    Write,
}

/// The least share of whole answers to reads. Of 200 clean seeds the worst has 27 %, the median 92 %.
pub const READS_MIN: f64 = 0.05;
/// The least share of whole answers to writes. Of 200 clean seeds the worst has 29 %, the median 90 %.
pub const WRITES_MIN: f64 = 0.05;
/// Fewer answers of a kind than this are not judged: one outage may be all that they saw.
pub const JUDGED_FROM: u32 = 100;

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    whole: u32,
    all: u32,
}

/// Answers of one run while things were broken. What was refused as the client's own mistake is
/// left out.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    reads: Count,
    writes: Count,
}

impl Tally {
    /// A request ended; `whole`: with everything that it asked for.
    pub fn add(&mut self, op: Op, whole: bool) {
        let count = match op {
            Op::Read => &mut self.reads,
            Op::Write => &mut self.writes,
        };
        count.all += 1;
        count.whole += u32::from(whole);
    }

    /// Judges the shares so far.
    ///
    /// # Errors
    /// The share that is too small.
    pub fn check(&self, at_ms: u64) -> Result<(), Violation> {
        let kinds = [
            (Invariant::ReadsAnswered, "reads", self.reads, READS_MIN),
            (Invariant::WritesAnswered, "writes", self.writes, WRITES_MIN),
        ];
        for (invariant, name, Count { whole, all }, least) in kinds {
            if all >= JUDGED_FROM && f64::from(whole) < least * f64::from(all) {
                let detail = format!(
                    "{whole} of {all} {name} were answered in whole, at least {:.0} % have to be",
                    least * 100.0
                );
                return Err(Violation::new(invariant, at_ms, detail));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(op: Op, whole: u32, all: u32) -> Option<&'static str> {
        let mut tally = Tally::default();
        for at in 0..all {
            tally.add(op, at < whole);
        }
        tally.check(0).err().map(|violation| violation.invariant)
    }

    #[test]
    fn a_share_under_its_floor_is_named_and_few_answers_are_no_share() {
        assert_eq!(judged(Op::Read, 100, 100), None);
        assert_eq!(judged(Op::Read, 0, 100), Some("A1.reads_answered"));
        assert_eq!(judged(Op::Write, 100, 100), None);
        assert_eq!(judged(Op::Write, 0, 100), Some("A2.writes_answered"));
        assert_eq!(judged(Op::Write, 0, JUDGED_FROM - 1), None);
    }
}
