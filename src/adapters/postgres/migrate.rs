//! The schema, as numbered steps that only go forward.
//!
//! A step that was released is never changed, and leaves the release before it working, as both run
//! side by side while one replaces the other: first add, stop using with the next release, remove
//! with the one after. So a database that is ahead of this program is fine.

use std::time::Duration;

use sqlx_core::{
    migrate::{Migrate as _, MigrateError, Migration, MigrationType, Migrator},
    query_scalar::query_scalar,
    sql_str::SqlSafeStr as _,
};
use sqlx_postgres::{PgConnection, Postgres};

use super::{super::endpoint::Endpoint, server::open, stores::OpenError};
use crate::{config, rt::Rt};

/// Where the library notes which steps were taken.
const NOTES: &str = "_sqlx_migrations";
/// The longest that a connection may take: a server that is busy with others, not one that is silent.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// The longest that all steps may take, with the wait for another process that takes them; far above
/// what they need on tables that are empty.
const MIGRATE_MAX: Duration = Duration::from_mins(1);
/// As [`MIGRATE_MAX`], for the server, so that it does not go on when this process has given up.
const SERVER_LIMITS: [(&str, &str); 3] = [
    ("statement_timeout", "55s"),
    ("lock_timeout", "50s"),
    ("idle_in_transaction_session_timeout", "10s"),
];

/// A number, what it adds, and how.
type Step = (i64, &'static str, &'static str);

macro_rules! step {
    ($number:literal, $database:literal, $name:literal, $file:literal) => {
        (
            $number,
            $name,
            include_str!(concat!("../../../migrations/postgres/", $database, "/", $file)),
        )
    };
}

/// The steps of one database.
#[derive(Clone, Copy, Debug)]
pub struct Steps(&'static [Step]);

/// The user role's.
pub const USER: Steps = Steps(&[
    step!(1, "user", "accounts", "0001_accounts.sql"),
    step!(2, "user", "graph", "0002_graph.sql"),
    step!(3, "user", "outbox", "0003_outbox.sql"),
    step!(4, "user", "keys", "0004_keys.sql"),
    step!(5, "user", "seeds", "0005_seeds.sql"),
]);

/// The tweet role's.
pub const TWEET: Steps = Steps(&[
    step!(1, "tweet", "tweets", "0001_tweets.sql"),
    step!(2, "tweet", "outbox", "0002_outbox.sql"),
    step!(3, "tweet", "media", "0003_media.sql"),
]);

impl Steps {
    /// The first `n` of them: the schema as an earlier release made it.
    #[must_use]
    pub fn first(self, n: usize) -> Self {
        Self(&self.0[..n.min(self.0.len())])
    }

    /// Those that are not among `taken`, by number and name.
    fn without(self, taken: &[i64]) -> Vec<String> {
        let missing = self.0.iter().filter(|(number, ..)| !taken.contains(number));
        missing.map(|(number, name, _)| format!("{number} {name}")).collect()
    }

    fn migrator(self) -> Migrator {
        let step = |&(number, name, sql): &Step| {
            Migration::new(number, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
        };
        let mut migrator = Migrator::with_migrations(self.0.iter().map(step).collect());
        migrator.set_ignore_missing(true);
        migrator
    }
}

/// Takes the steps that `database` lacks, each in a transaction. Of processes that start at once one
/// takes them, and the others wait for it.
///
/// # Errors
/// [`OpenError`]; every step was taken whole or not at all.
pub async fn migrate(
    rt: &Rt,
    endpoint: &Endpoint<config::Postgres>,
    database: &str,
    steps: Steps,
) -> Result<(), OpenError> {
    let take = async {
        let mut conn = connect(rt, endpoint, database).await?;
        // Its end ends the lock, whatever happened.
        let taken = steps.migrator().run_direct(None, &mut conn, false).await;
        taken.map_err(|error| failed(&endpoint.config, database, error))
    };
    rt.timeout(MIGRATE_MAX, take)
        .await
        .unwrap_or_else(|_| Err(OpenError::late(&endpoint.config, MIGRATE_MAX)))
}

/// The steps that `database` lacks, by number and name. Changes nothing.
///
/// # Errors
/// [`OpenError`].
pub async fn missing(
    rt: &Rt,
    endpoint: &Endpoint<config::Postgres>,
    database: &str,
    steps: Steps,
) -> Result<Vec<String>, OpenError> {
    let look = async {
        let mut conn = connect(rt, endpoint, database).await?;
        let there = query_scalar::<Postgres, bool>("select to_regclass($1) is not null");
        let there = there.bind(NOTES).fetch_one(&mut conn).await;
        if !there.map_err(|error| OpenError::of(&endpoint.config, database, &error))? {
            return Ok(steps.without(&[]));
        }
        let taken = conn.list_applied_migrations(NOTES).await;
        let taken = taken.map_err(|error| failed(&endpoint.config, database, error))?;
        Ok(steps.without(&taken.iter().map(|step| step.version).collect::<Vec<_>>()))
    };
    rt.timeout(MIGRATE_MAX, look)
        .await
        .unwrap_or_else(|_| Err(OpenError::late(&endpoint.config, MIGRATE_MAX)))
}

/// Refuses a `database` that lacks steps.
///
/// # Errors
/// [`OpenError::Behind`], and as [`missing`].
pub async fn check(
    rt: &Rt,
    endpoint: &Endpoint<config::Postgres>,
    database: &str,
    steps: Steps,
) -> Result<(), OpenError> {
    let missing = missing(rt, endpoint, database, steps).await?;
    if missing.is_empty() {
        return Ok(());
    }
    Err(OpenError::Behind { database: database.to_owned(), missing })
}

async fn connect(
    rt: &Rt,
    endpoint: &Endpoint<config::Postgres>,
    database: &str,
) -> Result<PgConnection, OpenError> {
    let opened = rt.timeout(CONNECT_MAX, Box::pin(open(endpoint, database, &SERVER_LIMITS))).await;
    opened.unwrap_or_else(|_| Err(OpenError::late(&endpoint.config, CONNECT_MAX)))
}

fn failed(config: &config::Postgres, database: &str, error: MigrateError) -> OpenError {
    match error {
        MigrateError::Execute(error) => OpenError::of(config, database, &error),
        error => OpenError::schema(database, &error),
    }
}
