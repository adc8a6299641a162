//! What can go wrong inside a call, what that says of a write, and which kind of trouble it is.

use sqlx_core::error::Error;
use sqlx_postgres::{PgDatabaseError, PgSeverity};

use crate::ports::{Kind, StoreError};

/// Why a call failed. Its texts name tables and constraints, never values.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// The server refused, or could not be reached.
    #[error("{}", told(.0))]
    Sql(#[from] Error),
    /// A stored value is not what it must be.
    #[error("{0}")]
    Corrupt(&'static str),
    /// The caller asked for what its port does not allow; nothing was written.
    #[error("{0}")]
    Refused(&'static str),
    /// There is nothing to log in with.
    #[error("{}", .0.message)]
    Login(StoreError),
    /// The call took longer than it may.
    #[error("no answer within {0} ms")]
    Late(u128),
}

/// The error of the server, if it is one.
fn refusal(error: &Error) -> Option<&PgDatabaseError> {
    let Error::Database(error) = error else { return None };
    error.try_downcast_ref::<PgDatabaseError>()
}

/// The server's error with its code, and without the detail, which holds values.
pub(super) fn told(error: &Error) -> String {
    let text = || match error {
        // The library's text has the character.
        Error::Configuration(why) if why.to_string().contains("saslprep") => {
            "the password has a character that cannot be sent".to_owned()
        }
        error => error.to_string(),
    };
    refusal(error)
        .map_or_else(text, |refused| format!("{} ({})", refused.message(), refused.code()))
}

impl Fault {
    /// Whether it is certain that the statement, alone or as `commit`, did nothing. The server said
    /// so; not so if it ended the session (`fatal`), which it may also do after a commit.
    pub(super) fn nothing_happened(&self) -> bool {
        match self {
            Self::Sql(error) => refusal(error).is_some_and(|e| e.severity() == PgSeverity::Error),
            Self::Refused(_) | Self::Login(_) => true,
            Self::Corrupt(_) | Self::Late(_) => false,
        }
    }

    /// Whether the server does not know who logs in, or does not believe it.
    pub(super) fn is_login(&self) -> bool {
        let Self::Sql(error) = self else { return false };
        refusal(error).is_some_and(|refused| matches!(refused.code(), "28000" | "28P01"))
    }

    /// Whether the connection is as good as before.
    pub(super) fn connection_is_whole(&self) -> bool {
        // A value that cannot be read was received all the same.
        self.nothing_happened() || matches!(self, Self::Corrupt(_)) || self.is_decoding()
    }

    fn is_decoding(&self) -> bool {
        matches!(
            self,
            Self::Sql(
                Error::ColumnDecode { .. }
                    | Error::Decode(_)
                    | Error::ColumnNotFound(_)
                    | Error::ColumnIndexOutOfBounds { .. }
                    | Error::RowNotFound
            )
        )
    }

    /// Whether the same call, if it did nothing, may well succeed when it is made again at once: it
    /// met another transaction, or a connection that had died.
    pub(super) fn passes(&self) -> bool {
        let Self::Sql(error) = self else { return false };
        match refusal(error) {
            // Serialization failure, deadlock; an administrator ended the session.
            Some(refused) => matches!(refused.code(), "40001" | "40P01" | "57P01"),
            None => matches!(error, Error::Io(_)),
        }
    }

    /// The error that callers of `store` see.
    pub(super) fn to_error(&self, store: &'static str) -> StoreError {
        let kind = match self {
            Self::Sql(error) => kind_of(error),
            Self::Corrupt(_) => Kind::Corrupt,
            Self::Refused(_) => Kind::Unavailable,
            Self::Login(error) => error.kind,
            Self::Late(_) => Kind::Timeout,
        };
        StoreError::new(kind, store, self.to_string())
    }
}

fn kind_of(error: &Error) -> Kind {
    let code = refusal(error).map(PgDatabaseError::code);
    match (code, error) {
        // A cancelled statement, a lock that was not to be had.
        (Some("57014" | "55P03"), _) | (_, Error::PoolTimedOut) => Kind::Timeout,
        // Out of disk, memory or connections.
        (Some(code), _) if code.starts_with("53") => Kind::Full,
        // Damaged pages; tables or columns that are not there.
        (Some("XX001" | "XX002" | "42P01" | "42703"), _)
        | (_, Error::ColumnDecode { .. } | Error::Decode(_)) => Kind::Corrupt,
        _ => Kind::Unavailable,
    }
}
