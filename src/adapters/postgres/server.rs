//! One connection to a server: for schemas, whether it answers, and its databases.

use sqlx_core::{
    connection::ConnectOptions as _, error::Error, query_scalar::query_scalar, raw_sql::raw_sql,
    sql_str::AssertSqlSafe,
};
use sqlx_postgres::{PgConnection, Postgres};

use super::{super::endpoint::Endpoint, pool::options, stores::OpenError};
use crate::config;

/// The database that every server has.
const FIRST: &str = "postgres";
/// What a server says of a database that another process has just made.
const EXISTS: [&str; 2] = ["42P04", "23505"];

/// Connects and reads. The caller bounds the time.
///
/// # Errors
/// [`OpenError`].
pub async fn answers(endpoint: &Endpoint<config::Postgres>) -> Result<(), OpenError> {
    let (config, mut conn) = (&endpoint.config, open(endpoint, FIRST, &[]).await?);
    let one = query_scalar::<Postgres, i32>("SELECT 1").fetch_one(&mut conn).await;
    one.map(drop).map_err(|error| OpenError::of(config, FIRST, &error))
}

/// Makes the databases of the user and the tweet role where they are missing. The caller bounds the
/// time.
///
/// # Errors
/// [`OpenError`].
pub async fn create_databases(endpoint: &Endpoint<config::Postgres>) -> Result<(), OpenError> {
    let (config, mut conn) = (&endpoint.config, open(endpoint, FIRST, &[]).await?);
    for database in [&config.user_database, &config.tweet_database] {
        let made = create(&mut conn, database).await;
        made.map_err(|error| OpenError::of(config, database, &error))?;
    }
    Ok(())
}

/// Connects to `database`, with `limits` of the server. The caller bounds the time.
///
/// # Errors
/// [`OpenError`].
pub(super) async fn open(
    endpoint: &Endpoint<config::Postgres>,
    database: &str,
    limits: &[(&str, &str)],
) -> Result<PgConnection, OpenError> {
    let config = &endpoint.config;
    let token = endpoint.tokens.token().await.map_err(|error| OpenError::login(config, error))?;
    let options = options(config, database).password(&token.0).options(limits.iter().copied());
    options.connect().await.map_err(|error| OpenError::of(config, database, &error))
}

async fn create(conn: &mut PgConnection, database: &str) -> Result<(), Error> {
    let known = query_scalar::<Postgres, i32>("SELECT 1 FROM pg_database WHERE datname = $1")
        .bind(database)
        .fetch_optional(&mut *conn)
        .await?;
    if known.is_some() {
        return Ok(());
    }
    // A name cannot be a parameter; between quotes it ends where it ends.
    let name = database.replace('"', "\"\"");
    let made = raw_sql(AssertSqlSafe(format!("CREATE DATABASE \"{name}\""))).execute(conn).await;
    match made {
        Err(Error::Database(error)) if error.code().is_some_and(|c| EXISTS.contains(&&*c)) => {
            Ok(())
        }
        made => made.map(drop),
    }
}
