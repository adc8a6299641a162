//! What a role opens: its database, as ports.

use std::{sync::Arc, time::Duration};

use sqlx_core::{error::Error, migrate::MigrateError};

use super::{
    super::endpoint::Endpoint,
    Pg,
    fault::told,
    graph::PgGraph,
    keys::PgKeys,
    media::PgMedia,
    migrate::{self, Steps, TWEET, USER},
    outbox::PgOutbox,
    tweets::PgTweets,
    users::PgUsers,
};
use crate::{
    config,
    ports::{GraphStore, KeyStore, MediaStore, Outbox, StoreError, TweetStore, UserStore},
    rt::Rt,
};

const USER_OUTBOX: &str = "user_outbox";
const TWEET_OUTBOX: &str = "tweet_outbox";

/// Why a database cannot be used; one variant per thing that a person can do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Nobody answers, or not as `PostgreSQL` does.
    #[error("PostgreSQL at {address} cannot be reached: {why}")]
    Unreachable {
        /// Host and port.
        address: String,
        /// What came back.
        why: String,
    },
    /// There is nothing to log in with.
    #[error("nobody logs in to PostgreSQL at {address}: {why}")]
    Login {
        /// Host and port.
        address: String,
        /// What is wrong with it.
        why: String,
    },
    /// The server does not let this user into this database, or has no such database.
    #[error("PostgreSQL refuses the database `{database}`: {why}")]
    Refused {
        /// The database.
        database: String,
        /// What the server says.
        why: String,
    },
    /// The schema is not what this program's steps make.
    #[error("the schema of the database `{database}` cannot be brought up to date: {why}")]
    Schema {
        /// The database.
        database: String,
        /// Which step, and what is wrong with it.
        why: String,
    },
    /// The schema is older than this program.
    #[error("the schema of the database `{database}` is behind, it lacks: {}", missing.join(", "))]
    Behind {
        /// The database.
        database: String,
        /// The steps it lacks, by number and name.
        missing: Vec<String>,
    },
}

impl OpenError {
    /// Whether a later attempt may go better without anybody changing the schema or the program: the
    /// server may not be there yet, or be so young that it has no users and databases.
    #[must_use]
    pub const fn passes(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Login { .. } | Self::Refused { .. })
    }

    pub(super) fn of(config: &config::Postgres, database: &str, error: &Error) -> Self {
        if let Error::Database(refusal) = error {
            // Without the line of the server's source that `error` adds.
            let why = refusal.message().to_owned();
            return Self::Refused { database: database.to_owned(), why };
        }
        Self::Unreachable { address: address(config), why: told(error) }
    }

    pub(super) fn login(config: &config::Postgres, error: StoreError) -> Self {
        Self::Login { address: address(config), why: error.message }
    }

    pub(super) fn schema(database: &str, error: &MigrateError) -> Self {
        Self::Schema { database: database.to_owned(), why: error.to_string() }
    }

    /// A server that is silent, or a step that takes its time and may be done by the next attempt.
    pub(super) fn late(config: &config::Postgres, after: Duration) -> Self {
        let why = format!("no answer within {} s", after.as_secs());
        Self::Unreachable { address: address(config), why }
    }
}

fn address(config: &config::Postgres) -> String {
    format!("{}:{}", config.host, config.port)
}

/// The user role's stores.
#[derive(Clone)]
pub struct UserStores {
    /// Accounts and sessions.
    pub users: Arc<dyn UserStore>,
    /// The follow graph.
    pub graph: Arc<dyn GraphStore>,
    /// Events of the graph.
    pub outbox: Arc<dyn Outbox>,
    /// Signing keys.
    pub keys: Arc<dyn KeyStore>,
    /// The pool under all of them.
    pub db: Pg,
}

/// The tweet role's stores.
#[derive(Clone)]
pub struct TweetStores {
    /// Tweets.
    pub tweets: Arc<dyn TweetStore>,
    /// What is known of uploads.
    pub media: Arc<dyn MediaStore>,
    /// Events of tweets.
    pub outbox: Arc<dyn Outbox>,
    /// The pool under all of them.
    pub db: Pg,
}

async fn prepare(
    rt: &Rt,
    endpoint: &Endpoint<config::Postgres>,
    database: &str,
    steps: Steps,
    migrate: bool,
) -> Result<(), OpenError> {
    if migrate {
        migrate::migrate(rt, endpoint, database, steps).await
    } else {
        migrate::check(rt, endpoint, database, steps).await
    }
}

impl UserStores {
    /// Brings the schema up to date, or with `migrate` off refuses one that is behind, and makes a pool.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(
        rt: &Rt,
        endpoint: &Endpoint<config::Postgres>,
        migrate: bool,
    ) -> Result<Self, OpenError> {
        let database = &endpoint.config.user_database;
        prepare(rt, endpoint, database, USER, migrate).await?;
        Ok(Self::over(Pg::new(rt, endpoint, database)))
    }

    /// Over a pool whose database is up to date.
    #[must_use]
    pub fn over(db: Pg) -> Self {
        Self {
            users: Arc::new(PgUsers::new(db.clone())),
            graph: Arc::new(PgGraph::new(db.clone())),
            outbox: Arc::new(PgOutbox::new(db.clone(), USER_OUTBOX)),
            keys: Arc::new(PgKeys::new(db.clone())),
            db,
        }
    }
}

impl TweetStores {
    /// Brings the schema up to date, or with `migrate` off refuses one that is behind, and makes a pool.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(
        rt: &Rt,
        endpoint: &Endpoint<config::Postgres>,
        migrate: bool,
    ) -> Result<Self, OpenError> {
        let database = &endpoint.config.tweet_database;
        prepare(rt, endpoint, database, TWEET, migrate).await?;
        Ok(Self::over(Pg::new(rt, endpoint, database)))
    }

    /// Over a pool whose database is up to date.
    #[must_use]
    pub fn over(db: Pg) -> Self {
        Self {
            tweets: Arc::new(PgTweets::new(db.clone())),
            media: Arc::new(PgMedia::new(db.clone())),
            outbox: Arc::new(PgOutbox::new(db.clone(), TWEET_OUTBOX)),
            db,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_is_silent_is_waited_for_and_a_wrong_schema_is_not() {
        let late = OpenError::late(&config::Postgres::default(), Duration::from_mins(1));
        assert_eq!(
            late.to_string(),
            "PostgreSQL at 127.0.0.1:5432 cannot be reached: no answer within 60 s"
        );
        assert!(late.passes());
        assert!(!OpenError::schema("chirp_user", &MigrateError::VersionMismatch(1)).passes());
    }
}
