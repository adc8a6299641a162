//! What can go wrong inside a job, and which kind of trouble that is to a caller.

use rusqlite::{ErrorCode, ffi};

use crate::ports::{Kind, StoreError};

/// Why a job failed. Its texts name statements, tables and columns, never values.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// `SQLite` refused.
    #[error("{0}")]
    Sql(#[from] rusqlite::Error),
    /// A stored value is not what it must be.
    #[error("{0}")]
    Corrupt(&'static str),
    /// The caller asked for what its port does not allow.
    #[error("{0}")]
    Refused(&'static str),
    /// The job panicked.
    #[error("the job panicked")]
    Panicked,
}

impl Fault {
    /// The error that callers of `store` see.
    #[must_use]
    pub fn to_error(&self, store: &'static str) -> StoreError {
        let kind = match self {
            Self::Sql(error) => kind_of(error),
            Self::Corrupt(_) => Kind::Corrupt,
            Self::Refused(_) | Self::Panicked => Kind::Unavailable,
        };
        StoreError::new(kind, store, self.to_string())
    }
}

/// The `SQLite` error code, if the error comes from there.
pub(super) fn code_of(error: &rusqlite::Error) -> Option<ErrorCode> {
    match error {
        rusqlite::Error::SqliteFailure(ffi::Error { code, .. }, _) => Some(*code),
        _ => None,
    }
}

/// The kind of trouble that an error of `SQLite` is.
pub(super) fn kind_of(error: &rusqlite::Error) -> Kind {
    match code_of(error) {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Kind::Timeout,
        Some(ErrorCode::DiskFull | ErrorCode::OutOfMemory) => Kind::Full,
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Kind::Corrupt,
        _ => match error {
            // A value of another type than the schema says.
            rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::IntegralValueOutOfRange(..) => Kind::Corrupt,
            _ => Kind::Unavailable,
        },
    }
}
