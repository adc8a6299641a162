//! Signing keys in the user database, so that every process of the role signs with the same ones.
//!
//! A seed stands there as it is: who reads this database reads the password hashes too.

use async_trait::async_trait;
use futures_util::FutureExt as _;
use sqlx_core::{query::query, query_as::query_as};
use sqlx_postgres::{PgConnection, Postgres};

use super::{Pg, fault::Fault, pool::End};
use crate::{
    adapters::sql::{bound, from_key},
    ports::{KeyStore, Outcome, Read, StoredKey},
};

const STORE: &str = "keys";
/// The most keys that are kept: the one that signs and the one before it.
const KEYS_MAX: usize = 2;

/// Signing keys in the user database.
#[derive(Clone, Debug)]
pub struct PgKeys(Pg);

impl PgKeys {
    /// The store over the user database.
    #[must_use]
    pub const fn new(db: Pg) -> Self {
        Self(db)
    }
}

async fn load(conn: &mut PgConnection) -> Result<Vec<StoredKey>, Fault> {
    let sql = "select kid, seed, created_at_ms from signing_keys order by position";
    let rows = query_as::<Postgres, (String, Vec<u8>, i64)>(sql).fetch_all(conn).await?;
    let key = |(kid, seed, created): (String, Vec<u8>, i64)| {
        let seed = seed.try_into();
        let seed = seed.map_err(|_| Fault::Corrupt("signing_keys.seed is not a seed"))?;
        Ok(StoredKey { kid, seed, created_at_ms: from_key(created) })
    };
    rows.into_iter().map(key).collect()
}

async fn replace(
    conn: &mut PgConnection,
    before: &[StoredKey],
    after: &[StoredKey],
) -> Result<End<Vec<StoredKey>>, Fault> {
    if after.len() > KEYS_MAX {
        return Err(Fault::Refused("more keys than may be kept"));
    }
    // The keys are read by a statement of their own: it sees what the last holder of the lock wrote.
    let sql = "select id from keyring where id = 1 for update";
    query::<Postgres>(sql).fetch_one(&mut *conn).await?;
    let now = load(conn).await?;
    if now != before {
        return Ok(End::Undo(now));
    }
    query::<Postgres>("delete from signing_keys").execute(&mut *conn).await?;
    let sql =
        "insert into signing_keys (position, kid, seed, created_at_ms) values ($1, $2, $3, $4)";
    for (position, key) in (0_i16..).zip(after) {
        let row = query::<Postgres>(sql).bind(position).bind(&key.kid).bind(&key.seed[..]);
        row.bind(bound(key.created_at_ms)).execute(&mut *conn).await?;
    }
    Ok(End::Commit(after.to_vec()))
}

#[async_trait]
impl KeyStore for PgKeys {
    async fn load(&self) -> Read<Vec<StoredKey>> {
        self.0.read(STORE, &(), |conn, ()| load(conn).boxed()).await
    }

    async fn replace(&self, before: &[StoredKey], after: &[StoredKey]) -> Outcome<Vec<StoredKey>> {
        let keys = (before, after);
        self.0.write(STORE, &keys, |conn, keys| replace(conn, keys.0, keys.1).boxed()).await
    }
}
