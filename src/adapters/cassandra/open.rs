//! Why the store cannot be used.

use std::time::Duration;

use scylla::errors::NewSessionError;

use super::fault::brief;
use crate::{config, ports::StoreError};

/// Why the store cannot be used; one variant per thing that a person can do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Nobody answers, or not as Cassandra does.
    #[error("Cassandra at {addresses} cannot be reached: {why}")]
    Unreachable {
        /// The nodes that were tried.
        addresses: String,
        /// What came back.
        why: String,
    },
    /// There is nothing to log in with.
    #[error("nobody logs in to Cassandra at {addresses}: {why}")]
    Login {
        /// The nodes that would be tried.
        addresses: String,
        /// What is wrong with it.
        why: String,
    },
    /// The certificates to trust cannot be had.
    #[error("connections to Cassandra cannot be encrypted: {why}")]
    Tls {
        /// Which file, and what is wrong with it.
        why: String,
    },
    /// The tables are older than this program.
    #[error("the keyspace `{keyspace}` lacks {}: run `chirp migrate`", list(.missing))]
    Behind {
        /// The keyspace.
        keyspace: String,
        /// The steps that are missing, each as number and name.
        missing: Vec<String>,
    },
    /// The tables are of a release beside which this one cannot work, or of none.
    #[error("the tables of the keyspace `{keyspace}` are another program's: {why}")]
    Foreign {
        /// The keyspace.
        keyspace: String,
        /// Which step, and what is wrong with it.
        why: String,
    },
    /// The tables are not what this program's steps make, or cannot be made so.
    #[error("the tables of the keyspace `{keyspace}` cannot be used: {why}")]
    Schema {
        /// The keyspace.
        keyspace: String,
        /// Which step or statement, and what is wrong with it.
        why: String,
    },
}

fn list(missing: &[String]) -> String {
    missing.join(", ")
}

impl OpenError {
    pub(super) fn unreachable(config: &config::Cassandra, error: &NewSessionError) -> Self {
        let text = error.to_string();
        // The reason comes last, after what was tried.
        if text.contains("Authentication is required") {
            let why = "it wants a user and a password: `cassandra.username`".to_owned();
            return Self::Login { addresses: config.addresses.clone(), why };
        }
        let why = brief(&text.rsplit("failed with: ").next().unwrap_or_default());
        Self::Unreachable { addresses: config.addresses.clone(), why }
    }

    pub(super) fn login(config: &config::Cassandra, error: StoreError) -> Self {
        Self::Login { addresses: config.addresses.clone(), why: error.message }
    }

    pub(super) fn silent(config: &config::Cassandra, after: Duration) -> Self {
        let why = format!("no answer within {} ms", after.as_millis());
        Self::Unreachable { addresses: config.addresses.clone(), why }
    }

    pub(super) fn foreign(config: &config::Cassandra, why: String) -> Self {
        Self::Foreign { keyspace: config.keyspace.clone(), why }
    }

    pub(super) fn schema(config: &config::Cassandra, why: impl Into<String>) -> Self {
        Self::Schema { keyspace: config.keyspace.clone(), why: why.into() }
    }
}
