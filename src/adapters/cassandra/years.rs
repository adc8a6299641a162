//! The calendar year in which an id was made. An author's tweets of one year are one partition.

use crate::domain::{TweetId, snowflake::first_at};

/// The year in which ids begin.
pub(super) const FIRST: i16 = 2025;
/// The year of [`TweetId::MAX`].
pub(super) const LAST: i16 = 2094;

const EPOCH_MS: u64 = crate::domain::snowflake::EPOCH_MS;
const DAY_MS: u64 = 86_400_000;

/// The year, in UTC, of the time that `id` carries.
pub(super) fn year_of(id: TweetId) -> i16 {
    // The last year whose first possible id is not above it.
    (FIRST..=LAST).rev().find(|&year| begin_of(year) <= id.0).unwrap_or(FIRST)
}

/// The smallest id of `year`.
fn begin_of(year: i16) -> u64 {
    let days: u64 = (FIRST..year).map(|year| if is_leap(year) { 366 } else { 365 }).sum();
    first_at(EPOCH_MS + days * DAY_MS)
}

const fn is_leap(year: i16) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn years_begin_at_new_year_in_utc() {
        // 2028-01-01T00:00:00Z and 2029-01-01T00:00:00Z, a leap year between them.
        for (wall_ms, year) in [(1_830_297_600_000, 2028), (1_861_920_000_000, 2029)] {
            let first = first_at(wall_ms);
            assert_eq!(year_of(TweetId(first)), year);
            assert_eq!(year_of(TweetId(first - 1)), year - 1);
        }
    }

    #[test]
    fn every_id_has_its_year() {
        assert_eq!(year_of(TweetId(0)), FIRST);
        assert_eq!(year_of(TweetId(1)), FIRST);
        assert_eq!(year_of(TweetId::MAX), LAST);
    }
}
