//! How numbers and windows stand in SQL, the same in `SQLite`, `PostgreSQL` and Cassandra.

use crate::domain::Window;

/// An id as a signed 64-bit key: every id has its own.
#[must_use]
pub const fn key(id: u64) -> i64 {
    id.cast_signed()
}

/// The id of a key.
#[must_use]
pub const fn from_key(key: i64) -> u64 {
    key.cast_unsigned()
}

/// A number that is only compared with others (times, limits, bounds of windows): what does not fit
/// is above everything.
#[must_use]
pub fn bound(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Bounds of a window on keys, both exclusive, and whether the nearest are at the lower end.
#[must_use]
pub(super) fn bounds(window: Window) -> (i64, i64, bool) {
    match window {
        // Ids fit 63 bits, and none is 0.
        Window::Latest => (-1, i64::MAX, false),
        Window::Before(id) => (-1, bound(id.0), false),
        Window::After(id) => (bound(id.0), i64::MAX, true),
    }
}
