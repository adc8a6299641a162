//! Candidate ids: 41 bits of milliseconds since 2025-01-01 UTC, 10 bits of node, 12 of sequence.
//!
//! They fit a signed 64-bit column. A candidate is only a proposal: the insert transaction takes
//! an id above the author's last, and a primary-key conflict means a new candidate, so neither a
//! clock that steps back nor two nodes with the same number can break uniqueness or order.

/// 2025-01-01T00:00:00Z in milliseconds since the Unix epoch.
pub const EPOCH_MS: u64 = 1_735_689_600_000;
const NODE_BITS: u32 = 10;
const SEQUENCE_BITS: u32 = 12;

/// Makes candidate ids for one node. Pure: the caller brings the time.
#[derive(Clone, Debug)]
pub struct Snowflake {
    node: u64,
    last: u64,
}

impl Snowflake {
    /// A generator for `node`, of which the lowest 10 bits count.
    #[must_use]
    pub const fn new(node: u16) -> Self {
        Self { node: (node as u64) & ((1 << NODE_BITS) - 1), last: 0 }
    }

    /// The next candidate at `wall_ms` (milliseconds since the Unix epoch). Increasing even if
    /// the clock steps back, or if more than 4,096 are asked for in a millisecond.
    pub fn next(&mut self, wall_ms: u64) -> u64 {
        let tick = wall_ms.saturating_sub(EPOCH_MS) << SEQUENCE_BITS;
        self.last = tick.max(self.last + 1);
        let ms = self.last >> SEQUENCE_BITS;
        let sequence = self.last & ((1 << SEQUENCE_BITS) - 1);
        (ms << (NODE_BITS + SEQUENCE_BITS)) | (self.node << SEQUENCE_BITS) | sequence
    }
}

/// The smallest id that can be made at `wall_ms`.
#[must_use]
pub const fn first_at(wall_ms: u64) -> u64 {
    wall_ms.saturating_sub(EPOCH_MS) << (NODE_BITS + SEQUENCE_BITS)
}

/// When `id` was made, in milliseconds since the Unix epoch.
#[must_use]
pub const fn made_at(id: u64) -> u64 {
    (id >> (NODE_BITS + SEQUENCE_BITS)) + EPOCH_MS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_increase_when_the_clock_steps_back_and_when_a_millisecond_is_used_up() {
        let mut ids = Snowflake::new(7);
        let mut last = 0;
        for step in 0..20_000_u64 {
            let wall = EPOCH_MS + 1_000_000 - (step / 5_000) * 500;
            let id = ids.next(wall);
            assert!(id > last, "{id} after {last}");
            last = id;
        }
    }

    #[test]
    fn an_id_tells_when_it_was_made() {
        let wall = EPOCH_MS + 12_345_678;
        let id = Snowflake::new(1023).next(wall);
        assert!(first_at(wall) <= id && id < first_at(wall + 1));
        assert_eq!(made_at(id), wall);
        assert!(i64::try_from(id).is_ok());
    }

    #[test]
    fn nodes_do_not_collide_at_the_same_instant() {
        let wall = EPOCH_MS + 5;
        assert_ne!(Snowflake::new(1).next(wall), Snowflake::new(2).next(wall));
    }
}
