//! What can go wrong with a statement, and what that says of a write.

use scylla::errors::{DbError, ExecutionError, RequestAttemptError};

use crate::ports::{Kind, Outcome, StoreError};

/// Characters of a text of the driver or a server that an error keeps.
const TEXT_MAX: usize = 200;

/// Why a statement gave no answer that could be used.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    kind: Kind,
    text: String,
    /// As a write it may have happened, or may still.
    pub(super) maybe: bool,
    /// The same statement may well succeed when it is sent again at once.
    pub(super) passes: bool,
}

impl Fault {
    /// The server gave an answer that is not what this program wrote.
    pub(super) fn corrupt(text: impl Into<String>) -> Self {
        Self { kind: Kind::Corrupt, text: text.into(), maybe: false, passes: false }
    }

    /// The caller asked for what its port does not allow.
    pub(super) fn refused(text: &str) -> Self {
        Self { kind: Kind::Unavailable, text: text.to_owned(), maybe: false, passes: false }
    }

    /// There was no answer in time.
    pub(super) fn late(ms: u128) -> Self {
        let text = format!("no answer within {ms} ms");
        Self { kind: Kind::Timeout, text, maybe: true, passes: false }
    }

    /// The same, of a write before which another of the same call is done.
    pub(super) fn after_another(self) -> Self {
        Self { maybe: true, ..self }
    }

    /// What the driver says.
    pub(super) fn of(error: &ExecutionError) -> Self {
        let (kind, maybe, passes) = match error {
            // Nothing was sent.
            ExecutionError::BadQuery(_)
            | ExecutionError::EmptyPlan
            | ExecutionError::PrepareError(_)
            | ExecutionError::ConnectionPoolError(_) => (Kind::Unavailable, false, false),
            ExecutionError::LastAttemptError(error) => of_attempt(error),
            ExecutionError::RequestTimeout(_) => (Kind::Timeout, true, false),
            _ => (Kind::Unavailable, true, false),
        };
        Self { kind, text: brief(error), maybe, passes }
    }

    /// The error that callers of `store` see.
    pub(super) fn into_error(self, store: &'static str) -> StoreError {
        StoreError::new(self.kind, store, self.text)
    }
}

/// The first words of an error.
pub(super) fn brief(error: &impl std::fmt::Display) -> String {
    error.to_string().chars().take(TEXT_MAX).collect()
}

fn of_attempt(error: &RequestAttemptError) -> (Kind, bool, bool) {
    match error {
        RequestAttemptError::SerializationError(_)
        | RequestAttemptError::CqlRequestSerialization(_)
        | RequestAttemptError::RepreparedIdChanged { .. } => (Kind::Corrupt, false, false),
        RequestAttemptError::UnableToAllocStreamId => (Kind::Unavailable, false, true),
        RequestAttemptError::BrokenConnectionError(_) => (Kind::Unavailable, true, true),
        RequestAttemptError::DbError(error, _) => of_server(error),
        _ => (Kind::Corrupt, true, false),
    }
}

fn of_server(error: &DbError) -> (Kind, bool, bool) {
    match error {
        // The coordinator has asked no replica.
        DbError::Unavailable { .. } | DbError::Overloaded | DbError::IsBootstrapping => {
            (Kind::Unavailable, false, true)
        }
        // It has asked them, and too few have answered.
        DbError::ReadTimeout { .. } | DbError::WriteTimeout { .. } => (Kind::Timeout, true, true),
        DbError::ReadFailure { .. } | DbError::WriteFailure { .. } => {
            (Kind::Unavailable, true, true)
        }
        // Tables or columns that are not there.
        DbError::SyntaxError | DbError::Invalid => (Kind::Corrupt, false, false),
        DbError::AuthenticationError | DbError::Unauthorized | DbError::ConfigError => {
            (Kind::Unavailable, false, false)
        }
        _ => (Kind::Unavailable, true, false),
    }
}

/// How the writes of one call have gone so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    any_done: bool,
    fault: Option<Fault>,
}

impl Tally {
    /// Whether every write so far is done.
    pub(super) const fn is_whole(&self) -> bool {
        self.fault.is_none()
    }

    /// Counts one write. Of several faults one that may have happened is kept.
    pub(super) fn add(&mut self, written: Result<(), Fault>) {
        match written {
            Ok(()) => self.any_done = true,
            Err(fault) if fault.maybe || self.fault.is_none() => self.fault = Some(fault),
            Err(_) => {}
        }
    }

    /// The outcome of all: what happened in part is unknown.
    pub(super) fn outcome(self, store: &'static str) -> Outcome<()> {
        match self.fault {
            None => Outcome::Done(()),
            Some(fault) if fault.maybe || self.any_done => {
                Outcome::Unknown(fault.into_error(store))
            }
            Some(fault) => Outcome::Failed(fault.into_error(store)),
        }
    }
}

#[cfg(test)]
mod tests {
    use scylla::{
        errors::{ConnectionPoolError, WriteType},
        statement::Consistency,
    };

    use super::*;

    fn server(error: DbError) -> Fault {
        Fault::of(&RequestAttemptError::DbError(error, "as it says".to_owned()).into())
    }

    fn too_few_wrote() -> DbError {
        let consistency = Consistency::LocalQuorum;
        DbError::WriteTimeout {
            consistency,
            received: 1,
            required: 2,
            write_type: WriteType::Simple,
        }
    }

    #[test]
    fn a_write_that_reached_no_replica_has_failed_and_any_other_may_have_happened() {
        let unsent = ExecutionError::ConnectionPoolError(ConnectionPoolError::Initializing);
        assert!(!Fault::of(&unsent).maybe);
        let consistency = Consistency::LocalQuorum;
        assert!(!server(DbError::Unavailable { consistency, required: 2, alive: 1 }).maybe);
        assert!(!server(DbError::Invalid).maybe);
        assert!(server(too_few_wrote()).maybe);
        assert!(server(DbError::ServerError).maybe);
        assert!(Fault::late(5).maybe);
        assert!(server(DbError::Overloaded).after_another().maybe);
    }

    #[test]
    fn what_happened_in_part_is_unknown() {
        let outcome = |written: Vec<Result<(), Fault>>| {
            let mut tally = Tally::default();
            for one in written {
                tally.add(one);
            }
            tally.outcome("s")
        };
        let failed = || Err(server(DbError::Overloaded));
        let maybe = || Err(server(too_few_wrote()));
        assert!(outcome(vec![Ok(()), Ok(())]).is_done());
        assert!(matches!(outcome(vec![failed(), failed()]), Outcome::Failed(_)));
        assert!(matches!(outcome(vec![failed(), Ok(())]), Outcome::Unknown(_)));
        let Outcome::Unknown(error) = outcome(vec![failed(), maybe(), failed()]) else {
            panic!("one of them may have happened")
        };
        assert_eq!(error.kind, Kind::Timeout);
    }
}
