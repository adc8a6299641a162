//! How the stores speak SQL: cached statements, numbers as `SQLite` and `PostgreSQL` hold them.

use rusqlite::{Connection, Params, Row};

use super::Fault;

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

/// Runs statements that are prepared once per connection.
pub trait Statements {
    /// Runs a statement that gives no rows; the number of rows it changed.
    fn run(&self, sql: &str, params: impl Params) -> Result<usize, Fault>;

    /// The first row, if there is one.
    fn one<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnOnce(&Row<'_>) -> Result<T, Fault>,
    ) -> Result<Option<T>, Fault>;

    /// All rows.
    fn all<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnMut(&Row<'_>) -> Result<T, Fault>,
    ) -> Result<Vec<T>, Fault>;
}

impl Statements for Connection {
    fn run(&self, sql: &str, params: impl Params) -> Result<usize, Fault> {
        Ok(self.prepare_cached(sql)?.execute(params)?)
    }

    fn one<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnOnce(&Row<'_>) -> Result<T, Fault>,
    ) -> Result<Option<T>, Fault> {
        let mut statement = self.prepare_cached(sql)?;
        let mut rows = statement.query(params)?;
        rows.next()?.map(read).transpose()
    }

    fn all<T>(
        &self,
        sql: &str,
        params: impl Params,
        mut read: impl FnMut(&Row<'_>) -> Result<T, Fault>,
    ) -> Result<Vec<T>, Fault> {
        let mut statement = self.prepare_cached(sql)?;
        let mut rows = statement.query(params)?;
        let mut values = Vec::new();
        while let Some(row) = rows.next()? {
            values.push(read(row)?);
        }
        Ok(values)
    }
}
